"""Diffusion as a stochastic differential equation: from data to noise, and back along the same
road.

    forward     dx = a(t) x dt + g(t) dw,   t from 0 (data) to 1 (noise)     Song et al. 2021, eq. 5
    reverse     dx = [a(t) x - g(t)² grad log p_t(x)] dt + g(t) dw,   t from 1 to 0           ibid., eq. 6; Anderson 1982
    flow        dx = [a(t) x - ½ g(t)² grad log p_t(x)] dt            ibid., eq. 13: no noise at all

All three have the same p_t at every t.  Given x(0), x(t) is Gaussian: scale(t) x(0) + std(t) z, in
one step, so a score of p_t is learned by denoising (score.py) at a random t.  Three choices of a
and g (ibid., section 3.4):

    VE        a = 0          g = σ(t) √(2 log(σ_max / σ_min)),  σ(t) = σ_min (σ_max / σ_min)^t      the noise grows
    VP        a = -½ β(t)    g = √β(t),  β(t) = β_min + t (β_max - β_min)    the whole stays in size
    sub-VP    a = -½ β(t)    g = √(β(t) (1 - e^{-2B(t)})),  B(t) = ∫₀ᵗ β          less noise than VP

A process here is a small object; ``sde.reverse(score)`` is another, and ``sde.flow(score)`` a
velocity for ode.py.
differs: VE's std is exact, √(σ(t)² - σ_min²), and 0 at t = 0, where the paper's code has σ(t).

Read before: langevin.py.   Read next: ode.py.
See at work: demos/13_brownian.py, demos/18_sde_likelihood.py.
Shapes: B points, of any shape; t (B,) or a number.  A score takes x (B, ...) and t (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tinycv.data.inputs import kind_of
from tinycv.engine import ops
from tinycv.engine.arguments import is_array, number, shown, size, sizes
from tinycv.engine.backend import array_module, standard_normal
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.nn.inputs import (
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


class SDE:
    """dx = a(t) x dt + g(t) dw. Subclasses say a (``rate``), g (``diffusion``) and the (scale, std)
    of x(t) given x(0) (``marginal``), for t a number, and the last for arrays and Tensors (B,)
    too."""

    rate: Callable
    diffusion: Callable
    marginal: Callable

    def drift(self, x: Any, t: float) -> Any:
        """a(t) x."""
        return self.rate(t) * batch(x, "SDE.drift: x")

    def perturb(self, x: Any, t: Any, z: Any) -> Any:
        """x(t), for x(0) = x (B, ...), t (B,) or a number, and z as x from N(0, I)."""
        batch(x, "SDE.perturb: x")
        if tuple(batch(z, "SDE.perturb: z").shape) != tuple(x.shape):
            raise ValueError(
                f"SDE.perturb: z has shape {tuple(z.shape)} and x {tuple(x.shape)}; they must be "
                "equal"
            )
        if is_number(t):
            scale, std = self.marginal(t)
            return scale * x + std * z
        if tuple(getattr(t, "shape", (-1,))) != (len(x),):
            raise ValueError(
                f"SDE.perturb: t is {shown(t)} for {len(x)} examples; it must be a number, or (B,)"
            )
        scale, std = (part.reshape((-1,) + (1,) * (x.ndim - 1)) for part in self.marginal(t))
        return in_dtype_of(x, scale * x + std * z)

    def prior(self, shape: tuple, like: Any) -> Any:
        """Points of the noise at t = 1, N(0, std(1)² I), drawn where ``like`` is: an array, a
        Tensor, numpy or cupy."""
        if not (is_array(like) or isinstance(like, ModuleType)):
            raise TypeError(
                f"SDE.prior: like is {shown(like)}; it must be an array, a Tensor, numpy or cupy"
            )
        return self.marginal(1.0)[1] * standard_normal(sizes(shape, "SDE.prior: shape"), like)

    def log_prior(self, x: Any) -> Any:
        """Their log-density at x (B, D), in nats: (B,)."""
        batch(x, "SDE.log_prior: x", 2)
        std = self.marginal(1.0)[1]
        return -0.5 * (x * x).sum(axis=-1) / std**2 - x.shape[1] * math.log(
            std * math.sqrt(2 * math.pi)
        )

    def score_of(self, density: Any) -> Callable:
        """grad log p_t, if density.score(x, s) is that of p_0 after noise s was added, exact
        (data/densities.py) or learned: x / scale is a point of p_0 with noise std / scale. So one
        score serves every process."""
        if not callable(getattr(density, "score", None)):
            raise TypeError(
                f"SDE.score_of: density is {shown(density)}; it must have a function score(x, "
                "noise); a score of (x, t) is taken as it is"
            )

        def score(x: Any, t: Any) -> Any:
            if is_number(t):
                t = everywhere(x, t)
            scale, std = self.marginal(t)  # (B,) each
            return density.score(x / scale[:, None], std / scale) / scale[:, None]

        return score

    def reverse(self, score: Callable) -> Reverse:
        """The process that runs from t = 1 to 0, and has the same p_t."""
        return Reverse(self, score)

    def flow(self, score: Callable) -> Callable:
        """The velocity (x, t) -> dx/dt, t a number, of the ordinary differential equation that has
        the same p_t."""
        score = answering(score, "SDE.flow: score")
        return lambda x, t: (
            self.drift(x, t) - 0.5 * self.diffusion(t) ** 2 * score(x, everywhere(x, t))
        )


class Reverse:
    """An SDE run backwards, up the score: its time steps are negative."""

    def __init__(self, sde: SDE, score: Callable):
        if not isinstance(sde, SDE):
            raise TypeError(f"Reverse: sde is {shown(sde)}; it must be an SDE, such as VP()")
        self.sde, self.score, self.diffusion = (
            sde,
            answering(score, "SDE.reverse: score"),
            sde.diffusion,
        )

    def drift(self, x: Any, t: float) -> Any:
        """a(t) x - g(t)² score(x, t)."""
        return self.sde.drift(x, t) - self.diffusion(t) ** 2 * bare(self.score(x, everywhere(x, t)))


class VE(SDE):
    """Variance exploding: data keep their size, and noise grows over them, up to sigma_max, well
    above their spread."""

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0):
        sigma_min, sigma_max = (
            finite(sigma_min, "VE: sigma_min"),
            finite(sigma_max, "VE: sigma_max"),
        )
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"VE: sigma_min={sigma_min} must be above 0 and below sigma_max={sigma_max}"
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.log_ratio = math.log(sigma_max) - math.log(sigma_min)

    def rate(self, t: float) -> float:
        number(t, "VE.rate: t", 0, 1)
        return 0.0

    def diffusion(self, t: float) -> float:
        t = number(t, "VE.diffusion: t", 0, 1)
        return self.sigma_min * math.exp(t * self.log_ratio) * math.sqrt(2 * self.log_ratio)

    def marginal(self, t: Any) -> tuple:
        t = clock(t, "VE.marginal: t")
        # σ(t), never above sigma_max on the way
        level = self.sigma_max * _exp(self.log_ratio * (t - 1))
        return 0 * t + 1.0, level * (-expm1(-2 * self.log_ratio * t)) ** 0.5


class VP(SDE):
    """Variance preserving: data of variance 1 keep it, while they fade and noise takes their place
    (DDPM, as dt -> 0)."""

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        name = type(self).__name__
        beta_min, beta_max = (
            finite(beta_min, f"{name}: beta_min"),
            finite(beta_max, f"{name}: beta_max"),
        )
        if not 0 <= beta_min <= beta_max or beta_max == 0:
            raise ValueError(
                f"{name}: beta_min={beta_min} must be at least 0, and at most beta_max={beta_max}"
            )
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Any) -> Any:
        """β(t)."""
        t = clock(t, "VP.beta: t")
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, t: Any) -> Any:
        """B(t), the integral of beta from 0 to t."""
        t = clock(t, "VP.integral: t")
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t

    def rate(self, t: float) -> float:
        t = number(t, "VP.rate: t", 0, 1)
        return -0.5 * self.beta(t)

    def diffusion(self, t: float) -> float:
        return math.sqrt(self.beta(number(t, "VP.diffusion: t", 0, 1)))

    def marginal(self, t: Any) -> tuple:
        t = clock(t, "VP.marginal: t")
        return _exp(-0.5 * self.integral(t)), (-expm1(-self.integral(t))) ** 0.5


class SubVP(VP):
    """As VP, with less noise at every t but 0: std is the square of VP's, which is below 1."""

    def diffusion(self, t: float) -> float:
        t = number(t, "SubVP.diffusion: t", 0, 1)
        return math.sqrt(self.beta(t) * -math.expm1(-2 * self.integral(t)))

    def marginal(self, t: Any) -> tuple:
        t = clock(t, "SubVP.marginal: t")
        return _exp(-0.5 * self.integral(t)), -expm1(-self.integral(t))


