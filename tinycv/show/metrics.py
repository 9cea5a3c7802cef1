"""Metrics of generators: mode coverage, reverse KL, Frechet and kernel distance, precision, recall.

All functions take NumPy arrays on the host and return plain numbers. In the plane, where the modes
are known:

    modes, share within 3 σ, reverse KL                    Lin et al. 2018 (PacGAN), section 4.1
    KL(q || p) = Σ_k q_k log (q_k / p_k)                   q_k: generated, p_k: real share of mode k

On features φ of images (from a classifier trained on the data), for a set of real and a set of
generated images:

    Frechet     |μ - μ'|² + tr (C + C' - 2 (C C')^(1/2))
                Heusel et al. 2017, eq. 6; Dowson & Landau 1982
    kernel      E k(x, x') + E k(y, y') - 2 E k(x, y),   k(x, y) = (x · y / F + 1)³
                Binkowski et al. 2018
    precision   share of generated images inside the region of the real ones; recall: the reverse
                Kynkaanniemi et al. 2019

Bad input is refused with a ValueError or a TypeError: NaN and infinity, complex numbers, arrays
that hold no numbers, and sets that are too small. (``squared_distances`` is an exception: NaN gives
NaN.)

No function allocates more than a few million numbers beside its arguments and its result, however
many rows these have.

"FID" is the Frechet distance in the features of one particular network, Inception-v3. With any
other network the number has a different scale, so nothing here is called FID. The distance can be
compared with that between two sets of real images instead: see ``judge.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinycv.engine.arguments import number, shown, size

# Rows that are handled at once. Their distances to all others are at most 4 BLOCK² numbers.
BLOCK = 1024
# Relative slack of a distance, because two matrix products may round the same distance differently.
SLACK = 1e-11


# ── modes ────────────────────────────────────────────────────────────────────────────────────────


class Modes(NamedTuple):
    """How samples fall on known modes: the number of modes covered, the share of samples near a
    mode, and how unevenly the modes are filled."""

    covered: int  # modes with at least one sample within three sigma
    share: float  # of the samples that lie within three sigma of any mode
    reverse_kl: float  # nats: 0 if every mode has its true share, log K if one of K has everything


def modes_covered(
    samples: np.ndarray, centres: np.ndarray, sigma: float, shares: np.ndarray | None = None
) -> Modes:
    """PacGAN's three figures for samples (N, D) of a mixture with centres (K, D) and one standard
    deviation sigma.

    shares: the part of the real data in each mode (K,); None: equal parts. A sample belongs to the
    nearest mode. For the reverse KL it counts there at any distance, for the other two figures only
    within three sigma.
    differs: PacGAN's published code logs the entropy of a histogram that holds only samples within
    three sigma (log K minus that entropy is the reverse KL). Both agree if the stray samples are
    spread evenly over the modes. In the plane, exp(-9/2) of the real data lie further out than
    three sigma, so a share above 0.989 means that the generated modes are too narrow.
    """
    samples, centres = (
        real_array(samples, "modes_covered: samples"),
        real_array(centres, "modes_covered: centres"),
    )
    sigma = number(sigma, "modes_covered: sigma", above=0, below=np.finfo(np.float64).max)
    right = samples.ndim == centres.ndim == 2 and samples.shape[1] == centres.shape[1] > 0
    if not right or not len(samples) or not len(centres):
        raise ValueError(
            f"modes_covered: samples of shape {samples.shape} and centres of shape "
            f"{centres.shape}: they must be (N, D) and (K, D), with one D for both, at least one "
            "sample, and at least one centre"
        )
    nearest, least, most = np.empty(len(samples), np.intp), np.empty(len(samples)), 0.0
    for at in _blocks(len(samples), centres.size):
        distance = np.linalg.norm(samples[at, None] - centres, axis=-1)  # (rows, K)
        nearest[at], least[at], most = (
            distance.argmin(axis=1),
            distance.min(axis=1),
            max(most, distance.max()),
        )
    finite_figure(most, "modes_covered")
    good = least < 3 * sigma
    counts, within = (np.bincount(n, minlength=len(centres)) for n in (nearest, nearest[good]))
    return Modes(
        int((within > 0).sum()), float(good.mean()), _divergence(counts, shares, "modes_covered")
    )


def reverse_kl(counts: np.ndarray, shares: np.ndarray | None = None) -> float:
    """KL(generated || real) over modes, in nats.

    counts (K,): generated samples in each mode. shares (K,): the probabilities of the modes in the
    real data, or numbers proportional to them; None: all equal.
    The estimate is biased upwards, by about (K - 1) / 2N nats for N samples of a perfect generator.
    It is infinite if a sample falls on a mode that the real data do not have.
    """
    return _divergence(counts, shares, "reverse_kl")


def _divergence(counts: Any, shares: Any, name: str) -> float:
    """``reverse_kl``, with errors that name the calling function."""
    counts = real_array(counts, f"{name}: counts")
    shares = np.ones_like(counts) if shares is None else real_array(shares, f"{name}: shares")
    right = (
        counts.ndim == 1 and shares.shape == counts.shape and counts.sum() > 0 and shares.sum() > 0
    )
    if not right or counts.min() < 0 or shares.min() < 0:
        raise ValueError(
            f"{name}: counts of shape {counts.shape} and shares of shape {shares.shape}: both must "
            "be (K,), none negative, there must be a sample, and not all shares may be 0"
        )
    finite_figure(counts.sum() + shares.sum(), name)
    q, p = counts / counts.sum(), shares / shares.sum()
    met = q > 0  # 0 log 0 is 0
    with np.errstate(divide="ignore"):
        kl = float(np.sum(q[met] * np.log(q[met] / p[met])))
    return max(0.0, finite_figure(kl, name, infinity=True))


# ── distances between sets of features ───────────────────────────────────────────────────────────


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The squared Frechet distance of two Gaussians with the means and covariances of a (N, F) and
    b (M, F), >= 0.

    tr (C C')^(1/2) is the sum of the square roots of the eigenvalues of C^(1/2) C' C^(1/2). This
    matrix is symmetric, so its eigenvalues are real; those that rounding makes negative count as 0.

    Between two samples of one distribution the distance is not 0 but shrinks as 1 / N (Chong &
    Forsyth 2020), so only distances with equal N and M can be compared. With fewer than about F
    samples the covariances do not have full rank, and the distance says little. It is a difference
    of traces: whatever is smaller than about 1e-15 of the sum of both traces is lost to rounding.
    A feature whose variance is far larger than all others should therefore be scaled down.
    """
    a, b = _features(a, b, 2, "frechet_distance")
    difference = a.mean(axis=0) - b.mean(axis=0)
    c, d = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    finite_figure(np.abs(c).max() + np.abs(d).max(), "frechet_distance")
    values, vectors = np.linalg.eigh(c)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # C^(1/2)
    product = root @ d @ root
    finite_figure(np.abs(product).max(), "frechet_distance")
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0)).sum()
    distance = float(difference @ difference + np.trace(c) + np.trace(d) - 2 * cross)
    return max(0.0, finite_figure(distance, "frechet_distance"))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of a (N, F) and b (M, F), under a kernel of degree three.

    It is unbiased: for two samples of one distribution it is 0 on average for every N, and so it is
    often negative.
    differs: it averages over all pairs, where the paper averages over random blocks.
    """
    a, b = _features(a, b, 2, "kernel_distance")

    def mean(x, y, others=False):
        """The mean of k over all pairs. others: x is y, and no row is paired with itself."""
        total = sum(
            float((((x[at] @ y.T) / x.shape[1] + 1) ** 3).sum()) for at in _blocks(len(x), len(y))
        )
        if not others:
            return total / (len(x) * len(y))
        return (total - float((((x * x).sum(axis=1) / x.shape[1] + 1) ** 3).sum())) / (
            len(x) * (len(x) - 1)
        )

    return finite_figure(
        mean(a, a, others=True) + mean(b, b, others=True) - 2 * mean(a, b), "kernel_distance"
    )


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """(precision, recall) of fake (M, F) against real (N, F).

    The region of a set is the union of balls around its points. The radius of a ball is the
    distance to the k-th nearest neighbour in the set. Precision is the share of fake points in the
    region of the real ones (are they good?). Recall is the share of real points in the region of
    the fake ones (is anything left out?). Both grow with k, and both depend on N and M, so N and M
    should be equal.
    k: at least 1, and less than the number of points in the smaller set.
    """
    k = size(k, "precision_recall: k", 1)
    real, fake = _features(real, fake, k + 1, "precision_recall")
    middle = np.median(real, axis=0)
    # Centred points have small norms, for which the matrix product is accurate.
    real, fake = real - middle, fake - middle
    finite_figure(max(float((x * x).sum(axis=1).max()) for x in (real, fake)), "precision_recall")
    return _inside(fake, real, k), _inside(real, fake, k)


def _inside(points: np.ndarray, region: np.ndarray, k: int) -> float:
    """The share of points that lie in a ball around some point of region."""
    # The nearest point, number 0, is the point itself.
    to_kth = [
        np.partition(squared_distances(region[at], region), k, axis=1)[:, k].copy()
        for at in _blocks(len(region), len(region))
    ]
    radius = np.concatenate(to_kth) * (1 + SLACK)
    found = [
        (squared_distances(points[at], region) <= radius).any(axis=1)
        for at in _blocks(len(points), len(region))
    ]
    return float(np.concatenate(found).mean())


def _blocks(count: int, width: int) -> list[slice]:
    """Slices of ``count`` rows: BLOCK rows each, or fewer if ``width`` numbers per row would need
    too much memory."""
    rows = max(1, min(BLOCK, 4 * BLOCK * BLOCK // max(1, width)))
    return [slice(i, i + rows) for i in range(0, count, rows)]


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j|² (N, M) of the rows of x (N, F) and y (M, F). The distances of a row that holds
    NaN are NaN.

    |x|² + |y|² - 2 x·y cancels if the distance is far smaller than the norms. For such pairs the
    rows are subtracted instead. So every distance is right to a few digits, however far the rows
    are from 0, and the distance between equal rows is exactly 0.
    """
    x, y = _matrix(x, "squared_distances: x"), _matrix(y, "squared_distances: y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"squared_distances: x has shape {x.shape} and y {y.shape}; the rows must have one "
            "width"
        )
    of_x, of_y = (x * x).sum(axis=1), (y * y).sum(axis=1)
    distances = np.empty((len(x), len(y)), np.result_type(x, y))
    for at in _blocks(len(x), len(y)):
        _fill(distances[at], x[at], y, of_x[at, None] + of_y)
    return distances


