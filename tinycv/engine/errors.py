"""Errors that teach: what was wrong, with which values, and what to do.

Ops do not check their inputs beforehand, which would cost every call; when NumPy or CuPy refuses,
``explain`` looks at the inputs and says it in the op's own terms.
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
# options that only arrays have a use for
OF_ARRAYS = frozenset(("axis", "axis1", "axes", "shape", "index"))
ONE_AXIS = "argmax", "argmin", "cumsum", "concatenate", "stack"
TO_NUMBERS = "and x.astype(tinycv.int64) makes numbers of them"
# sentences of Python's and NumPy's own, which speak of their insides
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
    """The error to raise in place of ``error``, which the array library raised inside ``row``'s
    forward function."""
    arrays = [getattr(a, "_data", a) for a in args if is_array(a)]
    said = f"{row.name}: "
    if (found := wrong_device(said, args, arrays, error)) is not None:
        return found
    shapes = [a.shape for a in arrays]
    if row.name == "matmul" and len(shapes) == 2 and isinstance(error, ValueError):
        return ValueError(said + unmultipliable(*shapes))
    if "broadcast" in str(error) and (clash := broadcast_clash(shapes)):
        return ValueError(said + clash)
    if "broadcast" in str(error) and (clash := index_clash(options.get("index"))):
        return kind_of(error)(said + clash)
    words, values = in_words(error), (*args, *options.values())
    riddle = is_riddle(words, values)
    if str(error).startswith(said) and not riddle:
        # an op's own words, which say it all
        return kind_of(error)(str(error))
    if riddle:
        bools = "did not contain a loop" in str(error) and any(a.dtype.kind == "b" for a in arrays)
        words = (
            f"bools have no {row.name}, {TO_NUMBERS}" if bools else "it does not take these inputs"
        )
    reason = wrong_inputs(row, args) or wrong_options(row, args, arrays, options) or words
    if not arrays and not OF_ARRAYS.isdisjoint(getattr(row, "options", ())):
        reason = f"{row.inputs[0]} is {shown(args[0])}; it must be a Tensor or an array"
    given = "".join(
        f", {k}={shown(v)}" for k, v in options.items() if not isinstance(v, np.ndarray)
    )
    # a wrong number of inputs fails wherever it is first noticed
    kind = TypeError if wrong_number(row, args) else kind_of(error)
    return kind(f"{said}{reason} (inputs: {listed(args)}{given})")


def wrong_device(said: str, args: tuple, arrays: list, error: Exception) -> Exception | None:
    """The error for a device that is full, or for inputs on two devices; None where it is of
    something else."""
    devices = [device_of(a) for a in arrays]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        place = devices[0] if devices else "cpu"
        return MemoryError(f"{said}out of memory on {place} with {listed(args)}: {error}")
    foreign = ("nsupported type", "mplicit conversion", "was handed a cupy", "Only cupy arrays")
    mixed = isinstance(error, TypeError) and any(words in str(error) for words in foreign)
    if len(set(devices)) > 1 and mixed:
        return ValueError(
            f"{said}inputs live on different devices ({listed(args)}); move one: "
            f"x.to({devices[0]!r})"
        )
    return None


def is_riddle(sentence: str, values: tuple) -> bool:
    """Does it speak of the insides of Python or NumPy?  Not where only a value that it shows does:
    <ufunc 'exp'>."""
    for value in values:
        sentence = sentence.replace(f" is {shown(value)}", "")
    return RIDDLE.search(sentence) is not None


def in_words(error: Exception) -> str:
    """What NumPy says, without the word that means its own bounds of an axis, and without its
    advice on bools."""
    lacking = {
        "subtract": "difference; a != b says where they differ",
        "negative": "negative; ~x says not x",
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
    """Which input is none that an op takes; empty where all are."""
    names = (
        [row.inputs[0]] * len(args)
        if getattr(row, "variadic", False)
        else getattr(row, "names", row.inputs)
    )
    for name, a in zip(names, args, strict=False):
        if isinstance(a, (np.matrix, np.ma.MaskedArray)):
            kind = type(a).__name__
            return (
                f"{name} is a {kind} of shape {a.shape}, which follows other rules; "
                "pass np.asarray(x)"
            )
        if hasattr(row, "options") and not is_array(a) and not isinstance(a, (bool, int, float)):
            return f"{name} is {shown(a)}; it must be a Tensor, an array or a number"
        kind = getattr(getattr(a, "dtype", None), "kind", "f") if is_array(a) else ""
        real = isinstance(a, float) or kind == "f"
        if row.name.startswith("bitwise") and real:
            takes = "& | ^ and ~ take bools and integers: compare first, as in (x > 0) & (y > 0)"
            return f"{name} is {shown(a)}; {takes}"
        if type(a) is int and abs(a) > LARGEST:
            return f"{name} is {shown(a)}, which is larger than any float"
        if kind and kind not in "fiub":
            return f"{name} is {shown(a)}; it must be of real numbers"
    return ""


def kind_of(error: Exception) -> type:
    """The class of the error that explains another: the same one where that is common, or the
    nearest."""
    if type(error) in (ValueError, TypeError, IndexError, ZeroDivisionError):
        return type(error)
    if isinstance(error, (ValueError, OverflowError)):
        return ValueError
    return TypeError if isinstance(error, (TypeError, AttributeError, KeyError)) else RuntimeError


def wrong_number(row: Row | Fused, args: tuple) -> bool:
    """Were more inputs, or fewer, given to an op than it takes?"""
    return not getattr(row, "variadic", True) and len(args) != len(row.inputs)


def wrong_options(row: Any, args: tuple, arrays: list, options: dict) -> str:
    """What is wrong with the arguments of an op; empty where nothing is found."""
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
        if found := wrong_option(row.name, name, value, arrays[0]):
            return found
    if row.name in ("concatenate", "stack") and (
        found := unjoinable(row.name, [tuple(a.shape) for a in arrays], options.get("axis", 0))
    ):
        return found
    if row.name in ("max", "min", "argmax", "argmin") and not arrays[0].size:
        return (
            f"an array of shape {arrays[0].shape} has no {row.name} over "
            f"axis={options.get('axis')!r}: there is nothing to choose from"
        )
    return ""


def wrong_option(op: str, name: str, value: Any, x: Any) -> str:
    """What is wrong with one option of an op whose first input is x; empty where nothing is
    found."""
    if hasattr(value, "_data"):
        meant = MEANT.get(op, "") if name == "axis" else ""
        return (
            f"{name} is {shown(value)}; it must not be a Tensor: no gradient would reach it "
            f"there{meant}"
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
    """What to say of arguments that a function does not know. np.sum(x) calls x.sum with
    ``out``."""
    said = f"there is no argument {', '.join(sorted(unknown))}; it takes {', '.join(known)}"
    of_numpy = not {"out", "dtype"}.isdisjoint(unknown)
    return said + (
        f". If NumPy passed it, as np.{name}(x) does, write x.{name}()" if of_numpy else ""
    )


def listed(args: tuple) -> str:
    """float32 (3, 4) on cpu, 2.0, ..."""
    if len(args) > 8:
        return f"{listed(args[:8])} and {len(args) - 8} more"
    return ", ".join(
        f"{a.dtype} {tuple(a.shape)} on {device_of(getattr(a, '_data', a))}"
        if is_array(a)
        else f"{a!r:.40}"
        for a in args
    )


def refuse_changed(saved: Iterable, node: Node) -> None:
    """RuntimeError if an array that ``node`` saved is not what it was when the op ran."""
    for value in saved:
        if isinstance(value, Tensor) and value._moved > node.seq:
            raise changed_in_place(node, value)
        for array in watch.arrays_in(value):
            if watch.changed_since(node.seq, array):
                raise changed_in_place(node, array)


def changed_in_place(node: Node, array: Array | Tensor) -> RuntimeError:
    """The error for a saved array that is no longer what it was."""
    return RuntimeError(
        f"backward: a tensor of shape {array.shape}, saved by {node.row.name!r}, was changed in "
        "place after the op ran, so the derivative would be of other values. Change it after "
        "backward, or change a copy (x.detach().numpy().copy())"
    )


def released(node: Node) -> RuntimeError:
    """The error for a graph whose saved values an earlier backward has freed."""
    return RuntimeError(
        f"backward through a released graph (at {node.row.name!r}): an earlier backward freed what "
        "it had saved. Pass retain_graph=True there, or compute the result again"
    )
