"""Transformer encoder and decoder blocks, and stacks of them: self-attention, cross-attention and
an MLP, in pre-norm or post-norm.

    post-norm    x = LN(x + f(x))                               Vaswani et al. 2017, section 3.1
    pre-norm     x = x + f(LN(x))                               Dosovitskiy et al. 2021, eq. 2 and 3
    MLP(x) = W_2 act(W_1 x + b_1) + b_2, act: ReLU or GELU      Vaswani et al. 2017, eq. 2

    an encoder block:    f is self-attention, then the MLP
    a decoder block:     f is self-attention over the tokens written so far, then cross-attention to
                         the encoder output (PyTorch calls it memory), then the MLP

The position of the norm decides whether a deep stack can start training with large steps.
Post-norm has LayerNorms on the path from the last block to the first.  At the start, the gradients
of the last blocks are large whatever the depth, and large steps then ruin the training.  For this
reason the learning rate of the paper has a warm-up.  With pre-norm the path is a plain sum, the
gradients shrink as 1/√depth, and training works without warm-up (Xiong et al. 2020, theorem 1).
But nothing has normalised the sum itself, so a pre-norm stack ends with one more norm.

A stack can be run in two ways that give the same numbers.  ``forward`` takes all tokens at once,
with a mask, for training.  ``step`` takes only the next token and the cached keys and values of the
tokens before it (attention.py), for writing.  If memory is short, ``nn.checkpoint(block)(x)``
stores only the input of each block and computes the rest again.

Read first: attention.py, nn/norm.py.   Read next: encoder_decoder.py, gpt.py, vision/vit.py.
Shapes: B batch, T tokens, S tokens of the encoder output, E width. Masks as in attention.py.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from tinycv.data.inputs import whole
from tinycv.engine.arguments import choice, flag, number, shown, size
from tinycv.engine.ops import relu
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn import init
from tinycv.nn.activation import gelu
from tinycv.nn.checks import MOST_LAYERS, epsilon
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.sequence.attention import MultiheadAttention
from tinycv.sequence.inputs import check_one_per_block, check_tokens, require_batch_first
from tinycv.sequence.masks import NORM_LIMIT, zero_hidden_tokens

Block = TypeVar("Block", bound=Module)
ACTIVATIONS = {"relu": relu, "gelu": gelu}


class TransformerEncoderLayer(Module):
    """One encoder block. Names and defaults follow PyTorch, so its weights load by name.

    d_model: width E. nhead: number of heads. dim_feedforward: width of the hidden layer of the MLP.
    activation: "relu" or "gelu". norm_first: pre-norm.
    differs: always batch first (batch_first=False is refused); norm_first comes before
    layer_norm_eps, and in PyTorch after it, so pass both by name; there is no ``bias``; a padding
    mask is passed as src_mask, (B, 1, 1, T).
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        layer_norm_eps: float = 1e-5,
        *,
        batch_first: bool = True,
    ):
        owner = type(self).__name__
        choice(activation, f"{owner}: activation", sorted(ACTIVATIONS))
        norm_first = flag(norm_first, f"{owner}: norm_first")
        d_model, nhead = size(d_model, f"{owner}: d_model", 1), size(nhead, f"{owner}: nhead", 1)
        dim_feedforward = size(dim_feedforward, f"{owner}: dim_feedforward", 1)
        dropout = number(dropout, f"{owner}: dropout", 0, 1)
        layer_norm_eps = epsilon(layer_norm_eps, f"{owner}: layer_norm_eps")
        require_batch_first(batch_first, owner)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout)
        self.linear1 = Linear(d_model, dim_feedforward)
        self.linear2 = Linear(dim_feedforward, d_model)
        self.norm1 = LayerNorm(d_model, layer_norm_eps)
        self.norm2 = LayerNorm(d_model, layer_norm_eps)
        self.activation, self.norm_first, self.dropout = activation, norm_first, dropout

    def forward(
        self, x: Tensor, src_mask: ArrayLike | None = None, is_causal: bool = False
    ) -> Tensor:
        """x (B, T, E); src_mask: like attn_mask of MultiheadAttention. Returns (B, T, E)."""
        check_tokens(type(self).__name__, src=x)
        x = zero_hidden_tokens(x, src_mask, NORM_LIMIT)
        attended = self.self_attn(
            self.pre_norm(self.norm1, x), attn_mask=src_mask, is_causal=is_causal
        )
        x = self.post_norm(self.norm1, x + attended)
        return self.post_norm(self.norm2, x + self.mlp(self.pre_norm(self.norm2, x)))

    def step(self, x: Tensor, past: tuple | None = None) -> tuple:
        """Like a causal ``forward``, for the next tokens x (B, T, E) of a sequence. Takes and
        returns the cache ``past`` like MultiheadAttention.follow: returns (y, past)."""
        attended, past = self.self_attn.follow(self.pre_norm(self.norm1, x), past)
        x = self.post_norm(self.norm1, x + attended)
        return self.post_norm(self.norm2, x + self.mlp(self.pre_norm(self.norm2, x))), past

    def weights(
        self, x: Tensor, src_mask: ArrayLike | None = None, is_causal: bool = False
    ) -> Tensor:
        """The self-attention weights: (B, H, T, T)."""
        return self.self_attn.weights(
            self.pre_norm(self.norm1, x), attn_mask=src_mask, is_causal=is_causal
        )

    def pre_norm(self, norm: Module, x: Tensor) -> Tensor:
        """The input of a branch: norm(x) in a pre-norm block, x itself in a post-norm block."""
        return norm(x) if self.norm_first else x

    def post_norm(self, norm: Module, x: Tensor) -> Tensor:
        """The sum after a branch: x itself in a pre-norm block, norm(x) in a post-norm block."""
        return x if self.norm_first else norm(x)

    def mlp(self, x: Tensor) -> Tensor:
        """The MLP on each token: (B, T, E) to (B, T, E)."""
        hidden = ACTIVATIONS[self.activation](self.linear1(x))  # (B, T, dim_feedforward)
        hidden = dropout(hidden, self.dropout, self.training)
        return dropout(self.linear2(hidden), self.dropout, self.training)


