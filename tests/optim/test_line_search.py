"""The strong Wolfe line search on functions of one variable: every step that it returns satisfies
both conditions, and overflows, NaN and dead ends are survived."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinycv.optim.line_search import Point, Wolfe, _trial, cubic_minimum, strong_wolfe

C1, C2 = 1e-4, 0.9


class Line:
    """φ(t) = f(t) with its slope, and a count of its evaluations."""

    def __init__(self, f, slope):
        self.f, self.slope, self.calls = f, slope, 0

    def __call__(self, t):
        self.calls += 1
        return Point(t, self.f(t), self.slope(t))

    def start(self):
        return Point(0.0, self.f(0.0), self.slope(0.0))


def waves(amplitudes, frequencies, phases, bowl):
    """Sines on a parabola: smooth, bounded below, and with many local minima."""
    terms = list(zip(amplitudes, frequencies, phases, strict=True))
    return Line(
        lambda t: bowl * t * t + sum(a * math.sin(w * t + p) for a, w, p in terms),
        lambda t: 2 * bowl * t + sum(a * w * math.cos(w * t + p) for a, w, p in terms),
    )


three = st.tuples(*[st.floats(0.1, 3.0)] * 3)


@given(
    amplitudes=three,
    frequencies=three,
    phases=three,
    bowl=st.floats(0.01, 2.0),
    first=st.floats(-3, 2).map(lambda power: 10**power),
    c2=st.sampled_from([0.9, 0.1]),
)
def test_both_conditions_hold_at_the_returned_step(
    amplitudes, frequencies, phases, bowl, first, c2
):
    line = waves(amplitudes, frequencies, phases, bowl)
    start = line.start()
    assume(start.slope < -1e-2)
    found = strong_wolfe(line, start, first, C1, c2, max_evaluations=60)
    assert found.t > 0
    assert line.f(found.t) <= start.loss + C1 * found.t * start.slope  # eq. 3.7a
    assert abs(line.slope(found.t)) <= c2 * abs(start.slope)  # eq. 3.7b


@given(minimum=st.floats(0.01, 100.0), curvature=st.floats(0.01, 100.0))
def test_a_parabola_takes_few_evaluations_from_any_first_step(minimum, curvature):
    line = Line(lambda t: curvature / 2 * (t - minimum) ** 2, lambda t: curvature * (t - minimum))
    found = strong_wolfe(line, line.start(), 1.0, C1, 1e-3)
    assert found.t == pytest.approx(minimum, rel=2e-3)
    assert line.calls <= 8


@given(
    low=st.floats(-5.0, 5.0),
    distance=st.floats(0.1, 5.0),
    scale=st.floats(0.1, 10.0),
    a=st.floats(-6.0, 6.0),
    b=st.floats(-6.0, 6.0),
)
def test_the_minimum_of_a_cubic_is_found_from_any_two_of_its_points(low, distance, scale, a, b):
    assume(abs(a - b) > 0.1)
    high = low - distance  # the slope is 0 at the maximum ``high``, and at the minimum ``low``

    def point(t):
        loss = scale * (t**3 / 3 - (low + high) * t * t / 2 + low * high * t)
        return Point(t, loss, scale * (t - low) * (t - high))

    assert cubic_minimum(point(a), point(b)) == pytest.approx(low, abs=1e-6)


def test_a_line_has_no_minimum():
    assert math.isnan(cubic_minimum(Point(0.0, 0.0, -1.0), Point(1.0, -1.0, -1.0)))


def exp_or_infinity(t):
    return math.exp(t) if t < 700 else math.inf


OVERFLOWS = {
    "infinity": Line(lambda t: exp_or_infinity(t) - 2 * t, lambda t: exp_or_infinity(t) - 2),
    "NaN": Line(
        lambda t: -math.log(1 - t) - 3 * t if t < 1 else math.nan,
        lambda t: 1 / (1 - t) - 3 if t < 1 else math.nan,
    ),
    "a slope that is NaN": Line(
        lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3) if t < 2 else math.nan
    ),
    "minus infinity": Line(
        lambda t: (t - 0.5) ** 2 if t < 2 else -math.inf, lambda t: 2 * (t - 0.5)
    ),
    "a finite loss of 1e300": Line(lambda t: math.cosh(t) - 2 * t, lambda t: math.sinh(t) - 2),
}


@pytest.mark.parametrize("first", [5.0, 690.0, 1e4, 1e9])
@pytest.mark.parametrize("name", OVERFLOWS)
def test_a_first_step_into_an_overflow_is_shortened(name, first):
    line = OVERFLOWS[name]
    if name == "a finite loss of 1e300":
        first = min(first, 690.0)
    found = strong_wolfe(line, line.start(), first)
    wolfe = Wolfe(line.start())
    assert found.t > 0 and wolfe.decrease(found) and wolfe.curvature(found)


def test_a_loss_that_falls_for_ever_ends_the_search_at_the_lowest_point():
    line = Line(lambda t: -t, lambda t: -1.0)
    found = strong_wolfe(line, line.start(), 1.0, max_evaluations=10)
    assert line.calls == 10 and found.loss == -found.t < -500


def test_the_start_is_returned_if_the_loss_is_higher_everywhere():
    line = Line(lambda t: 1 + t, lambda t: 1.0)
    start = Point(0.0, 1.0, -1.0)  # a slope that the losses contradict, as rounding may do
    assert strong_wolfe(line, start, 1.0) is start
    assert line.calls <= 25


def test_an_interval_below_the_smallest_is_not_searched():
    line = Line(lambda t: 1 + t, lambda t: 1.0)
    strong_wolfe(line, Point(0.0, 1.0, -1.0), 1.0, smallest=0.1)
    assert line.calls <= 6


def test_the_conditions_are_those_of_the_book_at_their_bounds():
    wolfe = Wolfe(Point(0.0, 5.0, -2.0), c1=0.1, c2=0.5)
    # eq. 3.7a at t = 3: the loss may be at most 5 - 0.1 * 3 * 2
    assert wolfe.decrease(Point(3.0, 4.39, 0.0)) and not wolfe.decrease(Point(3.0, 4.41, 0.0))
    # eq. 3.7b: the slope may be at most 0.5 * 2, in both directions
    assert wolfe.curvature(Point(3.0, 0.0, 0.99)) and wolfe.curvature(Point(3.0, 0.0, -0.99))
    assert not wolfe.curvature(Point(3.0, 0.0, 1.01))
    assert not wolfe.curvature(Point(3.0, 0.0, -1.01))


def test_a_trial_that_is_higher_than_the_one_before_closes_the_interval():
    def phi(t):  # steep at 1, steep and higher from 2 on, flat and lowest between them
        if t == 1:
            return Point(t, -5.0, -10.0)
        return Point(t, -4.0, -10.0) if t >= 2 else Point(t, -6.0, 0.0)

    found = strong_wolfe(phi, Point(0.0, 0.0, -10.0), 1.0)
    assert 1 < found.t < 2 and found.loss == -6


def test_the_lowest_point_is_returned_when_the_evaluations_run_out():
    line = Line(lambda t: (t - 1) ** 2, lambda t: 2 * (t - 1))
    found = strong_wolfe(line, line.start(), 1.5, c2=1e-9, max_evaluations=1)
    assert found.t == 1.5


def test_the_middle_is_tried_if_the_last_trial_did_not_halve_the_interval():
    low, high = Point(0.0, 0.0, -1.0), Point(1.0, 100.0, 200.0)
    assert _trial(low, high, shrank=True) == pytest.approx(0.1)  # the cubic says 0.01
    assert _trial(low, high, shrank=False) == 0.5
