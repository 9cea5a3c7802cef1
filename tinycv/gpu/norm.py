"""Layer norm on a GPU: one warp per row, in few launches.

    launches       forward    backward for x    backward for weight and bias
    layer norm           1                 1                               2

Definition: nn/norm.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from tinycv.gpu.cuda import Kernels, packed
from tinycv.gpu.norm_strips import WALK, Images, of_parameters
from tinycv.nn.norm import check_layer_norm

kernels = Kernels(
    WALK
    + r"""
// ── layer norm. Mean and scale of each row are saved for the backward pass ──

template <int MOST> __device__ void layer_norm_row(Int width, const T* x, const T* weight,
        const T* bias, A eps, T* y, A* mean_of, A* scale_of) {
    A held[MOST + 1], mean = 0, square = 0;
    // Subtracted before summing: a sum of large numbers that are close together would lose digits.
    const A near = A(x[0]);
    EACH_HELD(k, j, width) mean += (held[MOST ? k : 0] = A(x[j])) - near;
    mean = near + sum(mean) / width;
    EACH_HELD(k, j, width) {
        const A off = (MOST ? held[k] : A(x[j])) - mean;
        square += off * off;
    }
    const A scale = inverse_root(sum(square) / width + eps);
    EACH_HELD(k, j, width)
        y[j] = T(((MOST ? held[k] : A(x[j])) - mean) * scale * (weight ? A(weight[j]) : A(1))
            + (bias ? A(bias[j]) : A(0)));
    if (threadIdx.x == 0) { *mean_of = mean; *scale_of = scale; }
}

KERNEL layer_norm(Int rows, Int width, const T* __restrict__ x, const T* __restrict__ weight,
        const T* __restrict__ bias, double eps, T* __restrict__ y, A* means, A* scales) {
    EACH_ROW(row, rows) {
        const Int at = row * width;
        BY_WIDTH(width, layer_norm_row, width, x + at, weight, bias, A(eps), y + at, means + row,
            scales + row);
    }
}

template <int MOST> __device__ void layer_norm_row_back(Int width, const T* x, const T* weight,
        A mean, A scale, const T* g, T* gx) {
    A normal[MOST + 1], from[MOST + 1], total = 0, across = 0;
    EACH_HELD(k, j, width) {
        const A n = normal[MOST ? k : 0] = (A(x[j]) - mean) * scale;
        const A h = from[MOST ? k : 0] = A(g[j]) * (weight ? A(weight[j]) : A(1));
        total += h;
        across += h * n;
    }
    total = sum(total) / width;
    across = sum(across) / width;
    EACH_HELD(k, j, width) {
        const A n = MOST ? normal[k] : (A(x[j]) - mean) * scale;
        const A h = MOST ? from[k] : A(g[j]) * (weight ? A(weight[j]) : A(1));
        gx[j] = T((h - total - n * across) * scale);
    }
}

KERNEL layer_norm_back(Int rows, Int width, const T* __restrict__ x, const T* __restrict__ weight,
        const A* means, const A* scales, const T* __restrict__ g, T* __restrict__ gx) {
    EACH_ROW(row, rows) {
        const Int at = row * width;
        BY_WIDTH(width, layer_norm_row_back, width, x + at, weight, means[row], scales[row], g + at,
            gx + at);
    }
}

// Sums down the rows, of g and of g times the normalised x: the gradients of bias and weight. The
// rows are passed over like the pixels of one image that lies channels last.
KERNEL layer_norm_sums(Images of, const T* x, const A* means, const A* scales, const T* g,
        A* found) {
    walk(of, [&](const Share& my) {
        const Int first = my.strip * of.strip;
        A total = 0, dots = 0;
        EACH_SHARED(at, my) {
            total += A(g[at]);
            dots += A(g[at]) * ((A(x[at]) - means[first + k]) * scales[first + k]);
        }
        keep(of, my, total, dots, found);
    });
}

"""
)


def layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    """One launch, with a warp for each row. It saves mean and scale of the row, in float32 or
    float64. The backward pass takes one launch for dL/dx, and two for the gradients of weight and
    bias.

    Definition: nn/norm.py. differs: calculates in float32 if x is float16.
    """
    check_layer_norm(x, weight, bias, eps)
    rows, width = x.size // max(1, x.shape[-1]), x.shape[-1]
    x, weight, bias = packed(xp, x, weight, bias)
    y = xp.empty_like(x)
    means, scales = xp.empty((2, rows), xp.promote_types(x.dtype, "float32"))
    kernels.layer_norm(x, rows, rows, width, x, weight, bias, float(eps), y, means, scales)

    def pull(g):
        (g,) = packed(xp, g)
        gx, total, dots = xp.empty_like(x), None, None
        kernels.layer_norm_back(x, rows, rows, width, x, weight, means, scales, g, gx)
        if weight is not None or bias is not None:
            walk = Images(True, 1, width, rows)
            found = xp.empty(walk.found, means.dtype)
            kernels.layer_norm_sums(x, walk.warps, walk.of, x, means, scales, g, found)
            total, dots = walk.totals(xp, x, found)
        return gx, *of_parameters(x, total, dots)

    return y, pull
