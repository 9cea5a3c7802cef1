"""Winograd convolution: 4x fewer multiplications for 3 x 3 kernels (Lavin & Gray 2016).

The file computes F(4 x 4, 3 x 3): tiles of m x m = 4 x 4 pixels of the result, with r x r = 3 x 3
taps. For each pair of channels, a tile takes (m r)² = 144 multiplications if it is computed
directly, and n² = (m + r - 1)² = 36 here. (F(2 x 2, 3 x 3) takes 16 instead of 36, 2.25x fewer.)

The saving in one dimension: to multiply two polynomials with m and r coefficients, coefficient by
coefficient, takes m r products. Instead, evaluate both at n = m + r - 1 points and multiply the
values, n products. The n values determine the n coefficients of the result (Toom 1963, Cook 1966).
Let the n x k matrix V_k hold the powers 0 to k - 1 of each point. The last point is "∞", where a
polynomial's value is its highest coefficient. Then

    a * w = V_n⁻¹ ((V_m a) ⊙ (V_r w))               ⊙: element by element

This is a transposed convolution: m numbers a, each of which stamps r taps w. A convolution, in
which r taps slide over n pixels d and give m results, is the transpose of this linear map of a
(Winograd 1980; Lavin & Gray 2016, equation 8, with these Aᵀ, G and Bᵀ):

    y = Aᵀ ((G w) ⊙ (Bᵀ d))                 Aᵀ = V_mᵀ (m x n),  G = V_r (n x r),  Bᵀ = V_n⁻ᵀ (n x n)

In two dimensions each matrix acts on both axes of a tile. On the tile as one column of numbers that
is the Kronecker product of the matrix with itself. Each of the 36 products is summed over channels,
so for all tiles together it is a matrix product, (T, C) @ (C, O). The three transforms are matrix
products as well.

differs: Lavin & Gray take the points 0, ±1, ±2 and ∞. The points here lie closer together; in
float32 the rounding error is then a third as large.

Arrays lie channels last, as in conv_kernel.py, which calls this file.
Shapes: T tiles, ``down`` x ``across`` in each image; C channels in, O channels out.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.reduce import BLOCK, blocks

# along each axis
R, M = 3, 4  # taps of the window; pixels of y in a tile
N = M + R - 1  # pixels of x that a tile of y depends on
# The points besides ∞. Of many sets that were tried, this one has the smallest rounding error.
POINTS = (-1.5, -0.75, 0, 0.75, 1.5)


def pays(xp, window, stride, dilation, channels, out, size):
    """Is Winograd convolution faster than columns (im2col) for a result of ``size`` pixels? On CuPy
    it never is, because it would take many launches.

    The estimate counts multiplications. As measured on a Zen 5, copying a number takes as long as 8
    multiplications, or 16 where the columns of an image do not stay in the cache. Two other windows
    were tried: 2 x 2 taps, and 4 x 4 taps with stride 2, which is a window of 2 x 2 taps on cells
    of 2 x 2 pixels. There the transforms cost as much time as the products save.
    """
    if xp is not np or tuple(window) != (R, R) or max(stride) > 1 or max(dilation) > 1:
        return False
    copied = 16 if prod(size) * R * R * channels > 4 * BLOCK else 8
    tile = N * N * (channels * out + 2 * N * N * channels + 4 * M * M * out)
    return prod(tiled(size)) * tile < 0.9 * prod(size) * R * R * channels * (out + copied)


@lru_cache
def transforms(char):
    """Aᵀ (m², n²), G (n², r²) and Bᵀ (n², n²), for both axes at once, in the dtype ``char``."""

    def powers(k):  # V_k, with the point ∞ in its last row
        return np.array([[p**i for i in range(k)] for p in POINTS] + [[0.0] * (k - 1) + [1.0]])

    # The rows of G are scaled to the same size, and those of Bᵀ by the inverse factors, so that
    # (G w) ⊙ (Bᵀ d) stays the same.
    rows = np.abs(powers(R)).sum(axis=1, keepdims=True)
    matrices = powers(M).T, powers(R) / rows, np.linalg.inv(powers(N)).T * rows
    return [np.kron(matrix, matrix).astype(char) for matrix in matrices]


def convolved(xp, x, taps, before, size):
    """Yields (at, y) for a few images x[at] at a time: their convolution y (k, *size, O) with taps
    (r, r, C, O).

    before: rows and columns of padding above and to the left. Below and to the right there is as
    much padding as a result of this size needs.
    """
    _, _, c, o = taps.shape
    down, across = tiled(size)
    to_y, to_u, _ = transforms(x.dtype.char)  # Aᵀ and G
    u = (to_u @ taps.reshape(R * R, c * o)).reshape(N * N, c, o)
    for at, v in windows(xp, x, before, size):
        products = v @ u  # (n², T, O)
        y = (to_y @ products.reshape(N * N, -1)).reshape(M, M, -1, down, across, o)
        y = y.transpose(2, 3, 0, 4, 1, 5).reshape(-1, M * down, M * across, o)
        # the last tiles may reach beyond the result
        yield at, y[:, : size[0], : size[1]]


def to_taps(xp, g, x, before):
    """dL/dtaps (r, r, C, O) from g = dL/dy (N, *size, O): the backward pass of ``convolved``."""
    _, *size, o = g.shape
    to_y, to_u, _ = transforms(x.dtype.char)  # Aᵀ and G
    total: Any = 0.0
    down, across = tiled(size)
    for at, v in windows(xp, x, before, size):
        # pixels of the last tiles beyond the result have gradient 0
        part = xp.zeros((len(g[at]), M * down, M * across, o), g.dtype)
        part[:, : size[0], : size[1]] = g[at]
        part = part.reshape(-1, down, M, across, M, o).transpose(2, 4, 0, 1, 3, 5)
        gproducts = to_y.T @ part.reshape(M * M, -1)  # dL/dproducts
        total = total + v.swapaxes(1, 2) @ gproducts.reshape(N * N, -1, o)  # (n², C, O)
    return (to_u.T @ total.reshape(N * N, -1)).reshape(R, R, -1, o)


def windows(xp, x, before, size):
    """Yields (at, Bᵀ d) for a few images x[at] at a time, so few that they stay in the cache. d:
    the n x n pixels that each tile depends on. Bᵀ d has shape (n², T, C)."""
    _, h, w, c = x.shape
    top, left = before
    down, across = tiled(size)
    *_, to_v = transforms(x.dtype.char)  # Bᵀ
    frame = None
    for at in blocks(xp, len(x), N * N * down * across * c, 8 * BLOCK):
        part = x[at]
        # The padded images. Only the last slice may hold fewer images, so the frame is allocated
        # once or twice. Its edges stay 0, because only ``inside`` is written to.
        if frame is None or len(part) != len(frame):
            frame = xp.zeros((len(part), M * down + R - 1, M * across + R - 1, c), x.dtype)
            image_stride, row_stride, pixel_stride, channel_stride = frame.strides
            # A view of the frame as tiles of n x n pixels, m pixels apart, so neighbours overlap by
            # r - 1. The last tile ends at the edge of the frame: m (down - 1) + n = m down + r - 1.
            tiles = xp.lib.stride_tricks.as_strided(
                frame,
                (N, N, len(part), down, across, c),
                (
                    row_stride,
                    pixel_stride,
                    image_stride,
                    M * row_stride,
                    M * pixel_stride,
                    channel_stride,
                ),
            )
            d = xp.empty(tiles.shape, x.dtype)
        inside = frame[:, top : top + h, left : left + w]
        inside[...] = part[:, : inside.shape[1], : inside.shape[2]]
        d[...] = tiles
        yield at, (to_v @ d.reshape(N * N, -1)).reshape(N * N, -1, c)


def tiled(size):
    """How many tiles of m x m pixels cover a result of this size: (down, across)."""
    return [-(-side // M) for side in size]