def _fill(distances: np.ndarray, x: np.ndarray, y: np.ndarray, norms: np.ndarray) -> None:
    """Write ``squared_distances`` of some rows into ``distances``. norms (rows, M) holds
    |x_i|² + |y_j|², and is overwritten."""
    np.matmul(x, y.T, out=distances)
    distances *= -2
    distances += norms
    # Distances below 7e-4 of the norms in float64 (eps = 2e-16) are computed again by subtraction.
    norms *= np.finfo(norms.dtype).eps ** 0.2
    row, column = np.nonzero(distances < norms)
    at_once = max(1, BLOCK * BLOCK // max(1, x.shape[1]))
    for i in range(0, len(row), at_once):
        n, m = row[i : i + at_once], column[i : i + at_once]
        distances[n, m] = ((x[n] - y[m]) ** 2).sum(axis=1)


def _matrix(x: Any, what: str) -> np.ndarray:
    """An array of real numbers with two axes. Integers become float64, so that squares of bytes do
    not overflow."""
    if type(x) is not np.ndarray or x.dtype.kind not in "fiub" or x.ndim != 2:
        raise (ValueError if type(x) is np.ndarray and x.dtype.kind in "fiub" else TypeError)(
            f"{what} is {shown(x)}; it must be a NumPy array of real numbers with two axes"
        )
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _features(a: Any, b: Any, least: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays in float64. ValueError unless they are two sets of features of the same width."""
    a, b = (
        real_array(a, f"{name}: the first features"),
        real_array(b, f"{name}: the second features"),
    )
    right = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1] > 0
    if not right or min(len(a), len(b)) < least:
        raise ValueError(
            f"{name}: features of shapes {a.shape} and {b.shape}: they must be (N, F) and (M, F), "
            f"with one F and at least {least} rows each"
        )
    return a, b


def real_array(values: Any, what: str) -> np.ndarray:
    """Real, finite numbers as a float64 array. TypeError for other types, ValueError for NaN and
    infinity."""
    try:
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
    # Rows of unequal length, or an array on a GPU.
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} is {shown(values)}; it must be an array of real numbers on the host"
        ) from error
    if array.dtype.kind not in "fiu" or isinstance(array, (np.matrix, np.ma.MaskedArray)):
        raise TypeError(f"{what} is {shown(values)}; it must be a plain array of real numbers")
    array = array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{what} of shape {array.shape} hold {np.isnan(array).sum()} NaN and "
            f"{np.isinf(array).sum()} infinite numbers; all must be finite"
        )
    return array


def finite_figure(value: float, name: str, infinity: bool = False) -> float:
    """The value, if it did not overflow. Otherwise max(0, NaN) would be 0, a perfect score."""
    if np.isnan(value) or (np.isinf(value) and not infinity):
        raise ValueError(
            f"{name}: the numbers are too large, their products overflow float64; scale them down"
        )
    return value
