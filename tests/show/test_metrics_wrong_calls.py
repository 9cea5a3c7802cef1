"""No metric rates bad input as perfect: NaN, infinity, overflow, wrong types and too few points
are refused with a sentence."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_calls import riddles

from tinycv.show import metrics

A, B = (np.random.default_rng(seed).standard_normal((9, 3)) for seed in (0, 1))
CALLS = {
    metrics.modes_covered: {"samples": A, "centres": B, "sigma": 0.5, "shares": np.ones(9)},
    metrics.reverse_kl: {"counts": np.array([1, 2, 3]), "shares": np.array([0.5, 0.25, 0.25])},
    metrics.frechet_distance: {"a": A, "b": B},
    metrics.kernel_distance: {"a": A, "b": B},
    metrics.precision_recall: {"real": A, "fake": B, "k": 3},
    metrics.squared_distances: {"x": A, "y": B},
}
SETS = [name for name in ("frechet_distance", "kernel_distance", "precision_recall")]


def test_every_metric_is_called_wrongly_here():
    public = {
        name
        for name, f in inspect.getmembers(metrics, inspect.isfunction)
        if not name.startswith("_") and f.__module__ == "tinycv.show.metrics"
    }
    assert public == {f.__name__ for f in CALLS} | {"real_array", "finite_figure"}


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__name__)
def test_a_wrong_call_gets_a_sentence(function):
    found = riddles(function, CALLS[function])
    assert not found, "\n".join(found)


bad_values = st.sampled_from([np.nan, np.inf, -np.inf])
places = st.tuples(st.integers(0, 8), st.integers(0, 2), st.booleans())


@settings(max_examples=40, deadline=None)
@given(bad_values, places, st.sampled_from(SETS), st.sampled_from(["f2", "f4", "f8"]))
def test_one_bad_number_among_the_features_is_refused(value, place, name, dtype):
    (row, column, first), sets = place, [A.astype(dtype), B.astype(dtype)]
    sets[0 if first else 1][row, column] = value
    with pytest.raises(
        ValueError,
        match=f"{name}: the {'first' if first else 'second'} features .*all must be finite",
    ):
        getattr(metrics, name)(*sets)


@settings(max_examples=20, deadline=None)
@given(bad_values, st.integers(0, 8), st.sampled_from(["samples", "centres", "sigma", "shares"]))
def test_one_bad_number_among_the_modes_is_refused(value, row, name):
    arguments = {**CALLS[metrics.modes_covered]}
    if name == "sigma":
        arguments[name] = value
    else:
        arguments[name] = arguments[name].astype(float)
        arguments[name][row] = value
    with pytest.raises(ValueError, match="modes_covered: sigma|must be finite"):
        metrics.modes_covered(**arguments)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.one_of(bad_values, st.floats(-5, -1e-9), st.floats(0, 5)), min_size=1, max_size=5),
    st.lists(st.one_of(bad_values, st.floats(-5, -1e-9), st.floats(0, 5)), min_size=1, max_size=5),
)
def test_counts_and_shares_that_are_no_distributions_are_refused(counts, shares):
    c, p = np.array(counts), np.array(shares)
    right = (
        len(c) == len(p)
        and np.isfinite(c).all()
        and np.isfinite(p).all()
        and c.min() >= 0
        and p.min() >= 0
        and c.sum() > 0
        and p.sum() > 0
    )
    if not right:
        with pytest.raises(ValueError, match="reverse_kl: "):
            metrics.reverse_kl(c, p)
        return
    kl = metrics.reverse_kl(c, p)
    assert kl >= 0 and (kl > 1e-9 or np.allclose(c / c.sum(), p / p.sum(), atol=1e-3))


@settings(max_examples=30, deadline=None)
@given(st.integers(-3, 20), st.integers(1, 12), st.integers(1, 12))
def test_k_without_a_kth_neighbour_is_refused(k, n, m):
    real, fake = (
        A[:1].repeat(n, 0) + np.arange(n)[:, None],
        B[:1].repeat(m, 0) + np.arange(m)[:, None],
    )
    if 1 <= k < min(n, m):
        assert all(0 <= share <= 1 for share in metrics.precision_recall(real, fake, k))
    else:
        with pytest.raises(
            ValueError, match=f"precision_recall: (k is {k}|.*at least {k + 1} rows each)"
        ):
            metrics.precision_recall(real, fake, k)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "values",
    [
        A + 0j,
        A.astype(object),
        A.astype(str),
        np.ma.masked_less(A, 0),
        np.asmatrix(A),
        A > 0,
        [[1.0, 2.0], [3.0]],
        None,
        "word",
    ],
)
def test_values_that_are_not_real_numbers_are_refused(name, values):
    with pytest.raises((TypeError, ValueError), match=f"{name}: "):
        getattr(metrics, name)(values, B)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("values", [A[:0], A[:1], A[:, :0], A[0], A[None], A[:, :2]])
def test_too_few_points_and_different_widths_are_refused_with_both_shapes(name, values):
    with pytest.raises(ValueError, match=f"{name}: features of shapes .* rows each"):
        getattr(metrics, name)(values, B)


@pytest.mark.parametrize("name", SETS)
def test_an_overflow_is_refused_and_not_read_as_perfect(name):
    with pytest.raises(ValueError, match=f"{name}: "), np.errstate(all="ignore"):
        getattr(metrics, name)(1e200 * A, 1e200 * B)
    with pytest.raises(ValueError, match="reverse_kl: "), np.errstate(all="ignore"):
        metrics.reverse_kl([1e308, 1e308])
    with pytest.raises(ValueError, match="modes_covered: "), np.errstate(all="ignore"):
        metrics.modes_covered(1e200 * A, B, 0.1)


def test_distances_of_bytes_do_not_overflow_and_nan_stays_nan():
    bytes_ = np.array([[0, 255], [255, 0]], np.uint8)
    assert metrics.squared_distances(bytes_, bytes_).tolist() == [[0, 130050], [130050, 0]]
    assert np.isnan(metrics.squared_distances(np.array([[np.nan]]), np.array([[1.0], [2.0]]))).all()
