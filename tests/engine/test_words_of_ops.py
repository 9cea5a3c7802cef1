"""Calls of ops, and their error messages: inputs by name, NumPy flags, operators with other
classes, writes in place, and nonsense that must not pass silently."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wrong_calls import RIDDLE

import tinycv
from tinycv import Tensor, nn
from tinycv.engine.record import OPS
from tinycv.nn import functional as F

TWO = {
    "maximum",
    "minimum",
    "add",
    "sub",
    "mul",
    "div",
    "power",
    "remainder",
    "equal",
    "less",
    "matmul",
    "logical_or",
}
ONE = {
    "exp",
    "relu",
    "sigmoid",
    "softplus",
    "tanh",
    "erf",
    "abs",
    "sum",
    "mean",
    "max",
    "argmax",
    "flip",
    "cumsum",
    "norm",
}
ODD = (
    "word",
    b"x",
    [],
    {},
    None,
    1j,
    np.array("a"),
    np.array([1j]),
    np.array([None]),
    np.datetime64("2020"),
    len,
    np.zeros(3),
    np.zeros((5, 2)),
    10**30,
)


def square() -> Tensor:
    return Tensor(np.array([[0.5, 2.0], [1.5, 3.0]]), requires_grad=True)


def sentence(call) -> str:
    """The error message of a call, which must not speak of internals; empty if it returns."""
    try:
        call()
    except Exception as error:
        assert not RIDDLE.search(str(error)), str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("name", sorted(TWO | ONE))
def test_inputs_may_be_given_by_name(name):
    function, x = OPS[name], square()
    inputs = function.row.inputs
    by_place = function(*[x] * len(inputs))
    by_name = function(**{name: x for name in reversed(inputs)})
    assert by_name.tolist() == by_place.tolist()
    mixed = function(x, **{name: x for name in inputs[1:]})
    assert mixed.tolist() == by_place.tolist()


@pytest.mark.parametrize("name", sorted(TWO | ONE))
def test_the_error_for_a_missing_doubled_or_unknown_argument_names_it(name):
    function, x = OPS[name], square()
    inputs = function.row.inputs
    everything = {each: x for each in inputs}
    with pytest.raises(TypeError, match=f"{name}.*missing {inputs[-1]}"):
        function(**{each: x for each in inputs[:-1]})
    for wrong in (
        lambda: function(*everything.values(), **{inputs[0]: x}),
        lambda: function(**everything, stranger=1),
        lambda: function(*everything.values(), *range(5)),
    ):
        assert sentence(wrong).startswith(name)


def test_the_gradient_of_an_input_by_name_is_the_same():
    x = square()
    F.relu(x=x).sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 1]]
    y = tinycv.where(c=x > 1, a=x, b=0.0)
    assert y.tolist() == [[0, 2], [1.5, 3]]


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "std", "norm", "logsumexp"])
def test_a_numpy_bool_is_accepted_as_a_flag(name):
    reduce, x = getattr(tinycv, name), square()
    for flag in (True, False):
        assert (
            reduce(x, axis=1, keepdims=np.bool(flag)).tolist()
            == reduce(x, axis=1, keepdims=flag).tolist()
        )
    assert "keepdims is 'word'; it must be True or False" in sentence(
        lambda: reduce(x, 1, keepdims="word")
    )


def test_layers_and_losses_accept_numpy_bools_and_strings():
    yes = np.bool(True)
    for layer in (
        nn.Linear(2, 3, bias=yes),
        nn.LayerNorm(2, bias=yes),
        nn.BatchNorm1d(2, affine=yes),
    ):
        assert layer.bias is not None
    assert (
        F.dropout(square(), 0.0, training=yes).shape == (2, 2)
        and nn.Linear(2, 2).train(yes).training is True
    )
    assert F.mse_loss(square(), square(), reduction=np.str_("sum")).item() == 0
    assert nn.Conv2d(1, 1, np.array([3, 1])).weight.shape == (1, 1, 3, 1)


@given(
    st.sampled_from(ODD),
    st.sampled_from(["+=", "-=", "*=", "/=", "x[0]", "x[0, 1]", "x[[0, 1]]"]),
    st.sampled_from([np.float32, np.int64, bool]),
)
def test_the_error_of_a_write_in_place_says_what_does_not_fit(value, where, dtype):
    x = Tensor(np.ones((2, 2), dtype))
    before = x.tolist()
    kinds = {"+=": "__iadd__", "-=": "__isub__", "*=": "__imul__", "/=": "__itruediv__"}
    places = {"x[0]": 0, "x[0, 1]": (0, 1), "x[[0, 1]]": [0, 1]}
    said = sentence(
        lambda: (
            getattr(x, kinds[where])(value)
            if where in kinds
            else x.__setitem__(places[where], value)
        )
    )
    assert not said or (f"x {where} value" if where in kinds else "x[index] = value") in said
    assert not said or x.tolist() == before


@pytest.mark.parametrize(
    "index", ["word", 5, (0, 7), 10**30, [0, 9], (1, 1, 1), {}, 1.5, np.array([True] * 3)]
)
def test_a_wrong_index_raises_a_clear_error_when_read_and_when_written(index):
    x = Tensor(np.ones((2, 2)))
    assert sentence(lambda: x.__setitem__(index, 1.0)) and sentence(lambda: x[index])


def test_and_or_work_in_both_orders():
    x = square() > 1
    for other in (True, np.bool(True), np.array([True, False])):
        assert (other & x).tolist() == (x & other).tolist() and (other | x).tolist() == (
            x | other
        ).tolist()


BITS = {"&": operator.and_, "|": operator.or_, "^": operator.xor}


@given(
    st.sampled_from(sorted(BITS)),
    st.lists(st.integers(0, 127), min_size=2, max_size=2),
    st.lists(st.integers(0, 127), min_size=2, max_size=2),
    st.sampled_from(["bool", "int8", "uint8", "int32", "int64"]),
)
def test_and_or_xor_and_not_are_logical_for_bools_and_bit_by_bit_for_integers(
    symbol, first, second, dtype
):
    a, b = np.array(first).astype(dtype), np.array(second).astype(dtype)
    for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))):
        y = BITS[symbol](left, right)
        assert y.dtype == dtype and y.tolist() == BITS[symbol](a, b).tolist()
    assert (~Tensor(a)).tolist() == (~a).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bitwise_operators_refuse_floats(dtype, device):
    x, yes = (
        Tensor(np.ones(2, dtype), device=device),
        Tensor(np.array([True, False]), device=device),
    )
    for call in (
        lambda: x & x,
        lambda: x | yes,
        lambda: yes ^ x,
        lambda: ~x,
        lambda: yes & 1.0,
        lambda: True | x,
    ):
        with pytest.raises(
            TypeError, match="bitwise_(and|or|xor|not): .*take bools or integers: compare first"
        ):
            call()


class Stranger:
    """A user's class that implements operators with Tensors."""

    def answer(self, other):
        return "answered"

    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = (
        __rmatmul__
    ) = answer
    __rand__ = __ror__ = __rxor__ = __gt__ = __lt__ = __ge__ = __le__ = __eq__ = __ne__ = answer
    __hash__ = object.__hash__


