"""nn/batch_norm.py on a GPU: two walks over x forward and two back (norm.py), and small launches
between them.

How they are written: cuda.py.
"""

from __future__ import annotations

from math import prod

from tinycv.engine.shards import all_reduce
from tinycv.gpu import norm
from tinycv.gpu.cuda import Kernels, packed, warps_for
from tinycv.gpu.norm import WALK, Images
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


def batch_standard(xp, x, count, weight=None, bias=None, eps=1e-5):
    (n, channels, *_), pixels, last, count = (
        x.shape,
        prod(x.shape[2:]),
        lies_channels_last(x),
        float(count),
    )
    walk = Images(last, 1, channels, n * pixels) if last else Images(last, n, channels, pixels)
    (weight, bias), x, few, steps = (
        packed(xp, weight, bias),
        as_it_lies(xp, x, last),
        warps_for(channels),
        (walk.of, 0, 1),
    )
    y, wide = xp.empty_like(x), xp.promote_types(x.dtype, "float32")
    found, (total, mean, var, scale) = xp.empty(walk.found, wide), xp.empty((4, channels), wide)

    norm.kernels.strips(x, walk.warps, walk.of, x, found)
    kernels.channel_moments(x, channels, walk.of, found, total, mean, var)
    kernels.from_common(x, few, channels, count, float(n * pixels), all_reduce(total), mean, var)
    var = all_reduce(var)
    kernels.to_scale(x, few, channels, count, float(eps), var, scale)
    norm.kernels.normalise(x, walk.warps, *steps, x, weight, bias, mean, scale, y)

    def pull(g):
        gy, by_mean, by_var = g
        gy, found = (
            xp.zeros_like(x) if gy is None else as_it_lies(xp, gy, last),
            xp.empty(walk.found, wide),
        )
        norm.kernels.sums(x, walk.warps, *steps, x, mean, scale, gy, found)
        total, dots = walk.totals(xp, x, found)

        def along_x():
            sent = [
                None if part is None else all_reduce(part) for part in packed(xp, by_mean, by_var)
            ]
            gx, (bends, shifts) = xp.empty_like(x), xp.empty((2, channels), wide)
            kernels.to_bends(
                x,
                few,
                channels,
                count,
                weight,
                scale,
                all_reduce(total),
                all_reduce(dots),
                *sent,
                bends,
                shifts,
            )
            norm.kernels.back(x, walk.warps, *steps, x, weight, mean, scale, bends, shifts, gy, gx)
            return axes_back(xp, gx, last)

        return (
            along_x,
            None,
            lambda: dots.astype(x.dtype, copy=False),
            lambda: total.astype(x.dtype, copy=False),
        )

    return (
        axes_back(xp, y, last),
        mean.astype(x.dtype, copy=False),
        var.astype(x.dtype, copy=False),
    ), pull
