"""Score SDE: diffusion as a stochastic differential equation, and its reverse (VE, VP, sub-VP).

    forward     dx = f(t) x dt + g(t) dw,   t from 0 (data) to 1 (noise)   Song et al. 2021, eq. 5
    reverse     dx = [f(t) x - g(t)² ∇ log p_t(x)] dt + g(t) dw,   t from 1 to 0      ibid., eq. 6
    flow        dx = [f(t) x - ½ g(t)² ∇ log p_t(x)] dt         ibid., eq. 13: no noise is added

All three have the same density p_t at every t (the reverse: Anderson 1982).  The lecture says that
the reverse brings the particles back to where they began.  It does not: it adds fresh noise, and
only the distribution returns.  Demo 13 sends four digits forward and back, and none of the four
comes back as itself.  (The flow is different: it adds no noise, so each point does return.)

Given x(0), x(t) is Gaussian, a(t) x(0) + σ(t) z, in one step.  So each process is a noise schedule
(schedule.py), and the score of p_t is learned by denoising (score.py) at a random t.  Three choices
of f and g (ibid., sec. 3.4):

    VE        f = 0          g = r(t) √(2 log(σ_max / σ_min)),   r(t) = σ_min (σ_max / σ_min)^t
    VP        f = -½ β(t)    g = √β(t),   β(t) = β_min + t (β_max - β_min)
    sub-VP    f = -½ β(t)    g = √(β(t) (1 - e^{-2B(t)})),   B(t) = ∫₀ᵗ β

β(t) is a rate; one step of DDPM of length Δt has β_t ≈ β(t) Δt.  Variance exploding (VE) leaves the
data as they are and adds more and more noise.  Variance preserving (VP) shrinks the data as the
noise grows, so data of variance 1 keep it.  sub-VP has less noise than VP.  ``sde.reverse(score)``
is again a process, and ``sde.flow(score)`` is a velocity for ode.py.
differs: VE has the exact noise level σ(t) = √(r(t)² - σ_min²), which is 0 at t = 0; the code of the
paper takes r(t), which it calls σ(t).

Read first: schedule.py, samplers.py, langevin.py.   Read next: ode.py.
See at work: demos/13_brownian.py, demos/18_sde_likelihood.py.
Shapes: B points, of any shape; t a number, or (B,).  A score takes x (B, ...) and t (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from tinycv.diffusion.samplers import points, sample, sample_and_keep, to_points
from tinycv.diffusion.schedule import Schedule, Times, refuse_another
from tinycv.diffusion.tweedie import Score
from tinycv.engine import ops
from tinycv.engine.arguments import number, number_kind, shown, size
from tinycv.engine.backend import Array, standard_normal
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.inputs import (
    Examples,
    answering,
    batch,
    every,
    finite,
    in_dtype_of,
    in_float32,
    is_number,
    numbers,
    within,
)

Velocity = Callable[[Any, float], Examples]  # (x (B, ...), t) -> dx/dt


class SDE(Schedule):
    """dx = f(t) x dt + g(t) dw. Subclasses define f (``rate``) and g (``diffusion``) for a number
    t, and a and σ of x(t) given x(0) (``marginal``)."""

    last = 1.0
    rate: Callable[[float], float]
    diffusion: Callable[[float], float]

    def time(self, t: Any, what: str) -> float:
        """t as a float; ValueError unless it is from 0 to 1."""
        return number(t, what, 0, 1)

    def drift(self, x: Examples, t: float) -> Examples:
        """f(t) x."""
        return self.rate(t) * batch(x, "SDE.drift: x")

    def reverse(self, score: Score) -> Reverse:
        """The process that runs from t = 1 to 0 and has the same p_t."""
        return Reverse(self, score)

    def flow(self, score: Score) -> Velocity:
        """The velocity (x, t) -> dx/dt, t a number, of the ordinary differential equation that has
        the same p_t."""
        refuse_another(score, self, "SDE.flow", "score")
        score = answering(score, "SDE.flow: score")

        def velocity(x: Examples, t: float) -> Examples:
            slope = score(x, self.times_for(x, t))
            return self.drift(x, t) - 0.5 * self.diffusion(t) ** 2 * slope

        return velocity


class Reverse:
    """The reverse of an SDE, dx = [f(t) x - g(t)² score(x, t)] dt + g(t) dw, for falling times."""

    def __init__(self, sde: SDE, score: Score):
        if not isinstance(sde, SDE):
            raise TypeError(f"Reverse: sde is {shown(sde)}; it must be an SDE, such as VP()")
        self.sde, self.diffusion = sde, sde.diffusion
        refuse_another(score, sde, "SDE.reverse", "score")
        self.score = to_points(score, "SDE.reverse: score")

    def drift(self, x: Examples, t: float) -> Examples:
        """f(t) x - g(t)² score(x, t)."""
        slope = self.score(x, self.sde.times_for(x, t))
        return self.sde.drift(x, t) - self.diffusion(t) ** 2 * slope


class VE(SDE):
    """Variance exploding: the data keep their size, and noise grows up to sigma_max, which should
    be well above their spread."""

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0):
        sigma_min = finite(sigma_min, "VE: sigma_min")
        sigma_max = finite(sigma_max, "VE: sigma_max")
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"VE: sigma_min={sigma_min} must be above 0 and below sigma_max={sigma_max}"
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.log_ratio = math.log(sigma_max) - math.log(sigma_min)

    def rate(self, t: float) -> float:
        """f(t) = 0."""
        number(t, "VE.rate: t", 0, 1)
        return 0.0

    def diffusion(self, t: float) -> float:
        """g(t)."""
        t = number(t, "VE.diffusion: t", 0, 1)
        return self.sigma_min * math.exp(t * self.log_ratio) * math.sqrt(2 * self.log_ratio)

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a = 1 and σ = √(r(t)² - σ_min²), for a number t or times (B,)."""
        t = checked_time(t, "VE.marginal: t")
        # r(t), computed down from sigma_max so that no intermediate result overflows
        r = self.sigma_max * _exp(self.log_ratio * (t - 1))
        return 0 * t + 1.0, r * (-expm1(-2 * self.log_ratio * t)) ** 0.5


