"""Wrong calls of ops, derivatives, checkpoints, threads and seeds: the error names function and
argument."""

from __future__ import annotations

import itertools
import operator
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from wrong_calls import RIDDLE, riddles

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial.unrolled import unrolled
from tinycv.data import atomic
from tinycv.engine import backend, rng
from tinycv.engine.arguments import shown
from tinycv.engine.crew import Crew
from tinycv.engine.products import hvp, vjp
from tinycv.engine.record import OPS
from tinycv.nn import functional as F
from tinycv.nn.spectral_norm import SpectralNorm, spectral_norm
from tinycv.training import parallel


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


@pytest.fixture(autouse=True)
def seed_zero():
    yield
    tinycv.manual_seed(0)


def test_grad():
    x, y = leaf(1.0, 2.0), leaf(3.0)

    def grad(outputs, inputs, grad_outputs):
        return tinycv.grad(outputs, inputs, grad_outputs, retain_graph=True)

    for outputs, weights in (
        (x * x, np.ones(2)),
        ([x * 2, y * y], [np.ones(2), np.ones(1)]),
        ([x * x], [Tensor(x._data)]),
    ):
        assert not riddles(grad, {"outputs": outputs, "inputs": x, "grad_outputs": weights})
    assert not riddles(
        grad,
        {"outputs": [(x * x).sum(), (y * y).sum()], "inputs": [x, y], "grad_outputs": [2.0, None]},
    )


def test_backward():
    x = leaf(1.0, 2.0)

    def backward(gradient):
        (x * x).backward(gradient)

    assert not riddles(backward, {"gradient": np.ones(2)})


def test_vjp_and_hvp():
    x = leaf(1.0, 2.0)
    functions = (
        lambda x: x * x,
        "no function",
        lambda x: None,
        lambda x: 3.0,
        lambda x: x.detach(),
        lambda x: [x, None],
        lambda x: {"y": x},
        lambda x: x._data,
    )
    for function in functions:
        assert not riddles(vjp, {"function": function, "inputs": x, "v": np.ones(2)})
        assert not riddles(
            hvp,
            {
                "function": function if function is not functions[0] else lambda x: (x * x).sum(),
                "inputs": x,
                "v": np.ones(2),
            },
        )
    two = lambda x, y: (x * y).sum()  # noqa: E731
    assert not riddles(
        hvp, {"function": two, "inputs": [x, leaf(1.0, 3.0)], "v": [np.ones(2), np.ones(2)]}
    )
    assert not riddles(
        vjp, {"function": lambda x: (x, x * 2), "inputs": x, "v": [np.ones(2), np.ones(2)]}
    )


def test_every_type_of_vector_gives_the_right_product():
    x = leaf(1.0, 2.0)
    for v in (
        [1, 2],
        (1, 2),
        np.array([1, 2]),
        Tensor(np.array([1, 2])),
        np.array([1.0, 2.0], "f"),
        [1.0, 2],
    ):
        for y, product in (
            vjp(lambda x: x * x * x, x, v if not isinstance(v, (list, tuple)) else [v]),
            hvp(lambda x: (x**4).sum() / 4, x, v),
        ):
            del y
            assert product.numpy().tolist() == [3.0, 24.0]
    y = x * 0.5
    y.backward(np.array([True, False]))
    assert x.grad.numpy().tolist() == [0.5, 0.0]
    y, (g,) = vjp(lambda x: (x, x * 2), [x], [[1, 1], [1.0, 0]])
    assert [part.numpy().tolist() for part in y] == [[1, 2], [2, 4]] and g.numpy().tolist() == [
        3.0,
        1.0,
    ]


def test_one_vector_for_two_outputs_is_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="grad: 2 outputs but 1 grad_outputs"):
        tinycv.grad([x * 2, x * 3], x, np.ones(2))
    with pytest.raises(ValueError, match="hvp: 2 inputs but 1 vectors"):
        hvp(lambda x, y: (x * y).sum(), [x, x], np.ones(2))


def test_a_gradient_on_another_device_is_refused(double):
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="backward: the gradient is on gpu:0, the result on cpu"):
        (x * 2).backward(Tensor(np.ones(2), device="gpu"))


