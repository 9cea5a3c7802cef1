"""Convolution: one small window of weights looks at every place of an image, and answers with an
image of its own.

    y[o, h, w] = b[o] + Σ_c Σ_i Σ_j  K[o, c, i, j] x[c, s h + d i - p, s w + d j - p]
    x is 0 outside
    side of y  = ⌊(side of x + 2p - d (k - 1) - 1) / s⌋ + 1

with a window of k x k taps (papers say kernel, which in this library is the fast half of a pair),
stride s, padding p, dilation d.  In mathematics this is cross-correlation; convolution proper would
turn K by 180 degrees first, but where K is learned that makes no difference, and so deep learning
leaves it out. The same weights everywhere: a shape is known wherever it stands, and few weights
suffice.

LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition"; LeCun et al. 1998,
section II.A.
Sizes: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning"; see window.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.arguments import choice, size
from tinycv.engine.backend import Array
from tinycv.engine.dispatch import on_gpu
from tinycv.engine.fused import fused
from tinycv.engine.ops import pad, scatter
from tinycv.engine.reduce import as_rows, sum_rows
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import array, count, flag
from tinycv.nn.conv_kernel import forward, to_input, to_weight
from tinycv.nn.layout import channels_last
from tinycv.nn.module import Module
from tinycv.nn.window import Pair, inside, seen_by, settled, stamped, taps, two, walked


@fused
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """x (N, C, H, W), weight (O, C / groups, kH, kW), bias (O,) or None. Returns (N, O, H', W').

    Each tap of the window is a matrix from channels to channels; it is applied to all that the tap
    sees on its walk over the image, and what the taps say is added up.

    stride, padding, dilation: an int, or a pair (down, across). padding: also "valid" for none, and
    "same" for H' = H, W' = W, which needs stride 1. groups: the channels are split into so many
    groups that do not see each other.
    differs: a single image is a batch of one; (C, H, W) is refused.
    """
    walk = settled(stride, padding, dilation, weight.shape[2:])
    x = pad(x, ((0, 0), (0, 0), *walk.padding))
    (n, c, *sides), (o, _, *window) = x.shape, weight.shape
    size = walked(sides, window, walk.stride, walk.dilation)  # H', W'
    weight = weight.reshape((groups, o // groups, c // groups, *window))
    y: Any = 0.0
    for i, j in taps(window):
        seen = x[seen_by((i, j), size, walk.stride, walk.dilation)]  # (N, C, H', W')
        y = y + weight[..., i, j] @ seen.reshape((n, groups, c // groups, prod(size)))
    # from (N, groups, O / groups, H' W')
    y = y.reshape((n, o, *size))
    return y if bias is None else y + bias.reshape((o, 1, 1))


@fused
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor:
    """x (N, C, H, W), weight (C, O / groups, kH, kW), bias (O,) or None. Returns (N, O, H', W').

    Every pixel stamps the window on a canvas, as strongly as it is bright; stamps lie ``stride``
    apart and add up where they overlap; ``padding`` rows are cut off each edge.  H' = s (H - 1) + d
    (k - 1) + 1 - 2p + output_padding. It is the transpose of conv2d as a linear map: <conv2d(a), x>
    = <a, conv_transpose2d(x)> for the same weight.

    output_padding: rows added below and to the right, since conv2d brings up to s sizes of image to
    one size. It must be smaller than the stride or the dilation. differs: (C, H, W) is refused, as
    by conv2d.
    """
    (n, c, *size), (_, o, *window) = x.shape, weight.shape
    walk = settled(stride, two("padding", padding), dilation, window)
    extra = two("output_padding", output_padding)
    sides = stamped(size, window, walk.stride, walk.padding, extra, walk.dilation)  # H', W'
    canvas = n, groups * o, *[side + sum(p) for side, p in zip(sides, walk.padding, strict=True)]
    weight = weight.reshape((groups, c // groups, o, *window))
    x = x.reshape((n, groups, c // groups, prod(size)))
    y: Any = 0.0
    for i, j in taps(window):
        # (N, groups, O / groups, H W)
        stamps = weight[..., i, j].swapaxes(-1, -2) @ x
        lands = seen_by((i, j), size, walk.stride, walk.dilation)
        y = y + scatter(stamps.reshape((n, groups * o, *size)), lands, canvas)
    y = y[inside(sides, walk.padding)]
    return y if bias is None else y + bias.reshape((groups * o, 1, 1))


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


class _Convolution(Module):
    """What both layers keep: weight, bias, and how the window walks."""

    def __init__(
        self,
        window: Pair,
        channels: tuple,
        bias: bool,
        stride: Pair,
        padding: Pair | str,
        dilation: Pair,
        groups: int,
    ):
        name, transposed = type(self).__name__, isinstance(self, ConvTranspose2d)
        ins = count(channels[0], f"{name}: in_channels")
        outs = count(channels[1], f"{name}: out_channels")
        self.groups = groups = size(groups, f"{name}: groups")
        if groups < 1 or ins % groups or outs % groups:
            raise ValueError(
                f"{name}: {groups} groups do not divide {ins} channels in and {outs} out"
            )
        window = two(f"{name}: kernel_size", window, 1)
        count(prod(window), f"{name}: the size of kernel_size")
        shape = (
            (ins, outs // self.groups, *window)
            if transposed
            else (outs, ins // self.groups, *window)
        )
        self.weight = init.kaiming_uniform(shape, a=5**0.5)
        bound = 1 / max(init.fans(shape)[0], 1) ** 0.5
        self.bias = init.uniform((outs,), bound) if flag(bias, f"{name}: bias") else None
        self.stride = two(f"{name}: stride", stride, 1)
        self.dilation = two(f"{name}: dilation", dilation, 1)
        if not isinstance(padding, str) or transposed:
            padding = two(f"{name}: padding", padding)
        else:
            choice(padding, f"{name}: padding", ("same", "valid"))
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(
                    f"{name}: padding 'same' keeps an image's size, which stride {self.stride} "
                    "does not"
                )
        self.padding = padding


class Conv2d(_Convolution):
    """``conv2d`` with learned weight (out_channels, in_channels / groups, kH, kW) and bias
    (out_channels,).

    They start as PyTorch's. differs: no padding_mode; the padding is zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__(
            kernel_size, (in_channels, out_channels), bias, stride, padding, dilation, groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W). Returns (N, out_channels, H', W')."""
        return conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class ConvTranspose2d(_Convolution):
    """``conv_transpose2d`` with learned weight (in_channels, out_channels / groups, kH, kW) and
    bias (out_channels,)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
    ):
        super().__init__(
            kernel_size, (in_channels, out_channels), bias, stride, padding, dilation, groups
        )
        self.output_padding = two("ConvTranspose2d: output_padding", output_padding)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W). Returns (N, out_channels, H', W')."""
        return conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


# ── below this line: speed. The definitions above are what it must equal ─────────────────────────


@conv2d.kernel
def _conv2d(xp, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    groups = check(x, weight, bias, groups, takes=1, gives=0)
    walk = (*settled(stride, padding, dilation, weight.shape[2:]), groups)

    def pull(g):
        return (
            lambda: linear_map(to_input, xp, g, weight, x.shape, *walk),
            lambda: linear_map(to_weight, xp, g, x, weight.shape, *walk),
            lambda: sum_rows(xp, as_rows(channels_last(g))),
        )

    return linear_map(forward, xp, x, weight, *walk, bias), pull


@conv_transpose2d.kernel
def _conv_transpose2d(
    xp, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    groups = check(x, weight, bias, groups, takes=0, gives=1)
    steps, (o, *window) = x.shape[2:], weight.shape[1:]
    stride, padding, dilation = settled(stride, two("padding", padding), dilation, window)
    sides = stamped(steps, window, stride, padding, two("output_padding", output_padding), dilation)
    walk = (stride, padding, dilation, groups)
    y = linear_map(to_input, xp, x, weight, (len(x), groups * o, *sides), *walk, bias)

    def pull(g):
        # With output_padding a window may find room for a step beyond the last stamp: that is cut
        # off.
        return (
            lambda: linear_map(forward, xp, g, weight, *walk)[..., : steps[0], : steps[1]],
            lambda: linear_map(to_weight, xp, x, g, weight.shape, *walk),
            lambda: sum_rows(xp, as_rows(channels_last(g))),
        )

    return y, pull


def linear_map(run: Callable, xp: Any, a: Array, b: Array, *rest: Any) -> Array:
    """One of conv_kernel.py's three linear maps, or its CUDA member on a GPU."""
    if xp is not np:
        run = on_gpu(run, [a, b]) or run
    return run(xp, a, b, *rest)


