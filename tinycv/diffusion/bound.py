"""The variational bound of DDPM: how many nats or bits a diffusion model needs for an image.

    -log p(x_0)  <=  L  =  L_T + Σ_{t>1} L_{t-1} + L_0                        Ho et al. 2020, eq. 5
    L_T      =  KL( q(x_T | x_0) || N(0, I) )                  what is left of the image at the end
    L_{t-1}  =  KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) )               one for each step
    L_0      =  -log p(x_0 | x_1)                                             the decoder

A diffusion model is a VAE with T layers of latents x_1 ... x_T, whose encoder q adds noise and
needs no training.  So it has an ELBO, and L is minus the ELBO.  A step p(x_{t-1} | x_t) has the
mean of the posterior q(x_{t-1} | x_t, x_0), with the denoiser's image D in place of x_0:

    q(x_{t-1} | x_t, x_0) = N( μ̃(x_t, x_0), β̃_t I )                                   eq. 6 and 7
    μ̃(x_t, x_0) = √ᾱ_{t-1} β_t / (1 - ᾱ_t) x_0  +  √α_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t) x_t
    p(x_{t-1} | x_t) = N( μ̃(x_t, D(x_t, t)), r_t² I )

The variance r_t² is β_t ("large"), β̃_t = β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t) ("small"), or learned.
β̃_1 is 0, because q knows x_0.  So with "small" the decoder has the variance β̃_2, as in the code
of Ho et al. (differs: in that code it is β̃_2 with "large" too; here it is β_1).  A learned variance
lies between the two on a logarithmic scale.  Its v is a second output of the network, one number
for each pixel:

    log r² = v log β_t + (1 - v) log β̃_t                      Nichol & Dhariwal 2021, eq. 15
    L_hybrid = L_simple + λ L,   λ = 0.001                    ibid., eq. 16

L_simple is the loss of DDPM (denoising.py).  In L_hybrid, L trains only the variance: D is detached
in it, so that L_simple alone trains the mean.

Pixels with few levels need a decoder that is a probability, not a density.  L_0 then comes from the
integral of the normal density over the bin of the pixel's level (Ho et al. 2020, eq. 13).  Without
levels it comes from the density itself, for continuous data such as the latents of an autoencoder.

If the data are N(0, I) and D is exact, p(x_{t-1} | x_t) with r² = β_t is exactly q(x_{t-1} | x_t).
Then the bound is tight: L is the entropy, 1.419 nats per dimension, for any number of steps.  With
r² = β̃_t it is 1.998 (for linear_schedule(1000)).  tests/diffusion/test_bound.py checks both.

Read first: denoising.py, samplers.py, nn/discretized.py.   See at work: demos/23_latent_score.py
with --full.
Shapes: B examples x (B, ...), times t (B,), T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinycv.diffusion.denoising import KINDS, Network, denoiser, target_for, to_x0
from tinycv.diffusion.samplers import learned_log_variance
from tinycv.diffusion.schedule import DDPM, Times, refuse_another
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import choice, function, shown, size
from tinycv.engine.backend import Array, array_module, constant
from tinycv.engine.create import randn_like
from tinycv.engine.methods import stack
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.nn.discretized import discretized_normal_log_prob
from tinycv.nn.distributions import kl_normal, normal_log_prob
from tinycv.nn.inputs import (
    Examples,
    answer,
    answering,
    batch,
    finite,
    in_float32,
    integers,
    is_number,
    reals,
)
from tinycv.nn.losses import mse_loss

# v(x, t) of eq. 15, in the shape of x: 0 for the smaller variance β̃_t, 1 for the larger one, β_t
Between = Callable[..., Examples]


class Bound(NamedTuple):
    """The terms of the bound, in nats for each example: arrays on the device of the images."""

    prior: Array  # L_T (B,)
    steps: Array  # L_{t-1} for t = 2 ... T: (B, T - 1)
    decoder: Array  # L_0 (B,)

    @property
    def total(self) -> Array:
        """L (B,). Its mean over the noise is at least -log p(x_0)."""
        return self.prior + self.steps.sum(axis=1) + self.decoder


@no_grad()
def variational_bound(
    denoise: Denoiser,
    x0: Examples,
    schedule: DDPM,
    variance: str | Between = "large",
    levels: int | None = None,
) -> Bound:
    """The terms of L for images x0 (B, ...). It draws one x_t for each t, and calls the denoiser T
    times for the whole batch.

    variance: "large", "small", or a function v(x, t), such as ``denoiser_and_v`` returns.
    levels: the pixels of x0 have this many levels, evenly spaced from -1 to 1, and L bounds the
    probability of the image. None: x0 is continuous, and L bounds its density.
    """
    who = "variational_bound"
    schedule = _ddpm(schedule, who)
    refuse_another(denoise, schedule, who, "denoise")
    denoise = answering(denoise, f"{who}: denoise")
    if not callable(variance):
        choice(variance, f"{who}: variance", ("large", "small"))
    levels = None if levels is None else size(levels, f"{who}: levels", 2)
    x0 = in_float32(bare(batch(x0, f"{who}: x0")))

    steps = []
    for t in range(1, schedule.last + 1):
        x = schedule.perturb(x0, t, bare(randn_like(Tensor(x0))))
        times = schedule.times_for(x, t)
        d = bare(denoise(x, times))
        log_var = bare(log_variance(schedule, x, times, variance))
        if t == 1:
            decoder = decoder_term(x0, d, log_var, levels)
        else:
            steps.append(step_term(schedule, x0, x, times, d, log_var))
    return Bound(prior_term(schedule, x0), stack(steps, axis=1), decoder)


# ── the terms, in nats for each example: (B,) ────────────────────────────────────────────────────


def prior_term(schedule: DDPM, x0: Examples) -> Examples:
    """L_T = KL(N(a x_0, σ² I) || N(0, I)) at the last time, for x0 (B, ...)."""
    a, sigma = _ddpm(schedule, "prior_term").marginal(schedule.last)
    return _sum(kl_normal(a * batch(x0, "prior_term: x0"), 2 * math.log(sigma)))


def step_term(
    schedule: DDPM, x0: Examples, x: Examples, t: Times, denoised: Examples, log_var: Examples
) -> Examples:
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || N(μ̃(x_t, D), r²)) for the times t (B,) from 2 on.

    x: x_t, in the shape of x0 (B, ...). denoised: D(x, t). log_var: log r², which broadcasts to x0.
    """
    reals("step_term", x0=x0, x=x, denoised=denoised, log_var=log_var)
    _, log_small = log_variances(schedule, x, t)
    mean = posterior_mean(schedule, x0, x, t)  # (B, ...)
    model_mean = posterior_mean(schedule, denoised, x, t)
    return _sum(kl_normal(mean, log_small, model_mean, log_var))


