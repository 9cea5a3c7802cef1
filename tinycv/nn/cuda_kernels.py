"""The third members of nn's pairs: on a GPU, softmax, cross-entropy, layer norm and GELU are a launch each way.

What they must equal is read in activation.py, losses.py and norm.py; how they are written, in engine/cuda.py.
Not yet timed on a GPU: they are here for the launches that they save, which tests/test_gpu_budget.py counts.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.cuda import Kernels, packed, warps_for
from tinycv.nn.activation import gelu, log_softmax, softmax
from tinycv.nn.losses import against_shares, check, cross_entropy
from tinycv.nn.norm import layer_norm

kernels = Kernels(r"""
// ── softmax and log-softmax of a row; logarithm: which of the two ──

KERNEL softmax(Int rows, Int width, bool logarithm, const T* x, T* y) {
    EACH_ROW(row, rows) {
        const T* in = x + row * width;
        A top = -INFINITY, total = 0;
        EACH(j, width) top = fmax(top, A(in[j]));
        top = greatest(top);
        EACH(j, width) total += exp(A(in[j]) - top);
        total = sum(total);
        EACH(j, width) y[row * width + j] = T(logarithm ? A(in[j]) - top - log(total) : exp(A(in[j]) - top) / total);
    }
}

// softmax: y (g - sum of y g).    log-softmax: g - exp(y) times the sum of g.
KERNEL softmax_back(Int rows, Int width, bool logarithm, const T* y, const T* g, T* gx) {
    EACH_ROW(row, rows) {
        const T *out = y + row * width, *in = g + row * width;
        A total = 0;
        EACH(j, width) total += logarithm ? A(in[j]) : A(out[j]) * A(in[j]);
        total = sum(total);
        EACH(j, width) gx[row * width + j] = T(logarithm ? A(in[j]) - exp(A(out[j])) * total
                                                         : A(out[j]) * (A(in[j]) - total));
    }
}

// ── cross-entropy against class numbers: a row's loss is log(sum of exp x) - (1 - s) x[target] - s mean x ──

KERNEL cross_entropy(Int rows, Int classes, const T* x, const Int* target, double smoothing, Int ignored,
                     T* loss, T* counted) {
    EACH_ROW(row, rows) {
        const T* in = x + row * classes;
        A top = -INFINITY, total = 0, mean = 0;
        EACH(j, classes) top = fmax(top, A(in[j]));
        top = greatest(top);
        EACH(j, classes) { total += exp(A(in[j]) - top); mean += (A(in[j]) - top) / classes; }
        total = sum(total);
        mean = sum(mean);
        if (threadIdx.x == 0) {
            const Int t = target[row];
            const bool counts = t != ignored, there = t >= 0 && t < classes;
            const A own = there ? A(in[t]) - top : A(NAN);          // to refuse it would be to wait
            counted[row] = T(A(counts));
            loss[row] = T(counts ? log(total) - A(1 - smoothing) * own - A(smoothing) * mean : A(0));
        }
    }
}

// (softmax - q) g. step: 1 where every row has a g of its own, 0 where all have one; count: what the mean divided by.
KERNEL cross_entropy_back(Int rows, Int classes, const T* x, const Int* target, double smoothing, Int ignored,
                          const T* g, Int step, const T* count, T* gx) {
    EACH_ROW(row, rows) {
        const T* in = x + row * classes;
        const Int t = target[row];
        const bool counts = t != ignored, there = t >= 0 && t < classes;
        A top = -INFINITY, total = 0, weight = A(g[row * step]);
        EACH(j, classes) top = fmax(top, A(in[j]));
        top = greatest(top);
        EACH(j, classes) total += exp(A(in[j]) - top);
        total = sum(total);
        if (count) weight /= A(count[0]);
        if (!counts) weight *= 0;                                   // NaN stays NaN, as by the kernel for arrays
        else if (!there) weight = A(NAN);
        EACH(j, classes) {
            const A q = A(smoothing / classes) + (j == t ? A(1 - smoothing) : A(0));
            gx[row * classes + j] = T((exp(A(in[j]) - top) / total - q) * weight);
        }
    }
}

