"""Changes in place: refused if they would make a gradient wrong, and allowed otherwise."""

from __future__ import annotations

import collections
import operator
import re

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, debug, no_grad
from tinycv.engine.fused import PAIRS


def tensor(shape, device="cpu", dtype="float32", requires_grad=True):
    return Tensor(np.ones(shape), dtype=dtype, device=device, requires_grad=requires_grad)


def sentence(*parts):
    """A pattern of these parts in this order, with anything between them."""
    return r"(?s)" + ".*".join(re.escape(str(part)) for part in parts)


def add_to_data(x):
    x.data += 1


def set_data(x):
    x.data = x.data * 2


def write_under_no_grad(x):
    with no_grad():
        x[0] = 5.0


def subtract_under_no_grad(x):
    with no_grad():
        x -= 1.0


def write_into_data(x):
    x.data[0] = 5.0


def write_into_numpy(x):
    x.numpy()[0] = 5.0


EVERYWHERE = [add_to_data, set_data, write_under_no_grad, subtract_under_no_grad]
# on NumPy only: a fingerprint of a CuPy array would have to wait for the GPU
ON_NUMPY = [write_into_data, write_into_numpy]


@pytest.mark.parametrize("change", EVERYWHERE)
def test_a_change_between_forward_and_backward_is_refused(change, device):
    x = tensor((3,), device)
    loss = (x * x).sum()
    change(x)
    with pytest.raises(
        RuntimeError, match=sentence("(3,), saved by 'mul', was changed in place", "after backward")
    ):
        loss.backward()


@pytest.mark.parametrize("change", EVERYWHERE + ON_NUMPY)
def test_a_change_is_refused_by_pairs_and_recorded_backward_passes_too(change):
    x, weight = tensor((3,)), tensor((2, 3))
    loss = PAIRS["linear"](x, weight).sum()
    change(x)
    with pytest.raises(RuntimeError, match="saved by 'linear', was changed in place"):
        loss.backward()


@pytest.mark.parametrize("change", ON_NUMPY)
def test_a_write_into_a_numpy_array_is_detected(change):
    x = tensor((3,))
    loss = (x * x).sum()
    change(x)
    with pytest.raises(RuntimeError, match="was changed in place"):
        loss.backward()


def test_debug_detects_a_write_through_an_array_taken_before_the_op():
    x = tensor((3,))
    array = x.data
    with debug():
        loss = (x * x).sum()
        array[0] = 5.0
        with pytest.raises(RuntimeError, match="was changed in place"):
            loss.backward()


@pytest.mark.parametrize("change", EVERYWHERE + ON_NUMPY)
def test_changes_before_forward_and_after_backward_are_allowed(change):
    x = tensor((3,))
    for _ in range(3):
        change(x)
        x.grad = None
        (x * x).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy())


@pytest.mark.parametrize("change", EVERYWHERE + ON_NUMPY)
def test_a_change_of_a_value_that_no_pull_needs_is_allowed(change):
    x = tensor((3,))
    # The derivative of a sum does not depend on x.
    loss = (x + x).sum()
    change(x)
    loss.backward()
    assert x.grad.numpy().tolist() == [2, 2, 2]


def test_reading_the_array_does_not_count_as_a_change():
    x = tensor((3,))
    loss = (x * x).sum()
    assert (
        x.data.sum() == x.numpy().sum() == np.asarray(x.detach()).sum() == 3
        and x.detach().sum().item() == 3
    )
    loss.backward()
    assert x.grad.numpy().tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.__iadd__(1.0),
        lambda x: x.__isub__(1.0),
        lambda x: x.__imul__(2.0),
        lambda x: x.__itruediv__(2.0),
        lambda x: x.__setitem__(0, 7.0),
    ],
)
def test_a_leaf_may_be_changed_in_place_only_under_no_grad(change, device):
    x = tensor((2,), device)
    with pytest.raises(
        RuntimeError, match=sentence("(2,)", "requires a gradient", "with tinycv.no_grad():")
    ):
        change(x)
    assert x.numpy().tolist() == [1, 1]
    with no_grad():
        change(x)
    assert x.numpy().tolist() != [1, 1] and x.is_leaf and x.requires_grad


def test_augmented_assignment_works_in_place_where_nothing_is_recorded(device):
    x = Tensor(np.array([1.0, 2.0]), device=device)
    same = x
    x += 1
    x *= Tensor(np.array([2.0, 3.0]), device=device)
    x -= 1
    x /= 2
    assert x is same and x.numpy().tolist() == [1.5, 4.0]


IN_PLACE = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
    "&=": operator.iand,
    "|=": operator.ior,
    "^=": operator.ixor,
}
PLAIN = {
    "+=": operator.add,
    "-=": operator.sub,
    "*=": operator.mul,
    "/=": operator.truediv,
    "//=": operator.floordiv,
    "%=": operator.mod,
    "**=": operator.pow,
    "&=": operator.and_,
    "|=": operator.or_,
    "^=": operator.xor,
}


