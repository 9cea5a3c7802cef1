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

from tinycv.data.inputs import array, kind_of, whole
from tinycv.data.text import PAD
from tinycv.engine.arguments import flag, shown, size
from tinycv.engine.backend import array_module, constant, from_host, to_numpy
from tinycv.engine.ops import isfinite, where
from tinycv.engine.tensor import bare


def causal_mask(t: int, s: int | None = None, past: int = 0) -> np.ndarray:
    """(T, S), True where key s does not come after query t: the future is hidden. past: keys before
    the first query."""
    t, past = whole(t, "causal_mask: t", 0, LONGEST), size(past, "causal_mask: past")
    return np.tri(t, t if s is None else whole(s, "causal_mask: s", 0, LONGEST), past, dtype=bool)


def padding_mask(ids: Any, pad: int = PAD) -> Any:
    """(B, 1, 1, S), True where a token is: no query of any head may look at padding. ids (B, S);
    pad: the id that fills.

    differs: PyTorch's key_padding_mask is (B, S) and the other way round, True where there is
    padding.
    """
    ids = (
        array(ids, "padding_mask: ids", "integers of shape (B, S)")
        if isinstance(ids, list)
        else bare(ids)
    )
    if kind_of(ids) not in ("i", "u") or ids.ndim != 2:
        raise TypeError(f"padding_mask: ids is {shown(ids)}; it must be integers of shape (B, S)")
    return (ids != size(pad, "padding_mask: pad"))[:, None, None, :]


def length_mask(lengths: Any, s: int) -> np.ndarray:
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


def whole_numbers(values: Any, what: str) -> np.ndarray:
    """Integers (B,) of the host; an empty list will do. TypeError or ValueError for all else."""
    values = bare(values)
    if isinstance(values, (list, tuple)):
        values = np.array(
            [size(bare(v), f"{what}[{i}]", -(2**63)) for i, v in enumerate(values)], np.int64
        )
    if kind_of(values) not in ("i", "u") or values.ndim != 1:
        raise TypeError(f"{what} is {shown(values)}; it must be integers of shape (B,)")
    return to_numpy(values)


LONGEST = 10**6  # tokens: a mask of more by more fits into no memory


# ── what a mask says ─────────────────────────────────────────────────────────────────────────────


def understood(attn_mask: Any, xp: Any, shape: tuple) -> tuple[Any, Any]:
    """(may_look, added), each an array of xp's or None: a mask of bools is the first, a mask of
    floats both.

    shape: that of the scores, (..., T, S), to which the mask must broadcast.
    """
    mask = from_host(xp, bare(attn_mask))
    if mask is None:
        return None, None
    kind = kind_of(mask)
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


def together_with(may_look: Any, is_causal: bool, xp: Any, shape: tuple) -> Any:
    """One mask for both reasons not to look; None where every query may look everywhere."""
    if not is_causal:
        return may_look
    causal = constant(xp, np.tri(*shape[-2:], dtype=bool))
    return causal if may_look is None else may_look & causal


def hidden_scores(xp: Any, mask: Any, dtype: Any) -> Any:
    """What hides a score, (..., T, 1): -inf, which softmax turns into 0; but 0 in a row that may
    look nowhere."""
    return xp.where(mask.any(axis=-1, keepdims=True), -inf, 0.0).astype(dtype)


# ── what is kept away ────────────────────────────────────────────────────────────────────────────


def finite_part(x: Any) -> Any:
    """x with 0 in place of NaN and inf, whose gradient is 0."""
    return where(isfinite(x), x, 0.0)


def without_lost(x: Any, attn_mask: Any, most: float = inf) -> Any:
    """Tokens x (B, S, E) with 0 in place of NaN, inf and what is beyond ``most`` where nobody may
    look: there they would reach the gradients of every matrix that reads x. A mask that does not
    fit is refused by attention, later."""
    xp, mask = array_module(bare(x)), bare(attn_mask)
    if kind_of(mask) not in ("b", "f") or xp is np and surely_below(most, bare(x)):
        return x
    may_look = from_host(xp, mask if mask.dtype.kind == "b" else mask != -inf)
    if x.ndim != 3 or mask.ndim > 4 or not spreads(mask.shape[-1:], x.shape[1:2]):
        return x
    # (B or 1, S or 1)
    looked_at = may_look[(None,) * (4 - mask.ndim)].any(axis=(1, 2))
    return where(looked_at[..., None] | (xp.abs(bare(x)) < limit(x.dtype, most)), x, 0.0)


