"""The table on the console: one line per contender while the rows are measured, then what lost."""

from __future__ import annotations

from typing import Any

DEVICE_TIMES = ("host_s", "device_s", "transfer_s", "end_to_end_s")  # see device.py
WIDTHS = (52, 22, 11, 12, 12, 5)


def head(record: dict[str, Any]) -> list[str]:
    """Where this was measured, and the names of the columns."""
    quick = ["A QUICK RUN, only to check that it works: the figures mean nothing"] * record["quick"]
    return [
        *quick,
        f"{machine(record['environment'])}; load average {record['environment']['load']}",
        "ratio: median of the first contender / median of this one, below 1 if the first is "
        "faster; [95 % interval, bootstrap over rounds]",
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
        text = line(label, c["name"], *times, str(c["n"]))
        if i > 0:
            text += f"  {ratio(c)}"
        elif row["of"] != "call":
            text += f"  per {row['of']}"
        if megabytes(c):
            text += f"  peak {megabytes(c)}"
        lines.append(text)
        if "device_s" in c:
            lines.append(line("", "") + "  " + device_times(c))
    return lines


def device_times(c: dict[str, Any]) -> str:
    """ "host 1 ms, device 2 ms, ..." """
    parts = []
    for key in DEVICE_TIMES:
        if key in c:
            parts.append(f"{key.removesuffix('_s').replace('_', ' ')} {duration(c[key])}")
    return ", ".join(parts)


def verdicts(record: dict[str, Any]) -> list[str]:
    """The comparisons that the first contender loses beyond doubt (its interval is above 1), and
    the rows that were refused."""
    pairs = compared(record)
    lost = [
        f"  {row['group']}: {row['name']}: {row['contenders'][0]['name']} against {c['name']}: "
        f"{ratio(c)}"
        for row, c in pairs
        if c["interval"][0] > 1
    ]
    refused = [f"  {row['group']}: {row['name']}" for row in record["rows"] if "refused" in row]
    lines = ["", f"slower ({len(lost)} of {len(pairs)} comparisons):", *lost]
    return [*lines, f"refused ({len(refused)}):", *refused] if refused else lines


def compared(record: dict[str, Any]) -> list[tuple[dict, dict]]:
    """(row, contender) for every measured contender except the first one of its row."""
    return [
        (row, c)
        for row in record["rows"]
        if "refused" not in row
        for c in row["contenders"][1:]
        if "ratio" in c
    ]


def machine(environment: dict[str, Any]) -> str:
    """The machine, its settings and the commit, in one line."""
    cpu, blas, versions = environment["cpu"], environment["blas"], environment["versions"]
    commit = (environment["commit"] or "unknown")[:10]
    if environment["uncommitted_changes"]:
        commit += " with changes"
    card, gpu = "", environment.get("gpu", {})
    if gpu.get("usable"):
        card = f"; {gpu['names'][0]}, TF32 {'on' if gpu['tf32'] else 'off'}"
    return (
        f"{cpu['model']}, {cpu['cores']} cores{card}; {blas['library']} {blas['version']}, kernel "
        f"{blas['kernel']}, threads {blas['threads']}; Python {versions['Python']}, NumPy "
        f"{versions['NumPy']}; commit {commit}"
    )


def line(*cells: str) -> str:
    left = [cell.ljust(width - 1) + " " for cell, width in zip(cells[:2], WIDTHS, strict=False)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], WIDTHS[2:], strict=False)]
    return "".join(left + right)


def duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def ratio(contender: dict[str, Any]) -> str:
    value, low, high = (
        f"{x:.2f}" if x >= 0.1 else f"{x:.2g}" for x in (contender["ratio"], *contender["interval"])
    )
    return f"{value} [{low}, {high}]"


def megabytes(contender: dict[str, Any]) -> str:
    """The contender's peak memory; "" if it was not measured."""
    peak = contender.get("memory", {}).get("bytes")
    return "" if peak is None else megabytes_of(peak)


def megabytes_of(size: float) -> str:
    return f"{size / 1e6:.3g} MB"
