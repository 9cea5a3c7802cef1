"""The kernels' reductions equal the array library's own, on every shape and layout."""

import numpy as np
import pytest

from tinycv.engine import backend, reduce
from tinycv.engine.backend import array_module, to_device, to_numpy
from tinycv.engine.reduce import (
    as_rows,
    blocks,
    dot_last,
    exp_rows,
    flat,
    lie,
    max_last,
    shaped,
    sum_last,
    sum_rows,
)

SHAPES = [(3, 5), (2, 3, 17), (4, 64), (2, 2, 3, 100), (0, 4), (3, 0), (1, 1)]


def arrays(shape, device, dtype):
    """The same numbers in three layouts, on the device."""
    rng = np.random.default_rng(0)
    plain = rng.standard_normal(shape).astype(dtype)
    strided = np.repeat(plain, 2, axis=-1)[..., ::2]
    turned = np.ascontiguousarray(plain.swapaxes(0, -1)).swapaxes(0, -1)
    return [(backend.to_device(a, device), plain) for a in (plain, strided, turned)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_and_products_along_the_last_axis_are_the_librarys(shape, dtype, device):
    for a, plain in arrays(shape, device, dtype):
        xp = backend.array_module(a)
        rtol, atol = (1e-5, 1e-5) if dtype == "float32" else (1e-12, 1e-13)
        np.testing.assert_allclose(backend.to_numpy(sum_last(xp, a)), plain.sum(-1, keepdims=True), rtol, atol)
        np.testing.assert_allclose(backend.to_numpy(dot_last(xp, a, a)), (plain * plain).sum(-1, keepdims=True), rtol, atol)
        np.testing.assert_allclose(backend.to_numpy(sum_rows(xp, as_rows(a))), plain.reshape(as_rows(plain).shape).sum(0),
                                   rtol, atol)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1]], ids=str)
def test_the_largest_of_a_row_is_found_also_among_infinities(shape, device):
    for a, plain in arrays(shape, device, "float32"):
        plain = np.where(plain < -0.5, -np.inf, plain).astype(np.float32)
        a = backend.to_device(plain, device)
        assert (backend.to_numpy(max_last(backend.array_module(a), a)) == plain.max(-1, keepdims=True)).all()


def test_a_nan_is_not_lost():
    a = np.ones((4, 5), np.float32)
    a[1, 2] = np.nan
    for result in (sum_last(np, a), dot_last(np, a, a), max_last(np, a)):
        assert np.isnan(result.ravel()).tolist() == [False, True, False, False]
    assert np.isnan(sum_rows(np, a)).tolist() == [False, False, True, False, False]


# ── exp of rows, with one maximum for all of them where that does ────────────────────────────────────

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("apart", [0.0, 5.0, 50.0, 1e4])
def test_exp_rows_neither_overflows_nor_loses_a_row_that_lies_far_below(apart, dtype, device):
    rows = np.random.default_rng(0).normal(size=(6, 40)).astype(dtype)
    rows[::2] -= np.dtype(dtype).type(apart)
    rows[1] += np.dtype(dtype).type(apart)
    x = to_device(rows, device)
    xp = array_module(x)
    out = xp.empty_like(x)
    total, top = (to_numpy(part) for part in exp_rows(xp, x, out))
    own = rows - rows.max(axis=-1, keepdims=True)
    true = np.exp(own.astype(np.float64))
    shares = true / true.sum(axis=-1, keepdims=True)
    assert np.allclose(to_numpy(out) / total, shares, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-30)
    assert np.allclose(np.log(total) + top, rows.max(-1, keepdims=True) + np.log(true.sum(-1, keepdims=True)), rtol=1e-6)


def test_exp_rows_passes_nan_on_and_only_in_its_row():
    x = np.array([[1.0, np.nan], [1.0, 1.0]])
    total, _ = exp_rows(np, x, np.empty_like(x))
    assert np.isnan(total[0, 0]) and total[1, 0] == 2


def test_blocks_cut_all_rows_once(device):
    xp = array_module(to_device(np.zeros(1), device))
    for rows, width in ((0, 3), (1, 1), (10, 0), (reduce.BLOCK * 2 + 5, 1), (7, reduce.BLOCK * 2)):
        cut = blocks(xp, rows, width)
        assert [i for s in cut for i in range(rows)[s]] == list(range(rows))
        assert xp is np or len(cut) <= 1, "a block is a launch"


@pytest.mark.parametrize("shape, axes", [((), ()), ((3,), (0,)), ((2, 3, 4, 5), (0, 3, 1, 2)), ((2, 0, 3), (2, 0, 1)),
                                         ((1, 4, 1), (1, 2, 0))])
def test_what_is_flattened_as_it_lies_is_not_copied_and_gets_its_shape_back(shape, axes, device):
    x = to_device(np.arange(float(np.prod(shape))).reshape(shape), device).transpose(axes)
    order = lie(x)
    assert (to_numpy(shaped(flat(x, order), x, order)) == to_numpy(x)).all()
    assert device != "cpu" or np.shares_memory(flat(x, order), x) or not x.size
