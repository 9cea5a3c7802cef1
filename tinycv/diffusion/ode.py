"""Probability flow ODE: from noise to data without randomness, and exact likelihoods along the way.

    dx/dt = v(x, t)                 for diffusion sde.flow(score); or learned (flow_matching.py)
    d log p_t(x(t)) / dt = -∇·v(x(t), t)                      Chen et al. 2018, theorem 1
    log p_0(x(0)) = log p_1(x(1)) + ∫₀¹ ∇·v(x(t), t) dt       Song et al. 2021, eq. 39

Where a flow moves points apart their density falls, and the divergence ∇·v says how fast.  It is
computed exactly, with one backward pass per axis, or estimated along one random direction, the same
for the whole way (Hutchinson; Grathwohl et al. 2019, eq. 7).

There are three methods with fixed steps.  Euler evaluates v once per step, Heun twice, Runge-Kutta
four times; their errors fall with the first, second and fourth power of the step size.
``log_likelihood`` is for the flow of a diffusion process, ``flow_log_likelihood`` for any velocity.
Read first: sde.py, with_divergence in score.py.   Read next: flow_matching.py.
See at work: demos/18_sde_likelihood.py.
Shapes: B points, D axes.  t and ``then`` are numbers: a step goes from the time t to ``then``,
which is later on the way to the noise and earlier on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tinycv.diffusion.samplers import points, sample, to_points
from tinycv.diffusion.score import with_divergence, with_slope_along
from tinycv.diffusion.sde import SDE, Velocity
from tinycv.diffusion.tweedie import Score
from tinycv.engine.arguments import shown
from tinycv.engine.backend import Array
from tinycv.engine.methods import concatenate
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.nn.distributions import normal_log_prob
from tinycv.nn.inputs import (
    Examples,
    answer,
    answering,
    batch,
    finite,
    function,
    in_dtype_of,
    numbers,
)

# (v, x at time t, t, then) -> x at then
ODEStep = Callable[[Velocity, Any, float, float], Examples]


def euler(v: Velocity, x: Examples, t: float, then: float) -> Examples:
    """Euler's method: one step along v(x, t)."""
    v, t, then = _ready("euler", v, x, t, then)
    return in_dtype_of(x, x + (then - t) * v(x, t))


def heun(v: Velocity, x: Examples, t: float, then: float) -> Examples:
    """Heun's method: a step along the mean of v here and where Euler's step would end."""
    v, t, then = _ready("heun", v, x, t, then)
    here = v(x, t)
    there = v(in_dtype_of(x, x + (then - t) * here), then)
    return in_dtype_of(x, x + (then - t) / 2 * (here + there))


def rk4(v: Velocity, x: Examples, t: float, then: float) -> Examples:
    """The classical Runge-Kutta method of order 4: v at the start, twice in the middle, and at the
    end, with the weights 1, 2, 2, 1."""
    v, t, then = _ready("rk4", v, x, t, then)
    h, middle = then - t, (t + then) / 2
    k1 = v(x, t)
    k2 = v(in_dtype_of(x, x + h / 2 * k1), middle)
    k3 = v(in_dtype_of(x, x + h / 2 * k2), middle)
    k4 = v(in_dtype_of(x, x + h * k3), then)
    return in_dtype_of(x, x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))


def _ready(
    name: str, v: Velocity, x: Examples, t: float, then: float
) -> tuple[Velocity, float, float]:
    """The velocity, wrapped so that the shape of its result is checked, and both times as
    floats."""
    batch(x, f"{name}: x")
    return answering(v, f"{name}: v"), finite(t, f"{name}: t"), finite(then, f"{name}: then")


def solve(
    v: Velocity, x: Examples, times: Sequence[float] | np.ndarray, step: ODEStep = heun
) -> Array:
    """x moved along v(x, t) from times[0] to times[-1]; an array."""
    x, times = points(x, "solve: x"), numbers(times, "solve: times")
    v, step = to_points(v, "solve: v"), function(step, "solve: step")

    def along(x: Array, t: float, then: float) -> Array:
        return bare(answer(step(v, x, t, then), x.shape, "solve: step"))

    return sample(along, x, times)


