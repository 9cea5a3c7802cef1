"""Additive, location-aware, dot and general attention: their formulas by hand, the effect of
padding, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import given, settings
from hypothesis import strategies as st
from near import near

import tinycv
from tinycv import Tensor
from tinycv.sequence import AdditiveAttention, DotAttention, GeneralAttention, LocationAttention
from tinycv.sequence.align import weighted_average

B, T, S, Q, M = 2, 3, 5, 4, 4
RNG = np.random.default_rng(0)
QUERY, MEMORY = (
    RNG.normal(size=(B, T, Q)).astype(np.float32),
    RNG.normal(size=(B, S, M)).astype(np.float32),
)
MASK = np.array([[True] * 5, [True, True, False, True, False]])
KINDS = {
    "additive": lambda: AdditiveAttention(Q, M, 6),
    "location": lambda: LocationAttention(Q, M, 6, filters=3),
    "dot": DotAttention,
    "general": lambda: GeneralAttention(Q, M),
}
UNORDERED = sorted(set(KINDS) - {"location"})


@pytest.fixture(params=KINDS)
def layer(request):
    return KINDS[request.param]()


def score_by_hand(layer, s, h, last, j):
    """s (Q,): the decoder state; h (M,): encoder state j; last (S,): the weights of the step
    before."""
    if isinstance(layer, AdditiveAttention):
        W, U, v = layer.W.weight.numpy(), layer.U.weight.numpy(), layer.v.numpy()
        location_term = (
            location_term_by_hand(layer, last, j)
            if isinstance(layer, LocationAttention)
            else np.zeros(len(v))
        )
        return sum(v[a] * np.tanh(W[a] @ s + U[a] @ h + location_term[a]) for a in range(len(v)))
    return s @ (layer.weight.numpy() if isinstance(layer, GeneralAttention) else np.eye(len(s))) @ h


def location_term_by_hand(layer, last, j):
    # a window of 5: two positions on either side
    F, reach = layer.F.weight.numpy()[:, 0, 0], 2
    f = sum(
        F[:, reach + k] * last[j + k] for k in range(-reach, reach + 1) if 0 <= j + k < len(last)
    )
    return layer.V.weight.numpy() @ f + layer.V.bias.numpy()


def test_weights_and_context_equal_the_formulas_of_the_papers(layer):
    context, weights = layer(Tensor(QUERY), Tensor(MEMORY), MASK)
    for b in range(B):
        expected = np.zeros(S)
        for t in range(T):
            e = [
                np.exp(score_by_hand(layer, QUERY[b, t], MEMORY[b, j], expected, j)) * MASK[b, j]
                for j in range(S)
            ]
            expected = np.array(e) / sum(e)
            np.testing.assert_allclose(weights.numpy()[b, t], expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(
                context.numpy()[b, t], expected @ MEMORY[b], rtol=1e-4, atol=1e-5
            )


def test_the_content_of_the_padding_changes_nothing_and_gets_no_gradient(device, layer):
    layer.to(device)
    other = np.where(MASK[..., None], MEMORY, 100).astype(np.float32)
    query, memory, changed = (
        Tensor(a, device=device, requires_grad=True) for a in (QUERY, MEMORY, other)
    )
    (context, weights), (context_2, weights_2) = (
        layer(query, memory, MASK),
        layer(query, changed, MASK),
    )
    np.testing.assert_allclose(context.numpy(), context_2.numpy(), rtol=1e-5, atol=1e-6)
    assert (weights.numpy()[1, :, [2, 4]] == 0).all() and (
        weights_2.numpy()[1, :, [2, 4]] == 0
    ).all()
    (slope,) = tinycv.grad((context_2 * context_2).sum(), changed)
    assert (slope.numpy()[~MASK] == 0).all() and slope.numpy()[MASK].all()


def test_a_source_of_padding_only_gives_zeros_and_finite_gradients(device, layer):
    layer.to(device)
    mask = np.array([[True] * S, [False] * S])
    query, memory = (Tensor(a, device=device, requires_grad=True) for a in (QUERY, MEMORY))
    context, weights = layer(query, memory, mask)
    assert not context.numpy()[1].any() and not weights.numpy()[1].any()
    np.testing.assert_allclose(weights.numpy()[0].sum(axis=-1), 1, rtol=1e-6)
    slopes = tinycv.grad((context * context).sum(), [query, memory])
    assert all(np.isfinite(g.numpy()).all() for g in slopes) and not slopes[0].numpy()[1].any()


def test_keys_computed_once_can_be_used_at_every_step(device, layer):
    layer.to(device)
    query, memory = Tensor(QUERY, device=device), Tensor(MEMORY, device=device)
    keys, (context, weights), last = layer.keys(memory), layer(query, memory, MASK), None
    for t in range(T):
        one, at = layer(query[:, t : t + 1], memory, MASK, keys, last)
        last = at[:, 0]
        np.testing.assert_allclose(one.numpy()[:, 0], context.numpy()[:, t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(at.numpy()[:, 0], weights.numpy()[:, t], rtol=1e-5, atol=1e-6)


@given(st.permutations(range(S)), st.sampled_from(UNORDERED))
@settings(max_examples=30, deadline=None)
def test_content_based_attention_does_not_depend_on_the_order_of_the_memory(order, kind):
    layer, order = KINDS[kind](), np.array(order)
    context, weights = layer(Tensor(QUERY), Tensor(MEMORY), MASK)
    moved, at = layer(Tensor(QUERY), Tensor(MEMORY[:, order]), MASK[:, order])
    np.testing.assert_allclose(moved.numpy(), context.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(at.numpy(), weights.numpy()[..., order], rtol=1e-4, atol=1e-6)


def test_location_aware_attention_can_move_one_position_per_step_whatever_the_content(device):
    """F reads the previous weight of the position before; V and v turn it into a high score.
    Without previous weights, all positions are equal."""
    layer = LocationAttention(Q, M, 1, filters=1, reach=3)
    for weight, value in (
        (layer.W.weight, 0),
        (layer.U.weight, 0),
        (layer.v, 30),
        (layer.V.weight, 1),
        (layer.V.bias, 0),
        (layer.F.weight, [[[[1, 0, 0]]]]),
    ):
        weight.data = np.full_like(weight.data, value)
    layer.to(device)
    start = Tensor(np.eye(S, dtype=np.float32)[[0, 1]], device=device)
    query, memory = Tensor(QUERY, device=device), Tensor(MEMORY, device=device)
    walked = layer(query, memory, last=start)[1].numpy()
    assert (
        walked.argmax(axis=-1).tolist() == [[1, 2, 3], [2, 3, 4]]
        and walked.max(axis=-1).min() > 0.99
    )
    np.testing.assert_allclose(layer(query[:, :1], memory)[1].numpy(), 1 / S, rtol=1e-6)


def test_general_attention_with_the_identity_matrix_is_dot_attention():
    general = GeneralAttention(Q, M)
    general.weight.data = np.eye(Q, dtype=np.float32)
    for a, b in zip(
        general(Tensor(QUERY), Tensor(MEMORY)),
        DotAttention()(Tensor(QUERY), Tensor(MEMORY)),
        strict=True,
    ):
        near(a.numpy(), b.numpy())


def test_scores_far_beyond_the_range_of_exp_choose_one_position():
    weights = weighted_average(
        Tensor(np.array([[[1e5, -1e5, 3.0]]], np.float32)), Tensor(MEMORY[:1, :3])
    )[1].numpy()
    assert (weights == [[[1, 0, 0]]]).all()


@pytest.mark.parametrize("b, t", [(0, T), (B, 0), (1, 1)])
def test_an_empty_batch_and_no_queries_give_empty_results(device, layer, b, t):
    query, memory = tinycv.ones(b, t, Q, device=device), tinycv.ones(b, S, M, device=device)
    context, weights = layer.to(device)(query, memory, np.ones((b, S), bool))
    assert (context.shape, weights.shape) == ((b, t, M), (b, t, S))


def test_an_empty_memory_is_refused(layer):
    with pytest.raises(ValueError, match="nothing to look at"):
        layer(tinycv.ones(B, T, Q), tinycv.ones(B, 0, M))


def test_a_mask_of_a_wrong_dtype_or_shape_is_refused(layer):
    with pytest.raises(
        TypeError, match=r"mask is ndarray of float32 .*must be bool of shape \(2, 5\)"
    ):
        layer(Tensor(QUERY), Tensor(MEMORY), MASK.astype(np.float32))
    with pytest.raises(ValueError, match=r"shape \(2, 4\); it must be bool of shape \(2, 5\)"):
        layer(Tensor(QUERY), Tensor(MEMORY), MASK[:, :4])


def test_dot_attention_of_two_widths_suggests_general_attention():
    with pytest.raises(ValueError, match="4 wide and the memory 6.*GeneralAttention"):
        DotAttention()(Tensor(QUERY), tinycv.ones(B, S, 6))


def test_query_and_memory_may_differ_in_width():
    for layer in (AdditiveAttention(Q, 7, 3), LocationAttention(Q, 7, 3), GeneralAttention(Q, 7)):
        context, weights = layer(Tensor(QUERY), tinycv.ones(B, S, 7))
        assert (context.shape, weights.shape) == ((B, T, 7), (B, T, S))


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_each_attention_is_certified_to_second_order(layer, mask):
    certify_layer(layer, QUERY, MEMORY, *(() if mask is None else (mask,)))


# ── the content of the padding ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keys", ["made here", "given"])
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 3e38])
def test_the_content_of_the_padding_of_the_memory_reaches_nothing(layer, fill, keys):
    found = []
    for padding in (0.0, fill):
        memory = Tensor(
            np.where(MASK[..., None], MEMORY, padding), dtype="float32", requires_grad=True
        )
        query = Tensor(QUERY, requires_grad=True)
        made = np.where(MASK[..., None], layer.keys(Tensor(MEMORY)).numpy(), padding)
        given = None if keys == "made here" else Tensor(made, dtype="float32")
        context, weights = layer(query, memory, MASK, given)
        slopes = tinycv.grad(
            (context**2).sum(), [query, memory, *layer.parameters()], allow_unused=True
        )
        found.append(
            [context.numpy(), weights.numpy(), *(None if g is None else g.numpy() for g in slopes)]
        )
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.isfinite(b).all()
        assert a is None or np.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fill", [np.nan, np.inf, 5.0, 3e38])
def test_previous_weights_on_padding_are_ignored(fill, device):
    layer, found = LocationAttention(Q, 7, 3).to(device), []
    for padding in (0.0, fill):
        query, memory = Tensor(QUERY, device=device), tinycv.ones(B, S, 7, device=device)
        last = Tensor(np.where(MASK, 1 / S, padding).astype(np.float32), device=device)
        context, weights = layer(query, memory, Tensor(MASK, device=device), last=last)
        slopes = tinycv.grad((context**2).sum() + (weights**2).sum(), list(layer.parameters()))
        found.append([context.numpy(), weights.numpy(), *(g.numpy() for g in slopes)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
