"""Tests error messages with hundreds of wrong calls: each argument of a good call is replaced, one
at a time, by values that do not belong there.

A test provides good calls; ``riddles`` lists the replacements whose error is a low-level message of
NumPy or Python. A wrong call may also succeed, because a function can accept many strange values.
The only requirement is that an error names the function and describes the argument in words.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np

import tinycv

RIDDLE = re.compile(
    "|".join(
        (
            "object has no attribute",
            "unsupported operand",
            "not supported between",
            "cannot be interpreted as an integer",
            "is not iterable",
            "not subscriptable",
            "division by zero",
            "modulo by zero",
            "cannot unpack",
            "not enough values",
            "too many values",
            "could not be broadcast",
            "cannot reshape",
            "ufunc",
            "must be real number",
            "out of bounds for axis",
            "only integer",
            "only length-1",
            "data type .* not understood",
            "could not convert string",
            "truth value of",
            "missing \\d+ required",
            "object is not callable",
            "zero-size array to reduction",
            "axes don't match",
            "casting rule",
            "invalid literal",
            "mismatch in its core dimension",
            "list index",
            "tuple index",
            "must be integers or slices",
            "can't multiply sequence",
            "setting an array element",
            "negative dimensions",
            "inhomogeneous",
            "a real number is required",
            "can only concatenate",
            "bad operand type",
            "unhashable",
            "math domain error",
            "cannot convert float",
            "ambiguous",
        )
    )
)


class Odd:
    """An object that no function accepts."""

    def __repr__(self) -> str:
        return "Odd()"


def replacements(good: object) -> Iterator[object]:
    """Replacements for ``good``: values of other types and signs, and for an array also other
    shapes and dtypes."""
    yield from (
        "word",
        Odd(),
        [],
        (),
        {},
        -1,
        0,
        1.5,
        2.0,
        float("nan"),
        float("inf"),
        True,
        None,
        1j,
    )
    yield from (np.int64(2), np.float64(0.5), np.array(2), np.array([1, 2]), [1, "a"], 10**30)
    array = getattr(good, "_data", good)
    if isinstance(array, np.ndarray):
        kind = tinycv.tensor if isinstance(good, tinycv.Tensor) else np.asarray
        yield from (
            kind(a)
            for a in (
                array[None],
                array[..., None],
                array.reshape(-1),
                np.asarray(array.flat[0] if array.size else 0, array.dtype),
                array[..., :-1] if array.ndim else array,
                np.concatenate([array, array]) if array.ndim else array,
                array[:0] if array.ndim else array,
                array.astype(bool),
                array.astype(np.int64),
                array.astype(np.float64),
            )
        )
        yield from (array.astype(str), array.astype(object), array.astype(complex))


def wrong_calls(function: Callable, good: dict) -> Iterator[tuple[str, dict]]:
    """(the name of the replaced argument, all arguments) for each replacement."""
    for name, value in good.items():
        for other in replacements(value):
            yield name, {**good, name: other}


def riddles(function: Callable, good: dict, *names: str) -> list[str]:
    """The wrong calls whose error message is a riddle. names: the names that a message may use for
    the function; by default its own name."""
    names = names or (getattr(function, "__name__", type(function).__name__),)
    found = []
    for argument, arguments in wrong_calls(function, good):
        try:
            function(**arguments)
        except Exception as error:
            text = str(error)
            if RIDDLE.search(text) or not any(name in text for name in names):
                found.append(
                    f"{names[0]}({argument}={arguments[argument]!r:.60}): {type(error).__name__}: "
                    f"{text:.160}"
                )
    return found