class VP(SDE):
    """Variance preserving: the data fade as the noise grows, and data of variance 1 keep it. The
    limit of DDPM for steps of length 0."""

    keeps_variance = True

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        name = type(self).__name__
        beta_min = finite(beta_min, f"{name}: beta_min")
        beta_max = finite(beta_max, f"{name}: beta_max")
        if not 0 <= beta_min <= beta_max or beta_max == 0:
            raise ValueError(
                f"{name}: beta_min={beta_min} must be at least 0, and at most beta_max={beta_max}"
            )
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Times) -> Any:
        """β(t), the rate at which noise replaces the data."""
        t = checked_time(t, "VP.beta: t")
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, t: Times) -> Any:
        """B(t), the integral of β from 0 to t."""
        t = checked_time(t, "VP.integral: t")
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t

    def rate(self, t: float) -> float:
        """f(t) = -½ β(t)."""
        t = number(t, "VP.rate: t", 0, 1)
        return -0.5 * self.beta(t)

    def diffusion(self, t: float) -> float:
        """g(t) = √β(t)."""
        return math.sqrt(self.beta(number(t, "VP.diffusion: t", 0, 1)))

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a = e^{-B(t)/2} and σ = √(1 - e^{-B(t)}), for a number t or times (B,)."""
        t = checked_time(t, "VP.marginal: t")
        return _exp(-0.5 * self.integral(t)), (-expm1(-self.integral(t))) ** 0.5


class SubVP(VP):
    """Like VP, with less noise at every t above 0: σ is the square of the σ of VP, which is below
    1."""

    keeps_variance = False

    def diffusion(self, t: float) -> float:
        """g(t) = √(β(t) (1 - e^{-2B(t)}))."""
        t = number(t, "SubVP.diffusion: t", 0, 1)
        return math.sqrt(self.beta(t) * -math.expm1(-2 * self.integral(t)))

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a = e^{-B(t)/2} and σ = 1 - e^{-B(t)}, for a number t or times (B,)."""
        t = checked_time(t, "SubVP.marginal: t")
        return _exp(-0.5 * self.integral(t)), -expm1(-self.integral(t))


# ── samplers that follow a score ─────────────────────────────────────────────────────────────────


def euler_maruyama_step(process: SDE | Reverse, x: Array, t: float, then: float) -> Array:
    """x <- x + drift dt + g √|dt| z, from the time t to ``then``, which may be later (for the
    forward process) or earlier (for its reverse). x: an array."""
    dt = then - t
    kick = process.diffusion(t) * math.sqrt(abs(dt)) * standard_normal(x.shape, x, x.dtype)
    return in_dtype_of(x, x + process.drift(x, t) * dt + kick)


