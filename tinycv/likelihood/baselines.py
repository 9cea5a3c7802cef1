"""Exact baselines: independent pixels, Chow-Liu tree, Gaussian, probabilistic PCA.

    independent pixels    p(x) = Π_i p(x_i)
    Chow-Liu tree         p(x) = Π_i p(x_i | x_{parent(i)})                     Chow & Liu 1968
                          the tree with the largest sum of mutual informations
                          I_ij = Σ p(x_i, x_j) log [p(x_i, x_j) / (p(x_i) p(x_j))]
    Gaussian              p(x) = N(x; m, (1 - λ) S + λ tr(S) / D I)
                          m, S: mean and covariance of the data
    probabilistic PCA     x = W z + m + ε,  z ~ N(0, I),  ε ~ N(0, σ² I)     Tipping & Bishop 1999
                          p(x) = N(x; m, W Wᵀ + σ² I),   W = U (Λ - σ² I)^½
                          U, Λ: the eigenvectors of S with the q largest eigenvalues, and these
                          σ²: the mean of the other eigenvalues

The best parameters of each model are known exactly, without training by gradients, and so are its
likelihood and its samples.  So a network should beat these figures: if an autoregressive network
does not beat the tree, it has not been shown to learn more than pairs of pixels.  They also test
other code: probabilistic PCA is the optimum of a VAE with a linear encoder and decoder.

Why mutual information: for any tree, the best conditional probabilities are the frequencies in the
data, and the mean log-likelihood of the data is then Σ I over the edges - Σ H(x_i).  The entropies
H of the pixels do not depend on the tree, so the best tree is the spanning tree with the largest
sum of I.

A level that a pixel never has in training would get probability 0, and a test image with this level
would have log p = -∞.  So ``pseudo`` is added to the count of each level of a pixel (0.5 is
Jeffreys' prior), and pseudo / L to the count of each pair of levels, so that pairs and single
pixels agree.

These models run on the host, in NumPy's float64.
Read first: units.py.   Shapes: N images of D pixels, L levels; q latents.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import number, size
from tinycv.engine.tensor import ArrayLike
from tinycv.nn.discretized import check_levels


class IndependentPixels:
    """Each pixel on its own: p(x) = Π_i p(x_i), from the frequencies of its levels in x.

    x (N, ...): whole numbers from 0 to levels - 1; binary images by default.
    """

    def __init__(self, x: ArrayLike, levels: int = 2, pseudo: float = 0.5):
        name = "IndependentPixels"
        self.levels = check_levels(levels, name)
        pseudo = number(pseudo, f"{name}: pseudo", low=0, high=1e6)
        values = level_rows(f"{name}: x", x, self.levels)
        self.shape = np.shape(x)[1:]
        counts = one_hot_rows(values, self.levels).sum(axis=0) + pseudo  # (D, L)
        self.p = counts / counts.sum(axis=1, keepdims=True)

    def log_prob(self, x: ArrayLike) -> np.ndarray:
        """log p of images (N, ...), in nats. Returns (N,)."""
        values = level_rows("IndependentPixels.log_prob: x", x, self.levels, self.shape)
        with np.errstate(divide="ignore"):  # log 0 = -inf, where pseudo is 0
            log_p = np.log(self.p)
        return log_p[np.arange(values.shape[1]), values].sum(axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n images (n, ...), float32."""
        n = inputs.drawn("IndependentPixels.sample", n, rng)
        chosen = draw_rows(np.broadcast_to(self.p, (n, *self.p.shape)), rng)
        return chosen.reshape((n, *self.shape)).astype(np.float32)


