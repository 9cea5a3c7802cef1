"""What is not yet an array becomes one: numbers, nested lists, other libraries' arrays.

Called by door.py, where the rules stand; an array of NumPy's or CuPy's never comes here.
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
# NumPy takes them as a whole
NO_LISTS = str, bytes, bytearray, memoryview, range, buffer, Mapping, np.generic, np.dtype


def from_library(data: Any) -> np.ndarray:
    """An array of another kind, as NumPy's own: PyTorch's on the CPU, a memory map, a column of a
    table."""
    array = data
    if not isinstance(data, np.ndarray):
        try:
            # asarray would take what stands under a mask
            array = np.asanyarray(data)
        except Exception as error:
            raise TypeError(
                f"a {type(data).__module__}.{type(data).__name__} of shape "
                f"{tuple(getattr(data, 'shape', ()))} cannot become a Tensor: {error}"
            ) from error
    if type(array) is np.ndarray or isinstance(array, np.memmap):
        return np.asarray(array)
    hint = (
        "say what stands under the mask with x.filled(value)"
        if isinstance(array, np.ma.MaskedArray)
        else "its products follow other rules; pass np.asarray(x)"
    )
    raise TypeError(
        f"a {type(array).__name__} of shape {array.shape} cannot become a Tensor: {hint}"
    )


def from_python(data: object, dtype: np.dtype | None, floats: np.dtype) -> np.ndarray:
    """A number, or lists and other sequences of numbers, arrays and Tensors."""
    inside: set[np.dtype] = set()
    try:
        opened = _opened(data, inside)
    except RecursionError:
        raise _refused(data, "it is nested too deeply") from None
    try:
        array = np.asarray(opened)
    # rows of several lengths, or arrays on a GPU
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
            "hold whole numbers from -2**63 to 2**64 - 1; pass a dtype of floats for larger ones"
        )
    if array is None or array.dtype.kind not in "fiub":
        raise _refused(data)
    if array.dtype != np.float64 or any(d.kind == "f" and d.itemsize > 4 for d in inside):
        return array
    # of int64 and uint64 NumPy makes floats, which would round
    if array.size and not _has_float(opened):
        raise _refused(data, "no dtype of integers holds all of these; pass dtype")
    return cast(array, floats, data)


def has_large_integer(array: np.ndarray) -> bool:
    """Are these objects real numbers, among them an integer that no dtype of integers holds?"""
    values = list(array.flat)
    return all(isinstance(v, Real) for v in values) and any(
        isinstance(v, Integral) and not -(2**63) <= int(v) < 2**64 for v in values
    )


def _opened(data: Any, inside: set) -> Any:
    """The same with lists for sequences, and looked-at arrays for all that are one; their dtypes go
    ``inside``."""
    if isinstance(data, TensorBase):
        if data._node is not None and recording():
            raise RuntimeError(
                f"a list with a tensor of shape {data._data.shape} that requires a gradient cannot "
                "become a Tensor, as its gradient would be lost: take tinycv.stack(list), or "
                "x.detach()"
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
    """The numbers in that dtype at once: by way of ``array`` large integers would be rounded."""
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
    """The array in another dtype. ValueError where a number does not fit; a GPU would have to be
    waited for."""
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
    """ValueError where the integers of ``dtype`` do not reach; NumPy would wrap around, or make any
    number of NaN.

    data: what was given for the array, for the error.
    """
    if dtype.kind not in "iu" or not array.size or np.can_cast(array.dtype, dtype):
        return
    low, high, limits = array.min().item(), array.max().item(), np.iinfo(dtype)
    if not (limits.min - 1 < low and high < limits.max + 1):  # NaN compares as outside
        found = (
            "there is NaN"
            if low != low
            else f"it is {low}"
            if low == high
            else f"these go from {low} to {high}"
        )
        raise ValueError(
            f"{shown(data)} does not fit into {dtype}, which holds whole numbers from {limits.min} "
            f"to {limits.max}: {found}"
        )


def _refused(data: object, why: str = "") -> TypeError:
    """The error for what is no array of numbers."""
    hint = (
        "the rows of a nested list must be equally long" if isinstance(data, (list, tuple)) else ""
    )
    hint = f"; {why or hint}" if why or hint else ""
    return TypeError(
        f"{shown(data)} cannot become a Tensor: it takes real numbers and bools, lists of them, "
        f"and arrays{hint}"
    )
