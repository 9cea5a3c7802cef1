"""The blocks of the Transformer and their stacks: tokens look at each other, then each thinks by
itself.

    post-norm    x = LN(x + f(x))                               Vaswani et al. 2017, section 3.1
    pre-norm     x = x + f(LN(x))                               Dosovitskiy et al. 2021, eq. 2 and 3
    MLP(x) = W_2 σ(W_1 x + b_1) + b_2                           Vaswani et al. 2017, eq. 2

    an encoder block:    f is self-attention, then the MLP
    a decoder block:     f is self-attention on what is written so far, then cross-attention to the
                         memory (what the encoder made of the source), then the MLP

Where the norm stands decides how deep stacks start.  Post-norm has a LayerNorm on the path from the
last block to the first: at the start, gradients of the last blocks are large whatever the depth,
and large steps break the training; hence the warm-up of the paper's learning rate.  With the norm
inside the branch that path is a plain sum, the gradients shrink as 1/√depth, and pre-norm trains
without warm-up (Xiong et al. 2020, theorem 1).  But then nothing has normalised the sum itself: so
a pre-norm stack ends with one more norm.

A stack runs in two ways that give the same numbers.  ``forward`` sees all tokens at once, under a
mask: for training. ``step`` sees the next token and what was kept of those before (attention.py):
for writing.  Where memory is short, ``nn.checkpoint(block)(x)`` keeps of each block its input
alone.

Read before: attention.py, nn/norm.py.   Read next: encoder_decoder.py, gpt.py, vision/vit.py.
Shapes: B batch, T tokens, S tokens of the memory, E width. Masks as in attention.py.
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
from tinycv.sequence.inputs import batch_leads, check_tokens, one_for_each
from tinycv.sequence.masks import NORMED, without_lost

Block = TypeVar("Block", bound=Module)
ACTIVATIONS = {"relu": relu, "gelu": gelu}


class TransformerEncoderLayer(Module):
    """One encoder block. The names are PyTorch's, so its weights load by name; the defaults are
    too.

    d_model: width E. nhead: attention heads. dim_feedforward: width of the MLP's middle.
    activation: "relu" or "gelu".
    norm_first: pre-norm. differs: always batch first (batch_first=False is refused), so batch_first
    is True; norm_first comes before layer_norm_eps, which PyTorch has in the other order: pass both
    by name; there is no ``bias``; a padding mask is a mask like any other, (B, 1, 1, T).
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
        batch_leads(batch_first, owner)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout)
        self.linear1 = Linear(d_model, dim_feedforward)
        self.linear2 = Linear(dim_feedforward, d_model)
        self.norm1 = LayerNorm(d_model, layer_norm_eps)
        self.norm2 = LayerNorm(d_model, layer_norm_eps)
        self.activation, self.norm_first, self.dropout = activation, norm_first, dropout

    def forward(
        self, x: Tensor, src_mask: ArrayLike | None = None, is_causal: bool = False
    ) -> Tensor:
        """x (B, T, E); src_mask as MultiheadAttention's attn_mask. Returns (B, T, E)."""
        check_tokens(type(self).__name__, src=x)
        x = without_lost(x, src_mask, NORMED)
        looked = self.self_attn(self.before(self.norm1, x), attn_mask=src_mask, is_causal=is_causal)
        x = self.after(self.norm1, x + looked)
        return self.after(self.norm2, x + self.think(self.before(self.norm2, x)))

    def step(self, x: Tensor, past: tuple | None = None) -> tuple:
        """As a causal ``forward`` of tokens x (B, T, E) that come after others: (y, past) as
        MultiheadAttention.follow."""
        looked, past = self.self_attn.follow(self.before(self.norm1, x), past)
        x = self.after(self.norm1, x + looked)
        return self.after(self.norm2, x + self.think(self.before(self.norm2, x))), past

    def weights(
        self, x: Tensor, src_mask: ArrayLike | None = None, is_causal: bool = False
    ) -> Tensor:
        """Where each token looks: (B, H, T, T)."""
        return self.self_attn.weights(
            self.before(self.norm1, x), attn_mask=src_mask, is_causal=is_causal
        )

    def before(self, norm: Module, x: Tensor) -> Tensor:
        """What a branch reads: x under the norm in pre-norm, else x itself."""
        return norm(x) if self.norm_first else x

    def after(self, norm: Module, x: Tensor) -> Tensor:
        """What a branch leaves: x itself in pre-norm, else x under the norm."""
        return x if self.norm_first else norm(x)

    def think(self, x: Tensor) -> Tensor:
        """The MLP on each token: (B, T, E) to (B, T, E)."""
        hidden = ACTIVATIONS[self.activation](self.linear1(x))  # (B, T, dim_feedforward)
        hidden = dropout(hidden, self.dropout, self.training)
        return dropout(self.linear2(hidden), self.dropout, self.training)


