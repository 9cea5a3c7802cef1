"""RNN (Elman network): the simplest recurrent layer, and why its gradients vanish or explode.

    h' = tanh(W_ih x_t + b_ih + W_hh h + b_hh)                                      Elman 1990

The hidden state h is the network's only memory of what it has read.  On its way back through one
step, a gradient is multiplied by the slope of tanh, which is at most 1, and by W_hhᵀ:

    dL/dh = W_hhᵀ ((1 - h'²) dL/dh')      Bengio, Simard & Frasconi 1994; Pascanu et al. 2013, eq. 5

After T steps this is a product of T matrices: it vanishes if they shrink vectors, and explodes if
they stretch them.  So the network learns from the last few steps and cannot find out that an early
one mattered.  The LSTM adds a path along which no matrices are multiplied.

One bias would be enough; there are two because PyTorch has two.

Read first: tanh in engine/ops.py, linear in nn/linear.py.   Read next: lstm.py.
Demo: demos/02_rnn_lstm.py.
Shapes: T steps, B batch, I width of the input, H width of the hidden state.
"""

from __future__ import annotations

from tinycv.engine.methods import stack
from tinycv.engine.ops import tanh
from tinycv.engine.tensor import Tensor
from tinycv.nn.linear import linear
from tinycv.sequence.recurrent import (
    Cell,
    Recurrent,
    check,
    update_where_running,
    zero_where_ended,
)


def rnn_step(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    """x (B, I), h (B, H). Returns the next h."""
    return tanh(linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh))  # (B, H)


def rnn(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Read x (T, B, I), T at least 1, from the hidden state h0 (B, H).

    weight_ih (H, I), weight_hh (H, H), biases (H,) or None. mask: None, or bool (T, B, 1), True
    while a sequence is running. After its end, h stays as it is and x has no effect, even if it is
    NaN. Returns the hidden states of all steps, y (T, B, H); the last one is y[-1].
    """
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    check(1, x, {"h0": h0}, weights, mask)
    h, y = h0, []
    for t in range(x.shape[0]):
        x_t, h_before = zero_where_ended(mask, t, x[t]), zero_where_ended(mask, t, h)
        h = update_where_running(mask, t, rnn_step(x_t, h_before, *weights), h)  # (B, H)
        y.append(h)
    return stack(y)  # (T, B, H)


class RNN(Recurrent):
    """One or more RNN layers. For the arguments see Recurrent.

    differs: tanh is the only activation, so ``nonlinearity``, the fourth argument in PyTorch, does
    not exist here.
    """

    @staticmethod
    def read_sequence(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """x (T, B, I), state (h0 (B, H),). Returns y (T, B, H) and (h_n (B, H),)."""
        (h0,) = state
        y = rnn(x, h0, *weights, mask=mask)
        return y, (y[-1],)


class RNNCell(Cell):
    """One step of an RNN: takes x (B, I) and h (B, H) (None: zeros), and returns the next h."""

    layer = RNN
