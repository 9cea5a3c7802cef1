"""Samplers: from noise to an image, by a denoiser.

A step takes x from time t to an earlier time s; all of them ask D(x, t) for the image that may be
in x, and differ in how much of their way they go, and in how much new noise they put in.

    x_s ~ N( √ᾱ_s β/(1 - ᾱ_t) D + √α (1 - ᾱ_s)/(1 - ᾱ_t) x,  σ² I ),   α = ᾱ_t / ᾱ_s,  β = 1 - α       (DDPM)
    σ² = β  or  β (1 - ᾱ_s)/(1 - ᾱ_t)               Ho, Jain & Abbeel 2020, eq. 6, 7 and section 3.2

    x_s = √ᾱ_s D + √(1 - ᾱ_s - σ²) ε̂ + σ z,   ε̂ = (x - √ᾱ_t D)/√(1 - ᾱ_t)                   (DDIM)
    σ = η √((1 - ᾱ_s)/(1 - ᾱ_t)) √(1 - ᾱ_t/ᾱ_s)          Song, Meng & Ermon 2021, eq. 12 and 16

DDIM reproduces q(x_s | x_0) for every σ if the denoiser is exact; DDPM does only with the smaller
variance, which is that of the posterior q(x_s | x_t, x_0).  With η = 1 DDIM is DDPM with the
smaller variance.  With η = 0 only the start is
random: each noise belongs to one image, and a few long steps are enough.  DDPM's formulas are
written for s = t - 1; here s may be any earlier time, as if the schedule had these times only.

    step = partial(ddim_step, clipped(denoiser(model, alpha_bar, "v")), alpha_bar)
    images = sample(step, tinycv.randn(64, 1, 28, 28), times(alpha_bar, 50))

Read before: denoising.py.   Read next: guidance.py, inpaint.py, edm.py.   Shapes: x (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinycv.diffusion.denoising import Denoiser, normal_like, schedule, signal_and_noise, to_noise
from tinycv.engine.arguments import NOT_SIZES, choice, number, shown, size
from tinycv.engine.tensor import bare, no_grad
from tinycv.nn.inputs import answer, answering, batch, function, in_dtype_of, whole_time

Step = Callable[[Any, Any, Any], Any]  # (x at time t, t, s) -> x at time s


def ddpm_step(
    denoise: Denoiser, alpha_bar: np.ndarray, x: Any, t: int, s: int, variance: str = "large"
) -> Any:
    """Ancestral sampling. variance: "large" is β, right if the images are noise of variance 1;
    "small" is right if they are one single image. No noise comes in a step to time 0 (algorithm
    2)."""
    choice(variance, "ddpm_step: variance", ("large", "small"))
    alpha_bar, t, s = checked_step("ddpm_step", alpha_bar, x, t, s)
    at, earlier = alpha_bar[t], alpha_bar[s]
    alpha = at / earlier
    beta, left = 1 - alpha, (1 - earlier) / (1 - at)  # left: of the noise's variance
    x0 = answering(denoise, "ddpm_step: denoise")(x, t)
    if s == 0:
        # nothing of x is left, and no noise comes in
        return in_dtype_of(x, x0)
    mean = float(earlier**0.5 * beta / (1 - at)) * x0 + float(alpha**0.5 * left) * x
    sigma = (beta if variance == "large" else beta * left) ** 0.5
    return in_dtype_of(x, mean + float(sigma) * normal_like(x))


def ddim_step(
    denoise: Denoiser, alpha_bar: np.ndarray, x: Any, t: int, s: int, eta: float = 0.0
) -> Any:
    """Noise is taken out down to the level of time s, and a share of what stays is drawn anew: eta²
    of what DDPM draws.

    eta: from 0 to 1. Above 1 more noise would be drawn than there is at time s.
    """
    eta = number(eta, "ddim_step: eta", 0, 1)
    alpha_bar, t, s = checked_step("ddim_step", alpha_bar, x, t, s)
    (a, b), (a_s, b_s) = signal_and_noise(alpha_bar, t, x), signal_and_noise(alpha_bar, s, x)
    sigma = eta * b_s / b * float((1 - alpha_bar[t] / alpha_bar[s]) ** 0.5)
    x0 = answering(denoise, "ddim_step: denoise")(x, t)
    # rounding must not take the root of less than 0
    stays = max(0.0, b_s * b_s - sigma * sigma) ** 0.5
    # at time 0 x is not read
    kept = a_s * x0 + stays * to_noise(x0, x, a, b) if stays else a_s * x0
    return in_dtype_of(x, kept + sigma * normal_like(x) if sigma else kept)


def checked_step(name: str, alpha_bar: Any, x: Any, t: Any, s: Any) -> tuple[np.ndarray, int, int]:
    """The schedule in float64 and both times, if the step from t to s takes noise out of a batch
    x."""
    alpha_bar = schedule(alpha_bar, name)
    batch(x, f"{name}: x")
    t, s = (
        whole_time(time, f"{name}: {which}", len(alpha_bar) - 1)
        for which, time in (("t", t), ("s", s))
    )
    if not s < t:
        raise ValueError(
            f"{name}: t is {t} and s is {s}; a step goes to an earlier time, so s must be below t"
        )
    if not alpha_bar[t] < alpha_bar[s]:
        raise ValueError(
            f"{name}: alpha_bar is {alpha_bar[t]:.3g} at times {t} and {s}; there must be noise "
            "between them"
        )
    return alpha_bar, t, s


def times(alpha_bar: np.ndarray, steps: int | None = None) -> np.ndarray:
    """Integers T ... 0 (steps + 1,), as evenly spaced as they can be; all of them where steps is
    left out.

    differs: Song et al. count ⌊c i⌋ from below, and begin a little before T."""
    last = len(schedule(alpha_bar, "times")) - 1
    steps = last if steps is None else size(steps, "times: steps", -last)
    if not 1 <= steps <= last:
        raise ValueError(
            f"times: steps is {steps}; a schedule of {last} steps can be walked in 1 to {last}"
        )
    return np.round(np.linspace(last, 0, steps + 1)).astype(int)


def trajectory(step: Step, x: Any, times: Sequence) -> Iterator[tuple[Any, Any]]:
    """(time, x at that time) for all of ``times``, the first of which is where x is now."""
    return _walked("trajectory", step, x, times)


def _walked(who: str, step: Step, x: Any, times: Sequence) -> Iterator[tuple[Any, Any]]:
    """``trajectory`` for who asked for it: the arguments are checked at once, the steps are taken
    one at a time."""
    function(step, f"{who}: step")
    batch(x, f"{who}: x")
    ndim = getattr(bare(times), "ndim", 1)
    if isinstance(times, NOT_SIZES) or ndim != 1 or not hasattr(times, "__len__") or not len(times):
        raise (
            TypeError
            if not hasattr(times, "__len__") or isinstance(times, NOT_SIZES)
            else ValueError
        )(f"{who}: times is {shown(times)}; it must be a sequence of at least one time")
    return _steps(who, step, x, times)


def _steps(who: str, step: Step, x: Any, times: Sequence) -> Iterator[tuple[Any, Any]]:
    yield times[0], x
    for t, s in zip(times, times[1:], strict=False):
        with no_grad():
            x = in_dtype_of(x, answer(step(x, t, s), x.shape, f"{who}: step"))
        yield s, x


def sample(step: Step, x: Any, times: Sequence) -> Any:
    """Where the trajectory ends: x at the last of ``times``."""
    last = x
    for _, at_time in _walked("sample", step, x, times):
        last = at_time  # the earlier ones are let go
    return last
