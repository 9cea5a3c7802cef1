"""Glow: a flow with actnorm and invertible 1 x 1 convolutions (Kingma & Dhariwal 2018).

    actnorm          y = γ (x - m) / d + β,  per channel               section 3.1
                     log |det| = H W Σ_c (log γ - log d)
                     m, d: mean and standard deviation of the first batch
    1 x 1 conv       y_hw = W x_hw,  W = P L (U + diag(s))              section 3.2
                     log |det| = H W log |det W| = H W Σ_c log |s_c|
    one step         actnorm, 1 x 1 convolution, affine coupling        table 1 and figure 2

A coupling with a channel mask changes half of the channels, depending on the other half.  RealNVP
swaps the halves from layer to layer.  Between two couplings, Glow mixes all channels by a learned
matrix W.  The determinant of W costs C³ operations.  In the form P L (U + diag(s)), with a
permutation P, a unit lower triangular L and a strictly upper triangular U, it is the product of the
numbers s, up to its sign.  P and the signs of s are fixed, and log |s| is learned, so no s can
reach 0, and W stays invertible.

Batch norm would couple the examples of a batch, and the large images of the paper leave room for
only one example per GPU.  So actnorm takes its statistics from the *first* batch alone; after that
it is an affine layer whose parameters are learned.

Read first: flow.py; engine/state.py, for the first batch.
Shapes: B images, C channels, H x W pixels. A log-determinant is (B,).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinycv.data.inputs import whole as at_most
from tinycv.engine.backend import array_module, host_generator
from tinycv.engine.create import eye
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import all_reduce, exp, expand, log, where
from tinycv.engine.state import read_state, renew
from tinycv.engine.tensor import Parameter, Tensor, bare
from tinycv.likelihood.flow import (
    MOST_SCALES,
    AffineCoupling,
    Flow,
    Logit,
    MultiScale,
    channel_mask,
    check_side,
    image_network,
)
from tinycv.nn import init
from tinycv.nn.conv import conv2d
from tinycv.nn.group_norm import per_channel
from tinycv.nn.inputs import batch, in_float32, whole
from tinycv.nn.module import Module

LEAST_DEVIATION = 1e-6  # a channel with a smaller deviation in the first batch gets d = 1


class ActNorm(Module):
    """Activation normalisation: each channel is shifted and scaled, so that on the first training
    batch the result has mean 0 and variance 1 per channel.

    x (B, C) or (B, C, H, W). The mean m and the deviation d of the first batch are buffers; before
    it m = 0 and d = 1, also in evaluation. ``batches`` is 0 until they are set, then 1.
    differs: in the paper the first batch sets γ and β themselves. Here γ and β start at 1 and 0,
    and m and d are kept beside them, which is the same function. So no Parameter changes in a
    forward pass.
    """

    def __init__(self, channels: int):
        (channels,) = whole("ActNorm", 1, channels=channels)
        self.log_scale = init.zeros((channels,))  # log γ
        self.bias = init.zeros((channels,))  # β
        self.mean = Tensor(np.zeros(channels, np.float32))  # m
        self.deviation = Tensor(np.ones(channels, np.float32))  # d
        self.batches = Tensor(np.zeros((), np.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, ...). Returns y in the shape of x and log |det ∂y/∂x| (B,)."""
        mean, deviation = self._statistics(x)
        y = (x - per_channel(mean, x)) / per_channel(deviation, x)
        y = y * per_channel(exp(self.log_scale), x) + per_channel(self.bias, x)
        log_det = prod(x.shape[2:]) * (self.log_scale - log(deviation)).sum()
        return y, expand(log_det, (x.shape[0],))

    def inverse(self, y: Tensor) -> Tensor:
        """The x for which forward returns y, with m and d as they are now."""
        self._check(y, "ActNorm.inverse: y")
        x = (y - per_channel(self.bias, y)) * per_channel(exp(-self.log_scale), y)
        return x * per_channel(self.deviation, y) + per_channel(self.mean, y)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """m and d (C,). The first batch in training mode sets them."""
        self._check(x, "ActNorm: x")
        if not self.training:
            return read_state(self.mean), read_state(self.deviation)
        values = in_float32(bare(x))
        xp, axes = array_module(values), (0, *range(2, x.ndim))
        # If threads share the batch (engine/shards.py), the sums are over all of it.
        count = all_reduce(x.shape[0] * prod(x.shape[2:]))
        if not count:
            raise ValueError(f"ActNorm: x has shape {tuple(x.shape)}; there must be a number in it")
        mean = all_reduce(values.sum(axis=axes)) / count  # (C,)
        centred = values - mean.reshape((1, -1) + (1,) * (x.ndim - 2))
        deviation = xp.sqrt(all_reduce((centred * centred).sum(axis=axes)) / count)
        deviation = xp.where(deviation < LEAST_DEVIATION, 1, deviation)

        # The choice is made without a Python ``if``, which would wait for a GPU in each batch.
        def first_or_kept() -> list:
            first = self.batches._data == 0
            if xp is np and first and not xp.isfinite(mean + deviation).all():
                raise ValueError(
                    "ActNorm: the first batch holds values that are not finite, so it has no "
                    "statistics"
                )
            return [
                xp.where(first, mean, self.mean._data).astype(self.mean.dtype),
                xp.where(first, deviation, self.deviation._data).astype(self.mean.dtype),
                xp.ones_like(self.batches._data),
            ]

        mean, deviation, _ = renew((self.mean, self.deviation, self.batches), first_or_kept)
        return Tensor(mean), Tensor(deviation)

    def _check(self, x: Any, what: str) -> None:
        if batch(x, what).ndim < 2 or x.shape[1] != len(self.bias):
            raise ValueError(
                f"{what} has shape {tuple(x.shape)}; it must be (B, {len(self.bias)}, ...)"
            )


