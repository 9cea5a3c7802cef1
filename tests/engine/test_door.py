"""What may become a Tensor, by whichever door: arrays of floats, integers and bools, and nothing that would lose a part."""

import array
import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from wrong_calls import Odd

import tinycv
from tinycv import Parameter, Tensor, nn, tensor
from tinycv.engine.record import OPS

GOOD = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
DOORS = [Tensor, tensor, lambda a: setattr(Tensor([0.0]), "data", a),
         lambda a: nn.Linear(1, 1, bias=False).load_state_dict({"weight": a})]


@given(hnp.arrays(st.sampled_from(GOOD), hnp.array_shapes(min_dims=0, min_side=0, max_side=3)))
def test_arrays_of_numbers_keep_dtype_and_values(a):
    for made in (Tensor(a), tensor(a)):
        assert made.dtype == a.dtype and made.shape == a.shape
        np.testing.assert_array_equal(made.numpy(), a)
    assert Tensor(a)._data is a and tensor(a)._data is not a


@pytest.mark.parametrize("bad", [
    np.matrix([[1.0]]), np.ma.masked_array([[1.0]], [[True]]), np.array([[1j]]), np.array([["1"]]), np.array([[None]]),
    np.array([["2020-01-01"]], "M8[D]"), np.array([[3]], "m8[s]"), np.zeros((1, 1), [("x", "f4")]), np.array([[b"a"]]),
    np.rec.array([(1.0,)], dtype=[("x", "f4")])], ids=lambda a: f"{type(a).__name__} of {a.dtype}")
@pytest.mark.parametrize("door", DOORS, ids=["Tensor", "tensor", "data", "load_state_dict"])
def test_what_would_lose_a_part_of_itself_is_refused_in_words(door, bad):
    with pytest.raises((TypeError, ValueError), match="cannot become a Tensor"):
        door(bad)


OTHERS = ["word", None, {}, Odd(), [[1.0], [2.0, 3.0]], [1, "a"], [None], 1j, 10 ** 30, {1, 2}, b"1"]


@pytest.mark.parametrize("bad", OTHERS, ids=str)
@pytest.mark.parametrize("make", [Tensor, tensor])
def test_other_python_values_are_refused_in_words(make, bad):
    with pytest.raises(TypeError, match="cannot become a Tensor|cannot make an array of numbers"):
        make(bad)


@pytest.mark.parametrize("a", [np.arange(6.0).astype(">f8").reshape(2, 3), np.arange(6, dtype=">i2")], ids=["f8", "i2"])
def test_the_other_byte_order_is_turned_round(a):
    made = Tensor(a)
    assert made.dtype.isnative and made.dtype == a.dtype.newbyteorder("=")
    np.testing.assert_array_equal(made.numpy(), a)


def test_other_containers_of_numbers_enter_as_numpy_takes_them(tmp_path):
    np.asarray([1.0, 2.0], np.float32).tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", np.float32, "r")
    for data in (mapped, array.array("f", [1, 2]), [Tensor(1.0), 2], range(1, 3), (1, np.float32(2))):
        assert Tensor(data).tolist() == [1, 2] and type(Tensor(data)._data) is np.ndarray


def test_a_list_takes_its_dtype_at_once_and_not_by_way_of_float32():
    assert tensor([0.1, 1e300], dtype="float64").tolist() == [0.1, 1e300]
    assert Tensor([16777217], dtype="float64").tolist() == [16777217] and tensor([16777217]).tolist() == [16777217]
    assert tensor([0.1]).dtype == np.float32 and tensor([0.5], dtype=tinycv.float64).dtype == np.float64


@pytest.mark.parametrize("dtype", ["word", "complex64", object, "U3", "M8[s]", 3.5, [1]])
def test_a_dtype_that_is_none_of_ours_is_refused_in_words(dtype):
    for call in (lambda: Tensor([1.0], dtype), lambda: tensor([1.0], dtype), lambda: Tensor([1.0]).to(dtype),
                 lambda: Tensor([1.0]).astype(dtype), lambda: tinycv.zeros(2, dtype=dtype),
                 lambda: tinycv.arange(3, dtype=dtype), lambda: tinycv.randn(2, dtype=dtype)):
        with pytest.raises((TypeError, ValueError), match="dtype is|unknown device"):
            call()


# ── out again: numbers, formats, copies ───────────────────────────────────────────────────────────

@given(st.floats(-1e6, 1e6, width=32), st.sampled_from(["", ".3f", "+.1e", "10.2f"]))
def test_a_single_number_is_formatted_as_pythons_is(value, spec):
    assert format(Tensor(np.float32(value)), spec) == format(float(np.float32(value)), spec)
    assert format(Tensor(np.float32([value])), spec or ".2f") == format(float(np.float32(value)), spec or ".2f")


def test_habits_of_single_numbers():
    assert round(Tensor(2.345, dtype="float64"), 2) == round(2.345, 2) and round(Tensor(2.6)) == 3
    assert list(range(Tensor(3))) == [0, 1, 2] and [10, 20, 30][Tensor(np.int8(1))] == 20 and f"{Tensor([1.0, 2.0])}"
    assert Tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]] and Tensor(True).tolist() is True
    for wrong in (lambda: range(Tensor(3.0)), lambda: range(Tensor(True)), lambda: f"{Tensor([1.0, 2.0]):.2f}",
                  lambda: len(Tensor(1.0)), lambda: list(Tensor(1.0))):
        with pytest.raises(TypeError, match="tensor|format|len"):
            wrong()


