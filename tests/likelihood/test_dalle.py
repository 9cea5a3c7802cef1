"""DALL-E: probabilities sum to 1, nothing comes from the future, the cache changes nothing, and a
tiny world is learned in both orders."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from pixel_models import randomised

import tinycv
from tinycv import Tensor, no_grad
from tinycv.engine.tensor import bare
from tinycv.likelihood.dalle import DALLE, likeliest
from tinycv.optim import Adam

RNG = np.random.default_rng(0)
ORDERS = ("text first", "image first")
SMALL = {"words": 4, "text_length": 2, "codes": 3, "image_tokens": 4, "dim": 8, "heads": 2}


def small(**options):
    return randomised(DALLE(**{**SMALL, "layers": 2, **options})).eval()


def pairs(count):
    return RNG.integers(0, 4, (count, 2)), RNG.integers(0, 3, (count, 4))


def every(values, length):
    return np.array(list(product(range(values), repeat=length)))


def test_the_probabilities_of_all_codes_of_an_image_sum_to_1():
    model, codes = small(), every(3, 4)
    ids = np.tile([[2, 1]], (len(codes), 1))
    with no_grad():
        assert abs(np.exp(model.log_prob(ids, codes).numpy()).sum() - 1) < 1e-10


def test_the_probabilities_of_all_captions_of_an_image_sum_to_1():
    model, ids = small(order="image first"), every(4, 2)
    codes = np.tile([[0, 2, 1, 1]], (len(ids), 1))
    with no_grad():
        assert abs(np.exp(model.log_prob(ids, codes).numpy()).sum() - 1) < 1e-10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("place", range(6))
def test_no_prediction_has_a_gradient_by_its_own_symbol_or_by_later_ones(order, place):
    """Exactly 0. Symbols have no gradient, so it is taken by their embeddings."""
    model = small(order=order)
    symbols = Tensor(RNG.integers(0, 7, (2, 6)))
    x = Tensor(bare(model.gpt.embed_with_positions(symbols)), requires_grad=True)  # (B, S, E)
    y = model.gpt.blocks(x, is_causal=True)  # row t predicts symbol t + 1, from symbols 0 ... t
    (gradient,) = tinycv.grad((y[:, place] * y[:, place]).sum(), x)
    by_place = abs(gradient.numpy()).max(axis=(0, 2))
    assert (by_place[place + 1 :] == 0).all() and (by_place[: place + 1] > 0).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("place", range(6))
def test_a_symbol_changes_the_predictions_of_later_symbols_and_of_no_other(order, place):
    """Up to rounding, which depends on where an array lies in memory."""
    model = small(order=order)
    ids, codes = pairs(3)
    before_and_after = []
    for change in (0, 1):
        first, second = (
            (codes.copy(), ids.copy()) if model.image_first else (ids.copy(), codes.copy())
        )
        part, column = (
            (first, place) if place < first.shape[1] else (second, place - first.shape[1])
        )
        part[:, column] = (part[:, column] + change) % 3
        words, image = (second, first) if model.image_first else (first, second)
        with no_grad():
            of_words, of_codes = model.logits(words, image)
        parts = (of_codes, of_words) if model.image_first else (of_words, of_codes)
        before_and_after.append([part.numpy() for part in parts])
    moved = [abs(a - b).max(axis=(0, 2)) for a, b in zip(*before_and_after, strict=True)]
    moved = np.concatenate(moved)
    assert (moved[: place + 1] < 1e-12).all() and (moved[place + 1 :] > 1e-6).all()


@pytest.mark.parametrize("order", ORDERS)
def test_sampling_with_the_cache_draws_what_it_draws_without(order):
    model = small(order=order)
    ids, codes = pairs(30)
    drawn = []
    for cached in (True, False):
        tinycv.manual_seed(5)
        drawn.append(model.sample(codes if model.image_first else ids, cached=cached))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("order", ORDERS)
def test_the_frequencies_of_samples_are_the_probabilities(order):
    model = small(order=order, image_tokens=(1, 2))
    draws = 6000
    second = every(4, 2) if model.image_first else every(3, 2)
    first = np.array([[1, 2]])
    with no_grad():
        given = np.tile(first, (len(second), 1))
        both = (second, given) if model.image_first else (given, second)
        probability = np.exp(model.log_prob(*both).numpy())
    drawn = model.sample(np.tile(first, (draws, 1)))
    count = np.array([(drawn == row).all(axis=1).sum() for row in second])
    error = np.sqrt(probability * (1 - probability) / draws)
    assert (abs(count / draws - probability) < 5 * error + 1e-9).all()


def test_top_k_of_1_is_greedy():
    model = small()
    ids, _ = pairs(5)
    codes = model.sample(ids, top_k=1)
    np.testing.assert_array_equal(model.sample(ids, top_k=1), codes)
    with no_grad():
        np.testing.assert_array_equal(model.logits(ids, codes)[1].numpy().argmax(axis=2), codes)


def test_top_k_draws_only_the_k_likeliest():
    scores = Tensor(np.array([[0.1, 3, 2, -1], [5, 4, 3, 2]]))
    kept = np.isfinite(likeliest(scores, 2).numpy())
    np.testing.assert_array_equal(kept, [[0, 1, 1, 0], [1, 1, 0, 0]])


def test_a_low_temperature_draws_the_likeliest_codes():
    model = small()
    ids, _ = pairs(20)
    np.testing.assert_array_equal(model.sample(ids, temperature=1e-9), model.sample(ids, top_k=1))


@pytest.mark.parametrize("order", ORDERS)
def test_the_loss_weighs_the_mean_cross_entropies_of_the_two_parts(order):
    model = small(order=order)
    ids, codes = pairs(7)
    with no_grad():
        second = -model.log_prob(ids, codes).numpy().mean() / (2 if model.image_first else 4)
        np.testing.assert_allclose(model.loss(ids, codes, given_weight=0).numpy(), second)
        first = model.loss(ids, codes, given_weight=1).numpy()
        expected = first / 8 + second * 7 / 8
        np.testing.assert_allclose(model.loss(ids, codes).numpy(), expected)


def test_words_and_codes_with_the_same_number_are_different_symbols():
    model = small()
    table = model.gpt.embed.weight.numpy()
    assert len(table) == 4 + 3 + 1
    sequence = model.sequence_of(np.array([[1, 2]]), np.array([[1, 2, 0, 1]]))
    np.testing.assert_array_equal(sequence, [[1, 2, 5, 6, 4, 5]])


def test_codes_in_a_row_share_the_vector_of_their_row():
    model = small(image_tokens=(2, 3))
    positions = model.gpt.position(Tensor(np.zeros((1, 8, 8)))).numpy()[0, 2:].reshape(2, 3, 8)
    by_row = positions[1] - positions[0]
    np.testing.assert_allclose(by_row, np.tile(by_row[:1], (3, 1)), atol=1e-12)


def test_codes_that_look_alike_start_with_similar_vectors_and_words_stay_as_they_are():
    model = DALLE(**{**SMALL, "dim": 64})
    before = model.gpt.embed.weight.numpy().copy()
    model.start_at_codebook(np.array([[[0.0, 1.0]], [[0.1, 1.0]], [[5.0, -3.0]]]), std=0.3)
    after = model.gpt.embed.weight.numpy()
    of_codes = after[4:7]
    near, far = (np.linalg.norm(of_codes[0] - of_codes[i]) for i in (1, 2))
    assert far > 20 * near > 0
    np.testing.assert_allclose(of_codes.std(), 0.3, rtol=1e-5)
    np.testing.assert_array_equal(
        np.delete(after, range(4, 7), 0), np.delete(before, range(4, 7), 0)
    )


@pytest.mark.parametrize("order", ORDERS)
def test_a_rule_between_words_and_codes_is_learned(order):
    """Code i of an image is word i of its caption, if the word is one of three."""
    tinycv.manual_seed(0)
    model = DALLE(3, 4, 3, 4, 16, 2, 1, order)
    optimizer = Adam(model.parameters(), lr=0.01)
    for step in range(150):
        ids = np.random.default_rng(step).integers(0, 3, (32, 4))
        optimizer.zero_grad()
        model.loss(ids, ids).backward()
        optimizer.step()
    given = np.random.default_rng(999).integers(0, 3, (40, 4))
    assert (model.eval().sample(given) == given).all(axis=1).mean() > 0.9


@pytest.mark.parametrize("order", ORDERS)
def test_the_model_runs_on_each_device(order, device):
    model = DALLE(**SMALL, layers=1, order=order).to(device)
    ids, codes = (Tensor(part, device=device) for part in pairs(3))
    loss = model.loss(ids, codes)
    loss.backward()
    drawn = model.sample(codes if model.image_first else ids, top_k=2)
    assert Tensor(drawn).device == loss.device == next(model.parameters()).device


def test_on_a_gpu_a_number_that_is_no_word_gives_nan(double):
    model = DALLE(**SMALL, layers=1).to("gpu")
    ids, codes = pairs(2)
    ids[1, 0] = 4  # the number of code 0 in the common vocabulary
    ids, codes = Tensor(ids, device="gpu"), Tensor(codes, device="gpu")
    assert np.isfinite(model.log_prob(ids, codes).numpy()).tolist() == [True, False]


def test_sampling_in_training_mode_with_dropout_is_refused():
    model = DALLE(**SMALL, dropout=0.1)
    with pytest.raises(RuntimeError, match="DALLE.sample: the model is in training mode"):
        model.sample(pairs(2)[0])


IDS, CODES = np.zeros((2, 2), np.int64), np.zeros((2, 4), np.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.loss(IDS + 4, CODES), "DALLE.loss: ids holds 4; .* from 0 to 3"),
        (lambda m: m.loss(IDS, CODES - 1), "DALLE.loss: codes holds -1; .* from 0 to 2"),
        (lambda m: m.log_prob(IDS[:1], CODES), "ids has 1 rows and codes 2; each image needs"),
        (lambda m: m.log_prob(IDS[:, :1], CODES), r"shape \(2, 1\); it must be \(B, 2\)"),
        (lambda m: m.log_prob(IDS + 0.5, CODES), "ids is .*; it must be integers of shape"),
        (lambda m: m.sample(IDS, temperature=0), "DALLE.sample: temperature is 0"),
        (lambda m: m.sample(IDS, top_k=0), "DALLE.sample: top_k is 0"),
        (lambda m: m.loss(IDS, CODES, 2), "DALLE.loss: given_weight is 2"),
        (lambda m: m.start_at_codebook(np.zeros((2, 4))), r"codebook has shape \(2, 4\); .* \(3, "),
        (lambda m: DALLE(4, 2, 3, 5), r"image_tokens is 5; it must be a square, or \(rows"),
        (lambda m: DALLE(4, 2, 3, 4, order="both"), "DALLE: order is 'both'; it must be one of"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call(small())


def test_a_codebook_that_is_not_finite_is_refused_and_changes_nothing():
    model = small()
    before = model.gpt.embed.weight.numpy().copy()
    with pytest.raises(ValueError, match="codebook holds NaN"):
        model.start_at_codebook(np.full((3, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="start_at_codebook: std"):
        model.start_at_codebook(RNG.normal(size=(3, 2)), std=1e300)
    np.testing.assert_array_equal(model.gpt.embed.weight.numpy(), before)


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_model_whose_weights_are_nan_draws_no_codes(top_k):
    model = small()
    model.gpt.embed.weight.data = model.gpt.embed.weight.data * np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.sample(np.zeros((1, 2), np.int64), top_k=top_k)
