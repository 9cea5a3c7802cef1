"""The figures in words: an ASCII table as they come, and what lost."""

from __future__ import annotations

from typing import Any

APART = ("first_s", "host_s", "device_s", "transfer_s", "end_to_end_s")  # of a device: device.py
WIDTHS = (52, 22, 11, 12, 12, 5)


def head(record: dict[str, Any]) -> list[str]:
    """Where this was measured, and the names of the columns."""
    return [
        f"{machine(record['environment'])}; load average {record['environment']['load']}",
        "ratio: the first contender's median over this one's, below 1 where the first is faster; "
        "[95 % interval, bootstrap over rounds]",
        "",
        line("row", "contender", "median", "quartile 1", "quartile 3", "n") + "  ratio",
    ]


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
        lines.append(
            line(label, c["name"], *times, str(c["n"]))
            + (per if i == 0 else "  " + ratio(c))
            + held
        )
        if "device_s" in c:
            lines.append(
                line("", "")
                + "  "
                + ", ".join(
                    f"{part.removesuffix('_s').replace('_', ' ')} {duration(c[part])}"
                    for part in APART
                    if part in c
                )
            )
    return lines


def verdicts(record: dict[str, Any]) -> list[str]:
    """Where the first contender is slower, and the interval leaves no doubt; and what was
    refused."""
    lost = [
        f"  {row['group']}: {row['name']}: {row['contenders'][0]['name']} against {c['name']}: "
        f"{ratio(c)}"
        for row, c in compared(record)
        if c["interval"][0] > 1
    ]
    refused = [f"  {row['group']}: {row['name']}" for row in record["rows"] if "refused" in row]
    return [
        "",
        f"slower ({len(lost)} of {len(compared(record))} comparisons):",
        *lost,
        *([f"refused ({len(refused)}):", *refused] if refused else []),
    ]


def compared(record: dict[str, Any]) -> list[tuple[dict, dict]]:
    """(row, contender) for every measured contender but the first of its row."""
    return [
        (row, c)
        for row in record["rows"]
        if "refused" not in row
        for c in row["contenders"][1:]
        if "ratio" in c
    ]


def machine(environment: dict[str, Any]) -> str:
    cpu, blas, versions = environment["cpu"], environment["blas"], environment["versions"]
    commit = (environment["commit"] or "unknown")[:10] + (
        " with changes" if environment["uncommitted_changes"] else ""
    )
    gpu = environment.get("gpu", {})
    card = (
        f"; {gpu['names'][0]}, TF32 {'on' if gpu['tf32'] else 'off'}" if gpu.get("usable") else ""
    )
    return (
        f"{cpu['model']}, {cpu['cores']} cores{card}; {blas['library']} {blas['version']}, kernel "
        f"{blas['kernel']}, threads {blas['threads']}; Python {versions['Python']}, NumPy "
        f"{versions['NumPy']}; commit {commit}"
    )


def line(*cells: str) -> str:
    return "".join(
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, WIDTHS, strict=False))
    )


def duration(seconds: float) -> str:
    unit, scale = next(
        (u, s) for u, s in (("s", 1), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or u == "us"
    )
    return f"{seconds * scale:.3g} {unit}"


def ratio(contender: dict[str, Any]) -> str:
    value, low, high = (
        f"{x:.2f}" if x >= 0.1 else f"{x:.2g}" for x in (contender["ratio"], *contender["interval"])
    )
    return f"{value} [{low}, {high}]"


def megabytes(contender: dict[str, Any]) -> str:
    """Of its peak memory; "" where it was not asked for, or is not known."""
    held = contender.get("memory", {}).get("bytes")
    return "" if held is None else f"{held / 1e6:.3g} MB"
