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
    n, groups, width = grouped(x, num_groups)
    planes, gamma, beta = x.reshape(n, x.shape[1], prod(x.shape[2:])), column(weight), column(bias)
    mean, scale = xp.empty((n, groups, 1), x.dtype), xp.empty((n, groups, 1), x.dtype)
    y = xp.empty_like(planes)

    def centred(s):
        return planes[s].reshape(-1, groups, width) - mean[s]

    for s in slabs(xp, planes):
        mean[s] = sum_last(xp, planes[s].reshape(-1, groups, width)) * (1 / width)
        normal = centred(s)
        scale[s] = 1 / xp.sqrt(dot_last(xp, normal, normal) * (1 / width) + eps)
        normal *= scale[s]
        y[s] = affine(gamma, normal.reshape(planes[s].shape), beta)

    def pull(g):
        # As in layer_norm, x̂ has mean 0 and square 1 in each group, and g cannot pass along these two directions. All
        # sums that this takes are made of the sums of g and g x̂ over each plane: those are all that is summed twice.
        g, gx = g.reshape(planes.shape), xp.empty_like(planes)
        sums, dots = xp.empty(planes.shape[:2], x.dtype), xp.empty(planes.shape[:2], x.dtype)
        for s in slabs(xp, planes):
            normal, shape = centred(s), (-1, groups, x.shape[1] // groups)
            normal *= scale[s]
            normal = normal.reshape(planes[s].shape)
            sums[s], dots[s] = sum_last(xp, g[s])[..., 0], dot_last(xp, g[s], normal)[..., 0]
            along, across = ((t if weight is None else t * weight).reshape(shape).sum(axis=-1, keepdims=True) * (1 / width)
                             for t in (sums[s], dots[s]))
            h = affine(gamma, g[s].copy(), None).reshape(-1, groups, width)
            normal = normal.reshape(h.shape)
            normal *= across
            h -= normal
            h -= along
            h *= scale[s]
            gx[s] = h.reshape(planes[s].shape)
        return gx.reshape(x.shape), None, lambda: sum_rows(xp, dots), lambda: sum_rows(xp, sums)

    return y.reshape(x.shape), pull
