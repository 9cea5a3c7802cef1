"""Chapter 1, sequences. So far: rnn.py (one matrix that carries what is remembered), lstm.py (a memory that is read and
written step by step), gru.py (the same with two gates), recurrent.py (what these three share: layers, directions,
lengths), align.py (a decoder that looks back at its encoder), seq2seq.py (encoder and decoder), decode.py (greedy and
beam search), attention.py (scaled dot-product, multi-head), blockwise.py (the same for thousands of tokens),
transformer.py (the encoder block)."""

from tinycv.sequence.align import AdditiveAttention, DotAttention, GeneralAttention
from tinycv.sequence.attention import MultiheadAttention, causal_mask, scaled_dot_product_attention
from tinycv.sequence.decode import beam_search, greedy
from tinycv.sequence.gru import GRU, GRUCell, gru
from tinycv.sequence.lstm import LSTM, LSTMCell, lstm, lstm_gates
from tinycv.sequence.rnn import RNN, RNNCell, rnn
from tinycv.sequence.seq2seq import Decoder, Encoder, Seq2Seq, exact_match, next_symbol_loss
from tinycv.sequence.transformer import TransformerEncoderLayer

__all__ = ["AdditiveAttention", "Decoder", "DotAttention", "Encoder", "GRU", "GRUCell", "GeneralAttention", "LSTM",
           "LSTMCell", "MultiheadAttention", "RNN", "RNNCell", "Seq2Seq", "TransformerEncoderLayer", "beam_search",
           "causal_mask", "exact_match", "greedy", "gru", "lstm", "lstm_gates", "next_symbol_loss", "rnn",
           "scaled_dot_product_attention"]
