"""Max pooling and average pooling: shrink an image by keeping one number per window.

    max pooling        y[n, c, h, w] = the largest x in the window      Ranzato et al. 2007
    average pooling    y[n, c, h, w] = the mean of the window           LeCun et al. 1998, sec. II.B

The window slides over each channel separately, with the sizes of a convolution (window.py).
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.fused import fused
from tinycv.engine.methods import stack
from tinycv.engine.ops import pad
from tinycv.engine.reduce import zeros_beside
from tinycv.engine.tensor import Tensor
from tinycv.nn.checks import array
from tinycv.nn.module import Module
from tinycv.nn.window import Pair, as_pair, as_walk, inside, output_size, tap_index, taps


@fused(whole="kernel_size stride")
def max_pool2d(
    x: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Tensor:
    """The largest entry in each window: x (N, C, H, W) gives (N, C, H', W'), with conv2d's sizes.

    kernel_size, stride, padding: ints or pairs (down, across). stride is kernel_size by default.
    Padding is never the largest: it is -inf, or the lowest integer.
    differs: if several entries tie for the largest, they share the gradient equally. PyTorch gives
    it to the first.
    """
    margins, views = tap_views(x, kernel_size, stride, padding)
    x = pad(x, margins, lowest(x.dtype))
    return stack([x[view] for view in views]).max(axis=0)


@fused(whole="kernel_size stride")
def avg_pool2d(
    x: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Tensor:
    """The mean of each window: x (N, C, H, W) gives (N, C, H', W'). Arguments as in ``max_pool2d``.

    Padding is 0 and counts as part of the window, as it does in PyTorch by default.
    """
    margins, views = tap_views(x, kernel_size, stride, padding)
    x = pad(x, margins)
    return sum((x[view] for view in views[1:]), x[views[0]]) * (1 / len(views))


def tap_views(
    x: Tensor, kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple, list[tuple]]:
    """The padding of each axis of x (N, C, H, W); and one index for each tap of the window, which
    selects from the padded x the pixels that this tap sees, (N, C, H', W')."""
    array(x, "x")
    window = as_pair("kernel_size", kernel_size, 1)
    stride, margins, dilation = as_walk(
        window if stride is None else stride, as_pair("padding", padding), 1, window
    )
    if x.ndim != 4 or any(2 * p > k for (p, _), k in zip(margins, window, strict=True)):
        raise ValueError(
            f"pooling of x of shape {x.shape}, window {window}, padding {padding}: x must have "
            "four axes (N, C, H, W), and padding must be at most half the window, so that every "
            "window sees a pixel"
        )
    size = output_size(
        [n + sum(p) for n, p in zip(x.shape[2:], margins, strict=True)], window, stride, dilation
    )
    return ((0, 0), (0, 0), *margins), [
        tap_index(tap, size, stride, dilation) for tap in taps(window)
    ]


def pool_settings(name: str, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple:
    """kernel_size, stride and padding of a layer as pairs (down, across)."""
    window = as_pair(f"{name}: kernel_size", kernel_size, 1)
    padding = as_pair(f"{name}: padding", padding)
    if any(2 * p > k for p, k in zip(padding, window, strict=True)):
        raise ValueError(
            f"{name}: padding is {padding}; it must be at most half the window, {window}"
        )
    return window, window if stride is None else as_pair(f"{name}: stride", stride, 1), padding


def lowest(dtype: np.dtype) -> float | np.generic:
    """The smallest value of a dtype: as padding, it never exceeds a number of the image."""
    return (
        float("-inf")
        if dtype.kind == "f"
        else dtype.type(0)
        if dtype.kind == "b"
        else int(np.iinfo(dtype).min)
    )


class MaxPool2d(Module):
    """``max_pool2d`` as a layer that keeps the settings."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0):
        self.kernel_size, self.stride, self.padding = pool_settings(
            "MaxPool2d", kernel_size, stride, padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """``avg_pool2d`` as a layer that keeps the settings."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0):
        self.kernel_size, self.stride, self.padding = pool_settings(
            "AvgPool2d", kernel_size, stride, padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)


# ── below this line: speed. The definitions above are what it must equal ─────────────────────────


@max_pool2d.kernel
def _max_pool2d(xp, x, kernel_size, stride=None, padding=0):
    margins, views = tap_views(x, kernel_size, stride, padding)
    canvas = xp.pad(x, margins, constant_values=lowest(x.dtype)) if padding else x
    y = canvas[views[0]].copy(order="K")
    for view in views[1:]:
        xp.maximum(y, canvas[view], out=y)

    def pull(g):
        # for each tap: where its pixel is the largest of the window
        is_largest = [canvas[view] == y for view in views]
        finite = xp is np and np.isfinite(y.sum() + g.sum())
        if not finite:
            # A NaN makes the maximum NaN. NaN equals nothing, so it is found by x != x.
            is_largest = [
                largest | (canvas[view] != canvas[view])
                for largest, view in zip(is_largest, views, strict=True)
            ]
        share = g / sum(is_largest[1:], is_largest[0].astype(g.dtype))
        if finite:
            gradients = (share * largest for largest in is_largest)
        else:  # a NaN or infinite share times 0 would be NaN
            gradients = (xp.where(largest, share, 0) for largest in is_largest)
        return add_at_views(xp, x, margins, views, gradients)

    return y, pull


@avg_pool2d.kernel
def _avg_pool2d(xp, x, kernel_size, stride=None, padding=0):
    margins, views = tap_views(x, kernel_size, stride, padding)
    canvas = xp.pad(x, margins) if padding else x
    y = canvas[views[0]].copy(order="K")
    for view in views[1:]:
        y += canvas[view]

    def pull(g):
        return add_at_views(xp, x, margins, views, [g * (1 / len(views))] * len(views))

    return y * (1 / len(views)), pull


def add_at_views(xp, x, margins, views, gradients):
    """dL/dx, from the gradient of each tap: added up at the pixels that the tap saw."""
    sides = tuple(n + sum(p) for n, p in zip(x.shape, margins, strict=True))
    canvas = zeros_beside(xp, x, sides, x.dtype)
    # Windows overlap if the last tap of a window lies at or beyond the first tap of the next one.
    overlap = any(
        last.start >= first.step for last, first in zip(views[-1][1:], views[0][1:], strict=True)
    )
    for view, g in zip(views, gradients, strict=True):
        canvas[view] = canvas[view] + g if overlap else g
    return canvas[inside(x.shape[2:], margins[2:])]
