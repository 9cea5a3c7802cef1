"""Densities of which everything is known: samples, log p, and the score grad log p, with noise
added or without.

    p_s(x) = ∫ p(y) N(x; y, s² I) dy                p, after noise of standard deviation s was added

    of Gaussians    p_s(x) = Σ_k w_k N(x; m_k, C_k + s² I)
                    grad log p_s(x) = Σ_k r_k (C_k + s² I)⁻¹ (m_k - x)
                    r_k: the share of component k in p_s(x)
    of boxes        p_s(x) = Σ_k w_k Π_d [Φ((x_d - a_kd) / s) - Φ((x_d - b_kd) / s)] / (b_kd - a_kd)

They are what learned scores, samplers and likelihoods are held to.  ``log_density(x, noise)`` and
``score(x, noise)`` take s as ``noise``, a number or one for each point, and run on NumPy and CuPy
arrays and on Tensors, in the precision of x (halves in float32, and rounded once); so
``density.score`` is a score(x, s) that any sampler can use in place of a network. What is beyond
the numbers of x's dtype is infinite, never NaN. Many points are taken in blocks, so that what is
held beside x and the answer does not grow with them.

What sums of components share is in components.py, the integral of a Gaussian over a box in
noised_box.py. Densities with names (eight_gaussians, checkerboard, ...) are in shapes.py, curved
surfaces in surfaces.py.
See at work: demos/13_brownian.py, demos/14_score_matching.py.
Shapes: N points, K components, D axes.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from tinycv.data import components
from tinycv.data.components import (
    Values,
    beside,
    check_points,
    checked_noise,
    in_blocks,
    is_zero,
    mixed,
    reach_of,
    root_of_squares,
    shares,
    shares_of,
    within_range,
)
from tinycv.data.inputs import MOST, drawn, real_numbers
from tinycv.data.noised_box import HALF_LOG_2PI, noised_box
from tinycv.engine import ops
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.backend import Array
from tinycv.engine.ops import log, logsumexp, where
from tinycv.engine.tensor import ArrayLike, Tensor, bare

# points, and what is said of them, which is of the same kind (CuPy's arrays too)
Points = TypeVar("Points", Tensor, np.ndarray)


class Mixture:
    """Gaussians m_k of weights w_k, all with one standard deviation ``sigma``, or each with a
    covariance of its own.

    means (K, D); weights (K,), scaled to sum to 1, equal where left out; covariance (D, D) or (K,
    D, D), in sigma's place.
    """

    def __init__(
        self,
        means: ArrayLike,
        sigma: float | None = None,
        weights: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
    ):
        self.means = real_numbers(means, "Mixture: means")
        if self.means.ndim != 2 or not self.means.size or (sigma is None) == (covariance is None):
            raise ValueError(
                "Mixture: it takes means (K, D) of at least one component, and either sigma or "
                f"covariance; means are {self.means.shape}, sigma is {shown(sigma)}, covariance is "
                f"{'not given' if covariance is None else 'given'}"
            )
        count, self.dim = self.means.shape
        self.weights, self.sigma, self.covariance = (
            shares(weights, count, "Mixture"),
            sigma,
            covariance,
        )
        if covariance is None:
            deviation = number(sigma, "Mixture: sigma", low=0, below=MOST)
            self.axes, self.deviations = None, np.full((1, 1), deviation)
        # C_k = Q_k diag(v_k) Q_kᵀ, and noise adds to v_k
        else:
            self.covariance = real_numbers(covariance, "Mixture: covariance")
            if self.covariance.shape not in ((self.dim,) * 2, (count, self.dim, self.dim)):
                raise ValueError(
                    f"Mixture: covariance is {self.covariance.shape}; for means {self.means.shape} "
                    f"it must be {(self.dim,) * 2} or {(count, self.dim, self.dim)}"
                )
            if not np.allclose(self.covariance, self.covariance.swapaxes(-1, -2)):
                raise ValueError("Mixture: covariance is not symmetric, as every covariance is")
            variances, axes = np.linalg.eigh(self.covariance)
            if variances.min() < 0:
                raise ValueError(
                    f"Mixture: covariance has the eigenvalue {variances.min():.3g}: none may be "
                    "negative"
                )
            self.axes = np.broadcast_to(axes, (count, self.dim, self.dim))
            # along the axes, (1 or K, D)
            self.deviations = np.sqrt(np.atleast_2d(variances))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points: (n, D) float32."""
        n = drawn("Mixture.sample", n, rng)
        chosen = rng.choice(len(self.means), size=n, p=self.weights)
        z = rng.standard_normal((n, self.dim)) * self.deviations[chosen % len(self.deviations)]
        if self.axes is not None:
            rows = max(1, components.BLOCK // self.dim**2)
            for i in range(0, n, rows):
                z[i : i + rows] = np.einsum(
                    "nij,nj->ni", self.axes[chosen[i : i + rows]], z[i : i + rows]
                )
        return (self.means[chosen] + z).astype(np.float32)

    def log_density(self, x: Points, noise: ArrayLike = 0.0) -> Points:
        """log p_s(x) in nats: (N,), for x (N, D)."""
        check_points(x, self.dim, "Mixture")
        return in_blocks(self._log_density, x, self._noise(x, noise), self.means.size)

    def score(self, x: Points, noise: ArrayLike = 0.0) -> Points:
        """grad log p_s(x): (N, D), for x (N, D)."""
        check_points(x, self.dim, "Mixture")
        return in_blocks(self._score, x, self._noise(x, noise), self.means.size)

    def _noise(self, x: Values, noise: ArrayLike) -> float | Values:
        if not self.deviations.all() and is_zero(noise):
            raise ValueError(
                "Mixture: where a standard deviation is 0 there is a density only after noise was "
                "added; give noise above 0"
            )
        return checked_noise(x, noise, "Mixture")

    def _log_density(self, x: Values, noise: float | Values) -> Values:
        peak, along, deviations, least, *_ = self._parts(x, noise)
        return shares_of(peak, along, deviations, reach_of(x, self.means, least))[1]

    def _score(self, x: Values, noise: float | Values) -> Values:
        peak, along, deviations, least, means, axes = self._parts(x, noise)
        # (N, K): r_k
        share, _ = shares_of(peak, along, deviations, reach_of(x, self.means, least))
        # one C for all: the means alone are mixed
        if axes is None:
            return (share @ means - x) / deviations[:, 0] / deviations[:, 0]
        # times the least: no 0 * inf in axes @
        weak = along / deviations * (least[:, None, None] / deviations)
        weak = within_range(weak, -float(np.finfo(weak.dtype).max))
        # (N, K, D, 1): C_k⁻¹ (x - m_k) least
        pulls = axes @ weak[..., None]
        return -mixed(share, pulls[..., 0]) / least[:, None]

    def _parts(self, x: Values, noise: float | Values) -> tuple:
        """Of w_k N(x; m_k, C_k + s² I): the log at its peak, (N or 1, K); x - m_k along the axes of
        C_k, (N, K, D); the standard deviations along them, and the least of these; the means and
        the axes beside x."""
        used = self.weights > 0
        means, axes = (
            beside(x, self.means[used]),
            None if self.axes is None else beside(x, self.axes[used]),
        )
        # (1, 1 or K, 1 or D)
        own = (self.deviations[used] if len(self.deviations) > 1 else self.deviations)[None]
        along = x[:, None] - means  # (N, K, D)
        if axes is not None:
            along = (axes.swapaxes(-1, -2) @ along[..., None])[..., 0]
        # in float64, as nothing is yet beside x
        if isinstance(noise, (int, float)):
            exact = np.hypot(own, noise)
            deviations, spread = (
                within_range(beside(x, exact)),
                beside(x, np.log(exact).mean(axis=-1) * self.dim),
            )
        else:
            # (N, 1 or K, 1 or D)
            deviations = within_range(root_of_squares(beside(x, own), noise))
            spread = log(deviations).mean(axis=-1) * self.dim
        peak = beside(x, np.log(self.weights[used]) - self.dim * HALF_LOG_2PI) - spread
        return peak, along, deviations, bare(deviations).min(axis=(1, 2)), means, axes


class Boxes:
    """Uniform densities on boxes that reach from ``low`` to ``high``, both (K, D); weights (K,) as
    a Mixture's."""

    def __init__(self, low: ArrayLike, high: ArrayLike, weights: ArrayLike | None = None):
        self.low, self.high = real_numbers(low, "Boxes: low"), real_numbers(high, "Boxes: high")
        if (
            self.low.ndim != 2
            or not self.low.size
            or self.low.shape != self.high.shape
            or not (self.low < self.high).all()
        ):
            raise ValueError(
                "Boxes: they reach from low to high, both (K, D) and low the smaller everywhere; "
                f"got shapes {self.low.shape} and {self.high.shape}"
            )
        self.dim, self.weights = self.low.shape[1], shares(weights, len(self.low), "Boxes")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points: (n, D) float32."""
        n = drawn("Boxes.sample", n, rng)
        chosen = rng.choice(len(self.low), size=n, p=self.weights)
        return rng.uniform(self.low[chosen], self.high[chosen]).astype(np.float32)

    def log_density(self, x: Points, noise: ArrayLike = 0.0) -> Points:
        """log p_s(x) in nats: (N,), for x (N, D). Without noise it is -inf outside the boxes."""
        check_points(x, self.dim, "Boxes")
        return in_blocks(self._log_density, x, checked_noise(x, noise, "Boxes"), self.low.size)

    def score(self, x: Points, noise: ArrayLike) -> Points:
        """grad log p_s(x): (N, D), for x (N, D). There must be noise: the density itself jumps at
        its edges."""
        check_points(x, self.dim, "Boxes")
        if is_zero(noise):
            raise ValueError(
                f"Boxes.score: noise is {shown(noise)}; boxes have a score only after noise was "
                "added, so it must be above 0"
            )
        return in_blocks(self._score, x, checked_noise(x, noise, "Boxes"), self.low.size)

    def _log_density(self, x: Values, noise: float | Values) -> Values:
        if not is_zero(noise):
            rest, away, s, _ = self._parts(x, noise)
            return shares_of(rest, away, s, reach_of(x, self._ends(), bare(s)[:, 0, 0]))[1]
        used = self.weights > 0
        # (N, K)
        inside = (ops.abs(x[:, None] - self._middle(x)) <= self._half(x)).all(axis=-1)
        prior = np.log(self.weights[used]) - np.log(self.high - self.low)[used].sum(axis=-1)
        return logsumexp(beside(x, prior) + where(inside, 0.0, -math.inf), axis=-1)

    def _score(self, x: Values, noise: float | Values) -> Values:
        rest, away, s, slopes = self._parts(x, noise)
        return (
            mixed(shares_of(rest, away, s, reach_of(x, self._ends(), bare(s)[:, 0, 0]))[0], slopes)
            / s[:, 0]
        )

    def _middle(self, x: Values) -> Array:
        return beside(x, (self.low + self.high)[self.weights > 0] / 2)  # (K, D)

    def _half(self, x: Values) -> Array:
        return beside(x, (self.high - self.low)[self.weights > 0] / 2)  # (K, D)

    def _ends(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def _parts(self, x: Values, noise: float | Values) -> tuple:
        """The log of w_k times the noised box k is ``rest`` - |away / s|² / 2: rest (N, K); away
        (N, K, D), the distance from the box; s (N or 1, 1, 1). Then s times its gradient in x, (N,
        K, D)."""
        width = np.log(self.high - self.low)[self.weights > 0][None]  # (1, K, D)
        if isinstance(noise, (int, float)):
            s, in_s = beside(x, np.full((1, 1, 1), noise)), beside(x, width - math.log(noise))
        else:
            s, in_s = noise, beside(x, width) - log(noise)
        s, half = within_range(s), self._half(x)
        from_middle = x[:, None] - self._middle(x)  # (N, K, D)
        distance = ops.abs(from_middle)
        rest, slope = noised_box(within_range(distance / s, 0.0), half / s, in_s)
        prior = beside(x, np.log(self.weights[self.weights > 0]) - width[0].sum(axis=-1))
        return (
            prior + rest.sum(axis=-1),
            ops.maximum(distance - half, 0.0),
            s,
            ops.sign(from_middle) * slope,
        )


def entropy(density: Mixture | Boxes, reach: float, cells: int = 1000) -> float:
    """-∫ p log p in nats, of a density on the plane that is 0 outside [-reach, reach]²: a sum over
    cells x cells midpoints.

    No model's mean log-likelihood on unseen points can be above -entropy, but for chance.
    """
    reach, cells = (
        number(reach, "entropy: reach", above=0, below=MOST),
        size(cells, "entropy: cells", 1),
    )
    if not callable(getattr(density, "log_density", None)):
        raise TypeError(f"entropy: density is {shown(density)}; it must have a log_density")
    width = 2 * reach / cells
    ticks = -reach + width * (np.arange(cells) + 0.5)
    total = 0.0
    rows = max(1, min(50, 50_000 // cells))
    for y in np.split(ticks, range(rows, cells, rows)):
        log_p = density.log_density(np.stack(np.meshgrid(ticks, y), axis=-1).reshape(-1, 2))
        total -= (np.exp(log_p) * np.where(np.isneginf(log_p), 0.0, log_p)).sum() * width**2
    return float(total)
