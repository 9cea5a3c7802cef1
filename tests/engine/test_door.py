"""What may become a Tensor, in every place that takes arrays: floats, integers and bools, and no
data that would lose a part of themselves."""

import array
import collections
import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from wrong_calls import Odd

import tinycv
from tinycv import Parameter, Tensor, nn, tensor
from tinycv.engine.fused import PAIRS
from tinycv.engine.record import OPS

GOOD = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
DOORS = [
    Tensor,
    tensor,
    lambda a: setattr(Tensor([0.0]), "data", a),
    lambda a: nn.Linear(1, 1, bias=False).load_state_dict({"weight": a}),
]


@given(hnp.arrays(st.sampled_from(GOOD), hnp.array_shapes(min_dims=0, min_side=0, max_side=3)))
def test_arrays_of_numbers_keep_dtype_and_values(a):
    for made in (Tensor(a), tensor(a)):
        assert made.dtype == a.dtype and made.shape == a.shape
        np.testing.assert_array_equal(made.numpy(), a)
    assert Tensor(a)._data is a and tensor(a)._data is not a


@pytest.mark.parametrize(
    "bad",
    [
        np.matrix([[1.0]]),
        np.ma.masked_array([[1.0]], [[True]]),
        np.array([[1j]]),
        np.array([["1"]]),
        np.array([[None]]),
        np.array([["2020-01-01"]], "M8[D]"),
        np.array([[3]], "m8[s]"),
        np.zeros((1, 1), [("x", "f4")]),
        np.array([[b"a"]]),
        np.rec.array([(1.0,)], dtype=[("x", "f4")]),
    ],
    ids=lambda a: f"{type(a).__name__} of {a.dtype}",
)
@pytest.mark.parametrize("door", DOORS, ids=["Tensor", "tensor", "data", "load_state_dict"])
def test_data_that_would_lose_a_part_are_refused_with_a_clear_error(door, bad):
    with pytest.raises((TypeError, ValueError), match="cannot become a Tensor"):
        door(bad)


OTHERS = [
    "word",
    None,
    {},
    Odd(),
    [[1.0], [2.0, 3.0]],
    [1, "a"],
    [None],
    1j,
    {1, 2},
    b"1",
    [10**30, None],
]


@pytest.mark.parametrize("bad", OTHERS, ids=str)
@pytest.mark.parametrize("make", [Tensor, tensor])
def test_other_python_values_are_refused_with_a_clear_error(make, bad):
    with pytest.raises(TypeError, match="cannot become a Tensor|cannot make an array of numbers"):
        make(bad)


