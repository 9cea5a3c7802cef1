"""Attention on a GPU: between its two products, mask and softmax are one launch each way.

Definition: ``scaled_dot_product_attention`` in sequence/attention.py.   How kernels are written:
cuda.py.
Shapes: N = B H heads of all examples, T queries, S keys.
"""

from __future__ import annotations

from math import prod, sqrt

from tinycv.engine.arguments import flag
from tinycv.engine.fused import in_float32
from tinycv.engine.gemm import matrix_product
from tinycv.gpu.cuda import Kernels, packed
from tinycv.sequence import attention as by_arrays
from tinycv.sequence.inputs import score_shape
from tinycv.sequence.masks import split_mask

kernels = Kernels(r"""
// ── attention ──
// Turns scores (N, T, S) into weights ("shares") in place, one row per query. A key that the query
// may not see gets the weight 0. ``mask`` and ``added`` are read through their strides along batch,
// head, query and key; a stride is 0 along an axis that they are broadcast over.

// A key or query with NaN or infinity is "lost". For each query, answered says whether it sees a
// key and nothing lost, and instead is its result otherwise: NaN if it sees something lost, 0 if it
// sees no key (sequence/masks.py). Such a row gets weights of 0, and so passes no gradient.
template <int MOST, typename May, typename Score>
__device__ void attend_row(Int keys, May may, Score score, bool lost_query, const bool* lost_key,
        bool* answered, T* instead, T* p) {
    A held[MOST + 1], top = -INFINITY, total = 0, sees = 0, lost = 0;
    // one bit for each entry that the lane holds: may the query see it?
    unsigned seen = 0;
    EACH_HELD(k, j, keys) if (may(j)) {
        if (MOST) seen |= 1u << k;
        top = fmax(top, held[MOST ? k : 0] = score(j));
        sees = 1;
        if (lost_query || (lost_key && lost_key[j])) lost = 1;
    }
    top = greatest(top);
    if (answered) {
        sees = greatest(sees), lost = greatest(lost);
        if (threadIdx.x == 0) *answered = sees && !lost, *instead = lost ? T(A(NAN)) : T(A(0));
    }
    EACH_HELD(k, j, keys) if (MOST ? seen >> k & 1 : may(j))
        total += exp((MOST ? held[k] : score(j)) - top);
    total = sum(total);
    const A share = 1 / total;
    EACH_HELD(k, j, keys) {
        const bool counts = !lost && (MOST ? seen >> k & 1 : may(j));
        p[j] = T(counts ? exp((MOST ? held[k] : score(j)) - top) * share : A(0));
    }
}

KERNEL attend(Int rows, Int keys, Int queries, Int heads, bool causal, const bool* mask,
        Int by_batch, Int by_head, Int by_query, Int by_key, const T* added, Int add_batch,
        Int add_head, Int add_query, Int add_key, const bool* lost_query, const bool* lost_key,
        bool* answered, T* instead, T* score) {
    EACH_ROW(row, rows) {
        const Int query = row % queries, n = row / queries, batch = n / heads, head = n % heads;
        const bool* in = mask ? mask + batch * by_batch + head * by_head + query * by_query
            : nullptr;
        const T* more = added ? added + batch * add_batch + head * add_head + query * add_query
            : nullptr;
        T* p = score + row * keys;
        const auto may = [=](Int j) { return (!causal || j <= query) && (!in || in[j * by_key]); };
        const auto sum_at = [=](Int j) { return more ? A(p[j]) + A(more[j * add_key]) : A(p[j]); };
        const bool* lost = lost_key ? lost_key + n * keys : nullptr;
        BY_WIDTH(keys, attend_row, keys, may, sum_at, lost_query && lost_query[row], lost,
                 answered ? answered + row : nullptr, instead ? instead + row : nullptr, p);
    }
}

// Backward, in place: dp becomes the gradient of the scores. A weight of 0 passes nothing, even if
// dp is infinite because a value is huge.
template <int MOST> __device__ void attend_row_back(Int keys, const T* p, T* dp) {
    A share[MOST + 1], in[MOST + 1], total = 0;
    EACH_HELD(k, j, keys) {
        const A a = share[MOST ? k : 0] = A(p[j]), b = in[MOST ? k : 0] = A(dp[j]);
        if (a != 0) total += a * b;
    }
    total = sum(total);
    EACH_HELD(k, j, keys) {
        const A a = MOST ? share[k] : A(p[j]), b = MOST ? in[k] : A(dp[j]);
        dp[j] = T(a != 0 ? a * (b - total) : A(0));
    }
}

KERNEL attend_back(Int rows, Int keys, const T* p, T* dp) {
    EACH_ROW(row, rows) { BY_WIDTH(keys, attend_row_back, keys, p + row * keys, dp + row * keys); }
}

// y: x with 0 instead of NaN and infinity. lost: whether the row had one of these; with ``before``,
// a row that is marked as lost already stays so.
KERNEL keep_finite(Int rows, Int width, bool before, const T* x, T* y, bool* lost) {
    EACH_ROW(row, rows) {
        A gone = before && lost[row];
        EACH(j, width) {
            const A value = x[row * width + j];
            const bool finite = value - value == 0;
            y[row * width + j] = finite ? T(value) : T(A(0));
            if (!finite) gone = 1;
        }
        gone = greatest(gone);
        if (threadIdx.x == 0) lost[row] = gone > 0;
    }
}
""")


