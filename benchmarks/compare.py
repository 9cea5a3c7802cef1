"""Compares two benchmark runs: is the second slower than the first? The hard part is to raise no
false alarms.

Two runs of the same code differ for three reasons, and each needs its own remedy.

- The speed of the machine drifts. The *outsiders*, whose code is not part of this project (PyTorch,
  plain NumPy, ...), took turns with the other contenders, so their times show the drift. A row is
  judged by its time relative to the outsiders in the same row, round by round, or relative to the
  drift of all outsiders of the run, whichever scatters less.
- Samples scatter. The rounds of each run are resampled (bootstrap). The samples of one round are
  not independent, so a round counts as one number, its median.
- A process may be lucky or unlucky as long as it lives: addresses, memory pages, cores. However
  many samples one process gives, they do not show that. The outsiders do: their code did not
  change, so they differ only by drift, scatter and luck.

Also, more rows mean more chances of a false alarm. All intervals together hold with 95 %
(Bonferroni), so a second run of the same code passes. pyperf's compare_to handles none of this: it
applies a t-test to all samples of each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.row import OUTSIDERS
from benchmarks.statistics import error_of_median

Record = dict[str, Any]
# The luck of a process: a standard deviation, as a share of its time. This value is used if there
# are too few outsiders to measure it.
LUCK = 0.02
ENOUGH_OUTSIDERS, ENOUGH_ROUNDS = 8, 4


@dataclass
class Pair:
    """One contender in both runs. a, b: the logarithms of the seconds of each round, in the first
    and in the second run. medians: in seconds. outside: whether it is an outsider itself.
    outsiders: the outsiders in the same row."""

    name: str
    a: np.ndarray
    b: np.ndarray
    medians: tuple[float, float]
    outside: bool
    outsiders: list[Pair]


def compare(a: Record, b: Record, threshold: float) -> tuple[int, list[str]]:
    """(exit code, lines to print). The exit code is 0 if nothing is slower, 1 if something is, 2 if
    the runs cannot be compared."""
    if (a["suite"], a["quick"]) != (b["suite"], b["quick"]):
        suites = [f"{r['suite']}{' --quick' if r['quick'] else ''}" for r in (a, b)]
        return 2, [f"cannot be compared: one is a run of {suites[0]}, the other of {suites[1]}"]
    only_in_one = [f"measured in only one run: {name}" for name in unmatched(a, b)]
    pairs = matched(a, b)
    judged = [pair for pair in pairs if not pair.outside]
    if not judged:
        return 2, [*only_in_one, "cannot be compared: no contender was measured in both runs"]
    fewest_rounds = min(len(rounds) for pair in judged for rounds in (pair.a, pair.b))
    if fewest_rounds < ENOUGH_ROUNDS:
        advice = f"run both with --rounds {ENOUGH_ROUNDS} or more"
        problem = f"cannot be compared: {fewest_rounds} rounds are too few; {advice}"
        return 2, [*only_in_one, problem]
    drift, luck, explanation = drift_and_luck(pairs)
    intervals = {pair.name: interval(pair, drift, luck, len(judged)) for pair in judged}
    slower = [name for name, (_, low, _) in intervals.items() if low > 1 + threshold]
    newly_refused = sorted(refused(b) - refused(a))
    margin = np.median([high / ratio for ratio, _, high in intervals.values()])
    other_conditions = differences(a["environment"], b["environment"])
    lines = [
        *other_conditions,
        *only_in_one,
        explanation,
        "",
        line("b / a", "95 % of all rows", "a", "b", "row: contender"),
        *(table_line(pair, *intervals[pair.name], threshold) for pair in judged),
        "",
        f"slower by more than {threshold:.0%}, beyond doubt ({len(slower)} of {len(judged)}):",
        *(
            f"  {name}: {intervals[name][0]:.2f} {bracketed(*intervals[name][1:])}"
            for name in slower
        ),
        "in half of the rows, a slowdown of less than "
        f"{(1 + threshold) * margin - 1:.0%} could not have been detected",
        *(f"refused now, but not before: {group}: {name}" for group, name in newly_refused),
        *other_conditions,
    ]
    if other_conditions:
        return 2, lines
    return (1 if slower or newly_refused else 0), lines


def table_line(pair: Pair, ratio: float, low: float, high: float, threshold: float) -> str:
    verdict = ""
    if low > 1 + threshold:
        verdict = "SLOWER"
    elif high < 1 / (1 + threshold):
        verdict = "faster"
    times = [f"{1e3 * seconds:.4g} ms" for seconds in pair.medians]
    return line(f"{ratio:.2f}", bracketed(low, high), *times, f"{pair.name}  {verdict}")


def bracketed(low: float, high: float) -> str:
    return f"[{low:.2f}, {high:.2f}]"


def line(ratio: str, interval: str, a: str, b: str, name: str) -> str:
    return f"{ratio:>7}{interval:>18}{a:>12}{b:>12}  {name}"


# ── How much one row changed, and how certain that is ─────────────────────────────────────────────


def interval(pair: Pair, drift: float, luck: float, family: int) -> tuple[float, float, float]:
    """(ratio, low, high): the change of a row, corrected for drift, with a 95 % interval that holds
    for ``family`` rows at once."""
    from scipy.special import stdtrit

    change, spread = min(changes(pair, drift, luck), key=lambda estimate: estimate[1])
    # the quantile of Student's t, without scipy.stats, whose import takes a second
    quantile = stdtrit(len(pair.a) + len(pair.b) - 2, 1 - 0.05 / (2 * family))
    reach = quantile * spread
    return float(np.exp(change)), float(np.exp(change - reach)), float(np.exp(change + reach))


def changes(pair: Pair, drift: float, luck: float) -> list[tuple[float, float]]:
    """Estimates (change, standard error): relative to the drift of the run and, if the row has
    outsiders, relative to them.

    If the outsiders of the row scatter more than the contender, the drift of the run is the better
    reference. The choice depends only on the standard errors, never on the changes.
    """
    change = np.median(pair.b) - np.median(pair.a) - drift
    estimates = [(change, np.hypot(scatter(pair.a, pair.b), luck * np.sqrt(2)))]
    if pair.outsiders:
        a = pair.a - np.mean([other.a for other in pair.outsiders], axis=0)
        b = pair.b - np.mean([other.b for other in pair.outsiders], axis=0)
        lucks = luck * np.sqrt(2 + 2 / len(pair.outsiders))
        estimates.append((np.median(b) - np.median(a), np.hypot(scatter(a, b), lucks)))
    return estimates


def scatter(a: np.ndarray, b: np.ndarray) -> float:
    """Standard error of median(b) - median(a). The runs are independent, so the squares of their
    errors add up."""
    return float(np.hypot(error_of_median(a), error_of_median(b)))


def drift_and_luck(pairs: list[Pair]) -> tuple[float, float, str]:
    """(drift between the runs, a logarithm; luck of a process, a standard deviation of logarithms;
    both in words), estimated from the outsiders."""
    outside = [pair for pair in pairs if pair.outside]
    if not outside:
        explanation = (
            "nothing from outside this project was measured, so drift of the machine cannot be "
            "distinguished from a change of the code"
        )
        return 0.0, LUCK, explanation
    changed = np.array([np.median(pair.b) - np.median(pair.a) for pair in outside])
    drift = float(np.median(changed))
    outsiders = f"{len(outside)} contenders from outside this project"
    explanation = f"the machine drifted by {np.expm1(drift):+.1%}, according to {outsiders}"
    if len(outside) < ENOUGH_OUTSIDERS:
        return drift, LUCK, f"{explanation}; the luck of a process is assumed to be {LUCK:.0%}"
    # a robust standard deviation, from the median absolute deviation
    deviation = 1.4826 * float(np.median(np.abs(changed - drift)))
    sampled = float(np.median([scatter(pair.a, pair.b) for pair in outside]))
    luck = max(LUCK, float(np.sqrt(max(0.0, deviation**2 - sampled**2) / 2)))
    return drift, luck, f"{explanation}; the luck of a process is {luck:.1%}"


# ── What both runs measured ───────────────────────────────────────────────────────────────────────


def refused(record: Record) -> set[tuple[str, str]]:
    return {(row["group"], row["name"]) for row in record["rows"] if "refused" in row}


def measured(record: Record) -> dict[tuple[str, str], dict[str, Record]]:
    """{(group, name): {contender: its entry in the record}}, for contenders with samples."""
    return {
        (row["group"], row["name"]): {c["name"]: c for c in row["contenders"] if "samples" in c}
        for row in record["rows"]
        if "refused" not in row
    }


def matched(a: Record, b: Record) -> list[Pair]:
    before, after, pairs = measured(a), measured(b), []
    for group, name in before.keys() & after.keys():
        old, new = before[group, name], after[group, name]
        of_row = []
        for contender in old.keys() & new.keys():
            two = old[contender], new[contender]
            rounds = [np.log(np.median(c["samples"], axis=1)) for c in two]
            medians, outside = (two[0]["median"], two[1]["median"]), contender.startswith(OUTSIDERS)
            title = f"{group}: {name}: {contender}"
            of_row.append(Pair(title, rounds[0], rounds[1], medians, outside, []))
        for pair in of_row:
            if not pair.outside:
                pair.outsiders = [other for other in of_row if other.outside]
        pairs += of_row
    return sorted(pairs, key=lambda pair: pair.name)


def unmatched(a: Record, b: Record) -> list[str]:
    names = [{(*row, name) for row, named in measured(r).items() for name in named} for r in (a, b)]
    return [": ".join(name) for name in sorted(names[0] ^ names[1])]


def differences(a: Record, b: Record) -> list[str]:
    """Warnings about a different machine, settings or versions: then the rows do not compare the
    code alone."""
    facts = {
        "CPU": lambda e: (e["cpu"]["model"], e["cpu"]["cores"]),
        "settings": lambda e: e["settings"],
        "BLAS": lambda e: [e["blas"][k] for k in ("library", "version", "kernel", "threads")],
        "versions": lambda e: {k: v for k, v in e["versions"].items() if k != "tinycv"},
    }
    return [
        f"NOT THE SAME {name}: {of(a)} and {of(b)}: the rows compare that as much as the code"
        for name, of in facts.items()
        if of(a) != of(b)
    ]
