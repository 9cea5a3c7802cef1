"""LSTM: a network that reads a sequence step by step, and decides what to keep.

    i = σ(W_ii x_t + b_ii + W_hi h + b_hi)              input gate: how much of the candidate is written
    f = σ(W_if x_t + b_if + W_hf h + b_hf)              forget gate: how much of the cell is kept
    g = tanh(W_ig x_t + b_ig + W_hg h + b_hg)           candidate: what there is to write
    o = σ(W_io x_t + b_io + W_ho h + b_ho)              output gate: how much of the cell is shown
    c' = f c + i g                                      the cell: memory
    h' = o tanh(c')                                     the hidden state: what the next step and the next layer see

Hochreiter & Schmidhuber 1997; the forget gate is Gers, Schmidhuber & Cummins 2000's.  Along the cell a gradient is only
multiplied by forget gates, dc'/dc = f: where these are near 1 it lives through hundreds of steps, while in a plain
recurrent network it passes a matrix and a tanh at each.  The two biases are one too many; they are PyTorch's.

Read before: sigmoid and tanh in engine/ops.py, linear in nn/linear.py.
Shapes: T steps, B batch, I width of the input, H width of the hidden state; 4H: the gates i, f, g, o one after another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.backend import array_module
from tinycv.engine.fused import fused
from tinycv.engine.methods import concatenate, split, stack
from tinycv.engine.ops import flip, sigmoid, tanh
from tinycv.engine.reduce import sum_last
from tinycv.engine.tensor import bare
from tinycv.nn import init
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import linear
from tinycv.nn.module import Module


@fused
def lstm(x: Any, h0: Any, c0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None) -> tuple:
    """Read x (T, B, I), T at least 1, from hidden state h0 and cell c0 (B, H).

    weight_ih (4H, I), weight_hh (4H, H), biases (4H,) or None. Returns every hidden state, y (T, B, H), and the last
    cell, c_n (B, H). The last hidden state is y[-1]. ValueError lists the arrays whose shapes do not belong together.
    """
    h, c, y = h0, c0, []
    for t in range(x.shape[0]):
        gates = linear(x[t], weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)        # (B, 4H)
        i, f, g, o = split(gates, 4, axis=-1)                                           # (B, H) each
        input_gate, forget_gate, candidate, output_gate = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c = forget_gate * c + input_gate * candidate                                    # (B, H)
        h = output_gate * tanh(c)                                                       # (B, H)
        y.append(h)
    return stack(y), c                                                                  # (T, B, H), (B, H)


class LSTM(Module):
    """Layers of LSTM: the first reads x, each other the hidden states of the one below.

    dropout: on what a layer reads of the layer below, while training. bidirectional: a second LSTM reads each sequence
    from its end, and their hidden states are joined. Parameters are PyTorch's: weight_ih_l0, weight_hh_l0, bias_ih_l0,
    bias_hh_l0, then _l0_reverse, _l1, ..., started from U(-1/√H, 1/√H).
    differs: x always has a batch axis; no packed sequences, no proj_size.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False):
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}; it must be at least 1")
        self.hidden_size, self.batch_first, self.dropout = hidden_size, batch_first, dropout
        ways = ("", "_reverse") if bidirectional else ("",)
        self.suffixes = [[f"_l{layer}{way}" for way in ways] for layer in range(num_layers)]
        for layer in self.suffixes:
            for suffix in layer:
                start(self, input_size, hidden_size, bias, suffix)
            input_size = len(ways) * hidden_size

    def forward(self, x: Any, state: tuple | None = None) -> tuple:
        """x (T, B, I), or (B, T, I) if batch_first. state: (h_0, c_0), each (layers * directions, B, H), or None for
        zeros. Returns y (T, B, directions * H), or (B, T, ...), of the last layer, and the state after the last step.
        """
        x = x.swapaxes(0, 1) if self.batch_first else x
        h_0, c_0 = (iter(part) for part in self.started(x, state))
        h_n, c_n = [], []
        for depth, layer in enumerate(self.suffixes):
            x = dropout(x, self.dropout, self.training) if depth else x
            read = []
            for backward, suffix in enumerate(layer):
                y, c = lstm(flip(x, 0) if backward else x, next(h_0), next(c_0), *parameters(self, suffix))
                h_n.append(y[-1])
                c_n.append(c)
                read.append(flip(y, 0) if backward else y)                              # (T, B, H)
            x = concatenate(read, axis=-1) if len(read) > 1 else y                      # (T, B, directions * H)
        return x.swapaxes(0, 1) if self.batch_first else x, (stack(h_n), stack(c_n))

    def started(self, x: Any, state: tuple | None) -> tuple:
        """(h_0, c_0), zeros where none was given."""
        shape = (sum(map(len, self.suffixes)), x.shape[1], self.hidden_size)
        if state is None:
            zeros = array_module(bare(x)).zeros(shape, x.dtype)
            return zeros, zeros
        for name, part in zip(("h_0", "c_0"), state, strict=True):
            if part.shape != shape:
                raise ValueError(f"LSTM: {name} is {part.shape}; it must be {shape}: (layers * directions, B, H)")
        return state


