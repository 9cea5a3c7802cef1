"""The reductions of reduce.py equal those of NumPy and CuPy, for every shape and memory layout."""

import numpy as np
import pytest

import tinycv
from tinycv import nn
from tinycv.engine import backend, reduce
from tinycv.engine.backend import array_module, to_device, to_numpy
from tinycv.engine.reduce import (
    as_rows,
    blocks,
    dot_last,
    exp_rows,
    max_last,
    mean_over,
    sum_first,
    sum_last,
    sum_over,
    sum_rows,
    var_over,
)

SHAPES = [(3, 5), (2, 3, 17), (4, 64), (2, 2, 3, 100), (0, 4), (3, 0), (1, 1)]


def arrays(shape, device, dtype):
    """The same numbers in three memory layouts, on the device."""
    rng = np.random.default_rng(0)
    plain = rng.standard_normal(shape).astype(dtype)
    strided = np.repeat(plain, 2, axis=-1)[..., ::2]
    turned = np.ascontiguousarray(plain.swapaxes(0, -1)).swapaxes(0, -1)
    return [(backend.to_device(a, device), plain) for a in (plain, strided, turned)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_and_products_along_the_last_axis_equal_those_of_the_library(shape, dtype, device):
    for a, plain in arrays(shape, device, dtype):
        xp = backend.array_module(a)
        rtol, atol = (1e-5, 1e-5) if dtype == "float32" else (1e-12, 1e-13)
        np.testing.assert_allclose(
            backend.to_numpy(sum_last(xp, a)), plain.sum(-1, keepdims=True), rtol, atol
        )
        np.testing.assert_allclose(
            backend.to_numpy(dot_last(xp, a, a)), (plain * plain).sum(-1, keepdims=True), rtol, atol
        )
        np.testing.assert_allclose(
            backend.to_numpy(sum_rows(xp, as_rows(a))),
            plain.reshape(as_rows(plain).shape).sum(0),
            rtol,
            atol,
        )


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1]], ids=str)
def test_max_last_finds_the_maximum_also_among_infinities(shape, device):
    for a, plain in arrays(shape, device, "float32"):
        plain = np.where(plain < -0.5, -np.inf, plain).astype(np.float32)
        a = backend.to_device(plain, device)
        assert (
            backend.to_numpy(max_last(backend.array_module(a), a)) == plain.max(-1, keepdims=True)
        ).all()


def test_max_last_returns_nan_for_a_row_with_nan():
    a = np.ones((4, 5), np.float32)
    a[1, 2] = np.nan
    for result in (sum_last(np, a), dot_last(np, a, a), max_last(np, a)):
        assert np.isnan(result.ravel()).tolist() == [False, True, False, False]
    assert np.isnan(sum_rows(np, a)).tolist() == [False, False, True, False, False]


# ── exp_rows, with one maximum for all rows if that is enough ────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distance", [0.0, 5.0, 50.0, 1e4])
def test_exp_rows_neither_overflows_nor_loses_a_row_far_below_the_others(distance, dtype, device):
    rows = np.random.default_rng(0).normal(size=(6, 40)).astype(dtype)
    rows[::2] -= np.dtype(dtype).type(distance)
    rows[1] += np.dtype(dtype).type(distance)
    x = to_device(rows, device)
    xp = array_module(x)
    out = xp.empty_like(x)
    total, top = (to_numpy(part) for part in exp_rows(xp, x, out))
    own = rows - rows.max(axis=-1, keepdims=True)
    true = np.exp(own.astype(np.float64))
    shares = true / true.sum(axis=-1, keepdims=True)
    assert np.allclose(
        to_numpy(out) / total, shares, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-30
    )
    assert np.allclose(
        np.log(total) + top,
        rows.max(-1, keepdims=True) + np.log(true.sum(-1, keepdims=True)),
        rtol=1e-6,
    )


def test_a_nan_in_exp_rows_affects_only_its_row():
    x = np.array([[1.0, np.nan], [1.0, 1.0]])
    total, _ = exp_rows(np, x, np.empty_like(x))
    assert np.isnan(total[0, 0]) and total[1, 0] == 2


