"""lstm.py on a GPU: beside its product of matrices, a step is one launch each way.

How they are written: engine/cuda.py.
Not yet timed on a GPU: they are here for the launches that they save, which tests/test_gpu_budget.py counts.
"""

from __future__ import annotations

from tinycv.engine.cuda import Kernels, packed, warps_for
from tinycv.sequence.lstm import lstm
from tinycv.sequence.recurrent import check

kernels = Kernels(r"""
// ── LSTM: one step of B x H cells. gates (B, 4H): from x when it comes in, what i, f, g and o are when it goes out ──

__device__ A sigmoid(A x) { return 1 / (1 + exp(-x)); }

KERNEL lstm_step(Int n, Int hidden, T* gates, const T* from_h, const bool* here, const T* h, const T* c, T* next_h,
                 T* next_c) {
    EACH_ENTRY(at, n) {
        const Int b = at / hidden, first = b * 4 * hidden + at % hidden;
        A z[4];
        for (int k = 0; k < 4; k++) z[k] = A(gates[first + k * hidden]) + A(from_h[first + k * hidden]);
        const A i = sigmoid(z[0]), f = sigmoid(z[1]), g = tanh(z[2]), o = sigmoid(z[3]);
        const A kept[4] = {i, f, g, o};
        for (int k = 0; k < 4; k++) gates[first + k * hidden] = T(kept[k]);
        const bool going = !here || here[b];
        const A cell = going ? f * A(c[at]) + i * g : A(c[at]);
        next_c[at] = T(cell);
        next_h[at] = going ? T(o * tanh(cell)) : h[at];
    }
}

// Back: dh comes from y (dy), from the step after by its product (by_h) and, where a sequence was over, as it is (carried).
// dc and carried are changed in place. Each of dy, by_h, carried and here may be null.
KERNEL lstm_step_back(Int n, Int hidden, const T* gates, const T* c, const T* next_c, const bool* here, const T* dy,
                      const T* by_h, T* carried, T* dc, T* d) {
    EACH_ENTRY(at, n) {
        const Int b = at / hidden, first = b * 4 * hidden + at % hidden;
        const A i = gates[first], f = gates[first + hidden], g = gates[first + 2 * hidden], o = gates[first + 3 * hidden];
        const bool going = !here || here[b];
        const A dh = (dy ? A(dy[at]) : A(0)) + (by_h ? A(by_h[at]) : A(0)) + (carried ? A(carried[at]) : A(0));
        const A shown = tanh(A(next_c[at])), to_cell = A(dc[at]) + dh * o * (1 - shown * shown);
        d[first] = T(going ? to_cell * g * i * (1 - i) : A(0));
        d[first + hidden] = T(going ? to_cell * A(c[at]) * f * (1 - f) : A(0));
        d[first + 2 * hidden] = T(going ? to_cell * i * (1 - g * g) : A(0));
        d[first + 3 * hidden] = T(going ? dh * shown * o * (1 - o) : A(0));
        if (going) dc[at] = T(to_cell * f);
        if (carried) carried[at] = T(going ? A(0) : dh);
    }
}
""")


@lstm.cuda
def _lstm(xp, x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, mask=None):
    check(4, x, {"h0": h0, "c0": c0}, (weight_ih, weight_hh, bias_ih, bias_hh), mask)
    (steps, batch, width), hidden, n = x.shape, h0.shape[1], h0.size
    mask, = packed(xp, mask)
    here = [None] * steps if mask is None else mask
    rows = x.reshape(steps * batch, width)
    gates = rows @ weight_ih.T                                      # of all steps: what x says
    for bias in (bias_ih, bias_hh):
        if bias is not None:
            gates += bias
    gates, from_h = gates.reshape(steps, batch, 4 * hidden), xp.empty((batch, 4 * hidden), x.dtype)
    h, c = xp.empty((2, steps + 1, batch, hidden), x.dtype)
    h[0], c[0] = h0, c0
    for t in range(steps):
        xp.matmul(h[t], weight_hh.T, out=from_h)
        kernels.lstm_step(x, warps_for(n), n, hidden, gates[t], from_h, here[t], h[t], c[t], h[t + 1], c[t + 1])

    def pull(g):
        dy, dc_n = g
        dy = [None] * steps if dy is None else packed(xp, dy)[0]
        dc, d = xp.zeros_like(c[0]) if dc_n is None else dc_n.copy(), xp.empty_like(gates)
        by_h, carried = None, None if mask is None else xp.zeros_like(dc)
        for t in reversed(range(steps)):
            kernels.lstm_step_back(x, warps_for(n), n, hidden, gates[t], c[t], c[t + 1], here[t], dy[t], by_h, carried, dc,
                                   d[t])
            by_h = d[t] @ weight_hh
        flat, past = d.reshape(steps * batch, 4 * hidden), h[:-1].reshape(steps * batch, hidden)
        bias = flat.sum(axis=0)
        return (lambda: (flat @ weight_ih).reshape(x.shape), by_h if carried is None else by_h + carried, dc,
                lambda: flat.T @ rows, lambda: flat.T @ past, bias, bias)

    return (h[1:], c[-1].copy()), pull
