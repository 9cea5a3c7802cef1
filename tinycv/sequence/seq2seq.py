"""Seq2Seq (recurrent encoder-decoder): one network reads the source sentence, another writes the
answer symbol by symbol, with or without Bahdanau or Luong attention.

    p(y | x) = Π_t p(y_t | x, y_1 ... y_{t-1})                          Sutskever et al. 2014, eq. 1

The source x and the answer y can have different lengths: the decoder starts by reading SOS and
stops when it writes EOS.  In training it reads the correct answer, whatever it would have written
(teacher forcing).  In use it reads the symbols that it has written itself (free running).

    no attention   s_t = f(s_{t-1}, y_{t-1}),  s_0 = the last encoder state
                                                              Sutskever et al. 2014
    dot, general   the same, then c_t from s_t;  s~_t = tanh(W_c [c_t; s_t])
                                                              Luong et al. 2015, eq. 5
    additive       c_t from s_{t-1};  s_t = f(s_{t-1}, [y_{t-1}; c_t]);  s~_t
                                                              Bahdanau et al. 2015, section 3.1
    location       the same, but c_t depends on α_{t-1} too   Chorowski et al. 2015, section 2.2
    the answer     p(y_t | ...) = softmax(W_s s~_t + b)       Luong et al. 2015, eq. 6

s_t is the decoder state, c_t the context and α_t the attention weights (align.py).

Without attention, one vector is all that the decoder ever gets to know about x.  In Luong
attention, the context is computed after the recurrence.  So in training the recurrent network runs
over the whole answer in one call, and attention for all steps is one matrix product.  In Bahdanau
attention the recurrent network reads the context, so each step has to wait for the one before.

Read first: lstm.py, align.py.   Read next: translation.py, decode.py.
Demos: demos/03_seq2seq.py, demos/04_attention.py.
Shapes: B batch, S source symbols, T target symbols, L layers, E width of an embedding, H width of a
state, V size of the target vocabulary.
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
    zero_weights,
)
from tinycv.sequence.decode import written
from tinycv.sequence.gru import GRU
from tinycv.sequence.inputs import (
    Ids,
    State,
    check_ids,
    check_last_tokens,
    checked_sizes,
    is_numeric,
    state_of,
)
from tinycv.sequence.lstm import LSTM
from tinycv.sequence.masks import lengths_of, without_padding
from tinycv.sequence.recurrent import Recurrent, batch_second, map_state

CELLS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU}
ATTENTION: dict[str, Callable[[int], Attention]] = {
    "additive": lambda width: AdditiveAttention(width, width, width),
    "location": lambda width: LocationAttention(width, width, width),
    "dot": lambda width: DotAttention(),
    "general": lambda width: GeneralAttention(width, width),
}


class Encoder(Module):
    """Reads the source, and returns a state for every symbol and the state after the last one.

    hidden_size: H, the width of the returned states. bidirectional: two networks of width H / 2
    read the source, one from each end.
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
        vocabulary, embedding_dim, hidden_size, num_layers = checked_sizes(
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
        self.directions, self.dropout = 1 + bidirectional, dropout
        layers = CELLS[choice(cell, "Encoder: cell", sorted(CELLS))]
        self.rnn = layers(
            embedding_dim,
            hidden_size // self.directions,
            num_layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )

    def forward(self, source: Ids) -> tuple[Tensor, State, Tensor]:
        """source (B, S): ids, with PAD only after the end (PAD before a symbol raises ValueError).
        Returns the encoder output (B, S, H), which PyTorch calls memory; the state after the last
        symbol of each sentence, from which the decoder starts; and the mask (B, S), True on
        symbols."""
        check_ids(source, "Encoder: source")
        source = source if isinstance(source, Tensor) else Tensor(source)
        mask = source != PAD
        lengths = lengths_of(mask, "Encoder: source")
        embedded = dropout(self.embedding(source), self.dropout, self.training)  # (B, S, E)
        memory, state = self.rnn(embedded, lengths=lengths)
        return memory, map_state(state, self.join_directions), mask

    def join_directions(self, last: Tensor) -> Tensor:
        """(L * directions, B, H / directions) -> (B, L, H): concatenates the last states of both
        directions.

        differs: Bahdanau et al. start from s_0 = tanh(W h), where h is the last state of the
        backward direction, which ends at symbol 1.
        """
        rows, batch, width = last.shape
        layers = rows // self.directions
        last = last.reshape((layers, self.directions, batch, width)).transpose((2, 0, 1, 3))
        return last.reshape((batch, layers, self.directions * width))


class Decoder(Module):
    """Writes the target. It stores nothing between calls: the state is an argument and a result.

    differs: with every kind of attention, s~ is computed as by Luong et al. (Bahdanau et al. use a
    maxout layer there). The input feeding of Luong et al., in which step t also reads s~_{t-1}, is
    left out, because then training would have to run step by step.
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
        vocabulary, embedding_dim, hidden_size, num_layers = checked_sizes(
            "Decoder", vocabulary, embedding_dim, hidden_size, num_layers
        )
        dropout = number(dropout, "Decoder: dropout", 0, 1)
        choice(attention, "Decoder: attention", (None, *sorted(ATTENTION)))
        self.embedding = Embedding(vocabulary, embedding_dim)
        # Additive and location-aware attention: the recurrent network reads the context.
        self.reads_context, self.dropout = attention in ("additive", "location"), dropout
        width = embedding_dim + hidden_size * self.reads_context
        layers = CELLS[choice(cell, "Decoder: cell", sorted(CELLS))]
        self.rnn = layers(width, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.attention = None if attention is None else ATTENTION[attention](hidden_size)
        # W_c
        self.join = Linear(2 * hidden_size, hidden_size, bias=False) if attention else None
        # W_s
        self.out = Linear(hidden_size, vocabulary)

    def start(self, memory: Tensor, state: State, mask: ArrayLike | None) -> dict:
        """The decoder state before the first symbol, from what the encoder returned: a dict in
        which everything has the batch on axis 0."""
        if not is_numeric(memory) or len(memory.shape) != 3:
            raise TypeError(
                f"Decoder.start: memory is {shown(memory)}; it must be the encoder output, a "
                "Tensor (B, S, H)"
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
            "last": zero_weights(memory),
        }

    def forward(self, target: Ids, decoder_state: dict) -> tuple[Tensor, dict, Tensor | None]:
        """target (B, T): ids; at each step, the symbol written last. decoder_state: a dict, as
        ``start`` or the last call returned it. Returns the scores of the next symbols (B, T, V),
        the next decoder state, and the attention weights (B, T, S), or None without attention."""
        check_ids(target, "Decoder: target")
        self.check_state(decoder_state, target.shape[0])
        embedded = without_padding(self.embedding(target), target)
        embedded = dropout(embedded, self.dropout, self.training)  # (B, T, E)
        state = map_state(decoder_state["state"], batch_second)
        if self.reads_context:
            y, state, context, weights = self.run_step_by_step(embedded, state, decoder_state)
        else:
            y, state = self.rnn(embedded, state)  # (B, T, H)
            context, weights = self.attend(y, decoder_state)
        if self.join is not None:
            y = tanh(self.join(concatenate([context, y], axis=-1)))  # s~, (B, T, H)
            decoder_state = {**decoder_state, "last": weights[:, -1]}  # (B, S)
        y = dropout(y, self.dropout, self.training)
        return self.out(y), {**decoder_state, "state": map_state(state, batch_second)}, weights

    def check_state(self, decoder_state: Any, batch: int) -> None:
        """Raises TypeError or ValueError unless decoder_state is a dict as ``start`` returns it."""
        names = (
            ("state",) if self.attention is None else ("state", "memory", "keys", "mask", "last")
        )
        what = "Decoder: decoder_state"
        state_of(decoder_state, what, *names)
        state = decoder_state["state"]
        parts = state if isinstance(state, tuple) else (state,)
        if len(parts) != len(self.rnn.state_names) or not all(
            is_numeric(part) and len(part.shape) == 3 for part in parts
        ):
            raise TypeError(
                f"{what}: state is {shown(state)}; it must be "
                f"{', '.join(self.rnn.state_names)}, Tensors (B, layers, H)"
            )
        if self.attention is not None:
            check_memory(
                what, decoder_state["memory"], decoder_state["keys"], decoder_state["mask"], batch
            )

    def run_step_by_step(
        self, embedded: Tensor, state: State, decoder_state: dict
    ) -> tuple[Tensor, State, Tensor, Tensor]:
        """At each step: attend with the recurrent state of the step before, then read the symbol
        together with the context. embedded (B, T, E)."""
        outputs, contexts, all_weights = [], [], []
        for t in range(embedded.shape[1]):
            h = state[0] if isinstance(state, tuple) else state  # (L, B, H)
            context, weights = self.attend(h[-1][:, None], decoder_state)  # (B, 1, H), (B, 1, S)
            inputs = concatenate([embedded[:, t : t + 1], context], axis=-1)  # (B, 1, E + H)
            y, state = self.rnn(inputs, state)  # (B, 1, H)
            outputs.append(y)
            contexts.append(context)
            all_weights.append(weights)
            decoder_state = {**decoder_state, "last": weights[:, 0]}  # (B, S)
        return (
            concatenate(outputs, axis=1),
            state,
            concatenate(contexts, axis=1),
            concatenate(all_weights, axis=1),
        )

    def attend(self, query: Tensor, decoder_state: dict) -> tuple:
        """The context (B, T, H) and the weights (B, T, S) of a query; None and None without
        attention."""
        if self.attention is None:
            return None, None
        return self.attention.attend(
            query,
            decoder_state["memory"],
            decoder_state["mask"],
            decoder_state["keys"],
            decoder_state["last"],
        )


class Seq2Seq(Module):
    """A recurrent encoder and decoder of the same width H.

    attention: None, "additive", "location", "dot" or "general". cell: "lstm" or "gru". A
    bidirectional encoder has H / 2 units in each direction, so that encoder output and state are
    always H wide. dropout: applied in training to the inputs of the recurrent layers and to the
    input of the output layer; never from step to step.
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
        """Teacher forcing. source (B, S): ids; target (B, T): ids, SOS first. Returns scores (B, T,
        V): those at step t are for the symbol that follows target[:, t]."""
        if getattr(target, "shape", ())[:1] != getattr(source, "shape", ())[:1]:
            raise ValueError(
                f"Seq2Seq: source is {shown(source)} and target {shown(target)}; they must be "
                "integers of the same batch size, (B, S) and (B, T)"
            )
        return self.decoder(target, self.start(source))[0]

    def start(self, source: Ids) -> dict:
        """The decoder state after the source (B, S) has been read."""
        return self.decoder.start(*self.encoder(source))

    def step(self, tokens: Ids, state: dict) -> tuple[Tensor, dict]:
        """One step of writing, in the form that decode.py needs: tokens (B,), the symbols written
        last. Returns the log-probabilities of the next ones (B, V), and the next state."""
        check_last_tokens(tokens, "Seq2Seq.step: tokens")
        scores, state, _ = self.decoder(tokens[:, None], state)
        return log_softmax(scores[:, 0]), state

    def translate(self, source: Ids, max_length: int, beam: int = 1) -> np.ndarray:
        """Free running. Returns ids (B, at most max_length): EOS ends each answer, PAD follows it.
        beam 1 takes the most likely symbol at each step; a larger beam follows that many unfinished
        answers at once (decode.py). Call ``eval()`` first, to switch dropout off."""
        check_ids(source, "translate: source")
        with no_grad():
            return written(self.step, self.start(source), source.shape[0], max_length, beam)

    def alignments(self, source: Ids, written: ArrayLike) -> np.ndarray:
        """The attention weights of each symbol of an answer: (B, T, S).

        written (B, T), without SOS: what ``translate`` returned, or any other answer. Row t holds
        the weights with which symbol t was chosen.
        """
        if self.decoder.attention is None:
            raise ValueError(
                "alignments: this Seq2Seq has no attention, so it has no weights; build it with "
                "attention='general'"
            )
        check_ids(source, "alignments: source")
        check_ids(written, "alignments: written")
        source = source if isinstance(source, Tensor) else Tensor(source)
        written = Tensor(written, device=source.device)
        target = concatenate([full_like(written[:, :1], SOS), written[:, :-1]], axis=1)
        with no_grad():
            return self.decoder(target, self.start(source))[2].numpy()
