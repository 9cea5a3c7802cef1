"""GELU's float32 kernel on a CPU, compared with math.erfc of the C library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinycv.nn.gelu_kernel import FAR, gelu32, gelu32_pull

GRID = np.concatenate([np.linspace(-9, 9, 60_001), np.linspace(-0.3, 0.3, 4001)]).astype(np.float32)


def exact(x):
    x = x.astype(np.float64)
    cdf = np.array([0.5 * math.erfc(-value * 0.5**0.5) for value in x.tolist()])
    return x * cdf, cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def computed(x):
    y, slope = np.empty_like(x), np.empty_like(x)
    gelu32(x, y)
    gelu32_pull(x, y, np.ones_like(x), slope)
    return y, slope


def test_the_value_is_right_to_5e_7_and_the_slope_to_1e_6():
    (y, slope), (true_y, true_slope) = computed(GRID), exact(GRID)
    assert np.abs(y - true_y).max() < 5e-7
    assert np.abs(slope - true_slope).max() < 1e-6


def test_near_0_the_relative_error_of_the_value_is_below_2e_6():
    x = np.geomspace(1e-30, 0.3, 2001).astype(np.float32)
    x = np.concatenate([x, -x])
    assert (np.abs(computed(x)[0] - exact(x)[0]) <= 2e-6 * np.abs(exact(x)[0])).all()


def test_the_slope_is_one_half_at_0_and_at_the_smallest_numbers():
    """There y / x, from which the kernel computes Φ(x), is 0 / 0 or has lost its digits."""
    x = np.float32([0, -0.0, 1e-45, -3e-45, 1e-38, -1e-20, 1e-18, -1e-10])
    np.testing.assert_allclose(computed(x)[1], 0.5, rtol=1e-6)


@pytest.mark.parametrize("far", [20.0, 1e4, 1e38, 3.4e38])
def test_far_from_0_it_is_the_ramp_and_changes_no_other_entry(far):
    x = np.concatenate([GRID, np.float32([far, -far])])
    y, slope = computed(x)
    assert y[-2] == x[-2] and abs(y[-1]) < 1e-30
    assert slope[-2] == 1 and abs(slope[-1]) < 1e-27
    near = np.abs(GRID) < FAR
    assert np.allclose(y[:-2][near], computed(GRID)[0][near], rtol=1e-6, atol=1e-7)


def test_nan_and_infinity_give_what_the_definition_gives():
    y, slope = computed(np.float32([np.nan, np.inf, -np.inf, 1.0]))
    assert np.isnan(y[0]) and y[1] == np.inf and np.isnan(y[2]) and np.isfinite(y[3])
    assert np.isnan(slope[:3]).all() and np.isfinite(slope[3])
