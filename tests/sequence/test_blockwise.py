"""Blockwise attention: the values and gradients of the definition, for any block size, in little
memory."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import Tensor
from tinycv.certificate.cases import cases
from tinycv.engine import blocks as threads
from tinycv.engine.check import agree, compare
from tinycv.engine.fused import PAIRS
from tinycv.sequence import attention, blockwise, scaled_dot_product_attention

PAIR = PAIRS["scaled_dot_product_attention"]
RNG = np.random.default_rng(0)


SIZES = [(2, 3), (3, 2), (1, 1), (100, 2), (4, 100)]


@pytest.fixture(params=SIZES, ids=str)
def blocks(request, monkeypatch):
    """Makes attention run in blocks at every size, and makes the blocks tiny."""
    for name in ("CPU_LARGE", "GPU_LARGE"):
        monkeypatch.setattr(attention, name, -1)
    for name in ("CPU_BLOCK", "GPU_BLOCK"):
        monkeypatch.setattr(blockwise, name, request.param)


def draw(*shape):
    return RNG.normal(size=shape)


def each_causal_or_not(things):
    """(thing, is_causal, blocks): each thing with and without a causal mask, and with alternating
    block sizes, so that each size meets both."""
    return [
        (thing, is_causal, SIZES[(2 * i + is_causal) % len(SIZES)])
        for i, thing in enumerate(things)
        for is_causal in (False, True)
    ]


@pytest.mark.parametrize(
    "device, dtype, blocks",
    [("cpu", dtype, size) for dtype in ("float32", "float64") for size in SIZES]
    + [
        ("gpu", "float32", (2, 3)),
        ("gpu", "float64", (3, 2)),
        ("gpu", "float64", (100, 2)),
        ("gpu", "float32", (4, 100)),
    ],
    ids=str,
    indirect=["device", "blocks"],
)
def test_blockwise_attention_equals_the_definition_in_every_case(dtype, device, blocks):
    for kernel, definition in zip(cases(PAIR.name), cases(PAIR.name, PAIR.definition), strict=True):
        inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in kernel.inputs]
        agree(kernel.call, definition.call, *inputs, name="blockwise", device=device)


SHAPES = {
    "T is not S": ((2, 2, 7, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
    "values are wider": ((1, 2, 5, 3), (1, 2, 7, 3), (1, 2, 7, 6)),
    "no heads": ((5, 3), (4, 3), (4, 2)),
    "one head": ((3, 5, 3), (3, 6, 3), (3, 6, 3)),
    "no batch": ((0, 2, 5, 3), (0, 2, 5, 3), (0, 2, 5, 3)),
    "shared keys": ((2, 3, 5, 4), (1, 1, 6, 4), (1, 3, 6, 4)),
}


@pytest.mark.parametrize(
    "device, label, is_causal, blocks",
    [("cpu", label, *others) for label, *others in each_causal_or_not(SHAPES)]
    + [
        ("gpu", "shared keys", True, (3, 2)),
        ("gpu", "T is not S", True, (4, 100)),
        ("gpu", "no heads", True, (1, 1)),
        ("gpu", "no batch", False, (2, 3)),
        ("gpu", "one head", False, (100, 2)),
        ("gpu", "values are wider", False, (2, 3)),
    ],
    ids=str,
    indirect=["device", "blocks"],
)
def test_blockwise_attention_is_certified_for_many_shapes(label, is_causal, device, blocks):
    inputs = [draw(*shape) for shape in SHAPES[label]]
    assert compare(PAIR, *inputs, device=device, is_causal=is_causal) < 1e-12


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("label", SHAPES)
def test_blockwise_attention_equals_the_definition_for_many_shapes(
    label, is_causal, device, blocks
):
    agree(
        partial(PAIR, is_causal=is_causal),
        partial(PAIR.definition, is_causal=is_causal),
        *[draw(*shape) for shape in SHAPES[label]],
        device=device,
    )


@pytest.mark.parametrize(
    "shape, is_causal, blocks",
    each_causal_or_not([(7, 5), (1, 5), (7, 1), (2, 1, 7, 5), (2, 3, 1, 5), (1, 3, 7, 5), (1, 1)]),
    ids=str,
    indirect=["blocks"],
)
def test_a_mask_of_any_shape_that_broadcasts_works_in_blocks(shape, is_causal, device, blocks):
    mask = RNG.random(shape) > 0.5
    # the first query of each mask may look nowhere (all queries, if the mask has one row)
    mask[..., 0, :] = False
    q, k, v = draw(2, 3, 7, 4), draw(2, 3, 5, 4), draw(2, 3, 5, 4)
    agree(
        lambda *x: PAIR(*x, mask, is_causal),
        lambda *x: PAIR.definition(*x, mask, is_causal),
        q,
        k,
        v,
        device=device,
    )


def test_a_query_that_may_look_nowhere_gets_zeros_and_no_gradient_in_blocks(device, blocks):
    q, k, v = (Tensor(draw(1, 2, n, 4), device=device, requires_grad=True) for n in (3, 5, 5))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    y = PAIR(q, k, v, mask)
    dq, dk, dv = (g.numpy() for g in tinycv.grad((y + 1.0).sum(), (q, k, v)))
    assert (y.numpy()[:, :, 1] == 0).all() and (dq[:, :, 1] == 0).all() and dq.any()
    assert all(np.isfinite(g).all() for g in (dq, dk, dv))


def test_strided_inputs_work_and_stay_unchanged(device, blocks):
    inputs = [draw(2, 7, 3, 8).swapaxes(1, 2)[..., ::2] for _ in range(3)]
    copies = [x.copy() for x in inputs]
    agree(PAIR, PAIR.definition, *inputs, device=device)
    assert all((x == c).all() for x, c in zip(inputs, copies, strict=True))


def test_the_pull_of_blockwise_attention_can_be_called_twice_and_leaves_g_unchanged(blocks):
    q, k, v, g = (draw(2, 5, 4) for _ in range(4))
    before = g.copy()
    _, pull = blockwise.blockwise(np, q, k, v)
    # the gradients of q, k and v; there is no mask to learn
    for once, again in zip(pull(g)[:3], pull(g)[:3], strict=True):
        assert (once == again).all()
    assert (g == before).all()


def test_scores_of_ten_thousand_stay_finite_in_blocks(device, blocks):
    q, k, v = 1e4 * draw(1, 2, 3, 4), draw(1, 2, 5, 4), draw(1, 2, 5, 4)
    agree(PAIR, PAIR.definition, q, k, v, device=device, rtol=1e-9)


def test_blocks_of_the_real_size_agree_with_storing_all_scores(monkeypatch):
    q, k, v = (draw(2, n, 8).astype(np.float32) for n in (700, 1100, 1100))
    monkeypatch.setattr(attention, "CPU_LARGE", -1)
    for is_causal in (False, True):
        agree(
            partial(PAIR, is_causal=is_causal),
            partial(PAIR.definition, is_causal=is_causal),
            q,
            k,
            v,
        )


@pytest.mark.parametrize("is_causal", [False, True])
def test_two_cores_compute_what_one_core_computes(monkeypatch, is_causal):
    q, k, v, g = np.random.default_rng(0).standard_normal((4, 1, 3, 600, 8))
    results = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        monkeypatch.setattr(threads.Helpers, "current", None)
        y, pull = blockwise.blockwise(np, q, k, v, is_causal=is_causal)
        results.append([y, *pull(g)[:3]])
    for one, two in zip(*results, strict=True):
        assert np.allclose(one, two, rtol=1e-12, atol=1e-12)


def test_batch_parts_cover_the_batch_without_gaps_or_overlaps():
    for lead in ((), (5,), (3, 4), (2, 3, 4), (0, 3)):
        for most in (0, 1, 2, 5, 7, 100):
            seen = np.zeros(lead, int)
            for part in blockwise.batch_parts(lead, most):
                seen[part] += 1
                assert seen[part].size <= max(1, most)
            assert (seen == 1).all()


def test_memory_grows_with_the_tokens_and_not_with_their_square():
    leaves = [Tensor(draw(2050, 8).astype(np.float32), requires_grad=True) for _ in range(3)]
    mask = np.ones((1, 2050), bool)
    tracemalloc.start()
    try:
        scaled_dot_product_attention(*leaves, mask, is_causal=True).sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20 < 2050 * 2050 * 4, peak  # scores of all pairs: 16 MB


def test_blockwise_attention_in_float16_sums_in_float32(device, blocks):
    """300 values of 400: float16 cannot hold their sum, but it can hold their mean."""
    arrays = np.zeros((1, 1, 2, 4)), np.zeros((1, 1, 300, 4)), np.full((1, 1, 300, 4), 400.0)
    leaves = [Tensor(a.astype(np.float16), requires_grad=True, device=device) for a in arrays]
    y = scaled_dot_product_attention(*leaves)
    y.sum().backward()
    assert (y.numpy() == 400).all()
    near(leaves[2].grad.numpy(), np.full((1, 1, 300, 4), 2 / 300), rtol=1e-2)
