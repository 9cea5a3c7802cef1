"""Layer norm and group norm: shift to mean 0, scale to variance 1, then apply a learned γ and β.

    y = γ (x - E[x]) / √(Var[x] + ε) + β

The kinds of norm differ in the numbers over which E and Var are taken. In this file these belong to
a single example. So its result does not depend on the rest of the batch, and is the same in
training and evaluation:

    layer norm     the features of one token           Ba, Kiros & Hinton 2016, eq. 4
    group norm     C / G channels of one image         Wu & He 2018, eq. 7
                   G = C is instance norm              Ulyanov et al. 2016

Read next: batch_norm.py, where E and Var are taken over one channel of all images.
Shapes: N images, C channels, G groups, S = H W pixels, D features of a token.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.arguments import shown, size, sizes
from tinycv.engine.blocks import LARGE, in_blocks
from tinycv.engine.fused import fused
from tinycv.engine.ops import sqrt
from tinycv.engine.reduce import (
    MANY,
    as_rows,
    blocks,
    dot_last,
    sum_first,
    sum_last,
    sum_rows,
)
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import array, count, epsilon, fits, flag
from tinycv.nn.layout import from_pixel_rows, pixel_rows
from tinycv.nn.module import Module

# types that PyTorch's normalized_shape may have and a weight cannot
SHAPES = int, tuple, list


@fused
def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (..., D), weight γ (D,) or None, bias β (D,) or None. Returns (..., D). Var divides by D,
    not D - 1.

    differs: always normalises over the last axis, so there is no argument normalized_shape,
    PyTorch's second. The layer LayerNorm does take a shape of several axes.
    """
    centred = x - x.mean(axis=-1, keepdims=True)  # (..., D)
    y = centred * inverse_root((centred * centred).mean(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@fused(whole="num_groups")
def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """x (N, C, *spatial), weight γ (C,) or None, bias β (C,) or None. Returns the shape of x.
    num_groups divides C."""
    rows = x.reshape(grouped(x, num_groups))  # (N, G, C/G * H * W)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    y = centred * inverse_root((centred * centred).mean(axis=-1, keepdims=True) + eps)
    return scaled(y.reshape(x.shape), weight, bias)


def inverse_root(x: Tensor) -> Tensor:
    """1 / √x, computed as √x / x, which is NaN for an infinite x.

    1 / √x would be 0 there. A network whose squares overflow would then silently go on with zeros
    and learn nothing; NaN makes the overflow visible.
    """
    return sqrt(x) / x


def scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """γ y + β, with one γ and one β per channel."""
    y = y if weight is None else y * per_channel(weight, y)
    return y if bias is None else y + per_channel(bias, y)


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, 1), which broadcasts against x (N, C, H, W)."""
    return values.reshape((x.shape[1],) + (1,) * (x.ndim - 2))


def grouped(x: Tensor, num_groups: int) -> tuple[int, int, int]:
    """The shape (N, G, C/G * H * W) in which each row is one group. ValueError if G does not divide
    C."""
    num_groups = size(num_groups, "num_groups", 1)
    if array(x, "x").ndim < 2 or x.shape[1] % num_groups:
        raise ValueError(
            f"x of shape {x.shape} must be (N, C, *spatial), with C a multiple of num_groups, "
            f"{num_groups}"
        )
    return x.shape[0], num_groups, x.shape[1] // num_groups * prod(x.shape[2:])


class LayerNorm(Module):
    """Layer norm over the last axis, of size normalized_shape, or over several last axes of that
    shape. weight starts at 1 and bias at 0; both have that shape.

    differs: bias is the third argument. PyTorch has elementwise_affine there, which is always True
    here.
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, bias: bool = True
    ):
        self.normalized_shape = sizes(normalized_shape, "LayerNorm: normalized_shape")
        if not self.normalized_shape:
            raise ValueError("LayerNorm: normalized_shape is (); it must have at least one axis")
        count(prod(self.normalized_shape), "LayerNorm: the size of normalized_shape")
        self.weight, self.eps = init.ones(self.normalized_shape), epsilon(eps, "LayerNorm: eps")
        self.bias = init.zeros(self.normalized_shape) if flag(bias, "LayerNorm: bias") else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., *normalized_shape). Returns the same shape."""
        shape = self.normalized_shape
        if len(shape) == 1:
            return layer_norm(x, self.weight, self.bias, self.eps)
        if array(x, "LayerNorm: x").ndim < len(shape) or tuple(x.shape[-len(shape) :]) != shape:
            raise ValueError(f"LayerNorm: x has shape {x.shape}; its last axes must be {shape}")
        # joins the last axes to one, over which layer_norm works
        rows = x.reshape((*x.shape[: x.ndim - len(shape)], prod(shape)))
        weight, bias = (
            None if p is None else p.reshape((prod(shape),)) for p in (self.weight, self.bias)
        )
        return layer_norm(rows, weight, bias, self.eps).reshape(x.shape)


class GroupNorm(Module):
    """Group norm of (N, num_channels, *spatial). weight starts at 1 and bias at 0."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        self.num_groups = size(num_groups, "GroupNorm: num_groups", 1)
        channels = count(num_channels, "GroupNorm: num_channels")
        if channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_channels {channels} must be a multiple of num_groups "
                f"{self.num_groups}"
            )
        self.eps, affine = epsilon(eps, "GroupNorm: eps"), flag(affine, "GroupNorm: affine")
        self.weight = init.ones((channels,)) if affine else None
        self.bias = init.zeros((channels,)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """x (N, num_channels, *spatial). Returns the same shape."""
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


# ── below this line: speed. The definitions above are what it must equal ──────────────────────────


@layer_norm.doubtful
def refuse_shape(args: tuple, options: dict) -> None:
    """TypeError for PyTorch's call, layer_norm(x, (D,), weight, bias)."""
    weight = args[1] if len(args) > 1 else options.get("weight")
    if "normalized_shape" in options or isinstance(weight, SHAPES):
        problem = (
            "normalized_shape was given"
            if "normalized_shape" in options
            else (f"weight is {shown(weight)}; it must be an array or a Tensor, or None")
        )
        raise TypeError(
            f"layer_norm: {problem}. It always normalises over the last axis, and PyTorch's "
            "normalized_shape is no argument here"
        )


def check_layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """TypeError or ValueError for arguments of layer_norm that do not fit each other."""
    if isinstance(weight, SHAPES):
        refuse_shape((x, weight), {})
    if array(x, "x").ndim == 0:
        raise ValueError("x is a single number; it must have an axis of features")
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, name, x.shape[-1:], "one number for each feature along the last axis of x")
    epsilon(eps)


