"""Densities of which everything is known: samples, log p, and the score grad log p, with noise added or without.

    p_s(x) = ∫ p(y) N(x; y, s² I) dy                            p, after noise of standard deviation s was added

    of Gaussians    p_s(x) = Σ_k w_k N(x; m_k, C_k + s² I)
                    grad log p_s(x) = Σ_k r_k (C_k + s² I)⁻¹ (m_k - x),         r_k the share of component k in p_s(x)
    of boxes        p_s(x) = Σ_k w_k Π_d [Φ((x_d - a_kd) / s) - Φ((x_d - b_kd) / s)] / (b_kd - a_kd)

They are what learned scores, samplers and likelihoods are held to.  ``log_density(x, noise)`` and ``score(x, noise)`` take
s as ``noise``, a number or one for each point, and run on NumPy and CuPy arrays and on Tensors, in the precision of x; so
``density.score`` is a score(x, s) that any sampler can use in place of a network.

Densities with names (eight_gaussians, checkerboard, ...) are in shapes.py, curved surfaces in surfaces.py.
See at work: demos/13_brownian.py, demos/14_score_matching.py.   Shapes: N points, K components, D axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinycv.data.doors import NOT_PLAIN, kind_of
from tinycv.engine import ops
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.backend import array_module
from tinycv.engine.ops import exp, log, logsumexp, where
from tinycv.engine.tensor import bare

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
MOST = np.finfo(np.float64).max                 # numbers below it are finite


class Mixture:
    """Gaussians m_k of weights w_k, all with one standard deviation ``sigma``, or each with a covariance of its own.

    means (K, D); weights (K,), scaled to sum to 1, equal where left out; covariance (D, D) or (K, D, D), in sigma's place.
    """

    def __init__(self, means: Any, sigma: float | None = None, weights: Any = None, covariance: Any = None):
        self.means = real_numbers(means, "Mixture: means")
        if self.means.ndim != 2 or not self.means.size or (sigma is None) == (covariance is None):
            raise ValueError(f"Mixture: it takes means (K, D) of at least one component, and either sigma or covariance; "
                             f"means are {self.means.shape}, sigma is {sigma}, covariance is "
                             f"{'not given' if covariance is None else 'given'}")
        count, self.dim = self.means.shape
        self.weights, self.sigma, self.covariance = shares(weights, count, "Mixture"), sigma, covariance
        if covariance is None:
            number(sigma, "Mixture: sigma", low=0, below=MOST)
            self.axes, self.variances = None, np.full((1, self.dim), float(sigma) ** 2)
        else:                                                       # C_k = Q_k diag(v_k) Q_kᵀ, and noise only adds to v_k
            self.covariance = real_numbers(covariance, "Mixture: covariance")
            if self.covariance.shape not in ((self.dim,) * 2, (count, self.dim, self.dim)):
                raise ValueError(f"Mixture: covariance is {self.covariance.shape}; for means {self.means.shape} it must be "
                                 f"{(self.dim,) * 2} or {(count, self.dim, self.dim)}")
            if not np.allclose(self.covariance, self.covariance.swapaxes(-1, -2)):
                raise ValueError("Mixture: covariance is not symmetric, as every covariance is")
            variances, axes = np.linalg.eigh(self.covariance)
            if variances.min() < 0:
                raise ValueError(f"Mixture: covariance has the eigenvalue {variances.min():.3g}: none may be negative")
            self.axes, self.variances = np.broadcast_to(axes, (count, self.dim, self.dim)), np.atleast_2d(variances)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points: (n, D) float32."""
        n = drawn("Mixture.sample", n, rng)
        chosen = rng.choice(len(self.means), size=n, p=self.weights)
        z = rng.standard_normal((n, self.dim)) * np.sqrt(self.variances)[chosen % len(self.variances)]
        if self.axes is not None:
            z = np.einsum("nij,nj->ni", self.axes[chosen], z)
        return (self.means[chosen] + z).astype(np.float32)

    def log_density(self, x: Any, noise: Any = 0.0) -> Any:
        """log p_s(x) in nats: (N,), for x (N, D)."""
        return logsumexp(self._log_joint(x, noise)[0], axis=-1)

    def score(self, x: Any, noise: Any = 0.0) -> Any:
        """grad log p_s(x): (N, D), for x (N, D)."""
        joint, along, variances = self._log_joint(x, noise)
        share = exp(joint - logsumexp(joint, axis=-1, keepdims=True))           # (N, K): r_k
        if self.axes is None:                                                   # one C for all: the means alone are mixed
            return (share @ beside(x, self.means) - x) / variances[:, 0]
        pulls = beside(x, self.axes) @ (along / variances)[..., None]           # (N, K, D, 1): C_k⁻¹ (x - m_k)
        return -(share[..., None] * pulls[..., 0]).sum(axis=1)

    def _log_joint(self, x: Any, noise: Any) -> tuple:
        """log w_k N(x; m_k, C_k + s² I), (N, K); x - m_k along the axes of C_k, (N, K, D); the variances along them."""
        check_points(x, self.dim, "Mixture")
        if is_zero(noise) and not self.variances.all():
            raise ValueError("Mixture: where a standard deviation is 0 there is a density only after noise was added; give "
                             "noise above 0")
        along = x[:, None] - beside(x, self.means)                              # (N, K, D)
        if self.axes is not None:
            along = (beside(x, self.axes).swapaxes(-1, -2) @ along[..., None])[..., 0]
        variances = beside(x, self.variances[None]) + squared(x, noise, "Mixture")         # (1 or N, 1 or K, D)
        with np.errstate(divide="ignore"):
            prior = beside(x, np.log(self.weights))                             # (K,): -inf for a weight of 0
        far = 0.5 * (along * along / variances).sum(axis=-1)                    # (N, K)
        return prior - far - 0.5 * log(variances).sum(axis=-1) - self.dim * HALF_LOG_2PI, along, variances


