"""Weight initialisation: Xavier (Glorot), Kaiming (He), truncated normal, zeros and ones.

    xavier     variance of a weight = 2 / (fan_in + fan_out)       Glorot & Bengio 2010, eq. 16
    kaiming    variance of a weight = 2 / fan_in, before a ReLU    He et al. 2015, eq. 10

A sum of n independent terms of variance v has variance n v. So a weight's variance has to fall as
1 / fan_in, the number of terms in the sum; otherwise signals grow or vanish with depth.

The numbers are drawn by NumPy's generator on the host, so a model starts from the same weights on a
CPU and on a GPU.
differs: PyTorch's functions fill a given tensor (``xavier_uniform_``); these take a shape and
return a Parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinycv.engine.arguments import allocated, number, shown, sizes
from tinycv.engine.backend import host_generator
from tinycv.engine.tensor import Parameter
from tinycv.engine.torch_names import give_hints

MOST = 2**40  # numbers in a Parameter. In float32 these are 4 TiB, so a larger shape is a mistake.


def _shape(shape: int | Sequence[int], who: str) -> tuple[int, ...]:
    """A shape as a tuple; an int n means (n,). ``who`` is the function that an error names."""
    axes = sizes(shape, f"{who}: shape")
    if math.prod(axes) > MOST:
        raise ValueError(f"{who}: shape is {shown(axes)}; no memory holds so many numbers")
    return axes


def _number(value: float, what: str, low: float = -MOST) -> float:
    """A finite number. The bounds are far beyond anything that weights start with."""
    return number(value, what, low, MOST)


def _parameter(draw: Callable, shape: tuple, who: str) -> Parameter:
    """A Parameter that holds ``draw(shape)`` in float32. MemoryError if this machine has not enough
    memory."""
    return Parameter(
        allocated(lambda: draw(shape).astype(np.float32, copy=False), shape, f"{who}: shape")
    )


def zeros(shape: tuple) -> Parameter:
    """A Parameter of zeros, as for biases."""
    return _parameter(lambda shape: np.zeros(shape, np.float32), _shape(shape, "zeros"), "zeros")


def ones(shape: tuple) -> Parameter:
    """A Parameter of ones, as for the weights of norms."""
    return _parameter(lambda shape: np.ones(shape, np.float32), _shape(shape, "ones"), "ones")


def uniform(shape: tuple, bound: float) -> Parameter:
    """U(-bound, bound)."""
    return _uniform(shape, bound, "uniform")


def _uniform(shape: tuple, bound: float, who: str) -> Parameter:
    """``uniform``, whose errors name the function ``who``."""
    shape, bound = _shape(shape, who), _number(bound, f"{who}: bound", 0)
    return _parameter(lambda shape: host_generator().uniform(-bound, bound, shape), shape, who)


def normal(shape: tuple, std: float = 1.0, mean: float = 0.0) -> Parameter:
    """N(mean, std²)."""
    return _normal(shape, std, mean, "normal")


def _normal(shape: tuple, std: float, mean: float, who: str) -> Parameter:
    """``normal``, whose errors name the function ``who``."""
    shape = _shape(shape, who)
    std = _number(std, f"{who}: std", 0)
    mean = _number(mean, f"{who}: mean")
    return _parameter(lambda shape: host_generator().normal(mean, std, shape), shape, who)


def trunc_normal(shape: tuple, std: float = 0.02, limit: float = 2.0) -> Parameter:
    """N(0, std²); numbers beyond ``limit`` standard deviations are drawn again.

    differs: PyTorch's default limits are the absolute values ±2. At std 0.02 these are 100 standard
    deviations away, so nothing is cut off.
    """
    shape, std = _shape(shape, "trunc_normal"), _number(std, "trunc_normal: std", 0)
    # with a smaller limit almost every number would have to be drawn again
    limit = number(limit, "trunc_normal: limit", 0.1)

    def drawn(shape: tuple) -> np.ndarray:
        draw = host_generator().standard_normal(shape)
        far = np.abs(draw) > limit
        while far.any():
            draw[far] = host_generator().standard_normal(int(far.sum()))
            far = np.abs(draw) > limit
        return draw * std

    return _parameter(drawn, shape, "trunc_normal")


def fans(shape: tuple) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    return _fans(shape, "fans")


def _fans(shape: int | Sequence[int], who: str) -> tuple[int, int]:
    """``fans``, whose errors name the function ``who``."""
    shape = _shape(shape, who)
    if len(shape) < 2:
        raise ValueError(
            f"{who}: fan in and out need a weight of at least two axes, not of shape {shape}"
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def xavier_uniform(shape: tuple, gain: float = 1.0) -> Parameter:
    """U(-b, b) with b = gain √(6 / (fan_in + fan_out))."""
    gain = _number(gain, "xavier_uniform: gain", 0)
    return _uniform(
        shape, gain * math.sqrt(6 / sum(_fans(shape, "xavier_uniform"))), "xavier_uniform"
    )


def xavier_normal(shape: tuple, gain: float = 1.0) -> Parameter:
    """N(0, std²) with std = gain √(2 / (fan_in + fan_out))."""
    gain = _number(gain, "xavier_normal: gain", 0)
    return _normal(
        shape, gain * math.sqrt(2 / sum(_fans(shape, "xavier_normal"))), 0.0, "xavier_normal"
    )


def kaiming_uniform(shape: tuple, a: float = 0.0) -> Parameter:
    """U(-b, b) with b = √(6 / ((1 + a²) fan_in)), for a leaky ReLU of negative slope a. PyTorch
    initialises Linear with a = √5, which gives b = 1 / √fan_in."""
    a = _number(a, "kaiming_uniform: a")
    bound = math.sqrt(6 / ((1 + a * a) * max(_fans(shape, "kaiming_uniform")[0], 1)))
    return _uniform(shape, bound, "kaiming_uniform")


def kaiming_normal(shape: tuple, a: float = 0.0) -> Parameter:
    """N(0, std²) with std = √(2 / ((1 + a²) fan_in))."""
    a = _number(a, "kaiming_normal: a")
    std = math.sqrt(2 / ((1 + a * a) * max(_fans(shape, "kaiming_normal")[0], 1)))
    return _normal(shape, std, 0.0, "kaiming_normal")


give_hints(__name__)  # what to type instead of a name of PyTorch
