"""cuBLAS for the double of CuPy: products in the host's memory, stored by columns as in cuBLAS."""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np

from .world import WORLD

TYPES = {2: np.float16, 0: np.float32, 1: np.float64}  # CUDA_R_16F, _32F, _64F
# CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
SUMS = {68: np.float32, 77: np.float32, 70: np.float64}
DEFAULT, TF32 = 1, 7  # CuPy's compute types


def memory(address: int, kind: int, entries: int) -> np.ndarray:
    """Consecutive entries from an address on."""
    dtype = np.dtype(TYPES[kind])
    return np.frombuffer((ctypes.c_char * (entries * dtype.itemsize)).from_address(address), dtype)


def columns(
    address: int, kind: int, rows: int, cols: int, down: int, step: int, count: int
) -> np.ndarray:
    """(count, rows, cols): matrices that begin ``step`` entries apart, with columns that begin
    ``down`` entries apart."""
    if down < max(1, rows):
        raise ValueError(f"cuBLAS: a leading dimension of {down} is less than {rows} rows")
    flat = memory(address, kind, (count - 1) * step + (cols - 1) * down + rows)
    size = flat.itemsize
    return np.lib.stride_tricks.as_strided(
        flat, (count, rows, cols), (step * size, size, down * size)
    )


class Cublas:
    """The class Cublas of tinycv/gpu/cublas.py, for the host's memory. WORLD.products records the
    type of the sums in each product."""

    def product(
        self,
        xp: Any,
        turned: tuple,
        shape: tuple,
        factor: float,
        a: tuple,
        b: tuple,
        y: tuple,
        kind: int,
        count: int,
        sums: int,
        add: bool = False,
    ) -> None:
        WORLD.launches += 1
        WORLD.products.append(sums)
        m, n, k = shape
        (turn_a, turn_b), steps = turned, [step if count > 1 else 0 for _, _, step in (a, b, y)]
        left = columns(a[0], kind, *((k, m) if turn_a else (m, k)), a[1], steps[0], count)
        right = columns(b[0], kind, *((n, k) if turn_b else (k, n)), b[1], steps[1], count)
        left, right = (
            x.swapaxes(1, 2) if turn else x for x, turn in ((left, turn_a), (right, turn_b))
        )
        target = columns(y[0], kind, m, n, y[1], steps[2], count)
        made = factor * np.matmul(left.astype(SUMS[sums]), right.astype(SUMS[sums]))
        target[...] = target + made if add else made


def modules() -> dict[str, ModuleType]:
    """The module with CuPy's choice of compute types, under its full name."""
    choice = ModuleType("cupy._core._routines_linalg")

    def set_compute_type(dtype: Any, kind: int) -> None:
        WORLD.compute_types[np.dtype(dtype).char] = kind

    choice.__dict__.update(
        set_compute_type=set_compute_type, COMPUTE_TYPE_DEFAULT=DEFAULT, COMPUTE_TYPE_TF32=TF32
    )
    return {"cupy._core": ModuleType("cupy._core"), choice.__name__: choice}