LARGE = {
    "2**64": 2**64,
    "below": -(2**63) - 1,
    "1e20": 10**20,
    "beyond floats": -(10**400),
    "list": [10**20],
    "nested": [[1, 2], [10**20, 3]],
    "beside a float": (0.5, 10**20),
    "beside a bool": [True, 10**20],
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("make", [Tensor, tensor])
def test_an_integer_too_large_for_any_integer_dtype_is_refused(make, name):
    with pytest.raises(
        ValueError,
        match="cannot become a Tensor: it does not fit into int64 .*; pass a dtype of floats",
    ):
        make(LARGE[name])
    if name != "beyond floats":
        assert (
            make(LARGE[name], dtype="float64").numpy().tolist()
            == np.array(LARGE[name], dtype="float64").tolist()
        )


@pytest.mark.parametrize(
    "a", [np.arange(6.0).astype(">f8").reshape(2, 3), np.arange(6, dtype=">i2")], ids=["f8", "i2"]
)
def test_the_other_byte_order_is_converted(a):
    made = Tensor(a)
    assert made.dtype.isnative and made.dtype == a.dtype.newbyteorder("=")
    np.testing.assert_array_equal(made.numpy(), a)


def test_other_containers_of_numbers_are_converted_as_in_numpy(tmp_path):
    np.asarray([1.0, 2.0], np.float32).tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", np.float32, "r")
    for data in (
        mapped,
        array.array("f", [1, 2]),
        [Tensor(1.0), 2],
        range(1, 3),
        (1, np.float32(2)),
    ):
        assert Tensor(data).tolist() == [1, 2] and type(Tensor(data)._data) is np.ndarray


def test_a_list_is_converted_directly_and_not_by_way_of_float32():
    assert tensor([0.1, 1e300], dtype="float64").tolist() == [0.1, 1e300]
    assert Tensor([16777217], dtype="float64").tolist() == [16777217] and tensor(
        [16777217]
    ).tolist() == [16777217]
    assert (
        tensor([0.1]).dtype == np.float32
        and tensor([0.5], dtype=tinycv.float64).dtype == np.float64
    )


@pytest.mark.parametrize("dtype", ["word", "complex64", object, "U3", "M8[s]", 3.5, [1]])
def test_an_unsupported_dtype_is_refused_with_a_clear_error(dtype):
    for call in (
        lambda: Tensor([1.0], dtype),
        lambda: tensor([1.0], dtype),
        lambda: Tensor([1.0]).to(dtype),
        lambda: Tensor([1.0]).astype(dtype),
        lambda: tinycv.zeros(2, dtype=dtype),
        lambda: tinycv.arange(3, dtype=dtype),
        lambda: tinycv.randn(2, dtype=dtype),
    ):
        with pytest.raises(
            (TypeError, ValueError), match="dtype is|device is|unknown device or dtype"
        ):
            call()


# ── from Tensors to numbers, strings and copies ──────────────────────────────────────────────────


@given(st.floats(-1e6, 1e6, width=32), st.sampled_from(["", ".3f", "+.1e", "10.2f"]))
def test_a_single_number_is_formatted_like_a_python_number(value, spec):
    assert format(Tensor(np.float32(value)), spec) == format(float(np.float32(value)), spec)
    assert format(Tensor(np.float32([value])), spec or ".2f") == format(
        float(np.float32(value)), spec or ".2f"
    )


def test_single_numbers_behave_like_python_numbers():
    assert round(Tensor(2.345, dtype="float64"), 2) == round(2.345, 2) and round(Tensor(2.6)) == 3
    assert (
        list(range(Tensor(3))) == [0, 1, 2]
        and [10, 20, 30][Tensor(np.int8(1))] == 20
        and f"{Tensor([1.0, 2.0])}"
    )
    assert Tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]] and Tensor(True).tolist() is True
    for wrong in (
        lambda: range(Tensor(3.0)),
        lambda: range(Tensor(True)),
        lambda: range(Tensor([1, 2])),
        lambda: f"{Tensor([1.0, 2.0]):.2f}",
        lambda: len(Tensor(1.0)),
        lambda: list(Tensor(1.0)),
    ):
        with pytest.raises(TypeError, match="tensor|format|len"):
            wrong()


@pytest.mark.parametrize("call", [float, int, bool, round, lambda x: x.item()])
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_several_numbers_cannot_become_one_python_number(call, shape):
    with pytest.raises(
        ValueError, match=r"a tensor of shape .* (is not a single number|has no single truth value)"
    ):
        call(Tensor(np.zeros(shape, np.int64)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("call", [int, round])
def test_nan_and_infinity_cannot_become_a_whole_number(call, value):
    with pytest.raises(ValueError, match=f"{call.__name__}: the tensor is {value}"):
        call(Tensor(value))


@given(hnp.arrays(np.float64, (4,), elements=st.floats(-9, 9)), st.sampled_from([0.7, 2.0, -1.3]))
def test_floor_division_and_remainder_have_the_signs_of_python(a, b):
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
    assert (
        (x > 0).any().item()
        and not (x > 0).all().item()
        and (x > 0).all(axis=1).tolist() == [False, True]
    )


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_keep_all_attributes(way):
    for x in (
        Tensor([1.0, 2.0]),
        Tensor([1.0], requires_grad=True),
        Parameter(np.ones(3, np.float32)),
    ):
        if x.requires_grad:
            (x * x).sum().backward()
        made = way(x)
        assert (
            type(made) is type(x)
            and made.requires_grad == x.requires_grad
            and made.tolist() == x.tolist()
        )
        assert made._data is not x._data and (x.grad is None) == (made.grad is None)
        assert x.grad is None or (made.grad.tolist() == x.grad.tolist() and made.grad is not x.grad)


class Plain(Tensor):
    """A Tensor with attributes in a dictionary and with another constructor."""

    def __init__(self, name, data):
        super().__init__(data, requires_grad=True)
        self.name = name


class Named(Parameter):
    """A Parameter with attributes in slots, one of which is never set."""

    __slots__ = ("name", "other")

    def __init__(self, name, data):
        super().__init__(data)
        self.name = name


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("kind", [Plain, Named])
def test_a_copy_is_of_the_same_class_with_all_its_attributes(way, kind):
    x = kind("left", np.ones(2, np.float32))
    x.grad = Tensor([3.0, 4.0])
    made = way(x)
    assert type(made) is kind and made.name == "left" and made.requires_grad and made.is_leaf
    assert made.tolist() == [1, 1] and made.grad.tolist() == [3, 4] and not hasattr(made, "other")
    assert (made._data is x._data) == (way is copy.copy)
    (made * made).sum().backward()
    assert made.grad.tolist() == [5, 6] and x.grad.tolist() == [3, 4]


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("name", sorted({*OPS, *PAIRS}))
def test_an_op_and_a_pair_are_copied_by_name_like_functions(way, name):
    found = OPS.get(name) or PAIRS[name]
    assert way(found) is found
    layer = nn.Linear(1, 1)
    layer.act = found
    assert way(layer).act is found


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, pickle.dumps])
def test_copying_a_leaf_with_a_recorded_gradient_is_refused(way):
    x = Tensor([1.0], requires_grad=True)
    (x * x * x).sum().backward(create_graph=True)
    with pytest.raises(RuntimeError, match="its .grad was computed with create_graph=True"):
        way(x)
    x.grad = x.grad.detach()
    assert way(x) is not None


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, pickle.dumps])
def test_copying_a_computed_tensor_is_refused(way):
    y = Tensor([1.0], requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="the copy would lose its graph"):
        way(y)
    assert way(y.detach()) is not None


