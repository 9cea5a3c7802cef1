"""In-place changes, x[i] = y and x += y: allowed only if they cannot make a gradient wrong.

A derivative is computed from the values that an op saved, so these must not change before the
backward pass.  While ops are recorded, a tensor that requires a gradient is therefore not changed:
x[i] = y raises an error, and x += y creates a new tensor if an op computed x.  Inside ``no_grad``
everything may be changed; if a graph has saved the old values, ``backward`` raises an error
(watch.py).
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
    new = value_for(x, value, what)
    # A small number fits into every float dtype; as_array refuses values that do not fit.
    small = type(new) in (int, float) and abs(new) <= LARGEST_HALF and x.dtype.kind == "f"
    if not small:
        as_array(new, x.dtype, f"{what}: the value")
    write(x, what, x._data.__setitem__, plain_index(index, x._data), new)


def update(x: Tensor, symbol: str, method: str, function: Callable, other: ArrayLike) -> bool:
    """Change x in place, as in x += other. Returns True if it was done, and False if x is, or would
    become, the result of a recorded op; then the caller computes a new tensor instead.

    symbol: the operator, such as "+=". method: its name, such as "__iadd__". function: the op that
    computes x + other.
    """
    what = f"x {symbol} value"
    # Lists are refused, as in x + other.
    if not hasattr(other, "shape") and not isinstance(other, (bool, int, float)):
        raise TypeError(
            f"{what}: the value is {shown(other)}; it must be a Tensor, an array or a number"
        )
    if recording() and (x._node not in (None, LEAF) or (x._node is None and has_history(other))):
        return False
    refuse_if_recorded(x, what, f"write x = x {symbol[:-1]} value for a new tensor", other)
    write(x, what, change_by(x._data, method, function), value_for(x, other, what))
    return True


def change_by(data: Array, method: str, function: Callable) -> Callable[[Any], None]:
    """A function of the other operand that changes the array in place.

    Usually this is NumPy's own method. For float16, and for // and % of integers, the op differs
    from NumPy (it computes in float32, or refuses a division by 0), so the op is used and its
    result is written into the array."""
    array_method = getattr(data, method)
    if data.dtype != FLOAT16 and method not in ("__ifloordiv__", "__imod__"):
        return array_method

    def change(other: Any) -> None:
        y = bare(function(wrap(data, None), other))
        if y.dtype == data.dtype:
            data[...] = y
        else:
            # NumPy converts the result, or raises an error if its dtype does not allow that.
            array_method(other)

    return change


def value_for(x: Tensor, value: ArrayLike, what: str) -> Any:
    """The value in the form in which it is written into x: numbers as they are, everything else as
    an array. Lists become arrays with the float dtype of x, on its device."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value
    array = as_array(value, what=f"{what}: the value", floats=x.dtype)
    return array if hasattr(value, "shape") else from_host(array_module(x._data), array)


def write(x: Tensor, what: str, change: Callable, *args: Any) -> None:
    """Run change(*args), which writes into the memory of x, and note that x has changed. args: the
    value, or the index and the value. If NumPy raises an error, it has written nothing."""
    try:
        change(*args)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        kind = next((k for k in (IndexError, TypeError) if isinstance(error, k)), ValueError)
        raise kind(
            f"{what}: x is {x.dtype} of shape {x.shape}, the value is {shown(args[-1])}: "
            f"{why_not_written(error, x._data, *args)}"
        ) from error
    x.mark_changed()


def refuse_if_recorded(x: Tensor, what: str, instead: str, value: object) -> None:
    """RuntimeError if ops are recorded and x or the value requires a gradient. what: the change,
    for the message. instead: what the user can write instead."""
    if recording() and (x._node is not None or has_history(value)):
        raise RuntimeError(
            f"{what}: x, of shape {x.shape}, or the value requires a gradient, so x cannot be "
            f"changed in place while ops are recorded: put it in a block `with tinycv.no_grad():`, "
            f"or {instead}"
        )


def why_not_written(error: Exception, array: Array, *args: Any) -> str:
    """Why a write into an array failed: because of the index, the shapes or the dtypes. args: the
    value, or the index and the value."""
    if isinstance(error, IndexError):
        if str(error).startswith("only integers"):
            return "the index must consist of whole numbers, slices, or arrays of whole numbers"
        if "broadcast" in str(error) and (clash := index_clash(args[0])):
            return clash
        return re.sub(
            "is out of bounds for axis (\\d+) with size",
            r"is out of range: axis \1 has size",
            str(error),
        )
    if not getattr(array.flags, "writeable", True):
        return (
            "its memory is read-only (that of x.expand(shape) is, for example); write into a copy "
            "instead"
        )
    value = args[-1]
    if hasattr(value, "ndim") and (here := device_of(array)) != (there := device_of(value)):
        return f"x is on {here}, the value on {there}: move it with to({here!r})"
    shape = getattr(value, "shape", ())
    target = array.shape if len(args) == 1 else array[args[0]].shape
    try:
        fits = np.broadcast_shapes(shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        return f"shape {shape} cannot be broadcast to shape {target}, which is to be written"
    return f"{array.dtype} cannot hold the result, and a change in place keeps the dtype"


def has_history(value: object) -> bool:
    """Is it a Tensor that requires a gradient, or was it computed from one?"""
    return isinstance(value, Tensor) and value._node is not None
