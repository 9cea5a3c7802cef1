"""Drawing with matplotlib for the demos: figures, curves, notes. It also exports the functions of
images.py, graph.py, fields.py, confusion.py and words.py, so that a demo imports draw alone.

Figures are saved to files and never shown in a window, so this works without a screen.
Needs matplotlib:  pip install matplotlib
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image

from tinycv.data import inputs as given
from tinycv.engine.arguments import choice, number, shown
from tinycv.show import inputs
from tinycv.show.colours import BAD as BAD
from tinycv.show.colours import BLUE as BLUE
from tinycv.show.colours import GOOD as GOOD
from tinycv.show.colours import INK, LINES
from tinycv.show.colours import ORANGE as ORANGE
from tinycv.show.colours import PALE as PALE
from tinycv.show.colours import RED as RED
from tinycv.show.colours import SKY as SKY
from tinycv.show.confusion import confusion as confusion
from tinycv.show.fields import arrows as arrows
from tinycv.show.fields import density as density
from tinycv.show.fields import plane as plane
from tinycv.show.fields import scatter as scatter
from tinycv.show.graph import graph as graph
from tinycv.show.graph import levels as levels
from tinycv.show.images import image as image
from tinycv.show.images import image_grid as image_grid
from tinycv.show.images import image_rows as image_rows
from tinycv.show.images import maps as maps
from tinycv.show.images import overlay as overlay
from tinycv.show.images import patches as patches
from tinycv.show.images import tiles as tiles
from tinycv.show.words import alignment as alignment
from tinycv.show.words import glosses as glosses
from tinycv.show.words import heads as heads

LARGE = 200_000
MOST_INCHES, MOST_DPI = 200, 2400
CORNERS = tuple(f"{up} {side}" for up in ("upper", "lower") for side in ("left", "right"))


def figure(title: str, width: float = 10, height: float = 5) -> Figure:
    """A figure with a title that says what the reader should see. Sizes are in inches."""
    title = given.text(title, "figure: title")
    width = number(width, "figure: width", 0.1, MOST_INCHES)
    height = number(height, "figure: height", 0.1, MOST_INCHES)
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    fig.suptitle(title, fontsize=14, color=INK)
    return fig


def save(fig: Figure, path: Path | str, dpi: float = 110) -> Path:
    """Write the figure, and its folder if it does not exist. Returns the path.

    A PNG of more than LARGE bytes is stored with a palette of 256 colours fitted to it. It takes a
    third of the space, and the difference is hardly visible.
    """
    if not isinstance(fig, Figure):
        raise TypeError(f"save: fig is {shown(fig)}; it must be a figure, as draw.figure makes it")
    path, dpi = given.path(path, "save: path"), number(dpi, "save: dpi", 10, MOST_DPI)
    _expect_ending(fig, path)
    given.make_folder_of(path, "save: path")
    fig.savefig(path, dpi=dpi, facecolor="white")
    if path.suffix == ".png" and path.stat().st_size > LARGE:
        with Image.open(path) as picture:
            reduced = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        reduced.save(path, optimize=True)
    return path


def curves(
    ax: Axes,
    lines: Mapping[str, tuple[Sequence | np.ndarray, Sequence | np.ndarray]],
    x: str,
    y: str,
    log: bool = False,
) -> None:
    """Draw lines by name, each a pair (xs, ys), and name the axes x and y. If there are several
    lines, each has its name at its right end (label_lines)."""
    ax = inputs.axes(ax, "curves")
    lines = {
        name: _line(name, line)
        for name, line in inputs.named(lines, "curves: lines", "lines (xs, ys)").items()
    }
    x = given.text(x, "curves: x")
    y = given.text(y, "curves: y")
    log = given.flag(log, "curves: log")
    for (name, (xs, ys)), colour in zip(lines.items(), LINES * len(lines), strict=False):
        ax.plot(xs, ys, label=name, color=colour, linewidth=1.6)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if log:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        # With less than two powers of ten on the axis, label 2 and 5 times a power too, and write
        # 0.5 rather than 5e-01.
        if high < 100 * low:
            ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:g}")
    if len(lines) > 1:
        label_lines(ax)
    ax.grid(True, color=PALE, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def label_lines(ax: Axes, gap: float = 0.075) -> None:
    """Label each line of a panel at its right end and in its colour, instead of a legend. Labels
    that would overlap are moved apart.

    gap: the smallest distance between two labels, as a share of the panel's height. Call this when
    all lines are drawn and the axes have their scale and limits: a label does not follow later
    changes.
    """
    ax, gap = inputs.axes(ax, "label_lines"), number(gap, "label_lines: gap", 0, 1)
    ends = []
    ax.get_xlim()  # matplotlib computes the limits only when they are read
    ax.get_ylim()
    for line in ax.get_lines():
        x, y = (np.asarray(line.get_data()[i], float) for i in (0, 1))
        is_drawn = np.isfinite(x) & np.isfinite(y)
        if is_drawn.any() and not str(line.get_label()).startswith("_"):
            last = np.flatnonzero(is_drawn)[-1]
            _, height = ax.transAxes.inverted().transform(
                ax.transData.transform((x[last], y[last]))
            )
            # A line may leave the panel, and on a logarithmic axis 0 has no height at all.
            ends.append((min(max(np.nan_to_num(height), 0), 1), line))
    ends.sort(key=lambda end: end[0])
    heights = _spread_labels([height for height, _ in ends], gap)
    for height, (_, line) in zip(heights, ends, strict=True):
        ax.annotate(
            str(line.get_label()),
            (1, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=line.get_color(),
            annotation_clip=False,
        )


def _spread_labels(heights: list[float], gap: float) -> list[float]:
    """Rising heights, moved as little as possible until neighbours are at least ``gap`` apart.

    A group of labels that touch is centred on the mean of the heights where its lines end.
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _lowest(groups[-1], gap) < _lowest(groups[-2], gap) + gap * len(
            groups[-2]
        ):
            upper = groups.pop()
            groups[-1] += upper
    return [_lowest(group, gap) + i * gap for group in groups for i in range(len(group))]