SYMBOLS = {
    name: getattr(operator, name)
    for name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and_",
        "or_",
        "xor",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "iadd",
        "isub",
        "imul",
        "itruediv",
        "ifloordiv",
        "imod",
        "ipow",
        "iand",
        "ior",
        "ixor",
    )
}


@pytest.mark.parametrize("name", SYMBOLS)
def test_another_class_may_implement_an_operator_with_a_tensor(name, device):
    x = Tensor(np.array([1, 2]), device=device)
    assert SYMBOLS[name](x, Stranger()) == "answered" and x.tolist() == [1, 2]
    if name not in ("eq", "ne"):
        for odd in (None, {}, "a", object(), [1, 2]):
            if name[0] != "i":  # in place, Python's list operators apply
                with pytest.raises(TypeError, match="must be a Tensor, an array or a number"):
                    SYMBOLS[name](x, odd)


def test_functions_refuse_operands_that_operators_leave_to_another_class():
    x = Tensor(np.ones(2))
    for function in (
        OPS["add"],
        OPS["equal"],
        OPS["less"],
        tinycv.maximum,
        tinycv.power,
        tinycv.matmul,
    ):
        with pytest.raises(TypeError, match="it must be a Tensor, an array or a number"):
            function(x, Stranger())


@given(st.sampled_from([None, "a", b"a", {}, set(), object(), 1j, len, int]))
def test_a_tensor_is_unequal_to_a_value_that_is_not_a_number(odd):
    x = Tensor(np.ones((2, 2)))
    assert (x == odd) is (odd == x) is False and (x != odd) is (odd != x) is True
    assert odd not in x and x not in [odd] and x in [odd, x]


def test_in_finds_an_entry_of_a_tensor(device):
    x = Tensor(np.array([[1.0, 2.0], [np.nan, 4.0]]), device=device)
    assert 2.0 in x and np.float32(4) in x and 3 not in x and np.nan not in x
    # True if one entry is equal, as in NumPy and PyTorch
    assert Tensor(np.array([9.0, 2.0]), device=device) in x


