"""Matrix products (GEMM) on a GPU by cuBLAS, without copies of transposed operands; TF32.

For stacks of matrices, CuPy's own @ copies each operand that is transposed or not contiguous,
converts float16 to float32, and never uses TF32.  cuBLAS needs none of that: for a transposed
matrix it takes a flag, and for a stack the distance from one matrix to the next.  cuBLAS stores a
matrix column by column, so a matrix that NumPy stores row by row is, to cuBLAS, its transpose.  The
product is therefore computed as

    Cᵀ = Bᵀ Aᵀ,  where cuBLAS finds Aᵀ, Bᵀ and Cᵀ in the memory of A, B and C.

TF32 keeps 10 of the 23 bits of a float32 factor and adds in float32; tensor cores can multiply such
numbers.  It is off by default.  Measurements that were made with it should say so: show/doctor.py
and every benchmark report ``tf32_allowed()``.

How cuBLAS is called: cublas.py.
"""

from __future__ import annotations

import importlib
import os
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.arguments import flag
from tinycv.engine.backend import Array
from tinycv.engine.find_gpu import gpu_problem
from tinycv.engine.gemm import by_arrays
from tinycv.gpu import cublas

TYPES = {"e": cublas.FLOAT16, "f": cublas.FLOAT32, "d": cublas.FLOAT64}
SUMS = {"e": cublas.SUMS_32F, "f": cublas.SUMS_32F, "d": cublas.SUMS_64F}
MOST = 2**31 - 1  # rows, columns, and entries from row to row: cuBLAS counts in 32 bits
BY_ENVIRONMENT = os.environ.get("CUPY_TF32", "0") not in ("", "0")  # read once, as CuPy does
choices: dict[str, bool] = {}  # "tf32": the last call of allow_tf32; empty before the first


def allow_tf32(allowed: bool) -> None:
    """Allow float32 matrix products on a GPU to round their factors to TF32. Off by default;
    CUPY_TF32=1 allows it too.

    A step recorded by ``captured`` keeps the setting that it was recorded with: call this first.
    differs: PyTorch's name for it is torch.backends.cuda.matmul.allow_tf32.
    """
    choices["tf32"] = allowed = flag(allowed, "allow_tf32: allowed")
    if gpu_problem() is None:
        # the products that CuPy computes itself follow the same setting
        linalg = importlib.import_module("cupy._core._routines_linalg")
        compute_type = linalg.COMPUTE_TYPE_TF32 if allowed else linalg.COMPUTE_TYPE_DEFAULT
        linalg.set_compute_type(np.dtype("float32"), compute_type)


def tf32_allowed() -> bool:
    """Is TF32 allowed? By the last call of ``allow_tf32``, or before any, by the environment."""
    return choices.get("tf32", BY_ENVIRONMENT)


def matrix_product(
    xp: Any, a: Array, b: Array, scale: float = 1.0, out: Array | None = None, add: bool = False
) -> Array:
    """scale * a @ b, the function ``matrix_product`` of engine/gemm.py, by one call of cuBLAS.

    cuBLAS reads each matrix where it lies. out: where to write the result; with ``add`` it is added
    to what is there.
    """
    library = cublas.library(xp) if a.dtype == b.dtype and min(a.ndim, b.ndim) > 1 else None
    if not library:
        return by_arrays(a, b, scale, out, add)
    char = a.dtype.char
    lead, m, n, k = fitted(a.shape, b.shape)
    if out is not None and (out.shape != (*lead, m, n) or out.dtype != a.dtype):
        raise ValueError(
            f"matmul: out is {out.dtype} {out.shape}, the product {a.dtype} {(*lead, m, n)}"
        )
    y = xp.empty((*lead, m, n), a.dtype) if out is None or not out.flags.c_contiguous else out
    if not y.size or not k:
        if y is not out or not add:
            y[...] = 0
    else:
        a, of_a = laid_out(xp, a, (*lead, m, k))
        b, of_b = laid_out(xp, b, (*lead, k, n))
        sums = SUMS[char] if char != "f" or not tf32_allowed() else cublas.SUMS_TF32
        library.product(
            xp,
            (of_b[0], of_a[0]),
            (n, m, k),
            scale,
            (b.data.ptr, *of_b[1:]),
            (a.data.ptr, *of_a[1:]),
            (y.data.ptr, n, m * n),
            TYPES[char],
            prod(lead),
            sums,
            add and y is out,
        )
    if out is None or y is out:
        return y
    out[...] = out + y if add else y
    return out


@lru_cache(maxsize=4096)
def fitted(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], int, int, int]:
    """(axes of the stack, m, n, k) for a product of two shapes, (m, k) @ (k, n). ValueError if they
    do not fit."""
    if a[-1] != b[-2]:
        raise ValueError(
            f"matmul: {a} @ {b}: the last axis of one and axis -2 of the other must be equal"
        )
    lead = np.broadcast_shapes(a[:-2], b[:-2])
    # ctypes would silently cut a larger number to 32 bits
    if max(prod(lead), a[-2], *b[-2:]) > MOST:
        raise ValueError(
            f"matmul: {a} @ {b}: cuBLAS counts rows, columns and matrices in 32 bits, to {MOST}: "
            "cut it up"
        )
    return lead, a[-2], b[-1], a[-1]


@lru_cache(maxsize=4096)
def lies(
    shape: tuple[int, ...], strides: tuple[int, ...], lead: tuple[int, ...], size: int
) -> tuple | None:
    """(is each matrix transposed, entries from row to row, entries from matrix to matrix), for an
    array that is broadcast to a stack with the axes ``lead``.

    None for an array that cuBLAS cannot describe: if neither the entries of a row nor those of a
    column are adjacent, or if the matrices of the stack are not evenly spaced.
    """
    (rows, columns), (down, along) = shape[-2:], (s // size for s in strides[-2:])
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        turned, row = False, columns if rows == 1 else down
    elif (down == 1 or rows == 1) and (along >= rows or columns == 1):
        turned, row = True, rows if columns == 1 else along
    else:
        return None
    if row > MOST:
        return None
    # Steps from matrix to matrix along each axis of the stack, 0 where one matrix is used for all.
    stack_axes = zip(shape[:-2][::-1], strides[:-2][::-1], strict=True)
    steps = [0 if n == 1 else s // size for n, s in stack_axes][: len(lead)][::-1]
    moves = [
        (n, s) for n, s in zip(lead, [0] * (len(lead) - len(steps)) + steps, strict=True) if n > 1
    ]
    if any(s != inner * n for (_, s), (n, inner) in zip(moves, moves[1:], strict=False)):
        return None
    return turned, row, moves[-1][1] if moves else 0


def laid_out(xp: Any, a: Array, shape: tuple[int, ...]) -> tuple[Array, tuple]:
    """(a, its description by ``lies``), or if that is None, a copy of a in this shape and the
    description of the copy."""
    description = lies(a.shape, a.strides, shape[:-2], a.itemsize)
    if description is None:
        a = in_order(xp, xp.broadcast_to(a, shape))
        description = lies(a.shape, a.strides, shape[:-2], a.itemsize)
    assert description is not None  # a copy made by in_order always has one
    return a, description


def in_order(xp: Any, a: Array) -> Array:
    """A copy that ``lies`` can describe. If a lies transposed, so does the copy, so that a is read
    in the order of its memory."""
    if a.strides[-2] < a.strides[-1]:
        return xp.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    return xp.ascontiguousarray(a)
