"""Positions of a ViT for another image size: the grid is interpolated, bicubically.

    weight(d) = (a + 2) |d|³ - (a + 3) |d|² + 1          |d| <= 1        Keys 1981, eq. 4, a = -0.75
              = a |d|³ - 5a |d|² + 8a |d| - 4a           1 < |d| < 2

Used in: weights.py, where a model is built for images larger than those it was trained on.
"""

from __future__ import annotations

from math import isqrt

import numpy as np


def resized(pos_embed: np.ndarray, side: int) -> np.ndarray:
    """Positions (1, 1 + S S, D) of S x S patches for side x side: CLS keeps its own, the grid is
    interpolated.

    As Hugging Face (and torch.nn.functional.interpolate, bicubic). differs: timm smooths before it
    makes a grid smaller, and torchvision lays corner on corner.
    """
    cls, grid = pos_embed[0, :1], pos_embed[0, 1:]
    old = isqrt(len(grid))
    mix = bicubic(old, side)  # (side, S)
    grid = np.einsum("is,jt,std->ijd", mix, mix, grid.reshape(old, old, -1), optimize=True)
    return np.concatenate([cls, grid.reshape(side * side, -1)])[None].astype(pos_embed.dtype)


def bicubic(old: int, new: int) -> np.ndarray:
    """(new, old): row i says how much of each old place the new place i is. Keys 1981, eq. 4, with
    a = -0.75; beyond the edge the edge is repeated."""
    a, mix = -0.75, np.zeros((new, old))
    # of the new places, among the old ones
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    for k in range(-1, 3):
        place = np.floor(centre) + k
        d = np.abs(centre - place)
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, a * (((d - 5) * d + 8) * d - 4)
        np.add.at(
            mix,
            (np.arange(new), np.clip(place, 0, old - 1).astype(int)),
            np.where(d <= 1, near, far),
        )
    return mix
