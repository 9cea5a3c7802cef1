"""What samples say: medians, ratios with intervals, exponents, crossings."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np


def figures(samples: list, first: list) -> dict[str, Any]:
    """Median and quartiles, and the first contender's median over this one's with a 95 % interval
    (1 is even)."""
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
    """95 % interval of median(a) / median(b). Whole rounds are drawn, the same of both: samples of
    a round are alike."""
    chosen = np.random.default_rng(0).integers(0, len(a), (draws, len(a)))
    of_a, of_b = (np.median(x[chosen].reshape(draws, -1), axis=1) for x in (a, b))
    low, high = np.quantile(of_a / of_b, (0.025, 0.975))
    return float(low), float(high)


def error_of_median(rounds: np.ndarray, draws: int = 1000) -> float:
    """Standard error of the median of independent numbers, by drawing them again; made larger as a
    sample's spread is."""
    n, ordered = len(rounds), np.sort(rounds)
    low, high = middle_ranks(n, draws)
    medians = (ordered[low] + ordered[high]) / 2
    return float(medians.std() * np.sqrt(n / (n - 1)))


@functools.cache
def middle_ranks(n: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The ranks of the two middle ones of ``n`` numbers drawn again, for each draw.

    Ranks alone tell what stands in the middle of a draw: they are sorted once for all numbers.
    """
    drawn = np.sort(np.random.default_rng(0).integers(0, n, (draws, n)), axis=1)
    return drawn[:, (n - 1) // 2], drawn[:, n // 2]


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """k of y ~ x^k, by least squares on the logarithms. None for fewer than three points, which
    would fit any line."""
    if len(set(xs)) < 3:
        return None
    # + 0.0: so that no -0.0 is printed
    return round(float(np.polyfit(np.log(xs), np.log(ys), 1)[0]), 6) + 0.0


def crossings(xs: Sequence[float], a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Each x where two curves cross that are straight between their points on logarithmic axes. xs
    ascend."""
    x, gap = np.log(xs), np.log(a) - np.log(b)
    found = []
    for i in range(len(x) - 1):
        if (gap[i] > 0) != (gap[i + 1] > 0):
            t = gap[i] / (gap[i] - gap[i + 1])
            found.append(float(np.exp(x[i] + t * (x[i + 1] - x[i]))))
    return found
