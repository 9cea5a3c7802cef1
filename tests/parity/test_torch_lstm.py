"""LSTM and its cell against PyTorch's, with weights loaded by name: values and every gradient."""
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree_as_layers  # noqa: E402

from tinycv import concatenate  # noqa: E402
from tinycv.sequence import LSTM, LSTMCell  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3, 4))                  # (T, B, I), or (B, T, I)

pytestmark = pytest.mark.parametrize("dtype", DTYPES)

LAYERS = {"plain": {}, "two layers": {"num_layers": 2}, "no bias": {"bias": False}, "batch first": {"batch_first": True},
          "both ways": {"bidirectional": True}, "all": {"num_layers": 3, "batch_first": True, "bidirectional": True}}


def joined(concatenate, result):
    """y, h_n and c_n in one array, so that all three carry a gradient."""
    y, (h, c) = result
    return concatenate([part.reshape((-1,)) for part in (y, h, c)])


@pytest.mark.parametrize("given", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_the_layer_is_pytorchs(options, given, dtype):
    ours, theirs = LSTM(4, 5, **options), torch.nn.LSTM(4, 5, **options)
    parts = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    batch = X.shape[0 if options.get("batch_first") else 1]
    states = [RNG.normal(size=(parts, batch, 5)) for _ in range(2 * given)]
    agree_as_layers(ours, theirs, [X, *states], dtype, lambda x, *state: joined(concatenate, ours(x, state or None)),
                    lambda x, *state: joined(torch.cat, theirs(x, state or None)))


@pytest.mark.parametrize("steps, batch", [(1, 3), (6, 1), (1, 1), (60, 2)])
def test_few_steps_many_and_small_batches_are_pytorchs(steps, batch, dtype):
    ours, theirs = LSTM(4, 5), torch.nn.LSTM(4, 5)
    agree_as_layers(ours, theirs, [RNG.normal(size=(steps, batch, 4))], dtype,
                    lambda x: joined(concatenate, ours(x)), lambda x: joined(torch.cat, theirs(x)))


@pytest.mark.parametrize("result", [0, 1], ids=["h_n", "c_n"])
def test_the_gradient_of_the_last_state_alone_is_pytorchs(result, dtype):
    ours, theirs = LSTM(4, 5, 2), torch.nn.LSTM(4, 5, 2)
    agree_as_layers(ours, theirs, [X], dtype, lambda x: ours(x)[1][result], lambda x: theirs(x)[1][result])


@pytest.mark.parametrize("given", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_the_cell_is_pytorchs(bias, given, dtype):
    ours, theirs = LSTMCell(4, 5, bias), torch.nn.LSTMCell(4, 5, bias)
    agree_as_layers(ours, theirs, [X[0], *RNG.normal(size=(2 * given, 3, 5))], dtype,
                    lambda x, *state: concatenate(ours(x, state or None)),
                    lambda x, *state: torch.cat(theirs(x, state or None)))
