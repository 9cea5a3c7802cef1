"""Attention with a key-value cache: token by token gives the same as all at once. And the masks
that hide padding."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import given, settings
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor, nn
from tinycv.sequence import MultiheadAttention, causal_mask, length_mask, padding_mask

RNG = np.random.default_rng(0)
X, MEMORY = (RNG.normal(size=(2, n, 12)).astype(np.float32) for n in (6, 5))
LENGTHS = np.array([5, 3])


def close(result, expected):
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


# ── the cache ─────────────────────────────────────────────────────────────────────────────────────


def test_token_by_token_equals_causal_attention_at_once(device):
    layer, x, past = MultiheadAttention(12, 3).to(device), Tensor(X, device=device), None
    whole = layer(x, is_causal=True)
    for t in range(6):
        y, past = layer.follow(x[:, t : t + 1], past)
        close(y, whole[:, t : t + 1])
    assert [part.shape for part in past] == [(2, 3, 6, 4)] * 2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_the_cache_works_for_any_number_of_tokens_at_a_time(sizes):
    layer, past, parts = MultiheadAttention(12, 3), None, []
    x = Tensor(np.random.default_rng(1).normal(size=(2, sum(sizes), 12)).astype(np.float32))
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        y, past = layer.follow(x[:, end - size : end], past)
        parts.append(y)
    close(tinycv.concatenate(parts, axis=1), layer(x, is_causal=True))


def test_follow_returns_a_new_cache_and_leaves_the_old_one_unchanged(device):
    layer, x = MultiheadAttention(12, 3).to(device), Tensor(X, device=device)
    _, past = layer.follow(x[:, :2])
    first, second = (layer.follow(x[:, 2:3], past)[0].numpy() for _ in range(2))
    assert (first == second).all() and past[0].shape == (2, 3, 2, 4)


@pytest.mark.parametrize("mask", [None, length_mask(LENGTHS, 5)], ids=["all", "padding"])
def test_recall_from_a_memory_projected_once_equals_cross_attention(device, mask):
    layer, x, memory = (
        MultiheadAttention(12, 3).to(device),
        Tensor(X, device=device),
        Tensor(MEMORY, device=device),
    )
    close(layer.recall(x, layer.remember(memory), mask), layer(x, memory, attn_mask=mask))


def test_the_cache_works_without_bias_too():
    layer, x = MultiheadAttention(12, 3, bias=False), Tensor(X)
    close(layer.recall(x, layer.remember(Tensor(MEMORY))), layer(x, Tensor(MEMORY)))
    close(layer.follow(x[:, 4:], layer.follow(x[:, :4])[1])[0], layer(x, is_causal=True)[:, 4:])


class Steps(nn.Module):
    """Three tokens, then two with a cache, then cross-attention to the memory."""

    def __init__(self):
        self.attention = MultiheadAttention(12, 3)

    def forward(self, x, memory):
        y, past = self.attention.follow(x[:, :3])
        z, _ = self.attention.follow(x[:, 3:5], past)
        found = self.attention.recall(z, self.attention.remember(memory), length_mask(LENGTHS, 5))
        return tinycv.concatenate([y, z, found], axis=1)


def test_attention_with_a_cache_is_certified():
    certify_layer(Steps(), X[:, :5], MEMORY)


# ── padding ───────────────────────────────────────────────────────────────────────────────────────


def test_the_padding_mask_shows_tokens_and_hides_padding(device):
    ids = Tensor(np.array([[5, 3, 2, 0], [2, 0, 0, 0], [0, 0, 0, 0]]), device=device)
    mask = Tensor(padding_mask(ids), device=device).numpy()
    assert mask.shape == (3, 1, 1, 4) and mask.dtype == bool
    assert mask[:, 0, 0].tolist() == [
        [True, True, True, False],
        [True, False, False, False],
        [False] * 4,
    ]
    assert (length_mask([3, 1, 0], 4) == mask).all()
    assert (padding_mask(ids.numpy(), pad=2)[0] == [[[True, True, False, True]]]).all()


def test_a_padded_batch_equals_its_sequences_one_by_one(device):
    layer, x, mask = MultiheadAttention(12, 3).to(device), MEMORY.copy(), length_mask(LENGTHS, 5)
    x[1, 3:] = 100.0
    batched = layer(Tensor(x, device=device), attn_mask=mask).numpy()
    for i, n in enumerate(LENGTHS):
        alone = layer(Tensor(x[i : i + 1, :n], device=device)).numpy()
        np.testing.assert_allclose(batched[i, :n], alone[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lengths", [[2, 5], [-1, 2]])
def test_lengths_out_of_range_are_named(lengths):
    with pytest.raises(
        ValueError, match=f"from {min(lengths)} to {max(lengths)}; they must be from 0 to s = 4"
    ):
        length_mask(lengths, 4)


def test_a_causal_mask_after_a_past_continues_where_the_past_ends():
    assert (causal_mask(3, 7, past=4) == causal_mask(7)[4:]).all()


@pytest.mark.parametrize("batch, tokens", [(0, 3), (2, 0), (2, 1)])
def test_empty_batches_empty_sequences_and_single_tokens_work(device, batch, tokens):
    layer = MultiheadAttention(12, 3).to(device)
    x = tinycv.zeros(batch, tokens, 12, device=device)
    assert layer(x, is_causal=True).shape == x.shape
    y, past = layer.follow(x)
    assert layer.follow(y, past)[1][0].shape == (batch, 3, 2 * tokens, 4)
    assert length_mask(np.zeros(0, int), 3).shape == (0, 1, 1, 3)