# -- samplers
# -----------------------------------------------------------------------------------------------


@no_grad()
def euler_maruyama(
    process: SDE | Reverse, x: Any, times: Sequence[float], keep_every: int | None = None
) -> tuple:
    """x <- x + drift dt + g √|dt| z from times[0] on to times[-1], either way. Returns the points,
    and a list of those before every step that was kept."""
    if not (
        callable(getattr(process, "drift", None)) and callable(getattr(process, "diffusion", None))
    ):
        raise TypeError(
            f"euler_maruyama: process is {shown(process)}; it must be an SDE, or sde.reverse(score)"
        )
    keep_every = every(keep_every, "euler_maruyama: keep_every")
    x, path, times = (
        bare(batch(x, "euler_maruyama: x")),
        [],
        numbers(times, "euler_maruyama: times"),
    )
    for i, (t, then) in enumerate(zip(times, times[1:], strict=False)):
        if keep_every and i % keep_every == 0:
            path.append(x)
        kick = (
            process.diffusion(t) * math.sqrt(abs(then - t)) * standard_normal(x.shape, x, x.dtype)
        )
        x = in_dtype_of(x, x + process.drift(x, t) * (then - t) + kick)
    return x, path


@no_grad()
def predictor_corrector(
    sde: SDE,
    score: Callable,
    x: Any,
    times: Sequence[float],
    snr: float = 0.16,
    corrections: int = 1,
) -> Any:
    """A step of the reverse SDE, then Langevin steps at the new noise level, that mend its error;
    times fall.

    Song et al. 2021, algorithms 1, 4 and 5: ε = 2 (snr |z| / |score|)², norms averaged over the
    batch. Returns the points. Where the score is 0, so that ε would be infinite, no correction is
    made.
    differs: with VP the paper multiplies ε by 1 - β dt, which is nearly 1.
    """
    if not isinstance(sde, SDE):
        raise TypeError(
            f"predictor_corrector: sde is {shown(sde)}; it must be an SDE, such as VP()"
        )
    score = answering(score, "predictor_corrector: score")
    back, x = sde.reverse(score), bare(batch(x, "predictor_corrector: x"))
    times, snr = (
        numbers(times, "predictor_corrector: times"),
        finite(snr, "predictor_corrector: snr", above=0),
    )
    corrections = size(corrections, "predictor_corrector: corrections")
    if not len(x):
        raise ValueError(
            f"predictor_corrector: x has shape {tuple(x.shape)}; there must be at least one point"
        )
    if any(then >= t for t, then in zip(times, times[1:], strict=False)):
        raise ValueError(f"predictor_corrector: times are {shown(times)}; they must fall")
    for t, then in zip(times, times[1:], strict=False):
        x, _ = euler_maruyama(back, x, (t, then))
        for _ in range(corrections):
            slope = bare(score(x, everywhere(x, float(then))))
            z = standard_normal(x.shape, x, x.dtype)
            with np.errstate(divide="ignore", over="ignore"):
                step = 2 * (snr * _length(z) / _length(slope)) ** 2
            step = ops.where(step == math.inf, 0.0, step)
            x = in_dtype_of(x, x + step * slope + (2 * step) ** 0.5 * z)
    return x


