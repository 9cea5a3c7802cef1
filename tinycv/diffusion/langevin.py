"""Langevin dynamics: walk uphill on log p, kicked so hard that p is where you end up (ULA, MALA).

    x <- x + ε ∇ log p(x) + √(2ε) z,   z ~ N(0, I)   unadjusted (ULA); Roberts & Tweedie 1996

Steps of finite size end beside p: on N(0, σ²) with the variance σ² / (1 - ε / (2σ²)).  Metropolis
adjustment (MALA, ibid.) takes a step from x to y only with the probability

    min(1, p(y) q(x|y) / (p(x) q(y|x))),   q(y|x) = N(y; x + ε ∇ log p(x), 2ε I)

and ends exactly at p.  Both hardly ever cross a region where p is nothing, so how many points end
in which mode is a matter of where they began.  Annealed Langevin dynamics (Song & Ermon 2019,
algorithm 1) begins where the noised density p_σ has one mode, and lets σ fall, with steps that fall
with it:

    α_i = ε σ_i² / σ_L²,     x <- x + (α_i / 2) ∇ log p_σi(x) + √α_i z

Mind the half: NCSN's α is 2ε of the first line.  Nothing here knows whether a score was learned or
is exact.
Read before: score.py, samplers.py.   Read next: sde.py.   See at work: demos/15_langevin.py.
Shapes: N points, D axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from tinycv.data.inputs import whole as at_most
from tinycv.diffusion.samplers import points, sample, sample_and_keep, to_points
from tinycv.diffusion.tweedie import Score
from tinycv.engine.arguments import choice, shown, size
from tinycv.engine.backend import Array, standard_normal, to_numpy, uniform
from tinycv.engine.ops import log, mean, where
from tinycv.engine.tensor import bare, no_grad
from tinycv.nn.inputs import (
    Examples,
    answer,
    every,
    finite,
    function,
    in_dtype_of,
    in_float32,
    numbers,
    per_example,
)

MOST_LEVELS = 10**6  # of noise, in one fall


@dataclass
class Chain:
    """Where N walkers are, and how they came there.

    x: the points now (N, D), an array. path: the points before every step that was kept.
    acceptance: the share of steps taken, step by step (MALA). drift: how far the score moved the
    points, beside how far the noise did, as a ratio of root mean square lengths, step by step: far
    above 1 it only climbs, far below it only diffuses.
    """

    x: Array
    path: list[Array] = field(default_factory=list)
    acceptance: list[Array] = field(default_factory=list)
    drift: list[Array] = field(default_factory=list)

    def history(self, name: str) -> list[float]:
        """``acceptance`` or ``drift`` as numbers. Waits for the device."""
        name = choice(name, "Chain.history: name", ("acceptance", "drift"))
        return [float(to_numpy(value)) for value in getattr(self, name)]


def langevin_step(
    score: Callable[[Array], Array], x: Array, step: float, drifts: list[Array]
) -> Array:
    """x + ε score(x) + √(2ε) z, for ε = ``step``. How far the score moved the points, beside how
    far the noise did, is added to ``drifts``. x and the score: arrays."""
    drift = step * score(x)
    noise = math.sqrt(2 * step) * _normal(x)
    drifts.append(_length(drift) / _length(noise))
    return in_dtype_of(x, x + drift + noise)


def ula(
    score: Callable[[Array], Examples],
    x: Examples,
    step: float,
    steps: int,
    keep_every: int | None = None,
) -> Chain:
    """Unadjusted Langevin: ``steps`` of size ε = ``step`` from x (N, D), up score(x)."""
    chain, step, steps, keep_every = _begun("ula", x, step, steps, keep_every)
    score = to_points(score, "ula: score")

    def climb(x: Array, t: float, s: float) -> Array:
        return langevin_step(score, x, step, chain.drift)

    chain.x, chain.path = sample_and_keep(climb, chain.x, range(steps + 1), keep_every)
    return chain


@no_grad()
def mala(
    log_density: Callable[[Array], Examples],
    score: Callable[[Array], Examples],
    x: Examples,
    step: float,
    steps: int,
    keep_every: int | None = None,
) -> Chain:
    """Metropolis-adjusted Langevin: as ``ula``, and unbiased. log_density(x): (N,), up to a
    constant."""
    chain, step, steps, keep_every = _begun("mala", x, step, steps, keep_every)
    score = to_points(score, "mala: score")
    function(log_density, "mala: log_density")
    log_p, slope = _log_p(log_density, chain.x), score(chain.x)
    _refuse_nan("log_density", log_p)
    _refuse_nan("score", slope)
    for i in range(steps):
        if keep_every and i % keep_every == 0:
            chain.path.append(chain.x)
        drift, noise = step * slope, math.sqrt(2 * step) * _normal(chain.x)
        chain.drift.append(_length(drift) / _length(noise))
        y = in_dtype_of(chain.x, chain.x + drift + noise)
        log_p_y, slope_y = _log_p(log_density, y), score(y)
        # the noise that would lead from y to x
        back = chain.x - y - step * slope_y
        log_ratio = log_p_y - log_p - (_squares(back) - _squares(noise)) / (4 * step)
        # never log 0: 1 - u is above 0, but of halves it is often 0
        u = uniform(len(y), y, np.promote_types(y.dtype, np.float32))
        taken = log(1 - u) < log_ratio
        chain.acceptance.append(mean(taken.astype("float64")))
        chain.x = where(taken[:, None], y, chain.x)
        slope = where(taken[:, None], slope_y, slope)
        log_p = where(taken, log_p_y, log_p)
    return chain


def annealed(
    score: Score,
    x: Examples,
    sigmas: Sequence[float],
    steps: int,
    eps: float,
    keep_every: int | None = None,
) -> Chain:
    """Annealed Langevin: ``steps`` at each noise level of ``sigmas``, which fall, up score(x, σ
    (N,)). eps is the paper's ε: the step α at the last level."""
    sigmas = numbers(sigmas, "annealed: sigmas", above=0)
    if any(lower > upper for upper, lower in pairwise(sigmas)):
        raise ValueError(f"annealed: sigmas are {shown(sigmas)}; noise levels must not rise")
    function(score, "annealed: score")
    chain, eps, steps, keep_every = _begun("annealed", x, eps, steps, keep_every)

    def at_level(x: Array, sigma: float, lower: float) -> Array:
        level = per_example(sigma, x, "annealed: sigma")  # (N,)
        alpha = eps * (sigma / sigmas[-1]) ** 2

        def slope(x: Array) -> Examples:
            return answer(score(x, level), x.shape, "annealed: score")

        part = ula(slope, x, alpha / 2, steps, keep_every or None)
        chain.path += part.path
        chain.drift += part.drift
        return part.x

    chain.x = sample(at_level, chain.x, [*sigmas, 0.0])
    return chain


