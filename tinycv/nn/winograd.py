"""Winograd convolution: 3 x 3 kernels with 4 times fewer multiplications (Lavin & Gray 2016).

Two polynomials are multiplied coefficient by coefficient, r times m products; or at n = m + r - 1
points, value by value, n products, after which the n values tell the coefficients of the result
(Toom 1963, Cook 1966).  With V_k the matrix of the powers 0 to k - 1 of each point, and "∞" as the
last point, where a polynomial's value is its highest coefficient:

    a * w = V_n⁻¹ ((V_m a) ⊙ (V_r w))               ⊙: value by value

That is how m numbers a are stamped with r taps w. To let r taps walk over n pixels d, m steps long,
is the transpose of it as a linear map of a (Winograd 1980; Lavin & Gray 2016, equation 8, whose Aᵀ,
G and Bᵀ these are):

    y = Aᵀ ((G w) ⊙ (Bᵀ d))                 Aᵀ = V_mᵀ (m x n),  G = V_r (n x r),  Bᵀ = V_n⁻ᵀ (n x n)

Down and across at once, each matrix acts on both axes: on the image of a tile, taken as one column,
that is the product of its Kronecker square.  With r = 3 taps and m = 4, a tile of 4 x 4 pixels of y
takes 36 products in place of 144, each a sum over channels: a product of matrices, one for each of
the 36. The transforms are three more products of matrices.

differs: Lavin & Gray take the points 0, ±1, ±2. Ours lie closer together, which in float32 loses a
third as much.

Channels last, as in conv_kernel.py.  Of T tiles: th x tw, in each of k images.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.reduce import BLOCK, blocks

R, M = 3, 4  # taps, and pixels of y in a tile, either way
N = M + R - 1  # pixels of x that a tile looks at
# and infinity: of many tried, those that lose the fewest digits
POINTS = (-1.5, -0.75, 0, 0.75, 1.5)


def pays(xp, window, stride, dilation, channels, out, size):
    """Is this quicker than columns, for ``size`` pixels that go out? On CuPy it never is: there it
    would be many launches.

    In multiplications, as measured on a Zen 5: to copy a number takes as long as 8, or 16 where the
    columns of an image do not stay in the cache. Windows of 2 x 2 taps, and of 4 x 4 with stride 2,
    which are such on cells of 2 x 2 pixels, were tried: what fewer products gain, the transforms
    lose.
    """
    if xp is not np or tuple(window) != (R, R) or max(stride) > 1 or max(dilation) > 1:
        return False
    copied = 16 if prod(size) * R * R * channels > 4 * BLOCK else 8
    tile = N * N * (channels * out + 2 * N * N * channels + 4 * M * M * out)
    return prod(tiled(size)) * tile < 0.9 * prod(size) * R * R * channels * (out + copied)


@lru_cache
def squared(char):
    """Aᵀ (m², n²), G (n², r²) and Bᵀ (n², n²), for both axes at once."""

    def powers(k):
        return np.array([[p**i for i in range(k)] for p in POINTS] + [[0.0] * (k - 1) + [1.0]])

    # G's rows are made equally large, and Bᵀ's in return
    rows = np.abs(powers(R)).sum(axis=1, keepdims=True)
    matrices = powers(M).T, powers(R) / rows, np.linalg.inv(powers(N)).T * rows
    return [np.kron(matrix, matrix).astype(char) for matrix in matrices]


def convolved(xp, x, taps, before, size):
    """Yields (at, y): what x[at], a few images (k, H, W, C), give with taps (r, r, C, O), y (k,
    *size, O).

    before: rows and columns of padding above and to the left; there is as much below and to the
    right as ``size`` asks for.
    """
    _, _, c, o = taps.shape
    down, across = tiled(size)
    answer, enlarge, _ = squared(x.dtype.char)
    u = (enlarge @ taps.reshape(R * R, c * o)).reshape(N * N, c, o)
    for at, v in windows(xp, x, before, size):
        products = v @ u  # (n², T, O)
        y = (answer @ products.reshape(N * N, -1)).reshape(M, M, -1, down, across, o)
        y = y.transpose(2, 3, 0, 4, 1, 5).reshape(-1, M * down, M * across, o)
        yield at, y[:, : size[0], : size[1]]


def to_taps(xp, g, x, before):
    """dL/dtaps, (r, r, C, O), from g = dL/dy (N, *size, O): every product is pulled back."""
    _, *size, o = g.shape
    answer, enlarge, _ = squared(x.dtype.char)
    total: Any = 0.0
    down, across = tiled(size)
    for at, v in windows(xp, x, before, size):
        # y that was cut off has no gradient
        part = xp.zeros((len(g[at]), M * down, M * across, o), g.dtype)
        part[:, : size[0], : size[1]] = g[at]
        part = part.reshape(-1, down, M, across, M, o).transpose(2, 4, 0, 1, 3, 5)
        asked = answer.T @ part.reshape(M * M, -1)  # dL/dproducts
        total = total + v.swapaxes(1, 2) @ asked.reshape(N * N, -1, o)  # (n², C, O)
    return (enlarge.T @ total.reshape(N * N, -1)).reshape(R, R, -1, o)


def windows(xp, x, before, size):
    """Yields (at, Bᵀ d), (n², T, C), of a few images at a time: so few that it stays in a cache."""
    _, h, w, c = x.shape
    top, left = before
    down, across = tiled(size)
    *_, differences = squared(x.dtype.char)
    frame = None
    for at in blocks(xp, len(x), N * N * down * across * c, 8 * BLOCK):
        part = x[at]
        if frame is None or len(part) != len(frame):
            frame = xp.zeros((len(part), M * down + R - 1, M * across + R - 1, c), x.dtype)
            image, row, pixel, each = frame.strides
            # they overlap, by r - 1
            tiles = xp.lib.stride_tricks.as_strided(
                frame,
                (N, N, len(part), down, across, c),
                (row, pixel, image, M * row, M * pixel, each),
            )
            d = xp.empty(tiles.shape, x.dtype)
        inside = frame[:, top : top + h, left : left + w]
        inside[...] = part[:, : inside.shape[1], : inside.shape[2]]
        d[...] = tiles
        yield at, (differences @ d.reshape(N * N, -1)).reshape(N * N, -1, c)


def tiled(size):
    """How many tiles cover so many pixels."""
    return [-(-side // M) for side in size]
