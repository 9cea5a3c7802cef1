"""Image GPT: patches are words, the past has no gradient from the future, and the cache of keys
and values changes nothing but the time."""

from __future__ import annotations

import numpy as np
import pytest
from pixel_models import all_images, randomised, small_model

import tinycv
from tinycv import Tensor, no_grad
from tinycv.engine.tensor import bare
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixel_by_pixel import spiral_order

RNG = np.random.default_rng(0)


def small(**options):
    return randomised(ImageGPT(**{"shape": 4, "d_model": 8, "nhead": 2, **options})).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch": 2},
        {"patch": 4},
        {"levels": 5},
        {"shape": (2, 6), "patch": 2, "levels": 3},
        {"patch": 2, "order": spiral_order(2)},
        {"order": spiral_order(4)},
    ],
    ids=str,
)
def test_words_are_turned_back_into_their_images(options):
    model = small(**options)
    x = RNG.integers(0, model.levels, (6, 1, *model.shape)).astype(float)
    words = model.to_words(x)
    assert words.min() >= 0 and words.max() < model.words
    np.testing.assert_array_equal(model.to_images(words), x)


def test_all_patches_have_different_words():
    model = small(shape=2, patch=2)
    assert sorted(model.to_words(all_images(2, 2)).ravel().tolist()) == list(range(16))


def test_the_words_follow_the_order_of_the_patches():
    model = small(shape=4, patch=2, order=[3, 0, 1, 2])
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 2:, 2:] = 1  # the last patch is white; it comes first
    assert model.to_words(x).tolist() == [[15, 0, 0, 0]]


@pytest.mark.parametrize("options", [{}, {"patch": 2}, {"order": spiral_order(4)}], ids=str)
def test_the_probabilities_with_the_cache_are_those_without(options):
    model = small(**options)
    x = RNG.integers(0, 2, (3, 1, 4, 4)).astype(float)
    words = model.to_words(x)
    with no_grad():
        all_at_once = model.word_log_probs(x).numpy()
        last = np.full(3, model.words)
        past = [None] * len(model.gpt.blocks.layers)
        for t in range(words.shape[1]):
            scores, past = model.gpt.step(Tensor(last), past)
            scores = scores.numpy()[:, : model.words]
            log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            last = words[:, t]
            np.testing.assert_allclose(
                log_p[np.arange(3), last], all_at_once[:, t], rtol=1e-9, atol=1e-11
            )


def test_sampling_with_the_cache_draws_the_images_that_it_draws_without():
    model = small(patch=2)
    drawn = []
    for cached in (True, False):
        tinycv.manual_seed(3)
        drawn.append(model.sample(20, cached=cached).numpy())
    np.testing.assert_array_equal(*drawn)


def test_no_prediction_has_a_gradient_by_its_own_word_or_by_later_words():
    """Exactly 0. Words have no gradient, so it is taken by their embeddings."""
    model = small_model("image GPT")
    ids = Tensor(RNG.integers(0, 2, (2, 9)))
    x = Tensor(bare(model.gpt.embed_with_positions(ids)), requires_grad=True)  # (B, T, E)
    y = model.gpt.blocks(x, is_causal=True)  # row t predicts word t + 1, from words 0 ... t
    for t in range(9):
        (gradient,) = tinycv.grad((y[:, t] * y[:, t]).sum(), x, retain_graph=True)
        by_place = abs(gradient.numpy()).max(axis=(0, 2))
        assert (by_place[t + 1 :] == 0).all() and (by_place[: t + 1] > 0).all()


def test_the_log_probs_of_pixels_are_in_raster_order():
    model = small(order=spiral_order(4))
    x = RNG.integers(0, 2, (3, 1, 4, 4)).astype(float)
    with no_grad():
        in_order = model.word_log_probs(x).numpy()
        np.testing.assert_array_equal(
            model.pixel_log_probs(x).numpy()[:, spiral_order(4)], in_order
        )


def test_a_pixel_of_a_patch_has_no_probability_of_its_own():
    with pytest.raises(ValueError, match="pixel_log_probs: patch is 2; a pixel has"):
        small(patch=2).pixel_log_probs(np.zeros((1, 1, 4, 4)))


def test_half_a_patch_cannot_be_known():
    known = np.zeros((4, 4), bool)
    known[0, :2] = True
    with pytest.raises(ValueError, match=r"known is .*; it must hold whole patches of 2 x 2"):
        small(patch=2).sample(1, np.zeros((1, 1, 4, 4)), known)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, "patch is 3; it must divide the sides 4 and 4"),
        ({"patch": 4, "levels": 17}, "more words than 65536"),
        ({"order": [0, 1]}, "order is .* 0 ... 15 once"),
    ],
)
def test_patches_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=f"ImageGPT: .*{message}"):
        small(**options)


def test_sampling_in_training_mode_with_dropout_is_refused():
    model = ImageGPT(4, 2, d_model=8, nhead=2, num_layers=1, dropout=0.1)
    with pytest.raises(RuntimeError, match="training mode; call eval"):
        model.sample(2)
    assert model.eval().sample(2).shape == (2, 1, 4, 4)
