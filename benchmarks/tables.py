"""Markdown tables for the READMEs, made from the records of the suites.

README.md shows ``models_table`` and benchmarks/README.md shows ``ops_table``; demos/readme.py
writes them into the pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log
from typing import Any

from benchmarks.peaks import standing
from benchmarks.report import compared, duration, machine, megabytes, ratio
from benchmarks.statistics import crossings, exponent

Record = dict[str, Any]

# ── Curves: the rows of a group that differ only in size ──────────────────────────────────────────

# in the suite "backends", the groups of whole models over batch sizes have names that end so
STEP = " training step"
# the ways to run on NumPy; the third is the name of the second in older records
NUMPY = ("NumPy", "NumPy, one shard per core", "NumPy, a shard a core")


@dataclass
class Curve:
    """One contender over the sizes of a group, in ascending order. memory: bytes by size, as far as
    known."""

    group: str
    axis: str
    contender: str
    sizes: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: dict[float, float] = field(default_factory=dict)


def curves(record: Record) -> list[Curve]:
    """All curves of a record, from the rows that have a ``point``."""
    rows = [row for row in record["rows"] if row.get("point") and "refused" not in row]
    by_name: dict[tuple[str, str], Curve] = {}
    for row in sorted(rows, key=lambda row: row["point"][1]):
        axis, size = row["point"]
        for c in row["contenders"]:
            if "median" not in c:
                continue
            key = row["group"], c["name"]
            curve = by_name.setdefault(key, Curve(row["group"], axis, c["name"]))
            curve.sizes.append(size)
            curve.seconds.append(c["median"])
            peak = c.get("memory", {}).get("bytes")
            if peak:
                curve.memory[size] = peak
    order = list(dict.fromkeys(row["group"] for row in rows))
    return sorted(by_name.values(), key=lambda curve: order.index(curve.group))


def fastest(group: list[Curve], names: tuple[str, ...]) -> dict[float, float]:
    """{size: seconds} of the fastest of these contenders, for the curves of one group."""
    best: dict[float, float] = {}
    for curve in group:
        if curve.contender in names:
            for size, seconds in zip(curve.sizes, curve.seconds, strict=True):
                best[size] = min(seconds, best.get(size, seconds))
    return best


def faster_from(axis: str, slow: dict[float, float], fast: dict[float, float]) -> str:
    """From which size on ``fast`` is faster than ``slow``, in words."""
    sizes = sorted(set(slow) & set(fast))
    a, b = [slow[x] for x in sizes], [fast[x] for x in sizes]
    if a[-1] < b[-1]:
        return f"at no {axis} measured"
    crossed_at = crossings(sizes, a, b)
    return f"from {axis} {crossed_at[-1]:.2g} on" if crossed_at else f"at every {axis}"


def crossovers(record: Record) -> list[str]:
    """From which size on a GPU is faster: a line for every sweep measured on NumPy and CuPy."""
    lines = []
    all_curves = curves(record)
    for group in dict.fromkeys(curve.group for curve in all_curves):
        of_group = [curve for curve in all_curves if curve.group == group]
        slow, fast = fastest(of_group, NUMPY), fastest(of_group, ("CuPy",))
        sizes = sorted(set(slow) & set(fast))
        if sizes:
            axis = of_group[0].axis
            lines.append(
                f"{group}: CuPy is faster than NumPy {faster_from(axis, slow, fast)} "
                f"({axis} {sizes[0]:g} to {sizes[-1]:g})"
            )
    return lines


# ── README.md: every model, by tinycv and by other libraries ──────────────────────────────────────

KINDS = {"step": "training step", "batch": "inference"}
# the names of contenders from other libraries begin with these
OTHER_LIBRARIES = ("PyTorch", "HIPS autograd", "MyGrad")
COMPILED = "compiled: "


def models_table(record: Record) -> str:
    """Markdown: one table for training, one for inference, and one for torch.compile."""
    kinds: dict[str, list] = {}
    for row in record["rows"]:
        if "refused" not in row:
            compiler = "torch.compile, " if row["group"].startswith(COMPILED) else ""
            kinds.setdefault(compiler + KINDS[row["of"]], []).append(row)
    tables = [line for kind, rows in kinds.items() for line in model_table(record, kind, rows)]
    return "\n".join([*tables, *footer(record)])


def model_table(record: Record, kind: str, rows: list[Record]) -> list[str]:
    """One line per model, without empty columns; and the geometric mean of the ratios."""
    head = [kind, "tinycv", "PyTorch", "tinycv / PyTorch"]
    head += ["tinycv / HIPS autograd", "tinycv / MyGrad"]
    head += ["peak memory: tinycv, PyTorch", "share of the CPU's peak FLOP/s: tinycv, PyTorch"]
    lines = [model_cells(record, row) for row in rows]
    used = [i for i in range(len(head)) if any(line[i] != "-" for line in lines)]
    contenders = [c for row in rows for c in row["contenders"]]
    reasons = "; ".join(dict.fromkeys(c["missing"] for c in contenders if "missing" in c))
    pytorch = [best(row, "PyTorch") for row in rows]
    text = summary([c for c in pytorch if c])
    if reasons:
        text += f" A dash means not measured: {reasons}."
    table = markdown(" | ".join(head[i] for i in used), [[line[i] for i in used] for line in lines])
    return [*table, "", text, ""]


def model_cells(record: Record, row: Record) -> list[str]:
    tinycv = row["contenders"][0]
    torch, *others = (best(row, name) for name in OTHER_LIBRARIES)
    both = [c for c in (tinycv, torch) if c]
    speeds = [standing(record, row, c) for c in both]
    shares = [f"{speed['share']:.0%}" for speed in speeds if "share" in speed]
    memory = [megabytes(c) for c in both if megabytes(c)]
    return [
        f"{row['group'].removeprefix(COMPILED)}, {row['name'].rpartition(', ')[2]}",
        duration(tinycv["median"]) + recommended(row),
        duration(torch["median"]) if torch else "-",
        marked(torch) if torch else "-",
        *(f"{c['ratio']:.2g}" if c else "-" for c in others),
        ", ".join(memory) or "-",
        ", ".join(shares) or "-",
    ]


WAYS = ("not split", "threads", "processes")


def recommended(row: Record) -> str:
    """Which of its ways the contender "tinycv" is, in words: the one that has no contender of its
    own. "" for a record that has no such contenders."""
    names = [c["name"] for c in row["contenders"]]
    left = [way for way in WAYS if f"tinycv, {way}" not in names]
    return f", {left[0]}" if len(left) == 1 else ""


def best(row: Record, library: str) -> Record | None:
    """The fastest contender of a library: PyTorch has one for each of two memory layouts."""
    others = row["contenders"][1:]
    ways = [c for c in others if c["name"].startswith(library) and "median" in c]
    return min(ways, key=lambda c: c["median"], default=None)


# ── benchmarks/README.md: growth with size, and single ops ────────────────────────────────────────


def ops_table(ops: Record, scale: Record) -> str:
    """Markdown: how models grow, and every op beside PyTorch."""
    return "\n".join([*growth(scale), *every_op(ops), *footer(ops, scale)])


def growth(record: Record) -> list[str]:
    """How time and memory grow along each axis of the suite "scale", and the ratio of the times at
    both ends of the axis."""
    head = "along x | time ~ x^k: k of tinycv, PyTorch | memory ~ x^k: k of tinycv, PyTorch"
    head += " | tinycv / PyTorch at the smallest and the largest x"
    lines = []
    all_curves = curves(record)
    for group in dict.fromkeys(curve.group for curve in all_curves):
        both = [c for c in all_curves if c.group == group and c.contender in ("tinycv", "PyTorch")]
        sizes = both[0].sizes
        time = [exponent(curve.sizes, curve.seconds) for curve in both]
        memory = [exponent(list(c.memory), list(c.memory.values())) for c in both]
        ends = "-"
        if len(both) == 2 and both[1].sizes == sizes:
            ends = ", ".join(f"{both[0].seconds[i] / both[1].seconds[i]:.2f}" for i in (0, -1))
        lines.append(
            [f"{group}, {sizes[0]:g} to {sizes[-1]:g}", exponents(time), exponents(memory), ends]
        )
    return [*markdown(head, lines), ""] if lines else []


def exponents(fits: list[float | None]) -> str:
    return ", ".join("-" if k is None else f"{k:.2f}" for k in fits)


def every_op(record: Record) -> list[str]:
    """A line per single op that was compared with PyTorch, and a summary of all of them. Whole
    training steps are in other tables."""
    head = "single op | tinycv | PyTorch | tinycv / PyTorch"
    lines = [
        [
            f"{row['group']}: {row['name']}",
            duration(row["contenders"][0]["median"]),
            duration(c["median"]),
            marked(c),
        ]
        for row, c in beside_pytorch(record)
    ]
    text = [ops_summary(record), ""]
    return [*text, *markdown(head, lines), ""] if lines else text


def beside_pytorch(record: Record) -> list[tuple[Record, Record]]:
    """(row, PyTorch) for every single op that was compared with PyTorch."""
    return [
        (row, c)
        for row, c in compared(record)
        if c["name"] == "PyTorch" and row["group"] != "ViT train step"
    ]


def ops_summary(record: Record) -> str:
    """The geometric mean over all single ops, in one line."""
    return f"Single ops, {summary([c for _, c in beside_pytorch(record)])}"


# ── Shared by all tables ──────────────────────────────────────────────────────────────────────────


def markdown(head: str, lines: list[list[str]]) -> list[str]:
    """A Markdown table. head: the names of the columns, "a | b | c"."""
    text = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return [f"| {head} |", "|" + "---|" * (head.count(" | ") + 1), *text]


def marked(c: Record) -> str:
    """The ratio, in bold if the first contender is slower beyond doubt."""
    return f"**{ratio(c)}**" if c["interval"][0] > 1 else ratio(c)


def summary(entries: list[Record]) -> str:
    """The geometric mean of the ratios, and how many are faster or slower beyond doubt."""
    if not entries:
        return "PyTorch was not measured."
    mean = exp(sum(log(c["ratio"]) for c in entries) / len(entries))
    faster = sum(c["interval"][1] < 1 for c in entries)
    slower = sum(c["interval"][0] > 1 for c in entries)
    return (
        f"tinycv / PyTorch, geometric mean of {len(entries)}: {mean:.2f}. tinycv is faster beyond "
        f"doubt in {faster}, and slower in {slower}."
    )


def footer(*records: Record) -> list[str]:
    """The lines below a table: what was refused, and where it was measured."""
    refused = [
        f"{row['group']}, {row['name']}"
        for record in records
        for row in record["rows"]
        if "refused" in row
    ]
    suites_by_machine: dict[str, list] = {}
    for record in records:
        name = machine(record["environment"])
        suites_by_machine.setdefault(name, []).append(record["suite"])
    where = [f"{', '.join(suites)}: {name}." for name, suites in suites_by_machine.items()]
    text = " ".join(["Medians; 95 % intervals; **bold**: slower beyond doubt.", *where])
    if not refused:
        return [text]
    return [f"Refused, because the contenders disagree: {'; '.join(refused)}.", "", text]
