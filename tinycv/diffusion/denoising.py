"""DDPM training: a network learns to predict the noise in an image (Ho, Jain & Abbeel 2020).

    forward      q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t I)                      ibid., eq. 2
    in one step  x_t = a x_0 + σ ε,  ε ~ N(0, I)            ibid., eq. 4; a and σ: schedule.py
    the loss     E |ε - ε_θ(x_t, t)|²,  t uniform                    ibid., eq. 14, L_simple

A network that sees x_t can predict the noise, the image, or a mixture of both.  Each prediction
gives the other two, because x_t is known:

    ε                "eps"   the noise: easy at high noise; x_0 = (x_t - σ ε) / a fails as a -> 0
    x_0              "x0"    the image: easy at low noise; ε = (x_t - a x_0) / σ fails as σ -> 0
    v = a ε - σ x_0  "v"     good at both ends, if a² + σ² = 1          Salimans & Ho 2022, sec. 4

The prediction with the least squared error is the average of all images that x_t may have come
from, E[x_0 | x_t]: a blurred image.  Samplers need this average and nothing else.  It is called the
denoiser, D(x, t) = E[x_0 | x_t = x].

The loss cannot reach 0.  Its minimum is the variance of the noise given x_t; at a time t, for
images of n pixels,

    E |ε - E[ε | x_t]|²  =  n - σ² E |∇ log p_t(x_t)|²                     (exact for any data)
                         =  Σ_i a² λ_i / (a² λ_i + σ²)                     for Gaussian data

with λ_i the variances of the data along their principal axes.  This follows from
E[ε | x_t] = -σ ∇ log p_t(x_t) (tweedie.py) and E |ε|² = n.  It is the constant in Vincent 2011,
eq. 11, by which the denoising loss differs from the loss of matching the score of the noised data
(score.py).

As a -> 0 the minimum tends to 0.  As σ -> 0 it tends to n for data with a smooth density, because
so little noise cannot be distinguished from detail, and to d for data on a sheet of d dimensions.
So a loss curve that flattens out above 0 may already be at its floor.  (``diffusion_loss`` is this
expectation divided by n and averaged over t.  tests/diffusion/test_diffusion.py checks its minimum
on a Gaussian.)

Read first: schedule.py, tweedie.py.   Read next: samplers.py, unet.py, edm.py.
See at work: demos/17_diffusion_digits.py.
Shapes: B images, of any shape (B, ...); times (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.diffusion.schedule import Schedule, Times, made_for, schedule_in
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.create import randn_like
from tinycv.engine.ops import clip, where
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import Examples, answering, batch, reals
from tinycv.nn.losses import mse_loss

KINDS = "eps", "x0", "v"
Network = Callable[..., Tensor]  # (x (B, ...), t (B,), *condition) -> (B, ...)

# ── what the network predicts ─────────────────────────────────────────────────────────────────────


def target_for(predicts: str, x0: Examples, noise: Examples, a: Times, sigma: Times) -> Examples:
    """The regression target for x_t = a x_0 + σ ε: ε for "eps", x_0 for "x0", v for "v"."""
    choice(predicts, "target_for: predicts", KINDS)
    reals("target_for", x0=x0, noise=noise, a=a, sigma=sigma)
    if predicts == "eps":
        return noise
    return x0 if predicts == "x0" else a * noise - sigma * x0


def to_x0(predicts: str, answer: Examples, x: Examples, a: Times, sigma: Times) -> Examples:
    """The image in x = a x_0 + σ ε, from a prediction of ``target_for``."""
    choice(predicts, "to_x0: predicts", KINDS)
    reals("to_x0", answer=answer, x=x, a=a, sigma=sigma)
    if predicts == "eps":
        return (x - sigma * answer) / a
    # a (a x_0 + σ ε) - σ (a ε - σ x_0) = (a² + σ²) x_0
    return answer if predicts == "x0" else a * x - sigma * answer


def to_noise(x0: Examples, x: Examples, a: Times, sigma: Times) -> Examples:
    """The noise in x = a x_0 + σ ε, from the image x_0."""
    reals("to_noise", x0=x0, x=x, a=a, sigma=sigma)
    return (x - a * x0) / sigma


# ── the loss, and the denoiser that a trained model gives ────────────────────────────────────────


def diffusion_loss(
    model: Network, x0: Examples, *condition: Any, schedule: Schedule, predicts: str = "eps"
) -> Tensor:
    """Mean squared error of the model's prediction at random times of the noise schedule; L_simple
    of DDPM if it predicts "eps".

    model(x, t, *condition) takes x (B, ...), t (B,) and any further input for each image, such as
    a label. The three choices weight the same error differently: |Δε|² = (a/σ)² |Δx_0|² and
    |Δv|² = |Δx_0|² / σ².
    """
    schedule = _fitting(schedule, predicts, "diffusion_loss")
    batch(x0, "diffusion_loss: x0")
    model = answering(model, "diffusion_loss: model")
    t = schedule.random_times(x0)  # (B,)
    a, sigma = schedule.marginal_for(x0, t)  # (B, 1, ...)
    noise = randn_like(Tensor(x0))
    answer = model(a * x0 + sigma * noise, Tensor(t), *condition)
    return mse_loss(answer, target_for(predicts, x0, noise, a, sigma))


def denoiser(model: Network, schedule: Schedule, predicts: str = "eps") -> Denoiser:
    """D(x, t, *condition) = E[x_0 | x_t = x], from a model trained with ``diffusion_loss``.

    t: a number, or times (B,).
    """
    schedule = _fitting(schedule, predicts, "denoiser")
    model = answering(model, "denoiser: model")
    ends_without_signal = predicts == "eps" and schedule.signal(schedule.last) == 0

    def denoise(x: Examples, t: Times, *condition: Any) -> Examples:
        a, sigma = schedule.marginal_for(x, t)
        if ends_without_signal:
            a = _refuse_no_signal(a, t)
        times = schedule.times_for(x, t)
        answer = model(x, times if isinstance(times, Tensor) else Tensor(times), *condition)
        if predicts == "x0" and not isinstance(a, np.ndarray):
            # On a GPU, a is NaN for a time that the schedule does not have. An "x0" answer is not
            # multiplied by a, so the NaN (the one value that differs from itself) is put in here.
            answer = where(a == a, answer, math.nan)
        return to_x0(predicts, answer, x, a, sigma)

    return made_for(denoise, schedule)


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """The same denoiser with its result clipped to the range of images, so that an early error is
    not carried on to later steps (as in the code of Ho et al.)."""
    schedule = getattr(denoise, "schedule", None)
    denoise = answering(denoise, "clipped: denoise")
    if not number(low, "clipped: low") < number(high, "clipped: high"):
        raise ValueError(f"clipped: low is {low} and high is {high}; low must be below high")

    def denoise_clipped(x: Examples, t: Times, *condition: Any) -> Examples:
        return clip(denoise(x, t, *condition), low, high)

    return made_for(denoise_clipped, schedule)


def _fitting(schedule: Schedule, predicts: str, who: str) -> Schedule:
    """The noise schedule; ValueError unless it allows this prediction."""
    choice(predicts, f"{who}: predicts", KINDS)
    schedule = schedule_in(schedule, who)
    if predicts == "v" and not schedule.keeps_variance:
        raise ValueError(
            f"{who}: predicts is 'v', which needs a schedule with a² + σ² = 1 (DDPM or VP); with "
            f"{type(schedule).__name__} train the model for 'eps' or 'x0'"
        )
    return schedule


def _refuse_no_signal(a: Examples, t: Times) -> Examples:
    """a (B, 1, ...), the signal levels at the times t; ValueError where one is 0 (on a GPU it
    becomes NaN instead)."""
    if isinstance(a, np.ndarray):
        if (a == 0).any():
            raise ValueError(
                f"denoiser: at time {shown(t)} nothing is left of the image (alpha_bar is 0), so "
                'it cannot be computed from the noise; train the model for "v" or "x0"'
            )
        return a
    return where(a == 0, math.nan, a)
