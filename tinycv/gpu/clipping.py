"""Gradient clipping on a GPU: two launches of these kernels for up to 96 gradients (parts.py).

Definition: optim/clipping.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import Kernels
from tinycv.gpu.parts import PARTED, tables

kernels = Kernels(
    PARTED
    + r"""
KERNEL square_sums(Int rows, const Parts parts, Int count, A* sums) {
    EACH_ROW(row, rows) {
        const Part& part = of(row, parts, count);
        A total = 0;
        EACH_WEIGHT(i, row, part) total += A(part.g[i]) * A(part.g[i]);
        total = sum(total);
        if (threadIdx.x == 0) sums[row] = total;
    }
}

KERNEL scale(Int rows, const Parts parts, Int count, const A* factor) {
    EACH_ROW(row, rows) {
        const Part& part = of(row, parts, count);
        EACH_WEIGHT(i, row, part) part.g[i] = T(A(part.g[i]) * factor[0]);
    }
}
"""
)


def scaled_down(xp: Any, gs: Sequence[Array], max_norm: float) -> Array:
    """Scale gradients in place by one factor, so that their common norm is at most max_norm.
    Returns the norm before scaling, of shape (). gs: contiguous arrays of one dtype.

    For float16 gradients the norm is summed and returned in float32, because in float16 the square
    of 256 already overflows.
    """
    wide = xp.promote_types(gs[0].dtype, "float32")
    gradient_tables = list(tables(gs, gs, [0] * len(gs)))
    row_counts = [rows for rows, _, _ in gradient_tables]
    sums = xp.zeros(max(1, sum(row_counts)), wide)
    starts = accumulate(row_counts, initial=0)
    for (rows, table, count), start in zip(gradient_tables, starts, strict=False):
        kernels.square_sums(gs[0], rows, rows, table, count, sums[start : start + rows])
    norm = xp.sqrt(sums.sum())
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for rows, table, count in gradient_tables:
        kernels.scale(gs[0], rows, rows, table, count, factor)
    return norm
