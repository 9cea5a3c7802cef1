"""Masks: which keys a query may look at, what is added to its scores, and what is kept away from
it.

    causal      query t may look at keys 0 ... t                    causal_mask, or is_causal=True
    padding     no query may look at filled places   padding_mask (of ids), length_mask (of lengths)
    added   a number for each score: ALiBi, relative positions  a mask of floats; -inf hides the key

What a query may not look at is selected away, and never multiplied by a weight of 0: 0 * NaN is
NaN. A product of matrices multiplies everything by something, so before it numbers that are not
finite become 0 (``finite_part``). A block of a Transformer also norms its tokens, and there a huge
number is as bad as NaN (``NORMED``). Afterwards a query that was allowed to see one of them gets
NaN, and passes no gradient (``answers``).

Read before: attention.py, which uses this.
Shapes: ... batch and heads, T queries, S keys.
"""

from __future__ import annotations

from math import inf, nan
from math import isfinite as isfinite_number
from typing import Any

import numpy as np

from tinycv.data.inputs import array, whole
from tinycv.data.text import PAD
from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.backend import Array, array_module, constant, from_host
from tinycv.engine.create import arange
from tinycv.engine.methods import stack
from tinycv.engine.ops import astype, isfinite, where
from tinycv.engine.tensor import ArrayLike, Tensor, as_array, bare
from tinycv.sequence.inputs import whole_numbers

LONGEST = 10**6  # tokens: a mask of more by more fits into no memory


def causal_mask(t: int, s: int | None = None, past: int = 0) -> np.ndarray:
    """(T, S), True where key s does not come after query t: the future is hidden. past: keys before
    the first query."""
    t, past = whole(t, "causal_mask: t", 0, LONGEST), size(past, "causal_mask: past")
    return np.tri(t, t if s is None else whole(s, "causal_mask: s", 0, LONGEST), past, dtype=bool)


def padding_mask(ids: ArrayLike, pad: int = PAD) -> np.ndarray:
    """(B, 1, 1, S), True where a token is: no query of any head may look at padding. ids (B, S);
    pad: the id that fills.

    differs: PyTorch's key_padding_mask is (B, S) and the other way round, True where there is
    padding.
    """
    found: Any = ids
    if isinstance(ids, list):
        found = array(ids, "padding_mask: ids", "integers of shape (B, S)")
    if number_kind(found) not in ("i", "u") or found.ndim != 2:
        raise TypeError(f"padding_mask: ids is {shown(found)}; it must be integers of shape (B, S)")
    return (as_array(found) != size(pad, "padding_mask: pad"))[:, None, None, :]


def length_mask(lengths: ArrayLike, s: int) -> np.ndarray:
    """The same from how many tokens each sequence has: lengths (B,), integers of which none is more
    than s."""
    s = whole(s, "length_mask: s", 0, LONGEST)
    lengths = whole_numbers(lengths, "length_mask: lengths")
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= s:
        raise ValueError(
            f"length_mask: lengths run from {lengths.min()} to {lengths.max()}; there are places "
            f"for 0 to {s} tokens"
        )
    return (np.arange(s) < lengths[:, None])[:, None, None, :]


def lengths_of(mask: Tensor, what: str) -> np.ndarray:
    """How many symbols each source has, (B,) on the host, where the recurrent layers read it
    anyway. ValueError where one has PAD before a symbol: its last symbols would not be read."""
    places = arange(1, mask.shape[1] + 1, device=mask.device)
    past_last = where(mask, places, 0).max(axis=1)
    # (B,) each
    lengths, ends = stack([mask.sum(axis=1), past_last]).numpy()
    if (lengths != ends).any():
        row = int((lengths != ends).argmax())
        raise ValueError(
            f"{what}: row {row} has PAD ({PAD}) before its last symbol; PAD may stand after the "
            "end alone, [3, 4, 2, 0, 0]"
        )
    return lengths


# ── what is kept away ────────────────────────────────────────────────────────────────────────────


def finite_part(x: Tensor) -> Tensor:
    """x with 0 in place of NaN and inf, whose gradient is 0."""
    return where(isfinite(x), x, 0.0)


def hidden_scores(mask: Tensor, dtype: np.dtype) -> Tensor:
    """What hides a score, (..., T, 1): -inf, which softmax turns into 0; but 0 in a row that may
    look nowhere."""
    return astype(where(mask.any(axis=-1, keepdims=True), -inf, 0.0), dtype)


def without_lost(x: Tensor, attn_mask: ArrayLike | None, most: float = inf) -> Tensor:
    """Tokens x (B, S, E) with 0 in place of NaN, inf and what is beyond ``most`` where nobody may
    look: there they would reach the gradients of every matrix that reads x. A mask that does not
    fit is refused by attention, later."""
    kind = number_kind(attn_mask)
    if kind not in ("b", "f") or surely_below(most, x):
        return x
    mask = beside(x, attn_mask)
    if x.ndim != 3 or mask.ndim > 4 or not spreads(mask.shape[-1:], x.shape[1:2]):
        return x
    may_look = mask if kind == "b" else mask != -inf
    # (B or 1, S or 1)
    looked_at = may_look[(None,) * (4 - mask.ndim)].any(axis=(1, 2))
    return where(looked_at[..., None] | (abs(x) < limit(x.dtype, most)), x, 0.0)


