"""The sum over the rows of a matrix on a GPU, as fast as memory can be read.

A warp sums 32 neighbouring columns over a strip of rows, so neighbouring lanes read neighbouring
numbers.  A second launch adds up the strips, a few hundred.  There are no atomic additions, so two
runs give the same bits.

CuPy 14.2 sums along the last axis as fast as memory allows, but along the first axis many times
slower: such sums took 30 of 205 ms in a ViT-Base's training step on an H100, and 81 of 119 ms in a
U-Net's (benchmarks/results/gpu/first_visit_H100.json).

Definition: ``sum_rows`` in engine/reduce.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import LANES, Kernels, packed

# so many warps keep a GPU busy; cutting the rows into more strips gains nothing
WORK = 1 << 12
SHORTEST = 16  # rows in a strip, at least

kernels = Kernels(r"""
// totals[s, j]: the sum of x[i, j], or of x[i, j] y[i, j] if y is not null, over the rows i of
// strip s.
KERNEL sum_rows(Int strips, Int strip, Int rows, Int width, const T* x, const T* y, A* totals) {
    // a stripe is 32 columns; there is a warp for each strip and stripe
    const Int stripes = (width + 31) / 32;
    EACH_ROW(task, strips * stripes) {
        const Int s = task / stripes, first = s * strip,
            end = first + strip < rows ? first + strip : rows;
        const Int left = task % stripes * 32, right = left + 32 < width ? left + 32 : width;
        for (Int j = left + threadIdx.x; j < right; j += LANES) {
            // four sums, so that four reads are under way at a time
            A a = 0, b = 0, c = 0, d = 0;
            Int i = first;
            for (; i + 3 < end; i += 4) {
                const Int at = i * width + j;
                a += A(x[at]) * (y ? A(y[at]) : A(1));
                b += A(x[at + width]) * (y ? A(y[at + width]) : A(1));
                c += A(x[at + 2 * width]) * (y ? A(y[at + 2 * width]) : A(1));
                d += A(x[at + 3 * width]) * (y ? A(y[at + 3 * width]) : A(1));
            }
            for (; i < end; i++) a += A(x[i * width + j]) * (y ? A(y[i * width + j]) : A(1));
            totals[s * width + j] = (a + b) + (c + d);
        }
    }
}

// The sum of the strips, with a warp for each column. It is written as A to wide, or if that is
// null as T to narrow.
KERNEL sum_strips(Int strips, Int width, const A* totals, T* narrow, A* wide) {
    EACH_ROW(j, width) {
        A total = 0;
        EACH(s, strips) total += totals[s * width + j];
        total = sum(total);
        if (threadIdx.x == 0) {
            if (wide) wide[j] = total; else narrow[j] = T(total);
        }
    }
}
""")


def sum_rows(xp: Any, x: Array, y: Array | None = None, wide: bool = False) -> Array:
    """Sum over the first axis of x, or of x * y: (N, D) -> (D,). Adds up in float32 or float64;
    with ``wide`` the result has that type too, otherwise the type of x."""
    x, y = packed(xp, x, y)
    (rows, width), dtype = x.shape, xp.promote_types(x.dtype, "float32")
    result = xp.empty(width, dtype if wide else x.dtype)
    if not rows:
        result.fill(0)
        return result
    stripes = -(-width // LANES)
    strip = max(SHORTEST, -(-rows * stripes // WORK))
    strips = -(-rows // strip)
    # with a single strip, its sums are already the result
    one_strip = strips == 1 and result.dtype == dtype
    totals = result if one_strip else xp.empty((strips, width), dtype)
    kernels.sum_rows(x, strips * stripes, strips, strip, rows, width, x, y, totals)
    if not one_strip:
        kernels.sum_strips(
            x, width, strips, width, totals, None if wide else result, result if wide else None
        )
    return result
