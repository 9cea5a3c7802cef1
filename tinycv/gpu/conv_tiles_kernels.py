"""The CUDA text of convolution by tiles (implicit GEMM), which conv_tiles.py launches.

    look       a tile of y from x and w: 128 pixels by 128 channels for each block of threads
    weigh      a tile of dL/dw, from one share of the pixels
    add_up     dL/dw, the sum of the shares
    turn       images from channels first to channels last

A block works through the sum in slabs of 8 terms.  It fetches each slab once, into memory that its
threads share, where each number is used 128 times.  A thread keeps 8 x 8 sums of the tile in its
registers.  For each term it reads 8 + 8 numbers and multiplies 64 pairs.  While it multiplies one
slab, the next is being fetched.

This division into tiles of blocks, of warps and of threads is explained in "Efficient GEMM in
CUDA", in the documentation of NVIDIA's CUTLASS.

Read first: conv_tiles.py, what is computed and when; cuda.py, how kernels are written.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinycv.gpu.cuda import Kernels

# pixels in a tile (in weigh: pairs of tap and channel); terms of the sum that are fetched at a time
TILE, SLAB = 128, 8
# width of a tile in channels: (how many warps side by side, how many groups of 4 channels a thread
# has)
SHAPES = {128: (2, 2), 64: (1, 2), 32: (1, 1)}
CLASSES = 4  # the largest stride: struct Look has room for so many Axis down and across

TEXT = r"""
// One axis of the result, or of one class of its pixels. The class has the outputs first,
// first + every, ..., count of them. Output number q looks through its tap number t, of taps, at
// the input q stride + shift + t move. In the window that is tap number tap + t next.
struct Axis { int first, every, count, stride, shift, move, tap, next, taps; };

// x is (images, height, width, channels) and y (images, rows, columns, outputs). across: taps of
// the window across. down, right: the classes along each axis; classes: how many of right there
// are.
struct Look { int images, height, width, channels, rows, columns, outputs, across, classes;
    Axis down[4], right[4]; };

// channels in a tile, and threads in the block that computes it
constexpr int WIDE = 32 * QUADS * ACROSS, THREADS = 128 * ACROSS;
// A slab has 128 x 8 numbers. Each thread fetches 4 of them, this many times.
constexpr int EACH = 256 / THREADS;

__device__ void four(float* to, const float* from) { *(float4*)to = *(const float4*)from; }
__device__ void none(float* to) { to[0] = to[1] = to[2] = to[3] = 0; }

// A warp computes 32 x 32 QUADS numbers of the tile. Of a thread's 8 rows, four begin at
// first_row() and four at first_row() + 16; its columns are in fours as well, 32 apart.
// Neighbouring threads share rows or columns, so that one read from shared memory serves several of
// them.
__device__ int first_row() {
    return threadIdx.x / 32 / ACROSS * 32 + (threadIdx.x % 32 / 16 * 2 + threadIdx.x % 2) * 4;
}
__device__ int first_column() {
    return threadIdx.x / 32 % ACROSS * (32 * QUADS) + threadIdx.x % 32 / 2 % 8 * 4;
}

// total += aᵀ b for one slab.
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
    // The input pixel (h, v) that an output pixel looks at before a tap moves it, in an image with
    // rows_before rows before it; and the place of the output pixel in y.
    struct Pixel { int rows_before, h, v, place; };
    // 132 and not 128, so that the threads of a warp write to different memory banks
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
    // nothing to do: this class has fewer pixels than the largest, for which the grid was made
    if (start >= count) return;
    if (t < 128) {
        const int p = start + t, image = p / each, h = p % each / right.count, v = p % right.count;
        pixels[t] = {image * l.height, p < count ? h * down.stride + down.shift : -(1 << 30),
            v * right.stride + right.shift,
            ((image * l.rows + down.first + h * down.every) * l.columns + right.first
                + v * right.every) * l.outputs};
    }
    __syncthreads();

    // What this thread fetches for each slab: 4 channels of one pixel (of two, if EACH is 2), and
    // the weights from one channel to 4 outputs.
    const int pixel = t / 2, channel = t % 2 * 4, k = t / (WIDE / 4), column = t % (WIDE / 4) * 4;
    const bool weighs = k < 8 && first + column < l.outputs;
    __align__(16) float numbers[EACH][4], weights[4];
    // i, j: the next tap; left: channels of the present tap that are still to be fetched
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
        // the next slab is being fetched while this one is multiplied
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

// shares[s, (tap, c), o] = the sum of x[p moved by tap, c] g[p, o] over the pixels p of share s,
// which has span pixels.
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

    // What this thread fetches for each slab: 4 pairs (tap, c) of one pixel (of two, if EACH is 2),
    // and g of one pixel at 4 outputs.
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
            // to the pixel of the next slab, 8 further on, which may lie in the next row or image
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

// gw (outputs, channels, taps): the sum of the shares, each (taps, channels, outputs).
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

// y (images, pixels, channels) from x (images, channels, pixels). A block copies a square of 32 x
// 32 through shared memory, so that both reading and writing go along rows.
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
    """The struct Axis of the kernels. Its comment in the CUDA text explains the fields."""

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
    """The struct Look of the kernels. down and right have CLASSES entries each."""

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
    """How many threads has a block that computes tiles of this width?"""
    return 128 * SHAPES[wide][0]
