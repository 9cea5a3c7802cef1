"""Batch normalisation: each channel has mean 0 and variance 1 over all images of the batch, then
what is learned.

    y = γ (x - E[x]) / √(Var[x] + ε) + β                           Ioffe & Szegedy 2015, algorithm 1

Batch norm couples the examples of a batch. At inference a result must not depend on the other
examples, so the layer uses running statistics instead (algorithm 2). In shards of a batch the
statistics are those of the whole batch: the shards exchange the count, the mean and the variance in
the forward pass, and their gradients once in the backward pass (all_reduce).

Read before: norm.py, engine/shards.py.
Shapes: N examples, C channels; spatial axes, (H, W) or any other, or none.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

from tinycv.engine import state
from tinycv.engine.arguments import choice, number, shown, size
from tinycv.engine.fused import fused
from tinycv.engine.ops import all_reduce
from tinycv.engine.reduce import few, sum_rows
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.checks import epsilon
from tinycv.nn.layout import from_pixel_rows, pixel_rows
from tinycv.nn.module import Module
from tinycv.nn.norm import each, inverse_root, per_channel, scaled, sums


@fused(whole="count")
def batch_standard(
    x: Tensor,
    count: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm in training. x (N, C, *spatial), count: values of one channel in the whole batch,
    all shards of it.

    Returns y of the shape of x, and the whole batch's mean (C,) and variance (C,), which divides by
    count.
    """
    axes = (0, *range(2, x.ndim))
    mean = all_reduce(x.sum(axis=axes, keepdims=True)) / count  # (1, C, 1, 1)
    centred = x - mean
    var = all_reduce((centred * centred).sum(axis=axes, keepdims=True)) / count
    return (
        scaled(centred * inverse_root(var + eps), weight, bias),
        mean.reshape((x.shape[1],)),
        var.reshape((x.shape[1],)),
    )


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """x (N, C, *spatial), all others (C,) or None. Returns the shape of x.

    training: normalise by the batch's statistics, and move the running ones, which are changed in
    place, towards them: r <- (1 - momentum) r + momentum * statistic, with the variance that
    divides by n - 1. Otherwise: by the running ones. In shards (training/parallel.py) the batch is
    the whole batch, so results do not depend on how many there are. ValueError for a batch with one
    value a channel, whose variance says nothing.
    """
    eps, momentum = epsilon(eps, "batch_norm: eps"), number(momentum, "batch_norm: momentum", 0, 1)
    choice(training, "batch_norm: training", (True, False))
    check(x, running_mean, running_var, weight, bias)
    if not training:
        if running_mean is None:
            raise ValueError(
                "batch_norm: running_mean and running_var are None; without training=True they are "
                "needed"
            )
        return _by_running(x, (running_mean, running_var), weight, bias, eps)
    for name, r in (("running_mean", running_mean), ("running_var", running_var)):
        if r is not None and not isinstance(r, Tensor):
            raise TypeError(
                f"batch_norm: {name} is {shown(r)}; in training it is changed in place, so it must "
                "be a Tensor"
            )
        if r is not None and isinstance(r._data, np.ndarray) and not r._data.flags.writeable:
            raise ValueError(
                f"batch_norm: {name} of shape {r.shape} is read-only memory; in training it is "
                "changed in place: give Tensor(array.copy())"
            )
    return _in_training(x, (running_mean, running_var), weight, bias, momentum, eps)