class TransformerDecoderLayer(TransformerEncoderLayer):
    """One decoder block: self-attention, then cross-attention to the encoder output
    (``multihead_attn``), then the MLP.

    The arguments are those of TransformerEncoderLayer. As in PyTorch, norm1, norm2 and norm3 belong
    to self-attention, cross-attention and the MLP. differs: from PyTorch as TransformerEncoderLayer
    does; pass norm_first and layer_norm_eps by name.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        layer_norm_eps: float = 1e-5,
        *,
        batch_first: bool = True,
    ):
        super().__init__(
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            norm_first,
            layer_norm_eps,
            batch_first=batch_first,
        )
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout)
        self.norm3 = LayerNorm(d_model, layer_norm_eps)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: ArrayLike | None = None,
        memory_mask: ArrayLike | None = None,
        tgt_is_causal: bool = False,
    ) -> Tensor:
        """tgt (B, T, E), memory (B, S, E): the encoder output. tgt_mask (T, T), memory_mask (T, S)
        or (B, 1, 1, S). Returns (B, T, E)."""
        check_tokens(type(self).__name__, tgt=tgt, memory=memory)
        tgt = zero_hidden_tokens(tgt, tgt_mask, NORM_LIMIT)
        memory = zero_hidden_tokens(memory, memory_mask)
        attended = self.self_attn(
            self.pre_norm(self.norm1, tgt), attn_mask=tgt_mask, is_causal=tgt_is_causal
        )
        x = self.post_norm(self.norm1, tgt + attended)
        return self.cross_attention_and_mlp(x, self.multihead_attn.remember(memory), memory_mask)

    def step(
        self,
        x: Tensor,
        remembered: tuple,
        past: tuple | None = None,
        memory_mask: ArrayLike | None = None,
    ) -> tuple:
        """Like a causal ``forward``, for the next tokens x (B, T, E) of a sequence. remembered:
        ``multihead_attn.remember(memory)``; past: the cache, as in MultiheadAttention.follow.
        Returns (y (B, T, E), past)."""
        attended, past = self.self_attn.follow(self.pre_norm(self.norm1, x), past)
        x = self.post_norm(self.norm1, x + attended)
        return self.cross_attention_and_mlp(x, remembered, memory_mask), past

    def cross_attention_and_mlp(
        self, x: Tensor, remembered: tuple, memory_mask: ArrayLike | None
    ) -> Tensor:
        """Cross-attention to ``remembered``, then the MLP: x (B, T, E) to (B, T, E)."""
        attended = self.multihead_attn.recall(self.pre_norm(self.norm2, x), remembered, memory_mask)
        x = self.post_norm(self.norm2, x + attended)
        return self.post_norm(self.norm3, x + self.mlp(self.pre_norm(self.norm3, x)))

    def cross_weights(
        self, tgt: Tensor, memory: Tensor, memory_mask: ArrayLike | None = None
    ) -> Tensor:
        """The cross-attention weights of a causal ``forward``: (B, H, T, S)."""
        attended = self.self_attn(self.pre_norm(self.norm1, tgt), is_causal=True)
        x = self.post_norm(self.norm1, tgt + attended)
        return self.multihead_attn.weights(
            self.pre_norm(self.norm2, x), memory, attn_mask=memory_mask
        )


class TransformerEncoder(Module):
    """``num_layers`` copies of encoder_layer in sequence, then ``norm`` if there is one (pre-norm
    needs it).

    differs: each copy draws its own initial matrices. In PyTorch all copies start equal, except in
    torch.nn.Transformer.
    """

    def __init__(
        self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None
    ):
        self.layers = copies(encoder_layer, num_layers, "TransformerEncoder: encoder_layer")
        self.norm = last_norm(norm, "TransformerEncoder: norm")

    def forward(
        self, src: Tensor, mask: ArrayLike | None = None, is_causal: bool = False
    ) -> Tensor:
        """src (B, T, E); mask: like attn_mask of MultiheadAttention. Returns (B, T, E)."""
        check_tokens("TransformerEncoder", src=src)
        for layer in self.layers:
            src = layer(src, mask, is_causal)
        return src if self.norm is None else self.norm(src)

    def step(self, x: Tensor, past: list) -> tuple[Tensor, list]:
        """Like a causal ``forward``, for the next tokens x of a sequence. past: the cache, a list
        with one entry per block, each None at the start. Returns y and the new cache."""
        new_past = []
        check_one_per_block("TransformerEncoder.step", self.layers, past=past)
        for layer, layer_past in zip(self.layers, past, strict=True):
            x, layer_past = layer.step(x, layer_past)
            new_past.append(layer_past)
        return x if self.norm is None else self.norm(x), new_past

    def attention_maps(
        self, src: Tensor, mask: ArrayLike | None = None, is_causal: bool = False
    ) -> list[Tensor]:
        """The self-attention weights of each block, (B, H, T, T) each."""
        maps = []
        for layer in self.layers:
            maps.append(layer.weights(src, mask, is_causal))
            src = layer(src, mask, is_causal)
        return maps


class TransformerDecoder(Module):
    """``num_layers`` copies of decoder_layer in sequence, all of which attend to the same encoder
    output; then ``norm`` if there is one."""

    def __init__(
        self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None
    ):
        self.layers = copies(decoder_layer, num_layers, "TransformerDecoder: decoder_layer")
        self.norm = last_norm(norm, "TransformerDecoder: norm")

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: ArrayLike | None = None,
        memory_mask: ArrayLike | None = None,
        tgt_is_causal: bool = False,
    ) -> Tensor:
        """tgt (B, T, E), memory (B, S, E): the encoder output; masks as in TransformerDecoderLayer.
        Returns (B, T, E)."""
        check_tokens("TransformerDecoder", tgt=tgt, memory=memory)
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_is_causal)
        return tgt if self.norm is None else self.norm(tgt)

    def remember(self, memory: Tensor) -> list:
        """The keys and values of the encoder output in each block, computed once for all steps."""
        return [layer.multihead_attn.remember(memory) for layer in self.layers]

    def step(
        self, x: Tensor, remembered: list, past: list, memory_mask: ArrayLike | None = None
    ) -> tuple[Tensor, list]:
        """Like a causal ``forward``, for the next tokens x of a sequence. remembered: what
        ``remember(memory)`` returned. past: the cache, a list with one entry per block, each None
        at the start. Returns y and the new cache."""
        new_past = []
        check_one_per_block(
            "TransformerDecoder.step", self.layers, remembered=remembered, past=past
        )
        for layer, keys_and_values, layer_past in zip(self.layers, remembered, past, strict=True):
            x, layer_past = layer.step(x, keys_and_values, layer_past, memory_mask)
            new_past.append(layer_past)
        return x if self.norm is None else self.norm(x), new_past

    def attention_maps(
        self, tgt: Tensor, memory: Tensor, memory_mask: ArrayLike | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The attention weights of a causal ``forward`` in each block: self-attention, (B, H, T, T)
        each, and cross-attention, (B, H, T, S) each."""
        self_weights, cross_weights = [], []
        for layer in self.layers:
            self_weights.append(layer.weights(tgt, is_causal=True))
            cross_weights.append(layer.cross_weights(tgt, memory, memory_mask))
            tgt = layer(tgt, memory, memory_mask=memory_mask, tgt_is_causal=True)
        return self_weights, cross_weights


def last_norm(norm: Module | None, what: str) -> Module | None:
    """The norm after the last block: a Module or None. Anything else raises TypeError."""
    if norm is not None and not isinstance(norm, Module):
        raise TypeError(
            f"{what} is {shown(norm)}; it must be a Module, such as a LayerNorm, or None"
        )
    return norm


def copies(layer: Block, count: int, what: str) -> list[Block]:
    """``count`` copies of a block, each with its own random matrices. what: the name of the stack
    and its argument, for errors."""
    if not isinstance(layer, Module):
        raise TypeError(
            f"{what} is {shown(layer)}; it must be a block, such as a TransformerEncoderLayer"
        )
    owner = what.partition(":")[0]
    count = whole(count, f"{owner}: num_layers", 1, MOST_LAYERS)
    stack = [deepcopy(layer) for _ in range(count)]
    for block in stack:
        for p in block.parameters():
            if p.ndim > 1:
                p.data = init.xavier_uniform(p.shape).data.astype(p.dtype)
    return stack
