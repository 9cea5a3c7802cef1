"""nn/batch_norm.py on a GPU: two walks over x forward and two back (norm_strips.py), and small
launches between them.

How they are written: cuda.py.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tinycv.engine.backend import Array
from tinycv.engine.shards import all_reduce
from tinycv.gpu.cuda import Kernels, packed, warps_for
from tinycv.gpu.norm_strips import WALK, Images, of_parameters
from tinycv.gpu.norm_strips import kernels as strips
from tinycv.nn.layout import as_it_lies, axes_back, lies_channels_last

kernels = Kernels(
    WALK
    + r"""
// ── a shard's mean and squares of each channel, from those of its strips; then of all shards ──

KERNEL channel_moments(Images of, const A* found, A* total, A* means, A* squares) {
    const Int pieces = of.images * of.strips, each = 2 * of.channels;
    const A count = A(of.images * of.pixels);
    EACH_ROW(c, of.channels) {
        const A near = pieces ? found[c] : A(0);
        A mean = 0, square = 0;
        #pragma unroll 8
        EACH(k, pieces) mean += (found[k * each + c] - near)
            * size_of(of, unsigned(k) % unsigned(of.strips));
        mean = near + (pieces ? sum(mean) / count : A(0));
        #pragma unroll 4
        EACH(k, pieces) {
            const A off = found[k * each + c] - mean;
            square += found[k * each + of.channels + c] + off * off
                * size_of(of, unsigned(k) % unsigned(of.strips));
        }
        square = sum(square);
        if (threadIdx.x == 0) { total[c] = mean * count; means[c] = mean; squares[c] = square; }
    }
}

// count: the whole batch's; own: this shard's.  What arrives as this shard's mean and squares
// leaves as the batch's mean, and as squares from that.
KERNEL from_common(Int channels, double count, double own, const A* total, A* means, A* squares) {
    EACH_ENTRY(c, channels) {
        const A mean = total[c] / A(count);
        squares[c] += A(own) * (means[c] - mean) * (means[c] - mean);
        means[c] = mean;
    }
}

KERNEL to_scale(Int channels, double count, double eps, A* var, A* scale) {
    EACH_ENTRY(c, channels) {
        var[c] /= A(count);
        scale[c] = inverse_root(var[c] + A(eps));
    }
}

// Mean and variance are of all x: dL/dx = slope g + (x - mean) bend + shift, as nn/batch_norm.py
// has it with b and c. totals: over the batch, of g and of g times the normal x; by_mean, by_var:
// what other users of these two send back.
KERNEL to_bends(Int channels, double count, const T* weight, const A* scale, const A* total,
        const A* dots, const T* by_mean, const T* by_var, A* bends, A* shifts) {
    EACH_ENTRY(c, channels) {
        const A slope = weight ? scale[c] * A(weight[c]) : scale[c];
        bends[c] = (2 * (by_var ? A(by_var[c]) : A(0)) - slope * scale[c] * dots[c]) / A(count);
        shifts[c] = ((by_mean ? A(by_mean[c]) : A(0)) - slope * total[c]) / A(count);
    }
}
"""
)


# of the walk's kernels by_image and own: all images have part in one mean, and each channel its own
BY_CHANNEL = 0, 1


def batch_standard(xp, x, count, weight=None, bias=None, eps=1e-5):
    """Five launches forward: moments of strips, three small ones that make the batch's mean,
    variance and scale of them, then y. Back four: sums of strips, of channels, a small one, dL/dx.
    Mean, variance and scale are kept, in float32 at least.

    Definition: nn/batch_norm.py. differs: halves are calculated with in float32; a shard sums up
    squares from its own mean, and adds what the batch's mean makes of them.
    """
    n, channels = x.shape[:2]
    pixels, last = prod(x.shape[2:]), lies_channels_last(x)
    walk = Images(last, 1, channels, n * pixels) if last else Images(last, n, channels, pixels)
    weight, bias = packed(xp, weight, bias)
    x, count = as_it_lies(xp, x, last), float(count)
    mean, var, scale = statistics(xp, x, walk, float(n * pixels), count, float(eps))
    y, at_channel = xp.empty_like(x), (walk.of, *BY_CHANNEL)
    strips.normalise(x, walk.warps, *at_channel, x, weight, bias, mean, scale, y)

    def pull(g):
        gy, by_mean, by_var = g
        gy = xp.zeros_like(x) if gy is None else as_it_lies(xp, gy, last)
        found = xp.empty(walk.found, mean.dtype)
        strips.sums(x, walk.warps, *at_channel, x, mean, scale, gy, found)
        total, dots = walk.totals(xp, x, found)

        def along_x():
            bends, shifts = bends_of(xp, x, count, weight, scale, total, dots, by_mean, by_var)
            gx = xp.empty_like(x)
            strips.back(x, walk.warps, *at_channel, x, weight, mean, scale, bends, shifts, gy, gx)
            return axes_back(xp, gx, last)

        return along_x, None, *of_parameters(x, total, dots)

    in_type = [a.astype(x.dtype, copy=False) for a in (mean, var)]
    return (axes_back(xp, y, last), *in_type), pull


def statistics(
    xp: Any, x: Array, walk: Images, own: float, count: float, eps: float
) -> tuple[Array, Array, Array]:
    """Mean, variance and scale of each channel in the whole batch, (C,) each. own, count: numbers
    of a channel in this shard, and in the batch."""
    channels, few = walk.channels, warps_for(walk.channels)
    wide = xp.promote_types(x.dtype, "float32")
    found = xp.empty(walk.found, wide)
    total, mean, var, scale = xp.empty((4, channels), wide)
    strips.moments(x, walk.warps, walk.of, x, found)
    kernels.channel_moments(x, channels, walk.of, found, total, mean, var)
    kernels.from_common(x, few, channels, count, own, all_reduce(total), mean, var)
    var = all_reduce(var)
    kernels.to_scale(x, few, channels, count, eps, var, scale)
    return mean, var, scale


def bends_of(xp, x, count, weight, scale, total, dots, by_mean, by_var):
    """bends and shifts of ``to_bends``, (C,) each. total, dots: this shard's sums of each channel;
    by_mean, by_var: dL/dmean and dL/dvar of other users of these two, or None."""
    sent = [None if part is None else all_reduce(part) for part in packed(xp, by_mean, by_var)]
    total, dots = all_reduce(total), all_reduce(dots)
    channels, (bends, shifts) = len(scale), xp.empty((2, len(scale)), scale.dtype)
    kernels.to_bends(
        x, warps_for(channels), channels, count, weight, scale, total, dots, *sent, bends, shifts
    )
    return bends, shifts