def test_a_list_can_be_repeated_by_an_integer_tensor():
    assert [0] * Tensor(3) == Tensor(3) * [0] == [0, 0, 0] and "ab" * Tensor(2) == "abab"
    for x in (Tensor(3.0), Tensor([3])):
        assert "mul: b is [0]" in sentence(lambda x=x: x * [0]) and "mul: a is [0]" in sentence(
            lambda x=x: [0] * x
        )


def test_flags_of_backward_and_grad_must_be_bools():
    for odd in (np.array([1, 2]), "no", 1, Tensor(np.ones(2))):
        for call in (
            lambda odd=odd: (square() ** 2).sum().backward(retain_graph=odd),
            lambda odd=odd: (square() ** 2).sum().backward(create_graph=odd),
            lambda odd=odd: (lambda x: tinycv.grad((x * x).sum(), x, create_graph=odd))(square()),
            lambda odd=odd: tinycv.debug(odd),
        ):
            assert "it must be True or False" in sentence(call)


@pytest.mark.parametrize(
    "call, what",
    [
        (lambda: tinycv.zeros(b"x"), "zeros: shape"),
        (lambda: tinycv.ones({}), "ones: shape"),
        (lambda: tinycv.split(square(), b""), "split: sections"),
        (lambda: nn.LayerNorm(b"x"), "LayerNorm"),
        (lambda: tinycv.zeros(2, dtype=np.int64(3)), "dtype is"),
        (lambda: square().astype(np.float64(1.5)), "dtype is"),
        (lambda: tinycv.pad(square(), {0: (1, 1)}), "pad: width"),
        (lambda: tinycv.var(square(), ddof="1"), "var"),
        (lambda: tinycv.logsumexp(square(), keepdims=[]), "logsumexp: keepdims"),
        (lambda: tinycv.clip(square(), low=np.array([1j])), "clip: low"),
        (lambda: nn.BatchNorm1d(3, momentum=1.5), "momentum"),
        (lambda: nn.BatchNorm1d(3, momentum=-1), "momentum"),
        (lambda: F.layer_norm(square(), eps=float("inf")), "eps"),
        (lambda: nn.Softmax(axis=np.array(1.5)), "Softmax: axis"),
        (lambda: nn.Conv2d(1, 1, 3, stride=10**30), "stride"),
        (lambda: nn.Sequential(nn.ReLU())["a":], "start of the slice"),
        (lambda: round(square().sum(), np.array(1.5)), "round: digits"),
        (lambda: square().transpose([[1], [2, 3]]), "transpose"),
        (lambda: nn.Embedding(3, 2, np.array(1.5)), "padding_idx"),
        (lambda: nn.Sequential(nn.ReLU())[np.array(0.5)], "index"),
        (lambda: nn.CrossEntropyLoss(ignore_index=np.array(1.5)), "ignore_index"),
        (lambda: round(square().sum(), "a"), "round: digits"),
        (lambda: format(square().sum(), "q"), "format: 'q'"),
        (lambda: F.gelu(np.matrix([[1.0, 2.0]])), "gelu: x"),
        (lambda: square().reshape(size=3), "reshape: it takes only shape"),
        (lambda: square().transpose([0, "a"]), "transpose"),
        (lambda: tinycv.flip("word", 1), "flip: x is 'word'"),
    ],
)
def test_nonsense_is_refused_with_a_clear_error(call, what):
    assert what in sentence(call)


def test_shapes_may_be_given_by_name_and_axes_as_an_array():
    x = square()
    assert x.reshape(shape=(4,)).shape == x.reshape(np.int64(4)).shape == (4,)
    assert x.expand(shape=(3, 2, 2)).shape == (3, 2, 2)
    for axes in ((1, 0), [1, 0], np.array([1, 0])):
        assert x.transpose(axes).tolist() == x.transpose(axes=axes).tolist() == x.T.tolist()


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min", "norm", "logsumexp"])
def test_axes_may_be_a_list_as_in_pytorch(name):
    x = Tensor(np.random.default_rng(0).normal(size=(2, 3, 4)))
    function = getattr(tinycv, name)
    for axes in ([0], [0, 2], [-1, np.int64(1)]):
        assert (function(x, axis=axes).numpy() == function(x, axis=tuple(axes)).numpy()).all()
    assert (tinycv.flip(x, [0, 2]).numpy() == x.numpy()[::-1, :, ::-1]).all()