def geometric(first: float, last: float, count: int) -> list[float]:
    """``count`` noise levels from first to last, each the same fraction of the one before."""
    count = at_most(count, "geometric: count", 2, MOST_LEVELS)
    first = finite(first, "geometric: first", above=0)
    last = finite(last, "geometric: last", above=0)
    shares = [i / (count - 1) for i in range(count)]
    # their ratio may be beyond every float
    return [first ** (1 - share) * last**share for share in shares]


def _begun(
    name: str, x: Any, step: Any, steps: Any, keep_every: Any
) -> tuple[Chain, float, int, int]:
    """A chain at x, and the other arguments as plain numbers, after they were looked at."""
    what = "eps" if name == "annealed" else "step"
    return (
        Chain(points(x, f"{name}: x", 2)),
        finite(step, f"{name}: {what}", above=0),
        size(steps, f"{name}: steps"),
        every(keep_every, f"{name}: keep_every"),
    )


def _log_p(log_density: Callable[[Array], Examples], x: Array) -> Array:
    """log p at x, which must be (N,): (N, 1) would compare every walker with every other."""
    return in_float32(bare(answer(log_density(x), x.shape[:1], "mala: log_density")))


def _refuse_nan(name: str, start: Array) -> None:
    """On the host a chain may not begin where the function is NaN: every step from there would be
    refused, and the walker stand still for ever."""
    if isinstance(start, np.ndarray) and np.isnan(start).any():
        lost = np.isnan(start).reshape((len(start), -1)).any(axis=1)
        raise ValueError(
            f"mala: {name} is NaN at {lost.sum()} of the {len(start)} points of x; begin where it "
            "is a number"
        )


def _normal(x: Array) -> Array:
    """N(0, I) of the shape, dtype and device of x."""
    return standard_normal(x.shape, x, x.dtype)


def _length(x: Array) -> Array:
    """The root of the mean squared length of vectors (N, D)."""
    return mean(_squares(x)) ** 0.5


def _squares(x: Array) -> Array:
    """The squared length of each of x (N, D): (N,)."""
    x = in_float32(x)
    return (x * x).sum(axis=-1)
