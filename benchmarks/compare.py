"""Is the second of two runs slower?  The difficulty is not to find differences: it is not to find
them where none are.

Three things make two runs of the same code differ, and each has its answer.

- The machine's speed drifts. What this project does not make (PyTorch, plain NumPy, ...) was
  measured turn by turn with what it does, so its times tell the drift: a row is judged by its time
  over its own *outsiders'*, round by round, or over the drift of all outsiders of the run,
  whichever scatters less.
- Samples scatter. Rounds are drawn again, of each run apart (bootstrap); samples of a round are not
  independent, so a round is one number, its median.
- A process is lucky or not, for as long as it lives: addresses, pages, cores. No number of samples
  of one process shows that. The outsiders do: they did not change, so what they differ by, beyond
  their samples' scatter, is luck.

Then the more rows, the more chances of a false alarm. All intervals hold at once with 95 %
(Bonferroni), so the second run of the same code passes. pyperf's compare_to knows none of the
three: it puts a t-test to all samples of each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.row import OUTSIDERS
from benchmarks.statistics import error_of_median

Record = dict[str, Any]
# of a process, as a share of its time, where too few outsiders tell
LUCK = 0.02
ENOUGH_OUTSIDERS, ENOUGH_ROUNDS = 8, 4


@dataclass
class Pair:
    """One contender in both runs. a, b: the logarithm of each round's seconds. outsiders: the same
    of what this project does not make, in the same row. medians: in seconds."""

    name: str
    a: np.ndarray
    b: np.ndarray
    medians: tuple[float, float]
    outside: bool
    outsiders: list[Pair]


def compare(a: Record, b: Record, threshold: float) -> tuple[int, list[str]]:
    """(0: nothing is slower, 1: something is, 2: the runs cannot be compared; what to print)."""
    if (a["suite"], a["quick"]) != (b["suite"], b["quick"]):
        said = [f"{r['suite']}{' --quick' if r['quick'] else ''}" for r in (a, b)]
        return 2, [f"cannot be compared: one is a run of {said[0]}, the other of {said[1]}"]
    told = [f"measured in one only: {name}" for name in unmatched(a, b)]
    pairs = matched(a, b)
    ours = [pair for pair in pairs if not pair.outside]
    if not ours:
        return 2, [*told, "cannot be compared: no contender was measured in both"]
    few = min(len(rounds) for pair in ours for rounds in (pair.a, pair.b))
    if few < ENOUGH_ROUNDS:
        advice = f"run both with --rounds {ENOUGH_ROUNDS} or more"
        return 2, [*told, f"cannot be compared: {few} rounds tell nothing; {advice}"]
    drift, luck, how = outsiders_say(pairs)
    found = {pair.name: interval(pair, drift, luck, len(ours)) for pair in ours}
    slower = [name for name, (_, low, _) in found.items() if low > 1 + threshold]
    wrong = sorted(refused(b) - refused(a))
    unseen = np.median([high / ratio for ratio, _, high in found.values()])
    strange = differences(a["environment"], b["environment"])
    lines = [
        *strange,
        *told,
        how,
        "",
        line("b / a", "95 % of all rows", "a", "b", "row: contender"),
        *(table_line(pair, *found[pair.name], threshold) for pair in ours),
        "",
        f"slower by more than {threshold:.0%}, beyond doubt ({len(slower)} of {len(ours)}):",
        *(f"  {name}: {found[name][0]:.2f} {bracketed(*found[name][1:])}" for name in slower),
        f"half of the rows could not have shown less than {(1 + threshold) * unseen - 1:+.0%}",
        *(f"refused now, and not before: {group}: {name}" for group, name in wrong),
        *strange,
    ]
    return (2 if strange else 1 if slower or wrong else 0), lines


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


# ── how much one row changed, and how surely ──────────────────────────────────────────────────────


def interval(pair: Pair, drift: float, luck: float, family: int) -> tuple[float, float, float]:
    """The change's ratio, outsiders' change taken out, and its interval at 95 % for ``family`` of
    them at once."""
    from scipy.special import stdtrit

    change, spread = min(changes(pair, drift, luck), key=lambda found: found[1])
    # Student's t, as scipy.stats has it, whose import takes a second
    quantile = stdtrit(len(pair.a) + len(pair.b) - 2, 1 - 0.05 / (2 * family))
    reach = quantile * spread
    return float(np.exp(change)), float(np.exp(change - reach)), float(np.exp(change + reach))


def changes(pair: Pair, drift: float, luck: float) -> list[tuple[float, float]]:
    """(change, its standard error) beside the run's drift, and beside the row's outsiders if it has
    some.

    Where outsiders scatter more than what is judged, the run's drift is the better measure. Which
    of the two is taken rests on the errors alone, never on the changes.
    """
    change = np.median(pair.b) - np.median(pair.a) - drift
    found = [(change, np.hypot(scatter(pair.a, pair.b), luck * np.sqrt(2)))]
    if pair.outsiders:
        a = pair.a - np.mean([other.a for other in pair.outsiders], axis=0)
        b = pair.b - np.mean([other.b for other in pair.outsiders], axis=0)
        lucks = luck * np.sqrt(2 + 2 / len(pair.outsiders))
        found.append((np.median(b) - np.median(a), np.hypot(scatter(a, b), lucks)))
    return found


def scatter(a: np.ndarray, b: np.ndarray) -> float:
    """Standard error of median(b) - median(a): the runs are independent, so their errors add as
    squares."""
    return float(np.hypot(error_of_median(a), error_of_median(b)))


def outsiders_say(pairs: list[Pair]) -> tuple[float, float, str]:
    """Drift between the runs (a logarithm), the luck of a process (a standard deviation of one),
    and both in words."""
    outside = [pair for pair in pairs if pair.outside]
    if not outside:
        how = "nothing from outside this project was measured: drift of the machine cannot be told "
        return 0.0, LUCK, how + "from change"
    changed = np.array([np.median(pair.b) - np.median(pair.a) for pair in outside])
    drift = float(np.median(changed))
    witnesses = f"{len(outside)} contenders from outside this project"
    said = f"the machine drifted by {np.expm1(drift):+.1%}, as {witnesses} tell"
    if len(outside) < ENOUGH_OUTSIDERS:
        return drift, LUCK, f"{said}; a process's luck is taken as {LUCK:.0%}"
    # robust standard deviation
    apart = 1.4826 * float(np.median(np.abs(changed - drift)))
    sampled = float(np.median([scatter(pair.a, pair.b) for pair in outside]))
    luck = max(LUCK, float(np.sqrt(max(0.0, apart**2 - sampled**2) / 2)))
    return drift, luck, f"{said}; a process's luck is {luck:.1%}"


# ── what is in both ───────────────────────────────────────────────────────────────────────────────


def refused(record: Record) -> set[tuple[str, str]]:
    return {(row["group"], row["name"]) for row in record["rows"] if "refused" in row}


def measured(record: Record) -> dict[tuple[str, str], dict[str, Record]]:
    """{(group, name): {contender: what was measured of it}}."""
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
    """What makes two machines two, or two settings: loud, for then no row tells of the code
    alone."""
    facts = {
        "CPU": lambda e: (e["cpu"]["model"], e["cpu"]["cores"]),
        "settings": lambda e: e["settings"],
        "BLAS": lambda e: [e["blas"][k] for k in ("library", "version", "kernel", "threads")],
        "versions": lambda e: {k: v for k, v in e["versions"].items() if k != "tinycv"},
    }
    return [
        f"NOT THE SAME {name}: {of(a)} and {of(b)}: what follows compares that as much as the code"
        for name, of in facts.items()
        if of(a) != of(b)
    ]
