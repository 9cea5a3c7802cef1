"""Conversion to arrays: numbers, nested lists, and arrays of other libraries such as PyTorch.

Called by door.py, which lists the rules. Plain NumPy and CuPy arrays need no conversion.
"""

from __future__ import annotations

from array import array as buffer
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from tinycv.engine.arguments import shown
from tinycv.engine.backend import Array, array_module
from tinycv.engine.mode import recording
from tinycv.engine.signatures import TensorBase

NUMBERS = frozenset((bool, int, float))
# Types that look like sequences, but are not to be opened like lists
NO_LISTS = str, bytes, bytearray, memoryview, range, buffer, Mapping, np.generic, np.dtype


def from_library(data: Any) -> np.ndarray:
    """A plain NumPy array made from an array of another library or class: a PyTorch tensor on the
    CPU, a memory map, a column of a pandas table."""
    array = data
    if not isinstance(data, np.ndarray):
        try:
            # asanyarray keeps the mask of a masked array, which asarray would drop.
            array = np.asanyarray(data)
        except Exception as error:
            raise TypeError(
                f"a {type(data).__module__}.{type(data).__name__} of shape "
                f"{tuple(getattr(data, 'shape', ()))} cannot become a Tensor: {error}"
            ) from error
    if type(array) is np.ndarray or isinstance(array, np.memmap):
        return np.asarray(array)
    hint = (
        "replace the masked entries first, with x.filled(value)"
        if isinstance(array, np.ma.MaskedArray)
        else "its operators follow other rules; pass np.asarray(x) instead"
    )
    raise TypeError(
        f"a {type(array).__name__} of shape {array.shape} cannot become a Tensor: {hint}"
    )


def from_python(data: object, dtype: np.dtype | None, floats: np.dtype) -> np.ndarray:
    """An array made from a number, or from lists and other sequences of numbers, arrays and
    Tensors. floats: the dtype that Python floats become if ``dtype`` is None."""
    inside: set[np.dtype] = set()  # the dtypes of the arrays in the lists
    try:
        opened = _opened(data, inside)
    except RecursionError:
        raise _refused(data, "it is nested too deeply") from None
    try:
        array = np.asarray(opened)
    # rows of different lengths, or arrays on a GPU
    except (TypeError, ValueError, OverflowError):
        array = None
    if (
        array is not None
        and dtype is not None
        and (
            array.dtype.kind in "fiub"
            or array.dtype == object
            and all(isinstance(v, Real) for v in array.flat)
        )
    ):
        return _in_dtype(array, opened, dtype, data)
    if array is not None and array.dtype == object and has_large_integer(array):
        raise ValueError(
            f"{shown(data)} cannot become a Tensor: it does not fit into int64 or uint64, which "
            "hold whole numbers from -2**63 to 2**64 - 1; pass a dtype of floats for larger "
            "numbers"
        )
    if array is None or array.dtype.kind not in "fiub":
        raise _refused(data)
    if array.dtype != np.float64 or any(d.kind == "f" and d.itemsize > 4 for d in inside):
        return array
    # From int64 and uint64 together NumPy makes float64, which would round the numbers.
    if array.size and not _has_float(opened):
        raise _refused(data, "no integer dtype holds all of these numbers; pass a dtype")
    return cast(array, floats, data)


def has_large_integer(array: np.ndarray) -> bool:
    """Are all entries real numbers, and is one of them an integer that no integer dtype holds?"""
    values = list(array.flat)
    return all(isinstance(v, Real) for v in values) and any(
        isinstance(v, Integral) and not -(2**63) <= int(v) < 2**64 for v in values
    )


def _opened(data: Any, inside: set) -> Any:
    """The data with lists in place of other sequences, and plain arrays in place of Tensors and the
    arrays of other libraries. The dtypes of the arrays are added to ``inside``."""
    if isinstance(data, TensorBase):
        if data._node is not None and recording():
            raise RuntimeError(
                f"a list with a tensor of shape {data._data.shape} that requires a gradient cannot "
                "become a Tensor, because its gradient would be lost: use tinycv.stack(list), or "
                "x.detach() for the values alone"
            )
        inside.add(data._data.dtype)
        return data._data
    if type(data) in NUMBERS or isinstance(data, NO_LISTS):
        return data
    if isinstance(data, type):
        return data
    if hasattr(data, "__array__"):
        array = (
            data if type(data) is np.ndarray or array_module(data) is not np else from_library(data)
        )
        inside.add(array.dtype)
        return array
    if not (hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__")):
        return data
    if NUMBERS.issuperset(map(type, data)):
        return data if isinstance(data, (list, tuple)) else list(data)
    return [_opened(part, inside) for part in data]


def _has_float(opened: Any) -> bool:
    """Is there a float in these nested lists?"""
    if isinstance(opened, (list, tuple)):
        return any(map(_has_float, opened))
    return isinstance(opened, float) or getattr(getattr(opened, "dtype", None), "kind", "") == "f"


def _in_dtype(array: np.ndarray, opened: Any, dtype: np.dtype, data: object) -> np.ndarray:
    """The numbers in ``dtype``, converted from ``opened`` in one step. ``array`` may be float64, in
    which large integers would already be rounded."""
    if array.dtype.kind in "fiub":
        _refuse_outside(array, dtype, data)
    try:
        with np.errstate(over="raise"):
            return np.asarray(opened, dtype=dtype)
    except (FloatingPointError, OverflowError, ValueError):
        raise ValueError(f"{shown(data)} does not fit into {dtype}: choose a wider dtype") from None
    except TypeError:
        raise _refused(data) from None


def cast(array: Array, dtype: np.dtype, data: object) -> Array:
    """The array in another dtype. ValueError if a number does not fit; on a GPU this is not
    checked, because the check would have to wait for the GPU."""
    if type(array) is not np.ndarray:
        return array.astype(dtype)
    _refuse_outside(array, dtype, data)
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype)
    except FloatingPointError:
        raise ValueError(
            f"{shown(data)} does not fit into {dtype}, in which it would be infinity: "
            "choose a wider dtype"
        ) from None


def _refuse_outside(array: np.ndarray, dtype: np.dtype, data: object) -> None:
    """ValueError if ``dtype`` is an integer dtype and a number lies outside its range. NumPy would
    wrap around, and turn NaN into an arbitrary number.

    data: the user's argument, for the error message.
    """
    if dtype.kind not in "iu" or not array.size or np.can_cast(array.dtype, dtype):
        return
    low, high, limits = array.min().item(), array.max().item(), np.iinfo(dtype)
    # Every comparison with NaN is false, so NaN is refused too.
    if not (limits.min - 1 < low and high < limits.max + 1):
        if low != low:
            problem = "it contains NaN"
        elif low == high:
            problem = f"it is {low}"
        else:
            problem = f"its numbers go from {low} to {high}"
        raise ValueError(
            f"{shown(data)} does not fit into {dtype}, which holds whole numbers from {limits.min} "
            f"to {limits.max}: {problem}"
        )


def _refused(data: object, why: str = "") -> TypeError:
    """The error for data that is not an array of numbers. why: a hint, which replaces the usual
    one."""
    hint = (
        "if it is nested, its rows must be equally long" if isinstance(data, (list, tuple)) else ""
    )
    hint = f"; {why or hint}" if why or hint else ""
    return TypeError(
        f"{shown(data)} cannot become a Tensor, which is made from real numbers and bools, lists "
        f"of these, or arrays{hint}"
    )
