"""Pixel shuffle and pixel unshuffle: which pixel goes where, the inverse, wrong sizes."""

from __future__ import annotations

import numpy as np
import pytest

from tinycv import Tensor, nn
from tinycv.engine.check import certify
from tinycv.nn import functional as F

RNG = np.random.default_rng(0)


def test_a_square_of_pixels_becomes_channels_row_by_row():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    y = F.pixel_unshuffle(Tensor(x), 2).numpy()
    assert y[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert y[0, :, 1, 0].tolist() == [8, 9, 12, 13]


def test_the_channels_of_one_old_channel_stand_together():
    x = np.stack([np.zeros((4, 4)), np.ones((4, 4))])[None]
    y = F.pixel_unshuffle(Tensor(x), 2).numpy()
    assert y[0, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("r", [1, 2, 3])
def test_each_is_the_inverse_of_the_other(r, device):
    x = Tensor(RNG.normal(size=(2, 3, 2 * r, 4 * r)), device=device)
    small = F.pixel_unshuffle(x, r)
    assert small.shape == (2, 3 * r * r, 2, 4)
    np.testing.assert_array_equal(F.pixel_shuffle(small, r).numpy(), x.numpy())
    np.testing.assert_array_equal(
        F.pixel_unshuffle(F.pixel_shuffle(small, r), r).numpy(), small.numpy()
    )


@pytest.mark.parametrize("function", [F.pixel_shuffle, F.pixel_unshuffle])
def test_both_are_certified(function, device):
    certify(lambda x: function(x, 2), RNG.normal(size=(2, 4, 4, 2)), device=device)


def test_the_layers_do_what_the_functions_do():
    x = Tensor(RNG.normal(size=(2, 4, 2, 4)))
    for layer, function in (
        (nn.PixelShuffle(2), F.pixel_shuffle),
        (nn.PixelUnshuffle(2), F.pixel_unshuffle),
    ):
        np.testing.assert_array_equal(layer(x).numpy(), function(x, 2).numpy())


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: F.pixel_unshuffle(np.ones((1, 1, 4, 3)), 2), "x has 4 x 3 pixels; both must"),
        (lambda: F.pixel_shuffle(np.ones((1, 6, 2, 2)), 2), "6 channels; .* multiple of 4"),
        (lambda: F.pixel_shuffle(np.ones((4, 2, 2)), 2), r"it must be \(N, C, H, W\)"),
        (lambda: F.pixel_unshuffle(np.ones((1, 1, 4, 4)), 0), "downscale_factor is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
