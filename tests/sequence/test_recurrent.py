"""What RNN, GRU and LSTM share: parameters, layers, directions, state, and batches of sequences of
different lengths."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.sequence import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell, gru, lstm, rnn

T, B, WIDTH, H = 5, 3, 4, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(T, B, WIDTH)).astype(np.float32)
LENGTHS = [2, 5, 3]
KINDS = pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
CELLS = pytest.mark.parametrize("kind, cell", [(RNN, RNNCell), (GRU, GRUCell), (LSTM, LSTMCell)])
ALL = {"num_layers": 2, "bidirectional": True}


def parts(state):
    return list(state) if isinstance(state, tuple) else [state]


def same(a, b, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(
        a.numpy() if hasattr(a, "numpy") else a, b.numpy() if hasattr(b, "numpy") else b, rtol, atol
    )


# ── parameters, layers, directions ────────────────────────────────────────────────────────────────


@pytest.mark.statistical
@KINDS
def test_parameters_have_the_names_and_shapes_of_pytorch_and_start_within_their_bound(kind):
    found = dict(kind(WIDTH, 16, 2, bidirectional=True).named_parameters())
    rows, ways = kind.gates * 16, ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert {name: p.shape for name, p in found.items()} == {
        name + way: shape
        for way in ways
        for name, shape in {
            "weight_ih": (rows, WIDTH if "0" in way else 32),
            "weight_hh": (rows, 16),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }.items()
    }
    # all 16 entries of a bias lie below a fifth of the bound once in 5^16 draws
    for name, p in found.items():
        assert (0.15 if "weight" in name else 0.05) < np.abs(p.numpy()).max() <= 16**-0.5


@KINDS
@pytest.mark.parametrize(
    "options, width, places",
    [
        ({}, H, 1),
        ({"num_layers": 3}, H, 3),
        ({"bidirectional": True}, 2 * H, 2),
        (ALL, 2 * H, 4),
        ({"bias": False}, H, 1),
    ],
)
def test_shapes(device, kind, options, width, places):
    y, state = kind(WIDTH, H, **options).to(device)(Tensor(X, device=device), lengths=LENGTHS)
    assert y.shape == (T, B, width) and [part.shape for part in parts(state)] == [
        (places, B, H)
    ] * len(kind.state_names)


@KINDS
def test_batch_first_swaps_the_axes_of_input_and_output_only(device, kind):
    layer, turned = kind(WIDTH, H, 2), kind(WIDTH, H, 2, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    y, state = layer.to(device)(Tensor(X, device=device), lengths=LENGTHS)
    z, other = turned.to(device)(Tensor(X.swapaxes(0, 1), device=device), lengths=LENGTHS)
    for a, b in zip([y, *parts(state)], [z.swapaxes(0, 1), *parts(other)], strict=True):
        same(a, b)


@KINDS
def test_dropout_is_applied_between_layers_and_only_in_training(device, kind):
    x = Tensor(X, device=device)
    layer, single = (kind(WIDTH, H, n, dropout=0.5).to(device) for n in (2, 1))
    assert (layer(x)[0].numpy() != layer(x)[0].numpy()).any()
    assert (layer.eval()(x)[0].numpy() == layer(x)[0].numpy()).all()
    # a single layer has no layer below it, so no dropout
    assert (single(x)[0].numpy() == single(x)[0].numpy()).all()


@KINDS
def test_the_backward_direction_equals_the_forward_one_on_the_reversed_sequence(device, kind):
    both, alone = kind(WIDTH, H, bidirectional=True).to(device), kind(WIDTH, H).to(device)
    alone.load_state_dict(
        {
            name.removesuffix("_reverse"): p
            for name, p in both.state_dict().items()
            if "reverse" in name
        }
    )
    y, state = both(Tensor(X, device=device))
    z, other = alone(Tensor(X[::-1].copy(), device=device))
    same(y[..., H:], z.numpy()[::-1])
    for a, b in zip(parts(state), parts(other), strict=True):
        same(a[1], b[0])


# ── the state is an argument and a result ─────────────────────────────────────────────────────────


@KINDS
def test_reading_in_two_parts_and_passing_the_state_on_equals_reading_at_once(device, kind):
    layer, x = kind(WIDTH, H, 2).to(device), Tensor(X, device=device)
    y, state = layer(x)
    first, between = layer(x[:2])
    second, last = layer(x[2:], between)
    for a, b in zip([y[:2], y[2:], *parts(state)], [first, second, *parts(last)], strict=True):
        same(a, b)


@KINDS
def test_without_a_state_a_layer_starts_from_zeros(device, kind):
    layer, x = kind(WIDTH, H, **ALL).to(device), Tensor(X, device=device)
    zeros = [tinycv.zeros(4, B, H, device=device) for _ in kind.state_names]
    same(layer(x)[0], layer(x, tuple(zeros) if len(zeros) > 1 else zeros[0])[0], 0, 0)


@CELLS
def test_a_cell_step_by_step_equals_the_layer(device, kind, cell):
    layer, cell, x = kind(WIDTH, H).to(device), cell(WIDTH, H).to(device), Tensor(X, device=device)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    (y, last), state = layer(x), None
    for t in range(T):
        state = cell(x[t], state)
        same(parts(state)[0], y[t])
    for a, b in zip(parts(state), parts(last), strict=True):
        same(a, b[0])


@CELLS
def test_a_state_of_a_wrong_shape_or_type_is_refused(device, kind, cell):
    good, bad = tinycv.zeros(2, B, H, device=device), tinycv.zeros(1, B, H, device=device)
    x, many = Tensor(X, device=device), len(kind.state_names)
    with pytest.raises(
        ValueError,
        match=rf"{kind.state_names[-1]} is \(1, 3, 6\); it must be \(2, 3, 6\): \(layers",
    ):
        kind(WIDTH, H, 2).to(device)(x, bad if many == 1 else (good, bad))
    with pytest.raises(
        ValueError, match=rf"{kind.__name__}.* must be" if many == 2 else "h_0 is a tuple"
    ):
        kind(WIDTH, H, 2).to(device)(x, good if many == 2 else (good, good))
    with pytest.raises(
        ValueError, match=rf"{kind.state_names[0]} is \(2, 3, 6\); it must be \(3, 6\): \(B, H\)"
    ):
        cell(WIDTH, H).to(device)(x[0], good if many == 1 else (good, good))
    with pytest.raises(ValueError, match="num_layers is 0"):
        kind(WIDTH, H, 0)


@KINDS
@pytest.mark.parametrize(
    "shape, words",
    [
        ((T, B, WIDTH + 1), r"weight_ih is float32 \(\d+, 4\), should be float32 \(\d+, 5\)"),
        ((T, WIDTH), "x has shape"),
        ((0, B, WIDTH), "at least one step"),
    ],
)
def test_an_input_of_a_wrong_shape_is_refused(device, kind, shape, words):
    with pytest.raises(ValueError, match=words):
        kind(WIDTH, H).to(device)(tinycv.zeros(*shape, device=device))


@KINDS
def test_an_empty_batch_gives_an_empty_result(device, kind):
    y, state = kind(WIDTH, H, **ALL).to(device)(
        tinycv.zeros(T, 0, WIDTH, device=device), lengths=np.zeros(0, int)
    )
    assert y.shape == (T, 0, 2 * H) and parts(state)[0].shape == (4, 0, H)


# ── lengths ───────────────────────────────────────────────────────────────────────────────────────


@KINDS
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, ALL], ids=["plain", "both ways", "all"]
)
def test_a_padded_batch_equals_its_sequences_one_by_one(device, kind, options):
    layer, x = kind(WIDTH, H, **options).to(device), Tensor(X, device=device)
    y, state = layer(x, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        alone, final_state = layer(x[:length, b : b + 1])
        same(y[:length, b], alone[:, 0])
        assert (y[length:, b].numpy() == 0).all()
        for a, c in zip(parts(state), parts(final_state), strict=True):
            same(a[:, b], c[:, 0])


@KINDS
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, T), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_the_content_of_the_padding_changes_nothing_and_gets_no_gradient(kind, lengths, seed):
    rng, layer = np.random.default_rng(seed), kind(2, 3, **ALL)
    x = rng.normal(size=(T, len(lengths), 2)).astype(np.float32)
    inside = np.arange(T)[:, None] < np.array(lengths)
    results = []
    for padding in (0, 100):
        leaf = Tensor(np.where(inside[..., None], x, padding), dtype="float32", requires_grad=True)
        y, state = layer(leaf, lengths=lengths)
        (slope,) = tinycv.grad((y**2).sum() + sum((part**2).sum() for part in parts(state)), leaf)
        results.append([y.numpy(), slope.numpy(), *(part.numpy() for part in parts(state))])
    assert all((a == b).all() for a, b in zip(*results, strict=True))
    assert not results[0][1][~inside].any() and (results[0][1][inside] != 0).any() == inside.any()


PADDING = [np.nan, np.inf, -np.inf, 3e38]


@KINDS
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_nan_in_the_padding_and_in_the_state_of_an_empty_sequence_reaches_nothing(
    kind, device, data
):
    """Checks the results, every gradient, and (on the CPU) a gradient of gradients, over layers,
    directions and initial states."""
    lengths = data.draw(st.lists(st.integers(0, T), min_size=1, max_size=4))
    options = {
        "num_layers": data.draw(st.integers(1, 2)),
        "bidirectional": data.draw(st.booleans()),
    }
    fill, bent = data.draw(st.sampled_from(PADDING)), data.draw(st.booleans()) and device == "cpu"
    layer, rng = kind(2, 3, **options).to(device), np.random.default_rng(len(lengths))
    inside = np.arange(T)[:, None] < np.array(lengths)
    x, starts = (
        rng.normal(size=(T, len(lengths), 2)),
        rng.normal(size=(2, len(layer.suffixes[0]) * options["num_layers"], len(lengths), 3)),
    )
    runs = []
    for padding in (0.0, fill):
        leaf = Tensor(
            np.where(inside[..., None], x, padding),
            dtype="float32",
            device=device,
            requires_grad=True,
        )
        given = [
            Tensor(
                np.where(inside.any(axis=0)[:, None], part, padding),
                dtype="float32",
                device=device,
                requires_grad=True,
            )
            for part in starts[: len(kind.state_names)]
        ]
        y, state = layer(leaf, tuple(given) if len(given) > 1 else given[0], lengths=lengths)
        ends = [
            tinycv.where(Tensor(inside.any(axis=0)[:, None], device=device), part, 0.0)
            for part in parts(state)
        ]
        loss = (y**2).sum() + sum((end**2).sum() for end in ends)
        leaves = [leaf, *given, *layer.parameters()]
        slopes = tinycv.grad(loss, leaves, create_graph=bent)
        if bent:
            slopes = [*slopes, *tinycv.grad(sum((s**2).sum() for s in slopes), leaves)]
        runs.append([part.numpy() for part in (y, *ends, *slopes)])
    for a, b in zip(*runs, strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@KINDS
def test_an_empty_sequence_keeps_its_initial_state(device, kind):
    layer, x = kind(WIDTH, H, 2, bidirectional=True).to(device), Tensor(X, device=device)
    given = tuple(tinycv.randn(4, B, H, device=device) for _ in kind.state_names)
    y, state = layer(x, given if len(given) > 1 else given[0], lengths=[0, 5, 1])
    assert not y.numpy()[:, 0].any()
    for before, after in zip(given, parts(state), strict=True):
        assert (before.numpy()[:, 0] == after.numpy()[:, 0]).all() and (
            before.numpy()[:, 1:] != after.numpy()[:, 1:]
        ).all()


@KINDS
def test_full_lengths_equal_no_lengths(device, kind):
    layer, x = kind(WIDTH, H, **ALL).to(device), Tensor(X, device=device)
    full = Tensor(np.array([T] * B), device=device)
    for a, b in zip(
        parts(layer(x, lengths=full)[1]) + [layer(x, lengths=full)[0]],
        parts(layer(x)[1]) + [layer(x)[0]],
        strict=True,
    ):
        same(a, b, 0, 0)


@pytest.mark.parametrize("lengths", [[2, 5], [2, 5, 6], [-1, 5, 5], [1.0, 2.0, 3.0], 5], ids=str)
def test_wrong_lengths_are_named(device, lengths):
    with pytest.raises(
        ValueError,
        match=rf"lengths is .*{lengths if lengths == 5 else lengths[0]}.*3 integers from 0 to 5",
    ):
        GRU(WIDTH, H).to(device)(Tensor(X, device=device), lengths=lengths)


@pytest.mark.parametrize("function, gates", [(rnn, 1), (gru, 3), (lstm, 4)])
def test_a_mask_of_a_wrong_shape_or_dtype_is_named(device, function, gates):
    shapes = [(B, H)] * (2 if function is lstm else 1) + [
        (gates * H, WIDTH),
        (gates * H, H),
        (gates * H,),
        (gates * H,),
    ]
    arrays = [Tensor(np.zeros(shape, np.float32), device=device) for shape in shapes]
    for mask in (np.ones((T, B), bool), np.ones((T, B, 1), np.float32)):
        with pytest.raises(
            ValueError,
            match=r"mask is (bool \(5, 3\)|float32 \(5, 3, 1\)), should be bool \(5, 3, 1\)",
        ):
            function(Tensor(X, device=device), *arrays, Tensor(mask, device=device))


# ── the certificate ───────────────────────────────────────────────────────────────────────────────


@KINDS
@pytest.mark.parametrize(
    "options, places, lengths",
    [({"bidirectional": True}, 2, None), (ALL, 4, [2, 1, 0])],
    ids=["whole", "of several lengths"],
)
def test_the_layer_is_certified_in_its_input_its_state_and_its_parameters(
    kind, options, places, lengths
):
    class Joined(kind):
        def forward(self, x, state):
            y, last = super().forward(
                x, state if len(kind.state_names) == 1 else (state, 0.5 * state), lengths
            )
            return tinycv.concatenate(
                [tinycv.concatenate(parts(last), axis=-1).reshape((-1,)), y.reshape((-1,))]
            )

    x, state = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(places, 3, 2))
    certify_layer(Joined(2, 2, **options), x, state)


@pytest.mark.parametrize("function, gates", [(rnn, 1), (gru, 3)])
@pytest.mark.parametrize(
    "steps, batch, width, hidden", [(1, 1, 1, 1), (3, 2, 3, 2), (2, 0, 2, 2), (2, 2, 0, 2)]
)
def test_the_function_is_certified(function, gates, steps, batch, width, hidden):
    rows = gates * hidden
    certify(
        function,
        *(
            RNG.normal(size=s)
            for s in (
                (steps, batch, width),
                (batch, hidden),
                (rows, width),
                (rows, hidden),
                (rows,),
                (rows,),
            )
        ),
    )


@CELLS
def test_the_cell_is_certified(kind, cell):
    certify_layer(cell(3, 2), RNG.normal(size=(2, 3)))
