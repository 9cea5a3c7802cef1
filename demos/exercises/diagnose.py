"""Checks an answer and says in words what is wrong with it.

For each part of an exercise, in this order:

1. The answer runs on every case. What it returns, or the error that it raises, is its outcome.
2. If all outcomes equal those of the package, the certificate differentiates the answer: central
   finite differences at orders 1 and 2. If it passes, the part is solved.
3. Otherwise the outcomes are compared with those of each mutant, the answer with one known mistake
   in it, and then of each pair of mutants. The same outcomes mean the same mistake.
4. If no mutant fits, ``in_general`` looks for a factor, an added number, a transposed axis, and so
   on, which need no knowledge of the exercise.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from demos.exercises.allowed import forbidden_use
from demos.exercises.exercise import Definition, Exercise, Pull, Wrong, WrongResult, load
from tinycv import Tensor
from tinycv.engine.check import CertificateError

# The largest relative difference between two ways of computing the same number, in float64. The
# finite differences are allowed more; see tinycv/engine/check.py.
SAME = 1e-9
KEPT = 2000  # characters of what an answer prints


@dataclass
class Verdict:
    """What the learner gets to read, and whether the exercise is solved."""

    solved: bool
    lines: list[str]
    # the words of the known mistake that was found
    faults: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The lines in ASCII, which every console can print, none of them too long to read."""
        text = "\n".join(wrapped(line) for line in self.lines)
        return text.encode("ascii", "backslashreplace").decode("ascii")


def wrapped(line: str) -> str:
    """A line of at most 96 characters, or several."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(
        line, 96, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


@dataclass
class Outcome:
    """What a function did in one case: the arrays that it returned, or how it failed.

    failure: "" or one sentence. kind: "blank", "raises", "type", "input" or "".
    """

    arrays: list[np.ndarray] = field(default_factory=list)
    failure: str = ""
    kind: str = ""


class Printed(io.StringIO):
    """Keeps the first characters that an answer prints, so that endless printing needs no
    memory."""

    def write(self, text: str) -> int:
        if self.tell() < KEPT:
            super().write(text)
        return len(text)


def check(exercise: Exercise, source: bytes | str, path: str = "your file") -> Verdict:
    """The verdict on a learner's file."""
    printed = Printed()
    with redirect_stdout(printed), np.errstate(all="ignore"):
        verdict = check_quietly(exercise, source, path)
    if printed.getvalue():
        shown = [f"    {line}" for line in printed.getvalue().splitlines()[:8]]
        verdict.lines += ["", "Your file prints. It printed, first of all:", *shown]
        verdict.lines.append("The check calls your code many times: remove the print at the end.")
        verdict.solved = False
    return verdict


def check_quietly(exercise: Exercise, source: bytes | str, path: str) -> Verdict:
    """``check``, without what the answer prints."""
    try:
        tree = ast.parse(source)
        code = compile(tree, path, "exec")
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        return not_yet(exercise, f"{path}{where} is not valid Python: {reason}.")
    refused = forbidden_use(tree, exercise)
    if refused:
        return not_yet(exercise, f"{path}, {refused}.")
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(code, names)
    except Exception as error:
        return not_yet(exercise, f"{path} stops when it is loaded: {in_words(error, path)}.")
    lines = []
    for part in exercise.parts:
        problem = problem_with_signature(names.get(part.name), part)
        verdict = not_yet(exercise, problem) if problem else check_part(exercise, part, names, path)
        if not verdict.solved:
            verdict.lines = [*lines, *verdict.lines]
            return verdict
        lines += verdict.lines
    return Verdict(True, [f"Solved: {exercise.name}.", *lines])


def check_part(exercise: Exercise, part: Definition, names: dict, path: str) -> Verdict:
    """The verdict on one function of the learner's file."""
    function = names[part.name]
    cases = [*part.cases, *part.extremes]
    expected = expected_results(exercise.name, part.name)
    outcomes = [run(part, function, *pair, path) for pair in zip(cases, expected, strict=True)]
    if outcomes[0].kind == "blank":
        return not_yet(exercise, f"{part.name} is still blank.")
    right = [Outcome(arrays_of(result)) for result in expected]
    if same_outcomes(outcomes, right):
        return certified(exercise, part, function, path)
    at = next(i for i, pair in enumerate(zip(outcomes, right, strict=True)) if not same(*pair))
    evidence = [f"Where: {part.describe(cases[at])}"]
    if not outcomes[at].kind:
        evidence.append(f"    {difference(part, outcomes[at], right[at])}")
    mistakes = known_mistakes(exercise, part, outcomes)
    if mistakes:
        lines = [f"What is wrong with {part.name}: {' and '.join(m.fault for m in mistakes)}."]
        lines += [f"    {mistake.words}" for mistake in mistakes]
    else:
        lines = [f"What is wrong with {part.name}: {in_general(part, cases, outcomes, right)}"]
    verdict = not_yet(exercise, *lines, *evidence)
    verdict.faults = [mistake.fault for mistake in mistakes]
    if not any(outcome.kind for outcome in outcomes):
        verdict.lines += certificate_says(part, function)
    return verdict


