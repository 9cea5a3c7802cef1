"""What RNN, GRU and LSTM share: layers, directions, dropout between layers, the state, and
sequences that end early.

    one step        state' = step(x_t, state)              rnn.py, gru.py and lstm.py say which step
    backward        the same from the last element to the first; both hidden states are joined
    layers          layer l + 1 reads what layer l shows

Two directions: Schuster & Paliwal 1997.  Dropout on what passes from layer to layer, and not from
step to step: Zaremba, Sutskever & Vinyals 2014.  A batch holds sequences of several lengths, filled
up at the end to one length T. Where a sequence is over, its state stays as it is.  That is all: the
last state is then each one's own last state, and read from the back, where the padding comes first,
each one starts at its own end.

Read before: lstm.py, which shows one step.
Shapes: T steps, B batch, I width of the input, H width of the hidden state, G gates of one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.data.inputs import whole
from tinycv.engine.arguments import NOT_PLAIN, flag, number, shown, size
from tinycv.engine.backend import to_numpy
from tinycv.engine.backward import grad
from tinycv.engine.create import zeros
from tinycv.engine.methods import concatenate, stack
from tinycv.engine.ops import flip, norm, where
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn import init
from tinycv.nn.checks import MOST_LAYERS
from tinycv.nn.dropout import dropout
from tinycv.nn.module import Module
from tinycv.sequence.inputs import State, check_axes
from tinycv.sequence.masks import beside

NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class Recurrent(Module):
    """Layers: the first reads x, each other the hidden states of the one below.

    dropout: on what a layer reads of the layer below, while training. bidirectional: a second one
    reads each sequence from its end, and their hidden states are joined. Parameters are PyTorch's:
    weight_ih_l0 (G H, I), weight_hh_l0 (G H, H), bias_ih_l0 (G H,), bias_hh_l0 (G H,), then
    _l0_reverse, _l1, ..., started from U(-1/√H, 1/√H).
    differs: x always has a batch axis; ``lengths`` takes the place of packed sequences.
    """

    gates = 1  # G
    parts: tuple[str, ...] = ("h_0",)  # what the state is made of

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        owner = type(self).__name__
        input_size = size(input_size, f"{owner}: input_size")
        hidden_size = size(hidden_size, f"{owner}: hidden_size", 1)
        num_layers = whole(num_layers, f"{owner}: num_layers", 1, MOST_LAYERS)
        bias = flag(bias, f"{owner}: bias")
        bidirectional = flag(bidirectional, f"{owner}: bidirectional")
        self.hidden_size, self.batch_first = hidden_size, flag(batch_first, f"{owner}: batch_first")
        self.dropout = number(dropout, f"{owner}: dropout", 0, 1)
        ways = ("", "_reverse") if bidirectional else ("",)
        self.suffixes = [[f"_l{layer}{way}" for way in ways] for layer in range(num_layers)]
        for layer in self.suffixes:
            for suffix in layer:
                start(self, self.gates, input_size, hidden_size, bias, suffix)
            input_size = len(ways) * hidden_size

    @staticmethod
    def read(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """One layer, one direction: from x (T, B, I) and the parts of the state, (B, H) each, to (y
        (T, B, H), the parts of the last state)."""
        raise TypeError("a recurrent layer must define read()")

    def forward(
        self, x: Tensor, state: State | None = None, lengths: ArrayLike | None = None
    ) -> tuple[Tensor, State]:
        """x (T, B, I), or (B, T, I) if batch_first. state: h_0, for an LSTM (h_0, c_0), each
        (layers * directions, B, H), or None for zeros. lengths: how many steps of each sequence
        count, B integers, best on the host; None: all T.

        Returns y (T, B, directions * H), or (B, T, ...), of the last layer, and the state after
        each one's last step. Beyond a sequence's end y is 0.
        """
        check_axes(type(self).__name__, x, "(B, T, I)" if self.batch_first else "(T, B, I)")
        x = x.swapaxes(0, 1) if self.batch_first else x
        places, mask = sum(map(len, self.suffixes)), until(lengths, x, type(self).__name__)
        starts = started(
            type(self).__name__, self.parts, state, (places, x.shape[1], self.hidden_size), x
        )
        # of each layer and direction
        last = []
        for depth, layer in enumerate(self.suffixes):
            x = dropout(x, self.dropout, self.training) if depth else x
            shown = []
            for backward, suffix in enumerate(layer):
                # (B, H) each
                first = tuple(part[len(last)] for part in starts)
                y, end = self.read(
                    turned(x, backward), first, weights(self, suffix), turned(mask, backward)
                )
                last.append(end)
                shown.append(turned(y, backward))  # (T, B, H)
            # (T, B, directions * H)
            x = concatenate(shown, axis=-1) if len(shown) > 1 else y
            x = x if mask is None else where(mask, x, 0.0)
        ends = [stack(part) for part in zip(*last, strict=True)]
        y = x.swapaxes(0, 1) if self.batch_first else x
        return y, tuple(ends) if len(ends) > 1 else ends[0]


class Cell(Module):
    """One step, for what is decided step by step. Parameters weight_ih, weight_hh, bias_ih,
    bias_hh."""

    layer: type[Recurrent]  # whose step it is

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        owner = type(self).__name__
        input_size = size(input_size, f"{owner}: input_size")
        self.hidden_size = hidden_size = size(hidden_size, f"{owner}: hidden_size", 1)
        start(self, self.layer.gates, input_size, hidden_size, flag(bias, f"{owner}: bias"))

    def forward(self, x: Tensor, state: State | None = None) -> State:
        """x (B, I); state h, for an LSTM (h, c), of (B, H) each, or None for zeros. Returns the
        next state."""
        check_axes(type(self).__name__, x, "(B, I)")
        first = started(
            type(self).__name__, self.layer.parts, state, (x.shape[0], self.hidden_size), x
        )
        _, last = self.layer.read(x[None], first, weights(self))
        h, *cell = last
        return (h, *cell) if cell else h


def state_gradients(layer: Recurrent, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """How strongly the end feels each step: |dL/d(state after step t)| for every t and sequence,
    (T, B), for pictures.

    x (T, B, I), or (B, T, I) if batch_first; loss(y) makes L of what the last layer shows at the
    last step, (B, H). Of an LSTM's state both parts count, h and c; of several layers, all.
    ValueError for a layer of two directions.
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"state_gradients: layer is {shown(layer)}; it must be an LSTM, a GRU or an RNN"
        )
    check_axes("state_gradients", x, "(B, T, I)" if layer.batch_first else "(T, B, I)")
    if not callable(loss):
        raise TypeError(
            f"state_gradients: loss is {shown(loss)}; it must be a function of what the last layer "
            "shows"
        )
    if len(layer.suffixes[0]) > 1:
        raise ValueError(
            "state_gradients reads step by step, from the first to the last, and this layer reads "
            "from both ends; make it with bidirectional=False"
        )
    x = x.swapaxes(0, 1) if layer.batch_first else x
    if not x.shape[0]:
        raise ValueError(f"state_gradients: x has shape {x.shape}; it must have at least one step")
    states, state = [], None
    for t in range(x.shape[0]):
        now = x[t : t + 1].swapaxes(0, 1) if layer.batch_first else x[t : t + 1]
        state = layer(now, state)[1]
        states.append(state if isinstance(state, tuple) else (state,))
    last_shown = states[-1][0][-1]  # h of the last layer, (B, H)
    parts = [part for state_parts in states for part in state_parts]
    found = grad(loss(last_shown), parts, allow_unused=True)
    lengths = []
    for t, state_parts in enumerate(states):
        of_step = found[t * len(state_parts) : (t + 1) * len(state_parts)]
        # the last c shows in nothing, so its gradient is None
        slopes = [g for g in of_step if g is not None]
        lengths.append(norm(concatenate(slopes, axis=-1), axis=(0, -1)))
    return stack(lengths)  # (T, B)


