"""erf compared with math.erf, that of the C library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinycv.engine import backend
from tinycv.engine.erf import _BLOCK, erf, normal_cdf

GRID = np.concatenate(
    [
        np.linspace(-7, 7, 40_001),
        np.geomspace(1e-300, 1e300, 4001),
        [0.46875, 4.0, 6.0],
        np.nextafter(0.46875, [0, 1]),
    ]
)
GRID32 = np.concatenate([np.linspace(-5, 5, 200_001), np.geomspace(1e-36, 1e38, 4001)]).astype(
    np.float32
)


def exact(x):
    return np.array([math.erf(value) for value in x.ravel().tolist()]).reshape(x.shape)


def test_float64_is_right_to_1e_15_relative():
    true = exact(GRID)
    assert np.abs(erf(GRID) - true).max() <= 1e-15
    assert (np.abs(erf(GRID) - true) <= 1e-15 * np.abs(true)).all()


def test_float32_is_right_to_2e_7_absolute_and_3e_7_relative():
    error, true = np.abs(erf(GRID32).astype(np.float64) - exact(GRID32)), np.abs(exact(GRID32))
    assert error.max() < 2e-7
    assert (error <= 3e-7 * true).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_zeros_and_nan_are_exact_and_silent(dtype):
    with np.errstate(all="raise"):
        y = erf(np.array([np.inf, -np.inf, 0.0, -0.0, np.nan], dtype))
    assert y[:2].tolist() == [1, -1]
    assert (y[2:4] == 0).all()
    assert np.signbit(y[2:4]).tolist() == [False, True]
    assert np.isnan(y[4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_never_leaves_minus_one_to_one_and_is_odd(dtype):
    x = np.linspace(0, 10, 100_001, dtype=dtype)
    assert erf(x).max() == 1
    assert (erf(-x) == -erf(x)).all()


@pytest.mark.parametrize("size", [0, 1, _BLOCK - 1, _BLOCK, _BLOCK + 1, 2 * _BLOCK + 7])
def test_the_result_does_not_depend_on_the_blocks(size):
    x = np.linspace(-3, 3, size, dtype=np.float32)
    whole = erf(x)
    assert whole.shape == (size,)
    assert (whole == [erf(value)[()] for value in x[:50]] + whole[50:].tolist()).all()
    assert (whole[-50:] == erf(x[-50:])).all()


@pytest.mark.parametrize("shape", [(), (0, 3), (4, 1, 5)])
def test_the_shape_is_kept(shape):
    assert erf(np.ones(shape, np.float32)).shape == shape


def test_a_strided_view_gives_the_same_result_and_is_not_changed():
    x = np.linspace(-3, 3, 60).reshape(6, 10)
    view, before = x[::2, ::-3].T, x.copy()
    assert (erf(view) == erf(view.copy())).all()
    assert (x == before).all()


KINDS = {
    "float16": "float16",
    "float32": "float32",
    "float64": "float64",
    "int64": "float64",
    "bool": "float64",
}


@pytest.mark.parametrize(("given", "got"), KINDS.items())
def test_floats_keep_their_dtype_and_other_numbers_become_float64(given, got):
    assert erf(np.ones(3, given)).dtype == got


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="it must hold real numbers"):
        erf(np.ones(2, complex))


def test_every_device_has_erf(device):
    x = backend.to_device(np.linspace(-3, 3, 101, dtype=np.float32), device)
    y = backend.erf(backend.array_module(x), x)
    assert backend.device_of(y) == device
    assert np.abs(backend.to_numpy(y) - exact(backend.to_numpy(x))).max() < 2e-7


@pytest.mark.parametrize("dtype, bound", [(np.float32, 2e-7), (np.float64, 1e-15)])
def test_the_normal_distribution_function_is_right(dtype, bound):
    x = np.concatenate([np.linspace(-9, 9, 20_001), [-1e30, -1e4, 1e4, 1e30]]).astype(dtype)
    true = np.array([0.5 * math.erfc(-value * 0.5**0.5) for value in x.astype(np.float64).tolist()])
    with np.errstate(all="raise", under="ignore"):
        assert np.abs(normal_cdf(x) - true).max() <= bound
        assert np.abs(x * normal_cdf(x) - x * true)[:-4].max() <= 6 * bound  # GELU
        assert (x * normal_cdf(x))[-4:].tolist() == [0, 0, x[-2], x[-1]]
