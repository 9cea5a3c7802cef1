"""nn.checkpoint: the same values and gradients to the last bit, at every order, in less memory."""

from __future__ import annotations

import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, nn
from tinycv.engine import rng
from tinycv.nn.functional import dropout
from tinycv.sequence import TransformerEncoderLayer

RNG = np.random.default_rng(0)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


def leaf(*shape, device="cpu"):
    return Tensor(RNG.normal(size=shape), device=device, requires_grad=True)


def same(function, *leaves, others=()):
    """Check that values and gradients are those of the function itself, up to rounding (three
    pieces of one gradient may be added in another order). Returns the gradients."""
    runs = []
    for f in (function, nn.checkpoint(function)):
        tinycv.manual_seed(3)
        y = f(*leaves)
        ys = [part for part in (y if isinstance(y, tuple) else [y]) if isinstance(part, Tensor)]
        slopes = tinycv.grad(
            sum((part * part).sum() for part in ys), [*leaves, *others], retain_graph=True
        )
        runs.append([*ys, *slopes])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)
    return runs[1][len(ys) :]


def test_gradients_flow_to_arguments_parameters_and_variables_of_a_closure(device):
    layer, seen = nn.Linear(4, 4).to(device), leaf(3, 4, device=device)
    # This is not a leaf: its gradient is passed on to ``seen``.
    made = seen.exp()
    gradients = same(
        lambda x, y: (layer(x) * made + y).tanh(),
        leaf(3, 4, device=device),
        leaf(3, 4, device=device),
        others=[seen, *layer.parameters()],
    )
    assert len(gradients) == 5 and all(g.numpy().any() for g in gradients)


def test_a_module_takes_options_and_its_parameters_get_their_gradients(device):
    # The noise on a GPU cannot be replayed, so inside a checkpoint it is different (rng.marked).
    block = TransformerEncoderLayer(8, 2, 16, dropout=0.3 if device == "cpu" else 0.0).to(device)
    x = leaf(2, 5, 8, device=device)
    same(
        lambda x: nn.checkpoint(block)(x) + block(x, is_causal=True),
        x,
        others=list(block.parameters()),
    )
    nn.checkpoint(block)(x, is_causal=True).sum().backward()
    assert x.grad is not None and all(p.grad is not None for p in block.parameters())


def test_dropout_drops_the_same_entries_in_both_runs(device):
    x = Tensor(np.ones((5, 200)), device=device, requires_grad=True)
    y = nn.checkpoint(lambda x: dropout(x, 0.5) * 3)(x)
    tinycv.manual_seed(9)  # another seed between the two runs makes no difference
    tinycv.rand(7, device=device)
    y.sum().backward()
    assert (x.grad.numpy() == y.numpy()).all() and 0 < (y.numpy() == 0).mean() < 1


def test_noise_after_backward_continues_from_where_the_forward_pass_left_it():
    x = leaf(4)
    y = nn.checkpoint(lambda x: dropout(x, 0.5))(x)
    state = rng.get_rng_state()
    y.sum().backward()
    assert rng.get_rng_state() == state


def test_two_checkpoints_draw_different_noise(device):
    x = Tensor(np.ones(200), device=device, requires_grad=True)
    drop = nn.checkpoint(lambda x: dropout(x, 0.5))
    assert (drop(x).numpy() != drop(x).numpy()).any()


def test_a_checkpoint_inside_a_checkpoint_gives_the_same_gradients(device):
    w = leaf(5, device=device)
    inner = nn.checkpoint(lambda x: dropout(x * w, 0.5).tanh())
    x = leaf(3, 5, device=device)
    outer = nn.checkpoint(lambda x: dropout(inner(x), 0.5) + inner(x * 2))
    y = outer(x)
    plain = y.numpy().copy()
    gx, gw = tinycv.grad(y.sum(), [x, w])
    # The gradient dy/dx shows which entries dropout kept: they must be the same as in the result.
    assert ((gx.numpy() != 0) | (plain == 0)).all() and gw.numpy().any()


def test_a_checkpoint_inside_a_checkpoint_changes_nothing_on_the_host():
    w = leaf(5)
    inner = nn.checkpoint(lambda x: dropout(x * w, 0.5).tanh())
    same(lambda x: dropout(inner(x), 0.5) + inner(x * 2), leaf(3, 5), others=[w])


def test_second_derivatives_are_those_of_the_function(device):
    w, x = leaf(4, device=device), leaf(3, 4, device=device)
    made = tinycv.sin(w * w)
    found = []
    for f in (lambda x: (x * made).tanh().exp(), nn.checkpoint(lambda x: (x * made).tanh().exp())):
        slopes = tinycv.grad((f(x) ** 2).sum(), [x, w], create_graph=True)
        curved = tinycv.grad(sum((s * s).sum() for s in slopes), [x, w], create_graph=True)
        found.append(
            [
                *slopes,
                *curved,
                *tinycv.grad(sum((c * c).sum() for c in curved), [x, w], retain_graph=True),
            ]
        )
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_a_function_with_several_results_may_have_unused_ones(device):
    x, w = leaf(3, device=device), leaf(3, device=device)
    f = nn.checkpoint(lambda x: (x * w, x.exp(), "a word", x))
    first, second, word, third = f(x)
    assert word == "a word" and third is x
    assert (tinycv.grad(second.sum(), x)[0].numpy() == second.numpy()).all()
    again = f(x)
    assert tinycv.grad(again[1].sum(), [x, w], allow_unused=True)[1] is None
    same(lambda x: (x * w, x.exp(), None, x), x, others=[w])
    assert type(nn.checkpoint(lambda x: [x * 1, x * 2])(x)) is list
    pair = nn.checkpoint(lambda x: Pair(x * 1, x * w))(x)
    assert type(pair) is Pair and (pair.second.numpy() == (x * w).numpy()).all()