def _by_running(
    x: Tensor, running: tuple, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """``batch_norm`` by the running statistics."""
    mean, var = map(state.seen, running)
    return scaled(
        (x - per_channel(mean, x)) * inverse_root(per_channel(var, x) + eps), weight, bias
    )


def _in_training(
    x: Tensor,
    running: tuple,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    tracked: Tensor | None = None,
) -> Tensor:
    """``batch_norm`` by the batch's statistics. tracked: counts the batches, or None."""
    count = all_reduce(x.shape[0] * prod(x.shape[2:]))
    if count < 2:
        raise ValueError(
            f"batch_norm: x of shape {x.shape} has {count} value a channel: in training it needs "
            "at least 2"
        )
    y, mean, var = batch_standard(x, count, weight, bias, eps)

    def moved() -> list:
        now = bare(mean), bare(var) * (count / (count - 1))
        arrays = [r._data + momentum * (n - r._data) for r, n in zip(running, now, strict=True)]
        return arrays if tracked is None else [*arrays, tracked._data + 1]

    if running[0] is not None:
        state.renew(running if tracked is None else (*running, tracked), moved)
    return y


def check(x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any) -> None:
    """TypeError or ValueError for arguments that do not fit. Each would broadcast, or end in a
    riddle."""
    if getattr(getattr(x, "dtype", None), "kind", None) != "f":
        raise TypeError(f"batch_norm: x is {shown(x)}; it must be a Tensor or an array of floats")
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x has shape {x.shape}; it must be (N, C, ...)")
    if (running_mean is None) != (running_var is None):
        raise ValueError(
            "batch_norm: one of running_mean and running_var is None; give both or neither"
        )
    for name, given in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if given is not None and getattr(given, "shape", None) != x.shape[1:2]:
            found = f"has shape {given.shape}" if hasattr(given, "shape") else f"is {shown(given)}"
            raise ValueError(
                f"batch_norm: {name} {found}; x of shape {tuple(x.shape)} has {x.shape[1]} "
                f"channels along axis 1, so it must be ({x.shape[1]},)"
            )
        if given is not None and getattr(given.dtype, "kind", None) != "f":
            raise TypeError(
                f"batch_norm: {name} is {shown(given)}; it must be a Tensor or an array of floats"
            )


class BatchNorm2d(Module):
    """Batch normalisation of (N, num_features, H, W): by the batch's statistics while training, by
    running ones after.

    Buffers as PyTorch's: running_mean, from 0, running_var, from 1, and num_batches_tracked, which
    only counts. track_running_stats=False: no buffers, and the batch's statistics always. differs:
    momentum is always a number.
    """

    ranks: tuple[int, ...] = (4,)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        name = type(self).__name__
        self.num_features = num_features = size(num_features, f"{name}: num_features")
        self.eps = epsilon(eps, f"{name}: eps")
        self.momentum = number(momentum, f"{name}: momentum", 0, 1)
        for option, value in (("affine", affine), ("track_running_stats", track_running_stats)):
            choice(value, f"{name}: {option}", (True, False))
        self.weight = init.ones((num_features,)) if affine else None
        self.bias = init.zeros((num_features,)) if affine else None
        tracked = track_running_stats
        self.running_mean = Tensor(np.zeros(num_features, np.float32)) if tracked else None
        self.running_var = Tensor(np.ones(num_features, np.float32)) if tracked else None
        self.num_batches_tracked = Tensor(np.zeros((), np.int64)) if tracked else None

    def forward(self, x: Tensor) -> Tensor:
        """x (N, num_features, ...). Returns the same shape."""
        if getattr(x, "ndim", None) not in self.ranks:
            found = f"has shape {x.shape}" if hasattr(x, "shape") else f"is {shown(x)}"
            raise ValueError(
                f"{type(self).__name__} takes {' or '.join(map(str, self.ranks))} axes, x {found}"
            )
        if getattr(x.dtype, "kind", None) != "f":
            raise TypeError(
                f"{type(self).__name__}: x is {shown(x)}; it must be a Tensor or an array of floats"
            )
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: x of shape {tuple(x.shape)} has {x.shape[1]} channels "
                f"along axis 1; num_features is {self.num_features}"
            )
        running = self.running_mean, self.running_var
        if self.training or self.running_mean is None:
            return _in_training(
                x,
                running,
                self.weight,
                self.bias,
                self.momentum,
                self.eps,
                self.num_batches_tracked,
            )
        return _by_running(x, running, self.weight, self.bias, self.eps)


class BatchNorm1d(BatchNorm2d):
    """Batch normalisation of (N, num_features) or (N, num_features, L): see BatchNorm2d."""

    ranks = (2, 3)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


def summed(xp, cut, channels, dtype, *of):
    """(len(of), C): what each function makes of a block of the batch, summed over blocks and
    pixels."""
    total = xp.zeros((len(of), channels), dtype)
    for at in cut:
        for row, make in zip(total, of, strict=True):
            row += sum_rows(xp, sums(xp, make(at)))
    return total


@batch_standard.kernel
def _batch_standard(xp, x, count, weight=None, bias=None, eps=1e-5):
    a, channels = pixel_rows(xp, x), x.shape[1]
    cut = few(xp, len(a), prod(a.shape[1:]))

    over_batch = partial(summed, xp, cut, channels, x.dtype)

    def centred(at):
        return each(xp, xp.subtract, a[at], mean, out=xp.empty_like(a[at]))

    mean = all_reduce(over_batch(lambda at: a[at])) / count  # (1, C)
    var = all_reduce(over_batch(lambda at: xp.square(centred(at)))) / count
    square = var + eps
    scale = xp.sqrt(square) / square  # as inverse_root
    slope, y = scale if weight is None else scale * weight, xp.empty_like(a)
    for at in cut:
        out = each(xp, xp.multiply, each(xp, xp.subtract, a[at], mean, out=y[at]), slope, out=y[at])
        if bias is not None:
            each(xp, xp.add, out, bias[None], out=out)

    def pull(g):
        gy, gmean, gvar = g
        gy = xp.zeros_like(a) if gy is None else pixel_rows(xp, gy)
        own = over_batch(lambda at: gy[at], lambda at: gy[at] * centred(at))

        def along_x():
            # y = slope (x - mean) + bias, and mean and variance are of all x: dx = slope g + (x -
            # mean) b + c.
            to_mean, to_var = (
                xp.zeros(channels, x.dtype) if part is None else part for part in (gmean, gvar)
            )
            total = all_reduce(xp.stack([own[0], own[1], to_mean, to_var]))[:, None]  # (4, 1, C)
            b = (2 * total[3] - slope * scale * scale * total[1]) / count
            c = (total[2] - slope * total[0]) / count
            gx = xp.empty_like(a)
            for at in cut:
                out = each(xp, xp.multiply, gy[at], slope, out=gx[at])
                out += each(xp, xp.multiply, part := centred(at), b, out=part)
                each(xp, xp.add, out, c, out=out)
            return from_pixel_rows(xp, gx, x.shape)

        return along_x, None, lambda: own[1] * scale[0], lambda: own[0]

    return (from_pixel_rows(xp, y, x.shape), mean[0], var[0]), pull
