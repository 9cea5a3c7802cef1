"""Indexing as in CuPy: indices out of range wrap silently, and a full index gives an array."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def prepared(index: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """``index`` as NumPy should get it: a tuple with an Ellipsis, so that full indexing stays an
    array.

    Integer arrays from outside the axis wrap silently, as on the GPU; Python's integers are
    checked.
    """
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(_part(part) for part in parts)
    if not any(part is Ellipsis for part in parts):
        parts += (Ellipsis,)
    taken = sum(_axes_taken(part) for part in parts)
    axis, wrapped = 0, []
    for part in parts:
        if (
            isinstance(part, np.ndarray)
            and part.dtype.kind in "iu"
            and axis < len(shape)
            and shape[axis]
        ):
            part = part % shape[axis]
        wrapped.append(part)
        axis += len(shape) - taken if part is Ellipsis else _axes_taken(part)
    return tuple(wrapped)


def _part(part: Any) -> Any:
    if hasattr(part, "_a"):
        return part._a  # the double's contents
    if isinstance(part, slice):
        edges = (part.start, part.stop, part.step)
        return slice(*(None if edge is None else operator.index(edge) for edge in edges))
    if isinstance(part, list):
        return np.asarray(part, dtype=None if part else np.intp)
    if isinstance(part, np.ndarray | bool | np.bool) or part is None or part is Ellipsis:
        return part
    return operator.index(part)


def _axes_taken(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool | np.bool):
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1
