"""Writing CUDA C++ kernels: macros and types for the kernel text, and how Python launches it.

Every CuPy call is a launch, which costs a few microseconds whatever it does.  A layer norm made of
array calls takes a dozen launches.  So functions that a model calls in every layer have a CUDA
version of one launch forward and one backward (such as norm.py).  It is written like this:

    kernels = Kernels(r'''
    KERNEL double_rows(Int rows, Int width, const T* x, T* y) {
        EACH_ROW(row, rows)                     // each warp takes a row of the array
            EACH(j, width)                      // its 32 lanes share the entries of the row
                y[row * width + j] = T(2 * A(x[row * width + j]));
    }''')
    # an array of the type T and the rows to launch; then the kernel's own parameters
    kernels.double_rows(x, rows, rows, width, x, y)

T is the float type of the arrays.  A is the type to calculate in: float if T is half precision,
else T.  A Python int arrives as Int, a float as double, None as a null pointer.  Arrays have to be
contiguous: see ``packed``.

The same text compiles with g++.  tests/cupy_double runs it with warps of 1 lane or of 32 threads,
so a machine without a GPU can test every kernel.  tests/nvrtc.py compiles it with NVIDIA's
compiler.

Read next: CUDA C++ Programming Guide, sections 2 and 7; capture.py, which launches a whole training
step at once.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from tinycv.engine.backend import Array, array_module

# threads in a warp, which run in step; warps in a block
LANES, WARPS = 32, 4
# the C++ types T and A for each NumPy dtype: float16, float32, float64
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
// Every entry of a flat array of n, spread over all warps. Launch it with ceil(n / 32) rows.
#define EACH_ENTRY(i, n) \
    for (Int i = (Int(blockIdx.x) * blockDim.y + threadIdx.y) * LANES + threadIdx.x; i < (n); \
         i += Int(gridDim.x) * blockDim.y * LANES)

// The sum and the greatest of the numbers that the lanes of a warp hold. Every lane gets the
// result: after adding from lanes 16, 8, 4, 2 and 1 away, each has the sum of all 32.
__device__ A sum(A x) {
    for (int far = LANES / 2; far; far /= 2) x += __shfl_xor_sync(0xffffffff, x, far);
    return x;
}
__device__ A greatest(A x) {
    for (int far = LANES / 2; far; far /= 2) x = fmax(x, __shfl_xor_sync(0xffffffff, x, far));
    return x;
}

// y[i] = f(x[i], ...) for every entry of flat arrays. Launch it with ceil(n / 128) rows. Four
// entries are read or written in one access if the addresses of all arrays allow it: an access of
// four costs about as much as an access of one.
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

// For a row that is read more than once, in a template <int MOST>. A short row is kept in
// registers, MOST entries in each lane. For a long row MOST is 0, and it is read from memory each
// time, of which most comes from a cache. EACH_HELD visits entry j of the row, which is the lane's
// k-th.
#define EACH_HELD(k, j, n) _Pragma("unroll") \
    for (Int k = 0, j = threadIdx.x; MOST ? k < MOST : j < (n); k++, j += LANES) if (j < (n))
#define BY_WIDTH(width, function, ...) \
    if ((width) <= 8 * LANES) function<8>(__VA_ARGS__); else function<0>(__VA_ARGS__)
"""


class Kernels:
    """The kernels of one source text. ``kernels.name(like, rows, *arguments)`` launches the kernel
    ``name`` with a warp for each row."""

    def __init__(self, source: str, contracted: bool = False):
        """contracted: let the compiler compute a * b + c with one rounding (fused multiply-add).
        That is faster where arithmetic takes most of the time. But a * b - c, with c equal to the
        rounded product, is then not exactly 0."""
        self.source, self.contracted = source, contracted

    def __getattr__(self, name: str) -> Any:
        # stored as an attribute, so that Python finds it without this method the next time
        vars(self)[name] = launch = partial(self.launch, name)
        return launch

    def launch(self, name: str, like: Array, rows: int, *arguments: Any) -> None:
        """Launch the kernel ``name`` with a warp for each row, or not at all for 0 rows. T is the
        float type of ``like``."""
        if rows:
            compiled(array_module(like), self.source, like.dtype.char, name, self.contracted)(
                (-(-rows // WARPS),), (LANES, WARPS), arguments
            )


@lru_cache(maxsize=256)
def compiled(xp: Any, source: str, char: str, name: str, contracted: bool = False) -> Any:
    """One kernel of a source text for one float type; cached for the next launch."""
    return module(xp, source, char, contracted).get_function(name)


@lru_cache(maxsize=64)
def module(xp: Any, source: str, char: str, contracted: bool) -> Any:
    """All kernels of a source text for one float type. CuPy compiles them at the first launch and
    caches the result on disk."""
    return xp.RawModule(
        code=text(source, char),
        options=("-std=c++17", f"--fmad={'true' if contracted else 'false'}"),
    )


def text(source: str, char: str) -> str:
    """The whole text that is compiled for one float type: types, PRELUDE, source."""
    t, a = TYPES[char]
    return f"#include <cuda_fp16.h>\ntypedef {t} T;\ntypedef {a} A;\n{PRELUDE}{source}"


def warps_for(n: int) -> int:
    """How many rows to launch so that each of ``n`` entries has a lane."""
    return -(-n // LANES)


def by_value(struct: np.ndarray) -> np.ndarray:
    """A NumPy record as a kernel argument that is passed by value, viewed as plain bytes. Without
    the view, CuPy asks NumPy for its address at every launch, and NumPy describes every field of
    the record, which takes as long as three launches."""
    return struct.view(f"V{struct.itemsize}")


def packed(xp: Any, *arrays: Any) -> list:
    """The arrays, each contiguous in the order of its axes. None stays None."""
    return [None if a is None else xp.ascontiguousarray(a).reshape(a.shape) for a in arrays]
