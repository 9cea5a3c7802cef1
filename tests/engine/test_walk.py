"""The backward pass: which Nodes it visits, in which order, and which gradients it returns."""

from __future__ import annotations

import sys
import weakref
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near import near

import tinycv
from tinycv import Tensor, enable_grad, grad, no_grad
from tinycv.engine import ops, walk
from tinycv.engine.fused import PAIRS, fused
from tinycv.engine.record import op
from tinycv.nn.functional import softmax


def leaf(data, device="cpu", dtype="float64"):
    return Tensor(np.array(data), dtype=dtype, device=device, requires_grad=True)


def values(tensors):
    return [t.numpy().tolist() for t in tensors]


# ── long, wide and tangled graphs ────────────────────────────────────────────────────────────────


def chain(x, length=100_000):
    for _ in range(length):
        x = -x
    return x


def test_backward_works_on_a_chain_of_100_000_ops():
    x = leaf(3.0)
    chain(x).backward()
    assert x.grad.item() == 1


def test_a_chain_of_100_000_ops_is_freed_without_recursion():
    x = leaf(3.0)
    y = chain(x)
    first = weakref.ref(y)
    # There is no backward pass; when y is deleted, the whole chain is freed.
    del y
    assert first() is None and x.grad is None


def test_a_long_chain_can_be_differentiated_again():
    x = leaf(3.0)
    (slope,) = grad(chain(x, 20_000) * x, x, create_graph=True)
    assert slope.item() == 6
    assert grad(slope, x)[0].item() == 2


def test_in_a_chain_of_sixty_doublings_each_node_is_visited_once(monkeypatch, device):
    visits, pieces = [], ops.add.row.pieces
    monkeypatch.setattr(
        ops.add.row, "pieces", lambda node, *rest: visits.append(node) or pieces(node, *rest)
    )
    x = y = leaf(1.0, device)
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60 and len(visits) == len(set(visits)) == 60


def test_a_diamond_sums_its_two_paths(device):
    x = leaf([0.5, 2.0], device)
    y = x * x
    (y.exp() + y * 3).sum().backward()
    np.testing.assert_allclose(
        x.grad.numpy(), 2 * x.numpy() * (np.exp(x.numpy() ** 2) + 3), rtol=1e-14
    )


def test_a_gradient_is_complete_before_it_is_passed_on_if_an_early_and_a_late_op_use_the_input(
    device,
):
    x = leaf(2.0, device)
    y = x * 1.0
    # y², where y reaches the product by a long path and by a short one
    late = y.exp().log().exp().log() * y
    late.backward()
    assert x.grad.item() == pytest.approx(4.0, rel=1e-14)


def test_a_gradient_shared_by_two_inputs_is_not_changed_by_a_later_piece_for_one_of_them(
    device,
):
    a, b, c = (leaf([1.0, 2.0], device) for _ in range(3))
    weight = Tensor([1.0, 10.0], dtype="float64", device=device)
    # All of them first get the same array g.
    (((c + (a + b)) + a) + a).backward(weight)
    assert values([a.grad, b.grad, c.grad, weight]) == [[3, 30], [1, 10], [1, 10], [1, 10]]


# ── which gradients are returned ─────────────────────────────────────────────────────────────────


def test_backward_adds_to_grad_and_grad_does_not(device):
    x = leaf([1.0, 2.0], device)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert grad((x * x).sum(), x)[0].numpy().tolist() == [2, 4]
    assert x.grad.numpy().tolist() == [4, 8]


def test_backward_sets_grad_of_leaves_only(device):
    x, constant = leaf([1.0], device), Tensor([2.0], device=device)
    y = x * constant
    y.backward()
    assert x.grad.item() == 2 and y.grad is None and constant.grad is None


def test_grad_works_for_an_intermediate_tensor(device):
    x = leaf([1.0, 2.0], device)
    y = x * 3
    z = (y * y + x).sum()
    assert values(grad(z, (y, x))) == [[6, 12], [19, 37]]


