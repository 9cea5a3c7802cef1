"""norm.py on a GPU: layer norm and group norm are one launch each way, and a sum for each of their parameters.

How they are written: engine/cuda.py.
Not yet timed on a GPU: they are here for the launches that they save, which tests/test_gpu_budget.py counts.
"""

from __future__ import annotations

from math import prod

from tinycv.engine.cuda import Kernels, packed
from tinycv.nn.norm import group_norm, grouped, layer_norm

kernels = Kernels(r"""
// ── layer norm: mean and scale of a row are kept for the way back ──

KERNEL layer_norm(Int rows, Int width, const T* x, const T* weight, const T* bias, double eps,
                  T* y, A* means, A* scales) {
    EACH_ROW(row, rows) {
        const T* in = x + row * width;
        A mean = 0, square = 0;
        EACH(j, width) mean += A(in[j]) - A(in[0]);                 // of large numbers that lie near to each other
        mean = A(in[0]) + sum(mean) / width;
        EACH(j, width) square += (A(in[j]) - mean) * (A(in[j]) - mean);
        const A scale = 1 / sqrt(sum(square) / width + A(eps));
        EACH(j, width) y[row * width + j] = T((A(in[j]) - mean) * scale * (weight ? A(weight[j]) : A(1))
                                              + (bias ? A(bias[j]) : A(0)));
        if (threadIdx.x == 0) { means[row] = mean; scales[row] = scale; }
    }
}

// gx, and g times the normal row, whose sum over the rows is the weight's gradient.
KERNEL layer_norm_back(Int rows, Int width, const T* x, const T* weight, const A* means, const A* scales,
                       const T* g, T* gx, T* along_weight) {
    EACH_ROW(row, rows) {
        const T *in = x + row * width, *from = g + row * width;
        const A mean = means[row], scale = scales[row];
        A total = 0, across = 0;
        EACH(j, width) {
            const A h = A(from[j]) * (weight ? A(weight[j]) : A(1));
            total += h;
            across += h * (A(in[j]) - mean) * scale;
        }
        total = sum(total) / width;
        across = sum(across) / width;
        EACH(j, width) {
            const A normal = (A(in[j]) - mean) * scale, h = A(from[j]) * (weight ? A(weight[j]) : A(1));
            gx[row * width + j] = T((h - total - normal * across) * scale);
            if (along_weight) along_weight[row * width + j] = T(A(from[j]) * normal);
        }
    }
}

// ── group norm: a row for each image and group, which lies in x in steps of its own; y and the rest lie as x ──

KERNEL group_norm(Int rows, Int pixels, Int groups, Int own, Int by_image, Int by_channel, Int by_pixel, const T* x,
                  const T* weight, const T* bias, double eps, T* y, A* means, A* scales) {
    EACH_ROW(row, rows) {
        const Int first = row % groups * own, start = row / groups * by_image + first * by_channel, count = pixels * own;
        A mean = 0, square = 0;
        EACH(j, count) mean += A(x[start + j % own * by_channel + j / own * by_pixel]) - A(x[start]);
        mean = A(x[start]) + sum(mean) / count;
        EACH(j, count) {
            const A off = A(x[start + j % own * by_channel + j / own * by_pixel]) - mean;
            square += off * off;
        }
        const A scale = 1 / sqrt(sum(square) / count + A(eps));
        EACH(j, count) {
            const Int at = start + j % own * by_channel + j / own * by_pixel, c = first + j % own;
            y[at] = T((A(x[at]) - mean) * scale * (weight ? A(weight[c]) : A(1)) + (bias ? A(bias[c]) : A(0)));
        }
        if (threadIdx.x == 0) { means[row] = mean; scales[row] = scale; }
    }
}

KERNEL group_norm_back(Int rows, Int pixels, Int groups, Int own, Int by_image, Int by_channel, Int by_pixel, const T* x,
                       const T* weight, const A* means, const A* scales, const T* g, T* gx, T* along_weight) {
    EACH_ROW(row, rows) {
        const Int first = row % groups * own, start = row / groups * by_image + first * by_channel, count = pixels * own;
        const A mean = means[row], scale = scales[row];
        A total = 0, across = 0;
        EACH(j, count) {
            const Int at = start + j % own * by_channel + j / own * by_pixel;
            const A h = A(g[at]) * (weight ? A(weight[first + j % own]) : A(1));
            total += h;
            across += h * (A(x[at]) - mean) * scale;
        }
        total = sum(total) / count;
        across = sum(across) / count;
        EACH(j, count) {
            const Int at = start + j % own * by_channel + j / own * by_pixel;
            const A normal = (A(x[at]) - mean) * scale, h = A(g[at]) * (weight ? A(weight[first + j % own]) : A(1));
            gx[at] = T((h - total - normal * across) * scale);
            if (along_weight) along_weight[at] = T(A(g[at]) * normal);
        }
    }
}
""")


@layer_norm.cuda
def _layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    rows, width = x.size // max(1, x.shape[-1]), x.shape[-1]
    x, weight, bias = packed(xp, x, weight, bias)
    y, (means, scales) = xp.empty_like(x), xp.empty((2, rows), xp.promote_types(x.dtype, "float32"))
    kernels.layer_norm(x, rows, rows, width, x, weight, bias, float(eps), y, means, scales)

    def pull(g):
        (g,), gx = packed(xp, g), xp.empty_like(x)
        along_weight = None if weight is None else xp.empty((rows, width), x.dtype)
        kernels.layer_norm_back(x, rows, rows, width, x, weight, means, scales, g, gx, along_weight)
        return gx, lambda: along_weight.sum(axis=0), lambda: g.reshape(rows, width).sum(axis=0)

    return y, pull


@group_norm.cuda
def _group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    n, _, width = grouped(x, num_groups)
    x = x if channels_last(x) else packed(xp, x)[0]
    weight, bias = packed(xp, weight, bias)
    own, rows, pixels, like = x.shape[1] // num_groups, n * num_groups, prod(x.shape[2:]), memory_like(xp, x)
    steps = pixels, num_groups, own, pixels * x.shape[1], *((1, x.shape[1]) if channels_last(x) else (pixels, 1))
    y, (means, scales) = like(), xp.empty((2, rows), xp.promote_types(x.dtype, "float32"))
    kernels.group_norm(x, rows if width else 0, rows, *steps, x.data, weight, bias, float(eps), y.data, means, scales)

    def pull(g):
        gx, along, laid = like(), None if weight is None else like(), like()
        laid[...] = g                                               # as x lies
        kernels.group_norm_back(x, rows if width else 0, rows, *steps, x.data, weight, means, scales, laid.data, gx.data,
                                None if along is None else along.data)
        over = (0, *range(2, x.ndim))
        return gx, None, lambda: along.sum(axis=over), lambda: g.sum(axis=over)

    return y, pull


def channels_last(x):
    """Do the channels of x (B, C, ...) lie side by side in memory?"""
    return x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous


def memory_like(xp, x):
    """A function that makes room for an array that lies as x does, channels last or first."""
    order = (0, *range(2, x.ndim), 1) if channels_last(x) else tuple(range(x.ndim))
    back = sorted(range(x.ndim), key=order.__getitem__)
    return lambda: xp.empty([x.shape[axis] for axis in order], x.dtype).transpose(back)
