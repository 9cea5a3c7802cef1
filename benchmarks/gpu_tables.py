"""Markdown tables of GPU sessions: training steps against PyTorch, NumPy against CuPy, and CUDA
kernels.

A record is what ``python -m benchmarks session`` writes. README.md shows ``gpu_table``, and
benchmarks/README.md shows ``kernels_table``.
"""

from __future__ import annotations

from math import prod

from benchmarks.peaks import standing
from benchmarks.report import duration, machine, ratio
from benchmarks.tables import NUMPY, STEP, Record, curves, faster_from, fastest, markdown, marked


def gpu_table(records: list[Record]) -> str:
    """Markdown: the training steps of the last session, with the ratios of the first session; and
    from which batch size on a GPU is faster. records: in the order of the sessions."""
    first, last = records[0], records[-1]
    return "\n".join(
        [*steps(first, last), "", *products(last), "", *sizes(last), "", footer(records)]
    )


def steps_of(record: Record, group: str) -> dict[str, list[Record]]:
    """{name of the row: its contenders}, for the training steps of a group that were measured."""
    return {
        row["name"]: row["contenders"]
        for row in record["rows"]
        if row["group"] == group and row["of"] == "step" and "refused" not in row
    }


def steps(first: Record, last: Record) -> list[str]:
    head = "training step, float32 | PyTorch eager | tinycv | tinycv / PyTorch | tinycv.captured"
    head += " | captured / PyTorch | tinycv / PyTorch in the first session"
    head += " | peak memory: tinycv (not captured), PyTorch"
    captured, before = steps_of(last, "reference, captured"), steps_of(first, "reference")
    lines = []
    for name, (tinycv, torch) in steps_of(last, "reference").items():
        line = [name, duration(torch["median"]), duration(tinycv["median"]), marked(torch)]
        line += ["-", "-"]
        if name in captured:
            line[-2:] = duration(captured[name][0]["median"]), marked(captured[name][1])
        line.append(f"{before[name][1]['ratio']:.2f}" if name in before else "-")
        lines.append([*line, f"{gigabytes(tinycv)}, {gigabytes(torch)}"])
    names = [line[0] for line in lines]
    means = [
        geometric_mean([group[name][1]["ratio"] for name in names if name in group])
        for group in (steps_of(last, "reference"), captured, before)
    ]
    return markdown(head, [*lines, ["geometric mean", "", "", means[0], "", *means[1:], ""]])


def geometric_mean(ratios: list[float]) -> str:
    return f"{prod(ratios) ** (1 / len(ratios)):.2f}" if ratios else "-"


def gigabytes(contender: Record) -> str:
    """The memory that the contender's pool held."""
    return f"{contender['memory']['bytes'] / 1e9:.2g} GB"


def products(record: Record) -> list[str]:
    """The matrix products of a ViT-Base block, compared with the chip's peak; steps in float16."""
    sentences = []
    for row in record["rows"]:
        if row["group"] == "reference" and row["of"] == "call" and "refused" not in row:
            tinycv, torch = (standing(record, row, c)["share"] for c in row["contenders"])
            sentences.append(
                f"The {row['name']}: tinycv reaches {tinycv:.0%} of the chip's measured peak in "
                f"float32, PyTorch {torch:.0%}."
            )
    for name, (tinycv, torch) in steps_of(record, "reference, float16").items():
        sentences.append(
            f"{name} in float16: tinycv {duration(tinycv['median'])}, PyTorch's autocast "
            f"{duration(torch['median'])}, ratio {ratio(torch)}."
        )
    return [" ".join(sentences)]


def sizes(record: Record) -> list[str]:
    """Training steps at several batch sizes, on NumPy with all cores, on CuPy, and captured; and
    from which batch size on the GPU is faster."""
    lines, batches = [], []
    all_curves = curves(record)
    for group in dict.fromkeys(curve.group for curve in all_curves if curve.group.endswith(STEP)):
        of_group = [curve for curve in all_curves if curve.group == group]
        numpy = fastest(of_group, NUMPY)
        cupy, captured = fastest(of_group, ("CuPy",)), fastest(of_group, ("CuPy, captured",))
        batches = sorted(numpy)
        line = [group.removesuffix(STEP)]
        for times in (numpy, cupy, captured):
            line.append(", ".join(duration(times[x]) for x in batches if x in times))
        line += [faster_from("batch", numpy, cupy), faster_from("batch", numpy, captured)]
        lines.append(line)
    head = f"training step, batch {', '.join(f'{x:g}' for x in batches)} | NumPy | CuPy"
    head += " | CuPy, captured | CuPy is faster than NumPy | captured is faster than NumPy"
    return markdown(head, lines)


def footer(records: list[Record]) -> str:
    """The line below the tables: where and when, and whether the tests on the GPU passed."""
    last = records[-1]
    passed = "FAILED" if last["parts"]["tests"]["failed"] else "passed"
    return (
        "Medians; each library in its own process, taking turns; 95 % intervals; "
        f"**bold**: slower beyond doubt. TF32 off. tests/card {passed} in the session. "
        f"{len(records)} sessions, the last one: "
        f"{machine(last['environment'])}; {last['environment']['when'][:10]}."
    )


# ── benchmarks/README.md: CUDA kernels, and two implementations of convolution ────────────────────


def kernels_table(record: Record, tiles: Record) -> str:
    """Markdown: every CUDA kernel against the array calls that it replaces and against PyTorch; and
    convolution by columns and by tiles."""
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
    head = "kernel, forward and backward | CUDA kernel | array calls | kernel / array calls"
    head += " | PyTorch | kernel / PyTorch"
    lines = []
    for row in record["rows"]:
        names = [c["name"] for c in row["contenders"]]
        if names[:2] == ["CUDA kernel", "array calls"] and "refused" not in row:
            tinycv, calls, torch = row["contenders"]
            line = [f"{row['group']}, {row['name']}", duration(tinycv["median"])]
            for other in (calls, torch):
                line += [duration(other["median"]), ratio(other)]
            lines.append(line)
    return markdown(head, lines)


def convolutions(tiles: Record) -> list[str]:
    """One line per shape, one column per map. In the record of tiles.py, each shape and map has a
    row."""
    maps = {"forward": "forward", "to_input": "gradient of x", "to_weight": "gradient of weight"}
    head = "convolution, float32 | window | "
    head += " | ".join(f"{title}: columns, tiles" for title in maps.values())
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
    lines = [[*shape, *(cells.get(name, "-") for name in maps)] for shape, cells in shapes.items()]
    return markdown(head, lines)
