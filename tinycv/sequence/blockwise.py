"""Attention without its N x N matrix: block by block, each block of scores small enough to stay in
a cache.

Softmax needs a maximum and a sum over all keys, but both can be carried along (Milakov & Gimelshein
2018, algorithm 3): when a block of keys brings the maximum from m to m', what was summed so far is
worth exp(m - m') of what it was.

    for each block of queries:   m, l, y = -inf, 0, 0
        for each block of keys:  m' = max(m, max s)    p = exp(s - m')    l = l exp(m - m') + Σ p
                                 y = y exp(m - m') + p v
        y / l,  and for the way back two numbers for each query, m and l

The way back computes p = exp(s - m) / l again (Dao et al. 2022, FlashAttention, algorithms 1 and 4;
FlashAttention-2, Dao 2023, keeps one number, m + log l).  So memory grows with T + S, not with T S.
On a CPU it takes about as long as keeping p, once p falls out of the cache.

Read before: attention.py, whose definition this must equal.
Shapes: ... batch and heads, T queries, S keys, D and Dv widths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import inf, prod, sqrt
from typing import Any

import numpy as np

from tinycv.engine.backend import Array
from tinycv.engine.reduce import dot_last, max_last, sum_last

# Scores of one block: on a CPU 256 x 512 floats, half a megabyte, which is a core's second cache; a
# GPU needs more work at once.
CPU_BLOCK, GPU_BLOCK = (256, 512), (4096, 4096)


class Blocks:
    """How the scores (..., T, S) are cut: parts of the batch, blocks of queries, and the keys each
    of these may see."""

    def __init__(
        self,
        xp: Any,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        added: Array | None,
        is_causal: bool,
        guarded: bool,
    ):
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        self.xp = xp
        self.is_causal = is_causal
        self.guarded = guarded
        self.scale = 1 / sqrt(q.shape[-1])
        self.q, self.k, self.v = (xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
        self.t, self.s = q.shape[-2], k.shape[-2]
        shape = *lead, self.t, self.s
        self.mask: Any = None if mask is None else xp.broadcast_to(mask, shape)
        self.added: Any = None if added is None else xp.broadcast_to(added, shape)
        self.dtype = xp.result_type(q, k, v)
        self.queries, self.keys = CPU_BLOCK if xp is np else GPU_BLOCK
        most = self.queries * self.keys
        self.parts = list(
            parts(lead, most // max(1, min(self.t, self.queries) * min(self.s, self.keys)))
        )
        self.most = most

    def rows(self) -> Iterator[slice]:
        """The blocks of queries."""
        return cuts(self.t, self.queries)

    def columns(self, rows: slice) -> Iterator[slice]:
        """The blocks of keys that some of these queries may look at."""
        return cuts(min(self.s, rows.stop) if self.is_causal else self.s, self.keys)

    def scratch(self) -> Array:
        """Memory for one block, used by one after another."""
        return self.xp.empty(self.most, self.dtype)

    def finish(self, score: Array, part: tuple, rows: slice, columns: slice) -> None:
        """What is added to the scores of one block; and -inf in place of those that must not be
        seen."""
        xp = self.xp
        if self.added is not None:
            score += self.added[part][..., rows, columns]
        if self.mask is not None:
            xp.copyto(score, -inf, where=~self.mask[part][..., rows, columns])
        # else the whole block is in the past
        if self.is_causal and columns.stop - 1 > rows.start:
            later = (
                xp.arange(columns.start, columns.stop) > xp.arange(rows.start, rows.stop)[:, None]
            )
            xp.copyto(score, -inf, where=later)


def cuts(n: int, step: int) -> Iterator[slice]:
    """0 ... n in slices of at most ``step``."""
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def parts(lead: tuple, most: int) -> Iterator[tuple]:
    """Indices that cut the leading axes into parts of at most ``most`` matrices, or of one."""
    steps = []
    for n in reversed(lead):
        steps.insert(0, max(1, min(n, most)))
        most //= steps[0]
    return product(*[list(cuts(n, step)) for n, step in zip(lead, steps, strict=True)])


def times(xp: Any, a: Array, b: Array, scratch: Array) -> Array:
    """a @ bᵀ, (..., N, D), (..., M, D) -> (..., N, M), in the memory of ``scratch``."""
    shape = (*a.shape[:-1], b.shape[-2])
    return xp.matmul(a, b.swapaxes(-1, -2), out=scratch[: prod(shape)].reshape(shape))


def blockwise(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    added: Array | None = None,
    is_causal: bool = False,
    guarded: bool = False,
) -> tuple[Array, Callable]:
    """(y, pull), as a kernel of scaled_dot_product_attention; mask (bools) and added on the device
    of q. All of q, k and v are finite (masks.py); guarded: they may be so large that products of
    them overflow."""
    blocks = Blocks(xp, q, k, v, mask, added, is_causal, guarded)
    y, top, total = forward(xp, blocks)
    return y, lambda g: backward(xp, blocks, y, top, total, g)


def forward(xp: Any, blocks: Blocks) -> tuple[Array, Array, Array]:
    """y (..., T, Dv), each query's greatest score and its sum of exp(score - greatest), (..., T, 1)
    each."""
    q, k, v, scratch = blocks.q, blocks.k, blocks.v, blocks.scratch()
    y, tops, totals = (xp.empty((*q.shape[:-1], n), blocks.dtype) for n in (v.shape[-1], 1, 1))
    for part in blocks.parts:
        for rows in blocks.rows():
            asked = q[part][..., rows, :] * blocks.scale
            top, total, mean = xp.full((*asked.shape[:-1], 1), -inf, blocks.dtype), 0.0, 0.0
            for columns in blocks.columns(rows):
                p = times(xp, asked, k[part][..., columns, :], scratch)
                blocks.finish(p, part, rows, columns)
                before, top = top, xp.maximum(top, max_last(xp, p))
                # of a row that has seen nothing: exp(-inf - 0) is 0
                below = xp.where(top == -inf, 0.0, top)
                p -= below
                xp.exp(p, out=p)
                fade = xp.exp(before - below)
                total = total * fade + sum_last(xp, p)
                mean = mean * fade + p @ v[part][..., columns, :]
            total = xp.where(total == 0, 1.0, total)
            y[part][..., rows, :] = mean / total
            tops[part][..., rows, :], totals[part][..., rows, :] = below, total
    return y, tops, totals


def backward(xp: Any, blocks: Blocks, y: Array, tops: Array, totals: Array, g: Array) -> tuple:
    """dq, dk, dv, and a function that returns the gradient of what was added.  The division by l is
    g's.  Two subtractions ride along in products that are made anyway, of vectors one longer:

        s - m = [q, -m] · [k, 1]          dp - Σ g y = [g, -Σ g y] · [v, 1]
    """
    q, k, v = blocks.q, blocks.k, blocks.v
    dq, dk, dv = (xp.zeros(x.shape, blocks.dtype) for x in (q, k, v))
    for part in blocks.parts:
        dk_part, dv_part, dq_part = dk[part], dv[part], dq[part]
        for rows, columns, p, ds, got, asked in walk(xp, blocks, part, y, tops, totals, g):
            dv_part[..., columns, :] += p.swapaxes(-1, -2) @ got
            dk_part[..., columns, :] += ds.swapaxes(-1, -2) @ asked
            dq_part[..., rows, :] += ds @ k[part][..., columns, :]
        dq_part *= blocks.scale
    return dq, dk, dv, lambda: to_added(xp, blocks, y, tops, totals, g)


def walk(
    xp: Any, blocks: Blocks, part: tuple, y: Array, tops: Array, totals: Array, g: Array
) -> Iterator[tuple]:
    """Block by block of one part: its rows and columns, p l, dL/d(score), and of its queries g / l
    and q scaled."""
    scratch, other = blocks.scratch(), blocks.scratch()
    keys, values = (longer(xp, x[part], 1.0) for x in (blocks.k, blocks.v))
    for rows in blocks.rows():
        asked = blocks.q[part][..., rows, :] * blocks.scale
        got = g[part][..., rows, :] / totals[part][..., rows, :]
        asked_longer = longer(xp, asked, -tops[part][..., rows, :])
        got_longer = longer(xp, got, -dot_last(xp, got, y[part][..., rows, :]))
        for columns in blocks.columns(rows):
            p = times(xp, asked_longer, keys[..., columns, :], scratch)
            blocks.finish(p, part, rows, columns)
            xp.exp(p, out=p)
            ds = times(xp, got_longer, values[..., columns, :], other)
            if blocks.guarded:
                xp.copyto(ds, 0, where=p == 0)
            ds *= p
            yield rows, columns, p, ds, got, asked


def to_added(xp: Any, blocks: Blocks, y: Array, tops: Array, totals: Array, g: Array) -> Array:
    """The gradient of what was added to the scores, (..., T, S)."""
    found = xp.zeros(blocks.added.shape, blocks.dtype)
    for part in blocks.parts:
        for rows, columns, _, ds, _, _ in walk(xp, blocks, part, y, tops, totals, g):
            found[part][..., rows, columns] = ds
    return found.astype(blocks.added.dtype)


def longer(xp: Any, x: Array, last: Array | float) -> Array:
    """(..., N, D) -> (..., N, D + 1), with ``last`` behind each vector."""
    y = xp.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    y[..., :-1], y[..., -1:] = x, last
    return y
