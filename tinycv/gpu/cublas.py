"""cuBLAS, NVIDIA's library of matrix products, called by ctypes, so that a product can be part of a
CUDA graph.

CuPy has bindings of its own, but they refuse while a stream is captured (CuPy 14.2: "calling cuBLAS
API during stream capture is currently unsupported").  The library itself allows it as long as it
need not allocate memory.  So each thread has one handle per device and stream, with a workspace of
its own of 32 MiB.  (cuBLAS manual, sections 2.1.2 and 2.4.8.)

The library is opened by its file name, and the system's loader returns the copy that CuPy has
loaded.  Where there is none, ``library`` is None, and engine/gemm.py leaves products to CuPy.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from functools import cache, lru_cache
from typing import Any

from tinycv.engine import capturing
from tinycv.engine.find_gpu import gpu_problem

# bytes, as the manual advises for Hopper; less would exclude some kernels
WORKSPACE = 32 << 20
FLOAT16, FLOAT32, FLOAT64 = 2, 0, 1  # cudaDataType: CUDA_R_16F, CUDA_R_32F, CUDA_R_64F
# cublasComputeType. TF32 rounds the factors, and still adds in float32
SUMS_32F, SUMS_TF32, SUMS_64F = 68, 77, 70
DEFAULT = -1  # cublasGemmAlgo: cuBLAS chooses the kernel
POINTER, LONG = ctypes.c_void_p, ctypes.c_longlong


class Handles(threading.local):
    """A thread's own: {(device, stream): (handle, its workspace)}."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], tuple[Any, Any]] = {}


class Cublas:
    """The library's two products. Of a thread and stream its own handle, since a handle serves one
    at a time."""

    def __init__(self, file: str):
        opened = ctypes.CDLL(file)
        self.one, self.many = opened.cublasGemmEx, opened.cublasGemmStridedBatchedEx
        self.create, self.set_stream = opened.cublasCreate_v2, opened.cublasSetStream_v2
        self.set_workspace, self.handles = opened.cublasSetWorkspace_v2, Handles()

    def handle(self, xp: Any) -> Any:
        """For the current device and stream of this thread."""
        at, made = (
            (xp.cuda.runtime.getDevice(), xp.cuda.get_current_stream().ptr),
            self.handles.made,
        )
        if at not in made:
            handle, workspace = POINTER(), xp.empty(WORKSPACE, "uint8")
            checked(self.create(ctypes.byref(handle)))
            checked(self.set_stream(handle, POINTER(at[1])))
            checked(
                self.set_workspace(handle, POINTER(workspace.data.ptr), ctypes.c_size_t(WORKSPACE))
            )
            made[at] = handle, workspace
        handle, workspace = made[at]
        if (recording := capturing.current()) is not None:
            # the graph writes there, when this thread has long ended too
            recording.kept.append(workspace)
        return handle

    def product(
        self,
        xp: Any,
        turned: tuple[bool, bool],
        shape: tuple[int, int, int],
        factor: float,
        a: tuple,
        b: tuple,
        y: tuple,
        kind: int,
        count: int,
        sums: int,
        add: bool = False,
    ) -> None:
        """y = factor * a @ b (add: += that) in cuBLAS's columns: turned, (m, n, k), and (memory,
        row, step) of a, b, y."""
        (turn_a, turn_b), (m, n, k), exact = turned, shape, sums == SUMS_64F
        start = self.handle(xp), int(turn_a), int(turn_b), m, n, k, number(factor, exact)
        old = number(float(add), exact)
        if count == 1:
            a, b, y = (matrix(kind, *place) for place in (a, b, y))
            checked(self.one(*start, *a, *b, old, *y, sums, DEFAULT))
        else:
            a, b, y = (stack(kind, *place) for place in (a, b, y))
            checked(self.many(*start, *a, *b, old, *y, count, sums, DEFAULT))


def matrix(kind: int, memory: int, row: int, _step: int) -> tuple:
    """A matrix as cublasGemmEx takes it: where, of what type, entries from row to row."""
    return POINTER(memory), kind, row


def stack(kind: int, memory: int, row: int, step: int) -> tuple:
    """Matrices as cublasGemmStridedBatchedEx takes them: and entries from one to the next."""
    return POINTER(memory), kind, row, LONG(step)


@lru_cache(maxsize=256)
def number(value: float, exact: bool) -> Any:
    """A pointer to it, on the host: in double, or in float. It is kept, and not written to."""
    return ctypes.byref(ctypes.c_double(value) if exact else ctypes.c_float(value))


def checked(status: int) -> None:
    """RuntimeError where cuBLAS could not do it: its numbers are cublasStatus_t, in section 2.2.2
    of the manual."""
    if status:
        raise RuntimeError(
            f"cuBLAS answered with status {status}"
            + " (often: no memory is left)" * (status in (1, 3))
        )


@cache
def library(xp: Any) -> Cublas | None:
    """The library of this CuPy's CUDA, or None where it is not to be found."""
    if gpu_problem() is not None:
        return None
    major = xp.cuda.runtime.runtimeGetVersion() // 1000
    try:
        return Cublas(
            f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
        )
    except OSError:
        return None
