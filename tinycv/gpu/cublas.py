"""cuBLAS, NVIDIA's library of matrix products, called through ctypes, also inside CUDA graphs.

CuPy has bindings for cuBLAS, but they refuse to run while a stream is captured (CuPy 14.2: "calling
cuBLAS API during stream capture is currently unsupported").  The library itself allows it if it
does not have to allocate memory.  So each thread has one handle per device and stream, and each
handle has a workspace of 32 MiB.  (cuBLAS manual, sections 2.1.2 and 2.4.8.)

The library is opened by its file name, for which the system's loader returns the copy that CuPy has
loaded.  If there is none, ``library`` returns None and products are left to CuPy (gemm.py).
"""

from __future__ import annotations

import ctypes
import sys
import threading
from functools import cache, lru_cache
from typing import Any

from tinycv.engine import capturing
from tinycv.engine.find_gpu import gpu_problem

# bytes, as the manual recommends for Hopper; with less, cuBLAS could not use some of its kernels
WORKSPACE = 32 << 20
FLOAT16, FLOAT32, FLOAT64 = 2, 0, 1  # cudaDataType: CUDA_R_16F, CUDA_R_32F, CUDA_R_64F
# cublasComputeType: the type of the sums. TF32 rounds the factors, and still adds in float32.
SUMS_32F, SUMS_TF32, SUMS_64F = 68, 77, 70
DEFAULT = -1  # cublasGemmAlgo: cuBLAS chooses the kernel
POINTER, LONG = ctypes.c_void_p, ctypes.c_longlong


class Handles(threading.local):
    """The handles of this thread: {(device, stream): (handle, its workspace)}."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], tuple[Any, Any]] = {}


class Cublas:
    """The two products of the library, for single matrices and for stacks. Every thread and stream
    has its own handle, since a handle can serve only one at a time."""

    def __init__(self, file: str):
        opened = ctypes.CDLL(file)
        self.one, self.many = opened.cublasGemmEx, opened.cublasGemmStridedBatchedEx
        self.create, self.set_stream = opened.cublasCreate_v2, opened.cublasSetStream_v2
        self.set_workspace, self.handles = opened.cublasSetWorkspace_v2, Handles()

    def handle(self, xp: Any) -> Any:
        """The handle for the current device and stream of this thread."""
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
            # The graph will use this memory at every launch, also after this thread has ended. So
            # the recording keeps it.
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
        """y = factor * a @ b, or y += factor * a @ b with ``add``, for matrices stored by columns.

        turned: is a, is b transposed? shape: (m, n, k). a, b, y: (address, entries from column to
        column, entries from matrix to matrix) each. kind: cudaDataType. count: matrices in the
        stack. sums: cublasComputeType.
        """
        (turn_a, turn_b), (m, n, k), exact = turned, shape, sums == SUMS_64F
        start = self.handle(xp), int(turn_a), int(turn_b), m, n, k, number(factor, exact)
        old = number(float(add), exact)
        if count == 1:
            a, b, y = (matrix(kind, *layout) for layout in (a, b, y))
            checked(self.one(*start, *a, *b, old, *y, sums, DEFAULT))
        else:
            a, b, y = (stack(kind, *layout) for layout in (a, b, y))
            checked(self.many(*start, *a, *b, old, *y, count, sums, DEFAULT))


def matrix(kind: int, memory: int, row: int, _step: int) -> tuple:
    """A matrix as cublasGemmEx takes it: its address, type, and entries from column to column."""
    return POINTER(memory), kind, row


def stack(kind: int, memory: int, row: int, step: int) -> tuple:
    """Matrices as cublasGemmStridedBatchedEx takes them: address, type, entries from column to
    column, and from matrix to matrix."""
    return POINTER(memory), kind, row, LONG(step)


@lru_cache(maxsize=256)
def number(value: float, exact: bool) -> Any:
    """A pointer to the number on the host, as a double if ``exact``, else as a float. It is cached;
    cuBLAS only reads it."""
    return ctypes.byref(ctypes.c_double(value) if exact else ctypes.c_float(value))


def checked(status: int) -> None:
    """RuntimeError unless the status is 0, success. The others are listed as cublasStatus_t in the
    manual, section 2.2.2."""
    if status:
        raise RuntimeError(
            f"cuBLAS answered with status {status}"
            + " (often: no memory is left)" * (status in (1, 3))
        )


@cache
def library(xp: Any) -> Cublas | None:
    """The cuBLAS library for the CUDA version of CuPy, or None if it is not found."""
    if gpu_problem() is not None:
        return None
    major = xp.cuda.runtime.runtimeGetVersion() // 1000
    try:
        return Cublas(
            f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
        )
    except OSError:
        return None
