"""Attention masks: causal, padding and additive masks, and how NaN in hidden tokens is kept out.

    causal      query t may look at keys 0 ... t                    causal_mask, or is_causal=True
    padding     no query may look at padding         padding_mask (of ids), length_mask (of lengths)
    additive    a float is added to each score (ALiBi, relative positions); -inf hides the key

A hidden key is excluded by selection, not by a weight of 0, because 0 * NaN is NaN.  A matrix
product multiplies every number by something, so numbers that are not finite are set to 0 before it
(``finite_part``).  A Transformer block also normalises its tokens, and there a huge number does as
much harm as NaN (``NORM_LIMIT``).  After the product, a query that was allowed to see a number that
is not finite gets NaN and passes no gradient (``answered_queries``).

Read first: attention.py, which uses this file.
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

LONGEST = 10**6  # tokens; a square mask for more would not fit into memory


def causal_mask(t: int, s: int | None = None, past: int = 0) -> np.ndarray:
    """bool (T, S), True where key s does not come after query t, so that the future is hidden.
    past: the number of keys before the first query."""
    t, past = whole(t, "causal_mask: t", 0, LONGEST), size(past, "causal_mask: past")
    return np.tri(t, t if s is None else whole(s, "causal_mask: s", 0, LONGEST), past, dtype=bool)


def padding_mask(ids: ArrayLike, pad: int = PAD) -> np.ndarray:
    """bool (B, 1, 1, S), True on tokens and False on padding: no query of any head may look at
    padding. ids (B, S); pad: the id that marks padding.

    differs: PyTorch's key_padding_mask is (B, S) and has the opposite meaning, True on padding.
    """
    checked_ids: Any = ids
    if isinstance(ids, list):
        checked_ids = array(ids, "padding_mask: ids", "integers of shape (B, S)")
    if number_kind(checked_ids) not in ("i", "u") or checked_ids.ndim != 2:
        raise TypeError(
            f"padding_mask: ids is {shown(checked_ids)}; it must be integers of shape (B, S)"
        )
    return (as_array(checked_ids) != size(pad, "padding_mask: pad"))[:, None, None, :]


def length_mask(lengths: ArrayLike, s: int) -> np.ndarray:
    """The same mask, bool (B, 1, 1, S), from the number of tokens of each sequence: lengths (B,),
    integers from 0 to s."""
    s = whole(s, "length_mask: s", 0, LONGEST)
    lengths = whole_numbers(lengths, "length_mask: lengths")
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= s:
        raise ValueError(
            f"length_mask: lengths range from {lengths.min()} to {lengths.max()}; they must be "
            f"from 0 to s = {s}"
        )
    return (np.arange(s) < lengths[:, None])[:, None, None, :]


def lengths_of(mask: Tensor, what: str) -> np.ndarray:
    """The number of symbols of each source, (B,), on the host, because the recurrent layers need it
    there. Raises ValueError if a source has PAD before a symbol, since its last symbols would not
    be read."""
    positions = arange(1, mask.shape[1] + 1, device=mask.device)
    last_positions = where(mask, positions, 0).max(axis=1)
    lengths, ends = stack([mask.sum(axis=1), last_positions]).numpy()  # (B,) each
    if (lengths != ends).any():
        row = int((lengths != ends).argmax())
        raise ValueError(
            f"{what}: row {row} has PAD ({PAD}) before its last symbol; PAD is allowed only after "
            "the end, as in [3, 4, 2, 0, 0]"
        )
    return lengths


# ── keeping NaN and huge numbers out ─────────────────────────────────────────────────────────────


def finite_part(x: Tensor) -> Tensor:
    """x with 0 instead of NaN and inf. Their gradient is 0."""
    return where(isfinite(x), x, 0.0)


def hidden_scores(mask: Tensor, dtype: np.dtype) -> Tensor:
    """The value that replaces hidden scores, (..., T, 1): -inf, whose softmax is 0. In a row that
    hides every key it is 0, because a softmax of -inf alone is NaN."""
    return astype(where(mask.any(axis=-1, keepdims=True), -inf, 0.0), dtype)


def zero_hidden_tokens(x: Tensor, attn_mask: ArrayLike | None, most: float = inf) -> Tensor:
    """Tokens x (B, S, E) that no query may look at, with 0 instead of NaN, inf and numbers beyond
    ``most``, which would otherwise reach the gradients of every matrix that reads x. The other
    tokens stay as they are. A mask of the wrong shape is refused later, by attention."""
    kind = number_kind(attn_mask)
    if kind not in ("b", "f") or known_below(most, x):
        return x
    mask = on_device_of(x, attn_mask)
    if x.ndim != 3 or mask.ndim > 4 or not broadcasts_to(mask.shape[-1:], x.shape[1:2]):
        return x
    may_look = mask if kind == "b" else mask != -inf
    # Leading axes are added until the mask has the four axes (B, H, T, S).
    visible = may_look[(None,) * (4 - mask.ndim)].any(axis=(1, 2))  # (B or 1, S or 1)
    return where(visible[..., None] | (abs(x) < limit(x.dtype, most)), x, 0.0)


def without_padding(x: Tensor, ids: ArrayLike) -> Tensor:
    """Embedded words x (B, T, E), with 0 where ids (B, T) are padding. A decoder reads the padding
    after an answer. Its loss is ignored there, but in the backward pass 0 * NaN would reach the
    words before. On the host x itself is returned if its numbers are small enough to be
    normalised."""
    if known_below(NORM_LIMIT, x):
        return x
    return where((on_device_of(x, ids) != PAD)[..., None], x, 0.0)


# The variance of numbers below this limit is finite in float32.
NORM_LIMIT = 1e18


def limit(dtype: np.dtype, most: float) -> float:
    """``most``, or infinity if the dtype cannot hold a number that large."""
    return most if dtype.kind == "f" and np.finfo(dtype).max > most else inf


def known_below(most: float, x: Tensor) -> bool:
    """Whether x is known to be finite and below ``most`` in absolute value. False on a GPU, because
    finding out would mean waiting for it. False also for many numbers near the limit, because the
    test compares the sum of squares."""
    array = as_array(x)
    if array_module(array) is not np:
        return False
    most = limit(array.dtype, most)
    if most == inf:
        return all_finite(array)
    with np.errstate(all="ignore"):
        return bool(np.vdot(array, array) < most**2)


def on_device_of(x: ArrayLike, values: ArrayLike | None) -> Tensor:
    """values (a mask, or ids) as an array on the device of x. Masks are often made on the host."""
    return from_host(array_module(bare(x)), bare(values))


def attention_masks(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: ArrayLike | None, is_causal: bool, shape: tuple
) -> tuple[Array | None, Tensor | None, Array | None, Array | None]:
    """What the definition of attention needs to know about masks: (mask, added, answered,
    fallback).

    mask: bool, True where query t may look at key s; None if every query may look everywhere.
    added: the floats to add to the scores, or None; they are learned if attn_mask requires a
    gradient. answered, fallback: see ``answered_queries``. shape: that of the scores, (..., T, S).
    """
    arrays = bare(q), bare(k), bare(v)
    xp = array_module(arrays[0])
    may_look, added = split_mask(attn_mask, xp, shape)
    if added is not None:
        added = astype(attn_mask if isinstance(attn_mask, Tensor) else added, q.dtype)
    mask = with_causal_mask(may_look, is_causal, xp, shape)
    if mask is None:
        return None, added, None, None
    return mask, added, *answered_queries(xp, *arrays, may_look, is_causal)


# ── below this line: masks as arrays, for the kernels ────────────────────────────────────────────


def all_finite(*xs: Array) -> bool:
    """Whether these arrays on the host are known to be finite. False also if their sum
    overflows."""
    with np.errstate(all="ignore"):
        return all([isfinite_number(x.sum()) for x in xs])


def split_mask(
    attn_mask: ArrayLike | None, xp: Any, shape: tuple
) -> tuple[Array | None, Array | None]:
    """Splits a mask into (may_look, added), each an array on the device of xp, or None. A bool mask
    gives only may_look; a float mask gives added, and also may_look if it contains -inf.

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
    if not broadcasts_to(mask.shape, shape):
        raise ValueError(
            f"attn_mask has shape {mask.shape}; the scores have shape {shape}, (..., T, S): "
            "counted from the last, each axis of the mask must be as long, or 1"
        )
    if kind == "b":
        return mask, None
    may_look = mask != -inf
    if xp is np and may_look.all():
        return None, mask
    # may_look hides these keys, so nothing needs to be added to their scores.
    return may_look, xp.where(may_look, mask, 0.0)


