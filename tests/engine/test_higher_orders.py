"""Gradients of gradients, compared with formulas and with full matrices of second derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from tinycv import Tensor, grad, hvp, vjp
from tinycv.engine import ops
from tinycv.engine.fused import PAIRS

RNG = np.random.default_rng(0)


def leaf(data, device="cpu", dtype="float64"):
    return Tensor(np.array(data), dtype=dtype, device=device, requires_grad=True)


def test_derivatives_to_the_fourth_order(device):
    x = leaf([0.3, 1.1], device)
    y = ops.sin(x) * x**4
    found = []
    for _ in range(4):
        (y,) = grad(y.sum(), x, create_graph=True)
        found.append(y.numpy())
    s, c, t = np.sin(x.numpy()), np.cos(x.numpy()), x.numpy()
    np.testing.assert_allclose(found[0], 4 * t**3 * s + t**4 * c, rtol=1e-13)
    np.testing.assert_allclose(found[1], (12 * t**2 - t**4) * s + 8 * t**3 * c, rtol=1e-12)
    np.testing.assert_allclose(
        found[2], (24 * t - 12 * t**3) * s + (36 * t**2 - t**4) * c, rtol=1e-12
    )
    np.testing.assert_allclose(
        found[3], (24 - 72 * t**2 + t**4) * s + (96 * t - 16 * t**3) * c, rtol=1e-11
    )


def curved(x, y):
    return ((x @ y).tanh() * x.sum(axis=1, keepdims=True)).sum() + PAIRS["softmax"](
        x, axis=0
    ).norm()


def hessian(function, inputs):
    """The matrix of second derivatives, computed row by row."""
    leaves = [leaf(x) for x in inputs]
    slopes = grad(function(*leaves), leaves, create_graph=True)
    rows = [
        grad(s.reshape(-1)[i], leaves, retain_graph=True, allow_unused=True)
        for s in slopes
        for i in range(s.size)
    ]
    return np.array(
        [
            np.concatenate(
                [
                    np.zeros(x.size) if h is None else h.numpy().ravel()
                    for h, x in zip(row, inputs, strict=True)
                ]
            )
            for row in rows
        ]
    )


def test_hvp_is_the_hessian_times_the_vector(device):
    inputs = [RNG.normal(size=(2, 3)), RNG.normal(size=(3, 2))]
    vs = [RNG.normal(size=x.shape) for x in inputs]
    h = hessian(curved, inputs)
    assert np.allclose(h, h.T, rtol=1e-10, atol=1e-12)
    y, product = hvp(
        curved, [Tensor(x, device=device) for x in inputs], [Tensor(v, device=device) for v in vs]
    )
    expected = h @ np.concatenate([v.ravel() for v in vs])
    np.testing.assert_allclose(
        np.concatenate([p.numpy().ravel() for p in product]), expected, rtol=1e-10
    )
    assert y.item() == pytest.approx(curved(*map(Tensor, inputs)).item())


def test_hvp_of_a_linear_function_is_zero(device):
    _, product = hvp(lambda x: (3 * x).sum(), leaf([1.0, 2.0], device), leaf([1.0, 1.0], device))
    assert product.numpy().tolist() == [0, 0]


def test_vjp_is_the_vector_times_the_jacobian(device):
    x, v = RNG.normal(size=3), RNG.normal(size=3)
    p = np.exp(x) / np.exp(x).sum()
    y, pulled = vjp(PAIRS["softmax"], Tensor(x, device=device), Tensor(v, device=device))
    np.testing.assert_allclose(y.numpy(), p, rtol=1e-14)
    np.testing.assert_allclose(pulled.numpy(), v @ (np.diag(p) - np.outer(p, p)), rtol=1e-12)


def test_vjp_and_hvp_do_not_change_their_inputs():
    x = leaf([1.0, 2.0])
    vjp(lambda x: x * x, x, Tensor([1.0, 1.0]))
    hvp(lambda x: (x * x).sum(), x, Tensor([1.0, 1.0]))
    assert x.grad is None and x.is_leaf


def test_a_penalty_on_the_gradient_reaches_the_weights(device):
    w, x = leaf([2.0, -1.0], device), leaf([1.0, 3.0], device)
    (slope,) = grad((w * x * x).sum(), x, create_graph=True)  # 2 w x
    (slope * slope).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 8 * w.numpy() * x.numpy() ** 2)


def test_backward_with_create_graph_leaves_a_grad_that_can_be_differentiated(device):
    x = leaf(2.0, device)
    (x * x * x).backward(create_graph=True)
    assert grad(x.grad, x)[0].item() == 12
    # This breaks the reference cycle leaf -> grad -> leaf.
    x.grad = None
