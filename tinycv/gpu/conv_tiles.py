"""Convolution's three linear maps on a GPU as products of matrices of which one is never written
out: implicit GEMM.

What the windows see, written out as columns, is nine times the image where a window has nine taps,
and to write and read it takes longer than the product.  Here the product's own kernel looks the
numbers up, as it comes to need them:

    y[p, o] = Σ_k seen[p, k] w[k, o]
    seen[p, (tap, c)] = x[p moved by tap, c], or 0 outside the image

    p: a pixel of all images;  k: a tap and a channel;  o: a channel that comes out

A block of threads makes a tile of y, 128 pixels by 128 channels (64 or 32 where there are few), and
goes along k in slabs of 8.  Every slab is fetched once, into memory that the block shares; there
each number is wanted 128 times.  A thread has 8 x 8 of the tile's sums in its registers: for each k
it reads 8 + 8 numbers, and multiplies 64 pairs.  Meanwhile the next slab is on its way.

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
Tiles of blocks, of warps and of threads: NVIDIA, "Efficient GEMM in CUDA", in CUTLASS's
documentation.  How kernels are written: cuda.py. On an H100, where the images fill it, 33 to 43
TFLOP/s in all three maps, and columns 12 to 39; small images reach 7 to 10 and 5 to 8 (python -m
benchmarks.tiles, benchmarks/results/gpu/conv_tiles.json).
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd, prod
from typing import Any

import numpy as np

from tinycv.gpu.cuda import Kernels, by_value, compiled, warps_for
from tinycv.gpu.gemm import tf32_allowed

# pixels, or terms, of a tile; of the sum that is fetched at a time
TILE, SLAB = 128, 8
# channels of a tile: warps across it, and a thread's groups of 4 channels
SHAPES = {128: (2, 2), 64: (1, 2), 32: (1, 1)}
DEARER = {128: 1.0, 64: 1.02, 32: 1.4}  # what a channel costs in such a tile: a guess
# blocks of 256 threads that an H100 works at together: 2 on each of 132
AT_ONCE = 264
# numbers of an answer, from which on its tiles fill a GPU: a guess
MANY = 3 << 18
SHORTEST = 256  # pixels of a share, at least
MOST = 1 << 31  # entries of an array: the kernels count in 32 bits
CLASSES = 4  # the largest stride, see look

TEXT = r"""
// One axis of what a block makes. Its outputs are first, first + every, ..., count of them. The
// q-th looks through its t-th tap at q stride + shift + t move; and that is tap + t next of the
// window. There are so many taps.
struct Axis { int first, every, count, stride, shift, move, tap, next, taps; };

// x (images, height, width, channels) and y (images, rows, columns, outputs); the window is so many
// taps across. down, right: the axes; classes is how many ways there are to the right.
struct Look { int images, height, width, channels, rows, columns, outputs, across, classes;
    Axis down[4], right[4]; };

// the tile's channels, and who makes it
constexpr int WIDE = 32 * QUADS * ACROSS, THREADS = 128 * ACROSS;
// 4 of a slab's 128 x 8 numbers, how often
constexpr int EACH = 256 / THREADS;

__device__ void four(float* to, const float* from) { *(float4*)to = *(const float4*)from; }
__device__ void none(float* to) { to[0] = to[1] = to[2] = to[3] = 0; }

// A warp makes 32 x 32 QUADS of the tile. Of a thread's 8 rows four begin at row, four at row + 16;
// its columns so too. Neighbours in pairs share a row or a column, so that what they read of it is
// read once.
__device__ int first_row() {
    return threadIdx.x / 32 / ACROSS * 32 + (threadIdx.x % 32 / 16 * 2 + threadIdx.x % 2) * 4;
}
__device__ int first_column() {
    return threadIdx.x / 32 % ACROSS * (32 * QUADS) + threadIdx.x % 32 / 2 % 8 * 4;
}

