"""The walk back: which nodes it visits and in which order, what it lets go of, what it hands out."""
from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, enable_grad, grad, hvp, no_grad, vjp
from tinycv.engine import ops, walk
from tinycv.engine.cases import cases, names
from tinycv.engine.fused import PAIRS
from tinycv.engine.record import op

RNG = np.random.default_rng(0)


def leaf(data, device="cpu", dtype="float64"):
    return Tensor(np.array(data), dtype=dtype, device=device, requires_grad=True)


def values(tensors):
    return [t.numpy().tolist() for t in tensors]


# ── long, wide and tangled graphs ────────────────────────────────────────────────────────────────

def chain(x, length=100_000):
    for _ in range(length):
        x = -x
    return x


def test_a_chain_of_100_000_ops_is_walked():
    x = leaf(3.0)
    chain(x).backward()
    assert x.grad.item() == 1


def test_a_chain_of_100_000_ops_is_freed_without_recursion():
    x = leaf(3.0)
    y = chain(x)
    first = weakref.ref(y)
    del y                                                           # never walked: the whole chain hangs on y
    assert first() is None and x.grad is None


def test_a_long_chain_can_be_differentiated_again():
    x = leaf(3.0)
    slope, = grad(chain(x, 20_000) * x, x, create_graph=True)
    assert slope.item() == 6
    assert grad(slope, x)[0].item() == 2


def test_sixty_doublings_visit_each_node_once(monkeypatch, device):
    visits, pieces = [], ops.add.row.pieces
    monkeypatch.setattr(ops.add.row, "pieces", lambda node, *rest: visits.append(node) or pieces(node, *rest))
    x = y = leaf(1.0, device)
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0 ** 60 and len(visits) == len(set(visits)) == 60


def test_a_diamond_sums_its_two_paths(device):
    x = leaf([0.5, 2.0], device)
    y = x * x
    (y.exp() + y * 3).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy() * (np.exp(x.numpy() ** 2) + 3), rtol=1e-14)


def test_an_input_used_by_a_late_op_and_an_early_one_is_complete_before_it_passes_on(device):
    x = leaf(2.0, device)
    y = x * 1.0
    late = y.exp().log().exp().log() * y                            # y² by a long way and a short one
    late.backward()
    assert x.grad.item() == pytest.approx(4.0, rel=1e-14)


def test_a_gradient_that_reaches_two_inputs_is_not_changed_by_what_reaches_one_of_them_later(device):
    a, b, c = (leaf([1.0, 2.0], device) for _ in range(3))
    weight = Tensor([1.0, 10.0], dtype="float64", device=device)
    (((c + (a + b)) + a) + a).backward(weight)                      # one array g goes to all of them first
    assert values([a.grad, b.grad, c.grad, weight]) == [[3, 30], [1, 10], [1, 10], [1, 10]]


# ── memory ───────────────────────────────────────────────────────────────────────────────────────

def test_saved_arrays_are_released_as_the_walk_passes():
    seen = []
    spy = op(lambda xp, x: x * 1, x=lambda g: seen.append([ref() is None for ref in refs]) or g)
    x = leaf(np.ones(1000))
    refs, y = [], spy(x)                                            # the first op is the last to be walked
    for _ in range(5):
        y = y.exp() if len(refs) % 2 else y.tanh()                  # each saves its own result
        refs.append(weakref.ref(y._data))
    loss = y.sum()
    del y
    loss.backward()
    assert seen == [[True] * 5]                                     # all gone, while the walk was still under way


def test_retain_graph_keeps_what_was_saved():
    y = leaf(np.ones(3)).exp()
    saved = weakref.ref(y._data)
    loss = y.sum()
    del y
    loss.backward(retain_graph=True)
    assert saved() is not None
    loss.backward()
    assert saved() is None


def left_behind(step, steps):
    """How many objects of ``steps`` steps only the cycle collector could free, and how many bytes nobody can."""
    for _ in range(50):
        step()
    gc.collect()                                                    # which empties CPython's free lists as well
    gc.disable()
    tracemalloc.start()
    try:
        step()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        for _ in range(steps):
            step()
        return gc.collect(), tracemalloc.get_traced_memory()[0] - size
    finally:
        tracemalloc.stop()
        gc.enable()


def small_model():
    x, target = Tensor(RNG.normal(size=(8, 4)), dtype="float32"), Tensor(np.arange(8) % 3)
    weights = [leaf(RNG.normal(size=s) / 2, dtype="float32") for s in ((5, 4), (5,), (3, 5))]
    norm, entropy, linear = PAIRS["layer_norm"], PAIRS["cross_entropy"], PAIRS["linear"]
    return weights, lambda: entropy(linear(norm(linear(x, *weights[:2])).tanh(), weights[2]), target)


