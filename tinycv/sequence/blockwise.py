"""FlashAttention-style blockwise attention: exact attention without storing the matrix of all
scores, for thousands of tokens.

The scores are computed in blocks that are small enough to stay in a cache.  Softmax needs the
maximum and the sum over all keys, but both can be updated block by block (online softmax; Milakov &
Gimelshein 2018, algorithm 3): when a block of keys raises the maximum from m to m', the sums so far
are multiplied by exp(m - m').

    for each block of queries:   m, l, y = -inf, 0, 0
        for each block of keys:  m' = max(m, max score)     p = exp(score - m')
                                 l = l exp(m - m') + Σ p
                                 y = y exp(m - m') + p v
        the result is y / l;  m and l of each query are kept for the backward pass

Here m is the maximum so far, p are the unnormalised weights of a block, and l is their sum so far.
The backward pass computes the weights exp(score - m) / l again (Dao et al. 2022, FlashAttention,
algorithms 1 and 4; FlashAttention-2, Dao 2023, keeps one number, m + log l).  So memory grows with
T + S, not with T S.  Blocks of queries (forward) and parts of the batch (backward) do not depend on
each other, so all cores take part (engine/blocks.py).

Read first: attention.py, whose definition this must equal.
Shapes: ... batch and heads, T queries, S keys, D width of q and k, Dv width of v.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import inf, prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from tinycv.engine.backend import Array
from tinycv.engine.blocks import in_blocks
from tinycv.engine.reduce import dot_last, max_last, sum_last

# (queries, keys) in one block. On a CPU, 256 x 512 floats are half a megabyte, the size of the
# second-level cache of a core. A GPU needs larger blocks to be busy.
CPU_BLOCK, GPU_BLOCK = (256, 512), (4096, 4096)


class Blocks:
    """The arguments of attention, and how their scores (..., T, S) are divided: into parts of the
    batch, blocks of queries (rows), and blocks of the keys that these may see (columns)."""

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
        self.query_block, self.key_block = CPU_BLOCK if xp is np else GPU_BLOCK
        self.block_size = self.query_block * self.key_block  # scores in one block
        # Small matrices of scores share a block: as many as fit.
        matrix_size = min(self.t, self.query_block) * min(self.s, self.key_block)
        self.parts = list(batch_parts(lead, self.block_size // max(1, matrix_size)))

    def rows(self) -> Iterator[slice]:
        """The blocks of queries, as slices of 0 ... T."""
        return slices(self.t, self.query_block)

    def columns(self, rows: slice) -> Iterator[slice]:
        """The blocks of keys, as slices of 0 ... S. With a causal mask, blocks that lie after all
        of these queries are left out."""
        return slices(min(self.s, rows.stop) if self.is_causal else self.s, self.key_block)

    def scratch(self) -> Array:
        """Memory for one block of scores, which all blocks use in turn."""
        return self.xp.empty(self.block_size, self.dtype)

    def add_and_mask(self, score: Array, part: tuple, rows: slice, columns: slice) -> None:
        """Adds the additive mask to the scores of one block, and sets hidden scores to -inf, both
        in place."""
        xp = self.xp
        if self.added is not None:
            score += self.added[part][..., rows, columns]
        if self.mask is not None:
            xp.copyto(score, -inf, where=~self.mask[part][..., rows, columns])
        # If the last key of the block is not after the first query, no key is after any query.
        if self.is_causal and columns.stop - 1 > rows.start:
            later = (
                xp.arange(columns.start, columns.stop) > xp.arange(rows.start, rows.stop)[:, None]
            )
            xp.copyto(score, -inf, where=later)


def slices(n: int, step: int) -> Iterator[slice]:
    """0 ... n in slices of at most ``step``."""
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def batch_parts(lead: tuple, most: int) -> Iterator[tuple]:
    """Indices that divide the leading axes into parts of ``most`` matrices or fewer; each part has
    at least one."""
    steps = []
    for n in reversed(lead):
        steps.insert(0, max(1, min(n, most)))
        most //= steps[0]
    return product(*[list(slices(n, step)) for n, step in zip(lead, steps, strict=True)])


def product_into(xp: Any, a: Array, b: Array, scratch: Array) -> Array:
    """a @ bᵀ, (..., N, D) and (..., M, D) to (..., N, M), in the memory of ``scratch``."""
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
    """(y, pull), as the kernel of scaled_dot_product_attention needs it. mask (bool) and added are
    on the device of q. q, k and v are finite (masks.py); guarded: they may be so large that their
    products overflow."""
    blocks = Blocks(xp, q, k, v, mask, added, is_causal, guarded)
    y, maxima, sums = forward(xp, blocks)
    return y, lambda g: backward(xp, blocks, y, maxima, sums, g)


def forward(xp: Any, blocks: Blocks) -> tuple[Array, Array, Array]:
    """y (..., T, Dv), and for each query the largest score m and the sum l of exp(score - m), both
    (..., T, 1). If all keys of a query are hidden, its m is 0 and its l is 1."""
    lead = blocks.q.shape[:-1]  # (..., T)
    y = xp.empty((*lead, blocks.v.shape[-1]), blocks.dtype)
    maxima = xp.empty((*lead, 1), blocks.dtype)
    sums = xp.empty((*lead, 1), blocks.dtype)
    pieces = list(product(blocks.parts, blocks.rows()))

    def work(at: slice) -> None:
        scratch = blocks.scratch()
        for part, rows in pieces[at]:
            results = forward_rows(xp, blocks, part, rows, scratch)
            for whole, result in zip((y, maxima, sums), results, strict=True):
                whole[part][..., rows, :] = result

    on_all_cores(xp, work, len(pieces), blocks)
    return y, maxima, sums


def forward_rows(
    xp: Any, blocks: Blocks, part: tuple, rows: slice, scratch: Array
) -> tuple[Array, Array, Array]:
    """y, m and l of one block of queries in one part of the batch."""
    k, v = blocks.k[part], blocks.v[part]
    queries = blocks.q[part][..., rows, :] * blocks.scale
    maximum = xp.full((*queries.shape[:-1], 1), -inf, blocks.dtype)
    total, weighted_sum = 0.0, 0.0
    for columns in blocks.columns(rows):
        p = product_into(xp, queries, k[..., columns, :], scratch)
        blocks.add_and_mask(p, part, rows, columns)
        old_maximum, maximum = maximum, xp.maximum(maximum, max_last(xp, p))
        # A query whose keys were all hidden so far has the maximum -inf. Then 0 is subtracted,
        # because -inf - (-inf) is NaN, whereas exp(-inf - 0) is 0.
        subtracted = xp.where(maximum == -inf, 0.0, maximum)
        p -= subtracted
        xp.exp(p, out=p)
        decay = xp.exp(old_maximum - subtracted)
        total = total * decay + sum_last(xp, p)
        weighted_sum = weighted_sum * decay + p @ v[..., columns, :]
    total = xp.where(total == 0, 1.0, total)  # 0 where all keys are hidden; the result is then 0
    return weighted_sum / total, subtracted, total


def on_all_cores(xp: Any, work: Callable[[slice], None], pieces: int, blocks: Blocks) -> None:
    """Call work(at) with slices of 0 ... pieces, on a CPU one piece at a time and on all cores."""
    scores = max(1, prod(blocks.q.shape[:-1]) * blocks.s // max(1, pieces))  # in one piece
    in_blocks(xp, work, pieces, scores, size=scores, products=True)


def backward(xp: Any, blocks: Blocks, y: Array, maxima: Array, sums: Array, g: Array) -> tuple:
    """dq, dk, dv, and a function that returns the gradient of the additive mask.

    For one query, with the weights w = p / l and y = Σ_j w_j v_j:

        dL/dw_j     = g · v_j
        dL/dscore_j = w_j (g · v_j - Σ_i w_i (g · v_i)) = w_j (g · v_j - g · y)

    w is never computed: instead of p, g is divided by l, because it is smaller. The subtractions in
    p = exp(score - m) and in dL/dscore become part of matrix products, whose vectors are one
    element longer:

        score - m = [q, -m] · [k, 1]        g · v - g · y = [g, -g · y] · [v, 1]
    """
    q, k, v = blocks.q, blocks.k, blocks.v
    dq, dk, dv = (xp.zeros(x.shape, blocks.dtype) for x in (q, k, v))

    def work(at: slice) -> None:
        for part in blocks.parts[at]:
            dk_part, dv_part, dq_part = dk[part], dv[part], dq[part]
            for block in score_gradient_blocks(xp, blocks, part, y, maxima, sums, g):
                rows, columns = block.rows, block.columns
                dv_part[..., columns, :] += block.p.swapaxes(-1, -2) @ block.scaled_g
                dk_part[..., columns, :] += block.ds.swapaxes(-1, -2) @ block.queries
                dq_part[..., rows, :] += block.ds @ k[part][..., columns, :]
            dq_part *= blocks.scale

    on_all_cores(xp, work, len(blocks.parts), blocks)
    return dq, dk, dv, lambda: to_added(xp, blocks, y, maxima, sums, g)


class ScoreGradients(NamedTuple):
    """What the backward pass computes for one block of scores."""

    rows: slice  # its queries
    columns: slice  # its keys
    p: Array  # exp(score - m), the weights times l
    ds: Array  # dL/d(score)
    scaled_g: Array  # g / l of its queries
    queries: Array  # q / √D of its queries


def score_gradient_blocks(
    xp: Any, blocks: Blocks, part: tuple, y: Array, maxima: Array, sums: Array, g: Array
) -> Iterator[ScoreGradients]:
    """The gradients of the scores of one part of the batch, block by block. Each block overwrites
    the arrays p and ds of the one before."""
    p_scratch, ds_scratch = blocks.scratch(), blocks.scratch()
    keys, values = (append_column(xp, x[part], 1.0) for x in (blocks.k, blocks.v))
    for rows in blocks.rows():
        queries = blocks.q[part][..., rows, :] * blocks.scale
        scaled_g = g[part][..., rows, :] / sums[part][..., rows, :]
        extended_queries = append_column(xp, queries, -maxima[part][..., rows, :])
        extended_g = append_column(xp, scaled_g, -dot_last(xp, scaled_g, y[part][..., rows, :]))
        for columns in blocks.columns(rows):
            p = product_into(xp, extended_queries, keys[..., columns, :], p_scratch)
            blocks.add_and_mask(p, part, rows, columns)
            xp.exp(p, out=p)
            ds = product_into(xp, extended_g, values[..., columns, :], ds_scratch)
            if blocks.guarded:
                # Values of hidden keys may be so huge that ds is infinite, and infinity * 0 is NaN.
                xp.copyto(ds, 0, where=p == 0)
            ds *= p
            yield ScoreGradients(rows, columns, p, ds, scaled_g, queries)


def to_added(xp: Any, blocks: Blocks, y: Array, maxima: Array, sums: Array, g: Array) -> Array:
    """The gradient of the additive mask, (..., T, S)."""
    gradient = xp.zeros(blocks.added.shape, blocks.dtype)
    for part in blocks.parts:
        for block in score_gradient_blocks(xp, blocks, part, y, maxima, sums, g):
            gradient[part][..., block.rows, block.columns] = block.ds
    return gradient.astype(blocks.added.dtype)


def append_column(xp: Any, x: Array, last: Array | float) -> Array:
    """(..., N, D) to (..., N, D + 1): each vector extended by ``last``."""
    y = xp.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    y[..., :-1], y[..., -1:] = x, last
    return y
