"""What the pages show of sessions on a GPU: steps beside PyTorch's, from which size on a GPU pays,
and kernels.

A record is what ``python -m benchmarks session`` writes. README.md has ``gpu_table``, and
benchmarks/README.md has ``kernels_table``.
"""

from __future__ import annotations

from math import prod

from benchmarks.peaks import standing
from benchmarks.report import duration, machine, ratio
from benchmarks.tables import NUMPY, STEP, Record, curves, fastest, markdown, marked, pays


def gpu_table(records: list[Record]) -> str:
    """Markdown: the last session's steps beside PyTorch's, what the first one found, and from which
    batch on a GPU pays. The records are in the order of the sessions."""
    first, last = records[0], records[-1]
    return "\n".join(
        [*steps(first, last), "", *products(last), "", *sizes(last), "", signed(records)]
    )


def steps_of(record: Record, group: str) -> dict[str, list[Record]]:
    """The contenders of each measured step of a group, by the row's name."""
    return {
        row["name"]: row["contenders"]
        for row in record["rows"]
        if row["group"] == group and row["of"] == "step" and "refused" not in row
    }


def steps(first: Record, last: Record) -> list[str]:
    head = "training step, float32 | PyTorch eager | tinycv | tinycv / PyTorch | tinycv.captured"
    head += " | captured / PyTorch | tinycv / PyTorch in the first session"
    head += " | memory: tinycv uncaptured, PyTorch"
    captured, before = steps_of(last, "reference, captured"), steps_of(first, "reference")
    lines = []
    for name, (ours, torch) in steps_of(last, "reference").items():
        line = [name, duration(torch["median"]), duration(ours["median"]), marked(torch)]
        line += ["-", "-"]
        if name in captured:
            line[-2:] = duration(captured[name][0]["median"]), marked(captured[name][1])
        line.append(f"{before[name][1]['ratio']:.2f}" if name in before else "-")
        lines.append([*line, f"{gigabytes(ours)}, {gigabytes(torch)}"])
    names = [line[0] for line in lines]
    means = [
        geometric_mean([group[name][1]["ratio"] for name in names if name in group])
        for group in (steps_of(last, "reference"), captured, before)
    ]
    return markdown(head, [*lines, ["geometric mean", "", "", means[0], "", *means[1:], ""]])


def geometric_mean(ratios: list[float]) -> str:
    return f"{prod(ratios) ** (1 / len(ratios)):.2f}" if ratios else "-"


def gigabytes(contender: Record) -> str:
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
    for name, (ours, torch) in steps_of(record, "reference, float16").items():
        said.append(
            f"{name}, in float16: {duration(ours['median'])}, PyTorch's autocast "
            f"{duration(torch['median'])}, {ratio(torch)}."
        )
    return [" ".join(said)]


def sizes(record: Record) -> list[str]:
    """Steps of models over batches: NumPy on all cores, CuPy, and captured; and where they
    cross."""
    found, lines, batches = curves(record), [], []
    for group in dict.fromkeys(curve.group for curve in found if curve.group.endswith(STEP)):
        drawn = [curve for curve in found if curve.group == group]
        numpy = fastest(drawn, NUMPY)
        cupy, captured = fastest(drawn, ("CuPy",)), fastest(drawn, ("CuPy, captured",))
        batches = sorted(numpy)
        line = [group.removesuffix(STEP)]
        for times in (numpy, cupy, captured):
            line.append(", ".join(duration(times[x]) for x in batches if x in times))
        line += [pays("batch", numpy, cupy), pays("batch", numpy, captured)]
        lines.append(line)
    head = f"training step, batch {', '.join(f'{x:g}' for x in batches)} | NumPy | CuPy"
    head += " | CuPy, captured | CuPy is faster than NumPy | captured is faster"
    return markdown(head, lines)


def signed(records: list[Record]) -> str:
    """Where and when, and that the tests on the GPU passed."""
    last = records[-1]
    passed = "FAILED" if last["parts"]["tests"]["failed"] else "passed"
    return (
        "Medians, each library in a process of its own, taking turns; intervals of 95 %; "
        f"**bold**: slower beyond doubt. TF32 off. tests/card {passed} in the session. "
        f"{len(records)} sessions, the last one: "
        f"{machine(last['environment'])}; {last['environment']['when'][:10]}."
    )


# ── benchmarks/README.md: kernels, and convolution's two ways ─────────────────────────────────────


def kernels_table(record: Record, tiles: Record) -> str:
    """Markdown: every CUDA kernel beside the array calls that it replaces and PyTorch; and
    convolution's two ways."""
    return "\n".join(
        [
            *kernels(record),
            "",
            f"First session: {machine(record['environment'])}.",
            "",
            *convolutions(tiles),
            "",
            f"{tiles['gpu']}, {tiles['when']}; means of ten calls.",
        ]
    )


def kernels(record: Record) -> list[str]:
    head = "kernel, there and back | CUDA kernel | array calls | kernel / array calls"
    head += " | PyTorch | kernel / PyTorch"
    lines = []
    for row in record["rows"]:
        names = [c["name"] for c in row["contenders"]]
        if names[:2] == ["CUDA kernel", "array calls"] and "refused" not in row:
            ours, calls, torch = row["contenders"]
            line = [f"{row['group']}, {row['name']}", duration(ours["median"])]
            for other in (calls, torch):
                line += [duration(other["median"]), ratio(other)]
            lines.append(line)
    return markdown(head, lines)


def convolutions(tiles: Record) -> list[str]:
    """One line per shape, one column per map; tiles.py wrote one row for each of both."""
    maps = ["forward", "to_input", "to_weight"]
    head = "convolution, float32 | window | "
    head += " | ".join(f"{name}: columns, tiles" for name in maps)
    shapes: dict[tuple[str, str], dict[str, str]] = {}
    for row in tiles["rows"]:
        images = f"{row['images']} images of {row['side']} x {row['side']}"
        shape = (
            f"{images}, {row['channels']} to {row['outputs']}",
            f"{row['window']} x {row['window']}, stride {row['stride']}",
        )
        shapes.setdefault(shape, {})[row["map"]] = (
            f"{row['columns_ms']:.3g}, {row['tiles_ms']:.3g} ms, {row['tiles_tflops']:.0f} TFLOP/s"
        )
    lines = [[*shape, *(found.get(name, "-") for name in maps)] for shape, found in shapes.items()]
    return markdown(head, lines)
