"""What the READMEs show of sessions on a GPU: steps beside PyTorch's, from which size on a GPU
pays, kernels.

A session's record is what ``python -m benchmarks session`` writes; several are shown in the order
in which they were taken.
"""

from __future__ import annotations

from math import prod
from typing import Any

from benchmarks.peaks import standing
from benchmarks.report import duration, machine, ratio
from benchmarks.statistics import crossings
from benchmarks.tables import curves, fastest, markdown, marked

Record = dict[str, Any]


def gpu_table(records: list[Record]) -> str:
    """Markdown: the last session's steps beside PyTorch's, what the first one found, and from which
    batch on a GPU pays."""
    first, last = records[0], records[-1]
    return "\n".join(
        [*steps(first, last), "", *products(last), "", *sizes(last), "", signed(records)]
    )


def rows_of(record: Record, group: str) -> dict[str, dict]:
    """The measured rows of a group that are steps, by name."""
    return {
        row["name"]: row
        for row in record["rows"]
        if row["group"] == group and row["of"] == "step" and "refused" not in row
    }


def steps(first: Record, last: Record) -> list[str]:
    eager, recorded, before = (
        rows_of(last, "reference"),
        rows_of(last, "reference, captured"),
        rows_of(first, "reference"),
    )
    head = [
        "training step, float32",
        "PyTorch eager",
        "tinycv",
        "tinycv / PyTorch",
        "tinycv.captured",
        "captured / PyTorch",
        "tinycv / PyTorch in the first session",
        "memory: tinycv uncaptured, PyTorch",
    ]
    lines, ratios = [], {"tinycv": [], "captured": [], "first": []}
    for name, row in eager.items():
        ours, torch = row["contenders"]
        other = recorded.get(name, {}).get("contenders")
        old = before.get(name, {}).get("contenders")
        ratios["tinycv"].append(torch["ratio"])
        ratios["captured"] += [other[1]["ratio"]] if other else []
        ratios["first"] += [old[1]["ratio"]] if old else []
        lines.append(
            [
                name,
                duration(torch["median"]),
                duration(ours["median"]),
                marked(torch),
                duration(other[0]["median"]) if other else "-",
                marked(other[1]) if other else "-",
                f"{old[1]['ratio']:.2f}" if old else "-",
                f"{gigabytes(ours)}, {gigabytes(torch)}",
            ]
        )
    means = {name: prod(found) ** (1 / len(found)) for name, found in ratios.items() if found}
    lines.append(
        [
            "geometric mean",
            "",
            "",
            f"{means['tinycv']:.2f}",
            "",
            f"{means['captured']:.2f}" if "captured" in means else "-",
            f"{means['first']:.2f}" if "first" in means else "-",
            "",
        ]
    )
    return markdown([head, *lines])


def gigabytes(contender: dict[str, Any]) -> str:
    """What its pool held."""
    return f"{contender['memory']['bytes'] / 1e9:.2g} GB"


def products(record: Record) -> list[str]:
    """The products of a ViT-Base block beside the chip's peak; and steps in float16."""
    said = []
    for row in record["rows"]:
        if row["group"] == "reference" and row["of"] == "call" and "refused" not in row:
            ours, torch = (standing(record, row, c)["share"] for c in row["contenders"])
            said.append(
                f"The {row['name']}: {ours:.0%} of the chip's measured peak in float32, PyTorch's "
                f"{torch:.0%}."
            )
    for name, row in rows_of(record, "reference, float16").items():
        ours, torch = row["contenders"]
        said.append(
            f"{name}, in float16: {duration(ours['median'])}, PyTorch's autocast "
            f"{duration(torch['median'])}, {ratio(torch)}."
        )
    return [" ".join(said)]


