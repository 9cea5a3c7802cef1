"""Group norm and batch norm on a GPU walk over images in strips of pixels: the walk, and the
kernels that both launch.

An image's group may be large, and images few: a warp for each group would leave most of the GPU
idle.  So each image is cut into strips of pixels, and a warp sums one strip of a channel up (or of
32 channels).  Small launches make a group of its strips (norm.py), or a channel of the whole batch
(batch_norm.py):

    forward     moments: mean and squares of every strip and channel   →  mean and scale of a group
                normalise: y
    back        sums: of g and of g x̂, likewise                        →  what g may not pass on
                back: dL/dx;   totals: the parameters' gradients

Images may lie channels last, as convolutions leave them, or channels first: in both, neighbouring
lanes take neighbouring numbers.

Not done: channels last and fewer than 32 leave lanes idle.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import LANES, Kernels, by_value

# warps that keep a GPU busy, and no strip is cut for more
WORK = 1 << 12
# numbers that a lane takes of a strip: sums of more would lose digits
SHORTEST, LONGEST = 16, 512

WALK = r"""
// Images of channels of pixels, each image cut into strips of pixels.  last: the channels lie side
// by side in memory, and a warp takes 32 of them, a lane one.  Else pixels lie side by side: a warp
// takes one channel, its lanes every 32nd pixel.
struct Images { Int last, images, channels, pixels, strips, strip; };

// A lane's share of a strip: ``count`` numbers of one channel, each ``step`` after the other.
// size: the strip's pixels.
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

// y[at] = f(x[at], ...) for each: eight are read before one is written, or each would wait for the
// one before.
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

// Two numbers of a channel's strip, both of which are summed over lanes that shared it: found
// (images, strips, 2, channels).
__device__ void keep(const Images& of, const Share& my, A a, A b, A* found) {
    const Int at = (my.image * of.strips + my.strip) * 2 * of.channels + my.channel;
    if (of.last || threadIdx.x == 0) { found[at] = a; found[at + of.channels] = b; }
}

__device__ Int group_of(const Share& my, Int by_image, Int own) {
    // 64 bits would take many times as long
    return my.image * by_image + unsigned(my.channel) / unsigned(own);
}

// NaN of infinity: see nn/norm.py
__device__ A inverse_root(A x) { return sqrt(x) / x; }

__device__ Int size_of(const Images& of, Int s) {
    return s + 1 < of.strips ? of.strip : of.pixels - s * of.strip;
}
"""

kernels = Kernels(
    WALK
    + r"""
// Mean and scale of channel c of image n are entry n * by_image + c / own.

// Of each strip the mean, and the sum of the squares of what differs from it.  shift: large numbers
// lie near to it.
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

// Sums of g, and of g times the normal x.
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

// The same over all images and strips: the gradients of bias and weight.
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

// dL/dx = slope g + (x - mean) bend + shift.
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
    """How images lie, and in which strips warps walk over them: ``of`` is the kernels' struct
    Images, for ``warps`` rows. What they find, two numbers of every strip, has shape ``found``."""

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
    """dL/dweight and dL/dbias, in the float type of x, as functions for a pull to return. total,
    dots: the sums over g, and over g times the normal x; None where nobody will ask."""

    def in_type(sums: Any) -> Array:
        return sums.astype(x.dtype, copy=False)

    return lambda: in_type(dots), lambda: in_type(total)