@pytest.mark.parametrize("call", [float, int, bool, round, lambda x: x.item(), lambda x: range(x)])
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_several_numbers_are_no_single_one(call, shape):
    with pytest.raises(ValueError, match=r"a tensor of shape .* (is no single number|has no single truth value)"):
        call(Tensor(np.zeros(shape, np.int64)))


@given(hnp.arrays(np.float64, (4,), elements=st.floats(-9, 9)), st.sampled_from([0.7, 2.0, -1.3]))
def test_floor_division_and_remainder_follow_pythons_signs(a, b):
    x = Tensor(a, requires_grad=True)
    np.testing.assert_array_equal((x // b).numpy(), a // b)
    np.testing.assert_allclose((x % b).numpy(), a % b)
    assert not (x // b).requires_grad
    divisor = Tensor(b, dtype="float64", requires_grad=True)
    (x % divisor).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(4))
    np.testing.assert_allclose(divisor.grad.item(), -(a // b).sum())
    np.testing.assert_array_equal((7.5 % Tensor(a + 20)).numpy(), 7.5 % (a + 20))


def test_any_and_all_reduce_truth_values(device):
    x = Tensor(np.array([[0, 1], [2, 3]]), device=device)
    assert (x > 0).any().item() and not (x > 0).all().item() and (x > 0).all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_lose_nothing(way):
    for x in (Tensor([1.0, 2.0]), Tensor([1.0], requires_grad=True), Parameter(np.ones(3, np.float32))):
        if x.requires_grad:
            (x * x).sum().backward()
        made = way(x)
        assert type(made) is type(x) and made.requires_grad == x.requires_grad and made.tolist() == x.tolist()
        assert made._data is not x._data and (x.grad is None) == (made.grad is None)
        assert x.grad is None or (made.grad.tolist() == x.grad.tolist() and made.grad is not x.grad)


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, pickle.dumps])
def test_a_computed_tensor_is_not_cut_off_its_graph_by_a_copy(way):
    y = Tensor([1.0], requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="its graph would be cut off"):
        way(y)
    assert way(y.detach()) is not None


# ── the other doors: what stands beside a Tensor, and what hides in a list ───────────────────────

KINDS = [np.matrix([[1.0, 2.0], [3.0, 4.0]]), np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [0, 0]]),
         type("Sub", (np.ndarray,), {})((2, 2))]


@pytest.mark.parametrize("bad", KINDS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("call", [
    lambda x, a: x < a, lambda x, a: x == a, lambda x, a: x.clip(a, None), lambda x, a: tinycv.pad(x, 1, a),
    lambda x, a: nn.functional.linear(a, x), lambda x, a: nn.functional.linear(x, a), lambda x, a: nn.functional.softmax(a),
    lambda x, a: nn.functional.mse_loss(x, a), lambda x, a: nn.functional.layer_norm(a),
    lambda x, a: tinycv.sequence.scaled_dot_product_attention(*[x.reshape(1, 1, 2, 2)] * 3, a)])
def test_no_op_pair_or_option_lets_in_what_follows_other_rules(call, bad):
    with pytest.raises(TypeError, match="cannot become a Tensor"):
        call(Tensor(np.ones((2, 2), np.float32)), bad)


@pytest.mark.parametrize("bad", KINDS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("name", sorted(OPS))
def test_no_op_lets_it_in_among_bare_arrays_either(name, bad):
    op, plain = OPS[name], np.ones((2, 2), np.float32)
    inputs = [plain] * (1 if op.row.variadic else len(op.row.inputs) - 1)
    with pytest.raises(TypeError, match="cannot become a Tensor"):
        op(bad, *inputs)


@pytest.mark.parametrize("hidden", [[KINDS[1][0]], [[1.0, 2.0], (KINDS[1][0],)]])
def test_a_masked_array_in_a_list_is_refused(hidden):
    for make in (Tensor, tensor, lambda a: tensor(a, dtype="float64")):
        with pytest.raises(TypeError, match="filled|cannot become a Tensor"):
            make(hidden)


class Complex:
    """An object that NumPy takes for complex numbers."""

    def __array__(self, dtype=None, copy=None):
        return np.array([1j, 2.0]).astype(dtype or complex)


@given(st.sampled_from([["1", "2"], [None, 1.0], [np.datetime64("2020-01-01")], [1j], [[1.0, "2"]], Complex(), [b"1"]]),
       st.sampled_from(GOOD))
def test_a_dtype_makes_no_numbers_of_what_is_none(bad, dtype):
    with pytest.raises(TypeError, match="cannot become a Tensor"):
        Tensor(bad, dtype=dtype)


def test_a_dtype_takes_what_no_dtype_would_refuse():
    assert tensor([2 ** 63, 1], dtype="uint64").tolist() == [2 ** 63, 1]
    assert tensor([2 ** 70], dtype="float64").item() == 2.0 ** 70


def test_a_fill_of_none_is_zero():
    assert tinycv.pad(Tensor([1.0]), 1, None).tolist() == [0, 1, 0]         # PyTorch's default
