"""Cross-entropy on a GPU: for class numbers one launch each way, and three small sums.

Definition: nn/losses.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from tinycv.engine.shards import divisor
from tinycv.gpu.cuda import Kernels, packed
from tinycv.nn.checks import check_cross_entropy, no_gradient
from tinycv.nn.losses import against_shares, not_zero

kernels = Kernels(r"""
// ── cross-entropy against class numbers ──
// With label smoothing e and class weights w (1 if weight is null), the loss of a row is
//     (own + spread) log(sum of exp x) - own x[target] - sum over the classes of share x
//     own = (1 - e) w[target],  share = e w / C for each class,  spread = the sum of all shares
// A term of weight 0 is left out rather than multiplied by 0, because its x may be NaN or infinite.
//
// Row: counts: the target is not ignored. there: it is a valid class. live: the row has a loss.

struct Row { Int target; bool counts, there, live; A own, weight, spread; };

__device__ Row of_row(Int classes, Int target, const T* weight, double smoothing, Int ignored) {
    Row r;
    r.target = target;
    r.counts = target != ignored;
    r.there = target >= 0 && target < classes;
    // NaN for a class that is out of range: an error would mean waiting for the GPU
    r.weight = !r.there ? A(NAN) : weight ? A(weight[target]) : A(1);
    r.own = A(1 - smoothing) * r.weight;
    r.spread = A(smoothing);
    // not 0 if any share is not 0
    A some = A(smoothing);
    if (weight && smoothing != 0) {
        r.spread = some = 0;
        EACH(j, classes) { r.spread += A(weight[j]) * A(smoothing / classes);
            some += fabs(A(weight[j])); }
        r.spread = sum(r.spread);
        some = sum(some);
    }
    r.live = r.counts && (r.own != 0 || some != 0);
    return r;
}

KERNEL cross_entropy(Int rows, Int classes, const T* x, const Int* target, const T* weight,
        double smoothing, Int ignored, A* loss, A* counted) {
    EACH_ROW(row, rows) {
        const T* in = x + row * classes;
        const Row r = of_row(classes, target[row], weight, smoothing, ignored);
        A top = -INFINITY, total = 0, mean = 0;
        EACH(j, classes) top = fmax(top, r.live ? A(in[j]) : A(0));
        top = greatest(top);
        EACH(j, classes) {
            const A below = r.live ? A(in[j]) - top : A(0), even = A(smoothing / classes);
            // 0, not 0 * weight[j], which is NaN for an infinite weight
            const A share = even == 0 || !weight ? even : even * A(weight[j]);
            total += exp(below);
            if (share != 0) mean += below * share;
        }
        total = sum(total);
        mean = sum(mean);
        if (threadIdx.x == 0) {
            const A asked = r.own == 0 || !r.live ? A(0) : r.there ? (A(in[r.target]) - top) * r.own
                : A(NAN);
            counted[row] = r.counts ? r.weight : A(0);
            loss[row] = r.live ? log(total) * (r.own + r.spread) - asked - mean : A(0);
        }
    }
}

// gx = (softmax - q) g. step: 1 if every row has its own g, 0 if all rows share one. count: the
// divisor of the mean, or null.
KERNEL cross_entropy_back(Int rows, Int classes, const T* x, const Int* target, const T* weight,
        double smoothing, Int ignored, const T* g, Int step, const A* count, T* gx) {
    EACH_ROW(row, rows) {
        const T* in = x + row * classes;
        const Row r = of_row(classes, target[row], weight, smoothing, ignored);
        A top = -INFINITY, total = 0, each = A(g[row * step]);
        EACH(j, classes) top = fmax(top, r.live ? A(in[j]) : A(0));
        top = greatest(top);
        EACH(j, classes) total += exp(r.live ? A(in[j]) - top : A(0));
        total = sum(total);
        if (count) each /= count[0];
        EACH(j, classes) {
            const A q = A(smoothing / classes) + (j == r.target ? A(1 - smoothing) : A(0));
            const A asked = q == 0 || !weight ? q : q * A(weight[j]);
            gx[row * classes + j] = T(r.live
                ? (exp(A(in[j]) - top) / total * (r.own + r.spread) - asked) * each : A(0));
        }
    }
}
""")


def cross_entropy(
    xp, input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    """For class numbers, one launch each way and small sums between them. Only the scores are
    saved, and the backward pass computes the softmax again. For probabilities, array calls as on a
    CPU.

    Definition: nn/losses.py. differs: losses of float16 scores are added up in float32. In float16
    the sum over a long batch would overflow, and the mean with it.
    """
    ignored, smoothing = check_cross_entropy(
        xp, input, target, weight, ignore_index, reduction, label_smoothing
    )
    if target.dtype.kind == "f":
        return against_probabilities(xp, input, target, weight, reduction, smoothing)
    x, classes, weight = packed(xp, input, target.astype("int64", copy=False), weight)
    rows, width = x.shape
    loss = xp.empty(rows, xp.promote_types(x.dtype, "float32"))
    counted = xp.empty_like(loss)
    settings = x, classes, weight, smoothing, ignored
    kernels.cross_entropy(x, rows, rows, width, *settings, loss, counted)
    count = divisor(counted.sum()) if reduction == "mean" else None
    count = count if weight is None or count is None else not_zero(count)
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / count
    step = int(reduction == "none")

    def pull(g):
        (g,), gx = packed(xp, g), xp.empty_like(x)
        kernels.cross_entropy_back(x, rows, rows, width, *settings, g, step, count, gx)
        return gx, None, no_gradient

    return y.astype(x.dtype, copy=False), pull


def against_probabilities(xp, input, target, weight, reduction, smoothing):
    """``against_shares`` of nn/losses.py, with float16 converted to float32 and back."""
    dtype, wide = input.dtype, xp.promote_types(input.dtype, "float32")
    input, target = (a.astype(wide, copy=False) for a in (input, target))
    weight = None if weight is None else weight.astype(wide, copy=False)
    y, pull = against_shares(xp, input, target, weight, reduction, smoothing)

    def narrow(g):
        gx, along_target, of_weight = pull(g.astype(wide, copy=False))
        return (
            gx.astype(dtype, copy=False),
            lambda: along_target().astype(dtype, copy=False),
            of_weight,
        )

    return y.astype(dtype, copy=False), narrow
