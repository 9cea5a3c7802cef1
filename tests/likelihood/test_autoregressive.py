"""MADE, and what all models share that go pixel by pixel: orders, sampling, completion."""

from __future__ import annotations

import numpy as np
import pytest
from pixel_models import (
    MODELS,
    all_images,
    bars_and_stripes,
    chi_squared_excess,
    randomised,
    small_model,
)

import tinycv
from tinycv import Tensor, no_grad
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixel_by_pixel import raster_order, spiral_order
from tinycv.likelihood.pixelcnn import PixelCNN
from tinycv.optim import Adam

RNG = np.random.default_rng(0)


# ── every model ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MODELS)
def test_the_probabilities_of_all_images_sum_to_one(name):
    model = small_model(name)
    with no_grad():
        log_p = model.log_prob(all_images(3, model.levels)).numpy()
    assert abs(np.exp(log_p).sum() - 1) < 1e-10


def predictions(model, pixels):
    """The logits of a model of pixels, in the order of the model: (B, D) or (B, D, L)."""
    logits = model.logits(Tensor(pixels.reshape(-1, 1, *model.shape))).numpy()
    return logits if isinstance(model, ImageGPT) else logits[:, list(model.order)]


@pytest.mark.parametrize("name", MODELS)
def test_a_change_of_a_pixel_changes_no_prediction_at_or_before_it(name):
    """Exactly. For image GPT it holds up to rounding, because the softmax of a batch subtracts the
    largest score of all rows (engine/reduce.py); its gradients, in test_image_gpt.py, are exactly
    0."""
    model = small_model(name)
    per_word = getattr(model, "patch", 1) ** 2
    pixels = RNG.integers(0, model.levels, (4, 9)).astype(float)
    predicted = predictions(model, pixels)
    for place, pixel in enumerate(model.order):
        changed = pixels.copy()
        changed[:, pixel] = (changed[:, pixel] + 1) % model.levels
        end = place // per_word + 1
        difference = abs(predictions(model, changed)[:, :end] - predicted[:, :end]).max()
        assert difference <= (1e-12 if isinstance(model, ImageGPT) else 0)


@pytest.mark.parametrize("name", MODELS)
def test_images_are_drawn_as_often_as_they_are_probable(name):
    model = small_model(name)
    n, images = 3000, all_images(3, model.levels)
    with no_grad():
        p = np.exp(model.log_prob(images).numpy())
    drawn = model.sample(n).numpy().reshape(n, 9).astype(int)
    numbers = drawn @ model.levels ** np.arange(9)
    assert chi_squared_excess(np.bincount(numbers, minlength=len(images)), n * p) < 5


@pytest.mark.parametrize("name", MODELS)
def test_completions_keep_the_known_pixels_and_follow_the_conditional_probabilities(name):
    model = small_model(name)
    n, first = 2000, 3 if name != "image GPT of one patch" else 0
    known = np.zeros(9, bool)
    known[list(model.order[:first])] = True
    image = RNG.integers(0, model.levels, 9)
    images = all_images(3, model.levels)
    agree = (images.reshape(-1, 9) == image)[:, known].all(axis=1)
    with no_grad():
        p = np.exp(model.log_prob(images).numpy()) * agree
    given = np.tile(image, (n, 1)).reshape(n, 1, 3, 3).astype(float)
    which = {"which": 0} if name == "MADE of many orders" else {}
    if which:
        with no_grad():
            p = np.exp(model.log_prob(images, which=0).numpy()) * agree
    drawn = model.sample(n, given, known.reshape(3, 3), **which).numpy().reshape(n, 9)
    assert (drawn[:, known] == image[known]).all()
    counts = np.bincount(drawn.astype(int) @ model.levels ** np.arange(9), minlength=len(images))
    assert chi_squared_excess(counts, n * p / p.sum()) < 5