def going_on(mask: Tensor | None, t: int, new: Tensor, old: Tensor) -> Tensor:
    """The state after step t: the new one; but where a sequence is over, the old."""
    return new if mask is None else where(mask[t], new, old)


def read(mask: Tensor | None, t: int, part: Tensor) -> Tensor:
    """What step t reads, of x or the state: zeros where a sequence is over. A NaN there would reach
    the weights' gradients, though no state is made of it: 0 * NaN is NaN."""
    return part if mask is None else where(mask[t], part, 0.0)


def until(lengths: ArrayLike | None, x: Tensor, owner: str) -> Tensor | None:
    """The mask (T, B, 1), True where a sequence of x (T, B, ...) is not over yet; None where all
    run to the end."""
    if lengths is None:
        return None
    steps, batch = x.shape[:2]
    given: Any = lengths.numpy() if isinstance(lengths, Tensor) else lengths
    if isinstance(given, NOT_PLAIN):
        raise TypeError(f"{owner}: lengths is {shown(given)}; it must be a plain array of integers")
    takes = (
        f"for x of {steps} steps and a batch of {batch} it must be {batch} integers from 0 to "
        f"{steps}"
    )
    try:
        if is_numbers(given):
            counts = np.array(given, np.int64 if not given else None)
        else:
            counts = to_numpy(given)
    except ValueError:  # rows that are not equally long
        counts = np.zeros(())
    if counts.shape != (batch,) or counts.dtype.kind not in "iu":
        raise ValueError(f"{owner}: lengths is {shown(given)}; {takes}")
    if ((counts < 0) | (counts > steps)).any():
        raise ValueError(f"{owner}: lengths is {shown(counts.tolist())}; {takes}")
    return beside(x, np.arange(steps)[:, None, None] < counts[:, None])


