"""The Transformer ("Attention Is All You Need"): an encoder reads the source sentence, a decoder
writes the target word by word, with cross-attention to the encoder output.

    memory = encoder(embed(source) √d + PE)      Vaswani et al. 2017, figure 1, sections 3.4 and 3.5
    p(y_t | y_<t, source) = softmax(W decoder(embed(y_<t) √d + PE, memory))

*memory* is the encoder output; the name comes from PyTorch.

In training the decoder reads the correct words before each position (teacher forcing), at all
positions at once.  The causal mask hides from each position the word that it has to predict.  In
use the decoder reads the words that it has written itself, one at a time.  Two methods of section 5
of the paper are in other files: label smoothing (5.4) in nn/losses.py, and the learning rate (eq.
3) in optim.warmup_inverse_sqrt.

Read first: data/text.py, transformer.py, positions.py, decode.py.
Demo: demos/05_transformer.py.
Shapes: B batch, S source tokens, T target tokens, E width, V number of target words.
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
from tinycv.sequence.inputs import (
    Ids,
    check_ids,
    check_last_tokens,
    length_of,
    require_batch_first,
    state_of,
)
from tinycv.sequence.masks import padding_mask, without_padding
from tinycv.sequence.positions import SinusoidalPositions
from tinycv.sequence.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)


class Transformer(Module):
    """Takes source ids (B, S) and target ids (B, T), and returns scores for the next word at each
    target position, (B, T, V).

    source_words, target_words: the number of words of each vocabulary, including PAD (id 0), SOS
    and EOS (data/text.py). The other arguments, and the names ``encoder.*`` and ``decoder.*``,
    follow torch.nn.Transformer, so the weights of its encoder and decoder load by name.
    differs: torch.nn.Transformer maps vectors to vectors, while this class includes embeddings,
    positions and scores. In the paper, embeddings and output layer share their weights; here they
    are separate. As in PyTorch, each stack ends with a norm, even with post-norm.
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
        require_batch_first(batch_first, "Transformer")
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
        """Returns (B, T, V): row t scores the word after target[:, t]. In source and target, the
        padding (id 0) comes at the end.

        The target needs no padding mask: its padding comes last, so the causal mask hides it from
        all words.
        """
        check_ids(target, "Transformer: target", 0)
        memory, mask = self.encode(source)
        embedded = self.embed_with_positions(self.target_embed, target)
        return self.out(self.decoder(embedded, memory, memory_mask=mask, tgt_is_causal=True))

    def encode(self, source: Ids) -> tuple[Tensor, np.ndarray]:
        """The encoder output (B, S, E), and its mask (B, 1, 1, S), False on padding."""
        check_ids(source, "Transformer: source", 0)
        mask = padding_mask(source)
        return self.encoder(self.embed_with_positions(self.source_embed, source), mask), mask

    def embed_with_positions(self, embed: Embedding, ids: Ids, start: int = 0) -> Tensor:
        """The input of a stack: embed(ids) √d + PE, (B, T, E). start: the position of the first
        word."""
        x = without_padding(embed(ids), ids)
        return dropout(self.position(sqrt(x.shape[-1]) * x, start), self.dropout, self.training)

    # -- writing word by word ---------------------------------------------------------------------

    def translate(self, source: Ids, max_length: int, beam: int = 1) -> np.ndarray:
        """The ids of the target, a NumPy array (B, <= max_length), with EOS and without SOS. beam
        1: the most likely word at each step; a larger beam: beam search (decode.py). Call
        ``model.eval()`` first, to switch dropout off.
        """
        with no_grad():
            return written(self.step, self.start(source), source.shape[0], max_length, beam)

    def start(self, source: Ids) -> dict:
        """The state before the first word: the keys and values of the encoder output in each block,
        its mask, and an empty cache of target tokens."""
        memory, mask = self.encode(source)
        return {
            "remembered": self.decoder.remember(memory),
            "mask": mask,
            "past": [None] * len(self.decoder.layers),
        }

    def step(self, tokens: Ids, state: dict) -> tuple[Tensor, dict]:
        """tokens (B,): the words written last. Returns log p of the next ones (B, V), and the next
        state."""
        check_last_tokens(tokens, "Transformer.step: tokens")
        past = state_of(state, "Transformer.step: state", "remembered", "mask", "past")["past"]
        start = length_of("Transformer.step", self.decoder.layers, past, tokens.shape[0])
        x = self.embed_with_positions(self.target_embed, tokens[:, None], start)  # (B, 1, E)
        y, past = self.decoder.step(x, state["remembered"], past, state["mask"])
        return log_softmax(self.out(y[:, 0])), {**state, "past": past}

    # -- for pictures -----------------------------------------------------------------------------

    def attention_maps(self, source: Ids, target: Ids) -> dict[str, list[Tensor]]:
        """The attention weights of each block, query by key: "encoder" (B, H, S, S), "decoder" (B,
        H, T, T) and "cross" (B, H, T, S). Row t of "cross" belongs to the word after
        target[:, t]."""
        check_ids(target, "Transformer.attention_maps: target", 0)
        with no_grad():
            encoder_maps = self.encoder.attention_maps(
                self.embed_with_positions(self.source_embed, source), padding_mask(source)
            )
            memory, mask = self.encode(source)
            decoder_maps, cross_maps = self.decoder.attention_maps(
                self.embed_with_positions(self.target_embed, target), memory, mask
            )
        return {"encoder": encoder_maps, "decoder": decoder_maps, "cross": cross_maps}


def embedding(words: int, d_model: int) -> Embedding:
    """An Embedding that starts from N(0, 1/d), so that after multiplying by √d its entries are
    about as large as those of PE."""
    embed = Embedding(words, d_model)
    embed.weight = init.normal((words, d_model), std=d_model**-0.5)
    return embed
