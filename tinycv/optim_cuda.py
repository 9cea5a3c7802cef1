"""Optimisers on a GPU: Adam changes up to 96 parameters in one launch, and a clipped gradient norm takes two for as many.

By array calls Adam is a dozen launches for every large parameter, and as many for all small ones together, which have to
be copied side by side first (engine/flat.py).  Here the kernel is handed where each parameter lies, as a table among its
arguments; a warp looks its stretch of 1024 weights up in it.  What it must equal is read in optim.py; how it is written,
in engine/cuda.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinycv.engine.cuda import Kernels, by_value, packed

MOST, STRETCH = 96, 1024                        # of 40 bytes each: 4 KB is what a kernel's arguments may have in all
PART = np.dtype([("p", "u8"), ("g", "u8"), ("size", "i8"), ("offset", "i8"), ("first", "i8")])
PARTS = np.dtype([("part", PART, MOST)])

kernels = Kernels(f"#define MOST {MOST}\n#define STRETCH {STRETCH}\n" + r"""
struct Part { T *p, *g; Int size, offset, first; };     // offset: into m and v; first: the row of its first stretch
struct Parts { Part part[MOST]; };

// rate and bend: lr and sqrt(1 - beta2^step), with the bias corrections in them; shrink: AdamW's decay, apart from g.
struct Settings { double rate, bend, beta1, beta2, eps, shrink, decay; };

// The part that a row belongs to: the last whose first row is no later.
__device__ const Part& of(Int row, const Parts& parts, Int count) {
    Int low = 0, high = count - 1;
    while (low < high) {
        const Int middle = (low + high + 1) / 2;
        if (parts.part[middle].first <= row) low = middle; else high = middle - 1;
    }
    return parts.part[low];
}

#define EACH_WEIGHT(i, row, part) for (Int i = (row - part.first) * STRETCH + threadIdx.x; \
                                       i < part.size && i < (row - part.first + 1) * STRETCH; i += LANES)

// sent: settings that lie on the device, because a step that was recorded (engine/capture.py) has those given for good.
KERNEL adam(Int rows, const Parts parts, Int count, A* m, A* v, const Settings given, const double* sent) {
    const Settings s = sent ? *(const Settings*)sent : given;
    EACH_ROW(row, rows) {
        const Part& part = of(row, parts, count);
        EACH_WEIGHT(i, row, part) {
            const Int at = part.offset + i;
            A p = A(part.p[i]) * A(s.shrink);
            const A g = A(part.g[i]) + A(s.decay) * p;
            const A mean = A(s.beta1) * m[at] + A(1 - s.beta1) * g;
            const A square = A(s.beta2) * v[at] + A(1 - s.beta2) * g * g;
            m[at] = mean;
            v[at] = square;
            part.p[i] = T(p - A(s.rate) * mean / (sqrt(square) + A(s.eps * s.bend)));
        }
    }
}

// Settings to where a recorded step reads them.
KERNEL put_settings(Int rows, const Settings given, double* sent) {
    EACH_ROW(row, rows) if (threadIdx.x == 0) *(Settings*)sent = given;
}

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
""")


def tables(ps: Sequence[Any], gs: Sequence[Any], offsets: Sequence[int]) -> Any:
    """(rows, table, how many) for each MOST parameters. p, g: arrays in one piece; an empty one takes no part."""
    kept = [(p, g, offset) for p, g, offset in zip(ps, gs, offsets, strict=True) if g.size]
    for start in range(0, len(kept), MOST):
        some = kept[start:start + MOST]
        firsts = [0, *accumulate(-(-g.size // STRETCH) for _, g, _ in some)]
        table = np.zeros(1, PARTS)
        table["part"][0, :len(some)] = [(p.data.ptr, g.data.ptr, g.size, offset, first)
                                        for (p, g, offset), first in zip(some, firsts, strict=False)]
        yield firsts[-1], by_value(table), len(some)


SETTINGS = np.dtype([(name, "f8") for name in ("rate", "bend", "beta1", "beta2", "eps", "shrink", "decay")])


def adam(xp: Any, ps: Sequence[Any], gs: Sequence[Any], offsets: Sequence[int], m: Any, v: Any, step: int, sent: Any = None,
         **options: Any) -> None:
    """One step of Adam, in place, of parameters whose m and v lie at ``offsets`` of two flat
    arrays.

    m and v of halves are float32: the squares of small gradients are 0 in float16, and so is an eps
    of 1e-8.
    sent: an array of seven float64, which is read in place of the step and the options; see
    ``send``.
    """
    gs, given = packed(xp, *gs), settings(step, **options)
    for rows, table, count in tables(ps, gs, offsets):
        kernels.adam(ps[0], rows, rows, table, count, m, v, given, sent)


def settings(step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float,
             decoupled: bool = False) -> np.ndarray:
    """The kernel's struct Settings. decoupled: AdamW's decay."""
    beta1, beta2 = betas
    bend = (1 - beta2 ** step) ** 0.5
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    return by_value(np.array([(lr * bend / (1 - beta1 ** step), bend, beta1, beta2, eps, shrink, decay)], SETTINGS))


def send(m: Any, sent: Any, step: int, **options: Any) -> None:
    """Put the settings of this step where ``adam`` reads them: a launch, and nothing waits. m: an
    array of a float type.
    """
    kernels.put_settings(m, 1, 1, settings(step, **options), sent)


def clip(xp: Any, gs: Sequence[Any], max_norm: float) -> Any:
    """Scale gradients of one dtype, each in one piece, in place by one factor; returns their norm
    before, of shape ().

    The norm is summed in float32 for halves, and returned in it: squares of 256 and more overflow
    float16.
    """
    wide = xp.promote_types(gs[0].dtype, "float32")
    made = list(tables(gs, gs, [0] * len(gs)))
    sums = xp.zeros(max(1, sum(rows for rows, _, _ in made)), wide)
    for (rows, table, count), start in zip(made, accumulate((rows for rows, _, _ in made), initial=0), strict=False):
        kernels.square_sums(gs[0], rows, rows, table, count, sums[start:start + rows])
    norm = xp.sqrt(sums.sum())
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for rows, table, count in made:
        kernels.scale(gs[0], rows, rows, table, count, factor)
    return norm
