"""Attention: every token asks a question, and takes an average of the answers.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d) V                       Vaswani et al. 2017, eq. 1
    MultiHead(Q, K, V) = Concat(head_1 ... head_h) Wᴼ               ibid., section 3.2.2
    head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)

The division by √d keeps scores of variance 1: a sum of d products of variance 1 has variance d, and softmax of large
scores is nearly an argmax, whose gradient is nearly 0 (ibid., section 3.2.1).

A decoder writes token by token, and what a token offers to those after it, its key and value, never changes.  So they
are kept: step t then costs one query over t keys, in place of t queries.  What is kept is passed in and handed back.

Read before: softmax in nn/activation.py.   Read next: transformer.py, or blockwise.py for thousands of tokens.
Seen at work: demos/05_transformer.py, demos/06_vit.py.
Shapes: B batch, H heads, T queries, S keys, D width of one head, E = H D width of the model.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np

from tinycv.data.text import PAD
from tinycv.engine.backend import array_module, constant, from_host
from tinycv.engine.fused import fused
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import where
from tinycv.engine.reduce import as_rows, dot_last, exp_rows, few
from tinycv.engine.tensor import bare
from tinycv.nn import init
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Linear, linear
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.sequence.blockwise import NEVER, blockwise, is_large


def causal_mask(t: int, s: int | None = None, past: int = 0) -> np.ndarray:
    """(T, S), True where key s does not come after query t: the future is hidden. past: keys before the first query."""
    return np.tri(t, t if s is None else s, past, dtype=bool)


def padding_mask(ids: Any, pad: int = PAD) -> Any:
    """(B, 1, 1, S), True where a token is: no query of any head may look at padding. ids (B, S), pad the id that fills.

    differs: PyTorch's key_padding_mask is (B, S) and the other way round, True where there is padding.
    """
    return (bare(ids) != pad)[:, None, None, :]


def length_mask(lengths: Any, s: int) -> np.ndarray:
    """The same from how many tokens each sequence has: lengths (B,), of which none is more than s."""
    lengths = np.asarray(lengths)
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= s:
        raise ValueError(f"lengths run from {lengths.min()} to {lengths.max()}; there are places for 0 to {s} tokens")
    return (np.arange(s) < lengths[:, None])[:, None, None, :]


@fused(whole="attn_mask")
def scaled_dot_product_attention(q: Any, k: Any, v: Any, attn_mask: Any = None, is_causal: bool = False) -> Any:
    """Average of the values ``v``, weighted by how well keys match queries.

    q (B, H, T, D), k (B, H, S, D), v (B, H, S, Dv). attn_mask: bool, of a shape that broadcasts to (B, H, T, S), True
    where a query may look; is_causal: query t may look at keys 0 ... t. Returns (B, H, T, Dv).
    A query that may look nowhere gets zeros, and a zero gradient (differs: PyTorch's softmax makes NaN of it).
    """
    score = q @ k.swapaxes(-1, -2) / sqrt(q.shape[-1])              # (B, H, T, S)
    mask = together_with(attn_mask, is_causal, bare(score))
    if mask is None:
        return softmax(score, axis=-1) @ v                          # (B, H, T, Dv)
    weight = softmax(where(mask, score, NEVER), axis=-1)
    return where(mask, weight, 0.0) @ v


def together_with(attn_mask: Any, is_causal: bool, score: Any) -> Any:
    """One mask for both reasons not to look, on the scores' device; None where every query may look everywhere."""
    xp = array_module(score)
    mask = moved(attn_mask, xp)
    if not is_causal:
        return mask
    causal = constant(xp, causal_mask(*score.shape[-2:]))
    return causal if mask is None else mask & causal


def moved(attn_mask: Any, xp: Any) -> Any:
    """The mask as an array where the scores are, or None."""
    mask = bare(attn_mask)
    if mask is not None and mask.dtype.kind != "b":
        raise TypeError(f"attn_mask has dtype {mask.dtype}; it must be bool, True where a query may look")
    return from_host(xp, mask)


class MultiheadAttention(Module):
    """H attentions side by side, each on its own D = E / H dimensions of the width.

    Parameters as PyTorch's: in_proj_weight (3E, E) and in_proj_bias (3E,) make q, k, v in that order; out_proj.
    differs: always batch first; a mask is True where a query *may* look; dropout falls on the output, not the weights.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must divide into num_heads {num_heads}: {embed_dim} / {num_heads} "
                             f"leaves {embed_dim % num_heads}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = init.xavier_uniform((3 * embed_dim, embed_dim))
        self.in_proj_bias = init.zeros((3 * embed_dim,)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        if bias:
            self.out_proj.bias = init.zeros((embed_dim,))

    def forward(self, query: Any, key: Any = None, value: Any = None, attn_mask: Any = None,
                is_causal: bool = False) -> Any:
        """query (B, T, E) looks at key and value (B, S, E); both are the query where left out (self-attention).
        Returns (B, T, E)."""
        q, k, v = (self.apart(x) for x in self.project(query, key, value))              # (B, H, T or S, D)
        return self.answer(q, k, v, attn_mask, is_causal)

    def answer(self, q: Any, k: Any, v: Any, attn_mask: Any = None, is_causal: bool = False) -> Any:
        if not k.shape[2]:                                                              # nobody to look at
            return self.out_proj(self.together(0.0 * q))
        y = scaled_dot_product_attention(q, k, v, attn_mask, is_causal)                 # (B, H, T, D)
        return dropout(self.out_proj(self.together(y)), self.dropout, self.training)    # (B, T, E)

    def follow(self, x: Any, past: tuple | None = None) -> tuple:
        """Causal self-attention of tokens x (B, T, E) that come after others. past: the others' keys and values, each
        (B, H, S, D), or None where there are none. Returns (B, T, E), and past with those of x at its end."""
        q, k, v = (self.apart(y) for y in self.project(x, None, None))                  # (B, H, T, D)
        if past is None:
            return self.answer(q, k, v, is_causal=True), (k, v)
        k, v = (concatenate([old, new], axis=2) for old, new in zip(past, (k, v), strict=True))     # (B, H, S + T, D)
        t, s = x.shape[1], k.shape[2]
        mask = causal_mask(t, s, past=s - t) if t > 1 else None                         # the last token may see all
        return self.answer(q, k, v, mask), (k, v)

    def remember(self, memory: Any) -> tuple:
        """Keys and values, each (B, H, S, D), of a memory (B, S, E) that many queries will ask: see ``recall``."""
        k, v = split(self.made_of(memory, 1, 3), 2, axis=-1)
        return self.apart(k), self.apart(v)

    def recall(self, query: Any, remembered: tuple, attn_mask: Any = None) -> Any:
        """What query (B, T, E) finds in ``remember(memory)``: as ``self(query, memory)``, the memory projected once."""
        return self.answer(self.apart(self.made_of(query, 0, 1)), *remembered, attn_mask)

    def weights(self, query: Any, key: Any = None, attn_mask: Any = None, is_causal: bool = False) -> Any:
        """Where each query looks: (B, H, T, S), each row sums to 1. For pictures: attention itself never keeps it."""
        q, k, _ = (self.apart(x) for x in self.project(query, key, key))
        score = q @ k.swapaxes(-1, -2) / sqrt(q.shape[-1])
        mask = together_with(attn_mask, is_causal, bare(score))
        return softmax(score if mask is None else where(mask, score, NEVER), axis=-1)

    def project(self, query: Any, key: Any, value: Any) -> list:
        """q, k, v (B, T or S, E) by one product where all three are made of the same tokens."""
        if key is None and value is None:
            return split(linear(query, self.in_proj_weight, self.in_proj_bias), 3, axis=-1)
        key = query if key is None else key
        value = key if value is None else value
        return [self.made_of(x, i, i + 1) for i, x in enumerate((query, key, value))]

    def made_of(self, x: Any, first: int, last: int) -> Any:
        """Those of q, k, v from number ``first`` to before ``last``, side by side."""
        rows = slice(first * self.embed_dim, last * self.embed_dim)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return linear(x, self.in_proj_weight[rows], bias)

    def apart(self, x: Any) -> Any:                                 # (B, T, E) -> (B, H, T, D)
        b, t, e = x.shape
        return x.reshape((b, t, self.num_heads, e // self.num_heads)).swapaxes(1, 2)

    def together(self, x: Any) -> Any:                              # (B, H, T, D) -> (B, T, E)
        b, h, t, d = x.shape
        return x.swapaxes(1, 2).reshape((b, t, h * d))


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@scaled_dot_product_attention.kernel
def _attention(xp, q, k, v, attn_mask=None, is_causal=False):
    check(q, k, v)
    if is_large(xp, q, k):                                          # no (T, S) array at all
        return blockwise(xp, q, k, v, moved(attn_mask, xp), is_causal)
    lead, scale = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]), 1 / sqrt(q.shape[-1])
    q, k, v = (xp.broadcast_to(x, (lead or (1,)) + x.shape[-2:]) for x in (q, k, v))
    p = xp.empty((*q.shape[:-1], k.shape[-2]), xp.result_type(q, k, v))         # (B, H, T, S)
    y = across_heads(xp, q.shape[:-1], v.shape[-1], p.dtype)
    mask = together_with(attn_mask, is_causal, p)
    if mask is not None:
        blind = xp is not np or not mask.any(axis=-1).all()         # may a query see nothing? To ask a GPU is to wait
        hidden = xp.broadcast_to(xp.where(mask, 0, NEVER).astype(p.dtype), p.shape)
        mask = xp.broadcast_to(mask, p.shape)
    for at in few(xp, len(p), prod(p.shape[1:])):
        score = (q[at] * scale) @ k[at].swapaxes(-1, -2)
        if mask is not None:
            score += hidden[at]
        rows = as_rows(p[at])
        rows /= exp_rows(xp, as_rows(score), out=rows)[0]
        if mask is not None and blind:
            p[at] *= mask[at]                                       # a row that sees nothing: all zeros
        xp.matmul(p[at], v[at], out=y[at])

    def pull(g):
        # d softmax: p (dp - Σ p dp), and Σ p dp = Σ g y (Dao et al. 2022, appendix B).
        g, (dq, dk, dv) = g.reshape(y.shape), [across_heads(xp, x.shape[:-1], x.shape[-1], p.dtype) for x in (q, k, v)]
        for at in few(xp, len(p), prod(p.shape[1:])):
            dp = g[at] @ v[at].swapaxes(-1, -2)
            dp -= dot_last(xp, g[at], y[at])
            dp *= p[at]
            dp *= scale
            xp.matmul(dp, k[at], out=dq[at])
            xp.matmul(dp.swapaxes(-1, -2), q[at], out=dk[at])
            xp.matmul(p[at].swapaxes(-1, -2), g[at], out=dv[at])
        return tuple(d.reshape(lead + d.shape[-2:]) for d in (dq, dk, dv))

    return y.reshape(lead + y.shape[-2:]), pull


def across_heads(xp, lead, width, dtype):
    """Memory for (B, H, T, D), in the order (B, T, H, D): so the heads lie together where they are joined again."""
    if len(lead) < 3:
        return xp.empty((*lead, width), dtype)
    *b, h, t = lead
    return xp.empty((*b, t, h, width), dtype).swapaxes(-2, -3)


def check(q, k, v):
    """ValueError where the shapes of queries, keys and values do not belong together."""
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(f"q {q.shape}, k {k.shape}, v {v.shape}: the last axes of q and k must be equal (the width of "
                         "a head), and axis -2 of k and v (a value for each key)")
