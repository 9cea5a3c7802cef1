"""Masks in attention: NaN, inf and huge numbers in hidden keys, values and queries reach nothing;
float masks are added, and learned. For the kernel, the definition, blockwise attention, and the GPU
kernel."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near import near

import tinycv
from tinycv import Tensor
from tinycv.engine.check import agree, certify
from tinycv.engine.fused import PAIRS
from tinycv.sequence import (
    MultiheadAttention,
    attention,
    blockwise,
    causal_mask,
    length_mask,
    scaled_dot_product_attention,
)

# NumPy warns of the overflow that some of these tests cause on purpose
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
PAIR = PAIRS["scaled_dot_product_attention"]
B, H, T, S, D = 2, 3, 5, 6, 4
HUGE = [np.nan, np.inf, -np.inf, 3e38]
WAYS = ["kernel", "definition", "blocks"]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def function(way, monkeypatch):
    if way == "blocks":
        for name in ("CPU_LARGE", "GPU_LARGE"):
            monkeypatch.setattr(attention, name, -1)
        monkeypatch.setattr(blockwise, "CPU_BLOCK", (3, 2))
        monkeypatch.setattr(blockwise, "GPU_BLOCK", (2, 4))
    return PAIR.definition if way == "definition" else PAIR


def values_and_gradients(attend, q, k, v, weights, device="cpu", **options):
    """The result, and the gradients of its weighted sum; where() leaves out rows of weight 0."""
    leaves = [Tensor(x, device=device, requires_grad=True) for x in (q, k, v)]
    y = attend(*leaves, **options)
    counted = tinycv.where(Tensor(weights != 0, device=device), y, 0.0)
    loss = (counted * counted * Tensor(weights, device=device)).sum()
    return [y.numpy(), *(g.numpy() for g in tinycv.grad(loss, leaves))]


def drawn_mask(kind, rng):
    """(bools (B, H, T, S), True where a query may look; the options that express them)."""
    everything = np.ones((B, H, T, S), bool)
    if kind == "padding":
        mask = length_mask(rng.integers(0, S + 1, B), S)
        return everything & mask, {"attn_mask": mask}
    if kind == "causal":
        return everything & causal_mask(T, S), {"is_causal": True}
    mask = rng.random((B, 1, T, S)) < 0.6
    mask[:, :, rng.integers(T)] = False  # a query that may look nowhere
    if kind == "floats":
        added = np.where(mask, rng.normal(size=mask.shape), -np.inf).astype(np.float32)
        return everything & mask, {"attn_mask": added}
    return everything & mask & causal_mask(T, S), {"attn_mask": mask, "is_causal": True}


# ── hidden numbers reach nothing ──────────────────────────────────────────────────────────────────


def reaches_nothing(attend, kind, device, seed, fill):
    """What a query may not see changes neither its result nor any gradient."""
    rng = np.random.default_rng(seed)
    seen, options = drawn_mask(kind, rng)
    q, k, v = (
        draw(B, H, T, D, seed=seed),
        draw(B, H, S, D, seed=seed + 1),
        draw(B, H, S, D, seed=seed + 2),
    )
    lost = rng.random((B, H, S)) < 0.4 if kind != "padding" else ~seen.any(axis=2)
    lost_query = (rng.random((B, H, T)) < 0.2) | ~seen.any(axis=-1)
    # one entry of the vector is enough
    entry = rng.integers(D)
    bad_q, bad_k, bad_v = q.copy(), k.copy(), v.copy()
    bad_q[lost_query, entry] = fill
    bad_k[lost, entry] = fill
    bad_v[lost, entry] = fill
    # the queries that see none of the bad numbers
    clean = ~(lost_query | (seen & lost[:, :, None]).any(axis=-1))
    weights = np.where(clean | ~seen.any(axis=-1), draw(B, H, T, seed=5), 0)[..., None] * np.ones(
        D, np.float32
    )
    expected = values_and_gradients(attend, q, k, v, weights, device, **options)
    found = values_and_gradients(attend, bad_q, bad_k, bad_v, weights, device, **options)
    counted = weights != 0
    np.testing.assert_allclose(found[0][counted], expected[0][counted], rtol=1e-5, atol=1e-6)
    for a, b in zip(found[1:], expected[1:], strict=True):
        # a huge key that is visible is finite, so it may change these gradients
        if np.isfinite(fill):
            continue
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert (
        all(np.isfinite(g).all() for g in expected[1:])
        and (found[0][~seen.any(axis=-1)] == 0).all()
    )
    if not np.isfinite(fill):
        assert np.isnan(found[0][~clean & seen.any(axis=-1)]).all()


all_kinds = pytest.mark.parametrize("kind", ["padding", "causal", "any", "floats"])


@pytest.mark.parametrize("way", WAYS)
@all_kinds
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 99), fill=st.sampled_from(HUGE))
def test_what_a_query_may_not_see_changes_neither_its_result_nor_any_gradient(
    way, kind, seed, fill
):
    with pytest.MonkeyPatch.context() as monkeypatch:
        reaches_nothing(function(way, monkeypatch), kind, "cpu", seed, fill)


@pytest.mark.parametrize("device", ["gpu"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
@all_kinds
def test_what_a_query_may_not_see_changes_nothing_on_a_gpu_either(way, kind, device, monkeypatch):
    attend = function(way, monkeypatch)
    for seed, fill in enumerate(HUGE):
        reaches_nothing(attend, kind, device, seed, fill)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fill", HUGE)
def test_padding_of_keys_has_no_effect(way, fill, device, monkeypatch):
    attend, weights = function(way, monkeypatch), draw(1, H, T, D, seed=9)
    q, k, v = draw(1, H, T, D), draw(1, H, S, D, seed=1), draw(1, H, S, D, seed=2)
    short = values_and_gradients(attend, q, k[:, :, :4], v[:, :, :4], weights, device)
    k[:, :, 4:], v[:, :, 4:] = fill, fill
    mask = np.arange(S) < 4
    for option in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        y, dq, dk, dv = values_and_gradients(attend, q, k, v, weights, device, attn_mask=option)
        for a, b in zip((y, dq, dk[:, :, :4], dv[:, :, :4]), short, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        assert not dk[:, :, 4:].any() and not dv[:, :, 4:].any()


@pytest.mark.parametrize("fill", HUGE[:3])
def test_hidden_keys_reach_no_second_derivative(fill, device):
    q, k, v = draw(1, 1, T, D), draw(1, 1, S, D, seed=1), draw(1, 1, S, D, seed=2)
    mask = np.arange(S) < 4

    def bend(k, v):
        leaves = [Tensor(x, dtype="float64", device=device, requires_grad=True) for x in (q, k, v)]
        slopes = tinycv.grad((PAIR(*leaves, mask) ** 2).sum(), leaves, create_graph=True)
        return [g.numpy() for g in tinycv.grad(sum((s**2).sum() for s in slopes), leaves)]

    expected = bend(k, v)
    k[:, :, 4:], v[:, :, 4:] = fill, fill
    for a, b in zip(bend(k, v), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fill", HUGE[:3])
@pytest.mark.parametrize("kind", ["self", "cross"])
def test_nan_in_the_padding_of_a_layers_tokens_reaches_no_parameter(kind, fill, device):
    layer, mask = MultiheadAttention(12, 3).to(device), length_mask([4, 2], S)
    x, memory = draw(2, S, 12), draw(2, S, 12, seed=1)
    inside = mask[:, 0, 0]  # (B, S)

    def run(padding):
        tokens = Tensor(
            np.where(inside[..., None], memory, padding),
            dtype="float32",
            device=device,
            requires_grad=True,
        )
        y = (
            layer(Tensor(x, device=device), tokens, attn_mask=mask)
            if kind == "cross"
            else layer(tokens, attn_mask=mask)
        )
        y = tinycv.where(Tensor(inside[..., None], device=device), y, 0.0) if kind == "self" else y
        found = tinycv.grad((y**2).sum(), [tokens, *layer.parameters()])
        return [
            np.where(inside[..., None], y.numpy(), 0) if kind == "self" else y.numpy(),
            *(g.numpy() for g in found),
        ]

    for a, b in zip(run(fill), run(0.0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fill", HUGE)
@pytest.mark.parametrize("kind", ["encoder", "pre-norm encoder", "decoder", "remembered", "step"])
def test_the_content_of_the_padding_reaches_no_parameter_of_a_block(kind, fill, device):
    """For the tokens of the block, for a memory, and for a memory whose mask comes later, in a
    step."""
    mask = length_mask([4, 2], S)
    inside = mask[:, 0, 0][..., None]  # (B, S, 1)
    make = (
        tinycv.sequence.TransformerEncoderLayer
        if "encoder" in kind
        else tinycv.sequence.TransformerDecoderLayer
    )
    layer = make(12, 3, 8, 0.0, norm_first=kind == "pre-norm encoder").to(device)
    x, tokens = Tensor(draw(2, 3, 12), device=device), draw(2, S, 12, seed=1)

    def run(padding):
        padded = Tensor(
            np.where(inside, tokens, padding), dtype="float32", device=device, requires_grad=True
        )
        if kind == "decoder":
            y = layer(x, padded, memory_mask=mask)
        elif kind == "remembered":
            y = layer.multihead_attn.recall(x, layer.multihead_attn.remember(padded), mask)
        elif kind == "step":
            y, _ = layer.step(x, layer.multihead_attn.remember(padded), memory_mask=mask)
        else:
            y = tinycv.where(Tensor(inside, device=device), layer(padded, mask), 0.0)
        found = tinycv.grad((y**2).sum(), [padded, *layer.parameters()], allow_unused=True)
        return [y.numpy(), *(g.numpy() for g in found if g is not None)]

    for a, b in zip(run(fill), run(0.0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_visible_nan_in_the_memory_gives_nan_and_affects_no_other_result(device):
    layer, tokens = MultiheadAttention(12, 3).to(device), draw(2, S, 12, seed=1)
    tokens[0, 2, 5] = np.nan
    mask = length_mask([4, 2], S)
    y = layer.recall(
        Tensor(draw(2, 3, 12), device=device), layer.remember(Tensor(tokens, device=device)), mask
    )
    assert np.isnan(y.numpy()[0]).all() and np.isfinite(y.numpy()[1]).all()
    (slope,) = tinycv.grad((y[1] ** 2).sum(), [layer.in_proj_weight])
    assert np.isfinite(slope.numpy()).all()


# ── float masks are added ─────────────────────────────────────────────────────────────────────────

ADDED = {
    "relative": (H, T, S),
    "one head": (T, S),
    "of keys": (S,),
    "of all": (B, H, T, S),
    "of queries": (T, 1),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shape", ADDED.values(), ids=ADDED)
def test_a_float_mask_is_added_to_the_scores_and_learned(
    way, shape, is_causal, device, monkeypatch
):
    attend = partial(function(way, monkeypatch), is_causal=is_causal)
    shapes = (B, H, T, D), (B, H, S, D), (B, H, S, D), shape
    q, k, v, added = (draw(*s, seed=i).astype(float) for i, s in enumerate(shapes))

    def by_hand(q, k, v, added):
        score = q @ k.swapaxes(-1, -2) / D**0.5 + added
        score = (
            tinycv.where(Tensor(causal_mask(T, S), device=device), score, -1e9)
            if is_causal
            else score
        )
        return tinycv.nn.functional.softmax(score) @ v

    agree(attend, by_hand, q, k, v, added, device=device)


def test_a_float_mask_is_certified(device):
    added = draw(H, T, S).astype(float)
    certify(
        PAIR, *(draw(1, H, n, D, seed=n).astype(float) for n in (T, S, S)), added, device=device
    )


@pytest.mark.parametrize("way", WAYS)
def test_minus_inf_in_a_float_mask_hides_the_key(way, device, monkeypatch):
    attend = function(way, monkeypatch)
    q, k, v = (Tensor(draw(B, H, n, D, seed=n), device=device) for n in (T, S, S))
    mask = np.random.default_rng(0).random((B, 1, T, S)) < 0.5
    mask[0, 0, 1] = False
    hidden = attend(q, k, v, np.where(mask, 0, -np.inf).astype(np.float32)).numpy()
    near(hidden, attend(q, k, v, mask).numpy())
    assert not hidden[0, :, 1].any()


@pytest.mark.parametrize("way", WAYS)
def test_the_lowest_float_is_added_like_any_number_as_in_pytorch(way, device, monkeypatch):
    attend = function(way, monkeypatch)
    q, k, v = (draw(1, 1, n, D, seed=n) for n in (T, S, S))
    lowest = np.zeros((T, S), np.float32)
    lowest[:, 3:] = lowest[1] = np.finfo(np.float32).min
    lowest[2, 0] = -np.inf
    y, dq, dk, dv = values_and_gradients(
        attend, q, k, v, np.ones((1, 1, T, D), np.float32), device, attn_mask=lowest
    )
    # all scores are equal
    np.testing.assert_allclose(y[0, 0, 1], v[0, 0].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(g).all() for g in (y, dq, dk, dv))


@pytest.mark.parametrize("layout", ["strided", "turned", "broadcast"])
@pytest.mark.parametrize("floats", [False, True])
def test_a_mask_may_have_any_memory_layout(layout, floats, device):
    mask = np.random.default_rng(0).random((T, 2 * S)) < 0.7
    mask[:, 0] = True
    laid = {
        "strided": mask[:, ::2],
        "turned": np.asfortranarray(mask[:, :S]),
        "broadcast": np.broadcast_to(mask[:, :1], (B, H, T, S)),
    }[layout]
    laid = np.where(laid, 0.5, -np.inf) if floats else laid
    q, k, v = (Tensor(draw(B, H, n, D, seed=n), device=device) for n in (T, S, S))
    a, b = (
        scaled_dot_product_attention(q, k, v, m).numpy() for m in (laid, np.ascontiguousarray(laid))
    )
    assert (a == b).all() and a.dtype == np.float32


# ── wrong and empty arguments ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "shape", [(2, T, S), (T + 1, S), (S, T), (1, 1, 1, T, S), (B + 1, H, T, S)]
)
def test_a_mask_that_does_not_broadcast_to_the_scores_is_named_with_both_shapes(shape, device):
    q, k, v = (Tensor(draw(B, H, n, D), device=device) for n in (T, S, S))
    for mask in (np.ones(shape, bool), np.zeros(shape, np.float32)):
        with pytest.raises(ValueError) as caught:
            scaled_dot_product_attention(q, k, v, mask)
        assert str(shape) in str(caught.value) and str((B, H, T, S)) in str(caught.value)


@pytest.mark.parametrize("half", ["kernel", "definition"])
def test_no_keys_give_zeros_and_no_queries_give_an_empty_result(half, device):
    attend = PAIR if half == "kernel" else PAIR.definition
    for t, s, b in ((T, 0, B), (0, S, B), (T, S, 0)):
        for options in ({}, {"is_causal": True}, {"attn_mask": np.ones((t, s), bool)}):
            leaves = [
                Tensor(draw(b, H, n, D), device=device, requires_grad=True) for n in (t, s, s)
            ]
            y = attend(*leaves, **options)
            assert y.shape == (b, H, t, D) and (s or not y.numpy().any())
            assert all(
                g.shape == x.shape
                for g, x in zip(tinycv.grad(y.sum(), leaves), leaves, strict=True)
            )


def test_a_head_of_width_0_is_refused():
    with pytest.raises(ValueError, match="the width of a head, at least 1"):
        scaled_dot_product_attention(
            tinycv.ones(2, 3, 0), tinycv.ones(2, 3, 0), tinycv.ones(2, 3, 4)
        )


def test_weights_of_a_query_that_may_look_nowhere_are_0(device):
    layer, x = MultiheadAttention(12, 3).to(device), Tensor(draw(1, T, 12), device=device)
    mask = np.ones((T, T), bool)
    mask[2] = False
    for m in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        w = layer.weights(x, attn_mask=m).numpy()
        assert not w[:, :, 2].any()
        np.testing.assert_allclose(w[:, :, [0, 1, 3, 4]].sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        MultiheadAttention,
        tinycv.sequence.TransformerEncoderLayer,
        tinycv.sequence.TransformerDecoderLayer,
    ],
)
def test_batch_first_false_is_refused(kind):
    kind(12, 3, batch_first=True)
    with pytest.raises(
        ValueError, match=rf"{kind.__name__}: batch_first is False; it must be True.*swapaxes"
    ):
        kind(12, 3, batch_first=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize(
    "build",
    [
        lambda: tinycv.sequence.Seq2Seq(9, 9, 4, 4),
        lambda: tinycv.sequence.Seq2Seq(9, 9, 4, 4, cell="gru", attention="additive"),
        lambda: tinycv.sequence.Seq2Seq(9, 9, 4, 4, attention="dot"),
        lambda: tinycv.sequence.Transformer(9, 9, 4, 2, 1, 1, 8),
    ],
    ids=["plain", "additive", "dot", "transformer"],
)
def test_the_embedding_of_padding_reaches_no_loss_and_no_gradient(build, bad):
    source, target = np.array([[3, 4, 2], [4, 2, 0]]), np.array([[1, 3, 4, 2], [1, 2, 0, 0]])
    found = []
    for value in (0.0, bad):
        tinycv.manual_seed(0)
        model = build().eval()
        for name, weight in model.named_parameters():
            if "embed" in name:
                weight._data[0] = value
        loss = tinycv.sequence.next_symbol_loss(model, Tensor(source), Tensor(target))
        loss.backward()
        found.append([loss.numpy(), *[p.grad.numpy() for p in model.parameters()]])
    for clean, poisoned in zip(*found, strict=True):
        np.testing.assert_allclose(poisoned, clean, rtol=1e-5, atol=1e-7)