def test_a_thousand_training_steps_leave_nothing_behind():
    weights, loss = small_model()

    def step():
        loss().backward()
        for w in weights:
            with no_grad():
                w -= 0.1 * w.grad
            w.grad = None

    start = loss().item()
    cycles, size = left_behind(step, 1000)
    assert cycles == 0 and size < 10_000
    assert loss().item() < start / 2                                # and they did train


def test_steps_with_a_differentiated_gradient_leave_nothing_behind():
    weights, loss = small_model()

    def step():
        slopes = grad(loss(), weights, create_graph=True)
        grad(sum((s * s).sum() for s in slopes), weights, allow_unused=True)

    cycles, size = left_behind(step, 100)
    assert cycles == 0 and size < 20_000


def test_a_graph_that_is_never_walked_is_freed_with_its_result():
    _, loss = small_model()
    cycles, size = left_behind(loss, 200)
    assert cycles == 0 and size < 10_000


def test_the_test_for_cycles_sees_one():
    def step():
        x = leaf(1.0)
        (x * x).backward(create_graph=True)                         # x -> x.grad -> its graph -> x

    assert left_behind(step, 10)[0] > 10


def test_two_leaves_never_share_a_gradient():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    given = Tensor([1.0, 1.0], dtype="float64")
    for make in (lambda: a + b, lambda: a.reshape(2) - (-b), lambda: (a + b).expand(2)):
        a.grad = b.grad = None
        make().backward(given)
        arrays = [a.grad.data, b.grad.data, given.data]
        assert not any(np.shares_memory(p, q) for p, q in zip(arrays, arrays[1:] + arrays[:1], strict=True))
        assert all(g.flags.writeable for g in arrays)
        a.grad.data[0] = 99
        assert values([b.grad, given]) == [[1, 1], [1, 1]]


def test_a_gradient_spread_over_its_input_is_an_array_of_its_own():
    x = leaf(np.zeros((2, 3)))
    x.sum().backward()
    x.grad.data[0, 0] = 5                                           # a broadcast view would change everywhere
    assert x.grad.numpy().sum() == 5 + 5


# ── what is handed out ───────────────────────────────────────────────────────────────────────────

def test_backward_adds_to_grad_and_grad_does_not(device):
    x = leaf([1.0, 2.0], device)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert grad((x * x).sum(), x)[0].numpy().tolist() == [2, 4]
    assert x.grad.numpy().tolist() == [4, 8]


def test_backward_reaches_leaves_alone(device):
    x, constant = leaf([1.0], device), Tensor([2.0], device=device)
    y = x * constant
    y.backward()
    assert x.grad.item() == 2 and y.grad is None and constant.grad is None


def test_the_gradient_of_an_intermediate_tensor(device):
    x = leaf([1.0, 2.0], device)
    y = x * 3
    z = (y * y + x).sum()
    assert values(grad(z, (y, x))) == [[6, 12], [19, 37]]


def test_the_gradient_of_a_tensor_by_itself_is_one(device):
    x = leaf(2.0, device)
    y = x * 3
    assert values([*grad(y, y), *grad(x, x)]) == [1, 1]


def test_several_outputs_are_weighted_and_summed(device):
    x = leaf([1.0, 2.0], device)
    weights = [Tensor([1.0, 0.0], device=device), Tensor(2.0, device=device)]
    assert values(grad([x * x, x.sum()], x, weights)) == [[4, 2]]


def test_gradients_that_are_not_wanted_are_not_computed(monkeypatch):
    x, y = leaf(2.0), leaf(3.0)
    product = x.exp() * ops.sin(y)
    monkeypatch.setattr(ops.exp.row, "pulls", (lambda *_: pytest.fail("nobody asked for x"),))
    assert grad(product, y)[0].item() == pytest.approx(np.exp(2) * np.cos(3))


def test_an_unused_input_is_an_error_unless_it_is_allowed(device):
    x, y = leaf(1.0, device), leaf(1.0, device)
    with pytest.raises(ValueError, match=r"do not depend on inputs \[1\]"):
        grad(x * x, (x, y))
    assert grad(x * x, (x, y), allow_unused=True)[1] is None


def test_retain_graph_allows_a_second_walk(device):
    x = leaf(3.0, device)
    y = x * x * x
    assert [grad(y, x, retain_graph=True)[0].item(), grad(y, x)[0].item()] == [27, 27]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        grad(y, x)


