"""activation.py on a GPU: softmax, GELU and the like are one launch each way, in which memory is read and written once.

How they are written: engine/cuda.py.
"""

from __future__ import annotations

from tinycv.engine.arguments import choice
from tinycv.engine.cuda import Kernels, packed, warps_for
from tinycv.engine.reduce import flat, lie, shaped
from tinycv.nn.activation import gelu, leaky_relu, silu, slope_of
from tinycv.nn.softmax import checked, log_softmax, softmax

kernels = Kernels(r"""
// ── softmax and log-softmax of a row; logarithm: which of the two ──

template <int MOST> __device__ void softmax_row(Int width, bool logarithm, const T* in, T* out) {
    A held[MOST + 1], top = -INFINITY, total = 0;
    EACH_HELD(k, j, width) top = fmax(top, held[MOST ? k : 0] = A(in[j]));
    top = greatest(top);
    EACH_HELD(k, j, width) total += exp((MOST ? held[k] : A(in[j])) - top);
    total = sum(total);
    const A share = 1 / total, rest = log(total);
    EACH_HELD(k, j, width) {
        const A below = (MOST ? held[k] : A(in[j])) - top;
        out[j] = T(logarithm ? below - rest : exp(below) * share);
    }
}

KERNEL softmax(Int rows, Int width, bool logarithm, const T* __restrict__ x, T* __restrict__ y) {
    EACH_ROW(row, rows) { BY_WIDTH(width, softmax_row, width, logarithm, x + row * width, y + row * width); }
}

// softmax: y (g - sum of y g).    log-softmax: g - exp(y) times the sum of g.    gx may be g.
template <int MOST> __device__ void softmax_row_back(Int width, bool logarithm, const T* y, const T* g, T* gx) {
    A out[MOST + 1], in[MOST + 1], total = 0;
    EACH_HELD(k, j, width) {
        const A a = out[MOST ? k : 0] = A(y[j]), b = in[MOST ? k : 0] = A(g[j]);
        total += logarithm ? b : a * b;
    }
    total = sum(total);
    EACH_HELD(k, j, width) {
        const A a = MOST ? out[k] : A(y[j]), b = MOST ? in[k] : A(g[j]);
        gx[j] = T(logarithm ? b - exp(a) * total : a * (b - total));
    }
}

KERNEL softmax_back(Int rows, Int width, bool logarithm, const T* y, const T* g, T* gx) {
    EACH_ROW(row, rows) {
        const Int start = row * width;
        BY_WIDTH(width, softmax_row_back, width, logarithm, y + start, g + start, gx + start);
    }
}

// ── of every entry ──

__device__ A inner(A v) { return A(0.7978845608028654) * (v + A(0.044715) * v * v * v); }
__device__ A normal_share(A v) { return A(0.5) * (1 + erf(A(0.7071067811865476) * v)); }     // Φ(v)

KERNEL gelu(Int n, double by_tanh, const T* x, T* y) {
    if (by_tanh) of_entries(n, [](A v) { return A(0.5) * v * (1 + tanh(inner(v))); }, y, x);
    else of_entries(n, [](A v) { return v * normal_share(v); }, y, x);
}

KERNEL gelu_back(Int n, double by_tanh, const T* x, const T* g, T* gx) {
    if (by_tanh) of_entries(n, [](A v, A g) {
        const A t = tanh(inner(v)), slope = A(0.7978845608028654) * (1 + A(3 * 0.044715) * v * v);
        return g * (A(0.5) * (1 + t) + A(0.5) * v * (1 - t * t) * slope);
    }, gx, x, g);
    else of_entries(n, [](A v, A g) {
        return g * (normal_share(v) + v * A(0.3989422804014327) * exp(A(-0.5) * v * v));
    }, gx, x, g);
}

KERNEL silu(Int n, double unused, const T* x, T* y) {
    of_entries(n, [](A v) { return v / (1 + exp(-v)); }, y, x);
}

KERNEL silu_back(Int n, double unused, const T* x, const T* g, T* gx) {
    of_entries(n, [](A v, A g) {
        const A share = 1 / (1 + exp(-v));
        return g * (share + v * share * (1 - share));
    }, gx, x, g);
}

KERNEL leaky_relu(Int n, double slope, const T* x, T* y) {
    const A s = A(slope);
    of_entries(n, [=](A v) { return v > 0 ? v : s * v; }, y, x);
}

KERNEL leaky_relu_back(Int n, double slope, const T* x, const T* g, T* gx) {
    const A s = A(slope);
    of_entries(n, [=](A v, A g) { return v > 0 ? g : s * g; }, gx, x, g);
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
    x, = packed(xp, checked(x, axis).swapaxes(axis, -1))
    y, rows, width = xp.empty_like(x), x.size // max(1, x.shape[-1]), x.shape[-1]
    kernels.softmax(x, rows, rows, width, logarithm, x, y)

    def pull(g):
        (g,), gx = packed(xp, g.swapaxes(axis, -1)), xp.empty_like(y)
        kernels.softmax_back(y, rows, rows, width, logarithm, y, g, gx)
        return gx.swapaxes(axis, -1)

    return y.swapaxes(axis, -1), pull


@gelu.cuda
def _gelu(xp, x, approximate="none"):
    choice(approximate, "approximate", ("none", "tanh"))
    return _of_entries(xp, x, kernels.gelu, kernels.gelu_back, approximate == "tanh")


@silu.cuda
def _silu(xp, x):
    return _of_entries(xp, x, kernels.silu, kernels.silu_back)


@leaky_relu.cuda
def _leaky_relu(xp, x, negative_slope=0.01):
    return _of_entries(xp, x, kernels.leaky_relu, kernels.leaky_relu_back, slope_of(x, negative_slope))


def _of_entries(xp, x, forward, back, option=0.0):
    """y and pull of a function that takes every entry alone, in the order in which x lies in memory."""
    order, n, warps = lie(x), x.size, warps_for(-(-x.size // 4))    # four entries a lane
    values, = packed(xp, flat(x, order))
    y = xp.empty_like(values)
    forward(values, warps, n, float(option), values, y)

    def pull(g):
        (g,), gx = packed(xp, flat(g, order)), xp.empty_like(values)
        back(values, warps, n, float(option), values, g, gx)
        return shaped(gx, x, order)

    return shaped(y, x, order), pull
