"""LSTM: its equations by hand, sequences cut in two, gates wide open and shut, and what it refuses."""
from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.sequence import LSTM, LSTMCell, lstm

T, B, WIDTH, H = 5, 3, 4, 6
SHAPES = (T, B, WIDTH), (B, H), (B, H), (4 * H, WIDTH), (4 * H, H), (4 * H,), (4 * H,)
RNG = np.random.default_rng(0)
ARRAYS = [RNG.normal(size=shape).astype(np.float32) for shape in SHAPES]
X, H0, C0, *WEIGHTS = ARRAYS


@pytest.fixture(autouse=True)
def seeded():
    tinycv.manual_seed(0)
    yield
    tinycv.manual_seed(0)


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
                i, f, g, o = (weight_ih[k * n + u] @ x[t, b] + bias_ih[k * n + u] + weight_hh[k * n + u] @ before
                              + bias_hh[k * n + u] for k in range(4))
                last[b, u] = sigma(f) * last[b, u] + sigma(i) * np.tanh(g)
                hidden[u] = sigma(o) * np.tanh(last[b, u])
            y[t, b] = hidden
    return y, last


# ── the function ─────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("t, b", [(T, B), (1, B), (T, 1), (1, 1)])
def test_it_is_its_equations(device, t, b):
    arrays = [X[:t, :b], H0[:b], C0[:b], *WEIGHTS]
    for ours, expected in zip(lstm(*tensors(device, arrays)), by_hand(*arrays), strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_of_none_gives_none_and_gradients_of_zero(device):
    x, h, c, *weights = tensors(device, [X[:, :0], H0[:0], C0[:0], *WEIGHTS], requires_grad=True)
    y, c_n = lstm(x, h, c, *weights)
    assert (y.shape, c_n.shape) == ((T, 0, H), (0, H))
    found = tinycv.grad([y.sum(), c_n.sum()], [x, *weights])
    assert all(g.shape == a.shape and not g.numpy().any() for g, a in zip(found, [x, *weights], strict=True))


def test_a_sequence_read_in_two_parts_with_the_state_carried_over_is_the_sequence_read_at_once(device):
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


def test_a_step_sees_nothing_of_later_steps(device):
    later = X.copy()
    later[3:] += 1
    y, z = (lstm(*tensors(device, [x, *ARRAYS[1:]]))[0].numpy() for x in (X, later))
    assert (y[:3] == z[:3]).all() and (y[3:] != z[3:]).any()


def test_gates_wide_open_and_shut(device):
    """Forget gate open, input gate shut: the cell is kept, whatever is read. The other way round: it is replaced."""
    gate = np.repeat(np.array([-1, 1, 0, 0], np.float32), H)
    zeros = [np.zeros_like(w) for w in WEIGHTS]
    kept = lstm(*tensors(device, [X, H0, C0, *zeros[:2], 100 * gate, zeros[3]]))[1].numpy()
    replaced = lstm(*tensors(device, [X, H0, C0, *zeros[:2], -100 * gate, zeros[3]]))[1].numpy()
    assert (kept == C0).all() and (replaced == 0).all()


@pytest.mark.parametrize("steps", [1, 500])
def test_long_sequences_stay_finite_there_and_back(device, steps):
    x = np.random.default_rng(1).normal(size=(steps, 2, WIDTH)).astype(np.float32)
    leaves = tensors(device, [x, H0[:2], C0[:2], *WEIGHTS], requires_grad=True)
    y, c_n = lstm(*leaves)
    found = tinycv.grad([y.sum(), c_n.sum()], leaves)
    assert np.isfinite(y.numpy()).all() and all(np.isfinite(g.numpy()).all() and g.numpy().any() for g in found)


def test_through_open_forget_gates_a_gradient_lives_for_500_steps(device):
    layer = LSTM(WIDTH, H).to(device)
    layer.bias_ih_l0.data[H:2 * H] = 100.0
    layer.weight_hh_l0.data[...] = 0                            # so that the cell is the only path
    c0 = tinycv.zeros(1, B, H, device=device)
    c0.requires_grad = True
    x = tinycv.randn(500, B, WIDTH, device=device)
    _, (_, c_n) = layer(x, (tinycv.zeros(1, B, H, device=device), c0))
    (slope,) = tinycv.grad(c_n.sum(), c0)
    assert (slope.numpy() == 1).all()


@pytest.mark.parametrize("place, shape, named", [
    (1, (B, H + 1), "h0 is float32 (3, 7), should be float32 (3, 6)"),
    (2, (B + 1, H), "c0 is float32 (4, 6), should be float32 (3, 6)"),
    (0, (T, B, WIDTH + 1), "weight_ih is float32 (24, 4), should be float32 (24, 5)"),
    (4, (4 * H + 1, H), "weight_hh is float32 (25, 6), should be float32 (24, 6)"),
    (5, (H,), "bias_ih is float32 (6,), should be float32 (24,)"),
    (6, (1,), "bias_hh is float32 (1,), should be float32 (24,)"),
    (0, (T, WIDTH), "x has shape (5, 4)"), (0, (0, B, WIDTH), "at least one step")])
def test_an_array_of_another_shape_is_named(device, place, shape, named):
    arrays = list(ARRAYS)
    arrays[place] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError) as caught:
        lstm(*tensors(device, arrays))
    assert named in str(caught.value) and str(caught.value).startswith("lstm: ")


def test_an_array_of_another_dtype_is_named(device):
    with pytest.raises(ValueError, match=r"h0 is float64 \(3, 6\), should be float32"):
        lstm(*tensors(device, [X, H0.astype(float), *ARRAYS[2:]]))


