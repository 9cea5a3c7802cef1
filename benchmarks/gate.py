"""The gate: a row whose contenders compute different results gets no figures, because the speed of
a wrong answer is worth nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

RTOL = 1e-4  # relative to the largest magnitude in an array, for float32


class Refused(Exception):
    """Why a row gets no figures."""


def gate(results: dict[str, dict[str, np.ndarray]], rtol: float = RTOL) -> None:
    """Raises Refused unless every contender's outputs and gradients have the same names, shapes,
    dtypes and values as those of the first contender."""
    names = list(results)
    for name in names[1:]:
        problem = disagreement(results[names[0]], results[name], rtol)
        if problem:
            raise Refused(f"{name} disagrees with {names[0]}: {problem}")


def disagreement(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rtol: float) -> str | None:
    if a.keys() != b.keys():
        return f"only one of them has {sorted(a.keys() ^ b.keys())}"
    for name, x in a.items():
        y = b[name]
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"{name} is {y.dtype}{list(y.shape)}, not {x.dtype}{list(x.shape)}"
        largest = np.abs(x).max(initial=0.0)
        difference = np.abs(x - y).max(initial=0.0)
        if not difference <= rtol * largest:  # not ">": a comparison with NaN is false
            return f"{name} differs by {difference:.3g}; the largest value is {largest:.3g}"
    return None


def array_of(value: Any) -> np.ndarray:
    # a PyTorch tensor on a GPU must be copied to the host explicitly
    value = value.cpu() if hasattr(value, "cpu") else value
    # detach and numpy exist in both tinycv and PyTorch
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
