"""Normalisation: numbers are moved to mean 0 and scaled to variance 1, then to what is learned.

    y = γ (x - E[x]) / √(Var[x] + ε) + β

Of which numbers? Of one example's alone here, so that training and evaluation do the same, whatever
the batch:

    layer norm     the features of one token           Ba, Kiros & Hinton 2016, eq. 4
    group norm     C / G channels of one image         Wu & He 2018, eq. 7
                   G = C: instance norm                Ulyanov et al. 2016

Read next: batch_norm.py, where they are one channel's in all images.
Shapes: N images of C channels, G groups.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.arguments import shown, size, sizes
from tinycv.engine.fused import fused
from tinycv.engine.ops import sqrt
from tinycv.engine.reduce import MANY, as_rows, dot_last, few, sum_first, sum_last, sum_rows
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import array, count, epsilon, fits, flag
from tinycv.nn.layout import from_pixel_rows, pixel_rows
from tinycv.nn.module import Module

# what PyTorch's normalized_shape may be, and no weight is
SHAPES = int, tuple, list


@fused
def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (..., D), weight γ (D,) or None, bias β (D,) or None. Returns (..., D). Var divides by D,
    not D - 1.

    differs: the axis is the last, that of weight. PyTorch's normalized_shape, its second argument,
    is no argument here; LayerNorm takes a shape of several axes.
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
    """1 / √x as √x / x: NaN where x is infinite. There 1 / √x is 0, and a net whose squares left
    the range of their dtype would go on with zeros, and learn nothing, without a word."""
    return sqrt(x) / x


def scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """γ y + β, one of each a channel."""
    y = y if weight is None else y * per_channel(weight, y)
    return y if bias is None else y + per_channel(bias, y)


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, 1), to stand beside x (N, C, H, W)."""
    return values.reshape((x.shape[1],) + (1,) * (x.ndim - 2))


def grouped(x: Tensor, num_groups: int) -> tuple[int, int, int]:
    """(N, G, C/G * H * W)"""
    num_groups = size(num_groups, "num_groups", 1)
    if array(x, "x").ndim < 2 or x.shape[1] % num_groups:
        raise ValueError(
            f"x of shape {x.shape} must be (N, C, *spatial), with C a multiple of num_groups, "
            f"{num_groups}"
        )
    return x.shape[0], num_groups, x.shape[1] // num_groups * prod(x.shape[2:])


