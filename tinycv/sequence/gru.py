"""GRU (gated recurrent unit): two gates instead of the LSTM's three, and no separate cell.

    r = σ(W_ir x_t + b_ir + W_hr h + b_hr)       reset gate: how much of the past the candidate sees
    z = σ(W_iz x_t + b_iz + W_hz h + b_hz)              update gate: how much of the past is kept
    n = tanh(W_in x_t + b_in + r (W_hn h + b_hn))       candidate: what could be written
    h' = (1 - z) n + z h                                the two weights add up to 1

Cho et al. 2014, eq. 5 to 8. The names r and z come from the paper; PyTorch writes n for the paper's
h with a tilde.

Where z is near 1, the state passes through the step unchanged, and so does its gradient, as along
the cell of an LSTM.

differs: in the last version of the paper, the reset gate multiplies h before the matrix product,
tanh(W x + U (r h)). Here it multiplies the result of the product, as in the first version of the
paper and in PyTorch. All gates of a step can then be computed in one product.

Read first: lstm.py.   Read next: recurrent.py.
Shapes: T steps, B batch, I width of the input, H width of the hidden state; 3H: the gates r, z, n
one after another.
"""

from __future__ import annotations

from tinycv.engine.methods import split, stack
from tinycv.engine.ops import sigmoid, tanh
from tinycv.engine.tensor import Tensor
from tinycv.nn.linear import linear
from tinycv.sequence.recurrent import (
    Cell,
    Recurrent,
    check,
    update_where_running,
    zero_where_ended,
)


def gru_step(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    """x (B, I), h (B, H). Returns the next h."""
    r_x, z_x, n_x = split(linear(x, weight_ih, bias_ih), 3, axis=-1)  # (B, H) each
    r_h, z_h, n_h = split(linear(h, weight_hh, bias_hh), 3, axis=-1)  # (B, H) each
    reset_gate, update_gate = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    candidate = tanh(n_x + reset_gate * n_h)
    return (1 - update_gate) * candidate + update_gate * h  # (B, H)


def gru(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Read x (T, B, I), T at least 1, from the hidden state h0 (B, H).

    weight_ih (3H, I), weight_hh (3H, H), biases (3H,) or None. mask: None, or bool (T, B, 1), True
    while a sequence is running. After its end, h stays as it is and x has no effect, even if it is
    NaN. Returns the hidden states of all steps, y (T, B, H); the last one is y[-1].
    """
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    check(3, x, {"h0": h0}, weights, mask)
    h, y = h0, []
    for t in range(x.shape[0]):
        x_t, h_before = zero_where_ended(mask, t, x[t]), zero_where_ended(mask, t, h)
        h = update_where_running(mask, t, gru_step(x_t, h_before, *weights), h)  # (B, H)
        y.append(h)
    return stack(y)  # (T, B, H)


class GRU(Recurrent):
    """One or more GRU layers. For the arguments see Recurrent."""

    gates = 3

    @staticmethod
    def read_sequence(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """x (T, B, I), state (h0 (B, H),). Returns y (T, B, H) and (h_n (B, H),)."""
        (h0,) = state
        y = gru(x, h0, *weights, mask=mask)
        return y, (y[-1],)


class GRUCell(Cell):
    """One step of a GRU: takes x (B, I) and h (B, H) (None: zeros), and returns the next h."""

    layer = GRU
