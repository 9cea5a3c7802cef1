"""Activation functions: GELU, SiLU and leaky ReLU.

relu, sigmoid, tanh and softplus are rows of the engine's own table (engine/ops.py); here are those
that are pairs.
differs: none takes inplace, and softplus takes no beta and no threshold.
"""

from __future__ import annotations

from math import inf, pi, sqrt
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import choice, number
from tinycv.engine.fused import fused
from tinycv.engine.ops import erf, relu, sigmoid, softplus, tanh, where
from tinycv.engine.reduce import blocks, lie
from tinycv.engine.tensor import Tensor
from tinycv.nn.checks import array
from tinycv.nn.layout import flattened, unflattened
from tinycv.nn.module import Module

MOST = 1e30  # a slope beyond is a mistake


@fused
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), Φ the normal distribution function: x is kept in the measure that it exceeds others.

    Hendrycks & Gimpel 2016, section 2; with approximate="tanh", their approximation
    0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    """
    if approximate == "none":
        return 0.5 * x * (1 + erf(x / sqrt(2)))
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


@fused
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere: no unit is ever quite without a
    gradient. At 0: the latter.

    Maas, Hannun & Ng 2013, eq. 2.
    """
    return where(x > 0, x, negative_slope * x)


@fused
def silu(x: Tensor) -> Tensor:
    """x sigmoid(x), also named swish: GELU's shape without its error function (Elfwing, Uchibe &
    Doya 2018, eq. 2)."""
    return x * sigmoid(x)


class ReLU(Module):
    """max(x, 0), as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0)."""
        return relu(x)


class Tanh(Module):
    """tanh x, as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """tanh x, entry by entry."""
        return tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """1 / (1 + exp(-x))."""
        return sigmoid(x)


class Softplus(Module):
    """log(1 + exp x), as a layer: a relu without its corner."""

    def forward(self, x: Tensor) -> Tensor:
        """log(1 + exp x): a relu without its corner."""
        return softplus(x)


class LeakyReLU(Module):
    """x where it is positive, negative_slope * x elsewhere, as a layer."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = number(negative_slope, "LeakyReLU: negative_slope", -MOST, MOST)

    def forward(self, x: Tensor) -> Tensor:
        """``leaky_relu`` of x, entry by entry."""
        return leaky_relu(x, self.negative_slope)


class SiLU(Module):
    """x sigmoid(x), as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """``silu`` of x, entry by entry."""
        return silu(x)


class GELU(Module):
    """x Φ(x); approximate "none" or "tanh"."""

    def __init__(self, approximate: str = "none"):
        self.approximate = choice(approximate, "GELU: approximate", ("none", "tanh"))

    def forward(self, x: Tensor) -> Tensor:
        """``gelu`` of x, entry by entry."""
        return gelu(x, self.approximate)


# ── below this line: speed. The definitions above are what it must equal ─────────────────────────


@gelu.kernel
def _gelu(xp, x, approximate="none"):
    choice(approximate, "approximate", ("none", "tanh"))
    array(x, "x")
    if approximate == "tanh":
        return _gelu_tanh(xp, x)
    order = lie(x)
    values = flattened(x, order)
    share = backend.normal_cdf(xp, values)  # Φ(x)

    def pull(g):
        g, slope = flattened(g, order), xp.empty_like(values)
        for at in blocks(xp, x.size):
            s = xp.multiply(values[at], values[at], out=slope[at])
            s *= -0.5
            xp.exp(s, out=s)
            s *= 1 / sqrt(2 * pi)  # φ(x)
            s *= values[at]
            s += share[at]
            s *= g[at]
        return unflattened(slope, x, order)

    return unflattened(values * share, x, order), pull


def _gelu_tanh(xp, x):
    """gelu's kernel for approximate="tanh", and its slope by hand."""
    inner = xp.asarray(x * x * (0.044715 * sqrt(2 / pi)))
    inner += sqrt(2 / pi)
    t = xp.tanh(inner * x)

    def pull(g):
        slope = x * x
        slope *= 3 * 0.044715
        slope += 1
        slope *= x * sqrt(2 / pi)
        slope *= 1 - t * t
        slope += 1
        slope += t
        slope *= 0.5 * g
        return slope

    y = (t + 1) * x
    y *= 0.5
    return y, pull


def slope_of(x: Any, negative_slope: Any) -> float:
    """leaky_relu's slope, if x is an array and this a number."""
    array(x, "x")
    if type(negative_slope) is float and abs(negative_slope) < MOST:
        return negative_slope
    return number(negative_slope, "negative_slope", -MOST, MOST)


@leaky_relu.kernel
def _leaky_relu(xp, x, negative_slope=0.01):
    negative_slope = slope_of(x, negative_slope)
    order = lie(x)
    values = flattened(x, order)
    y, larger = xp.empty_like(values), xp.maximum if negative_slope <= 1 else xp.minimum
    for at in blocks(xp, x.size):
        bent = xp.multiply(values[at], negative_slope, out=y[at])
        # where would take many times as long
        larger(values[at], bent, out=bent)
        if not negative_slope:
            bent[...] = xp.where(values[at] == inf, inf, bent)  # not NaN, which 0 * inf is

    def pull(g):
        g, slope = flattened(g, order), xp.empty_like(values)
        for at in blocks(xp, x.size):
            s = slope[at]
            s[...] = values[at] > 0
            s *= 1 - negative_slope
            s += negative_slope
            s *= g[at]
        return unflattened(slope, x, order)

    return unflattened(y, x, order), pull


@silu.kernel
def _silu(xp, x):
    order = lie(array(x, "x"))
    values = flattened(x, order)
    share, y = xp.empty_like(values), xp.empty_like(values)
    # exp is inf where the share is 0
    with np.errstate(over="ignore"):
        for at in blocks(xp, x.size):
            s = xp.negative(values[at], out=share[at])
            xp.exp(s, out=s)
            s += 1
            xp.reciprocal(s, out=s)  # σ(x)
            xp.multiply(values[at], s, out=y[at])

    def pull(g):
        g, slope = flattened(g, order), xp.empty_like(values)
        for at in blocks(xp, x.size):  # σ + y (1 - σ), and times g
            s = xp.subtract(1, share[at], out=slope[at])
            s *= y[at]
            s += share[at]
            s *= g[at]
        return unflattened(slope, x, order)

    return unflattened(y, x, order), pull