// total += aᵀ b, of one slab.
template <int PITCH>
__device__ void multiply(float (&total)[8][4 * QUADS], const float (&a)[8][PITCH],
        const float (&b)[8][WIDE]) {
    const int row = first_row(), column = first_column();
    #pragma unroll
    for (int k = 0; k < 8; k++) {
        __align__(16) float left[8], right[4 * QUADS];
        four(left, &a[k][row]);
        four(left + 4, &a[k][row + 16]);
        #pragma unroll
        for (int q = 0; q < QUADS; q++) four(right + 4 * q, &b[k][column + 32 * q]);
        #pragma unroll
        for (int m = 0; m < 8; m++)
            #pragma unroll
            for (int n = 0; n < 4 * QUADS; n++) total[m][n] += left[m] * right[n];
    }
}

// y[p, o] = bias[o] + the sum over taps and channels of x[p moved by tap, c] w[tap, c, o].
KERNEL __launch_bounds__(THREADS, 512 / THREADS)
        look(const __grid_constant__ Look l, const float* __restrict__ x,
        const float* __restrict__ w, const float* bias, float* y) {
    // where it looks without a tap; where it goes in y
    struct Pixel { int rows_before, h, v, place; };
    // 132: so writes fall into different banks
    __shared__ __align__(16) float seen[2][8][132], taps[2][8][WIDE];
    __shared__ Pixel pixels[128];
    __shared__ Axis down, right;
    const int t = threadIdx.x, beside = (l.outputs + WIDE - 1) / WIDE;
    if (t == 0) {
        down = l.down[blockIdx.z / l.classes];
        right = l.right[blockIdx.z % l.classes];
    }
    __syncthreads();
    const int each = down.count * right.count, count = l.images * each;
    const int start = blockIdx.x / beside * 128, first = blockIdx.x % beside * WIDE;
    // a class with fewer pixels than the others
    if (start >= count) return;
    if (t < 128) {
        const int p = start + t, image = p / each, h = p % each / right.count, v = p % right.count;
        pixels[t] = {image * l.height, p < count ? h * down.stride + down.shift : -(1 << 30),
            v * right.stride + right.shift,
            ((image * l.rows + down.first + h * down.every) * l.columns + right.first
                + v * right.every) * l.outputs};
    }
    __syncthreads();

    // What this thread fetches: 4 channels of a pixel (or of two), and the weights of one channel
    // to 4 outputs.
    const int pixel = t / 2, channel = t % 2 * 4, k = t / (WIDE / 4), column = t % (WIDE / 4) * 4;
    const bool weighs = k < 8 && first + column < l.outputs;
    __align__(16) float numbers[EACH][4], weights[4];
    // which tap is next; channels left of this one
    int i = 0, j = 0, left = 0, from, at[EACH];

    auto fetch = [&] {
        if (left == 0) {
            #pragma unroll
            for (int r = 0; r < EACH; r++) {
                const Pixel p = pixels[pixel + r * (THREADS / 2)];
                const int h = p.h + i * down.move, v = p.v + j * right.move;
                const bool inside = h >= 0 && h < l.height && v >= 0 && v < l.width;
                at[r] = inside ? ((p.rows_before + h) * l.width + v) * l.channels + channel
                    : -(1 << 30);
            }
            const int tap = (down.tap + i * down.next) * l.across + right.tap + j * right.next;
            from = (tap * l.channels + k) * l.outputs + first + column;
            left = l.channels;
            if (++j == right.taps) { j = 0; i++; }
        }
        #pragma unroll
        for (int r = 0; r < EACH; r++) {
            if (at[r] >= 0) four(numbers[r], x + at[r]); else none(numbers[r]);
            at[r] += 8;
        }
        if (weighs) four(weights, w + from); else none(weights);
        from += 8 * l.outputs;
        left -= 8;
    };
    auto keep = [&](int half) {
        #pragma unroll
        for (int r = 0; r < EACH; r++)
            #pragma unroll
            for (int e = 0; e < 4; e++)
                seen[half][channel + e][pixel + r * (THREADS / 2)] = numbers[r][e];
        if (k < 8) four(&taps[half][k][column], weights);
    };

    float total[8][4 * QUADS] = {};
    const int slabs = down.taps * right.taps * (l.channels / 8);
    if (slabs) {
        fetch();
        keep(0);
    }
    __syncthreads();
    for (int slab = 0; slab < slabs; slab++) {
        // on its way, while this one is multiplied
        if (slab + 1 < slabs) fetch();
        multiply(total, seen[slab % 2], taps[slab % 2]);
        if (slab + 1 < slabs) keep((slab + 1) % 2);
        __syncthreads();
    }

    #pragma unroll
    for (int q = 0; q < QUADS; q++) {
        const int o = first + first_column() + 32 * q;
        if (o >= l.outputs) continue;
        float more[4] = {};
        if (bias) for (int e = 0; e < 4; e++) more[e] = bias[o + e];
        #pragma unroll
        for (int m = 0; m < 8; m++) {
            const int p = first_row() + m % 4 + m / 4 * 16;
            __align__(16) float sum[4];
            #pragma unroll
            for (int e = 0; e < 4; e++) sum[e] = total[m][4 * q + e] + more[e];
            if (start + p < count) four(y + pixels[p].place + o, sum);
        }
    }
}