class LSTMCell(Module):
    """One step of an LSTM, for what is decided step by step. Parameters weight_ih, weight_hh, bias_ih, bias_hh."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        self.hidden_size = hidden_size
        start(self, input_size, hidden_size, bias)

    def forward(self, x: Any, state: tuple | None = None) -> tuple:
        """x (B, I), state (h, c) of (B, H) each, or None for zeros. Returns the next (h, c)."""
        if state is None:
            state = (array_module(bare(x)).zeros((x.shape[0], self.hidden_size), x.dtype),) * 2
        y, c = lstm(x[None], *state, *parameters(self))
        return y[0], c


NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


def start(module: Module, width: int, hidden: int, bias: bool, suffix: str = "") -> None:
    """Give the module the parameters of one LSTM, under PyTorch's names."""
    shapes = (4 * hidden, width), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)
    for name, shape in zip(NAMES, shapes, strict=True):
        wanted = bias or len(shape) > 1
        setattr(module, name + suffix, init.uniform(shape, 1 / max(hidden, 1) ** 0.5) if wanted else None)


def parameters(module: Module, suffix: str = "") -> list:
    return [getattr(module, name + suffix) for name in NAMES]


# ── below this line: speed. The definition above is what it must equal ───────────────────────────
#
# Everything is kept as columns, (4H, B) in place of (B, 4H). One product then makes all gates of a step, and each gate
# lies in one piece of memory, through which NumPy runs several times faster than through pieces of rows. The product
# is of [W_h W_x b] with the column [h; x; 1]: no sum is left to do. A step's block of memory holds

#     o, i, f, g, c        g the candidate, c the cell before: then i g and f c are one product, of [i; f] and [g; c]
#
# PyTorch's order, i, f, g, o, is rolled on by one. The weights of o, i and f are negated: σ(z) = 1 / (1 + exp(-z)), and
# exp takes half of tanh's time.


@lstm.kernel
def _lstm(xp, x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None):
    check(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh)
    (steps, batch, width), hidden, dtype = x.shape, h0.shape[1], x.dtype
    weight = joined(xp, weight_ih, weight_hh, bias_ih, bias_hh)
    column = xp.empty((steps + 1, hidden + width + 1, batch), dtype)            # [h; x; 1] before each step
    column[0, :hidden], column[:-1, hidden:-1], column[:, -1] = h0.T, x.swapaxes(1, 2), 1
    block, shown = xp.empty((steps + 1, 5, hidden, batch), dtype), xp.empty((steps, hidden, batch), dtype)
    block[0, 4], flat = c0.T, block.reshape(steps + 1, 5 * hidden, batch)
    parts = xp.empty((2, hidden, batch), dtype)
    with np.errstate(over="ignore"):                                            # exp is inf where a gate is 0
        for before, now, gates, after, tanh_c, h in zip(
                column, block, flat[:, :4 * hidden], block[1:, 4], shown, column[1:, :hidden], strict=False):
            xp.matmul(weight, before, out=gates)
            sigmoids = now[:3]
            xp.exp(sigmoids, out=sigmoids)
            sigmoids += 1
            xp.reciprocal(sigmoids, out=sigmoids)
            xp.tanh(now[3], out=now[3])
            xp.multiply(now[1:3], now[3:5], out=parts)
            xp.add(parts[0], parts[1], out=after)
            xp.tanh(after, out=tanh_c)
            xp.multiply(now[0], tanh_c, out=h)
    h = column[:, :hidden].swapaxes(1, 2).copy()                                # (T + 1, B, H)

    def pull(g):
        d, dh, dc = back(xp, g, block, shown, xp.roll(weight_hh, hidden, axis=0))
        d = in_rows(xp, d)
        bias = sum_last(xp, d)[:, 0]
        return (lambda: (d.T @ weight_ih).reshape(x.shape), dh.T, dc.T,
                lambda: d @ x.reshape(steps * batch, width),
                lambda: d @ h[:-1].reshape(steps * batch, hidden), bias, bias)

    return (h[1:], block[-1, 4].T.copy()), pull


