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
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from inspect import CO_VARARGS, CO_VARKEYWORDS
from itertools import combinations
from types import CodeType
from typing import Any

import numpy as np

from demos.exercises.allowed import forbidden_use
from demos.exercises.exercise import Definition, Exercise, Pull, Wrong
from demos.exercises.outcomes import (
    Outcome,
    arrays_of,
    expected_results,
    in_words,
    outcomes_of_mutant,
    run,
    same,
    same_outcomes,
)
from demos.exercises.words import difference, in_general, wrapped
from tinycv.engine.check import CertificateError

MOST_PRINTED = 2000  # characters of what an answer prints that are shown


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


class Printed(io.StringIO):
    """Keeps the first characters that an answer prints, so that endless printing needs no
    memory."""

    def write(self, text: str) -> int:
        if self.tell() < MOST_PRINTED:
            super().write(text)
        return len(text)


def check(exercise: Exercise, source: bytes | str, path: str = "your file") -> Verdict:
    """The verdict on a learner's file."""
    printed = Printed()
    with redirect_stdout(printed), np.errstate(all="ignore"):
        verdict = check_quietly(exercise, source, path)
    if printed.getvalue():
        shown = [f"    {line}" for line in printed.getvalue().splitlines()[:8]]
        verdict.lines += ["", "Your file prints. The first lines that it printed:", *shown]
        verdict.lines.append("The check calls your code many times: remove the print at the end.")
        if verdict.solved:
            verdict.lines[0] = f"Almost: {exercise.name}. The answer is right, but it prints."
            verdict.solved = False
    return verdict


def check_quietly(exercise: Exercise, source: bytes | str, path: str) -> Verdict:
    """``check``, without what the answer prints."""
    try:
        tree = ast.parse(source)
        code = compile(tree, path, "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        reason = getattr(error, "msg", str(error))
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
            verdict.lines[1:1] = lines
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
    differs = [not same(*pair) for pair in zip(outcomes, right, strict=True)]
    fails = [bool(outcome.kind) for outcome in outcomes]
    at = (fails if any(fails) else differs).index(True)
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
    if not any(fails):
        verdict.lines += certificate_says(part, function)
    return verdict


def not_yet(exercise: Exercise, *lines: str) -> Verdict:
    """The verdict on an answer that is not right."""
    return Verdict(False, [f"Not yet: {exercise.name}.", *lines])


def problem_with_signature(function: Any, part: Definition) -> str:
    """What is wrong with the head of a learner's function, or ""."""
    head = f"def {part.name}({', '.join(part.parameters)})"
    if not callable(function) or not hasattr(function, "__code__"):
        return f"The file has no function {part.name}: keep the line `{head}:`."
    code = function.__code__
    if list(code.co_varnames[: code.co_argcount]) != part.parameters or has_more(code):
        return f"The arguments of {part.name} are not the given ones: keep the line `{head}:`."
    return ""


def has_more(code: CodeType) -> bool:
    """Does a function take *args, **kwargs or arguments by name only?"""
    return bool(code.co_flags & (CO_VARARGS | CO_VARKEYWORDS)) or code.co_kwonlyargcount > 0


def known_mistakes(exercise: Exercise, part: Definition, outcomes: list[Outcome]) -> list[Wrong]:
    """The known mistake, or the pair of known mistakes, that leads to these outcomes.

    All cases are compared first, with the texts of errors. If no mistake fits, errors of the same
    type count as equal, since a mistake may stop at one line or at the next. At last the extreme
    cases are left out, because an answer may have a second problem there.
    """
    for count in (len(outcomes), len(part.cases)):
        compared = outcomes[:count]
        returns = any(not outcome.kind for outcome in compared)
        for texts in (True, False) if returns else (True,):
            mistakes = mistakes_with_outcomes(exercise, part, compared, texts)
            if mistakes:
                return mistakes
    return []


def mistakes_with_outcomes(
    exercise: Exercise, part: Definition, outcomes: list[Outcome], texts: bool
) -> list[Wrong]:
    """The first known mistake, or pair of them, whose mutant has these outcomes in the first cases.
    texts: errors must also have the same text."""
    count = len(outcomes)
    right = [Outcome(arrays_of(y)) for y in expected_results(exercise.name, part.name)[:count]]
    numbers = range(len(part.wrong))
    for which in [*((i,) for i in numbers), *combinations(numbers, 2)]:
        mutant = outcomes_of_mutant(exercise.name, part.name, which)[:count]
        is_wrong = mutant and not same_outcomes(mutant, right)
        if is_wrong and same_outcomes(outcomes, mutant, texts):
            return [part.wrong[i] for i in which]
    return []


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
