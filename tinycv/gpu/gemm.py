"""Matrix products on a GPU (GEMM) by cuBLAS, without copies of transposed or stacked operands; TF32
only on request.

For stacks of matrices, CuPy's own @ copies each operand that is transposed or not contiguous,
converts float16 to float32, and never uses TF32.  cuBLAS needs none of that: a transposed matrix is
a flag, and a stack is one stride between matrices. cuBLAS numbers entries down the columns, so that
our rows are its columns:

    C = A B of ours  is  Cᵀ = Bᵀ Aᵀ of its own,  where it finds Aᵀ and Bᵀ lying as we left A and B.

TF32 keeps 10 of float32's 23 bits of a factor and adds in float32, which is what tensor cores can
do.  Figures that were taken with it must say so: ``tf32_allowed`` is part of what show/doctor.py
and every benchmark report.

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
MOST = 2**31 - 1  # of rows, columns, and entries from row to row
BY_ENVIRONMENT = os.environ.get("CUPY_TF32", "0") not in ("", "0")  # read once, as CuPy does
asked: dict[str, bool] = {}  # "tf32", once somebody has said


def allow_tf32(allowed: bool) -> None:
    """Allow float32 matrix products on a GPU to round their factors to TF32. Off by default;
    CUPY_TF32=1 allows it too.

    A step recorded by ``captured`` keeps the setting that it was recorded with: call this first.
    differs: PyTorch's name for it is torch.backends.cuda.matmul.allow_tf32.
    """
    asked["tf32"] = allowed = flag(allowed, "allow_tf32: allowed")
    if gpu_problem() is None:
        own = importlib.import_module("cupy._core._routines_linalg")
        own.set_compute_type(
            np.dtype("float32"), own.COMPUTE_TYPE_TF32 if allowed else own.COMPUTE_TYPE_DEFAULT
        )


def tf32_allowed() -> bool:
    """What was asked for last, by ``allow_tf32`` or in the environment."""
    return asked.get("tf32", BY_ENVIRONMENT)


def times(
    xp: Any, a: Array, b: Array, scale: float = 1.0, out: Array | None = None, add: bool = False
) -> Array:
    """engine/gemm.py's ``times`` by one call of cuBLAS, which finds each matrix where it lies."""
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
    """(the stack's axes, m, n, k) of two shapes. ValueError where they do not fit."""
    if a[-1] != b[-2]:
        raise ValueError(
            f"matmul: {a} @ {b}: the last axis of one and axis -2 of the other must be equal"
        )
    lead = np.broadcast_shapes(a[:-2], b[:-2])
    # ctypes would cut it to 32 bits, and say nothing
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
    """(is it turned, entries from row to row, entries from matrix to matrix), for a stack of axes
    ``lead``.

    None where cuBLAS cannot say it: where the entries of a row do not touch, or no one step leads
    through the stack.
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
    own = zip(shape[:-2][::-1], strides[:-2][::-1], strict=True)
    # 0: one matrix for all
    steps = [0 if n == 1 else s // size for n, s in own][: len(lead)][::-1]
    moves = [
        (n, s) for n, s in zip(lead, [0] * (len(lead) - len(steps)) + steps, strict=True) if n > 1
    ]
    if any(s != inner * n for (_, s), (n, inner) in zip(moves, moves[1:], strict=False)):
        return None
    return turned, row, moves[-1][1] if moves else 0


def laid_out(xp: Any, a: Array, shape: tuple[int, ...]) -> tuple[Array, tuple]:
    """a, or a copy of it in this shape that ``lies`` can describe, and what that says."""
    found = lies(a.shape, a.strides, shape[:-2], a.itemsize)
    if found is None:
        a = in_order(xp, xp.broadcast_to(a, shape))
        found = lies(a.shape, a.strides, shape[:-2], a.itemsize)
    assert found is not None  # of a copy it always can
    return a, found


def in_order(xp: Any, a: Array) -> Array:
    """A copy that ``lies`` can describe. It is turned where a is: so it is read along its
    memory."""
    if a.strides[-2] < a.strides[-1]:
        return xp.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    return xp.ascontiguousarray(a)
