"""RandAugment: each change against a known case, and the random choice of changes."""

import numpy as np
import pytest
from seeds import SEED

from tinycv.data import rand_augment
from tinycv.data.rand_augment import CHANGES

X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
S = np.array([1.0, -1.0, 0.5, 0.0])  # one strength an image


@pytest.mark.parametrize("name", CHANGES)
def test_strength_0_changes_nothing_except_for_autocontrast(name):
    same = CHANGES[name](X, 0 * S)
    if name == "autocontrast":
        assert (same.min(axis=(2, 3)) == 0).all() and (same.max(axis=(2, 3)) == 1).all()
    else:
        np.testing.assert_allclose(same, X, atol=1 / 255 if name == "posterize" else 1e-6)


@pytest.mark.parametrize("name", [n for n in CHANGES if n not in ("identity", "autocontrast")])
def test_full_strength_changes_the_image_but_not_its_shape_and_dtype(name):
    y = CHANGES[name](X, S)
    assert (y.shape, y.dtype) == (X.shape, X.dtype)
    assert np.abs(y[0] - X[0]).max() > 0.02


def test_brightness_multiplies():
    np.testing.assert_allclose(
        CHANGES["brightness"](X, S), X * (1 + 0.9 * S)[:, None, None, None], rtol=1e-5
    )


def test_color_keeps_the_brightness_and_changes_the_saturation():
    weights, y = np.array([0.299, 0.587, 0.114]), CHANGES["color"](X, S)
    np.testing.assert_allclose(
        np.einsum("c,bchw->bhw", weights, y), np.einsum("c,bchw->bhw", weights, X), atol=1e-5
    )
    np.testing.assert_allclose(
        y.std(axis=1), X.std(axis=1) * (1 + 0.9 * S)[:, None, None], rtol=1e-3, atol=1e-5
    )


def test_contrast_keeps_the_mean_of_grey_images_and_scales_around_it():
    grey = X[:, :1]
    y = CHANGES["contrast"](grey, S)
    np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), grey.mean(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(
        y.std(axis=(1, 2, 3)), grey.std(axis=(1, 2, 3)) * (1 + 0.9 * S), rtol=1e-4
    )


def test_sharpness_leaves_a_plain_image_unchanged_and_brightens_a_bright_point():
    plain, point = np.full((1, 1, 5, 5), 0.4, np.float32), np.zeros((1, 1, 5, 5), np.float32)
    point[..., 2, 2] = 0.5
    one = np.ones(1)
    np.testing.assert_allclose(CHANGES["sharpness"](plain, one), plain, rtol=1e-6)
    sharp, blurred = (CHANGES["sharpness"](point, s * one)[0, 0] for s in (1, -1))
    # blurring removes 8 / 13 of the difference between the point and its neighbours
    part = 0.9 * 8 / 13
    assert (sharp[2, 2], blurred[2, 2]) == pytest.approx((0.5 * (1 + part), 0.5 * (1 - part)))
    assert sharp[1, 1] < 0 < blurred[1, 1]


def test_posterize_leaves_sixteen_levels_at_full_strength():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    levels = np.unique(np.round(255 * CHANGES["posterize"](ramp, np.ones(1))))
    assert levels.tolist() == list(range(0, 256, 16))


def test_solarize_inverts_bright_pixels():
    x = np.array([0.2, 0.6, 0.9], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        CHANGES["solarize"](x, np.array([-0.3])).ravel(), [0.2, 0.6, 0.1], rtol=1e-6
    )


def test_autocontrast_leaves_a_plain_channel_as_it_is():
    assert (
        CHANGES["autocontrast"](np.full((1, 1, 2, 2), 0.3, np.float32), np.ones(1))
        == np.float32(0.3)
    ).all()


def test_full_strength_rotates_by_30_degrees_and_translates_by_nearly_half_the_width():
    point = np.zeros((1, 1, 41, 41), np.float32)
    # 15 pixels to the right of the centre
    point[0, 0, 20, 35] = 1

    def centre(y):
        return (
            np.einsum("ij,ijk->k", y[0, 0] / y.sum(), np.stack(np.indices((41, 41)), axis=-1)) - 20
        )

    np.testing.assert_allclose(
        centre(CHANGES["rotate"](point, np.ones(1))), [15 * 0.5, 15 * 0.866], atol=0.1
    )
    moved = centre(CHANGES["translate x"](point, -np.ones(1)))
    np.testing.assert_allclose(moved, [0, 15 - 150 / 331 * 41], atol=0.01)
    np.testing.assert_allclose(
        centre(CHANGES["translate y"](point, np.full(1, 0.5))),
        [0.5 * 150 / 331 * 41, 15],
        atol=0.01,
    )
    np.testing.assert_allclose(
        centre(CHANGES["shear y"](point, np.ones(1))), [-15 * 0.3, 15], atol=0.1
    )


@pytest.mark.statistical
def test_each_image_draws_n_changes_out_of_all():
    counting = {str(i): lambda x, s, i=i: x + 10.0 ** -(i + 1) for i in range(3)}
    x = np.zeros((3600, 1, 2, 2))
    y = np.round(1000 * rand_augment(x, np.random.default_rng(SEED), n=2, changes=counting)).astype(
        int
    )[:, 0, 0, 0]
    values, counts = np.unique(y, return_counts=True)
    # two of 100, 10, 1, drawn with replacement
    assert values.tolist() == [2, 11, 20, 101, 110, 200]
    np.testing.assert_allclose(counts / 3600, np.array([1, 2, 1, 2, 2, 1]) / 9, atol=0.04)


def test_results_are_images_from_0_to_1():
    y = rand_augment(np.repeat(X, 50, axis=0), np.random.default_rng(0), n=3, magnitude=10)
    assert y.min() == 0 and y.max() == 1 and np.isfinite(y).all()


@pytest.mark.parametrize("options", [{"n": -1}, {"magnitude": -0.1}, {"magnitude": 10.5}])
def test_invalid_strengths_are_refused(options):
    with pytest.raises(
        ValueError,
        match="rand_augment: (n is -1; .* at least 0|magnitude is .* at least 0 and at most 10)",
    ):
        rand_augment(X, np.random.default_rng(0), **options)


def test_bytes_are_refused():
    with pytest.raises(TypeError, match="float images, not uint8; divide by 255"):
        rand_augment(X.astype(np.uint8), np.random.default_rng(0))


@pytest.mark.parametrize("x", [X * 255, X - 0.5, X * np.nan])
def test_pixels_outside_0_to_1_are_refused(x):
    with pytest.raises(
        ValueError, match=r"rand_augment: x runs from .*; it takes float images in \[0, 1\]"
    ):
        rand_augment(x, np.random.default_rng(0))