@no_grad()
def log_likelihood(
    sde: SDE,
    score: Score,
    x: Examples,
    times: Sequence[float] | np.ndarray,
    along: Examples | None = None,
    step: ODEStep = rk4,
) -> Array:
    """log p(x) in nats, (B,), for x (B, D), where p is the density that the flow makes of the
    prior.

    times rise to 1, from 0 or just above. If they start at t, p is the density of the data with
    noise of level σ(t) / a(t) added. along (B, D), drawn from N(0, I) or random signs: estimate the
    divergence along these directions, which costs one backward pass instead of D and is right on
    average. ValueError for times that fall.
    """
    sde, times = _checked(sde, times)
    score, x = answering(score, "log_likelihood: score"), points(x, "log_likelihood: x", 2)
    a = sde.signal(times[0])
    log_p = flow_log_likelihood(sde.flow(score), a * x, times, sde.log_prior, along, step)
    return log_p + x.shape[1] * math.log(a)


def log_standard_normal(x: Examples) -> Examples:
    """log N(x; 0, I) in nats: (B,), for x (B, ...)."""
    log_p = normal_log_prob(batch(x, "log_standard_normal: x"), 0.0, 0.0)
    return log_p.sum(axis=tuple(range(1, x.ndim)))


@no_grad()
def flow_log_likelihood(
    v: Velocity,
    x: Examples,
    times: Sequence[float] | np.ndarray,
    log_prior: Callable[[Any], Examples] = log_standard_normal,
    along: Examples | None = None,
    step: ODEStep = rk4,
) -> Array:
    """log p(x) in nats, (B,), for x (B, D): the density at times[0] of the flow of any velocity
    v(x, t), t a number, which has the density exp(log_prior(x)) at times[-1].

    times run from the data to the noise. along: as in ``log_likelihood``.
    """
    times = numbers(times, "flow_log_likelihood: times", 2)
    v, step = answering(v, "flow_log_likelihood: v"), function(step, "flow_log_likelihood: step")
    log_prior = function(log_prior, "flow_log_likelihood: log_prior")
    x = points(x, "flow_log_likelihood: x", 2)
    dim, along_shape = x.shape[1], x.shape
    if along is not None:
        along_shape = batch(along, "flow_log_likelihood: along").shape
    if tuple(along_shape) != tuple(x.shape):
        raise ValueError(
            f"flow_log_likelihood: along has shape {tuple(along_shape)} and x {tuple(x.shape)}; "
            "they must be equal"
        )

    # One ODE for x and the integral of the divergence together: state (B, D + 1)
    def velocity_and_divergence(state: Array, t: float) -> Examples:
        def v_at_t(x: Tensor) -> Any:
            return v(x, t)

        point = state[:, :dim]
        if along is None:
            velocity, divergence = with_divergence(v_at_t, point)
        else:
            velocity, divergence = with_slope_along(v_at_t, point, along)
        return concatenate([velocity, divergence[:, None]], axis=1)

    start = concatenate([x, 0 * x[:, :1]], axis=1)
    end = solve(velocity_and_divergence, start, times, step)
    prior = answer(log_prior(end[:, :dim]), (len(x),), "flow_log_likelihood: log_prior")
    return bare(prior) + end[:, dim]


def _checked(sde: SDE, times: Sequence[float] | np.ndarray) -> tuple[SDE, list[float]]:
    """The process and the times; ValueError unless the times rise from the data to the noise."""
    if not isinstance(sde, SDE):
        raise TypeError(f"log_likelihood: sde is {shown(sde)}; it must be an SDE, such as VP()")
    times = numbers(times, "log_likelihood: times", 2)
    rise = all(t < then for t, then in pairwise(times))
    if not rise or times[0] < 0 or abs(times[-1] - 1) > 1e-6:
        raise ValueError(
            f"log_likelihood: times run from {times[0]} to {times[-1]}; they must rise from the "
            "data, at 0 or just above, to the noise at 1, whose density is known"
        )
    return sde, times