def test_a_walk_over_one_result_leaves_another_that_shares_only_leaves(device):
    x = leaf(3.0, device)
    a, b = x * x, x.exp()
    a.backward()
    b.backward()
    assert x.grad.item() == pytest.approx(6 + np.exp(3.0))


# ── higher orders ────────────────────────────────────────────────────────────────────────────────

def test_derivatives_to_the_fourth_order(device):
    x = leaf([0.3, 1.1], device)
    y = ops.sin(x) * x ** 4
    found = []
    for _ in range(4):
        y, = grad(y.sum(), x, create_graph=True)
        found.append(y.numpy())
    s, c, t = np.sin(x.numpy()), np.cos(x.numpy()), x.numpy()
    np.testing.assert_allclose(found[0], 4 * t**3 * s + t**4 * c, rtol=1e-13)
    np.testing.assert_allclose(found[1], (12 * t**2 - t**4) * s + 8 * t**3 * c, rtol=1e-12)
    np.testing.assert_allclose(found[2], (24 * t - 12 * t**3) * s + (36 * t**2 - t**4) * c, rtol=1e-12)
    np.testing.assert_allclose(found[3], (24 - 72 * t**2 + t**4) * s + (96 * t - 16 * t**3) * c, rtol=1e-11)


def curved(x, y):
    return ((x @ y).tanh() * x.sum(axis=1, keepdims=True)).sum() + PAIRS["softmax"](x, axis=0).norm()


def hessian(function, inputs):
    """All second derivatives, one row at a time: slow and plain."""
    leaves = [leaf(x) for x in inputs]
    slopes = grad(function(*leaves), leaves, create_graph=True)
    rows = [grad(s.reshape(-1)[i], leaves, retain_graph=True, allow_unused=True)
            for s in slopes for i in range(s.size)]
    return np.array([np.concatenate([np.zeros(x.size) if h is None else h.numpy().ravel()
                                     for h, x in zip(row, inputs, strict=True)]) for row in rows])


def test_hvp_is_the_hessian_times_the_vector(device):
    inputs = [RNG.normal(size=(2, 3)), RNG.normal(size=(3, 2))]
    vs = [RNG.normal(size=x.shape) for x in inputs]
    h = hessian(curved, inputs)
    assert np.allclose(h, h.T, rtol=1e-10, atol=1e-12)
    y, product = hvp(curved, [Tensor(x, device=device) for x in inputs], [Tensor(v, device=device) for v in vs])
    expected = h @ np.concatenate([v.ravel() for v in vs])
    np.testing.assert_allclose(np.concatenate([p.numpy().ravel() for p in product]), expected, rtol=1e-10)
    assert y.item() == pytest.approx(curved(*map(Tensor, inputs)).item())


def test_hvp_of_a_function_that_is_linear_is_zero(device):
    _, product = hvp(lambda x: (3 * x).sum(), leaf([1.0, 2.0], device), leaf([1.0, 1.0], device))
    assert product.numpy().tolist() == [0, 0]


def test_vjp_is_the_vector_times_the_jacobian(device):
    x, v = RNG.normal(size=3), RNG.normal(size=3)
    p = np.exp(x) / np.exp(x).sum()
    y, pulled = vjp(PAIRS["softmax"], Tensor(x, device=device), Tensor(v, device=device))
    np.testing.assert_allclose(y.numpy(), p, rtol=1e-14)
    np.testing.assert_allclose(pulled.numpy(), v @ (np.diag(p) - np.outer(p, p)), rtol=1e-12)


def test_vjp_and_hvp_leave_their_inputs_alone():
    x = leaf([1.0, 2.0])
    vjp(lambda x: x * x, x, Tensor([1.0, 1.0]))
    hvp(lambda x: (x * x).sum(), x, Tensor([1.0, 1.0]))
    assert x.grad is None and x.is_leaf


def test_a_penalty_on_the_gradient_reaches_the_weights(device):
    w, x = leaf([2.0, -1.0], device), leaf([1.0, 3.0], device)
    slope, = grad((w * x * x).sum(), x, create_graph=True)          # 2 w x
    (slope * slope).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 8 * w.numpy() * x.numpy() ** 2)


def test_backward_with_create_graph_leaves_a_grad_that_can_be_differentiated(device):
    x = leaf(2.0, device)
    (x * x * x).backward(create_graph=True)
    assert grad(x.grad, x)[0].item() == 12
    x.grad = None                                                   # breaks the cycle leaf -> grad -> leaf