// shares[s, (tap, c), o] = the sum over the pixels p of share s of x[p moved by tap, c] g[p, o]. A
// share has span pixels.
KERNEL __launch_bounds__(THREADS, 512 / THREADS)
        weigh(const __grid_constant__ Look l, Int span, const float* __restrict__ x,
        const float* __restrict__ g, float* shares) {
    __shared__ __align__(16) float seen[2][8][128], told[2][8][WIDE];
    const Axis &down = l.down[0], &right = l.right[0];
    const int t = threadIdx.x, beside = (l.outputs + WIDE - 1) / WIDE,
        terms = down.taps * right.taps * l.channels;
    const int start = blockIdx.x / beside * 128, first = blockIdx.x % beside * WIDE;
    const int count = l.images * l.rows * l.columns, begin = blockIdx.y * int(span);
    int left = count - begin < span ? count - begin : int(span);
    const int slabs = (left + 7) / 8;

    // What this thread fetches: 4 terms of a pixel (or of two), and g of one pixel at 4 outputs.
    const int term = start + t % 32 * 4, tap = term / l.channels, channel = term % l.channels,
        pixel = t / 32;
    const int top = term < terms ? down.shift + tap / right.taps * down.move : -(1 << 30);
    const int edge = right.shift + tap % right.taps * right.move;
    const int k = t / (WIDE / 4), column = t % (WIDE / 4) * 4;
    const bool weighs = k < 8 && first + column < l.outputs;
    __align__(16) float numbers[EACH][4], gradients[4];
    int from = (begin + k) * l.outputs + first + column, image[EACH], i[EACH], j[EACH];
    #pragma unroll
    for (int r = 0; r < EACH; r++) {
        const int p = begin + pixel + r * (THREADS / 32);
        image[r] = p / (l.rows * l.columns);
        i[r] = p / l.columns % l.rows;
        j[r] = p % l.columns;
    }

    auto fetch = [&] {
        #pragma unroll
        for (int r = 0; r < EACH; r++) {
            const int h = i[r] * down.stride + top, v = j[r] * right.stride + edge;
            const bool inside = h >= 0 && h < l.height && v >= 0 && v < l.width
                && image[r] < l.images;
            if (inside)
                four(numbers[r],
                    x + ((image[r] * l.height + h) * l.width + v) * l.channels + channel);
            else none(numbers[r]);
            // eight pixels on, in the next row or image perhaps
            for (j[r] += 8; j[r] >= l.columns; j[r] -= l.columns)
                if (++i[r] == l.rows) { i[r] = 0; image[r]++; }
        }
        if (weighs && k < left) four(gradients, g + from); else none(gradients);
        from += 8 * l.outputs;
        left -= 8;
    };
    auto keep = [&](int half) {
        #pragma unroll
        for (int r = 0; r < EACH; r++)
            four(&seen[half][pixel + r * (THREADS / 32)][t % 32 * 4], numbers[r]);
        if (k < 8) four(&told[half][k][column], gradients);
    };

    float total[8][4 * QUADS] = {};
    fetch();
    keep(0);
    __syncthreads();
    for (int slab = 0; slab < slabs; slab++) {
        if (slab + 1 < slabs) fetch();
        multiply(total, seen[slab % 2], told[slab % 2]);
        if (slab + 1 < slabs) keep((slab + 1) % 2);
        __syncthreads();
    }

    #pragma unroll
    for (int q = 0; q < QUADS; q++)
        #pragma unroll
        for (int m = 0; m < 8; m++) {
            const int row = start + first_row() + m % 4 + m / 4 * 16,
                o = first + first_column() + 32 * q;
            __align__(16) float sum[4];
            #pragma unroll
            for (int e = 0; e < 4; e++) sum[e] = total[m][4 * q + e];
            if (row < terms && o < l.outputs)
                four(shares + (Int(blockIdx.y) * terms + row) * l.outputs + o, sum);
        }
}

