"""Noise schedules of DDPM, score SDEs and EDM: how much signal and how much noise is in x_t.

    x_t = a(t) x_0 + σ(t) ε,   ε ~ N(0, I)          a: the signal level;  σ: the noise level

Diffusion adds noise to the data until the noise dominates.  The noise schedule says how much of
each there is at a time t.  It is one object, which the loss, the denoiser and the sampler all take.
A sampler step refuses a denoiser that was made for another noise schedule.

There are six noise schedules:

    schedule      a(t)            σ(t)                     times          made by
    DDPM linear   √ᾱ_t            √(1 - ᾱ_t)               0, 1 ... T     linear_schedule (below)
    DDPM cosine   √ᾱ_t            √(1 - ᾱ_t)               0, 1 ... T     cosine_schedule (below)
    VE            1               √(r(t)² - σ_min²)        0 to 1         VE (sde.py)
    VP            e^{-B(t)/2}     √(1 - e^{-B(t)})         0 to 1         VP (sde.py)
    sub-VP        e^{-B(t)/2}     1 - e^{-B(t)}            0 to 1         SubVP (sde.py)
    EDM           1               t                        0 to σ_max     EDM (edm.py)

At time 0 there is no noise: a = 1 and σ = 0.  At the last time there is almost nothing but noise.
In between, x_t can be drawn from x_s at any earlier time s in one step:

    q(x_t | x_s) = N(α x_s, β I),   α = a(t) / a(s),   β = σ(t)² - α² σ(s)²

For s = t - 1 this β is DDPM's β_t: step t keeps the share 1 - β_t of the variance and replaces the
rest by noise, so ᾱ_t = Π_{i <= t} (1 - β_i) (Ho, Jain & Abbeel 2020, eq. 4).  The VE, VP and sub-VP
schedules come from Song et al. 2021, section 3.4 (r(t) and B(t): sde.py), EDM from Karras et al.
2022.  (A schedule of learning rates is another thing: optim/schedules.py.)

Read next: tweedie.py, denoising.py, samplers.py.   Shapes: x (B, ...), times (B,), T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np

from tinycv.engine import ops
from tinycv.engine.arguments import is_array, number_kind, shown, size, sizes
from tinycv.engine.backend import Array, array_module, constant, from_host, standard_normal, uniform
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.inputs import (
    Examples,
    batch,
    finite,
    in_dtype_of,
    is_number,
    per_example,
    whole_time,
)

Times = float | Examples  # one time for all examples, or one per example (B,)


class Scored(Protocol):
    """A density that can compute the score of itself with Gaussian noise added: one of
    data/densities.py, or a learned one."""

    def score(self, x: Any, sigma: Any, /) -> Examples:
        """∇ log p_σ at the points x (N, D). Returns (N, D). p_σ is the density with noise of
        standard deviation sigma added, one number or (N,)."""
        ...


class Schedule:
    """A noise schedule, x_t = a(t) x_0 + σ(t) ε. A subclass defines ``marginal``, ``time`` and its
    ``last`` time."""

    last: float
    keeps_variance = False  # is a² + σ² = 1?

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a(t) and σ(t): two floats for a number t, two arrays (B,) for times (B,)."""
        raise NotImplementedError

    def time(self, t: Any, what: str) -> float:
        """One time as a number. Raises an error, which names it ``what``, if the schedule has no
        such time."""
        raise NotImplementedError

    def is_same_as(self, other: Schedule) -> bool:
        """Does the other noise schedule have the same signal and noise at the same times? (Five
        times are compared.)"""
        if self is other:
            return True
        if type(self) is not type(other) or self.last != other.last:
            return False
        return all(self.marginal(t) == other.marginal(t) for t in self.times(4))

    def signal(self, t: Times) -> Any:
        """a(t): a float for a number t, (B,) for times (B,)."""
        return self.marginal(t)[0]

    def noise(self, t: Times) -> Any:
        """σ(t): a float for a number t, (B,) for times (B,)."""
        return self.marginal(t)[1]

    def marginal_for(self, x: Examples, t: Times) -> tuple[Examples, Examples]:
        """a(t) and σ(t) in the shape (B, 1, ...), so that they multiply x (B, ...); they have the
        dtype of x and are on its device. t: a number, or times (B,)."""
        what = f"{type(self).__name__}.marginal_for"
        fitting(t, batch(x, f"{what}: x"), f"{what}: t")
        has_history = isinstance(t, Tensor) and t.requires_grad
        a, sigma = self.marginal(t if has_history else bare(t))
        shape = (len(x),) + (1,) * (x.ndim - 1)
        a, sigma = per_example(a, x, f"{what}: t"), per_example(sigma, x, f"{what}: t")
        return a.reshape(shape), sigma.reshape(shape)

    def times_for(self, x: Examples, t: Times) -> Examples:
        """One time per example of x (B, ...): (B,), in the dtype of x and on its device. t: one
        number, or times (B,)."""
        what = f"{type(self).__name__}.times_for"
        fitting(t, batch(x, f"{what}: x"), f"{what}: t")
        return like(x, per_example(t, x, f"{what}: t"))

    def perturb(self, x0: Examples, t: Times, z: Examples) -> Examples:
        """x_t = a x_0 + σ z, for x0 (B, ...), t a number or (B,), and noise z of the shape of x0,
        drawn from N(0, I).

        A term with the weight 0 is not read, so it may be NaN: the noise at time 0, or the data
        where no signal is left.
        """
        what = f"{type(self).__name__}.perturb"
        fitting(t, batch(x0, f"{what}: x0"), f"{what}: t")
        if tuple(batch(z, f"{what}: z").shape) != tuple(x0.shape):
            raise ValueError(
                f"{what}: z has shape {tuple(z.shape)} and x0 {tuple(x0.shape)}; they must be equal"
            )
        a, sigma = self.marginal_for(x0, t)
        return in_dtype_of(x0, weighted(a, x0) + weighted(sigma, z))

    def between(self, t: float, s: float) -> tuple[float, float]:
        """α and β of q(x_t | x_s) = N(α x_s, β I), for an earlier time s at which signal is
        left."""
        a_t, sigma_t = self.marginal(t)
        a_s, sigma_s = self.marginal(s)
        alpha = a_t / a_s
        # rounding could make the difference slightly negative
        return alpha, max(0.0, sigma_t * sigma_t - alpha * alpha * sigma_s * sigma_s)

    def random_times(self, x: Examples) -> Examples:
        """One random time per example of x (B, ...), uniform, for training: (B,), on the device of
        x."""
        batch(x, f"{type(self).__name__}.random_times: x")
        return like(x, self.last * uniform(len(x), x, x.dtype))

    def times(self, steps: int) -> list[float]:
        """steps + 1 evenly spaced times for a sampler, from the last time down to 0."""
        steps = size(steps, f"{type(self).__name__}.times: steps", 1)
        return [self.last * (steps - i) / steps for i in range(steps + 1)]

    def prior(self, shape: int | Sequence[int], like: Examples | ModuleType) -> Array:
        """Samples of the noise at the last time, N(0, σ² I), for a sampler to start from. They are
        drawn on the device of ``like``: an array, a Tensor, numpy or cupy."""
        what = f"{type(self).__name__}.prior"
        if not (is_array(like) or isinstance(like, ModuleType)):
            raise TypeError(
                f"{what}: like is {shown(like)}; it must be an array, a Tensor, numpy or cupy"
            )
        return self.noise(self.last) * standard_normal(sizes(shape, f"{what}: shape"), like)

    def log_prior(self, x: Examples) -> Examples:
        """The log-density of ``prior`` at x (B, D), in nats: (B,)."""
        batch(x, f"{type(self).__name__}.log_prior: x", 2)
        sigma = self.noise(self.last)
        peak = x.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))
        return -0.5 * (x * x).sum(axis=-1) / sigma**2 - peak

    def score_of(self, density: Scored) -> Callable[[Examples, Times], Examples]:
        """The score ∇ log p_t, (x, t) -> (B, D), from density.score(x, sigma), the score of p_0
        with noise added: exact (data/densities.py) or learned.

        x_t / a is a point of p_0 with noise of level σ / a, so one function serves every noise
        schedule.
        """
        if not callable(getattr(density, "score", None)):
            raise TypeError(
                f"{type(self).__name__}.score_of: density is {shown(density)}; it must have a "
                "method score(x, sigma); a function score(x, t) can be used directly"
            )

        def score(x: Examples, t: Times) -> Examples:
            a, sigma = self.marginal_for(x, self.times_for(x, t) if is_number(t) else t)
            return density.score(x / a, (sigma / a).reshape((len(x),))) / a

        return made_for(score, self)


