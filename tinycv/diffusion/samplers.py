"""Samplers: from noise to an image, by one loop over times that fall (DDPM, DDIM and all others).

A step is a function (x, t, s) -> x: it takes x from time t to an earlier time s.  ``sample`` walks
along the times, and ``trajectory`` shows every x on the way.  The steps are

    ddpm_step, ddim_step                       by a denoiser      here
    heun_step                                  by a denoiser      edm.py
    of euler_maruyama, predictor_corrector     up a score         sde.py
    of ula, annealed                           up a score         langevin.py
    of solve                                   along a flow       ode.py

The two here ask a denoiser for the image D(x, t) that may be in x, and differ in how much new noise
they put in.  With a_t, s_t and a_s, s_s the signal and the noise at both times, and α, β of
q(x_t | x_s) = N(α x_s, β I) (schedule.py):

    x_s ~ N( a_s β / s_t² D + α s_s² / s_t² x,  r² I ),   r² = β  or  β s_s² / s_t²     (DDPM)
                                           Ho, Jain & Abbeel 2020, eq. 6, 7 and section 3.2
    x_s = a_s D + √(s_s² - r²) ε̂ + r z,   ε̂ = (x - a_t D) / s_t,   r² = η² β s_s² / s_t²  (DDIM)
                                           Song, Meng & Ermon 2021, eq. 12 and 16

The new noise r is σ in both papers.  DDIM reproduces q(x_s | x_0) for every r if the denoiser is
exact; DDPM does only with the smaller variance, which is that of the posterior q(x_s | x_t, x_0).
With η = 1 DDIM is DDPM with the smaller variance.  With η = 0 only the start is random: each noise
belongs to one image, and a few long steps are enough.  DDPM's formulas are written for s = t - 1;
here s may be any earlier time, as if the schedule had these times only.

    step = partial(ddim_step, clipped(denoiser(model, schedule, "v")), schedule)
    images = sample(step, tinycv.randn(64, 1, 28, 28), schedule.times(50))

Read before: schedule.py, denoising.py.   Read next: guidance.py, inpaint.py, edm.py, langevin.py.
Shapes: x (B, ...); t and s are numbers, and a denoiser gets t (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinycv.diffusion.denoising import to_noise
from tinycv.diffusion.schedule import DDPM, Schedule, refuse_another, schedule_in
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine.arguments import NOT_SIZES, choice, number, shown, size
from tinycv.engine.backend import Array
from tinycv.engine.create import randn_like
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.nn.inputs import Examples, answer, answering, batch, function, in_dtype_of

Step = Callable[[Any, float, float], Examples]  # (x at time t, t, s) -> x at time s

# ── the loop ─────────────────────────────────────────────────────────────────────────────────────


def trajectory(
    step: Step, x: Examples, times: Sequence[float] | np.ndarray
) -> Iterator[tuple[float, Examples]]:
    """(time, x at that time) for all of ``times``, the first of which is where x is now.

    The arguments are checked at once; the steps are taken one at a time, as they are asked for.
    """
    return _walked("trajectory", step, x, times)


def sample(step: Step, x: Examples, times: Sequence[float] | np.ndarray) -> Examples:
    """Where the trajectory ends: x at the last of ``times``."""
    last = x
    for _, reached in _walked("sample", step, x, times):
        last = reached  # the earlier ones are let go
    return last


def _walked(
    who: str, step: Step, x: Examples, times: Sequence[float] | np.ndarray
) -> Iterator[tuple[float, Examples]]:
    """``trajectory``, for the function that the errors name."""
    function(step, f"{who}: step")
    batch(x, f"{who}: x")
    is_sequence = hasattr(times, "__len__") and not isinstance(times, NOT_SIZES)
    if not is_sequence or getattr(times, "ndim", 1) != 1 or not len(times):
        error = ValueError if is_sequence else TypeError
        raise error(f"{who}: times is {shown(times)}; it must be a sequence of at least one time")
    return _steps(who, step, x, times)


def _steps(
    who: str, step: Step, x: Examples, times: Sequence[float] | np.ndarray
) -> Iterator[tuple[float, Examples]]:
    yield times[0], x
    for t, s in zip(times, times[1:], strict=False):
        with no_grad():
            x = in_dtype_of(x, answer(step(x, t, s), x.shape, f"{who}: step"))
        yield s, x


def sample_and_keep(
    step: Step, x: Examples, times: Sequence[float] | np.ndarray, every: int
) -> tuple[Examples, list[Examples]]:
    """Where the trajectory ends, and a list of the points before every step that is kept: the
    first, and each ``every``-th after it. every = 0 keeps none."""
    last, path = x, []
    for i, (_, last) in enumerate(trajectory(step, x, times)):
        if every and i % every == 0 and i + 1 < len(times):
            path.append(last)
    return last, path


def points(x: Examples, what: str, ndim: int | None = None) -> Array:
    """Points (B, ...) as an array of their device: what samplers up a score walk with."""
    return bare(batch(x, what, ndim))


def to_points(call: Callable[..., Examples], what: str) -> Callable[..., Array]:
    """A score or another function of points, whose answer has their shape, and becomes an array."""
    call = answering(call, what)
    return lambda x, *rest: bare(call(x, *rest))


def times(schedule: Schedule, steps: int | None = None) -> Sequence[float] | np.ndarray:
    """``schedule.times(steps)``: from the last time down to 0."""
    schedule = schedule_in(schedule, "times")
    if isinstance(schedule, DDPM):
        return schedule.times(steps)
    return schedule.times(size(steps, "times: steps", 1))


# ── two steps by a denoiser ──────────────────────────────────────────────────────────────────────


def ddpm_step(
    denoise: Denoiser, schedule: Schedule, x: Examples, t: float, s: float, variance: str = "large"
) -> Examples:
    """Ancestral sampling. variance: "large" is β, right if the images are noise of variance 1;
    "small" is right if they are one single image. No noise comes in a step to time 0 (algorithm
    2)."""
    choice(variance, "ddpm_step: variance", ("large", "small"))
    t, s = checked_step("ddpm_step", schedule, x, t, s)
    refuse_another(denoise, schedule, "ddpm_step", "denoise")
    x0 = answering(denoise, "ddpm_step: denoise")(x, schedule.each(x, t))
    a_s, s_s = schedule.marginal(s)
    if s_s == 0:
        # nothing of x is left, and no noise comes in
        return in_dtype_of(x, x0)
    alpha, beta = schedule.between(t, s)
    s_t = schedule.noise(t)
    left = (s_s / s_t) ** 2  # of the noise's variance
    mean = a_s * beta / s_t**2 * x0 + alpha * left * x
    fresh = (beta if variance == "large" else beta * left) ** 0.5
    return in_dtype_of(x, mean + fresh * randn_like(Tensor(x)))


def ddim_step(
    denoise: Denoiser, schedule: Schedule, x: Examples, t: float, s: float, eta: float = 0.0
) -> Examples:
    """Noise is taken out down to the level of time s, and a share of what stays is drawn anew: eta²
    of what DDPM draws with its smaller variance.

    eta: from 0 to 1. Above 1 more noise would be drawn than there is at time s.
    """
    eta = number(eta, "ddim_step: eta", 0, 1)
    t, s = checked_step("ddim_step", schedule, x, t, s)
    refuse_another(denoise, schedule, "ddim_step", "denoise")
    x0 = answering(denoise, "ddim_step: denoise")(x, schedule.each(x, t))
    (a_t, s_t), (a_s, s_s) = schedule.marginal(t), schedule.marginal(s)
    _, beta = schedule.between(t, s)
    fresh = eta * s_s / s_t * beta**0.5
    # rounding must not take the root of less than 0
    stays = max(0.0, s_s * s_s - fresh * fresh) ** 0.5
    new = a_s * x0
    if stays:  # at time 0 x is not read
        new = new + stays * to_noise(x0, x, a_t, s_t)
    if fresh:
        new = new + fresh * randn_like(Tensor(x))
    return in_dtype_of(x, new)


def checked_step(
    who: str, schedule: Schedule, x: Examples, t: float, s: float
) -> tuple[float, float]:
    """Both times as numbers, if the step from t to s takes noise out of a batch x."""
    schedule = schedule_in(schedule, who)
    batch(x, f"{who}: x")
    t, s = schedule.time(t, f"{who}: t"), schedule.time(s, f"{who}: s")
    if not s < t:
        raise ValueError(
            f"{who}: t is {t} and s is {s}; a step goes to an earlier time, so s must be below t"
        )
    (a_t, s_t), (a_s, s_s) = schedule.marginal(t), schedule.marginal(s)
    if not a_t * s_s < a_s * s_t:
        raise ValueError(
            f"{who}: the signal is {a_t:.3g} at times {t} and {s}; there must be noise between them"
        )
    return t, s
