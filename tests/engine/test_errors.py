"""Error messages for wrong inputs: each says what was wrong and what to do."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, grad, no_grad
from tinycv.engine import ops
from tinycv.engine.fused import PAIRS


def tensor(shape, device="cpu", dtype="float32", requires_grad=True):
    return Tensor(np.ones(shape), dtype=dtype, device=device, requires_grad=requires_grad)


def sentence(*parts):
    """A pattern of these parts in this order, with anything between them."""
    return r"(?s)" + ".*".join(re.escape(str(part)) for part in parts)


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda a, b: a + b, "add"),
        (lambda a, b: a - b, "sub"),
        (lambda a, b: a * b, "mul"),
        (lambda a, b: a / b, "div"),
        (lambda a, b: a**b, "power"),
        (ops.maximum, "maximum"),
        (lambda a, b: ops.where(a > 0, a, b), "where"),
        (lambda a, b: a > b, "greater"),
    ],
)
def test_shapes_that_do_not_broadcast_name_the_op_both_shapes_and_the_axis(call, name, device):
    a, b = tensor((2, 3, 4), device), tensor((5, 1), device)
    with pytest.raises(
        ValueError, match=sentence(f"{name}: ", "(2, 3, 4)", "(5, 1)", "axis -2", "3 and 5")
    ):
        call(a, b)


@pytest.mark.parametrize(
    "a, b, said",
    [
        (
            (2, 3),
            (4, 5),
            [
                "matmul: ",
                "(2, 3) @ (4, 5)",
                "axis -1 of the first has 3, axis -2 of the second has 4",
            ],
        ),
        ((2, 3), (4,), ["(2, 3) @ (4, 1)", "has 3, axis -2 of the second has 4"]),
        ((2, 2, 3), (5, 3, 4), ["matmul: ", "(2, 2, 3) @ (5, 3, 4)", "2 and 5"]),
        ((), (3,), ["matmul: ", "() @ (3,)", "a single number", "use *"]),
    ],
)
def test_matrices_that_do_not_multiply_name_the_shapes_and_the_axes(a, b, said, device):
    a, b = tensor(a, device), tensor(b, device)
    with pytest.raises(ValueError, match=sentence(*said)):
        a @ b


def test_a_matrix_times_a_python_number_is_refused_in_the_same_words():
    for call in (lambda x: x @ 3.0, lambda x: 3.0 @ x):
        with pytest.raises(ValueError, match=sentence("matmul: ", "a single number", "use *")):
            call(tensor((2, 2)))


@pytest.mark.parametrize(
    "call, error, said",
    [
        (lambda x: x.reshape(5), ValueError, ["reshape: ", "(2, 3)", "shape=(5,)"]),
        (lambda x: x.sum(axis=2), ValueError, ["sum: ", "axis is 2", "(2, 3)"]),
        (lambda x: x[2], IndexError, ["getitem: ", "index 2", "(2, 3)"]),
        (lambda x: x[[0, 7]], IndexError, ["7"]),
        (
            lambda x: tinycv.concatenate([x, x.reshape(6)]),
            ValueError,
            ["concatenate: ", "(2, 3)", "(6,)"],
        ),
        (
            lambda x: tinycv.split(x, 2, axis=1),
            ValueError,
            ["split: ", "axis 1", "size 3", "2 equal parts"],
        ),
        (
            lambda x: tinycv.einsum("ij,jk->ik", x),
            ValueError,
            ["einsum: ", "names 2 operands", "1 were given"],
        ),
        (
            lambda x: PAIRS["linear"](x, tensor((4, 5))),
            ValueError,
            ["linear: ", "(2, 3)", "(4, 5)"],
        ),
    ],
)
def test_other_shapes_name_the_op_and_its_inputs(call, error, said):
    with pytest.raises(error, match=sentence(*said)):
        call(tensor((2, 3)))


def test_a_list_of_unequal_rows_is_refused():
    with pytest.raises((TypeError, ValueError), match="rows|inhomogeneous"):
        Tensor([[1.0, 2.0], [3.0]])


# ── gradients ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", [[1, 2], [True, False]])
def test_a_tensor_of_integers_cannot_require_a_gradient(data, device):
    with pytest.raises(
        TypeError, match=sentence("cannot require a gradient", "dtype=tinycv.float32")
    ):
        Tensor(data, device=device, requires_grad=True)


def test_backward_of_several_numbers_asks_for_a_reduction_or_weights(device):
    with pytest.raises(
        RuntimeError, match=sentence("(2, 3), not a single number", ".sum()", "pass the gradient")
    ):
        (tensor((2, 3), device) * 2).backward()


def test_a_gradient_of_another_shape_is_refused(device):
    with pytest.raises(
        ValueError, match=sentence("the gradient has shape (3,), the result (2, 3)")
    ):
        (tensor((2, 3), device) * 2).backward(tensor(3, device, requires_grad=False))


def test_backward_twice_mentions_retain_graph(device):
    y = tensor((), device).exp()
    y.backward()
    with pytest.raises(
        RuntimeError, match=sentence("released graph", "'exp'", "retain_graph=True")
    ):
        y.backward()


@pytest.mark.parametrize(
    "make", [lambda x: x.detach().sum(), lambda x: (x > 0).sum(), lambda x: no_grad()(x.sum)()]
)
def test_backward_without_a_graph_says_what_may_have_cut_it(make, device):
    with pytest.raises(
        RuntimeError,
        match=sentence("requires a gradient", "requires_grad=True", "no_grad() also cut"),
    ):
        make(tensor((2,), device)).backward()


def test_grad_names_the_input_that_requires_no_gradient(device):
    x = tensor((2,), device)
    with pytest.raises(
        ValueError, match=sentence("input 1", "(3,)", "does not require a gradient")
    ):
        grad(x.sum(), (x, tensor(3, device, requires_grad=False)))


def test_grad_says_that_an_integer_can_have_no_gradient(device):
    whole = Tensor(np.arange(3), device=device)
    with pytest.raises(ValueError, match="only floats can, and it is int64"):
        grad(tensor((2,), device).sum(), whole)


def test_grad_needs_one_weight_for_each_output():
    x = tensor((2,))
    with pytest.raises(ValueError, match="2 outputs but 1 grad_outputs"):
        grad([x.sum(), x.sum()], x, [Tensor(1.0)])


def test_requires_grad_of_a_computed_tensor_cannot_be_set_to_false():
    y = tensor((2,)) * 2
    with pytest.raises(ValueError, match=r"detach\(\)"):
        y.requires_grad = False


# ── devices ──────────────────────────────────────────────────────────────────────────────────────

MIXED = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "matmul": lambda a, b: a @ b,
    "maximum": ops.maximum,
    "concatenate": lambda a, b: tinycv.concatenate([a, b]),
    "where": lambda a, b: ops.where(a > 0, a, b),
    "linear": lambda a, b: PAIRS["linear"](a, b),
}


@pytest.mark.parametrize("first", ["cpu", "gpu:0"])
@pytest.mark.parametrize("name", MIXED)
def test_the_error_for_mixed_devices_names_both_and_says_how_to_move(double, name, first):
    other = {"cpu": "gpu:0", "gpu:0": "cpu"}[first]
    with pytest.raises(
        ValueError,
        match=sentence(
            f"{name}: inputs live on different devices", f"on {first}", f"on {other}", ".to("
        ),
    ):
        MIXED[name](tensor((2, 2), first), tensor((2, 2), other))
