"""Argument validation: check what users pass, and raise errors that say what is wrong.

Each function takes the value and ``what`` it is, such as "Linear: in_features"; error messages
begin with this.  Where Python would say "'numpy.float64' object cannot be interpreted as an
integer", these functions say

    Linear: in_features is 2.5; it must be a whole number, at least 0

They raise TypeError for a value of the wrong type, and ValueError for a value of the right type
that is not allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import index
from typing import Any

import numpy as np

NOT_PLAIN = np.matrix, np.ma.MaskedArray  # arrays whose * and mean() mean something else

# These can be looped over, but are not sequences of numbers.
NOT_SIZES = str, bytes, dict, set, frozenset


def size(value: Any, what: str, least: int = 0) -> int:
    """A size or a count, at least ``least``, as a Python int. Any type with ``__index__`` will do
    (int, np.int64), except bools."""
    n = whole(value, what, least)
    if n >= 2**63:  # no array can be that large
        raise ValueError(
            f"{what} is {shown(n)}; it must be a whole number, at least {least} and below 2**63"
        )
    return n


def whole(value: Any, what: str, least: int = 0) -> int:
    """A whole number of any magnitude, at least ``least``, as a Python int; for seeds."""
    takes = f"it must be a whole number, at least {least}"
    if isinstance(value, (bool, np.bool)):
        raise TypeError(f"{what} is {shown(value)}; {takes}")
    try:
        n = index(value)
    except TypeError:
        raise TypeError(f"{what} is {shown(value)}; {takes}") from None
    if n < least:
        raise ValueError(f"{what} is {n}; {takes}")
    return n


def sizes(value: Any, what: str, count: int | None = None, least: int = 0) -> tuple[int, ...]:
    """A tuple of sizes, each at least ``least``. A single number means ``count`` equal ones, or a
    tuple of one if ``count`` is None."""
    if (
        not isinstance(value, Iterable)
        or getattr(value, "ndim", None) == 0
        or isinstance(value, NOT_SIZES)
    ):
        return (size(value, what, least),) * (1 if count is None else count)
    numbers = tuple(size(v, f"{what}[{i}]", least) for i, v in enumerate(value))
    if count is not None and len(numbers) != count:
        raise ValueError(
            f"{what} has {len(numbers)} numbers; it must have {count}, or be one number for all"
        )
    return numbers


def number(
    value: Any,
    what: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A real number with low <= value <= high and above < value < below, as a Python float.

    NaN is always refused, and infinity if a bound excludes it. A Tensor that requires a gradient is
    refused too, because its gradient would be lost.
    """
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain and getattr(value, "requires_grad", False):
        raise TypeError(
            f"{what} is {shown(value)}; it must be a Python number, because no gradient would "
            "reach a Tensor there"
        )
    if not plain and not (kind in ("i", "u", "f") and getattr(value, "ndim", None) == 0):
        raise TypeError(f"{what} is {shown(value)}; {_bounds_in_words(low, high, above, below)}")
    try:
        real = float(value)
    except OverflowError:  # an int that is larger than any float
        real = math.inf if value > 0 else -math.inf
    strict = (above == -math.inf or real > above) and (below == math.inf or real < below)
    if not (low <= real <= high and strict):  # every comparison with NaN is false, so NaN fails
        raise ValueError(f"{what} is {shown(value)}; {_bounds_in_words(low, high, above, below)}")
    return real


def _bounds_in_words(low: float, high: float, above: float, below: float) -> str:
    """The end of an error message, such as "it must be a number, at least 0 and less than 1"."""
    named = (("at least", low), ("more than", above), ("at most", high), ("less than", below))
    bounds = [f"{words} {bound:g}" for words, bound in named if math.isfinite(bound)]
    return "it must be a number" + (", " if bounds else "") + " and ".join(bounds)


def choice(value: Any, what: str, options: Iterable[Any]) -> Any:
    """The value, which must be one of the options; a NumPy bool or string as a Python one."""
    options = tuple(options)
    value = value.item() if isinstance(value, (np.bool, np.str_)) else value
    if not any(type(value) is type(option) and value == option for option in options):
        named = ", ".join(map(repr, options))
        kind = ValueError if any(type(value) is type(option) for option in options) else TypeError
        raise kind(f"{what} is {shown(value)}; it must be one of {named}")
    return value


def flag(value: Any, what: str) -> bool:
    """True or False, as a Python bool. NumPy bools are accepted; values that Python merely treats
    like a bool (1, "", None) are not."""
    if not isinstance(value, (bool, np.bool)):
        raise TypeError(f"{what} is {shown(value)}; it must be True or False")
    return bool(value)


def function(value: Any, what: str) -> Any:
    """The value, which must be a function or another callable."""
    if not callable(value):
        raise TypeError(f"{what} is {shown(value)}; it must be a function")
    return value


def along(axis: Any, ndim: int, name: str) -> int:
    """One axis, counted from 0. ValueError if an array with ``ndim`` axes has no such axis."""
    axis = size(axis, f"{name}: axis", -ndim)
    if axis >= ndim:
        raise ValueError(f"{name}: axis is {axis}; x has {ndim} axes, {-ndim} to {ndim - 1}")
    return axis % ndim


def is_array(value: Any) -> bool:
    """Is it a Tensor or an array, of any library? (``ndim`` has to be an int, because the module
    numpy and the class Tensor have an attribute of that name too.)"""
    return (
        isinstance(getattr(value, "ndim", None), int)
        and hasattr(value, "shape")
        and hasattr(value, "dtype")
    )


def number_kind(value: Any) -> str | None:
    """NumPy's letter for the kind of dtype, such as "f" for floats and "i" for integers, of an
    array or a Tensor on any device. None for other values, masked arrays and np.matrix."""
    if isinstance(value, NOT_PLAIN):
        return None
    return getattr(getattr(value, "dtype", None), "kind", None)


def allocated(make: Callable[[], Any], value: Any, what: str) -> Any:
    """The array that ``make`` returns. If this machine has too little memory, a MemoryError that
    names the argument ``what`` and its ``value``."""
    try:
        return make()
    except MemoryError:
        raise MemoryError(
            f"{what} is {shown(value)}, which is too large for this machine's memory"
        ) from None


def shown(value: Any) -> str:
    """A value as it appears in error messages: shortened, on one line, and arrays as type, dtype
    and shape."""
    if is_array(value) and value.ndim:
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    text = " ".join(line.strip() for line in repr(value).splitlines())
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(values: Iterable[Any], most: int = 8, join: str = ", ") -> str:
    """A list for an error message: the first ``most`` values, each cut to 200 characters, and how
    many more there are."""
    texts = [str(value) for value in values]
    first = [text if len(text) <= 200 else f"{text[:197]}..." for text in texts[:most]]
    return join.join(first) + (f" and {len(texts) - most} more" if len(texts) > most else "")
