"""The text encoder: padding reaches nothing, the order of the words counts, and a text of PAD alone
is one learned token."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

from tinycv import Tensor
from tinycv.sequence import TextEncoder

IDS = np.array([[3, 4, 5, 0, 0], [6, 3, 0, 0, 0], [5, 4, 3, 6, 7], [0, 0, 0, 0, 0]])
WORDS = np.array([3, 2, 5, 1])  # tokens of each text; "no text" is one token


def small(device="cpu", dtype="float32"):
    encoder = TextEncoder(8, 5, 8, 2, 2)
    encoder.to(device).to(dtype)
    return encoder


def test_a_query_may_look_at_every_word_and_at_one_token_of_no_text(device):
    mask = small(device).mask_of(Tensor(IDS, device=device))
    expected = np.arange(5) < WORDS[:, None]
    assert Tensor(mask).numpy().tolist() == expected[:, None, None].tolist()


def test_the_tokens_of_padding_are_0_and_no_others(device):
    tokens = small(device)(Tensor(IDS, device=device)).numpy()
    assert (tokens.any(axis=-1) == (np.arange(5) < WORDS[:, None])).all()


def test_a_text_does_not_depend_on_how_far_it_is_padded():
    encoder = small(dtype="float64")
    tokens = encoder(IDS).numpy()
    for row, count in enumerate(WORDS):
        alone = encoder(IDS[row : row + 1, :count]).numpy()
        np.testing.assert_allclose(tokens[row, :count], alone[0], atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_stands_at_padding_reaches_neither_tokens_nor_gradients(value):
    """Only "no text" may see the row of PAD in the table of words."""
    encoder, texts = small(), IDS[:3]

    def run():
        encoder.zero_grad()
        tokens = encoder(texts)
        (tokens * tokens).sum().backward()
        gradients = {name: np.array(p.grad.data) for name, p in encoder.named_parameters()}
        return {"tokens": tokens.numpy(), **gradients}

    before = run()
    encoder.embed.weight._data[0] = value
    after = run()
    for name, found in before.items():
        np.testing.assert_array_equal(after[name], found, err_msg=name)


def test_no_text_depends_on_its_own_row_of_the_table():
    encoder = small()
    before = encoder(IDS).numpy()
    encoder.embed.weight._data[0, 0] += 1
    moved = np.abs(encoder(IDS).numpy() - before).max(axis=(1, 2))
    assert moved[3] > 1e-3 and (moved[:3] < 1e-5).all()


def test_the_order_of_the_words_counts():
    encoder, swapped = small(), IDS[:, [1, 0, 2, 3, 4]]
    with_random_order = encoder(swapped).numpy()[:, [1, 0, 2, 3, 4]]
    moved = np.abs(encoder(IDS).numpy() - with_random_order).max(axis=(1, 2))
    assert (moved[:3] > 1e-3).all()


def test_every_word_of_a_text_sees_every_other():
    encoder, other = small(), IDS.copy()
    before = encoder(IDS).numpy()
    other[2, 4] = 3
    assert (np.abs(encoder(other).numpy() - before)[2].max(axis=-1) > 1e-5).all()


def test_pooled_is_the_mean_over_the_words(device):
    encoder, ids = small(device), Tensor(IDS, device=device)
    tokens = encoder(ids)
    pooled = encoder.pooled(tokens, ids).numpy()
    for row, count in enumerate(WORDS):
        expected = tokens.numpy()[row, :count].mean(axis=0)
        np.testing.assert_allclose(pooled[row], expected, rtol=1e-5, atol=1e-6)


def test_pooled_never_reads_what_stands_at_padding():
    encoder, tokens = small(), np.ones((4, 5, 8), np.float32)
    tokens[np.arange(5) >= WORDS[:, None]] = np.nan
    np.testing.assert_allclose(encoder.pooled(Tensor(tokens), IDS).numpy(), 1.0, rtol=1e-6)


def test_the_encoder_is_certified():
    class Texts(TextEncoder):
        def __call__(self):
            return self.forward(np.array([[3, 4, 0], [0, 0, 0]]))

    certify_layer(Texts(6, 3, 4, 2, 1))


def test_texts_longer_than_length_are_refused():
    with pytest.raises(ValueError, match="positions for 5 tokens, but x ends at 6"):
        small()(np.full((1, 6), 3))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="dim is 8 and heads 3; dim must divide evenly"):
        TextEncoder(8, 5, 8, 3)


def test_tokens_of_other_texts_are_refused():
    encoder = small()
    with pytest.raises(ValueError, match=r"tokens has shape \(4, 5, 8\) and ids \(2, 5\)"):
        encoder.pooled(encoder(IDS), IDS[:2])
