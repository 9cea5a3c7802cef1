"""The double of CuPy behaves like CuPy: 0-d results, shared memory, wrapping indices; and it counts
every wait for the device."""

from __future__ import annotations

import pickle
import sys

import cupy_double
import numpy as np
import pytest
from cupy_double import counting

HOST = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def x(cp):
    return cp.asarray(HOST)


# ── Shapes, views, indices ────────────────────────────────────────────────────────────────────────


def test_reductions_and_full_indexing_return_0_d_arrays(cp, x):
    results = (
        x.sum(),
        cp.max(x),
        x.mean(),
        x[0, 0],
        x[0][1],
        x.argmax(),
        cp.linalg.norm(x),
        x.sum() * 2,
    )
    for result in results:
        assert type(result) is cp.ndarray
        assert result.shape == ()


def test_a_view_shares_memory_and_knows_its_base(x):
    row, transposed, point = x[0], x.reshape(3, 2).T, x[1, 2]
    row += 10
    point[...] = -1
    assert row.base is transposed.base is point.base is x
    assert x.tolist() == [[10, 11, 12], [3, 4, -1]]
    assert x.base is None
    assert x[[0, 1]].base is None


def test_an_index_array_out_of_range_wraps(cp, x):
    assert x[cp.asarray([2, -3])].tolist() == x[[0, 1]].tolist()
    assert x[0, cp.asarray([3, 4])].tolist() == [0, 1]
    assert cp.take(x, cp.asarray([5]), axis=0).tolist() == x[[1]].tolist()
    x[cp.asarray([3])] = 0
    assert x[1].tolist() == [0, 0, 0]


def test_a_python_index_out_of_range_raises(x):
    with pytest.raises(IndexError):
        x[2]


def test_a_numpy_integer_array_is_accepted_as_an_index(x):
    assert x[np.array([1, 1]), np.array([0, 2])].tolist() == [3, 5]


def test_out_must_be_an_array_of_the_double_and_is_returned(cp, x):
    out = cp.empty_like(x)
    assert cp.exp(x, out=out) is out
    assert cp.sum(x, axis=0, out=out[0]).tolist() == out[0].tolist() == [3, 5, 7]
    assert cp.matmul(x, x.T, out=cp.empty((2, 2), "float32")).tolist() == (HOST @ HOST.T).tolist()
    with pytest.raises(TypeError):
        cp.exp(x, out=HOST.copy())


def test_in_place_operators_keep_object_and_dtype(x):
    same = x
    same *= 2
    same -= np.float64(1)
    assert same is x
    assert x.dtype == np.float32
    assert x[0].tolist() == [-1, 1, 3]


def test_arrays_survive_pickle(x):
    assert pickle.loads(pickle.dumps(x)).tolist() == HOST.tolist()


# ── waits ─────────────────────────────────────────────────────────────────────────────────────────

WAITS = {
    "float": lambda cp, x: float(x.sum()),
    "int": lambda cp, x: int(x.argmax()),
    "bool": lambda cp, x: bool(x.any()),
    "item": lambda cp, x: x.sum().item(),
    "get": lambda cp, x: x.get(),
    "asnumpy": lambda cp, x: cp.asnumpy(x),
    "tolist": lambda cp, x: x.tolist(),
    "mask": lambda cp, x: x[x > 0],
    "nonzero": lambda cp, x: x.nonzero(),
    "flatnonzero": lambda cp, x: cp.flatnonzero(x),
    "argwhere": lambda cp, x: cp.argwhere(x),
    "unique": lambda cp, x: cp.unique(x),
    "where of one": lambda cp, x: cp.where(x),
    "repr": lambda cp, x: repr(x),
    "format": lambda cp, x: f"{x.sum():.3f}",
    "device": lambda cp, x: x.device.synchronize(),
    "stream": lambda cp, x: cp.cuda.Stream.null.synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_each_wait_is_counted_once(cp, x, name):
    before = cp.synchronisations
    with counting() as waits:
        WAITS[name](cp, x)
    assert waits.count == cp.synchronisations - before == 1


def test_pure_device_work_never_waits(cp, x):
    with counting() as waits:
        y = cp.where(x > 2, x, 0.0) @ x.T
        y[y > 3] = 0
        y = (y - y.max(axis=-1, keepdims=True)).sum() * 2
        x[cp.asarray([0, 1])] += y
    assert waits.count == 0


# ── installing ────────────────────────────────────────────────────────────────────────────────────


def cupy_modules():
    return {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] in ("cupy", "cupyx")
    }


def test_uninstalling_restores_what_was_there():
    before = cupy_modules()
    for cause in (None, *cupy_double.CAUSES):
        cupy_double.install(cause)
        cupy_double.uninstall()
    assert cupy_modules() == before


def test_an_unknown_cause_is_refused():
    with pytest.raises(ValueError, match="choose from"):
        cupy_double.install("moon phase")
