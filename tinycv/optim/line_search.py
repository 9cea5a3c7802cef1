"""Line search for the strong Wolfe conditions: how far to go along a direction.

    φ(t) = f(x + t d)                       the loss along the direction d, with φ'(0) < 0
    φ(t) <= φ(0) + c1 t φ'(0)               sufficient decrease (Armijo)              eq. 3.7a
    |φ'(t)| <= c2 |φ'(0)|                   curvature: the slope has become flatter   eq. 3.7b
    0 < c1 < c2 < 1                         so that there is a t that satisfies both

Nocedal & Wright 2006, "Numerical Optimization", chapter 3; the book calls t α. The first condition
refuses a t that is too long, because the loss has to fall in proportion to t. The second refuses a
t that is too short: where the loss still falls steeply, a longer step is better. It also implies
φ'(t) > φ'(0), which L-BFGS needs (yᵀs > 0 in lbfgs.py).

The search has two phases. ``strong_wolfe`` (algorithm 3.5) tries longer and longer t, each 2 to 10
times the last, until an interval must contain a t that satisfies both conditions; ``zoom``
(algorithm 3.6) shrinks that interval. Each trial costs one evaluation of the loss and its gradient.
So the next trial is chosen with care: within limits, it is the minimum of the cubic that has the
losses and slopes of two earlier trials.

Used by: lbfgs.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """A point on the line: t, φ(t) and φ'(t), and the whole gradient of f there."""

    t: float
    loss: float
    slope: float
    gradient: Any = None

    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.slope)


@dataclass(frozen=True)
class Wolfe:
    """The two conditions, for a search that starts at the Point ``start``, where t is 0."""

    start: Point
    c1: float = 1e-4
    c2: float = 0.9

    def decrease(self, point: Point) -> bool:
        """Equation 3.7a. A loss or a slope that is NaN or infinite does not satisfy it."""
        highest = self.start.loss + self.c1 * point.t * self.start.slope
        return point.is_finite() and point.loss <= highest

    def curvature(self, point: Point) -> bool:
        """Equation 3.7b."""
        return abs(point.slope) <= self.c2 * abs(self.start.slope)


def strong_wolfe(
    phi: Callable[[float], Point],
    start: Point,
    t: float,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_evaluations: int = 25,
    smallest: float = 0.0,
) -> Point:
    """A Point that satisfies both conditions: algorithm 3.5.

    phi: computes the Point at a t.   start: the Point at 0, whose slope must be negative.
    t: the first trial.   smallest: an interval shorter than this is not searched further.
    A trial whose loss or slope is NaN or infinite counts as too long, so the search survives an
    overflow. If the search ends at ``max_evaluations`` or at ``smallest``, it returns the lowest
    Point that satisfies 3.7a, or ``start`` if there is none.
    differs: algorithm 3.5 has a largest t. Here max_evaluations ends the search instead.
    """
    wolfe = Wolfe(start, c1, c2)
    previous = start
    for used in range(1, max_evaluations + 1):
        current, left = phi(t), max_evaluations - used
        is_higher = previous is not start and current.loss >= previous.loss
        if not wolfe.decrease(current) or is_higher:
            return zoom(phi, wolfe, previous, current, left, smallest)
        if wolfe.curvature(current):
            return current
        if current.slope >= 0:  # the minimum has been passed
            return zoom(phi, wolfe, current, previous, left, smallest)
        guess = cubic_minimum(previous, current)
        previous, t = current, limited(guess, 2 * t, 10 * t)
    return previous


def zoom(
    phi: Callable[[float], Point],
    wolfe: Wolfe,
    low: Point,
    high: Point,
    max_evaluations: int,
    smallest: float = 0.0,
) -> Point:
    """A Point between ``low`` and ``high`` that satisfies both conditions: algorithm 3.6.

    The interval always contains such a t, because three things stay true: ``low`` satisfies 3.7a,
    it has the lowest loss of all trials that do, and the loss falls from ``low`` towards ``high``,
    which may lie on either side of it.
    """
    width = math.inf
    for _ in range(max_evaluations):
        last_width, width = width, abs(high.t - low.t)
        t = _trial(low, high, shrank=width <= last_width / 2)
        if width <= smallest or t in (low.t, high.t):
            break
        current = phi(t)
        if not wolfe.decrease(current) or current.loss >= low.loss:
            high = current
            continue
        if wolfe.curvature(current):
            return current
        if current.slope * (high.t - low.t) >= 0:
            high = low
        low = current
    return low


def _trial(low: Point, high: Point, shrank: bool) -> float:
    """The next t of zoom: the minimum of a cubic, kept a tenth of the interval away from its ends.

    The middle is taken if the cubic has no minimum, or if the last trial did not halve the
    interval; so any two trials at least halve it. If ``high`` has overflowed there is no cubic, and
    the trial lies a tenth of the interval from ``low``.
    """
    width = high.t - low.t  # negative if high lies to the left
    if not high.is_finite():
        return low.t + width / 10
    guess = cubic_minimum(low, high)
    if not shrank or math.isnan(guess):
        return low.t + width / 2
    near, far = low.t + width / 10, high.t - width / 10
    return limited(guess, min(near, far), max(near, far))


def cubic_minimum(a: Point, b: Point) -> float:
    """The t at which the cubic with the losses and slopes of both points has its local minimum, or
    NaN if it has none (Nocedal & Wright, section 3.5, "Interpolation").
    """
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:  # also where it is NaN
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    below = b.slope - a.slope + 2 * d2
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / below if below else math.nan


def limited(t: float, least: float, most: float) -> float:
    """t, or the nearer end of [least, most] if t is outside; ``least`` for NaN."""
    return min(t, most) if t > least else least
