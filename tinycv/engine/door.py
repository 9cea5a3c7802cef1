"""The one door for arrays: what may become a Tensor, in which dtype, and what may index one.

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

Between x[ and ] may stand NumPy's slices, whole numbers, arrays of them, and masks. A list, a tuple
or a range inside an index becomes an array here, so that every op that follows knows by the dtype
whether entries can repeat: x[:, (0, 0, 2)] takes column 0 twice, and its gradient must come back
twice.

Lists and other libraries' arrays are taken apart in convert.py.
"""

from __future__ import annotations

from operator import index as whole_number
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend
from tinycv.engine.arguments import is_array, shown
from tinycv.engine.backend import Array, Index
from tinycv.engine.convert import cast, from_library, from_python
from tinycv.engine.signatures import TensorBase

FLOAT32 = np.dtype("float32")
# and "gpu:N"; NumPy has no dtypes of these names
DEVICES = "cpu", "gpu", "cuda", "auto"
# what an index may hold as it is
PLAIN = (int, slice, EllipsisType, type(None), bool, np.integer, np.bool)


def as_array(
    data: Any, dtype: DTypeLike | None = None, what: str = "", floats: np.dtype = FLOAT32
) -> Array:
    """Whatever was given as an array of floats, integers or bools, NumPy's or CuPy's.

    An array in the machine's byte order is handed through, and shares memory. TypeError or
    ValueError for what the door refuses; see the top of this file. Other libraries' arrays enter as
    NumPy would take them.
    what: the function and its argument, "grad: inputs", which begin the sentence.
    floats: what Python's floats become where ``dtype`` does not say it.
    """
    wanted = None if dtype is None else kind_of(dtype)
    try:
        if isinstance(data, TensorBase):
            array = data._data
        elif type(data) is np.ndarray or backend.array_module(data) is not np:
            array = _taken(data)
        elif hasattr(data, "__array__") and not isinstance(data, (np.generic, type)):
            array = _taken(from_library(data))
        else:
            array = from_python(data, wanted, floats if floats.kind == "f" else FLOAT32)
        return array if wanted is None or array.dtype == wanted else cast(array, wanted, data)
    except (TypeError, ValueError) as error:
        if what:
            raise type(error)(f"{what}: {error}") from None
        raise


def array_like(function: str, x: Any, what: str = "x", floats: np.dtype = FLOAT32) -> Any:
    """x itself if it is a Tensor, an array of an array, a list or a number. TypeError in the
    function's name.

    floats: what Python's floats become."""
    return (
        x if isinstance(x, TensorBase) else as_array(x, what=f"{function}: {what}", floats=floats)
    )


def kind_of(dtype: DTypeLike, who: str = "Tensor") -> np.dtype:
    """``dtype`` as NumPy's object, in the machine's byte order. TypeError, in the name of ``who``,
    unless it is of floats, integers or bools."""
    dtype = str(dtype) if isinstance(dtype, np.str_) else dtype
    # NumPy would take the dtype of an array or a number for the one that is meant
    try:
        found = None if isinstance(dtype, (np.generic, np.ndarray, TensorBase)) else np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found.kind not in "fiub" or dtype is None:
        raise TypeError(
            f"{who}: dtype is {shown(dtype)}; it must be one of floats, integers or bools, such as "
            "tinycv.float32"
        )
    return found if found.isnative else found.newbyteorder("=")


def device_named(target: DTypeLike, who: str) -> str | None:
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
    if isinstance(value, TensorBase):
        return value._data
    if isinstance(value, (tuple, list)) and any(
        isinstance(v, (TensorBase, tuple, list)) for v in value
    ):
        return type(value)(bare(v) for v in value)
    return value


def _taken(array: Array) -> Array:
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


# ── what may stand between x[ and ] ──────────────────────────────────────────────────────────────


def plain_index(index: Index, array: Array) -> Index:
    """``index`` as the array library takes it: Tensors and sequences as arrays, on the array's
    device. IndexError for anything else.

    Where CuPy would wrap an index outside without a word, it is checked here, if it comes from the
    host.
    """
    kind = type(index)
    if kind is int:
        return index
    if kind is slice:
        return _slice(index)
    try:
        index = bare(index)
    except RecursionError:
        raise IndexError(f"x[index]: index is {shown(index)}; it is nested too deeply") from None
    parts = tuple([_part(i) for i in index]) if kind is tuple else (_part(index),)
    xp = backend.array_module(array)
    if xp is not np:
        if (
            len(parts) == 1
            and isinstance(parts[0], np.ndarray)
            and parts[0].dtype.kind in "iu"
            and parts[0].size
        ):
            within(parts[0], array.shape[0])
        parts = tuple([backend.from_host(xp, i) for i in parts])
    return parts if kind is tuple else parts[0]


def _part(index: Index) -> Index:
    """One member of an index."""
    if type(index) is np.ndarray and index.dtype.kind in "iub":
        return index
    if type(index) is slice:
        return _slice(index)
    if isinstance(index, PLAIN):
        return index
    if isinstance(index, (list, tuple, range)):
        try:
            index = np.asarray(index) if len(index) else np.zeros(0, np.int64)
        except ValueError:
            raise IndexError(f"index {shown(index)}: its rows must be equally long") from None
    if is_array(index):
        # another library's, torch's for one
        if not hasattr(index.dtype, "kind"):
            index = np.asarray(index)
        if isinstance(index, np.ndarray) and type(index) is not np.ndarray:
            # refuses masked arrays and np.matrix
            index = as_array(index, what="x[index]: index")
        if index.dtype.kind not in "iub":
            raise IndexError(
                f"an index must be of whole numbers or of bools, not {shown(index)} ({index.dtype})"
            )
        return index
    try:
        return whole_number(index)
    except TypeError:
        raise IndexError(
            "x[index] takes whole numbers, slices, None, ... and arrays or lists of whole numbers "
            f"or bools, not {shown(index)}"
        ) from None


def _slice(index: slice) -> slice:
    """The slice itself. IndexError where one of its three parts is no whole number."""
    for part in (index.start, index.stop, index.step):
        if part is not None and type(part) is not int:
            try:
                whole_number(part)
            except TypeError:
                raise IndexError(
                    f"x[index]: a slice goes from a whole number to another, not {shown(index)}"
                ) from None
    if index.step is not None and whole_number(index.step) == 0:
        raise ValueError(
            f"x[index]: {shown(index)} has a step of 0; it must lead from start to stop"
        )
    return index


def within(index: np.ndarray, size: int) -> None:
    """IndexError where an index lies outside an axis of this size."""
    low, high = int(index.min()), int(index.max())
    if low < -size or high >= size:
        raise IndexError(
            f"index {low if low < -size else high} is out of range for an axis of size {size}"
        )
