"""Wrong calls of derivatives, checkpoints, threads and seeds end in a sentence that names the function and the argument."""
from __future__ import annotations

import numpy as np
import pytest
from wrong_calls import riddles

import tinycv
from tinycv import Tensor, nn, parallel
from tinycv.engine import rng
from tinycv.engine.walk import hvp, vjp
from tinycv.generative.unrolled import unrolled
from tinycv.nn import functional as F
from tinycv.nn.spectral_norm import SpectralNorm, spectral_norm


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
    for outputs, weights in ((x * x, np.ones(2)), ([x * 2, y * y], [np.ones(2), np.ones(1)]), ([x * x], [Tensor(x._data)])):
        assert not riddles(grad, {"outputs": outputs, "inputs": x, "grad_outputs": weights})
    assert not riddles(grad, {"outputs": [(x * x).sum(), (y * y).sum()], "inputs": [x, y], "grad_outputs": [2.0, None]})


def test_backward():
    x = leaf(1.0, 2.0)

    def backward(gradient):
        (x * x).backward(gradient)
    assert not riddles(backward, {"gradient": np.ones(2)})


def test_vjp_and_hvp():
    x = leaf(1.0, 2.0)
    functions = (lambda x: x * x, "no function", lambda x: None, lambda x: 3.0, lambda x: x.detach(), lambda x: [x, None],
                 lambda x: {"y": x}, lambda x: x._data)
    for function in functions:
        assert not riddles(vjp, {"function": function, "inputs": x, "v": np.ones(2)})
        assert not riddles(hvp, {"function": function if function is not functions[0] else lambda x: (x * x).sum(),
                                 "inputs": x, "v": np.ones(2)})
    two = lambda x, y: (x * y).sum()                                                    # noqa: E731
    assert not riddles(hvp, {"function": two, "inputs": [x, leaf(1.0, 3.0)], "v": [np.ones(2), np.ones(2)]})
    assert not riddles(vjp, {"function": lambda x: (x, x * 2), "inputs": x, "v": [np.ones(2), np.ones(2)]})


def test_an_odd_but_good_vector_gives_the_right_product():
    x = leaf(1.0, 2.0)
    for v in ([1, 2], (1, 2), np.array([1, 2]), Tensor(np.array([1, 2])), np.array([1.0, 2.0], "f"), [1.0, 2]):
        for y, product in (vjp(lambda x: x * x * x, x, v if not isinstance(v, (list, tuple)) else [v]),
                           hvp(lambda x: (x ** 4).sum() / 4, x, v)):
            del y
            assert product.numpy().tolist() == [3.0, 24.0]
    y = x * 0.5
    y.backward(np.array([True, False]))
    assert x.grad.numpy().tolist() == [0.5, 0.0]
    y, (g,) = vjp(lambda x: (x, x * 2), [x], [[1, 1], [1.0, 0]])
    assert [part.numpy().tolist() for part in y] == [[1, 2], [2, 4]] and g.numpy().tolist() == [3.0, 1.0]


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
        assert not riddles(backward, good, "Group.backward", "argument 0 of the batch", "argument 1 of the batch")
        for wrong in (lambda *_: None, lambda *_: 3.0, lambda *_: x, lambda *_: w.detach(), lambda a, b: [w.sum()]):
            with pytest.raises((TypeError, RuntimeError), match="backward: "):
                group.backward(wrong, x, y)
        assert not riddles(lambda function, a: group.map(function, a), {"function": rows_of, "a": x}, "Group.map")
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


@pytest.mark.parametrize("change", [
    lambda s: s.pop("noise"), lambda s: s.update(noise={}), lambda s: s.update(host={**s["host"], "bit_generator": "SFC64"}),
    lambda s: s["noise"]["state"].update(state=[1, 2, 3]), lambda s: s["host"]["state"].update(inc=1.5),
    lambda s: s["host"]["state"].update(state=-1), lambda s: s["host"]["state"].update(state=1 << 200),
    lambda s: s.update(splits=-1), lambda s: s.update(seed=[])])
def test_a_state_that_cannot_be_is_refused_and_changes_nothing(change):
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
    good = {"num_features": 3, "eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
    for layer in (nn.BatchNorm1d, nn.BatchNorm2d):
        assert not [r for r in riddles(layer, good) if "1000000000000000" not in r]      # a size that no memory has
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
    "transpose": (lambda x: x.transpose(0, 1), r"axes is \(0, 1\); it must name each of the 3 axes once, and x.swapaxes"),
    "transpose, one": (lambda x: x.transpose((0,)), r"axes is \(0,\); it must name each of the 3 axes once"),
    "norm": (lambda x: x.norm(5), "axis is 5; .*it is the Euclidean norm, and takes no p"),
    "norm, a word": (lambda x: x.norm("fro"), "axis is 'fro'; .*it is the Euclidean norm, and takes no p"),
    "max": (lambda x: x.max(x), "axis is Tensor .*tinycv.maximum compares two arrays"),
    "min": (lambda x: x.min(x), "axis is Tensor .*tinycv.minimum compares two arrays"),
    "expand": (lambda x: x.expand(-1, 3, 4), r"shape=\(-1, 3, 4\); -1 stands for no size here"),
}


@pytest.mark.parametrize("name", PYTORCHS)
def test_a_call_that_is_pytorchs_alone_is_refused_in_words(name, device):
    call, words = PYTORCHS[name]
    with pytest.raises((TypeError, ValueError), match=words):
        call(Tensor(np.ones((2, 3, 4), np.float32), device=device))
