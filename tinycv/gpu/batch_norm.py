"""Batch norm on a GPU: two passes over x each way (norm_strips.py), with small launches between.

Definition: nn/batch_norm.py.   How kernels are written: cuda.py.
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
// ── mean and squares of each channel: first of this shard, from its strips, then of all shards ──

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

// count: numbers of a channel in the whole batch; own: in this shard. On entry means and squares
// hold the mean of this shard and the squared deviations from it. On return they hold the mean of
// the whole batch, and this shard's squared deviations from that.
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

// bend and shift of dL/dx = slope g + (x - mean) bend + shift; nn/batch_norm.py calls them b and c.
// total, dots: sums of g and of g x̂ over the batch. by_mean, by_var: dL/dmean and dL/dvar from
// other uses of these two results, or null.
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


# by_image and own of the kernels in norm_strips.py: one mean and scale per channel, for all images
BY_CHANNEL = 0, 1


def batch_standard(xp, x, count, weight=None, bias=None, eps=1e-5):
    """Five launches forward: moments of strips; three small ones for mean, variance and scale of
    the batch; then y. Four backward: sums of strips, sums of channels, bends and shifts, dL/dx.
    Mean, variance and scale are saved, in float32 or float64.

    Definition: nn/batch_norm.py. differs: calculates in float32 if x is float16. Each shard sums
    squared deviations from its own mean, and then corrects them to the mean of the batch.
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
    """Mean, variance and scale of each channel over the whole batch, (C,) each. own, count: how
    many numbers a channel has in this shard, and in the batch."""
    channels, warps = walk.channels, warps_for(walk.channels)
    wide = xp.promote_types(x.dtype, "float32")
    found = xp.empty(walk.found, wide)
    total, mean, var, scale = xp.empty((4, channels), wide)
    strips.moments(x, walk.warps, walk.of, x, found)
    kernels.channel_moments(x, channels, walk.of, found, total, mean, var)
    kernels.from_common(x, warps, channels, count, own, all_reduce(total), mean, var)
    var = all_reduce(var)
    kernels.to_scale(x, warps, channels, count, eps, var, scale)
    return mean, var, scale


def bends_of(xp, x, count, weight, scale, total, dots, by_mean, by_var):
    """The bends and shifts of the kernel ``to_bends``, (C,) each. total, dots: sums over this shard
    for each channel. by_mean, by_var: dL/dmean and dL/dvar from other uses of these two results, or
    None."""
    sent = [None if part is None else all_reduce(part) for part in packed(xp, by_mean, by_var)]
    total, dots = all_reduce(total), all_reduce(dots)
    channels, (bends, shifts) = len(scale), xp.empty((2, len(scale)), scale.dtype)
    kernels.to_bends(
        x, warps_for(channels), channels, count, weight, scale, total, dots, *sent, bends, shifts
    )
    return bends, shifts
