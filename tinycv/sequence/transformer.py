"""The encoder block of the Transformer: tokens look at each other, then each thinks by itself. Twice "x + f(x)".

    post-norm    x = LN(x + Attention(x));    x = LN(x + MLP(x))                 Vaswani et al. 2017, section 3.1
    pre-norm     x = x + Attention(LN(x));    x = x + MLP(LN(x))                 Dosovitskiy et al. 2021, eq. 2 and 3
    MLP(x) = W_2 σ(W_1 x + b_1) + b_2                                            Vaswani et al. 2017, eq. 2

With the norm inside the branch, the path from the last block to the first is a plain sum, and gradients pass it
unscaled: deep stacks then train without warm-up (Xiong et al. 2020).  Where memory is short, ``nn.checkpoint(block)(x)``
keeps of each block its input alone.

Read before: attention.py, nn/norm.py.   Read next: vision/vit.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.ops import relu
from tinycv.nn.activation import gelu
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.sequence.attention import MultiheadAttention

ACTIVATIONS = {"relu": relu, "gelu": gelu}


class TransformerEncoderLayer(Module):
    """One encoder block. Names, order and defaults are PyTorch's, so its weights load by name.

    d_model: width E. nhead: attention heads. dim_feedforward: width of the MLP's middle. activation: "relu" or "gelu".
    norm_first: pre-norm. differs: always batch first.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str = "relu", norm_first: bool = False, layer_norm_eps: float = 1e-5):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; it must be one of {sorted(ACTIVATIONS)}")
        self.self_attn = MultiheadAttention(d_model, nhead, dropout)
        self.linear1 = Linear(d_model, dim_feedforward)
        self.linear2 = Linear(dim_feedforward, d_model)
        self.norm1 = LayerNorm(d_model, layer_norm_eps)
        self.norm2 = LayerNorm(d_model, layer_norm_eps)
        self.activation, self.norm_first, self.dropout = activation, norm_first, dropout

    def forward(self, x: Any, src_mask: Any = None, is_causal: bool = False) -> Any:
        """x (B, T, E); src_mask as MultiheadAttention's attn_mask. Returns (B, T, E)."""
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), attn_mask=src_mask, is_causal=is_causal)
            return x + self.think(self.norm2(x))
        x = self.norm1(x + self.self_attn(x, attn_mask=src_mask, is_causal=is_causal))
        return self.norm2(x + self.think(x))

    def think(self, x: Any) -> Any:                                 # the MLP: each token by itself
        hidden = ACTIVATIONS[self.activation](self.linear1(x))      # (B, T, dim_feedforward)
        hidden = dropout(hidden, self.dropout, self.training)
        return dropout(self.linear2(hidden), self.dropout, self.training)
