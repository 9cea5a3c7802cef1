"""Normalisation: numbers are moved to mean 0 and scaled to variance 1, then to what is learned.

    y = γ (x - E[x]) / √(Var[x] + ε) + β

Of which numbers? Of one example's alone here, so that training and evaluation do the same, whatever the batch:

    layer norm     the features of one token           Ba, Kiros & Hinton 2016, eq. 4
    group norm     C / G channels of one image         Wu & He 2018, eq. 7.    G = C is instance norm (Ulyanov et al. 2016)

Read next: batch_norm.py, where they are one channel's in all images.   Shapes: N images of C channels, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.fused import fused
from tinycv.engine.ops import sqrt
from tinycv.engine.reduce import as_rows, dot_last, sum_last, sum_rows
from tinycv.nn import init
from tinycv.nn.module import Module


@fused
def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """x (..., D), weight γ (D,) or None, bias β (D,) or None. Returns (..., D). Var divides by D, not D - 1."""
    centred = x - x.mean(axis=-1, keepdims=True)                    # (..., D)
    y = centred / sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@fused
def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """x (N, C, *spatial), weight γ (C,) or None, bias β (C,) or None. Returns the shape of x. num_groups divides C."""
    rows = x.reshape(grouped(x, num_groups))                        # (N, G, C/G * H * W)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    y = centred / sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    return scaled(y.reshape(x.shape), weight, bias)


def scaled(y: Any, weight: Any, bias: Any) -> Any:
    """γ y + β, one of each a channel."""
    y = y if weight is None else y * per_channel(weight, y)
    return y if bias is None else y + per_channel(bias, y)


def per_channel(values: Any, x: Any) -> Any:
    """(C,) -> (C, 1, 1), to stand beside x (N, C, H, W)."""
    return values.reshape((x.shape[1],) + (1,) * (x.ndim - 2))


def grouped(x: Any, num_groups: int) -> tuple:
    """(N, G, C/G * H * W)"""
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"x of shape {x.shape} must be (N, C, *spatial), with C a multiple of num_groups, {num_groups}")
    return x.shape[0], num_groups, x.shape[1] // num_groups * prod(x.shape[2:])


class LayerNorm(Module):
    """Layer normalisation over the last axis, of size normalized_shape. weight starts at 1, bias at 0."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5, bias: bool = True):
        self.weight, self.eps = init.ones((normalized_shape,)), eps
        self.bias = init.zeros((normalized_shape,)) if bias else None

    def forward(self, x: Any) -> Any:
        """x (..., normalized_shape). Returns the same shape."""
        return layer_norm(x, self.weight, self.bias, self.eps)


class GroupNorm(Module):
    """Group normalisation of (N, num_channels, *spatial). weight starts at 1, bias at 0."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"num_channels {num_channels} must be a multiple of num_groups {num_groups}")
        self.num_groups, self.eps = num_groups, eps
        self.weight = init.ones((num_channels,)) if affine else None
        self.bias = init.zeros((num_channels,)) if affine else None

    def forward(self, x: Any) -> Any:
        """x (N, num_channels, *spatial). Returns the same shape."""
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


# ── below this line: speed. The definitions above are what it must equal ──────────────────────────


@layer_norm.kernel
def _layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    width = x.shape[-1]
    rows = as_rows(x)
    normal = rows - sum_last(xp, rows) * (1 / width)
    scale = 1 / xp.sqrt(dot_last(xp, normal, normal) * (1 / width) + eps)
    normal *= scale
    y = normal.copy() if weight is None else normal * weight
    if bias is not None:
        y += bias

    def pull(g):
        g = g.reshape(rows.shape)

        def along_x():
            # x̂ has mean 0 and square 1 along a row: what g has of these two directions cannot pass.
            h = g.copy() if weight is None else g * weight
            across = dot_last(xp, h, normal) * (1 / width)
            h -= sum_last(xp, h) * (1 / width)
            h -= normal * across
            h *= scale
            return h.reshape(x.shape)

        return along_x, lambda: sum_rows(xp, g * normal), lambda: sum_rows(xp, g)

    return y.reshape(x.shape), pull


CACHE = 256 * 1024                              # bytes of x at a time, so that they are still near when read again


def slabs(xp, planes) -> Iterator[slice]:
    """Examples a few at a time. A GPU takes all at once."""
    n = len(planes)
    step = n if xp is not np else CACHE * n // max(planes.nbytes, 1)
    return (slice(i, i + max(step, 1)) for i in range(0, n, max(step, 1)))


def column(values):
    return None if values is None else values[:, None]


def affine(a, x, c):
    """a x + c, into the memory of x."""
    if a is not None:
        x *= a
    if c is not None:
        x += c
    return x


@group_norm.kernel
def _group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    rows = x.reshape(grouped(x, num_groups))                        # (N, G, width): the statistics are a row's
    (n, _, width), channels = rows.shape, x.shape[1]
    planes = (n, channels, prod(x.shape[2:]))                       # γ and β are a plane's
    y = xp.empty(rows.shape, x.dtype)
    mean, scale = xp.empty((n, num_groups, 1), x.dtype), xp.empty((n, num_groups, 1), x.dtype)

    def slope(s):                                                   # (n, C, 1): how steeply y goes with x
        each = scale[s].repeat(channels // num_groups, axis=1)
        return each if weight is None else each * column(weight)

    for s in slabs(xp, rows):
        mean[s] = sum_last(xp, rows[s]) * (1 / width)
        centred = xp.subtract(rows[s], mean[s], out=y[s])
        scale[s] = 1 / xp.sqrt(dot_last(xp, centred, centred) * (1 / width) + eps)
        affine(slope(s), y.reshape(planes)[s], column(bias))

    def pull(g):
        # As in layer_norm, x̂ has mean 0 and square 1 in a row, and g cannot pass along these two directions. All sums over
        # rows are made of those of g and g x̂ over planes, which γ and β want too.
        g, gx = g.reshape(planes), xp.empty(rows.shape, x.dtype)
        sums, dots = xp.empty(planes[:2], x.dtype), xp.empty(planes[:2], x.dtype)

        def over_row(of_planes):                                    # (n, C) -> (n, G, 1)
            of_planes = of_planes if weight is None else of_planes * weight
            return of_planes.reshape(-1, num_groups, channels // num_groups).sum(axis=-1, keepdims=True) * (1 / width)

        for s in slabs(xp, rows):
            part = gx.reshape(planes)[s]
            xp.subtract(rows[s], mean[s], out=gx[s])
            sums[s] = sum_last(xp, g[s])[..., 0]
            dots[s] = dot_last(xp, g[s], part)[..., 0] * scale[s].repeat(channels // num_groups, axis=1)[..., 0]
            affine(-over_row(dots[s]) * scale[s] * scale[s], gx[s], -over_row(sums[s]) * scale[s])
            part += g[s] * slope(s)
        return gx.reshape(x.shape), None, lambda: sum_rows(xp, dots), lambda: sum_rows(xp, sums)

    return y.reshape(x.shape), pull
