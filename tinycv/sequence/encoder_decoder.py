"""The Transformer entire: an encoder reads the source, a decoder writes the target, and looks back
at every word read.

    memory = encoder(embed(source) √d + PE)      Vaswani et al. 2017, figure 1, sections 3.4 and 3.5
    p(y_t | y_<t, source) = softmax(W decoder(embed(y_<t) √d + PE, memory))

In training the decoder is given the true words before each place (teacher forcing), all places at
once: the causal mask keeps each from its own answer.  In use it is given what it has itself
written, word by word.  Two tricks of the paper's section 5 are elsewhere: label smoothing (5.4) in
nn/losses.py, the learning rate (eq. 3) in optim.warmup_inverse_sqrt.

Read before: data/text.py, transformer.py, positions.py, decode.py.
Seen at work: demos/05_transformer.py.
Shapes: B batch, S source tokens, T target tokens, E width, V words of the target.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from tinycv.data.inputs import whole
from tinycv.engine.arguments import number, size
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn import init
from tinycv.nn.checks import MOST_LAYERS
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.nn.softmax import log_softmax
from tinycv.sequence.decode import written
from tinycv.sequence.inputs import Ids, batch_leads, length_of, some, some_last, state_of
from tinycv.sequence.masks import padding_mask, without_padding
from tinycv.sequence.positions import SinusoidalPositions
from tinycv.sequence.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)


class Transformer(Module):
    """Source ids (B, S) and target ids (B, T) to scores for each next word of the target (B, T, V).

    source_words, target_words: how many words either side has, PAD (id 0), SOS and EOS among them
    (data/text.py). The rest, and the names ``encoder.*`` and ``decoder.*``, are
    torch.nn.Transformer's, so its weights load by name.
    differs: from PyTorch's, which starts at vectors and ends at vectors, this has embeddings,
    positions and scores; from the paper, no weights are shared between them, and each stack ends
    with a norm in post-norm too, as PyTorch's.
    """

    def __init__(
        self,
        source_words: int,
        target_words: int,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        *,
        batch_first: bool = True,
    ):
        batch_leads(batch_first, "Transformer")
        source_words = size(source_words, "Transformer: source_words", 1)
        target_words = size(target_words, "Transformer: target_words", 1)
        d_model = size(d_model, "Transformer: d_model", 1)
        dropout = number(dropout, "Transformer: dropout", 0, 1)
        num_encoder_layers = whole(
            num_encoder_layers, "Transformer: num_encoder_layers", 1, MOST_LAYERS
        )
        num_decoder_layers = whole(
            num_decoder_layers, "Transformer: num_decoder_layers", 1, MOST_LAYERS
        )
        block = d_model, nhead, dim_feedforward, dropout, activation, norm_first
        self.source_embed = embedding(source_words, d_model)
        self.target_embed = embedding(target_words, d_model)
        self.position = SinusoidalPositions()
        self.encoder = TransformerEncoder(
            TransformerEncoderLayer(*block), num_encoder_layers, LayerNorm(d_model)
        )
        self.decoder = TransformerDecoder(
            TransformerDecoderLayer(*block), num_decoder_layers, LayerNorm(d_model)
        )
        self.out = Linear(d_model, target_words)
        self.dropout = dropout

    def forward(self, source: Ids, target: Ids) -> Tensor:
        """Returns (B, T, V): row t is about the word after target[:, t]. Padding is 0, at the end,
        on both sides.

        The target needs no padding mask: it comes last, so the causal mask hides it from all words.
        """
        some(target, "Transformer: target", 0)
        memory, mask = self.encode(source)
        return self.out(
            self.decoder(
                self.placed(self.target_embed, target), memory, memory_mask=mask, tgt_is_causal=True
            )
        )

    def encode(self, source: Ids) -> tuple[Tensor, np.ndarray]:
        """The memory (B, S, E), and the mask (B, 1, 1, S) of where it is not padding."""
        some(source, "Transformer: source", 0)
        mask = padding_mask(source)
        return self.encoder(self.placed(self.source_embed, source), mask), mask

    def placed(self, embed: Embedding, ids: Ids, start: int = 0) -> Tensor:
        """What a stack reads: a vector for each word, with its place written in. (B, T, E)"""
        x = without_padding(embed(ids), ids)
        return dropout(self.position(sqrt(x.shape[-1]) * x, start), self.dropout, self.training)

    # -- writing, word by word --------------------------------------------------------------------

    def translate(self, source: Ids, max_length: int, beam: int = 1) -> np.ndarray:
        """The target's ids (B, <= max_length), NumPy, with EOS and without SOS: the likeliest word
        each time, or the likeliest of ``beam`` sentences that are kept. To be called in evaluation
        (``model.eval()``): dropout is no help.
        """
        with no_grad():
            return written(self.step, self.start(source), source.shape[0], max_length, beam)

    def start(self, source: Ids) -> dict:
        """What is known before the first word: the memory, as each block keeps it, and nothing
        written."""
        memory, mask = self.encode(source)
        return {
            "remembered": self.decoder.remember(memory),
            "mask": mask,
            "past": [None] * len(self.decoder.layers),
        }

    def step(self, tokens: Ids, state: dict) -> tuple[Tensor, dict]:
        """tokens (B,), the last written. Returns log p of the next (B, V), and the state after
        it."""
        some_last(tokens, "Transformer.step: tokens")
        past = state_of(state, "Transformer.step: state", "remembered", "mask", "past")["past"]
        start = length_of("Transformer.step", self.decoder.layers, past, tokens.shape[0])
        x = self.placed(self.target_embed, tokens[:, None], start)  # (B, 1, E)
        y, past = self.decoder.step(x, state["remembered"], past, state["mask"])
        return log_softmax(self.out(y[:, 0])), {**state, "past": past}

    # -- for pictures -----------------------------------------------------------------------------

    def attention_maps(self, source: Ids, target: Ids) -> dict[str, list[Tensor]]:
        """Where each head of each block looks, query by key: "encoder" (B, H, S, S), "decoder" (B,
        H, T, T) and "cross" (B, H, T, S), which is what the word after target[:, t] was made
        from."""
        some(target, "Transformer.attention_maps: target", 0)
        with no_grad():
            seen = self.encoder.attention_maps(
                self.placed(self.source_embed, source), padding_mask(source)
            )
            memory, mask = self.encode(source)
            own, cross = self.decoder.attention_maps(
                self.placed(self.target_embed, target), memory, mask
            )
        return {"encoder": seen, "decoder": own, "cross": cross}


def embedding(words: int, d_model: int) -> Embedding:
    """An Embedding that starts as N(0, 1/d): times √d, its entries are then as large as those of
    PE."""
    embed = Embedding(words, d_model)
    embed.weight = init.normal((words, d_model), std=d_model**-0.5)
    return embed