// ── layer norm: mean and scale of a row are kept for the way back ──

KERNEL layer_norm(Int rows, Int width, const T* x, const T* weight, const T* bias, double eps,
                  T* y, A* means, A* scales) {
    EACH_ROW(row, rows) {
        const T* in = x + row * width;
        A mean = 0, square = 0;
        EACH(j, width) mean += A(in[j]);
        mean = sum(mean) / width;
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

// ── GELU of every entry; by_tanh: the approximation ──

KERNEL gelu(Int n, bool by_tanh, const T* x, T* y) {
    EACH_ENTRY(i, n) {
        const A v = A(x[i]), inner = A(0.7978845608028654) * (v + A(0.044715) * v * v * v);
        y[i] = T(by_tanh ? A(0.5) * v * (1 + tanh(inner)) : v * normcdf(v));
    }
}

KERNEL gelu_back(Int n, bool by_tanh, const T* x, const T* g, T* gx) {
    EACH_ENTRY(i, n) {
        const A v = A(x[i]), t = tanh(A(0.7978845608028654) * (v + A(0.044715) * v * v * v));
        const A inner_slope = A(0.7978845608028654) * (1 + A(3 * 0.044715) * v * v);
        const A slope = by_tanh ? A(0.5) * (1 + t) + A(0.5) * v * (1 - t * t) * inner_slope
                                : normcdf(v) + v * A(0.3989422804014327) * exp(A(-0.5) * v * v);
        gx[i] = T(A(g[i]) * slope);
    }
}
""")


@softmax.cuda
def _softmax(xp, x, axis=-1):
    return _of_rows(xp, x, axis, False)


@log_softmax.cuda
def _log_softmax(xp, x, axis=-1):
    return _of_rows(xp, x, axis, True)


def _of_rows(xp, x, axis, logarithm):
    x, = packed(xp, x.swapaxes(axis, -1))
    y, rows, width = xp.empty_like(x), x.size // max(1, x.shape[-1]), x.shape[-1]
    kernels.softmax(x, rows, rows, width, logarithm, x, y)

    def pull(g):
        (g,), gx = packed(xp, g.swapaxes(axis, -1)), xp.empty_like(y)
        kernels.softmax_back(y, rows, rows, width, logarithm, y, g, gx)
        return gx.swapaxes(axis, -1)

    return y.swapaxes(axis, -1), pull


@cross_entropy.cuda
def _cross_entropy(xp, input, target, label_smoothing=0.0, reduction="mean", ignore_index=-100):
    check(xp, input, target, reduction, ignore_index)
    if target.dtype.kind == "f":
        return against_shares(xp, input, target, label_smoothing, reduction)
    x, classes = packed(xp, input, target.astype("int64", copy=False))
    (rows, width), smoothing = x.shape, float(label_smoothing)
    loss, counted = xp.empty(rows, x.dtype), xp.empty(rows, x.dtype)
    kernels.cross_entropy(x, rows, rows, width, x, classes, smoothing, ignore_index, loss, counted)
    count = counted.sum() if reduction == "mean" else None
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / count

    def pull(g):
        (g,), gx = packed(xp, g), xp.empty_like(x)
        kernels.cross_entropy_back(x, rows, rows, width, x, classes, smoothing, ignore_index, g, int(reduction == "none"),
                                   count, gx)
        return gx

    return y, pull


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


@gelu.cuda
def _gelu(xp, x, approximate="none"):
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; it must be 'none' or 'tanh'")
    (x,), n, by_tanh = packed(xp, x), x.size, approximate == "tanh"
    y = xp.empty_like(x)
    kernels.gelu(x, warps_for(n), n, by_tanh, x, y)

    def pull(g: Any) -> Any:
        (g,), gx = packed(xp, g), xp.empty_like(x)
        kernels.gelu_back(x, warps_for(n), n, by_tanh, x, g, gx)
        return gx

    return y, pull