def decoder_term(
    x0: Examples, denoised: Examples, log_var: Examples, levels: int | None = None
) -> Examples:
    """L_0 = -log p(x_0 | x_1): a probability if the pixels have ``levels``, otherwise a density.

    denoised: D(x_1, 1), which is the mean, because μ̃(x_1, D) = D.
    """
    batch(x0, "decoder_term: x0")
    if levels is None:
        return -_sum(normal_log_prob(x0, denoised, log_var))
    return -_sum(discretized_normal_log_prob(x0, denoised, log_var, levels))


def _sum(values: Examples) -> Examples:
    """values (B, ...) summed over everything but the batch: (B,)."""
    return values.reshape((len(values), math.prod(values.shape[1:]))).sum(axis=1)


# ── the steps: posterior and variances ───────────────────────────────────────────────────────────


def posterior_mean(schedule: DDPM, x0: Examples, x: Examples, t: Times) -> Examples:
    """μ̃(x_t, x_0), the mean of q(x_{t-1} | x_t, x_0), for x0 and x (B, ...) and t (B,)."""
    reals("posterior_mean", x0=x0, x=x)
    _, _, of_x0, of_x = _coefficients("posterior_mean", schedule, x, t)
    return of_x0 * x0 + of_x * x


def log_variances(schedule: DDPM, x: Examples, t: Times) -> tuple[Examples, Examples]:
    """log β_t and log β̃_t (log β̃_2 if t is 1), in the shape (B, 1, ...), for x (B, ...)."""
    log_large, log_small, _, _ = _coefficients("log_variances", schedule, x, t)
    return log_large, log_small


def log_variance(schedule: DDPM, x: Examples, t: Times, variance: str | Between) -> Examples:
    """log r² of the step from x at t: (B, 1, ...), or in the shape of x for a learned variance."""
    log_large, log_small = log_variances(schedule, x, t)
    if not callable(variance):
        choice(variance, "log_variance: variance", ("large", "small"))
        return log_large if variance == "large" else log_small
    v = answering(variance, "log_variance: variance")(x, t)
    return learned_log_variance(v, log_large, log_small)


def _coefficients(who: str, schedule: DDPM, x: Examples, t: Times) -> list[Examples]:
    """log β_t, log β̃_t, and the weights of x_0 and x_t in μ̃, each (B, 1, ...), in the dtype of x
    and on its device."""
    schedule = _ddpm(schedule, who)
    times = t if is_number(t) else integers(t, f"{who}: t")
    times = bare(schedule.times_for(batch(x, f"{who}: x"), times))
    wrong = (times < 1) | (times > schedule.last)
    if not isinstance(times, np.ndarray):
        times = ops.where(wrong, 0, times)  # column 0 of the table is NaN
    elif wrong.any():
        raise IndexError(
            f"{who}: t holds {times[wrong][0]}; steps end at the times 1 to {schedule.last}"
        )
    rows = constant(array_module(times), _table(schedule))[:, times]  # (4, B)
    shape = (len(x),) + (1,) * (x.ndim - 1)
    return [row.astype(x.dtype).reshape(shape) for row in rows]


