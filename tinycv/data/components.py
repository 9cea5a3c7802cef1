"""Mixture densities: sums of components computed without overflow, for densities.py.

    p(x) = Σ_k exp(rest_k - |along_k / deviations|² / 2)

Used by: Mixture and Boxes in densities.py. A result too large for the dtype of x is infinite, never
NaN.
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
BLOCK = 2**18  # how many numbers of an (N, K, D) array are in memory at once


def check_points(x: Any, dim: int, name: str) -> None:
    """An error unless x is points (N, dim) of floats. (Integers are refused because the means are
    converted to the dtype of x, which would round them.)"""
    if number_kind(x) != "f":
        raise TypeError(
            f"{name}: x is {shown(x)}; it must be an array or a Tensor of floats (N, {dim})"
        )
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"{name}: x has shape {x.shape}; this density takes points (N, {dim})")


def checked_noise(x: Values, noise: Any, name: str) -> float | Values:
    """The noise level as a float; or, if there is one per point, as (N, 1, 1) in the precision of
    x. ValueError for what is no standard deviation (on a GPU it becomes NaN)."""
    if is_one_number(noise) and getattr(noise, "requires_grad", False) is False:
        return number(bare(noise), f"{name}: noise", low=0, below=MOST)
    if number_kind(noise) not in ("f", "i", "u"):
        raise TypeError(
            f"{name}: noise is {shown(noise)}; it must be a number, or an array or a Tensor of one "
            "per point"
        )
    if noise.size not in (1, len(x)):
        raise ValueError(
            f"{name}: noise has shape {noise.shape}, but there are {len(x)} points; give one "
            "number, or one per point"
        )
    if (
        isinstance(bare(noise), np.ndarray)
        and not ((bare(noise) >= 0) & (bare(noise) < math.inf)).all()
    ):
        raise ValueError(
            f"{name}: noise holds numbers that are negative, infinite or NaN; it is a standard "
            "deviation, at least 0"
        )
    # on a GPU a check would have to wait for the device, so a wrong level becomes NaN
    if not isinstance(bare(noise), np.ndarray):
        noise = where((bare(noise) >= 0) & (bare(noise) < math.inf), noise, math.nan)
    return noise.astype(np.promote_types(x.dtype, np.float32)).reshape((-1, 1, 1))


def is_one_number(noise: Any) -> bool:
    """Is the noise one number on the host, for all points?"""
    array = bare(noise)
    return isinstance(array, (int, float)) or (
        isinstance(array, (np.ndarray, np.generic))
        and array.ndim == 0
        and array.dtype.kind in "biuf"
    )


def is_zero(noise: Any) -> bool:
    """Is the noise one number on the host, and is it 0?"""
    return is_one_number(noise) and float(bare(noise)) == 0


def shares(weights: ArrayLike | None, count: int, name: str = "shares") -> np.ndarray:
    """Weights (K,) scaled to sum to 1; equal weights for None."""
    weights = np.ones(count) if weights is None else real_numbers(weights, f"{name}: weights")
    if weights.shape != (count,) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"{name}: weights has shape {weights.shape}; there must be one for each of {count} "
            "components, none negative and not all 0"
        )
    return weights / weights.sum()


def array_like(x: Values, array: np.ndarray) -> Array:
    """A NumPy array converted to the dtype of x, on the device of x."""
    points = bare(x)
    return array_module(points).asarray(array, dtype=points.dtype)


def in_blocks(function: Callable[[Any, Any], Any], x: Values, noise: Any, width: int) -> Any:
    """function(x, noise), computed for a block of points at a time. A point needs ``width``
    numbers, and a block of them BLOCK.

    float16 points are converted to float32, and the result is rounded once. Overflow and underflow
    give the right result here, so NumPy's warnings are off.
    """
    dtype, rows = x.dtype, max(1, BLOCK // width)
    x = x.astype(np.float32) if dtype.char == "e" else x
    one_per_point = getattr(noise, "size", 1) > 1
    with np.errstate(over="ignore", divide="ignore"):
        blocks = [
            function(x[i : i + rows], noise[i : i + rows] if one_per_point else noise)
            for i in range(0, max(1, len(x)), rows)
        ]
        result = blocks[0] if len(blocks) == 1 else concatenate(blocks)
        return result.astype(dtype) if result.dtype != dtype else result


def within_range(value: Values, low: float | None = None) -> Values:
    """Numbers clipped to [low, largest float], because inf - inf and 0 * inf would be NaN. NaN
    stays NaN. low: by default the smallest normal number above 0."""
    limits = np.finfo(value.dtype)
    return ops.clip(value, float(limits.tiny) if low is None else low, float(limits.max))


def root_of_squares(a: Values, b: Values) -> Values:
    """√(a² + b²) for a, b >= 0 whose squares may overflow or underflow."""
    most = within_range(array_module(bare(a)).maximum(bare(a), bare(b)))
    return ((a / most) ** 2 + (b / most) ** 2) ** 0.5 * most


def reach_of(x: Values, centres: np.ndarray, deviations: Array) -> Array | None:
    """An upper bound, (N, 1), on the distance of each point of x (N, D) from all ``centres``, in
    standard deviations ``deviations`` (N or 1,).

    None, on the host, if the bound is so small for all points that its square cannot overflow.
    """
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
    """The share of each component exp(rest_k - |along_k / deviations|² / 2) in their sum, (N, K),
    and the log of the sum, (N,).

    rest (N or 1, K), along (N, K, D). reach (N, 1): an upper bound on along / deviations
    (``reach_of``). In units of reach no square overflows; the square of the nearest component is
    subtracted before the result is multiplied back.
    """
    away = along / (deviations if reach is None else deviations * reach[..., None])  # (N, K, D)
    squares, least = 0.5 * (away * away).sum(axis=-1), 0.0  # (N, K)
    if reach is not None:
        squares = within_range(squares, 0.0)
        least = bare(squares).min(axis=-1, keepdims=True)  # (N, 1)
        squares, least = reach * (reach * (squares - least)), reach * (reach * least)
    joint = rest - squares
    total = logsumexp(joint, axis=-1, keepdims=True)
    return exp(joint - total), (total - least)[:, 0]


def weighted_sum(share: Values, vectors: Values) -> Values:
    """Σ_k share_k vectors_k, (N, D), for share (N, K) and vectors (N, K, D). A vector whose share
    is 0 may be infinite."""
    share = share[..., None]
    return (share * where(share > 0, vectors, 0.0)).sum(axis=1)
