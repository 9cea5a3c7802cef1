"""A record as pictures, with nothing in them that the record does not hold.

Ratios as bars; every row beneath the roofs of the machine; time and memory along an axis, with the
exponents; and for
the suite "backends" the size from which the GPU is the faster one.   Needs matplotlib.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.peaks import bandwidth, compute_peak, standing
from benchmarks.report import compared, ratio
from benchmarks.statistics import crossings, exponent
from benchmarks.tables import curves
from tinycv.show.draw import BAD, GOOD, INK, LINES, PALE, figure, save

PAGE = 40  # bars on one picture
MARKS = "os^Dv*P"


def draw(record: dict[str, Any], folder: Path, stem: str) -> list[Path]:
    """Every picture that the record has something for. Returns their paths."""
    made, pairs = [], compared(record)
    for page in range(0, len(pairs), PAGE):
        name = f"{stem}-ratios{f'-{page // PAGE + 1}' if len(pairs) > PAGE else ''}.png"
        made.append(save(bars(record, pairs[page : page + PAGE]), folder / name))
    if any(
        "gflops" in standing(record, row, row["contenders"][0]) and row.get("bytes")
        for row in record["rows"]
    ):
        made.append(save(roofline(record), folder / f"{stem}-roofline.png"))
    if record["suite"] == "backends" and len(steps_over(record)) > 1:
        made.append(save(panels(record), folder / f"{stem}-models.png"))
    for group in dict.fromkeys(curve[0] for curve in curves(record)):
        name = re.sub(r"\W+", "-", group).strip("-").lower()
        made.append(save(along(record, group), folder / f"{stem}-{name}.png"))
    return made


# ── bars ──────────────────────────────────────────────────────────────────────────────────────────


def bars(record: dict[str, Any], pairs: list[tuple[dict, dict]]) -> Any:
    saying = title(record, "the first contender's time over another's: left of 1 it is faster")
    fig = figure(saying, 13, 1.6 + 0.3 * len(pairs))
    ax = fig.subplots()
    for y, (_, c) in enumerate(pairs):
        low, high = c["interval"]
        sure = GOOD if high < 1 else BAD if low > 1 else "#888888"
        ax.barh(y, c["ratio"] - 1, left=1, height=0.7, color=sure, alpha=0.75)
        ax.plot([low, high], [y, y], color=INK, linewidth=2)
    ax.set_xscale("log")
    edges = np.array(
        [c["interval"] for _, c in pairs] + [[c["ratio"]] * 2 for _, c in pairs] + [[0.8, 1.25]]
    )
    ax.set_xlim(edges.min() / 1.1, edges.max() * 1.8)
    for y, (_, c) in enumerate(pairs):
        ax.text(
            max(1, c["ratio"], c["interval"][1]) * 1.03,
            y,
            ratio(c),
            va="center",
            fontsize=8,
            color=INK,
        )
    ax.axvline(1, color=INK, linewidth=1)
    ax.set_yticks(range(len(pairs)), [bar_name(row, c) for row, c in pairs], fontsize=8)
    ax.set_ylim(len(pairs) - 0.4, -0.6)
    ax.set_xlabel(
        "ratio of medians, with its 95 % interval (green: faster, red: slower, grey: even, or not "
        "told apart)"
    )
    plain_log_axis(ax.xaxis)
    tidy(ax, "x")
    return fig


def bar_name(row: dict[str, Any], c: dict[str, Any]) -> str:
    return f"{row['group']}: {row['name']}   {row['contenders'][0]['name']} / {c['name']}"


# ── the roofline ──────────────────────────────────────────────────────────────────────────────────


def roofline(record: dict[str, Any]) -> Any:
    """Williams, Waterman, Patterson (2009), https://doi.org/10.1145/1498765.1498785."""
    fig = figure(title(record, "how far beneath the machine's measured roofs"), 12, 7)
    ax = fig.subplots()
    points = [
        (row["flops"] / row["bytes"], standing(record, row, c)["gflops"], row, c)
        for row in record["rows"]
        if row.get("flops") and row.get("bytes")
        for c in row["contenders"]
        if "median" in c
    ]
    names = list(dict.fromkeys(c["name"] for *_, c in points))
    for i, name in enumerate(names):
        xs, ys = zip(*[(x, y) for x, y, _, c in points if c["name"] == name], strict=True)
        ax.plot(
            xs,
            ys,
            MARKS[i % len(MARKS)],
            color=LINES[i % len(LINES)],
            markersize=7,
            alpha=0.85,
            label=name,
            zorder=3,
        )
    rows = {
        (row["group"], row["name"]): max(p[:2] for p in points if p[2] is row)
        for *_, row, _ in points
    }
    for n, ((group, name), (x, y)) in enumerate(rows.items(), 1):
        ax.annotate(
            str(n), (x, y), textcoords="offset points", xytext=(7, 4), fontsize=9, color=INK
        )
        ax.plot([], [], " ", label=f"{n}  {group}: {name}")
    xs = np.geomspace(min(p[0] for p in points) / 4, max(p[0] for p in points) * 4, 100)
    for label, ys, style in roofs(record["environment"].get("peaks"), xs):
        ax.plot(xs, ys, style, color=INK, linewidth=1.4, label=label, zorder=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(
        "arithmetic intensity: FLOP of the matrix products for each byte of least traffic"
    )
    ax.set_ylabel("GFLOP/s achieved")
    plain_log_axis(ax.xaxis)
    plain_log_axis(ax.yaxis)
    tidy(ax, "both")
    ax.legend(bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False, fontsize=8)
    return fig


def roofs(found: dict[str, Any] | None, xs: np.ndarray) -> list[tuple[str, np.ndarray, str]]:
    """(label, GFLOP/s at each intensity, line style): memory's roof, and that of the smallest cache
    measured."""
    made = []
    for place, size, style in (("memory", float("inf"), "-"), ("cache", 0, ":")):
        top, speed = (compute_peak(found), bandwidth(found, size)) if found else (None, None)
        if top and speed:
            label = f"roof: {top * 1e-9:.3g} GFLOP/s, {place} {speed * 1e-9:.3g} GB/s"
            made.append((label, np.minimum(top, xs * speed) * 1e-9, style))
    return made


# ── curves ────────────────────────────────────────────────────────────────────────────────────────


def along(record: dict[str, Any], group: str) -> Any:
    """Time, and memory where it was measured, of each contender of a group along its axis."""
    lines = [curve for curve in curves(record) if curve[0] == group]
    kinds = ["time", *(["memory"] if any(len(ys["memory"][0]) for *_, ys in lines) else [])]
    fig = figure(title(record, group), 6.5 * len(kinds) + 0.5, 6)
    for ax, kind in zip(fig.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        unit, label = (1e3, "ms (median)") if kind == "time" else (1e-6, "MB (peak of a step)")
        for i, (_, _, name, xs, ys) in enumerate(lines):
            at, values = (xs, ys["time"]) if kind == "time" else ys["memory"]
            if at:
                fit = exponent(at, values)
                ax.plot(
                    at,
                    np.array(values) * unit,
                    MARKS[i % len(MARKS)] + "-",
                    color=LINES[i % len(LINES)],
                    linewidth=1.6,
                    label=name if fit is None else f"{name}: ~ x^{fit:.2f}",
                )
        if kind == "time" and record["suite"] == "backends":
            mark_crossings(ax, lines)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(lines[0][1])
        ax.set_ylabel(label)
        for reason in absent(record, group):
            ax.plot([], [], " ", label=reason)
        plain_log_axis(ax.xaxis)
        plain_log_axis(ax.yaxis)
        ax.set_xticks(sorted({x for _, _, _, xs, _ in lines for x in xs}), minor=False)
        ax.set_xticks([], minor=True)
        tidy(ax, "both")
        ax.legend(bbox_to_anchor=(0, -0.13), loc="upper left", frameon=False, fontsize=9)
    return fig


def steps_over(record: dict[str, Any]) -> dict[str, list[tuple]]:
    """The curves of whole models, by model."""
    found: dict[str, list[tuple]] = {}
    for curve in curves(record):
        if curve[0].endswith(" training step"):
            found.setdefault(curve[0].removesuffix(" training step"), []).append(curve)
    return found


def panels(record: dict[str, Any]) -> Any:
    """Each model's step over the batch on one picture: the lower, the faster."""
    models = steps_over(record)
    rows = -(-len(models) // 3)
    place = record["environment"]
    fig = figure(
        f"A training step over the batch: the lower, the faster\nNumPy: {place['cpu']['model']}, "
        f"{place['cpu']['cores']} cores. CuPy: {place['gpu']['names'][0]}",
        12,
        0.9 + 3.4 * rows,
    )
    axes = fig.subplots(rows, 3, squeeze=False, sharey=True).reshape(-1)
    names = list(dict.fromkeys(name for lines in models.values() for _, _, name, _, _ in lines))
    for ax, (model, lines) in zip(axes, models.items(), strict=False):
        for _, axis, name, xs, ys in lines:
            i = names.index(name)
            ax.plot(
                xs,
                np.array(ys["time"]) * 1e3,
                MARKS[i] + "-",
                color=LINES[i],
                linewidth=1.6,
                label=name,
            )
            ax.set_xlabel(axis)
        ax.set_title(model, fontsize=11)
        ax.set_xscale("log")
        ax.set_yscale("log")
        for side in (ax.xaxis, ax.yaxis):
            plain_log_axis(side)
        ax.set_xticks(sorted({x for _, _, _, xs, _ in lines for x in xs}), minor=False)
        ax.set_xticks([], minor=True)
        tidy(ax, "both")
    for ax in axes[len(models) :]:
        ax.set_visible(False)
    for ax in axes[::3]:
        ax.set_ylabel("ms a step (median)")
    handles = {h.get_label(): h for ax in axes[: len(models)] for h in ax.get_lines()}
    fig.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(names), frameon=False
    )
    return fig


def mark_crossings(ax: Any, lines: list[tuple]) -> None:
    """Where the first contender's time and another's are equal."""
    _, _, first, xs, ours = lines[0]
    for _, _, name, also, theirs in lines[1:]:
        both = [x for x in xs if x in also]
        a, b = (
            [ys["time"][at.index(x)] * 1e3 for x in both] for at, ys in ((xs, ours), (also, theirs))
        )
        found = crossings(both, a, b)
        for x, y in found:
            ax.plot(x, y, "x", color=INK, markersize=11, markeredgewidth=2)
            ax.annotate(
                f"{x:.3g}",
                (x, y),
                textcoords="offset points",
                xytext=(9, -12),
                fontsize=10,
                color=INK,
            )
        said = f"{first} and {name} " + (
            f"cross at {', '.join(f'{x:.3g}' for x, _ in found)}" if found else "do not cross"
        )
        ax.plot([], [], "x" if found else " ", color=INK, label=said)


def absent(record: dict[str, Any], group: str) -> list[str]:
    """Why a contender has no curve: not measured, or refused."""
    rows = [row for row in record["rows"] if row["group"] == group and row.get("point")]
    return list(
        dict.fromkeys(
            [
                f"{c['name']}: not measured ({c['missing']})"
                for row in rows
                for c in row["contenders"]
                if "missing" in c
            ]
            + [f"{row['name']}: refused" for row in rows if "refused" in row]
        )
    )


# ── style ─────────────────────────────────────────────────────────────────────────────────────────


def title(record: dict[str, Any], what: str) -> str:
    return f"{record['suite']}: {what}" + (
        "\n(a quick run: the figures mean nothing)" if record["quick"] else ""
    )


def plain_log_axis(axis: Any) -> None:
    """0.5, 1, 2000: figures as they are written. Names between the decades only where the axis
    spans less than two."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(
        NullFormatter()
        if high / low > 60
        else FuncFormatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else "")
    )
    axis.set_tick_params(which="both", labelsize=9)


def tidy(ax: Any, axis: str) -> None:
    ax.grid(True, axis=axis, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