def not_yet(exercise: Exercise, *lines: str) -> Verdict:
    """The verdict on an answer that is not right."""
    return Verdict(False, [f"Not yet: {exercise.name}.", *lines])


# ── running an answer ────────────────────────────────────────────────────────────────────────────


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
            hint = "; does a line with `return` miss?" if y is None else ""
            return Outcome(failure=f"it returns {kind_of(y)}, not a Tensor{hint}", kind="type")
        if y.dtype != e.dtype:
            return Outcome(failure=f"its result is {y.dtype}; it must be {e.dtype}", kind="type")
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
    return f"{at}{type(error).__name__}" + (f": {text[:300]}" if text else "")


def problem_with_signature(function: Any, part: Definition) -> str:
    """What is wrong with the head of a learner's function, or ""."""
    head = f"def {part.name}({', '.join(part.parameters)})"
    if not callable(function) or not hasattr(function, "__code__"):
        return f"The file has no function {part.name}: keep the line `{head}:`."
    code = function.__code__
    if list(code.co_varnames[: code.co_argcount]) != part.parameters or code.co_flags & 0x0C:
        return f"The arguments of {part.name} are not the given ones: keep the line `{head}:`."
    return ""


# ── comparing outcomes ───────────────────────────────────────────────────────────────────────────


def same(a: Outcome, b: Outcome) -> bool:
    """Are two outcomes equal, except for rounding?"""
    if a.kind or b.kind:
        # "line 12 raises ValueError: ..." and "line 14 raises ValueError: ..." are the same
        return a.kind == b.kind and without_line(a.failure) == without_line(b.failure)
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


def same_outcomes(a: list[Outcome], b: list[Outcome]) -> bool:
    """Are all outcomes of two functions equal?"""
    return all(same(x, y) for x, y in zip(a, b, strict=True))


def known_mistakes(exercise: Exercise, part: Definition, outcomes: list[Outcome]) -> list[Wrong]:
    """The known mistake, or the pair of known mistakes, that leads to these outcomes."""
    numbers = range(len(part.wrong))
    for which in [*((i,) for i in numbers), *combinations(numbers, 2)]:
        wrong = outcomes_of_mutant(exercise.name, part.name, which)
        if wrong and same_outcomes(outcomes, wrong):
            return [part.wrong[i] for i in which]
    return []


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
    """The function with this name in the source of an answer of ours."""
    names: dict[str, Any] = {"__name__": "mutant"}
    exec(compile(source, "", "exec"), names)
    return names[name]


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def difference(part: Definition, outcome: Outcome, right: Outcome) -> str:
    """The first result that differs: its shape, or its worst entry."""
    for i, (y, e) in enumerate(zip(outcome.arrays, right.arrays, strict=True)):
        result = part.result_name(i, len(right.arrays))
        which = f"{result}, " if result else ""
        if y.shape != e.shape:
            return f"{which}your shape is {y.shape}, the right one is {e.shape}"
        if not close(y, e):
            gap = np.where(np.isfinite(y), np.abs(y - e), np.inf)
            at = np.unravel_index(np.argmax(gap), y.shape)
            entry = f"entry {[int(k) for k in at]}: " if at else ""
            return f"{which}{entry}yours is {y[at]:.6g}, the right one is {e[at]:.6g}"
    return ""


def in_general(part: Definition, cases: list, outcomes: list[Outcome], right: list[Outcome]) -> str:
    """A description of a mistake that the exercise does not know."""
    failed = [outcome for outcome in outcomes if outcome.kind]
    if failed:
        some = "" if len(failed) == len(outcomes) else "in some cases "
        return f"{some}{failed[0].failure}."
    for i in range(len(right[0].arrays)):
        pairs = [(o.arrays[i], r.arrays[i]) for o, r in zip(outcomes, right, strict=True)]
        if all(close(y, e) for y, e in pairs):
            continue
        result = part.result_name(i, len(right[0].arrays))
        return (f"in {result}, " if result else "") + difference_in_words(part, cases, pairs)
    return ""


