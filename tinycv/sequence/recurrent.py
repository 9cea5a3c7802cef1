"""Recurrent layers, shared by RNN, GRU and LSTM: stacked layers, two directions, dropout between
layers, and sequences of different lengths.

    one step        state' = step(x_t, state)       the step is defined in rnn.py, gru.py, lstm.py
    two directions  a second network reads from the last element to the first; the hidden states
                    of both are concatenated
    layers          layer l + 1 reads the hidden states of layer l

Two directions: Schuster & Paliwal 1997.  Dropout is applied from layer to layer, but not from step
to step: Zaremba, Sutskever & Vinyals 2014.

Sequences of different lengths are padded at the end to one length T.  After the end of a sequence,
its state stays as it is.  This rule is enough for both directions: reading forward, the final state
of each sequence is the state at its own end; reading backward, the padding comes first, the state
stays at its start value, and each sequence begins at its own last element.

Read first: lstm.py, which shows one step.   Read next: align.py, seq2seq.py.
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
from tinycv.sequence.masks import on_device_of

NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class Recurrent(Module):
    """Stacked recurrent layers: the first one reads x, every other one reads the hidden states of
    the layer below.

    dropout: applied in training to what a layer reads from the layer below. bidirectional: each
    layer also reads the sequence backward, and the hidden states of both directions are
    concatenated. The parameters are named as in PyTorch: weight_ih_l0 (G H, I), weight_hh_l0 (G H,
    H), bias_ih_l0 (G H,), bias_hh_l0 (G H,), then _l0_reverse, _l1, ...; all start from U(-1/√H,
    1/√H).
    differs: x always has a batch axis; ``lengths`` replaces packed sequences.
    """

    gates = 1  # G
    state_names: tuple[str, ...] = ("h_0",)

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
        directions = ("", "_reverse") if bidirectional else ("",)
        self.suffixes = []  # of the parameter names: one list per layer, one suffix per direction
        for layer in range(num_layers):
            self.suffixes.append([f"_l{layer}{direction}" for direction in directions])
            for suffix in self.suffixes[-1]:
                add_parameters(self, self.gates, input_size, hidden_size, bias, suffix)
            input_size = len(directions) * hidden_size

    @staticmethod
    def read_sequence(
        x: Tensor, state: tuple, weights: list, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple]:
        """One layer in one direction. x (T, B, I), state (h,) or (h, c), (B, H) each. Returns y (T,
        B, H) and the last state, in the same form."""
        raise TypeError("a recurrent layer must define read_sequence()")

    def forward(
        self, x: Tensor, state: State | None = None, lengths: ArrayLike | None = None
    ) -> tuple[Tensor, State]:
        """x (T, B, I), or (B, T, I) if batch_first. state: h_0, or (h_0, c_0) for an LSTM, (layers
        * directions, B, H) each; None: zeros. lengths: the number of steps of each sequence, B
        integers, preferably on the host; None: all have T steps.

        Returns y (T, B, directions * H), or (B, T, ...), the hidden states of the last layer, and
        the state of every layer after the last step of each sequence. After the end of a sequence,
        y is 0.
        """
        owner = type(self).__name__
        check_axes(owner, x, "(B, T, I)" if self.batch_first else "(T, B, I)")
        x = x.swapaxes(0, 1) if self.batch_first else x
        mask = running_mask(lengths, x, owner)
        count = sum(len(layer) for layer in self.suffixes)  # layers * directions
        state_shape = (count, x.shape[1], self.hidden_size)
        first_states = initial_state(owner, self.state_names, state, state_shape, x)
        last_states = []  # (h,) or (h, c), in the order of the suffixes
        for depth, layer_suffixes in enumerate(self.suffixes):
            if depth > 0:
                x = dropout(x, self.dropout, self.training)
            outputs = []  # of each direction, in the order of the sequence, (T, B, H) each
            for suffix in layer_suffixes:
                backward = suffix.endswith("_reverse")
                index = len(last_states)  # of this layer and direction on the first axis of a state
                first_state = tuple(part[index] for part in first_states)  # (B, H) each
                y, last_state = self.read_sequence(
                    reverse_time(x, backward),
                    first_state,
                    layer_weights(self, suffix),
                    reverse_time(mask, backward),
                )
                last_states.append(last_state)
                outputs.append(reverse_time(y, backward))
            x = concatenate(outputs, axis=-1) if len(outputs) > 1 else y  # (T, B, directions * H)
            x = x if mask is None else where(mask, x, 0.0)
        y = x.swapaxes(0, 1) if self.batch_first else x
        # From one (h, c) per layer and direction to one stack of all h and one of all c.
        stacked = [stack(part) for part in zip(*last_states, strict=True)]
        return y, tuple(stacked) if len(stacked) > 1 else stacked[0]


class Cell(Module):
    """One step of a recurrent layer, for loops that decide after each step what comes next.
    Parameters: weight_ih, weight_hh, bias_ih, bias_hh."""

    layer: type[Recurrent]  # the layer whose step this is

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        owner = type(self).__name__
        input_size = size(input_size, f"{owner}: input_size")
        self.hidden_size = hidden_size = size(hidden_size, f"{owner}: hidden_size", 1)
        bias = flag(bias, f"{owner}: bias")
        add_parameters(self, self.layer.gates, input_size, hidden_size, bias)

    def forward(self, x: Tensor, state: State | None = None) -> State:
        """x (B, I); state: h, or (h, c) for an LSTM, (B, H) each; None: zeros. Returns the next
        state."""
        owner = type(self).__name__
        check_axes(owner, x, "(B, I)")
        shape = x.shape[0], self.hidden_size
        first_state = initial_state(owner, self.layer.state_names, state, shape, x)
        _, last_state = self.layer.read_sequence(x[None], first_state, layer_weights(self))
        h, *cell = last_state
        return last_state if cell else h


def state_gradients(layer: Recurrent, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """How much the loss at the end depends on each step, for pictures: the norm |dL/d(state after
    step t)| for every step and sequence, (T, B).

    x (T, B, I), or (B, T, I) if batch_first. loss: a function that takes the hidden state of the
    last layer at the last step, (B, H), and returns L. The norm covers the whole state: h and c of
    an LSTM, and all layers. Raises ValueError for a bidirectional layer.
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"state_gradients: layer is {shown(layer)}; it must be an LSTM, a GRU or an RNN"
        )
    check_axes("state_gradients", x, "(B, T, I)" if layer.batch_first else "(T, B, I)")
    if not callable(loss):
        raise TypeError(
            f"state_gradients: loss is {shown(loss)}; it must be a function of the last hidden "
            "state"
        )
    if len(layer.suffixes[0]) > 1:
        raise ValueError(
            "state_gradients reads step by step, from the first to the last, but this layer reads "
            "from both ends; build it with bidirectional=False"
        )
    x = x.swapaxes(0, 1) if layer.batch_first else x
    if not x.shape[0]:
        raise ValueError(f"state_gradients: x has shape {x.shape}; it must have at least one step")
    states, state = [], None
    for t in range(x.shape[0]):
        x_t = x[t : t + 1].swapaxes(0, 1) if layer.batch_first else x[t : t + 1]
        state = layer(x_t, state)[1]
        states.append(state if isinstance(state, tuple) else (state,))
    last_hidden = states[-1][0][-1]  # h of the last layer, (B, H)
    all_parts = [part for state_parts in states for part in state_parts]
    gradients = grad(loss(last_hidden), all_parts, allow_unused=True)
    norms = []
    for t, state_parts in enumerate(states):
        step_gradients = gradients[t * len(state_parts) : (t + 1) * len(state_parts)]
        # The loss reads h of the last step, but not c, so the gradient of that c is None.
        step_gradients = [g for g in step_gradients if g is not None]
        norms.append(norm(concatenate(step_gradients, axis=-1), axis=(0, -1)))
    return stack(norms)  # (T, B)


