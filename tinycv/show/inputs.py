"""Argument checks of the drawing functions: axes, figures, images from 0 to 1, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.figure import FigureBase

from tinycv.data import inputs
from tinycv.engine.arguments import shown


def axes(value: Any, who: str) -> Axes:
    """One set of axes, as figure.subplots() makes them."""
    if not isinstance(value, Axes):
        raise TypeError(
            f"{who}: ax is {shown(value)}; it must be axes of matplotlib: figure(...).subplots()"
        )
    return value


def place(value: Any, who: str) -> FigureBase:
    """A figure or subfigure, on which axes can be placed."""
    if not isinstance(value, FigureBase):
        raise TypeError(
            f"{who}: place is {shown(value)}; it must be a figure or subfigure of matplotlib"
        )
    return value


def from_0_to_1(values: Any, what: str, takes: str, ndim: int | None = None) -> np.ndarray:
    """Pixels, unchanged. Integers are accepted only if all are 0 or 1: bytes from 0 to 255 would be
    drawn almost entirely white."""
    found = inputs.array(values, what, takes, ndim=ndim)
    if found.dtype.kind in "iu" and found.size and not 0 <= found.min() <= found.max() <= 1:
        raise ValueError(
            f"{what} is {found.dtype} from {found.min()} to {found.max()}; it must be {takes}, of "
            "values 0 to 1: divide bytes by 255"
        )
    return found if found.dtype.kind == "f" else found.astype(np.float32)


def picture(value: Any, what: str) -> np.ndarray:
    """One picture as (H, W), or (H, W, 3) in colour."""
    takes = "a picture (H, W), (1, H, W) or (3, H, W)"
    found = from_0_to_1(value, what, takes)
    if (
        found.ndim not in (2, 3)
        or 0 in found.shape
        or (found.ndim == 3 and len(found) not in (1, 3))
    ):
        raise ValueError(f"{what} has shape {found.shape}; it must be {takes}")
    if found.ndim == 2:
        return found
    return found[0] if len(found) == 1 else np.moveaxis(found, 0, -1)


def colour(value: Any, what: str) -> Any:
    """A colour that matplotlib knows."""
    if not isinstance(value, (str, tuple)) or not is_color_like(value):
        raise ValueError(
            f"{what} is {shown(value)}; it must be a colour, such as '#222222' or 'red'"
        )
    return value


def numbers(values: Any, what: str, ndim: int = 1, finite: bool = False) -> np.ndarray:
    """Numbers to plot, as float64. None becomes NaN, a gap in a line. finite: NaN and infinity are
    refused."""
    takes = f"numbers with {ndim} {'axis' if ndim == 1 else 'axes'}"
    if _has_gaps(values):
        values = [np.nan if v is None else v for v in values]
    found = inputs.array(values, what, takes, ndim=ndim).astype(float)
    if finite and not np.isfinite(found).all():
        raise ValueError(
            f"{what} of shape {found.shape} holds NaN or infinity; it must be finite {takes}"
        )
    return found


def points(values: Any, what: str) -> np.ndarray:
    """Points or vectors (N, 2)."""
    found = numbers(values, what, 2)
    if found.shape[1] != 2:
        raise ValueError(f"{what} has shape {found.shape}; it must be points (N, 2)")
    return found


def names(values: Any, what: str, count: int | None = None) -> list[str]:
    """A list of texts, ``count`` of them unless it is None."""
    plain = isinstance(values, Sequence) and not isinstance(values, str)
    if not plain and not (isinstance(values, np.ndarray) and values.ndim == 1):
        raise TypeError(f"{what} is {shown(values)}; it must be a list of texts")
    found = list(values)
    if not all(isinstance(v, str) for v in found):
        raise TypeError(f"{what} is {shown(values)}; it must be a list of texts")
    if count is not None and len(found) != count:
        raise ValueError(f"{what} has {len(found)} texts; it must have {count}")
    return found


def named(values: Any, what: str, of: str) -> Mapping[str, Any]:
    """A dictionary with texts as keys and at least one entry."""
    if (
        not isinstance(values, Mapping)
        or not values
        or not all(isinstance(name, str) for name in values)
    ):
        raise TypeError(
            f"{what} is {shown(values)}; it must be a dictionary of {of} by their names, at least "
            "one"
        )
    return values


def _has_gaps(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and any(v is None for v in values)
