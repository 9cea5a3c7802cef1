"""Positional encodings, sinusoidal and learned: vectors that mark the position of each token.
Without them, attention treats its tokens as a set.

    PE(pos, 2i)   = sin(pos / 10000^(2i/d))                         Vaswani et al. 2017, section 3.5
    PE(pos, 2i+1) = cos(pos / 10000^(2i/d))

Each pair (sin, cos) is like the hand of a clock.  The first one turns fast and separates
neighbours; the last one has barely moved after thousands of tokens.  A shift by k positions rotates
every pair by a fixed angle, PE(pos + k) = R_k PE(pos).  This is a linear map, which a head can
learn.  PE is defined for every position, but this does not mean that a network works well beyond
the lengths it was trained on.

Learned positions are an ordinary table of vectors.  The paper found that both work about equally
well (ibid., table 3, row E).  ViT has a table too, named as in its paper: vision/vit.py.

The patches of an image or of a video have a position on each of several axes.  Factorised positions
treat each axis by itself:

    sinusoidal   [PE(time); PE(row); PE(column)]          the width is divided among the axes
    learned      time[t] + row[r] + column[c]             one table per axis, and their sum

So learned positions of a video of 8 x 4 x 4 tokens need 8 + 4 + 4 vectors instead of 128, and what
is learned about a row holds at every time.

Read first: attention.py.   Read next: transformer.py, rotary.py.
Shapes: B batch, T tokens, E width; N = the product of the sides of a grid, such as frames, rows and
columns.
"""

from __future__ import annotations

from math import prod
from operator import gt
from typing import Any

import numpy as np

from tinycv.data.inputs import real_numbers
from tinycv.engine.arguments import number, shown, size, sizes
from tinycv.engine.backend import Array, array_module, constant
from tinycv.engine.tensor import ArrayLike, Tensor, as_array, bare
from tinycv.nn import init
from tinycv.nn.module import Module
from tinycv.sequence.inputs import is_numeric

MOST_TOKENS = 2**24  # of a grid; the coordinates of more would fill gigabytes


def sinusoidal(xp: Any, positions: Array, width: int) -> Array:
    """PE of the positions (T,), floats: an array (T, width). xp: numpy or cupy, as for
    positions."""
    frequencies = 10000.0 ** (-xp.arange(0, width, 2) / max(width, 1))  # (width / 2,)
    angles = positions[:, None] * frequencies  # (T, width / 2), in radians
    pairs = xp.stack([xp.sin(angles), xp.cos(angles)], axis=-1)  # (T, width / 2, 2)
    return pairs.reshape(len(positions), 2 * len(frequencies))[:, :width]  # sin, cos, sin, cos, ...


class SinusoidalPositions(Module):
    """Adds PE to the tokens. It has no parameters and no maximum length."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, E); the position of its first token is ``start``. Returns (B, T, E), as floats
        even if x holds integers."""
        start = checked_start("SinusoidalPositions", x, start)
        array = as_array(x)
        xp = array_module(array)
        table = sinusoidal(xp, xp.arange(start, start + x.shape[1], dtype="float64"), x.shape[2])
        return x + (table.astype(array.dtype) if array.dtype.kind == "f" else table)


