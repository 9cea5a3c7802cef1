"""batch_norm.py on a GPU: between the sums over the batch, all is one launch. Images are taken channels last.

How they are written: engine/cuda.py.
Not yet timed on a GPU: they are here for the launches that they save, which tests/test_gpu_budget.py counts.
"""

from __future__ import annotations

from tinycv.engine.cuda import Kernels, packed, warps_for
from tinycv.engine.shards import all_reduce
from tinycv.nn.batch_norm import batch_standard
from tinycv.nn.norm import images, pixels

kernels = Kernels(r"""
// ── entries i of channel i mod C; var: sums of squares, which become the variance; scale: 1 / sqrt(var + eps) ──

KERNEL squares(Int n, Int channels, const T* x, const A* mean, A* y) {
    EACH_ENTRY(i, n) {
        const A off = A(x[i]) - mean[i % channels];
        y[i] = off * off;
    }
}

KERNEL to_scale(Int channels, double count, double eps, const T* weight, A* var, A* scale, A* slope) {
    EACH_ENTRY(c, channels) {
        var[c] /= A(count);
        scale[c] = 1 / sqrt(var[c] + A(eps));
        slope[c] = weight ? scale[c] * A(weight[c]) : scale[c];
    }
}

KERNEL normalise(Int n, Int channels, const T* x, const A* mean, const A* slope, const T* bias, T* y) {
    EACH_ENTRY(i, n) {
        const Int c = i % channels;
        y[i] = T((A(x[i]) - mean[c]) * slope[c] + (bias ? A(bias[c]) : A(0)));
    }
}

KERNEL along(Int n, Int channels, const T* x, const A* mean, const A* scale, const T* g, T* y) {
    EACH_ENTRY(i, n) y[i] = T((A(x[i]) - mean[i % channels]) * scale[i % channels] * A(g[i]));
}

// y = slope (x - mean) + bias, and mean and variance are of all x: dx = slope g + (x - mean) b + c, as batch_norm.py has it.
// totals: over the batch, of g and of g times the normal x; by_mean, by_var: what other users of these two send back.
KERNEL back(Int n, Int channels, double count, const T* x, const A* mean, const A* scale, const A* slope, const T* g,
            const A* total, const A* dots, const T* by_mean, const T* by_var, T* gx) {
    EACH_ENTRY(i, n) {
        const Int k = i % channels;
        const A s = slope[k], b = (2 * (by_var ? A(by_var[k]) : A(0)) - s * scale[k] * dots[k]) / A(count);
        const A c = ((by_mean ? A(by_mean[k]) : A(0)) - s * total[k]) / A(count);
        gx[i] = T(s * A(g[i]) + (A(x[i]) - mean[k]) * b + c);
    }
}
""")


@batch_standard.cuda
def _batch_standard(xp, x, count, weight=None, bias=None, eps=1e-5):
    a, channels = pixels(xp, x), x.shape[1]
    (weight, bias), n, rows, count = packed(xp, weight, bias), a.size, (-1, max(1, channels)), float(count)

    wide = xp.promote_types(x.dtype, "float32")

    def over_shard(values):                                         # (C,), in float32 at least
        return values.reshape(rows).sum(axis=0, dtype=wide) if n else xp.zeros(channels, wide)

    mean = all_reduce(over_shard(a.sum(axis=1, dtype=wide))) / count            # in two steps, to keep a large mean's digits
    y, off = xp.empty_like(a), xp.empty(a.shape, wide)
    kernels.squares(x, warps_for(n), n, channels, a, mean, off)
    var = all_reduce(over_shard(off))
    scale, slope = xp.empty_like(mean), xp.empty_like(mean)
    kernels.to_scale(x, warps_for(channels), channels, count, float(eps), weight, var, scale, slope)
    kernels.normalise(x, warps_for(n), n, channels, a, mean, slope, bias, y)

    def pull(g):
        gy, by_mean, by_var = g
        gy = xp.zeros_like(a) if gy is None else pixels(xp, gy)
        gx = xp.empty_like(a)
        kernels.along(x, warps_for(n), n, channels, a, mean, scale, gy, gx)
        total, dots = over_shard(gy), over_shard(gx)

        def along_x():
            sent = [None if part is None else all_reduce(part) for part in packed(xp, by_mean, by_var)]
            kernels.back(x, warps_for(n), n, channels, count, a, mean, scale, slope, gy, all_reduce(total),
                         all_reduce(dots), *sent, gx)
            return images(xp, gx, x.shape)

        return along_x, None, lambda: dots.astype(x.dtype, copy=False), lambda: total.astype(x.dtype, copy=False)

    return (images(xp, y, x.shape), mean.astype(x.dtype, copy=False), var.astype(x.dtype, copy=False)), pull
