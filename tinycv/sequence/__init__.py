"""Chapter 1, sequences. So far: lstm.py (a memory that is read and written step by step), attention.py (scaled
dot-product, multi-head), blockwise.py (the same for thousands of tokens), transformer.py (the encoder block),
decode.py (greedy and beam search)."""

from tinycv.sequence.attention import MultiheadAttention, causal_mask, scaled_dot_product_attention
from tinycv.sequence.decode import beam_search, greedy
from tinycv.sequence.lstm import LSTM, LSTMCell, lstm
from tinycv.sequence.transformer import TransformerEncoderLayer

__all__ = ["LSTM", "LSTMCell", "MultiheadAttention", "TransformerEncoderLayer", "beam_search", "causal_mask",
           "greedy", "lstm", "scaled_dot_product_attention"]