def test_the_gradient_of_a_tensor_with_respect_to_itself_is_one(device):
    x = leaf(2.0, device)
    y = x * 3
    assert values([*grad(y, y), *grad(x, x)]) == [1, 1]


def test_several_outputs_are_weighted_and_summed(device):
    x = leaf([1.0, 2.0], device)
    weights = [Tensor([1.0, 0.0], device=device), Tensor(2.0, device=device)]
    assert values(grad([x * x, x.sum()], x, weights)) == [[4, 2]]


def test_gradients_that_are_not_needed_are_not_computed(monkeypatch):
    x, y = leaf(2.0), leaf(3.0)
    product = x.exp() * ops.sin(y)
    monkeypatch.setattr(
        ops.exp.row, "pulls", (lambda *_: pytest.fail("the gradient of x is not needed"),)
    )
    assert grad(product, y)[0].item() == pytest.approx(np.exp(2) * np.cos(3))


def test_an_unused_input_is_an_error_unless_allow_unused_is_set(device):
    x, y = leaf(1.0, device), leaf(1.0, device)
    with pytest.raises(ValueError, match=r"do not depend on inputs \[1\]"):
        grad(x * x, (x, y))
    assert grad(x * x, (x, y), allow_unused=True)[1] is None


def test_retain_graph_allows_a_second_backward(device):
    x = leaf(3.0, device)
    y = x * x * x
    assert [grad(y, x, retain_graph=True)[0].item(), grad(y, x)[0].item()] == [27, 27]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        grad(y, x)


def test_backward_does_not_release_the_graph_of_another_result_that_shares_only_leaves(device):
    x = leaf(3.0, device)
    a, b = x * x, x.exp()
    a.backward()
    b.backward()
    assert x.grad.item() == pytest.approx(6 + np.exp(3.0))


def test_two_leaves_never_share_the_memory_of_a_gradient():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    given = Tensor([1.0, 1.0], dtype="float64")
    for make in (lambda: a + b, lambda: a.reshape(2) - (-b), lambda: (a + b).expand(2)):
        a.grad = b.grad = None
        make().backward(given)
        arrays = [a.grad.data, b.grad.data, given.data]
        assert not any(
            np.shares_memory(p, q) for p, q in zip(arrays, arrays[1:] + arrays[:1], strict=True)
        )
        assert all(g.flags.writeable for g in arrays)
        a.grad.data[0] = 99
        assert values([b.grad, given]) == [[1, 1], [1, 1]]


def test_a_gradient_is_not_copied_if_it_is_the_only_view_of_its_memory():
    x = leaf(np.ones((2, 3)))
    x.reshape(6).exp().sum().backward()
    assert x.grad.data.base is not None  # a copy would own its memory


def test_a_gradient_is_copied_if_it_is_a_part_of_other_memory():
    x, y = leaf(np.ones(3)), Tensor(np.ones(3))
    tinycv.concatenate([x, y]).exp().sum().backward()
    assert x.grad.data.base is None


def test_the_gradient_of_a_sum_is_a_full_array_and_not_a_broadcast_view():
    x = leaf(np.zeros((2, 3)))
    x.sum().backward()
    # In a broadcast view, this would change every entry.
    x.grad.data[0, 0] = 5
    assert x.grad.numpy().sum() == 5 + 5


def test_a_broadcast_view_is_copied_even_if_it_is_as_large_as_its_base(device):
    def of_one_entry(x):
        return tinycv.concatenate([x.sum(keepdims=True), Tensor(np.ones(3), device=device)]) * 2

    for shape, function in (((3, 1), lambda x: x.mean(axis=1) * 2), ((4,), of_one_entry)):
        x = leaf(np.ones(shape), device)
        function(x).sum().backward()
        x.grad += 1  # a broadcast view is read-only, or all its entries share memory
        assert values([x.grad]) == [np.full(shape, 3.0).tolist()]
        x.grad[0] = 5
        assert values([x.grad.reshape(-1)]) == [[5.0] + [3.0] * (x.size - 1)]


