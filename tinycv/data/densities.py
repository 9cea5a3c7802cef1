"""Gaussian mixtures and boxes: exact samples, log p and score, with or without added noise.

    p_σ(x) = ∫ p(y) N(x; y, σ² I) dy                p after noise of standard deviation σ was added

    of Gaussians    p_σ(x) = Σ_k w_k N(x; m_k, C_k + σ² I)
                    ∇ log p_σ(x) = Σ_k r_k (C_k + σ² I)⁻¹ (m_k - x)
                    r_k: the share of component k in p_σ(x)
    of boxes        p_σ(x) = Σ_k w_k Π_d [Φ((x_d - a_kd)/σ) - Φ((x_d - b_kd)/σ)] / (b_kd - a_kd)

Learned scores, samplers and likelihoods are tested against these densities.
``log_density(x, noise)`` and ``score(x, noise)`` take σ as ``noise``: a number, or one per point.
They run on NumPy and CuPy arrays and on Tensors, so a sampler can use ``density.score`` in place of
a network.  They compute in the precision of x (float16 in float32, rounded once at the end).  A
result too large for the dtype of x is infinite, never NaN.  Many points are computed in blocks, so
that the extra memory does not grow with their number.

components.py has the stable sums of components, noised_box.py the integral of a Gaussian over a
box. Densities known by name (eight_gaussians, checkerboard, ...) are in shapes.py, curved surfaces
in surfaces.py.
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
    array_like,
    check_points,
    checked_noise,
    in_blocks,
    is_zero,
    reach_of,
    root_of_squares,
    shares,
    shares_of,
    weighted_sum,
    within_range,
)
from tinycv.data.inputs import MOST, drawn, real_numbers
from tinycv.data.noised_box import HALF_LOG_2PI, noised_box
from tinycv.engine import ops
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.backend import Array
from tinycv.engine.ops import log, logsumexp, where
from tinycv.engine.tensor import ArrayLike, Tensor, bare

# points; a function of points returns the same type (CuPy arrays count as np.ndarray here)
Points = TypeVar("Points", Tensor, np.ndarray)


class Mixture:
    """A Gaussian mixture, with one standard deviation ``sigma`` for all components or with
    covariances.

    means (K, D). weights (K,) are scaled to sum to 1; by default they are equal. covariance,
    instead of sigma: (D, D) for all components, or (K, D, D).
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
        else:
            # C_k = Q_k diag(v_k) Q_kᵀ, and noise of variance σ² turns v_k into v_k + σ²
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
            # standard deviations along the axes Q_k, (1 or K, D)
            self.deviations = np.sqrt(np.atleast_2d(variances))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n random points: (n, D) float32."""
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
        """log p_σ(x) in nats: (N,), for x (N, D)."""
        check_points(x, self.dim, "Mixture")
        return in_blocks(self._log_density, x, self._noise(x, noise), self.means.size)

    def score(self, x: Points, noise: ArrayLike = 0.0) -> Points:
        """∇ log p_σ(x): (N, D), for x (N, D)."""
        check_points(x, self.dim, "Mixture")
        return in_blocks(self._score, x, self._noise(x, noise), self.means.size)

    def _noise(self, x: Values, noise: ArrayLike) -> float | Values:
        if not self.deviations.all() and is_zero(noise):
            raise ValueError(
                "Mixture: a component with a standard deviation of 0 has a density only after "
                "noise was added; give noise above 0"
            )
        return checked_noise(x, noise, "Mixture")

    def _log_density(self, x: Values, noise: float | Values) -> Values:
        peak, along, deviations, least, *_ = self._parts(x, noise)
        return shares_of(peak, along, deviations, reach_of(x, self.means, least))[1]

    def _score(self, x: Values, noise: float | Values) -> Values:
        peak, along, deviations, least, means, axes = self._parts(x, noise)
        # (N, K): r_k
        share, _ = shares_of(peak, along, deviations, reach_of(x, self.means, least))
        # with one σ for all components the score is that of the weighted mean of the means
        if axes is None:
            return (share @ means - x) / deviations[:, 0] / deviations[:, 0]
        # C_k⁻¹ (x - m_k) is multiplied by ``least``, the smallest standard deviation, and divided
        # by it again at the end. So no element is infinite, and the product with axes never
        # computes 0 * inf.
        scaled = along / deviations * (least[:, None, None] / deviations)
        scaled = within_range(scaled, -float(np.finfo(scaled.dtype).max))
        pulls = axes @ scaled[..., None]  # (N, K, D, 1)
        return -weighted_sum(share, pulls[..., 0]) / least[:, None]

    def _parts(self, x: Values, noise: float | Values) -> tuple:
        """The parts of w_k N(x; m_k, C_k + σ² I): the log of its peak, (N or 1, K); x - m_k along
        the axes of C_k, (N, K, D); the standard deviations along these axes; the smallest one,
        (N or 1,); the means and the axes as arrays like x."""
        used = self.weights > 0
        means = array_like(x, self.means[used])
        axes = None if self.axes is None else array_like(x, self.axes[used])
        # without noise: (1, 1 or K, 1 or D)
        clean = (self.deviations[used] if len(self.deviations) > 1 else self.deviations)[None]
        along = x[:, None] - means  # (N, K, D)
        if axes is not None:
            along = (axes.swapaxes(-1, -2) @ along[..., None])[..., 0]
        if isinstance(noise, (int, float)):
            # one noise level for all points: computed in float64, then converted to the dtype of x
            exact = np.hypot(clean, noise)
            deviations = within_range(array_like(x, exact))
            spread = array_like(x, np.log(exact).mean(axis=-1) * self.dim)
        else:
            # (N, 1 or K, 1 or D)
            deviations = within_range(root_of_squares(array_like(x, clean), noise))
            spread = log(deviations).mean(axis=-1) * self.dim
        peak = array_like(x, np.log(self.weights[used]) - self.dim * HALF_LOG_2PI) - spread
        return peak, along, deviations, bare(deviations).min(axis=(1, 2)), means, axes


class Boxes:
    """A mixture of uniform densities on boxes from ``low`` to ``high``, both (K, D). weights (K,):
    as in Mixture."""

    def __init__(self, low: ArrayLike, high: ArrayLike, weights: ArrayLike | None = None):
        self.low, self.high = real_numbers(low, "Boxes: low"), real_numbers(high, "Boxes: high")
        if (
            self.low.ndim != 2
            or not self.low.size
            or self.low.shape != self.high.shape
            or not (self.low < self.high).all()
        ):
            raise ValueError(
                "Boxes: low and high must have one shape (K, D), and low must be below high "
                f"everywhere; got shapes {self.low.shape} and {self.high.shape}"
            )
        self.dim, self.weights = self.low.shape[1], shares(weights, len(self.low), "Boxes")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n random points: (n, D) float32."""
        n = drawn("Boxes.sample", n, rng)
        chosen = rng.choice(len(self.low), size=n, p=self.weights)
        return rng.uniform(self.low[chosen], self.high[chosen]).astype(np.float32)

    def log_density(self, x: Points, noise: ArrayLike = 0.0) -> Points:
        """log p_σ(x) in nats: (N,), for x (N, D). Without noise it is -inf outside the boxes."""
        check_points(x, self.dim, "Boxes")
        return in_blocks(self._log_density, x, checked_noise(x, noise, "Boxes"), self.low.size)

    def score(self, x: Points, noise: ArrayLike) -> Points:
        """∇ log p_σ(x): (N, D), for x (N, D). noise must be above 0, because the density itself
        jumps at the edges of its boxes."""
        check_points(x, self.dim, "Boxes")
        if is_zero(noise):
            raise ValueError(
                f"Boxes.score: noise is {shown(noise)}; boxes have a score only after noise was "
                "added, so it must be above 0"
            )
        return in_blocks(self._score, x, checked_noise(x, noise, "Boxes"), self.low.size)

    def _log_density(self, x: Values, noise: float | Values) -> Values:
        if not is_zero(noise):
            rest, away, sigma, _ = self._parts(x, noise)
            reach = reach_of(x, self._ends(), bare(sigma)[:, 0, 0])
            return shares_of(rest, away, sigma, reach)[1]
        used = self.weights > 0
        # (N, K)
        inside = (ops.abs(x[:, None] - self._middle(x)) <= self._half(x)).all(axis=-1)
        prior = np.log(self.weights[used]) - np.log(self.high - self.low)[used].sum(axis=-1)
        return logsumexp(array_like(x, prior) + where(inside, 0.0, -math.inf), axis=-1)

    def _score(self, x: Values, noise: float | Values) -> Values:
        rest, away, sigma, slopes = self._parts(x, noise)
        reach = reach_of(x, self._ends(), bare(sigma)[:, 0, 0])
        share, _ = shares_of(rest, away, sigma, reach)
        return weighted_sum(share, slopes) / sigma[:, 0]

    def _middle(self, x: Values) -> Array:
        return array_like(x, (self.low + self.high)[self.weights > 0] / 2)  # (K, D)

    def _half(self, x: Values) -> Array:
        return array_like(x, (self.high - self.low)[self.weights > 0] / 2)  # (K, D)

    def _ends(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def _parts(self, x: Values, noise: float | Values) -> tuple:
        """(rest, away, sigma, slopes), where rest - |away / sigma|² / 2 is the log of w_k times the
        noised box k: rest (N, K); away (N, K, D), the distance from the box; sigma (N or 1, 1, 1),
        the noise level. slopes (N, K, D) is sigma times the gradient of that log in x."""
        log_width = np.log(self.high - self.low)[self.weights > 0][None]  # (1, K, D)
        if isinstance(noise, (int, float)):
            sigma = array_like(x, np.full((1, 1, 1), noise))
            log_width_in_sigmas = array_like(x, log_width - math.log(noise))
        else:
            sigma, log_width_in_sigmas = noise, array_like(x, log_width) - log(noise)
        sigma, half = within_range(sigma), self._half(x)
        from_middle = x[:, None] - self._middle(x)  # (N, K, D)
        distance = ops.abs(from_middle)
        rest, slope = noised_box(
            within_range(distance / sigma, 0.0), half / sigma, log_width_in_sigmas
        )
        prior = array_like(x, np.log(self.weights[self.weights > 0]) - log_width[0].sum(axis=-1))
        return (
            prior + rest.sum(axis=-1),
            ops.maximum(distance - half, 0.0),
            sigma,
            ops.sign(from_middle) * slope,
        )


def entropy(density: Mixture | Boxes, reach: float, cells: int = 1000) -> float:
    """The entropy -∫ p log p, in nats, of a density in the plane that is 0 outside
    [-reach, reach]²: a sum over the midpoints of cells x cells squares.

    The mean log-likelihood of a model on unseen points is at most -entropy, up to chance.
    """
    reach = number(reach, "entropy: reach", above=0, below=MOST)
    cells = size(cells, "entropy: cells", 1)
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