def sizes(record: Record) -> list[str]:
    """Steps of models over batches: NumPy on all cores, CuPy, and captured; and where they
    cross."""
    swept: dict[str, dict[str, dict[float, float]]] = {}
    for group, _, name, xs, ys in curves(record):
        if group.endswith(" training step"):
            swept.setdefault(group.removesuffix(" training step"), {})[name] = dict(
                zip(xs, ys["time"], strict=True)
            )
    lines = []
    for group, found in swept.items():
        slow = fastest(
            [
                ("", list(c), list(c.values()))
                for name, c in found.items()
                if name.startswith("NumPy")
            ]
        )
        xs = sorted(slow)
        cells = [
            ", ".join(duration(curve[x]) for x in xs if x in curve)
            for curve in (slow, found["CuPy"], found["CuPy, captured"])
        ]
        lines.append(
            [group, *cells, pays(slow, found["CuPy"]), pays(slow, found["CuPy, captured"])]
        )
    head = [
        f"training step, batch {', '.join(f'{x:g}' for x in xs)}",
        "NumPy",
        "CuPy",
        "CuPy, captured",
        "CuPy is faster than NumPy",
        "captured is faster",
    ]
    return markdown([head, *lines])


def pays(slow: dict[float, float], fast: dict[float, float]) -> str:
    """From which size on the second is faster."""
    xs = sorted(set(slow) & set(fast))
    a, b = [slow[x] for x in xs], [fast[x] for x in xs]
    met = crossings(xs, a, b)
    return (
        "at no batch measured"
        if a[-1] < b[-1]
        else f"from batch {met[-1][0]:.2g} on"
        if met
        else "at every batch"
    )


def kernels_table(record: Record, tiles: Record) -> str:
    """Markdown: every CUDA kernel beside the array calls that it replaces and PyTorch; and
    convolution's two ways."""
    head = [
        "kernel, there and back",
        "CUDA kernel",
        "array calls",
        "kernel / array calls",
        "PyTorch",
        "kernel / PyTorch",
    ]
    lines = []
    for row in record["rows"]:
        names = [c["name"] for c in row["contenders"]]
        if names[:2] == ["CUDA kernel", "array calls"] and "refused" not in row:
            ours, calls, torch = row["contenders"]
            times = [duration(c["median"]) for c in (ours, calls, torch)]
            lines.append(
                [f"{row['group']}, {row['name']}", *times[:2], ratio(calls), times[2], ratio(torch)]
            )
    maps: dict[tuple, dict[str, str]] = {}
    for row in tiles["rows"]:
        shape = (
            f"{row['images']} images of {row['side']} x {row['side']}, {row['channels']} to "
            f"{row['outputs']}",
            (f"{row['window']} x {row['window']}, stride {row['stride']}"),
        )
        maps.setdefault(shape, {})[row["map"]] = (
            f"{row['columns_ms']:.3g}, {row['tiles_ms']:.3g} ms, {row['tiles_tflops']:.0f} TFLOP/s"
        )
    ways = ["forward", "to_input", "to_weight"]
    others = [[*shape, *(found.get(way, "-") for way in ways)] for shape, found in maps.items()]
    columns = ["convolution, float32", "window", *(f"{way}: columns, tiles" for way in ways)]
    return "\n".join(
        [
            *markdown([head, *lines]),
            "",
            f"First session: {machine(record['environment'])}.",
            "",
            *markdown([columns, *others]),
            "",
            f"{tiles['gpu']}, {tiles['when']}; means of ten calls.",
        ]
    )


def signed(records: list[Record]) -> str:
    """Where and when, and that the tests on the GPU passed."""
    last = records[-1]
    tests = last["parts"]["tests"]
    passed = "passed" if not tests["failed"] else "FAILED"
    place, sizes = last["environment"], f"{len(records)} sessions, the last one"
    return (
        "Medians, each library in a process of its own, taking turns; intervals of 95 %; "
        f"**bold**: slower beyond doubt. TF32 off. tests/card {passed} in the session. {sizes}: "
        f"{machine(place)}; {place['when'][:10]}."
    )
