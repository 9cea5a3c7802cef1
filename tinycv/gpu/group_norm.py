"""Group norm on a GPU: strips of images, in few launches.

    launches       forward    backward for x    backward for weight and bias
    group norm           3                 3                        1 more

A group may be large and the images few, so group norm passes over strips of images
(norm_strips.py).  The kernels here combine the strips of a group.

Definition: nn/group_norm.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from math import prod

from tinycv.gpu.cuda import Kernels, packed
from tinycv.gpu.norm_strips import WALK, Images, of_parameters
from tinycv.gpu.norm_strips import kernels as strips
from tinycv.nn.group_norm import check_group_norm, grouped
from tinycv.nn.layout import as_it_lies, axes_back, lies_channels_last

kernels = Kernels(
    WALK
    + r"""
// Mean and scale of each group, from the strips of its channels. The squared deviations from the
// group's mean are those from each strip's own mean, plus those of the strip's mean.
KERNEL group_moments(Images of, Int groups, double eps, const A* found, A* means, A* scales) {
    const unsigned own = of.channels / groups, pieces = of.strips * own;
    const Int apart = 2 * of.channels;
    EACH_ROW(row, of.images * groups) {
        const A* in = found + row / groups * of.strips * apart + row % groups * own;
        A mean = 0, square = 0;
        EACH(k, pieces) {
            const unsigned s = unsigned(k) / own, c = unsigned(k) % own;
            mean += (in[s * apart + c] - in[0]) * size_of(of, s);
        }
        mean = in[0] + sum(mean) / (own * of.pixels);
        EACH(k, pieces) {
            const unsigned s = unsigned(k) / own, c = unsigned(k) % own;
            const A off = in[s * apart + c] - mean;
            square += in[s * apart + of.channels + c] + off * off * size_of(of, s);
        }
        square = sum(square) / (own * of.pixels);
        if (threadIdx.x == 0) { means[row] = mean; scales[row] = inverse_root(square + A(eps)); }
    }
}

// bend and shift of each group, in dL/dx = slope g + (x - mean) bend + shift. They are there
// because mean and scale of a group depend on each of its numbers.
KERNEL group_bends(Images of, Int groups, const T* weight, const A* scales, const A* found,
        A* bends, A* shifts) {
    const unsigned own = of.channels / groups, pieces = of.strips * own;
    const Int apart = 2 * of.channels;
    EACH_ROW(row, of.images * groups) {
        const A* in = found + row / groups * of.strips * apart + row % groups * own;
        A total = 0, across = 0;
        EACH(k, pieces) {
            const unsigned s = unsigned(k) / own, c = unsigned(k) % own;
            const A w = weight ? A(weight[row % groups * own + c]) : A(1);
            total += w * in[s * apart + c];
            across += w * in[s * apart + of.channels + c];
        }
        total = sum(total) / (own * of.pixels);
        across = sum(across) / (own * of.pixels);
        if (threadIdx.x == 0) { bends[row] = -across * scales[row] * scales[row];
            shifts[row] = -total * scales[row]; }
    }
}

"""
)


def group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    """Three launches forward: moments of strips, then of groups, then y. Mean and scale of each
    group are saved, in float32 or float64. The backward pass takes three launches as well, and one
    more for the gradients of weight and bias.

    Definition: nn/group_norm.py. differs: calculates in float32 if x is float16.
    """
    n, num_groups, width = grouped(x, num_groups)
    check_group_norm(x, weight, bias, eps)
    weight, bias = packed(xp, weight, bias)
    channels, last = x.shape[1], lies_channels_last(x)
    walk = Images(last, n, channels, prod(x.shape[2:]))
    x = as_it_lies(xp, x, last)
    rows = n * num_groups if width else 0
    at_group = walk.of, num_groups, max(1, channels // num_groups)
    wide = xp.promote_types(x.dtype, "float32")
    y, found = xp.empty_like(x), xp.empty(walk.found, wide)
    means, scales = xp.empty((2, n * num_groups), wide)
    strips.moments(x, walk.warps, walk.of, x, found)
    kernels.group_moments(x, rows, walk.of, num_groups, float(eps), found, means, scales)
    strips.normalise(x, walk.warps, *at_group, x, weight, bias, means, scales, y)

    def pull(g):
        g, gx, total, dots = as_it_lies(xp, g, last), xp.empty_like(x), None, None
        found = xp.empty(walk.found, wide)
        bends, shifts = xp.empty((2, n * num_groups), wide)
        strips.sums(x, walk.warps, *at_group, x, means, scales, g, found)
        kernels.group_bends(x, rows, walk.of, num_groups, weight, scales, found, bends, shifts)
        strips.back(x, walk.warps, *at_group, x, weight, means, scales, bends, shifts, g, gx)
        if weight is not None or bias is not None:
            total, dots = walk.totals(xp, x, found)
        return axes_back(xp, gx, last), None, *of_parameters(x, total, dots)

    return axes_back(xp, y, last), pull
