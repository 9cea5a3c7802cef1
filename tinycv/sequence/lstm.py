"""LSTM (long short-term memory): a recurrent layer whose gates decide what to keep and what to
forget.

    i = σ(W_ii x_t + b_ii + W_hi h + b_hi)       input gate: how much of the candidate is written
    f = σ(W_if x_t + b_if + W_hf h + b_hf)       forget gate: how much of the cell is kept
    g = tanh(W_ig x_t + b_ig + W_hg h + b_hg)    candidate: what could be written
    o = σ(W_io x_t + b_io + W_ho h + b_ho)       output gate: how much of the cell is shown
    c' = f c + i g                               the cell: memory
    h' = o tanh(c')                              the hidden state, for the next step and layer

Hochreiter & Schmidhuber 1997; the forget gate was added by Gers, Schmidhuber & Cummins 2000.  Along
the cell, a gradient is multiplied only by forget gates, dc'/dc = f.  Where these are near 1 it
survives hundreds of steps.  In a plain RNN it passes a matrix and a tanh at every step.

An untrained LSTM forgets as an RNN does.  With small weights and biases its forget gates start near
σ(0) = 1/2, so a cell loses half of its content at every step.  On the sequences of demo 02, the
norm of the gradient at the first of 100 states, divided by the norm at the last, is (seed 0):

    before training, LSTM and RNN                    of the order of 1e-21
    after training, LSTM                             0.3: it learns to hold forget gates open
    after training, RNN                              0
    untrained LSTM with b_f = 1                      4e-8: the gates start at σ(1) = 0.73
    untrained LSTM after chrono_start(layer, 100)    0.1: b_f for memories of up to 100 steps

So a positive forget-gate bias gives an LSTM a head start (Gers et al. 2000).

One bias for each gate would be enough; there are two because PyTorch has two.

Read first: rnn.py; sigmoid and tanh in engine/ops.py, linear in nn/linear.py.
Read next: gru.py, recurrent.py.   Demo: demos/02_rnn_lstm.py.
Shapes: T steps, B batch, I width of the input, H width of the hidden state; 4H: the gates i, f, g,
o, stacked in this order.
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
from tinycv.sequence.lstm_kernel import CELL, argument_gradients, backward_steps, forward_steps
from tinycv.sequence.recurrent import (
    Cell,
    Recurrent,
    check,
    initial_state,
    layer_weights,
    update_where_running,
    zero_where_ended,
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
    """x (B, I), h and c (B, H). Returns the input gate, the forget gate, the candidate, the output
    gate, the next c and the next h, (B, H) each."""
    gates = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)  # (B, 4H)
    i, f, g, o = split(gates, 4, axis=-1)  # (B, H) each
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

    weight_ih (4H, I), weight_hh (4H, H), biases (4H,) or None. mask: None, or bool (T, B, 1), True
    while a sequence is running. After its end, h and c stay as they are and x has no effect, even
    if it is NaN. Returns the hidden states of all steps, y (T, B, H), and the last cell, c_n (B,
    H). The last hidden state is y[-1]. If shapes do not fit, the ValueError lists the wrong arrays.
    """
    h, c, y = h0, c0, []
    for t in range(x.shape[0]):
        x_t, h_before, c_before = (zero_where_ended(mask, t, value) for value in (x[t], h, c))
        *_, next_c, next_h = lstm_step(
            x_t, h_before, c_before, weight_ih, weight_hh, bias_ih, bias_hh
        )
        c = update_where_running(mask, t, next_c, c)  # (B, H)
        h = update_where_running(mask, t, next_h, h)  # (B, H)
        y.append(h)
    return stack(y), c  # (T, B, H), (B, H)


