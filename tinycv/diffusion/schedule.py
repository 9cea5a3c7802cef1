"""Noise schedules: how much signal is left of the data at a time t, and how much noise there is.

    x_t = a(t) x_0 + s(t) ε,   ε ~ N(0, I)                 a: the signal;  s: the noise

A schedule is one object.  The loss, the denoiser and the sampler all take it, and a step
refuses a denoiser that was made for another one.  There are six:

    schedule      a(t)            s(t)                     times          made by
    DDPM linear   √ᾱ_t            √(1 - ᾱ_t)               0, 1 ... T     linear_schedule (below)
    DDPM cosine   √ᾱ_t            √(1 - ᾱ_t)               0, 1 ... T     cosine_schedule (below)
    VE            1               √(σ(t)² - σ_min²)        0 to 1         VE (sde.py)
    VP            e^{-B(t)/2}     √(1 - e^{-B(t)})         0 to 1         VP (sde.py)
    sub-VP        e^{-B(t)/2}     1 - e^{-B(t)}            0 to 1         SubVP (sde.py)
    EDM           1               t                        0 to σ_max     EDM (edm.py)

Time 0 is the data: a = 1 and s = 0.  At the last time the noise has drowned them.  In between, from
time s to a later time t,

    q(x_t | x_s) = N(α x_s, β I),   α = a(t) / a(s),   β = s(t)² - α² s(s)²

DDPM's ᾱ_t is Π_{i <= t} (1 - β_i): each step keeps 1 - β_i of the variance (Ho, Jain & Abbeel 2020,
eq. 4).  The VE, VP and sub-VP schedules are those of Song et al. 2021, section 3.4; EDM is that of
Karras et al. 2022.

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

Times = float | Examples  # one time for all examples, or one for each of them (B,)


class Scored(Protocol):
    """A density that knows its score with noise added: those of data/densities.py, or a learned
    one."""

    def score(self, x: Any, noise: Any, /) -> Examples:
        """∇ log p of x (N, D) with noise added, of one standard deviation or (N,): (N, D)."""
        ...


class Schedule:
    """x_t = a(t) x_0 + s(t) ε. A subclass gives ``marginal``, ``time``, and its ``last`` time."""

    last: float
    keeps_variance = False  # is a² + s² = 1?

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a(t) and s(t): two floats for a number t, (B,) each for times (B,)."""
        raise NotImplementedError

    def time(self, t: Any, what: str) -> float:
        """One time as a number, if the schedule has it."""
        raise NotImplementedError

    def is_same_as(self, other: Schedule) -> bool:
        """Has the other as much signal and noise, at the same times?"""
        if self is other:
            return True
        if type(self) is not type(other) or self.last != other.last:
            return False
        return all(self.marginal(t) == other.marginal(t) for t in self.times(4))

    def signal(self, t: Times) -> Any:
        """a(t): a float for a number t, (B,) for times (B,)."""
        return self.marginal(t)[0]

    def noise(self, t: Times) -> Any:
        """s(t): a float for a number t, (B,) for times (B,)."""
        return self.marginal(t)[1]

    def beside(self, x: Examples, t: Times) -> tuple[Examples, Examples]:
        """a(t) and s(t) in the shape (B, 1, ...), which multiplies x (B, ...); in its dtype and on
        its device. t: a number, or times (B,)."""
        what = f"{type(self).__name__}.beside"
        fitting(t, batch(x, f"{what}: x"), f"{what}: t")
        has_history = isinstance(t, Tensor) and t.requires_grad
        a, s = self.marginal(t if has_history else bare(t))
        shape = (len(x),) + (1,) * (x.ndim - 1)
        a, s = per_example(a, x, f"{what}: t"), per_example(s, x, f"{what}: t")
        return a.reshape(shape), s.reshape(shape)

    def each(self, x: Examples, t: Times) -> Examples:
        """The time of each of x (B, ...): (B,), in its dtype, on its device. t: one, or (B,)."""
        what = f"{type(self).__name__}.each"
        fitting(t, batch(x, f"{what}: x"), f"{what}: t")
        return like(x, per_example(t, x, f"{what}: t"))

    def perturb(self, x0: Examples, t: Times, z: Examples) -> Examples:
        """x_t = a x_0 + s z, for x0 (B, ...), t a number or (B,), and z as x0, from N(0, I).

        What has the weight 0 is not read: the noise at time 0, the data where no signal is left.
        """
        what = f"{type(self).__name__}.perturb"
        fitting(t, batch(x0, f"{what}: x0"), f"{what}: t")
        if tuple(batch(z, f"{what}: z").shape) != tuple(x0.shape):
            raise ValueError(
                f"{what}: z has shape {tuple(z.shape)} and x0 {tuple(x0.shape)}; they must be equal"
            )
        a, s = self.beside(x0, t)
        return in_dtype_of(x0, weighted(a, x0) + weighted(s, z))

    def between(self, t: float, s: float) -> tuple[float, float]:
        """α and β of q(x_t | x_s) = N(α x_s, β I), for an earlier time s with signal in it."""
        (a_t, s_t), (a_s, s_s) = self.marginal(t), self.marginal(s)
        alpha = a_t / a_s
        return alpha, max(0.0, s_t * s_t - alpha * alpha * s_s * s_s)  # rounding

    def random_times(self, x: Examples) -> Examples:
        """A time for each of x (B, ...), on its device, for training: (B,), uniform."""
        batch(x, f"{type(self).__name__}.random_times: x")
        return like(x, self.last * uniform(len(x), x, x.dtype))

    def times(self, steps: int) -> list[float]:
        """steps + 1 times for a sampler, from the last down to 0, evenly spaced."""
        steps = size(steps, f"{type(self).__name__}.times: steps", 1)
        return [self.last * (steps - i) / steps for i in range(steps + 1)]

    def prior(self, shape: int | Sequence[int], like: Examples | ModuleType) -> Array:
        """Points of the noise at the last time, N(0, s² I), drawn where ``like`` is: an array, a
        Tensor, numpy or cupy."""
        what = f"{type(self).__name__}.prior"
        if not (is_array(like) or isinstance(like, ModuleType)):
            raise TypeError(
                f"{what}: like is {shown(like)}; it must be an array, a Tensor, numpy or cupy"
            )
        return self.noise(self.last) * standard_normal(sizes(shape, f"{what}: shape"), like)

    def log_prior(self, x: Examples) -> Examples:
        """The log-density of that noise at x (B, D), in nats: (B,)."""
        batch(x, f"{type(self).__name__}.log_prior: x", 2)
        s = self.noise(self.last)
        peak = x.shape[1] * math.log(s * math.sqrt(2 * math.pi))
        return -0.5 * (x * x).sum(axis=-1) / s**2 - peak

    def score_of(self, density: Scored) -> Callable[[Examples, Times], Examples]:
        """∇ log p_t, (x, t) -> (B, D), by a density whose score(x, noise) is that of p_0 with noise
        added, exact (data/densities.py) or learned.

        x_t / a is a point of p_0 with noise s / a added, so one score serves every schedule.
        """
        if not callable(getattr(density, "score", None)):
            raise TypeError(
                f"{type(self).__name__}.score_of: density is {shown(density)}; it must have a "
                "function score(x, noise); a score of (x, t) is taken as it is"
            )

        def score(x: Examples, t: Times) -> Examples:
            a, s = self.beside(x, self.each(x, t) if is_number(t) else t)
            return density.score(x / a, (s / a).reshape((len(x),))) / a

        return made_for(score, self)


