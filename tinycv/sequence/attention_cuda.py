"""attention.py on a GPU: between its products, the mask and the softmax are one launch each way.

How they are written: engine/cuda.py.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from tinycv.engine.cuda import Kernels, packed
from tinycv.engine.gemm import times
from tinycv.nn import activation_cuda
from tinycv.sequence.attention import check, moved, scaled_dot_product_attention
from tinycv.sequence.blockwise import blockwise, is_large

kernels = Kernels(r"""
// ── attention: scores (N, T, S) become shares in place, a row for each query; what may not be seen gets 0 ──
// The mask has steps of its own along batch, head, query and key: 0 where it says the same for all.

template <int MOST, typename May> __device__ void attend_row(Int keys, May may, T* p) {
    A held[MOST + 1], top = -INFINITY, total = 0;
    unsigned seen = 0;                                              // a bit for each entry that the lane holds
    EACH_HELD(k, j, keys) if (may(j)) {
        if (MOST) seen |= 1u << k;
        top = fmax(top, held[MOST ? k : 0] = A(p[j]));
    }
    top = greatest(top);
    EACH_HELD(k, j, keys) if (MOST ? seen >> k & 1 : may(j)) total += exp((MOST ? held[k] : A(p[j])) - top);
    total = sum(total);
    const A share = 1 / total;
    EACH_HELD(k, j, keys) p[j] = T((MOST ? seen >> k & 1 : may(j)) ? exp((MOST ? held[k] : A(p[j])) - top) * share : A(0));
}

KERNEL attend(Int rows, Int keys, Int queries, Int heads, bool causal, const bool* mask, Int by_batch, Int by_head,
              Int by_query, Int by_key, T* score) {
    EACH_ROW(row, rows) {
        const Int query = row % queries, n = row / queries;
        const bool* in = mask ? mask + n / heads * by_batch + n % heads * by_head + query * by_query : nullptr;
        const auto may = [=](Int j) { return (!causal || j <= query) && (!in || in[j * by_key]); };
        BY_WIDTH(keys, attend_row, keys, may, score + row * keys);
    }
}
""")


@scaled_dot_product_attention.cuda
def _attention(xp, q, k, v, attn_mask=None, is_causal=False):
    check(q, k, v)
    mask = moved(attn_mask, xp)
    if is_large(xp, q, k):                                          # no (T, S) array at all
        return blockwise(xp, q, k, v, mask, is_causal)
    lead, scale = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]), 1 / sqrt(q.shape[-1])
    q, k, v = packed(xp, *[xp.broadcast_to(x, (lead or (1,)) + x.shape[-2:]) for x in (q, k, v)])
    p = times(q, k.swapaxes(-1, -2), scale)                         # (B, H, T, S)
    *_, queries, keys = p.shape
    rows = p.size // max(1, keys)
    heads, seen = steps_of(xp, mask, p.shape)
    kernels.attend(p, rows, rows, keys, queries, heads, bool(is_causal), *seen, p)
    y = times(p, v)

    def pull(g):
        # d softmax: p (dp - Σ p dp), and dp is no longer needed then (Dao et al. 2022, appendix B).
        g, = packed(xp, g.reshape(y.shape))
        dp = times(g, v.swapaxes(-1, -2))
        activation_cuda.kernels.softmax_back(p, rows, rows, keys, False, p, dp, dp)
        dq, dk = times(dp, k, scale), times(dp.swapaxes(-1, -2), q, scale)
        return tuple(d.reshape(lead + d.shape[-2:]) for d in (dq, dk, times(p.swapaxes(-1, -2), g)))

    return y.reshape(lead + y.shape[-2:]), pull


def steps_of(xp, mask, shape):
    """How many matrices share a step along the batch; then the mask as ``attend`` takes it: memory and four steps."""
    *lead, queries, keys = shape
    if mask is None:
        return 1, (None, 0, 0, 0, 0)
    mask = xp.broadcast_to(mask, shape)
    if len(lead) != 2:
        mask, lead = mask.reshape(1, prod(lead), queries, keys), (1, prod(lead))
    return max(1, lead[1]), (mask.data, *mask.strides)              # a bool is a byte
