"""The CUDA kernels of convolution by tiles (implicit GEMM), which conv_tiles.py launches.

    look       a tile of y from x and w: 128 pixels by 128 channels for each block of threads
    weigh      a tile of dL/dw, from one share of the pixels
    add_up     dL/dw, the sum of the shares
    turn       images from channels first to channels last

A block goes along the sum in slabs of 8.  Every slab is fetched once, into memory that the block
shares; there each number is wanted 128 times.  A thread has 8 x 8 of the tile's sums in its
registers: for each term it reads 8 + 8 numbers, and multiplies 64 pairs.  Meanwhile the next slab
is on its way.

Tiles of blocks, of warps and of threads: NVIDIA, "Efficient GEMM in CUDA", in CUTLASS's
documentation.  What is computed, and when: conv_tiles.py.  How kernels are written: cuda.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinycv.gpu.cuda import Kernels

# pixels, or terms, of a tile; of the sum that is fetched at a time
TILE, SLAB = 128, 8
# channels of a tile: warps across it, and a thread's groups of 4 channels
SHAPES = {128: (2, 2), 64: (1, 2), 32: (1, 1)}
CLASSES = 4  # the largest stride: so many Axis each way has struct Look

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


class Axis(NamedTuple):
    """The kernels' struct Axis, which says what the fields are."""

    first: int
    every: int
    count: int
    stride: int
    shift: int
    move: int
    tap: int
    next: int
    taps: int


class Look(NamedTuple):
    """The kernels' struct Look. down, right: CLASSES of Axis each."""

    images: int
    height: int
    width: int
    channels: int
    rows: int
    columns: int
    outputs: int
    across: int
    classes: int
    down: list[Axis]
    right: list[Axis]


AXIS = np.dtype([(name, "i4") for name in Axis._fields])
NO_AXIS = Axis(*[0] * len(Axis._fields))
LOOK = np.dtype(
    [
        *[(name, "i4") for name in Look._fields[:-2]],
        ("down", AXIS, CLASSES),
        ("right", AXIS, CLASSES),
    ]
)


def threads(wide: int) -> int:
    """Of a block that makes tiles of so many channels."""
    return 128 * SHAPES[wide][0]
