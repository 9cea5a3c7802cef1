"""DDPM and DDIM samplers, and the loop that every sampler uses to go from noise to an image.

A step is a function (x, t, s) -> x, which takes x from time t to an earlier time s.  ``sample``
calls it for each pair of successive times; ``trajectory`` yields every x on the way.  Five files
define steps:

    here          ddpm_step, ddim_step                           use a denoiser
    edm.py        heun_step                                      uses a denoiser
    sde.py        inside euler_maruyama, predictor_corrector     use a score
    langevin.py   inside ula, annealed                           use a score
    ode.py        inside solve: euler, heun, rk4                 use a velocity

The two steps here estimate the image in x by a denoiser D(x, t).  They differ in the noise that
they add.  Let a_t, σ_t and a_s, σ_s be the signal and noise levels at both times, α and β those of
q(x_t | x_s) = N(α x_s, β I) (schedule.py), and r the standard deviation of the added noise:

    x_s ~ N( a_s β / σ_t² D + α σ_s² / σ_t² x,  r² I ),   r² = β  or  β σ_s² / σ_t²     (DDPM)
                                           Ho, Jain & Abbeel 2020, eq. 6, 7 and section 3.2
    x_s = a_s D + √(σ_s² - r²) ε̂ + r z,  ε̂ = (x - a_t D) / σ_t,  r² = η² β σ_s² / σ_t²  (DDIM)
                                           Song, Meng & Ermon 2021, eq. 12 and 16

(Both papers call r σ.)  With the true image x_0 in place of D, DDIM reproduces q(x_s | x_0) for
every r, and DDPM only with the smaller variance, which is that of the posterior q(x_s | x_t, x_0).
DDIM with η = 1 is DDPM with the smaller variance.  With η = 0 no noise is added: each initial noise
leads to one image, along a smooth path that long steps can follow.  So 50 to 100 steps give nearly
the quality of 1,000 (Song, Meng & Ermon 2021, table 1).
Ho et al. write DDPM for s = t - 1.  Here s may be any earlier time: the formulas then belong to a
noise schedule that has only the times used.

    step = partial(ddim_step, clipped(denoiser(model, schedule, "v")), schedule)
    images = sample(step, tinycv.randn(64, 1, 28, 28), schedule.times(50))

Read first: schedule.py, denoising.py.   Read next: guidance.py, inpaint.py, edm.py, langevin.py.
Shapes: x (B, ...); t and s are numbers; a denoiser receives t (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinycv.diffusion.denoising import to_noise
from tinycv.diffusion.schedule import DDPM, Schedule, refuse_another, schedule_in
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import NOT_SIZES, choice, number, shown, size
from tinycv.engine.backend import Array
from tinycv.engine.create import randn_like
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.nn.inputs import Examples, answer, answering, batch, function, in_dtype_of, reals

Step = Callable[[Any, float, float], Examples]  # (x at time t, t, s) -> x at time s

# ── the loop ─────────────────────────────────────────────────────────────────────────────────────


def trajectory(
    step: Step, x: Examples, times: Sequence[float] | np.ndarray
) -> Iterator[tuple[float, Examples]]:
    """Yields (time, x at that time) for each of ``times``. The x that is passed belongs to the
    first time.

    The arguments are checked at once. A step is computed only when its result is requested.
    """
    return _checked_trajectory("trajectory", step, x, times)


def sample(step: Step, x: Examples, times: Sequence[float] | np.ndarray) -> Examples:
    """The end of the trajectory: x at the last of ``times``."""
    last = x
    for _, reached in _checked_trajectory("sample", step, x, times):
        last = reached  # replaces the point before, whose memory is freed
    return last


def _checked_trajectory(
    who: str, step: Step, x: Examples, times: Sequence[float] | np.ndarray
) -> Iterator[tuple[float, Examples]]:
    """``trajectory`` with its arguments checked; errors name the function ``who``."""
    function(step, f"{who}: step")
    batch(x, f"{who}: x")
    is_sequence = hasattr(times, "__len__") and not isinstance(times, NOT_SIZES)
    if not is_sequence or getattr(times, "ndim", 1) != 1 or not len(times):
        error = ValueError if is_sequence else TypeError
        raise error(f"{who}: times is {shown(times)}; it must be a sequence of at least one time")
    # a generator runs nothing before its first item, so the checks above are in another function
    return _generate(who, step, x, times)


def _generate(
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
    """The end of the trajectory, and a list of earlier points: those before step 0, ``every``,
    2 ``every`` and so on. every = 0 keeps none."""
    last, path = x, []
    for i, (_, last) in enumerate(trajectory(step, x, times)):
        if every and i % every == 0 and i + 1 < len(times):
            path.append(last)
    return last, path


def points(x: Examples, what: str, ndim: int | None = None) -> Array:
    """Points (B, ...) as an array on their device. Samplers that follow a score compute with
    arrays, without a history."""
    return bare(batch(x, what, ndim))


def to_points(call: Callable[..., Examples], what: str) -> Callable[..., Array]:
    """A function of points, such as a score, whose result is checked to have their shape and is
    converted to an array."""
    call = answering(call, what)
    return lambda x, *rest: bare(call(x, *rest))


def sampling_times(schedule: Schedule, steps: int | None = None) -> Sequence[float] | np.ndarray:
    """The steps + 1 times of a sampler, ``schedule.times(steps)``: from the last time down to 0."""
    schedule = schedule_in(schedule, "sampling_times")
    if isinstance(schedule, DDPM):
        return schedule.times(steps)
    return schedule.times(size(steps, "sampling_times: steps", 1))


# ── DDPM and DDIM: two steps with a denoiser ─────────────────────────────────────────────────────


def ddpm_step(
    denoise: Denoiser,
    schedule: Schedule,
    x: Examples,
    t: float,
    s: float,
    variance: str | Callable[..., Examples] = "large",
) -> Examples:
    """DDPM's step (ancestral sampling): a random x_s given x at time t.

    variance: "large" is β, which is exact if the data are N(0, I); "small" is exact if the data are
    one single image (Ho, Jain & Abbeel 2020, section 3.2). A function v(x, t) is a learned variance
    between the two (bound.py). A step to time 0 adds no noise (algorithm 2).
    """
    if not callable(variance):
        choice(variance, "ddpm_step: variance", ("large", "small"))
    t, s = checked_step("ddpm_step", schedule, x, t, s)
    refuse_another(denoise, schedule, "ddpm_step", "denoise")
    x0 = answering(denoise, "ddpm_step: denoise")(x, schedule.times_for(x, t))
    a_s, sigma_s = schedule.marginal(s)
    if sigma_s == 0:
        # time 0: in the mean x has the weight 0 and x0 the weight 1, and no noise is added
        return in_dtype_of(x, x0)
    alpha, beta = schedule.between(t, s)
    sigma_t = schedule.noise(t)
    ratio = (sigma_s / sigma_t) ** 2
    mean = a_s * beta / sigma_t**2 * x0 + alpha * ratio * x
    if isinstance(variance, str):
        r = (beta if variance == "large" else beta * ratio) ** 0.5
    else:
        v = answering(variance, "ddpm_step: variance")(x, schedule.times_for(x, t))
        r = ops.exp(0.5 * learned_log_variance(v, math.log(beta), math.log(beta * ratio)))
    return in_dtype_of(x, mean + r * randn_like(Tensor(x)))


def learned_log_variance(v: Examples, log_large: Any, log_small: Any) -> Examples:
    """log r² = v log β + (1 - v) log β̃, where β̃ is the smaller variance (Nichol & Dhariwal 2021,
    eq. 15)."""
    reals("learned_log_variance", v=v, log_large=log_large, log_small=log_small)
    return v * log_large + (1 - v) * log_small


def ddim_step(
    denoise: Denoiser, schedule: Schedule, x: Examples, t: float, s: float, eta: float = 0.0
) -> Examples:
    """DDIM's step: the noise in x is scaled down to the level of time s, and a part of it is
    replaced by fresh noise.

    eta: from 0, no fresh noise, to 1, as much as DDPM adds with its smaller variance.
    """
    eta = number(eta, "ddim_step: eta", 0, 1)
    t, s = checked_step("ddim_step", schedule, x, t, s)
    refuse_another(denoise, schedule, "ddim_step", "denoise")
    x0 = answering(denoise, "ddim_step: denoise")(x, schedule.times_for(x, t))
    a_t, sigma_t = schedule.marginal(t)
    a_s, sigma_s = schedule.marginal(s)
    _, beta = schedule.between(t, s)
    r = eta * sigma_s / sigma_t * beta**0.5
    # max: rounding could make the difference slightly negative
    old_noise = max(0.0, sigma_s * sigma_s - r * r) ** 0.5
    x_s = a_s * x0
    if old_noise:  # at time 0 it is 0, and x is not read
        x_s = x_s + old_noise * to_noise(x0, x, a_t, sigma_t)
    if r:
        x_s = x_s + r * randn_like(Tensor(x))
    return in_dtype_of(x, x_s)


def checked_step(
    who: str, schedule: Schedule, x: Examples, t: float, s: float
) -> tuple[float, float]:
    """Both times as numbers; ValueError unless the step from t to s removes noise. ``who`` is the
    function that the errors name."""
    schedule = schedule_in(schedule, who)
    batch(x, f"{who}: x")
    t, s = schedule.time(t, f"{who}: t"), schedule.time(s, f"{who}: s")
    if not s < t:
        raise ValueError(
            f"{who}: t is {t} and s is {s}; a step goes to an earlier time, so s must be below t"
        )
    a_t, sigma_t = schedule.marginal(t)
    a_s, sigma_s = schedule.marginal(s)
    if not a_t * sigma_s < a_s * sigma_t:
        raise ValueError(
            f"{who}: the signal is {a_t:.3g} at times {t} and {s}; there must be less noise at "
            "the earlier one"
        )
    return t, s
