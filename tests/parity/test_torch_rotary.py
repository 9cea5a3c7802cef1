"""Rotary positions compared with a multiplication of complex numbers in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree

from tinycv.sequence import grid_positions, rotary

X = np.random.default_rng(0).normal(size=(2, 3, 12, 10))
GRID = grid_positions((3, 2, 2))


def complex_rotary(x, positions, shares, base):
    """x (B, H, T, D) as complex numbers times phases, written with torch alone. shares: pairs of
    each axis."""
    angles = []
    for axis, pairs in enumerate(shares):
        frequencies = base ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        angles.append(torch.outer(torch.tensor(positions[:, axis]), frequencies))
    phases = torch.polar(torch.ones(len(positions), sum(shares)).double(), torch.cat(angles, 1))
    numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(numbers * phases.to(numbers.dtype)).flatten(-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_one_axis_equals_a_complex_multiplication(dtype, base):
    positions = np.arange(12.0)[:, None]
    agree(
        lambda x: rotary(x, positions[:, 0], base),
        lambda x: complex_rotary(x, positions, [5], base),
        [X],
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_three_axes_equal_a_complex_multiplication(dtype):
    agree(
        lambda x: rotary(x, GRID, 100.0),
        lambda x: complex_rotary(x, GRID, [2, 2, 1], 100.0),
        [X],
        dtype,
    )
