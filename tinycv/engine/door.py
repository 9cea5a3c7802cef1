"""The one door for arrays: what may become a Tensor, and in which dtype.

    arrays and Tensors          keep their dtype, and share memory; also those in a list keep theirs
    numbers of Python's    floats become float32, or what the Tensor beside them has; integers int64
    a number that does not fit      is refused: 1e300 in float32, NaN or 300 in uint8
    2.7 as an integer               is 2, as PyTorch and NumPy have it

A NumPy float64 scalar counts as a number of Python's here and in every op, or one np.sqrt would
widen a whole network.
differs: PyTorch makes float64 of it, and infinity of a list's 1e300.
A comparison with a masked array on its left is NumPy's own, which asks no Tensor: its result keeps
the mask. What would lose a part of itself, or multiplies by other rules, is refused: masked arrays,
np.matrix, complex numbers, objects, text, dates.
"""

from __future__ import annotations

from array import array as buffer
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.mode import recording

FLOAT32 = np.dtype("float32")
NUMBERS = frozenset((bool, int, float))
# and "gpu:N"; NumPy has no dtypes of these names
DEVICES = "cpu", "gpu", "cuda", "auto"
# NumPy takes them as a whole
NO_LISTS = str, bytes, bytearray, memoryview, range, buffer, Mapping, np.generic, np.dtype


class Holder:
    """What holds an array: the Tensor, as this file needs to know it."""

    __slots__ = ("_data", "_node")
    _data: Any
    _node: Any


def as_array(data: Any, dtype: Any = None, what: str = "", floats: np.dtype = FLOAT32) -> Any:
    """Whatever was given as an array of floats, integers or bools, NumPy's or CuPy's.

    An array in the machine's byte order is handed through, and shares memory. TypeError or
    ValueError for what the door refuses; see the top of this file. Other libraries' arrays enter as
    NumPy would take them.
    what: the function and its argument, "grad: inputs", which begin the sentence.
    floats: what Python's floats become where ``dtype`` does not say it.
    """
    dtype = None if dtype is None else kind_of(dtype)
    try:
        if isinstance(data, Holder):
            array = data._data
        elif type(data) is np.ndarray or backend.array_module(data) is not np:
            array = _taken(data)
        elif hasattr(data, "__array__") and not isinstance(data, (np.generic, type)):
            array = _taken(_foreign(data))
        else:
            array = _from_python(data, dtype, floats if floats.kind == "f" else FLOAT32)
        return array if dtype is None or array.dtype == dtype else _cast(array, dtype, data)
    except (TypeError, ValueError) as error:
        if what:
            raise type(error)(f"{what}: {error}") from None
        raise


def kind_of(dtype: Any, who: str = "Tensor") -> np.dtype:
    """``dtype`` as NumPy's object, in the machine's byte order. TypeError, in the name of ``who``,
    unless it is of floats, integers or bools."""
    dtype = str(dtype) if isinstance(dtype, np.str_) else dtype
    # NumPy would take the dtype of an array or a number for the one that is meant
    try:
        found = None if isinstance(dtype, (np.generic, np.ndarray, Holder)) else np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found.kind not in "fiub" or dtype is None:
        raise TypeError(
            f"{who}: dtype is {shown(dtype)}; it must be one of floats, integers or bools, such as "
            "tinycv.float32"
        )
    return found if found.isnative else found.newbyteorder("=")


def device_named(target: Any, who: str) -> str | None:
    """The device that ``to`` was given by name, or None where it is for ``kind_of`` to say which
    dtype it is.

    ValueError for a word that is neither a device's nor a dtype's, of which NumPy knows more than
    have a name here.
    """
    if not isinstance(target, str):
        return None
    try:
        if target.split(":")[0] in DEVICES:
            return backend.resolve(target)
        # of NumPy's own word it would take the dtype, which is of words
        np.dtype(str(target))
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(
            f"{who}: unknown device or dtype {shown(target)}: choose 'cpu', 'gpu', 'gpu:N' or "
            "'auto', or a dtype such as 'float32'"
        ) from None
    return None


def bare(value: Any) -> Any:
    """Arrays in place of Tensors, also inside tuples (an index) and lists."""
    if isinstance(value, Holder):
        return value._data
    if isinstance(value, (tuple, list)) and any(
        isinstance(v, (Holder, tuple, list)) for v in value
    ):
        return type(value)(bare(v) for v in value)
    return value


def _taken(array: Any) -> Any:
    """The array itself, if its dtype is one that a Tensor may have."""
    if array.dtype.kind not in "fiub":
        of = (
            "the rows of a nested list must be equally long"
            if array.dtype == object
            else (
                "take its real and its imaginary part apart"
                if array.dtype.kind == "c"
                else "turn it into numbers first"
            )
        )
        raise TypeError(
            f"an array of {array.dtype} and shape {array.shape} cannot become a Tensor, which "
            f"holds floats, integers or bools: {of}"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _foreign(data: Any) -> np.ndarray:
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


def _from_python(data: Any, dtype: np.dtype | None, floats: np.dtype) -> np.ndarray:
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
        return _as_dtype(array, opened, dtype, data)
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
    return _cast(array, floats, data)


def has_large_integer(array: np.ndarray) -> bool:
    """Are these objects real numbers, among them an integer that no dtype of integers holds?"""
    values = list(array.flat)
    return all(isinstance(v, Real) for v in values) and any(
        isinstance(v, Integral) and not -(2**63) <= int(v) < 2**64 for v in values
    )


def _opened(data: Any, inside: set) -> Any:
    """The same with lists for sequences, and looked-at arrays for all that are one; their dtypes go
    ``inside``."""
    if isinstance(data, Holder):
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
            data
            if type(data) is np.ndarray or backend.array_module(data) is not np
            else _foreign(data)
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


def _as_dtype(array: np.ndarray, opened: Any, dtype: np.dtype, data: Any) -> np.ndarray:
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


def _cast(array: Any, dtype: np.dtype, data: Any) -> Any:
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


def _refuse_outside(array: np.ndarray, dtype: np.dtype, data: Any) -> None:
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


def _refused(data: Any, why: str = "") -> TypeError:
    """The error for what is no array of numbers."""
    hint = (
        "the rows of a nested list must be equally long" if isinstance(data, (list, tuple)) else ""
    )
    hint = f"; {why or hint}" if why or hint else ""
    return TypeError(
        f"{shown(data)} cannot become a Tensor: it takes real numbers and bools, lists of them, "
        f"and arrays{hint}"
    )
