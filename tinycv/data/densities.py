"""Densities of which everything is known: samples, log p, and the score grad log p, with noise
added or without.

    p_s(x) = ∫ p(y) N(x; y, s² I) dy                p, after noise of standard deviation s was added

    of Gaussians    p_s(x) = Σ_k w_k N(x; m_k, C_k + s² I)
                    grad log p_s(x) = Σ_k r_k (C_k + s² I)⁻¹ (m_k - x),         r_k the share of component k in p_s(x)
    of boxes        p_s(x) = Σ_k w_k Π_d [Φ((x_d - a_kd) / s) - Φ((x_d - b_kd) / s)] / (b_kd - a_kd)

They are what learned scores, samplers and likelihoods are held to.  ``log_density(x, noise)`` and
``score(x, noise)`` take s as ``noise``, a number or one for each point, and run on NumPy and CuPy
arrays and on Tensors, in the precision of x (halves in float32, and rounded once); so
``density.score`` is a score(x, s) that any sampler can use in place of a network. What is beyond
the numbers of x's dtype is infinite, never NaN. Many points are taken in blocks, so that what is
held beside x and the answer does not grow with them.

Densities with names (eight_gaussians, checkerboard, ...) are in shapes.py, curved surfaces in
surfaces.py.
See at work: demos/13_brownian.py, demos/14_score_matching.py.
Shapes: N points, K components, D axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinycv.data.inputs import NOT_PLAIN, kind_of
from tinycv.engine import ops
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.backend import array_module
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import exp, log, logsumexp, where
from tinycv.engine.tensor import bare

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
MOST = np.finfo(np.float64).max  # numbers below it are finite
BLOCK = 2**18  # numbers (N, K, D) that are held at once
# of a mean over [-1, 1]; here as places in [0, 1]
NODES, SHARES = np.polynomial.legendre.leggauss(8)
NODES, SHARES = ((NODES + 1) / 2).tolist(), (SHARES / 2).tolist()


class Mixture:
    """Gaussians m_k of weights w_k, all with one standard deviation ``sigma``, or each with a
    covariance of its own.

    means (K, D); weights (K,), scaled to sum to 1, equal where left out; covariance (D, D) or (K,
    D, D), in sigma's place.
    """

    def __init__(
        self, means: Any, sigma: float | None = None, weights: Any = None, covariance: Any = None
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
            number(sigma, "Mixture: sigma", low=0, below=MOST)
            self.axes, self.deviations = None, np.full((1, 1), float(sigma))
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
            rows = max(1, BLOCK // self.dim**2)
            for i in range(0, n, rows):
                z[i : i + rows] = np.einsum(
                    "nij,nj->ni", self.axes[chosen[i : i + rows]], z[i : i + rows]
                )
        return (self.means[chosen] + z).astype(np.float32)

    def log_density(self, x: Any, noise: Any = 0.0) -> Any:
        """log p_s(x) in nats: (N,), for x (N, D)."""
        check_points(x, self.dim, "Mixture")
        return in_blocks(self._log_density, x, self._noise(x, noise), self.means.size)

    def score(self, x: Any, noise: Any = 0.0) -> Any:
        """grad log p_s(x): (N, D), for x (N, D)."""
        check_points(x, self.dim, "Mixture")
        return in_blocks(self._score, x, self._noise(x, noise), self.means.size)

    def _noise(self, x: Any, noise: Any) -> Any:
        if not self.deviations.all() and is_zero(noise):
            raise ValueError(
                "Mixture: where a standard deviation is 0 there is a density only after noise was "
                "added; give noise above 0"
            )
        return checked_noise(x, noise, "Mixture")

    def _log_density(self, x: Any, noise: Any) -> Any:
        peak, along, deviations, least, *_ = self._parts(x, noise)
        return shares_of(peak, along, deviations, reach_of(x, self.means, least))[1]

    def _score(self, x: Any, noise: Any) -> Any:
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

    def _parts(self, x: Any, noise: Any) -> tuple:
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
        if is_one_number(noise):
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

    def __init__(self, low: Any, high: Any, weights: Any = None):
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

    def log_density(self, x: Any, noise: Any = 0.0) -> Any:
        """log p_s(x) in nats: (N,), for x (N, D). Without noise it is -inf outside the boxes."""
        check_points(x, self.dim, "Boxes")
        return in_blocks(self._log_density, x, checked_noise(x, noise, "Boxes"), self.low.size)

    def score(self, x: Any, noise: Any) -> Any:
        """grad log p_s(x): (N, D), for x (N, D). There must be noise: the density itself jumps at
        its edges."""
        check_points(x, self.dim, "Boxes")
        if is_zero(noise):
            raise ValueError(
                f"Boxes.score: noise is {shown(noise)}; boxes have a score only after noise was "
                "added, so it must be above 0"
            )
        return in_blocks(self._score, x, checked_noise(x, noise, "Boxes"), self.low.size)

    def _log_density(self, x: Any, noise: Any) -> Any:
        if not is_zero(noise):
            rest, away, s, _ = self._parts(x, noise)
            return shares_of(rest, away, s, reach_of(x, self._ends(), bare(s)[:, 0, 0]))[1]
        used = self.weights > 0
        # (N, K)
        inside = (ops.abs(x[:, None] - self._middle(x)) <= self._half(x)).all(axis=-1)
        prior = np.log(self.weights[used]) - np.log(self.high - self.low)[used].sum(axis=-1)
        return logsumexp(beside(x, prior) + where(inside, 0.0, -math.inf), axis=-1)

    def _score(self, x: Any, noise: Any) -> Any:
        rest, away, s, slopes = self._parts(x, noise)
        return (
            mixed(shares_of(rest, away, s, reach_of(x, self._ends(), bare(s)[:, 0, 0]))[0], slopes)
            / s[:, 0]
        )

    def _middle(self, x: Any) -> Any:
        return beside(x, (self.low + self.high)[self.weights > 0] / 2)  # (K, D)

    def _half(self, x: Any) -> Any:
        return beside(x, (self.high - self.low)[self.weights > 0] / 2)  # (K, D)

    def _ends(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def _parts(self, x: Any, noise: Any) -> tuple:
        """The log of w_k times the noised box k is ``rest`` - |away / s|² / 2: rest (N, K); away
        (N, K, D), the distance from the box; s (N or 1, 1, 1). Then s times its gradient in x, (N,
        K, D)."""
        width = np.log(self.high - self.low)[self.weights > 0][None]  # (1, K, D)
        if is_one_number(noise):
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


def entropy(density: Any, reach: float, cells: int = 1000) -> float:
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


# -- what both need
# ---------------------------------------------------------------------------------------


def real_numbers(values: Any, what: str) -> np.ndarray:
    """A float64 array of its own, of finite real numbers."""
    try:
        array = np.array(values)
    except (TypeError, ValueError) as error:  # rows of unequal length
        raise TypeError(
            f"{what} is {shown(values)}; it must be an array of real numbers"
        ) from error
    if isinstance(values, NOT_PLAIN) or array.dtype.kind not in "fiu":
        raise TypeError(f"{what} is {shown(values)}; it must be a plain array of real numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or infinity; all of its numbers must be finite")
    return array.astype(np.float64, copy=False)


def drawn(name: str, n: Any, rng: Any) -> int:
    """How many points to draw, with a generator to draw them by."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"{name}: rng is {shown(rng)}; it must be a NumPy Generator, "
            "np.random.default_rng(seed)"
        )
    return size(n, f"{name}: n")


