"""Statistics of the samples: medians, ratios with confidence intervals, exponents, crossings."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np


def figures(samples: list, first: list) -> dict[str, Any]:
    """Median and quartiles, and the ratio of the first contender's median to this one's, with a
    95 % interval. A ratio below 1 means that the first contender is faster."""
    q1, median, q3 = np.quantile(samples, (0.25, 0.5, 0.75))
    low, high = bootstrap(np.array(first), np.array(samples))
    return {
        "median": median,
        "q1": q1,
        "q3": q3,
        "n": np.size(samples),
        "ratio": np.median(first) / median,
        "interval": [low, high],
    }


def bootstrap(a: np.ndarray, b: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of median(a) / median(b), by the bootstrap. Whole rounds are resampled, the
    same ones for a and b, because the samples of one round are not independent."""
    rounds = np.random.default_rng(0).integers(0, len(a), (draws, len(a)))
    medians_a = np.median(a[rounds].reshape(draws, -1), axis=1)
    medians_b = np.median(b[rounds].reshape(draws, -1), axis=1)
    low, high = np.quantile(medians_a / medians_b, (0.025, 0.975))
    return float(low), float(high)


def error_of_median(rounds: np.ndarray, draws: int = 1000) -> float:
    """Standard error of the median of independent numbers, by the bootstrap, corrected by
    √(n / (n - 1)) as the deviation of a sample is."""
    n, ordered = len(rounds), np.sort(rounds)
    low, high = middle_ranks(n, draws)
    medians = (ordered[low] + ordered[high]) / 2
    return float(medians.std() * np.sqrt(n / (n - 1)))


@functools.cache
def middle_ranks(n: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``draws`` resamples of ``n`` sorted numbers: the ranks of the two numbers in its
    middle.

    The ranks do not depend on the numbers, so they are computed and sorted only once per n.
    """
    ranks = np.sort(np.random.default_rng(0).integers(0, n, (draws, n)), axis=1)
    return ranks[:, (n - 1) // 2], ranks[:, n // 2]


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """k in y ~ x^k, by least squares on the logarithms. None for fewer than three points, because a
    line fits any two points."""
    if len(set(xs)) < 3:
        return None
    # + 0.0 turns -0.0 into 0.0
    return round(float(np.polyfit(np.log(xs), np.log(ys), 1)[0]), 6) + 0.0


def crossings(xs: Sequence[float], a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Every x at which the curves a and b cross. xs ascend; between the points, the curves are
    straight on logarithmic axes."""
    x, gap = np.log(xs), np.log(a) - np.log(b)
    crossed_at = []
    for i in range(len(x) - 1):
        if (gap[i] > 0) != (gap[i + 1] > 0):
            share = gap[i] / (gap[i] - gap[i + 1])
            crossed_at.append(float(np.exp(x[i] + share * (x[i + 1] - x[i]))))
    return crossed_at
