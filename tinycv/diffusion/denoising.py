"""Denoising diffusion: a network learns to see through noise (DDPM; Ho, Jain & Abbeel 2020).

    forward      q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t I)                      ibid., eq. 2
    in one leap  x_t = a x_0 + s ε,  ε ~ N(0, I)            ibid., eq. 4; a and s: schedule.py
    the loss     E |ε - ε_θ(x_t, t)|²,  t uniform                    ibid., eq. 14, L_simple

A network that sees x_t may be asked for the image, for the noise, or for a mixture of the two; each
answer gives the others, since x_t is known:

    ε                "eps"   the noise: easy at much noise; x_0 = (x_t - s ε) / a fails as a -> 0
    x_0              "x0"    the image: the other way round
    v = a ε - s x_0  "v"     good at either end, where a² + s² = 1      Salimans & Ho 2022, sec. 4

What is best in squared error is an average of all that may have been: E[x_0 | x_t], a blurred
image.  Everything that samples asks for that and no more: a denoiser, D(x, t) = E[x_0 | x_t = x].

Read before: schedule.py, tweedie.py.   Read next: samplers.py, unet.py, edm.py.
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

# ── what the network is asked for ─────────────────────────────────────────────────────────────────


def asked_for(predicts: str, x0: Examples, noise: Examples, a: Times, s: Times) -> Examples:
    """The right answer, "eps", "x0" or "v", for x_t = a x_0 + s ε."""
    choice(predicts, "asked_for: predicts", KINDS)
    reals("asked_for", x0=x0, noise=noise, a=a, s=s)
    if predicts == "eps":
        return noise
    return x0 if predicts == "x0" else a * noise - s * x0


def to_x0(predicts: str, answer: Examples, x: Examples, a: Times, s: Times) -> Examples:
    """The image in x = a x_0 + s ε, by an answer to ``asked_for``."""
    choice(predicts, "to_x0: predicts", KINDS)
    reals("to_x0", answer=answer, x=x, a=a, s=s)
    if predicts == "eps":
        return (x - s * answer) / a
    # a (a x_0 + s ε) - s (a ε - s x_0) = (a² + s²) x_0
    return answer if predicts == "x0" else a * x - s * answer


def to_noise(x0: Examples, x: Examples, a: Times, s: Times) -> Examples:
    """The noise in x = a x_0 + s ε, where x_0 is known."""
    reals("to_noise", x0=x0, x=x, a=a, s=s)
    return (x - a * x0) / s


# ── the loss, and what comes of it ───────────────────────────────────────────────────────────────


def diffusion_loss(
    model: Network, x0: Examples, *condition: Any, schedule: Schedule, predicts: str = "eps"
) -> Tensor:
    """Squared error of the model's answer at random times of the schedule: L_simple where it is
    "eps".

    model(x, t, *condition) sees x (B, ...), t (B,) and what else is known of each image, a label
    for example. The three answers differ in the loss by a factor alone: |Δε|² = (a/s)² |Δx_0|² and
    |Δv|² = |Δx_0|² / s².
    """
    schedule = _fitting(schedule, predicts, "diffusion_loss")
    batch(x0, "diffusion_loss: x0")
    model = answering(model, "diffusion_loss: model")
    t = schedule.random_times(x0)  # (B,)
    a, s = schedule.beside(x0, t)  # (B, 1, ...)
    noise = randn_like(Tensor(x0))
    answer = model(a * x0 + s * noise, Tensor(t), *condition)
    return mse_loss(answer, asked_for(predicts, x0, noise, a, s))


def denoiser(model: Network, schedule: Schedule, predicts: str = "eps") -> Denoiser:
    """D(x, t, *condition) = E[x_0 | x_t = x], by a model that was trained with ``diffusion_loss``.

    t: a number, or times (B,).
    """
    schedule = _fitting(schedule, predicts, "denoiser")
    model = answering(model, "denoiser: model")
    blind = predicts == "eps" and schedule.signal(schedule.last) == 0

    def denoise(x: Examples, t: Times, *condition: Any) -> Examples:
        a, s = schedule.beside(x, t)
        if blind:
            a = _image_left(a, t)
        times = schedule.each(x, t)
        answer = model(x, times if isinstance(times, Tensor) else Tensor(times), *condition)
        if predicts == "x0" and not isinstance(a, np.ndarray):
            # a is NaN where a GPU was given a time that the schedule has not
            answer = where(a == a, answer, math.nan)
        return to_x0(predicts, answer, x, a, s)

    return made_for(denoise, schedule)


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """The same, but no pixel leaves the range that images have: an early error is not carried on
    (Ho et al.'s code)."""
    schedule = getattr(denoise, "schedule", None)
    denoise = answering(denoise, "clipped: denoise")
    if not number(low, "clipped: low") < number(high, "clipped: high"):
        raise ValueError(f"clipped: low is {low} and high is {high}; low must be below high")

    def denoise_clipped(x: Examples, t: Times, *condition: Any) -> Examples:
        return clip(denoise(x, t, *condition), low, high)

    return made_for(denoise_clipped, schedule)


def _fitting(schedule: Schedule, predicts: str, who: str) -> Schedule:
    """The schedule, if what the network predicts fits to it."""
    choice(predicts, f"{who}: predicts", KINDS)
    schedule = schedule_in(schedule, who)
    if predicts == "v" and not schedule.keeps_variance:
        raise ValueError(
            f"{who}: predicts is 'v', which needs a schedule with a² + s² = 1: DDPM's or VP; with "
            f"{type(schedule).__name__} train the model for 'eps' or 'x0'"
        )
    return schedule


def _image_left(a: Examples, t: Times) -> Examples:
    """a (B, 1, ...), the share of the image that is left at the times t: ValueError where it is 0
    (on a GPU, NaN in its place)."""
    if isinstance(a, np.ndarray):
        if (a == 0).any():
            raise ValueError(
                f"denoiser: at time {shown(t)} nothing is left of the image (alpha_bar is 0), so "
                'its noise does not tell it; train the model for "v" or "x0"'
            )
        return a
    return where(a == 0, math.nan, a)
