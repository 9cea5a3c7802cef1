"""Tubelets: a video is cut into boxes of frames and pixels, and put together again exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.vision import patchify, patchify_video, unpatchify_video
from tinycv.vision.tubelets import tubelet_grid

RNG = np.random.default_rng(0)
sides = st.integers(1, 3)


@given(sides, sides, sides, sides, sides, sides, st.sampled_from(["float32", "uint8", "bool"]))
def test_unpatchify_video_is_the_exact_inverse_of_patchify_video(t, h, w, frames, b, c, dtype):
    shape = (b, t * frames, c, h * 2, w * 3)
    video = RNG.integers(0, 2, shape).astype(dtype)
    patches = patchify_video(video, (t, h, w))
    assert patches.shape == (b, frames * 2 * 3, c * t * h * w)
    assert (unpatchify_video(patches, (t, h, w), shape) == video).all()


def test_a_tubelet_is_a_box_of_the_video_in_the_order_channel_frame_row_column():
    video = RNG.normal(size=(1, 4, 2, 6, 8))
    patches = patchify_video(video, (2, 3, 4))
    # the tubelet at time 1, row 0, column 1 of a grid of 2 x 2 x 2
    box = video[0, 2:4, :, 0:3, 4:8].swapaxes(0, 1)  # (C, t, h, w)
    np.testing.assert_array_equal(patches[0, 1 * 4 + 0 * 2 + 1], box.reshape(-1))


def test_with_one_frame_per_tubelet_the_frames_are_cut_as_images_are():
    video = RNG.normal(size=(2, 3, 2, 4, 4))
    each = [patchify(video[:, frame], 2) for frame in range(3)]
    np.testing.assert_array_equal(patchify_video(video, (1, 2, 2)), np.concatenate(each, axis=1))


def test_a_projection_of_tubelets_is_a_3d_convolution_with_the_stride_of_a_tubelet():
    """Arnab et al. 2021, section 3.2: one output of such a convolution is the product of its
    weights with one tubelet."""
    video, kernel = RNG.normal(size=(1, 4, 2, 4, 4)), RNG.normal(size=(2, 2, 2, 2))  # (C, t, h, w)
    found = (patchify_video(video, (2, 2, 2)) @ kernel.reshape(-1)).reshape(2, 2, 2)
    for t, row, column in np.ndindex(2, 2, 2):
        box = video[
            0, 2 * t : 2 * t + 2, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2
        ].swapaxes(0, 1)
        assert found[t, row, column] == pytest.approx((box * kernel).sum())


def test_tensors_on_either_device_stay_there(device):
    video = Tensor(RNG.normal(size=(2, 4, 1, 4, 4)), device=device)
    patches = patchify_video(video, (2, 2, 2))
    assert patches.device == video.device
    back = unpatchify_video(patches, (2, 2, 2), video.shape)
    np.testing.assert_array_equal(back.numpy(), video.numpy())


def test_cutting_and_putting_together_are_certified():
    certify(lambda x: patchify_video(x, (2, 1, 2)), RNG.normal(size=(1, 2, 2, 2, 4)))
    certify(lambda x: unpatchify_video(x, (2, 1, 2), (1, 2, 2, 2, 4)), RNG.normal(size=(1, 4, 8)))


def test_seventeen_frames_in_patches_of_two_are_refused_in_one_sentence():
    with pytest.raises(
        ValueError,
        match="a video of 17 frames cannot be divided into tubelets of 2; cut it to 16, pad it to "
        "18, or choose another patch_size$",
    ):
        patchify_video(np.zeros((1, 17, 1, 4, 4)), (2, 2, 2))


def test_a_video_shorter_than_a_tubelet_can_only_be_padded():
    with pytest.raises(ValueError, match="of 1 frames cannot .* tubelets of 2; pad it to 2, or"):
        patchify_video(np.zeros((1, 1, 1, 4, 4)), (2, 2, 2))


def test_the_axis_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match="unpatchify_video: a video of 5 columns of pixels"):
        unpatchify_video(np.zeros((1, 2, 2)), (1, 1, 2), (1, 2, 1, 1, 5))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_are_last_get_a_hint_how_to_move_them(channels):
    video = np.zeros((2, 4, 16, 16, channels))
    with pytest.raises(ValueError, match=r"\(B, T, C, H, W\) by video.transpose\(\(0, 1, 4, 2, 3"):
        patchify_video(video, (2, 4, 4))
    assert patchify_video(video.transpose((0, 1, 4, 2, 3)), (2, 4, 4)).shape[1] == 32


def test_channels_that_are_first_get_no_hint():
    with pytest.raises(ValueError, match="another patch_size$"):
        patchify_video(np.zeros((2, 4, 3, 16, 18)), (2, 4, 4))


def test_the_grid_counts_tubelets_along_time_height_and_width():
    assert tubelet_grid((3, 8, 1, 16, 32), (2, 4, 4)) == (4, 4, 8)


def test_patches_that_do_not_fill_the_video_are_refused_with_both_shapes():
    patches = tinycv.zeros(1, 7, 8)
    with pytest.raises(ValueError, match=r"\(1, 7, 8\) do not fill .*they must be \(1, 8, 8\)"):
        unpatchify_video(patches, (2, 2, 2), (1, 4, 1, 4, 4))
