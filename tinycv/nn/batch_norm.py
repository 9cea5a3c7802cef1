"""Batch norm: each channel gets mean 0 and variance 1 over the batch, then a learned γ and β.

    y = γ (x - E[x]) / √(Var[x] + ε) + β                           Ioffe & Szegedy 2015, algorithm 1

Batch norm couples the examples of a batch. At inference a result must not depend on the other
examples, so the layer uses running statistics instead (algorithm 2).

In data-parallel training each shard holds a part of the batch, but E and Var are taken over the
whole batch: the shards exchange the count, the mean and the variance in the forward pass, and their
gradients once in the backward pass (all_reduce).

Read first: group_norm.py, engine/shards.py.
Shapes: N examples, C channels, and any spatial axes: (H, W), others, or none.
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
from tinycv.engine.reduce import sum_over
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.checks import epsilon
from tinycv.nn.group_norm import per_channel, scaled
from tinycv.nn.image_rows import ImageRows
from tinycv.nn.module import Module
from tinycv.nn.norm import inverse_root


@fused(whole="count")
def batch_standard(
    x: Tensor,
    count: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm in training. x (N, C, *spatial). count: how many values each channel has in the
    whole batch, that is, in all shards together.

    Returns y in the shape of x, and the mean (C,) and variance (C,) of the whole batch. The
    variance divides by count, not count - 1.
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
    """x (N, C, *spatial); running_mean, running_var, weight and bias (C,) or None. Returns the
    shape of x.

    With training=True x is normalised by the mean and variance of the batch, and the running
    statistics move towards these, in place:
        running <- (1 - momentum) running + momentum * statistic of the batch
    The running variance uses the unbiased variance: of n values per channel, it divides by n - 1.
    A batch with only one value per channel raises a ValueError, since its variance is always 0.
    With training=False x is normalised by the running statistics.

    In data-parallel training (training/parallel.py) the batch is the whole batch, so results do not
    depend on the number of shards.
    """
    eps, momentum = epsilon(eps, "batch_norm: eps"), number(momentum, "batch_norm: momentum", 0, 1)
    choice(training, "batch_norm: training", (True, False))
    check_batch_norm(x, running_mean, running_var, weight, bias)
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
    """``batch_norm`` with the running statistics."""
    mean, var = map(state.read_state, running)
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
    """``batch_norm`` with the batch's statistics. tracked: the counter of batches, or None."""
    count = all_reduce(x.shape[0] * prod(x.shape[2:]))
    if count < 2:
        raise ValueError(
            f"batch_norm: x of shape {x.shape} has {count} value per channel; in training it needs "
            "at least 2"
        )
    y, mean, var = batch_standard(x, count, weight, bias, eps)

    def updated() -> list:
        batch = bare(mean), bare(var) * (count / (count - 1))  # the unbiased variance
        arrays = [r._data + momentum * (b - r._data) for r, b in zip(running, batch, strict=True)]
        return arrays if tracked is None else [*arrays, tracked._data + 1]

    if running[0] is not None:
        state.renew(running if tracked is None else (*running, tracked), updated)
    return y


def check_batch_norm(x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any) -> None:
    """TypeError or ValueError for arguments that do not fit. Unchecked, they would broadcast to a
    wrong result, or fail later with an error that names none of them."""
    if getattr(getattr(x, "dtype", None), "kind", None) != "f":
        raise TypeError(f"batch_norm: x is {shown(x)}; it must be a Tensor or an array of floats")
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x has shape {x.shape}; it must be (N, C, ...)")
    if (running_mean is None) != (running_var is None):
        raise ValueError(
            "batch_norm: one of running_mean and running_var is None; give both or neither"
        )
    for name, value in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if value is not None and getattr(value, "shape", None) != x.shape[1:2]:
            problem = (
                f"has shape {value.shape}" if hasattr(value, "shape") else f"is {shown(value)}"
            )
            raise ValueError(
                f"batch_norm: {name} {problem}; x of shape {tuple(x.shape)} has {x.shape[1]} "
                f"channels along axis 1, so it must be ({x.shape[1]},)"
            )
        if value is not None and getattr(value.dtype, "kind", None) != "f":
            raise TypeError(
                f"batch_norm: {name} is {shown(value)}; it must be a Tensor or an array of floats"
            )