# ── operands of ops, options, and the contents of lists ──────────────────────────────────────────

KINDS = [
    np.matrix([[1.0, 2.0], [3.0, 4.0]]),
    np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [0, 0]]),
    type("Sub", (np.ndarray,), {})((2, 2)),
]


@pytest.mark.parametrize("bad", KINDS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize(
    "call",
    [
        lambda x, a: x < a,
        lambda x, a: x == a,
        lambda x, a: x.clip(a, None),
        lambda x, a: tinycv.pad(x, 1, a),
        lambda x, a: nn.functional.linear(a, x),
        lambda x, a: nn.functional.linear(x, a),
        lambda x, a: nn.functional.softmax(a),
        lambda x, a: nn.functional.mse_loss(x, a),
        lambda x, a: nn.functional.layer_norm(a),
        lambda x, a: tinycv.sequence.scaled_dot_product_attention(*[x.reshape(1, 1, 2, 2)] * 3, a),
    ],
)
def test_every_op_pair_and_option_refuses_masked_arrays_and_matrices(call, bad):
    with pytest.raises(TypeError, match="cannot become a Tensor"):
        call(Tensor(np.ones((2, 2), np.float32)), bad)


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_op_refuses_them_among_bare_arrays_too(name):
    op, plain = OPS[name], np.ones((2, 2), np.float32)
    inputs = [plain] * (1 if op.row.variadic else len(op.row.inputs) - 1)
    for bad in KINDS:
        with pytest.raises(TypeError, match="cannot become a Tensor"):
            op(bad, *inputs)


@pytest.mark.parametrize("hidden", [[KINDS[1][0]], [[1.0, 2.0], (KINDS[1][0],)]])
def test_a_masked_array_in_a_list_is_refused(hidden):
    for make in (Tensor, tensor, lambda a: tensor(a, dtype="float64")):
        with pytest.raises(TypeError, match="filled|cannot become a Tensor"):
            make(hidden)


class Complex:
    """An object that NumPy converts to complex numbers."""

    def __array__(self, dtype=None, copy=None):
        return np.array([1j, 2.0]).astype(dtype or complex)


@given(
    st.sampled_from(
        [
            ["1", "2"],
            [None, 1.0],
            [np.datetime64("2020-01-01")],
            [1j],
            [[1.0, "2"]],
            Complex(),
            [b"1"],
        ]
    ),
    st.sampled_from(GOOD),
)
def test_a_dtype_does_not_turn_other_data_into_numbers(bad, dtype):
    with pytest.raises(TypeError, match="cannot become a Tensor"):
        Tensor(bad, dtype=dtype)


def test_a_given_dtype_accepts_numbers_that_are_refused_without_one():
    assert tensor([2**63, 1], dtype="uint64").tolist() == [2**63, 1]
    assert tensor([2**70], dtype="float64").item() == 2.0**70


def test_padding_with_none_is_zero():
    assert tinycv.pad(Tensor([1.0]), 1, None).tolist() == [0, 1, 0]  # PyTorch's default


# ── the dtype of the result ──────────────────────────────────────────────────────────────────────


def deep(value, holder, depth):
    return holder([deep(value, holder, depth - 1)]) if depth else value


HOLDERS = [list, tuple, collections.deque, collections.UserList]
MAKERS = [Tensor, tensor]


@given(
    st.sampled_from(GOOD),
    st.sampled_from(HOLDERS),
    st.integers(1, 3),
    st.sampled_from([np.array, Tensor]),
    st.sampled_from(MAKERS),
)
def test_arrays_and_tensors_in_a_list_keep_their_dtype(dtype, holder, depth, kind, make):
    a = np.array([0, 1] if dtype == "bool" else [3, 100], dtype)
    made = make(deep(kind(a), holder, depth))
    assert made.dtype == dtype and made.numpy().ravel().tolist() == a.tolist()


@given(
    st.sampled_from([1e300, -1e39, 3.5e38, 10**200, np.float64(1e300)]),
    st.sampled_from(HOLDERS),
    st.integers(0, 2),
    st.sampled_from(MAKERS),
)
def test_a_number_that_float32_would_make_infinite_is_refused(number, holder, depth, make):
    given_ = deep(number, holder, depth)
    for dtype in (None, "float32", "float16", *(["int64"] if abs(number) > 2**64 else [])):
        if isinstance(number, int) and dtype is None:
            # no integer dtype holds it: see OTHERS
            continue
        with pytest.raises(ValueError, match="does not fit into"):
            make(given_, dtype=dtype)
    assert make(given_, dtype="float64").item() == float(number)
    assert make(deep(np.inf, holder, depth)).item() == np.inf


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
ODD_NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65), st.integers(-300, 300), st.floats(-400, 400), st.floats()
)


