"""engine/reduce.py on a GPU: the sum of the rows of a matrix, at the speed of memory.

Rows lie one after the other, so neighbouring threads read neighbouring columns: a warp takes 32
columns of a strip of the rows, and the sums of the strips, a few hundred, are added up in a second
launch.  No atomics: two runs give the same bits.

CuPy 14.2 sums along the last axis as fast as memory allows, and along the first many times slower:
in a ViT-Base's training step on an H100 that took 30 of 205 ms, in a U-Net's 81 of 119
(benchmarks/results/gpu/first_visit_H100.json).

How kernels are written: cuda.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import LANES, Kernels, packed

# warps that keep a GPU busy: more strips than that gain nothing
WORK = 1 << 12
SHORTEST = 16  # rows of a strip, at least

kernels = Kernels(r"""
// totals[s, j]: the sum of x[i, j], times y[i, j] where there is a y, over the rows i of strip s.
KERNEL sum_rows(Int strips, Int strip, Int rows, Int width, const T* x, const T* y, A* totals) {
    // of 32 columns; a warp for each (strip, stripe)
    const Int stripes = (width + 31) / 32;
    EACH_ROW(task, strips * stripes) {
        const Int s = task / stripes, first = s * strip,
            end = first + strip < rows ? first + strip : rows;
        const Int left = task % stripes * 32, right = left + 32 < width ? left + 32 : width;
        for (Int j = left + threadIdx.x; j < right; j += LANES) {
            // four at a time, so that memory is kept busy
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

// The sum of the strips, in T or in A, whichever is asked for: a warp for each column.
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
    """Sum over the first axis of x, or of x * y: (N, D) -> (D,). Adds up in float32 at least;
    ``wide``: answers so too."""
    x, y = packed(xp, x, y)
    (rows, width), dtype = x.shape, xp.promote_types(x.dtype, "float32")
    made = xp.empty(width, dtype if wide else x.dtype)
    if not rows:
        made.fill(0)
        return made
    stripes = -(-width // LANES)
    strip = max(SHORTEST, -(-rows * stripes // WORK))
    strips = -(-rows // strip)
    # few rows: the strip's sums are the answer
    alone = strips == 1 and made.dtype == dtype
    totals = made if alone else xp.empty((strips, width), dtype)
    kernels.sum_rows(x, strips * stripes, strips, strip, rows, width, x, y, totals)
    if not alone:
        kernels.sum_strips(
            x, width, strips, width, totals, None if wide else made, made if wide else None
        )
    return made