def schedule_in(value: Any, who: str) -> Schedule:
    """The argument ``schedule`` of the function ``who``; TypeError unless it is a noise
    schedule."""
    if not isinstance(value, Schedule):
        raise TypeError(
            f"{who}: schedule is {shown(value)}; it must be a Schedule, such as "
            "cosine_schedule(1000), VP() or EDM()"
        )
    return value


Made = TypeVar("Made", bound=Callable)


def made_for(function: Made, schedule: Schedule | None) -> Made:
    """The given denoiser or score, with its noise schedule stored in the attribute ``schedule``,
    where ``refuse_another`` looks for it. None: it fits every noise schedule."""
    function.schedule = schedule  # type: ignore[attr-defined]  functions take attributes
    return function


def refuse_another(function: Any, schedule: Schedule, who: str, what: str) -> None:
    """ValueError for a denoiser or a score that was made for another noise schedule. A function
    without the attribute ``schedule``, such as one that a user writes, passes."""
    while isinstance(function, partial):
        function = function.func
    made_with = getattr(function, "schedule", None)
    if isinstance(made_with, Schedule) and not made_with.is_same_as(schedule):
        raise ValueError(
            f"{who}: {what} was made for another schedule ({type(made_with).__name__}, last time "
            f"{made_with.last:g}) than the one given here ({type(schedule).__name__}, last time "
            f"{schedule.last:g}): their signal or noise differ; give both the same schedule"
        )