@given(
    ODD_NUMBERS,
    st.sampled_from(INTEGERS),
    st.sampled_from(["number", "list", "array", "float32", "full"]),
)
def test_integers_get_the_whole_part_or_the_number_is_refused(number, dtype, given_as):
    limits = np.iinfo(dtype)
    # What counts is the number in the float32 array.
    if given_as == "float32":
        number = float(np.float32(max(min(number, 1e30), -1e30) if number == number else number))
    fits = (
        number == number
        and abs(number) != np.inf
        and limits.min <= math.trunc(number) <= limits.max
    )
    made = {
        "number": lambda: Tensor(number, dtype),
        "list": lambda: Tensor([[number]], dtype),
        "array": lambda: Tensor(np.array(number), dtype),
        "float32": lambda: Tensor(np.float32([number]), dtype),
        "full": lambda: tinycv.full((1,), number, dtype),
    }[given_as]
    if given_as == "array" and np.array(number).dtype == object:
        return
    if not fits:
        with pytest.raises(ValueError, match="does not fit into"):
            made()
    else:
        assert made().numpy().ravel().tolist() == [math.trunc(number)]


def test_whole_numbers_that_no_integer_dtype_can_hold_are_refused():
    for mixed in (
        [2**63, -1],
        [np.uint64(2**63), -1],
        [np.array(1, np.uint64), np.array(-1)],
        [[2**63], [-1]],
    ):
        with pytest.raises(TypeError, match="no integer dtype holds all of these numbers"):
            Tensor(mixed)
        assert Tensor(mixed, dtype="float64").dtype == np.float64
    assert Tensor([2**63, -1.0]).dtype == Tensor([]).dtype == Tensor([[], []]).dtype == np.float32


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "<f4", "=f2"])
def test_the_byte_order_of_a_dtype_is_ignored(dtype, device):
    for made in (
        Tensor([1.0], device=device).astype(dtype),
        Tensor([1.0], dtype, device),
        tinycv.zeros(1, dtype=dtype, device=device),
        Tensor([1.0], device=device).to(dtype),
    ):
        assert made.dtype.isnative and made.dtype == np.dtype(dtype).newbyteorder("=")


