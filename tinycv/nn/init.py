"""How parameters start. Drawn by NumPy's generator on the host, so that every backend starts from
the same numbers.

A sum of n numbers of variance v has variance n v. So weights are drawn with a variance proportional
to 1 / fan_in; otherwise signals would grow or die with depth.
Glorot & Bengio 2010, eq. 16 (xavier);   He et al. 2015, eq. 10 (kaiming).

differs: PyTorch's functions fill a tensor (``xavier_uniform_``); these make a Parameter of a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinycv.engine.arguments import allocated, number, shown, sizes
from tinycv.engine.backend import host_generator
from tinycv.engine.tensor import Parameter

MOST = 2**40  # numbers: 4 TiB, which are a mistake


def _shape(shape: int | Sequence[int], who: str) -> tuple[int, ...]:
    """A shape; one number is a shape of one axis."""
    wanted = sizes(shape, f"{who}: shape")
    if math.prod(wanted) > MOST:
        raise ValueError(f"{who}: shape is {shown(wanted)}; no memory holds so many numbers")
    return wanted


def _number(value: float, what: str, low: float = -MOST) -> float:
    """A number, within bounds wide enough for anything that a network starts with."""
    return number(value, what, low, MOST)


def _made(draw: Callable, shape: tuple, who: str) -> Parameter:
    """The Parameter of what ``draw`` makes of the shape. MemoryError where that is too much for
    this machine."""
    return Parameter(
        allocated(lambda: draw(shape).astype(np.float32, copy=False), shape, f"{who}: shape")
    )


def zeros(shape: tuple) -> Parameter:
    """A Parameter of zeros, for biases."""
    return _made(lambda shape: np.zeros(shape, np.float32), _shape(shape, "zeros"), "zeros")


def ones(shape: tuple) -> Parameter:
    """A Parameter of ones, for the scales of norms."""
    return _made(lambda shape: np.ones(shape, np.float32), _shape(shape, "ones"), "ones")


def uniform(shape: tuple, bound: float) -> Parameter:
    """U(-bound, bound)."""
    return _uniform(shape, bound, "uniform")


def _uniform(shape: tuple, bound: float, who: str) -> Parameter:
    """``uniform``, for the function of that name."""
    shape, bound = _shape(shape, who), _number(bound, f"{who}: bound", 0)
    return _made(lambda shape: host_generator().uniform(-bound, bound, shape), shape, who)


def normal(shape: tuple, std: float = 1.0, mean: float = 0.0) -> Parameter:
    """N(mean, std²)."""
    return _normal(shape, std, mean, "normal")


def _normal(shape: tuple, std: float, mean: float, who: str) -> Parameter:
    """``normal``, for the function of that name."""
    shape = _shape(shape, who)
    std = _number(std, f"{who}: std", 0)
    mean = _number(mean, f"{who}: mean")
    return _made(lambda shape: host_generator().normal(mean, std, shape), shape, who)


def trunc_normal(shape: tuple, std: float = 0.02, limit: float = 2.0) -> Parameter:
    """N(0, std²), drawn again where it lies beyond ``limit`` standard deviations.

    differs: PyTorch cuts at ±2 in absolute terms, which at std 0.02 is no cut at all.
    """
    shape, std = _shape(shape, "trunc_normal"), _number(std, "trunc_normal: std", 0)
    # below, next to none of the draws would do
    limit = number(limit, "trunc_normal: limit", 0.1)

    def drawn(shape: tuple) -> np.ndarray:
        draw = host_generator().standard_normal(shape)
        while (far := np.abs(draw) > limit).any():
            draw[far] = host_generator().standard_normal(int(far.sum()))
        return draw * std

    return _made(drawn, shape, "trunc_normal")


def fans(shape: tuple) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    return _fans(shape, "fans")


def _fans(shape: int | Sequence[int], who: str) -> tuple[int, int]:
    """``fans``, for the function of that name."""
    shape = _shape(shape, who)
    if len(shape) < 2:
        raise ValueError(
            f"{who}: fan in and out need a weight of at least two axes, not shape {shape}"
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
    """N(0, s²) with s = gain √(2 / (fan_in + fan_out))."""
    gain = _number(gain, "xavier_normal: gain", 0)
    return _normal(
        shape, gain * math.sqrt(2 / sum(_fans(shape, "xavier_normal"))), 0.0, "xavier_normal"
    )


def kaiming_uniform(shape: tuple, a: float = 0.0) -> Parameter:
    """U(-b, b) with b = √(6 / ((1 + a²) fan_in)), for a leaky ReLU of slope a. PyTorch starts
    Linear with a = √5."""
    a = _number(a, "kaiming_uniform: a")
    bound = math.sqrt(6 / ((1 + a * a) * max(_fans(shape, "kaiming_uniform")[0], 1)))
    return _uniform(shape, bound, "kaiming_uniform")


def kaiming_normal(shape: tuple, a: float = 0.0) -> Parameter:
    """N(0, s²) with s = √(2 / ((1 + a²) fan_in))."""
    a = _number(a, "kaiming_normal: a")
    std = math.sqrt(2 / ((1 + a * a) * max(_fans(shape, "kaiming_normal")[0], 1)))
    return _normal(shape, std, 0.0, "kaiming_normal")