def shares(weights: Any, count: int, name: str = "shares") -> np.ndarray:
    """Weights (K,) that sum to 1; equal ones for None."""
    weights = np.ones(count) if weights is None else real_numbers(weights, f"{name}: weights")
    if weights.shape != (count,) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"{name}: weights of shape {weights.shape}: one for each of {count} components is "
            "needed, none negative, not all 0"
        )
    return weights / weights.sum()


def check_points(x: Any, dim: int, name: str) -> None:
    """An error unless x is points (N, dim), floats: the means would be cut to whole numbers beside
    an x of integers."""
    if kind_of(x) != "f":
        raise TypeError(
            f"{name}: x is {shown(x)}; it must be an array or a Tensor of floats (N, {dim})"
        )
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"{name}: points of shape {x.shape}; this density takes (N, {dim})")


def is_one_number(noise: Any) -> bool:
    """Is the noise one number on the host, the same for all points?"""
    array = bare(noise)
    return isinstance(array, (int, float)) or (
        isinstance(array, (np.ndarray, np.generic))
        and array.ndim == 0
        and array.dtype.kind in "biuf"
    )


def is_zero(noise: Any) -> bool:
    """Is it one number on the host, and 0?"""
    return is_one_number(noise) and float(bare(noise)) == 0


def beside(x: Any, array: np.ndarray) -> Any:
    """A host array where x is, in x's precision."""
    own = bare(x)
    return array_module(own).asarray(array, dtype=own.dtype)


