"""Where a function has no derivative, its gradient is the value that ops.py documents, not NaN."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.engine import methods, ops, signatures


def slope(function, x, device):
    x = Tensor(np.array(x, float), device=device, requires_grad=True)
    return tinycv.grad(function(x).sum(), x)[0].numpy()


def bend(function, x, device):
    """d(Σ df/dx)/dx: the second derivatives, summed over rows."""
    x = Tensor(np.array(x, float), device=device, requires_grad=True)
    (slopes,) = tinycv.grad(function(x).sum(), x, create_graph=True)
    return tinycv.grad(slopes.sum(), x, allow_unused=True)[0].numpy()


CORNERS = {
    "relu at 0": (ops.relu, [0.0, -0.0], [0, 0]),
    "abs at 0": (ops.abs, [0.0, -0.0], [0, 0]),
    "clip at its bounds": (lambda x: x.clip(-1.0, 1.0), [-1, 1, -1.5, 1.5, 0], [1, 1, 0, 0, 1]),
    "clip at its one bound": (lambda x: x.clip(None, 1.0), [1, 2, -9], [1, 0, 1]),
    "clip to nothing": (lambda x: x.clip(1.0, 0.0), [-1, 0, 0.5, 1, 2], [0, 0, 0, 0, 0]),
    "relu of NaN": (ops.relu, [np.nan], [0]),
    "maximum with NaN": (lambda x: ops.maximum(x, 0.0), [np.nan, 1], [0, 1]),
    "clip of NaN": (lambda x: x.clip(0.0, 1.0), [np.nan, 0.5], [0, 1]),
    "norm at 0": (lambda x: x.norm(), [0, 0], [0, 0]),
    "norm of a row of zeros": (lambda x: x.norm(axis=1), [[0, 0], [3, 4]], [[0, 0], [0.6, 0.8]]),
    "sqrt at 0": (ops.sqrt, [0, 4], [np.inf, 0.25]),
    "std of equal numbers": (lambda x: x.std(axis=-1), [[2, 2, 2]], [[0, 0, 0]]),
    "var of equal numbers": (lambda x: x.var(), [2, 2], [0, 0]),
    "x ** 0 at 0": (lambda x: x**0, [0, 2], [0, 0]),
    "x ** 1 at 0": (lambda x: x**1, [0, 2], [1, 1]),
    "x ** 2 at 0": (lambda x: x**2, [0, -2], [0, -4]),
    "x ** 0.5 at 0": (lambda x: x**0.5, [0, 4], [np.inf, 0.25]),
    "max over ties": (lambda x: x.max(), [3, 1, 3, 3], [1 / 3, 0, 1 / 3, 1 / 3]),
    "max over ties in rows": (lambda x: x.max(axis=1), [[2, 2], [1, 0]], [[0.5, 0.5], [1, 0]]),
    "min over ties": (lambda x: x.min(), [1, 3, 1], [0.5, 0, 0.5]),
    "max of equal numbers": (lambda x: x.max(), [[7, 7], [7, 7]], [[0.25, 0.25], [0.25, 0.25]]),
    "maximum with an equal number": (lambda x: ops.maximum(x, 1.0), [1, 2, 0], [0.5, 1, 0]),
    "minimum with an equal number": (lambda x: ops.minimum(x, 1.0), [1, 2, 0], [0.5, 0, 1]),
    "maximum with itself": (lambda x: ops.maximum(x, x), [1, -1], [1, 1]),
    "sign": (lambda x: ops.sign(x) + x, [0, 1], [1, 1]),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.filterwarnings("ignore:divide by zero")  # where the slope is infinite
def test_the_documented_slope_is_taken(corner, device):
    function, x, expected = CORNERS[corner]
    np.testing.assert_allclose(slope(function, x, device), expected, rtol=1e-15)


@pytest.mark.parametrize("corner", [c for c in CORNERS if "sqrt" not in c and "0.5" not in c])
@pytest.mark.filterwarnings("error")
def test_the_second_derivative_at_a_corner_is_finite_and_silent(corner, device):
    function, x, _ = CORNERS[corner]
    assert np.isfinite(bend(lambda x: function(x) + x.sum() ** 2, x, device)).all()


def test_equal_inputs_of_maximum_and_minimum_get_half_each(device):
    for function in (ops.maximum, ops.minimum):
        a, b = (Tensor([1.0, 2.0], device=device, requires_grad=True) for _ in range(2))
        function(a, b).sum().backward()
        assert a.grad.numpy().tolist() == b.grad.numpy().tolist() == [0.5, 0.5]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "a",
    [-8.0, -2, -0.0, 0, 0.0, 0.5, 2, 10.0, math.inf, math.nan, True, np.float64(-8), np.int64(2)],
)
@pytest.mark.parametrize(
    "b", [-2, -1.0, -1 / 3, 0, 0.0, 1 / 3, 2, 3.0, 400, math.inf, math.nan, np.float64(0.5)]
)
def test_a_power_of_python_numbers_equals_that_of_arrays(a, b):
    with np.errstate(all="ignore"):
        right = (np.array([a], "float64") ** np.array([b], "float64")).item()
    found = [tinycv.power(a, b), ops.power(a, b), ops.pow(a, exponent=b)]
    assert all(type(y) in (int, float) for y in found)
    np.testing.assert_allclose(
        [math.inf if y > 1e308 else float(y) for y in found], right, rtol=1e-15
    )


def test_a_power_of_whole_numbers_is_exact():
    assert (
        tinycv.power(3, 50) == 3**50
        and type(tinycv.power(2, 3)) is int
        and tinycv.power(2, -1) == 0.5
    )


def test_a_power_of_tensors_at_zero(device):
    a, b = (
        Tensor(np.array(v, float), device=device, requires_grad=True)
        for v in ([0, 0, 3], [0, 2, 0])
    )
    y = ops.power(a, b)
    y.sum().backward()
    assert y.numpy().tolist() == [1, 0, 1]
    # x**0 is constant, and x**2 has slope 0 at 0.
    assert a.grad.numpy().tolist() == [0, 0, 0]
    assert b.grad.numpy().tolist() == [0, 0, np.log(3)]  # 0**b by b: 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "function, limits",
    [
        (ops.sigmoid, [0, 0]),
        (ops.tanh, [0, 0]),
        (ops.softplus, [0, 1]),
        (ops.erf, [0, 0]),
        (ops.relu, [0, 1]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_at_large_inputs_reach_their_limits_without_overflow(
    function, limits, dtype, device
):
    x = Tensor(np.array([-1e4, 1e4], dtype), device=device, requires_grad=True)
    function(x).sum().backward()
    assert x.grad.numpy().tolist() == limits and x.grad.dtype == dtype


@pytest.mark.filterwarnings("error")
def test_logsumexp_of_minus_infinities_is_minus_infinity_with_zero_gradient(device):
    x = Tensor(np.array([[-np.inf, -np.inf], [-np.inf, 1.0]]), device=device, requires_grad=True)
    y = x.logsumexp(axis=-1)
    y.sum().backward()
    assert y.numpy().tolist() == [-np.inf, 1.0]
    assert x.grad.numpy().tolist() == [[0, 0], [0, 1]]


def test_step_functions_have_no_gradient_and_are_not_recorded(device):
    x = Tensor([0.5, -1.0], device=device, requires_grad=True)
    assert not any(
        y.requires_grad for y in (x > 0, x == x, ops.sign(x), ops.isfinite(x), x.argmax(), ~(x > 0))
    )


def test_signatures_lists_every_operator_and_method_of_tensor():
    tree = ast.parse(Path(signatures.__file__).read_text(encoding="utf-8"))
    listed = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert listed == {*methods.OPERATORS, *methods.METHODS, "backward"}