class TransformerDecoderLayer(TransformerEncoderLayer):
    """One decoder block: an encoder block that also asks a memory, by ``multihead_attn``, between
    its two halves.

    Arguments as TransformerEncoderLayer's, names as PyTorch's: norm1, norm2, norm3 belong to
    self-attention, cross-attention and the MLP. differs: in what TransformerEncoderLayer does; pass
    norm_first and layer_norm_eps by name.
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
        """tgt (B, T, E), memory (B, S, E), tgt_mask (T, T) and memory_mask (T, S) or (B, 1, 1, S).
        Returns (B, T, E)."""
        check_tokens(type(self).__name__, tgt=tgt, memory=memory)
        tgt = without_lost(tgt, tgt_mask, NORMED)
        memory = without_lost(memory, memory_mask)
        looked = self.self_attn(
            self.before(self.norm1, tgt), attn_mask=tgt_mask, is_causal=tgt_is_causal
        )
        x = self.after(self.norm1, tgt + looked)
        return self.ask_and_think(x, self.multihead_attn.remember(memory), memory_mask)

    def step(
        self,
        x: Tensor,
        remembered: tuple,
        past: tuple | None = None,
        memory_mask: ArrayLike | None = None,
    ) -> tuple:
        """As a causal ``forward`` of tokens x (B, T, E) that come after others. remembered:
        ``multihead_attn.remember`` of the memory; past as MultiheadAttention.follow. Returns (y (B,
        T, E), past)."""
        looked, past = self.self_attn.follow(self.before(self.norm1, x), past)
        return self.ask_and_think(self.after(self.norm1, x + looked), remembered, memory_mask), past

    def ask_and_think(self, x: Tensor, remembered: tuple, memory_mask: ArrayLike | None) -> Tensor:
        """Cross-attention to ``remembered``, then the MLP: x (B, T, E) to (B, T, E)."""
        found = self.multihead_attn.recall(self.before(self.norm2, x), remembered, memory_mask)
        x = self.after(self.norm2, x + found)
        return self.after(self.norm3, x + self.think(self.before(self.norm3, x)))

    def cross_weights(
        self, tgt: Tensor, memory: Tensor, memory_mask: ArrayLike | None = None
    ) -> Tensor:
        """Where each token of a causal ``forward`` looks in the memory: (B, H, T, S)."""
        x = self.after(
            self.norm1, tgt + self.self_attn(self.before(self.norm1, tgt), is_causal=True)
        )
        return self.multihead_attn.weights(
            self.before(self.norm2, x), memory, attn_mask=memory_mask
        )


class TransformerEncoder(Module):
    """``num_layers`` blocks like encoder_layer, one after another, then ``norm`` if there is one
    (pre-norm needs it).

    differs: each copy draws its matrices anew; PyTorch's all start as the same block, and its
    torch.nn.Transformer alone draws them apart.
    """

    def __init__(
        self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None
    ):
        self.layers = copies(encoder_layer, num_layers, "TransformerEncoder: encoder_layer")
        self.norm = last_norm(norm, "TransformerEncoder: norm")

    def forward(
        self, src: Tensor, mask: ArrayLike | None = None, is_causal: bool = False
    ) -> Tensor:
        """src (B, T, E), mask as MultiheadAttention's. Returns (B, T, E)."""
        check_tokens("TransformerEncoder", src=src)
        for layer in self.layers:
            src = layer(src, mask, is_causal)
        return src if self.norm is None else self.norm(src)

    def step(self, x: Tensor, past: list) -> tuple[Tensor, list]:
        """As a causal ``forward`` of tokens x that come after others. past: one entry a block, None
        at the start."""
        kept = []
        one_for_each("TransformerEncoder.step", self.layers, past=past)
        for layer, before in zip(self.layers, past, strict=True):
            x, now = layer.step(x, before)
            kept.append(now)
        return x if self.norm is None else self.norm(x), kept

    def attention_maps(
        self, src: Tensor, mask: ArrayLike | None = None, is_causal: bool = False
    ) -> list[Tensor]:
        """Where each token looks: (B, H, T, T), block by block."""
        maps = []
        for layer in self.layers:
            maps.append(layer.weights(src, mask, is_causal))
            src = layer(src, mask, is_causal)
        return maps