class ChowLiuTree:
    """The best tree-shaped model of the pixels: each depends on one other pixel, its parent.

    x (N, ...): whole numbers from 0 to levels - 1; binary images by default.
    ``order`` lists the pixels, parents before children, and ``parent`` has the parent of each pixel
    (-1 for the root, the first in order).
    """

    def __init__(self, x: ArrayLike, levels: int = 2, pseudo: float = 0.5):
        name = "ChowLiuTree"
        self.levels = check_levels(levels, name)
        pseudo = number(pseudo, f"{name}: pseudo", low=0, high=1e6)
        values = level_rows(f"{name}: x", x, self.levels)
        self.shape = np.shape(x)[1:]
        pairs = pair_probabilities(values, self.levels, pseudo)  # (D, D, L, L)
        self.order, self.parent = largest_tree(mutual_information(pairs))
        self.root = np.einsum("ab->a", pairs[self.order[0], self.order[0]])  # (L,)
        children = self.order[1:]
        joint = pairs[self.parent[children], children]  # (D - 1, L, L)
        total = joint.sum(axis=2, keepdims=True)
        # If pseudo is 0, the data do not say what follows a level that the parent never has. All
        # levels of the child are then equally probable.
        self.conditional = np.divide(
            joint, total, out=np.full_like(joint, 1 / self.levels), where=total > 0
        )

    def log_prob(self, x: ArrayLike) -> np.ndarray:
        """log p of images (N, ...), in nats. Returns (N,)."""
        values = level_rows("ChowLiuTree.log_prob: x", x, self.levels, self.shape)
        children = self.order[1:]
        with np.errstate(divide="ignore"):
            log_root, log_child = np.log(self.root), np.log(self.conditional)
        edges = np.arange(len(children))
        parents = values[:, self.parent[children]]  # (N, D - 1)
        terms = log_child[edges, parents, values[:, children]]
        return log_root[values[:, self.order[0]]] + terms.sum(axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n images (n, ...), float32, by ancestral sampling: the root, then child after child."""
        n = inputs.drawn("ChowLiuTree.sample", n, rng)
        values = np.zeros((n, len(self.order)), np.int64)
        values[:, self.order[0]] = draw_rows(np.broadcast_to(self.root, (n, self.levels)), rng)
        for edge, child in enumerate(self.order[1:]):
            rows = self.conditional[edge, values[:, self.parent[child]]]  # (n, L)
            values[:, child] = draw_rows(rows, rng)
        return values.reshape((n, *self.shape)).astype(np.float32)


class GaussianDensity:
    """A Gaussian whose covariance is that of the data, shrunk towards a multiple of the identity.

    x (N, ...): real numbers. shrinkage λ in [0, 1]: 0 maximises the likelihood, which overfits if
    there are few images per pixel, and has no maximum if the covariance is singular; 1 gives all
    pixels the same variance.
    """

    def __init__(self, x: ArrayLike, shrinkage: float = 0.0):
        values, self.shape = real_rows("GaussianDensity: x", x)
        share = number(shrinkage, "GaussianDensity: shrinkage", low=0, high=1)
        self.mean, covariance = moments(values)
        dims = len(self.mean)
        spherical = np.trace(covariance) / dims * np.eye(dims)
        self.covariance = (1 - share) * covariance + share * spherical
        variances, self.axes = np.linalg.eigh(self.covariance)
        self.variances = positive("GaussianDensity", variances, "take a larger shrinkage")

    def log_prob(self, x: ArrayLike) -> np.ndarray:
        """The log-density of images (N, ...), in nats. Returns (N,)."""
        values, _ = real_rows("GaussianDensity.log_prob: x", x, self.shape)
        return gaussian_log_prob((values - self.mean) @ self.axes, self.variances)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n images (n, ...), float32."""
        n = inputs.drawn("GaussianDensity.sample", n, rng)
        along = rng.standard_normal((n, len(self.mean))) * np.sqrt(self.variances)
        return (self.mean + along @ self.axes.T).reshape((n, *self.shape)).astype(np.float32)


class ProbabilisticPCA:
    """Probabilistic PCA: x = W z + mean + noise of variance σ², z ~ N(0, I) with q entries.

    x (N, ...): real numbers. W (D, q), mean (D,) and sigma2 maximise the likelihood of x, which
    determines W up to a rotation of z. Here the columns of W are orthogonal, the longest first.
    differs: scikit-learn's PCA divides the covariance by N - 1; here, as in the paper, it is N.
    """

    def __init__(self, x: ArrayLike, q: int):
        values, self.shape = real_rows("ProbabilisticPCA: x", x)
        self.mean, covariance = moments(values)
        dims = len(self.mean)
        self.q = size(q, "ProbabilisticPCA: q", 1)
        if self.q >= dims:
            raise ValueError(f"ProbabilisticPCA: q is {self.q}; it must be below {dims}, the dims")
        variances, axes = np.linalg.eigh(covariance)
        variances, self.axes = variances[::-1], axes[:, ::-1]  # the largest first
        self.sigma2 = float(variances[self.q :].mean())
        positive("ProbabilisticPCA", np.array([variances[0], self.sigma2]), "take a smaller q")
        kept = np.maximum(variances[: self.q], self.sigma2)
        self.W = self.axes[:, : self.q] * np.sqrt(kept - self.sigma2)
        self.variances = np.concatenate([kept, np.full(dims - self.q, self.sigma2)])

    def log_prob(self, x: ArrayLike) -> np.ndarray:
        """The log-density of images (N, ...), in nats. Returns (N,)."""
        values, _ = real_rows("ProbabilisticPCA.log_prob: x", x, self.shape)
        # W Wᵀ + σ² I has the eigenvectors of the data's covariance, with the eigenvalue σ² for all
        # but the first q.
        return gaussian_log_prob((values - self.mean) @ self.axes, self.variances)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n images (n, ...), float32."""
        n = inputs.drawn("ProbabilisticPCA.sample", n, rng)
        z = rng.standard_normal((n, self.q))
        noise = math.sqrt(self.sigma2) * rng.standard_normal((n, len(self.mean)))
        x = z @ self.W.T + self.mean + noise
        return x.reshape((n, *self.shape)).astype(np.float32)


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────


def one_hot_rows(values: np.ndarray, levels: int) -> np.ndarray:
    """Levels (N, D) as (N, D, L): 1 at the level, 0 elsewhere."""
    return (values[..., None] == np.arange(levels)).astype(np.float64)


def pair_probabilities(values: np.ndarray, levels: int, pseudo: float) -> np.ndarray:
    """p(x_i = a, x_j = b) as (D, D, L, L). For i = j it is 0 unless a = b."""
    count, dims = values.shape
    rows = one_hot_rows(values, levels).reshape(count, dims * levels)
    counts = (rows.T @ rows).reshape(dims, levels, dims, levels).swapaxes(1, 2)
    added = np.full((dims, dims, levels, levels), pseudo / levels)
    added[np.arange(dims), np.arange(dims)] = pseudo * np.eye(levels)
    return (counts + added) / (count + levels * pseudo)


def mutual_information(pairs: np.ndarray) -> np.ndarray:
    """I(x_i; x_j) in nats, (D, D), from the probabilities of pairs (D, D, L, L)."""
    own = pairs[np.arange(len(pairs)), np.arange(len(pairs))].sum(axis=2)  # (D, L)
    product = own[:, None, :, None] * own[None, :, None, :]
    ratio = np.divide(pairs, product, out=np.ones_like(pairs), where=pairs > 0)  # 0 log 0 = 0
    return (pairs * np.log(ratio)).sum(axis=(2, 3))


def largest_tree(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spanning tree with the largest sum of weights (D, D), by Prim's algorithm from pixel 0:
    again and again, the heaviest edge from the tree to a pixel outside. Returns the order in which
    the pixels joined, and the parent of each (-1 for pixel 0)."""
    dims = len(weights)
    outside = np.ones(dims, bool)
    best, parent = np.full(dims, -math.inf), np.full(dims, -1)
    order, newest = [0], 0
    outside[0] = False
    while outside.any():
        closer = outside & (weights[newest] > best)
        best[closer], parent[closer] = weights[newest][closer], newest
        newest = int(np.where(outside, best, -math.inf).argmax())
        outside[newest] = False
        order.append(newest)
    return np.array(order), parent


def draw_rows(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A level drawn from each row of probabilities (..., L): the number of partial sums that a
    uniform number reaches (inverse transform sampling)."""
    sums = np.cumsum(p, axis=-1)[..., :-1]  # without the last, which rounding may leave below 1
    return (rng.random(p.shape[:-1])[..., None] >= sums).sum(axis=-1)


# ── the Gaussians ────────────────────────────────────────────────────────────────────────────────


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) and the covariance (D, D) of (N, D). The covariance is divided by N, as the
    maximum of the likelihood requires."""
    mean = values.mean(axis=0)
    centred = values - mean
    return mean, centred.T @ centred / len(values)


def gaussian_log_prob(along: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """log N of centred points (N, D) in the coordinates of the eigenvectors, with these variances
    (D,) along them."""
    squares = (along * along / variances).sum(axis=1)
    return -0.5 * (squares + np.log(variances).sum() + len(variances) * math.log(2 * math.pi))


def positive(name: str, variances: np.ndarray, advice: str) -> np.ndarray:
    """The variances; a ValueError if one of them is 0 up to rounding."""
    if variances.min() <= 1e-13 * variances.max():
        raise ValueError(
            f"{name}: the covariance of x is singular (a pixel that never changes, or fewer images "
            f"than dimensions), so the likelihood has no maximum; {advice}, or add noise"
        )
    return variances


# ── checks ────────────────────────────────────────────────────────────────────────────────────────


def level_rows(what: str, x: Any, levels: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Images (N, ...) of whole numbers 0 ... levels - 1 as int64 (N, D)."""
    values = image_rows(what, x, shape)
    whole = (values >= 0) & (values < levels) & (values == np.floor(values))
    if not whole.all():
        raise ValueError(
            f"{what} holds {values[~whole][0]}; it must hold whole numbers from 0 to {levels - 1}"
        )
    return values.astype(np.int64)


def real_rows(
    what: str, x: Any, shape: tuple[int, ...] | None = None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """(images (N, ...) of finite numbers as float64 (N, D), the shape of one image)."""
    values = image_rows(what, x, shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{what} holds NaN or infinity; all of its numbers must be finite")
    return values, np.shape(x)[1:]


def image_rows(what: str, x: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Images (N, ...) as (N, D); a ValueError unless N and D are at least 1, and each image has
    this shape, if it is given."""
    values = inputs.array(x, what, "images (N, ...) of real numbers")
    if values.ndim < 2 or not values.size:
        raise ValueError(
            f"{what} has shape {values.shape}; it must be images (N, ...), at least one, of at "
            "least one pixel"
        )
    if shape is not None and values.shape[1:] != shape:
        raise ValueError(
            f"{what} has shape {values.shape}; it must be images of shape {shape}, as in training"
        )
    return values.reshape(len(values), -1)
