"""Attention: every token asks a question, and takes an average of the answers.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d) V                       Vaswani et al. 2017, eq. 1
    MultiHead(Q, K, V) = Concat(head_1 ... head_h) Wᴼ               ibid., section 3.2.2
    head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)

The division by √d keeps scores of variance 1: a sum of d products of variance 1 has variance d, and
softmax of large scores is nearly an argmax, whose gradient is nearly 0 (ibid., section 3.2.1).

A decoder writes token by token, and what a token offers to those after it, its key and value, never
changes.  So they are kept: step t then costs one query over t keys, in place of t queries.  What is
kept is passed in and handed back.

Read before: softmax in nn/softmax.py.
Read next: masks.py, transformer.py, or blockwise.py for thousands of tokens.
Seen at work: demos/05_transformer.py, demos/06_vit.py.
Shapes: B batch, H heads, T queries, S keys, D width of one head, E = H D width of the model.
"""

from __future__ import annotations

from math import inf, nan, prod, sqrt
from typing import Any

import numpy as np

from tinycv.engine.arguments import flag, number, size
from tinycv.engine.create import eye
from tinycv.engine.fused import fused
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import isfinite, where
from tinycv.engine.reduce import as_rows, dot_last, exp_rows, few
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn import init
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Linear, linear
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.sequence.blockwise import blockwise
from tinycv.sequence.inputs import (
    batch_leads,
    check_past,
    check_remembered,
    check_tokens,
    score_shape,
)
from tinycv.sequence.masks import (
    all_finite,
    answers,
    causal_mask,
    finite_part,
    hidden_scores,
    in_view,
    sees_one,
    surely_below,
    together_with,
    understood,
    without_lost,
)


@fused(whole="attn_mask")
def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: ArrayLike | None = None, is_causal: bool = False
) -> Tensor:
    """Average of the values ``v``, weighted by how well keys match queries.

    q (B, H, T, D), k (B, H, S, D), v (B, H, S, Dv). Returns (B, H, T, Dv). is_causal: query t may
    look at keys 0 ... t.
    attn_mask: of a shape that broadcasts to (B, H, T, S), so one of two axes is (T, S), as
    PyTorch's: padding (B, S) must come as (B, 1, 1, S) (masks.py). Bools: True where a query may
    look. Floats: added to the scores, and learned where they require a gradient; -inf hides a key.
    A query that may look nowhere gets zeros, and a zero gradient (differs: PyTorch's softmax makes
    NaN of it). What is hidden from a query does not reach it, even if it is NaN; where there is a
    mask, a query that may see a key or value that is not finite gets NaN, and passes no gradient
    (differs: in PyTorch a hidden NaN reaches every query).
    """
    shape, is_causal = score_shape(q, k, v), flag(is_causal, "is_causal")
    if not shape[-1]:
        return q @ k.swapaxes(-1, -2) @ v  # no keys: zeros
    mask, added, answered, instead = in_view(q, k, v, attn_mask, is_causal, shape)
    if mask is not None:
        q, k, v = where(answered, q, 0.0), finite_part(k), finite_part(v)
    score = q @ k.swapaxes(-1, -2) / sqrt(q.shape[-1])  # (B, H, T, S)
    if added is not None:
        score = score + added
    if mask is None:
        return softmax(score, axis=-1) @ v  # (B, H, T, Dv)
    weight = softmax(where(mask, score, hidden_scores(mask, score.dtype)), axis=-1)
    return where(answered, where(mask, weight, 0.0) @ v, instead)


