"""Kernels that group norm and batch norm share on a GPU: they pass over images in strips of pixels.

A group may be large and the images few, so a warp for each group would leave most of the GPU idle.
Therefore each image is cut into strips of pixels, and a warp sums one strip of one channel, or of
32 channels.  Small launches then combine the strips of a group (norm.py) or of a channel of the
whole batch (batch_norm.py):

    forward     moments      mean and squares of every strip and channel
                             (then norm.py or batch_norm.py: mean and scale of a group or channel)
                normalise    y
    backward    sums         of g and of g x̂, for every strip and channel
                             (then norm.py or batch_norm.py: bend and shift, see ``back``)
                back         dL/dx
                totals       the gradients of weight and bias

Images may lie channels last, as convolutions leave them, or channels first. In both layouts
neighbouring lanes read neighbouring numbers.

A limit: channels last with fewer than 32 channels leaves lanes idle.

x̂ is the normalised x, (x - mean) scale.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import LANES, Kernels, by_value

# so many warps keep a GPU busy; images are not cut into more strips than that takes
WORK = 1 << 12
# Numbers of a strip that one lane sums, at least and at most. Longer sums would lose digits.
SHORTEST, LONGEST = 16, 512

WALK = r"""
// How images lie, and how they are cut into strips of pixels. If last, they lie channels last: a
// warp takes 32 channels, one per lane. Otherwise they lie channels first: a warp takes one
// channel, and each lane every 32nd pixel of its strip. strips: how many per image; strip: pixels
// in one.
struct Images { Int last, images, channels, pixels, strips, strip; };

// A lane's share of a strip: count numbers of one channel, from index start on, step apart. size:
// the pixels of the strip.
struct Share { Int image, strip, channel, size, count, start, step; };
#define EACH_SHARED(at, my) _Pragma("unroll 8") \
    for (Int k = 0, at = (my).start; k < (my).count; k++, at += (my).step)

template <typename F> __device__ void walk(const Images& of, F f) {
    const unsigned across = of.last ? (of.channels + 31) / 32 : of.channels, strips = of.strips;
    EACH_ROW(row, of.images * across * strips) {
        const unsigned task = row, stripe = task % across, n = task / across / strips,
            s = task / across % strips;
        const Int first = s * of.strip,
            size = first + of.strip < of.pixels ? of.strip : of.pixels - first;
        if (of.last) {
            for (Int c = stripe * 32 + threadIdx.x; c < stripe * 32 + 32 && c < of.channels;
                c += LANES)
                f(Share{n, s, c, size, size, (n * of.pixels + first) * of.channels + c,
                    of.channels});
        } else {
            const Int start = (n * of.channels + stripe) * of.pixels + first + threadIdx.x;
            f(Share{n, s, stripe, size, (size - threadIdx.x + LANES - 1) / LANES, start, LANES});
        }
    }
}

// y[at] = f(x[at], ...) for each number of the share. Eight are read before any is written, so that
// the reads overlap in time instead of waiting for each other.
template <typename F, typename... X> __device__ void of_share(const Share& my, F f, T* y,
        const X*... x) {
    for (Int k = 0; k < my.count; k += 8) {
        const Int at = my.start + k * my.step;
        A made[8];
        #pragma unroll
        for (int i = 0; i < 8; i++) if (k + i < my.count) made[i] = f(A(x[at + i * my.step])...);
        #pragma unroll
        for (int i = 0; i < 8; i++) if (k + i < my.count) y[at + i * my.step] = T(made[i]);
    }
}

// Stores two numbers of a strip and channel, already summed over the lanes that shared the strip,
// in found (images, strips, 2, channels).
__device__ void keep(const Images& of, const Share& my, A a, A b, A* found) {
    const Int at = (my.image * of.strips + my.strip) * 2 * of.channels + my.channel;
    if (of.last || threadIdx.x == 0) { found[at] = a; found[at + of.channels] = b; }
}

__device__ Int group_of(const Share& my, Int by_image, Int own) {
    // unsigned, because a division in 64 bits takes many times as long
    return my.image * by_image + unsigned(my.channel) / unsigned(own);
}

// 1 / √x, but NaN for infinity: see nn/norm.py
__device__ A inverse_root(A x) { return sqrt(x) / x; }

__device__ Int size_of(const Images& of, Int s) {
    return s + 1 < of.strips ? of.strip : of.pixels - s * of.strip;
}
"""

kernels = Kernels(
    WALK
    + r"""
// Mean and scale for channel c of image n are the entries n * by_image + c / own of means and
// scales.

