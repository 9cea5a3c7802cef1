"""Argument validation: accepted values become Python numbers, others raise a clear error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import data, nn, optim, sequence
from tinycv.adversarial.gan import R1
from tinycv.data.alignment import day_of
from tinycv.data.pinyin import romanised
from tinycv.diffusion.edm import edm_denoiser
from tinycv.engine.arguments import choice, listed, number, size, sizes
from tinycv.optim.averaged import EMA

NUMBERS = [int, np.int8, np.int64, np.uint8, np.uint64]


@given(st.integers(0, 100), st.sampled_from(NUMBERS))
def test_size_accepts_every_type_of_whole_number(n, kind):
    made = size(kind(n), "f: n")
    assert made == n and type(made) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, 2.0, np.float32(2), "2", None, [2], np.array([2]), object()]
)
def test_size_refuses_everything_else(value):
    with pytest.raises(TypeError, match="f: n is .*; it must be a whole number, at least 1"):
        size(value, "f: n", 1)


def test_a_size_below_the_minimum_is_a_value_error():
    with pytest.raises(ValueError, match="f: n is -1; it must be a whole number, at least 0"):
        size(-1, "f: n")


def test_sizes_repeats_one_number_and_checks_the_number_of_several():
    assert (
        sizes(3, "f: k", 2) == (3, 3)
        and sizes(3, "f: k") == (3,)
        and sizes([np.int64(1), 2], "f: k", 2) == (1, 2)
    )
    with pytest.raises(ValueError, match=r"f: k has 3 numbers; it must have 2"):
        sizes((1, 2, 3), "f: k", 2)
    with pytest.raises(TypeError, match=r"f: k\[1\] is 'a'; it must be a whole number"):
        sizes((1, "a"), "f: k", 2)
    with pytest.raises(TypeError, match="f: k is '12'"):
        sizes("12", "f: k", 2)


@given(st.floats(-1e6, 1e6), st.sampled_from([float, np.float32, np.float64, np.array]))
def test_number_accepts_every_real_scalar(x, kind):
    assert number(kind(x), "f: x") == float(kind(x)) and type(number(kind(x), "f: x")) is float


@pytest.mark.parametrize(
    "value", [True, "1", None, 1j, [1.0], np.array([1.0]), np.array(True), np.complex64(1)]
)
def test_number_refuses_everything_else(value):
    with pytest.raises(TypeError, match="f: x is .*; it must be a number, at least 0"):
        number(value, "f: x", 0)


@pytest.mark.parametrize(
    "value",
    [float("nan"), -0.1, 1.1, np.float64("inf"), 1, 10**400],
    ids=lambda v: f"{v:.3g}" if isinstance(v, float) else "int",
)
def test_a_number_outside_its_bounds_is_a_value_error(value):
    with pytest.raises(
        ValueError, match="f: x is .*; it must be a number, at least 0 and less than 1"
    ):
        number(value, "f: x", 0, below=1)


def test_choice_accepts_only_the_options():
    assert choice("sum", "f: reduction", ("mean", "sum")) == "sum"
    for value, kind in (("max", ValueError), (1, TypeError), (np.array(["sum"]), TypeError)):
        with pytest.raises(kind, match="f: reduction is .*; it must be one of 'mean', 'sum'"):
            choice(value, "f: reduction", ("mean", "sum"))


LEARNS = tinycv.tensor(0.5, requires_grad=True)
OPTIONS = {
    "leaky_relu": lambda w: nn.LeakyReLU(w),
    "layer_norm": lambda w: nn.LayerNorm(2, eps=w),
    "dropout": lambda w: nn.Dropout(w),
    "batch_norm": lambda w: nn.BatchNorm1d(2, momentum=w),
    "smoothing": lambda w: nn.CrossEntropyLoss(label_smoothing=w),
    "init": lambda w: nn.init.normal((2,), w),
    "edm": lambda w: edm_denoiser(abs, sigma_data=w),
    "lr": lambda w: optim.SGD([nn.Parameter([1.0])], lr=w),
    "weights": lambda w: nn.CrossEntropyLoss(weight=w.expand((3,))),
    "penalty": lambda w: R1(w),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("value", [LEARNS, LEARNS * 1], ids=["leaf", "computed"])
def test_a_tensor_that_requires_a_gradient_is_refused_as_an_option(name, value):
    with pytest.raises(
        TypeError, match="no gradient would reach a Tensor there|but it is data and gets none"
    ):
        OPTIONS[name](value)


def test_a_tensor_that_requires_no_gradient_is_accepted_as_a_number():
    assert number(LEARNS.detach(), "f: x") == 0.5


# ── error messages ───────────────────────────────────────────────────────────────────────────────


def test_a_long_list_in_a_message_is_cut_and_says_how_many_more_there_are():
    assert listed([]) == "" and listed(["a", 2]) == "a, 2" and listed("abc", 3) == "a, b, c"
    assert (
        listed("abcde", 3) == "a, b, c and 2 more" and listed(["a b", "c"], join="; ") == "a b; c"
    )
    assert len(listed(["x" * 1000] * 1000)) < 8 * 210


MANY = 300
DEEP = nn.Sequential(*[nn.Linear(1, 1) for _ in range(MANY)])
STEPS = optim.SGD(DEEP.parameters(), 0.1)
ONES = [tinycv.ones(i + 1, requires_grad=True) for i in range(MANY)]


def remembered(entry):
    return {**STEPS.state_dict(), "state": {name: entry for name in STEPS.names.values()}}


def saved_to(model):
    def save(folder):
        for p in model.parameters():
            p.data = np.full(p.shape, np.nan, "float32")
        tinycv.training.checkpoint.save_model(folder / "model.safetensors", model)

    return save


@pytest.mark.parametrize(
    "call",
    [
        lambda _: sequence.LSTM(2, 3)(tinycv.ones(4, 5000, 2), lengths=[9] * 5000),
        lambda _: sequence.LSTM(2, 3)(tinycv.ones(4, 5, 2), lengths=[1.5] * 5000),
        lambda _: DEEP.load_state_dict({}),
        lambda _: DEEP.load_state_dict({f"x{i}": np.ones(1) for i in range(5000)}),
        lambda _: DEEP.load_state_dict({name: np.ones(7) for name in DEEP.state_dict()}),
        lambda _: EMA(DEEP).load_state_dict({name: np.ones(7) for name in DEEP.state_dict()}),
        lambda _: STEPS.load_state_dict({f"k{i}": 1 for i in range(5000)}),
        lambda _: STEPS.load_state_dict(remembered({"a": 1})),
        lambda _: STEPS.load_state_dict(remembered({f"a{i}": 1 for i in range(500)})),
        lambda _: STEPS.add_param_group({"params": [], **{f"a{i}": 1 for i in range(500)}}),
        saved_to(nn.Sequential(*[nn.Linear(1, 1) for _ in range(MANY)])),
        lambda _: data.DataLoader(*[np.zeros(i + 1) for i in range(MANY)], batch_size=2),
        lambda _: tinycv.stack(ONES),
        lambda _: tinycv.concatenate([x.reshape(1, -1) for x in ONES]),
        lambda _: tinycv.grad(ONES[0].sum(), ONES),
        lambda _: tinycv.ones(3).reshape((2,) * 5000),
        lambda _: tinycv.einsum("ab" * 5000, tinycv.ones(3)),
        lambda _: romanised("\u4e02" * 5000),
        lambda _: day_of("x" * 5000),
    ],
    ids=range(19),
)
def test_a_message_does_not_grow_with_the_number_of_mistakes(call, tmp_path):
    with pytest.raises((TypeError, ValueError)) as caught:
        call(tmp_path)
    assert len(str(caught.value)) < 2000