def test_checkpoint():
    assert not riddles(nn.checkpoint, {"function": lambda x: x}, "checkpoint")


@pytest.mark.parametrize("size", [1, 2])
def test_threads(size):
    w, x, y = leaf(2.0), np.ones((4, 1), "f"), np.arange(4)
    assert not riddles(lambda size: parallel.threads(size).close(), {"size": 2}, "threads")
    with parallel.threads(size) as group:

        def backward(loss_of, a, b, reduction):
            return group.backward(loss_of, a, b, reduction=reduction)

        def loss_of(a, b):
            return (w * 2).mean()

        def rows_of(a):
            return Tensor(np.ones(len(a)))

        good = {"loss_of": loss_of, "a": x, "b": y, "reduction": "mean"}
        assert not riddles(
            backward, good, "Group.backward", "argument 0 of the batch", "argument 1 of the batch"
        )
        for wrong in (
            lambda *_: None,
            lambda *_: 3.0,
            lambda *_: x,
            lambda *_: w.detach(),
            lambda a, b: [w.sum()],
        ):
            with pytest.raises((TypeError, RuntimeError), match="backward: "):
                group.backward(wrong, x, y)
        assert not riddles(
            lambda function, a: group.map(function, a), {"function": rows_of, "a": x}, "Group.map"
        )
        for wrong in (lambda a: None, lambda a: a, lambda a: Tensor(1.0), lambda a: Tensor(a)[:0]):
            with pytest.raises(TypeError, match="Group.map: of . examples"):
                group.map(wrong, x)


def test_seeds_and_states():
    assert not riddles(tinycv.manual_seed, {"seed": 3}, "manual_seed")
    assert not riddles(tinycv.manual_seed, {"seed": (3, 4)}, "manual_seed")
    state = rng.get_rng_state()
    assert not riddles(rng.set_rng_state, {"state": state}, "set_rng_state")
    for key in state:

        def set_one(value, key=key):
            rng.set_rng_state({**state, key: value})

        assert not riddles(set_one, {"value": state[key]}, "set_rng_state")
    for part in ("host", "noise"):
        for key in state[part]:

            def set_inner(value, part=part, key=key):
                rng.set_rng_state({**state, part: {**state[part], key: value}})

            assert not riddles(set_inner, {"value": state[part][key]}, "set_rng_state")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("noise"),
        lambda s: s.update(noise={}),
        lambda s: s.update(host={**s["host"], "bit_generator": "SFC64"}),
        lambda s: s["noise"]["state"].update(state=[1, 2, 3]),
        lambda s: s["host"]["state"].update(inc=1.5),
        lambda s: s["host"]["state"].update(state=-1),
        lambda s: s["host"]["state"].update(state=1 << 200),
        lambda s: s.update(splits=-1),
        lambda s: s.update(seed=[]),
    ],
)
def test_an_invalid_rng_state_is_refused_and_changes_nothing(change):
    tinycv.manual_seed(5)
    before, wrong = rng.get_rng_state(), rng.get_rng_state()
    change(wrong)
    with pytest.raises((TypeError, ValueError), match="set_rng_state: state is damaged"):
        rng.set_rng_state(wrong)
    assert rng.get_rng_state() == before


def test_norms():
    x = Tensor(np.random.default_rng(0).normal(size=(4, 3)))
    ones = {name: Tensor(np.ones(3)) for name in ("running_mean", "running_var", "weight", "bias")}
    for training in (False, True):
        good = {"x": x, **ones, "training": training, "momentum": 0.1, "eps": 1e-5}
        assert not riddles(F.batch_norm, good, "batch_norm")
    good = {
        "num_features": 3,
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "track_running_stats": True,
    }
    for layer in (nn.BatchNorm1d, nn.BatchNorm2d):
        # a size that exceeds any memory
        assert not [r for r in riddles(layer, good) if "1000000000000000" not in r]
    layer = nn.BatchNorm1d(3).to("float64")
    assert not riddles(lambda x: layer(x), {"x": x}, "BatchNorm1d", "batch_norm")
    normed = SpectralNorm(nn.Linear(3, 2)).to("float64")
    assert not riddles(SpectralNorm, {"layer": nn.Linear(3, 2)})
    assert not riddles(spectral_norm, {"network": nn.Linear(3, 2)})
    assert normed(x).shape == (4, 2)