def checked_noise(x: Any, noise: Any, name: str) -> Any:
    """s as a float, or as (N, 1, 1) in x's precision where every point has its own. ValueError for
    what is no standard deviation (on a GPU, NaN in its place)."""
    if is_one_number(noise) and getattr(noise, "requires_grad", False) is False:
        return number(bare(noise), f"{name}: noise", low=0, below=MOST)
    if kind_of(noise) not in ("f", "i", "u"):
        raise TypeError(
            f"{name}: noise is {shown(noise)}; it must be a number, or an array or a Tensor of one "
            "per point"
        )
    if noise.size not in (1, len(x)):
        raise ValueError(
            f"{name}: noise of shape {noise.shape} for {len(x)} points: give one number, or one "
            "per point"
        )
    if (
        isinstance(bare(noise), np.ndarray)
        and not ((bare(noise) >= 0) & (bare(noise) < math.inf)).all()
    ):
        raise ValueError(
            f"{name}: noise holds numbers that are negative, infinite or NaN; it is a standard "
            "deviation, at least 0"
        )
    # on a GPU to look would be to wait: NaN
    if not isinstance(bare(noise), np.ndarray):
        noise = where((bare(noise) >= 0) & (bare(noise) < math.inf), noise, math.nan)
    return noise.astype(np.promote_types(x.dtype, np.float32)).reshape((-1, 1, 1))


