"""The figures in words: an ASCII table as they come, what lost, and the README's tables."""

from __future__ import annotations

import math
import statistics
from typing import Any

WIDTHS = (52, 22, 11, 12, 12, 5)


def head(record: dict[str, Any]) -> list[str]:
    """Where this was measured, and the names of the columns."""
    return [f"{machine(record['environment'])}; load average {record['environment']['load']}",
            "ratio: the first contender's median over this one's, below 1 where the first is faster; "
            "[95 % interval, bootstrap over rounds]", "",
            line("row", "contender", "median", "quartile 1", "quartile 3", "n") + "  ratio"]


def row_lines(row: dict[str, Any]) -> list[str]:
    name = f"{row['group']}: {row['name']}"
    if "refused" in row:
        return [line(name) + f"REFUSED: {row['refused']}"]
    lines = []
    for i, c in enumerate(row["contenders"]):
        label = name if i == 0 else ""
        if "missing" in c:
            lines.append(line(label, c["name"]) + f"  not measured: {c['missing']}")
            continue
        times = [duration(c[key]) for key in ("median", "q1", "q3")]
        per = f"  per {row['of']}" if row["of"] != "call" else ""
        held = f"  peak {megabytes(c)}" if megabytes(c) else ""
        lines.append(line(label, c["name"], *times, str(c["n"])) + (per if i == 0 else "  " + ratio(c)) + held)
    return lines


def verdicts(record: dict[str, Any]) -> list[str]:
    """Where the first contender is slower, and the interval leaves no doubt; and what was refused."""
    lost = [f"  {row['group']}: {row['name']}: {row['contenders'][0]['name']} against {c['name']}: {ratio(c)}"
            for row, c in compared(record) if c["interval"][0] > 1]
    refused = [f"  {row['group']}: {row['name']}" for row in record["rows"] if "refused" in row]
    return ["", f"slower ({len(lost)} of {len(compared(record))} comparisons):", *lost,
            *([f"refused ({len(refused)}):", *refused] if refused else [])]


def compared(record: dict[str, Any]) -> list[tuple[dict, dict]]:
    """(row, contender) for every measured contender but the first of its row."""
    return [(row, c) for row in record["rows"] if "refused" not in row for c in row["contenders"][1:] if "ratio" in c]


def readme_table(record: dict[str, Any]) -> str:
    """Markdown: what a user would pick instead (PyTorch), and the whole training step."""
    lines = [f"| {row['group']}: {row['name']} | {duration(row['contenders'][0]['median'])} | {c['name']} "
             f"| {duration(c['median'])} | {ratio(c)} |" for row, c in compared(record)
             if c["name"] == "PyTorch" or row["group"] == "ViT train step"]
    return "\n".join(["| forward and backward | tinycv | beside | takes | tinycv / beside [95 %] |", "|---|---|---|---|---|",
                      *lines, "", f"Medians. {machine(record['environment'])}."])


def readme_tables(models: dict[str, Any], ops: dict[str, Any]) -> str:
    """Markdown for the README: every model beside what a user would pick instead, then the ops that lose to PyTorch."""
    rows = [model_line(row) for row in models["rows"] if "refused" not in row]
    beside = [(row, c) for row, c in compared(ops) if c["name"].startswith("PyTorch")]
    lost = [f"| {row['group']}: {row['name']} | {duration(row['contenders'][0]['median'])} | {duration(c['median'])} "
            f"| {ratio(c)} |" for row, c in beside if c["interval"][0] > 1]
    parts = ["| model | tinycv | PyTorch | tinycv / PyTorch [95 %] | / HIPS autograd | / MyGrad "
             "| memory: tinycv, PyTorch |",
             "|---|---|---|---|---|---|---|", *rows, "",
             f"Medians; below 1 tinycv is faster; the fastest of PyTorch's settings. {machine(models['environment'])}.", "",
             f"Geometric mean of tinycv / PyTorch over the training steps: {mean_ratio(models):.2f}.", "",
             f"Of {len(beside)} comparisons of single ops with PyTorch, {len(lost)} are lost beyond doubt:"]
    table = ["", "| forward and backward | tinycv | PyTorch | tinycv / PyTorch [95 %] |", "|---|---|---|---|", *lost]
    return "\n".join(parts + (table if lost else []))


def best_of(row: dict[str, Any], starts: str | tuple[str, ...]) -> dict[str, Any] | None:
    """The fastest contender whose name begins so."""
    measured = [c for c in row["contenders"][1:] if c["name"].startswith(starts) and "median" in c]
    return min(measured, key=lambda c: c["median"], default=None)


def mean_ratio(models: dict[str, Any]) -> float:
    """Over the training steps, each beside the fastest of PyTorch's settings."""
    torch = [best_of(row, "PyTorch") for row in models["rows"] if "refused" not in row and "training" in row["name"]]
    return math.exp(statistics.fmean(math.log(c["ratio"]) for c in torch if c)) if any(torch) else math.nan


def model_line(row: dict[str, Any]) -> str:
    ours = row["contenders"][0]
    torch, *_ = best = [best_of(row, starts) for starts in ("PyTorch", ("HIPS", "autograd"), ("MyGrad", "mygrad"))]
    memory = ", ".join((megabytes(c) if c else "") or "not measured" for c in (ours, torch))
    theirs = duration(torch["median"]) if torch else "not measured"
    return (f"| {row['group']}: {row['name']} | {duration(ours['median'])} | {theirs} "
            f"| {' | '.join(ratio(c) if c else 'not measured' for c in best)} | {memory} |")


def machine(environment: dict[str, Any]) -> str:
    cpu, blas, versions = environment["cpu"], environment["blas"], environment["versions"]
    commit = (environment["commit"] or "unknown")[:10] + (" with changes" if environment["uncommitted_changes"] else "")
    return (f"{cpu['model']}, {cpu['cores']} cores; {blas['library']} {blas['version']}, kernel {blas['kernel']}, threads "
            f"{blas['threads']}; Python {versions['Python']}, NumPy {versions['NumPy']}; commit {commit}")


def line(*cells: str) -> str:
    return "".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                   for i, (cell, width) in enumerate(zip(cells, WIDTHS, strict=False)))


def duration(seconds: float) -> str:
    unit, scale = next((u, s) for u, s in (("s", 1), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or u == "us")
    return f"{seconds * scale:.3g} {unit}"


def ratio(contender: dict[str, Any]) -> str:
    value, low, high = (f"{x:.2f}" if x >= 0.1 else f"{x:.2g}" for x in (contender["ratio"], *contender["interval"]))
    return f"{value} [{low}, {high}]"


def megabytes(contender: dict[str, Any]) -> str:
    """Of its peak memory; "" where it was not asked for, or is not known."""
    held = contender.get("memory", {}).get("bytes")
    return "" if held is None else f"{held / 1e6:.3g} MB"
