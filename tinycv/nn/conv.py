"""Convolution and transposed convolution of images, with stride, padding, dilation and groups.

    y[o, h, w] = b[o] + Σ_c Σ_i Σ_j  K[o, c, i, j] x[c, s h + d i - p, s w + d j - p]
    x is 0 outside the image
    side of y  = ⌊(side of x + 2p - d (k - 1) - 1) / s⌋ + 1

K is a window of k x k taps. (Papers call it the kernel; in tinycv a kernel is the fast half of a
pair.) The stride is s, the padding p and the dilation d.

The same weights are used at every position. So a pattern is recognised wherever it occurs, and a
few weights are enough for an image of any size.

In mathematics this operation is called cross-correlation. A true convolution would rotate K by 180
degrees first. Since K is learned, it makes no difference, and deep learning leaves it out.

LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition"; LeCun et al. 1998,
section II.A.
Read first: window.py, the sizes.   The fast version: conv_kernel.py.
Shapes: N images, C channels in, O channels out, H x W pixels in, H' x W' pixels out.
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
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import array, count, flag
from tinycv.nn.conv_kernel import forward, to_bias, to_input, to_weight
from tinycv.nn.module import Module
from tinycv.nn.window import (
    Pair,
    as_pair,
    as_walk,
    inside,
    output_size,
    tap_index,
    taps,
    transposed_output_size,
)


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

    Each tap of the window is a matrix (O, C). It multiplies the channels of every pixel that this
    tap sees while the window slides over the image, and the results of all taps are added up.

    stride, padding, dilation: an int, or a pair (down, across). padding may also be "valid", which
    means none, or "same", which gives H' = H and W' = W and needs stride 1. groups: the channels
    are split into this many groups, and each output sees only the inputs of its own group.
    differs: a single image is a batch of one; a shape (C, H, W) is refused.
    """
    walk = as_walk(stride, padding, dilation, weight.shape[2:])
    x = pad(x, ((0, 0), (0, 0), *walk.padding))
    (n, c, *sides), (o, _, *window) = x.shape, weight.shape
    size = output_size(sides, window, walk.stride, walk.dilation)  # H', W'
    weight = weight.reshape((groups, o // groups, c // groups, *window))
    y: Any = 0.0
    for i, j in taps(window):
        pixels = x[tap_index((i, j), size, walk.stride, walk.dilation)]  # (N, C, H', W')
        pixels = pixels.reshape((n, groups, c // groups, prod(size)))
        y = y + weight[..., i, j] @ pixels  # (N, groups, O / groups, H' W')
    y = y.reshape((n, o, *size))  # (N, O, H', W')
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

    Every pixel stamps the window on a larger canvas, multiplied by the value of the pixel. Stamps
    lie ``stride`` apart and add up where they overlap. Then ``padding`` rows and columns are cut
    off at each edge:

        H' = s (H - 1) + d (k - 1) + 1 - 2p + output_padding

    As a linear map it is the transpose of conv2d with the same weight:
    <conv2d(a), x> = <a, conv_transpose2d(x)>.

    output_padding: rows and columns added below and to the right. With stride s, images of up to s
    different sizes give conv2d results of the same size; output_padding says which of these sizes
    to return to. It must be smaller than the stride or the dilation.
    differs: a shape (C, H, W) is refused, as in conv2d.
    """
    (n, c, *size), (_, o, *window) = x.shape, weight.shape
    walk = as_walk(stride, as_pair("padding", padding), dilation, window)
    extra = as_pair("output_padding", output_padding)
    sides = transposed_output_size(
        size, window, walk.stride, walk.padding, extra, walk.dilation
    )  # H', W'
    canvas = n, groups * o, *[side + sum(p) for side, p in zip(sides, walk.padding, strict=True)]
    weight = weight.reshape((groups, c // groups, o, *window))
    x = x.reshape((n, groups, c // groups, prod(size)))
    y: Any = 0.0
    for i, j in taps(window):
        stamps = weight[..., i, j].swapaxes(-1, -2) @ x  # (N, groups, O / groups, H W)
        target = tap_index((i, j), size, walk.stride, walk.dilation)
        y = y + scatter(stamps.reshape((n, groups * o, *size)), target, canvas)
    y = y[inside(sides, walk.padding)]
    return y if bias is None else y + bias.reshape((groups * o, 1, 1))


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


class _Convolution(Module):
    """What both layers have in common: weight, bias, stride, padding, dilation and groups."""

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
        window = as_pair(f"{name}: kernel_size", window, 1)
        count(prod(window), f"{name}: the size of kernel_size")
        shape = (
            (ins, outs // self.groups, *window)
            if transposed
            else (outs, ins // self.groups, *window)
        )
        self.weight = init.kaiming_uniform(shape, a=5**0.5)
        bound = 1 / max(init.fans(shape)[0], 1) ** 0.5
        self.bias = init.uniform((outs,), bound) if flag(bias, f"{name}: bias") else None
        self.stride = as_pair(f"{name}: stride", stride, 1)
        self.dilation = as_pair(f"{name}: dilation", dilation, 1)
        if not isinstance(padding, str) or transposed:
            padding = as_pair(f"{name}: padding", padding)
        else:
            choice(padding, f"{name}: padding", ("same", "valid"))
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(
                    f"{name}: padding 'same' keeps an image's size, which stride {self.stride} "
                    "does not"
                )
        self.padding = padding


class Conv2d(_Convolution):
    """``conv2d`` with a learned weight (out_channels, in_channels / groups, kH, kW) and bias
    (out_channels,), which start as in PyTorch.

    differs: has no padding_mode; the padding is always zeros.
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
    """``conv_transpose2d`` with a learned weight (in_channels, out_channels / groups, kH, kW) and
    bias (out_channels,), which start as in PyTorch."""

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
        self.output_padding = as_pair("ConvTranspose2d: output_padding", output_padding)

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
    groups = check_conv(x, weight, bias, groups, in_axis=1, out_axis=0)
    walk = (*as_walk(stride, padding, dilation, weight.shape[2:]), groups)

    def pull(g):
        return (
            lambda: linear_map(to_input, xp, g, weight, x.shape, *walk),
            lambda: linear_map(to_weight, xp, g, x, weight.shape, *walk),
            lambda: to_bias(xp, g),
        )

    return linear_map(forward, xp, x, weight, *walk, bias), pull


@conv_transpose2d.kernel
def _conv_transpose2d(
    xp, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    groups = check_conv(x, weight, bias, groups, in_axis=0, out_axis=1)
    steps, (o, *window) = x.shape[2:], weight.shape[1:]
    stride, padding, dilation = as_walk(stride, as_pair("padding", padding), dilation, window)
    sides = transposed_output_size(
        steps, window, stride, padding, as_pair("output_padding", output_padding), dilation
    )
    walk = (stride, padding, dilation, groups)
    y = linear_map(to_input, xp, x, weight, (len(x), groups * o, *sides), *walk, bias)

    def pull(g):
        # output_padding may leave room for one more step of the window than there are stamps. The
        # result of such a step is cut off.
        return (
            lambda: linear_map(forward, xp, g, weight, *walk)[..., : steps[0], : steps[1]],
            lambda: linear_map(to_weight, xp, x, g, weight.shape, *walk),
            lambda: to_bias(xp, g),
        )

    return y, pull


def linear_map(run: Callable, xp: Any, a: Array, b: Array, *rest: Any) -> Array:
    """Runs one of the three linear maps of conv_kernel.py, or on a GPU its CUDA version."""
    if xp is not np:
        run = on_gpu(run, [a, b]) or run
    return run(xp, a, b, *rest)


def check_conv(x: Any, weight: Any, bias: Any, groups: Any, in_axis: int, out_axis: int) -> int:
    """groups as an int; ValueError if the arguments do not fit each other.

    in_axis, out_axis: the axis of weight that counts the channels of x, and that of the result. One
    is axis 0, which counts all channels; the other is axis 1, which counts those of one group.
    """
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
    if x.shape[1] != channels[in_axis]:
        raise ValueError(
            f"x of shape {x.shape} has {x.shape[1]} channels along axis 1, weight of shape "
            f"{weight.shape} in {groups} groups takes {channels[in_axis]}"
        )
    if min(weight.shape[2:]) < 1:
        raise ValueError(f"weight of shape {weight.shape} has no taps")
    if bias is not None and array(bias, "bias").shape != (channels[out_axis],):
        raise ValueError(
            f"bias has shape {bias.shape}; with weight of shape {weight.shape} it must be "
            f"({channels[out_axis]},)"
        )
    return groups