def test_blocks_contain_every_row_once(device):
    xp = array_module(to_device(np.zeros(1), device))
    for rows, width in ((0, 3), (1, 1), (10, 0), (reduce.BLOCK * 2 + 5, 1), (7, reduce.BLOCK * 2)):
        cut = blocks(xp, rows, width)
        assert [i for s in cut for i in range(rows)[s]] == list(range(rows))
        assert xp is np or len(cut) <= 1, "a block is a launch"


# ── long sums: along an axis that is not contiguous, NumPy adds one term after the other ─────────

LAYOUTS = {
    "plain": lambda a: a,
    "columns": lambda a: np.asfortranarray(a),
    "gaps": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1, ..., ::-1],
    "turned": lambda a: np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1),
    "one row": lambda a: np.broadcast_to(a[:1], a.shape),
    "one number": lambda a: np.broadcast_to(a.ravel()[0], a.shape),
}
LONG_AXES = [
    ((3000, 2), 0),
    ((3000, 2), None),
    ((2, 3000), -1),
    ((2, 3000, 3), 1),
    ((40, 30, 50, 2), (0, 2)),
    ((40, 30, 50, 2), (2, 1, -4)),
    ((40, 30, 50, 2), (0, 3)),
    ((1, 5000, 1, 3), (0, 1, 2)),
    ((1500, 0), 0),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape, axis", LONG_AXES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_long_sums_means_and_variances_agree_with_float64_in_every_layout(
    shape, axis, layout, dtype
):
    rng = np.random.default_rng(0)
    a = (
        LAYOUTS[layout]((rng.random(shape) + 0.5).astype(dtype))
        if np.prod(shape)
        else np.zeros(shape, dtype)
    )
    exact, rtol = a.astype("float64"), {"float16": 1e-3, "float32": 1e-5, "float64": 1e-12}[dtype]
    for keepdims in (False, True):
        # The sum may exceed the range of float16.
        with np.errstate(over="ignore"):
            total = sum_over(np, a, axis, keepdims)
            assert total.dtype == dtype
            np.testing.assert_allclose(
                total, exact.sum(axis=axis, keepdims=keepdims).astype(dtype), rtol
            )
        if a.size:
            np.testing.assert_allclose(
                mean_over(np, a, axis, keepdims), exact.mean(axis=axis, keepdims=keepdims), rtol
            )
            y = var_over(np, a, axis, 1, keepdims)
            assert y.dtype == dtype
            np.testing.assert_allclose(
                y, exact.var(axis=axis, ddof=1, keepdims=keepdims), 10 * rtol, 1e-7
            )


@pytest.mark.parametrize("n", [0, 1, reduce.TERMS, reduce.TERMS + 1, 2 * reduce.TERMS, 70001])
@pytest.mark.parametrize("beside", [(), (1,), (3,), (2, 5)], ids=str)
def test_the_blockwise_sum_of_rows_counts_every_row_once(n, beside):
    a = np.random.default_rng(0).integers(-8, 9, size=(n, *beside)).astype("float64")
    assert (sum_first(a) == a.sum(axis=0)).all() and np.shape(sum_first(a)) == beside


@pytest.mark.parametrize("axis", [2, -3, (0, 2), (0, 0), (0, -2), "0", 1.0, (0, 1.0)], ids=repr)
def test_a_long_sum_over_axes_that_do_not_exist_is_refused(axis):
    with pytest.raises((ValueError, TypeError), match="sum: axis is "):
        tinycv.tensor(np.ones((2000, 2), np.float32)).sum(axis=axis)


MILLION, TENTH = 1_000_000, float(np.float32(0.1))
SUMS = {
    "sum": (lambda x: x.sum(axis=0), MILLION * TENTH),
    "mean": (lambda x: x.mean(axis=0), TENTH),
    "mean of pictures": (lambda x: x.reshape((100, 100, 100, 2)).mean(axis=(0, 1, 2)), TENTH),
    "of some columns": (lambda x: x[:, :1].sum(), MILLION * TENTH),
    "norm": (lambda x: x.norm(axis=0), 1000 * TENTH),
    "logsumexp": (lambda x: tinycv.exp(x.logsumexp(axis=0)), MILLION * np.exp(TENTH)),
    "cumsum": (lambda x: x.cumsum(0)[-1], MILLION * TENTH),
    "einsum": (lambda x: tinycv.einsum("ij->j", x), MILLION * TENTH),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_of_a_million_equal_floats_is_accurate(name):
    make, true = SUMS[name]
    y = make(tinycv.tensor(np.full((MILLION, 2), 0.1, np.float32)))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy().astype("float64"), true, rtol=1e-5)