def joined(xp, weight_ih, weight_hh, bias_ih, bias_hh):
    """[W_h W_x b], (4H, H + I + 1), in the block's order, negated for the gates that are sigmoids."""
    (rows, hidden), width = weight_hh.shape, weight_ih.shape[1]
    weight = xp.zeros((rows, hidden + width + 1), weight_hh.dtype)
    weight[:, :hidden], weight[:, hidden:-1] = weight_hh, weight_ih
    for bias in (bias_ih, bias_hh):
        if bias is not None:
            weight[:, -1] += bias
    weight = xp.roll(weight, hidden, axis=0)
    sigmoids = weight[:3 * hidden]
    xp.negative(sigmoids, out=sigmoids)
    return weight


def in_rows(xp, d):
    """(T, 4, H, B) in the block's order -> (4H, T B) in PyTorch's."""
    steps, _, hidden, batch = d.shape
    rows = xp.empty((4, hidden, steps, batch), d.dtype)
    rows[:3], rows[3] = d[:, 1:].transpose(1, 2, 0, 3), d[:, 0].swapaxes(0, 1)
    return rows.reshape(4 * hidden, steps * batch)


def back(xp, g, block, shown, weight_hh):
    """(dL/d(what enters the gates), dL/dh0, dL/dc0), in columns.

    What does not depend on the step after is computed for all steps at once: the loop is left with small passes.
    """
    dy, dc_n = g
    steps, hidden, batch = shown.shape
    gates, d = block[:-1, :4], xp.empty((steps, 4, hidden, batch), shown.dtype)
    xp.multiply(gates, gates, out=d)
    xp.subtract(gates[:, :3], d[:, :3], out=d[:, :3])               # σ' = σ - σ²
    xp.subtract(1, d[:, 3], out=d[:, 3])                            # tanh' = 1 - tanh²
    d[:, 0] *= shown                                                # do = tanh(c) dh
    d[:, 1:3] *= block[:-1, 3:]                                     # di = g dc,    df = c dc
    d[:, 3] *= gates[:, 1]                                          # dg = i dc
    to_c = shown * shown
    xp.subtract(1, to_c, out=to_c)
    to_c *= gates[:, 0]                                             # dh/dc = o tanh'(c)
    dy = None if dy is None else xp.ascontiguousarray(dy.swapaxes(1, 2))
    dh, by_h = xp.zeros((hidden, batch), d.dtype), xp.empty((hidden, batch), d.dtype)
    dc, across = xp.zeros_like(dh) if dc_n is None else dc_n.T.copy(), weight_hh.T
    for t in reversed(range(steps)):
        now = d[t]
        if dy is not None:
            dh += dy[t]
        dc += xp.multiply(dh, to_c[t], out=by_h)
        now[0] *= dh
        now[1:] *= dc
        dc *= gates[t, 2]
        xp.matmul(across, now.reshape(4 * hidden, batch), out=dh)
    return d, dh, dc


def check(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh):
    """ValueError where the shapes or dtypes do not belong together."""
    if x.ndim != 3 or x.shape[0] == 0:
        raise ValueError(f"x has shape {x.shape}; it must be (T, B, I), time first, with at least one step")
    (_, batch, width), hidden = x.shape, weight_hh.shape[-1]
    given = {"h0": h0, "c0": c0, "weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    state, rows = (batch, hidden), (4 * hidden,)
    wanted = state, state, (*rows, width), (*rows, hidden), rows, rows
    wrong = [f"{name} is {a.dtype} {a.shape}, should be {x.dtype} {shape}"
             for (name, a), shape in zip(given.items(), wanted, strict=True)
             if a is not None and (a.shape != shape or a.dtype != x.dtype)]
    if wrong:
        raise ValueError(f"x is {x.dtype} {x.shape}, (T, B, I), and weight_hh {weight_hh.shape}, (4H, H), so B is "
                         f"{batch}, I {width}, H {hidden}; but " + "; ".join(wrong))
