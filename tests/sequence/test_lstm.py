"""LSTM: its equations by hand, fully open and closed gates, and what it refuses. Layers and lengths
are tested in test_recurrent.py."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.sequence import LSTM, chrono_start, lstm, lstm_gates

T, B, WIDTH, H = 5, 3, 4, 6
SHAPES = (T, B, WIDTH), (B, H), (B, H), (4 * H, WIDTH), (4 * H, H), (4 * H,), (4 * H,)
RNG = np.random.default_rng(0)
ARRAYS = [RNG.normal(size=shape).astype(np.float32) for shape in SHAPES]
X, H0, C0, *WEIGHTS = ARRAYS


def tensors(device, arrays=ARRAYS, requires_grad=False):
    return [Tensor(a, device=device, requires_grad=requires_grad) for a in arrays]


def by_hand(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """One sequence, one step, one unit at a time."""

    def sigma(z):
        return 1 / (1 + np.exp(-z))

    y = np.zeros((*x.shape[:2], h.shape[1]))
    last = c.astype(float)
    for b in range(x.shape[1]):
        hidden = h[b].astype(float)
        for t in range(x.shape[0]):
            before, n = hidden.copy(), len(hidden)
            for u in range(n):
                i, f, g, o = (
                    weight_ih[k * n + u] @ x[t, b]
                    + bias_ih[k * n + u]
                    + weight_hh[k * n + u] @ before
                    + bias_hh[k * n + u]
                    for k in range(4)
                )
                last[b, u] = sigma(f) * last[b, u] + sigma(i) * np.tanh(g)
                hidden[u] = sigma(o) * np.tanh(last[b, u])
            y[t, b] = hidden
    return y, last


# ── the function ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("t, b", [(T, B), (1, B), (T, 1), (1, 1)])
def test_it_equals_its_equations(device, t, b):
    arrays = [X[:t, :b], H0[:b], C0[:b], *WEIGHTS]
    for result, expected in zip(lstm(*tensors(device, arrays)), by_hand(*arrays), strict=True):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_empty_batch_gives_an_empty_result_and_zero_gradients(device):
    x, h, c, *weights = tensors(device, [X[:, :0], H0[:0], C0[:0], *WEIGHTS], requires_grad=True)
    y, c_n = lstm(x, h, c, *weights)
    assert (y.shape, c_n.shape) == ((T, 0, H), (0, H))
    found = tinycv.grad([y.sum(), c_n.sum()], [x, *weights])
    assert all(
        g.shape == a.shape and not g.numpy().any()
        for g, a in zip(found, [x, *weights], strict=True)
    )


def test_reading_in_two_parts_and_passing_the_state_on_equals_reading_at_once(
    device,
):
    x, h, c, *weights = leaves = tensors(device, requires_grad=True)
    y, c_n = lstm(*leaves)
    first, between = lstm(x[:2], h, c, *weights)
    second, last = lstm(x[2:], first[-1], between, *weights)
    np.testing.assert_allclose(second.numpy(), y.numpy()[2:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last.numpy(), c_n.numpy(), rtol=1e-5, atol=1e-6)
    whole = tinycv.grad((y[-1] * c_n).sum(), leaves)
    parts = tinycv.grad((second[-1] * last).sum(), leaves)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_a_step_does_not_depend_on_later_steps(device):
    later = X.copy()
    later[3:] += 1
    y, z = (lstm(*tensors(device, [x, *ARRAYS[1:]]))[0].numpy() for x in (X, later))
    assert (y[:3] == z[:3]).all() and (y[3:] != z[3:]).any()


def test_an_open_forget_gate_keeps_the_cell_and_an_open_input_gate_replaces_it(device):
    """With an open forget gate and a closed input gate, the cell is kept, whatever x is; with a
    closed forget gate and an open input gate, it is replaced."""
    gate = np.repeat(np.array([-1, 1, 0, 0], np.float32), H)
    zeros = [np.zeros_like(w) for w in WEIGHTS]
    kept = lstm(*tensors(device, [X, H0, C0, *zeros[:2], 100 * gate, zeros[3]]))[1].numpy()
    replaced = lstm(*tensors(device, [X, H0, C0, *zeros[:2], -100 * gate, zeros[3]]))[1].numpy()
    assert (kept == C0).all() and (replaced == 0).all()


@pytest.mark.parametrize("steps", [1, 500])
def test_long_sequences_stay_finite_forward_and_backward(device, steps):
    x = np.random.default_rng(1).normal(size=(steps, 2, WIDTH)).astype(np.float32)
    leaves = tensors(device, [x, H0[:2], C0[:2], *WEIGHTS], requires_grad=True)
    y, c_n = lstm(*leaves)
    found = tinycv.grad([y.sum(), c_n.sum()], leaves)
    assert np.isfinite(y.numpy()).all() and all(
        np.isfinite(g.numpy()).all() and g.numpy().any() for g in found
    )


def test_a_gradient_survives_500_steps_through_open_forget_gates(device):
    layer = LSTM(WIDTH, H).to(device)
    layer.bias_ih_l0.data[H : 2 * H] = 100.0
    layer.weight_hh_l0.data[...] = 0  # so that the cell is the only path
    c0 = tinycv.zeros(1, B, H, device=device)
    c0.requires_grad = True
    x = tinycv.randn(500, B, WIDTH, device=device)
    _, (_, c_n) = layer(x, (tinycv.zeros(1, B, H, device=device), c0))
    (slope,) = tinycv.grad(c_n.sum(), c0)
    assert (slope.numpy() == 1).all()


@pytest.mark.parametrize(
    "index, shape, named",
    [
        (1, (B, H + 1), "h0 is float32 (3, 7), should be float32 (3, 6)"),
        (2, (B + 1, H), "c0 is float32 (4, 6), should be float32 (3, 6)"),
        (0, (T, B, WIDTH + 1), "weight_ih is float32 (24, 4), should be float32 (24, 5)"),
        (4, (4 * H + 1, H), "weight_hh is float32 (25, 6), should be float32 (24, 6)"),
        (5, (H,), "bias_ih is float32 (6,), should be float32 (24,)"),
        (6, (1,), "bias_hh is float32 (1,), should be float32 (24,)"),
        (0, (T, WIDTH), "x has shape (5, 4)"),
        (0, (0, B, WIDTH), "at least one step"),
    ],
)
def test_an_array_of_a_wrong_shape_is_named(device, index, shape, named):
    arrays = list(ARRAYS)
    arrays[index] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError) as caught:
        lstm(*tensors(device, arrays))
    assert named in str(caught.value) and str(caught.value).startswith("lstm: ")


def test_one_float64_array_makes_the_results_float64(device):
    y, c = lstm(*tensors(device, [X, H0.astype(float), *ARRAYS[2:]]))
    assert y.dtype == np.float64 and c.dtype == np.float64


@pytest.mark.parametrize(
    "used",
    [lambda y, c: y, lambda y, c: c, lambda y, c: y[-1], lambda y, c: y[1] + c],
    ids=["y", "c_n", "last y", "both"],
)
def test_it_is_certified_whichever_result_the_loss_uses(used):
    certify(lambda *inputs: used(*lstm(*inputs)), *ARRAYS)


# ── sequences of different lengths ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("half", ["kernel", "definition"])
def test_after_the_end_of_a_sequence_hidden_state_and_cell_stay_as_they_are(half, device):
    # (T, B, 1)
    mask = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]], bool)[:, :, None]
    run = lstm if half == "kernel" else lstm.definition
    y, c = (part.numpy() for part in run(*tensors(device, [*ARRAYS, mask])))
    before = np.concatenate([H0[None], y[:-1]])
    assert (y[~mask[..., 0]] == before[~mask[..., 0]]).all() and (
        y[mask[..., 0]] != before[mask[..., 0]]
    ).all()
    alone = lstm(*tensors(device, [X[:2, :1], H0[:1], C0[:1], *WEIGHTS]))[1].numpy()
    np.testing.assert_allclose(c[:1], alone, rtol=1e-5, atol=1e-6)


def test_a_mask_of_ones_equals_no_mask(device):
    leaves = tensors(device, requires_grad=True)
    ones = Tensor(np.ones((T, B, 1), bool), device=device)
    for a, b in zip(lstm(*leaves), lstm(*leaves, ones), strict=True):
        assert (a.numpy() == b.numpy()).all()
        slopes, same = (tinycv.grad((part**2).sum(), leaves, retain_graph=True) for part in (a, b))
        assert all((g.numpy() == h.numpy()).all() for g, h in zip(slopes, same, strict=True))


# ── lstm_gates ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("batch_first", [False, True])
def test_lstm_gates_returns_the_gates_of_the_first_layer(device, batch_first):
    layer = LSTM(WIDTH, H, 2, bidirectional=True, batch_first=batch_first).to(device)
    first = LSTM(WIDTH, H, batch_first=batch_first).to(device)
    first.load_state_dict(layer.state_dict(), strict=False)
    x = Tensor(X.swapaxes(0, 1) if batch_first else X, device=device)
    gates = {name: gate.numpy() for name, gate in lstm_gates(layer, x).items()}
    y, (_, c) = first(x)
    if batch_first:
        gates = {name: gate.swapaxes(0, 1) for name, gate in gates.items()}
    np.testing.assert_allclose(
        gates["hidden"],
        y.numpy().swapaxes(0, 1) if batch_first else y.numpy(),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(gates["cell"][-1], c.numpy()[0], rtol=1e-5, atol=1e-6)
    before = np.concatenate([np.zeros((1, B, H), np.float32), gates["cell"][:-1]])
    np.testing.assert_allclose(
        gates["forget_gate"] * before + gates["input_gate"] * gates["candidate"],
        gates["cell"],
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        gates["output_gate"] * np.tanh(gates["cell"]), gates["hidden"], rtol=1e-5, atol=1e-6
    )


# ── chrono_start ──────────────────────────────────────────────────────────────────────────────────


def test_chrono_start_gives_every_cell_its_own_time_scale(device):
    layer = LSTM(WIDTH, 400, 2, bidirectional=True).to(device)
    before = {name: p.numpy() for name, p in layer.named_parameters()}
    chrono_start(layer, 51)
    after = {name: p.numpy() for name, p in layer.named_parameters()}
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        bias = after["bias_ih" + suffix] + after["bias_hh" + suffix]
        # f / (1 - f), the number of steps for which a cell keeps its content
        kept = np.exp(bias[400:800])
        assert (
            1 <= kept.min() < 3
            and 49 < kept.max() <= 51
            and kept.mean() == pytest.approx(26, abs=3)
        )
        np.testing.assert_allclose(bias[:400], -bias[400:800])
        assert (after["bias_ih" + suffix][800:] == before["bias_ih" + suffix][800:]).all()
    assert all((after[name] == before[name]).all() for name in after if "weight" in name)


def test_chrono_start_refuses_a_layer_without_biases_and_zero_steps():
    with pytest.raises(ValueError, match="bias=False"):
        chrono_start(LSTM(WIDTH, H, bias=False), 10)
    with pytest.raises(ValueError, match="steps is 0; it must be a number, at least 1"):
        chrono_start(LSTM(WIDTH, H), 0)


@pytest.mark.parametrize("looked_at", [(), (0,), (1, 3), (T - 1,)], ids=str)
def test_the_gradients_of_a_loss_on_some_steps_equal_those_of_the_definition(looked_at, device):
    found = []
    for function in (lstm, lstm.definition):
        arguments = tensors(device, [a.astype(np.float64) for a in ARRAYS], requires_grad=True)
        y, c_n = function(*arguments)
        loss = sum(((y[t] ** 2).sum() for t in looked_at), (c_n**3).sum())
        found.append(tinycv.grad(loss, arguments))
    for kernel, definition in zip(*found, strict=True):
        np.testing.assert_allclose(kernel.numpy(), definition.numpy(), rtol=1e-9, atol=1e-12)
