"""What densities that are sums of components share: their points and noise checked, and sums of
exponentials that neither overflow nor cancel.

    p(x) = Σ_k exp(rest_k - |along_k / deviations|² / 2)

Used by: Mixture and Boxes in densities.py. What is beyond the numbers of x's dtype becomes
infinite, never NaN.
Shapes: N points, K components, D axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.data.inputs import MOST, real_numbers
from tinycv.engine import ops
from tinycv.engine.arguments import number, number_kind, shown
from tinycv.engine.backend import Array, array_module
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import exp, logsumexp, where
from tinycv.engine.tensor import ArrayLike, Tensor, bare

Values = Tensor | Array
BLOCK = 2**18  # numbers (N, K, D) that are held at once


def check_points(x: Any, dim: int, name: str) -> None:
    """An error unless x is points (N, dim), floats: the means would be cut to whole numbers beside
    an x of integers."""
    if number_kind(x) != "f":
        raise TypeError(
            f"{name}: x is {shown(x)}; it must be an array or a Tensor of floats (N, {dim})"
        )
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"{name}: points of shape {x.shape}; this density takes (N, {dim})")


def checked_noise(x: Values, noise: Any, name: str) -> float | Values:
    """s as a float, or as (N, 1, 1) in x's precision where every point has its own. ValueError for
    what is no standard deviation (on a GPU, NaN in its place)."""
    if is_one_number(noise) and getattr(noise, "requires_grad", False) is False:
        return number(bare(noise), f"{name}: noise", low=0, below=MOST)
    if number_kind(noise) not in ("f", "i", "u"):
        raise TypeError(
            f"{name}: noise is {shown(noise)}; it must be a number, or an array or a Tensor of one "
            "per point"
        )
    if noise.size not in (1, len(x)):
        raise ValueError(
            f"{name}: noise of shape {noise.shape} for {len(x)} points: give one number, or one "
            "per point"
        )
    if (
        isinstance(bare(noise), np.ndarray)
        and not ((bare(noise) >= 0) & (bare(noise) < math.inf)).all()
    ):
        raise ValueError(
            f"{name}: noise holds numbers that are negative, infinite or NaN; it is a standard "
            "deviation, at least 0"
        )
    # on a GPU to look would be to wait: NaN
    if not isinstance(bare(noise), np.ndarray):
        noise = where((bare(noise) >= 0) & (bare(noise) < math.inf), noise, math.nan)
    return noise.astype(np.promote_types(x.dtype, np.float32)).reshape((-1, 1, 1))


def is_one_number(noise: Any) -> bool:
    """Is the noise one number on the host, the same for all points?"""
    array = bare(noise)
    return isinstance(array, (int, float)) or (
        isinstance(array, (np.ndarray, np.generic))
        and array.ndim == 0
        and array.dtype.kind in "biuf"
    )


def is_zero(noise: Any) -> bool:
    """Is it one number on the host, and 0?"""
    return is_one_number(noise) and float(bare(noise)) == 0


def shares(weights: ArrayLike | None, count: int, name: str = "shares") -> np.ndarray:
    """Weights (K,) that sum to 1; equal ones for None."""
    weights = np.ones(count) if weights is None else real_numbers(weights, f"{name}: weights")
    if weights.shape != (count,) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"{name}: weights of shape {weights.shape}: one for each of {count} components is "
            "needed, none negative, not all 0"
        )
    return weights / weights.sum()


def beside(x: Values, array: np.ndarray) -> Array:
    """A host array where x is, in x's precision."""
    own = bare(x)
    return array_module(own).asarray(array, dtype=own.dtype)


def in_blocks(function: Callable[[Any, Any], Any], x: Values, noise: Any, width: int) -> Any:
    """function(x, noise), with so many points at once that ``width`` numbers for each of them fill
    a block.

    Halves are given to it in float32, and its answer is rounded once. Over- and underflow are right
    answers, and silent.
    """
    dtype, rows = x.dtype, max(1, BLOCK // width)
    x = x.astype(np.float32) if dtype.char == "e" else x
    own = getattr(noise, "size", 1) > 1
    with np.errstate(over="ignore", divide="ignore"):
        parts = [
            function(x[i : i + rows], noise[i : i + rows] if own else noise)
            for i in range(0, max(1, len(x)), rows)
        ]
        made = parts[0] if len(parts) == 1 else concatenate(parts)
        return made.astype(dtype) if made.dtype != dtype else made


def within_range(value: Values, low: float | None = None) -> Values:
    """Numbers that are no longer infinite: an infinite one less another, or times 0, would be NaN.
    NaN stays. They are at least ``low``, or the least number above 0."""
    ends = np.finfo(value.dtype)
    return ops.clip(value, float(ends.tiny) if low is None else low, float(ends.max))


def root_of_squares(a: Values, b: Values) -> Values:
    """√(a² + b²) of numbers of at least 0, whose squares may leave the floats."""
    most = within_range(array_module(bare(a)).maximum(bare(a), bare(b)))
    return ((a / most) ** 2 + (b / most) ** 2) ** 0.5 * most


def reach_of(x: Values, centres: np.ndarray, deviations: Array) -> Array | None:
    """How many standard deviations (N or 1,) a point of x (N, D) may be away from what lies within
    ``centres``: (N, 1). None on the host where it is so few for all of x that their squares are far
    from the ends of the floats."""
    array, reach = bare(x), centres.shape[1] ** 0.5 * float(np.abs(centres).max())
    xp = array_module(array)
    if (
        xp is np
        and (np.abs(array).max(initial=0.0) + reach) / deviations.min(initial=1.0)
        < np.finfo(x.dtype).max ** 0.25
    ):
        return None
    return within_range(
        (array.shape[1] ** 0.5 * xp.abs(array).max(axis=1) + reach) / deviations, 1.0
    )[:, None]


def shares_of(
    rest: Values, along: Values, deviations: Values, reach: Array | None
) -> tuple[Values, Values]:
    """For components exp(rest_k - |along_k / deviations|² / 2): their shares in the sum, (N, K),
    and its log, (N,).

    rest (N or 1, K), along (N, K, D); reach (N, 1): no along / deviations is larger, unless it is
    beyond the floats. In units of it no square leaves the floats, and the nearest component is
    subtracted before it is multiplied back.
    """
    # (N, K, D)
    away = along / (deviations if reach is None else deviations * reach[..., None])
    squares, least = 0.5 * (away * away).sum(axis=-1), 0.0  # (N, K)
    if reach is not None:
        squares = within_range(squares, 0.0)
        least = bare(squares).min(axis=-1, keepdims=True)  # (N, 1)
        squares, least = reach * (reach * (squares - least)), reach * (reach * least)
    joint = rest - squares
    total = logsumexp(joint, axis=-1, keepdims=True)
    return exp(joint - total), (total - least)[:, 0]


def mixed(share: Values, vectors: Values) -> Values:
    """Σ_k share_k vectors_k, (N, D), for share (N, K) and vectors (N, K, D); one of share 0 may be
    infinite."""
    share = share[..., None]
    return (share * where(share > 0, vectors, 0.0)).sum(axis=1)