def fitting(t: Times, x: Examples, what: str) -> None:
    """ValueError unless t is one number, or one number per example of x: (B,) for x (B, ...)."""
    shape = tuple(getattr(t, "shape", ()))
    if shape not in ((), (len(x),)):
        raise ValueError(
            f"{what} has shape {shape} and x {tuple(x.shape)}; t must be a number, or one number "
            "per example of x"
        )


def like(x: Examples, times: Examples) -> Examples:
    """The times as a Tensor if x is one, otherwise unchanged."""
    return Tensor(times) if isinstance(x, Tensor) and not isinstance(times, Tensor) else times


def weighted(weight: Examples, x: Examples) -> Examples:
    """weight * x, and 0 where the weight is 0, even if x is NaN there. If the weight requires a
    gradient, x is read everywhere, because that gradient is x."""
    if isinstance(weight, Tensor) and weight.requires_grad:
        return weight * x
    return weight * ops.where(weight == 0, 0.0, x)


# ── DDPM: whole steps ────────────────────────────────────────────────────────────────────────────


class DDPM(Schedule):
    """DDPM's noise schedule: a = √ᾱ_t and σ = √(1 - ᾱ_t), at the times 0 ... T. alpha_bar (T + 1,)
    starts with 1, at time 0, never rises, and ends at 0 or above."""

    keeps_variance = True
    last: int

    def __init__(self, alpha_bar: Sequence[float] | np.ndarray):
        alpha_bar = real_row(alpha_bar, "DDPM: alpha_bar")
        falls = (np.diff(alpha_bar) <= 0).all()
        if len(alpha_bar) < 2 or alpha_bar[0] != 1 or not alpha_bar[-1] >= 0 or not falls:
            raise ValueError(
                f"DDPM: alpha_bar, with {len(alpha_bar)} numbers, is not a noise schedule: it "
                "must begin with 1, never rise, and stay at or above 0; linear_schedule and "
                "cosine_schedule make one"
            )
        self.alpha_bar = alpha_bar
        self.last = len(alpha_bar) - 1
        # one more entry, at T + 1: on a GPU, a time outside the schedule reads this NaN (_row)
        ends_in_nan = np.append(alpha_bar, np.nan)
        self._table = np.stack([ends_in_nan, 1 - ends_in_nan]) ** 0.5  # (2, T + 2)

    def is_same_as(self, other: Schedule) -> bool:
        """Does the other noise schedule have the same alpha_bar?"""
        return isinstance(other, DDPM) and np.array_equal(self.alpha_bar, other.alpha_bar)

    def time(self, t: Any, what: str) -> int:
        """A whole number from 0 to T; IndexError for one outside."""
        return whole_time(t, what, self.last)

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a and σ, for a whole number t or whole numbers (B,).

        A time outside 0 ... T raises an IndexError that names it. On a GPU the result is NaN
        instead, because a check would have to wait for the device.
        """
        if number_kind(t) is None or (number_kind(t) in ("i", "u") and is_number(t)):
            a, sigma = self._table[:, self.time(t, "DDPM.marginal: t")].tolist()
            return a, sigma
        row = self._row(t, "DDPM.marginal: t")
        a, sigma = constant(array_module(row), self._table)[:, row]
        return (Tensor(a), Tensor(sigma)) if isinstance(t, Tensor) else (a, sigma)

    def _row(self, t: Times, what: str) -> Array:
        """Times (B,) as indices into the table, on their device."""
        if number_kind(t) not in ("i", "u"):
            raise TypeError(f"{what} is {shown(t)}; times are whole numbers, from 0 to {self.last}")
        row = bare(t)
        wrong = (row < 0) | (row > self.last)
        if not isinstance(row, np.ndarray):
            return ops.where(wrong, self.last + 1, row.astype("int64"))
        if wrong.any():
            raise IndexError(
                f"{what} holds {row[wrong].flat[0]}; the schedule has the times 0 to {self.last}"
            )
        return row

    def times_for(self, x: Examples, t: Times) -> Examples:
        """One time per example of x (B, ...): int64 (B,), on the device of x. t: a number, or
        (B,)."""
        fitting(t, batch(x, "DDPM.times_for: x"), "DDPM.times_for: t")
        xp = array_module(bare(x))
        if number_kind(t) is None or is_number(t):
            return like(x, xp.full(len(x), self.time(t, "DDPM.times_for: t")))
        return like(x, xp.broadcast_to(from_host(xp, bare(t)), (len(x),)))

    def random_times(self, x: Examples) -> Examples:
        """A random whole number from 1 to T per example of x (B, ...): int64 (B,), on the device of
        x."""
        u = uniform(len(batch(x, "DDPM.random_times: x")), x)
        return like(x, ops.minimum((u * self.last).astype("int64"), self.last - 1) + 1)

    def times(self, steps: int | None = None) -> np.ndarray:
        """steps + 1 whole numbers from T down to 0, as evenly spaced as possible; by default all of
        T ... 0.

        differs: Song, Meng & Ermon 2021 take the times ⌊c i⌋, which start a little before T.
        """
        count = self.last if steps is None else size(steps, "DDPM.times: steps", -self.last)
        if not 1 <= count <= self.last:
            raise ValueError(
                f"DDPM.times: steps is {count}; a schedule of {self.last} steps can be sampled in "
                f"1 to {self.last} steps"
            )
        return np.round(np.linspace(self.last, 0, count + 1)).astype(int)


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> DDPM:
    """DDPM's linear noise schedule: β_1 ... β_T on a straight line from ``first`` to ``last`` (Ho
    et al. 2020, section 4).

    The defaults are meant for 1,000 steps. With 50 steps much of the image is left at the end,
    a = 0.78: a shorter schedule needs a larger ``last``.
    """
    steps = size(steps, "linear_schedule: steps", 1)
    first = finite(first, "linear_schedule: first", above=0, below=1)
    last = finite(last, "linear_schedule: last", above=0, below=1)
    return DDPM(alpha_bar_of(np.linspace(first, last, steps)))


def cosine_schedule(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> DDPM:
    """The cosine noise schedule: noise is added more slowly at both ends (Nichol & Dhariwal 2021,
    eq. 17).

    ᾱ_t = f(t) / f(0),  f(t) = cos²((t / T + offset) / (1 + offset) π / 2);  each β_t is at most
    ``largest``.
    """
    steps = size(steps, "cosine_schedule: steps", 1)
    offset = finite(offset, "cosine_schedule: offset", low=0, high=1)
    largest = finite(largest, "cosine_schedule: largest", above=0, below=1)
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return DDPM(alpha_bar_of(np.minimum(1 - f[1:] / f[:-1], largest)))


def alpha_bar_of(betas: Sequence[float] | np.ndarray) -> np.ndarray:
    """ᾱ_0 ... ᾱ_T (T + 1,) of β_1 ... β_T (T,): ᾱ_0 = 1, ᾱ_t = (1 - β_t) ᾱ_{t-1}."""
    betas = real_row(betas, "alpha_bar_of: betas")
    if not len(betas):
        raise ValueError("alpha_bar_of: betas is empty; there must be at least one number")
    if not ((betas > 0) & (betas < 1)).all():
        raise ValueError(
            f"alpha_bar_of: betas holds numbers from {betas.min()} to {betas.max()}; all must be "
            "above 0 and below 1"
        )
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def real_row(values: Any, what: str) -> np.ndarray:
    """A one-dimensional NumPy array, or a list, of real numbers as a float64 array."""
    plain = isinstance(values, (list, tuple)) and all(
        isinstance(v, (int, float, np.number)) for v in values
    )
    array = np.asarray(values) if plain else values
    if type(array) is not np.ndarray or array.dtype.kind not in ("f", "i", "u"):
        raise TypeError(f"{what} is {shown(values)}; it must be a NumPy array of real numbers")
    if array.ndim != 1:
        raise ValueError(f"{what} has shape {array.shape}; it must have one axis")
    return array.astype(np.float64, copy=False)
