"""Activations at large inputs and slopes, where a sum of a large and a small number loses the small
one."""

from __future__ import annotations

import numpy as np
import pytest

from tinycv import Tensor
from tinycv.nn.functional import gelu, leaky_relu, silu

FAR = np.float32([-3e38, -1e20, -3e7, -1e3, 1e3, 1e5, 3e7, 1e8, 1e20, 3e38])


def slope(function, x):
    t = Tensor(x, requires_grad=True)
    function(t).sum().backward()
    return t.grad.numpy()


def test_the_slope_of_silu_is_0_far_below_0_and_1_far_above():
    assert np.array_equal(slope(silu, FAR), FAR > 0)


def test_the_slope_of_silu_is_one_half_at_0_and_at_the_smallest_numbers():
    """There y / x, from which the kernel computes σ(x), is 0 / 0 or has lost its digits."""
    x = np.float32([0, -0.0, 1e-45, -3e-45, 1e-38, 1])
    np.testing.assert_allclose(slope(silu, x)[:-1], 0.5, rtol=1e-6)


def test_the_slope_of_silu_is_nan_only_where_x_is_not_finite():
    x = np.float32([np.nan, np.inf, -np.inf, 3, -3])
    assert np.isnan(slope(silu, x)).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("function", [silu, gelu, leaky_relu])
def test_the_slope_of_an_entry_does_not_depend_on_the_others(function):
    """A long array is cut into blocks, and what lies in the block of an entry depends on the number
    of cores."""
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for other in (0, np.nan, 3e38):
        with_other = np.append(np.float32(other), x[1:])
        assert np.array_equal(slope(function, with_other)[1:], slope(function, x)[1:])


@pytest.mark.parametrize("negative_slope", [-1e20, -1e8, -1.0, 0.0, 0.01, 1.0, 1e8, 1e20])
def test_the_slope_of_leaky_relu_above_0_is_1_whatever_it_is_below_0(negative_slope):
    found = slope(lambda x: leaky_relu(x, negative_slope), np.float32([-1, 1]))
    assert np.allclose(found, [negative_slope, 1], rtol=1e-6)


def test_gelu_by_tanh_does_not_overflow_where_its_result_does_not():
    with np.errstate(over="ignore"):  # of x³, which is an infinity that tanh takes
        assert np.array_equal(gelu(FAR, "tanh"), np.maximum(FAR, 0))
