"""What the pages show of the records of the suites: Markdown tables, and the curves behind them.

README.md has ``models_table``, benchmarks/README.md has ``ops_table``; demos/readme.py writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log
from typing import Any

from benchmarks.peaks import standing
from benchmarks.report import compared, duration, machine, megabytes, ratio
from benchmarks.statistics import crossings, exponent

Record = dict[str, Any]

# ── curves: the rows of a group that differ in size alone ─────────────────────────────────────────

# how the groups of whole models over the batch end, in the suite "backends"
STEP = " training step"
NUMPY = ("NumPy", "NumPy, a shard a core")


@dataclass
class Curve:
    """One contender over the sizes of a group, which ascend. memory: bytes by size, where known."""

    group: str
    axis: str
    contender: str
    sizes: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: dict[float, float] = field(default_factory=dict)


def curves(record: Record) -> list[Curve]:
    """Every curve of a record, of the rows that have a ``point``."""
    rows = [row for row in record["rows"] if row.get("point") and "refused" not in row]
    found: dict[tuple[str, str], Curve] = {}
    for row in sorted(rows, key=lambda row: row["point"][1]):
        axis, size = row["point"]
        for c in row["contenders"]:
            if "median" not in c:
                continue
            key = row["group"], c["name"]
            curve = found.setdefault(key, Curve(row["group"], axis, c["name"]))
            curve.sizes.append(size)
            curve.seconds.append(c["median"])
            if held := c.get("memory", {}).get("bytes"):
                curve.memory[size] = held
    order = list(dict.fromkeys(row["group"] for row in rows))
    return sorted(found.values(), key=lambda curve: order.index(curve.group))


def fastest(drawn: list[Curve], names: tuple[str, ...]) -> dict[float, float]:
    """{size: seconds} of the fastest of these contenders."""
    best: dict[float, float] = {}
    for curve in drawn:
        if curve.contender in names:
            for size, seconds in zip(curve.sizes, curve.seconds, strict=True):
                best[size] = min(seconds, best.get(size, seconds))
    return best


def pays(axis: str, slow: dict[float, float], fast: dict[float, float]) -> str:
    """From which size on ``fast`` is the faster one, in words."""
    sizes = sorted(set(slow) & set(fast))
    a, b = [slow[x] for x in sizes], [fast[x] for x in sizes]
    if a[-1] < b[-1]:
        return f"at no {axis} measured"
    met = crossings(sizes, a, b)
    return f"from {axis} {met[-1]:.2g} on" if met else f"at every {axis}"


def paying(record: Record) -> list[str]:
    """From which size on a GPU pays: one line per sweep that NumPy and CuPy were measured on."""
    lines, found = [], curves(record)
    for group in dict.fromkeys(curve.group for curve in found):
        drawn = [curve for curve in found if curve.group == group]
        slow, fast = fastest(drawn, NUMPY), fastest(drawn, ("CuPy",))
        if sizes := sorted(set(slow) & set(fast)):
            axis = drawn[0].axis
            lines.append(
                f"{group}: CuPy is faster than NumPy {pays(axis, slow, fast)} "
                f"({axis} {sizes[0]:g} to {sizes[-1]:g})"
            )
    return lines


# ── README.md: every model beside what a user would pick instead ──────────────────────────────────

KINDS = {"step": "training step", "batch": "inference"}
# how the names of other libraries' contenders begin
BESIDE = ("PyTorch", "HIPS autograd", "MyGrad")
COMPILED = "compiled: "


def models_table(record: Record) -> str:
    """Markdown: one table each for training, inference, and what torch.compile was measured on."""
    kinds: dict[str, list] = {}
    for row in record["rows"]:
        if "refused" not in row:
            compiler = "torch.compile, " if row["group"].startswith(COMPILED) else ""
            kinds.setdefault(compiler + KINDS[row["of"]], []).append(row)
    tables = [line for kind, rows in kinds.items() for line in model_table(record, kind, rows)]
    return "\n".join([*tables, *signed(record)])


def model_table(record: Record, kind: str, rows: list[Record]) -> list[str]:
    """One line per model, without columns that nothing was measured for; and their mean."""
    head = [kind, "tinycv", "PyTorch", "tinycv / PyTorch", "/ HIPS autograd", "/ MyGrad"]
    head += ["memory, both", "of peak, both"]
    lines = [model_cells(record, row) for row in rows]
    used = [i for i in range(len(head)) if any(line[i] != "-" for line in lines)]
    contenders = [c for row in rows for c in row["contenders"]]
    why = "; ".join(dict.fromkeys(c["missing"] for c in contenders if "missing" in c))
    said = summary([c for row in rows if (c := best(row, "PyTorch"))])
    return [
        *markdown(" | ".join(head[i] for i in used), [[line[i] for i in used] for line in lines]),
        "",
        said + (f" A dash: {why}." if why else ""),
        "",
    ]


def model_cells(record: Record, row: Record) -> list[str]:
    ours = row["contenders"][0]
    torch, *others = (best(row, name) for name in BESIDE)
    both = [c for c in (ours, torch) if c]
    shares = [f"{made['share']:.0%}" for c in both if "share" in (made := standing(record, row, c))]
    held = [megabytes(c) for c in both if megabytes(c)]
    return [
        f"{row['group'].removeprefix(COMPILED)}, {row['name'].rpartition(', ')[2]}",
        duration(ours["median"]),
        duration(torch["median"]) if torch else "-",
        marked(torch) if torch else "-",
        *(f"{c['ratio']:.2g}" if c else "-" for c in others),
        ", ".join(held) or "-",
        ", ".join(shares) or "-",
    ]


def best(row: Record, library: str) -> Record | None:
    """The fastest way of a library: PyTorch has two layouts of memory."""
    others = row["contenders"][1:]
    ways = [c for c in others if c["name"].startswith(library) and "median" in c]
    return min(ways, key=lambda c: c["median"], default=None)


# ── benchmarks/README.md: growth with size, and the ops that lose ─────────────────────────────────


def ops_table(ops: Record, scale: Record) -> str:
    """Markdown: how models grow, and the ops that lose to PyTorch."""
    return "\n".join([*growth(scale), *lost_ops(ops), *signed(ops, scale)])


def growth(record: Record) -> list[str]:
    """How both grow along each axis of the suite "scale", and what their ratio is at its ends."""
    head = "along x | time ~ x^k: k of tinycv, PyTorch | memory ~ x^k: k of both"
    head += " | tinycv / PyTorch at both ends"
    lines, found = [], curves(record)
    for group in dict.fromkeys(curve.group for curve in found):
        both = [c for c in found if c.group == group and c.contender in ("tinycv", "PyTorch")]
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


def lost_ops(record: Record) -> list[str]:
    head = "single ops that lose | tinycv | PyTorch | tinycv / PyTorch"
    beside = [(row, c) for row, c in compared(record) if c["name"] == "PyTorch"]
    lines = [
        [
            f"{row['group']}: {row['name']}",
            duration(row["contenders"][0]["median"]),
            duration(c["median"]),
            ratio(c),
        ]
        for row, c in beside
        if c["interval"][0] > 1
    ]
    said = [f"Single ops, {summary([c for _, c in beside])}", ""]
    return [*said, *markdown(head, lines), ""] if lines else said


# ── what tables share ─────────────────────────────────────────────────────────────────────────────


def markdown(head: str, lines: list[list[str]]) -> list[str]:
    """head: the names of the columns, "a | b | c"."""
    text = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return [f"| {head} |", "|" + "---|" * (head.count(" | ") + 1), *text]


def marked(c: Record) -> str:
    return f"**{ratio(c)}**" if c["interval"][0] > 1 else ratio(c)


def summary(found: list[Record]) -> str:
    if not found:
        return "PyTorch was not measured."
    mean = exp(sum(log(c["ratio"]) for c in found) / len(found))
    faster = sum(c["interval"][1] < 1 for c in found)
    slower = sum(c["interval"][0] > 1 for c in found)
    return (
        f"tinycv / PyTorch, geometric mean of {len(found)}: {mean:.2f}. Beyond doubt, {faster} are "
        f"faster and {slower} slower."
    )


def signed(*records: Record) -> list[str]:
    """What was refused, and where it was measured."""
    refused = [
        f"{row['group']}, {row['name']}"
        for record in records
        for row in record["rows"]
        if "refused" in row
    ]
    places: dict[str, list] = {}
    for record in records:
        places.setdefault(machine(record["environment"]), []).append(record["suite"])
    where = [f"{', '.join(suites)}: {place}." for place, suites in places.items()]
    said = " ".join(["Medians; intervals of 95 %; **bold**: slower beyond doubt.", *where])
    if not refused:
        return [said]
    return [f"Refused, because the contenders disagree: {'; '.join(refused)}.", "", said]