class LayerNorm(Module):
    """Layer normalisation over the last axis, of size normalized_shape, or over the last axes, of
    that shape. weight starts at 1, bias at 0; both have that shape.
    differs: bias is the third argument, where PyTorch has elementwise_affine, which is always True
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
        # the axes are joined to one
        rows = x.reshape((*x.shape[: x.ndim - len(shape)], prod(shape)))
        weight, bias = (
            None if p is None else p.reshape((prod(shape),)) for p in (self.weight, self.bias)
        )
        return layer_norm(rows, weight, bias, self.eps).reshape(x.shape)


class GroupNorm(Module):
    """Group normalisation of (N, num_channels, *spatial). weight starts at 1, bias at 0."""

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
        given = (
            "normalized_shape was given"
            if "normalized_shape" in options
            else (f"weight is {shown(weight)}; it must be an array or a Tensor, or None")
        )
        raise TypeError(
            f"layer_norm: {given}. The axis is the last, that of weight, and PyTorch's "
            "normalized_shape is no argument here"
        )


def check_layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """An error for arguments of layer_norm that do not fit."""
    if isinstance(weight, SHAPES):
        refuse_shape((x, weight), {})
    if array(x, "x").ndim == 0:
        raise ValueError("x is a single number; it must have an axis of features")
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, name, x.shape[-1:], "one number for each feature along the last axis of x")
    epsilon(eps)


def check_group_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """An error for weight, bias and eps that do not fit; the rest: ``grouped``."""
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, name, x.shape[1:2], "one number for each channel of x")
    epsilon(eps)


@layer_norm.kernel
def _layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    check_layer_norm(x, weight, bias, eps)
    # of no features, there is no mean to divide for
    width = max(x.shape[-1], 1)
    rows = as_rows(x)
    normal = rows - sum_last(xp, rows) * (1 / width)
    square = dot_last(xp, normal, normal) * (1 / width) + eps
    scale = xp.sqrt(square) / square  # as inverse_root
    normal *= scale
    y = normal.copy() if weight is None else normal * weight
    if bias is not None:
        y += bias

    def pull(g):
        g = g.reshape(rows.shape)

        def along_x():
            # x̂ has mean 0 and square 1 along a row: what g has of these two directions cannot
            # pass.
            h = g.copy() if weight is None else g * weight
            across = dot_last(xp, h, normal) * (1 / width)
            h -= sum_last(xp, h) * (1 / width)
            h -= normal * across
            h *= scale
            return h.reshape(x.shape)

        return along_x, lambda: sum_rows(xp, g * normal), lambda: sum_rows(xp, g)

    return y.reshape(x.shape), pull


# Images are taken channels last, (N, S, C) with S = H W pixels, as convolutions leave them in
# memory (conv_kernel.py), and a few at a time, so that they stay in the cache from one pass to the
# next. Sums over pixels are products with ones.

# numbers: NumPy is slow where it starts a row anew after fewer
WIDE = 1024


def sums(xp, a):
    """(N, S, C) -> (N, C)."""
    if xp is not np:
        return a.sum(axis=1)
    return (
        (np.ones((1, a.shape[1]), a.dtype) @ a)[:, 0]
        if a.shape[1] <= MANY
        else sum_first(a.transpose(1, 0, 2))
    )


@lru_cache(maxsize=64)
def joinable(pixels, channels):
    """How many pixels make one row that is long enough; it divides them all."""
    return next(k for k in range(max(1, WIDE // max(1, channels)), 0, -1) if pixels % k == 0)


def each(xp, ufunc, a, values, out):
    """ufunc(a, values) of a (N, S, C) and values (N or 1, C), one a channel. Rows of C are joined
    to longer ones first."""
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
    """(n, C) -> (n, C): sums of channels; each channel gets its group's, divided by the group's
    ``width``."""
    n, channels = of_channels.shape
    of_groups = of_channels.reshape(n, num_groups, channels // num_groups).sum(axis=-1)
    return (of_groups * (1 / width)).repeat(channels // num_groups, axis=1)


@group_norm.kernel
def _group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    n, num_groups, width = grouped(x, num_groups)
    check_group_norm(x, weight, bias, eps)
    width = max(width, 1)
    a, channels = pixel_rows(xp, x), x.shape[1]
    y = xp.empty_like(a)
    mean = xp.empty((n, channels), x.dtype)
    scale = xp.empty((n, channels), x.dtype)

    over_group = partial(group_means, num_groups=num_groups, width=width)
    for at in few(xp, n, prod(a.shape[1:])):
        part, out = a[at], y[at]
        mean[at] = over_group(sums(xp, part))
        each(xp, xp.subtract, part, mean[at], out=out)
        square = over_group(sums(xp, out * out)) + eps
        scale[at] = xp.sqrt(square) / square  # as inverse_root
        each(xp, xp.multiply, out, scale[at] if weight is None else scale[at] * weight, out=out)
        if bias is not None:
            each(xp, xp.add, out, bias[None], out=out)

    def pull(g):
        # As in layer_norm, x̂ has mean 0 and square 1 in a group, and g cannot pass along these two
        # directions: dx = γ s g - s E[γ g] - (x - m) s² E[γ g x̂].
        g, gx = pixel_rows(xp, g), xp.empty_like(a)
        total, dots = xp.empty_like(mean), xp.empty_like(mean)
        for at in few(xp, n, prod(a.shape[1:])):
            out, s, gamma = gx[at], scale[at], 1 if weight is None else weight
            each(xp, xp.subtract, a[at], mean[at], out=out)
            total[at], dots[at] = sums(xp, g[at]), sums(xp, g[at] * out) * s
            each(xp, xp.multiply, out, -s * s * over_group(dots[at] * gamma), out=out)
            each(xp, xp.add, out, -s * over_group(total[at] * gamma), out=out)
            out += each(xp, xp.multiply, g[at], s * gamma, out=xp.empty_like(out))
        return (
            from_pixel_rows(xp, gx, x.shape),
            None,
            lambda: sum_rows(xp, dots),
            lambda: sum_rows(xp, total),
        )

    return from_pixel_rows(xp, y, x.shape), pull
