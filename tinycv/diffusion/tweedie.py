"""Tweedie's formula: the score and the best denoiser determine each other.

    ∇ log p_t(x) = (a D(x, t) - x) / σ²                                  Efron 2011, eq. 1.4
    D(x, t) = E[x_0 | x_t = x] = (x + σ² ∇ log p_t(x)) / a

for x_t = a x_0 + σ ε.  The noise that D finds in x is ε̂ = (x - a D) / σ, so the score is -ε̂ / σ.
A network that predicts the image, the noise or the score therefore learns the same thing.  A model
trained as in denoising.py can drive the reverse SDE (sde.py), and an exact score can drive DDPM
(samplers.py).

Read first: schedule.py.   Read next: denoising.py, score.py.   Shapes: x (B, ...), times (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinycv.diffusion.schedule import Schedule, Times, made_for, refuse_another, schedule_in
from tinycv.nn.inputs import Examples, answering

# (x (B, ...), times (B,)) -> (B, ...): E[x_0 | x_t = x], and grad log p_t(x)
Denoiser = Callable[..., Examples]
Score = Callable[..., Examples]


def score_of(denoiser: Denoiser, schedule: Schedule) -> Score:
    """The score of the noised data, (x, t) -> (B, ...), from a denoiser. t must be above 0: at time
    0 the noise level, by which the formula divides, is 0."""
    schedule = schedule_in(schedule, "score_of")
    refuse_another(denoiser, schedule, "score_of", "denoiser")
    denoiser = answering(denoiser, "score_of: denoiser")

    def score(x: Examples, t: Times, *condition: Any) -> Examples:
        a, sigma = schedule.marginal_for(x, t)
        # two divisions: the square of a small sigma could underflow
        return (a * denoiser(x, schedule.times_for(x, t), *condition) - x) / sigma / sigma

    return made_for(score, schedule)


def denoiser_of(score: Score, schedule: Schedule) -> Denoiser:
    """The denoiser, (x, t) -> (B, ...), from a score. t: a time at which signal is left."""
    schedule = schedule_in(schedule, "denoiser_of")
    refuse_another(score, schedule, "denoiser_of", "score")
    score = answering(score, "denoiser_of: score")

    def denoise(x: Examples, t: Times, *condition: Any) -> Examples:
        a, sigma = schedule.marginal_for(x, t)
        return (x + sigma * (sigma * score(x, schedule.times_for(x, t), *condition))) / a

    return made_for(denoise, schedule)
