"""Chapter 1, sequences. So far: lstm.py (a memory that is read and written step by step), attention.py (scaled
dot-product, multi-head), blockwise.py (the same for thousands of tokens), positions.py (where a token stands),
transformer.py (the blocks and their stacks), decode.py (greedy and beam search), encoder_decoder.py (the Transformer
entire), gpt.py (a decoder alone)."""

from tinycv.sequence.attention import (
    MultiheadAttention,
    causal_mask,
    length_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from tinycv.sequence.decode import beam_search, greedy
from tinycv.sequence.encoder_decoder import Transformer
from tinycv.sequence.gpt import GPT
from tinycv.sequence.lstm import LSTM, LSTMCell, lstm
from tinycv.sequence.positions import LearnedPositions, SinusoidalPositions
from tinycv.sequence.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = ["GPT", "LSTM", "LSTMCell", "LearnedPositions", "MultiheadAttention", "SinusoidalPositions", "Transformer",
           "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer", "beam_search",
           "causal_mask", "greedy", "length_mask", "lstm", "padding_mask", "scaled_dot_product_attention"]
