"""Images in a figure: a single image, a grid, rows, tiles, patches, heat maps over an image. Used
as draw.image, draw.image_grid, draw.image_rows, draw.tiles, draw.patches, draw.overlay, draw.maps.

Images are (H, W), (1, H, W) or (3, H, W), with values from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from tinycv.data import inputs as given
from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.tensor import ArrayLike
from tinycv.show import inputs
from tinycv.show.colours import INK, ORANGE

MOST_PANELS = 1000


def image(ax: Axes, picture: ArrayLike, caption: str = "", colour: str = INK) -> None:
    """One picture with a caption above it: (H, W) or (1, H, W) is grey, (3, H, W) is in colour."""
    ax, caption = inputs.axes(ax, "image"), given.text(caption, "image: caption")
    colour = inputs.colour(colour, "image: colour")
    a = inputs.picture(picture, "image: picture")
    ax.imshow(a, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    if caption:
        ax.set_title(caption, fontsize=10, color=colour)


def image_grid(
    place: FigureBase,
    pictures: Sequence | np.ndarray,
    captions: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    columns: int = 8,
) -> None:
    """Pictures in rows of ``columns``, each with its caption. place: an empty figure or
    subfigure."""
    place = inputs.place(place, "image_grid")
    columns = given.whole(columns, "image_grid: columns", 1, MOST_PANELS)
    # An empty array is no error: a classifier without mistakes has no mistakes to show.
    if isinstance(pictures, np.ndarray) and pictures.shape[:1] == (0,):
        return
    pictures = _pictures(pictures, "image_grid: pictures", MOST_PANELS)
    if captions is not None:
        captions = inputs.names(captions, "image_grid: captions", len(pictures))
    if colours is not None:
        names = inputs.names(colours, "image_grid: colours", len(pictures))
        colours = [inputs.colour(name, "image_grid: colours") for name in names]
    rows = max(1, -(-len(pictures) // columns))
    axes = np.atleast_1d(place.subplots(rows, columns, squeeze=False)).ravel()
    for i, ax in enumerate(axes):
        if i < len(pictures):
            image(ax, pictures[i], captions[i] if captions else "", colours[i] if colours else INK)
        else:
            ax.axis("off")


def tiles(ax: Axes, pictures: Sequence | np.ndarray, columns: int, caption: str = "") -> None:
    """Many small pictures (C, H, W) as one image, row by row, with thin white gaps. This is faster
    and denser than one axis per picture."""
    ax = inputs.axes(ax, "tiles")
    columns = given.whole(columns, "tiles: columns", 1, 10 * MOST_PANELS)
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


def image_rows(
    ax: Axes, rows: Mapping[str, Sequence | np.ndarray], captions: Sequence[str] = ()
) -> None:
    """Pictures (C, H, W) as ``tiles``, in one row per name. The names are at the left of the rows,
    the captions above the columns."""
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
            f"of shape {[np.shape(row[0]) for row in rows.values()]}; all must be equal"
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


def patches(place: FigureBase, picture: ArrayLike, patch_size: int) -> None:
    """The picture cut into patches: each patch in its place, with gaps between them and its number
    in the corner."""
    place = inputs.place(place, "patches")
    patch_size = given.whole(patch_size, "patches: patch_size", 1)
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
        ax.text(0.04, 0.96, str(i + 1), transform=ax.transAxes, va="top", fontsize=7, color=ORANGE)


def overlay(
    ax: Axes, picture: ArrayLike, heat: ArrayLike, caption: str = "", most: float | None = None
) -> None:
    """A picture under a heat map, which may be smaller and has values >= 0. most: the value that is
    drawn brightest."""
    ax, a = inputs.axes(ax, "overlay"), inputs.picture(picture, "overlay: picture")
    caption = given.text(caption, "overlay: caption")
    heat = inputs.numbers(heat, "overlay: heat", 2)
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


def maps(ax: Axes, values: ArrayLike, caption: str = "", cmap: str = "viridis") -> None:
    """A grid of small maps of numbers (rows, columns, H, W), with gaps between them. All maps share
    one scale of colours."""
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


def _pictures(values: Any, what: str, most: int) -> list:
    """The pictures as a list, which must hold 1 to ``most`` of them."""
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
