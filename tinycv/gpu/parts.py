"""Many arrays in one launch: the kernel is handed where each of up to 96 lies, as a table among its
arguments.

A warp looks its stretch of 1024 numbers up in the table.  By array calls every array would have
launches of its own, or all would have to be copied side by side first (engine/flat.py).  Used by
adam.py and clipping.py.  How kernels are written: cuda.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import by_value

# of 40 bytes each: 4 KB is what a kernel's arguments may have in all
MOST, STRETCH = 96, 1024
PART = np.dtype([("p", "u8"), ("g", "u8"), ("size", "i8"), ("offset", "i8"), ("first", "i8")])
PARTS = np.dtype([("part", PART, MOST)])

PARTED = (
    f"#define MOST {MOST}\n#define STRETCH {STRETCH}\n"
    + r"""
// offset: into m and v; first: the row of its first stretch
struct Part { T *p, *g; Int size, offset, first; };
struct Parts { Part part[MOST]; };

// The part that a row belongs to: the last whose first row is no later.
__device__ const Part& of(Int row, const Parts& parts, Int count) {
    Int low = 0, high = count - 1;
    while (low < high) {
        const Int middle = (low + high + 1) / 2;
        if (parts.part[middle].first <= row) low = middle; else high = middle - 1;
    }
    return parts.part[low];
}

#define EACH_WEIGHT(i, row, part) \
    for (Int i = (row - part.first) * STRETCH + threadIdx.x; \
         i < part.size && i < (row - part.first + 1) * STRETCH; i += LANES)
"""
)


def tables(
    ps: Sequence[Array], gs: Sequence[Array], offsets: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, int]]:
    """(rows, table, how many) for each MOST parameters. p, g: arrays in one piece; an empty one
    takes no part."""
    kept = [(p, g, offset) for p, g, offset in zip(ps, gs, offsets, strict=True) if g.size]
    for start in range(0, len(kept), MOST):
        some = kept[start : start + MOST]
        firsts = [0, *accumulate(-(-g.size // STRETCH) for _, g, _ in some)]
        table = np.zeros(1, PARTS)
        table["part"][0, : len(some)] = [
            (p.data.ptr, g.data.ptr, g.size, offset, first)
            for (p, g, offset), first in zip(some, firsts, strict=False)
        ]
        yield firsts[-1], by_value(table), len(some)
