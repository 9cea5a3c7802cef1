"""Kernels in CUDA C++: what a pair's third member is written in, for a GPU, where every call is a
launch.

A launch costs a few microseconds, whatever it does, and a layer norm by array calls is a dozen of
them.  So the members of a pair that a model meets at every layer have one launch each way (norm.py
and its like), written so:

    kernels = Kernels(r'''
    KERNEL double_rows(Int rows, Int width, const T* x, T* y) {
        EACH_ROW(row, rows)                     // a row of the array for each warp
            EACH(j, width)                      // its 32 lanes share the row's entries
                y[row * width + j] = T(2 * A(x[row * width + j]));
    }''')
    # whose float type, how many rows; then the parameters
    kernels.double_rows(x, rows, rows, width, x, y)

T is the arrays' float type, A the type to calculate in: float for halves.  Python's integers arrive
as Int, its floats as double, None as a null pointer.  Arrays must be contiguous: see ``packed``.

The same text compiles with g++: tests/cupy_double runs it with warps of one lane, or of 32 threads,
so that a machine without a GPU checks every kernel; tests/nvrtc.py gives it to NVIDIA's compiler.
Where to read on: CUDA C++ Programming Guide, sections 2 and 7.

A whole training step can be launched at once: capture.py.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from tinycv.engine.backend import Array, array_module

# threads of a warp, which run in step; warps of a block
LANES, WARPS = 32, 4
TYPES = {"e": ("__half", "float"), "f": ("float", "float"), "d": ("double", "double")}

PRELUDE = r"""
typedef long long Int;
#ifndef LANES
#define LANES 32
#endif
#ifndef INFINITY                     // NVRTC has no math.h
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif
#define KERNEL extern "C" __global__ void
#define EACH_ROW(row, rows) \
    for (Int row = Int(blockIdx.x) * blockDim.y + threadIdx.y; row < (rows); \
         row += Int(gridDim.x) * blockDim.y)
#define EACH(j, n) for (Int j = threadIdx.x; j < (n); j += LANES)
// Every entry of a flat array, whatever the warp: for ceil(n / 32) rows.
#define EACH_ENTRY(i, n) \
    for (Int i = (Int(blockIdx.x) * blockDim.y + threadIdx.y) * LANES + threadIdx.x; i < (n); \
         i += Int(gridDim.x) * blockDim.y * LANES)

// The sum, and the greatest, of what the lanes of a warp hold: each lane gets it.
__device__ A sum(A x) {
    for (int far = LANES / 2; far; far /= 2) x += __shfl_xor_sync(0xffffffff, x, far);
    return x;
}
__device__ A greatest(A x) {
    for (int far = LANES / 2; far; far /= 2) x = fmax(x, __shfl_xor_sync(0xffffffff, x, far));
    return x;
}

// y[i] = f(x[i], ...) for every entry of flat arrays, for ceil(n / 128) rows: four entries by one
// access, where all arrays start at a multiple of its bytes.  An access costs about the same
// whatever its size.
struct alignas(4 * sizeof(T)) Four { T at[4]; };
template <typename F, typename... Fours> __device__ Four of_fours(F f, Fours... x) {
    Four y;
    for (int k = 0; k < 4; k++) y.at[k] = T(f(A(x.at[k])...));
    return y;
}
template <typename F, typename... X> __device__ void of_entries(Int n, F f, T* y, const X*... x) {
    const Int fours = (size_t(y) | ... | size_t(x)) % sizeof(Four) ? 0 : n / 4;
    EACH_ENTRY(i, fours) ((Four*)y)[i] = of_fours(f, ((const Four*)x)[i]...);
    EACH_ENTRY(i, n - 4 * fours) y[4 * fours + i] = T(f(A(x[4 * fours + i])...));
}

// A row that is read more than once, in a template <int MOST>: a short one is held in registers,
// MOST entries in each lane. A long one, MOST 0, is read from memory again, and most of it comes
// from a cache.  Entry j is the lane's k-th.
#define EACH_HELD(k, j, n) _Pragma("unroll") \
    for (Int k = 0, j = threadIdx.x; MOST ? k < MOST : j < (n); k++, j += LANES) if (j < (n))
#define BY_WIDTH(width, function, ...) \
    if ((width) <= 8 * LANES) function<8>(__VA_ARGS__); else function<0>(__VA_ARGS__)
"""


class Kernels:
    """The kernels of one source text. ``kernels.name(like, rows, *arguments)`` launches one, over
    that many rows."""

    def __init__(self, source: str, contracted: bool = False):
        """contracted: a * b + c may be rounded once in place of twice, which is faster where
        arithmetic decides, and makes h - 1 * h something else than 0 where the compiler sees the
        product in it."""
        self.source, self.contracted = source, contracted

    def __getattr__(self, name: str) -> Any:
        vars(self)[name] = launch = partial(self.launch, name)  # found at once the next time
        return launch

    def launch(self, name: str, like: Array, rows: int, *arguments: Any) -> None:
        """A warp for each row; nothing where there are none. T is the float type of ``like``."""
        if rows:
            compiled(array_module(like), self.source, like.dtype.char, name, self.contracted)(
                (-(-rows // WARPS),), (LANES, WARPS), arguments
            )


@lru_cache(maxsize=256)
def compiled(xp: Any, source: str, char: str, name: str, contracted: bool = False) -> Any:
    """One kernel of a text for one float type; kept for the next launch."""
    return module(xp, source, char, contracted).get_function(name)


@lru_cache(maxsize=64)
def module(xp: Any, source: str, char: str, contracted: bool) -> Any:
    """All kernels of a text for one float type. CuPy compiles at the first launch, and keeps the
    result on disk."""
    return xp.RawModule(
        code=text(source, char),
        options=("-std=c++17", f"--fmad={'true' if contracted else 'false'}"),
    )


def text(source: str, char: str) -> str:
    """The whole text for one float type."""
    t, a = TYPES[char]
    return f"#include <cuda_fp16.h>\ntypedef {t} T;\ntypedef {a} A;\n{PRELUDE}{source}"


def warps_for(n: int) -> int:
    """How many rows to launch for a flat array of ``n`` entries."""
    return -(-n // LANES)


def by_value(struct: np.ndarray) -> np.ndarray:
    """One record of NumPy's, as a kernel's argument. Plain bytes: else, to say where they lie,
    NumPy describes every field at every launch, which takes as long as three launches."""
    return struct.view(f"V{struct.itemsize}")


def packed(xp: Any, *arrays: Any) -> list:
    """The arrays, each in one piece of memory in the order of its axes; None stays None."""
    return [None if a is None else xp.ascontiguousarray(a).reshape(a.shape) for a in arrays]
