"""Convolution by implicit GEMM on a GPU: a matrix product whose columns are never written.

Written out, the columns of im2col are nine times as large as the image for a window of nine taps.
Writing and reading them takes longer than the product.  Here the kernel of the product reads each
number from the image when it needs it (Chetlur et al. 2014, "cuDNN: Efficient primitives for deep
learning", arXiv 1410.0759, section 3):

    y[p, o] = Σ_k seen[p, k] w[k, o]
    seen[p, (tap, c)] = x[p moved by tap, c], or 0 outside the image

    p: a pixel of all images;  k: a tap and an input channel;  o: an output channel

A block of threads computes a tile of y: 128 pixels by 128 output channels, or 64 or 32 if there are
few.  The CUDA text is in conv_tiles_kernels.py:

    look      y from x.  Also dL/dx from g, where every pixel of x collects g from the windows that
              saw it.  With a stride, different pixels are seen through different taps, so they are
              divided into classes: for stride 2, (even, odd) rows x (even, odd) columns
    weigh     dL/dw[k, o] = Σ_p seen[p, k] g[p, o].  These are long sums for a small result, so each
              block takes a share of the pixels
    add_up    adds the shares in a fixed order.  There are no atomic additions, so two runs give the
              same bits

``suits`` says when this is used: for float32, one group, numbers of channels that are multiples of
8 (a slab of 8 terms belongs to one tap, and a thread reads 4 channels, 16 bytes, at a time), and
enough work to fill a GPU.  conv_kernel.py does everything else.  Images lie channels last.

On an H100 that is filled by the images, tiles reach 33 to 43 TFLOP/s in the three maps, and columns
12 to 39. With small images tiles reach 7 to 10 and columns 5 to 8 (python -m benchmarks.tiles,
benchmarks/results/gpu/conv_tiles.json).
How kernels are written: cuda.py.
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

COST = {128: 1.0, 64: 1.02, 32: 1.4}  # relative time per channel for each width of tile: a guess
# blocks of 256 threads that run on an H100 at the same time: 2 on each of its 132 multiprocessors
AT_ONCE = 264
# With this many numbers in the result, the tiles fill a GPU: a guess.
MANY = 3 << 18
SHORTEST = 256  # pixels in a share, at least
MOST = 1 << 31  # entries in an array, at most: the kernels count in 32 bits


# ── when to use tiles, and how wide ──────────────────────────────────────────────────────────────


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
    """Should this convolution run by tiles? numbers: entries of the result, or for dL/dw, of g.
    most: entries of the largest array.

    Not with a window of one pixel, which needs no columns: cuBLAS is faster at a plain product. Not
    with TF32 either: only cuBLAS uses tensor cores.
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
    """How many channels wide to make the tiles, for so many output channels and so many tiles of
    pixels: the width with the least cost. 128 only if that still gives a block to each place on the
    GPU."""
    enough = [wide for wide in SHAPES if wide < 128 or tiles * -(-outputs // wide) >= AT_ONCE]
    return min(enough, key=lambda wide: -(-outputs // wide) * wide * COST[wide])


# ── the three linear maps. Arrays lie channels last; w is (O, C, kH, kW) ─────────────────────────


def forward(xp, x, w, size, stride, padding, dilation, bias=None):
    """y (N, H', W', O) of x (N, H, W, C); size is (H', W')."""
    axes = walks(size, w.shape[2:], stride, padding, dilation)
    look = look_of(x.shape, (*size, len(w)), w.shape[3], *axes)
    return looked(xp, x, w.transpose(2, 3, 1, 0), look, bias)


def to_input(xp, g, w, sides, stride, padding, dilation, bias=None):
    """dL/dx (N, H, W, C) from g = dL/dy (N, H', W', O); sides is (H, W)."""
    window = w.shape[2:]
    settings = zip(sides, window, stride, padding, dilation, strict=True)
    axes = [seen_from(*axis_settings) for axis_settings in settings]
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
    """Into how many shares to divide the pixels.

    The GPU runs ``at_once`` blocks at a time, so tiles * shares blocks take ⌈tiles shares /
    at_once⌉ rounds, each as long as one share, 1 / shares. The number with the least time is taken.
    There is an upper limit, lower for more tiles, because every share is written to memory and read
    again.
    """
    at_once = AT_ONCE * 256 // threads(wide)
    most = max(1, at_once // tiles, min(8, 4 * at_once // tiles))
    return min(range(1, most + 1), key=lambda shares: -(-tiles * shares // at_once) / shares)


def looked(xp, x, w, look, bias):
    """Launches the kernel ``look`` for the struct ``look``, with w (kH, kW, channels in, channels
    out). Returns its result, channels last."""
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


# ── how a window moves along an axis: struct Axis ────────────────────────────────────────────────


def walks(
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> list[tuple[Axis]]:
    """For y from x: one class down and one across. Output q looks through tap t at pixel
    q stride - padding + t dilation."""
    return [
        (Axis(0, every=1, count=n, stride=s, shift=-p, move=d, tap=0, next=1, taps=k),)
        for n, k, s, (p, _), d in zip(size, window, stride, padding, dilation, strict=True)
    ]


@lru_cache(maxsize=256)
def seen_from(
    side: int, taps: int, stride: int, padding: tuple[int, int], dilation: int
) -> tuple[Axis, ...]:
    """For dL/dx from g: which steps q saw the pixels h of one axis, and through which taps t.

    They are those with q stride - padding + t dilation = h, so h + padding - t dilation has to be a
    multiple of the stride. Which taps fulfil that depends on the remainder of h by the stride. So
    there is one class of pixels for each remainder, and in it every ``next``-th tap counts. The
    classes with the most taps come first, since they take the longest.
    """
    classes, after = [], stride // gcd(stride, dilation)
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
        classes.append(axis)
    return tuple(sorted(classes, key=lambda axis: -axis.taps))


@lru_cache(maxsize=256)
def look_of(
    x_shape: tuple[int, ...],
    y_size: tuple[int, ...],
    across: int,
    down: tuple[Axis, ...],
    right: tuple[Axis, ...],
) -> np.ndarray:
    """The struct Look that the kernels take. x_shape (N, H, W, C); y_size (H', W', O); across: taps
    of the window across."""
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
    """Launches the kernel ``name`` for tiles that are ``wide`` channels wide."""
    compiled(xp, kernels[wide].source, "f", name, True)(grid, (threads(wide),), arguments)


def flat(xp, x):
    """x (N, H, W, C), contiguous in the order of its axes, at an address from which 16 bytes can be
    read at once."""
    if x.flags.c_contiguous and x.data.ptr % 16 == 0:
        return x
    n, h, w, c = x.shape
    channels_first = x.transpose(0, 3, 1, 2)
    if not channels_first.flags.c_contiguous:
        return x.copy(order="C")
    # contiguous as (N, C, H, W), the usual layout of an array that no convolution has made
    y = xp.empty(x.shape, x.dtype)
    launch(xp, 128, "turn", (n * -(-c // 32) * -(-(h * w) // 32),), c, h * w, channels_first, y)
    return y
