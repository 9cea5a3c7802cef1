"""Group norm: shift groups of channels to mean 0, scale them to variance 1, then apply γ and β.

    y = γ (x - E[x]) / √(Var[x] + ε) + β

E and Var are taken over C / G channels of one image.  So the result for an image does not depend on
the rest of the batch, and is the same in training and evaluation.  γ and β are learned.

    group norm     C / G channels of one image         Wu & He 2018, eq. 7
                   G = C is instance norm              Ulyanov et al. 2016

Read first: norm.py.   Read next: batch_norm.py, where E and Var are taken over one channel of all
images.
Shapes: N images, C channels, G groups, S = H W pixels.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from tinycv.engine.arguments import size
from tinycv.engine.fused import fused
from tinycv.engine.reduce import sum_rows
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import array, count, epsilon, fits, flag
from tinycv.nn.image_rows import ImageRows
from tinycv.nn.module import Module
from tinycv.nn.norm import inverse_root


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


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


def check_group_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """TypeError or ValueError for weight, bias or eps that do not fit. ``grouped`` checks x and
    num_groups."""
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, name, x.shape[1:2], "one number for each channel of x")
    epsilon(eps)


@group_norm.kernel
def _group_norm(xp, x, num_groups, weight=None, bias=None, eps=1e-5):
    n, num_groups, width = grouped(x, num_groups)
    check_group_norm(x, weight, bias, eps)
    images = ImageRows(xp, x)
    # Channels last, means are repeated for each channel at once, which ``apply`` needs.
    mean_of = partial(group_means, num_groups=num_groups, width=width, repeat=images.last)
    a = images.rows(x)
    y = xp.empty_like(a)
    mean, scale = xp.empty((2, n, x.shape[1] if images.last else num_groups), x.dtype)

    def forward(at):
        mean[at] = mean_of(images.sums(images.joined(a[at], num_groups)))
        out = images.apply(xp.subtract, a[at], mean[at], out=y[at])
        groups = images.joined(out, num_groups)
        square = mean_of(images.dots(groups, groups)) + eps
        scale[at] = xp.sqrt(square) / square  # as in inverse_root
        images.apply(xp.multiply, out, slopes(scale[at], weight, x.shape[1]), out=out)
        if bias is not None:
            images.apply(xp.add, out, bias[None], out=out)

    images.in_blocks(forward)
    pull = partial(_pull, xp, images, a, mean, scale, mean_of, weight)
    return images.images(y), pull


def _pull(xp, images, a, mean, scale, mean_of, weight, g):
    """The pull of group norm. As in layer_norm, with x̂ = (x - mean) scale, and E the mean over a
    group: dx = scale (γ g - E[γ g] - x̂ E[γ g x̂])."""
    g, gx, gamma = images.rows(g), xp.empty_like(a), 1 if weight is None else weight
    channels = images.shape[1]
    total, dots = xp.empty((2, len(a), channels), a.dtype)

    def backward(at):
        part, scales = g[at], scale[at]
        out = images.apply(xp.subtract, a[at], mean[at], out=gx[at])
        total[at] = images.sums(part)
        dots[at] = images.dots(part, out) * slopes(scales, None, channels)  # (n, C)
        images.apply(xp.multiply, out, -scales * scales * mean_of(dots[at] * gamma), out=out)
        images.apply(xp.add, out, -scales * mean_of(total[at] * gamma), out=out)
        slope = slopes(scales, weight, channels)
        out += images.apply(xp.multiply, part, slope, out=xp.empty_like(out))

    images.in_blocks(backward)
    return images.images(gx), None, lambda: sum_rows(xp, dots), lambda: sum_rows(xp, total)


def slopes(scale, weight, channels):
    """scale (n, G), one for each group, or already (n, C) -> scale γ (n, C), one for each
    channel."""
    if scale.shape[1] != channels:
        scale = scale.repeat(channels // scale.shape[1], axis=1)
    return scale if weight is None else scale * weight


def group_means(sums, num_groups, width, repeat):
    """Sums over pixels (n, C), or over groups (n, G) -> means of groups (n, G), or with repeat
    (n, C), in which each channel has the mean of its group. width: how many numbers a group has."""
    channels = sums.shape[1] // num_groups
    means = sums.reshape(len(sums), num_groups, channels).sum(axis=-1) * (1 / max(width, 1))
    return means.repeat(channels, axis=1) if repeat else means
