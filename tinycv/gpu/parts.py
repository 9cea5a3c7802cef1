"""One launch for many arrays: a kernel argument holds a table of the addresses of up to 96 arrays.

Each warp works on a stretch of 1024 numbers, and finds in the table to which array its stretch
belongs.  With array calls every array would need its own launches, or all would first have to be
copied into one array (engine/flat.py).  Used by adam.py and clipping.py.

How kernels are written: cuda.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import by_value

# Arrays in a table, and numbers in a stretch. A table entry has 40 bytes, and all arguments of a
# kernel together may have 4 KB.
MOST, STRETCH = 96, 1024
PART = np.dtype([("p", "u8"), ("g", "u8"), ("size", "i8"), ("offset", "i8"), ("first", "i8")])
PARTS = np.dtype([("part", PART, MOST)])

PARTED = (
    f"#define MOST {MOST}\n#define STRETCH {STRETCH}\n"
    + r"""
// A parameter p and its gradient g. offset: where its numbers begin in the flat arrays m and v.
// first: the row of its first stretch; rows count stretches over all arrays.
struct Part { T *p, *g; Int size, offset, first; };
struct Parts { Part part[MOST]; };

// The part that a row belongs to, by binary search: the last one whose first row is not after it.
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
    """Yields (rows, table, number of arrays), one table for every MOST parameters. ps and gs are
    contiguous arrays; empty ones are skipped."""
    parts = [(p, g, offset) for p, g, offset in zip(ps, gs, offsets, strict=True) if g.size]
    for start in range(0, len(parts), MOST):
        in_table = parts[start : start + MOST]
        firsts = [0, *accumulate(-(-g.size // STRETCH) for _, g, _ in in_table)]
        table = np.zeros(1, PARTS)
        table["part"][0, : len(in_table)] = [
            (p.data.ptr, g.data.ptr, g.size, offset, first)
            for (p, g, offset), first in zip(in_table, firsts, strict=False)
        ]
        yield firsts[-1], by_value(table), len(in_table)