# ── gradients do not share memory ────────────────────────────────────────────────────────────────


def test_no_two_gradients_share_memory_with_each_other_or_with_the_callers_weights(device):
    a, b, c = (Tensor(np.ones((3, 3)), device=device, requires_grad=True) for _ in range(3))
    weight = Tensor(np.full((3, 3), 2.0), device=device)
    # The pulls pass the same array to all three leaves, and it is the array of ``weight``.
    (a + b + c.reshape((9,)).reshape((3, 3))).backward(weight)
    for leaf in (a, b, c):
        leaf.grad._data[...] = 7.0
        assert (weight.numpy() == 2).all()
        assert [float(other.grad.numpy().max()) for other in (a, b, c)].count(7.0) == 1
        leaf.grad._data[...] = 2.0


def test_a_gradient_that_a_pull_keeps_a_reference_to_is_copied():
    x, kept = Tensor(np.ones(4), requires_grad=True), []
    mine = op(lambda xp, x: 2 * x, x=lambda g: kept.append(2 * g) or kept[-1])
    mine(x).sum().backward()
    x.grad._data[...] = 9.0
    assert kept[0].tolist() == [2.0] * 4


def test_a_gradient_without_other_references_is_not_copied():
    x, places = Tensor(np.ones(4), requires_grad=True), []

    def pull(g):
        made = 2 * g
        places.append(made.ctypes.data)
        return made

    op(lambda xp, x: 2 * x, x=pull)(x).sum().backward()
    assert x.grad._data.ctypes.data == places[0]


# ── wide graphs: the work is linear in the number of ops ──


def one_leaf_into_many(n, leaf):
    return tinycv.stack([leaf * 2.0 for _ in range(n)]).sum()


def concatenated(n, leaf):
    return tinycv.concatenate([leaf.reshape((1,)) * 2.0 for _ in range(n)]).sum()


def concatenated_along_the_last_axis(n, leaf):
    return tinycv.concatenate([leaf.reshape((1, 1)) * 2.0 for _ in range(n)], axis=-1).sum()


def split_and_joined(n, leaf):
    return tinycv.concatenate([part * 2.0 for part in (leaf + tinycv.zeros(n)).split(n)]).sum()


def rows_of_one(n, leaf):
    return tinycv.stack([row * 2.0 for row in leaf + tinycv.zeros(n)]).sum()


def a_sum_of_many(n, leaf):
    return sum(leaf * 2.0 for _ in range(n))


def many_outputs(n, leaf):
    return [leaf * 2.0 for _ in range(n)]


def many_leaves(n, leaf):
    return tinycv.concatenate(
        [tinycv.Parameter(np.ones(1)) for _ in range(n)] + [leaf.reshape((1,))]
    ).sum()


def calls_of(work):
    """How many Python functions are called (each step of a generator counts): a measure of the work
    that does not depend on a clock."""
    count = [0]

    def note(frame, event, argument):
        count[0] += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count[0]


