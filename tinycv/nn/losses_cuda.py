"""losses.py on a GPU: cross-entropy against class numbers is one launch each way, and three small sums.

How they are written: engine/cuda.py.
"""

from __future__ import annotations

from tinycv.engine.cuda import Kernels, packed
from tinycv.nn.losses import against_shares, check, cross_entropy

kernels = Kernels(r"""
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
""")


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