def test_unrolled():
    network, x = nn.Linear(3, 1), tinycv.ones(4, 3)

    def look_ahead(network, loss_of, steps, lr):
        with unrolled(network, loss_of, steps if steps.__class__ is not int else min(steps, 2), lr):
            pass

    good = {"network": network, "loss_of": lambda: (network(x) ** 2).mean(), "steps": 2, "lr": 0.1}
    assert not riddles(look_ahead, good, "unrolled")


PYTORCHS = {
    "transpose": (
        lambda x: x.transpose(0, 1),
        r"axes is \(0, 1\); it must name each of the 3 axes once; x.swapaxes",
    ),
    "transpose, one": (
        lambda x: x.transpose((0,)),
        r"axes is \(0,\); it must name each of the 3 axes once",
    ),
    "norm": (lambda x: x.norm(5), "axis is 5; .*it is the Euclidean norm, and takes no p"),
    "norm, a word": (
        lambda x: x.norm("fro"),
        "axis is 'fro'; .*it is the Euclidean norm, and takes no p",
    ),
    "max": (lambda x: x.max(x), "axis is Tensor .*tinycv.maximum compares two arrays"),
    "min": (lambda x: x.min(x), "axis is Tensor .*tinycv.minimum compares two arrays"),
    "expand": (
        lambda x: x.expand(-1, 3, 4),
        r"shape=\(-1, 3, 4\); expand does not take -1 for a size",
    ),
}


@pytest.mark.parametrize("name", PYTORCHS)
def test_a_call_that_only_pytorch_supports_is_refused_with_a_clear_error(name, device):
    call, words = PYTORCHS[name]
    with pytest.raises((TypeError, ValueError), match=words):
        call(Tensor(np.ones((2, 3, 4), np.float32), device=device))


# ── inputs and options of ops ────────────────────────────────────────────────────────────────────

ODD = {
    "complex": np.array([1j, 2]),
    "objects": np.array([1, 2], object),
    "text": np.array(["1", "2"]),
    "bytes": np.array([b"1", b"2"]),
    "dates": np.zeros(2, "M8[s]"),
    "times": np.zeros(2, "m8[s]"),
    "records": np.zeros(2, "i4,f4"),
    "none": None,
    "a list of none": [None, None],
    "a complex number": 1j,
    "a word": "word",
    "complex64": np.complex64(1),
    "a date": np.datetime64("2020"),
    "a time": np.timedelta64(2, "s"),
    "a dict": {},
    "a masked array": np.ma.masked_array([1.0, 2.0], [True, False]),
    "numpy": np,
    "Tensor": Tensor,
    "a function": len,
}


@pytest.mark.parametrize("name", sorted(OPS))
def test_an_op_refuses_the_same_inputs_with_and_without_a_tensor(name):
    count = len(OPS[name].row.inputs)
    for place, odd in itertools.product(range(count), ODD.values()):
        inputs = [np.ones(2, np.float32)] * count
        inputs[place] = odd
        with pytest.raises(TypeError, match=f"^{name}: ") as caught:
            OPS[name](*inputs)
        assert not RIDDLE.search(str(caught.value)), caught.value


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", ">f4", ">i2"]
)
def test_bare_arrays_of_every_real_dtype_are_accepted(dtype):
    x = np.array([0, 1, 1]).astype(dtype)
    assert (
        tinycv.relu(x).tolist() == [0, 1, 1]
        and tinycv.sum(x) == 2
        and tinycv.maximum(x, 1).tolist() == [1, 1, 1]
    )
    assert tinycv.exp([0.0, 0.0]).tolist() == [1, 1]


@pytest.mark.parametrize("device", ["gpu"])
def test_bare_complex_arrays_on_a_gpu_are_refused(double, device):
    x = backend.to_device(np.array([1j]), device)
    with pytest.raises(TypeError, match="relu: x is .*complex128"):
        tinycv.relu(x)


