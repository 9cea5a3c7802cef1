"""What may stand between x[ and ]: NumPy's slices, whole numbers, arrays of them, and masks.

A list, a tuple or a range inside an index becomes an array here, so that every op that follows
knows by the dtype whether entries can repeat: x[:, (0, 0, 2)] takes column 0 twice, and its
gradient must come back twice.
"""

from __future__ import annotations

import re
from operator import index as whole_number
from types import EllipsisType
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import is_array, shown
from tinycv.engine.door import as_array, bare

PLAIN = (int, slice, EllipsisType, type(None), bool, np.integer, np.bool)


def plain_index(index: Any, array: Any) -> Any:
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


def _part(index: Any) -> Any:
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


def clash(index: Any) -> str:
    """Why the arrays of an index do not go together; empty where they do."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [i for i in parts if getattr(i, "ndim", 0)]
    shapes = [(int(i.sum()),) if i.dtype.kind == "b" else i.shape for i in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return (
            f"the arrays in the index choose entries of shapes {' and '.join(map(str, shapes))}, "
            "which do not broadcast; for every row with every column write x[rows][:, columns]"
        )
    return ""


def not_written(error: Exception, array: Any, *given: Any) -> str:
    """Why a write into an array was refused: the index, the shapes or the dtypes. given: (index,
    value) or (value,)."""
    if isinstance(error, IndexError):
        if str(error).startswith("only integers"):
            return "the index is no place of x"
        if "broadcast" in str(error) and (found := clash(given[0])):
            return found
        return re.sub(
            "is out of bounds for axis (\\d+) with size",
            r"is out of range: axis \1 has size",
            str(error),
        )
    if not getattr(array.flags, "writeable", True):
        return (
            "its memory is read-only, as that of x.expand(shape) and of some arrays is; "
            "write into a copy"
        )
    value = given[-1]
    if hasattr(value, "ndim") and (here := backend.device_of(array)) != (
        there := backend.device_of(value)
    ):
        return f"x is on {here}, the value on {there}: move it with to({here!r})"
    shape = getattr(value, "shape", ())  # of a list: it was made an array
    target = array.shape if len(given) == 1 else array[given[0]].shape
    try:
        spreads = np.broadcast_shapes(shape, target) == target
    except ValueError:
        spreads = False
    if not spreads:
        return f"shape {shape} does not spread over shape {target}, of what is written"
    return f"{array.dtype} cannot hold the result, and a write in place keeps the dtype"