# ── grad mode ────────────────────────────────────────────────────────────────────────────────────

def test_no_grad_records_nothing_and_enable_grad_records_inside_it(device):
    x = leaf(1.0, device)
    with no_grad():
        assert not (x * x).requires_grad
        with enable_grad():
            assert (x * x).requires_grad
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


def test_no_grad_ends_where_an_exception_leaves_it():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (leaf(1.0) * 2).requires_grad


def test_no_grad_decorates_a_function():
    @no_grad()
    def double(x):
        return x * 2

    assert [double(leaf(1.0)).requires_grad for _ in range(2)] == [False, False]


def test_no_grad_is_a_matter_of_one_thread():
    x, seen, inside, checked = leaf(1.0), {}, threading.Event(), threading.Event()

    def other():
        seen["started under no_grad"] = (x * x).requires_grad
        with no_grad():
            inside.set()
            checked.wait(10)
            seen["in its own no_grad"] = (x * x).requires_grad

    with no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
    seen["here, meanwhile"] = (x * x).requires_grad
    checked.set()
    thread.join()
    assert seen == {"started under no_grad": True, "in its own no_grad": False, "here, meanwhile": True}


def test_the_walk_itself_records_nothing():
    x = leaf([1.0, 2.0])
    x.exp().sum().backward()
    assert not x.grad.requires_grad and not grad((x * x).sum(), x)[0].requires_grad


# ── dtypes ───────────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("name", [n for n in names() if n != "astype"])
def test_float32_stays_float32_forward_and_at_every_step_back(name, device, monkeypatch):
    widened, send = [], walk.send

    def watched(piece, parent, *rest):
        if piece is not None and piece.dtype != parent.dtype:
            widened.append((name, piece.dtype))
        send(piece, parent, *rest)

    monkeypatch.setattr(walk, "send", watched)
    for case in cases(name):
        inputs = [Tensor(x, dtype="float32" if x.dtype.kind == "f" else None, device=device) for x in case.inputs]
        leaves = [x for x in inputs if x.dtype.kind == "f"]
        for x in leaves:
            x.requires_grad = True
        result = case.call(*inputs)
        for y in result if isinstance(result, list) else [result]:
            assert y.dtype.kind != "f" or y.dtype == np.float32
            if y.requires_grad:
                weight = Tensor(np.ones(y.shape, np.float32), device=y.device)
                gradients = grad(y, leaves, weight, allow_unused=True)
                assert all(g.dtype == np.float32 for g in gradients if g is not None)
    assert not widened


@pytest.mark.parametrize("scalar", [2.0, 2, np.float64(2), np.float32(2), np.int64(2)])
def test_a_scalar_of_any_kind_does_not_widen_float32(scalar, device):
    x = leaf([1.0, 4.0], device, "float32")
    results = [x * scalar, scalar * x, x / scalar, scalar / x, x + scalar, scalar - x, x ** scalar, scalar ** x,
               ops.maximum(x, scalar), ops.where(x > scalar, x, scalar), x.clip(scalar, None)]
    assert {y.dtype for y in results} == {np.dtype(np.float32)}
    for y in results:
        assert grad(y.sum(), x)[0].dtype == np.float32


def test_each_leaf_gets_its_own_dtype_back(device):
    a, b = leaf([[1.0, 2.0]], device, "float32"), leaf([[3.0], [4.0]], device, "float64")
    for y in (a * b, b @ a, ops.maximum(a, b), ops.concatenate(a, b.reshape(1, 2))):
        assert y.dtype == np.float64
        da, db = grad(y.sum(), (a, b))
        assert (da.dtype, db.dtype, da.shape, db.shape) == (np.float32, np.float64, (1, 2), (2, 1))


def test_astype_brings_the_gradient_back_in_the_dtype_of_its_input(device):
    for source, target in (("float32", "float64"), ("float64", "float32")):
        x = leaf([1.0, 2.0], device, source)
        (x.to(target) ** 2).sum().backward()
        assert x.grad.dtype == source and x.grad.numpy().tolist() == [2, 4]


def test_a_gradient_comes_back_to_the_device_of_its_input(device):
    x = leaf([1.0, 2.0], "cpu")
    y = x.to(device)
    (y * y).sum().backward()
    assert y.device == device and x.grad.device == "cpu" and x.grad.numpy().tolist() == [2, 4]


def test_tinycv_grad_is_the_walk_of_this_file():
    assert tinycv.grad is walk.grad
