"""Seq2Seq: one recurrent network reads a sentence to its end, another writes the answer, symbol by
symbol.

    p(y | x) = Π_t p(y_t | x, y_1 ... y_{t-1})                          Sutskever et al. 2014, eq. 1

The lengths of x and y need not be equal: the decoder begins when it reads SOS and ends when it
writes EOS. In training it reads the right answer, whatever it would have written itself (teacher
forcing); running free, it reads its own.

    no attention   s_t = f(s_{t-1}, y_{t-1}),  s_0 = the encoder's last state
                                                              Sutskever et al. 2014
    dot, general   the same, then c_t from s_t;  s~_t = tanh(W_c [c_t; s_t])
                                                              Luong et al. 2015, eq. 5
    additive       c_t from s_{t-1};  s_t = f(s_{t-1}, [y_{t-1}; c_t]);  s~_t
                                                              Bahdanau et al. 2015, section 3.1
    location       the same, and c_t from α_{t-1} too         Chorowski et al. 2015, section 2.2
    the answer     p(y_t | ...) = softmax(W_s s~_t + b)       Luong et al. 2015, eq. 6

Without attention all that the decoder will ever know of x is one vector. Luong's attention comes
after the recurrence, so in training the recurrence runs over the whole answer at once, and all of
attention is one product. In Bahdanau's the recurrence reads the context, so each step must wait for
the one before.

Read before: lstm.py, align.py.   Read next: decode.py, transformer.py.
Seen at work: demos/03_seq2seq.py, 04_attention.py.
Shapes: B batch, S source symbols, T target symbols, E width of an embedding, H of a state, V target
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.data.inputs import whole
from tinycv.data.text import PAD, SOS
from tinycv.engine.arguments import choice, flag, number, shown, size
from tinycv.engine.create import full_like
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import tanh, where
from tinycv.engine.tensor import ArrayLike, Tensor, no_grad
from tinycv.nn.checks import MOST_LAYERS
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.module import Module
from tinycv.nn.softmax import log_softmax
from tinycv.sequence.align import (
    AdditiveAttention,
    Attention,
    DotAttention,
    GeneralAttention,
    LocationAttention,
    check_memory,
    checked_mask,
    nowhere,
)
from tinycv.sequence.decode import written
from tinycv.sequence.gru import GRU
from tinycv.sequence.inputs import Ids, State, is_numeric, numbers_of, some, some_last, state_of
from tinycv.sequence.lstm import LSTM
from tinycv.sequence.masks import lengths_of, without_padding
from tinycv.sequence.recurrent import Recurrent, batch_second, each

CELLS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU}
ATTENTION: dict[str, Callable[[int], Attention]] = {
    "additive": lambda width: AdditiveAttention(width, width, width),
    "location": lambda width: LocationAttention(width, width, width),
    "dot": lambda width: DotAttention(),
    "general": lambda width: GeneralAttention(width, width),
}


class Encoder(Module):
    """Reads the source. What it leaves: a state for every symbol, and the state after the last.

    hidden_size H: the width of what it leaves. bidirectional: two networks of width H / 2 read from
    either end.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = False,
        dropout: float = 0.0,
    ):
        vocabulary, embedding_dim, hidden_size, num_layers = numbers_of(
            "Encoder", vocabulary, embedding_dim, hidden_size, num_layers
        )
        dropout = number(dropout, "Encoder: dropout", 0, 1)
        bidirectional = flag(bidirectional, "Encoder: bidirectional")
        if bidirectional and hidden_size % 2:
            raise ValueError(
                f"Encoder: hidden_size is {hidden_size}; two directions share it equally, so it "
                "must be even"
            )
        self.embedding = Embedding(vocabulary, embedding_dim)
        self.ways, self.dropout = 1 + bidirectional, dropout
        layers = CELLS[choice(cell, "Encoder: cell", sorted(CELLS))]
        self.rnn = layers(
            embedding_dim,
            hidden_size // self.ways,
            num_layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )

    def forward(self, source: Ids) -> tuple[Tensor, State, Tensor]:
        """source (B, S) ids, PAD after the end alone: ValueError for PAD before a symbol. Returns
        the memory (B, S, H), the state after each one's own last symbol, for the decoder to start
        from, and the mask (B, S), True on symbols."""
        some(source, "Encoder: source")
        source = source if isinstance(source, Tensor) else Tensor(source)
        mask = source != PAD
        lengths = lengths_of(mask, "Encoder: source")
        # (B, S, E)
        read = dropout(self.embedding(source), self.dropout, self.training)
        memory, state = self.rnn(read, lengths=lengths)
        return memory, each(state, self.joined), mask

    def joined(self, last: Tensor) -> Tensor:
        """(L * ways, B, H / ways) -> (B, L, H): the last states of both directions side by side.

        differs: Bahdanau et al. start from s_0 = tanh(W h), h the last state of the direction that
        ends at symbol 1.
        """
        depth, batch, width = last.shape
        last = last.reshape((depth // self.ways, self.ways, batch, width)).transpose((2, 0, 1, 3))
        return last.reshape((batch, depth // self.ways, self.ways * width))


class Decoder(Module):
    """Writes the target. It keeps nothing between calls: its state goes in and comes out.

    differs: where there is attention, s~ is Luong's whatever the score (Bahdanau et al. have a
    maxout layer there); Luong's input feeding, s~_{t-1} read at step t, is left out: it would make
    training wait for each step.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        attention: str | None = None,
        dropout: float = 0.0,
    ):
        vocabulary, embedding_dim, hidden_size, num_layers = numbers_of(
            "Decoder", vocabulary, embedding_dim, hidden_size, num_layers
        )
        dropout = number(dropout, "Decoder: dropout", 0, 1)
        choice(attention, "Decoder: attention", (None, *sorted(ATTENTION)))
        self.embedding = Embedding(vocabulary, embedding_dim)
        self.looks_first, self.dropout = attention in ("additive", "location"), dropout
        width = embedding_dim + hidden_size * self.looks_first
        layers = CELLS[choice(cell, "Decoder: cell", sorted(CELLS))]
        self.rnn = layers(width, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.attention = None if attention is None else ATTENTION[attention](hidden_size)
        # W_c
        self.join = Linear(2 * hidden_size, hidden_size, bias=False) if attention else None
        # W_s
        self.out = Linear(hidden_size, vocabulary)

    def start(self, memory: Tensor, state: State, mask: ArrayLike | None) -> dict:
        """The state before the first symbol, of what the encoder left. Everything in it has the
        batch on axis 0."""
        if not is_numeric(memory) or len(memory.shape) != 3:
            raise TypeError(
                f"Decoder.start: memory is {shown(memory)}; it must be a Tensor (B, S, H), "
                "as the encoder leaves it"
            )
        if self.attention is None:
            return {"state": state}
        mask = checked_mask(mask, memory, "Decoder.start: mask")
        memory = memory if mask is None else where(mask[:, :, None], memory, 0.0)
        return {
            "state": state,
            "memory": memory,
            "keys": self.attention.keys(memory),
            "mask": mask,
            "last": nowhere(memory),
        }

    def forward(self, target: Ids, before: dict) -> tuple[Tensor, dict, Tensor | None]:
        """target (B, T) ids, each the symbol that was written last. Returns the scores of the next
        ones (B, T, V), the state after them, and where it looked, (B, T, S), or None without
        attention."""
        some(target, "Decoder: target")
        self.check_state(before, target.shape[0])
        read = without_padding(self.embedding(target), target)
        # (B, T, E)
        read = dropout(read, self.dropout, self.training)
        state = each(before["state"], batch_second)
        if self.looks_first:
            y, state, context, weights = self.stepwise(read, state, before)
        else:
            # (B, T, H)
            y, state = self.rnn(read, state)
            context, weights = self.look(y, before)
        if self.join is not None:
            # (B, T, H)
            y = tanh(self.join(concatenate([context, y], axis=-1)))
            # (B, S)
            before = {**before, "last": weights[:, -1]}
        y = dropout(y, self.dropout, self.training)
        return self.out(y), {**before, "state": each(state, batch_second)}, weights

    def check_state(self, before: Any, batch: int) -> None:
        """TypeError or ValueError for what is not the dict that ``start`` returned."""
        names = (
            ("state",) if self.attention is None else ("state", "memory", "keys", "mask", "last")
        )
        what = "Decoder: before"
        state_of(before, what, *names)
        parts = before["state"] if isinstance(before["state"], tuple) else (before["state"],)
        if len(parts) != len(self.rnn.parts) or not all(
            is_numeric(part) and len(part.shape) == 3 for part in parts
        ):
            raise TypeError(
                f"{what}: state is {shown(before['state'])}; it must be "
                f"{', '.join(self.rnn.parts)}, Tensors (B, layers, H)"
            )
        if self.attention is not None:
            check_memory(what, before["memory"], before["keys"], before["mask"], batch)

    def stepwise(
        self, read: Tensor, state: State, before: dict
    ) -> tuple[Tensor, State, Tensor, Tensor]:
        """Look with the state of the step before, then read the symbol and what was seen: one step
        at a time."""
        steps = []
        for t in range(read.shape[1]):
            # (L, B, H)
            h = state[0] if isinstance(state, tuple) else state
            # (B, 1, H)
            context, weights = self.look(h[-1][:, None], before)
            # (B, 1, H)
            y, state = self.rnn(concatenate([read[:, t : t + 1], context], axis=-1), state)
            steps.append((y, context, weights))
            # (B, S)
            before = {**before, "last": weights[:, 0]}
        y, context, weights = (concatenate(parts, axis=1) for parts in zip(*steps, strict=True))
        return y, state, context, weights

    def look(self, query: Tensor, before: dict) -> tuple:
        """The context (B, T, H) and the weights (B, T, S) of a query; None each without
        attention."""
        if self.attention is None:
            return None, None
        return self.attention.found(
            query, before["memory"], before["mask"], before["keys"], before["last"]
        )


class Seq2Seq(Module):
    """An encoder and a decoder of one width H.

    attention: None, "additive", "location", "dot" or "general". cell: "lstm" or "gru". A
    bidirectional encoder has H / 2 units each way, so that memory and state are H wide whatever the
    choices. dropout: while training, on what the recurrent layers read and on what the scores are
    made of; never from step to step.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = False,
        attention: str | None = None,
        dropout: float = 0.0,
    ):
        for name, value in (
            ("source_size", source_size),
            ("target_size", target_size),
            ("embedding_dim", embedding_dim),
            ("hidden_size", hidden_size),
        ):
            size(value, f"Seq2Seq: {name}", 1)
        whole(num_layers, "Seq2Seq: num_layers", 1, MOST_LAYERS)
        choice(cell, "Seq2Seq: cell", sorted(CELLS))
        choice(attention, "Seq2Seq: attention", (None, *sorted(ATTENTION)))
        flag(bidirectional, "Seq2Seq: bidirectional")
        number(dropout, "Seq2Seq: dropout", 0, 1)
        self.encoder = Encoder(
            source_size, embedding_dim, hidden_size, num_layers, cell, bidirectional, dropout
        )
        self.decoder = Decoder(
            target_size, embedding_dim, hidden_size, num_layers, cell, attention, dropout
        )

    def forward(self, source: Ids, target: Ids) -> Tensor:
        """Teacher forcing: source (B, S) ids, target (B, T) from SOS on. Returns scores (B, T, V):
        those at t are for the symbol that follows target[:, t]."""
        if getattr(target, "shape", ())[:1] != getattr(source, "shape", ())[:1]:
            raise ValueError(
                f"Seq2Seq: source is {shown(source)} and target {shown(target)}; both "
                "must be integers of one batch, (B, S) and (B, T)"
            )
        return self.decoder(target, self.start(source))[0]

    def start(self, source: Ids) -> dict:
        """The decoder's state when the source (B, S) has been read."""
        return self.decoder.start(*self.encoder(source))

    def step(self, tokens: Ids, state: dict) -> tuple[Tensor, dict]:
        """One symbol written: tokens (B,) -> (log-probabilities of the next, (B, V), state). What
        decode.py asks for."""
        some_last(tokens, "Seq2Seq.step: tokens")
        scores, state, _ = self.decoder(tokens[:, None], state)
        return log_softmax(scores[:, 0]), state

    def translate(self, source: Ids, max_length: int, beam: int = 1) -> np.ndarray:
        """Running free: ids (B, at most max_length), EOS at the end of each and PAD after it. beam
        1 takes the likeliest symbol each time, more keep so many unfinished answers in view
        (decode.py). Call ``eval()`` before."""
        some(source, "translate: source")
        with no_grad():
            return written(self.step, self.start(source), source.shape[0], max_length, beam)

    def alignments(self, source: Ids, written: ArrayLike) -> np.ndarray:
        """Where it looked for each symbol of an answer, its own (from ``translate``) or a given
        one: (B, T, S).

        written (B, T), without SOS. Row t holds the weights from which symbol t was chosen.
        """
        if self.decoder.attention is None:
            raise ValueError(
                "this Seq2Seq has no attention, so it looks nowhere; make it with "
                "attention='general'"
            )
        some(source, "alignments: source")
        some(written, "alignments: written")
        source = source if isinstance(source, Tensor) else Tensor(source)
        written = Tensor(written, device=source.device)
        read = concatenate([full_like(written[:, :1], SOS), written[:, :-1]], axis=1)
        with no_grad():
            return self.decoder(read, self.start(source))[2].numpy()
