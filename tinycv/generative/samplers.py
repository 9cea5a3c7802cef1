"""Samplers: from noise to an image, by a denoiser.

A step takes x from time t to an earlier time s; all of them ask D(x, t) for the image that may be in x, and differ in
how much of their way they go, and in how much new noise they put in.

    x_s ~ N( √ᾱ_s β/(1 - ᾱ_t) D + √α (1 - ᾱ_s)/(1 - ᾱ_t) x,  σ² I ),   α = ᾱ_t / ᾱ_s,  β = 1 - α       (DDPM)
    σ² = β  or  β (1 - ᾱ_s)/(1 - ᾱ_t)                             Ho, Jain & Abbeel 2020, eq. 6, 7 and section 3.2

    x_s = √ᾱ_s D + √(1 - ᾱ_s - σ²) ε̂ + σ z,   ε̂ = (x - √ᾱ_t D)/√(1 - ᾱ_t)                            (DDIM)
    σ = η √((1 - ᾱ_s)/(1 - ᾱ_t)) √(1 - ᾱ_t/ᾱ_s)                   Song, Meng & Ermon 2021, eq. 12 and 16

Both have q(x_s | x_0) right if D is, whatever σ is.  With η = 1 DDIM is DDPM with the smaller variance; with η = 0 nothing
is random but the start: noise and image belong together, and few long steps do.  DDPM's formulas are written for s = t - 1;
here s may be any earlier time, as if the schedule had these times only.

    step = partial(ddim_step, clipped(denoiser(model, alpha_bar, "v")), alpha_bar)
    images = sample(step, tinycv.randn(64, 1, 28, 28), times(alpha_bar, 50))

Read before: diffusion.py.   Read next: guidance.py, inpaint.py, edm.py.   Shapes: x (B, ...).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinycv.engine.tensor import no_grad
from tinycv.generative.diffusion import Denoiser, normal_like, signal_and_noise, to_noise

Step = Callable[[Any, Any, Any], Any]           # (x at time t, t, s) -> x at time s


def ddpm_step(denoise: Denoiser, alpha_bar: np.ndarray, x: Any, t: int, s: int, variance: str = "large") -> Any:
    """Ancestral sampling. variance: "large" is β, right if the images are noise of variance 1; "small" is right if they
    are one single image. No noise comes in a step to time 0 (algorithm 2)."""
    if variance not in ("large", "small"):
        raise ValueError(f'variance is {variance!r}; it must be "large" or "small"')
    at, earlier = alpha_bar[t], alpha_bar[s]
    alpha = at / earlier
    beta, left = 1 - alpha, (1 - earlier) / (1 - at)                # left: of the noise's variance
    x = float(earlier ** 0.5 * beta / (1 - at)) * denoise(x, t) + float(alpha ** 0.5 * left) * x
    sigma = (beta if variance == "large" else beta * left) ** 0.5
    return x + float(sigma) * normal_like(x) if s else x


def ddim_step(denoise: Denoiser, alpha_bar: np.ndarray, x: Any, t: int, s: int, eta: float = 0.0) -> Any:
    """Noise is taken out down to the level of time s, and a share of what stays is drawn anew: eta² of what DDPM draws."""
    (a, b), (a_s, b_s) = signal_and_noise(alpha_bar, t, x), signal_and_noise(alpha_bar, s, x)
    sigma = eta * b_s / b * float((1 - alpha_bar[t] / alpha_bar[s]) ** 0.5)
    x0 = denoise(x, t)
    kept = a_s * x0 + (b_s * b_s - sigma * sigma) ** 0.5 * to_noise(x0, x, a, b)
    return kept + sigma * normal_like(x) if sigma else kept


def times(alpha_bar: np.ndarray, steps: int | None = None) -> np.ndarray:
    """Integers T ... 0 (steps + 1,), as evenly spaced as they can be; all of them where steps is left out.

    differs: Song et al. count ⌊c i⌋ from below, and begin a little before T."""
    last = len(alpha_bar) - 1
    steps = last if steps is None else steps
    if not 1 <= steps <= last:
        raise ValueError(f"steps is {steps}; a schedule of {last} steps can be walked in 1 to {last}")
    return np.round(np.linspace(last, 0, steps + 1)).astype(int)


def trajectory(step: Step, x: Any, times: Sequence) -> Iterator[tuple[Any, Any]]:
    """(time, x at that time) for all of ``times``, the first of which is where x is now."""
    yield times[0], x
    for t, s in zip(times, times[1:], strict=False):
        with no_grad():
            x = step(x, t, s)
        yield s, x


def sample(step: Step, x: Any, times: Sequence) -> Any:
    """Where the trajectory ends: x at the last of ``times``."""
    (_, x), = deque(trajectory(step, x, times), maxlen=1)           # a deque of one: the others are let go
    return x