@pytest.mark.parametrize(
    "graph",
    [
        one_leaf_into_many,
        concatenated,
        concatenated_along_the_last_axis,
        split_and_joined,
        rows_of_one,
        a_sum_of_many,
        many_outputs,
        many_leaves,
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_does_as_much_work_per_op_in_a_wide_graph_as_in_a_narrow_one(graph, create_graph):
    per_op = []
    for n in (100, 800):
        leaf = Tensor(np.ones(()), requires_grad=True)
        per_op.append(
            calls_of(partial(tinycv.grad, graph(n, leaf), leaf, create_graph=create_graph)) / n
        )
    assert per_op[1] < 1.2 * per_op[0], per_op


def test_100_000_tensors_can_be_concatenated_and_differentiated():
    leaf, n = Tensor(np.ones(1), requires_grad=True), 100_000
    tinycv.concatenate([leaf] * n).sum().backward()
    assert leaf.grad.item() == n


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones(2, np.float32),
        Tensor([1.0, 2.0]),
        Tensor(1.0),
        "abc",
        3,
        *[Tensor(np.ones((2, 2), dtype)) for dtype in ("float16", "float64", "int64", "bool")],
    ],
)
def test_a_grad_of_wrong_shape_or_dtype_set_by_the_user_is_refused_before_any_grad_is_changed(
    wrong,
):
    a, b = (Tensor(np.ones((2, 2), np.float32), requires_grad=True) for _ in range(2))
    b.grad = wrong
    with pytest.raises(ValueError, match=r"the .grad of a leaf of float32 and shape \(2, 2\) is"):
        (a * b).sum().backward()
    assert a.grad is None and b.grad is wrong


# ── float16 gradients are added in float32 and rounded once ──────────────────────────────────────

MEETING = {
    "as it is": lambda x: x * 1.0,
    "spread": lambda x: x.expand((2, 3))[0],
    "a part of it": lambda x: x[:3],
    "one by one": lambda x: tinycv.stack([x[0], x[1], x[2]]),
    "in float32": lambda x: x.astype("float32").astype("float16"),
    "both": lambda x: tinycv.where(x > 0, x, x[::-1]),
}


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("inner", [False, True], ids=["leaf", "node"])
@pytest.mark.parametrize("way", MEETING)
def test_ones_added_to_2048_in_a_float16_gradient_all_count(way, inner, recorded, device):
    leaf = tinycv.tensor(np.full(3, 0.5, np.float16), requires_grad=True, device=device)
    x = leaf * 1.0 if inner else leaf
    uses = tinycv.stack([MEETING[way](x) for _ in range(201)])
    # The newest piece is added first. In float16, 2048 + 1 is 2048.
    weights = np.array([[1.0]] * 200 + [[2048.0]], np.float32)
    loss = (uses.astype("float32") * tinycv.tensor(weights, device=device)).sum()
    (g,) = tinycv.grad(loss, leaf, create_graph=recorded)
    assert uses.dtype == g.dtype == np.float16 and (g.numpy() == 2248).all()


def test_the_gradient_of_a_float16_number_used_often_is_exact_and_may_leave_the_range_in_between():
    x = tinycv.tensor(np.float16(0.5), requires_grad=True)
    total = x * 0.0
    for _ in range(3000):
        total = total + x * 1.0
    total.backward()
    assert x.grad.item() == 3000 and x.grad.dtype == np.float16
    y = x * 40000.0 + x * 40000.0 - x * 40000.0  # 80000 exceeds the range of float16
    assert tinycv.grad(y, x)[0].item() == 40000


def test_the_weights_of_a_long_float16_rnn_get_the_gradients_of_float32():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8, 3)).astype(np.float16)
    for kind in (tinycv.sequence.RNN, tinycv.sequence.GRU):
        half, single = kind(3, 4).to("float16"), kind(3, 4)
        single.load_state_dict(half.state_dict())
        for layer in (half, single):
            (layer(tinycv.tensor(x.astype(layer.weight_ih_l0.dtype)))[0] * 0.1).sum().backward()
        for (name, p), q in zip(half.named_parameters(), single.parameters(), strict=True):
            true = q.grad.numpy()
            assert np.abs(p.grad.numpy() - true).max() < 0.005 * np.abs(true).max(), (
                kind.__name__,
                name,
            )


# ── the definition (walk.py) and what runs (backward.py) ─────────────────────────────────────────


@fused
def sum_and_product(a, b):
    """A pair with two results."""
    return a + b, a * b


@sum_and_product.kernel
def _(xp, a, b):
    def pull(g):
        for_sum, for_product = g
        da = 0.0 if for_product is None else for_product * b
        db = 0.0 if for_product is None else for_product * a
        if for_sum is not None:
            da, db = da + for_sum, db + for_sum
        return da, db

    return (a + b, a * b), pull


