"""nn/norm.py on a GPU. Layer norm is one launch forward; back it is one for x, and two for both
parameters.

Group norm is three launches each way, and one more for the parameters.  An image's group may be
large, and images few: a warp for each group would leave most of the GPU idle.  So each image is cut
into strips of pixels.

    forward     mean and squares of every strip and channel  →  mean and scale of every group  →  y
    back        sums of g and g x̂, likewise                  →  what g may not pass on
                →  dL/dx, and the parameters' gradients

The same walk over the strips is batch norm's (batch_norm.py).  Images may lie channels last, as
convolutions leave them, or channels first: in both, neighbouring lanes take neighbouring numbers.

Not done: channels last and fewer than 32 leave lanes idle.   How they are written: cuda.py.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinycv.gpu.cuda import LANES, Kernels, by_value, packed
from tinycv.nn.layout import as_it_lies, axes_back, lies_channels_last
from tinycv.nn.norm import check_group_norm, check_layer_norm, grouped

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
// ── layer norm: mean and scale of a row are kept for the way back ──

template <int MOST> __device__ void layer_norm_row(Int width, const T* x, const T* weight,
        const T* bias, A eps, T* y, A* mean_of, A* scale_of) {
    A held[MOST + 1], mean = 0, square = 0;
    // of large numbers that lie near to each other
    const A near = A(x[0]);
    EACH_HELD(k, j, width) mean += (held[MOST ? k : 0] = A(x[j])) - near;
    mean = near + sum(mean) / width;
    EACH_HELD(k, j, width) {
        const A off = (MOST ? held[k] : A(x[j])) - mean;
        square += off * off;
    }
    const A scale = inverse_root(sum(square) / width + eps);
    EACH_HELD(k, j, width)
        y[j] = T(((MOST ? held[k] : A(x[j])) - mean) * scale * (weight ? A(weight[j]) : A(1))
            + (bias ? A(bias[j]) : A(0)));
    if (threadIdx.x == 0) { *mean_of = mean; *scale_of = scale; }
}

KERNEL layer_norm(Int rows, Int width, const T* __restrict__ x, const T* __restrict__ weight,
        const T* __restrict__ bias, double eps, T* __restrict__ y, A* means, A* scales) {
    EACH_ROW(row, rows) {
        const Int at = row * width;
        BY_WIDTH(width, layer_norm_row, width, x + at, weight, bias, A(eps), y + at, means + row,
            scales + row);
    }
}

template <int MOST> __device__ void layer_norm_row_back(Int width, const T* x, const T* weight,
        A mean, A scale, const T* g, T* gx) {
    A normal[MOST + 1], from[MOST + 1], total = 0, across = 0;
    EACH_HELD(k, j, width) {
        const A n = normal[MOST ? k : 0] = (A(x[j]) - mean) * scale;
        const A h = from[MOST ? k : 0] = A(g[j]) * (weight ? A(weight[j]) : A(1));
        total += h;
        across += h * n;
    }
    total = sum(total) / width;
    across = sum(across) / width;
    EACH_HELD(k, j, width) {
        const A n = MOST ? normal[k] : (A(x[j]) - mean) * scale;
        const A h = MOST ? from[k] : A(g[j]) * (weight ? A(weight[j]) : A(1));
        gx[j] = T((h - total - n * across) * scale);
    }
}

KERNEL layer_norm_back(Int rows, Int width, const T* __restrict__ x, const T* __restrict__ weight,
        const A* means, const A* scales, const T* __restrict__ g, T* __restrict__ gx) {
    EACH_ROW(row, rows) {
        const Int at = row * width;
        BY_WIDTH(width, layer_norm_row_back, width, x + at, weight, means[row], scales[row], g + at,
            gx + at);
    }
}

// Down the rows, as one image of channels last: sums of g and of g times the normal x, which are
// the parameters' gradients.
KERNEL layer_norm_sums(Images of, const T* x, const A* means, const A* scales, const T* g,
        A* found) {
    walk(of, [&](const Share& my) {
        const Int first = my.strip * of.strip;
        A total = 0, dots = 0;
        EACH_SHARED(at, my) {
            total += A(g[at]);
            dots += A(g[at]) * ((A(x[at]) - means[first + k]) * scales[first + k]);
        }
        keep(of, my, total, dots, found);
    });
}

// ── group norm and batch norm ──
// Mean and scale of channel c of image n are entry n * by_image + c / own.

// Of each strip the mean, and the sum of the squares of what differs from it.  shift: large numbers
// lie near to it.
KERNEL strips(Images of, const T* x, A* found) {
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

// One group's strips and channels together: squares from its mean are those from the strip's own,
// and the means' own.
KERNEL group_moments(Images of, Int groups, double eps, const A* found, A* means, A* scales) {
    const unsigned own = of.channels / groups, pieces = of.strips * own;
    const Int apart = 2 * of.channels;
    EACH_ROW(row, of.images * groups) {
        const A* in = found + row / groups * of.strips * apart + row % groups * own;
        A mean = 0, square = 0;
        EACH(k, pieces) {
            const unsigned s = unsigned(k) / own, c = unsigned(k) % own;
            mean += (in[s * apart + c] - in[0]) * size_of(of, s);
        }
        mean = in[0] + sum(mean) / (own * of.pixels);
        EACH(k, pieces) {
            const unsigned s = unsigned(k) / own, c = unsigned(k) % own;
            const A off = in[s * apart + c] - mean;
            square += in[s * apart + of.channels + c] + off * off * size_of(of, s);
        }
        square = sum(square) / (own * of.pixels);
        if (threadIdx.x == 0) { means[row] = mean; scales[row] = inverse_root(square + A(eps)); }
    }
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

// A group's mean has part in each of its numbers, and so has its scale: dL/dx = slope g + (x -
// mean) bend + shift.
KERNEL group_bends(Images of, Int groups, const T* weight, const A* scales, const A* found,
        A* bends, A* shifts) {
    const unsigned own = of.channels / groups, pieces = of.strips * own;
    const Int apart = 2 * of.channels;
    EACH_ROW(row, of.images * groups) {
        const A* in = found + row / groups * of.strips * apart + row % groups * own;
        A total = 0, across = 0;
        EACH(k, pieces) {
            const unsigned s = unsigned(k) / own, c = unsigned(k) % own;
            const A w = weight ? A(weight[row % groups * own + c]) : A(1);
            total += w * in[s * apart + c];
            across += w * in[s * apart + of.channels + c];
        }
        total = sum(total) / (own * of.pixels);
        across = sum(across) / (own * of.pixels);
        if (threadIdx.x == 0) { bends[row] = -across * scales[row] * scales[row];
            shifts[row] = -total * scales[row]; }
    }
}

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
    Images, for ``warps`` rows."""

    def __init__(self, last, images, channels, pixels):
        self.last, stripes = last, -(-channels // LANES) if last else channels
        lane, even = 1 if last else LANES, -(-images * stripes * pixels // WORK)
        strip = min(max(even, SHORTEST * lane), LONGEST * lane)
        self.strips = -(-pixels // strip)
        self.of = by_value(np.array([(last, images, channels, pixels, self.strips, strip)], IMAGES))
        self.warps, self.found = images * stripes * self.strips, (images, self.strips, 2, channels)

    def totals(self, xp, like, found):
        """Both sums of every channel, over all images and strips: (C,) and (C,), in float32 at
        least."""
        total, dots = xp.empty(self.found[-1], found.dtype), xp.empty(self.found[-1], found.dtype)
        kernels.totals(like, self.found[-1], self.of, found, total, dots)
        return total, dots


def layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    check_layer_norm(x, weight, bias, eps)
    rows, width = x.size // max(1, x.shape[-1]), x.shape[-1]
    x, weight, bias = packed(xp, x, weight, bias)
    y, (means, scales) = xp.empty_like(x), xp.empty((2, rows), xp.promote_types(x.dtype, "float32"))
    kernels.layer_norm(x, rows, rows, width, x, weight, bias, float(eps), y, means, scales)

    def pull(g):
        (g,), gx = packed(xp, g), xp.empty_like(x)
        total: Any = None
        dots: Any = None
        kernels.layer_norm_back(x, rows, rows, width, x, weight, means, scales, g, gx)
        if weight is not None or bias is not None:
            walk = Images(True, 1, width, rows)
            found = xp.empty(walk.found, means.dtype)
            kernels.layer_norm_sums(x, walk.warps, walk.of, x, means, scales, g, found)
            total, dots = walk.totals(xp, x, found)
        return (
            gx,
            lambda: dots.astype(x.dtype, copy=False),
            lambda: total.astype(x.dtype, copy=False),
        )

    return y, pull


def group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    n, num_groups, width = grouped(x, num_groups)
    check_group_norm(x, weight, bias, eps)
    last, rows, channels = lies_channels_last(x), n * num_groups if width else 0, x.shape[1]
    (weight, bias), walk = packed(xp, weight, bias), Images(last, n, channels, prod(x.shape[2:]))
    x, steps = as_it_lies(xp, x, last), (walk.of, num_groups, max(1, channels // num_groups))
    y, (means, scales) = (
        xp.empty_like(x),
        xp.empty((2, n * num_groups), xp.promote_types(x.dtype, "float32")),
    )
    found = xp.empty(walk.found, means.dtype)
    kernels.strips(x, walk.warps, walk.of, x, found)
    kernels.group_moments(x, rows, walk.of, num_groups, float(eps), found, means, scales)
    kernels.normalise(x, walk.warps, *steps, x, weight, bias, means, scales, y)

    def pull(g):
        g, gx = as_it_lies(xp, g, last), xp.empty_like(x)
        total: Any = None
        dots: Any = None
        found, (bends, shifts) = (
            xp.empty(walk.found, means.dtype),
            xp.empty((2, n * num_groups), means.dtype),
        )
        kernels.sums(x, walk.warps, *steps, x, means, scales, g, found)
        kernels.group_bends(x, rows, walk.of, num_groups, weight, scales, found, bends, shifts)
        kernels.back(x, walk.warps, *steps, x, weight, means, scales, bends, shifts, g, gx)
        if weight is not None or bias is not None:
            total, dots = walk.totals(xp, x, found)
        return (
            axes_back(xp, gx, last),
            None,
            lambda: dots.astype(x.dtype, copy=False),
            lambda: total.astype(x.dtype, copy=False),
        )

    return axes_back(xp, y, last), pull
