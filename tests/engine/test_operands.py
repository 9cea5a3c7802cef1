"""Type promotion and options of ops: integers in real functions, mixed dtypes, float16, options and
empty shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_calls import riddles

import tinycv
from tinycv import Tensor, grad, nn
from tinycv.engine import ops

WHOLE = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]
REAL = [
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "tanh",
    "sigmoid",
    "softplus",
    "erf",
    "sin",
    "cos",
    "mean",
    "var",
    "logsumexp",
    "norm",
]
inf, nan = float("inf"), float("nan")


def extreme(dtype):
    """The largest and smallest numbers of a dtype, which overflow first, and small ones."""
    if dtype == "bool":
        return np.array([False, True, True])
    low = np.iinfo(dtype).min
    return np.array([low, np.iinfo(dtype).max, 0, 1, 2, 3], dtype)


def slope(f, x, dtype="float32"):
    """(f(x), d(sum f)/dx) as arrays."""
    x = Tensor(np.array(x, dtype), requires_grad=True)
    y = f(x)
    y.sum().backward()
    return y.numpy(), x.grad.numpy()


# ── integers as inputs of real functions ─────────────────────────────────────────────────────────


# log of 0, exp of a large number
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REAL)
def test_a_real_function_of_integers_gives_the_results_of_float32(name, device):
    function = getattr(ops, name)
    for dtype in WHOLE:
        x = extreme(dtype)
        y, expected = (
            function(Tensor(x, device=device)),
            function(Tensor(x.astype("float32"), device=device)),
        )
        assert y.dtype == np.float32, dtype
        assert np.array_equal(y.numpy(), expected.numpy(), equal_nan=True), dtype
        # The same holds for bare arrays.
        assert np.array_equal(function(x), function(x.astype("float32")), equal_nan=True), dtype


@pytest.mark.parametrize("dtype", WHOLE)
def test_std_and_division_of_integers_do_not_wrap(dtype, device):
    x = Tensor(extreme(dtype), device=device)
    wide = Tensor(extreme(dtype).astype("float32"), device=device)
    assert np.allclose(x.std().numpy(), wide.std().numpy()) and x.std().dtype == np.float32
    assert np.array_equal((x / 5).numpy(), (wide / 5).numpy()) and (x / 5).dtype == np.float32
    assert (5 / (x + Tensor(np.float32(0.5), device=device))).dtype == np.float32


# ── mixed dtypes ─────────────────────────────────────────────────────────────────────────────────

MIXING = {
    "add": ops.add,
    "sub": ops.sub,
    "mul": ops.mul,
    "div": ops.div,
    "power": ops.power,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "where": lambda a, b: ops.where(a > 0, a, b),
    "stack": ops.stack,
    "concatenate": ops.concatenate,
    "matmul": lambda a, b: a.reshape(1, -1) @ b.reshape(-1, 1),
    "einsum": lambda a, b: tinycv.einsum("i,i->i", a, b),
}


@pytest.mark.parametrize("real", FLOATS)
@pytest.mark.parametrize("name", MIXING)
def test_integers_with_floats_take_the_dtype_of_the_floats(name, real, device):
    a = Tensor(np.array([1, 2, 3]), dtype=real, device=device, requires_grad=True)
    for whole in WHOLE:
        b = Tensor(np.array([1, 0, 1]), dtype=whole, device=device)
        for y in (MIXING[name](a, b), MIXING[name](b, a)):
            assert y.dtype == real, whole
            (da,) = grad(y.sum(), a)
            assert da.dtype == real, whole


def test_type_promotion_follows_pytorch_for_numbers_arrays_and_tensors(device):
    x = Tensor(np.array([1.0, -2.0], np.float32), device=device)
    whole, yes = (
        Tensor(np.array([1, 2]), device=device),
        Tensor(np.array([True, False]), device=device),
    )
    single = Tensor(np.array(2.0), device=device)
    for y in (
        ops.where(x > 0, 1.0, -1.0),
        (x > 0) * 0.5,
        whole / 5,
        whole * 0.5,
        0.5 - whole,
        whole**0.5,
        x * single,
        single * x,
        x + yes,
        ops.maximum(whole, 0.5),
        whole.clip(0.5, None),
        tinycv.pad(whole, 1, 0.5),
        whole * np.float64(0.5),
        np.float64(0.5) * whole,
        x.astype("float16") * 2.0 + x,
        ops.where(yes, whole, 0.5),
    ):
        assert y.dtype == np.float32, y
    half = x.astype("float16")
    assert (
        (half * whole).dtype == (half * single).dtype == (half * np.float32(2)).dtype == np.float16
    )
    assert (x * Tensor(np.array([1.0, 2.0]), device=device)).dtype == np.float64
    assert (whole * single).dtype == np.float64
    assert (whole * 2).dtype == tinycv.pad(whole, 1).dtype == ops.where(yes, 1, 0).dtype == np.int64


def test_integers_to_a_negative_power_are_refused():
    with pytest.raises(ValueError, match="pow: Integers to negative integer powers"):
        Tensor(np.array([1, 2])) ** -1


TAKING = {
    "add": ops.add,
    "sub": ops.sub,
    "mul": ops.mul,
    "maximum": ops.maximum,
    "remainder": ops.remainder,
    "floor_divide": ops.floor_divide,
    "where": lambda x, c: ops.where(x > 0, x, c),
    "pad": lambda x, c: tinycv.pad(x, 1, c),
}


@given(
    st.sampled_from(sorted(TAKING)),
    st.sampled_from(WHOLE[1:]),
    st.integers(-(2**70), 2**70) | st.integers(1, 300),
)
@settings(max_examples=150, deadline=None)
def test_a_python_integer_with_an_integer_tensor_fits_its_dtype_or_is_refused(name, dtype, number):
    x, bounds = Tensor(np.array([1, 2], dtype)), np.iinfo(dtype)
    if bounds.min <= number <= bounds.max:
        if name not in ("remainder", "floor_divide") or number:
            assert TAKING[name](x, number).dtype == dtype
    else:
        with pytest.raises(
            ValueError,
            match=rf"{name}: (b|value) is .*, which is outside of {dtype}, {bounds.min} to",
        ):
            TAKING[name](x, number)
        # For clip, a bound outside the range of the dtype has no effect.
        kept = x.clip(number, None) if number < bounds.min else x.clip(None, number)
        assert kept.dtype == dtype and kept.tolist() == [1, 2]


@pytest.mark.parametrize("signed", ["int8", "int16", "int32", "int64"])
@pytest.mark.parametrize(
    "name", ["add", "mul", "maximum", "stack", "concatenate", "floor_divide", "remainder"]
)
def test_uint64_with_signed_integers_is_refused(name, signed, device):
    large, small = (Tensor(np.array([1, 2], dtype), device=device) for dtype in ("uint64", signed))
    for pair in ((large, small), (small, large)):
        with pytest.raises(
            ValueError, match=f"{name}: its inputs are of uint64 and of signed integers"
        ):
            getattr(ops, name)(*pair)


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_a_sum_of_integers_is_int64(dtype, axis, device):
    values = np.array([[1, 0, 1], [1, 1, 0]], dtype)
    x = Tensor(values, device=device)
    for y in (x.sum(axis), x.sum(axis, keepdims=True), ops.sum(values, axis)):
        assert y.dtype == np.int64
    assert np.array_equal((x.sum(axis) - 7).numpy(), values.astype("int64").sum(axis) - 7)
    if type(axis) is int:
        assert x.cumsum(axis).dtype == np.int64
        assert np.array_equal((x.cumsum(axis) - 7).numpy(), values.astype("int64").cumsum(axis) - 7)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda x: x + 10**400, "add: b is 1000.*larger than any float"),
        (lambda x: 10**400 - x, "sub: a is 1000.*larger than any float"),
        (lambda x: x * 2**1024, "mul: b is 1797.*larger than any float"),
        (lambda x: x**10**400, "pow: exponent is 1000.*larger than any float"),
        (lambda x: x.clip(0, 10**400), "clip: high is 1000.*larger than any float"),
        (lambda x: tinycv.pad(x, 1, 10**400), "pad: value is 1000.*larger than any float"),
        (lambda x: (x > 0) - (x > 1), "sub: bools have no difference; a != b"),
        (lambda x: -(x > 0), "neg: bools have no negative"),
        *[
            (
                lambda x, name=name: getattr(ops, name)(2.0),
                f"{name}: x is 2.0; it must be a Tensor or an array",
            )
            for name in (
                "sum",
                "mean",
                "var",
                "max",
                "min",
                "norm",
                "logsumexp",
                "cumsum",
                "argmax",
            )
        ],
    ],
)
def test_wrong_operands_raise_a_clear_error(call, said, device):
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        call(Tensor(np.array([1.0, 2.0], np.float32), device=device))


def test_mixed_dtypes_keep_their_gradients_at_second_order():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = (x ** Tensor(np.array([2, 3])) * Tensor(np.array([3, 1], np.uint8))).sum()
    (first,) = grad(y, x, create_graph=True)
    assert first.numpy().tolist() == [6, 12] and grad(first.sum(), x)[0].numpy().tolist() == [6, 12]


# ── floor division and remainder ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["floor_divide", "remainder"])
@pytest.mark.parametrize("a", [[7.5, -7.5], [7, -7]])
def test_floor_division_and_remainder_have_the_dtype_of_every_other_op(name, a, device):
    function, x = getattr(ops, name), Tensor(a, device=device)
    arrays = np.array(2.0), np.array([2, 2]), np.array([2.0, 4.0], "f4"), np.array([2.0, 4.0])
    for b in (2, 2.0, np.float64(2), True, *arrays):
        b = Tensor(b, device=device) if isinstance(b, np.ndarray) else b
        y = function(x, b)
        assert y.dtype == ops.mul(x, b).dtype == function(b, x).dtype
        np.testing.assert_array_equal(
            y.numpy(), getattr(np, name)(x.numpy(), b.numpy() if isinstance(b, Tensor) else b)
        )


@given(
    st.sampled_from(["floor_divide", "remainder"]),
    st.sampled_from(WHOLE),
    st.lists(st.integers(0, 1), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_integers_over_0_are_refused_and_floats_are_infinite_or_nan(name, dtype, divisors):
    function, x, b = (
        getattr(ops, name),
        Tensor(np.ones(len(divisors), dtype)),
        np.array(divisors, dtype),
    )
    if all(divisors):
        assert function(x, Tensor(b)).tolist() == [name == "floor_divide"] * len(b)
    else:
        for pair in ((x, Tensor(b)), (1, Tensor(b)), (x, 0), (x, b)):
            with pytest.raises(ZeroDivisionError, match=f"{name}: b is 0 somewhere"):
                function(*pair)
    with np.errstate(all="ignore"):
        assert not np.isfinite(function(x.astype("float32"), 0).numpy()).any()


# ── float16 ──────────────────────────────────────────────────────────────────────────────────────

HALVES = {
    "sum": lambda x: x.sum(axis=0),
    "sum of all": lambda x: x.sum() / 4,
    "mean": lambda x: x.mean(axis=0),
    "var": lambda x: x.var(axis=0),
    "std": lambda x: x.std(axis=0),
    "norm": lambda x: x.norm(axis=0),
    "logsumexp": lambda x: x.logsumexp(axis=0),
    "cumsum": lambda x: x.cumsum(axis=0),
    "einsum": lambda x: tinycv.einsum("ij->j", x),
    "einsum of two": lambda x: tinycv.einsum("ij,ij->j", x, x) / 64,
    "matmul": lambda x: x.T @ x / 64,
    "max": lambda x: x.max(axis=0),
    "min": lambda x: x.min(axis=0),
}


@pytest.mark.parametrize("name", HALVES)
def test_float16_is_summed_in_float32_and_rounded_once(name, device):
    rng = np.random.default_rng(0)
    for x in (1 + rng.integers(0, 3, (3000, 3)) / 4, np.ones((5000, 2))):
        half = Tensor(x, dtype="float16", device=device, requires_grad=True)
        single = Tensor(x, dtype="float32", device=device, requires_grad=True)
        y, expected = HALVES[name](half), HALVES[name](single)
        assert y.dtype == np.float16
        assert np.allclose(y.numpy(), expected.numpy(), rtol=2e-3, atol=1e-4)
        weight = Tensor(np.ones(y.shape), dtype="float16", device=device)
        (found,) = grad(y, half, weight)
        (expected_gradient,) = grad(expected, single, weight.astype("float32"))
        assert found.dtype == np.float16
        assert np.allclose(found.numpy(), expected_gradient.numpy(), rtol=5e-3, atol=2e-5)


def test_the_gradient_of_a_broadcast_float16_number_is_summed_in_float32(device):
    rows = Tensor(np.ones((4096, 4)), dtype="float16", device=device)
    bias = Tensor(np.zeros(4), dtype="float16", device=device, requires_grad=True)
    (rows + bias).backward(rows)
    assert bias.grad.dtype == np.float16 and bias.grad.numpy().tolist() == [4096] * 4


def test_more_float16_entries_than_float16_can_count_share_a_gradient(device):
    x = Tensor(np.ones(70000), dtype="float16", device=device, requires_grad=True)
    for y in (x.max(), x.min(), x.mean()):
        assert np.allclose(grad(y, x)[0].numpy(), 1 / 70000, rtol=1e-2)


def test_the_norm_of_float16_is_right_even_if_its_squares_overflow(device):
    x = Tensor(np.array([200.0] * 3), dtype="float16", device=device, requires_grad=True)
    assert x.norm().item() == pytest.approx(346.41, rel=1e-3)
    assert np.allclose(grad(x.norm(), x)[0].numpy(), 3**-0.5, rtol=1e-3)


ARITHMETIC = {
    "x + c": lambda x, c: x + c,
    "c + x": lambda x, c: c + x,
    "x - c": lambda x, c: x - c,
    "c - x": lambda x, c: c - x,
    "x * c": lambda x, c: x * c,
    "c * x": lambda x, c: c * x,
    "x / c": lambda x, c: x / c,
    "c / x": lambda x, c: c / x,
    "x % c": lambda x, c: x % c,
    "x // c": lambda x, c: x // c,
    "c // x": lambda x, c: c // x,
}


# overflow, where infinity is right
@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from(sorted(ARITHMETIC)),
    st.lists(st.floats(-65504, 65504, width=16), min_size=1, max_size=4),
    st.floats(-1e9, 1e9) | st.floats(-1e-3, 1e-3) | st.integers(-(10**6), 10**6),
    st.sampled_from(["a number", "an array of one float32"]),
)
@settings(max_examples=150, deadline=None)
def test_float16_with_a_number_is_rounded_once(name, values, c, kind):
    half = np.array(values, np.float16)
    right = ARITHMETIC[name](half.astype(np.float32), np.float32(c))
    found = ARITHMETIC[name](
        Tensor(half), c if kind == "a number" else Tensor(np.array(c, np.float32))
    )
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found.numpy(), right.astype(np.float16))


@pytest.mark.parametrize("c", [65536.0, 1e5, 1e-8, 100000, np.float32(1e5)])
def test_float16_with_a_number_outside_its_range_has_the_right_value_and_gradient(c, device):
    values = np.array([1e-3, -2.0], np.float16)
    # multiplied by this, the result is in the range of float16 again
    scale = np.float32(1 / c)
    for function in (lambda x: x * c, lambda x: c * x, lambda x: x / scale, lambda x: x**1 * c):
        x = Tensor(values, device=device, requires_grad=True)
        y = function(x)
        g = Tensor(np.full(2, 2.0**-14), dtype="float16", device=device)
        with np.errstate(over="ignore"):
            expected = (values.astype("f4") * c).astype("f2")
            expected_slope = np.full(2, c * 2.0**-14, "f4").astype("f2")
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-3)
        for recorded in (True, False):
            (found,) = grad(y, x, g, create_graph=recorded, retain_graph=True)
            np.testing.assert_allclose(found.numpy(), expected_slope, rtol=1e-3)
            assert y.dtype == found.dtype == np.float16


SMOOTH = {
    "exp": ops.exp,
    "expm1": ops.expm1,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
    "tanh": ops.tanh,
    "erf": ops.erf,
    "sin": ops.sin,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "leaky_relu": nn.functional.leaky_relu,
    "log1p of a square": lambda x: ops.log1p(x * x / 16),
}


# overflow, where infinity is right
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_function_of_float16_is_computed_in_float32_and_rounded_once(name, device):
    values = np.concatenate([np.linspace(-17, 17, 137), [-1e-3, 1e-3, 0]]).astype(np.float16)
    half, single = (
        Tensor(values.astype(dtype), device=device, requires_grad=True)
        for dtype in ("float16", "float32")
    )
    y, expected = SMOOTH[name](half), SMOOTH[name](single)
    assert y.dtype == np.float16
    smallest = 2.0**-24  # the smallest positive float16 number
    np.testing.assert_allclose(
        y.numpy(), expected.numpy().astype(np.float16), rtol=1e-3, atol=smallest
    )
    found, expected_gradient = grad(y.sum(), half)[0], grad(expected.sum(), single)[0]
    # atol: some derivatives are computed from the rounded result
    assert found.dtype == np.float16
    np.testing.assert_allclose(
        found.numpy(), expected_gradient.numpy().astype(np.float16), rtol=4e-3, atol=1e-3
    )


def test_the_standard_deviation_of_large_float16_numbers_is_finite(device):
    x = Tensor(np.array([60000, -60000, 60000], np.float16), device=device, requires_grad=True)
    for y in (x.std(), tinycv.std(x, axis=0)):
        assert y.dtype == np.float16 and y.item() == pytest.approx(56569, rel=1e-3)
        assert np.allclose(grad(y, x)[0].numpy(), [0.2357, -0.4714, 0.2357], rtol=2e-3)
    assert tinycv.std(np.array([60000, -60000], np.float16)) == 60000


@pytest.mark.parametrize(
    "function", [ops.softplus, ops.relu, ops.sigmoid, ops.tanh, ops.erf, ops.exp, ops.log1p]
)
@pytest.mark.parametrize("number", [2.0, 1, 0, True, np.float64(1.5), np.float32(0.5), np.int64(2)])
def test_elementwise_functions_accept_a_python_number(function, number):
    assert float(function(number)) == pytest.approx(
        function(Tensor(float(number))).item(), rel=1e-6
    )


# ── corners ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "values, ddof, var, var_slope",
    [  # as in PyTorch 2.13
        ([1.0], 1, nan, [nan]),
        ([1.0], 2, nan, [nan]),
        ([1.0, 2.0], 2, inf, [inf, inf]),
        ([1.0, 2.0], 3, inf, [inf, inf]),
        ([1.0, 1.0], 2, nan, [nan, nan]),
        ([1.0, 2.0], 1, 0.5, [-1, 1]),
    ],
)
def test_var_and_std_with_no_degrees_of_freedom_are_nan_or_infinite(values, ddof, var, var_slope):
    y, g = slope(lambda x: x.var(ddof=ddof), values)
    assert y.dtype == np.float32 and np.array_equal(y, var, equal_nan=True)
    assert np.array_equal(g, var_slope, equal_nan=True)
    y, g = slope(lambda x: x.std(ddof=ddof), values)
    assert y.dtype == np.float32 and np.allclose(y, np.sqrt(var), equal_nan=True)
    assert len(values) == ddof + 1 or np.isnan(g).all()


@given(
    st.sampled_from(["mean", "var", "std", "norm", "logsumexp", "sum"]),
    st.sampled_from([(2, 0), (0, 3), (0,), (2, 0, 3)]),
    st.sampled_from([None, 0, -1, (0, -1)]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_reductions_over_an_empty_axis_have_a_value_and_a_gradient_of_the_right_shape(
    name, shape, axis, keepdims
):
    if axis == (0, -1) and len(shape) == 1:
        axis = (0,)
    of_none = {"mean": nan, "var": nan, "std": nan, "norm": 0, "logsumexp": -inf, "sum": 0}[name]
    function = getattr(Tensor, name)
    y, g = slope(lambda x: function(x, axis=axis, keepdims=keepdims), np.zeros(shape))
    assert g.shape == shape and y.shape == np.zeros(shape).sum(axis=axis, keepdims=keepdims).shape
    assert np.array_equal(y, np.full(y.shape, of_none), equal_nan=True)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_the_maximum_over_an_empty_axis_is_refused_with_a_clear_error(name):
    with pytest.raises(
        ValueError, match=rf"{name}: an array of shape \(2, 0\) has no {name} over axis=1"
    ):
        getattr(ops, name)(Tensor(np.zeros((2, 0))), axis=1)


@pytest.mark.parametrize("level", [0, 300, -2000, 30000])
@pytest.mark.parametrize("keepdims", [False, True])
def test_the_gradient_of_a_float16_logsumexp_is_as_exact_far_from_0(level, keepdims, device):
    # All of these are float16 numbers.
    values = (level + np.array([[0, 16, 32, 0], [0, 0, 0, 0]])).astype(np.float16)
    half, exact = (
        Tensor(values, dtype=dtype, device=device, requires_grad=True)
        for dtype in ("float16", "float64")
    )
    for x in (half, exact):
        x.logsumexp(axis=-1, keepdims=keepdims).sum().backward()
    assert half.grad.dtype == np.float16
    np.testing.assert_allclose(half.grad.numpy(), exact.grad.numpy(), atol=1e-3)


@pytest.mark.filterwarnings("ignore:invalid value")
@given(st.lists(st.sampled_from([inf, -inf, nan, 0.0, 1.0, -3.0]), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_the_gradient_of_logsumexp_is_at_most_1_and_0_for_finite_entries_beside_infinity(
    values,
):
    y, g = slope(lambda x: x.logsumexp(), values)
    values = np.array(values)
    assert not (g > 1 + 1e-6).any()
    if np.isnan(values).any():
        assert np.isnan(y) and np.isnan(g).all()
    elif (values == inf).any():
        assert y == inf and (g[values < inf] == 0).all()
    else:
        assert np.isfinite(g).all() and (g[values == -inf] == 0).all()


# ── options, and error messages ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "call",
    [
        lambda x, t: x.clip(t, None),
        lambda x, t: x.clip(None, t),
        lambda x, t: tinycv.pad(x, 1, t),
        lambda x, t: ops.pow(x, exponent=t),
    ],
)
def test_a_tensor_as_an_option_is_refused_because_no_gradient_would_reach_it(call, device):
    x = Tensor(np.ones(3, np.float32), device=device)
    with pytest.raises(
        TypeError, match="(clip|pad|pow): (low|high|value|exponent) is .*no gradient would reach"
    ):
        call(x, Tensor(2.0, device=device, requires_grad=True))


@pytest.mark.parametrize(
    "wrong", [None, [1, 2], "word", 1j, np.array(["a"]), np.array([1j]), np.array([None]), {}]
)
@pytest.mark.parametrize(
    "name", sorted({"add", "sub", "mul", "div", "power", "maximum", "minimum"})
)
def test_the_error_for_an_operand_that_is_not_a_number_names_it(name, wrong):
    x = Tensor(np.ones(2, np.float32))
    for call, which in (
        (lambda: getattr(ops, name)(x, wrong), "b"),
        (lambda: getattr(ops, name)(wrong, x), "a"),
    ):
        said = (
            f"{name}: {which}( is .*; it must be a Tensor|: an array of .* cannot become a Tensor)"
        )
        with pytest.raises(TypeError, match=said):
            call()


def test_the_error_for_unknown_arguments_names_them():
    x = Tensor(np.ones((2, 3), np.float32))
    for call, said in (
        (lambda: x.sum(dim=0), "sum: there is no argument dim; it takes x, axis, keepdims"),
        (lambda: x.cumsum(dim=0), "cumsum: there is no argument dim; it takes x, axis"),
        (lambda: x.sum(0, axis=0), r"sum\(x, axis, keepdims\): axis was given twice"),
        (lambda: x.sum(0, True, 3), r"sum\(x, axis, keepdims\): 4 arguments"),
        (lambda: x.exp(3), "exp: 2 inputs were given; it takes x"),
    ):
        with pytest.raises(TypeError, match=said):
            call()


@pytest.mark.parametrize(
    "subscripts, said",
    [
        ("ij,k->i", "names the axes 'k' of operand 1"),
        ("ij,jk->ik", "axis 'j' has size 3, and 2 in operand 1"),
        ("ij,ij->k", "the result names k"),
        ("ij->i", "names 1 operands, but 2"),
        ("i1,ij->i", "names the axes 'i1'"),
        (3, "subscripts is 3; it must be a string"),
    ],
)
def test_a_wrong_einsum_raises_a_clear_error(subscripts, said):
    x = Tensor(np.ones((2, 3), np.float32))
    with pytest.raises((TypeError, ValueError), match=f"einsum: .*{said}"):
        tinycv.einsum(subscripts, x, x)


X, Y = (
    Tensor(np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3)),
    Tensor(np.ones((2, 3), np.float32)),
)
SQUARE = Tensor(np.ones((3, 3), np.float32))


def good_calls():
    """(a function, correct arguments in its order, the name that its error messages use)."""
    for name in (
        "add",
        "sub",
        "mul",
        "div",
        "power",
        "maximum",
        "minimum",
        "greater",
        "equal",
        "less_equal",
    ):
        yield getattr(ops, name), {"a": X, "b": Y}, name
    for name in (*REAL[:11], "relu", "abs", "neg", "sign", "isfinite", "logical_not"):
        yield getattr(ops, name), {"x": X}, name
    for name, axis in itertools.product(
        ("sum", "mean", "max", "min", "logsumexp", "norm"), (1, (0, 1))
    ):
        yield getattr(ops, name), {"x": X, "axis": axis, "keepdims": True}, name
    for function in (ops.var, tinycv.std):
        yield function, {"x": X, "axis": 1, "ddof": 1}, function.__name__
    for name in ("cumsum", "flip", "squeeze", "unsqueeze", "argmax", "argmin"):
        yield getattr(ops, name), {"x": X[:1], "axis": 0}, name
    yield ops.clip, {"x": X, "low": 0.0, "high": 1.0}, "clip"
    yield ops.pad, {"x": X, "width": 1, "value": 1.0}, "pad"
    yield ops.reshape, {"x": X, "shape": (3, 2)}, "reshape"
    yield ops.expand, {"x": X, "shape": (2, 2, 3)}, "expand"
    yield ops.transpose, {"x": X, "axes": (1, 0)}, "transpose"
    yield ops.swapaxes, {"x": X, "axis1": 1, "axis2": 0}, "swapaxes"
    yield ops.where, {"c": X > 0, "a": X, "b": Y}, "where"
    yield tinycv.matmul, {"a": X, "b": SQUARE}, "matmul"
    yield tinycv.power, {"a": X, "b": 2}, "power"
    yield tinycv.einsum, {"subscripts": "ij,jk->ik", "a": X, "b": SQUARE}, "einsum"
    yield (
        lambda a, b, axis: tinycv.concatenate([a, b], axis),
        {"a": X, "b": Y, "axis": 0},
        "concatenate",
    )
    yield lambda a, b, axis: tinycv.stack([a, b], axis), {"a": X, "b": Y, "axis": 0}, "stack"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "function, good, name",
    [pytest.param(*call, id=f"{call[2]}-{i}") for i, call in enumerate(good_calls())],
)
def test_every_wrong_call_of_an_op_raises_a_clear_error(function, good, name):
    assert not riddles(
        lambda **named: function(*named.values()), good, name, *["pow"][: name == "power"]
    )


COUNTED = {"**": lambda a, b: a**b, "//": lambda a, b: a // b, "%": lambda a, b: a % b}


@pytest.mark.parametrize("symbol", COUNTED)
@pytest.mark.parametrize(
    "other", [1, 2, 200, True, np.array([True, True]), np.array(True)], ids=repr
)
def test_powers_and_quotients_of_bools_are_int64(symbol, other, device):
    x = Tensor(np.array([True, False]), device=device)
    y = COUNTED[symbol](x, Tensor(other, device=device) if isinstance(other, np.ndarray) else other)
    assert y.dtype == np.int64
    other = other.astype(int) if isinstance(other, np.ndarray) else int(other)
    assert (y.numpy() == COUNTED[symbol](np.array([1, 0]), other)).all()
    small = Tensor(np.array([1, 2], np.int8), device=device)
    assert COUNTED[symbol](x, small).dtype == np.int8 and (x * x).dtype == (x + x).dtype == bool
