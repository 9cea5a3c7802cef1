"""Describes in words how a result differs from the right one, without knowing the exercise."""

from __future__ import annotations

import textwrap

import numpy as np

from demos.exercises.exercise import Definition
from demos.exercises.outcomes import Outcome, close, same


def wrapped(line: str) -> str:
    """A line of at most 96 characters, or several."""
    indent = " " * (len(line) - len(line.lstrip()) or 4)
    return textwrap.fill(
        line, 96, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


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
            digits = 6 if f"{y[at]:.6g}" != f"{e[at]:.6g}" else 12
            return f"{which}{entry}yours is {y[at]:.{digits}g}, the right one is {e[at]:.{digits}g}"
    return ""


def in_general(part: Definition, cases: list, outcomes: list[Outcome], right: list[Outcome]) -> str:
    """A description of a mistake that the exercise does not know."""
    failed = [outcome for outcome in outcomes if outcome.kind]
    if failed:
        some = "" if len(failed) == len(outcomes) else "in some cases "
        return f"{some}{failed[0].failure}."
    ordinary = list(range(len(part.cases)))
    if any(not same(outcomes[i], right[i]) for i in ordinary):
        cases, outcomes, right = part.cases, outcomes[: len(ordinary)], right[: len(ordinary)]
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
    return factor_in_words(part, cases, pairs) or pattern_in_words(part, cases, pairs)


def factor_in_words(part: Definition, cases: list, pairs: list) -> str:
    """The number by which the right results are multiplied, or ""."""
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
    return ""


def pattern_in_words(part: Definition, cases: list, pairs: list) -> str:
    """An added number, a transposed result, or which cases are right."""
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
        return f"some cases. It is right in {sum(fits)} of {len(fits)}, such as {good}."
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
    if y.size == e.size:
        return "the shape, and the numbers in it."
    if y.size > e.size:
        return (
            "the shape. Your result has too many entries: a sum over an axis is missing, which "
            "may be one that broadcasting added."
        )
    return "the shape. Your result has too few entries: something was summed that should not be."
