"""PixelCNN has a blind spot, the gated PixelCNN has none, and more levels cost more logits."""

from __future__ import annotations

import numpy as np
import pytest
from pixel_models import randomised

import tinycv
from tinycv import Tensor, no_grad
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixel_by_pixel import receptive_field
from tinycv.likelihood.pixelcnn import GatedPixelCNN, PixelCNN

RNG = np.random.default_rng(0)


def seen_pixels(model, row, column):
    return receptive_field(randomised(model), row, column) > 0


def before(row, column, side=7):
    """The pixels before this one in raster order."""
    return np.arange(side * side).reshape(side, side) < row * side + column


def test_the_plain_mask_never_sees_what_lies_beyond_the_diagonal_to_the_right():
    """The blind spot, drawn by hand: each step to the right is also a step up."""
    expected = [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert seen_pixels(PixelCNN(7, 12, 8, 3), 5, 3).astype(int).tolist() == expected


def test_the_blind_spot_does_not_become_smaller_with_depth():
    blind = [before(5, 3) & ~seen_pixels(PixelCNN(7, 12, depth, 3), 5, 3) for depth in (6, 12)]
    np.testing.assert_array_equal(*blind)
    assert blind[0].any()


def test_the_gated_model_sees_all_earlier_pixels_and_no_other():
    np.testing.assert_array_equal(seen_pixels(GatedPixelCNN(7, 8, 7), 5, 3), before(5, 3))


def test_made_sees_all_earlier_pixels_and_no_other():
    np.testing.assert_array_equal(seen_pixels(MADE(7, (300,)), 5, 3), before(5, 3))


def test_one_layer_of_the_gated_model_sees_its_own_window_alone():
    expected = np.zeros((7, 7), bool)
    expected[2:5, 1:6] = True  # three rows above (one by the shift), two columns to each side
    expected[5, 1:3] = True
    model = GatedPixelCNN(7, 8, 1, kernel_size=5)
    np.testing.assert_array_equal(seen_pixels(model, 5, 3), expected)


@pytest.mark.parametrize("kind", [PixelCNN, GatedPixelCNN])
def test_a_pixel_has_one_logit_or_one_for_each_level_or_three_for_each_logistic(kind):
    x = Tensor(np.zeros((2, 1, 5, 4), np.float32))
    assert kind((5, 4), 4, 1).logits(x).shape == (2, 20)
    assert kind((5, 4), 4, 1, levels=17).logits(x).shape == (2, 20, 17)
    assert kind((5, 4), 4, 1, levels=17, mixture=5).logits(x).shape == (2, 20, 15)


def test_the_first_pixel_is_predicted_from_nothing():
    model = randomised(GatedPixelCNN(4, 4, 3))
    x = RNG.integers(0, 2, (6, 1, 4, 4)).astype(float)
    first = model.logits(Tensor(x)).numpy()[:, 0]
    assert np.ptp(first) == 0


def test_the_log_prob_of_an_image_is_the_sum_over_its_pixels():
    model = randomised(PixelCNN(4, 6, 1, 3, levels=4))
    x = RNG.integers(0, 4, (5, 1, 4, 4)).astype(float)
    with no_grad():
        of_pixels = model.pixel_log_probs(x).numpy()
        np.testing.assert_allclose(model.log_prob(x).numpy(), of_pixels.sum(axis=1), rtol=1e-12)
    assert of_pixels.shape == (5, 16) and (of_pixels < 0).all()


def test_whole_numbers_of_any_dtype_are_the_same_image():
    model = PixelCNN(4, 4, 1, 3, levels=4)
    x = RNG.integers(0, 4, (2, 1, 4, 4))
    expected = model.log_prob(x.astype(np.float32)).numpy()
    for dtype in (np.int64, np.uint8, np.float64, np.float16):
        np.testing.assert_array_equal(model.log_prob(x.astype(dtype)).numpy(), expected)


def test_weights_of_float16_take_256_levels_and_refuse_more():
    x = np.full((1, 1, 2, 2), 255)
    few, many = (PixelCNN(2, 4, 1, 3, levels=n, mixture=2).to("float16") for n in (256, 257))
    assert np.isfinite(few.log_prob(x).numpy()).all()
    for call in (lambda: many.log_prob(x), lambda: many.sample(1)):
        with pytest.raises(TypeError, match="float16, which is too coarse for 257 levels"):
            call()


def test_the_same_seed_draws_the_same_images():
    model = GatedPixelCNN(4, 4, 2)
    drawn = []
    for seed in (1, 1, 2):
        tinycv.manual_seed(seed)
        drawn.append(model.sample(8).numpy())
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_the_receptive_field_of_a_model_that_looks_pixels_up_is_refused():
    with pytest.raises(TypeError, match="ImageGPT looks its pixels up in a table"):
        receptive_field(ImageGPT(4, d_model=4, nhead=1), 1, 1)


def test_the_receptive_field_of_a_pixel_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="row is 4 and column 0; .* 4 x 4 pixels"):
        receptive_field(PixelCNN(4, 4, 1, 3), 4, 0)
