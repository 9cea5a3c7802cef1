"""Every picture. Figures go to files and never to a window, so this works where there is no screen.

Needs matplotlib:  pip install matplotlib
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from tinycv.data import inputs as given
from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.tensor import LEAF, Node, Tensor
from tinycv.show import inputs
from tinycv.show.fields import arrows as arrows
from tinycv.show.fields import density as density
from tinycv.show.fields import plane as plane
from tinycv.show.fields import scatter as scatter
from tinycv.show.words import alignment as alignment
from tinycv.show.words import heads as heads

LARGE = 200_000
MOST_INCHES, MOST_DPI, MOST_PANELS = 200, 2400, 1000
CORNERS = tuple(f"{up} {side}" for up in ("upper", "lower") for side in ("left", "right"))
INK, GOOD, BAD, PALE = "#222222", "#1b7837", "#b2182b", "#dddddd"
# told apart in print and by the colour-blind
LINES = ("#2166ac", "#b2182b", "#1b7837", "#e08214", "#762a83")


def figure(title: str, width: float = 10, height: float = 5) -> Figure:
    """A figure with a title that says what one should see. Sizes in inches."""
    title = given.text(title, "figure: title")
    width, height = (
        number(n, f"figure: {side}", 0.1, MOST_INCHES)
        for side, n in (("width", width), ("height", height))
    )
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    fig.suptitle(title, fontsize=14, color=INK)
    return fig


def save(fig: Figure, path: Path | str, dpi: int = 110) -> Path:
    """Write the figure (its folder is made if need be). Returns the path.

    A PNG of more than LARGE bytes is stored with 256 colours, chosen for it: a third of the size,
    and hardly seen.
    """
    if not isinstance(fig, Figure):
        raise TypeError(f"save: fig is {shown(fig)}; it must be a figure, as draw.figure makes it")
    path, dpi = given.path(path, "save: path"), number(dpi, "save: dpi", 10, MOST_DPI)
    _expect_ending(fig, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=dpi, facecolor="white")
    if path.suffix == ".png" and path.stat().st_size > LARGE:
        with Image.open(path) as picture:
            few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    return path


def image(ax: Any, picture: Any, caption: str = "", colour: str = INK) -> None:
    """One picture, (H, W) or (1, H, W) grey, (3, H, W) colour, values 0 to 1, with a caption above
    it."""
    ax, caption = inputs.axes(ax, "image"), given.text(caption, "image: caption")
    colour = inputs.colour(colour, "image: colour")
    a = inputs.picture(picture, "image: picture")
    ax.imshow(a, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    if caption:
        ax.set_title(caption, fontsize=9, color=colour)


def image_grid(
    place: Any,
    pictures: Sequence,
    captions: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    columns: int = 8,
) -> None:
    """Pictures in rows. place: a figure or subfigure that is free."""
    place, columns = (
        inputs.place(place, "image_grid"),
        given.whole(columns, "image_grid: columns", 1, MOST_PANELS),
    )
    # nobody was wrong: there is nothing to show
    if isinstance(pictures, np.ndarray) and pictures.shape[:1] == (0,):
        return
    pictures = _pictures(pictures, "image_grid: pictures", MOST_PANELS)
    captions = (
        None if captions is None else inputs.names(captions, "image_grid: captions", len(pictures))
    )
    colours = (
        None
        if colours is None
        else [
            inputs.colour(c, "image_grid: colours")
            for c in inputs.names(colours, "image_grid: colours", len(pictures))
        ]
    )
    rows = max(1, -(-len(pictures) // columns))
    axes = np.atleast_1d(place.subplots(rows, columns, squeeze=False)).ravel()
    for i, ax in enumerate(axes):
        if i < len(pictures):
            image(ax, pictures[i], captions[i] if captions else "", colours[i] if colours else INK)
        else:
            ax.axis("off")


def tiles(ax: Any, pictures: Sequence, columns: int, caption: str = "") -> None:
    """Many small pictures (C, H, W) as one, row by row, with thin white gaps: quicker and denser
    than an axis for each."""
    ax, columns = (
        inputs.axes(ax, "tiles"),
        given.whole(columns, "tiles: columns", 1, 10 * MOST_PANELS),
    )
    a = inputs.from_0_to_1(pictures, "tiles: pictures", "pictures (N, C, H, W)", 4).astype(
        np.float32
    )
    n, c, h, w = a.shape
    if not n or not h or not w or c not in (1, 3):
        raise ValueError(
            f"tiles: pictures has shape {a.shape}; it must be (N, C, H, W), at least one, of 1 "
            "channel or 3"
        )
    caption = given.text(caption, "tiles: caption")
    rows = -(-n // columns)
    sheet = np.ones((rows * columns, c, h + 2, w + 2), np.float32)
    sheet[:n, :, 1:-1, 1:-1] = a
    sheet = (
        sheet.reshape(rows, columns, c, h + 2, w + 2)
        .transpose(2, 0, 3, 1, 4)
        .reshape(c, rows * (h + 2), -1)
    )
    image(ax, sheet, caption)
    ax.axis("off")


def image_rows(ax: Any, rows: dict[str, Sequence], captions: Sequence[str] = ()) -> None:
    """Pictures (C, H, W) as ``tiles``, a row for each name, which stands at its left; captions
    stand above the columns."""
    ax, rows = inputs.axes(ax, "image_rows"), inputs.named(rows, "image_rows: rows", "pictures")
    rows = {
        name: _pictures(row, f"image_rows: rows[{name!r}]", MOST_PANELS)
        for name, row in rows.items()
    }
    kinds = {
        (len(row), *(tuple(np.shape(picture)) for picture in row[:1])) for row in rows.values()
    }
    if len(kinds) != 1:
        raise ValueError(
            f"image_rows: rows have the lengths {[len(row) for row in rows.values()]} and pictures "
            f"of shape {[np.shape(row[0]) for row in rows.values()]}; all rows must be alike"
        )
    pictures = [picture for row in rows.values() for picture in row]
    columns, (height, width) = len(pictures) // len(rows), np.shape(pictures[0])[-2:]
    captions = inputs.names(captions, "image_rows: captions")
    if len(captions) not in (0, columns):
        raise ValueError(
            f"image_rows: captions has {len(captions)} texts; it must have one for each of "
            f"{columns} columns"
        )
    if np.ndim(pictures[0]) != 3:
        raise ValueError(
            f"image_rows: rows hold pictures of shape {np.shape(pictures[0])}; they must be (C, H, "
            "W)"
        )
    tiles(ax, pictures, columns)
    ax.axis("on")
    ax.spines[:].set_visible(False)
    ax.set_yticks((np.arange(len(rows)) + 0.5) * (height + 2), list(rows), fontsize=9)
    ax.set_xticks((np.arange(len(captions)) + 0.5) * (width + 2), captions, fontsize=9)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)


def patches(place: Any, picture: Any, patch_size: int) -> None:
    """The picture cut apart: every patch in its place, with gaps between and its number in the
    corner."""
    place, patch_size = (
        inputs.place(place, "patches"),
        given.whole(patch_size, "patches: patch_size", 1),
    )
    a = inputs.picture(picture, "patches: picture")
    side = a.shape[0] // patch_size
    if a.shape[0] != a.shape[1] or a.shape[0] % patch_size or side > 64:
        raise ValueError(
            f"patches: a picture of {a.shape[0]} x {a.shape[1]} is not cut into a square of "
            f"patches, at most 64 x 64, by patch_size={patch_size}"
        )
    axes = place.subplots(side, side, squeeze=False, gridspec_kw={"wspace": 0.08, "hspace": 0.08})
    for i, ax in enumerate(axes.ravel()):
        r, c = divmod(i, side)
        cut = a[r * patch_size : (r + 1) * patch_size, c * patch_size : (c + 1) * patch_size]
        image(ax, cut if cut.ndim == 2 else np.moveaxis(cut, -1, 0))
        ax.text(
            0.04, 0.96, str(i + 1), transform=ax.transAxes, va="top", fontsize=7, color="#e08214"
        )


def curves(
    ax: Any, lines: dict[str, tuple[Sequence, Sequence]], x: str, y: str, log: bool = False
) -> None:
    """Lines by name, each (xs, ys), axes named; a legend where there is more than one."""
    ax, lines = (
        inputs.axes(ax, "curves"),
        {
            name: _line(name, line)
            for name, line in inputs.named(lines, "curves: lines", "lines (xs, ys)").items()
        },
    )
    x, y, log = (
        given.text(x, "curves: x"),
        given.text(y, "curves: y"),
        given.flag(log, "curves: log"),
    )
    for (name, (xs, ys)), colour in zip(lines.items(), LINES * len(lines), strict=False):
        ax.plot(xs, ys, label=name, color=colour, linewidth=1.6)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if log:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        # few powers of ten: other numbers are named too, all in full
        if high < 100 * low:
            for of_some in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
                of_some(LogFormatter(minor_thresholds=(2, 0.5)))
    if len(lines) > 1:
        ax.legend(frameon=False, fontsize=9)
    ax.grid(True, color=PALE, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def overlay(ax: Any, picture: Any, heat: Any, caption: str = "", most: float | None = None) -> None:
    """A picture with a heat map (any smaller size, values >= 0) laid over it. most: the heat that
    is drawn brightest."""
    ax, a = inputs.axes(ax, "overlay"), inputs.picture(picture, "overlay: picture")
    caption, heat = (
        given.text(caption, "overlay: caption"),
        inputs.numbers(heat, "overlay: heat", 2),
    )
    most = None if most is None else number(most, "overlay: most")
    if not heat.size or np.nanmin(heat) < 0:
        raise ValueError(f"overlay: heat of shape {heat.shape} must hold values of at least 0")
    height, width = a.shape[:2]
    image(ax, a if a.ndim == 2 else np.moveaxis(a, -1, 0), caption)
    ax.imshow(
        heat,
        cmap="inferno",
        alpha=0.55,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear",
        vmin=0,
        vmax=most,
    )


def maps(ax: Any, values: Any, caption: str = "", cmap: str = "viridis") -> None:
    """Many small maps (rows, columns, H, W) of numbers of any range, all with one scale of colours,
    gaps between."""
    ax, caption = inputs.axes(ax, "maps"), given.text(caption, "maps: caption")
    values = inputs.numbers(values, "maps: values", 4)
    if not values.size:
        raise ValueError(
            f"maps: values has shape {values.shape}; there must be at least one map (rows, "
            "columns, H, W)"
        )
    choice(cmap, "maps: cmap", colormaps)
    a = np.pad(values, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns, height, width = a.shape
    ax.imshow(
        a.swapaxes(1, 2).reshape(rows * height, columns * width)[:-1, :-1],
        cmap=cmap,
        interpolation="nearest",
    )
    ax.axis("off")
    ax.set_title(caption, fontsize=10, color=INK)


def note(ax: Any, text: str, corner: str = "upper left") -> None:
    """The measured figure, in a corner where no line runs."""
    ax, text = inputs.axes(ax, "note"), given.text(text, "note: text")
    choice(corner, "note: corner", CORNERS)
    x, y = 0.98 if "right" in corner else 0.02, 0.96 if "upper" in corner else 0.04
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


# -- the recorded graph, without Graphviz
# ----------------------------------------------------------------


def graph(ax: Any, result: Tensor, names: dict[str, Tensor] | None = None) -> None:
    """The Nodes behind ``result``: leaves on the left (green, named), ops in the order of time,
    arrows with the data.

    Draw before ``backward``, which releases the graph. For graphs of up to some thirty Nodes.
    """
    ax, level = inputs.axes(ax, "graph"), _levels(result, "graph")
    names = (
        {}
        if names is None or isinstance(names, dict) and not names
        else inputs.named(names, "graph: names", "Tensors")
    )
    called = {id(t): name for name, t in names.items()}
    place, used = {}, {}
    for spot in sorted(level, key=lambda s: s.seq):
        x = level[spot]
        place[spot] = (x, -used.setdefault(x, 0))
        used[x] += 1
    tallest = max(used.values())
    place = {s: (x, y + (used[x] - 1) / 2) for s, (x, y) in place.items()}
    text = {s: called.get(id(s), "leaf") if isinstance(s, Tensor) else s.row.name for s in place}
    # half a box's width, in points
    room = {s: 11 + 3.6 * len(text[s]) for s in place}
    for spot, (x, y) in place.items():
        ax.text(
            x,
            y,
            text[spot],
            ha="center",
            va="center",
            fontsize=10,
            zorder=3,
            bbox={
                "boxstyle": "round,pad=0.4",
                "facecolor": "#d9f0d3" if isinstance(spot, Tensor) else "#d1e5f0",
                "edgecolor": INK,
            },
        )
        for parent in dict.fromkeys(p for p in spot.parents if p is not None):
            ax.annotate(
                "",
                (x, y),
                place[parent],
                zorder=2,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": INK,
                    "shrinkA": room[parent],
                    "shrinkB": room[spot],
                },
            )
    ax.set_xlim(-0.6, max(level.values()) + 0.6)
    ax.set_ylim(-tallest / 2 - 0.2, tallest / 2 + 0.2)
    ax.axis("off")


def levels(result: Tensor) -> dict[Node | Tensor, int]:
    """How many ops lie between each Node and the leaves, at most."""
    return _levels(result, "levels")


def _levels(result: Any, who: str) -> dict[Node | Tensor, int]:
    if not isinstance(result, Tensor):
        raise TypeError(
            f"{who}: result is {shown(result)}; it must be a Tensor that an op computed"
        )
    if result._node is None or result._node is LEAF:
        raise ValueError(
            f"{who}: this tensor was not computed by a recorded op: there is no graph to draw"
        )
    reached, stack = set(), [result._node]
    while stack:
        spot = stack.pop()
        if spot not in reached:
            reached.add(spot)
            stack.extend(p for p in spot.parents if p is not None)
    level: dict[Node | Tensor, int] = {}
    # parents are older, so they come first
    for spot in sorted(reached, key=lambda s: s.seq):
        level[spot] = 1 + max((level[p] for p in spot.parents if p is not None), default=-1)
    return level


# -- what was given
# ----------------------------------------------------------------------------------------


def _pictures(values: Any, what: str, most: int) -> list:
    """A list of pictures, at least one."""
    is_list = isinstance(values, Sequence) and not isinstance(values, (str, bytes))
    is_array = hasattr(values, "__array__") and getattr(values, "ndim", 0) > 0
    if not is_list and not is_array:
        raise TypeError(f"{what} is {shown(values)}; it must be a list or array of pictures")
    if not 0 < len(values) <= most:
        raise ValueError(f"{what} has {len(values)} pictures; there must be 1 to {most}")
    return [
        inputs.from_0_to_1(picture, f"{what}[{i}]", "a picture (H, W) or (C, H, W)")
        for i, picture in enumerate(values)
    ]


def _line(name: str, line: Any) -> tuple[np.ndarray, np.ndarray]:
    """xs and ys, equally many."""
    if not isinstance(line, (tuple, list)) or len(line) != 2:
        raise TypeError(f"curves: lines[{name!r}] is {shown(line)}; it must be a pair (xs, ys)")
    xs, ys = (
        inputs.numbers(v, f"curves: lines[{name!r}] {which}")
        for which, v in zip(("xs", "ys"), line, strict=True)
    )
    if len(xs) != len(ys):
        raise ValueError(
            f"curves: lines[{name!r}] has {len(xs)} xs and {len(ys)} ys; they must be as many"
        )
    return xs, ys


def _expect_ending(fig: Figure, path: Path) -> None:
    """ValueError for a kind of file that matplotlib does not write, or a folder."""
    kinds = fig.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds or path.is_dir():
        raise ValueError(
            f"save: path is {str(path)!r}; it must be a file that ends in one of "
            f"{', '.join(sorted(kinds))}"
        )