// gw (outputs, channels, taps), the sum of the shares (taps, channels, outputs).
KERNEL add_up(Int count, Int taps, Int channels, Int outputs, const float* shares, float* gw) {
    const Int entries = taps * channels * outputs;
    EACH_ENTRY(i, entries) {
        float total = 0;
        #pragma unroll 8
        for (Int s = 0; s < count; s++) total += shares[s * entries + i];
        gw[(i % outputs * channels + i / outputs % channels) * taps
            + i / outputs / channels] = total;
    }
}

// y (images, pixels, channels) of x (images, channels, pixels): by squares of 32 x 32, so that both
// sides lie in rows.
KERNEL turn(Int channels, Int pixels, const float* x, float* y) {
    __shared__ float square[32][33];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const Int down = (channels + 31) / 32, across = (pixels + 31) / 32,
        image = blockIdx.x / (down * across);
    const Int c = blockIdx.x / across % down * 32, p = blockIdx.x % across * 32;
    for (int r = warp; r < 32; r += warps)
        if (c + r < channels && p + lane < pixels)
            square[r][lane] = x[(image * channels + c + r) * pixels + p + lane];
    __syncthreads();
    for (int r = warp; r < 32; r += warps)
        if (p + r < pixels && c + lane < channels)
            y[(image * pixels + p + r) * channels + c + lane] = square[lane][r];
}
"""

kernels = {
    wide: Kernels(f"constexpr int ACROSS = {across}, QUADS = {quads};\n{TEXT}", contracted=True)
    for wide, (across, quads) in SHAPES.items()
}

AXIS = np.dtype(
    [
        (name, "i4")
        for name in ("first", "every", "count", "stride", "shift", "move", "tap", "next", "taps")
    ]
)
LOOK = np.dtype(
    [
        *(
            (name, "i4")
            for name in (
                "images",
                "height",
                "width",
                "channels",
                "rows",
                "columns",
                "outputs",
                "across",
                "classes",
            )
        ),
        ("down", AXIS, CLASSES),
        ("right", AXIS, CLASSES),
    ]
)


# ── which way ────────────────────────────────────────────────────────────────────────────────────


def suits(
    dtype: Any,
    channels: int,
    outputs: int,
    window: Any,
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
    (n, *sides, c), (o, _, *window) = x.shape, w.shape
    axes = [(walk,) for walk in walks(size, window, stride, padding, dilation)]
    return looked(
        xp, x, w.transpose(2, 3, 1, 0), look_of(n, *sides, c, *size, o, window[1], *axes), bias
    )


def to_input(xp, g, w, sides, stride, padding, dilation, bias=None):
    """dL/dx (N, H, W, C) from g = dL/dy (N, H', W', O); sides is (H, W)."""
    (n, *size, o), (_, c, *window) = g.shape, w.shape
    axes = [seen_from(*each) for each in zip(sides, window, stride, padding, dilation, strict=True)]
    return looked(
        xp, g, w.transpose(2, 3, 0, 1), look_of(n, *size, o, *sides, c, window[1], *axes), bias
    )


def to_weight(xp, g, x, w_shape, stride, padding, dilation):
    """dL/dw (O, C, kH, kW) from g = dL/dy (N, H', W', O) and x (N, H, W, C)."""
    (n, *sides, c), (o, _, *window), size = x.shape, w_shape, g.shape[1:3]
    terms, pixels = prod(window) * c, n * prod(size)
    wide = width(o, AT_ONCE)
    tiles = -(-terms // TILE) * -(-o // wide)
    span = max(SHORTEST, -(-pixels // (shares_of(tiles, wide) * SLAB)) * SLAB)
    shares = xp.empty((-(-pixels // span), terms, o), "float32")
    axes = [(walk,) for walk in walks(size, window, stride, padding, dilation)]
    look = look_of(n, *sides, c, *size, o, window[1], *axes)
    launch(
        xp,
        wide,
        "weigh",
        (tiles, len(shares)),
        by_value(look),
        span,
        flat(xp, x),
        flat(xp, g),
        shares,
    )
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
    pixels = images * prod(int(axis["count"].max()) for axis in classes)
    tiles, y = -(-pixels // TILE), xp.empty((images, rows, columns, outputs), "float32")
    wide = width(outputs, tiles * prod(map(len, classes)))
    launch(
        xp,
        wide,
        "look",
        (tiles * -(-outputs // wide), 1, prod(map(len, classes))),
        by_value(look),
        flat(xp, x),
        xp.ascontiguousarray(w),
        bias if bias is None else xp.ascontiguousarray(bias, "float32"),
        y,
    )
    return y


# ── how a window walks, for struct Axis ───────────────────────────────────────────────────────────


def walks(size, window, stride, padding, dilation):
    """Axis by axis: the q-th output looks through tap t at q stride - padding + t dilation."""
    return [
        (0, 1, n, s, -p, d, 0, 1, k)
        for n, k, s, (p, _), d in zip(size, window, stride, padding, dilation, strict=True)
    ]


@lru_cache(maxsize=256)
def seen_from(side, taps, stride, padding, dilation):
    """Which steps saw the pixels of one axis: the step q that sees pixel h through tap t has q
    stride - padding + t dilation = h. One class for each remainder of h by the stride, since h +
    padding - t dilation must be a multiple of it; of the taps that are left in it, every
    ``next``-th. Those with most taps come first, since they take longest."""
    made, after = [], stride // gcd(stride, dilation)
    for first in range(min(stride, side)):
        fits = [
            t for t in range(min(taps, after)) if (first + padding[0] - t * dilation) % stride == 0
        ]
        tap = fits[0] if fits else 0
        made.append(
            (
                first,
                stride,
                -(-(side - first) // stride),
                1,
                (first + padding[0] - tap * dilation) // stride,
                -after * dilation // stride,
                tap,
                after,
                len(range(tap, taps, after)) if fits else 0,
            )
        )
    return tuple(sorted(made, key=lambda axis: -axis[-1]))


@lru_cache(maxsize=256)
def look_of(images, height, width, channels, rows, columns, outputs, across, down, right):
    """The kernels' struct Look."""
    all_down, all_right = (
        [*axes, *[(0,) * len(AXIS.names or ())] * (CLASSES - len(axes))] for axes in (down, right)
    )
    return np.array(
        (
            images,
            height,
            width,
            channels,
            rows,
            columns,
            outputs,
            across,
            len(right),
            all_down,
            all_right,
        ),
        LOOK,
    )


# ── launching ────────────────────────────────────────────────────────────────────────────────────


def threads(wide: int) -> int:
    """Of a block."""
    return 128 * SHAPES[wide][0]


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
