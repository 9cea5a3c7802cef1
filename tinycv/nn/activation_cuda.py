"""activation.py on a GPU: softmax, GELU and the like are one launch each way.

How they are written: engine/cuda.py.
Not yet timed on a GPU: they are here for the launches that they save, which tests/test_gpu_budget.py counts.
"""

from __future__ import annotations

from tinycv.engine.cuda import Kernels, packed, warps_for
from tinycv.engine.reduce import flat, lie, shaped
from tinycv.nn.activation import gelu, leaky_relu, silu
from tinycv.nn.softmax import log_softmax, softmax

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

// ── of every entry ──

KERNEL gelu(Int n, double by_tanh, const T* x, T* y) {
    EACH_ENTRY(i, n) {
        const A v = A(x[i]), inner = A(0.7978845608028654) * (v + A(0.044715) * v * v * v);
        y[i] = T(by_tanh ? A(0.5) * v * (1 + tanh(inner)) : v * normcdf(v));
    }
}

KERNEL gelu_back(Int n, double by_tanh, const T* x, const T* g, T* gx) {
    EACH_ENTRY(i, n) {
        const A v = A(x[i]), t = tanh(A(0.7978845608028654) * (v + A(0.044715) * v * v * v));
        const A inner_slope = A(0.7978845608028654) * (1 + A(3 * 0.044715) * v * v);
        const A slope = by_tanh ? A(0.5) * (1 + t) + A(0.5) * v * (1 - t * t) * inner_slope
                                : normcdf(v) + v * A(0.3989422804014327) * exp(A(-0.5) * v * v);
        gx[i] = T(A(g[i]) * slope);
    }
}

KERNEL silu(Int n, double unused, const T* x, T* y) {
    EACH_ENTRY(i, n) y[i] = T(A(x[i]) / (1 + exp(-A(x[i]))));
}

KERNEL silu_back(Int n, double unused, const T* x, const T* g, T* gx) {
    EACH_ENTRY(i, n) {
        const A v = A(x[i]), share = 1 / (1 + exp(-v));
        gx[i] = T(A(g[i]) * (share + v * share * (1 - share)));
    }
}

KERNEL leaky_relu(Int n, double slope, const T* x, T* y) {
    EACH_ENTRY(i, n) y[i] = T(A(x[i]) > 0 ? A(x[i]) : A(slope) * A(x[i]));
}

KERNEL leaky_relu_back(Int n, double slope, const T* x, const T* g, T* gx) {
    EACH_ENTRY(i, n) gx[i] = T(A(x[i]) > 0 ? A(g[i]) : A(slope) * A(g[i]));
}
""")


@softmax.cuda
def _softmax(xp, x, axis=-1):
    return _of_rows(xp, x, axis, False)


@log_softmax.cuda
def _log_softmax(xp, x, axis=-1):
    return _of_rows(xp, x, axis, True)


def _of_rows(xp, x, axis, logarithm):
    """softmax or its logarithm along an axis: a warp for each row."""
    x, = packed(xp, x.swapaxes(axis, -1))
    y, rows, width = xp.empty_like(x), x.size // max(1, x.shape[-1]), x.shape[-1]
    kernels.softmax(x, rows, rows, width, logarithm, x, y)

    def pull(g):
        (g,), gx = packed(xp, g.swapaxes(axis, -1)), xp.empty_like(y)
        kernels.softmax_back(y, rows, rows, width, logarithm, y, g, gx)
        return gx.swapaxes(axis, -1)

    return y.swapaxes(axis, -1), pull


@gelu.cuda
def _gelu(xp, x, approximate="none"):
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; it must be 'none' or 'tanh'")
    return _of_entries(xp, x, kernels.gelu, kernels.gelu_back, approximate == "tanh")


@silu.cuda
def _silu(xp, x):
    return _of_entries(xp, x, kernels.silu, kernels.silu_back)


@leaky_relu.cuda
def _leaky_relu(xp, x, negative_slope=0.01):
    return _of_entries(xp, x, kernels.leaky_relu, kernels.leaky_relu_back, negative_slope)


def _of_entries(xp, x, forward, back, option=0.0):
    """y and pull of a function that takes every entry alone, in the order in which x lies in memory."""
    order, n = lie(x), x.size
    values, = packed(xp, flat(x, order))
    y = xp.empty_like(values)
    forward(values, warps_for(n), n, float(option), values, y)

    def pull(g):
        (g,), gx = packed(xp, flat(g, order)), xp.empty_like(values)
        back(values, warps_for(n), n, float(option), values, g, gx)
        return shaped(gx, x, order)

    return shaped(y, x, order), pull
