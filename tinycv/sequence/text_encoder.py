"""Text encoder: a small Transformer that turns a prompt into one vector per word, for text-to-image
models and CLIP.

    z = embed(ids) + positions                                                       (B, T, E)
    tokens = LN(blocks(z)),  self-attention without a causal mask

LN is layer norm.  A diffusion model reads a prompt through these tokens: each place of the picture
attends to them (cross-attention).  In "a red circle left of a blue square", self-attention can
write into the token of "circle" that this circle is red.  The mean of the tokens (``pooled``)
stands for the whole prompt.

Prompts have different lengths, so short ones are padded with PAD.  No token attends to PAD, the
mean leaves PAD out, and the output at PAD is 0.  A row of PAD alone means "no text", which
classifier-free guidance needs (diffusion/guidance.py).  In such a row the first PAD is not masked,
so the vector that the embedding learns for PAD is the token of "no text".

differs: Stable Diffusion uses the text encoder of CLIP, and Imagen that of the language model T5
(Saharia et al. 2022); both are large, trained in advance, and frozen.  This one starts from random
weights and is trained together with the model that reads it.

Read first: transformer.py, masks.py, data/text.py.
Shapes: B texts, T words, E width, V number of words.
"""

from __future__ import annotations

from tinycv.data.inputs import whole
from tinycv.data.text import PAD
from tinycv.engine.arguments import size
from tinycv.engine.backend import Array, array_module
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import MOST_LAYERS
from tinycv.nn.linear import Embedding
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.sequence.inputs import Ids, check_ids, check_tokens
from tinycv.sequence.masks import padding_mask
from tinycv.sequence.positions import LearnedPositions
from tinycv.sequence.transformer import TransformerEncoder, TransformerEncoderLayer


class TextEncoder(Module):
    """Takes ids (B, T), with T at most ``length``, and returns tokens (B, T, E).

    words: V, including PAD, SOS and EOS (data/text.py). dim: E. The MLP is 4 E wide.
    """

    def __init__(self, words: int, length: int, dim: int = 64, heads: int = 4, depth: int = 2):
        words, length = size(words, "TextEncoder: words", 1), size(length, "TextEncoder: length", 1)
        dim, heads = size(dim, "TextEncoder: dim", 1), size(heads, "TextEncoder: heads", 1)
        if dim % heads:
            raise ValueError(
                f"TextEncoder: dim is {dim} and heads {heads}; dim must divide evenly among the "
                "heads"
            )
        depth = whole(depth, "TextEncoder: depth", 1, MOST_LAYERS)
        self.words, self.length, self.dim = words, length, dim
        self.embed = Embedding(words, dim)
        self.embed.weight = init.normal((words, dim), std=0.02)
        self.position = LearnedPositions(length, dim)
        block = TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", norm_first=True)
        self.blocks = TransformerEncoder(block, depth, LayerNorm(dim))

    def forward(self, ids: Ids) -> Tensor:
        """ids (B, T) integers. Returns (B, T, E), which is 0 where ``mask_of`` is False."""
        mask = self.mask_of(ids)  # (B, 1, 1, T)
        real = mask[:, 0, 0, :, None]  # (B, T, 1)
        # Selected away, not multiplied by 0: 0 * NaN is NaN, so a product could let PAD leak.
        z = where(real, self.position(self.embed(ids)), 0.0)  # (B, T, E)
        return where(real, self.blocks(z, mask), 0.0)

    def mask_of(self, ids: Ids) -> Array:
        """bool (B, 1, 1, T): True for the tokens that a query may attend to, which are all words
        but PAD, and the first PAD of a row of PAD alone."""
        check_ids(ids, "TextEncoder: ids")
        mask = padding_mask(ids, PAD)
        xp = array_module(mask)
        first = xp.arange(mask.shape[-1]) == 0
        return mask | (first & ~mask.any(axis=-1, keepdims=True))

    def pooled(self, tokens: Tensor, ids: Ids) -> Tensor:
        """tokens (B, T, E), as ``forward`` returned them for ids (B, T). Returns (B, E): the mean
        over the words that are not PAD."""
        check_tokens("TextEncoder.pooled", tokens=tokens)
        mask = self.mask_of(ids)[:, 0, 0, :, None]  # (B, T, 1)
        if tuple(tokens.shape[:2]) != tuple(mask.shape[:2]):
            raise ValueError(
                f"TextEncoder.pooled: tokens has shape {tuple(tokens.shape)} and ids "
                f"{tuple(ids.shape)}; their first two axes must be equal"
            )
        share = mask / mask.sum(axis=1, keepdims=True)  # (B, T, 1), with sum 1 over the words
        return (where(mask, tokens, 0.0) * share.astype(tokens.dtype)).sum(axis=1)
