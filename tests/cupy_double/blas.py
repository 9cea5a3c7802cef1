"""cuBLAS on the double: gemmStridedBatchedEx on the host's memory, column by column, as cuBLAS reads it."""
from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np

from .world import WORLD

TYPES = {2: np.float16, 0: np.float32, 1: np.float64}               # CUDA_R_16F, _32F, _64F
SUMS = {68: np.float32, 77: np.float32, 70: np.float64}             # CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
DEFAULT, TF32 = 1, 7                                                # CuPy's compute types


def memory(address: int, kind: int, entries: int) -> np.ndarray:
    """Entries in a row from an address on."""
    dtype = np.dtype(TYPES[kind])
    return np.frombuffer((ctypes.c_char * (entries * dtype.itemsize)).from_address(address), dtype)


def columns(address: int, kind: int, rows: int, cols: int, down: int, step: int, count: int) -> np.ndarray:
    """(count, rows, cols): matrices whose columns begin ``down`` entries apart, and they themselves ``step``."""
    if down < max(1, rows):
        raise ValueError(f"cuBLAS: a leading dimension of {down} is less than {rows} rows")
    flat = memory(address, kind, (count - 1) * step + (cols - 1) * down + rows)
    size = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat, (count, rows, cols), (step * size, size, down * size))


def gemm(handle: int, turn_a: int, turn_b: int, m: int, n: int, k: int, alpha: int, a: int, kind_a: int, down_a: int,
         step_a: int, b: int, kind_b: int, down_b: int, step_b: int, beta: int, c: int, kind_c: int, down_c: int,
         step_c: int, count: int, sums: int, algorithm: int) -> None:
    """cublasGemmStridedBatchedEx: C = alpha op(A) op(B) + beta C."""
    WORLD.launches += 1
    WORLD.products.append(sums)
    factor, keep = (float(np.frombuffer((ctypes.c_char * np.dtype(SUMS[sums]).itemsize).from_address(x), SUMS[sums])[0])
                    for x in (alpha, beta))
    left = columns(a, kind_a, *((k, m) if turn_a else (m, k)), down_a, step_a, count)
    right = columns(b, kind_b, *((n, k) if turn_b else (k, n)), down_b, step_b, count)
    left, right = (x.swapaxes(1, 2) if turn else x for x, turn in ((left, turn_a), (right, turn_b)))
    target = columns(c, kind_c, m, n, down_c, step_c, count)
    made = factor * np.matmul(left.astype(SUMS[sums]), right.astype(SUMS[sums]))
    target[...] = made if keep == 0 else made + keep * target


def modules() -> dict[str, ModuleType]:
    """cupy_backends.cuda.libs.cublas and CuPy's choice of compute types, by their full names."""
    cublas, choice = ModuleType("cupy_backends.cuda.libs.cublas"), ModuleType("cupy._core._routines_linalg")
    cublas.__dict__.update(gemmStridedBatchedEx=gemm, CUBLAS_OP_N=0, CUBLAS_OP_T=1, CUBLAS_GEMM_DEFAULT=-1,
                           CUBLAS_COMPUTE_32F=68, CUBLAS_COMPUTE_32F_FAST_TF32=77, CUBLAS_COMPUTE_64F=70)

    def set_compute_type(dtype: Any, kind: int) -> None:
        WORLD.compute_types[np.dtype(dtype).char] = kind
    choice.__dict__.update(set_compute_type=set_compute_type, COMPUTE_TYPE_DEFAULT=DEFAULT, COMPUTE_TYPE_TF32=TF32)
    parents = {name: ModuleType(name) for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs",
                                                   "cupy._core")}
    return {**parents, cublas.__name__: cublas, choice.__name__: choice}
