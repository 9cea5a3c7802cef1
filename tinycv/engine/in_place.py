"""Changes in place, x[i] = y and x += y: allowed where no graph would be falsified.

A derivative is of the values that an op saw. So a tensor that requires a gradient is not changed
while ops are recorded: x[i] = y is refused, and x += y makes a new tensor under the old name if an
op computed x. Inside ``no_grad`` everything may change; a graph that saved the old values notices,
and refuses (watch.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.engine.arguments import shown
from tinycv.engine.backend import Array, Index, array_module, device_of, from_host
from tinycv.engine.door import plain_index
from tinycv.engine.operands import FLOAT16, LARGEST_HALF
from tinycv.engine.tensor import LEAF, ArrayLike, Tensor, as_array, bare, recording, wrap
from tinycv.engine.wrong_shapes import index_clash


def set_item(x: Tensor, index: Index, value: ArrayLike) -> None:
    """x[index] = value"""
    what = "x[index] = value"
    refuse_if_recorded(x, what, "build the result with tinycv.where or concatenate", value)
    new = written(x, value, what)
    # a number that every float dtype holds; as_array refuses others that do not fit
    small = type(new) in (int, float) and abs(new) <= LARGEST_HALF and x.dtype.kind == "f"
    if not small:
        as_array(new, x.dtype, f"{what}: the value")
    write(x, what, x._data.__setitem__, plain_index(index, x._data), new)


def update(x: Tensor, symbol: str, method: str, function: Callable, other: ArrayLike) -> bool:
    """x += other, for every such operator; True once it is done. False where x has a history, or
    gets one from ``other``: then the caller makes a new tensor.

    symbol: "+=". method: "__iadd__", the name that arrays give it. function: the op of x + other.
    """
    what = f"x {symbol} value"
    # a list, as in x + other
    if not hasattr(other, "shape") and not isinstance(other, (bool, int, float)):
        raise TypeError(
            f"{what}: the value is {shown(other)}; it must be a Tensor, an array or a number"
        )
    if recording() and (x._node not in (None, LEAF) or (x._node is None and has_history(other))):
        return False
    refuse_if_recorded(x, what, f"write x = x {symbol[:-1]} value for a new tensor", other)
    write(x, what, change_by(x._data, method, function), written(x, other, what))
    return True


def change_by(data: Array, method: str, function: Callable) -> Callable[[Any], None]:
    """A function of the other operand that changes the array in place: the array's own method where
    that is exact. With halves and for quotients of integers it is the op, which knows what NumPy
    does not, and its result is written."""
    own = getattr(data, method)
    if data.dtype != FLOAT16 and method not in ("__ifloordiv__", "__imod__"):
        return own

    def change(other: Any) -> None:
        y = bare(function(wrap(data, None), other))
        if y.dtype == data.dtype:
            data[...] = y
        else:
            # it widens, or says that the result does not fit
            own(other)

    return change


def written(x: Tensor, value: ArrayLike, what: str) -> Any:
    """What is written into x: a number as it is, everything else as an array; a list with the
    floats and device of x."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value
    array = as_array(value, what=f"{what}: the value", floats=x.dtype)
    return array if hasattr(value, "shape") else from_host(array_module(x._data), array)


def write(x: Tensor, what: str, change: Callable, *given: Any) -> None:
    """Do it and note it. NumPy changes nothing where it refuses."""
    try:
        change(*given)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        kind = next((k for k in (IndexError, TypeError) if isinstance(error, k)), ValueError)
        raise kind(
            f"{what}: x is {x.dtype} of shape {x.shape}, the value is {shown(given[-1])}: "
            f"{not_written(error, x._data, *given)}"
        ) from error
    x.mark_changed()


def refuse_if_recorded(x: Tensor, what: str, instead: str, value: object) -> None:
    """RuntimeError where the change would be part of a graph."""
    if recording() and (x._node is not None or has_history(value)):
        raise RuntimeError(
            f"{what} would change a tensor of shape {x.shape} that requires a gradient, "
            f"behind its graph's back: wrap it in `with tinycv.no_grad():`, or {instead}"
        )


def not_written(error: Exception, array: Array, *given: Any) -> str:
    """Why a write into an array was refused: the index, the shapes or the dtypes. given: (index,
    value) or (value,)."""
    if isinstance(error, IndexError):
        if str(error).startswith("only integers"):
            return "the index is no place of x"
        if "broadcast" in str(error) and (found := index_clash(given[0])):
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
    if hasattr(value, "ndim") and (here := device_of(array)) != (there := device_of(value)):
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


def has_history(value: object) -> bool:
    """Was it computed from, or is it itself, something that requires a gradient?"""
    return isinstance(value, Tensor) and value._node is not None
