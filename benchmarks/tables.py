"""A record as CSV, a line for each row and contender, and as Markdown; and what the README shows of
several."""

from __future__ import annotations

import csv
from math import exp, log
from pathlib import Path
from typing import Any

from benchmarks.peaks import bandwidth, compute_peak, standing
from benchmarks.report import APART, compared, duration, machine, megabytes, ratio, verdicts
from benchmarks.statistics import crossings, exponent

COLUMNS = (
    "suite",
    "group",
    "row",
    "contender",
    "of",
    "axis",
    "at",
    "median_s",
    "q1_s",
    "q3_s",
    "n",
    "ratio",
    "ratio_low",
    "ratio_high",
    "memory_bytes",
    "memory_how",
    "flops",
    "bytes",
    "gflops",
    "share",
    "floor_s",
    "times_floor",
    *APART,
    "not_measured",
)


def write_csv(record: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(
            csv_line(record, row, c) for row in record["rows"] for c in row["contenders"]
        )
    return path


def csv_line(record: dict[str, Any], row: dict[str, Any], c: dict[str, Any]) -> dict[str, Any]:
    axis, at = row.get("point") or (None, None)
    line = {
        "suite": record["suite"],
        "group": row["group"],
        "row": row["name"],
        "contender": c["name"],
        "of": row["of"],
        "axis": axis,
        "at": at,
        "flops": row.get("flops"),
        "bytes": row.get("bytes"),
        "not_measured": f"refused: {row['refused']}" if "refused" in row else c.get("missing"),
    }
    if "median" not in c:
        return line
    held = c.get("memory", {})
    return line | {
        "median_s": c["median"],
        "q1_s": c["q1"],
        "q3_s": c["q3"],
        "n": c["n"],
        "ratio": c["ratio"],
        "ratio_low": c["interval"][0],
        "ratio_high": c["interval"][1],
        "memory_bytes": held.get("bytes"),
        "memory_how": held.get("how") or held.get("missing"),
        **standing(record, row, c),
        **{part: c[part] for part in APART if part in c},
    }


def write_markdown(record: dict[str, Any], path: Path, pictures: list[Path]) -> Path:
    quick = (
        ["", "**A quick run: to see that it works. The figures mean nothing.**"]
        if record["quick"]
        else []
    )
    place = record["environment"]
    parts = [
        f"# Benchmark: {record['suite']}",
        *quick,
        "",
        f"{machine(place)}; {place['when']}. "
        f"Load average {place['load']} at the start, {place.get('load_at_end')} at the end.",
        "",
        *markdown_rows(record),
        "",
        *exponents(record),
        *roofs(record),
        "```",
        *verdicts(record)[1:],
        *paying(record),
        "```",
        "",
    ]
    parts += [f"![{picture.stem}]({picture.name})" for picture in pictures]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


def markdown_rows(record: dict[str, Any]) -> list[str]:
    """A column stays away where the record has nothing to put into it."""
    head = (
        "row",
        "contender",
        "median",
        "quartiles",
        "n",
        "first / this [95 %]",
        "peak memory",
        "GFLOP/s",
        "of peak",
        "x floor",
    )
    lines = [
        cells(record, row, i, c) for row in record["rows"] for i, c in enumerate(row["contenders"])
    ]
    used = [i for i in range(len(head)) if any(line[i] for line in lines)]
    return markdown([[text[i] for i in used] for text in (head, *lines)])


def cells(record: dict[str, Any], row: dict[str, Any], i: int, c: dict[str, Any]) -> list[str]:
    label = f"{row['group']}: {row['name']}" if i == 0 else ""
    if "median" not in c:
        why = f"refused: {row['refused']}" if "refused" in row else f"not measured: {c['missing']}"
        return [label, c["name"], why, *[""] * 7]
    made = standing(record, row, c)
    shown = [
        f"{made[name]:{form}}" if name in made else ""
        for name, form in (("gflops", ".3g"), ("share", ".0%"), ("times_floor", ".2f"))
    ]
    return [
        label,
        c["name"],
        duration(c["median"]) + (f" / {row['of']}" if row["of"] != "call" else ""),
        f"{duration(c['q1'])} to {duration(c['q3'])}",
        str(c["n"]),
        ratio(c) if i else "",
        megabytes(c),
        *shown,
    ]


def exponents(record: dict[str, Any]) -> list[str]:
    """How time and memory grow along each curve's axis: k of axis^k."""
    lines = []
    for group, axis, name, xs, ys in curves(record):
        last = exponent_of_last(xs, ys["time"])
        fits = [
            exponent(xs, ys["time"]),
            last,
            exponent(*ys["memory"]) if ys["memory"][0] else None,
        ]
        lines.append([group, axis, name, *("" if fit is None else f"{fit:.2f}" for fit in fits)])
    head = [
        "group",
        "axis",
        "contender",
        "time ~ axis^k, k",
        "k between the last two points",
        "memory: k",
    ]
    return [*markdown([head, *lines]), ""] if lines else []


def paying(record: dict[str, Any]) -> list[str]:
    """From which size on the GPU pays, in words: of every sweep that NumPy and CuPy were both
    measured on."""
    lines, swept = (
        [],
        {(group, name): (axis, xs, ys["time"]) for group, axis, name, xs, ys in curves(record)},
    )
    for group in dict.fromkeys(group for group, _ in swept):
        slow = fastest(
            [
                curve
                for (of, name), curve in swept.items()
                if of == group and name.startswith("NumPy")
            ]
        )
        fast = fastest(
            [curve for (of, name), curve in swept.items() if (of, name) == (group, "CuPy")]
        )
        if sizes := sorted(set(slow) & set(fast)):
            axis, a, b = swept[group, "CuPy"][0], [slow[x] for x in sizes], [fast[x] for x in sizes]
            met = crossings(sizes, a, b)
            pays = (
                "at no size measured"
                if a[-1] < b[-1]
                else f"from {axis} {met[-1][0]:.3g} on"
                if met
                else "at every size"
            )
            lines.append(
                f"{group}: CuPy is faster than NumPy {pays} ({axis} {sizes[0]:g} to {sizes[-1]:g})"
            )
    return lines


def fastest(found: list[tuple]) -> dict[float, float]:
    """{x: the least y} of some curves (axis, xs, ys)."""
    best: dict[float, float] = {}
    for _, xs, ys in found:
        for x, y in zip(xs, ys, strict=True):
            best[x] = min(y, best.get(x, y))
    return best


def exponent_of_last(xs: list[float], ys: list[float]) -> float | None:
    return log(ys[-1] / ys[-2]) / log(xs[-1] / xs[-2]) if len(xs) > 1 else None


def curves(record: dict[str, Any]) -> list[tuple[str, str, str, list[float], dict[str, Any]]]:
    """(group, axis, contender, xs, {"time": ys, "memory": (xs, ys)}) of rows with a point, xs
    ascending."""
    found: dict[tuple, list] = {}
    for row in (row for row in record["rows"] if row.get("point") and "refused" not in row):
        for c in (c for c in row["contenders"] if "median" in c):
            found.setdefault((row["group"], row["point"][0], c["name"]), []).append(
                (row["point"][1], c["median"], c.get("memory", {}).get("bytes"))
            )
    made = []
    for key, points in found.items():
        points.sort(key=lambda point: point[0])
        held = [(x, y) for x, _, y in points if y]
        made.append(
            (
                *key,
                [x for x, _, _ in points],
                {
                    "time": [t for _, t, _ in points],
                    "memory": ([x for x, _ in held], [y for _, y in held]),
                },
            )
        )
    return made


def roofs(record: dict[str, Any]) -> list[str]:
    """The peaks that were measured, and what the floor is."""
    found = record["environment"].get("peaks")
    if not found:
        return []
    lines = [
        [
            f"{p['library']}, {'x'.join(map(str, p['shape']))}",
            str(p["threads"]),
            f"{p['gflops']:.4g} GFLOP/s",
        ]
        for p in found["products"]
        if "gflops" in p
    ]
    lines += [
        [
            f"copy ({c['how']}), {c['bytes'] / 2**20:g} MiB",
            str(c["threads"]),
            f"{c['gbs']:.4g} GB/s",
        ]
        for c in found["copies"]
        if "gbs" in c
    ]
    top, speed = compute_peak(found), bandwidth(found, float("inf"))
    if not (top and speed):
        return [*markdown([["peak", "threads", "measured"], *lines]), ""]
    return [
        *markdown([["peak", "threads", "measured"], *lines]),
        "",
        f"The floor of a row is its operations at {top * 1e-9:.4g} GFLOP/s or its least traffic at "
        f"{speed * 1e-9:.4g} GB/s (that of a cache where all of it fits), whichever takes longer.",
        "",
    ]


def markdown(lines: list[list[str]]) -> list[str]:
    text = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return [text[0], "|" + "---|" * len(lines[0]), *text[1:]]


# ── the README ────────────────────────────────────────────────────────────────────────────────────

STEPS = {"step": "training step", "batch": "inference"}
# how names begin
BESIDE = {"PyTorch": ("PyTorch",), "HIPS autograd": ("HIPS", "autograd"), "MyGrad": ("MyGrad",)}


def models_table(record: dict[str, Any]) -> str:
    """Markdown: every model beside what a user would pick instead."""
    kinds: dict[str, list] = {}
    for row in (row for row in record["rows"] if "refused" not in row):
        kinds.setdefault(kind(row), []).append(row)
    return "\n".join(
        [
            *(line for name, rows in kinds.items() for line in model_table(record, name, rows)),
            *signed(record),
        ]
    )


def ops_table(ops: dict[str, Any], scale: dict[str, Any]) -> str:
    """Markdown: how models grow, and the ops that lose to PyTorch."""
    return "\n".join([*growth(scale), *lost_ops(ops), *signed(ops, scale)])


def signed(*records: dict[str, Any]) -> list[str]:
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
    return [
        *([f"Refused, because the contenders disagree: {'; '.join(refused)}.", ""] * bool(refused)),
        " ".join(["Medians; intervals of 95 %; **bold**: slower beyond doubt.", *where]),
    ]


def kind(row: dict[str, Any]) -> str:
    return ("torch.compile, " if row["group"].startswith("compiled: ") else "") + STEPS[row["of"]]


def model_table(record: dict[str, Any], name: str, rows: list[dict[str, Any]]) -> list[str]:
    """A line a model, without columns that nothing was measured for, and what they come to."""
    head = [
        name,
        "tinycv",
        "PyTorch",
        "tinycv / PyTorch",
        "/ HIPS autograd",
        "/ MyGrad",
        "memory, both",
        "of peak, both",
    ]
    lines = [model_cells(record, row) for row in rows]
    used = [i for i in range(len(head)) if any(line[i] != "-" for line in lines)]
    found = [c for row in rows if (c := best(row, "PyTorch"))]
    why = "; ".join(
        dict.fromkeys(c["missing"] for row in rows for c in row["contenders"] if "missing" in c)
    )
    return [
        *markdown([[line[i] for i in used] for line in (head, *lines)]),
        "",
        summary(found) + (f" A dash: {why}." if why else ""),
        "",
    ]


def model_cells(record: dict[str, Any], row: dict[str, Any]) -> list[str]:
    ours, torch, *others = row["contenders"][0], *(best(row, name) for name in BESIDE)
    both = [c for c in (ours, torch) if c]
    shares = [f"{made['share']:.0%}" for c in both if "share" in (made := standing(record, row, c))]
    held = [megabytes(c) for c in both if megabytes(c)]
    return [
        f"{row['group'].removeprefix('compiled: ')}, {row['name'].rpartition(', ')[2]}",
        duration(ours["median"]),
        duration(torch["median"]) if torch else "-",
        marked(torch) if torch else "-",
        *(f"{c['ratio']:.2g}" if c else "-" for c in others),
        ", ".join(held) or "-",
        ", ".join(shares) or "-",
    ]


def best(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The fastest way of a library: PyTorch has two layouts of memory."""
    ways = [
        c for c in row["contenders"][1:] if c["name"].startswith(BESIDE[name]) and "median" in c
    ]
    return min(ways, key=lambda c: c["median"], default=None)


def marked(c: dict[str, Any]) -> str:
    return f"**{ratio(c)}**" if c["interval"][0] > 1 else ratio(c)


def summary(found: list[dict[str, Any]]) -> str:
    if not found:
        return "PyTorch was not measured."
    mean = exp(sum(log(c["ratio"]) for c in found) / len(found))
    faster, slower = (
        sum(sure)
        for sure in ([c["interval"][1] < 1 for c in found], [c["interval"][0] > 1 for c in found])
    )
    return (
        f"tinycv / PyTorch, geometric mean of {len(found)}: {mean:.2f}. Beyond doubt, {faster} are "
        f"faster and {slower} slower."
    )


def growth(record: dict[str, Any]) -> list[str]:
    """How both grow along each axis of the suite "scale", and what their ratio is at its ends."""
    groups: dict[str, dict[str, tuple]] = {}
    for group, _, name, xs, ys in curves(record):
        groups.setdefault(group, {})[name] = xs, ys
    lines = []
    for group, found in groups.items():
        two = [found[name] for name in ("tinycv", "PyTorch") if name in found]
        xs, ys = two[0]
        fits = [
            [exponent(xs, ys["time"]) for xs, ys in two],
            [exponent(*ys["memory"]) for _, ys in two],
        ]
        ends = (
            [f"{ys['time'][i] / two[1][1]['time'][i]:.2f}" for i in (0, -1)]
            if len(two) == 2 and two[1][0] == xs
            else []
        )
        lines.append(
            [
                f"{group}, {xs[0]:g} to {xs[-1]:g}",
                *(", ".join("-" if k is None else f"{k:.2f}" for k in ks) for ks in fits),
                ", ".join(ends) or "-",
            ]
        )
    head = [
        "along x",
        "time ~ x^k: k of tinycv, PyTorch",
        "memory ~ x^k: k of both",
        "tinycv / PyTorch at both ends",
    ]
    return [*markdown([head, *lines]), ""] if lines else []


def lost_ops(record: dict[str, Any]) -> list[str]:
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
    head = ["single ops that lose", "tinycv", "PyTorch", "tinycv / PyTorch"]
    return [
        f"Single ops, {summary([c for _, c in beside])}",
        "",
        *([*markdown([head, *lines]), ""] if lines else []),
    ]
