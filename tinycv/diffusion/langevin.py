"""Langevin dynamics: walk uphill on log p, and be kicked so hard that p is where you end up.

    x <- x + ε grad log p(x) + √(2ε) z,   z ~ N(0, I)                       unadjusted (ULA)     Roberts & Tweedie 1996

Steps of finite size end beside p: on N(0, σ²) with the variance σ² / (1 - ε / (2σ²)).  Metropolis
adjustment (MALA, ibid.) takes a step from x to y only with the probability

    min(1, p(y) q(x|y) / (p(x) q(y|x))),   q(y|x) = N(y; x + ε grad log p(x), 2ε I)

and ends exactly at p.  Both hardly ever cross a region where p is nothing, so how many points end
in which mode is a matter of where they began.  Annealed Langevin dynamics (Song & Ermon 2019,
algorithm 1) begins where the noised density p_σ has one mode, and lets σ fall, with steps that fall
with it:

    α_i = ε σ_i² / σ_L²,     x <- x + (α_i / 2) grad log p_σi(x) + √α_i z

Mind the half: NCSN's α is 2ε of the first line.  Nothing here knows whether a score was learned or
is exact.
Read before: score.py.   Read next: sde.py.   See at work: demos/15_langevin.py.
Shapes: N points, D axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tinycv.data.inputs import whole as at_most
from tinycv.engine.arguments import choice, shown, size
from tinycv.engine.backend import array_module, standard_normal, to_numpy, uniform
from tinycv.engine.reduce import mean_over
from tinycv.engine.tensor import bare, no_grad
from tinycv.nn.inputs import (
    answer,
    answering,
    batch,
    every,
    finite,
    function,
    in_dtype_of,
    in_float32,
    numbers,
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

    x: Any
    path: list = field(default_factory=list)
    acceptance: list = field(default_factory=list)
    drift: list = field(default_factory=list)

    def history(self, name: str) -> list[float]:
        """``acceptance`` or ``drift`` as numbers. Waits for the device."""
        name = choice(name, "Chain.history: name", ("acceptance", "drift"))
        return [float(to_numpy(value)) for value in getattr(self, name)]


@no_grad()
def ula(score: Callable, x: Any, step: float, steps: int, keep_every: int | None = None) -> Chain:
    """Unadjusted Langevin: ``steps`` of size ε = ``step`` from x (N, D), up score(x)."""
    chain, step, steps, keep_every = _begun("ula", x, step, steps, keep_every)
    score = answering(score, "ula: score")
    for i in range(steps):
        _keep(chain, i, keep_every)
        drift = step * bare(score(chain.x))
        noise = math.sqrt(2 * step) * _normal(chain.x)
        chain.drift.append(_length(drift) / _length(noise))
        chain.x = in_dtype_of(chain.x, chain.x + drift + noise)
    return chain


@no_grad()
def mala(
    log_density: Callable,
    score: Callable,
    x: Any,
    step: float,
    steps: int,
    keep_every: int | None = None,
) -> Chain:
    """Metropolis-adjusted Langevin: as ``ula``, and unbiased. log_density(x): (N,), up to a
    constant."""
    chain, step, steps, keep_every = _begun("mala", x, step, steps, keep_every)
    score, log_density = answering(score, "mala: score"), function(log_density, "mala: log_density")
    log_p, slope = _log_p(log_density, chain.x), bare(score(chain.x))
    _refuse_nan("log_density", log_p)
    _refuse_nan("score", slope)
    for i in range(steps):
        _keep(chain, i, keep_every)
        drift, noise = step * slope, math.sqrt(2 * step) * _normal(chain.x)
        chain.drift.append(_length(drift) / _length(noise))
        y = in_dtype_of(chain.x, chain.x + drift + noise)
        log_p_y, slope_y = _log_p(log_density, y), bare(score(y))
        # the noise that would lead from y to x
        back = chain.x - y - step * slope_y
        log_ratio = log_p_y - log_p - (_squares(back) - _squares(noise)) / (4 * step)
        # 1 - a half is often 0
        xp, dtype = array_module(y), np.promote_types(y.dtype, np.float32)
        # 1 - u: never log 0
        taken = xp.log(1 - uniform(len(y), y, dtype)) < log_ratio
        chain.acceptance.append(mean_over(xp, taken))
        chain.x, slope = (
            xp.where(taken[:, None], y, chain.x),
            xp.where(taken[:, None], slope_y, slope),
        )
        log_p = xp.where(taken, log_p_y, log_p)
    return chain


@no_grad()
def annealed(
    score: Callable,
    x: Any,
    sigmas: Sequence[float],
    steps: int,
    eps: float,
    keep_every: int | None = None,
) -> Chain:
    """Annealed Langevin: ``steps`` at each noise level of ``sigmas``, which fall, up score(x, σ
    (N,)). eps is the paper's
    ε: the step α at the last level."""
    sigmas = numbers(sigmas, "annealed: sigmas", above=0)
    if any(lower > upper for upper, lower in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(f"annealed: sigmas are {shown(sigmas)}; noise levels must not rise")
    function(score, "annealed: score")

    def at_level(level: Any, x: Any) -> Any:
        return answer(score(x, level), x.shape, "annealed: score")

    chain, eps, steps, keep_every = _begun("annealed", x, eps, steps, keep_every)
    for sigma in map(float, sigmas):
        level = array_module(chain.x).full(len(chain.x), sigma, chain.x.dtype)
        alpha = eps * (sigma / float(sigmas[-1])) ** 2
        part = ula(partial(at_level, level), chain.x, alpha / 2, steps, keep_every or None)
        chain.x, chain.path, chain.drift = part.x, chain.path + part.path, chain.drift + part.drift
    return chain


def geometric(first: float, last: float, count: int) -> list[float]:
    """``count`` noise levels from first to last, each the same fraction of the one before."""
    count = at_most(count, "geometric: count", 2, MOST_LEVELS)
    first, last = (
        finite(first, "geometric: first", above=0),
        finite(last, "geometric: last", above=0),
    )
    shares = [i / (count - 1) for i in range(count)]
    # their ratio may be beyond every float
    return [first ** (1 - share) * last**share for share in shares]


def _begun(
    name: str, x: Any, step: Any, steps: Any, keep_every: Any
) -> tuple[Chain, float, int, int]:
    """A chain at x, and the other arguments as plain numbers, after they were looked at."""
    what = "eps" if name == "annealed" else "step"
    return (
        Chain(bare(batch(x, f"{name}: x", 2))),
        finite(step, f"{name}: {what}", above=0),
        size(steps, f"{name}: steps"),
        every(keep_every, f"{name}: keep_every"),
    )


def _log_p(log_density: Callable, x: Any) -> Any:
    """log p at x, which must be (N,): (N, 1) would compare every walker with every other."""
    return in_float32(bare(answer(log_density(x), x.shape[:1], "mala: log_density")))


def _refuse_nan(name: str, start: Any) -> None:
    """On the host a chain may not begin where the function is NaN: every step from there would be
    refused, and the walker stand still for ever."""
    if isinstance(start, np.ndarray) and np.isnan(start).any():
        lost = np.isnan(start).reshape((len(start), -1)).any(axis=1)
        raise ValueError(
            f"mala: {name} is NaN at {lost.sum()} of the {len(start)} points of x; begin where it "
            "is a number"
        )


def _keep(chain: Chain, i: int, every: int) -> None:
    """Before step i: note where the walkers are, if it is its turn."""
    if every and i % every == 0:
        chain.path.append(chain.x)


def _normal(x: Any) -> Any:
    """N(0, I) of the shape, dtype and device of x."""
    return standard_normal(x.shape, x, x.dtype)


def _length(x: Any) -> Any:
    """The root of the mean squared length of vectors (N, D)."""
    return mean_over(array_module(x), _squares(x)) ** 0.5


def _squares(x: Any) -> Any:
    """The squared length of each of x (N, D): (N,)."""
    x = in_float32(x)
    return (x * x).sum(axis=-1)
