"""Bits per dimension, dequantisation and binarisation: the units in which likelihoods are compared.

    bits per dimension = -log P(x) / (D log 2)           x: D pixels, each at one of L levels
    dequantisation       y = (x + u) / L,    u ~ U[0, 1)^D
                         log P(x) >= E_u[log p(y)] - D log L                   Theis et al. 2016

A pixel of an image file has one of L levels, 0 ... L - 1.  A model that has a probability for each
level (an autoregressive model, say) gives log P(x) directly.  A flow or a Gaussian gives a density.
Trained on the levels themselves, its likelihood would have no maximum, because a density can grow
without end at single points.  So uniform noise spreads the levels.  A density p of y in [0, 1)^D
then defines a probability of x, the integral of p over the cube of side 1 / L that belongs to x:

    P(x) = ∫ p((x + u) / L) L^-D du
    log P(x) >= ∫ log p((x + u) / L) du - D log L           by Jensen's inequality (log is concave)

Training maximises the right side, and it is also the figure reported for test images.  It is a
lower bound on log P(x), so the reported bits per dimension are at least those of P.  Without the
term D log L, which comes from the change of scale, figures would depend on the unit of the pixels:
the same model would look 5.5 nats per pixel better with pixels from 0 to 1 than from 0 to 255.

Images are binarised in two ways, which give different likelihoods.  *Dynamic* binarisation draws
each pixel again whenever the image is used, with its brightness as the probability of a 1.  *Fixed*
binarisation compares it with a threshold, or draws it once.  Figures of the two kinds are not
comparable.

Read next: baselines.py.
Shapes: images (B, ...) in [0, 1], D pixels each.  All functions take NumPy arrays, CuPy arrays and
Tensors, and return the same kind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.backend import Array, array_module
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.discretized import check_levels
from tinycv.nn.inputs import finite

Images = Tensor | Array


def quantize(images: Images, levels: int) -> Images:
    """The levels 0 ... levels - 1 of pixels in [0, 1], int64 in the same shape.

    It undoes ``dequantize`` exactly. It also finds the level k of a pixel k / (levels - 1), which
    is how images are stored: digits_8x8 are k / 16, other images k / 255. (In float32 this holds
    for up to 4,096 levels.)
    On a GPU, the level of a pixel outside [0, 1] is -1.
    """
    levels = check_levels(levels, "quantize")
    array, xp = pixels("quantize: images", images)
    if array.dtype == np.float16 and levels > 32:
        raise TypeError(
            f"quantize: images is {shown(images)}; float16 is too coarse for {levels} levels, it "
            "must be float32 or float64"
        )
    inside = within_0_and_1("quantize: images", array)
    wide = array.astype(np.float64)  # in float32 the product may be rounded up to the next level
    counts = xp.minimum(xp.floor(wide * levels), levels - 1)
    counts = (counts if inside is None else xp.where(inside, counts, -1)).astype(np.int64)
    return like(images, counts)


def dequantize(counts: Images, levels: int, noise: Images | None = None) -> Images:
    """(counts + u) / levels in [0, 1), float32, with u uniform in [0, 1).

    counts: whole numbers 0 ... levels - 1. noise: u, in the shape of counts; None draws it from
    tinycv's stream of noise, so ``tinycv.manual_seed`` makes it reproducible.
    A u so near 0 or 1 that float32 would round the result out of its bin is moved by up to
    levels / 2^24.
    """
    levels = check_levels(levels, "dequantize")
    array, xp = pixels("dequantize: counts", counts, "iu", "whole numbers")
    valid = (array >= 0) & (array < levels)
    if xp is np and not valid.all():
        raise ValueError(
            f"dequantize: counts holds {array[~valid].flat[0]}; {levels} levels are numbered from "
            f"0 to {levels - 1}"
        )
    if noise is None:
        u = backend.uniform(tuple(array.shape), array, np.float32)
    else:
        u, _ = pixels("dequantize: noise", noise)
        if tuple(u.shape) != tuple(array.shape):
            raise ValueError(
                f"dequantize: noise has shape {tuple(u.shape)}; it must be that of counts, "
                f"{tuple(array.shape)}"
            )
        within_0_and_1("dequantize: noise", u)
    margin = levels * 2.0**-24
    u = xp.clip(u.astype(np.float64), margin, 1 - margin)
    spread = (array + u) / levels
    spread = spread if xp is np else xp.where(valid, spread, math.nan)
    return like(counts, spread.astype(np.float32))


def binarize(images: Images, threshold: float | None = None) -> Images:
    """Images in [0, 1] as zeros and ones, float32.

    threshold: a pixel is 1 where it is at least this (fixed binarisation). None draws each pixel
    with its brightness as the probability of a 1, newly at each call (dynamic binarisation).
    """
    array, xp = pixels("binarize: images", images)
    inside = within_0_and_1("binarize: images", array)
    if threshold is None:
        limit = backend.uniform(tuple(array.shape), array, np.float32)
        ones = limit < array  # limit < 1, so a pixel of 1 is always 1, and one of 0 never
    else:
        ones = array >= finite(threshold, "binarize: threshold", low=0, high=1)
    ones = ones.astype(np.float32)
    return like(images, ones if inside is None else xp.where(inside, ones, math.nan))


def log_prob_of_levels(log_density: Any, levels: int, dims: int) -> Any:
    """The lower bound on log P(x), in nats, from the log-density of y = (x + u) / levels.

    log_density: a number, or (B,). dims: D, the number of pixels times channels of an image.
    """
    levels = check_levels(levels, "log_prob_of_levels")
    dims = size(dims, "log_prob_of_levels: dims", 1)
    return nats("log_prob_of_levels: log_density", log_density) - dims * math.log(levels)


def bits_per_dim(log_prob: Any, dims: int) -> Any:
    """Bits per dimension, -log P / (dims log 2), of log P in nats: a number, or (B,).

    log_prob: of images of levels, so it is at most 0. On the host a mean above 0 is an error: it
    has the wrong sign, or it is a log-density that ``log_prob_of_levels`` has not converted.
    Of a density, such as that of a flow, pass log_prob_of_levels(log_density, levels, dims).
    """
    dims = size(dims, "bits_per_dim: dims", 1)
    value = nats("bits_per_dim: log_prob", log_prob)
    array = bare(value)
    if array_module(array) is np and np.size(array) and np.mean(array) > 0:
        raise ValueError(
            f"bits_per_dim: log_prob has the mean {float(np.mean(array)):.6g}; the log-probability "
            "of an image of levels is at most 0. Pass log P, not -log P; of a density, pass "
            "log_prob_of_levels(...)"
        )
    return value * (-1 / (dims * math.log(2)))


# ── checks ────────────────────────────────────────────────────────────────────────────────────────


def pixels(what: str, value: Any, kinds: str = "f", takes: str = "floats") -> tuple[Array, Any]:
    """(the value as a bare array, its array module). TypeError unless it is an array or a Tensor
    of these kinds of numbers."""
    if number_kind(value) not in tuple(kinds) or not hasattr(bare(value), "reshape"):
        raise TypeError(f"{what} is {shown(value)}; it must be an array or a Tensor of {takes}")
    return bare(value), array_module(bare(value))


def within_0_and_1(what: str, array: Array) -> Array | None:
    """None if all pixels are in [0, 1]; otherwise a ValueError. On a GPU, always the mask of the
    pixels that are in [0, 1], because reading them would mean waiting."""
    inside = (array >= 0) & (array <= 1)  # False for NaN
    if array_module(array) is not np:
        return inside
    if not inside.all():
        raise ValueError(f"{what} holds {array[~inside].flat[0]}; each must be between 0 and 1")
    return None


def nats(what: str, value: Any) -> Any:
    """A number, or an array or a Tensor of real numbers."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return finite(value, what)
    if number_kind(value) != "f":
        raise TypeError(
            f"{what} is {shown(value)}; it must be a number, or an array or a Tensor of floats (B,)"
        )
    return value


def like(value: Images, array: Array) -> Images:
    """The array, as a Tensor if ``value`` is a Tensor."""
    return Tensor(array) if isinstance(value, Tensor) else array