def schedule_in(value: Any, who: str) -> Schedule:
    """The argument ``schedule`` of the function ``who``, if it is a schedule."""
    if not isinstance(value, Schedule):
        raise TypeError(
            f"{who}: schedule is {shown(value)}; it must be a Schedule, as cosine_schedule(1000), "
            "VP() and EDM() make one"
        )
    return value


Made = TypeVar("Made", bound=Callable)


def made_for(function: Made, schedule: Schedule | None) -> Made:
    """A denoiser or a score, with a note of the schedule that it was made for; None: any."""
    function.schedule = schedule  # type: ignore[attr-defined]  functions take attributes
    return function


def refuse_another(function: Any, schedule: Schedule, who: str, what: str) -> None:
    """ValueError for a denoiser or a score that was made for another schedule. What has no note of
    its schedule passes: a function of your own, say."""
    while isinstance(function, partial):
        function = function.func
    own = getattr(function, "schedule", None)
    if isinstance(own, Schedule) and not own.is_same_as(schedule):
        raise ValueError(
            f"{who}: {what} was made for another schedule ({type(own).__name__}, last time "
            f"{own.last:g}) than the one given here ({type(schedule).__name__}, last time "
            f"{schedule.last:g}): their signal or noise differ; give both the same schedule"
        )


def fitting(t: Times, x: Examples, what: str) -> None:
    """ValueError unless t is one number, or (B,) beside x (B, ...)."""
    shape = tuple(getattr(t, "shape", ()))
    if shape not in ((), (len(x),)):
        raise ValueError(
            f"{what} has shape {shape} and x {tuple(x.shape)}; t must be a number, or one "
            "for each of x"
        )


def like(x: Examples, times: Examples) -> Examples:
    """Times as a Tensor where x is one, else as they are."""
    return Tensor(times) if isinstance(x, Tensor) and not isinstance(times, Tensor) else times


def weighted(weight: Examples, x: Examples) -> Examples:
    """weight x, and 0 where the weight is 0, whatever x is there; x is read where the weight needs
    a gradient, which is x."""
    if isinstance(weight, Tensor) and weight.requires_grad:
        return weight * x
    return weight * ops.where(weight == 0, 0.0, x)


# ── DDPM: whole steps ────────────────────────────────────────────────────────────────────────────