def scaled_dot_product_attention(xp, q, k, v, attn_mask=None, is_causal=False):
    """Two products with one launch between them, and three launches more if there is a mask, which
    may hide NaN and infinity. The backward pass takes four products and one launch. Saves q, k, v
    and the weights (..., T, S).

    Definition: sequence/attention.py. differs: if the weights would need much memory, or if there
    is no key, the array calls of sequence/attention.py run instead.
    """
    shape, is_causal = score_shape(q, k, v), flag(is_causal, "is_causal")
    may_look, added = split_mask(attn_mask, xp, shape)
    if not shape[-1] or by_arrays.is_large(xp, q, k):
        run = by_arrays.scaled_dot_product_attention.run
        run = in_float32(run) if q.dtype.char == "e" else run
        return run(xp, q, k, v, attn_mask, is_causal)
    *lead, queries, keys = shape
    scale = 1 / sqrt(q.shape[-1])
    q, k, v = packed(xp, *[xp.broadcast_to(x, (*(lead or (1,)), *x.shape[-2:])) for x in (q, k, v)])
    lost = None, None, None, None
    if may_look is not None or is_causal:
        (q, k, v), lost = finite(xp, q, k, v)
    p = matrix_product(q, k.swapaxes(-1, -2), scale)  # (B, H, T, S)
    rows, heads = (
        p.size // max(1, keys),
        max(1, p.shape[1]) if p.ndim == 4 else max(1, prod(p.shape[:-2])),
    )
    kernels.attend(
        p,
        rows,
        rows,
        keys,
        queries,
        heads,
        is_causal,
        *steps_of(xp, may_look, p.shape),
        *steps_of(xp, None if added is None else added.astype(p.dtype, copy=False), p.shape),
        *lost,
        p,
    )
    y = matrix_product(p, v)
    _, _, answered, instead = lost
    result = y if answered is None else xp.where(answered, y, instead)

    like = p if added is None else added

    def pull(g):
        # The gradient of softmax is ds = p (dp - Σ p dp), with dp = g vᵀ (Dao et al. 2022, appendix
        # B). The kernel overwrites dp with ds.
        (g,) = packed(xp, g.reshape(y.shape))
        g = g if answered is None else xp.where(answered, g, 0.0)
        ds = matrix_product(g, v.swapaxes(-1, -2))
        kernels.attend_back(p, rows, rows, keys, p, ds)
        dq, dk = matrix_product(ds, k, scale), matrix_product(ds.swapaxes(-1, -2), q, scale)
        return *[
            d.reshape((*lead, *d.shape[-2:]))
            for d in (dq, dk, matrix_product(p.swapaxes(-1, -2), g))
        ], lambda: ds.reshape(shape).astype(like.dtype, copy=False)

    return result.reshape((*lead, *result.shape[-2:])), pull


def finite(xp, q, k, v):
    """(q, k, v) with 0 instead of NaN and infinity; and four arrays for ``attend``: which queries
    (..., T) and which keys (..., S) were not finite, and memory for answered and instead
    (..., T, 1). A key also counts as not finite if its value is not."""
    lost_query, lost_key = (xp.empty(x.shape[:-1], bool) for x in (q, k))
    cleaned = [xp.empty_like(x) for x in (q, k, v)]
    for x, y, lost, before in zip(
        (q, k, v), cleaned, (lost_query, lost_key, lost_key), (False, False, True), strict=True
    ):
        kernels.keep_finite(x, lost.size, lost.size, x.shape[-1], before, x, y, lost)
    answered = xp.empty((*q.shape[:-1], 1), bool)
    return cleaned, (lost_query, lost_key, answered, xp.empty(answered.shape, q.dtype))


def steps_of(xp, x, shape):
    """A mask, or numbers to add to the scores, as ``attend`` takes them: the memory, and its
    strides along batch, head, query and key, in entries."""
    *lead, queries, keys = shape
    if x is None:
        return None, 0, 0, 0, 0
    x = xp.broadcast_to(x, shape)
    if len(lead) != 2:
        x = x.reshape(1, prod(lead), queries, keys)
    return x.data, *[step // x.itemsize for step in x.strides]
