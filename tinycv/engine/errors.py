"""Error messages of ops: what was wrong, with which values, and what to do about it.

To check all inputs before each op would slow every call.  So ops check nothing: only when NumPy or
CuPy raises an error does ``explain`` look at the inputs, find the mistake, and describe it in terms
of the op that the user called.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.engine import watch
from tinycv.engine.arguments import is_array, shown
from tinycv.engine.backend import Array, device_of
from tinycv.engine.tensor import Node, Tensor
from tinycv.engine.torch_names import renamed
from tinycv.engine.wrong_shapes import (
    MEANT,
    broadcast_clash,
    index_clash,
    unjoinable,
    unmultipliable,
    wrong_axes_option,
    wrong_shape,
    wrong_width,
)

if TYPE_CHECKING:
    from tinycv.engine.fused import Fused
    from tinycv.engine.record import Row

LARGEST = int(sys.float_info.max)
# options that make sense only for arrays
OF_ARRAYS = frozenset(("axis", "axis1", "axes", "shape", "index"))
# ops whose ``axis`` is one whole number
ONE_AXIS = "argmax", "argmin", "cumsum", "concatenate", "stack"
TO_NUMBERS = "and x.astype(tinycv.int64) turns them into numbers"
# Parts of messages of Python and NumPy that speak of their internals, and so do not help the user
# of an op. ``explain`` replaces such messages.
RIDDLE = re.compile(
    "|".join(
        (
            "object has no attribute",
            "unsupported operand",
            "not supported between",
            "is not iterable",
            "interpreted as an integer",
            "not subscriptable",
            "division by zero",
            "modulo by zero",
            "cannot unpack",
            "values to unpack",
            "could not be broadcast",
            "cannot reshape",
            "ufunc",
            "<lambda>\\(\\)",
            "be real number,",
            "real number is required",
            "out of bounds for axis",
            "only integer",
            "only length-1",
            "only 0-d",
            "data type .* not understood",
            "could not convert string",
            "truth value of",
            "required positional",
            "object is not callable",
            "zero-size array",
            "axes don't match",
            "casting rule",
            "invalid literal",
            "core dimension",
            "index out of range",
            "must be integers or slices",
            "multiply sequence",
            "setting an array element",
            "negative dimensions",
            "inhomogeneous",
            "can only concatenate",
            "bad operand type",
            "unhashable",
            "math domain",
            "cannot convert float",
            "ambiguous",
            "argument must be",
            "did not contain a loop",
            "too large",
            "dtypes are not",
            "not aligned",
            "DType",
            "integer argument expected",
            "expected a sequence",
            "Maximum allowed",
            "Python int too",
            "dtype\\('",
        )
    )
)


def explain(row: Row | Fused, args: tuple, options: dict, error: Exception) -> Exception:
    """The error to raise instead of ``error``, which the array library raised when ``row`` ran on
    these inputs."""
    arrays = [getattr(a, "_data", a) for a in args if is_array(a)]
    prefix = f"{row.name}: "
    device_error = wrong_device(prefix, args, arrays, error)
    if device_error is not None:
        return device_error
    shapes = [a.shape for a in arrays]
    if row.name == "matmul" and len(shapes) == 2 and isinstance(error, ValueError):
        return ValueError(prefix + unmultipliable(*shapes))
    if "broadcast" in str(error) and (clash := broadcast_clash(shapes)):
        return ValueError(prefix + clash)
    if "broadcast" in str(error) and (clash := index_clash(options.get("index"))):
        return kind_of(error)(prefix + clash)
    words, values = in_words(error), (*args, *options.values())
    riddle = is_riddle(words, values)
    if str(error).startswith(prefix) and not riddle:
        # The op itself raised this error, and its message already says everything.
        return kind_of(error)(str(error))
    if riddle:
        bools = "did not contain a loop" in str(error) and any(a.dtype.kind == "b" for a in arrays)
        words = (
            f"bools have no {row.name}, {TO_NUMBERS}" if bools else "it does not take these inputs"
        )
    reason = wrong_inputs(row, args) or wrong_options(row, args, arrays, options) or words
    if not arrays and not OF_ARRAYS.isdisjoint(getattr(row, "options", ())):
        reason = f"{row.inputs[0]} is {shown(args[0])}; it must be a Tensor or an array"
    settings = "".join(
        f", {k}={shown(v)}" for k, v in options.items() if not isinstance(v, np.ndarray)
    )
    # A wrong number of inputs is a TypeError, whatever error it led to.
    kind = TypeError if wrong_number(row, args) else kind_of(error)
    return kind(f"{prefix}{reason} (inputs: {listed(args)}{settings})")


def wrong_device(prefix: str, args: tuple, arrays: list, error: Exception) -> Exception | None:
    """The error to raise if the device is out of memory, or if the inputs are on two devices; None
    if ``error`` has another cause."""
    devices = [device_of(a) for a in arrays]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        device = devices[0] if devices else "cpu"
        return MemoryError(f"{prefix}out of memory on {device} with {listed(args)}: {error}")
    foreign = ("nsupported type", "mplicit conversion", "was handed a cupy", "Only cupy arrays")
    mixed = isinstance(error, TypeError) and any(words in str(error) for words in foreign)
    if len(set(devices)) > 1 and mixed:
        return ValueError(
            f"{prefix}inputs live on different devices ({listed(args)}); move one to the other's "
            f"device, for example with x.to({devices[0]!r})"
        )
    return None


def is_riddle(sentence: str, values: tuple) -> bool:
    """Does the sentence speak of the internals of Python or NumPy? A value that it quotes, such as
    <ufunc 'exp'>, does not count."""
    for value in values:
        sentence = sentence.replace(f" is {shown(value)}", "")
    return RIDDLE.search(sentence) is not None


def in_words(error: Exception) -> str:
    """NumPy's message, with clearer words for an index out of range and for bools."""
    lacking = {
        "subtract": "difference; a != b finds where they differ",
        "negative": "negative; ~x is the logical not",
    }
    for word, instead in lacking.items():
        if f"boolean {word}" in str(error):
            return f"bools have no {instead}, {TO_NUMBERS}"
    return re.sub(
        "is out of bounds for axis (\\d+) with size",
        r"is out of range: axis \1 has size",
        str(error),
    )