def update_where_running(mask: Tensor | None, t: int, new: Tensor, old: Tensor) -> Tensor:
    """The state after step t: ``new`` where the sequence is running, ``old`` where it has ended."""
    return new if mask is None else where(mask[t], new, old)


def zero_where_ended(mask: Tensor | None, t: int, value: Tensor) -> Tensor:
    """What step t reads of x or of the state, with zeros where the sequence has ended. A NaN there
    would otherwise reach the gradients of the weights, although no state uses it: 0 * NaN is
    NaN."""
    return value if mask is None else where(mask[t], value, 0.0)


def running_mask(lengths: ArrayLike | None, x: Tensor, owner: str) -> Tensor | None:
    """The mask (T, B, 1), True while a sequence of x (T, B, ...) is running; None if no lengths are
    given."""
    if lengths is None:
        return None
    steps, batch = x.shape[:2]
    plain: Any = lengths.numpy() if isinstance(lengths, Tensor) else lengths
    if isinstance(plain, NOT_PLAIN):
        raise TypeError(f"{owner}: lengths is {shown(plain)}; it must be a plain array of integers")
    required = (
        f"for x of {steps} steps and a batch of {batch} it must be {batch} integers from 0 to "
        f"{steps}"
    )
    try:
        if is_numbers(plain):
            counts = np.array(plain, np.int64 if not plain else None)
        else:
            counts = to_numpy(plain)
    except ValueError:  # nested lists of unequal lengths
        counts = np.zeros(())
    if counts.shape != (batch,) or counts.dtype.kind not in "iu":
        raise ValueError(f"{owner}: lengths is {shown(plain)}; {required}")
    if ((counts < 0) | (counts > steps)).any():
        raise ValueError(f"{owner}: lengths is {shown(counts.tolist())}; {required}")
    return on_device_of(x, np.arange(steps)[:, None, None] < counts[:, None])