def euler_maruyama(
    process: SDE | Reverse,
    x: Examples,
    times: Sequence[float] | np.ndarray,
    keep_every: int | None = None,
) -> tuple[Array, list[Array]]:
    """The Euler-Maruyama method: steps through ``times``, which rise for a forward process and fall
    for its reverse. Returns the points at the end, an array, and a list of earlier points: those
    before step 0, keep_every, 2 keep_every and so on."""
    methods = getattr(process, "drift", None), getattr(process, "diffusion", None)
    if not all(map(callable, methods)):
        raise TypeError(
            f"euler_maruyama: process is {shown(process)}; it must be an SDE, or sde.reverse(score)"
        )
    keep_every = every(keep_every, "euler_maruyama: keep_every")
    x = points(x, "euler_maruyama: x")
    times = numbers(times, "euler_maruyama: times")
    return sample_and_keep(partial(euler_maruyama_step, process), x, times, keep_every)


def corrector_step(sde: SDE, score: Score, snr: float, x: Array, t: float) -> Array:
    """One Langevin step at the time t, of size δ = 2 (snr |z| / |score|)², with norms averaged over
    the batch (Song et al. 2021, algorithms 4 and 5). x is an array, and so is what score returns.

    If the score is 0, δ would be infinite, and no correction is made.
    """
    slope = score(x, sde.times_for(x, t))
    z = standard_normal(x.shape, x, x.dtype)
    with np.errstate(divide="ignore", over="ignore"):
        step = 2 * (snr * _length(z) / _length(slope)) ** 2
    step = ops.where(step == math.inf, 0.0, step)
    return in_dtype_of(x, x + step * slope + (2 * step) ** 0.5 * z)


@no_grad()
def predictor_corrector(
    sde: SDE,
    score: Score,
    x: Examples,
    times: Sequence[float] | np.ndarray,
    snr: float = 0.16,
    corrections: int = 1,
) -> Array:
    """Predictor-corrector sampling: each step of the reverse SDE is followed by Langevin steps at
    the new noise level, which reduce its error (Song et al. 2021, algorithm 1). times fall. Returns
    the points, an array.

    differs: with VP the paper multiplies δ by 1 - β dt, which is nearly 1.
    """
    if not isinstance(sde, SDE):
        raise TypeError(
            f"predictor_corrector: sde is {shown(sde)}; it must be an SDE, such as VP()"
        )
    refuse_another(score, sde, "predictor_corrector", "score")
    score = to_points(score, "predictor_corrector: score")
    back, x = sde.reverse(score), points(x, "predictor_corrector: x")
    times = numbers(times, "predictor_corrector: times")
    snr = finite(snr, "predictor_corrector: snr", above=0)
    corrections = size(corrections, "predictor_corrector: corrections")
    if not len(x):
        raise ValueError(
            f"predictor_corrector: x has shape {tuple(x.shape)}; there must be at least one point"
        )
    if any(s >= t for t, s in pairwise(times)):
        raise ValueError(f"predictor_corrector: times are {shown(times)}; they must fall")

    def step(x: Array, t: float, s: float) -> Array:
        x = euler_maruyama_step(back, x, t, s)
        for _ in range(corrections):
            x = corrector_step(sde, score, snr, x, s)
        return x

    return sample(step, x, times)


# ── functions of a time, for numbers, arrays and Tensors ─────────────────────────────────────────


def checked_time(t: Any, what: str) -> Any:
    """A time from 0 to 1 as a float, or times (B,) unchanged.

    ValueError for a time outside, where the process is not defined (on a GPU it becomes NaN).
    """
    if is_number(t) and not (isinstance(t, Tensor) and t.requires_grad):
        return number(t.item() if isinstance(t, Tensor) else t, what, 0, 1)
    if number_kind(t) not in ("f", "i", "u"):
        raise TypeError(
            f"{what} is {shown(t)}; it must be a number from 0 to 1, or an array or a Tensor of "
            "such"
        )
    # as signed integers, because t - 1 would wrap around in unsigned ones
    return within(t.astype("int64") if number_kind(t) == "u" else t, what, 0, 1)


def expm1(value: Times) -> Any:
    """e^value - 1, accurate where value is small."""
    return math.expm1(value) if isinstance(value, (int, float)) else ops.expm1(value)


def _exp(value: Times) -> Any:
    """e^value."""
    return math.exp(value) if isinstance(value, (int, float)) else ops.exp(value)


def _length(x: Array) -> Array:
    """The mean length of the points of x (B, ...)."""
    x = in_float32(x)
    return ((x * x).reshape((len(x), -1)).sum(axis=-1) ** 0.5).mean()
