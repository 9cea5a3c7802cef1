"""Arguments that users give: checked at the door, so that a wrong one gets a sentence and not a
riddle.

Each function takes the value and ``what`` it is, "Linear: in_features", which begins the sentence
of the error. Where Python would say "'numpy.float64' object cannot be interpreted as an integer",
these say

    Linear: in_features is 2.5; it must be a whole number, at least 0

TypeError for a value of the wrong kind, ValueError for one of the right kind that cannot be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import index
from typing import Any

import numpy as np

NOT_PLAIN = np.matrix, np.ma.MaskedArray  # arrays whose * and mean() are other functions

# they can be walked through, but are no sequences of numbers
NOT_SIZES = str, bytes, dict, set, frozenset


def size(value: Any, what: str, least: int = 0) -> int:
    """A whole number, as Python's int: anything with ``__index__`` (int, np.int64) except a
    bool."""
    found = whole(value, what, least)
    if found >= 2**63:  # no array is so long, and no loop ends
        raise ValueError(
            f"{what} is {shown(found)}; it must be a whole number, at least {least}, and below 2 "
            "** 63"
        )
    return found


def whole(value: Any, what: str, least: int = 0) -> int:
    """As ``size``, of any magnitude: a seed may be larger than any array."""
    takes = f"it must be a whole number, at least {least}"
    if isinstance(value, (bool, np.bool)):
        raise TypeError(f"{what} is {shown(value)}; {takes}")
    try:
        found = index(value)
    except TypeError:
        raise TypeError(f"{what} is {shown(value)}; {takes}") from None
    if found < least:
        raise ValueError(f"{what} is {found}; {takes}")
    return found


def sizes(value: Any, what: str, count: int | None = None, least: int = 0) -> tuple[int, ...]:
    """A tuple of whole numbers. One number alone stands for ``count`` equal ones, or for a tuple of
    one."""
    if (
        not isinstance(value, Iterable)
        or getattr(value, "ndim", None) == 0
        or isinstance(value, NOT_SIZES)
    ):
        return (size(value, what, least),) * (1 if count is None else count)
    given = tuple(size(v, f"{what}[{i}]", least) for i, v in enumerate(value))
    if count is not None and len(given) != count:
        raise ValueError(
            f"{what} has {len(given)} numbers; it must have {count}, or be one number for all"
        )
    return given


def number(
    value: Any,
    what: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A real number with low <= value <= high and above < value < below, as Python's float.

    NaN is always refused; infinity is refused where a bound excludes it. So is a Tensor that
    requires a gradient, which would lose it here.
    """
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain and getattr(value, "requires_grad", False):
        raise TypeError(
            f"{what} is {shown(value)}; it must be a number of Python's: no gradient would reach a "
            "Tensor there"
        )
    if not plain and not (kind in ("i", "u", "f") and getattr(value, "ndim", None) == 0):
        raise TypeError(f"{what} is {shown(value)}; {_wanted(low, high, above, below)}")
    try:
        real = float(value)
    except OverflowError:  # an int beyond every float
        real = math.inf if value > 0 else -math.inf
    strict = (above == -math.inf or real > above) and (below == math.inf or real < below)
    if not (low <= real <= high and strict):  # NaN compares as outside
        raise ValueError(f"{what} is {shown(value)}; {_wanted(low, high, above, below)}")
    return real


def _wanted(low: float, high: float, above: float, below: float) -> str:
    """The bounds in words."""
    named = (("at least", low), ("more than", above), ("at most", high), ("less than", below))
    bounds = [f"{words} {bound:g}" for words, bound in named if math.isfinite(bound)]
    return "it must be a number" + (", " if bounds else "") + " and ".join(bounds)


def choice(value: Any, what: str, options: Iterable[Any]) -> Any:
    """One of the options, as it was given; a bool or a word of NumPy's as Python's."""
    options = tuple(options)
    value = value.item() if isinstance(value, (np.bool, np.str_)) else value
    if not any(type(value) is type(option) and value == option for option in options):
        named = ", ".join(map(repr, options))
        kind = ValueError if any(type(value) is type(option) for option in options) else TypeError
        raise kind(f"{what} is {shown(value)}; it must be one of {named}")
    return value


def flag(value: Any, what: str) -> bool:
    """True or False, also NumPy's, as Python's bool; what only counts as one of them (1, "", None)
    is refused."""
    if not isinstance(value, (bool, np.bool)):
        raise TypeError(f"{what} is {shown(value)}; it must be True or False")
    return bool(value)


def function(value: Any, what: str) -> Any:
    """A function, or anything else that can be called, as it was given."""
    if not callable(value):
        raise TypeError(f"{what} is {shown(value)}; it must be a function")
    return value


def along(axis: Any, ndim: int, name: str) -> int:
    """One axis, counted from 0. ValueError where the array has no such axis."""
    axis = size(axis, f"{name}: axis", -ndim)
    if axis >= ndim:
        raise ValueError(f"{name}: axis is {axis}; x has {ndim} axes, {-ndim} to {ndim - 1}")
    return axis % ndim


def is_array(value: Any) -> bool:
    """Is it a Tensor or an array, of any library?  (The module numpy has an ``ndim`` too, and so
    has the class Tensor.)"""
    return (
        isinstance(getattr(value, "ndim", None), int)
        and hasattr(value, "shape")
        and hasattr(value, "dtype")
    )


def number_kind(value: Any) -> str | None:
    """The kind of numbers, "f" or "i" for example, in an array of either device or a Tensor. None
    for what is neither, and for a masked array or np.matrix."""
    if isinstance(value, NOT_PLAIN):
        return None
    return getattr(getattr(value, "dtype", None), "kind", None)


def allocated(make: Callable[[], Any], value: Any, what: str) -> Any:
    """The array that ``make`` makes. MemoryError in our words where its size, ``value``, is too
    much for this machine."""
    try:
        return make()
    except MemoryError:
        raise MemoryError(
            f"{what} is {shown(value)}; so many numbers do not fit into this machine's memory"
        ) from None


def shown(value: Any) -> str:
    """A value in a sentence: short, and an array by its type, dtype and shape."""
    if is_array(value) and value.ndim:
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(values: Iterable[Any], most: int = 8, join: str = ", ") -> str:
    """Names, or parts of a sentence: the first few of them, each of at most 200 letters, and how
    many more there are."""
    texts = [str(value) for value in values]
    few = [text if len(text) <= 200 else f"{text[:197]}..." for text in texts[:most]]
    return join.join(few) + (f" and {len(texts) - most} more" if len(texts) > most else "")
