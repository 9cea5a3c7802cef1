"""Products of stacks of matrices on a GPU, without hidden copies; and TF32, which must be asked for.

CuPy's own @ is good for two matrices.  Of stacks it copies every operand that is turned around or lies in pieces,
widens halves to float32, and never uses TF32.  cuBLAS needs none of that: a matrix that is turned around is a flag, and
a stack is one step from matrix to matrix.  cuBLAS numbers entries down the columns, so that our rows are its columns:

    C = A B of ours  is  Cᵀ = Bᵀ Aᵀ of its own,  where it finds Aᵀ and Bᵀ lying as we left A and B.

TF32 keeps 10 of float32's 23 bits of a factor and adds in float32, which is what tensor cores can do.  Figures that
were taken with it must say so: ``tf32_allowed`` is part of what doctor.py and every benchmark report.

The cuBLAS bindings are CuPy's private ones (setup.py asks for cupy < 15); where they are missing, @ does it.
"""

from __future__ import annotations

import importlib
import os
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.backend import array_module
from tinycv.engine.gpu import gpu_problem

TYPES = {"e": "CUDA_R_16F", "f": "CUDA_R_32F", "d": "CUDA_R_64F"}
asked: dict[str, bool] = {}                     # "tf32", once somebody has said


def allow_tf32(allowed: bool) -> None:
    """May products of float32 matrices on a GPU round their factors to TF32? Not unless this, or CUPY_TF32=1, says so.

    differs: PyTorch's name for it is torch.backends.cuda.matmul.allow_tf32.
    """
    asked["tf32"] = bool(allowed)
    if gpu_problem() is None:
        own = importlib.import_module("cupy._core._routines_linalg")
        own.set_compute_type(np.dtype("float32"), own.COMPUTE_TYPE_TF32 if allowed else own.COMPUTE_TYPE_DEFAULT)


def tf32_allowed() -> bool:
    """What was asked for last, by ``allow_tf32`` or in the environment."""
    return asked.get("tf32", os.environ.get("CUPY_TF32", "0") not in ("", "0"))


def times(a: Any, b: Any, scale: float = 1.0) -> Any:
    """scale * a @ b of arrays or Tensors, (..., M, K) @ (..., K, N); stacks of CuPy's without copies."""
    if type(a) is np.ndarray or min(a.ndim, b.ndim) < 3 or (xp := array_module(a)) is np or a.dtype != b.dtype or (
            a.dtype.char not in TYPES) or (cublas := _cublas()) is None:
        return a @ b if scale == 1 else scale * a @ b
    return _stacked(xp, cublas, a, b, scale)


def _cublas() -> Any:
    """CuPy's private bindings of cuBLAS, or None where this CuPy has none."""
    try:
        return importlib.import_module("cupy_backends.cuda.libs.cublas")
    except ImportError:
        return None


def _stacked(xp: Any, cublas: Any, a: Any, b: Any, scale: float) -> Any:
    """times() of two stacks by one call of cuBLAS, which finds each matrix where it lies."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    if b.shape[-2] != k:
        raise ValueError(f"matmul: {a.shape} @ {b.shape}: the last axis of one and axis -2 of the other must be equal")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = xp.empty((*lead, m, n), a.dtype)
    if not y.size or not k:
        y[...] = 0
        return y
    a, turned_a, row_a, step_a = laid_out(xp, xp.broadcast_to(a, (*lead, m, k)))
    b, turned_b, row_b, step_b = laid_out(xp, xp.broadcast_to(b, (*lead, k, n)))
    factor, zero = (np.array(value, "float64" if a.dtype.char == "d" else "float32") for value in (scale, 0))
    kind = getattr(xp.cuda.runtime, TYPES[a.dtype.char])
    sums = {"d": "64F", "e": "32F", "f": "32F_FAST_TF32" if tf32_allowed() else "32F"}[a.dtype.char]
    cublas.gemmStridedBatchedEx(
        xp.cuda.device.get_cublas_handle(), int(turned_b), int(turned_a), n, m, k, factor.ctypes.data,
        b.data.ptr, kind, row_b, step_b, a.data.ptr, kind, row_a, step_a, zero.ctypes.data,
        y.data.ptr, kind, n, m * n, prod(lead), getattr(cublas, f"CUBLAS_COMPUTE_{sums}"), cublas.CUBLAS_GEMM_DEFAULT)
    return y


def laid_out(xp: Any, a: Any) -> tuple:
    """(array, is it turned, entries from row to row, entries from matrix to matrix): a itself, or a copy if it must be."""
    found = _as_it_lies(a)
    if found is None and a.strides[-2] < a.strides[-1]:            # a copy keeps it turned: it is read along its memory
        a = xp.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    elif found is None:
        a = xp.ascontiguousarray(a)
    return (a, *(found or _as_it_lies(a)))


def _as_it_lies(a: Any) -> tuple | None:
    """(turned, row, step) if one step leads from each matrix to the next, and the entries of a row touch."""
    *lead, rows, columns = a.shape
    *steps, down, along = (s // a.itemsize for s in a.strides)
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        turned, row = False, columns if rows == 1 else down
    elif (down == 1 or rows == 1) and (along >= rows or columns == 1):
        turned, row = True, rows if columns == 1 else along
    else:
        return None
    moves = [(n, s) for n, s in zip(lead, steps, strict=True) if n > 1]
    if any(s != inner * n for (_, s), (n, inner) in zip(moves, moves[1:], strict=False)):
        return None
    return turned, row, moves[-1][1] if moves else 0
