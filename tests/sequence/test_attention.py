"""Attention: its equations by hand in NumPy loops, masks, permutations, and the attention
weights."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from near import near

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.sequence import MultiheadAttention, scaled_dot_product_attention
from tinycv.sequence.attention import causal_mask

B, H, T, S, D = 2, 3, 4, 5, 6
RNG = np.random.default_rng(0)
Q, K, V = (RNG.normal(size=(B, H, n, D)).astype(np.float32) for n in (T, S, S))
X, MEMORY = (RNG.normal(size=(B, n, 12)).astype(np.float32) for n in (T, S))
MASK = RNG.random((T, S)) < 0.6
MASK[:, 0] = True  # every query sees something
BLIND = MASK.copy()
BLIND[2] = False  # query 2 sees nothing


def attend(device, q=Q, k=K, v=V, mask=None, **options):
    tensors = [Tensor(x, device=device) for x in (q, k, v)]
    return scaled_dot_product_attention(*tensors, mask, **options).numpy()


def by_hand(mask):
    """One query at a time, over the keys that it may see."""
    y = np.zeros((B, H, T, D))
    for b, h, t in np.ndindex(B, H, T):
        seen = np.flatnonzero(mask[t])
        score = np.exp(K[b, h, seen].astype(float) @ Q[b, h, t] / np.sqrt(D))
        y[b, h, t] = score / score.sum() @ V[b, h, seen]
    return y


# ── the function ──────────────────────────────────────────────────────────────────────────────────


def test_attention_is_an_average_of_values_weighted_by_softmax_of_scores(device):
    np.testing.assert_allclose(attend(device), by_hand(np.ones((T, S), bool)), rtol=1e-4, atol=1e-6)


def test_a_masked_query_averages_only_over_what_it_may_see(device):
    np.testing.assert_allclose(attend(device, mask=MASK), by_hand(MASK), rtol=1e-4, atol=1e-6)


def test_is_causal_equals_the_mask_that_hides_the_future(device):
    explicit = np.array([[s <= t for s in range(S)] for t in range(T)])
    assert (attend(device, is_causal=True) == attend(device, mask=explicit)).all()
    assert (causal_mask(T, S) == explicit).all()


def test_is_causal_and_a_mask_let_through_only_what_both_allow(device):
    both = attend(device, mask=MASK, is_causal=True)
    assert (both == attend(device, mask=MASK & causal_mask(T, S))).all()


def test_the_past_does_not_depend_on_the_future(device):
    k, v = K.copy(), V.copy()
    k[:, :, 3:] += 1
    v[:, :, 3:] += 1
    before, after = attend(device, is_causal=True), attend(device, k=k, v=v, is_causal=True)
    assert (before[:, :, :3] == after[:, :, :3]).all()
    assert (before[:, :, 3:] != after[:, :, 3:]).any()


def test_a_mask_may_differ_from_image_to_image(device):
    # (B, 1, T, S)
    masks = np.stack([MASK, ~MASK | np.eye(T, S, dtype=bool)])[:, None]
    y = attend(device, mask=masks)
    for b in range(B):
        np.testing.assert_allclose(y[b], attend(device, mask=masks[b, 0])[b], rtol=1e-5, atol=1e-6)


def test_a_query_that_sees_nothing_returns_zeros(device):
    y = attend(device, mask=BLIND)
    assert (y[:, :, 2] == 0).all()
    near(y[:, :, [0, 1, 3]], attend(device, mask=MASK)[:, :, [0, 1, 3]])


@pytest.mark.parametrize("create_graph", [False, True], ids=["kernel", "definition"])
def test_a_query_that_sees_nothing_gives_a_zero_gradient_and_leaves_the_others_finite(
    device, create_graph
):
    q, k, v = (Tensor(x, device=device, requires_grad=True) for x in (Q, K, V))
    y = scaled_dot_product_attention(q, k, v, BLIND)
    gq, gk, gv = (
        g.numpy() for g in tinycv.grad(((1 + y) ** 2).sum(), [q, k, v], create_graph=create_graph)
    )
    assert ((gq == 0).all(axis=(0, 1, 3)) == (np.arange(T) == 2)).all()
    assert all(np.isfinite(g).all() and g.any() for g in (gk, gv))


def test_permuting_keys_together_with_their_values_changes_nothing(device):
    order = RNG.permutation(S)
    np.testing.assert_allclose(
        attend(device, k=K[:, :, order], v=V[:, :, order]), attend(device), rtol=1e-5, atol=1e-6
    )


def test_permuting_only_the_keys_changes_the_result(device):
    assert not np.allclose(attend(device, k=K[:, :, ::-1]), attend(device))


def test_scores_of_ten_thousand_choose_one_value_and_stay_finite(device):
    y = attend(device, q=1e4 * Q, k=K)
    chosen = (Q @ K.swapaxes(-1, -2)).argmax(axis=-1)
    near(y, np.take_along_axis(V, chosen[..., None], axis=2))


@pytest.mark.parametrize(
    "q, k, v",
    [((2, 4, 6), (2, 5, 7), (2, 5, 6)), ((2, 4, 6), (2, 5, 6), (2, 4, 6)), ((6,), (5, 6), (5, 6))],
)
def test_shapes_that_do_not_fit_together_are_named(q, k, v):
    with pytest.raises(ValueError) as caught:
        scaled_dot_product_attention(tinycv.ones(*q), tinycv.ones(*k), tinycv.ones(*v))
    assert all(str(shape) in str(caught.value) for shape in (q, k, v))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_mask_of_integers_is_refused(device, dtype):
    with pytest.raises(
        TypeError, match=f"attn_mask has dtype {np.dtype(dtype)}; it must be bool.*, or float"
    ):
        attend(device, mask=MASK.astype(dtype))


@pytest.mark.parametrize("mask", [None, MASK, BLIND], ids=["no mask", "mask", "blind query"])
def test_attention_is_certified_in_queries_keys_and_values(mask):
    certify(lambda q, k, v: scaled_dot_product_attention(q, k, v, mask), Q, K, V)


# ── the layer ─────────────────────────────────────────────────────────────────────────────────────


def test_self_attention_is_cross_attention_with_the_same_tokens(device):
    layer, x = MultiheadAttention(12, 3).to(device), Tensor(X, device=device)
    alone = layer(x).numpy()
    for key, value in ((x, None), (None, x), (x, x)):
        np.testing.assert_allclose(layer(x, key, value).numpy(), alone, rtol=1e-5, atol=1e-6)


def test_cross_attention_returns_one_token_per_query(device):
    layer, x, memory = (
        MultiheadAttention(12, 3).to(device),
        Tensor(X, device=device),
        Tensor(MEMORY, device=device),
    )
    assert layer(x, memory).shape == (B, T, 12)
    assert layer.weights(x, memory).shape == (B, 3, T, S)


def test_each_head_works_on_its_own_part_of_the_width():
    layer = MultiheadAttention(12, 3).to("float64")
    x, part = Tensor(X.astype(float)), slice(4, 8)  # head 1 of 3
    rows = [layer.in_proj_weight.numpy()[12 * i : 12 * i + 12][part] for i in range(3)]
    q, k, v = (Tensor(X @ w.T) for w in rows)  # (B, T, 4)
    before = np.zeros((B, T, 12))
    before[..., part] = scaled_dot_product_attention(q, k, v).numpy()
    # heads 0 and 2 return 0, because their values are 0
    layer.in_proj_weight.data[24 : 24 + 4] = 0
    layer.in_proj_weight.data[24 + 8 :] = 0
    np.testing.assert_allclose(
        layer(x).numpy(), layer.out_proj(Tensor(before)).numpy(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_weights_are_probabilities_and_0_where_a_query_may_not_look(device, mask):
    layer = MultiheadAttention(12, 3).to(device)
    w = layer.weights(Tensor(X, device=device), Tensor(MEMORY, device=device), mask).numpy()
    np.testing.assert_allclose(w.sum(axis=-1), 1, rtol=1e-5)
    assert ((w > 0) == (np.ones((T, S), bool) if mask is None else mask)).all()


@pytest.mark.parametrize(
    "options", [{}, {"attn_mask": MASK}, {"is_causal": True}], ids=["all", "mask", "causal"]
)
def test_the_weights_times_the_values_are_the_output(device, options):
    layer, x, memory = (
        MultiheadAttention(12, 3).to(device),
        Tensor(X, device=device),
        Tensor(MEMORY, device=device),
    )
    v = layer.split_heads(layer.project(x, memory, None)[2])
    seen = layer.out_proj(layer.merge_heads(layer.weights(x, memory, **options) @ v))
    np.testing.assert_allclose(
        layer(x, memory, **options).numpy(), seen.numpy(), rtol=1e-4, atol=1e-6
    )


def test_a_width_that_is_not_divisible_by_the_heads_is_refused():
    with pytest.raises(ValueError, match="embed_dim 10 must be divisible by num_heads 4"):
        MultiheadAttention(10, 4)


def test_tokens_of_a_wrong_width_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 4, 10\).*\(36, 12\)"):
        MultiheadAttention(12, 3)(tinycv.ones(2, 4, 10))


def test_without_bias_no_projection_has_one(device):
    layer = MultiheadAttention(12, 3, bias=False).to(device)
    assert {name for name, _ in layer.named_parameters()} == {"in_proj_weight", "out_proj.weight"}
    assert (layer(tinycv.zeros(B, T, 12, device=device)).numpy() == 0).all()


@pytest.mark.statistical
def test_dropout_is_applied_to_the_output_and_only_in_training(device):
    layer, x = MultiheadAttention(12, 3, dropout=0.5).to(device), Tensor(X, device=device)
    dropped, whole = layer(x).numpy(), layer.eval()(x).numpy()
    near(dropped[dropped != 0], 2 * whole[dropped != 0])
    assert 0 < (dropped == 0).mean() < 1


@pytest.mark.parametrize("memory", [[], [MEMORY]], ids=["self", "cross"])
def test_the_layer_is_certified(memory):
    certify_layer(MultiheadAttention(12, 3), X, *memory)