def is_numbers(value: Any) -> bool:
    """Is it a list or tuple of nothing but numbers?"""
    return isinstance(value, (list, tuple)) and all(
        isinstance(v, (int, float, np.number)) for v in value
    )


def turned(x: Tensor | None, backward: int) -> Any:
    """Time the other way round."""
    return flip(x, 0) if backward and x is not None else x


def started(
    owner: str, names: tuple[str, ...], state: State | None, shape: tuple[int, ...], x: Tensor
) -> tuple[Tensor, ...]:
    """The parts of the state, zeros where none was given. ValueError names a part of another
    shape."""
    if state is None:
        zero = zeros(shape, dtype=x.dtype, device=Tensor(x).device)
        return (zero,) * len(names)
    parts: Any = (state,) if len(names) == 1 else state
    if not isinstance(parts, (tuple, list)) or len(parts) != len(names):
        raise ValueError(
            f"{owner}: the state is a {type(parts).__name__}; it must be ({', '.join(names)})"
        )
    for name, part in zip(names, parts, strict=True):
        if not hasattr(part, "shape") or part.shape != shape:
            what = getattr(part, "shape", f"a {type(part).__name__}")
            raise ValueError(
                f"{owner}: {name} is {what}; it must be {shape}: "
                f"({'layers * directions, ' if len(shape) > 2 else ''}B, H)"
            )
    return tuple(parts)


def each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """change(h), or for an LSTM (change(h), change(c))."""
    return tuple(change(part) for part in state) if isinstance(state, tuple) else change(state)


def batch_second(part: Tensor) -> Tensor:
    """(B, L, H) to (L, B, H) and back: recurrent layers keep their states layer by layer."""
    return part.swapaxes(0, 1)


def start(
    module: Module, gates: int, width: int, hidden: int, bias: bool, suffix: str = ""
) -> None:
    """Give the module the parameters of one layer in one direction, under PyTorch's names."""
    rows = gates * hidden
    for name, shape in zip(NAMES, ((rows, width), (rows, hidden), (rows,), (rows,)), strict=True):
        wanted = bias or len(shape) > 1
        setattr(
            module,
            name + suffix,
            init.uniform(shape, 1 / max(hidden, 1) ** 0.5) if wanted else None,
        )


def weights(module: Module, suffix: str = "") -> list:
    """The parameters of one layer in one direction."""
    return [getattr(module, name + suffix) for name in NAMES]


def check(gates: int, x: Any, state: dict, weights: tuple, mask: Any = None) -> None:
    """ValueError where the shapes or dtypes do not belong together. state and weights: arrays by
    name, and in order."""
    said = {1: "rnn: ", 3: "gru: "}.get(gates, "")  # fused.py names lstm
    given = {"x": x, **state, **dict(zip(NAMES, weights, strict=True)), "mask": mask}
    for name, a in given.items():
        if not hasattr(a, "shape") and not (a is None and name in ("bias_ih", "bias_hh", "mask")):
            raise TypeError(f"{said}{name} is {shown(a)}; it must be a Tensor or an array")
    if getattr(x.dtype, "kind", None) != "f":
        raise TypeError(
            f"{said}x is {x.dtype} of shape {tuple(x.shape)}; it must be floats, in a Tensor or an "
            "array"
        )
    if len(x.shape) != 3 or x.shape[0] == 0:
        raise ValueError(
            f"{said}x has shape {x.shape}; it must be (T, B, I), time first, with at least one step"
        )
    (steps, batch, width), weight_hh = x.shape, weights[1]
    hidden = weight_hh.shape[-1] if weight_hh.shape else 0
    rows, given = (gates * hidden,), {**state, **dict(zip(NAMES, weights, strict=True))}
    wanted = [(batch, hidden)] * len(state) + [(*rows, width), (*rows, hidden), rows, rows]
    wrong = [
        f"{name} is {a.dtype} {a.shape}, should be {x.dtype} {shape}"
        for (name, a), shape in zip(given.items(), wanted, strict=True)
        if a is not None and (a.shape != shape or a.dtype != x.dtype)
    ]
    if mask is not None and (
        mask.shape != (steps, batch, 1) or getattr(mask.dtype, "kind", None) != "b"
    ):
        wrong.append(f"mask is {mask.dtype} {mask.shape}, should be bool {(steps, batch, 1)}")
    if wrong:
        raise ValueError(
            f"{said}x is {x.dtype} {x.shape}, (T, B, I), and weight_hh {weight_hh.shape}, "
            f"({gates}H, H), so B is {batch}, I {width}, H {hidden}; but " + "; ".join(wrong)
        )