class InvertibleConv1x1(Module):
    """y_hw = W x_hw at each pixel of x (B, C, H, W), with W = P L (U + diag(s)).

    W starts as a random rotation. P (``permutation``) and the signs of s (``sign``) keep their
    first values. ``lower`` holds L below its diagonal of ones, ``upper`` holds U above its diagonal
    of zeros (the other entries of both are not used), and ``log_s`` is log |s|.
    """

    def __init__(self, channels: int):
        (channels,) = whole("InvertibleConv1x1", 1, channels=channels)
        rotation, _ = np.linalg.qr(host_generator().normal(size=(channels, channels)))
        permutation, lower, upper = lu_factors(rotation)
        s = np.diag(upper)
        self.lower = Parameter(np.tril(lower, -1).astype(np.float32))
        self.upper = Parameter(np.triu(upper, 1).astype(np.float32))
        self.log_s = Parameter(np.log(np.abs(s)).astype(np.float32))
        self.sign = Tensor(np.sign(s).astype(np.float32))
        self.permutation = Tensor(permutation.astype(np.float32))
        self.below = Tensor(np.tril(np.ones((channels, channels), bool), -1))

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(s), both (C, C)."""
        identity = eye(len(self.sign), self.sign.dtype, self.sign.device)
        lower = where(self.below, self.lower, identity)
        upper = where(self.below.T, self.upper, identity * (self.sign * exp(self.log_s)))
        return lower, upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W). Returns y (B, C, H, W) and log |det ∂y/∂x| (B,)."""
        self._check(x, "InvertibleConv1x1: x")
        lower, upper = self.factors()
        y = at_each_pixel(self.permutation @ lower @ upper, x)
        log_det = x.shape[2] * x.shape[3] * self.log_s.sum()
        return y, expand(log_det, (x.shape[0],))

    def inverse(self, y: Tensor) -> Tensor:
        """The x for which forward returns y, differentiable. W⁻¹ = (U + diag(s))⁻¹ L⁻¹ Pᵀ."""
        self._check(y, "InvertibleConv1x1.inverse: y")
        lower, upper = self.factors()
        inverse = inverse_of_lower(upper.T).T @ inverse_of_lower(lower) @ self.permutation.T
        return at_each_pixel(inverse, y)

    def _check(self, x: Any, what: str) -> None:
        if batch(x, what).ndim != 4 or x.shape[1] != len(self.sign):
            raise ValueError(
                f"{what} has shape {tuple(x.shape)}; it must be (B, {len(self.sign)}, H, W)"
            )


