"""What the functions of nn ask of their arrays, in the words of an error. Numbers and sizes: engine/arguments.py.

Nothing here looks at values: that would be to wait for a GPU.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.arguments import shown


def array(value: Any, what: str, kinds: str = "fiub", takes: str = "an array or a Tensor of numbers") -> Any:
    """The value; TypeError for one that is no array or Tensor, or of another kind of dtype (NumPy's letters for these)."""
    if not hasattr(value, "ndim") or not hasattr(value, "dtype") or value.dtype.kind not in kinds:
        described = shown(value)
        if hasattr(value, "dtype") and not getattr(value, "ndim", 0):
            described = f"{described} of {value.dtype}"
        raise TypeError(f"{what} is {described}; it must be {takes}")
    return value


def vector(value: Any, what: str, length: int, source: str) -> None:
    """An array of so many numbers, or None. source: where the length comes from, for the sentence."""
    if value is not None and (array(value, what).ndim != 1 or value.shape[0] != length):
        raise ValueError(f"{what} has shape {tuple(value.shape)}; it must be ({length},), as {source}")


def axis_of(axis: Any, ndim: int, what: str) -> int:
    """An axis of an array of so many, from 0 on."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{what} is {shown(axis)}; it must be a whole number")
    place = axis.__index__()
    if not -ndim <= place < ndim:
        raise ValueError(f"{what} is {place}; x has {ndim} axes, so it must be at least {-ndim} and less than {ndim}"
                         if ndim else f"{what} is {place}, but x is a single number, which has no axis")
    return place % ndim