def _lowest(group: list[float], gap: float) -> float:
    """The height of the lowest label of a group."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def note(ax: Axes, text: str, corner: str = "upper left") -> None:
    """Write a measured figure into a corner of the panel, where no line runs."""
    ax, text = inputs.axes(ax, "note"), given.text(text, "note: text")
    choice(corner, "note: corner", CORNERS)
    x = 0.98 if "right" in corner else 0.02
    y = 0.96 if "upper" in corner else 0.04
    ax.text(
        x,
        y,
        text,
        transform=ax.transAxes,
        ha="right" if "right" in corner else "left",
        va="top" if "upper" in corner else "bottom",
        fontsize=10,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": PALE, "boxstyle": "round"},
    )


def _line(name: str, line: Any) -> tuple[np.ndarray, np.ndarray]:
    """The pair (xs, ys) as two arrays of the same length, or an error that names the line."""
    if not isinstance(line, (tuple, list)) or len(line) != 2:
        raise TypeError(f"curves: lines[{name!r}] is {shown(line)}; it must be a pair (xs, ys)")
    xs, ys = (
        inputs.numbers(v, f"curves: lines[{name!r}] {which}")
        for which, v in zip(("xs", "ys"), line, strict=True)
    )
    if len(xs) != len(ys):
        raise ValueError(
            f"curves: lines[{name!r}] has {len(xs)} xs and {len(ys)} ys; they must have one length"
        )
    return xs, ys


def _expect_ending(fig: Figure, path: Path) -> None:
    """Raise ValueError if the path is a folder or a kind of file that matplotlib cannot write."""
    kinds = fig.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds or path.is_dir():
        raise ValueError(
            f"save: path is {str(path)!r}; it must be a file that ends in one of "
            f"{', '.join(sorted(kinds))}"
        )