@pytest.mark.parametrize("name", ["var", "std"])
def test_the_variance_of_a_million_floats_far_from_zero_agrees_with_float64(name):
    a = (np.random.default_rng(0).normal(size=(MILLION, 2)) * 0.01 + 3).astype(np.float32)
    y = getattr(tinycv.tensor(a), name)(axis=0).numpy()
    np.testing.assert_allclose(y, getattr(a.astype("float64"), name)(axis=0), rtol=1e-5)


def gradients_of(layer, shape):
    """The gradients of a layer's parameters, if each of a million rows contributes 0.1."""
    y = layer(tinycv.tensor(np.resize(np.array([-1, 1], np.float32), shape)))
    y.backward(tinycv.tensor(np.full(y.shape, 0.1, np.float32)))
    return {name: p.grad.numpy() for name, p in layer.named_parameters()}


LAYERS = {
    "linear": (lambda: nn.Linear(2, 2), (MILLION, 2)),
    "layer norm": (lambda: nn.LayerNorm(2), (MILLION, 2)),
    "group norm": (lambda: nn.GroupNorm(1, 2), (1, 2, 1000, 1000)),
    "group norm of many": (lambda: nn.GroupNorm(2, 2), (MILLION // 4, 2, 4)),
    "batch norm": (lambda: nn.BatchNorm2d(2), (1, 2, 1000, 1000)),
    "conv": (lambda: nn.Conv2d(2, 2, 1), (1, 2, 1000, 1000)),
    "transposed conv": (lambda: nn.ConvTranspose2d(2, 2, 1), (1, 2, 1000, 1000)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_a_bias_shared_by_a_million_rows_is_accurate(name):
    make, shape = LAYERS[name]
    np.testing.assert_allclose(gradients_of(make(), shape)["bias"], MILLION * TENTH, rtol=1e-5)


def test_the_gradients_of_a_broadcast_row_and_of_a_long_cumsum_are_accurate():
    row, x = (
        tinycv.tensor(np.zeros(2, np.float32), requires_grad=True),
        np.full((MILLION, 2), 0.1, np.float32),
    )
    (tinycv.tensor(x) + row).backward(tinycv.tensor(x))
    np.testing.assert_allclose(row.grad.numpy(), MILLION * TENTH, rtol=1e-5)
    first = tinycv.tensor(x, requires_grad=True)
    first.cumsum(0).backward(tinycv.tensor(x))
    np.testing.assert_allclose(first.grad.numpy()[0], MILLION * TENTH, rtol=1e-5)


# ── standard deviations of numbers whose squares exceed the range of their dtype ─────────────────


@pytest.mark.parametrize(
    "unit, dtype",
    [
        (1e-23, "float32"),
        (1e-37, "float32"),
        (1e20, "float32"),
        (1e37, "float32"),
        (1e-200, "float64"),
        (1e200, "float64"),
        (1.0, "float32"),
    ],
)
@pytest.mark.parametrize("axis", [None, 1])
def test_std_and_its_gradient_work_at_any_scale(unit, dtype, axis, device):
    x = tinycv.tensor(
        np.array([[1, 2], [1, 2]], dtype) * np.dtype(dtype).type(unit),
        requires_grad=True,
        device=device,
    )
    y = x.std(axis=axis)
    y.sum().backward()
    np.testing.assert_allclose(y.numpy() / unit, 0.5, rtol=1e-5)
    n = 4 if axis is None else 2
    np.testing.assert_allclose(x.grad.numpy(), np.array([[-1, 1], [-1, 1]]) / n, rtol=1e-5)
