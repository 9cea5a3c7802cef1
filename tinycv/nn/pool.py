"""Pooling: a window walks over each channel and keeps one number of what it sees, its largest or
its mean.

LeCun et al. 1998, section II.B (mean); Ranzato et al. 2007 (max).
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
from tinycv.nn.window import Pair, inside, seen_by, settled, taps, two, walked


@fused(whole="kernel_size stride")
def max_pool2d(
    x: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Tensor:
    """The largest entry in each window: x (N, C, H, W) gives (N, C, H', W'), with conv2d's sizes.

    kernel_size, stride, padding: ints or pairs; stride is kernel_size unless given.
    Padding never wins: it is -inf, or the lowest integer.
    differs: entries that tie share the gradient, which PyTorch gives to the first.
    """
    margins, views = walk(x, kernel_size, stride, padding)
    x = pad(x, margins, lowest(x.dtype))
    return stack([x[view] for view in views]).max(axis=0)


@fused(whole="kernel_size stride")
def avg_pool2d(
    x: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Tensor:
    """The mean of each window: as ``max_pool2d``. Padding is 0 and counts, as PyTorch's does."""
    margins, views = walk(x, kernel_size, stride, padding)
    x = pad(x, margins)
    return sum((x[view] for view in views[1:]), x[views[0]]) * (1 / len(views))


def walk(
    x: Tensor, kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple, list[tuple]]:
    """The margins of each axis of x (N, C, H, W), and for each tap of the window an index: what it
    sees, (N, C, H', W')."""
    array(x, "x")
    window = two("kernel_size", kernel_size, 1)
    stride, margins, dilation = settled(
        window if stride is None else stride, two("padding", padding), 1, window
    )
    if x.ndim != 4 or any(2 * p > k for (p, _), k in zip(margins, window, strict=True)):
        raise ValueError(
            f"pooling of x of shape {x.shape}, window {window}, padding {padding}: x must have "
            "four axes (N, C, H, W), and padding be at most half the window, lest one see nothing "
            "else"
        )
    size = walked(
        [n + sum(p) for n, p in zip(x.shape[2:], margins, strict=True)], window, stride, dilation
    )
    return ((0, 0), (0, 0), *margins), [
        seen_by(tap, size, stride, dilation) for tap in taps(window)
    ]


def walk_of(name: str, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple:
    """kernel_size, stride and padding of a layer as pairs (down, across)."""
    window = two(f"{name}: kernel_size", kernel_size, 1)
    padding = two(f"{name}: padding", padding)
    if any(2 * p > k for p, k in zip(padding, window, strict=True)):
        raise ValueError(
            f"{name}: padding is {padding}; it must be at most half the window, {window}"
        )
    return window, window if stride is None else two(f"{name}: stride", stride, 1), padding


def lowest(dtype: np.dtype) -> float | np.generic:
    """What loses against every number of a dtype."""
    return (
        float("-inf")
        if dtype.kind == "f"
        else dtype.type(0)
        if dtype.kind == "b"
        else int(np.iinfo(dtype).min)
    )


class MaxPool2d(Module):
    """``max_pool2d`` with its settings kept."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0):
        self.kernel_size, self.stride, self.padding = walk_of(
            "MaxPool2d", kernel_size, stride, padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """``avg_pool2d`` with its settings kept."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0):
        self.kernel_size, self.stride, self.padding = walk_of(
            "AvgPool2d", kernel_size, stride, padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)


# ── below this line: speed. The definitions above are what it must equal ─────────────────────────


@max_pool2d.kernel
def _max_pool2d(xp, x, kernel_size, stride=None, padding=0):
    margins, views = walk(x, kernel_size, stride, padding)
    canvas = xp.pad(x, margins, constant_values=lowest(x.dtype)) if padding else x
    y = canvas[views[0]].copy(order="K")
    for view in views[1:]:
        xp.maximum(y, canvas[view], out=y)

    def pull(g):
        won = [canvas[view] == y for view in views]
        finite = xp is np and np.isfinite(y.sum() + g.sum())
        # a NaN wins, though it equals nothing
        if not finite:
            won = [w | (canvas[view] != canvas[view]) for w, view in zip(won, views, strict=True)]
        share = g / sum(won[1:], won[0].astype(g.dtype))
        return spread(
            xp, x, margins, views, (share * w if finite else xp.where(w, share, 0) for w in won)
        )

    return y, pull


@avg_pool2d.kernel
def _avg_pool2d(xp, x, kernel_size, stride=None, padding=0):
    margins, views = walk(x, kernel_size, stride, padding)
    canvas = xp.pad(x, margins) if padding else x
    y = canvas[views[0]].copy(order="K")
    for view in views[1:]:
        y += canvas[view]
    return y * (1 / len(views)), lambda g: spread(
        xp, x, margins, views, [g * (1 / len(views))] * len(views)
    )


def spread(xp, x, margins, views, gradients):
    """dL/dx: to what each tap saw, its gradients."""
    sides = tuple(n + sum(p) for n, p in zip(x.shape, margins, strict=True))
    canvas = zeros_beside(xp, x, sides, x.dtype)
    meet = any(
        last.start >= first.step for last, first in zip(views[-1][1:], views[0][1:], strict=True)
    )
    for view, g in zip(views, gradients, strict=True):
        canvas[view] = canvas[view] + g if meet else g
    return canvas[inside(x.shape[2:], margins[2:])]