@pytest.mark.parametrize(
    "value",
    [
        np.complex64(1),
        np.array(1j),
        np.datetime64("2020"),
        np.timedelta64(1, "s"),
        np.str_("a"),
        np.bytes_(b"a"),
        1j,
        "a",
    ],
    ids=repr,
)
def test_a_setting_is_a_real_number(value):
    x = tinycv.ones(2)
    for name, call in (
        ("clip: low", lambda: tinycv.clip(x, value)),
        ("clip: high", lambda: tinycv.clip(x, 0, value)),
        ("pad: value", lambda: tinycv.pad(x, 1, value)),
    ):
        with pytest.raises(TypeError, match=name):
            call()


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, np.int8, np.bool, np.array], ids=lambda kind: kind.__name__
)
def test_a_numpy_number_is_accepted_as_a_setting(kind):
    y = tinycv.clip(tinycv.zeros(2), kind(1))
    assert y.dtype == np.float32 and y.tolist() == [1, 1]
    assert F.cross_entropy(
        tinycv.zeros(2, 2), np.array([0, 1]), reduction=np.str_("none")
    ).shape == (2,)


REDUCTIONS = ["sum", "mean", "var", "std", "max", "min", "norm", "logsumexp"]
NO_AXES = [
    True,
    False,
    np.True_,
    "",
    "a",
    {},
    [],
    [True],
    b"",
    1.0,
    (True,),
    (0, True),
    ("",),
    int,
    1j,
]


@pytest.mark.parametrize("axis", NO_AXES, ids=repr)
@pytest.mark.parametrize(
    "name",
    [*REDUCTIONS, "flip", "unsqueeze", "squeeze", "argmax", "argmin", "cumsum", "any", "all"],
)
def test_an_axis_is_a_whole_number(name, axis):
    function = getattr(tinycv, name, None) or OPS[name]
    for x in (tinycv.ones(1, 2), np.ones((1, 2), np.float32)):
        with pytest.raises((TypeError, ValueError), match=f"{name}: axis is ") as caught:
            function(x, axis=axis)
        assert not RIDDLE.search(str(caught.value)), caught.value


@pytest.mark.parametrize("axis", NO_AXES, ids=repr)
def test_axes_of_swapaxes_and_concatenate_are_whole_numbers(axis):
    x = tinycv.ones(1, 2)
    for name, call in (
        ("swapaxes: axis1", lambda: x.swapaxes(axis, 0)),
        ("swapaxes: axis2", lambda: x.swapaxes(0, axis)),
        ("stack: axis", lambda: tinycv.stack([x, x], axis)),
        ("concatenate: axis", lambda: tinycv.concatenate([x, x], axis)),
    ):
        with pytest.raises(TypeError, match=f"{name} is "):
            call()


@pytest.mark.parametrize(
    "kind", [np.int64, np.uint8, np.array, Tensor], ids=lambda kind: kind.__name__
)
def test_a_numpy_integer_is_accepted_as_an_axis(kind):
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert x.sum(kind(1)).tolist() == [3, 12] and x.sum((0, kind(1))).tolist() == 15
    assert tinycv.flip(x, (kind(0),)).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert x.swapaxes(kind(0), kind(1)).shape == (3, 2) and tinycv.stack([x, x], kind(2)).shape == (
        2,
        3,
        2,
    )


@pytest.mark.parametrize(
    "keepdims", [-1, 0, 1, 5, np.int64(7), 1.0, None, "True", [], (), np.zeros(2, bool)], ids=repr
)
@pytest.mark.parametrize("name", [*REDUCTIONS, "any", "all"])
def test_keepdims_is_true_or_false(name, keepdims):
    function = getattr(tinycv, name, None) or OPS[name]
    for x in (tinycv.ones(1, 2), np.ones((1, 2), np.float32)):
        with pytest.raises(TypeError, match=f"{name}: keepdims is .*; it must be True or False"):
            function(x, axis=1, keepdims=keepdims)
        assert function(x, axis=1, keepdims=np.True_).shape == (1, 1)


@pytest.mark.parametrize(
    "index",
    [
        np.ma.masked_array([0, 1], [True, False]),
        np.matrix([[0, 1]]),
        np.ma.masked_array([True, False], [True, False]),
    ],
    ids=["masked", "matrix", "bools"],
)
def test_masked_arrays_and_matrices_are_refused_as_an_index(index):
    x = tinycv.zeros(2, 2)
    for call in (
        lambda: x[index],
        lambda: x[index, 0],
        lambda: x[:, index],
        lambda: x.__setitem__(index, 1.0),
        lambda: x.__setitem__((0, index), 1.0),
    ):
        with pytest.raises(TypeError, match=r"x\[index\]"):
            call()
    assert not x.numpy().any()


