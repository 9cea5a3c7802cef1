"""GELU, SiLU and leaky ReLU on a GPU: one launch each way, which reads and writes memory once.

Definitions: nn/activation.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from tinycv.engine.arguments import choice
from tinycv.engine.reduce import axes_by_stride
from tinycv.gpu.cuda import Kernels, packed, warps_for
from tinycv.nn.activation import checked_slope
from tinycv.nn.layout import flattened, unflattened

kernels = Kernels(r"""
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


def gelu(xp, x, approximate="none"):
    """One launch each way. Only x is saved. Definition: nn/activation.py."""
    choice(approximate, "approximate", ("none", "tanh"))
    return _of_entries(xp, x, kernels.gelu, kernels.gelu_back, approximate == "tanh")


def silu(xp, x):
    """One launch each way. Only x is saved. Definition: nn/activation.py."""
    return _of_entries(xp, x, kernels.silu, kernels.silu_back)


def leaky_relu(xp, x, negative_slope=0.01):
    """One launch each way. Only x is saved. Definition: nn/activation.py."""
    return _of_entries(
        xp, x, kernels.leaky_relu, kernels.leaky_relu_back, checked_slope(x, negative_slope)
    )


def _of_entries(xp, x, forward, back, option=0.0):
    """(y, pull) of an elementwise function. The arrays are passed over in the order in which x lies
    in memory."""
    order, n, warps = axes_by_stride(x), x.size, warps_for(-(-x.size // 4))  # four entries per lane
    (values,) = packed(xp, flattened(x, order))
    y = xp.empty_like(values)
    forward(values, warps, n, float(option), values, y)

    def pull(g):
        (g,), gx = packed(xp, flattened(g, order)), xp.empty_like(values)
        back(values, warps, n, float(option), values, g, gx)
        return unflattened(gx, x, order)

    return unflattened(y, x, order), pull
