"""Memory is released: saved arrays during the backward pass, and the whole graph afterwards."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np

from tinycv import Tensor, grad, no_grad
from tinycv.engine.fused import PAIRS
from tinycv.engine.record import op

RNG = np.random.default_rng(0)


def leaf(data, device="cpu", dtype="float64"):
    return Tensor(np.array(data), dtype=dtype, device=device, requires_grad=True)


def test_saved_arrays_are_released_during_the_backward_pass():
    seen = []
    spy = op(lambda xp, x: x * 1, x=lambda g: seen.append([ref() is None for ref in refs]) or g)
    x = leaf(np.ones(1000))
    # The first op is the last that the backward pass visits.
    refs, y = [], spy(x)
    for _ in range(5):
        y = y.exp() if len(refs) % 2 else y.tanh()  # each saves its own result
        refs.append(weakref.ref(y._data))
    loss = y.sum()
    del y
    loss.backward()
    # All of them were freed during the backward pass.
    assert seen == [[True] * 5]


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
    """(the number of objects that only the cycle collector could free, the number of bytes that
    remain), after ``steps`` steps."""
    for _ in range(50):
        step()
    # gc.collect also empties CPython's free lists.
    gc.collect()
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
    return weights, lambda: entropy(
        linear(norm(linear(x, *weights[:2])).tanh(), weights[2]), target
    )


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
    assert loss().item() < start / 2  # the steps did train the model


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


def test_the_check_for_cycles_finds_one():
    def step():
        x = leaf(1.0)
        (x * x).backward(create_graph=True)  # x -> x.grad -> its graph -> x

    assert left_behind(step, 10)[0] > 10