def everywhere(x: Any, t: float) -> Any:
    """The time t for each of x: an array (B,) beside x."""
    own = bare(batch(x, "everywhere: x"))
    return array_module(own).full(len(own), finite(t, "everywhere: t"), own.dtype)


def clock(t: Any, what: str) -> Any:
    """A time from 0 to 1 as a float, or times (B,) as they are.

    ValueError for one outside, where a process has no noise, or none that it was made for (on a GPU
    it becomes NaN).
    """
    if is_number(t) and not (isinstance(t, Tensor) and t.requires_grad):
        return number(bare(t), what, 0, 1)
    if kind_of(t) not in ("f", "i", "u"):
        raise TypeError(
            f"{what} is {shown(t)}; it must be a number from 0 to 1, or an array or a Tensor of "
            "such"
        )
    return within(t, what, 0, 1)


def expm1(value: Any) -> Any:
    """e^value - 1, exact where value is small, for numbers, arrays and Tensors."""
    return math.expm1(value) if isinstance(value, (int, float)) else ops.expm1(value)


def _exp(value: Any) -> Any:
    """e^value, for numbers, arrays and Tensors."""
    return math.exp(value) if isinstance(value, (int, float)) else ops.exp(value)


def _length(x: Any) -> Any:
    """The mean length of the points of x (B, ...)."""
    x = in_float32(x)
    return ((x * x).reshape((len(x), -1)).sum(axis=-1) ** 0.5).mean()
