"""Chapter 1, sequences. So far: attention.py (scaled dot-product, multi-head), blockwise.py (the same for
thousands of tokens), transformer.py (the encoder block)."""

from tinycv.sequence.attention import MultiheadAttention, causal_mask, scaled_dot_product_attention
from tinycv.sequence.transformer import TransformerEncoderLayer

__all__ = ["MultiheadAttention", "TransformerEncoderLayer", "causal_mask", "scaled_dot_product_attention"]