del PAIRS["sum_and_product"]  # used only in this file; the certificate has no cases for it

# Each step of a random program takes two existing values of shape (2, 3), and computes a new one.
STEPS = {
    "mul": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "the same twice": lambda a, b: a + a,
    "broadcast": lambda a, b: a * b.sum(axis=0) + b[:, :1],
    "an index": lambda a, b: a[[1, 0]] + b[[0, 0]],
    "a slice": lambda a, b: tinycv.concatenate([a[:, 1:], b[:, :1]], axis=1),
    "tanh": lambda a, b: tinycv.tanh(a),
    "softmax": lambda a, b: softmax(a) * b,
    "both results": lambda a, b: sum(sum_and_product(a, b)),
    "one result": lambda a, b: sum_and_product(a, b)[1],
    "cut off": lambda a, b: a.detach() * b,
    "matmul": lambda a, b: a @ (b.T @ a),
}
PROGRAMS = st.lists(
    st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=12,
)


def result_of(program, leaves):
    """The sum of all values that a program computes, also of those that no step uses."""
    values = list(leaves)
    for name, i, j in program:
        # tanh keeps products of products near 1
        values.append(tinycv.tanh(STEPS[name](values[i % len(values)], values[j % len(values)])))
    return sum(value.sum() for value in values)


@settings(max_examples=150, deadline=None)
@given(program=PROGRAMS, seed=st.integers(0, 2**32 - 1))
def test_sweep_gives_the_gradients_of_the_definition(program, seed):
    rng = np.random.default_rng(seed)
    leaves = [Tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in range(2)]
    y = result_of(program, leaves)
    with no_grad():
        read = walk.gradients([y], [np.ones(())])
    run = grad(y, leaves, retain_graph=True)
    for leaf, g in zip(leaves, run, strict=True):
        near(g.numpy(), read[leaf], rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(program=PROGRAMS, seed=st.integers(0, 2**32 - 1))
def test_a_recorded_sweep_gives_the_same_and_both_can_be_differentiated_again(program, seed):
    rng = np.random.default_rng(seed)
    leaves = [Tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in range(2)]
    y = result_of(program, leaves)
    with enable_grad():
        read = walk.gradients([y], [tinycv.ones((), dtype="float64")], record=True)
    run = grad(y, leaves, create_graph=True)
    for leaf, g in zip(leaves, run, strict=True):
        near(g.numpy(), read[leaf].numpy(), rtol=1e-9)

    def bends(slopes):
        curved = [(slope * slope).sum() for slope in slopes if slope.requires_grad]
        return grad(curved, leaves, retain_graph=True, allow_unused=True) if curved else []

    for again, expected in zip(bends(run), bends([read[x] for x in leaves]), strict=True):
        assert (again is None) == (expected is None)
        if again is not None:
            near(again.numpy(), expected.numpy(), rtol=1e-7)


def test_the_comparison_fails_if_the_definition_has_no_order_or_no_unbroadcast(monkeypatch):
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = x.exp()
    z = (y * y.tanh() + y * x.sum()).sum()  # one number for all: its gradient is summed
    (right,) = grad(z, x, retain_graph=True)

    def read():
        with no_grad():
            return walk.gradients([z], [np.ones(())]).get(x, np.zeros(2))

    near(read(), right.numpy(), rtol=1e-12)
    latest = walk.latest_first
    with monkeypatch.context() as patch:
        patch.setattr(walk, "latest_first", lambda outputs: latest(outputs)[::-1])
        assert not np.allclose(read(), right.numpy())
    with monkeypatch.context() as patch:
        patch.setattr(walk, "unbroadcast", lambda g, shape: g.reshape(-1)[0].reshape(shape))
        assert not np.allclose(read(), right.numpy())