def without_padding(x: Tensor, ids: ArrayLike) -> Tensor:
    """Words x (B, T, E) with 0 where ids (B, T) are padding. A decoder reads the padding after an
    answer, whose loss is ignored; but on the way back, 0 * NaN would reach what was read before. On
    the host, where nothing in x is so large that a norm of it could overflow, x itself."""
    if surely_below(NORMED, x):
        return x
    return where((beside(x, ids) != PAD)[..., None], x, 0.0)


# the variance of numbers below it is finite in float32
NORMED = 1e18


def limit(dtype: np.dtype, most: float) -> float:
    """``most``, or infinity where the dtype holds no number as large."""
    return most if dtype.kind == "f" and np.finfo(dtype).max > most else inf


def surely_below(most: float, x: Tensor) -> bool:
    """Is x known to be finite, and below ``most``? Not on a GPU, which would have to be waited for.
    (Of too many numbers near it, the answer is no.)"""
    array = as_array(x)
    if array_module(array) is not np:
        return False
    most = limit(array.dtype, most)
    if most == inf:
        return all_finite(array)
    with np.errstate(all="ignore"):
        return bool(np.vdot(array, array) < most**2)


def beside(x: ArrayLike, values: ArrayLike | None) -> Tensor:
    """A mask, or ids, as an array on the device of x: masks are often made on the host."""
    return from_host(array_module(bare(x)), bare(values))


def in_view(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: ArrayLike | None, is_causal: bool, shape: tuple
) -> tuple[Array | None, Tensor | None, Array | None, Array | None]:
    """What the definition of attention is told of a mask: (mask, added, answered, instead).

    mask: bool, may query t look at key s, or None for always. added: to the scores, or None; it is
    learned where attn_mask requires a gradient. answered, instead: ``answers``. shape: (..., T, S).
    """
    arrays = bare(q), bare(k), bare(v)
    xp = array_module(arrays[0])
    may_look, added = understood(attn_mask, xp, shape)
    if added is not None:
        added = astype(attn_mask if isinstance(attn_mask, Tensor) else added, q.dtype)
    mask = together_with(may_look, is_causal, xp, shape)
    if mask is None:
        return None, added, None, None
    return mask, added, *answers(xp, *arrays, may_look, is_causal)


# ── below this line: masks as arrays, for the kernels ────────────────────────────────────────────


def all_finite(*xs: Array) -> bool:
    """Are these arrays of the host surely finite? (A sum that overflows is a no.)"""
    with np.errstate(all="ignore"):
        return all([isfinite_number(x.sum()) for x in xs])


def understood(
    attn_mask: ArrayLike | None, xp: Any, shape: tuple
) -> tuple[Array | None, Array | None]:
    """(may_look, added), each an array of xp's or None: a mask of bools is the first, a mask of
    floats both.

    shape: that of the scores, (..., T, S), to which the mask must broadcast.
    """
    mask = from_host(xp, bare(attn_mask))
    if mask is None:
        return None, None
    kind = number_kind(mask)
    if kind not in ("b", "f"):
        what = f"has dtype {mask.dtype}" if kind else f"is {shown(mask)}"
        raise TypeError(
            f"attn_mask {what}; it must be bool, True where a query may look, or float, which is "
            "added to the scores"
        )
    if not spreads(mask.shape, shape):
        raise ValueError(
            f"attn_mask has shape {mask.shape}; the scores have shape {shape}, (..., T, S): "
            "counted from the last, each axis of the mask must be as long, or 1"
        )
    if kind == "b":
        return mask, None
    may_look = mask != -inf
    if xp is np and may_look.all():
        return None, mask
    # what is hidden is hidden by the first of both
    return may_look, xp.where(may_look, mask, 0.0)


def spreads(shape: tuple, to: tuple) -> bool:
    """Does an array of one shape broadcast to exactly the other?"""
    return len(shape) <= len(to) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False)
    )


def together_with(may_look: Array | None, is_causal: bool, xp: Any, shape: tuple) -> Array | None:
    """One mask for both reasons not to look; None where every query may look everywhere."""
    if not is_causal:
        return may_look
    causal = constant(xp, np.tri(*shape[-2:], dtype=bool))
    return causal if may_look is None else may_look & causal


def answers(
    xp: Any, q: Array, k: Array, v: Array, may_look: Array | None, is_causal: bool
) -> tuple[Array, Array]:
    """(answered, instead), (..., T, 1) each: False where a query's answer is no average of finite
    values, and what it is there: 0 where the query may look nowhere, NaN where the query or
    something that it sees is not finite."""
    t, s = q.shape[-2], k.shape[-2]
    # (..., T)
    lost_query = ~xp.isfinite(q).all(axis=-1)
    # (..., 1, S)
    lost_key = ~(xp.isfinite(k).all(axis=-1) & xp.isfinite(v).all(axis=-1))[..., None, :]
    may_look = xp.ones((1, s), bool) if may_look is None else may_look
    sees = sees_one(xp, may_look, is_causal, t)
    lost = sees & (lost_query | sees_one(xp, may_look & lost_key, is_causal, t))
    return (sees & ~lost)[..., None], xp.where(lost, nan, 0.0).astype(xp.result_type(q, k, v))[
        ..., None
    ]


def sees_one(xp: Any, keys: Array, is_causal: bool, t: int) -> Array:
    """Does a query see one of these keys? keys (..., T or 1, S) bool; returns (..., T). Causal: if
    the first key of them does not come after the query."""
    found = keys.any(axis=-1)
    return found & (keys.argmax(axis=-1) <= xp.arange(t)) if is_causal else found
