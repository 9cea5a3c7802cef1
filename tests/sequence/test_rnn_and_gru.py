"""RNN and GRU: their equations by hand, why an RNN forgets, and how a GRU can avoid it."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.sequence import GRU, LSTM, RNN, gru, rnn, state_gradients

T, B, WIDTH, H = 4, 3, 2, 5
RNG = np.random.default_rng(0)


def arrays(gates):
    shapes = (T, B, WIDTH), (B, H), (gates * H, WIDTH), (gates * H, H), (gates * H,), (gates * H,)
    return [RNG.normal(size=shape).astype(np.float32) for shape in shapes]


def sigma(z):
    return 1 / (1 + np.exp(-z))


def rnn_by_hand(x, h, w, v, b, c):
    """One sequence, one step, one unit at a time."""
    y = np.zeros((T, B, H))
    for n in range(B):
        now = h[n].astype(float)
        for t in range(T):
            now = np.array([np.tanh(w[u] @ x[t, n] + b[u] + v[u] @ now + c[u]) for u in range(H)])
            y[t, n] = now
    return y


def gru_by_hand(x, h, w, v, b, c):
    y = np.zeros((T, B, H))
    for n in range(B):
        now = h[n].astype(float)
        for t in range(T):
            before = now.copy()
            for u in range(H):
                reset, update = (
                    sigma(w[k] @ x[t, n] + b[k] + v[k] @ before + c[k]) for k in (u, H + u)
                )
                k = 2 * H + u
                candidate = np.tanh(w[k] @ x[t, n] + b[k] + reset * (v[k] @ before + c[k]))
                now[u] = (1 - update) * candidate + update * before[u]
            y[t, n] = now
    return y


@pytest.mark.parametrize("function, by_hand, gates", [(rnn, rnn_by_hand, 1), (gru, gru_by_hand, 3)])
def test_it_equals_its_equations(device, function, by_hand, gates):
    arguments = arrays(gates)
    y = function(*(Tensor(a, device=device) for a in arguments))
    np.testing.assert_allclose(y.numpy(), by_hand(*arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function, gates", [(rnn, 1), (gru, 3)])
def test_a_step_does_not_depend_on_later_steps(device, function, gates):
    arguments = arrays(gates)
    later = [arguments[0].copy(), *arguments[1:]]
    later[0][2:] += 1
    y, z = (
        function(*(Tensor(a, device=device) for a in inputs)).numpy()
        for inputs in (arguments, later)
    )
    assert (y[:2] == z[:2]).all() and (y[2:] != z[2:]).any()


def slope_along(layer, steps, device):
    """The largest entry of |d(sum of h_T) / dh_0|."""
    h0 = tinycv.zeros(1, 1, H, device=device)
    h0.requires_grad = True
    _, h = layer.to(device)(tinycv.zeros(steps, 1, WIDTH, device=device), h0)
    return np.abs(tinycv.grad(h.sum(), h0)[0].numpy()).max()


@pytest.mark.parametrize(
    "stretch, bounds", [(0.5, (0, 1e-8)), (1.0, (0.9, 1.1)), (1.5, (1e4, np.inf))]
)
def test_the_gradient_of_an_rnn_vanishes_survives_or_explodes_with_its_matrix(
    device, stretch, bounds
):
    layer = RNN(WIDTH, H, bias=False)
    layer.weight_hh_l0.data = stretch * np.eye(H, dtype=np.float32)
    assert bounds[0] <= slope_along(layer, 30, device) <= bounds[1]


def test_an_open_update_gate_keeps_state_and_gradient_for_500_steps(device):
    layer = GRU(WIDTH, H)
    layer.bias_ih_l0.data[H : 2 * H] = 100.0
    assert slope_along(layer, 500, device) == 1


# ── state_gradients ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("batch_first", [False, True])
def test_state_gradients_of_an_rnn_are_products_of_its_matrix_and_slopes(device, batch_first):
    layer = RNN(WIDTH, H, batch_first=batch_first).to(device)
    x = RNG.normal(size=(T, B, WIDTH)).astype(np.float32)
    inputs = Tensor(x.swapaxes(0, 1) if batch_first else x, device=device)
    found = state_gradients(layer, inputs, lambda y: (y * y).sum()).numpy()
    y = layer(inputs)[0].numpy()
    y, matrix = y.swapaxes(0, 1) if batch_first else y, layer.weight_hh_l0.numpy()
    slope = 2 * y[-1]
    for t in reversed(range(T)):
        np.testing.assert_allclose(found[t], np.linalg.norm(slope, axis=-1), rtol=1e-4)
        slope = ((1 - y[t] ** 2) * slope) @ matrix


def test_state_gradients_refuses_a_bidirectional_layer():
    with pytest.raises(ValueError, match="reads from both ends; build it with bidirectional=False"):
        state_gradients(
            RNN(WIDTH, H, bidirectional=True), tinycv.zeros(T, B, WIDTH), lambda y: y.sum()
        )


@pytest.mark.parametrize("kind, parts", [(GRU, 1), (LSTM, 2)])
def test_state_gradients_cover_h_and_c_of_every_layer(device, kind, parts):
    layer, x = kind(WIDTH, H, 2).to(device), tinycv.randn(T, B, WIDTH, device=device)
    found = state_gradients(layer, x, lambda y: y.sum()).numpy()
    between = layer(x[:2])[1]
    leaves = [
        Tensor(part.numpy(), device=device, requires_grad=True)
        for part in (between if parts == 2 else (between,))
    ]
    y, _ = layer(x[2:], tuple(leaves) if parts == 2 else leaves[0])
    # (parts * layers, B, H)
    slopes = np.concatenate([g.numpy() for g in tinycv.grad(y[-1].sum(), leaves)])
    np.testing.assert_allclose(found[1], np.sqrt((slopes**2).sum((0, 2))), rtol=1e-4)
