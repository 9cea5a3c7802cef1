"""RNN, GRU and LSTM compared with PyTorch, with weights loaded by name; ``lengths`` compared with
packed sequences."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from twin import DTYPES, agree_as_layers

from tinycv import concatenate
from tinycv.sequence import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

RNG = np.random.default_rng(0)
T, B, WIDTH, H = 6, 4, 3, 5
X = RNG.normal(size=(T, B, WIDTH))

pytestmark = pytest.mark.parametrize("dtype", DTYPES)
KINDS = pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
LAYERS = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "no bias": {"bias": False},
    "both ways": {"bidirectional": True},
    "all": {"num_layers": 3, "batch_first": True, "bidirectional": True},
}
GIVEN = pytest.mark.parametrize("given", [False, True], ids=["no state", "state"])


def joined(concatenate, y, state):
    """y and every part of the state in one array, so that all carry a gradient."""
    return concatenate(
        [part.reshape((-1,)) for part in (y, *(state if isinstance(state, tuple) else (state,)))]
    )


def inputs(kind, options, given):
    """x, and the parts of an initial state if ``given`` is true."""
    places = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    x = X.swapaxes(0, 1) if options.get("batch_first") else X
    return [x, *(RNG.normal(size=(places, B, H)) for _ in kind.state_names if given)]


def packed(theirs, x, state, lengths):
    """What a PyTorch user writes for sequences of several lengths."""
    first = theirs.batch_first
    parcel = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
    y, state = theirs(parcel, state)
    return pad_packed_sequence(y, batch_first=first, total_length=T)[0], state


def state_of(parts):
    return None if not parts else parts if len(parts) > 1 else parts[0]


@KINDS
@GIVEN
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_the_recurrent_layer_matches_pytorch(kind, options, given, dtype):
    ours, theirs = kind(WIDTH, H, **options), getattr(torch.nn, kind.__name__)(WIDTH, H, **options)
    agree_as_layers(
        ours,
        theirs,
        inputs(kind, options, given),
        dtype,
        lambda x, *state: joined(concatenate, *ours(x, state_of(state))),
        lambda x, *state: joined(torch.cat, *theirs(x, state_of(state))),
    )


@KINDS
@GIVEN
@pytest.mark.parametrize("lengths", [[3, 6, 1, 4], [2, 2, 5, 1], [6, 6, 6, 6]], ids=str)
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_lengths_match_packed_sequences_in_pytorch(kind, options, lengths, given, dtype):
    ours, theirs = kind(WIDTH, H, **options), getattr(torch.nn, kind.__name__)(WIDTH, H, **options)
    agree_as_layers(
        ours,
        theirs,
        inputs(kind, options, given),
        dtype,
        lambda x, *state: joined(concatenate, *ours(x, state_of(state), lengths)),
        lambda x, *state: joined(torch.cat, *packed(theirs, x, state_of(state), lengths)),
    )


@KINDS
@pytest.mark.parametrize("steps, batch", [(1, 3), (6, 1), (1, 1), (60, 2)])
def test_short_and_long_sequences_and_small_batches_match_pytorch(kind, steps, batch, dtype):
    ours, theirs = kind(WIDTH, H), getattr(torch.nn, kind.__name__)(WIDTH, H)
    agree_as_layers(
        ours,
        theirs,
        [RNG.normal(size=(steps, batch, WIDTH))],
        dtype,
        lambda x: joined(concatenate, *ours(x)),
        lambda x: joined(torch.cat, *theirs(x)),
    )


@pytest.mark.parametrize("result", [0, 1], ids=["h_n", "c_n"])
def test_the_gradient_of_only_the_last_state_of_an_lstm_matches_pytorch(result, dtype):
    ours, theirs = LSTM(WIDTH, H, 2), torch.nn.LSTM(WIDTH, H, 2)
    agree_as_layers(
        ours, theirs, [X], dtype, lambda x: ours(x)[1][result], lambda x: theirs(x)[1][result]
    )


@GIVEN
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("cell", [RNNCell, GRUCell, LSTMCell])
def test_the_recurrent_cell_matches_pytorch(cell, bias, given, dtype):
    ours, theirs = cell(WIDTH, H, bias), getattr(torch.nn, cell.__name__)(WIDTH, H, bias)

    def stepped(concatenate, layer):
        def run(x, *state):
            result = layer(x, state_of(state))
            return concatenate(result if isinstance(result, tuple) else (result,))

        return run

    agree_as_layers(
        ours,
        theirs,
        [X[0], *RNG.normal(size=(given * len(ours.layer.state_names), B, H))],
        dtype,
        stepped(concatenate, ours),
        stepped(torch.cat, theirs),
    )