def without_padding(x: Any, ids: Any) -> Any:
    """Words x (B, T, E) with 0 where ids (B, T) are padding. A decoder reads the padding after an
    answer, whose loss is ignored; but on the way back, 0 * NaN would reach what was read before. On
    the host, where nothing in x is so large that a norm of it could overflow, x itself."""
    xp = array_module(bare(x))
    if xp is np and surely_below(NORMED, bare(x)):
        return x
    return where((from_host(xp, bare(ids)) != PAD)[..., None], x, 0.0)


# the variance of numbers below it is finite in float32
NORMED = 1e18


def limit(dtype: Any, most: float) -> float:
    """``most``, or infinity where the dtype holds no number as large."""
    return most if dtype.kind == "f" and np.finfo(dtype).max > most else inf


def surely_below(most: float, x: Any) -> bool:
    """Is an array of the host surely finite, and below ``most``? (Of too many numbers near it, the
    answer is no.)"""
    most = limit(x.dtype, most)
    if most == inf:
        return all_finite(x)
    with np.errstate(all="ignore"):
        return bool(np.vdot(x, x) < most**2)


def all_finite(*xs: Any) -> bool:
    """Are these arrays of the host surely finite? (A sum that overflows is a no.)"""
    with np.errstate(all="ignore"):
        return all([isfinite_number(x.sum()) for x in xs])


def answers(xp: Any, q: Any, k: Any, v: Any, may_look: Any, is_causal: bool) -> tuple[Any, Any]:
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


def sees_one(xp: Any, keys: Any, is_causal: bool, t: int) -> Any:
    """Does a query see one of these keys? keys (..., T or 1, S) bool; returns (..., T). Causal: if
    the first key of them does not come after the query."""
    found = keys.any(axis=-1)
    return found & (keys.argmax(axis=-1) <= xp.arange(t)) if is_causal else found


def is_numeric(x: Any) -> bool:
    """Is it an array or Tensor of real numbers?"""
    return hasattr(x, "shape") and kind_of(x) in ("f", "i", "u", "b")


def batch_leads(batch_first: Any, owner: str) -> None:
    """Refuses PyTorch's batch_first=False, which is its default: here the batch is always the first
    axis."""
    if not flag(batch_first, f"{owner}: batch_first"):
        raise ValueError(
            f"{owner}: batch_first is False; it must be True: tokens are (B, T, E). Turn (T, B, E) "
            "with x.swapaxes(0, 1)"
        )


def some_last(tokens: Any, what: str) -> None:
    """Refuses tokens that are not integers (B,), the last written."""
    if kind_of(tokens) not in ("i", "u") or len(tokens.shape) != 1:
        raise TypeError(f"{what} is {shown(bare(tokens))}; it must be integers of shape (B,)")


def state_of(value: Any, what: str, *names: str) -> dict:
    """What a model carries from symbol to symbol, if it is the dict that ``start`` returned, with
    these entries."""
    if not isinstance(value, dict):
        raise TypeError(f"{what} is {shown(value)}; it must be the dict that start(...) returned")
    missing = [name for name in names if name not in value]
    if missing:
        raise ValueError(
            f"{what} has no {missing[0]!r}; it must be the dict that start(...) returned, with "
            f"{', '.join(map(repr, names))}"
        )
    return value


def some(ids: Any, what: str, least: int = 1) -> None:
    """Refuses ids that are not integers (B, at least 1): without a symbol there is no state to
    start from, and nothing to score."""
    if kind_of(ids) not in ("i", "u") or len(ids.shape) != 2:
        raise TypeError(
            f"{what} is {shown(bare(ids))}; it must be integers of shape (batch, symbols)"
        )
    if ids.shape[1] < least:
        few = "no symbol at all" if least == 1 else "too few symbols"
        raise ValueError(
            f"{what} has shape {ids.shape}, {few}; a source has its EOS at least, a target its SOS"
            f"{'' if least == 1 else ' and one symbol more'}"
        )
