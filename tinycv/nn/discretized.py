"""Discretised logistic, mixture of logistics (PixelCNN++) and discretised normal (DDPM).

    discretised logistic    log P(x) = log [S(b) - S(a)],    S(z) = 1 / (1 + exp(-z))
                            a, b: the edges x - h and x + h of the bin of x, after (. - μ) / s
                                                                        Salimans et al. 2017, eq. 2
    mixture of these        log P(x) = log Σ_i π_i [S(b_i) - S(a_i)]    ibid., eq. 1 and 2
    discretised normal      log P(x) = log [Φ(b) - Φ(a)]                Ho et al. 2020, eq. 13

A pixel is one of ``levels`` values, evenly spaced from -1 to 1, so h = 1 / (levels - 1).  A density
of such data has no maximum of the likelihood: it can grow without end at the levels themselves.  So
it is integrated over a bin of width 2 h around each level, which gives the level a probability.
The first and the last bin reach to infinity, so the probabilities of all levels sum to 1.

Computed as written, S(b) - S(a) loses all its digits far from μ, where both are near 0 or near 1,
and its logarithm is -∞ there.  But

    S(b) - S(a) = S(b) S(-a) (1 - exp(a - b))

and in log P = -softplus(-b) - softplus(a) + log(1 - exp(a - b)) nothing cancels.  (This identity
takes the place of the four cases of the authors' code.)  For Φ(b) - Φ(a), data/noised_box.py has
what is needed.

Arguments, dtypes and devices are as in distributions.py: the arguments broadcast, the result is in
nats, one number per pixel, and the caller takes the sum.  The mixture reduces the last axis, that
of its components.

Read first: distributions.py.
Used in: likelihood/pixel_by_pixel.py, diffusion/bound.py.
Shapes: pixels x (...); mean and scale (...), and (..., M) for a mixture of M components.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinycv.data.noised_box import HALF_LOG_2PI, mills, noised_box
from tinycv.engine.arguments import size
from tinycv.engine.backend import Array, array_module
from tinycv.engine.functions import take_along_axis
from tinycv.engine.ops import clip, exp, expand, expm1, log, log1p, logsumexp, softplus, where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.distributions import (
    Values,
    broadcast,
    categorical_sample,
    classes_last,
    logistic_sample,
    normal_sample,
    prepared,
)
from tinycv.nn.inputs import Examples
from tinycv.nn.softmax import log_softmax

MOST_LEVELS = 2**16
# A log scale beyond -30 or 30 counts as -30 or 30. exp(30) is 1e13: no image in float32 can tell
# such a scale from 0 or from infinity, and its square is still far from the largest float32.
LOG_SCALE = 30.0
OFF_GRID = 0.1  # how far a pixel may lie from its level, as a share of the distance of two levels


# ── discretised logistic ──────────────────────────────────────────────────────────────────────────


def discretized_logistic_log_prob(
    x: Values, mean: Values, log_scale: Values, levels: int
) -> Examples:
    """log P of pixels x, each one of ``levels`` values from -1 to 1, under a logistic distribution.

    It is finite, and so is its gradient, as long as (x - mean) / s is. log_scale is limited to
    [-30, 30]; beyond, its gradient is 0.
    """
    name = "discretized_logistic_log_prob"
    x, mean, log_scale = prepared(name, x=x, mean=mean, log_scale=log_scale)
    return discretized_logistic(name, x, mean, log_scale, levels)


def discretized_logistic(name: str, x: Any, mean: Any, log_scale: Any, levels: Any) -> Any:
    """``discretized_logistic_log_prob`` for the function ``name``, which has checked all but levels
    and the values of x."""
    first, last, valid = edge_bins(name, x, levels)
    h, log_scale = 1 / (levels - 1), clip(log_scale, -LOG_SCALE, LOG_SCALE)
    narrow = exp(-1.0 * log_scale)
    b, a = (x - mean + h) * narrow, (x - mean - h) * narrow
    below = where(last, 0.0, -1.0 * softplus(-1.0 * b))  # log S(b); the last bin has no upper edge
    above = where(first, 0.0, -1.0 * softplus(a))  # log S(-a)
    width = log(-1.0 * expm1(-2 * h * narrow))  # log(1 - exp(a - b))
    log_prob = below + above + where(first | last, 0.0, width)
    return log_prob if valid is None else where(valid, log_prob, math.nan)


def discretized_logistic_sample(mean: Values, log_scale: Values, levels: int) -> Examples:
    """A level from -1 to 1, with the probabilities of ``discretized_logistic_log_prob``. No
    gradient passes through it."""
    name = "discretized_logistic_sample"
    mean, log_scale = prepared(name, mean=mean, log_scale=log_scale)
    return nearest_level(logistic_sample(mean, log_scale), check_levels(levels, name))


# ── mixture of logistics: the components are on the last axis ─────────────────────────────────────


def logistic_mixture_log_prob(
    x: Values, weights: Values, means: Values, log_scales: Values, levels: int
) -> Examples:
    """log P of pixels x (...) under a mixture of discretised logistics, the output of PixelCNN++.

    weights (..., M): the logits of the M components; means and log_scales (..., M). Returns (...).
    """
    name = "logistic_mixture_log_prob"
    (pixels,) = prepared(name, x=x)
    weights, means, log_scales = classes_last(
        name, weights=weights, means=means, log_scales=log_scales
    )
    mixture_shape(name, pixels, weights, means, log_scales)
    weights, means, log_scales = broadcast(weights, means, log_scales)
    pixels = pixels[..., None] if hasattr(pixels, "shape") else pixels
    parts = discretized_logistic(name, pixels, means, log_scales, levels)
    return logsumexp(log_softmax(weights) + parts, axis=-1)  # (..., M) -> (...)


def logistic_mixture_sample(
    weights: Values, means: Values, log_scales: Values, levels: int
) -> Examples:
    """Pixels (...) from the mixtures (..., M): a component first, then a level of it."""
    name = "logistic_mixture_sample"
    weights, means, log_scales = classes_last(
        name, weights=weights, means=means, log_scales=log_scales
    )
    mixture_shape(name, 0.0, weights, means, log_scales)
    levels = check_levels(levels, name)
    weights, means, log_scales = broadcast(weights, means, log_scales)
    chosen = bare(categorical_sample(weights))[..., None]
    mean, log_scale = (take_along_axis(part, chosen)[..., 0] for part in (means, log_scales))
    return discretized_logistic_sample(mean, log_scale, levels)


# ── discretised normal ───────────────────────────────────────────────────────────────────────────


def discretized_normal_log_prob(x: Values, mean: Values, log_var: Values, levels: int) -> Examples:
    """log P of pixels x, each one of ``levels`` values from -1 to 1, under N(mean, exp(log_var)).

    It is finite, and so is its gradient, as long as the square of (x - mean) / σ is. log_var is
    limited to [-60, 60]; beyond, its gradient is 0.
    differs: the code of Ho et al. takes an approximation of Φ and replaces probabilities below
    1e-12 by 1e-12; here log P is exact in the tails too.
    """
    name = "discretized_normal_log_prob"
    x, mean, log_var = prepared(name, x=x, mean=mean, log_var=log_var)
    first, last, valid = edge_bins(name, x, levels)
    h, log_scale = 1 / (levels - 1), clip(0.5 * log_var, -LOG_SCALE, LOG_SCALE)
    narrow = exp(-1.0 * log_scale)
    centred = (x - mean) * narrow
    half = expand(h * narrow, tuple(centred.shape))
    # Φ(b) - Φ(a) does not change if x and mean change places, so z >= 0 will do
    z = where(bare(centred) >= 0, centred, -1.0 * centred)
    rest, _ = noised_box(z, half, math.log(2 * h) - log_scale)
    near = where(bare(z) > bare(half), z - half, 0.0)
    inner = rest - 0.5 * near * near
    edge = log_normal_cdf(where(first, centred, -1.0 * centred) + half)
    log_prob = where(first | last, edge, inner)
    return log_prob if valid is None else where(valid, log_prob, math.nan)


def discretized_normal_sample(mean: Values, log_var: Values, levels: int) -> Examples:
    """A level from -1 to 1, with the probabilities of ``discretized_normal_log_prob``. No gradient
    passes through it."""
    name = "discretized_normal_sample"
    mean, log_var = prepared(name, mean=mean, log_var=log_var)
    return nearest_level(normal_sample(mean, log_var), check_levels(levels, name))


def log_normal_cdf(t: Values) -> Examples:
    """log Φ(t), exact also where Φ(t) is too small for a float."""
    negative = bare(t) < 0
    z = where(negative, -1.0 * t, t)  # |t|
    log_tail = log(mills(z)) - 0.5 * z * z - HALF_LOG_2PI  # log Φ(-z)
    return where(negative, log_tail, log1p(-1.0 * exp(log_tail)))


# ── levels and shapes ─────────────────────────────────────────────────────────────────────────────


def check_levels(levels: Any, name: str) -> int:
    """The number of levels, a whole number from 2 to 2^16."""
    levels = size(levels, f"{name}: levels", 2)
    if levels > MOST_LEVELS:
        raise ValueError(f"{name}: levels is {levels}; it must be at most {MOST_LEVELS}")
    return levels


def edge_bins(name: str, x: Any, levels: int) -> tuple[Array, Array, Array | None]:
    """(is x the first level, is it the last, None). On the host a ValueError for an x that is no
    level, such as a continuous one; on a GPU the third result is the mask of those that are."""
    levels = check_levels(levels, name)
    array = bare(x)
    xp = array_module(array)
    steps = (array + 1) * (0.5 * (levels - 1))  # 0 ... levels - 1 for the levels
    nearest = xp.rint(steps)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is off the grid
        on_grid = (abs(steps - nearest) <= OFF_GRID) & (nearest >= 0) & (nearest < levels)
    if xp is np and not np.all(on_grid):
        wrong = np.asarray(array)[~np.asarray(on_grid)].flat[0]
        raise ValueError(
            f"{name}: x holds {wrong}; it must be one of {levels} levels, evenly spaced "
            "from -1 to 1"
        )
    valid = None if xp is np else on_grid
    return nearest == 0, nearest == levels - 1, valid


def nearest_level(x: Values, levels: int) -> Examples:
    """The level nearest to x, from -1 to 1, without a gradient."""
    array = bare(x)
    step = 2 / (levels - 1)
    level = array_module(array).clip(array_module(array).rint((array + 1) / step), 0, levels - 1)
    level = level * step - 1
    return Tensor(level) if isinstance(x, Tensor) else level


def mixture_shape(name: str, x: Any, *parts: Any) -> None:
    """A ValueError unless x (...) broadcasts with the parts (..., M)."""
    shape = np.broadcast_shapes(*(tuple(part.shape) for part in parts))
    try:
        np.broadcast_shapes(tuple(getattr(x, "shape", ())), shape[:-1])
    except ValueError:
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)} for components {shape}; they must be (...) and "
            "(..., M)"
        ) from None
