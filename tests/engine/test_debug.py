"""tinycv.debug(): it names the first op, forward or backward, that produced NaN or Inf, the line of
the user's code, and the inputs."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from tinycv import Tensor, debug, no_grad
from tinycv.engine.fused import PAIRS


def sentence(*parts):
    """A pattern of these parts in this order, with anything between them."""
    return r"(?s)" + ".*".join(re.escape(str(part)) for part in parts)


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def line_of(mark):
    """The number of the line in this file that ends with the mark."""
    return next(
        i
        for i, line in enumerate(open(__file__, encoding="utf-8"), 1)
        if line.rstrip().endswith("# " + mark)
    )


def test_debug_names_the_first_op_forward_its_line_and_the_ranges_of_its_inputs(silent, device):
    x = Tensor([4.0, -1.0, 0.5], device=device, requires_grad=True)
    with (
        debug(),
        pytest.raises(
            FloatingPointError,
            match=sentence(
                "forward: 'log' at ",
                f"{__file__}:{line_of('made here')}",
                "1 NaN and 0 Inf among 3 values",
                "all its inputs are finite",
                "float32 (3,) in [-1, 4]",
            ),
        ),
    ):
        y = x.log()  # made here
        (y * 0).sum()


def test_debug_names_the_first_op_backward_and_the_line_that_recorded_it(silent, device):
    x = Tensor([0.0, 4.0], device=device, requires_grad=True)
    with debug():
        y = x.sqrt()  # recorded here
        z = y.sum()
        with pytest.raises(
            FloatingPointError,
            match=sentence(
                "backward: the derivative of 'sqrt', recorded at ",
                f"{__file__}:{line_of('recorded here')}",
                "0 NaN and 1 Inf",
                "the gradient that reached it is finite",
                "Gradient: float32 (2,) in [1, 1]",
                "It had saved: float32 (2,) in [0, 2]",
            ),
        ):
            z.backward()


def test_debug_finds_a_nan_in_the_forward_pass_of_a_pair(silent):
    x = Tensor([[1e30, 1e30]], requires_grad=True)
    with (
        debug(),
        pytest.raises(FloatingPointError, match=sentence("forward: 'linear' at ", __file__, "Inf")),
    ):
        PAIRS["linear"](x, Tensor([[1e30, 1e30]]))


def test_debug_finds_a_nan_in_the_backward_pass_of_a_pair(silent):
    x, weight = Tensor([[1e-30]], requires_grad=True), Tensor([[1e30]])
    with debug():
        y = PAIRS["linear"](x, weight)
        with pytest.raises(
            FloatingPointError,
            match=sentence("backward: the derivative of 'linear'", __file__, "Inf"),
        ):
            y.backward(Tensor([[1e30]]))


def test_debug_says_if_an_input_was_not_finite_already(silent):
    x = Tensor([np.nan, 1.0], requires_grad=True)
    with (
        debug(),
        pytest.raises(
            FloatingPointError, match=sentence("'exp'", "input 0 was not finite already")
        ),
    ):
        x.exp()


def test_debug_ends_with_its_block_and_can_be_left_on(silent):
    x = Tensor([-1.0], requires_grad=True)
    with debug():
        pass
    assert np.isnan(x.log().item())
    debug()
    try:
        with pytest.raises(FloatingPointError):
            x.log()
    finally:
        debug(False)
    assert np.isnan(x.log().item())


def test_debug_does_not_change_any_result(device):
    def slope():
        x = Tensor(np.linspace(0.1, 1, 6).reshape(2, 3), device=device, requires_grad=True)
        PAIRS["softmax"](x.tanh() @ x.T).norm().backward()
        return x.grad.numpy()

    with debug():
        checked = slope()
    assert np.array_equal(checked, slope())


def test_debug_works_under_no_grad_and_ends_with_its_block():
    x = Tensor(np.zeros(2, np.float32))
    with np.errstate(divide="ignore"):
        with debug(), no_grad(), pytest.raises(FloatingPointError, match="'log'"):
            x.log()
        assert np.isinf(x.log().numpy()).all()


def test_one_debug_object_may_be_entered_again_and_nested():
    x, hunt = Tensor(np.array([-1.0], np.float32)), debug()
    for _ in range(3):
        with hunt, hunt, pytest.raises(FloatingPointError):
            x.log()
        assert np.isnan(x.log().item())
