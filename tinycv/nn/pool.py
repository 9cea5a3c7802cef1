"""Pooling: a window walks over each channel and keeps one number of what it sees, its largest or its mean.

LeCun et al. 1998, section II.B (mean); Ranzato et al. 2007 (max).
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.methods import stack
from tinycv.engine.ops import pad
from tinycv.nn.module import Module
from tinycv.nn.window import seen_by, settled, taps, two, walked


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The largest entry in each window: x (N, C, H, W) gives (N, C, H', W'), with conv2d's sizes.

    kernel_size, stride, padding: ints or pairs; stride is kernel_size unless given. Padding is -inf: it never wins.
    differs: entries that tie share the gradient, which PyTorch gives to the first.
    """
    return stack(seen(x, kernel_size, stride, padding, float("-inf"), "max_pool2d")).max(axis=0)


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The mean of each window: as ``max_pool2d``. Padding is 0 and counts, as PyTorch's does."""
    parts = seen(x, kernel_size, stride, padding, 0.0, "avg_pool2d")
    return sum(parts[1:], parts[0]) * (1 / len(parts))


def seen(x: Any, kernel_size: Any, stride: Any, padding: Any, outside: float, name: str) -> list:
    """What each tap of the window sees at each step: kH kW times (N, C, H', W')."""
    window = two("kernel_size", kernel_size, 1)
    stride, margins, dilation = settled(window if stride is None else stride, two("padding", padding), 1, window)
    if x.ndim != 4 or any(2 * p > k for (p, _), k in zip(margins, window, strict=True)):
        raise ValueError(f"{name}: x of shape {x.shape}, window {window}, padding {padding}: x must have four axes "
                         "(N, C, H, W), and padding be at most half the window, lest one see nothing else")
    x = pad(x, ((0, 0), (0, 0), *margins), outside)
    size = walked(x.shape[2:], window, stride, dilation)
    return [x[seen_by(tap, size, stride, dilation)] for tap in taps(window)]


class MaxPool2d(Module):
    """``max_pool2d`` with its settings kept."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """``avg_pool2d`` with its settings kept."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)