@pytest.mark.parametrize("axes", [(0,), [0], (0, 1)], ids=str)
def test_some_ops_take_only_one_axis(axes):
    x = tinycv.ones(2, 3)
    calls = {
        "argmax": x.argmax,
        "argmin": x.argmin,
        "cumsum": x.cumsum,
        "swapaxes": lambda a: x.swapaxes(a, 1),
        "stack": lambda a: tinycv.stack([x, x], a),
        "concatenate": lambda a: tinycv.concatenate([x, x], a),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{name}: axis1? is .*; it must be a whole number"):
            call(axes)


INDICES = {
    "rows and columns": ([0, 1], [0, 1, 1]),
    "a mask and rows": (np.array([True, True]), np.array([0, 1, 1])),
    "matrices": (np.zeros((2, 3), int), np.zeros((3, 2), int)),
}


@pytest.mark.parametrize("index", INDICES)
def test_the_error_for_index_arrays_that_do_not_broadcast_names_their_shapes(index, device):
    x, index = Tensor(np.ones((2, 2)), device=device), INDICES[index]
    with pytest.raises(
        IndexError,
        match=r"getitem: the arrays in the index choose entries of shapes \(2,.* and \(3,",
    ):
        x[index]
    if device == "cpu":
        with pytest.raises(
            IndexError, match=r"value is 1: the arrays in the index choose .* \(2,.* and \(3,"
        ):
            x[index] = 1


@pytest.mark.parametrize(
    "name", sorted(name for name, op in OPS.items() if op.row.inputs in (["x"], ["a", "b"]))
)
def test_an_op_that_does_not_take_bools_says_how_to_convert_them(name):
    if name in ("remainder", "floor_divide"):
        values = [Tensor(np.ones(2, bool))] * 2
    else:
        values = [Tensor(np.ones((2, 2), bool))] * len(OPS[name].row.inputs)
    try:
        OPS[name](*values)
    except (TypeError, ValueError, IndexError) as error:
        assert "x.astype(tinycv.int64) turns them into numbers" in str(error) or "shape" in str(
            error
        ), name


def test_the_sign_of_bools_is_refused_with_a_clear_error():
    with pytest.raises(TypeError, match="sign: bools have no sign, and x.astype"):
        tinycv.sign(Tensor(np.ones(2, bool)))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: tinycv.pad(square(), -1), "pad: width is -1; it must not be negative"),
        (
            lambda: tinycv.pad(square(), ((1, 2), (0, -2))),
            "pad: width is .*; it must not be negative",
        ),
        (
            lambda: tinycv.pad(square(), (1, 2, 3)),
            "pad: width is .*a pair for each of the 2 axes of x",
        ),
        (lambda: tinycv.pad(square(), 1.5), "pad: width is 1.5; it must be a whole number"),
        (
            lambda: Tensor([1.0]).unsqueeze(3),
            "axis is 3; the result has 2 axes, so it must lie between -2 and 1",
        ),
        (
            lambda: tinycv.stack([Tensor([1.0])], axis=5),
            "axis is 5; the result has 2 axes, so it must lie between -2 and 1",
        ),
        (lambda: square().sum(axis=5), "axis is 5; with 2 axes it must lie between -2 and 1"),
        (lambda: pow(square(), 2, 3), "pow: a third argument, 3, was given"),
        (lambda: divmod(square(), "a"), "b is 'a'; it must be a Tensor"),
        (lambda: divmod("a", square()), "a is 'a'; it must be a Tensor"),
        (lambda: math.trunc(square()), "trunc: a tensor of shape"),
        *[
            (
                lambda name=name: getattr(np, name)(square()),
                rf"{name}: there is no argument .*out; .* write x.{name}\(\)",
            )
            for name in ("sum", "mean", "max", "min", "std", "var")
        ],
        (
            lambda: square().std(dim=0),
            "std: there is no argument dim; it takes x, axis, ddof, keepdims: type axis= instead",
        ),
    ],
)
def test_errors_say_what_is_wrong_and_what_to_do(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@pytest.mark.parametrize(
    "a, b", [(7.5, 2.0), (-7.5, 2.0), ([7.0, -7.0], [2.0, 3.0]), (7, [2, 3])], ids=repr
)
def test_divmod_gives_quotient_and_remainder_as_in_numpy(a, b):
    a, b = (np.asarray(v) if isinstance(v, list) else v for v in (a, b))
    left = Tensor(a) if isinstance(a, np.ndarray) else a
    right = Tensor(b) if isinstance(b, np.ndarray) or left is a else b
    for got, true in zip(divmod(left, right), np.divmod(a, b), strict=True):
        assert isinstance(got, Tensor) and (got.numpy() == true).all()


def test_trunc_goes_towards_0():
    assert [math.trunc(Tensor(v)) for v in (2.7, -2.7, 3)] == [2, -2, 3]