@pytest.mark.parametrize("symbol", IN_PLACE)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize(
    "other", [2, 3.0, 65536.0, 1e-5, True, np.array([2, 3]), np.array([2.0, 3.0], "f4")], ids=str
)
# Overflow to infinity is the right result here.
@pytest.mark.filterwarnings("ignore")
def test_augmented_assignment_gives_the_result_of_the_operator_or_is_refused(
    symbol, dtype, other, device
):
    values = np.array([1, 5]).astype(dtype)
    other = Tensor(other, device=device) if isinstance(other, np.ndarray) else other
    x = Tensor(values.copy(), device=device)
    view = x[:]
    try:
        expected = PLAIN[symbol](x, other)
    except (TypeError, ValueError):
        expected = None
    try:
        assert IN_PLACE[symbol](view, other) is view
    except (TypeError, ValueError) as error:
        assert (
            str(error).startswith(f"x {symbol} value: ") and x.numpy().tolist() == values.tolist()
        )
        assert expected is None or expected.dtype != dtype
    else:
        np.testing.assert_array_equal(x.numpy(), expected.numpy().astype(dtype))


@pytest.mark.parametrize("symbol", ["//=", "%="])
def test_dividing_integers_by_0_in_place_is_refused(symbol):
    x = Tensor(np.array([4, 5]))
    for other in (0, Tensor([1, 0])):
        with pytest.raises(ZeroDivisionError, match="integers cannot be divided by 0"):
            IN_PLACE[symbol](x, other)
    assert x.tolist() == [4, 5]


@pytest.mark.parametrize("symbol", IN_PLACE)
def test_the_error_for_a_leaf_shows_how_to_make_a_new_tensor(symbol):
    with pytest.raises(
        RuntimeError, match=re.escape(f"write x = x {symbol[:-1]} value for a new tensor")
    ):
        IN_PLACE[symbol](tensor((2,)), 2)


def test_augmented_assignment_of_a_recorded_tensor_makes_a_new_one(device):
    x = tensor((2,), device)
    y = old = x * 3
    y += x
    y *= y
    assert y is not old and old.numpy().tolist() == [3, 3]
    y.sum().backward()
    assert x.grad.numpy().tolist() == [32, 32]


def test_a_value_with_a_history_cannot_be_written_into_a_plain_tensor(device):
    with pytest.raises(RuntimeError, match=r"tinycv.where or concatenate"):
        Tensor([0.0, 0.0], device=device)[0] = tensor((), device)


@pytest.mark.parametrize("change", [add_to_data, write_under_no_grad, write_into_data])
def test_a_result_that_its_own_op_has_saved_cannot_be_changed(change):
    x = tensor((3,))
    y = x.exp()  # saves y, because its derivative is y
    change(y)
    with pytest.raises(RuntimeError, match="saved by 'exp', was changed in place"):
        y.sum().backward()


@pytest.mark.parametrize(
    "dtype, value, why",
    [
        ("uint8", 300, "from 0 to 255"),
        ("uint8", -1, "from 0 to 255"),
        ("uint8", [300], "from 0 to 255"),
        ("uint8", np.array([300]), "from 0 to 255"),
        ("int8", np.array([np.nan]), "NaN"),
        ("int64", float("inf"), "from"),
        ("float16", 70000, "does not fit"),
        ("float16", [70000.0], "does not fit"),
        ("float16", np.float32(70000), "does not fit"),
        ("float16", tinycv.tensor([70000.0]), "does not fit"),
        ("float32", 10**39, "does not fit"),
        ("float32", np.array([1e300]), "does not fit"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_not_written(dtype, value, why):
    x = tinycv.ones(3, dtype=dtype)
    with pytest.raises(ValueError, match=rf"x\[index\] = value: the value: .*{why}"):
        x[:1] = value
    assert (x.numpy() == 1).all()


@pytest.mark.parametrize(
    "dtype, value, kept",
    [
        ("uint8", 255, 255),
        ("int64", 2.7, 2),
        ("float16", 65504, 65504),
        ("float32", float("inf"), float("inf")),
        ("float16", np.float32("inf"), float("inf")),
        ("bool", 2, True),
        ("float32", 2**20, 2**20),
    ],
    ids=str,
)
def test_a_value_that_fits_is_written(dtype, value, kept):
    x = tinycv.zeros(3, dtype=dtype)
    x[1] = value
    assert x.tolist() == [0, kept, 0] and x.dtype == dtype


@pytest.mark.parametrize("kind", ["int64", "bool"])
@pytest.mark.parametrize("computed", [False, True])
def test_the_data_of_a_tensor_that_requires_a_gradient_must_be_floats(kind, computed):
    x = tinycv.ones(2, requires_grad=True)
    x = x * 2 if computed else x
    before = x.detach().numpy().copy()
    with pytest.raises(
        TypeError, match=rf"t\.data = array: the array is of {kind}, but .* requires a gradient"
    ):
        x.data = np.ones(2, kind)
    assert (x.detach().numpy() == before).all() and x.dtype == "float32"


@pytest.mark.parametrize("other", [[1.0, 2.0], (1, 2), collections.deque([1, 2])], ids=str)
@pytest.mark.parametrize("computed", [False, True])
def test_a_list_is_refused_in_an_augmented_assignment(other, computed):
    x = tinycv.ones(2, requires_grad=computed) * 1
    with pytest.raises(TypeError, match=r"must be a Tensor, an array or a number"):
        x += other
    with pytest.raises(TypeError, match=r"must be a Tensor, an array or a number"):
        x + other