def at_each_pixel(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix (O, C) applied to the C channels of each pixel of x (B, C, H, W)."""
    return conv2d(x, matrix[:, :, None, None])


def inverse_of_lower(matrix: Tensor) -> Tensor:
    """The inverse X of a lower triangular matrix M (C, C), by forward substitution.

    Row i of M X = I is m_ii x_i = e_i - Σ_{j<i} m_ij x_j, where x_i is row i of X. The rows are
    computed one after another by plain ops, so the inverse can be differentiated.
    """
    identity = eye(len(matrix), matrix.dtype, matrix.device)
    x = identity[:1] / matrix[:1, :1]
    for i in range(1, len(matrix)):
        row = (identity[i : i + 1] - matrix[i : i + 1, :i] @ x) / matrix[i : i + 1, i : i + 1]
        x = concatenate([x, row])  # (i + 1, C)
    return x


def lu_factors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P, L, U with matrix = P L U, (C, C) each: Gaussian elimination with row pivoting, on the
    host."""
    upper = np.array(matrix, np.float64)
    n = len(upper)
    lower, order = np.zeros((n, n)), np.arange(n)
    for k in range(n):
        # The largest number of the column goes to the diagonal, so that no factor exceeds 1.
        pivot = k + np.abs(upper[k:, k]).argmax()
        for rows in (upper, lower, order):
            rows[[k, pivot]] = rows[[pivot, k]]
        lower[k + 1 :, k] = upper[k + 1 :, k] / upper[k, k]
        upper[k + 1 :] -= lower[k + 1 :, k : k + 1] * upper[k]
    return np.eye(n)[:, order], lower + np.eye(n), np.triu(upper)


class Glow(Flow):
    """Images (B, channels, side, side) in [0, 1] to noise of that shape: ``levels`` levels, each a
    squeeze and ``steps`` steps of actnorm, 1 x 1 convolution and coupling; side must be a multiple
    of 2^levels. (As in the paper, a level of Glow is a scale of the image, not a gray value.)

    After each level but the last, half of the channels leave (MultiScale). hidden: the channels
    inside each coupling's network.
    differs: the couplings are those of flow.py, with alternating masks, and z is always N(0, I);
    Glow's code predicts the mean and variance of channels that leave early from those that stay.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        levels: int = 2,
        steps: int = 4,
        hidden: int = 32,
        alpha: float = 0.05,
    ):
        channels, side, steps, hidden = whole(
            "Glow", 1, channels=channels, side=side, steps=steps, hidden=hidden
        )
        levels = at_most(levels, "Glow: levels", 1, MOST_SCALES)
        check_side(side, 2**levels, "Glow")
        layers = [Logit(alpha), *level_layers(channels, levels, steps, hidden)]
        super().__init__(layers, (channels, side, side))


def level_layers(channels: int, levels: int, steps: int, hidden: int) -> list[Module]:
    """The layers of Glow from one level on, for (B, channels, H, W). Those of the next levels are
    inside the MultiScale."""
    if not levels:
        return []
    coarse = [layer for i in range(steps) for layer in glow_step(4 * channels, hidden, i % 2)]
    rest = level_layers(2 * channels, levels - 1, steps, hidden)
    return [MultiScale(coarse=coarse, rest=rest)]


def glow_step(channels: int, hidden: int, first: int) -> Sequence[Module]:
    """One step of the flow for (B, channels, H, W): its three layers."""
    coupling = AffineCoupling(image_network(channels, hidden), channel_mask(channels, first))
    return ActNorm(channels), InvertibleConv1x1(channels), coupling
