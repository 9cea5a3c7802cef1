"""Chapter 1, sequences: rnn.py (one matrix that carries what is remembered), lstm.py (a memory that
is read and written step by step), gru.py (the same with two gates), recurrent.py (what these three
share: layers, directions, lengths), align.py (a decoder that looks back at its encoder), seq2seq.py
(encoder and decoder), translation.py (how such models are trained and judged), decode.py (greedy
and beam search), attention.py (scaled dot-product, multi-head), masks.py (which keys a query may
look at), blockwise.py (attention over thousands of tokens), positions.py (where a token stands),
transformer.py (the blocks and their stacks), encoder_decoder.py (the Transformer entire), gpt.py (a
decoder alone). inputs.py: what they refuse."""

from tinycv.sequence.align import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    LocationAttention,
)
from tinycv.sequence.attention import MultiheadAttention, scaled_dot_product_attention
from tinycv.sequence.decode import beam_search, greedy
from tinycv.sequence.encoder_decoder import Transformer
from tinycv.sequence.gpt import GPT
from tinycv.sequence.gru import GRU, GRUCell, gru
from tinycv.sequence.lstm import LSTM, LSTMCell, chrono_start, lstm, lstm_gates
from tinycv.sequence.masks import causal_mask, length_mask, padding_mask
from tinycv.sequence.positions import LearnedPositions, SinusoidalPositions
from tinycv.sequence.recurrent import state_gradients
from tinycv.sequence.rnn import RNN, RNNCell, rnn
from tinycv.sequence.seq2seq import Decoder, Encoder, Seq2Seq
from tinycv.sequence.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from tinycv.sequence.translation import exact_match, next_symbol_loss

__all__ = [
    "AdditiveAttention",
    "Decoder",
    "DotAttention",
    "Encoder",
    "GPT",
    "GRU",
    "GRUCell",
    "GeneralAttention",
    "LSTM",
    "LSTMCell",
    "LearnedPositions",
    "LocationAttention",
    "MultiheadAttention",
    "RNN",
    "RNNCell",
    "Seq2Seq",
    "SinusoidalPositions",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "beam_search",
    "causal_mask",
    "chrono_start",
    "exact_match",
    "greedy",
    "gru",
    "length_mask",
    "lstm",
    "lstm_gates",
    "next_symbol_loss",
    "padding_mask",
    "rnn",
    "scaled_dot_product_attention",
    "state_gradients",
]