def test_a_list_that_contains_itself_is_refused_everywhere():
    x, endless = tinycv.ones(2, 2), []
    endless.append(endless)
    for call in (
        lambda: x[endless],
        lambda: x[0, endless],
        lambda: x.__setitem__(endless, 1),
        lambda: Tensor(endless),
        lambda: x + endless,
        lambda: tinycv.exp(endless),
        lambda: tinycv.stack(endless),
        lambda: x.reshape(endless),
    ):
        with pytest.raises((TypeError, ValueError, IndexError), match=r"\[\[\.\.\.\]\]"):
            call()


@pytest.mark.parametrize(
    "name", ["reshape", "transpose", "swapaxes", "getitem", "squeeze", "sum", "flip", "argmax"]
)
def test_a_number_is_refused_where_an_array_is_needed(name):
    for x in (3, 2.5, True):
        with pytest.raises(
            (TypeError, ValueError), match=f"{name}: x is {x}; it must be a Tensor or an array"
        ):
            OPS[name](
                x,
                **{
                    "reshape": {"shape": (3, 2)},
                    "getitem": {"index": (0,)},
                    "transpose": {"axes": (1, 0)},
                    "squeeze": {"axis": 1},
                    "flip": {"axis": 0},
                }.get(name, {}),
            )


@pytest.mark.parametrize("dtype", [None, "int64", "float32"])
def test_dates_and_times_are_refused_as_numbers(dtype):
    for value in (np.timedelta64(2, "s"), [np.timedelta64(2, "s")], np.datetime64("2020")):
        with pytest.raises(TypeError, match="cannot become a Tensor"):
            Tensor(value, dtype=dtype)


# ── error messages ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value",
    [np, tinycv, Tensor, np.ndarray, np.float32, int, np.exp, np.dtype("f4")],
    ids=["numpy", "tinycv", "Tensor", "ndarray", "float32", "int", "exp", "dtype"],
)
def test_errors_can_quote_modules_classes_and_functions(value):
    x, named = tinycv.ones(2, 2), re.escape(shown(value)[:40])
    for call in (
        lambda: nn.Linear(value, 2),
        lambda: tinycv.zeros(value),
        lambda: tinycv.exp(value),
        lambda: x + value,
        lambda: x > value,
        lambda: tinycv.matmul(value, x),
        lambda: x @ value,
        lambda: F.gelu(value),
        lambda: x[value],
        lambda: x[0, value],
        lambda: x.sum(value),
        lambda: tinycv.std(value),
        lambda: tinycv.einsum("i", value),
        lambda: Tensor(value),
        lambda: Tensor([value]),
        lambda: tinycv.stack(value),
        lambda: tinycv.stack([value, x]),
        lambda: tinycv.pad(x, 1, value),
        lambda: tinycv.full((2,), value),
        lambda: tinycv.split(x, value),
    ):
        with pytest.raises((TypeError, IndexError), match=named) as caught:
            call()
        assert not RIDDLE.search(str(caught.value).replace(shown(value), "")), caught.value


