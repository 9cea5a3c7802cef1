"""Reductions for kernels, at the speed of a matrix product.

NumPy adds along an axis on one core and, where the axis is short, mostly pays for starting over at each row.  A
product with a vector of ones is the same sum by BLAS, several times faster at the sizes of a Transformer
(benchmarks/ops.py).  CuPy's own reductions are good, and are left alone.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np


@lru_cache(maxsize=64)
def _ones(n: int, char: str) -> np.ndarray:
    return np.ones(n, char)


def as_rows(a: Any) -> Any:
    """(..., D) -> (N, D). Not reshape(-1, D), which cannot tell N where D is 0."""
    return a.reshape(prod(a.shape[:-1]), a.shape[-1])


def sum_last(xp: Any, a: Any) -> Any:
    """Sum over the last axis: (..., D) -> (..., 1)."""
    if xp is not np or a.dtype.kind != "f":
        return a.sum(axis=-1, keepdims=True)
    return (as_rows(a) @ _ones(a.shape[-1], a.dtype.char)).reshape(*a.shape[:-1], 1)


def dot_last(xp: Any, a: Any, b: Any) -> Any:
    """Sum of a * b over the last axis, without the product in memory: (..., D), (..., D) -> (..., 1)."""
    if xp is not np:
        return (a * b).sum(axis=-1, keepdims=True)
    if a.shape[-1] < 64:                                            # vecdot starts BLAS anew for each row
        return np.einsum("...i,...i->...", a, b)[..., None]
    return np.vecdot(a, b)[..., None]


def sum_rows(xp: Any, a: Any) -> Any:
    """Sum over the first axis: (N, D) -> (D,)."""
    return a.sum(axis=0) if xp is not np or a.dtype.kind != "f" else _ones(len(a), a.dtype.char) @ a


def max_last(xp: Any, a: Any) -> Any:
    """Maximum over the last axis: (..., D) -> (..., 1). Short rows are laid out as columns first: then one instruction
    compares many rows, where NumPy would otherwise start over at each."""
    if xp is not np or not 0 < a.shape[-1] <= 32:
        return a.max(axis=-1, keepdims=True)
    return np.ascontiguousarray(as_rows(a).T).max(axis=0).reshape(*a.shape[:-1], 1)
