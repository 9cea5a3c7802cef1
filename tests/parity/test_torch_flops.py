"""tinycv.summary counts the FLOPs that PyTorch's FlopCounterMode counts for the same layer."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import tinycv
from tinycv import nn, sequence

# (ours, PyTorch's, the shapes of the inputs)
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), lambda: torch.nn.Linear(6, 4), [(3, 5, 6)]),
    "conv": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        lambda: torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        [(3, 4, 9, 9)],
    ),
    "transposed conv": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1),
        lambda: torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1),
        [(3, 4, 5, 5)],
    ),
    "attention": (
        lambda: sequence.MultiheadAttention(8, 2),
        lambda: torch.nn.MultiheadAttention(8, 2, batch_first=True),
        [(3, 5, 8), (3, 7, 8), (3, 7, 8)],
    ),
    "encoder layer": (
        lambda: sequence.TransformerEncoderLayer(8, 2, 16),
        lambda: torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        [(3, 5, 8)],
    ),
    "LSTM cell": (
        lambda: sequence.LSTMCell(6, 4),
        lambda: torch.nn.LSTMCell(6, 4),
        [(3, 6)],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_products_are_counted_as_pytorch_counts_them(name):
    ours, theirs, shapes = LAYERS[name]
    found = tinycv.summary(ours(), *shapes)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        # a gradient of the input keeps PyTorch from its fused inference path, which is not counted
        theirs()(*[torch.zeros(shape, requires_grad=True) for shape in shapes])
    assert 2 * found.multiply_adds == counter.get_total_flops() > 0


def test_an_lstm_has_the_products_of_its_steps():
    """PyTorch does not count its LSTM, but it counts one step of an LSTMCell."""
    counter = FlopCounterMode(display=False)
    with counter:
        torch.nn.LSTMCell(6, 4)(torch.zeros(3, 6, requires_grad=True))
    found = tinycv.summary(sequence.LSTM(6, 4), np.zeros((9, 3, 6), np.float32))
    assert 2 * found.multiply_adds == 9 * counter.get_total_flops()