def check_group_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """TypeError or ValueError for weight, bias or eps that do not fit. ``grouped`` checks x and
    num_groups."""
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, name, x.shape[1:2], "one number for each channel of x")
    epsilon(eps)


# From so many numbers on, layer norm works in blocks of ROWS numbers and of at most LONG rows: BLAS
# adds up a column one number after the other, and so rounding errors too.
FEW = 1 << 16
ROWS = 3 << 16
LONG = 1 << 10


@layer_norm.kernel
def _layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    check_layer_norm(x, weight, bias, eps)
    if xp is np and x.size >= FEW:
        return many_rows(x, weight, bias, eps)
    # D, or 1 for rows without features, so that nothing is divided by 0
    width = max(x.shape[-1], 1)
    rows = as_rows(x)
    mean = sum_last(xp, rows) * (1 / width)
    normal = rows - mean
    square = dot_last(xp, normal, normal) * (1 / width) + eps
    scale = xp.sqrt(square) / square  # 1 / √square, NaN for inf, as in inverse_root
    normal *= scale  # x̂ = (x - E[x]) / √(Var[x] + ε)
    # y takes the memory of x̂, and the backward pass computes x̂ again from x. Otherwise x̂ would be
    # a third array of this size in memory, beside x and y, which the next layer keeps.
    y = normal
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias

    def pull(g):
        g = g.reshape(rows.shape)
        normal = rows - mean
        normal *= scale

        def along_x():
            # dL/dx = scale (h - E[h] - x̂ E[h x̂]) with h = γ g. Why: each row of x̂ has a fixed mean,
            # 0, and a fixed mean square, 1. So the parts of h along the vector of ones and along x̂
            # cannot change y, and are removed.
            h = g.copy() if weight is None else g * weight
            across = dot_last(xp, h, normal) * (1 / width)
            h -= sum_last(xp, h) * (1 / width)
            h -= normal * across
            h *= scale
            return h.reshape(x.shape)

        return along_x, lambda: sum_rows(xp, g * normal), lambda: sum_rows(xp, g)

    return y.reshape(x.shape), pull