@pytest.mark.parametrize("name", MODELS)
def test_the_derivatives_of_log_prob_by_the_weights_are_right(name):
    model = small_model(name)
    x = RNG.integers(0, model.levels, (3, 1, 3, 3)).astype(float)
    model.log_prob(x).sum().backward()
    for number, weight in enumerate(model.parameters()):
        direction = np.random.default_rng(number).normal(size=weight.shape)
        before, size = weight.numpy().copy(), 1e-6
        ends = []
        for sign in (1, -1):
            weight.data = before + sign * size * direction
            ends.append(model.log_prob(x).sum().item())
        weight.data = before
        slope = (ends[0] - ends[1]) / (2 * size)
        expected = 0.0 if weight.grad is None else (weight.grad.numpy() * direction).sum()
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_on_a_gpu(name, device):
    model = small_model(name)
    x = RNG.integers(0, model.levels, (3, 1, 3, 3)).astype(float)
    expected = model.log_prob(x).numpy()
    model.to(device)
    found = model.log_prob(Tensor(x, device=device)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    drawn = model.sample(2)
    assert drawn.device == device and drawn.shape == (2, 1, 3, 3)


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_batch_has_no_log_prob_and_no_samples(name):
    model = small_model(name)
    assert model.log_prob(np.zeros((0, 1, 3, 3))).shape == (0,)
    assert model.sample(0).shape == (0, 1, 3, 3)


def test_no_model_of_bars_and_stripes_is_below_their_entropy():
    """30 images of 4 x 4 pixels, each as probable as the others: the floor is ln 30 = 3.401 nats.
    A model that learns them comes close to it and stays above, and p sums to 1 over all 2^16."""
    x = bars_and_stripes(4)
    tinycv.manual_seed(0)
    model = MADE(4, (64,))
    optimizer = Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    model.to("float64")
    with no_grad():
        nats = -model.log_prob(x).mean().item()
        total = np.exp(model.log_prob(all_images(4, 2)).numpy()).sum()
    assert len(x) == 30
    assert np.log(30) <= nats < np.log(30) + 0.5
    assert abs(total - 1) < 1e-10


def test_a_first_mask_of_type_b_leaks_and_its_likelihood_is_none():
    """A mistake that people make: each pixel sees itself, so the loss falls to almost 0, far below
    the entropy of the data, and the "probabilities" sum to much more than 1."""
    x = bars_and_stripes(3)
    tinycv.manual_seed(0)
    model = PixelCNN(3, 8, 1, 3, first_mask="B")
    optimizer = Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    with no_grad():
        total = np.exp(model.to("float64").log_prob(all_images(3, 2)).numpy()).sum()
    assert loss.item() < np.log(len(x)) / 2
    assert total > 2


# ── orders ───────────────────────────────────────────────────────────────────────────────────────


def test_the_spiral_starts_in_the_middle_and_ends_in_the_corner():
    assert spiral_order(3).tolist() == [4, 3, 6, 7, 8, 5, 2, 1, 0]


@pytest.mark.parametrize("shape", [1, 2, 5, (3, 4), (1, 6), (6, 1)], ids=str)
def test_an_order_holds_each_pixel_once_and_the_spiral_goes_to_neighbours(shape):
    height, width = (shape, shape) if isinstance(shape, int) else shape
    for order in (raster_order(shape), spiral_order(shape)):
        assert sorted(order.tolist()) == list(range(height * width))
    rows, columns = np.divmod(spiral_order(shape), width)
    assert (abs(np.diff(rows)) + abs(np.diff(columns)) == 1).all()


@pytest.mark.parametrize("order", [[0, 1], np.arange(9) + 1, np.zeros(9, int), np.arange(9.0)])
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="MADE: order is .* each of the 9 numbers 0 ... 8 once"):
        MADE(3, (4,), order=order)


# ── MADE ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hidden", [(7,), (7, 5), (3, 4, 6)], ids=str)
def test_the_product_of_the_masks_connects_no_pixel_to_itself_or_to_earlier_ones(hidden):
    order = RNG.permutation(9)
    paths = np.eye(9, dtype=int)
    for mask in MADE(3, hidden, order=order).masks_of(0):
        paths = mask.astype(int) @ paths  # (out, 9): the number of paths from each pixel
    paths = paths[order][:, order]
    assert (np.triu(paths) == 0).all() and np.tril(paths, -1).any()


