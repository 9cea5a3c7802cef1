"""Distributions as small functions: normal, Bernoulli, categorical, logistic.

    normal         log N(x; μ, σ²) = -½ [(x - μ)² / σ² + log σ² + log 2π]
                   KL(N(μ, σ²) || N(m, s²)) = ½ [(μ - m)² / s² + σ²/s² - log(σ²/s²) - 1]
    Bernoulli      log p(x) = x log S(l) + (1 - x) log S(-l)            S(l) = 1 / (1 + exp(-l))
    categorical    log p(k) = l_k - log Σ_j exp(l_j)
    logistic       log p(x) = -log s - softplus(z) - softplus(-z),      z = (x - μ) / s
                   its distribution function is S(z)

All logarithms are natural, so a log-probability is in nats.  The functions work number by number:
their arguments broadcast, and the result has the broadcast shape.  The caller takes the sum over
the pixels of an image.  Only the categorical functions reduce an axis, the last.

The parameters are those that a network can return without a constraint: a logit, and the logarithm
of a variance or of a scale.  So no probability is rounded to 0 or 1 before its logarithm is taken.
A sample of the normal and of the logistic distribution is a differentiable function of their
parameters, with noise as one more argument.

Arguments may be Tensors, arrays of NumPy or CuPy, or numbers.  The result is an array if no
argument is a Tensor.  float16 is computed, and returned, in float32.  On the host a value out of
range is an error; on a GPU its result is NaN, because reading values would mean waiting.

Read first: binary_cross_entropy.py, softmax.py.   Read next: discretized.py, for pixels of a few
levels.
Used in: likelihood/, diffusion/, adversarial/spade.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinycv.data.noised_box import HALF_LOG_2PI
from tinycv.engine import backend
from tinycv.engine.arguments import number_kind, shown
from tinycv.engine.backend import Array, array_module, from_host
from tinycv.engine.functions import take_along_axis
from tinycv.engine.ops import argmax, clip, exp, expand, log, sigmoid, softplus, where
from tinycv.engine.ops import sum as total
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.binary_cross_entropy import binary_cross_entropy_with_logits
from tinycv.nn.inputs import Examples, finite, reals
from tinycv.nn.softmax import log_softmax

Values = Tensor | Array | float


# ── normal ───────────────────────────────────────────────────────────────────────────────────────


def normal_log_prob(x: Values, mean: Values, log_var: Values) -> Examples:
    """log N(x; mean, exp(log_var)), for each number.

    If mean = x and log_var decreases without end, this density grows without end: where a pixel is
    the same in all images, a decoder with a free variance has no maximum of the likelihood.
    """
    x, mean, log_var = prepared("normal_log_prob", x=x, mean=mean, log_var=log_var)
    z = (x - mean) * exp(-0.5 * log_var)
    return -0.5 * (z * z + log_var) - HALF_LOG_2PI


def normal_sample(mean: Values, log_var: Values, noise: Values | None = None) -> Examples:
    """mean + exp(log_var / 2) noise, with noise from N(0, 1).

    This is the reparametrisation trick (Kingma & Welling 2014, section 2.4): the noise does not
    depend on the parameters, so gradients reach mean and log_var.
    """
    name = "normal_sample"
    if noise is None:
        mean, log_var = prepared(name, mean=mean, log_var=log_var)
        noise = drawn(backend.standard_normal, mean, log_var)
    else:
        mean, log_var, noise = prepared(name, mean=mean, log_var=log_var, noise=noise)
    return mean + exp(0.5 * log_var) * noise


def kl_normal(
    mean: Values, log_var: Values, prior_mean: Values = 0.0, prior_log_var: Values = 0.0
) -> Examples:
    """KL(N(mean, exp(log_var)) || N(prior_mean, exp(prior_log_var))), for each number. The default
    is the KL from N(0, 1), of Kingma & Welling 2014, appendix B.

    It is at least 0; rounding may leave it below by the precision of the dtype.
    """
    mean, log_var, prior_mean, prior_log_var = prepared(
        "kl_normal", mean=mean, log_var=log_var, prior_mean=prior_mean, prior_log_var=prior_log_var
    )
    distance, log_ratio = mean - prior_mean, log_var - prior_log_var
    return 0.5 * (distance * distance * exp(-1.0 * prior_log_var) + exp(log_ratio) - log_ratio - 1)


# ── Bernoulli ────────────────────────────────────────────────────────────────────────────────────


def bernoulli_log_prob(x: Values, logits: Values) -> Examples:
    """x log S(logits) + (1 - x) log S(-logits), for each number: minus the binary cross-entropy.

    x: 0 or 1. It may also be a probability in [0, 1]; then the result is an expectation, and no
    log-probability of x.
    """
    name = "bernoulli_log_prob"
    x, logits = prepared(name, x=x, logits=logits)
    valid = in_range(bare(x), f"{name}: x", 0, 1, "each must be between 0 and 1")
    x, logits = broadcast(x, logits)
    log_prob = -1.0 * binary_cross_entropy_with_logits(logits, x, reduction="none")
    return log_prob if valid is None else where(valid, log_prob, math.nan)


def bernoulli_sample(logits: Values) -> Examples:
    """0 or 1, with the probability S(logits) of a 1, in the dtype of the logits. No gradient
    reaches them."""
    (logits,) = prepared("bernoulli_sample", logits=logits)
    probability = sigmoid(logits.detach() if isinstance(logits, Tensor) else logits)
    hit = drawn(backend.uniform, probability) < probability
    return where(hit, 0 * probability + 1, 0 * probability)  # NaN where the probability is NaN


def kl_bernoulli(logits: Values, prior_logits: Values) -> Examples:
    """KL between two Bernoulli distributions, for each number."""
    q, p = prepared("kl_bernoulli", logits=logits, prior_logits=prior_logits)
    # the shares of 1 and 0, each with its log-probabilities -softplus(-l) and -softplus(l)
    of_1 = expected(sigmoid(q), -1.0 * softplus(-1.0 * q), -1.0 * softplus(-1.0 * p))
    of_0 = expected(sigmoid(-1.0 * q), -1.0 * softplus(q), -1.0 * softplus(p))
    return of_1 + of_0


# ── categorical: the classes are on the last axis ────────────────────────────────────────────────


def categorical_log_prob(labels: Values, logits: Values) -> Examples:
    """log softmax(logits) at the label. labels (...) of class numbers, logits (..., K); the axes
    before the last broadcast. Returns (...).

    IndexError for a number that is no class; on a GPU its result is NaN.
    """
    name, scores = "categorical_log_prob", classes_last("categorical_log_prob", logits=logits)[0]
    if number_kind(labels) not in ("i", "u"):
        raise TypeError(f"{name}: labels is {shown(labels)}; it must be an array of class numbers")
    positions, count = bare(labels), scores.shape[-1]
    try:
        shape = np.broadcast_shapes(positions.shape, scores.shape[:-1])
    except ValueError:
        raise ValueError(
            f"{name}: labels has shape {tuple(positions.shape)} and logits {tuple(scores.shape)}; "
            "they must be (...) and (..., K)"
        ) from None
    xp = array_module(bare(scores))
    positions = xp.broadcast_to(from_host(xp, positions), shape)
    takes = f"{count} classes are numbered from 0 to {count - 1}"
    valid = in_range(positions, f"{name}: labels", 0, count - 1, takes, IndexError)
    if valid is not None:
        positions = xp.where(valid, positions, 0)
    log_p = expand(log_softmax(scores), (*shape, count))  # (..., K)
    chosen = take_along_axis(log_p, positions[..., None])[..., 0]  # (...)
    return chosen if valid is None else where(valid, chosen, math.nan)


def categorical_sample(logits: Values) -> Examples:
    """A class number for each row of logits (..., K), drawn from softmax(logits). Returns (...).

    The class with the largest logit + g, where g = -log(-log u) is Gumbel noise and u uniform, has
    the distribution softmax(logits) (the Gumbel-max trick).

    ValueError for NaN; on a GPU, where a check would have to wait, the class is then arbitrary.
    """
    (logits,) = classes_last("categorical_sample", logits=logits)
    scores = bare(logits)
    if isinstance(scores, np.ndarray) and np.isnan(scores).any():
        raise ValueError(
            f"categorical_sample: logits is {shown(logits)} and holds NaN, so the probabilities of "
            "its classes are undefined"
        )
    u = open_interval(drawn(backend.uniform, logits))
    return argmax(logits - log(-1.0 * log(u)), axis=-1)


def kl_categorical(logits: Values, prior_logits: Values) -> Examples:
    """KL between two categorical distributions, (..., K) and (..., K). Returns (...)."""
    q, p = classes_last("kl_categorical", logits=logits, prior_logits=prior_logits)
    if q.shape[-1] != p.shape[-1]:
        raise ValueError(
            f"kl_categorical: logits has {q.shape[-1]} classes and prior_logits {p.shape[-1]}; "
            "they must be equal"
        )
    log_q, log_p = log_softmax(q), log_softmax(p)
    return total(expected(exp(log_q), log_q, log_p), axis=-1)


# ── logistic ─────────────────────────────────────────────────────────────────────────────────────


def logistic_log_prob(x: Values, mean: Values, log_scale: Values) -> Examples:
    """The log-density of the logistic distribution, for each number. Its variance is s² π² / 3."""
    x, mean, log_scale = prepared("logistic_log_prob", x=x, mean=mean, log_scale=log_scale)
    z = (x - mean) * exp(-1.0 * log_scale)
    return -1.0 * log_scale - softplus(z) - softplus(-1.0 * z)


def logistic_sample(mean: Values, log_scale: Values, noise: Values | None = None) -> Examples:
    """mean + exp(log_scale) log(u / (1 - u)), reparametrised. noise: u, uniform in (0, 1)."""
    name = "logistic_sample"
    if noise is None:
        mean, log_scale = prepared(name, mean=mean, log_scale=log_scale)
        noise = drawn(backend.uniform, mean, log_scale)
    else:
        mean, log_scale, noise = prepared(name, mean=mean, log_scale=log_scale, noise=noise)
        valid = in_range(bare(noise), f"{name}: noise", 0, 1, "each must be between 0 and 1")
        noise = noise if valid is None else where(valid, noise, math.nan)
    u = open_interval(noise)
    return mean + exp(log_scale) * (log(u) - log(1 - u))


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────


def prepared(name: str, **values: Any) -> list[Any]:
    """These arguments of the function ``name``, with float16 as float32, and numbers in the dtype
    and on the device of the arrays. An error unless they are real numbers, or arrays and Tensors of
    them, that broadcast to each other."""
    reals(name, **values)
    numbers = int, float, np.generic
    arrays = [bare(value) for value in values.values() if not isinstance(value, numbers)]
    dtypes = [a.dtype for a in arrays if a.dtype.kind == "f"]
    dtype = np.result_type(np.float32, *dtypes) if arrays else np.dtype(np.float64)
    xp = next((array_module(a) for a in arrays if array_module(a) is not np), np)
    ready = []
    for argument, value in values.items():
        if isinstance(value, numbers):
            value = xp.full((), finite(value, f"{name}: {argument}"), dtype)
        elif value.dtype == np.float16:
            value = value.astype(np.float32)
        ready.append(value)
    return ready


def classes_last(name: str, **values: Any) -> list[Any]:
    """``prepared``, for arrays and Tensors of floats with classes on the last axis."""
    for argument, value in values.items():
        if number_kind(value) != "f" or not value.ndim or not value.shape[-1]:
            raise (ValueError if number_kind(value) == "f" else TypeError)(
                f"{name}: {argument} is {shown(value)}; it must be an array or a Tensor of floats "
                "(..., K), with at least one class on the last axis"
            )
    return prepared(name, **values)


def broadcast(*values: Any) -> list[Any]:
    """The values in their common shape."""
    shape = np.broadcast_shapes(*(tuple(getattr(v, "shape", ())) for v in values))
    return [v if tuple(getattr(v, "shape", ())) == shape else expand(v, shape) for v in values]


def drawn(draw: Any, *values: Any) -> Array:
    """Random numbers by ``draw`` of engine/backend.py, in the common shape of the values, on their
    device and in their dtype."""
    arrays = [bare(v) for v in values if hasattr(v, "shape")] or [np.zeros((), np.float32)]
    on_device = next((a for a in arrays if array_module(a) is not np), arrays[0])
    dtypes = [a.dtype for a in arrays if a.dtype.kind == "f"] or [np.dtype(np.float32)]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    noise = draw(shape, on_device, np.result_type(*dtypes))
    return Tensor(noise) if any(isinstance(v, Tensor) for v in values) else noise


def open_interval(u: Values) -> Examples:
    """u in [0, 1] moved into (0, 1), so that neither log u nor log(1 - u) is infinite. 2^-24 is the
    distance of 1 from the next smaller float32."""
    return clip(u, 2.0**-25, 1 - 2.0**-24)


def expected(share: Examples, log_q: Examples, log_p: Examples) -> Examples:
    """share · (log_q - log_p), but 0 where the share is 0 and the logarithms may be infinite:
    0 log 0 = 0. They are selected away before the product, so that their gradient is 0, not NaN."""
    counts = bare(share) != 0
    return share * (where(counts, log_q, 0.0) - where(counts, log_p, 0.0))


def in_range(
    array: Any, what: str, low: float, high: float, takes: str, error: type = ValueError
) -> Array | None:
    """None if all values are within the bounds; on the host this ``error`` for the first that is
    not. On a GPU the mask of those that are, because reading them would mean waiting."""
    valid = (array >= low) & (array <= high)
    if array_module(array) is not np:
        return valid
    if not np.all(valid):
        array, valid = np.asarray(array), np.asarray(valid)
        raise error(f"{what} holds {array[~valid].flat[0]}; {takes}")
    return None
