"""Is the second of two runs slower?  The difficulty is not to find differences: it is not to find
them where none are.

Three things make two runs of the same code differ, and each has its answer.
- The machine's speed drifts. What this project does not make (PyTorch, plain NumPy, ...) was
measured turn by turn with
  what it does, so its times tell the drift: a row is judged by its time over its own *outsiders'*,
  round by round, or over the drift of all outsiders of the run, whichever scatters less.
- Samples scatter. Rounds are drawn again, of each run apart (bootstrap); samples of a round are not
independent, so a
  round is one number, its median.
- A process is lucky or not, for as long as it lives: addresses, pages, cores. No number of samples
of one process shows
  that. The outsiders do: they did not change, so what they differ by, beyond their samples'
  scatter, is luck.

Then the more rows, the more chances of a false alarm. All intervals hold at once with 95 %
(Bonferroni), so the second run of the same code passes. pyperf's compare_to knows none of the
three: it puts a t-test to all samples of each row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from benchmarks.statistics import error_of_median

# how their names begin
OUTSIDERS = ("PyTorch", "plain NumPy", "HIPS autograd", "autograd", "MyGrad")
# of a process, as a share of its time, where too few outsiders tell
LUCK = 0.02
ENOUGH_OUTSIDERS, ENOUGH_ROUNDS = 8, 4


class Pair(NamedTuple):
    """One contender in both runs: seconds a round, as logarithms; those of the row's outsiders;
    medians."""

    name: str
    a: np.ndarray
    b: np.ndarray
    outsiders: list[tuple[np.ndarray, np.ndarray]]
    medians: tuple[float, float]
    outside: bool


def compare(a: dict[str, Any], b: dict[str, Any], threshold: float) -> tuple[int, list[str]]:
    """(0: nothing is slower, 1: something is, 2: the runs cannot be compared; what to print)."""
    if (a["suite"], a["quick"]) != (b["suite"], b["quick"]):
        said = [f"{r['suite']}{' --quick' if r['quick'] else ''}" for r in (a, b)]
        return 2, [f"cannot be compared: one is a run of {said[0]}, the other of {said[1]}"]
    strange = differences(a["environment"], b["environment"])
    told = [f"measured in one only: {name}" for name in unmatched(a, b)]
    pairs = matched(a, b)
    ours = [pair for pair in pairs if not pair.outside]
    if not ours:
        return 2, [*told, "cannot be compared: no contender was measured in both"]
    few = min(len(x) for pair in ours for x in (pair.a, pair.b))
    if few < ENOUGH_ROUNDS:
        return 2, [
            *told,
            f"cannot be compared: {few} rounds tell nothing; run both with --rounds "
            f"{ENOUGH_ROUNDS} or more",
        ]
    drift, luck, how = outsiders_say(pairs)
    lines, slower, widths = (
        [*told, how, "", line("b / a", "95 % of all rows", "a", "b", "row: contender")],
        [],
        [],
    )
    for pair in ours:
        ratio, low, high = interval(pair, drift, luck, len(ours))
        widths.append(high / ratio)
        verdict = (
            "SLOWER" if low > 1 + threshold else "faster" if high < 1 / (1 + threshold) else ""
        )
        lines.append(
            line(
                f"{ratio:.2f}",
                f"[{low:.2f}, {high:.2f}]",
                *(f"{1e3 * t:.4g} ms" for t in pair.medians),
                f"{pair.name}  {verdict}",
            )
        )
        slower += [f"  {pair.name}: {ratio:.2f} [{low:.2f}, {high:.2f}]"] * (verdict == "SLOWER")
    wrong = sorted(refused(b) - refused(a))
    lines += [
        "",
        f"slower by more than {threshold:.0%}, beyond doubt ({len(slower)} of {len(ours)}):",
        *slower,
        "half of the rows could not have shown less than "
        f"{(1 + threshold) * np.median(widths) - 1:+.0%}",
        *(f"refused now, and not before: {group}: {name}" for group, name in wrong),
    ]
    return (2 if strange else 1 if slower or wrong else 0), [*strange, *lines, *strange]


def interval(pair: Pair, drift: float, luck: float, family: int) -> tuple[float, float, float]:
    """The change's ratio, outsiders' change taken out, and its interval at 95 % for ``family`` of
    them at once."""
    from scipy.stats import t

    change, spread = min(changes(pair, drift, luck), key=lambda found: found[1])
    reach = t.ppf(1 - 0.05 / (2 * family), len(pair.a) + len(pair.b) - 2) * spread
    return tuple(float(np.exp(x)) for x in (change, change - reach, change + reach))


def changes(pair: Pair, drift: float, luck: float) -> list[tuple[float, float]]:
    """(change, its standard error) beside the run's drift, and beside the row's outsiders if it has
    some.

    Where outsiders scatter more than what is judged, the run's drift is the better measure. Which
    of the two is taken rests on the errors alone, never on the changes.
    """
    found = [
        (
            np.median(pair.b) - np.median(pair.a) - drift,
            np.hypot(scatter(pair.a, pair.b), luck * np.sqrt(2)),
        )
    ]
    if pair.outsiders:
        a, b = (
            x - np.mean(others, axis=0)
            for x, others in zip((pair.a, pair.b), zip(*pair.outsiders, strict=True), strict=True)
        )
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
    changes = np.array([np.median(p.b) - np.median(p.a) for p in outside])
    if not len(changes):
        return (
            0.0,
            LUCK,
            "nothing from outside this project was measured: drift of the machine cannot be told "
            "from change",
        )
    drift = float(np.median(changes))
    witnesses = f"{len(outside)} contenders from outside this project"
    said = f"the machine drifted by {np.expm1(drift):+.1%}, as {witnesses} tell"
    if len(changes) < ENOUGH_OUTSIDERS:
        return drift, LUCK, f"{said}; a process's luck is taken as {LUCK:.0%}"
    # robust standard deviation
    apart = 1.4826 * float(np.median(np.abs(changes - drift)))
    sampled = float(np.median([scatter(p.a, p.b) for p in outside]))
    luck = max(LUCK, float(np.sqrt(max(0.0, apart**2 - sampled**2) / 2)))
    return drift, luck, f"{said}; a process's luck is {luck:.1%}"


# ── what is in both ───────────────────────────────────────────────────────────────────────────────


def key(row: dict[str, Any]) -> tuple[str, str]:
    return row["group"], row["name"]


def refused(record: dict[str, Any]) -> set[tuple[str, str]]:
    return {key(row) for row in record["rows"] if "refused" in row}


def measured(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, dict]]:
    return {
        key(row): {c["name"]: c for c in row["contenders"] if "samples" in c}
        for row in record["rows"]
        if "refused" not in row
    }


def matched(a: dict[str, Any], b: dict[str, Any]) -> list[Pair]:
    ours, theirs, pairs = measured(a), measured(b), []
    for row in ours.keys() & theirs.keys():
        both = {
            name: (c, theirs[row][name]) for name, c in ours[row].items() if name in theirs[row]
        }
        rounds = {
            name: tuple(np.log(np.median(c["samples"], axis=1)) for c in two)
            for name, two in both.items()
        }
        outside = [rounds[name] for name in rounds if name.startswith(OUTSIDERS)]
        pairs += [
            Pair(
                f"{row[0]}: {row[1]}: {name}",
                *rounds[name],
                [] if name.startswith(OUTSIDERS) else outside,
                tuple(c["median"] for c in two),
                name.startswith(OUTSIDERS),
            )
            for name, two in both.items()
        ]
    return sorted(pairs, key=lambda pair: pair.name)


def unmatched(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    names = [{(*row, name) for row, named in measured(r).items() for name in named} for r in (a, b)]
    return [": ".join(name) for name in sorted(names[0] ^ names[1])]


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
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


def line(*cells: str) -> str:
    return (
        "".join(cell.rjust(width) for cell, width in zip(cells[:-1], (7, 18, 12, 12), strict=True))
        + "  "
        + cells[-1]
    )
