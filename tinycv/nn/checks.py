"""Checks for layers and functions of nn: dtype, shape, axis, size, epsilon.

Each raises an error that names the argument. Numbers and words are checked in engine/arguments.py;
batches, times and labels of the generative chapters in inputs.py.

Nothing here looks at values: that would be to wait for a GPU.

An argument of type Any, here and in every file of checks, is what a user gave and nobody has looked
at yet. Behind the checks the types hold.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from tinycv.engine.arguments import flag, number, shown, size  # noqa: F401  flag: for the layers

NUMBERS = "fiub"  # NumPy's letters for kinds of dtype: floats, integers, truth values
MOST_FLOAT = float(np.finfo(np.float32).max)  # numbers up to here are finite in float32 too
# features or channels: more are a mistake, and no memory holds their weights
MOST = 2**40
# one behind another: no machine would ever answer through more
MOST_LAYERS = 10_000


def count(value: Any, what: str, least: int = 0) -> int:
    """How many features, channels or rows a layer has."""
    whole = size(value, what, least)
    if whole > MOST:
        raise ValueError(f"{what} is {whole}; no memory holds the weights of so many")
    return whole


def array(
    value: Any, what: str, kinds: str = NUMBERS, takes: str = "an array or a Tensor of numbers"
) -> Any:
    """The value; TypeError for one that is no array or Tensor, or of another kind of dtype."""
    kind = getattr(getattr(value, "dtype", None), "kind", "none")
    if not isinstance(getattr(value, "ndim", None), int) or kind not in kinds:
        described = shown(value)
        if hasattr(value, "dtype") and not getattr(value, "ndim", 0):
            described = f"{described} of {value.dtype}"
        raise TypeError(f"{what} is {described}; it must be {takes}")
    return value


def fits(value: Any, what: str, shape: tuple, meaning: str) -> None:
    """An array of this shape, or None. meaning: what the numbers are for."""
    if value is not None and (
        getattr(value, "shape", None) != shape or value.dtype.kind not in NUMBERS
    ):
        array(value, what)
        raise ValueError(f"{what} has shape {tuple(value.shape)}; it must be {shape}, {meaning}")


def index_of(value: Any) -> int | None:
    """A whole number of either sign as Python's; None for all else: a bool, a float, an array with
    axes, a class."""
    if (
        isinstance(value, (bool, np.bool))
        or getattr(value, "ndim", 0)
        or (getattr(getattr(value, "dtype", None), "kind", "i") not in "iu")
    ):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def axis_of(axis: Any, ndim: int, what: str = "axis") -> int:
    """An axis of an array of so many, from 0 on."""
    place = axis if type(axis) is int else index_of(axis)
    if place is None:
        raise TypeError(f"{what} is {shown(axis)}; it must be a whole number")
    if not -ndim <= place < ndim:
        raise ValueError(
            f"{what} is {place}, but x is a single number, which has no axes"
            if not ndim
            else f"{what} is {place}; x has {ndim} axes, so it must be at least {-ndim} and at "
            f"most {ndim - 1}"
        )
    return place % ndim


def epsilon(eps: Any, what: str = "eps") -> float:
    """A number that keeps a divisor from being 0: not negative."""
    return (
        eps if type(eps) is float and 0 <= eps <= MOST_FLOAT else number(eps, what, 0, MOST_FLOAT)
    )