def _table(schedule: DDPM) -> np.ndarray:
    """The coefficients of each step, by t = 0 ... T: (4, T + 1). There is no step at t = 0, so its
    column holds NaN."""
    before, after = schedule.alpha_bar[:-1], schedule.alpha_bar[1:]  # ᾱ_{t-1} and ᾱ_t
    alpha = after / before
    beta = 1 - alpha
    small = beta * (1 - before) / (1 - after)
    small[0] = small[1]  # β̃_1 is 0; see the top of the file
    of_x0 = before**0.5 * beta / (1 - after)
    of_x = alpha**0.5 * (1 - before) / (1 - after)
    table = np.stack([np.log(beta), np.log(small), of_x0, of_x])
    return np.concatenate([np.full((4, 1), np.nan), table], axis=1)


# ── learned variances ────────────────────────────────────────────────────────────────────────────


def hybrid_loss(
    model: Network,
    x0: Examples,
    *condition: Any,
    schedule: DDPM,
    predicts: str = "eps",
    levels: int | None = None,
    weight: float = 0.001,
) -> Tensor:
    """L_simple + λ L at random times, both as a mean over the pixels (Nichol & Dhariwal 2021, eq.
    16). λ is ``weight``.

    model(x, t, *condition) returns (B, 2 C, ...) for x (B, C, ...): the prediction, and v.
    differs: L is in nats, as everywhere here; the code of the paper counts it in bits.
    """
    who = "hybrid_loss"
    schedule = _ddpm(schedule, who)
    choice(predicts, f"{who}: predicts", KINDS)
    model, weight = function(model, f"{who}: model"), finite(weight, f"{who}: weight", low=0)
    levels = None if levels is None else size(levels, f"{who}: levels", 2)
    if batch(x0, f"{who}: x0").ndim < 2:
        raise ValueError(f"{who}: x0 has shape {tuple(x0.shape)}; it must be (B, C, ...)")
    if predicts == "eps" and schedule.signal(schedule.last) == 0:
        raise ValueError(
            f"{who}: predicts is 'eps', but nothing is left of the image at the last time of this "
            "schedule, so it cannot be computed from the noise; predict 'v' or 'x0'"
        )
    t = schedule.random_times(x0)  # (B,)
    a, sigma = schedule.marginal_for(x0, t)
    noise = randn_like(Tensor(x0))
    x = a * x0 + sigma * noise
    prediction, v = _halves(model(x, Tensor(t), *condition), x, f"{who}: model")
    simple = mse_loss(prediction, target_for(predicts, x0, noise, a, sigma))

    d = to_x0(predicts, prediction.detach(), x, a, sigma)
    log_var = learned_log_variance(v, *log_variances(schedule, x, t))
    decoder, step = decoder_term(x0, d, log_var, levels), step_term(schedule, x0, x, t, d, log_var)
    terms = ops.where(bare(t) == 1, decoder, step)  # (B,)
    pixels = math.prod(x0.shape[1:])
    # t is uniform over T steps, so T times the mean term estimates the sum of all terms.
    return simple + weight * schedule.last * terms.mean() / pixels


def denoiser_and_v(
    model: Network, schedule: DDPM, predicts: str = "eps"
) -> tuple[Denoiser, Between]:
    """A denoiser and v(x, t, *condition), from a model that ``hybrid_loss`` trained.
    ``variational_bound`` and ``ddpm_step`` take both, v as their argument ``variance``.

    Each of the two calls the network, so a step costs two evaluations.
    """
    schedule = _ddpm(schedule, "denoiser_and_v")
    model = function(model, "denoiser_and_v: model")

    def prediction(x: Examples, t: Times, *condition: Any) -> Examples:
        return _halves(model(x, t, *condition), x, "denoiser_and_v: model")[0]

    def v(x: Examples, t: Times, *condition: Any) -> Examples:
        times = schedule.times_for(x, t)
        times = times if isinstance(times, Tensor) else Tensor(times)
        return _halves(model(x, times, *condition), x, "denoiser_and_v: model")[1]

    return denoiser(prediction, schedule, predicts), v


def _halves(value: Tensor, x: Examples, what: str) -> tuple[Tensor, Tensor]:
    """The two halves of (B, 2 C, ...) along axis 1, each in the shape of x (B, C, ...)."""
    channels = batch(x, f"{what}: x").shape[1]
    answer(value, (len(x), 2 * channels, *x.shape[2:]), what)
    return value[:, :channels], value[:, channels:]


def _ddpm(schedule: Any, who: str) -> DDPM:
    """The schedule; an error unless it is a DDPM with at least two steps that all add noise."""
    if not isinstance(schedule, DDPM):
        raise TypeError(
            f"{who}: schedule is {shown(schedule)}; it must be a DDPM schedule, such as "
            "linear_schedule(1000) or cosine_schedule(1000)"
        )
    if schedule.last < 2 or (np.diff(schedule.alpha_bar) == 0).any():
        raise ValueError(
            f"{who}: schedule has {schedule.last} steps; there must be at least two, and each must "
            "add noise"
        )
    return schedule
