"""Scaled dot-product attention and multi-head attention, with the key-value cache that writes token
by token.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d) V                       Vaswani et al. 2017, eq. 1
    MultiHead(Q, K, V) = Concat(head_1 ... head_h) Wᴼ               ibid., section 3.2.2
    head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)

Each query is compared with every key; the softmax turns the scores into weights, and the result is
the weighted average of the values.

Dividing by √d keeps the variance of the scores at 1.  A sum of d products of variance 1 has
variance d, and the softmax of large scores is almost an argmax, whose gradient is almost 0 (ibid.,
section 3.2.1).

A decoder writes token by token, and the key and value of a token never change once it is written.
So they are kept (the key-value cache, here ``past``): step t then needs one query over t keys
instead of t queries.  The cache is an argument and a result; the layer does not store it.

Read first: softmax in nn/softmax.py.
Read next: masks.py, transformer.py, or blockwise.py for thousands of tokens.
Demos: demos/05_transformer.py, demos/06_vit.py.
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
from tinycv.engine.reduce import as_rows, dot_last, exp_rows, slices_of_examples
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn import init
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Linear, linear
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.sequence.blockwise import blockwise
from tinycv.sequence.inputs import (
    check_past,
    check_remembered,
    check_tokens,
    require_batch_first,
    score_shape,
)
from tinycv.sequence.masks import (
    all_finite,
    answered_queries,
    attention_masks,
    causal_mask,
    finite_part,
    hidden_scores,
    known_below,
    sees_any,
    split_mask,
    with_causal_mask,
    zero_hidden_tokens,
)


@fused(whole="attn_mask")
def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: ArrayLike | None = None, is_causal: bool = False
) -> Tensor:
    """The average of the values ``v``, weighted by how well the keys match each query.

    q (B, H, T, D), k (B, H, S, D), v (B, H, S, Dv). Returns (B, H, T, Dv). is_causal: query t may
    look only at keys 0 ... t.
    attn_mask: broadcasts to (B, H, T, S). As in PyTorch, a mask of two axes is (T, S); a padding
    mask (B, S) must be passed as (B, 1, 1, S) (masks.py). Bools: True where a query may look.
    Floats: added to the scores, and learned if they require a gradient; -inf hides a key.
    A query that may look nowhere returns zeros and has zero gradient (differs: PyTorch returns
    NaN). A hidden key or value never reaches a query, even if it is NaN (differs: in PyTorch it
    reaches every query). With a mask, a query that may see a key or value that is not finite
    returns NaN and passes no gradient.
    """
    shape, is_causal = score_shape(q, k, v), flag(is_causal, "is_causal")
    if not shape[-1]:
        return q @ k.swapaxes(-1, -2) @ v  # without keys, an empty sum: zeros
    mask, added, answered, fallback = attention_masks(q, k, v, attn_mask, is_causal, shape)
    if mask is not None:
        q, k, v = where(answered, q, 0.0), finite_part(k), finite_part(v)
    score = q @ k.swapaxes(-1, -2) / sqrt(q.shape[-1])  # (B, H, T, S)
    if added is not None:
        score = score + added
    if mask is None:
        return softmax(score, axis=-1) @ v  # (B, H, T, Dv)
    weight = softmax(where(mask, score, hidden_scores(mask, score.dtype)), axis=-1)
    return where(answered, where(mask, weight, 0.0) @ v, fallback)


class MultiheadAttention(Module):
    """Multi-head attention: H attentions in parallel, each on its own D = E / H dimensions.

    The parameters are named as in PyTorch: in_proj_weight (3E, E) and in_proj_bias (3E,) stack the
    projections of q, k and v, in this order; out_proj.
    differs: always batch first (batch_first=False is refused); a bool mask is True where a query
    *may* look; a padding mask is an attn_mask of shape (B, 1, 1, S); dropout is applied to the
    output, not to the weights.
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
                f"MultiheadAttention: embed_dim {embed_dim} must be divisible by num_heads "
                f"{num_heads}, but the remainder is {embed_dim % num_heads}"
            )
        require_batch_first(batch_first, "MultiheadAttention")
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
        """query (B, T, E) attends to key and value (B, S, E). Without key and value, the query
        attends to itself (self-attention). attn_mask: bools or floats that broadcast to (B, H, T,
        S), as in scaled_dot_product_attention. Returns (B, T, E)."""
        check_tokens("MultiheadAttention", ("key", "value"), query=query, key=key, value=value)
        if key is None and value is None:
            query = zero_hidden_tokens(query, attn_mask)
        key, value = (x if x is None else zero_hidden_tokens(x, attn_mask) for x in (key, value))
        # (B, H, T or S, D)
        q, k, v = (self.split_heads(x) for x in self.project(query, key, value))
        return self.attend_and_merge(q, k, v, attn_mask, is_causal)

    def attend_and_merge(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attention of each head, then the output projection of all heads together."""
        y = scaled_dot_product_attention(q, k, v, attn_mask, is_causal)  # (B, H, T, D)
        return dropout(self.out_proj(self.merge_heads(y)), self.dropout, self.training)  # (B, T, E)

    def follow(self, x: Tensor, past: tuple | None = None) -> tuple:
        """Causal self-attention of the next tokens x (B, T, E), with a key-value cache. past: the
        keys and values of the S tokens before x, (B, H, S, D) each, or None if x comes first.
        Returns (B, T, E), and past with the keys and values of x appended."""
        check_tokens("MultiheadAttention.follow", x=x)
        check_past(past, (x.shape[0], self.num_heads, self.embed_dim // self.num_heads))
        # (B, H, T, D)
        q, k, v = (self.split_heads(y) for y in self.project(x, None, None))
        if past is None:
            return self.attend_and_merge(q, k, v, is_causal=True), (k, v)
        # (B, H, S + T, D)
        k, v = (concatenate([old, new], axis=2) for old, new in zip(past, (k, v), strict=True))
        t, s = x.shape[1], k.shape[2]
        # A single new token comes last, so it may see all keys and needs no mask.
        mask = causal_mask(t, s, past=s - t) if t > 1 else None
        return self.attend_and_merge(q, k, v, mask), (k, v)

    def remember(self, memory: Tensor) -> tuple:
        """The keys and values, (B, H, S, D) each, of an encoder output (B, S, E) (PyTorch calls it
        memory), computed once for many calls of ``recall``.

        It is not known yet which tokens a query may see. So a token that is not finite gets the key
        and value NaN and passes no gradient. A mask can still hide it, and it affects no weight.
        """
        check_tokens("MultiheadAttention.remember", (), memory=memory)
        if known_below(inf, memory):
            both = self.project_rows(memory, 1, 3)  # (B, S, 2E)
        else:
            finite = isfinite(memory).all(axis=-1, keepdims=True)  # (B, S, 1)
            both = where(finite, self.project_rows(where(finite, memory, 0.0), 1, 3), nan)
        k, v = split(both, 2, axis=-1)
        return self.split_heads(k), self.split_heads(v)

    def recall(
        self, query: Tensor, remembered: tuple, attn_mask: ArrayLike | None = None
    ) -> Tensor:
        """Cross-attention of query (B, T, E) to ``remember(memory)``. Equals ``self(query,
        memory)``, without projecting memory again."""
        check_tokens("MultiheadAttention.recall", query=query)
        check_remembered(remembered, self.num_heads, self.embed_dim // self.num_heads)
        k, v = remembered
        q = self.split_heads(self.project_rows(query, 0, 1))
        return self.attend_and_merge(q, k, v, attn_mask)

    def weights(
        self,
        query: Tensor,
        key: Tensor | None = None,
        attn_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The attention weights (B, H, T, S). Each row sums to 1, or is 0 if the query may look
        nowhere. They are computed for pictures only; ``forward`` does not keep them."""
        check_tokens("MultiheadAttention.weights", ("key",), query=query, key=key)
        q, k, _ = (self.split_heads(x) for x in self.project(query, key, key))
        # With one-hot values, one per key, the weighted average is the weights themselves.
        every_key = eye(k.shape[2], dtype=q.dtype, device=k.device)[None, None]
        return scaled_dot_product_attention(q, k, every_key, attn_mask, is_causal)

    def project(self, query: Tensor, key: Tensor | None, value: Tensor | None) -> list:
        """q, k and v, (B, T or S, E) each; in one product if all three come from the same
        tokens."""
        if key is None and value is None:
            return split(linear(query, self.in_proj_weight, self.in_proj_bias), 3, axis=-1)
        key = query if key is None else key
        value = key if value is None else value
        return [self.project_rows(x, i, i + 1) for i, x in enumerate((query, key, value))]

    def project_rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """Some of the three projections of x, numbered 0 for q, 1 for k, 2 for v: those from
        ``first`` to ``last`` - 1, concatenated along the last axis."""
        rows = slice(first * self.embed_dim, last * self.embed_dim)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return linear(x, self.in_proj_weight[rows], bias)

    def split_heads(self, x: Tensor) -> Tensor:  # (B, T, E) -> (B, H, T, D)
        b, t, e = x.shape
        return x.reshape((b, t, self.num_heads, e // self.num_heads)).swapaxes(1, 2)

    def merge_heads(self, x: Tensor) -> Tensor:  # (B, H, T, D) -> (B, T, E)
        b, h, t, d = x.shape
        return x.swapaxes(1, 2).reshape((b, t, h * d))


# ── below this line: speed. The definition above is what it must equal ───────────────────────────

# From this many bytes of scores on (batch and heads included), attention in blocks (blockwise.py)
# takes about as long as attention that stores all scores: measured on a CPU with 512 KB of L2 and
# 32 MB of L3. The memory of a GPU is fast at any size, so there the limit only saves memory.
CPU_LARGE, GPU_LARGE = 16 << 20, 1 << 30


@scaled_dot_product_attention.kernel
def _attention(xp, q, k, v, attn_mask=None, is_causal=False):
    shape, is_causal = score_shape(q, k, v), flag(is_causal, "is_causal")
    if not shape[-1]:  # without keys, the result is zeros
        y = xp.zeros((*shape[:-1], v.shape[-1]), xp.result_type(q, k, v))
        return y, lambda g: tuple(xp.zeros_like(x) for x in (q, k, v))
    may_look, added = split_mask(attn_mask, xp, shape)
    if may_look is None and not is_causal:
        return attend(xp, q, k, v, None, added, False)
    if (
        xp is np
        and all_finite(q, k, v)
        and (may_look is None or sees_any(xp, may_look, is_causal, shape[-2]).all())
    ):
        # The common case: everything is finite and every query sees a key. On a GPU this is not
        # tested, because the host would have to wait for the result.
        return attend(xp, q, k, v, may_look, added, is_causal)
    answered, fallback = answered_queries(xp, q, k, v, may_look, is_causal)
    hidden = xp.where(answered, -inf, 0.0)
    q, k, v = xp.where(answered, q, 0.0), finite_part(k), finite_part(v)
    y, pull = attend(xp, q, k, v, may_look, added, is_causal, hidden)
    return xp.where(answered, y, fallback), lambda g: pull(xp.where(answered, g, 0.0))


def is_large(xp: Any, q: Any, k: Any) -> bool:
    """Whether the scores of q and k would fill so much memory that blocks are better."""
    return q.size // max(1, q.shape[-1]) * k.shape[-2] * q.itemsize > (
        CPU_LARGE if xp is np else GPU_LARGE
    )


def attend(xp, q, k, v, may_look, added, is_causal, hidden=None):
    """(y, pull) for finite queries, keys and values. hidden (..., T, 1): the score of a hidden key,
    which is -inf, or 0 in the rows of queries that have no answer. The caller replaces the results
    of those rows and sets their gradient to 0. hidden None: every query sees a key, and no number
    is so large that a product overflows."""
    if is_large(xp, q, k):  # without ever storing a (T, S) array
        return blockwise(xp, q, k, v, may_look, added, is_causal, hidden is not None)
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (xp.broadcast_to(x, (lead or (1,)) + x.shape[-2:]) for x in (q, k, v))
    scale, dtype = 1 / sqrt(q.shape[-1]), xp.result_type(q, k, v)
    p = xp.empty((*q.shape[:-1], k.shape[-2]), dtype)  # (B, H, T, S)
    y = across_heads(xp, q.shape[:-1], v.shape[-1], dtype)
    upper_limits = score_limits(xp, with_causal_mask(may_look, is_causal, xp, p.shape), hidden, p)
    added_dtype = getattr(added, "dtype", None)
    added = None if added is None else xp.broadcast_to(added, p.shape)
    batches = slices_of_examples(xp, len(p), prod(p.shape[1:]))
    for at in batches:
        score = (q[at] * scale) @ k[at].swapaxes(-1, -2)
        if added is not None:
            score += added[at]
        if upper_limits is not None:
            # fmin ignores NaN: a hidden score that overflowed to NaN becomes -inf too.
            xp.fmin(score, upper_limits[at], out=score)
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
            # The engine calls this only if ``added`` requires a gradient.
            return slopes(g, slice(None)).reshape(lead + p.shape[-2:]).astype(added_dtype)

        return *[d.reshape(lead + d.shape[-2:]) for d in (dq, dk, dv)], to_added

    return y.reshape(lead + y.shape[-2:]), pull


def score_limits(xp, mask, hidden, p):
    """An upper limit for each score, in the shape of p: inf for visible keys, ``hidden`` (or -inf)
    for hidden ones. None without a mask."""
    if mask is None:
        return None
    limits = xp.where(mask, inf, -inf if hidden is None else hidden).astype(p.dtype)
    return xp.broadcast_to(limits, p.shape)


def to_scores(xp, g, v, y, p, guarded):
    """dL/d(score) for p = softmax(score) and y = p v, from g = dL/dy. It is p (dp - Σ p dp), and
    since Σ p dp = Σ g y, no second (T, S) array is needed (Dao et al. 2022, FlashAttention,
    appendix B). guarded: values may be so huge that dp is infinite; then ds is set to 0 where p is
    0."""
    ds = g @ v.swapaxes(-1, -2)
    ds -= dot_last(xp, g, y)
    if guarded:
        xp.copyto(ds, 0, where=p == 0)
    ds *= p
    return ds


def across_heads(xp, lead, width, dtype):
    """An empty (B, H, T, D) array that is stored in the order (B, T, H, D), so that merge_heads
    does not have to copy it."""
    if len(lead) < 3:
        return xp.empty((*lead, width), dtype)
    *b, h, t = lead
    return xp.empty((*b, t, h, width), dtype).swapaxes(-2, -3)
