"""Activation functions: GELU, SiLU (swish) and leaky ReLU.

    GELU(x)  = x Φ(x),  Φ the normal distribution function      Hendrycks & Gimpel 2016, section 2
    SiLU(x)  = x σ(x),  σ(x) = 1 / (1 + exp(-x))                Elfwing, Uchibe & Doya 2018, eq. 2
    leaky ReLU(x) = x where x > 0, else negative_slope x        Maas, Hannun & Ng 2013, eq. 2

relu, sigmoid, tanh and softplus are rows of the derivative table in engine/ops.py. The functions
here have a definition and a kernel of their own.
differs: none has the argument inplace, and softplus has no beta and no threshold.
"""

from __future__ import annotations

from math import inf, pi, sqrt
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import choice, number
from tinycv.engine.blocks import LARGE, in_blocks
from tinycv.engine.fused import fused
from tinycv.engine.ops import erf, relu, sigmoid, softplus, tanh, where
from tinycv.engine.reduce import axes_by_stride, blocks
from tinycv.engine.tensor import Tensor
from tinycv.engine.torch_names import with_hints
from tinycv.nn.checks import array
from tinycv.nn.gelu_kernel import gelu32, gelu32_pull
from tinycv.nn.layout import flattened, unflattened
from tinycv.nn.module import Module

MOST = 1e30  # a larger negative slope is refused as a mistake
TINY = 1e-30  # SiLU of an |x| below this may lose digits: see sigmoid_from_silu


@fused
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x): each x is weighted by the probability that a standard normal variable is below it.

    Hendrycks & Gimpel 2016, section 2. approximate="tanh" computes their approximation
    0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    """
    if approximate == "none":
        return 0.5 * x * (1 + erf(x / sqrt(2)))
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


@fused
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere, so that the gradient is never exactly 0
    (unless negative_slope is). At 0 the slope is negative_slope.

    Maas, Hannun & Ng 2013, eq. 2.
    """
    return where(x > 0, x, negative_slope * x)


@fused
def silu(x: Tensor) -> Tensor:
    """x sigmoid(x), also called swish: close to GELU in shape, without the error function (Elfwing,
    Uchibe & Doya 2018, eq. 2)."""
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
    """log(1 + exp x), as a layer: a smooth version of ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """log(1 + exp x)."""
        return softplus(x)


class LeakyReLU(Module):
    """x where it is positive, negative_slope * x elsewhere, as a layer."""

    @with_hints
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
    """x Φ(x), as a layer. approximate: "none" or "tanh"."""

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
    order = axes_by_stride(x)
    values = flattened(x, order)
    if xp is np and x.dtype == np.float32:
        return _gelu32(x, values, order)
    cdf = backend.normal_cdf(xp, values)  # Φ(x)

    def pull(g):
        # g (Φ(x) + x φ(x)), φ the normal density; each block is computed in place in ``slope``
        g, slope = flattened(g, order), xp.empty_like(values)
        for at in blocks(xp, x.size):
            part = xp.multiply(values[at], values[at], out=slope[at])
            part *= -0.5
            xp.exp(part, out=part)
            part *= 1 / sqrt(2 * pi)  # φ(x)
            part *= values[at]
            part += cdf[at]
            part *= g[at]
        return unflattened(slope, x, order)

    return unflattened(values * cdf, x, order), pull


def _gelu32(x, values, order):
    """gelu's kernel for float32 on a CPU: gelu_kernel.py."""
    y = np.empty_like(values)
    gelu32(values, y)

    def pull(g):
        gx = np.empty_like(values)
        gelu32_pull(values, y, flattened(g, order), gx)
        return unflattened(gx, x, order)

    return unflattened(y, x, order), pull


@gelu.inference
def _gelu_inference(xp, x, approximate="none"):
    if xp is not np or array(x, "x").dtype != np.float32 or approximate != "none":
        return _gelu(xp, x, approximate)[0]
    order = axes_by_stride(x)
    values = flattened(x, order)
    y = np.empty_like(values)
    gelu32(values, y)
    return unflattened(y, x, order)


def _gelu_tanh(xp, x):
    """gelu's kernel for approximate="tanh". With t = tanh(u) and u = √(2/π) (x + 0.044715 x³):

    y = x (1 + t) / 2
    dy/dx = (1 + t + x (1 - t²) du/dx) / 2,        du/dx = √(2/π) (1 + 3 * 0.044715 x²)
    """
    inner = xp.asarray(x * x * (0.044715 * sqrt(2 / pi)))
    inner += sqrt(2 / pi)  # u / x
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

    y = xp.asarray(t + 1)
    y *= 0.5  # before x, as 2 x may overflow
    y *= x
    return y, pull