class Boxes:
    """Uniform densities on boxes that reach from ``low`` to ``high``, both (K, D); weights (K,) as a Mixture's."""

    def __init__(self, low: Any, high: Any, weights: Any = None):
        self.low, self.high = real_numbers(low, "Boxes: low"), real_numbers(high, "Boxes: high")
        if self.low.ndim != 2 or not self.low.size or self.low.shape != self.high.shape or not (self.low < self.high).all():
            raise ValueError(f"Boxes: they reach from low to high, both (K, D) and low the smaller everywhere; got shapes "
                             f"{self.low.shape} and {self.high.shape}")
        self.dim, self.weights = self.low.shape[1], shares(weights, len(self.low), "Boxes")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points: (n, D) float32."""
        n = drawn("Boxes.sample", n, rng)
        chosen = rng.choice(len(self.low), size=n, p=self.weights)
        return rng.uniform(self.low[chosen], self.high[chosen]).astype(np.float32)

    def log_density(self, x: Any, noise: Any = 0.0) -> Any:
        """log p_s(x) in nats: (N,), for x (N, D). Without noise it is -inf outside the boxes."""
        return logsumexp(self._log_joint(x, noise)[0], axis=-1)

    def score(self, x: Any, noise: Any) -> Any:
        """grad log p_s(x): (N, D), for x (N, D). There must be noise: the density itself jumps at its edges."""
        if is_zero(noise):
            raise ValueError(f"Boxes.score: noise is {noise}; boxes have a score only after noise was added, so it must "
                             "be above 0")
        joint, slopes = self._log_joint(x, noise)
        share = exp(joint - logsumexp(joint, axis=-1, keepdims=True))           # (N, K)
        return (share[..., None] * slopes).sum(axis=1)

    def _log_joint(self, x: Any, noise: Any) -> tuple:
        """The log of w_k times the noised box k, (N, K), and its gradient in x, (N, K, D)."""
        check_points(x, self.dim, "Boxes")
        from_middle = x[:, None] - beside(x, (self.low + self.high) / 2)        # (N, K, D)
        away, half = ops.abs(from_middle), beside(x, (self.high - self.low) / 2)
        with np.errstate(divide="ignore"):
            prior = beside(x, np.log(self.weights) - np.log(self.high - self.low).sum(axis=-1))
        if is_zero(noise):
            return prior + where((away <= half).all(axis=-1), 0.0, -math.inf), None
        s = squared(x, noise, "Boxes") ** 0.5
        near, far = (away - half) / s, (away + half) / s                        # of the two edges, in standard deviations
        tail = log_tail(near)
        inside = tail + log1mexp(log_tail(far) - tail)                          # log [Φ(-near) - Φ(-far)]
        slope = exp(-0.5 * far * far - HALF_LOG_2PI - inside) - exp(-0.5 * near * near - HALF_LOG_2PI - inside)
        return prior + inside.sum(axis=-1), ops.sign(from_middle) * slope / s


def entropy(density: Any, reach: float, cells: int = 1000) -> float:
    """-∫ p log p in nats, of a density on the plane that is 0 outside [-reach, reach]²: a sum over cells x cells midpoints.

    No model's mean log-likelihood on unseen points can be above -entropy, but for chance.
    """
    reach, cells = number(reach, "entropy: reach", above=0, below=MOST), size(cells, "entropy: cells", 1)
    if not callable(getattr(density, "log_density", None)):
        raise TypeError(f"entropy: density is {shown(density)}; it must have a log_density")
    width = 2 * reach / cells
    ticks = -reach + width * (np.arange(cells) + 0.5)
    total = 0.0
    for y in np.split(ticks, range(50, cells, 50)):
        log_p = density.log_density(np.stack(np.meshgrid(ticks, y), axis=-1).reshape(-1, 2))
        total -= (np.exp(log_p) * np.where(np.isneginf(log_p), 0.0, log_p)).sum() * width ** 2
    return float(total)


# -- what both need ---------------------------------------------------------------------------------------


def real_numbers(values: Any, what: str) -> np.ndarray:
    """A float64 array of its own, of finite real numbers."""
    try:
        array = np.array(values)
    except (TypeError, ValueError) as error:                        # rows of unequal length
        raise TypeError(f"{what} is {shown(values)}; it must be an array of real numbers") from error
    if isinstance(values, NOT_PLAIN) or array.dtype.kind not in "fiu":
        raise TypeError(f"{what} is {shown(values)}; it must be a plain array of real numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or infinity; all of its numbers must be finite")
    return array.astype(np.float64, copy=False)


def drawn(name: str, n: Any, rng: Any) -> int:
    """How many points to draw, with a generator to draw them by."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{name}: rng is {shown(rng)}; it must be a NumPy Generator, np.random.default_rng(seed)")
    return size(n, f"{name}: n")