def difference_in_words(part: Definition, cases: list, pairs: list) -> str:
    """How the arrays of an answer (first of each pair) differ from the right ones (second)."""
    if any(y.shape != e.shape for y, e in pairs):
        return shapes_in_words(pairs)
    if any(np.isfinite(e).all() and not np.isfinite(y).all() for y, e in pairs):
        return (
            "NaN or infinity where the right result is finite: something overflows, or a division "
            "by 0 or the logarithm of 0 occurs."
        )
    if all(np.allclose(y, e, rtol=1e-5, atol=1e-6 * np.abs(e).max(initial=0)) for y, e in pairs):
        return (
            "the precision. Only about six digits are right: a step is computed in float32, as by "
            "arange(n), where arange(n, dtype=x.dtype) has the precision of x; or a small number "
            "is added that is not in the formula."
        )
    if all(close(y, -e) for y, e in pairs):
        return "the sign. Your result is the right one times -1."
    factors = [factor(y, e) for y, e in pairs]
    scaled = all(c is not None for c in factors)
    if scaled and np.ptp(factors) < 1e-6 * abs(factors[0]):
        return f"a factor. Your result is the right one times {factors[0]:.6g}, in every case."
    # not for single numbers, of which every other number is some multiple
    if scaled and any(e.size > 1 for _, e in pairs):
        listed = ", ".join(
            f"{c:.4g} for {part.describe(case)}"
            for c, case in list(zip(factors, cases, strict=True))[:3]
        )
        return (
            "a factor that depends on the shapes. Your result is the right one times "
            f"{listed}. Is a division missing, or one too many?"
        )
    added = [y - e for y, e in pairs]
    numbers = np.concatenate([d.ravel() for d in added])
    if np.ptp(numbers) < 1e-6 * np.abs(numbers).max():
        return f"an added number. Your result is the right one plus {numbers[0]:.6g}."
    square = [(y, e) for y, e in pairs if y.ndim > 1 and y.shape[-1] == y.shape[-2] > 1]
    if square and all(close(y.swapaxes(-1, -2), e) for y, e in square):
        return "a transposed result. Swap its last two axes."
    fits = [close(y, e) for y, e in pairs]
    if any(fits):
        good = part.describe(cases[fits.index(True)])
        return f"it is right in {sum(fits)} of {len(fits)} cases, such as {good}."
    return "the values. It is none of the mistakes that this exercise knows."


def factor(y: np.ndarray, e: np.ndarray) -> float | None:
    """The number c for which y = c e, or None."""
    if not e.size or not np.abs(e).max():
        return None
    at = np.unravel_index(np.argmax(np.abs(e)), e.shape)
    c = float(y[at] / e[at])
    return c if c and close(y, c * e) else None


def shapes_in_words(pairs: list) -> str:
    """Why the shapes of results are not the right ones."""
    y, e = next(pair for pair in pairs if pair[0].shape != pair[1].shape)
    if y.ndim > 1 and close(y.swapaxes(-1, -2), e):
        return "a transposed result. Swap its last two axes."
    if y.size == e.size and close(y.reshape(e.shape), e):
        return "the shape only. The numbers are right: reshape them, or use keepdims."
    if y.size > e.size:
        return (
            "the shape. Your result has too many entries: a sum over an axis is missing, which "
            "may be one that broadcasting added."
        )
    return "the shape. Your result has too few entries: something was summed that should not be."


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


def certified(exercise: Exercise, part: Definition, function: Callable, path: str) -> Verdict:
    """The verdict on an answer whose results are right: its derivatives, and its dtype."""
    case = part.cases[0]
    single = run(part, function, case, part.expected(case, "float32"), path, dtype="float32")
    if single.kind:
        return not_yet(
            exercise,
            f"{part.name} is right in float64, but for arguments of float32 {single.failure}.",
        )
    errors = []
    for case in part.cases:
        try:
            errors.append(part.certify(function, case))
        except CertificateError as error:
            return not_yet(
                exercise,
                f"What {part.name} returns is right, but its own derivative is not, so it cannot "
                "be differentiated further:",
                f"    {error}",
            )
        except Exception as error:
            return not_yet(
                exercise,
                f"What {part.name} returns is right, but it fails when it is differentiated, for "
                f"{part.describe(case)}: {in_words(error, path)}.",
            )
    worst = [max(column) for column in zip(*errors, strict=True)]
    words = ", ".join(f"order {i + 1}: {error:.0e}" for i, error in enumerate(worst))
    lines = [f"    {part.name} equals the package in {len(part.cases) + len(part.extremes)} cases"]
    if worst:
        lines.append(f"        its derivatives against finite differences: {words}")
    return Verdict(True, lines)


def certificate_says(part: Definition, function: Callable) -> list[str]:
    """What the certificate finds in a wrong pull. (A wrong definition still has the derivative that
    belongs to it.)"""
    if not isinstance(part, Pull):
        return []
    try:
        for case in part.cases:
            part.certify(function, case)
    except CertificateError as error:
        return [] if "nan" in str(error) else [f"The certificate (finite differences): {error}"]
    except Exception:  # a wrong shape, which the words above describe
        return []
    return []