class MultiheadAttention(Module):
    """H attentions side by side, each on its own D = E / H dimensions of the width.

    Parameters as PyTorch's: in_proj_weight (3E, E) and in_proj_bias (3E,) make q, k, v in that
    order; out_proj.
    differs: always batch first (batch_first=False is refused); a mask of bools is True where a
    query *may* look, and padding is a mask like any other, (B, 1, 1, S); dropout falls on the
    output, not the weights.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        batch_first: bool = True,
    ):
        embed_dim = size(embed_dim, "MultiheadAttention: embed_dim", 1)
        num_heads = size(num_heads, "MultiheadAttention: num_heads", 1)
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim {embed_dim} must divide into num_heads "
                f"{num_heads}: {embed_dim} / {num_heads} leaves {embed_dim % num_heads}"
            )
        batch_leads(batch_first, "MultiheadAttention")
        bias = flag(bias, "MultiheadAttention: bias")
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.dropout = number(dropout, "MultiheadAttention: dropout", 0, 1)
        self.in_proj_weight = init.xavier_uniform((3 * embed_dim, embed_dim))
        self.in_proj_bias = init.zeros((3 * embed_dim,)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        if bias:
            self.out_proj.bias = init.zeros((embed_dim,))

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        attn_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """query (B, T, E) looks at key and value (B, S, E); both are the query where left out
        (self-attention). attn_mask: bools or floats that broadcast to (B, H, T, S), as in
        scaled_dot_product_attention. Returns (B, T, E)."""
        check_tokens("MultiheadAttention", ("key", "value"), query=query, key=key, value=value)
        if key is None and value is None:
            query = without_lost(query, attn_mask)
        key, value = (x if x is None else without_lost(x, attn_mask) for x in (key, value))
        # (B, H, T or S, D)
        q, k, v = (self.apart(x) for x in self.project(query, key, value))
        return self.answer(q, k, v, attn_mask, is_causal)

    def answer(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        # (B, H, T, D)
        y = scaled_dot_product_attention(q, k, v, attn_mask, is_causal)
        return dropout(self.out_proj(self.together(y)), self.dropout, self.training)  # (B, T, E)

    def follow(self, x: Tensor, past: tuple | None = None) -> tuple:
        """Causal self-attention of tokens x (B, T, E) that come after others. past: the others'
        keys and values, each (B, H, S, D), or None where there are none. Returns (B, T, E), and
        past with those of x at its end."""
        check_tokens("MultiheadAttention.follow", x=x)
        check_past(past, (x.shape[0], self.num_heads, self.embed_dim // self.num_heads))
        # (B, H, T, D)
        q, k, v = (self.apart(y) for y in self.project(x, None, None))
        if past is None:
            return self.answer(q, k, v, is_causal=True), (k, v)
        # (B, H, S + T, D)
        k, v = (concatenate([old, new], axis=2) for old, new in zip(past, (k, v), strict=True))
        t, s = x.shape[1], k.shape[2]
        # the last token may see all
        mask = causal_mask(t, s, past=s - t) if t > 1 else None
        return self.answer(q, k, v, mask), (k, v)

    def remember(self, memory: Tensor) -> tuple:
        """Keys and values, each (B, H, S, D), of a memory (B, S, E) that many queries will ask: see
        ``recall``.

        Which of them a query may see is not known yet. So the key and value of a token that is not
        finite are NaN, and pass no gradient: to whom it is hidden, it stays so, and it reaches no
        matrix.
        """
        check_tokens("MultiheadAttention.remember", (), memory=memory)
        if surely_below(inf, memory):
            both = self.made_of(memory, 1, 3)  # (B, S, 2E)
        else:
            finite = isfinite(memory).all(axis=-1, keepdims=True)  # (B, S, 1)
            both = where(finite, self.made_of(where(finite, memory, 0.0), 1, 3), nan)
        k, v = split(both, 2, axis=-1)
        return self.apart(k), self.apart(v)

    def recall(
        self, query: Tensor, remembered: tuple, attn_mask: ArrayLike | None = None
    ) -> Tensor:
        """What query (B, T, E) finds in ``remember(memory)``: as ``self(query, memory)``, the
        memory projected once."""
        check_tokens("MultiheadAttention.recall", query=query)
        check_remembered(remembered, self.num_heads, self.embed_dim // self.num_heads)
        k, v = remembered
        return self.answer(self.apart(self.made_of(query, 0, 1)), k, v, attn_mask)

    def weights(
        self,
        query: Tensor,
        key: Tensor | None = None,
        attn_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Where each query looks: (B, H, T, S). Each row sums to 1, or is 0 where the query may
        look nowhere. For pictures: attention itself never keeps it."""
        check_tokens("MultiheadAttention.weights", ("key",), query=query, key=key)
        q, k, _ = (self.apart(x) for x in self.project(query, key, key))
        # the values: which key
        every_key = eye(k.shape[2], dtype=q.dtype, device=k.device)[None, None]
        return scaled_dot_product_attention(q, k, every_key, attn_mask, is_causal)

    def project(self, query: Tensor, key: Tensor | None, value: Tensor | None) -> list:
        """q, k, v (B, T or S, E) by one product where all three are made of the same tokens."""
        if key is None and value is None:
            return split(linear(query, self.in_proj_weight, self.in_proj_bias), 3, axis=-1)
        key = query if key is None else key
        value = key if value is None else value
        return [self.made_of(x, i, i + 1) for i, x in enumerate((query, key, value))]

    def made_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Those of q, k, v from number ``first`` to before ``last``, side by side."""
        rows = slice(first * self.embed_dim, last * self.embed_dim)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return linear(x, self.in_proj_weight[rows], bias)

    def apart(self, x: Tensor) -> Tensor:  # (B, T, E) -> (B, H, T, D)
        b, t, e = x.shape
        return x.reshape((b, t, self.num_heads, e // self.num_heads)).swapaxes(1, 2)

    def together(self, x: Tensor) -> Tensor:  # (B, H, T, D) -> (B, T, E)
        b, h, t, d = x.shape
        return x.swapaxes(1, 2).reshape((b, t, h * d))


# ── below this line: speed. The definition above is what it must equal ───────────────────────────

# From this many bytes of scores on (batch and heads together), blocks take about as long as keeping
# p: measured on a CPU with 512 KB of L2 and 32 MB of L3. A GPU's memory is fast at any size: there
# it is a question of memory alone.
CPU_LARGE, GPU_LARGE = 16 << 20, 1 << 30


@scaled_dot_product_attention.kernel
def _attention(xp, q, k, v, attn_mask=None, is_causal=False):
    shape, is_causal = score_shape(q, k, v), flag(is_causal, "is_causal")
    if not shape[-1]:  # no keys: zeros
        y = xp.zeros((*shape[:-1], v.shape[-1]), xp.result_type(q, k, v))
        return y, lambda g: tuple(xp.zeros_like(x) for x in (q, k, v))
    may_look, added = understood(attn_mask, xp, shape)
    if may_look is None and not is_causal:
        return attend(xp, q, k, v, None, added, False)
    if (
        xp is np
        and all_finite(q, k, v)
        and (may_look is None or sees_one(xp, may_look, is_causal, shape[-2]).all())
    ):
        # a GPU is not asked: that would wait
        return attend(xp, q, k, v, may_look, added, is_causal)
    answered, instead = answers(xp, q, k, v, may_look, is_causal)
    asked, keys, values = xp.where(answered, q, 0.0), finite_part(k), finite_part(v)
    y, pull = attend(
        xp, asked, keys, values, may_look, added, is_causal, xp.where(answered, -inf, 0.0)
    )
    return xp.where(answered, y, instead), lambda g: pull(xp.where(answered, g, 0.0))


def is_large(xp: Any, q: Any, k: Any) -> bool:
    """Would all the scores of q and k together fill so much memory that blocks are better?"""
    return q.size // max(1, q.shape[-1]) * k.shape[-2] * q.itemsize > (
        CPU_LARGE if xp is np else GPU_LARGE
    )


def attend(xp, q, k, v, may_look, added, is_causal, hidden=None):
    """(y, pull) of queries, keys and values that are finite. hidden (..., T, 1): the score of what
    may not be seen, 0 in rows without an answer, which are left as they come: their gradient is 0.
    None: every row sees something, and no number is so large that a product overflows."""
    if is_large(xp, q, k):  # no (T, S) array at all
        return blockwise(xp, q, k, v, may_look, added, is_causal, hidden is not None)
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (xp.broadcast_to(x, (lead or (1,)) + x.shape[-2:]) for x in (q, k, v))
    scale, dtype = 1 / sqrt(q.shape[-1]), xp.result_type(q, k, v)
    p = xp.empty((*q.shape[:-1], k.shape[-2]), dtype)  # (B, H, T, S)
    y = across_heads(xp, q.shape[:-1], v.shape[-1], dtype)
    most = greatest_scores(xp, together_with(may_look, is_causal, xp, p.shape), hidden, p)
    added_dtype = getattr(added, "dtype", None)
    added = None if added is None else xp.broadcast_to(added, p.shape)
    batches = few(xp, len(p), prod(p.shape[1:]))
    for at in batches:
        score = (q[at] * scale) @ k[at].swapaxes(-1, -2)
        if added is not None:
            score += added[at]
        if most is not None:
            # of NaN, where scores overflowed, and -inf: -inf
            xp.fmin(score, most[at], out=score)
        rows = as_rows(p[at])
        rows /= exp_rows(xp, as_rows(score), out=rows)[0]
        xp.matmul(p[at], v[at], out=y[at])

    def slopes(g, at):
        return to_scores(xp, g[at], v[at], y[at], p[at], guarded=hidden is not None)

    def pull(g):
        g = g.reshape(y.shape)
        dq, dk, dv = (across_heads(xp, x.shape[:-1], x.shape[-1], dtype) for x in (q, k, v))
        for at in batches:
            ds = slopes(g, at)
            ds *= scale
            xp.matmul(ds, k[at], out=dq[at])
            xp.matmul(ds.swapaxes(-1, -2), q[at], out=dk[at])
            xp.matmul(p[at].swapaxes(-1, -2), g[at], out=dv[at])

        def to_added():
            # asked for only where something was added
            return slopes(g, slice(None)).reshape(lead + p.shape[-2:]).astype(added_dtype)

        return *[d.reshape(lead + d.shape[-2:]) for d in (dq, dk, dv)], to_added

    return y.reshape(lead + y.shape[-2:]), pull


def greatest_scores(xp, mask, hidden, p):
    """What no score of p's shape may be above: inf, or what hides it. None without a mask."""
    if mask is None:
        return None
    most = xp.where(mask, inf, -inf if hidden is None else hidden).astype(p.dtype)
    return xp.broadcast_to(most, p.shape)


def to_scores(xp, g, v, y, p, guarded):
    """dL/d(score) of softmax(score) = p and y = p v, from g = dL/dy: p (dp - Σ p dp), and Σ p dp is
    Σ g y (Dao et al. 2022, appendix B). guarded: dp may be infinite where the value is huge."""
    ds = g @ v.swapaxes(-1, -2)
    ds -= dot_last(xp, g, y)
    if guarded:
        xp.copyto(ds, 0, where=p == 0)
    ds *= p
    return ds


def across_heads(xp, lead, width, dtype):
    """Memory for (B, H, T, D), in the order (B, T, H, D): so the heads lie together where they are
    joined again."""
    if len(lead) < 3:
        return xp.empty((*lead, width), dtype)
    *b, h, t = lead
    return xp.empty((*b, t, h, width), dtype).swapaxes(-2, -3)