def is_numbers(value: Any) -> bool:
    """Whether value is a list or tuple that holds only numbers."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(v, (int, float, np.number)) for v in value
    )


def reverse_time(x: Tensor | None, backward: bool) -> Any:
    """x (T, ...) from the last step to the first if backward, else x itself."""
    return flip(x, 0) if backward and x is not None else x


def initial_state(
    owner: str, names: tuple[str, ...], state: State | None, shape: tuple[int, ...], x: Tensor
) -> tuple[Tensor, ...]:
    """The state as a tuple with one entry per name, each of ``shape``; zeros if state is None. The
    ValueError for a wrong shape names the part of the state."""
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


def map_state(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """change(h), or (change(h), change(c)) for an LSTM."""
    return tuple(change(part) for part in state) if isinstance(state, tuple) else change(state)


def batch_second(part: Tensor) -> Tensor:
    """(B, L, H) to (L, B, H) or the reverse: in the state of a recurrent layer the layers come
    first."""
    return part.swapaxes(0, 1)


def add_parameters(
    module: Module, gates: int, width: int, hidden: int, bias: bool, suffix: str = ""
) -> None:
    """Give the module the parameters of one layer in one direction. Their names follow PyTorch."""
    rows = gates * hidden
    shapes = (rows, width), (rows, hidden), (rows,), (rows,)
    for name, shape in zip(NAMES, shapes, strict=True):
        is_bias = len(shape) == 1
        parameter = None
        if bias or not is_bias:
            parameter = init.uniform(shape, 1 / max(hidden, 1) ** 0.5)
        setattr(module, name + suffix, parameter)


def layer_weights(module: Module, suffix: str = "") -> list:
    """The parameters of one layer in one direction, in the order of NAMES; None for a bias that
    does not exist."""
    return [getattr(module, name + suffix) for name in NAMES]


def check(gates: int, x: Any, state: dict, weights: tuple, mask: Any = None) -> None:
    """Raises ValueError if the shapes or dtypes do not fit together. state: arrays by name;
    weights: in the order of NAMES. gates tells which function is called: 1 rnn, 3 gru, 4 lstm."""
    prefix = {1: "rnn: ", 3: "gru: "}.get(gates, "")  # engine/fused.py adds the name lstm itself
    parameters = dict(zip(NAMES, weights, strict=True))
    for name, a in {"x": x, **state, **parameters, "mask": mask}.items():
        if not hasattr(a, "shape") and not (a is None and name in ("bias_ih", "bias_hh", "mask")):
            raise TypeError(f"{prefix}{name} is {shown(a)}; it must be a Tensor or an array")
    if getattr(x.dtype, "kind", None) != "f":
        raise TypeError(
            f"{prefix}x is {x.dtype} of shape {tuple(x.shape)}; it must be floats, in a Tensor or "
            "an array"
        )
    if len(x.shape) != 3 or x.shape[0] == 0:
        raise ValueError(
            f"{prefix}x has shape {x.shape}; it must be (T, B, I), time first, with at least one "
            "step"
        )
    (steps, batch, width), weight_hh = x.shape, weights[1]
    hidden = weight_hh.shape[-1] if weight_hh.shape else 0
    rows = gates * hidden
    expected = [(batch, hidden)] * len(state) + [(rows, width), (rows, hidden), (rows,), (rows,)]
    wrong = [
        f"{name} is {a.dtype} {a.shape}, should be {x.dtype} {shape}"
        for (name, a), shape in zip({**state, **parameters}.items(), expected, strict=True)
        if a is not None and (a.shape != shape or a.dtype != x.dtype)
    ]
    if mask is not None and (
        mask.shape != (steps, batch, 1) or getattr(mask.dtype, "kind", None) != "b"
    ):
        wrong.append(f"mask is {mask.dtype} {mask.shape}, should be bool {(steps, batch, 1)}")
    if wrong:
        raise ValueError(
            f"{prefix}x is {x.dtype} {x.shape}, (T, B, I), and weight_hh {weight_hh.shape}, "
            f"({gates}H, H), so B is {batch}, I {width}, H {hidden}; but " + "; ".join(wrong)
        )
