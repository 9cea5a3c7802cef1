"""RNN: the plainest network that reads a sequence. One matrix carries what it remembers from step
to step.

    h' = tanh(W_ih x_t + b_ih + W_hh h + b_hh)                                      Elman 1990

The hidden state h is all that it knows of what it has read.  Walking back through one step, a
gradient is multiplied by the slope of tanh, at most 1, and by W_hhᵀ:

    dL/dh = W_hhᵀ ((1 - h'²) dL/dh')      Bengio, Simard & Frasconi 1994; Pascanu et al. 2013, eq. 5

After T steps that is a product of T matrices: it vanishes where they shrink, and explodes where
they stretch.  So the network learns from the last few steps, and has no way to find out that an
early one mattered.  The LSTM keeps a path that is no product of matrices.  The two biases are one
too many; they are PyTorch's.

Read before: tanh in engine/ops.py, linear in nn/linear.py.   Read next: lstm.py.
Seen at work: demos/02_rnn_lstm.py.
Shapes: T steps, B batch, I width of the input, H width of the hidden state.
"""

from __future__ import annotations

from tinycv.engine.methods import stack
from tinycv.engine.ops import tanh
from tinycv.engine.tensor import Tensor
from tinycv.nn.linear import linear
from tinycv.sequence.recurrent import Cell, Recurrent, check, going_on, read


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

    weight_ih (H, I), weight_hh (H, H), biases (H,) or None; mask: None, or (T, B, 1), True where a
    sequence is not over: where it is, h stays as it is, and what x holds reaches nothing, even if
    it is NaN. Returns every hidden state, y (T, B, H); the last is y[-1].
    """
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    check(1, x, {"h0": h0}, weights, mask)
    h, y = h0, []
    for t in range(x.shape[0]):
        # (B, H)
        h = going_on(mask, t, rnn_step(read(mask, t, x[t]), read(mask, t, h), *weights), h)
        y.append(h)
    return stack(y)  # (T, B, H)


class RNN(Recurrent):
    """Layers of the plain recurrent network: see Recurrent.

    differs: tanh alone, so PyTorch's ``nonlinearity``, its fourth argument, is left out.
    """

    @staticmethod
    def read(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """x (T, B, I), state (h0 (B, H),). Returns y (T, B, H) and (h_n (B, H),)."""
        (h0,) = state
        y = rnn(x, h0, *weights, mask=mask)
        return y, (y[-1],)


class RNNCell(Cell):
    """One step of an RNN: x (B, I) and h (B, H), or None for zeros, to the next h."""

    layer = RNN
