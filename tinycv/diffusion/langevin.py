"""Langevin dynamics (ULA, MALA, annealed): samples of p from steps along its score, plus noise.

    x <- x + δ ∇ log p(x) + √(2δ) z,   z ~ N(0, I)   unadjusted (ULA); Roberts & Tweedie 1996

A finite step size δ gives a slightly wrong distribution: for p = N(0, σ²), its variance is
σ² / (1 - δ / (2σ²)) instead of σ².  The Metropolis adjustment (MALA, ibid.) accepts a step from x
to y only with the probability

    min(1, p(y) q(x|y) / (p(x) q(y|x))),   q(y|x) = N(y; x + δ ∇ log p(x), 2δ I)

and converges to p exactly.  Neither crosses a region of almost no density in reasonable time, so
the share of points in each mode depends on where they start.  Annealed Langevin dynamics (NCSN;
Song & Ermon 2019, algorithm 1) starts at a noise level σ_1 where the noised density p_σ has one
mode, and lowers the noise level and the step size together:

    δ_i = ½ ε σ_i² / σ_L²,     x <- x + δ_i ∇ log p_σi(x) + √(2 δ_i) z

Mind the half: the paper writes α_i = 2 δ_i, and ε is the α of its last level.  The score may be
exact or learned; the code is the same.

The lecture samples images by Langevin dynamics.  The demos of images (13 and 17) run the reverse of
the noising process instead (samplers.py, sde.py), whose step sizes follow from the noise schedule.
Langevin dynamics is shown in the plane, in demo 15, where its errors can be seen.
Read first: score.py, samplers.py.   Read next: sde.py.   See at work: demos/15_langevin.py.
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

MOST_LEVELS = 10**6  # the most noise levels of one sequence


@dataclass
class Chain:
    """The N points of a Markov chain, and a record of its steps.

    x: the current points (N, D), an array. path: the points before each step that was kept.
    acceptance: for each step, the share of points whose step was accepted (MALA). drift: for each
    step, the length of the move by the score divided by that of the move by the noise (root mean
    square over the points): far above 1 the points only climb, far below 1 they only diffuse.
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
    """x + δ score(x) + √(2δ) z, for δ = ``step``. Appends the ratio of the two moves, as in
    Chain.drift, to ``drifts``. x is an array, and so is what the score returns."""
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
    """Unadjusted Langevin algorithm (ULA): ``steps`` steps of size δ = ``step`` from x (N, D)."""
    chain, step, steps, keep_every = _begun("ula", x, step, steps, keep_every)
    score = to_points(score, "ula: score")

    def climb(x: Array, number: float, next_number: float) -> Array:
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
    """Metropolis-adjusted Langevin algorithm (MALA): like ``ula``, but unbiased. log_density(x):
    (N,), up to an additive constant."""
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
        # the noise that would take a step from y back to x
        back = chain.x - y - step * slope_y
        log_ratio = log_p_y - log_p - (_squares(back) - _squares(noise)) / (4 * step)
        # u is in [0, 1), so 1 - u is above 0 and its log is finite. It is drawn in float32 at
        # least, because in float16 it would often round to 0.
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
    """Annealed Langevin dynamics: ``steps`` steps at each of the falling noise levels ``sigmas``,
    with score(x, sigma), sigma (N,). eps: ε of the paper, 2 δ at the last level."""
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

        level_chain = ula(slope, x, alpha / 2, steps, keep_every or None)
        chain.path += level_chain.path
        chain.drift += level_chain.drift
        return level_chain.x

    chain.x = sample(at_level, chain.x, [*sigmas, 0.0])
    return chain


def geometric(first: float, last: float, count: int) -> list[float]:
    """A geometric sequence of ``count`` noise levels from first to last."""
    count = at_most(count, "geometric: count", 2, MOST_LEVELS)
    first = finite(first, "geometric: first", above=0)
    last = finite(last, "geometric: last", above=0)
    shares = [i / (count - 1) for i in range(count)]
    # not by powers of last / first, a ratio that may overflow
    return [first ** (1 - share) * last**share for share in shares]


def _begun(
    name: str, x: Any, step: Any, steps: Any, keep_every: Any
) -> tuple[Chain, float, int, int]:
    """A new chain at x, and the other arguments, checked, as plain numbers."""
    what = "eps" if name == "annealed" else "step"
    return (
        Chain(points(x, f"{name}: x", 2)),
        finite(step, f"{name}: {what}", above=0),
        size(steps, f"{name}: steps"),
        every(keep_every, f"{name}: keep_every"),
    )


def _log_p(log_density: Callable[[Array], Examples], x: Array) -> Array:
    """log p at x, checked to be (N,): by broadcasting, (N, 1) would compare every point with every
    other."""
    return in_float32(bare(answer(log_density(x), x.shape[:1], "mala: log_density")))


def _refuse_nan(name: str, start: Array) -> None:
    """ValueError, on the CPU, if a chain would start where the function is NaN: every step from
    there would be rejected, and the point would never move."""
    if isinstance(start, np.ndarray) and np.isnan(start).any():
        lost = np.isnan(start).reshape((len(start), -1)).any(axis=1)
        raise ValueError(
            f"mala: {name} is NaN at {lost.sum()} of the {len(start)} points of x; start where it "
            "is a number"
        )


def _normal(x: Array) -> Array:
    """A draw from N(0, I) with the shape, dtype and device of x."""
    return standard_normal(x.shape, x, x.dtype)


def _length(x: Array) -> Array:
    """The root mean square length of vectors (N, D)."""
    return mean(_squares(x)) ** 0.5


def _squares(x: Array) -> Array:
    """The squared length of each row of x (N, D): (N,)."""
    x = in_float32(x)
    return (x * x).sum(axis=-1)
