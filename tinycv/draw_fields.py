"""Densities and vector fields on the plane: what a score looks like, where a sampler goes. Names come through draw.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def plane(reach: float, side: int) -> np.ndarray:
    """side x side points that fill [-reach, reach]², row by row from the lowest: (side * side, 2) float32."""
    ticks = np.linspace(-reach, reach, side, dtype=np.float32)
    return np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)


def density(ax: Any, log_density: Callable, reach: float, floor: float = 9.0, side: int = 160) -> None:
    """log p as shades of blue, a step every eighth of ``floor`` nats below its greatest value; below all of them, white."""
    log_p = np.asarray(log_density(plane(reach, side))).reshape(side, side)
    ticks = np.linspace(-reach, reach, side)
    ax.contourf(ticks, ticks, log_p - log_p.max(), np.linspace(-floor, 1e-6, 9), cmap="Blues", vmin=-1.1 * floor,
                vmax=0.8 * floor)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")


def arrows(ax: Any, points: np.ndarray, vectors: np.ndarray, colour: str, longest: float, label: str = "",
           width: float = 0.004) -> None:
    """Arrows from points (N, 2) along vectors (N, 2): lengths grow as the square root, up to ``longest``.

    The root lets weak and strong pulls be seen at once; directions are true.
    """
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    shown = longest * vectors / np.sqrt(np.maximum(size, 1e-12) * size.max())
    ax.quiver(*points.T, *shown.T, color=colour, angles="xy", scale_units="xy", scale=1, width=width, label=label)


def scatter(ax: Any, points: np.ndarray, reach: float, colour: str, title: str = "", size: float = 2.0) -> None:
    """Points (N, 2) on [-reach, reach]²."""
    ax.scatter(points[:, 0], points[:, 1], s=size, color=colour, linewidths=0)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    ax.set_title(title, fontsize=10)
