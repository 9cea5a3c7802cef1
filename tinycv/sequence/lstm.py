"""LSTM: a network that reads a sequence step by step, and decides what to keep.

    i = σ(W_ii x_t + b_ii + W_hi h + b_hi)          input gate: how much of the candidate is written
    f = σ(W_if x_t + b_if + W_hf h + b_hf)              forget gate: how much of the cell is kept
    g = tanh(W_ig x_t + b_ig + W_hg h + b_hg)           candidate: what there is to write
    o = σ(W_io x_t + b_io + W_ho h + b_ho)              output gate: how much of the cell is shown
    c' = f c + i g                                      the cell: memory
    h' = o tanh(c')                      the hidden state: what the next step and the next layer see

Hochreiter & Schmidhuber 1997; the forget gate is Gers, Schmidhuber & Cummins 2000's.  Along the
cell a gradient is only multiplied by forget gates, dc'/dc = f: where these are near 1 it lives
through hundreds of steps, while in a plain recurrent network it passes a matrix and a tanh at each.
The two biases are one too many; they are PyTorch's.

Read before: rnn.py; sigmoid and tanh in engine/ops.py, linear in nn/linear.py.
Read next: recurrent.py, gru.py.   Seen at work: demos/02_rnn_lstm.py.
Shapes: T steps, B batch, I width of the input, H width of the hidden state; 4H: the gates i, f, g,
o one after another.
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.arguments import number, shown
from tinycv.engine.backend import host_generator, to_device
from tinycv.engine.fused import fused
from tinycv.engine.methods import split, stack
from tinycv.engine.ops import sigmoid, tanh
from tinycv.engine.tensor import Tensor
from tinycv.nn.linear import linear
from tinycv.sequence.inputs import check_axes
from tinycv.sequence.lstm_kernel import back, forward, to_arguments
from tinycv.sequence.recurrent import (
    Cell,
    Recurrent,
    check,
    going_on,
    read,
    started,
    weights,
)


def lstm_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """x (B, I), h and c (B, H). Returns what the input gate, the forget gate, the candidate and the
    output gate are, the next c and the next h, (B, H) each."""
    gates = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)  # (B, 4H)
    # (B, H) each
    i, f, g, o = split(gates, 4, axis=-1)
    input_gate, forget_gate, candidate, output_gate = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    c = forget_gate * c + input_gate * candidate  # (B, H)
    return input_gate, forget_gate, candidate, output_gate, c, output_gate * tanh(c)


@fused(whole="mask")
def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Read x (T, B, I), T at least 1, from hidden state h0 and cell c0 (B, H).

    weight_ih (4H, I), weight_hh (4H, H), biases (4H,) or None; mask: None, or (T, B, 1), True where
    a sequence is not
    over: where it is, h and c stay as they are, and what x holds reaches nothing, even if it is
    NaN. Returns every hidden state, y (T, B, H), and the last cell, c_n (B, H).
    The last hidden state is y[-1]. ValueError lists the arrays whose shapes do not belong together.
    """
    h, c, y = h0, c0, []
    for t in range(x.shape[0]):
        seen = [read(mask, t, part) for part in (x[t], h, c)]
        *_, next_c, next_h = lstm_step(*seen, weight_ih, weight_hh, bias_ih, bias_hh)
        # (B, H) each
        c, h = going_on(mask, t, next_c, c), going_on(mask, t, next_h, h)
        y.append(h)
    # (T, B, H), (B, H)
    return stack(y), c


class LSTM(Recurrent):
    """Layers of LSTM: see Recurrent. The state is (h, c). differs: no proj_size."""

    gates, parts = 4, ("h_0", "c_0")

    @staticmethod
    def read(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """x (T, B, I), state (h0, c0), (B, H) each. Returns y (T, B, H) and (h_n, c_n)."""
        y, c = lstm(x, *state, *weights, mask)
        return y, (y[-1], c)


class LSTMCell(Cell):
    """One step of an LSTM: x (B, I) and (h, c) of (B, H) each, or None for zeros, to the next (h,
    c)."""

    layer = LSTM


def chrono_start(layer: LSTM, steps: int) -> None:
    """Start every layer with gates set for memories of up to ``steps`` steps: b_f = log u, b_i =
    -b_f, u from U(1, steps).

    Then f = u / (1 + u), so that a cell keeps its content for about u steps, and each cell is given
    another u. Tallec & Ollivier 2018, "Can recurrent neural networks warp time?", whose T_max is
    ``steps`` + 1. Without it the forget gates start near 1/2. ValueError for less than one step, or
    a layer without biases.
    """
    if not isinstance(layer, LSTM):
        raise TypeError(f"chrono_start: layer is {shown(layer)}; it must be an LSTM")
    most = number(steps, "chrono_start: steps", 1, 1e15)
    hidden = layer.hidden_size
    for suffix in sum(layer.suffixes, []):
        _, _, bias_ih, bias_hh = weights(layer, suffix)
        if bias_ih is None:
            raise ValueError("chrono_start sets biases, and this LSTM was made with bias=False")
        start = np.log(host_generator().uniform(1, most, hidden)).astype(bias_ih.dtype)
        bias_hh.data[: 2 * hidden] = 0.0
        bias_ih.data[:hidden] = to_device(-start, bias_ih.device)
        bias_ih.data[hidden : 2 * hidden] = to_device(start, bias_ih.device)


def lstm_gates(layer: LSTM, x: Tensor) -> dict[str, Tensor]:
    """What the first layer of an LSTM does at each step of x (T, B, I), or (B, T, I) if
    batch_first, for pictures.

    Returns input_gate, forget_gate, candidate, output_gate, cell and hidden by name, each (T, B,
    H), or (B, T, H).
    """
    if not isinstance(layer, LSTM):
        raise TypeError(f"lstm_gates: layer is {shown(layer)}; it must be an LSTM")
    check_axes("lstm_gates", x, "(B, T, I)" if layer.batch_first else "(T, B, I)")
    x = x.swapaxes(0, 1) if layer.batch_first else x
    if not x.shape[0]:
        raise ValueError(f"lstm_gates: x has shape {x.shape}; it must have at least one step")
    h, c = started("lstm_gates", layer.parts, None, (x.shape[1], layer.hidden_size), x)
    steps = []
    for t in range(x.shape[0]):
        steps.append(lstm_step(x[t], h, c, *weights(layer, "_l0")))
        *_, c, h = steps[-1]
    names = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")
    axis = int(layer.batch_first)
    return {name: stack([step[i] for step in steps], axis) for i, name in enumerate(names)}


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@lstm.kernel
def _lstm(xp, x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, mask=None):
    check(4, x, {"h0": h0, "c0": c0}, (weight_ih, weight_hh, bias_ih, bias_hh), mask)
    column, block, shown, over = forward(
        xp, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, mask
    )

    def pull(g):
        rows, dh, dc = back(xp, g, block, shown, over, weight_hh)
        to_x, to_weight_ih, to_weight_hh, to_bias = to_arguments(xp, rows, column, weight_ih, over)
        return to_x, dh.T, dc.T, to_weight_ih, to_weight_hh, to_bias, to_bias

    return (column[1:, : h0.shape[1]].swapaxes(1, 2), block[-1, 4].T.copy()), pull
