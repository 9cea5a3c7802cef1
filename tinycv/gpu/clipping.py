"""optim/clipping.py on a GPU: a clipped gradient norm takes two launches for up to 96 gradients
(parts.py).

How they are written: cuda.py.
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
    """Scale gradients of one dtype, each in one piece, in place by one factor; returns their norm
    before, of shape ().

    The norm is summed in float32 for halves, and returned in it: squares of 256 and more overflow
    float16.
    """
    wide = xp.promote_types(gs[0].dtype, "float32")
    made = list(tables(gs, gs, [0] * len(gs)))
    sums = xp.zeros(max(1, sum(rows for rows, _, _ in made)), wide)
    for (rows, table, count), start in zip(
        made, accumulate((rows for rows, _, _ in made), initial=0), strict=False
    ):
        kernels.square_sums(gs[0], rows, rows, table, count, sums[start : start + rows])
    norm = xp.sqrt(sums.sum())
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for rows, table, count in made:
        kernels.scale(gs[0], rows, rows, table, count, factor)
    return norm
