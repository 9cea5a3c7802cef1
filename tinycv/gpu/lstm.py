"""LSTM on a GPU: each time step takes one matrix product and one launch, forward and backward.

Definition: sequence/lstm.py.   How kernels are written: cuda.py.
Shapes: T steps, B sequences, H hidden units.
"""

from __future__ import annotations

from tinycv.engine.gemm import matrix_product
from tinycv.engine.reduce import sum_rows
from tinycv.gpu.cuda import Kernels, packed, warps_for
from tinycv.gpu.linear import product_and_bias
from tinycv.sequence.recurrent import check

kernels = Kernels(r"""
// ── step t of n = B H cells ──
// gates (T, B, 4H): on entry the part of each gate's input that comes from x; afterwards i, f, g,
// o. h and c (T + 1, B, H). here (T, B): true while a sequence runs; null if all have the same
// length.

__device__ A sigmoid(A x) { return 1 / (1 + exp(-x)); }

KERNEL lstm_step(Int n, Int hidden, Int t, T* gates, const T* from_h, const bool* here, T* h,
        T* c) {
    EACH_ENTRY(at, n) {
        const Int b = at / hidden, first = b * 4 * hidden + at % hidden, now = t * n + at,
            next = now + n;
        T* gate = gates + t * 4 * n + first;
        A z[4];
        for (int k = 0; k < 4; k++) z[k] = A(gate[k * hidden]) + A(from_h[first + k * hidden]);
        const A i = sigmoid(z[0]), f = sigmoid(z[1]), g = tanh(z[2]), o = sigmoid(z[3]);
        const A kept[4] = {i, f, g, o};
        for (int k = 0; k < 4; k++) gate[k * hidden] = T(kept[k]);
        const bool going = !here || here[t * (n / hidden) + b];
        const A cell = going ? f * A(c[now]) + i * g : A(c[now]);
        c[next] = T(cell);
        h[next] = going ? T(o * tanh(cell)) : h[now];
    }
}

// Backward: dh is the sum of the gradient of y (dy), of the next step's through its product (by_h),
// and, where a sequence had ended, of the next step's unchanged (carried). dc and carried are
// updated in place. d (T, B, 4H) receives the gradients of the gates' inputs. dy, by_h, carried and
// here may be null.
KERNEL lstm_step_back(Int n, Int hidden, Int t, const T* gates, const T* c, const bool* here,
        const T* dy, const T* by_h, T* carried, T* dc, T* d) {
    EACH_ENTRY(at, n) {
        const Int b = at / hidden, first = t * 4 * n + b * 4 * hidden + at % hidden,
            now = t * n + at;
        const A i = gates[first], f = gates[first + hidden], g = gates[first + 2 * hidden],
            o = gates[first + 3 * hidden];
        const bool going = !here || here[t * (n / hidden) + b];
        const A dh = (dy ? A(dy[now]) : A(0)) + (by_h ? A(by_h[at]) : A(0))
            + (carried ? A(carried[at]) : A(0));
        const A shown = tanh(A(c[now + n])), to_cell = A(dc[at]) + dh * o * (1 - shown * shown);
        d[first] = T(going ? to_cell * g * i * (1 - i) : A(0));
        d[first + hidden] = T(going ? to_cell * A(c[now]) * f * (1 - f) : A(0));
        d[first + 2 * hidden] = T(going ? to_cell * i * (1 - g * g) : A(0));
        d[first + 3 * hidden] = T(going ? dh * shown * o * (1 - o) : A(0));
        if (going) dc[at] = T(to_cell * f);
        if (carried) carried[at] = T(going ? A(0) : dh);
    }
}
""")


def lstm(xp, x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, mask=None):
    """One product with x for all steps; then one product and one launch for each step. The backward
    pass takes the same. Saves i, f, g, o, h and c of every step. Definition: sequence/lstm.py."""
    check(4, x, {"h0": h0, "c0": c0}, (weight_ih, weight_hh, bias_ih, bias_hh), mask)
    (steps, batch, width), hidden, n = x.shape, h0.shape[1], h0.size
    (here,) = packed(xp, mask)
    # x after the end of a sequence may be NaN, which would reach the gradients of the weights
    x = x if here is None else xp.where(here, x, 0)
    rows = x.reshape(steps * batch, width)
    bias = bias_hh if bias_ih is None else bias_ih if bias_hh is None else bias_ih + bias_hh
    gates = product_and_bias(xp, rows, weight_ih, bias)  # the part from x, for all steps
    gates, from_h = gates.reshape(steps, batch, 4 * hidden), xp.empty((batch, 4 * hidden), x.dtype)
    h, c = xp.empty((2, steps + 1, batch, hidden), x.dtype)
    h[0], c[0] = h0, c0
    across = weight_hh.T
    for t in range(steps):
        matrix_product(h[t], across, out=from_h)
        kernels.lstm_step(x, warps_for(n), n, hidden, t, gates, from_h, here, h, c)

    def pull(g):
        dy, dc_n = g
        (dy,) = packed(xp, dy)
        dc, d = xp.zeros_like(c[0]) if dc_n is None else dc_n.copy(), xp.empty_like(gates)
        room, by_h, carried = xp.empty_like(dc), None, None if here is None else xp.zeros_like(dc)
        for t in reversed(range(steps)):
            kernels.lstm_step_back(
                x, warps_for(n), n, hidden, t, gates, c, here, dy, by_h, carried, dc, d
            )
            by_h = matrix_product(d[t], weight_hh, out=room)
        past = h[:-1] if here is None else xp.where(here, h[:-1], 0)
        flat, past = d.reshape(steps * batch, 4 * hidden), past.reshape(steps * batch, hidden)
        bias = sum_rows(xp, flat)
        return (
            lambda: matrix_product(flat, weight_ih).reshape(x.shape),
            by_h if carried is None else by_h + carried,
            dc,
            lambda: matrix_product(flat.T, rows),
            lambda: matrix_product(flat.T, past),
            bias,
            bias,
        )

    return (h[1:], c[-1].copy()), pull