class LSTM(Recurrent):
    """One or more LSTM layers. The state is (h, c). For the arguments see Recurrent.

    differs: there is no proj_size.
    """

    gates = 4
    state_names = ("h_0", "c_0")

    @staticmethod
    def read_sequence(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """x (T, B, I), state (h0, c0), (B, H) each. Returns y (T, B, H) and (h_n, c_n)."""
        y, c = lstm(x, *state, *weights, mask)
        return y, (y[-1], c)


class LSTMCell(Cell):
    """One step of an LSTM: takes x (B, I) and the state (h, c), (B, H) each (None: zeros), and
    returns the next (h, c)."""

    layer = LSTM


def chrono_start(layer: LSTM, steps: int) -> None:
    """Chrono initialisation: set the gate biases of every layer for memories of up to ``steps``
    steps: b_f = log u, b_i = -b_f, with u from U(1, steps).

    Then f = u / (1 + u), so a cell keeps its content for about u steps. Each cell draws its own u.
    Tallec & Ollivier 2018, "Can recurrent neural networks warp time?"; their T_max is ``steps`` +
    1. Without it the forget gates start near 1/2. Raises ValueError for less than one step, or for
    a layer without biases.
    """
    if not isinstance(layer, LSTM):
        raise TypeError(f"chrono_start: layer is {shown(layer)}; it must be an LSTM")
    longest_memory = number(steps, "chrono_start: steps", 1, 1e15)
    hidden = layer.hidden_size
    input_rows, forget_rows = slice(0, hidden), slice(hidden, 2 * hidden)  # of the order i, f, g, o
    for suffix in sum(layer.suffixes, []):
        _, _, bias_ih, bias_hh = layer_weights(layer, suffix)
        if bias_ih is None:
            raise ValueError("chrono_start sets biases, and this LSTM was made with bias=False")
        durations = host_generator().uniform(1, longest_memory, hidden)  # u
        forget_bias = np.log(durations).astype(bias_ih.dtype)
        bias_hh.data[: 2 * hidden] = 0.0
        bias_ih.data[input_rows] = to_device(-forget_bias, bias_ih.device)
        bias_ih.data[forget_rows] = to_device(forget_bias, bias_ih.device)


def lstm_gates(layer: LSTM, x: Tensor) -> dict[str, Tensor]:
    """The gates and the state of the first layer of an LSTM at each step, for pictures.

    x (T, B, I), or (B, T, I) if batch_first. Returns a dict: input_gate, forget_gate, candidate,
    output_gate, cell and hidden, each (T, B, H), or (B, T, H).
    """
    if not isinstance(layer, LSTM):
        raise TypeError(f"lstm_gates: layer is {shown(layer)}; it must be an LSTM")
    check_axes("lstm_gates", x, "(B, T, I)" if layer.batch_first else "(T, B, I)")
    x = x.swapaxes(0, 1) if layer.batch_first else x
    if not x.shape[0]:
        raise ValueError(f"lstm_gates: x has shape {x.shape}; it must have at least one step")
    h, c = initial_state("lstm_gates", layer.state_names, None, (x.shape[1], layer.hidden_size), x)
    steps = []
    for t in range(x.shape[0]):
        steps.append(lstm_step(x[t], h, c, *layer_weights(layer, "_l0")))
        *_, c, h = steps[-1]
    names = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")
    axis = int(layer.batch_first)
    return {name: stack([step[i] for step in steps], axis) for i, name in enumerate(names)}


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@lstm.kernel
def _lstm(xp, x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, mask=None):
    check(4, x, {"h0": h0, "c0": c0}, (weight_ih, weight_hh, bias_ih, bias_hh), mask)
    # columns: [h; x; 1] of each step. blocks: its gates and cell. See lstm_kernel.py.
    columns, blocks, tanh_cells, ended = forward_steps(
        xp, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, mask
    )

    def pull(g):
        d_gates, dh0, dc0 = backward_steps(xp, g, blocks, tanh_cells, ended, weight_hh)
        to_x, to_weight_ih, to_weight_hh, to_bias = argument_gradients(
            xp, d_gates, columns, weight_ih, ended
        )
        return to_x, dh0.T, dc0.T, to_weight_ih, to_weight_hh, to_bias, to_bias

    return results(columns, blocks), pull


@lstm.inference
def _lstm_inference(xp, x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, mask=None):
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    check(4, x, {"h0": h0, "c0": c0}, weights, mask)
    columns, blocks, *_ = forward_steps(xp, x, h0, c0, *weights, mask, keep=False)
    return results(columns, blocks)


def results(columns, blocks):
    """y (T, B, H), a view of the h at the top of each column, and c_n (B, H), from the arrays of
    ``forward_steps``."""
    hidden = blocks.shape[2]
    return columns[1:, :hidden].swapaxes(1, 2), blocks[-1, CELL].T.copy()
