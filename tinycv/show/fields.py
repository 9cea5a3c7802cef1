"""Draw densities, vector fields and points in the plane: draw.density, draw.arrows, draw.scatter.

They show what a score looks like and where a sampler goes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from tinycv.data import inputs as given
from tinycv.engine.arguments import number, shown
from tinycv.show import inputs


def plane(reach: float, side: int) -> np.ndarray:
    """A regular grid of side x side points on [-reach, reach]², row by row from the bottom:
    (side * side, 2) float32."""
    reach, side = (
        number(reach, "plane: reach", above=0, high=1e30),
        given.whole(side, "plane: side", 1, 2**13),
    )
    ticks = np.linspace(-reach, reach, side, dtype=np.float32)
    return np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)


def density(
    ax: Axes,
    log_density: Callable[[np.ndarray], np.ndarray],
    reach: float,
    floor: float = 9.0,
    side: int = 160,
) -> None:
    """Draw log p in eight shades of blue, which cover ``floor`` nats below its greatest value. What
    lies lower is white."""
    ax, reach = inputs.axes(ax, "density"), number(reach, "density: reach", above=0, high=1e30)
    floor, side = (
        number(floor, "density: floor", above=0, high=1e30),
        given.whole(side, "density: side", 2, 2**13),
    )
    if not callable(log_density):
        raise TypeError(
            f"density: log_density is {shown(log_density)}; it must be a function of points (N, 2)"
        )
    log_p = given.array(
        log_density(plane(reach, side)), "density: what log_density returns", "log p (N,)"
    )
    if log_p.size != side * side or not (log_p < np.inf).all() or not np.isfinite(log_p.max()):
        raise ValueError(
            f"density: log_density returned {log_p.shape} with a maximum of {log_p.max():g}; it "
            f"must be a finite log p, or -inf, of each of {side * side} points"
        )
    log_p = log_p.reshape(side, side)
    ticks = np.linspace(-reach, reach, side)
    ax.contourf(
        ticks,
        ticks,
        log_p - log_p.max(),
        np.linspace(-floor, 1e-6, 9),
        cmap="Blues",
        vmin=-1.1 * floor,
        vmax=0.8 * floor,
    )
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")


def arrows(
    ax: Axes,
    points: np.ndarray,
    vectors: np.ndarray,
    colour: str,
    longest: float,
    label: str = "",
    width: float = 0.004,
) -> None:
    """Draw arrows from points (N, 2) along vectors (N, 2).

    The drawn length grows as the square root of the vector's length, up to ``longest``, so that
    weak and strong vectors can be seen in one picture. The directions are exact.
    """
    ax, points = inputs.axes(ax, "arrows"), inputs.points(points, "arrows: points")
    vectors = inputs.points(vectors, "arrows: vectors")
    if len(points) != len(vectors) or not len(points) or not np.isfinite(vectors).all():
        raise ValueError(
            f"arrows: points {points.shape} and vectors {vectors.shape} must be as many, at least "
            "one, and finite"
        )
    longest, width = (
        number(longest, "arrows: longest", above=0, high=1e30),
        number(width, "arrows: width", above=0, high=1),
    )
    colour, label = inputs.colour(colour, "arrows: colour"), given.text(label, "arrows: label")
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    drawn = longest * vectors / np.sqrt(np.maximum(size, 1e-12) * max(size.max(), 1e-12))
    ax.quiver(
        *points.T,
        *drawn.T,
        color=colour,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=width,
        label=label,
    )


def scatter(
    ax: Axes, points: np.ndarray, reach: float, colour: str, title: str = "", size: float = 2.0
) -> None:
    """Draw points (N, 2) on [-reach, reach]². size: the area of a marker in points²."""
    ax, points = inputs.axes(ax, "scatter"), inputs.points(points, "scatter: points")
    reach, size = (
        number(reach, "scatter: reach", above=0, high=1e30),
        number(size, "scatter: size", 0, 1e6),
    )
    colour, title = inputs.colour(colour, "scatter: colour"), given.text(title, "scatter: title")
    ax.scatter(points[:, 0], points[:, 1], s=size, color=colour, linewidths=0)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    ax.set_title(title, fontsize=10)