@pytest.mark.parametrize(
    "call, said",
    [
        (
            lambda: tinycv.exp(np.array(["a"])),
            "exp: x is ndarray of <U1 and shape (1,); it must be of real numbers",
        ),
        (lambda: F.gelu(lambda: 0), "it must be an array or a Tensor of numbers"),
        (
            lambda: tinycv.sum(tinycv.ones(2), axis=lambda: 0),
            "it must be a whole number, a tuple of whole numbers or None",
        ),
        (
            lambda: tinycv.pad(tinycv.ones(2), 1, np.exp),
            "pad: value is <ufunc 'exp'>; it must be a number",
        ),
        (lambda: F.softmax(tinycv.ones(2), lambda: 0), "it must be a whole number"),
        (lambda: tinycv.ones(2).sum(np.dtype("f4")), "sum: axis is dtype('float32')"),
    ],
)
def test_a_clear_message_is_kept_even_if_the_value_it_quotes_looks_like_internals(call, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        call()


@pytest.mark.parametrize(
    "shapes, axis, said",
    [
        ([(2, 3), (3,)], 0, "shapes (2, 3) and (3,); they must have equally many axes"),
        (
            [(2, 3), (2, 3), (3, 2)],
            0,
            "shapes (2, 3) and (3, 2); they must be equal, except along axis 0",
        ),
        (
            [(2, 3), (3, 3), (3, 2)],
            -2,
            "shapes (2, 3) and (3, 2); they must be equal, except along axis -2",
        ),
        ([(), ()], 0, "single number"),
    ],
)
def test_the_error_for_a_failed_concatenation_names_the_shapes(shapes, axis, said, device):
    members = [Tensor(np.zeros(shape), device=device) for shape in shapes]
    with pytest.raises(ValueError, match="concatenate: .*" + re.escape(said)):
        tinycv.concatenate(members, axis)
    if shapes[0]:
        with pytest.raises(
            ValueError, match="stack: the tensors have shapes .* they must be equal"
        ):
            tinycv.stack(members, axis)


class Silent:
    """A user's class whose operators do not support Tensors."""

    def __rtruediv__(self, other):
        return NotImplemented

    __truediv__ = __radd__ = __add__ = __gt__ = __lt__ = __rpow__ = __pow__ = __rmatmul__ = (
        __matmul__
    ) = __rtruediv__


@pytest.mark.parametrize(
    "other", [Fraction(1, 2), Decimal("0.5"), Path("a"), Silent()], ids=lambda x: type(x).__name__
)
def test_an_operator_that_another_class_does_not_implement_raises_the_error_of_tinycv(other):
    x = tinycv.ones(2)
    for call in (
        lambda: x / other,
        lambda: other / x,
        lambda: x + other,
        lambda: other + x,
        lambda: x > other,
        lambda: x @ other,
    ):
        with pytest.raises(
            TypeError, match=r"(div|add|greater|matmul): [ab] is .*; it must be a Tensor"
        ):
            call()
    for call in (lambda: operator.iadd(x, other), lambda: operator.itruediv(x, other)):
        with pytest.raises(TypeError, match=r"(div|add): b is|x [+/]= value: the value"):
            call()
    assert x.tolist() == [1, 1] and (x == other) is False


# ── creating Tensors ─────────────────────────────────────────────────────────────────────────────

MAKERS = {
    "tensor": lambda **k: tinycv.tensor([1.0], **k),
    "zeros": lambda **k: tinycv.zeros(2, **k),
    "ones": lambda **k: tinycv.ones(2, **k),
    "full": lambda **k: tinycv.full((2,), 1.0, **k),
    "rand": lambda **k: tinycv.rand(2, **k),
    "randn": lambda **k: tinycv.randn(2, **k),
    "Tensor": lambda **k: Tensor([1.0], **k),
    "eye": lambda **k: tinycv.eye(2, **k),
    "arange": lambda **k: tinycv.arange(3, **k),
}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_errors_about_dtype_device_and_requires_grad_name_the_function(name):
    for dtype in ("", "word", 0, False, np.zeros(2), "complex64", {}, []):
        with pytest.raises(TypeError, match=f"^{name}: dtype is "):
            MAKERS[name](dtype=dtype)
    for device in ("", "word", 3, [], "gpu:x"):
        with pytest.raises(ValueError, match=f"^{name}: device is "):
            MAKERS[name](device=device)
    for value in () if name in ("eye", "arange") else (0, 1, "True", None, [], np.ones(2)):
        with pytest.raises(TypeError, match=f"^{name}: requires_grad is "):
            MAKERS[name](requires_grad=value)


def test_errors_about_conversions_and_devices_name_function_and_argument():
    x = tinycv.ones(2)
    for word in ("word", "gpu:x"):
        with pytest.raises(ValueError, match=f"^to: unknown device or dtype '{word}'"):
            x.to(word)
    for name, call in (
        ("astype: dtype", lambda: x.astype("word")),
        ("Stopwatch: device", lambda: backend.Stopwatch("word")),
        ("synchronize: device", lambda: backend.synchronize("word")),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name} is "):
            call()


@pytest.mark.parametrize("name", ["zeros", "ones", "rand", "randn", "full"])
def test_a_shape_too_large_for_memory_raises_a_clear_error(name):
    shape = (2**30, 2**29)  # 2 EiB, more than the addresses of any process
    make = getattr(tinycv, name)
    with pytest.raises(MemoryError, match=f"^{name}: shape is .*this machine's memory"):
        make(shape, 1.5) if name == "full" else make(shape)
    with pytest.raises(MemoryError, match="^arange: limits is"):
        tinycv.arange(2**58)
    with pytest.raises(MemoryError, match="^eye: shape is"):
        tinycv.eye(2**29)


@pytest.mark.parametrize(
    "name",
    [
        "uniform",
        "normal",
        "trunc_normal",
        "xavier_uniform",
        "xavier_normal",
        "kaiming_uniform",
        "kaiming_normal",
    ],
)
def test_weights_too_large_for_memory_raise_a_clear_error(name, monkeypatch):
    class Full:
        def uniform(self, *_):
            raise MemoryError

        normal = standard_normal = uniform

    monkeypatch.setattr(nn.init, "host_generator", Full)
    with pytest.raises(MemoryError, match=rf"^{name}: shape is \(3, 2\)"):
        getattr(nn.init, name)(*((3, 2), 1.0)[: 2 if name == "uniform" else 1])


# ── internal functions ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["standard_normal", "uniform"])
def test_noise(name):
    draw = getattr(backend, name)
    for shape in (2.0, "a", (2, -1), -1, (2.5,), {}, [[1]], None):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: shape"):
            draw(shape)
    for dtype in (b"bytes", "word", int, "complex64", bool, np.float32(1), Tensor(1.0), np.ones(2)):
        with pytest.raises(TypeError, match=f"^{name}: dtype is "):
            draw(2, dtype=dtype)
    for like in ("a", None, 3.0, np.ndarray, tinycv):
        with pytest.raises(TypeError, match=f"^{name}: like is "):
            draw(2, like=like)
    assert draw(2, dtype="float16").dtype == "float16" and draw(
        (2, 3), np.ones(1), np.float64
    ).shape == (2, 3)


def test_crews():
    assert not riddles(lambda size: Crew(size).close(), {"size": 2}, "Crew")
    with pytest.raises(ValueError, match="Crew: size is 0"):
        Crew(0)
    crew, one = Crew(2), (lambda: 1)
    for works in (None, [], 3, "a", [1], [one, 2], [one] * 3, {one}):
        with pytest.raises(TypeError, match="^Crew.run: works"):
            crew.run(works)
    for weights in (3, [1.0], [1.0, "a"], "ab", [None, 1.0]):
        with pytest.raises(TypeError, match="^Crew.run: weights"):
            crew.run([one, one], weights)
    assert crew.run([one, one], [0.5, 0.5]) == crew.run([one, one]) == [1, 1]
    crew.close()


@pytest.mark.parametrize("shards", ["a", -1, 2.0, None, True])
def test_streams_are_split_into_a_whole_number(shards):
    with pytest.raises((TypeError, ValueError), match="^split: shards is "):
        rng.split(shards)


def test_atomic_write(tmp_path):
    for path in (None, 3, "", "a\0b", b"a"):
        with pytest.raises((TypeError, ValueError), match="^write: path is "):
            atomic.write(path, b"")
    for data in ("text", None, 3, [1]):
        with pytest.raises(TypeError, match="^write: data is .*; it must be bytes"):
            atomic.write(tmp_path / "a", data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
@pytest.mark.parametrize("extra", [0.5, np.ones(2), Tensor([1.0, 2.0])])
def test_one_input_too_many_is_a_type_error_for_every_dtype(dtype, extra):
    x = Tensor(np.ones(2), dtype=dtype)
    for name in ("log", "tanh", "sigmoid"):
        with pytest.raises(TypeError, match=f"^{name}: 2 inputs were given; it takes x "):
            getattr(x, name)(extra)


@pytest.mark.parametrize("name", ["item", "tolist"])
def test_python_errors_about_methods_name_the_class_tensor(name):
    with pytest.raises(TypeError, match=f"^Tensor.{name}\\(\\) takes 1 "):
        getattr(Tensor(1.0), name)(0)