class TransformerDecoder(Module):
    """``num_layers`` blocks like decoder_layer, all of which ask the same memory; then ``norm`` if
    there is one."""

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
        """tgt (B, T, E), memory (B, S, E), masks as TransformerDecoderLayer's. Returns (B, T,
        E)."""
        check_tokens("TransformerDecoder", tgt=tgt, memory=memory)
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_is_causal)
        return tgt if self.norm is None else self.norm(tgt)

    def remember(self, memory: Tensor) -> list:
        """What each block keeps of the memory, computed once for all steps."""
        return [layer.multihead_attn.remember(memory) for layer in self.layers]

    def step(
        self, x: Tensor, remembered: list, past: list, memory_mask: ArrayLike | None = None
    ) -> tuple[Tensor, list]:
        """As a causal ``forward`` of tokens x that come after others. past: one entry a block, None
        at the start."""
        kept = []
        one_for_each("TransformerDecoder.step", self.layers, remembered=remembered, past=past)
        for layer, memory, before in zip(self.layers, remembered, past, strict=True):
            x, now = layer.step(x, memory, before, memory_mask)
            kept.append(now)
        return x if self.norm is None else self.norm(x), kept

    def attention_maps(
        self, tgt: Tensor, memory: Tensor, memory_mask: ArrayLike | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Where each token of a causal ``forward`` looks, block by block: back (B, H, T, T), in the
        memory (B, H, T, S)."""
        own, cross = [], []
        for layer in self.layers:
            own.append(layer.weights(tgt, is_causal=True))
            cross.append(layer.cross_weights(tgt, memory, memory_mask))
            tgt = layer(tgt, memory, memory_mask=memory_mask, tgt_is_causal=True)
        return own, cross


def last_norm(norm: Module | None, what: str) -> Module | None:
    """What comes after the last block: a Module, or None."""
    if norm is not None and not isinstance(norm, Module):
        raise TypeError(
            f"{what} is {shown(norm)}; it must be a Module, such as a LayerNorm, or None"
        )
    return norm


def copies(layer: Block, count: int, what: str) -> list[Block]:
    """Blocks of the layer's shape, each with matrices of its own. what: the stack and its argument,
    for errors."""
    if not isinstance(layer, Module):
        raise TypeError(
            f"{what} is {shown(layer)}; it must be a block, such as a TransformerEncoderLayer"
        )
    stack = [
        deepcopy(layer)
        for _ in range(whole(count, f"{what.partition(':')[0]}: num_layers", 1, MOST_LAYERS))
    ]
    for block in stack:
        for p in block.parameters():
            if p.ndim > 1:
                p.data = init.xavier_uniform(p.shape).data.astype(p.dtype)
    return stack