class LearnedPositions(Module):
    """Adds a learned vector for each position. weight (max_length, d_model) starts from N(0,
    0.02²), as in GPT and BERT."""

    def __init__(self, max_length: int, d_model: int):
        max_length = size(max_length, "LearnedPositions: max_length", 1)
        self.weight = init.normal(
            (max_length, size(d_model, "LearnedPositions: d_model", 1)), std=0.02
        )

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, E); the position of its first token is ``start``. Returns (B, T, E)."""
        start = checked_start("LearnedPositions", x, start)
        end = start + x.shape[1]
        max_length, width = self.weight.shape
        if x.shape[2] != width:
            raise ValueError(
                f"LearnedPositions: x has shape {x.shape}; it must be (B, T, {width}), as wide as "
                "the positions"
            )
        if end > max_length:
            raise ValueError(
                f"LearnedPositions: there are learned positions for {max_length} tokens, but x "
                f"ends at {end}: pass fewer, or build the model with a larger max_length"
            )
        return x + self.weight[start:end]


def checked_start(owner: str, x: Tensor, start: Any) -> int:
    """The position of the first token as an int. Raises if it is negative, or if x is not (B, T,
    E)."""
    if not is_numeric(x) or len(x.shape) != 3:
        raise (ValueError if is_numeric(x) else TypeError)(
            f"{owner}: x is {shown(x)}; it must be a Tensor (B, T, E)"
        )
    return size(start, f"{owner}: start")


# ── several axes: images and videos ──────────────────────────────────────────────────────────────


def grid_positions(grid: tuple[int, ...]) -> np.ndarray:
    """The coordinates (N, axes) float64 of all tokens of a grid, such as (frames, rows, columns):
    the last coordinate changes fastest, as in ``patchify`` and ``patchify_video``."""
    grid = checked_grid(grid, "grid_positions")
    coordinates = np.indices(grid, dtype=np.float64)  # (axes, frames, rows, columns)
    return coordinates.reshape(len(grid), -1).T


def angles_of(places: np.ndarray, width: int, base: float = 10000.0) -> np.ndarray:
    """The angles (T, width / 2) of places (T, axes), in radians.

    The width / 2 pairs of sine and cosine are divided evenly among the axes; any pairs left over go
    to the first axes, one each. An axis with n pairs has the frequencies base^(-i/n), i = 0 ...
    n - 1, which are those of PE with d = 2 n.
    """
    axes, parts = places.shape[1], []
    for axis in range(axes):
        pairs = width // 2 // axes + (axis < width // 2 % axes)
        frequencies = base ** (-np.arange(pairs) / pairs)
        parts.append(places[:, axis, None] * frequencies)  # (T, pairs)
    return np.concatenate(parts, axis=1)


def sinusoids_of(places: np.ndarray, width: int, base: float = 10000.0) -> np.ndarray:
    """PE of places (N, axes), with a share of the width for each axis: (N, width)."""
    angles = angles_of(places, width, base)  # (N, width / 2)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(angles), width)


class GridSinusoidalPositions(Module):
    """Adds PE to the tokens of a grid, with a share of the width for each axis. It has no
    parameters, and takes grids of any size.

    base: the 10000 of the formula; grids with few tokens per side may use a smaller one.
    """

    def __init__(self, base: float = 10000.0):
        self.base = number(base, "GridSinusoidalPositions: base", above=1, below=1e300)

    def forward(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """x (B, N, E); grid: the sides of the grid, whose product is N. Returns (B, N, E)."""
        grid = checked_tokens_of_grid("GridSinusoidalPositions", x, grid)
        width = x.shape[2]
        if width % 2 or width < 2 * len(grid):
            raise ValueError(
                f"GridSinusoidalPositions: x has shape {tuple(x.shape)}; its width must be even, "
                f"with at least one pair for each of {len(grid)} axes"
            )
        table = sinusoids_of(grid_positions(grid), width, self.base)  # (N, E)
        return x + constant(array_module(bare(x)), table.astype(x.dtype))


class FactorisedPositions(Module):
    """Adds one learned vector per axis to the tokens of a grid: time[t] + row[r] + column[c].

    grid: the largest sides. A smaller grid, such as a shorter video, uses the first vectors of each
    table. tables: a list of (side, d_model), from N(0, 0.02²).
    """

    def __init__(self, grid: tuple[int, ...], d_model: int):
        grid = checked_grid(grid, "FactorisedPositions")
        d_model = size(d_model, "FactorisedPositions: d_model", 1)
        self.tables = [init.normal((side, d_model), std=0.02) for side in grid]

    def forward(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """x (B, N, E); grid: the sides of the grid, whose product is N. Returns (B, N, E)."""
        grid = checked_tokens_of_grid("FactorisedPositions", x, grid)
        largest, width = tuple(len(table) for table in self.tables), self.tables[0].shape[1]
        if x.shape[2] != width:
            raise ValueError(
                f"FactorisedPositions: x has shape {tuple(x.shape)}; it must be (B, N, {width}), "
                "as wide as the positions"
            )
        if len(grid) != len(largest) or any(map(gt, grid, largest)):
            raise ValueError(
                f"FactorisedPositions: grid is {grid}, but there are learned positions for "
                f"{largest} only: pass a smaller grid, or build the model with a larger one"
            )
        x = x.reshape((x.shape[0], *grid, width))  # (B, frames, rows, columns, E)
        for axis, (table, side) in enumerate(zip(self.tables, grid, strict=True)):
            along_axis = [1] * len(grid)
            along_axis[axis] = side
            x = x + table[:side].reshape((*along_axis, width))
        return x.reshape((x.shape[0], prod(grid), width))


def coordinates_of(positions: ArrayLike, what: str, tokens: int) -> np.ndarray:
    """positions (T,) or (T, axes) as finite float64 coordinates (T, axes) on the host."""
    if isinstance(positions, Tensor):
        positions = positions.numpy()
    places = real_numbers(positions, what)
    if places.ndim not in (1, 2) or len(places) != tokens or 0 in places.shape[1:]:
        raise ValueError(
            f"{what} has shape {places.shape}; it must be ({tokens},), or ({tokens}, axes), one "
            "row per token"
        )
    return places.reshape(tokens, -1) if tokens else places.reshape(0, max(1, places.size))


def checked_grid(grid: Any, owner: str) -> tuple[int, ...]:
    """The sides of a grid: a tuple of one to eight whole numbers, at least 1."""
    grid = sizes(grid, f"{owner}: grid", least=1)
    if not 1 <= len(grid) <= 8 or prod(grid) > MOST_TOKENS:
        raise ValueError(
            f"{owner}: grid is {shown(grid)}; it must have one side per axis, such as (frames, "
            f"rows, columns), and at most {MOST_TOKENS} tokens"
        )
    return grid


def checked_tokens_of_grid(owner: str, x: Any, grid: Any) -> tuple[int, ...]:
    """The sides of the grid. Raises unless x is tokens (B, N, E), floats, with N their product."""
    if not is_numeric(x) or x.dtype.kind != "f" or len(x.shape) != 3:
        raise (TypeError if not is_numeric(x) or x.dtype.kind != "f" else ValueError)(
            f"{owner}: x is {shown(x)}; it must be a Tensor of floats (B, N, E)"
        )
    grid = checked_grid(grid, owner)
    if prod(grid) != x.shape[1]:
        raise ValueError(
            f"{owner}: x has shape {tuple(x.shape)} and grid is {grid}; the grid must have as many "
            f"tokens as x, {x.shape[1]}"
        )
    return grid