def wrong_inputs(row: Row | Fused, args: tuple) -> str:
    """What is wrong with the first input that the op cannot take; empty if there is none."""
    names = (
        [row.inputs[0]] * len(args)
        if getattr(row, "variadic", False)
        else getattr(row, "names", row.inputs)
    )
    for name, a in zip(names, args, strict=False):
        if isinstance(a, (np.matrix, np.ma.MaskedArray)):
            kind = type(a).__name__
            return (
                f"{name} is a {kind} of shape {a.shape}, whose operators follow other rules; pass "
                "np.asarray(x) instead"
            )
        if hasattr(row, "options") and not is_array(a) and not isinstance(a, (bool, int, float)):
            return f"{name} is {shown(a)}; it must be a Tensor, an array or a number"
        kind = getattr(getattr(a, "dtype", None), "kind", "f") if is_array(a) else ""
        real = isinstance(a, float) or kind == "f"
        if row.name.startswith("bitwise") and real:
            takes = "& | ^ and ~ take bools or integers: compare first, as in (x > 0) & (y > 0)"
            return f"{name} is {shown(a)}; {takes}"
        if type(a) is int and abs(a) > LARGEST:
            return f"{name} is {shown(a)}, which is larger than any float"
        if kind and kind not in "fiub":
            return f"{name} is {shown(a)}; it must be of real numbers"
    return ""


def kind_of(error: Exception) -> type:
    """The class of the new error: that of the old one if it is a common class, otherwise the
    nearest common class."""
    if type(error) in (ValueError, TypeError, IndexError, ZeroDivisionError):
        return type(error)
    if isinstance(error, (ValueError, OverflowError)):
        return ValueError
    return TypeError if isinstance(error, (TypeError, AttributeError, KeyError)) else RuntimeError


def wrong_number(row: Row | Fused, args: tuple) -> bool:
    """Did the op get more or fewer inputs than it takes?"""
    return not getattr(row, "variadic", True) and len(args) != len(row.inputs)