class BatchNorm2d(Module):
    """Batch norm of (N, num_features, H, W): uses the batch's statistics in training mode, and the
    running statistics in evaluation mode.

    The buffers are those of PyTorch: running_mean starts at 0, running_var at 1, and
    num_batches_tracked counts training batches. With track_running_stats=False there are no
    buffers, and both modes use the batch's statistics.
    differs: momentum is always a number; PyTorch's None (a cumulative average) is refused.
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
            problem = f"has shape {x.shape}" if hasattr(x, "shape") else f"is {shown(x)}"
            raise ValueError(
                f"{type(self).__name__} takes {' or '.join(map(str, self.ranks))} axes, x {problem}"
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
    """Batch norm of (N, num_features) or (N, num_features, L). Otherwise the same as
    BatchNorm2d."""

    ranks = (2, 3)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@batch_standard.kernel
def _batch_standard(xp, x, count, weight=None, bias=None, eps=1e-5):
    images = ImageRows(xp, x)
    a = images.rows(x)
    y, sums = xp.empty_like(a), xp.empty(x.shape[:2], x.dtype)

    def add_up(at):
        sums[at] = images.sums(a[at])

    def centre(at):
        out = images.apply(xp.subtract, a[at], mean, out=y[at])
        sums[at] = images.dots(out, out)

    def scale_up(at):
        out = images.apply(xp.multiply, y[at], slope, out=y[at])
        if bias is not None:
            images.apply(xp.add, out, bias[None], out=out)

    images.in_blocks(add_up)
    mean = all_reduce(sum_over(xp, sums, 0, keepdims=True)) / count  # (1, C)
    images.in_blocks(centre)
    var = all_reduce(sum_over(xp, sums, 0, keepdims=True)) / count
    square = var + eps
    scale = xp.sqrt(square) / square  # as in inverse_root
    slope = scale if weight is None else scale * weight
    images.in_blocks(scale_up)
    pull = partial(_pull, xp, images, a, mean, scale, slope, count)
    return (images.images(y), mean[0], var[0]), pull


def _pull(xp, images, a, mean, scale, slope, count, g):
    """The pull of batch_standard. g: the gradients of y, of the mean and of the variance."""
    gy, gmean, gvar = g
    gy = xp.zeros_like(a) if gy is None else images.rows(gy)
    gx, sums = xp.empty_like(a), xp.empty((len(a), 2, images.shape[1]), a.dtype)

    def add_up(at):
        centred = images.apply(xp.subtract, a[at], mean, out=gx[at])
        sums[at, 0] = images.sums(gy[at])
        sums[at, 1] = images.dots(gy[at], centred)

    # This shard's sums of g and of g (x - mean), (C,) each. The gradients of bias and weight use
    # them as they are, since shards add up parameter gradients later.
    images.in_blocks(add_up)
    shard_g, shard_dots = sum_over(xp, sums, 0)

    def along_x():
        # y = slope (x - mean) + bias, where slope and mean depend on every x of the batch, so
        # dx = slope g + (x - mean) b + c, with b and c from sums over the whole batch.
        to_mean, to_var = (
            xp.zeros_like(shard_g) if part is None else part for part in (gmean, gvar)
        )
        total = all_reduce(xp.stack([shard_g, shard_dots, to_mean, to_var]))[:, None]
        # in this order, since the cube of a small scale would be 0
        b = (2 * total[3] - slope * (scale * (scale * total[1]))) / count
        c = (total[2] - slope * total[0]) / count

        def add_parts(at):  # gx holds x - mean
            out = images.apply(xp.multiply, gx[at], b, out=gx[at])
            images.apply(xp.add, out, c, out=out)
            out += images.apply(xp.multiply, gy[at], slope, out=xp.empty_like(out))

        images.in_blocks(add_parts)
        return images.images(gx)

    return along_x, None, lambda: shard_dots * scale[0], lambda: shard_g