def shares(weights: Any, count: int, name: str = "shares") -> np.ndarray:
    """Weights (K,) that sum to 1; equal ones for None."""
    weights = np.ones(count) if weights is None else real_numbers(weights, f"{name}: weights")
    if weights.shape != (count,) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"{name}: weights of shape {weights.shape}: one for each of {count} components is needed, "
                         "none negative, not all 0")
    return weights / weights.sum()


def check_points(x: Any, dim: int, name: str) -> None:
    """An error unless x is points (N, dim), floats: the means would be cut to whole numbers beside an x of integers."""
    if kind_of(x) != "f":
        raise TypeError(f"{name}: x is {shown(x)}; it must be an array or a Tensor of floats (N, {dim})")
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"{name}: points of shape {x.shape}; this density takes (N, {dim})")


def is_one_number(noise: Any) -> bool:
    """Is the noise one number on the host, the same for all points?"""
    array = bare(noise)
    return isinstance(array, (int, float)) or (
        isinstance(array, (np.ndarray, np.generic)) and array.ndim == 0 and array.dtype.kind in "biuf")


def is_zero(noise: Any) -> bool:
    """Is it one number on the host, and 0?"""
    return is_one_number(noise) and float(bare(noise)) == 0


def beside(x: Any, array: np.ndarray) -> Any:
    """A host array where x is, in x's precision."""
    own = bare(x)
    return array_module(own).asarray(array, dtype=own.dtype)


def squared(x: Any, noise: Any, name: str) -> Any:
    """s² as a float, or as (N, 1, 1) where every point has its own. ValueError for what is no standard deviation (on a
    GPU, NaN in its place)."""
    if is_one_number(noise) and getattr(noise, "requires_grad", False) is False:
        return number(bare(noise), f"{name}: noise", low=0, below=MOST) ** 2
    if kind_of(noise) not in ("f", "i", "u"):
        raise TypeError(f"{name}: noise is {shown(noise)}; it must be a number, or an array or a Tensor of one per point")
    if noise.size not in (1, len(x)):
        raise ValueError(f"{name}: noise of shape {noise.shape} for {len(x)} points: give one number, or one per point")
    if isinstance(bare(noise), np.ndarray) and not ((bare(noise) >= 0) & (bare(noise) < math.inf)).all():
        raise ValueError(f"{name}: noise holds numbers that are negative, infinite or NaN; it is a standard deviation, at "
                         "least 0")
    if not isinstance(bare(noise), np.ndarray):                      # on a GPU to look would be to wait: NaN
        noise = where((bare(noise) >= 0) & (bare(noise) < math.inf), noise, math.nan)
    return noise.reshape((-1, 1, 1)) ** 2


def log_tail(z: Any) -> Any:
    """log of the share of N(0, 1) above z. Far out by Laplace's continued fraction, where 1 - erf would cancel to 0."""
    far = ops.maximum(z, 3.0)
    fraction = far
    for k in range(40, 0, -1):
        fraction = far + k / fraction                               # z + 1/(z + 2/(z + 3/(z + ...)))
    beyond = -0.5 * far * far - HALF_LOG_2PI - log(fraction)
    return where(z > 3.0, beyond, log(0.5 - 0.5 * ops.erf(ops.minimum(z, 3.0) * 0.5 ** 0.5)))


def log1mexp(a: Any) -> Any:
    """log(1 - exp(a)) for a < 0."""
    return log(-ops.expm1(a))