class DDPM(Schedule):
    """a = √ᾱ_t and s = √(1 - ᾱ_t), at the times 0 ... T. alpha_bar (T + 1,): from 1, at time 0,
    down to no less than 0."""

    keeps_variance = True
    last: int

    def __init__(self, alpha_bar: Sequence[float] | np.ndarray):
        alpha_bar = real_row(alpha_bar, "DDPM: alpha_bar")
        falls = (np.diff(alpha_bar) <= 0).all()
        if len(alpha_bar) < 2 or alpha_bar[0] != 1 or not alpha_bar[-1] >= 0 or not falls:
            raise ValueError(
                f"DDPM: alpha_bar holds {len(alpha_bar)} numbers that are no schedule: it must "
                "begin with 1, fall from step to step, and stay at or above 0; linear_schedule and "
                "cosine_schedule make one"
            )
        self.alpha_bar = alpha_bar
        self.last = len(alpha_bar) - 1
        ends_in_nan = np.append(alpha_bar, np.nan)  # for a wrong time on a GPU
        self._table = np.stack([ends_in_nan, 1 - ends_in_nan]) ** 0.5  # (2, T + 2)

    def is_same_as(self, other: Schedule) -> bool:
        """Has the other the same alpha_bar?"""
        return isinstance(other, DDPM) and np.array_equal(self.alpha_bar, other.alpha_bar)

    def time(self, t: Any, what: str) -> int:
        """A whole number from 0 to T; IndexError for one outside."""
        return whole_time(t, what, self.last)

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a and s, for whole numbers t, one or (B,).

        IndexError names a time outside 0 ... T (on a GPU the result is NaN instead: to look would
        be to wait).
        """
        if number_kind(t) is None or (number_kind(t) in ("i", "u") and is_number(t)):
            a, s = self._table[:, self.time(t, "DDPM.marginal: t")].tolist()
            return a, s
        row = self._row(t, "DDPM.marginal: t")
        a, s = constant(array_module(row), self._table)[:, row]
        return (Tensor(a), Tensor(s)) if isinstance(t, Tensor) else (a, s)

    def _row(self, t: Times, what: str) -> Array:
        """Times (B,) as places in the table, on their device."""
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

    def each(self, x: Examples, t: Times) -> Examples:
        """The time of each of x (B, ...), as int64 (B,), on its device. t: a number, or (B,)."""
        fitting(t, batch(x, "DDPM.each: x"), "DDPM.each: t")
        xp = array_module(bare(x))
        if number_kind(t) is None or is_number(t):
            return like(x, xp.full(len(x), self.time(t, "DDPM.each: t")))
        return like(x, xp.broadcast_to(from_host(xp, bare(t)), (len(x),)))

    def random_times(self, x: Examples) -> Examples:
        """A whole number of 1 ... T for each of x (B, ...), on its device: int64 (B,)."""
        u = uniform(len(batch(x, "DDPM.random_times: x")), x)
        return like(x, ops.minimum((u * self.last).astype("int64"), self.last - 1) + 1)

    def times(self, steps: int | None = None) -> np.ndarray:
        """Whole numbers T ... 0 (steps + 1,), as evenly spaced as they can be; all of them where
        steps is left out.

        differs: Song, Meng & Ermon 2021 count ⌊c i⌋ from below, and begin a little before T.
        """
        count = self.last if steps is None else size(steps, "times: steps", -self.last)
        if not 1 <= count <= self.last:
            raise ValueError(
                f"times: steps is {count}; a schedule of {self.last} steps can be walked in 1 to "
                f"{self.last}"
            )
        return np.round(np.linspace(self.last, 0, count + 1)).astype(int)


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> DDPM:
    """β_1 ... β_T on a straight line from ``first`` to ``last`` (Ho et al. 2020, section 4).

    Both are made for 1,000 steps. With 50 much of the image is left, a = 0.78: a shorter
    schedule needs a larger ``last``.
    """
    steps = size(steps, "linear_schedule: steps", 1)
    first = finite(first, "linear_schedule: first", above=0, below=1)
    last = finite(last, "linear_schedule: last", above=0, below=1)
    return DDPM(alpha_bar_of(np.linspace(first, last, steps)))


def cosine_schedule(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> DDPM:
    """ᾱ of cos²: noise comes more slowly at both ends (Nichol & Dhariwal 2021, eq. 17).

    ᾱ_t = f(t) / f(0),  f(t) = cos²((t / T + offset) / (1 + offset) π / 2);  no β is larger than
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
    if not len(betas) or not ((betas > 0) & (betas < 1)).all():
        raise ValueError(
            f"alpha_bar_of: betas of shape {betas.shape}, from {betas.min(initial=1)} to "
            f"{betas.max(initial=0)}: there must be one for each step at least, all above 0 and "
            "below 1"
        )
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def real_row(values: Any, what: str) -> np.ndarray:
    """A NumPy array or a list of real numbers, one axis, as float64."""
    plain = isinstance(values, (list, tuple)) and all(
        isinstance(v, (int, float, np.number)) for v in values
    )
    array = np.asarray(values) if plain else values
    if type(array) is not np.ndarray or array.dtype.kind not in ("f", "i", "u"):
        raise TypeError(f"{what} is {shown(values)}; it must be a NumPy array of real numbers")
    if array.ndim != 1:
        raise ValueError(f"{what} has shape {array.shape}; it must have one axis")
    return array.astype(np.float64, copy=False)
