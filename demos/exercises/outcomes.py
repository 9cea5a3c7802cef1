"""Runs answers: what a function returns in each case, or how it fails, is its outcome."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from demos.exercises.exercise import Definition, Exercise, WrongResult, load
from tinycv import Tensor

# The largest relative difference between two ways of computing the same number, in float64
SAME = 1e-9


@dataclass
class Outcome:
    """What a function did in one case: the arrays that it returned, or how it failed.

    failure: "" or one sentence. kind: "blank", "raises", "type", "input" or "".
    """

    arrays: list[np.ndarray] = field(default_factory=list)
    failure: str = ""
    kind: str = ""


@cache
def expected_results(name: str, part_name: str) -> list:
    """What the package returns in each case of a part of an exercise."""
    part = part_of(load(name), part_name)
    return [part.expected(case, "float64") for case in [*part.cases, *part.extremes]]


def part_of(exercise: Exercise, part_name: str) -> Definition:
    """The part of an exercise in which the function with this name is written."""
    return next(part for part in exercise.parts if part.name == part_name)


def run(
    part: Definition,
    function: Callable,
    case: tuple,
    expected: Any,
    path: str = "",
    dtype: str = "float64",
) -> Outcome:
    """The outcome of a function in one case. expected: what the package returns."""
    arguments = part.arguments(case, dtype)
    before = {k: v.numpy().copy() for k, v in arguments.items() if isinstance(v, Tensor)}
    try:
        result = part.call(function, arguments)
    except WrongResult as error:
        return Outcome(failure=str(error), kind="type")
    except NotImplementedError:
        return Outcome(failure=f"{part.name} is still blank", kind="blank")
    except Exception as error:
        return Outcome(failure=in_words(error, path), kind="raises")
    for name, array in before.items():
        if not np.array_equal(arguments[name].numpy(), array, equal_nan=True):
            return Outcome(
                failure=f"it changes its argument {name} in place, but the backward pass may need "
                f"the old values; {name} = {name} + 1 makes a new Tensor, {name} += 1 does not",
                kind="input",
            )
    return of_right_types(result, expected)


def of_right_types(result: Any, expected: Any) -> Outcome:
    """The outcome for a result, which must consist of Tensors, as many as expected, in their
    dtypes."""
    several = isinstance(expected, (tuple, list))
    count = len(expected) if several else 1
    if several and not (isinstance(result, (tuple, list)) and len(result) == count):
        return Outcome(failure=f"it returns {kind_of(result)}; return {count} Tensors", kind="type")
    results, right = (result, expected) if several else ([result], [expected])
    for y, e in zip(results, right, strict=True):
        if not isinstance(y, Tensor):
            hint = "; a line with `return` may be missing" if y is None else ""
            return Outcome(failure=f"it returns {kind_of(y)}, not a Tensor{hint}", kind="type")
        if y.dtype != e.dtype:
            return Outcome(failure=f"its result is {y.dtype}; it should be {e.dtype}", kind="type")
    return Outcome(arrays_of(result))


def kind_of(value: Any) -> str:
    """A value in words: "None", "a tuple of 2", "a float"."""
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def arrays_of(result: Any) -> list[np.ndarray]:
    """The arrays of one Tensor, or of several."""
    results = result if isinstance(result, (tuple, list)) else [result]
    return [np.array(y.numpy()) for y in results]


def in_words(error: BaseException, path: str) -> str:
    """An error in one line, with the line of the learner's file where it happened."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    at = f"line {lines[-1]} raises " if lines else ""
    # Python words this error in several ways, depending on where it stops
    text = "" if isinstance(error, RecursionError) else " ".join(str(error).split())
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)  # the address of an object
    if isinstance(error, TypeError) and ("bitwise_xor" in text or " for ^" in text):
        text = "^ is not a power in Python: write y**2, not y^2"
    return f"{at}{type(error).__name__}" + (f": {text[:300]}" if text else "")


@cache
def outcomes_of_mutant(name: str, part_name: str, which: tuple[int, ...]) -> list[Outcome]:
    """The outcomes of the answer with these known mistakes of one part, given by their numbers.
    [] if two mistakes change the same words, and so exclude each other."""
    exercise = load(name)
    part = part_of(exercise, part_name)
    try:
        source = exercise.mutant(part, *[part.wrong[i] for i in which])
    except ValueError:
        return []
    function = answer(source, part_name)
    cases, expected = [*part.cases, *part.extremes], expected_results(name, part_name)
    return [run(part, function, *pair) for pair in zip(cases, expected, strict=True)]


def answer(source: str, name: str) -> Callable:
    """The function with this name in the source of a solution or a mutant."""
    names: dict[str, Any] = {"__name__": "mutant"}
    exec(compile(source, "", "exec"), names)
    return names[name]


# ── comparing ─────────────────────────────────────────────────────────────────────────────────────


def same(a: Outcome, b: Outcome, texts: bool = True) -> bool:
    """Are two outcomes equal, except for rounding? texts: errors must also have the same text."""
    if a.kind or b.kind:
        # "line 12 raises ValueError: ..." and "line 14 raises ValueError: ..." are the same
        x, y = without_line(a.failure), without_line(b.failure)
        if not texts:
            x, y = x.partition(":")[0], y.partition(":")[0]
        return a.kind == b.kind and x == y
    if len(a.arrays) != len(b.arrays):
        return False
    return all(close(x, y) for x, y in zip(a.arrays, b.arrays, strict=True))


def without_line(failure: str) -> str:
    """A failure without the number of the line where it happened."""
    what = failure.partition(" raises ")[2] or failure
    # which of several missing keys comes first may depend on the order of a set
    return "KeyError" if what.startswith("KeyError") else what


def close(x: np.ndarray, y: np.ndarray) -> bool:
    """Are two arrays equal in shape, and in every entry up to rounding?"""
    if x.shape != y.shape:
        return False
    finite = y[np.isfinite(y)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0
    return bool(np.allclose(x, y, rtol=SAME, atol=SAME * scale, equal_nan=True))


def same_outcomes(a: list[Outcome], b: list[Outcome], texts: bool = True) -> bool:
    """Are all outcomes of two functions equal?"""
    return all(same(x, y, texts) for x, y in zip(a, b, strict=True))