def checked_slope(x: Any, negative_slope: Any) -> float:
    """leaky_relu's negative slope as a float. Errors if x or the slope is not what it takes."""
    array(x, "x")
    if type(negative_slope) is float and abs(negative_slope) < MOST:
        return negative_slope
    return number(negative_slope, "negative_slope", -MOST, MOST)


@leaky_relu.kernel
def _leaky_relu(xp, x, negative_slope=0.01):
    negative_slope = checked_slope(x, negative_slope)
    order = axes_by_stride(x)
    values = flattened(x, order)
    y = xp.empty_like(values)
    # With a slope up to 1, the result is the larger of x and slope x; with a slope above 1, the
    # smaller. np.maximum and np.minimum take a fraction of the time of np.where.
    select = xp.maximum if negative_slope <= 1 else xp.minimum

    def forward(at):
        part = xp.multiply(values[at], negative_slope, out=y[at])
        select(values[at], part, out=part)
        if not negative_slope:
            # 0 * inf is NaN, but the result at x = inf is inf
            part[...] = xp.where(values[at] == inf, inf, part)

    in_blocks(xp, forward, x.size, least=LARGE)

    def pull(g):
        g, slope = flattened(g, order), xp.empty_like(values)

        def backward(at):
            part = slope[at]
            if xp is np and 0 <= negative_slope <= 1:
                # Where x is positive, ceil(x) is at least 1; elsewhere it is at most 0, or NaN.
                # NumPy's ceil and clip take a fraction of the time of np.where.
                np.clip(np.ceil(values[at], out=part), negative_slope, 1, out=part)
                if part.max() != 1:  # no x is positive, or one is NaN
                    part[part != part] = negative_slope  # as in the definition: NaN > 0 is False
            else:
                part[...] = xp.where(values[at] > 0, 1, negative_slope)
            part *= g[at]

        in_blocks(xp, backward, x.size, least=LARGE)
        return unflattened(slope, x, order)

    return unflattened(y, x, order), pull


@silu.kernel
def _silu(xp, x):
    order = axes_by_stride(array(x, "x"))
    values = flattened(x, order)
    y = xp.empty_like(values)
    # On a CPU only x and y are kept for the backward pass. The layers before and after mostly keep
    # them too. On a GPU 1 + exp(-x) is kept as well, which saves launches.
    divisor = y if xp is np else xp.empty_like(values)
    silu_of(xp, values, divisor, out=y)

    def pull(g):
        g, gx = flattened(g, order), xp.empty_like(values)

        def backward(at):
            # dy/dx = σ + x σ (1 - σ) = σ + y (1 - σ)
            sigmoid_x = sigmoid_from_silu(values[at], y[at]) if xp is np else 1 / divisor[at]
            slope = xp.subtract(1, sigmoid_x, out=gx[at])
            slope *= y[at]
            slope += sigmoid_x
            slope *= g[at]

        in_blocks(xp, backward, x.size)
        return unflattened(gx, x, order)

    return unflattened(y, x, order), pull


@silu.inference
def _silu_inference(xp, x):
    order = axes_by_stride(array(x, "x"))
    values = flattened(x, order)
    y = xp.empty_like(values)
    return unflattened(silu_of(xp, values, divisor=y, out=y), x, order)


def silu_of(xp, x, divisor, out):
    """out = x σ(x) = x / (1 + exp(-x)), for x (n,). divisor: an array for 1 + exp(-x), which may be
    ``out`` itself."""

    def forward(at):
        xp.divide(x[at], one_plus_exp(xp, x[at], out=divisor[at]), out=out[at])

    in_blocks(xp, forward, x.size)
    return out


def sigmoid_from_silu(x, y):
    """σ(x) from x and y = x σ(x), (n,) each. It is y / x, because a division takes a fifth of the
    time of exp. But 0 / 0 is NaN, and the y of a tiny x may be rounded to 0; there σ(x) is 1/2."""
    with np.errstate(invalid="ignore"):
        sigmoid_x = y / x
    magnitude = np.abs(x)
    if not magnitude.min() > TINY:  # True also if a number is NaN
        sigmoid_x[magnitude <= TINY] = 0.5
    return sigmoid_x


def one_plus_exp(xp, x, out):
    """out = 1 + exp(-x)."""
    xp.negative(x, out=out)
    # For a very negative x, exp(-x) overflows to inf. A number divided by it is 0, which is right.
    with np.errstate(over="ignore"):
        xp.exp(out, out=out)
    out += 1
    return out