@pytest.mark.parametrize(
    "function", [lambda x: x, lambda x: x.detach(), lambda x: 3], ids=["x", "detached", "number"]
)
def test_a_result_that_was_not_computed_inside_is_returned_unchanged(function):
    x = leaf(3)
    y = nn.checkpoint(function)(x)
    assert y is x or not getattr(y, "requires_grad", False)


def test_under_no_grad_the_function_itself_runs():
    with tinycv.no_grad():
        assert not nn.checkpoint(lambda x: x * 2)(leaf(3)).requires_grad
    assert not nn.checkpoint(lambda x: x * 2)(Tensor(np.ones(3))).requires_grad


def test_only_needed_gradients_are_computed_in_the_second_run():
    x, y = leaf(3), leaf(3)
    # If the gradient of sqrt(x) at 0, infinity, were computed, debug mode would raise an error.
    with tinycv.debug():
        z = nn.checkpoint(lambda x, y: x.sqrt() + y)(
            Tensor(np.zeros(3), requires_grad=True), y * 1
        ).sum()
        assert (tinycv.grad(z, y)[0].numpy() == 1).all()
    assert x.grad is None


def test_the_function_runs_once_forward_and_once_per_backward_pass():
    runs = []
    x = leaf(3)
    y = nn.checkpoint(lambda x: runs.append(1) or x.exp())(x).sum()
    assert len(runs) == 1
    y.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    y.backward()
    assert len(runs) == 3 and (x.grad.numpy() == 2 * once).all()
    with pytest.raises(RuntimeError, match="released graph"):
        y.backward()


def test_a_leaf_used_inside_and_outside_gets_both_gradients(device):
    """The inner walk must end at the inputs of the function. It must not continue to what they were
    computed from, although that uses the same leaf."""
    w = leaf(3, device=device)
    same(lambda h: h * w, leaf(3, device=device), others=[w])
    runs = []
    for f in (lambda h: h.tanh() * w, nn.checkpoint(lambda h: h.tanh() * w)):
        h = w.exp() * w
        for _ in range(4):
            h = f(h)
        runs.append(tinycv.grad(h.sum(), w)[0].numpy())
    assert (runs[0] == runs[1]).all()


@pytest.mark.parametrize("which", ["argument", "parameter", "computed"])
def test_a_change_in_place_before_backward_is_refused(which):
    x, w = leaf(3), leaf(3)
    h = x * 1
    y = nn.checkpoint(lambda a: a + w + h)(x).sum()
    {"argument": x, "parameter": w, "computed": h}[which].data[0] = 7
    with pytest.raises(RuntimeError, match="saved by 'checkpoint', was changed in place"):
        y.backward()


def test_a_function_that_differs_in_its_second_run_is_refused():
    runs = []
    y = nn.checkpoint(lambda x: runs.append(1) or (x * 2 if len(runs) == 1 else x.detach()))(
        leaf(3)
    ).sum()
    with pytest.raises(
        RuntimeError, match="returned 1 results that need a gradient, and 0 when it ran again"
    ):
        y.backward()


def test_debug_names_the_op_inside_a_checkpoint():
    with tinycv.debug():
        y = nn.checkpoint(lambda x: x.sqrt())(Tensor(np.zeros(1), requires_grad=True)).sum()
        with (
            np.errstate(divide="ignore"),
            pytest.raises(FloatingPointError, match="'sqrt', recorded at .*test_recompute"),
        ):
            y.backward()


def peak_of(blocks, wrap):
    x = Tensor(np.ones((64, 64), np.float32), requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for block in blocks:
            y = wrap(block)(y)
        y.sum().backward()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_deep_stack_of_checkpoints_needs_the_memory_of_one_block():
    def block(x):
        for _ in range(10):
            x = (x * 0.5).tanh()
        return x

    array = 64 * 64 * 4
    plain, saved = (peak_of([block] * 10, wrap) for wrap in (lambda f: f, nn.checkpoint))
    assert plain > 100 * array and saved < 45 * array, (plain / array, saved / array)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_functions_that_call_each_other_and_closures_without_a_value_are_accepted(count):
    def each(i):
        return lambda x: x * 2 if x.size else functions[(i + 1) % count](later)

    functions = [each(i) for i in range(count)]
    nested = [functions]
    for _ in range(20):
        nested = [nested, nested]
    x = Tensor([1.0], requires_grad=True)
    y = nn.checkpoint(lambda x: functions[0](x) if nested else later)(x)
    other = Tensor([1.0])
    # After any write, the backward pass checks the arrays in the closure.
    other[0] = 2
    y.backward()
    assert x.grad.tolist() == [2]
    later = None
