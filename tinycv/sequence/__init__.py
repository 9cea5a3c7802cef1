"""Chapter 1, sequences. So far: rnn.py (one matrix that carries what is remembered), lstm.py (a memory that is read and
written step by step), gru.py (the same with two gates), recurrent.py (what these three share: layers, directions,
lengths), attention.py (scaled dot-product, multi-head), blockwise.py (the same for thousands of tokens), transformer.py
(the encoder block)."""

from tinycv.sequence.attention import MultiheadAttention, causal_mask, scaled_dot_product_attention
from tinycv.sequence.gru import GRU, GRUCell, gru
from tinycv.sequence.lstm import LSTM, LSTMCell, chrono_start, lstm, lstm_gates
from tinycv.sequence.recurrent import state_gradients
from tinycv.sequence.rnn import RNN, RNNCell, rnn
from tinycv.sequence.transformer import TransformerEncoderLayer

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "MultiheadAttention", "RNN", "RNNCell", "TransformerEncoderLayer",
           "causal_mask", "chrono_start", "gru", "lstm", "lstm_gates", "rnn", "scaled_dot_product_attention",
           "state_gradients"]