class Offers:
    """An object with a method __array__, which NumPy calls."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Walked:
    """An object that NumPy treats as a sequence, because it has a length and items."""

    def __init__(self, parts):
        self.parts = list(parts)

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, i):
        return self.parts[i]


@pytest.mark.parametrize("bad", KINDS[:2], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("holder", [*HOLDERS, Walked])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("wrapped", [Offers, lambda a: a])
def test_masked_arrays_and_matrices_are_found_in_every_container(bad, holder, depth, wrapped):
    for make in (
        Tensor,
        tensor,
        lambda a: tensor(a, dtype="float64"),
        lambda a: tinycv.stack([Tensor([1.0]), a]),
    ):
        with pytest.raises(TypeError, match="cannot become a Tensor"):
            make(deep(wrapped(bad), holder, depth))
    assert Tensor(deep(Offers(np.array([1e300])), holder, depth)).numpy().ravel().tolist() == [
        1e300
    ]


def test_a_list_that_contains_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested too deeply"):
        Tensor(endless)


@given(
    st.sampled_from(["float16", "float32", "float64", "int64"]),
    st.sampled_from([list, tuple, collections.deque]),
    st.sampled_from(["cpu", "gpu"]),
)
def test_floats_in_a_list_beside_a_tensor_take_its_dtype(dtype, holder, where):
    x = Tensor(np.zeros(2, dtype))
    floats = np.dtype(dtype if dtype != "int64" else "float32")
    values = [floats.type(0.1).item(), floats.type(0.7).item()]
    for joined in (
        tinycv.concatenate([x, holder([0.1, 0.7])]),
        tinycv.stack([x, holder([0.1, 0.7])]),
    ):
        assert joined.dtype == floats and joined.numpy().ravel()[2:].tolist() == values
    assert tinycv.stack([Tensor(np.zeros((), dtype)), 0.1]).numpy()[1] == floats.type(0.1)
    if dtype == "int64":
        return
    x[:] = holder([0.1, 0.7])
    assert x.tolist() == values
    x.data = [0.1, 0.7]
    assert x.dtype == floats and x.tolist() == values


def test_a_number_too_large_for_float32_can_be_written_into_float64_only(device):
    x = Tensor(np.zeros(2), device=device)
    x[:] = [0.1, 1e300]
    assert x.tolist() == [0.1, 1e300]
    x[0] = 1e300
    assert x.tolist() == [1e300, 1e300]
    single = Tensor(np.zeros(2, np.float32), device=device)
    for value in (1e300, [1e300, 0], np.float64(1e300)):
        with pytest.raises(ValueError, match="value: .* does not fit into float32"):
            single[:] = value
    single[0] = np.inf
    assert single.tolist() == [np.inf, 0]


@pytest.mark.parametrize("share", ["memmap", "buffer", "torch-like"])
def test_tensor_copies_and_Tensor_shares(share, tmp_path):
    np.zeros(2, np.float32).tofile(tmp_path / "a")
    base = np.zeros(2, np.float32)
    data = {
        "memmap": lambda: np.memmap(tmp_path / "a", np.float32, "r+"),
        "buffer": lambda: array.array("f", [0, 0]),
        "torch-like": lambda: Offers(base[:]),
    }[share]()
    copied, shared = tensor(data), Tensor(data)
    (base if share == "torch-like" else data)[0] = 7
    assert copied.tolist() == [0, 0] and shared.tolist() == [7, 0]


# ── NumPy's functions on a Tensor ────────────────────────────────────────────────────────────────

READERS = [
    np.asarray,
    lambda x: np.concatenate([x, x]),
    lambda x: np.stack([x, x]),
    lambda x: np.where([1, 0], x, 0.0),
    lambda x: np.dot(x, x),
    lambda x: np.linalg.norm(x),
    lambda x: np.clip(x, 0, 1),
    lambda x: np.sort(x),
    lambda x: np.einsum("i,i->", x, x),
    lambda x: np.outer(x, x),
    lambda x: np.pad(x, 1),
    lambda x: Tensor([x, x]),
    lambda x: tensor(collections.deque([x])),
    lambda x: np.add.reduce([x, x]),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 2], ids=["leaf", "computed"])
def test_numpy_functions_do_not_silently_lose_a_gradient(read, make, device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"tensor of shape \(2,\) that requires a gradient"):
        read(make(x))
    if device == "cpu":
        with tinycv.no_grad():
            known = np.asarray(read(make(x)))
        np.testing.assert_array_equal(known, np.asarray(read(make(x).detach())))
    assert make(x).numpy().shape == (2,)
