"""GPT (decoder-only Transformer): question and answer are one text, and each word is predicted from
the words before it.

    p(x_1 ... x_T) = Π_t p(x_t | x_1 ... x_(t-1))                   Radford et al. 2018, eq. 1
    p(x_t | ...) = softmax(LN(blocks(W[x_<t] + positions)) Wᵀ)      ibid., eq. 2
                                                                    pre-norm: Radford et al. 2019

The blocks are encoder blocks with a causal mask: the mask is what makes them a decoder.  The
question is part of the text that they attend to, so no cross-attention is needed.

Read first: transformer.py, positions.py, decode.py.   Demo: demos/05_transformer.py.
Shapes: B batch, T tokens, E width, V number of words.
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
from tinycv.sequence.inputs import Ids, check_ids, check_last_tokens, length_of
from tinycv.sequence.positions import LearnedPositions
from tinycv.sequence.transformer import TransformerEncoder, TransformerEncoderLayer


class GPT(Module):
    """Takes ids (B, T) and returns scores for the next word at each position, (B, T, V).

    words: V, including PAD, SOS and EOS (data/text.py). max_length: the maximum length of question
    and answer together. The MLP is 4 d_model wide. The same table W is used for the embedding and
    for the output.
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
        self.position: Module = LearnedPositions(max_length, d_model)
        self.blocks = TransformerEncoder(block, num_layers, LayerNorm(d_model))
        self.dropout = dropout

    def forward(self, ids: Ids) -> Tensor:
        """Returns (B, T, V): row t scores the word after ids[:, t], from ids[:, : t + 1] alone."""
        check_ids(ids, "GPT: ids", 0)
        x = self.blocks(self.embed_with_positions(ids), is_causal=True)  # (B, T, E)
        return linear(x, self.embed.weight)

    def embed_with_positions(self, ids: Ids, start: int = 0) -> Tensor:  # (B, T) -> (B, T, E)
        return dropout(self.position(self.embed(ids), start), self.dropout, self.training)

    def translate(self, question: Ids, max_length: int, beam: int = 1) -> np.ndarray:
        """The continuation of the question (B, T) and SOS: ids, a NumPy array (B, <= max_length),
        with EOS and without SOS. The method is called translate, although there is only one
        language, so that ``exact_match`` can evaluate this model like the others.

        All questions must have the same length T, without padding: after a padded question, the
        model would continue the padding.
        """
        check_ids(question, "GPT.translate: question", 0)
        with no_grad():
            empty_past = [None] * len(self.blocks.layers)
            _, past = self.blocks.step(self.embed_with_positions(question), empty_past)
            return written(self.step, past, question.shape[0], max_length, beam)

    def step(self, tokens: Ids, past: list) -> tuple[Tensor, list]:
        """tokens (B,): the words written last; past: the cached keys and values of the words before
        them, one entry per block. Returns log p of the next words (B, V), and the past with these
        tokens appended."""
        check_last_tokens(tokens, "GPT.step: tokens")
        start = length_of("GPT.step", self.blocks.layers, past, tokens.shape[0])
        x = self.embed_with_positions(tokens[:, None], start)  # (B, 1, E)
        y, past = self.blocks.step(x, past)
        return log_softmax(linear(y[:, 0], self.embed.weight)), past
