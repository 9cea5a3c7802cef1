"""Tweedie's formula: the score is the best denoiser in other words, and the other way round.

    ∇ log p_t(x) = (a D(x, t) - x) / s²                                  Efron 2011, eq. 1.4
    D(x, t) = E[x_0 | x_t = x] = (x + s² ∇ log p_t(x)) / a

for x_t = a x_0 + s ε.  The noise that D finds in x is ε̂ = (x - a D) / s, so the score is -ε̂ / s:
a network that is asked for the image, for the noise or for the score learns one thing.  A model of
denoising.py can drive the reverse SDE (sde.py), and an exact score can drive DDPM (samplers.py).

Read before: schedule.py.   Read next: denoising.py, score.py.   Shapes: x (B, ...), times (B,).
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
    """The score of the noised data, (x, t) -> (B, ...), by a denoiser. t: above 0, where s is 0."""
    schedule = schedule_in(schedule, "score_of")
    refuse_another(denoiser, schedule, "score_of", "denoiser")
    denoiser = answering(denoiser, "score_of: denoiser")

    def score(x: Examples, t: Times, *condition: Any) -> Examples:
        a, s = schedule.beside(x, t)
        return (a * denoiser(x, schedule.each(x, t), *condition) - x) / s / s

    return made_for(score, schedule)


def denoiser_of(score: Score, schedule: Schedule) -> Denoiser:
    """The denoiser, (x, t) -> (B, ...), by a score. t: a time at which signal is left."""
    schedule = schedule_in(schedule, "denoiser_of")
    refuse_another(score, schedule, "denoiser_of", "score")
    score = answering(score, "denoiser_of: score")

    def denoise(x: Examples, t: Times, *condition: Any) -> Examples:
        a, s = schedule.beside(x, t)
        return (x + s * (s * score(x, schedule.each(x, t), *condition))) / a

    return made_for(denoise, schedule)