def in_blocks(function: Any, x: Any, noise: Any, width: int) -> Any:
    """function(x, noise), with so many points at once that ``width`` numbers for each of them fill
    a block.

    Halves are given to it in float32, and its answer is rounded once. Over- and underflow are right
    answers, and silent.
    """
    dtype, rows = x.dtype, max(1, BLOCK // width)
    x = x.astype(np.float32) if dtype.char == "e" else x
    own = getattr(noise, "size", 1) > 1
    with np.errstate(over="ignore", divide="ignore"):
        parts = [
            function(x[i : i + rows], noise[i : i + rows] if own else noise)
            for i in range(0, max(1, len(x)), rows)
        ]
        made = parts[0] if len(parts) == 1 else concatenate(parts)
        return made.astype(dtype) if made.dtype != dtype else made


def within_range(value: Any, low: float | None = None) -> Any:
    """Numbers that are no longer infinite: an infinite one less another, or times 0, would be NaN.
    NaN stays. They are at least ``low``, or the least number above 0."""
    ends = np.finfo(value.dtype)
    return ops.clip(value, float(ends.tiny) if low is None else low, float(ends.max))


def root_of_squares(a: Any, b: Any) -> Any:
    """√(a² + b²) of numbers of at least 0, whose squares may leave the floats."""
    most = within_range(array_module(bare(a)).maximum(bare(a), bare(b)))
    return ((a / most) ** 2 + (b / most) ** 2) ** 0.5 * most


def reach_of(x: Any, centres: np.ndarray, deviations: Any) -> Any:
    """How many standard deviations (N or 1,) a point of x (N, D) may be away from what lies within
    ``centres``: (N, 1). None on the host where it is so few for all of x that their squares are far
    from the ends of the floats."""
    array, reach = bare(x), centres.shape[1] ** 0.5 * float(np.abs(centres).max())
    xp = array_module(array)
    if (
        xp is np
        and (np.abs(array).max(initial=0.0) + reach) / deviations.min(initial=1.0)
        < np.finfo(x.dtype).max ** 0.25
    ):
        return None
    return within_range(
        (array.shape[1] ** 0.5 * xp.abs(array).max(axis=1) + reach) / deviations, 1.0
    )[:, None]


def shares_of(rest: Any, along: Any, deviations: Any, reach: Any) -> tuple:
    """For components exp(rest_k - |along_k / deviations|² / 2): their shares in the sum, (N, K),
    and its log, (N,).

    rest (N or 1, K), along (N, K, D); reach (N, 1): no along / deviations is larger, unless it is
    beyond the floats. In units of it no square leaves the floats, and the nearest component is
    subtracted before it is multiplied back.
    """
    # (N, K, D)
    away = along / (deviations if reach is None else deviations * reach[..., None])
    squares, least = 0.5 * (away * away).sum(axis=-1), 0.0  # (N, K)
    if reach is not None:
        squares = within_range(squares, 0.0)
        least = bare(squares).min(axis=-1, keepdims=True)  # (N, 1)
        squares, least = reach * (reach * (squares - least)), reach * (reach * least)
    joint = rest - squares
    total = logsumexp(joint, axis=-1, keepdims=True)
    return exp(joint - total), (total - least)[:, 0]


def mixed(share: Any, vectors: Any) -> Any:
    """Σ_k share_k vectors_k, (N, D), for share (N, K) and vectors (N, K, D); one of share 0 may be
    infinite."""
    share = share[..., None]
    return (share * where(share > 0, vectors, 0.0)).sum(axis=1)


def noised_box(z: Any, b: Any, log_width: Any) -> tuple:
    """Of f(z) = Φ(z + b) - Φ(z - b), z >= 0, b > 0: log f + max(0, z - b)² / 2, and the slope of
    log f.

    So f / 2b is a box of half width b after noise of standard deviation 1. Where it is narrow
    beside the noise, or the noise changes little over its width, a difference of Φs would cancel.
    log_width: log 2b, for a b that is beyond the floats.
    """
    narrow = (bare(b) < 1) & (bare(z) * bare(b) < 1)
    # on a GPU to look would be to wait
    if array_module(narrow) is np:
        if narrow.all():
            return narrow_box(z, b, log_width)
        if not narrow.any():
            return wide_box(z, b)
    thin = narrow_box(where(narrow, z, 0.0), where(narrow, b, 0.5), log_width)
    thick = wide_box(where(narrow, 2.0, z), where(narrow, 1.0, b))
    return tuple(where(narrow, n, w) for n, w in zip(thin, thick, strict=True))


def narrow_box(z: Any, b: Any, log_width: Any) -> tuple:
    """``noised_box`` as a mean over its width, for u in [0, 1], by Gauss and Legendre's rule:

    f = 2b φ(z - b) mean_u exp(-2 u z b + 2 u (1 - u) b²),    its slope -2b z φ(z - b) mean_u exp(-2 u z b)
    """
    near, fall, square = z - b, -2 * z * b, 2 * b * b
    flat = curved = 0.0
    for u, share in zip(NODES, SHARES, strict=True):
        part = share * exp(u * fall)
        flat, curved = flat + part, curved + part * exp(u * (1 - u) * square)
    inner = ops.minimum(near, 0.0)
    return log_width + log(curved) - 0.5 * inner * inner - HALF_LOG_2PI, -z * flat / curved


def wide_box(z: Any, b: Any) -> tuple:
    """``noised_box`` where b >= 1 or z b >= 1. Inside, f is a sum of two shares of one sign;
    outside,

    f = φ(z - b) [m(z - b) - m(z + b) exp(-2 z b)],   m(z) = Φ(-z) / φ(z), Mills' ratio,  z + b >= 2
    """
    near, far, fall = z - b, z + b, -2 * z * b  # fall: log φ(far) / φ(near)
    outside, inner = bare(near) > 0, ops.clip(near, -50.0, 0.0)  # below -50, φ is 0 in float64
    mass = 0.5 * (ops.erf(far * 0.5**0.5) - ops.erf(inner * 0.5**0.5))
    ratio = where(
        outside, mills(ops.maximum(near, 0.0)) - exp(fall) * far_mills(ops.maximum(far, 2.0)), 1.0
    )
    rest = where(outside, log(ratio) - HALF_LOG_2PI, log(mass))
    # φ(near) / f
    edge = where(outside, 1 / ratio, exp(-0.5 * inner * inner - HALF_LOG_2PI) / mass)
    return rest, ops.expm1(fall) * edge


def mills(z: Any) -> Any:
    """Φ(-z) / φ(z) for z >= 0; far out 1 - erf would cancel to 0."""
    near = ops.minimum(z, 2.5)
    tail = 0.5 - 0.5 * ops.erf(near * 0.5**0.5)
    return where(
        z > 2.5, far_mills(ops.maximum(z, 2.5)), exp(0.5 * near * near + HALF_LOG_2PI) * tail
    )


def far_mills(z: Any) -> Any:
    """Φ(-z) / φ(z) for z >= 2 by Laplace's continued fraction, 1/(z + 1/(z + 2/(z + 3/(z + ...)))):
    in float64 right to 3e-10 at 2 and 2e-12 from 2.5 on, in float32 to 3e-7 and 1e-8 and what
    rounding adds."""
    fraction = z
    for k in range(20 if z.dtype == np.float32 else 40, 0, -1):
        fraction = z + k / fraction
    return 1 / fraction
