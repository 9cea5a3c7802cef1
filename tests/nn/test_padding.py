"""Padding images: constant, reflect, replicate; derivatives; wrong arguments."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor, nn
from tinycv.engine.check import certify
from tinycv.nn.functional import pad

RNG = np.random.default_rng(0)
MODES = "constant", "reflect", "replicate"
NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("constant", [0, 0, 1, 2, 3, 4, 0]),
        ("reflect", [3, 2, 1, 2, 3, 4, 3]),
        ("replicate", [1, 1, 1, 2, 3, 4, 4]),
    ],
)
def test_a_row_is_padded_as_the_table_in_the_file_shows(mode, expected):
    x = Tensor(np.arange(1, 5).reshape(1, 1, 1, 4))
    assert pad(x, (2, 1, 0, 0), mode).numpy()[0, 0].tolist() == [expected]


@given(
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    amounts=st.tuples(*[st.integers(0, 5)] * 4),
    mode=st.sampled_from(MODES),
)
def test_it_equals_the_padding_of_numpy(sides, amounts, mode):
    if mode == "reflect":  # at most side - 1
        amounts = tuple(min(n, sides[1 - i // 2] - 1) for i, n in enumerate(amounts))
    left, right, top, bottom = amounts
    x = RNG.normal(size=(2, 1, *sides))
    expected = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), NUMPY[mode])
    assert np.array_equal(pad(Tensor(x), amounts, mode).numpy(), expected)


def test_value_fills_the_border():
    y = pad(tinycv.zeros(1, 2, 2), (1, 0, 0, 2), value=-1.5).numpy()[0]
    assert (y == [[-1.5, 0, 0], [-1.5, 0, 0], [-1.5] * 3, [-1.5] * 3]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("amounts", [(1, 2, 2, 0), (0, 0, 0, 0), (3, 3, 2, 2)])
def test_padding_is_certified(mode, amounts, device):
    certify(partial(pad, pad=amounts, mode=mode), RNG.normal(size=(2, 1, 3, 4)), device=device)


@pytest.mark.parametrize("mode", MODES)
def test_a_pixel_receives_the_gradient_of_each_of_its_copies(mode, device):
    numbers = np.arange(12).reshape(1, 1, 3, 4)
    copies = pad(Tensor(numbers), (2, 1, 1, 2), mode, value=-1 if mode == "constant" else 0)
    x = Tensor(numbers.astype(np.float32), device=device, requires_grad=True)
    pad(x, (2, 1, 1, 2), mode).sum().backward()
    counted = [(copies.numpy() == n).sum() for n in range(12)]
    assert x.grad.numpy().ravel().tolist() == counted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "float32", "float64"])
def test_padding_keeps_the_dtype(dtype, mode):
    assert pad(Tensor(np.ones((1, 3, 3), dtype)), (1, 1, 1, 1), mode).dtype == dtype


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_a_constant_image_has_no_visible_border(mode):
    assert (
        pad(tinycv.full((1, 1, 4, 4), 0.3), (3, 2, 1, 3), mode).numpy() == np.float32(0.3)
    ).all()


@pytest.mark.parametrize(
    "layer, mode",
    [
        (nn.ZeroPad2d, "constant"),
        (nn.ReflectionPad2d, "reflect"),
        (nn.ReplicationPad2d, "replicate"),
    ],
)
def test_a_layer_is_the_function_with_its_settings(layer, mode):
    x = Tensor(RNG.normal(size=(2, 3, 5, 4)))
    assert np.array_equal(layer(2)(x).numpy(), pad(x, (2, 2, 2, 2), mode).numpy())
    assert np.array_equal(layer((0, 1, 2, 3))(x).numpy(), pad(x, (0, 1, 2, 3), mode).numpy())


X = tinycv.ones(1, 2, 3, 4)


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: pad(X, (4, 0, 0, 0), "reflect"),
            r"pad is \(4, 0, 0, 0\) .*; reflection needs sides longer than that.*\(1, 2, 3, 4\)",
        ),
        (lambda: nn.ReflectionPad2d((0, 0, 0, 3))(X), "reflection needs sides longer"),
        (lambda: pad(X, (1, -1, 0, 0)), r"pad\[1\] is -1; it must be a whole number, at least 0"),
        (lambda: pad(X, (1, 1)), "pad: pad has 2 numbers; it must have 4"),
        (lambda: nn.ZeroPad2d((1, 2)), "ZeroPad2d: padding has 2 numbers; it must have 4"),
        (lambda: pad(X, (1, 1, 1, 1), "circular"), "mode is 'circular'; it must be one of"),
        (
            lambda: pad(X, (1, 1, 1, 1), "reflect", 1.0),
            "value is 1.0; mode 'reflect' copies pixels",
        ),
        (lambda: pad(X[0, 0, 0], (1, 1, 1, 1)), r"x has shape \(4,\); it must be \(..., H, W\)"),
        (lambda: pad(X.astype(int), (1, 1, 1, 1), value=0.5), "value is 0.5.*a whole number"),
        (
            lambda: pad(tinycv.ones(1, 0, 4), (1, 1, 1, 1), "replicate"),
            "it has no pixel to replicate",
        ),
    ],
    ids=range(10),
)
def test_a_wrong_call_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