def check(x: Any, weight: Any, bias: Any, groups: Any, takes: int, gives: int) -> int:
    """groups as an int, if all fit. takes, gives: the axes of weight for the channels that come in
    and go out; axis 1 has those of one group."""
    if array(x, "x").ndim != 4 or array(weight, "weight").ndim != 4:
        raise ValueError(
            f"x of shape {x.shape} and weight of shape {weight.shape}: both must have four axes, "
            "(N, C, H, W) and (channels, channels, kH, kW)"
        )
    groups = size(groups, "groups", 1)
    if weight.shape[0] % groups:
        raise ValueError(
            f"groups is {groups}; it must divide axis 0 of weight, of shape {weight.shape}"
        )
    channels = weight.shape[0], weight.shape[1] * groups
    if x.shape[1] != channels[takes]:
        raise ValueError(
            f"x of shape {x.shape} has {x.shape[1]} channels along axis 1, weight of shape "
            f"{weight.shape} in {groups} groups takes {channels[takes]}"
        )
    if min(weight.shape[2:]) < 1:
        raise ValueError(f"weight of shape {weight.shape} has no taps")
    if bias is not None and array(bias, "bias").shape != (channels[gives],):
        raise ValueError(
            f"bias has shape {bias.shape}; with weight of shape {weight.shape} it must be "
            f"({channels[gives]},)"
        )
    return groups
