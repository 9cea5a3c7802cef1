"""Resizing the position embeddings of a ViT to another image size, by bicubic interpolation.

    weight(d) = (a + 2) |d|³ - (a + 3) |d|² + 1          |d| <= 1        Keys 1981, eq. 4, a = -0.75
              = a |d|³ - 5a |d|² + 8a |d| - 4a           1 < |d| < 2

Used in: weights.py, when a model is loaded for images of another size than it was trained on.
"""

from __future__ import annotations

from math import isqrt

import numpy as np


def resized(pos_embed: np.ndarray, side: int) -> np.ndarray:
    """Converts positions (1, 1 + S S, D) of S x S patches to (1, 1 + side side, D). The position of
    CLS stays; the grid is interpolated.

    This is the method of Hugging Face (torch.nn.functional.interpolate, bicubic).
    differs: timm smooths before it makes a grid smaller, and torchvision aligns the corners.
    """
    cls, grid = pos_embed[0, :1], pos_embed[0, 1:]
    old = isqrt(len(grid))
    weights = bicubic(old, side)  # (side, S)
    grid = np.einsum("is,jt,std->ijd", weights, weights, grid.reshape(old, old, -1), optimize=True)
    return np.concatenate([cls, grid.reshape(side * side, -1)])[None].astype(pos_embed.dtype)


def bicubic(old: int, new: int) -> np.ndarray:
    """The interpolation weights (new, old): row i holds the weight of each old grid point in the
    new point i. Keys 1981, eq. 4, with a = -0.75. Beyond the edge, the edge is repeated."""
    a, weights = -0.75, np.zeros((new, old))
    # The new points, in the coordinates of the old grid.
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    for k in range(-1, 3):
        neighbour = np.floor(centre) + k
        d = np.abs(centre - neighbour)
        near = ((a + 2) * d - (a + 3)) * d * d + 1  # |d| <= 1
        far = a * (((d - 5) * d + 8) * d - 4)  # 1 < |d| < 2
        columns = np.clip(neighbour, 0, old - 1).astype(int)
        np.add.at(weights, (np.arange(new), columns), np.where(d <= 1, near, far))
    return weights
