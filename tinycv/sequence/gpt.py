"""GPT: the Transformer without an encoder. Question and answer are one text, and each word is
guessed from those before.

    p(x_1 ... x_T) = Π_t p(x_t | x_1 ... x_(t-1))                   Radford et al. 2018, eq. 1
    p(x_t | ...) = softmax(LN(blocks(W[x_<t] + positions)) Wᵀ)      ibid., eq. 2
                                                                    pre-norm: Radford et al. 2019

The blocks are encoder blocks under a causal mask: what makes a decoder is the mask.  What the
blocks look at to answer is the question itself, so there is no cross-attention.

Read before: transformer.py, positions.py, decode.py.   Seen at work: demos/05_transformer.py.
Shapes: B batch, T tokens, E width, V words.
"""

from __future__ import annotations

import numpy as np

from tinycv.data.inputs import whole
from tinycv.engine.arguments import number, size
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn import init
from tinycv.nn.checks import MOST_LAYERS
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Embedding, linear
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.nn.softmax import log_softmax
from tinycv.sequence.decode import written
from tinycv.sequence.inputs import Ids, length_of, some, some_last
from tinycv.sequence.positions import LearnedPositions
from tinycv.sequence.transformer import TransformerEncoder, TransformerEncoderLayer


class GPT(Module):
    """Ids (B, T) to scores for each next word (B, T, V).

    words: V, with PAD, SOS and EOS among them (data/text.py). max_length: the most tokens of
    question and answer together. The MLP is 4 d_model wide. One table W of words serves as
    embedding and as output.
    """

    def __init__(
        self,
        words: int,
        max_length: int,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 2,
        dropout: float = 0.1,
    ):
        words, max_length = size(words, "GPT: words", 1), size(max_length, "GPT: max_length", 1)
        d_model, dropout = size(d_model, "GPT: d_model", 1), number(dropout, "GPT: dropout", 0, 1)
        nhead = size(nhead, "GPT: nhead", 1)
        num_layers = whole(num_layers, "GPT: num_layers", 1, MOST_LAYERS)
        block = TransformerEncoderLayer(
            d_model, nhead, 4 * d_model, dropout, "gelu", norm_first=True
        )
        self.embed = Embedding(words, d_model)
        self.embed.weight = init.normal((words, d_model), std=0.02)
        self.position = LearnedPositions(max_length, d_model)
        self.blocks = TransformerEncoder(block, num_layers, LayerNorm(d_model))
        self.dropout = dropout

    def forward(self, ids: Ids) -> Tensor:
        """Returns (B, T, V): row t is about the word after ids[:, t], and knows nothing of it."""
        some(ids, "GPT: ids", 0)
        return linear(self.blocks(self.placed(ids), is_causal=True), self.embed.weight)

    def placed(self, ids: Ids, start: int = 0) -> Tensor:  # (B, T) -> (B, T, E)
        return dropout(self.position(self.embed(ids), start), self.dropout, self.training)

    def translate(self, question: Ids, max_length: int, beam: int = 1) -> np.ndarray:
        """What follows the question (B, T) and SOS: ids (B, <= max_length), NumPy, with EOS and
        without SOS. (So named, though both are one language, because what asks other models asks
        this one too: ``exact_match``.)

        Every question has its full length: a question padded at its end would be answered after the
        padding.
        """
        some(question, "GPT.translate: question", 0)
        with no_grad():
            past = self.blocks.step(self.placed(question), [None] * len(self.blocks.layers))[1]
            return written(self.step, past, question.shape[0], max_length, beam)

    def step(self, tokens: Ids, past: list) -> tuple[Tensor, list]:
        """tokens (B,), the last written; past: what the blocks kept of those before. Returns log p
        of the next (B, V) and the past with this one at its end."""
        some_last(tokens, "GPT.step: tokens")
        start = length_of("GPT.step", self.blocks.layers, past, tokens.shape[0])
        # (B, 1, E)
        y, past = self.blocks.step(self.placed(tokens[:, None], start), past)
        return log_softmax(linear(y[:, 0], self.embed.weight)), past
