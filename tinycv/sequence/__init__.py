"""Chapter 1, sequences. So far: lstm.py (a memory that is read and written step by step), align.py
(a decoder that looks back at its encoder), attention.py (scaled
dot-product, multi-head), blockwise.py (the same for thousands of tokens), transformer.py (the encoder block)."""

from tinycv.sequence.align import AdditiveAttention, DotAttention, GeneralAttention
from tinycv.sequence.attention import MultiheadAttention, causal_mask, scaled_dot_product_attention
from tinycv.sequence.lstm import LSTM, LSTMCell, lstm
from tinycv.sequence.transformer import TransformerEncoderLayer

__all__ = [
    "AdditiveAttention", "DotAttention", "GeneralAttention", "LSTM", "LSTMCell",
    "MultiheadAttention", "TransformerEncoderLayer", "causal_mask", "lstm",
    "scaled_dot_product_attention"]