// The mean of each strip and channel, and the sum of squared deviations from it. shift, a number of
// the strip, is subtracted first: sums of large numbers that are close together would lose digits.
KERNEL moments(Images of, const T* x, A* found) {
    walk(of, [&](const Share& my) {
        A shift = my.count > 0 ? A(x[my.start]) : A(0), total = 0, square = 0;
        if (!of.last) shift = sum(shift) / (my.size < LANES ? my.size : LANES);
        EACH_SHARED(at, my) {
            const A off = A(x[at]) - shift;
            total += off;
            square += off * off;
        }
        if (!of.last) { total = sum(total); square = sum(square); }
        keep(of, my, shift + total / my.size, square - total * total / my.size, found);
    });
}

KERNEL normalise(Images of, Int by_image, Int own, const T* x, const T* weight, const T* bias,
        const A* means, const A* scales, T* y) {
    walk(of, [&](const Share& my) {
        const Int group = group_of(my, by_image, own);
        const A mean = means[group], slope = scales[group]
            * (weight ? A(weight[my.channel]) : A(1));
        const A level = bias ? A(bias[my.channel]) : A(0);
        of_share(my, [=](A v) { return (v - mean) * slope + level; }, y, x);
    });
}

// Sums of g and of g x̂ for each strip and channel.
KERNEL sums(Images of, Int by_image, Int own, const T* x, const A* means, const A* scales,
        const T* g, A* found) {
    walk(of, [&](const Share& my) {
        const Int group = group_of(my, by_image, own);
        const A mean = means[group];
        A total = 0, dots = 0;
        EACH_SHARED(at, my) {
            total += A(g[at]);
            dots += A(g[at]) * (A(x[at]) - mean);
        }
        if (!of.last) { total = sum(total); dots = sum(dots); }
        keep(of, my, total, dots * scales[group], found);
    });
}

// The sums over all images and strips: the gradients of bias (total) and weight (dots).
KERNEL totals(Images of, const A* found, A* total, A* dots) {
    EACH_ROW(c, of.channels) {
        A a = 0, b = 0;
        #pragma unroll 8
        EACH(k, of.images * of.strips) {
            a += found[k * 2 * of.channels + c];
            b += found[(k * 2 + 1) * of.channels + c];
        }
        a = sum(a);
        b = sum(b);
        if (threadIdx.x == 0) { total[c] = a; dots[c] = b; }
    }
}

// dL/dx = slope g + (x - mean) bend + shift, with slope = scale weight. bend and shift come from
// the sums of g and g x̂, because mean and scale depend on every x.
KERNEL back(Images of, Int by_image, Int own, const T* x, const T* weight, const A* means,
        const A* scales, const A* bends, const A* shifts, const T* g, T* gx) {
    walk(of, [&](const Share& my) {
        const Int group = group_of(my, by_image, own);
        const A mean = means[group], bend = bends[group], shift = shifts[group];
        const A slope = scales[group] * (weight ? A(weight[my.channel]) : A(1));
        of_share(my, [=](A v, A g) { return slope * g + (v - mean) * bend + shift; }, gx, x, g);
    });
}
"""
)

IMAGES = np.dtype(
    [(name, "i8") for name in ("last", "images", "channels", "pixels", "strips", "strip")]
)


class Images:
    """How images lie and how they are cut into strips.

    ``of`` is the struct Images of the kernels, which are launched with ``warps`` rows. ``found`` is
    the shape of the array with two numbers for every strip and channel.
    """

    def __init__(self, last: bool, images: int, channels: int, pixels: int):
        stripes = -(-channels // LANES) if last else channels
        lane = 1 if last else LANES
        even = -(-images * stripes * pixels // WORK)
        strip = min(max(even, SHORTEST * lane), LONGEST * lane)
        strips = -(-pixels // strip)
        self.of = by_value(np.array([(last, images, channels, pixels, strips, strip)], IMAGES))
        self.warps = images * stripes * strips
        self.channels = channels
        self.found = images, strips, 2, channels

    def totals(self, xp: Any, like: Array, found: Array) -> tuple[Array, Array]:
        """Both sums of every channel, over all images and strips: (C,) and (C,), in float32 at
        least."""
        total = xp.empty(self.channels, found.dtype)
        dots = xp.empty_like(total)
        kernels.totals(like, self.channels, self.of, found, total, dots)
        return total, dots


def of_parameters(x: Array, total: Array | None, dots: Array | None) -> tuple[Callable, Callable]:
    """dL/dweight and dL/dbias in the float type of x, as functions that a pull can return. total,
    dots: the sums of g and of g x̂, or None if there is neither weight nor bias."""

    def in_type(sums: Any) -> Array:
        return sums.astype(x.dtype, copy=False)

    return lambda: in_type(dots), lambda: in_type(total)