def wrong_options(row: Any, args: tuple, arrays: list, options: dict) -> str:
    """What is wrong with the options of an op; empty if nothing is found."""
    unknown = set(options) - set(getattr(row, "options", options))
    if twice := unknown.intersection(getattr(row, "inputs", ())):
        return f"{', '.join(sorted(twice))} was given twice, by position and by name"
    if unknown:
        return unknown_arguments(unknown, row.name, [*row.inputs, *row.options])
    if wrong_number(row, args):
        return f"{len(args)} inputs were given; it takes {', '.join([*row.inputs, *row.options])}"
    if not arrays:
        return ""
    for name, value in options.items():
        problem = wrong_option(row.name, name, value, arrays[0])
        if problem:
            return problem
    if row.name in ("concatenate", "stack"):
        problem = unjoinable(row.name, [tuple(a.shape) for a in arrays], options.get("axis", 0))
        if problem:
            return problem
    if row.name in ("max", "min", "argmax", "argmin") and not arrays[0].size:
        return (
            f"an array of shape {arrays[0].shape} has no {row.name} over "
            f"axis={options.get('axis')!r}: there is nothing to choose from"
        )
    return ""


def wrong_option(op: str, name: str, value: Any, x: Any) -> str:
    """What is wrong with one option of an op whose first input is x; empty if nothing is found."""
    if hasattr(value, "_data"):
        meant = MEANT.get(op, "") if name == "axis" else ""
        return (
            f"{name} is {shown(value)}; it must not be a Tensor, because no gradient would reach "
            f"it there{meant}"
        )
    if type(value) is int and abs(value) > LARGEST:
        return f"{name} is {shown(value)}, which is larger than any float"
    if name == "keepdims" and not isinstance(value, (bool, np.bool)):
        return f"keepdims is {shown(value)}; it must be True or False"
    one_axis = name in ("axis1", "axis2") or name == "axis" and op in ONE_AXIS
    if isinstance(value, tuple) and one_axis:
        return f"{name} is {shown(value)}; it must be a whole number"
    if name in ("axis", "axis1", "axis2", "axes") and value is not None:
        return wrong_axes_option(op, name, value, x.ndim)
    if name == "width":
        return wrong_width(value, x.ndim)
    if name == "shape" and op in ("reshape", "expand"):
        return wrong_shape(op, value, x)
    return ""


def unknown_arguments(unknown: Any, name: str, known: list) -> str:
    """The message for arguments that a function does not have. NumPy adds some: np.sum(x) calls
    x.sum with ``out``."""
    message = (
        f"there is no argument {', '.join(sorted(unknown))}; it takes {', '.join(known)}"
        f"{renamed(unknown)}"
    )
    if {"out", "dtype"}.isdisjoint(unknown):
        return message
    return f"{message}. If NumPy passed it, as np.{name}(x) does, write x.{name}()"


def listed(args: tuple) -> str:
    """The inputs in short, such as "float32 (3, 4) on cpu, 2.0"."""
    if len(args) > 8:
        return f"{listed(args[:8])} and {len(args) - 8} more"
    return ", ".join(
        f"{a.dtype} {tuple(a.shape)} on {device_of(getattr(a, '_data', a))}"
        if is_array(a)
        else f"{a!r:.40}"
        for a in args
    )


def refuse_changed(saved: Iterable, node: Node) -> None:
    """RuntimeError if a value that ``node`` saved has changed since the op ran."""
    for value in saved:
        if isinstance(value, Tensor) and value._moved > node.seq:
            raise changed_in_place(node, value)
        for array in watch.arrays_in(value):
            if watch.changed_since(node.seq, array):
                raise changed_in_place(node, array)


def changed_in_place(node: Node, array: Array | Tensor) -> RuntimeError:
    """The error for a saved array that has changed."""
    return RuntimeError(
        f"backward: a tensor of shape {array.shape}, saved by {node.row.name!r}, was changed in "
        "place after the op ran, so the gradient would be computed from the wrong values. Change "
        "it only after backward, or change a copy (x.detach().numpy().copy())"
    )


def released(node: Node) -> RuntimeError:
    """The error for a second backward pass: the first one has freed what the graph had saved."""
    return RuntimeError(
        f"backward through a released graph (at {node.row.name!r}): an earlier backward freed what "
        "the graph had saved. Pass retain_graph=True to the earlier call, or compute the result "
        "again before this one"
    )