def many_rows(x, weight, bias, eps):
    """The kernel of layer norm for many numbers on a CPU: the same formulas, in blocks of rows that
    stay in the cache. Sums over a row or a column are products with a vector."""
    width, rows = x.shape[-1], as_rows(x)
    # not empty_like, which would put the numbers in the order in which those of x lie
    y, mean, scale = (np.empty((len(rows), n), x.dtype) for n in (width, 1, 1))
    gamma = np.ones(width, x.dtype) if weight is None else weight
    slices = blocks(np, len(rows), max(width, ROWS // LONG), ROWS)
    for at in slices:
        mean[at] = sum_last(np, rows[at]) * (1 / width)
        out = np.subtract(rows[at], mean[at], out=y[at])
        square = dot_last(np, out, out) * (1 / width) + eps
        scale[at] = np.sqrt(square) / square
        out *= outer(scale[at], gamma)
        if bias is not None:
            out += bias

    def pull(g):
        g, gx = as_rows(g), np.empty(rows.shape, x.dtype)
        # in float64: there may be a thousand blocks, and float32 would add up their rounding errors
        to_weight, to_bias = np.zeros((2, width))
        for at in slices:
            # dx = scale (h - E[h] - x̂ E[h x̂]) with h = γ g and x̂ = scale (x - mean)
            part, scales = g[at], scale[at]
            centred = rows[at] - mean[at]
            out = np.multiply(part, centred, out=gx[at])
            total, dots = part @ gamma, out @ gamma
            to_weight += scales[:, 0] @ out
            to_bias += sum_rows(np, part)
            np.multiply(part, outer(scales, gamma), out=out)
            # in this order, since the cube of a small scale would be 0
            centred *= scales * (scales * (scales * dots[:, None])) * (1 / width)
            out -= centred
            out -= scales * total[:, None] * (1 / width)
        return gx.reshape(x.shape), to_weight.astype(x.dtype), to_bias.astype(x.dtype)

    return y.reshape(x.shape), pull


def outer(column, row):
    """column (n, 1) * row (D,), (n, D), as a product of matrices with an inner axis of 2, which
    takes a third of the time of NumPy's multiplication."""
    left, right = np.zeros((len(column), 2), row.dtype), np.zeros((2, len(row)), row.dtype)
    left[:, :1], right[0] = column, row
    return left @ right


# Group norm and batch norm work on images as they lie in memory: channels last, (N, S, C) with
# S = H W pixels, as convolutions leave them (conv_kernel.py), or channels first, (N, C, S). They
# take a few images at a time, so that these stay in the cache from one pass to the next. ``last``
# says whether the channels come last.

# How ``in_blocks`` cuts them. The size is fixed, so that results do not depend on the number of
# cores: the last digit of a sum may depend on the images beside it. Blocks are large, because each
# takes about 20 calls.
IMAGES: dict[str, Any] = {"size": LARGE, "least": LARGE, "products": True}
# Numbers in a row. NumPy has a cost per row, which is noticeable for rows shorter than this.
WIDE = 1024


def lies_last(xp, x):
    """Are images x (N, C, *spatial) read channels last? Yes, unless they lie channels first on a
    CPU. On a GPU, gradients that lie channels last would have to be copied, by further launches."""
    return xp is not np or not x.flags.c_contiguous or prod(x.shape[2:]) == 1


def image_rows(xp, x, last):
    """(N, C, *spatial) -> (N, S, C) if last, else (N, C, S); contiguous."""
    if last:
        return pixel_rows(xp, x)
    return xp.ascontiguousarray(x).reshape(*x.shape[:2], prod(x.shape[2:]))


def from_image_rows(xp, rows, shape, last):
    """The inverse of ``image_rows``, without a copy."""
    return from_pixel_rows(xp, rows, shape) if last else rows.reshape(shape)


def pixel_sums(xp, a, last):
    """Sums over the pixels: (N, S, C) or (N, C, S) -> (N, C). A product with ones."""
    if not last:
        return sum_last(xp, a)[..., 0] if a.shape[-1] <= MANY else a.sum(axis=-1)
    if xp is not np:
        return a.sum(axis=1)
    return (
        (np.ones((1, a.shape[1]), a.dtype) @ a)[:, 0]
        if a.shape[1] <= MANY
        else sum_first(a.transpose(1, 0, 2))
    )


def pixel_dots(xp, a, b, last):
    """Sums of a * b over the pixels: (N, C)."""
    return pixel_sums(xp, a * b, last) if last else dot_last(xp, a, b)[..., 0]


@lru_cache(maxsize=64)
def joinable(pixels, channels):
    """How many pixels to join to one row of about WIDE numbers: the largest such divisor of the
    number of pixels."""
    return next(k for k in range(max(1, WIDE // max(1, channels)), 0, -1) if pixels % k == 0)


def apply_per_channel(xp, ufunc, a, values, out, last):
    """ufunc(a, values) for images a and values (N, C) or (1, C), one per channel.

    Channels last, NumPy would work through rows of only C numbers. So k pixels are joined to one
    row of k C numbers, and the values are repeated k times to fit.
    """
    if not last:
        return ufunc(a, values[:, :, None], out=out)
    if xp is not np:
        return ufunc(a, values[:, None], out=out)
    n, s, c = a.shape
    k = joinable(s, c)
    wide = xp.empty((len(values), k, c), values.dtype)
    wide[...] = values[:, None]
    ufunc(
        a.reshape(n, s // k, k * c),
        wide.reshape(len(values), 1, k * c),
        out=out.reshape(n, s // k, k * c),
    )
    return out


def group_means(of_channels, num_groups, width):
    """Sums of channels (n, C) -> means of groups (n, C), in which each channel has the mean of its
    group. width: how many numbers a group has."""
    n, channels = of_channels.shape
    of_groups = of_channels.reshape(n, num_groups, channels // num_groups).sum(axis=-1)
    return (of_groups * (1 / width)).repeat(channels // num_groups, axis=1)


@group_norm.kernel
def _group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    n, num_groups, width = grouped(x, num_groups)
    check_group_norm(x, weight, bias, eps)
    width, last = max(width, 1), lies_last(xp, x)
    a, channels = image_rows(xp, x, last), x.shape[1]
    y = xp.empty_like(a)
    mean = xp.empty((n, channels), x.dtype)
    scale = xp.empty((n, channels), x.dtype)
    over_group = partial(group_means, num_groups=num_groups, width=width)
    of_images = partial(in_blocks, xp, rows=n, width=prod(x.shape[1:]), **IMAGES)

    def apply(ufunc, values, out, a=None):
        return apply_per_channel(xp, ufunc, out if a is None else a, values, out, last)

    def forward(at):
        mean[at] = over_group(pixel_sums(xp, a[at], last))
        out = apply(xp.subtract, mean[at], y[at], a[at])
        square = over_group(pixel_dots(xp, out, out, last)) + eps
        scale[at] = xp.sqrt(square) / square  # as in inverse_root
        apply(xp.multiply, scale[at] if weight is None else scale[at] * weight, out)
        if bias is not None:
            apply(xp.add, bias[None], out)

    of_images(forward)

    def pull(g):
        # As in layer_norm, with x̂ = (x - mean) scale, and E the mean over a group:
        # dx = scale (γ g - E[γ g] - x̂ E[γ g x̂]), with one factor per channel for each term.
        g, gx = image_rows(xp, g, last), xp.empty_like(a)
        total, dots = xp.empty_like(mean), xp.empty_like(mean)

        def backward(at):
            scales, gamma = scale[at], 1 if weight is None else weight
            out = apply(xp.subtract, mean[at], gx[at], a[at])
            total[at] = pixel_sums(xp, g[at], last)
            dots[at] = pixel_dots(xp, g[at], out, last) * scales
            apply(xp.multiply, -scales * scales * over_group(dots[at] * gamma), out)
            apply(xp.add, -scales * over_group(total[at] * gamma), out)
            out += apply(xp.multiply, scales * gamma, xp.empty_like(out), g[at])

        of_images(backward)
        return (
            from_image_rows(xp, gx, x.shape, last),
            None,
            lambda: sum_rows(xp, dots),
            lambda: sum_rows(xp, total),
        )

    return from_image_rows(xp, y, x.shape, last), pull