@pytest.mark.parametrize("used", [lambda y, c: y, lambda y, c: c, lambda y, c: y[-1], lambda y, c: y[1] + c],
                         ids=["y", "c_n", "last y", "both"])
def test_it_is_certified_whichever_result_is_used(used):
    certify(lambda *inputs: used(*lstm(*inputs)), *ARRAYS)


# ── the layer ────────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("options, names", [
    ({}, ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]),
    ({"bias": False, "num_layers": 2}, ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]),
    ({"bias": False, "bidirectional": True},
     ["weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"])])
def test_parameters_have_pytorchs_names_and_start_within_their_bound(options, names):
    found = dict(LSTM(WIDTH, 16, **options).named_parameters())
    assert list(found) == names
    assert all(0.2 < np.abs(p.numpy()).max() <= 16 ** -0.5 for p in found.values())


@pytest.mark.parametrize("options, width, parts", [
    ({}, H, 1), ({"num_layers": 3}, H, 3), ({"bidirectional": True}, 2 * H, 2),
    ({"num_layers": 2, "bidirectional": True}, 2 * H, 4)])
def test_shapes(device, options, width, parts):
    y, (h, c) = LSTM(WIDTH, H, **options).to(device)(Tensor(X, device=device))
    assert (y.shape, h.shape, c.shape) == ((T, B, width), (parts, B, H), (parts, B, H))


def test_batch_first_turns_input_and_output_alone(device):
    layer, turned = LSTM(WIDTH, H, 2), LSTM(WIDTH, H, 2, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    y, (h, c) = layer.to(device)(Tensor(X, device=device))
    z, (k, d) = turned.to(device)(Tensor(X.swapaxes(0, 1), device=device))
    for a, b in ((y, z.swapaxes(0, 1)), (h, k), (c, d)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)


def test_the_second_direction_is_the_first_on_the_sequence_turned_round(device):
    both, alone = LSTM(WIDTH, H, bidirectional=True).to(device), LSTM(WIDTH, H).to(device)
    alone.load_state_dict({name.removesuffix("_reverse"): p for name, p in both.state_dict().items() if "reverse" in name})
    y, (h, _) = both(Tensor(X, device=device))
    z, (k, _) = alone(Tensor(X[::-1].copy(), device=device))
    np.testing.assert_allclose(y.numpy()[..., H:], z.numpy()[::-1], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(h.numpy()[1], k.numpy()[0], rtol=1e-6, atol=1e-7)


def test_dropout_falls_between_layers_in_training_alone(device):
    x = Tensor(X, device=device)
    layer, single = (LSTM(WIDTH, H, n, dropout=0.5).to(device) for n in (2, 1))
    assert (layer(x)[0].numpy() != layer(x)[0].numpy()).any()
    assert (layer.eval()(x)[0].numpy() == layer(x)[0].numpy()).all()
    assert (single(x)[0].numpy() == single(x)[0].numpy()).all()             # between one layer and nothing there is none


def test_a_cell_step_by_step_is_the_layer(device):
    layer, cell, x = LSTM(WIDTH, H).to(device), LSTMCell(WIDTH, H).to(device), Tensor(X, device=device)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    y, (_, c_n) = layer(x)
    state = None
    for t in range(T):
        state = cell(x[t], state)
        np.testing.assert_allclose(state[0].numpy(), y.numpy()[t], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state[1].numpy(), c_n.numpy()[0], rtol=1e-5, atol=1e-6)


def test_a_state_of_another_shape_and_no_layers_are_refused(device):
    layer, x = LSTM(WIDTH, H, 2).to(device), Tensor(X, device=device)
    good, bad = tinycv.zeros(2, B, H, device=device), tinycv.zeros(1, B, H, device=device)
    for name, state in (("h_0", (bad, good)), ("c_0", (good, bad))):
        with pytest.raises(ValueError, match=rf"{name} is \(1, 3, 6\); it must be \(2, 3, 6\)"):
            layer(x, state)
    with pytest.raises(ValueError, match="num_layers is 0"):
        LSTM(WIDTH, H, 0)


@pytest.mark.parametrize("shape, said", [((T, B, WIDTH + 1), r"weight_ih is float32 \(24, 4\)"), ((T, WIDTH), "x has shape"),
                                         ((0, B, WIDTH), "at least one step")])
def test_an_input_of_another_shape_is_refused(device, shape, said):
    with pytest.raises(ValueError, match=said):
        LSTM(WIDTH, H).to(device)(tinycv.zeros(*shape, device=device))


@pytest.mark.parametrize("layer", [LSTM(2, 2, 2), LSTM(2, 2, bias=False, bidirectional=True), LSTM(2, 2, batch_first=True)],
                         ids=["two layers", "both ways", "batch first"])
def test_the_layer_is_certified_in_what_it_reads_and_in_its_state(layer):
    def run(x, state):
        y, (h, c) = layer(x, (state, state))
        return y, h, c

    layer.to("float64")
    certify(run, RNG.normal(size=(3, 3, 2)), RNG.normal(size=(1 if layer.batch_first else 2, 3, 2)))


def test_the_layers_parameters_are_certified():
    class Summed(LSTM):
        def forward(self, x):
            y, (h, c) = super().forward(x)
            return tinycv.concatenate([y, h[-1:], c[-1:]])

    certify_layer(Summed(2, 2, 2), RNG.normal(size=(3, 2, 2)))


def test_the_cell_is_certified():
    certify_layer(LSTMCell(3, 2), RNG.normal(size=(2, 3)))
