"""Sums over the first axes on a GPU: equal to NumPy's for any layout, in one or two launches."""

from __future__ import annotations

import numpy as np
import pytest
from cupy_double import counting
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycv.engine import reduce
from tinycv.engine.dispatch import OVERRIDES
from tinycv.gpu import reduce as reduce_cuda

ALLOWED = {"e": 5e-3, "f": 5e-6, "d": 1e-14}


@pytest.mark.parametrize("char", ALLOWED)
@pytest.mark.parametrize("lanes", [1, 32])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5), (16, 33), (17, 64), (200, 40), (5000, 3), (0, 4)]
)
def test_the_sum_of_rows_and_of_their_products(double, monkeypatch, char, lanes, shape):
    from cupy_double.world import WORLD

    monkeypatch.setattr(WORLD, "lanes", lanes)
    # so that there are several strips
    monkeypatch.setattr(reduce_cuda, "WORK", 8)
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-1, 1, shape).astype(char) for _ in range(2))
    for other in (None, y):
        terms = x.astype("float64") if other is None else x.astype("float64") * y.astype("float64")
        found = reduce_cuda.sum_rows(
            double, double.asarray(x), None if other is None else double.asarray(other)
        )
        again = reduce_cuda.sum_rows(
            double, double.asarray(x), None if other is None else double.asarray(other)
        )
        scale = np.abs(terms).sum(axis=0).max(initial=1.0)
        assert found.dtype == char and found.shape == shape[1:] and (found == again).all()
        assert np.abs(found.get() - terms.sum(axis=0)).max(initial=0) <= ALLOWED[char] * scale


def test_float16_is_summed_in_float32_and_can_be_returned_so(double):
    x = double.full((5000, 2), 0.1, "float16")
    wide = reduce_cuda.sum_rows(double, x, wide=True)
    assert wide.dtype == "float32" and np.allclose(
        wide.get(), 5000 * float(np.float16(0.1)), rtol=1e-5
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_sum_over_any_axes_is_numpys(data):
    import cupy_double

    xp = cupy_double.install()
    try:
        shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
        order = data.draw(st.permutations(range(len(shape))))
        axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True))
        axis = data.draw(
            st.sampled_from(
                [None, tuple(axes), tuple(a - len(shape) for a in axes), axes[0] if axes else 0]
            )
        )
        keepdims, char = data.draw(st.booleans()), data.draw(st.sampled_from("fdi"))
        host = np.random.default_rng(0).integers(-9, 9, [shape[i] for i in order]).astype(char)
        back = tuple(int(i) for i in np.argsort(order))
        a = xp.asarray(host).transpose(back)
        for function, expected in ((reduce.sum_over, np.sum), (reduce.mean_over, np.mean)):
            # NumPy warns of means of nothing, CuPy gives NaN too
            if function is reduce.mean_over and 0 in shape:
                continue
            found, right = (
                function(xp, a, axis, keepdims),
                expected(host.transpose(back), axis=axis, keepdims=keepdims),
            )
            assert (found.shape, found.dtype) == (right.shape, right.dtype)
            assert np.allclose(found.get(), right, rtol=1e-5)
    finally:
        cupy_double.uninstall()


@pytest.mark.parametrize(
    ("order", "axis", "by_rows"),
    [
        ((0, 1, 2, 3), 0, True),
        ((0, 1, 2, 3), (0, 1), True),
        ((0, 1, 2, 3), (1, 0), True),
        ((0, 1, 2, 3), -1, False),
        ((0, 1, 2, 3), (0, 2), False),
        ((0, 2, 3, 1), (0, 2, 3), True),
        ((0, 2, 3, 1), 1, False),
        ((0, 1, 2, 3), None, False),
    ],
)
def test_which_sums_use_sum_rows(double, monkeypatch, order, axis, by_rows):
    """order: of the axes in memory. Channels last, a sum over images and pixels is one over rows
    too."""
    asked, true = [], reduce_cuda.sum_rows
    monkeypatch.setitem(
        OVERRIDES,
        "reduce.sum_rows",
        lambda *args, **options: asked.append(1) or true(*args, **options),
    )
    shape = [(2, 3, 4, 5)[i] for i in order]
    a = double.ones(shape, "float32").transpose([order.index(i) for i in range(4)])
    assert a.shape == (2, 3, 4, 5)
    reduce.sum_over(double, a, axis)
    assert bool(asked) == by_rows


@pytest.mark.parametrize("shape", [(1000, 4), (4, 1000)])
def test_a_mean_of_float16_does_not_overflow_even_if_the_sum_would(double, shape):
    a = double.full(shape, 100, "float16")
    for axis in (0, 1, (0, 1)):
        found = reduce.mean_over(double, a, axis)
        assert found.dtype == "float16" and (found.get() == 100).all()
    assert (
        abs(
            float(reduce.mean_over(double, double.full((100000, 2), 0.1, "float16"), 0)[0].get())
            - 0.1
        )
        < 1e-4
    )


def test_wrong_axes_raise_the_same_errors_as_in_numpy(double):
    a = double.ones((4, 3, 2), "float32")
    for axis in (3, 5, -4, (0, 3), (0, 0), (0, -3)):
        for function in (reduce.sum_over, reduce.mean_over):
            with pytest.raises(ValueError, match="out of bounds|duplicate"):
                function(double, a, axis)
    assert reduce.sum_over(double, a, np.int64(0)).shape == (3, 2)


def test_few_rows_take_one_launch(double):
    with counting() as seen:
        reduce_cuda.sum_rows(double, double.ones((16, 8), "float32"))
    assert seen.launches == 2  # the ones are the other
