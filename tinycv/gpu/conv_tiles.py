"""Convolution's three linear maps on a GPU as products of matrices of which one is never written
out: implicit GEMM.

What the windows see, written out as columns, is nine times the image where a window has nine taps,
and to write and read it takes longer than the product.  Here the product's own kernel looks the
numbers up, as it comes to need them:

    y[p, o] = Σ_k seen[p, k] w[k, o]
    seen[p, (tap, c)] = x[p moved by tap, c], or 0 outside the image

    p: a pixel of all images;  k: a tap and a channel;  o: a channel that comes out

A block of threads makes a tile of y, 128 pixels by 128 channels (64 or 32 where there are few);
conv_tiles_kernels.py has the CUDA text.

    look     y from x. Also x's gradient from y's, since a pixel hears from the windows that saw it:
             there a stride parts the pixels into classes, (even, odd) x (even, odd) for 2, that
             were seen through different taps.
    weigh    dL/dw[k, o] = Σ_p seen[p, k] g[p, o]: a long sum for a small answer, so every block
             takes a share of the pixels, and ``add_up`` adds the shares in a fixed order: no
             atomics, so two runs give the same bits.

Only for float32, one group, channels in eights (a slab has one tap, and a thread reads 4 channels,
16 bytes, at a time), and so much work that it fills a GPU: ``suits``.  Everything else is left to
conv_kernel.py.  Images lie channels last.

Chetlur et al. 2014, "cuDNN: Efficient primitives for deep learning", arXiv 1410.0759, section 3.
How kernels are written: cuda.py. On an H100, where the images fill it, 33 to 43 TFLOP/s in all
three maps, and columns 12 to 39; small images reach 7 to 10 and 5 to 8 (python -m benchmarks.tiles,
benchmarks/results/gpu/conv_tiles.json).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, prod

import numpy as np
from numpy.typing import DTypeLike

from tinycv.gpu.conv_tiles_kernels import (
    CLASSES,
    LOOK,
    NO_AXIS,
    SHAPES,
    SLAB,
    TILE,
    Axis,
    Look,
    kernels,
    threads,
)
from tinycv.gpu.cuda import by_value, compiled, warps_for
from tinycv.gpu.gemm import tf32_allowed

DEARER = {128: 1.0, 64: 1.02, 32: 1.4}  # what a channel costs in a tile so wide: a guess
# blocks of 256 threads that an H100 works at together: 2 on each of 132
AT_ONCE = 264
# numbers of an answer, from which on its tiles fill a GPU: a guess
MANY = 3 << 18
SHORTEST = 256  # pixels of a share, at least
MOST = 1 << 31  # entries of an array: the kernels count in 32 bits


# ── which way ────────────────────────────────────────────────────────────────────────────────────


def suits(
    dtype: DTypeLike,
    channels: int,
    outputs: int,
    window: Sequence[int],
    stride: tuple,
    groups: int,
    numbers: int,
    most: int,
) -> bool:
    """Is this a call for tiles? numbers: of the answer, or for dL/dw of g. most: entries of the
    largest array.

    A window of one pixel has no columns to save, and cuBLAS is the better at plain products, with
    tensor cores at all.
    """
    return (
        dtype == "float32"
        and not tf32_allowed()
        and groups == 1
        and channels % 8 == 0
        and outputs % 8 == 0
        and prod(window) > 1
        and max(stride) <= CLASSES
        and numbers >= MANY
        and most < MOST
    )


def width(outputs: int, tiles: int) -> int:
    """How wide to make tiles for so many channels, and so many tiles one above the other: the
    cheapest, if they suffice."""
    enough = [wide for wide in SHAPES if wide < 128 or tiles * -(-outputs // wide) >= AT_ONCE]
    return min(enough, key=lambda wide: -(-outputs // wide) * wide * DEARER[wide])


# ── the three maps: arrays lie channels last; w is (O, C, kH, kW) ─────────────────────────────────


def forward(xp, x, w, size, stride, padding, dilation, bias=None):
    """y (N, H', W', O) of x (N, H, W, C); size is (H', W')."""
    axes = walks(size, w.shape[2:], stride, padding, dilation)
    look = look_of(x.shape, (*size, len(w)), w.shape[3], *axes)
    return looked(xp, x, w.transpose(2, 3, 1, 0), look, bias)


def to_input(xp, g, w, sides, stride, padding, dilation, bias=None):
    """dL/dx (N, H, W, C) from g = dL/dy (N, H', W', O); sides is (H, W)."""
    window = w.shape[2:]
    axes = [seen_from(*each) for each in zip(sides, window, stride, padding, dilation, strict=True)]
    look = look_of(g.shape, (*sides, w.shape[1]), window[1], *axes)
    return looked(xp, g, w.transpose(2, 3, 0, 1), look, bias)


def to_weight(xp, g, x, w_shape, stride, padding, dilation):
    """dL/dw (O, C, kH, kW) from g = dL/dy (N, H', W', O) and x (N, H, W, C)."""
    o, c, *window = w_shape
    terms, pixels = prod(window) * c, prod(g.shape[:3])
    wide = width(o, AT_ONCE)
    tiles = -(-terms // TILE) * -(-o // wide)
    span = max(SHORTEST, -(-pixels // (shares_of(tiles, wide) * SLAB)) * SLAB)
    shares = xp.empty((-(-pixels // span), terms, o), "float32")
    axes = walks(g.shape[1:3], window, stride, padding, dilation)
    look = by_value(look_of(x.shape, g.shape[1:], window[1], *axes))
    x, g, grid = flat(xp, x), flat(xp, g), (tiles, len(shares))
    launch(xp, wide, "weigh", grid, look, span, x, g, shares)
    gw = xp.empty(w_shape, "float32")
    kernels[wide].add_up(shares, warps_for(gw.size), len(shares), prod(window), c, o, shares, gw)
    return gw


def shares_of(tiles, wide):
    """Into how many shares the pixels are parted, so that the GPU is full to the end: the fewer
    rounds of blocks the better, where a round takes as long as a share. Few shares where there are
    many tiles: each is written out and read."""
    together = AT_ONCE * 256 // threads(wide)
    most = max(1, together // tiles, min(8, 4 * together // tiles))
    return min(range(1, most + 1), key=lambda shares: -(-tiles * shares // together) / shares)


def looked(xp, x, w, look, bias):
    """What ``look`` describes, by w (kH, kW, channels in, channels out)."""
    images, rows, columns, outputs = (
        int(look[name]) for name in ("images", "rows", "columns", "outputs")
    )
    classes = [axis[axis["every"] > 0] for axis in (look["down"], look["right"])]
    ways = prod(map(len, classes))
    tiles = -(-images * prod(int(axis["count"].max()) for axis in classes) // TILE)
    wide = width(outputs, tiles * ways)
    bias = None if bias is None else xp.ascontiguousarray(bias, "float32")
    y = xp.empty((images, rows, columns, outputs), "float32")
    grid = tiles * -(-outputs // wide), 1, ways
    x, w = flat(xp, x), flat(xp, w)
    launch(xp, wide, "look", grid, by_value(look), x, w, bias, y)
    return y


# ── how a window walks, for struct Axis ───────────────────────────────────────────────────────────


def walks(
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> list[tuple[Axis]]:
    """Down and right, the one class of each: the q-th output looks through tap t at q stride -
    padding + t dilation."""
    return [
        (Axis(0, every=1, count=n, stride=s, shift=-p, move=d, tap=0, next=1, taps=k),)
        for n, k, s, (p, _), d in zip(size, window, stride, padding, dilation, strict=True)
    ]


@lru_cache(maxsize=256)
def seen_from(
    side: int, taps: int, stride: int, padding: tuple[int, int], dilation: int
) -> tuple[Axis, ...]:
    """Which steps saw the pixels of one axis: the step q that sees pixel h through tap t has q
    stride - padding + t dilation = h. One class for each remainder of h by the stride, since h +
    padding - t dilation must be a multiple of it; of the taps that are left in it, every
    ``next``-th. Those with most taps come first, since they take longest."""
    made, after = [], stride // gcd(stride, dilation)
    for first in range(min(stride, side)):
        begin = first + padding[0]
        fits = [t for t in range(min(taps, after)) if (begin - t * dilation) % stride == 0]
        tap = fits[0] if fits else 0
        axis = Axis(
            first,
            every=stride,
            count=-(-(side - first) // stride),
            stride=1,
            shift=(begin - tap * dilation) // stride,
            move=-after * dilation // stride,
            tap=tap,
            next=after,
            taps=len(range(tap, taps, after)) if fits else 0,
        )
        made.append(axis)
    return tuple(sorted(made, key=lambda axis: -axis.taps))


@lru_cache(maxsize=256)
def look_of(
    x_shape: tuple[int, ...],
    y_size: tuple[int, ...],
    across: int,
    down: tuple[Axis, ...],
    right: tuple[Axis, ...],
) -> np.ndarray:
    """The kernels' struct Look. x_shape (N, H, W, C); y_size (H', W', O)."""
    images, height, width, channels = x_shape
    rows, columns, outputs = y_size
    look = Look(
        images,
        height,
        width,
        channels,
        rows,
        columns,
        outputs,
        across,
        classes=len(right),
        down=[*down, *[NO_AXIS] * (CLASSES - len(down))],
        right=[*right, *[NO_AXIS] * (CLASSES - len(right))],
    )
    return np.array(look, LOOK)


# ── launching ────────────────────────────────────────────────────────────────────────────────────


def launch(xp, wide, name, grid, *arguments):
    """One kernel, by tiles of so many channels."""
    compiled(xp, kernels[wide].source, "f", name, True)(grid, (threads(wide),), arguments)


def flat(xp, x):
    """x (N, H, W, C) in one piece of memory, in the order of its axes, and where 16 bytes can be
    read at once."""
    if x.flags.c_contiguous and x.data.ptr % 16 == 0:
        return x
    n, h, w, c = x.shape
    # as it lies, if it came from elsewhere
    before = x.transpose(0, 3, 1, 2)
    if not before.flags.c_contiguous:
        return x.copy(order="C")
    y = xp.empty(x.shape, x.dtype)
    launch(xp, 128, "turn", (n * -(-c // 32) * -(-(h * w) // 32),), c, h * w, before, y)
    return y
