"""Softmax and log-softmax on a GPU: one launch each way, which reads and writes memory once.

Definitions: nn/softmax.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from tinycv.gpu.cuda import Kernels, packed
from tinycv.nn.softmax import check_softmax

kernels = Kernels(r"""
// ── softmax of a row, or log-softmax if ``logarithm`` ──

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
    EACH_ROW(row, rows) { BY_WIDTH(width, softmax_row, width, logarithm, x + row * width,
        y + row * width); }
}

// gx = y (g - sum of y g) for softmax; gx = g - exp(y) (sum of g) for log-softmax. gx may be the
// same memory as g.
template <int MOST> __device__ void softmax_row_back(Int width, bool logarithm, const T* y,
        const T* g, T* gx) {
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
""")


def softmax(xp, x, axis=-1):
    """One launch each way. Only y is saved. Definition: nn/softmax.py."""
    return _of_rows(xp, x, axis, False)


def log_softmax(xp, x, axis=-1):
    """One launch each way. Only y is saved. Definition: nn/softmax.py."""
    return _of_rows(xp, x, axis, True)


def _of_rows(xp, x, axis, logarithm):
    """(y, pull) of softmax or its logarithm along an axis, with a warp for each row."""
    (x,) = packed(xp, check_softmax(x, axis).swapaxes(axis, -1))
    y, rows, width = xp.empty_like(x), x.size // max(1, x.shape[-1]), x.shape[-1]
    kernels.softmax(x, rows, rows, width, logarithm, x, y)

    def pull(g):
        (g,), gx = packed(xp, g.swapaxes(axis, -1)), xp.empty_like(y)
        kernels.softmax_back(y, rows, rows, width, logarithm, y, g, gx)
        return gx.swapaxes(axis, -1)

    return y.swapaxes(axis, -1), pull
