"""Charts of a record: time against size, one panel per group. They need matplotlib.

FILE-models.png shows the training steps of whole models, and FILE-sizes.png everything else that
was measured at several sizes. The README shows the first one for the suite "backends".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.tables import STEP, Curve, curves
from tinycv.show.draw import LINES, PALE, figure, save

MARKS = "os^Dv*P"


def draw(record: dict[str, Any], folder: Path, stem: str) -> list[Path]:
    """Draw every chart for which the record has curves. Returns the paths of the pictures."""
    all_curves = curves(record)
    swept = {curve.group for curve in all_curves if len(curve.sizes) > 1}
    models = [c for c in all_curves if c.group in swept and c.group.endswith(STEP)]
    others = [c for c in all_curves if c.group in swept and not c.group.endswith(STEP)]
    paths = []
    if models:
        fig = panels(record, models, "Time of a training step against batch size")
        paths.append(save(fig, folder / f"{stem}-models.png"))
    if others:
        fig = panels(record, others, "Time against size")
        paths.append(save(fig, folder / f"{stem}-sizes.png"))
    return paths


def panels(record: dict[str, Any], drawn: list[Curve], what: str) -> Any:
    """One panel per group, three per row, one line per contender. Lower is faster."""
    groups = list(dict.fromkeys(curve.group for curve in drawn))
    names = list(dict.fromkeys(curve.contender for curve in drawn))
    rows = -(-len(groups) // 3)
    fig = figure(title(record, what), 12, 0.9 + 3.4 * rows)
    axes = fig.subplots(rows, 3, squeeze=False, sharey=True).reshape(-1)
    for ax, group in zip(axes, groups, strict=False):
        panel(ax, [curve for curve in drawn if curve.group == group], names)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    for ax in axes[::3]:
        ax.set_ylabel("ms (median)")
    handles = {h.get_label(): h for ax in axes[: len(groups)] for h in ax.get_lines()}
    fig.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(names), frameon=False
    )
    return fig


def panel(ax: Any, drawn: list[Curve], names: list[str]) -> None:
    for curve in drawn:
        i = names.index(curve.contender)
        ax.plot(
            curve.sizes,
            1e3 * np.array(curve.seconds),
            MARKS[i % len(MARKS)] + "-",
            color=LINES[i % len(LINES)],
            linewidth=1.6,
            label=curve.contender,
        )
    ax.set_title(drawn[0].group.removesuffix(STEP), fontsize=11)
    ax.set_xlabel(drawn[0].axis)
    ax.set_xscale("log")
    ax.set_yscale("log")
    plain_log_axis(ax.xaxis)
    plain_log_axis(ax.yaxis)
    ax.set_xticks(sorted({x for curve in drawn for x in curve.sizes}), minor=False)
    ax.set_xticks([], minor=True)
    ax.grid(True, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def title(record: dict[str, Any], what: str) -> str:
    environment = record["environment"]
    machine = f"{environment['cpu']['model']}, {environment['cpu']['cores']} cores"
    gpu = environment.get("gpu", {})
    if gpu.get("usable"):
        machine = f"NumPy: {machine}. CuPy: {gpu['names'][0]}"
    warning = " (a quick run: the figures mean nothing)" if record["quick"] else ""
    return f"{what} (lower is faster){warning}\n{machine}"


def plain_log_axis(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers (0.5, 1, 2000). Between the decades there are
    labels only if the axis is short."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    between = FuncFormatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else "")
    axis.set_minor_formatter(NullFormatter() if high / low > 60 else between)
    axis.set_tick_params(which="both", labelsize=9)