def test_with_enough_hidden_units_every_earlier_pixel_is_connected():
    paths = np.eye(9, dtype=int)
    for mask in MADE(3, (200,)).masks_of(0):
        paths = mask.astype(int) @ paths
    assert (np.tril(paths, -1) > 0).sum() == 9 * 8 / 2


def test_the_mixture_is_the_mean_of_the_probabilities_of_its_sets():
    model = small_model("MADE of many orders")
    x = all_images(3, 2)
    with no_grad():
        of_sets = [np.exp(model.log_prob(x, which=s).numpy()) for s in range(model.masks)]
        p = np.exp(model.log_prob(x).numpy())
    np.testing.assert_allclose(p, np.mean(of_sets, axis=0), rtol=1e-12)
    assert np.ptp(of_sets, axis=0).max() > 1e-3  # the sets differ


def test_each_set_of_an_order_agnostic_model_keeps_its_own_order():
    model = small_model("MADE of many orders")
    assert model.order_in(0) == model.order
    orders = {model.order_in(s) for s in range(model.masks)}
    assert len(orders) == model.masks


def test_sets_without_agnostic_share_the_order_and_differ_in_hidden_degrees():
    model = MADE(3, (50,), masks=3)
    assert {model.order_in(s) for s in range(3)} == {model.order}
    hidden = [tuple(degrees[1].numpy()) for degrees in model.degrees]
    assert len(set(hidden)) == 3


def test_the_degrees_are_saved_and_loaded_with_the_weights():
    model, other = (randomised(MADE(3, (6,), masks=2, agnostic=True), seed) for seed in (0, 1))
    other.load_state_dict(model.state_dict())
    x = all_images(3, 2)
    np.testing.assert_array_equal(other.log_prob(x).numpy(), model.log_prob(x).numpy())


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [0.5, -1.0, 2.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["MADE", "PixelCNN", "image GPT"])
def test_a_pixel_that_is_no_level_is_refused(name, bad):
    x = np.zeros((2, 1, 3, 3))
    x[1, 0, 2, 1] = bad
    with pytest.raises(ValueError, match=r"x holds .*; each pixel must be a whole number from 0"):
        small_model(name).log_prob(x)


@pytest.mark.parametrize("name", MODELS)
def test_on_a_gpu_a_pixel_that_is_no_level_makes_its_own_image_nan(name, double):
    """Its values are not looked at, because the host would have to wait for the GPU."""
    model = small_model(name).to("gpu")
    x = np.zeros((3, 1, 3, 3))
    for pixel, bad in ((0, 0.5), (4, -1.0), (8, np.inf)):
        wrong = x.copy()
        wrong[1].flat[pixel] = bad
        nats = model.log_prob(Tensor(wrong, device="gpu")).numpy()
        assert np.isnan(nats).tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["MADE", "image GPT"])
def test_an_unknown_pixel_may_be_anything_even_nan(name):
    known = np.array([[True] * 3, [False] * 3, [False] * 3])
    given = np.ones((4, 1, 3, 3))
    model = small_model(name)
    tinycv.manual_seed(3)
    drawn = model.sample(4, given, known).numpy()
    tinycv.manual_seed(3)
    given[:, :, 1:] = np.nan
    np.testing.assert_array_equal(model.sample(4, given, known).numpy(), drawn)


def test_a_known_pixel_after_an_unknown_one_is_refused():
    known = np.array([[True] * 3, [False, True, False], [False] * 3])
    with pytest.raises(ValueError, match="known pixels must come first"):
        small_model("MADE").sample(1, np.zeros((1, 1, 3, 3)), known)


def test_a_completion_by_a_mixture_needs_the_number_of_a_set():
    known = np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match=r"MADE.sample: which is None"):
        small_model("MADE of many orders").sample(1, np.zeros((1, 1, 3, 3)), known)