def broadcasts_to(shape: tuple, to: tuple) -> bool:
    """Whether an array of one shape broadcasts to exactly the other."""
    return len(shape) <= len(to) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False)
    )


def with_causal_mask(
    may_look: Array | None, is_causal: bool, xp: Any, shape: tuple
) -> Array | None:
    """may_look combined with the causal mask if is_causal; None if every query may look
    everywhere."""
    if not is_causal:
        return may_look
    causal = constant(xp, np.tri(*shape[-2:], dtype=bool))
    return causal if may_look is None else may_look & causal


def answered_queries(
    xp: Any, q: Array, k: Array, v: Array, may_look: Array | None, is_causal: bool
) -> tuple[Array, Array]:
    """(answered, fallback), (..., T, 1) each. answered: True where the result of a query is an
    average of finite values. fallback: the result of the other queries, which is 0 if the query may
    look nowhere, and NaN if the query or a key or value that it sees is not finite."""
    t, s = q.shape[-2], k.shape[-2]
    bad_query = ~xp.isfinite(q).all(axis=-1)  # (..., T)
    bad_key = ~(xp.isfinite(k).all(axis=-1) & xp.isfinite(v).all(axis=-1))[..., None, :]
    may_look = xp.ones((1, s), bool) if may_look is None else may_look
    sees = sees_any(xp, may_look, is_causal, t)  # (..., T)
    bad = sees & (bad_query | sees_any(xp, may_look & bad_key, is_causal, t))
    fallback = xp.where(bad, nan, 0.0).astype(xp.result_type(q, k, v))
    return (sees & ~bad)[..., None], fallback[..., None]


def sees_any(xp: Any, keys: Array, is_causal: bool, t: int) -> Array:
    """Whether each query sees one of these keys: (..., T). keys: bool (..., T or 1, S). With a
    causal mask, the first of the keys (argmax of bools) must not come after the query."""
    any_key = keys.any(axis=-1)
    return any_key & (keys.argmax(axis=-1) <= xp.arange(t)) if is_causal else any_key
