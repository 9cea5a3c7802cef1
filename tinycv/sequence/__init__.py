"""Chapter 1, sequences: RNN, LSTM, GRU, seq2seq, attention, the Transformer and GPT.

The files, in reading order:

    rnn.py              RNN: one matrix carries the state from step to step
    lstm.py             LSTM: gates decide what the cell keeps
    lstm_kernel.py      the fast LSTM on bare arrays (skip it at first)
    gru.py              GRU: two gates, no separate cell
    recurrent.py        what these three share: layers, directions, sequences of different lengths
    align.py            Bahdanau, Luong and location-aware attention
    seq2seq.py          recurrent encoder and decoder, with or without attention
    translation.py      teacher-forcing loss and exact match
    decode.py           greedy decoding and beam search
    attention.py        scaled dot-product attention and multi-head attention
    masks.py            causal, padding and additive masks
    blockwise.py        FlashAttention-style attention for thousands of tokens (skip it at first)
    positions.py        sinusoidal and learned positional encodings, in one dimension and on grids
    rotary.py           rotary position embedding (RoPE), along one axis and along several
    transformer.py      Transformer encoder and decoder blocks, and stacks of them
    encoder_decoder.py  the Transformer of "Attention Is All You Need"
    gpt.py              GPT: a decoder-only Transformer
    text_encoder.py     a Transformer that turns a prompt into one vector per word
    inputs.py           argument checks, which raise the errors of this chapter

Symbols and names, with their shapes:

    B, T, S     batch size, number of steps (or target tokens, queries), number of source tokens
                (or keys)
    I, H        in recurrent layers: width of the input, width of the hidden state
    h, c        hidden state and cell of a recurrent layer, (B, H) each; ``state`` is h, or (h, c)
    i, f, g, o  LSTM: input gate, forget gate, candidate, output gate, (B, H) each
    y           what a layer returns; for a recurrent layer, h of every step, (T, B, H)
    E, H, D     in Transformers: width of a token, number of heads, width of a head, E = H D
    q, k, v     queries (B, H, T, D), keys and values (B, H, S, D)
    memory      the encoder output (PyTorch calls it memory), (B, S, E), or (B, S, H) in seq2seq
    mask        bool, True where a query *may* look (in recurrent.py: while a sequence is running)
    past        the key-value cache: keys and values of the tokens before
    SOS, EOS, PAD   start of sentence, end of sentence, padding (data/text.py)

``pull(g)`` in a kernel returns the gradients of the arguments; there g is the gradient of the
result.
"""

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
from tinycv.sequence.positions import (
    FactorisedPositions,
    GridSinusoidalPositions,
    LearnedPositions,
    SinusoidalPositions,
    grid_positions,
)
from tinycv.sequence.recurrent import state_gradients
from tinycv.sequence.rnn import RNN, RNNCell, rnn
from tinycv.sequence.rotary import RotaryAttention, rotary
from tinycv.sequence.seq2seq import Decoder, Encoder, Seq2Seq
from tinycv.sequence.text_encoder import TextEncoder
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
    "FactorisedPositions",
    "GPT",
    "GRU",
    "GRUCell",
    "GeneralAttention",
    "GridSinusoidalPositions",
    "LSTM",
    "LSTMCell",
    "LearnedPositions",
    "LocationAttention",
    "MultiheadAttention",
    "RNN",
    "RNNCell",
    "RotaryAttention",
    "Seq2Seq",
    "SinusoidalPositions",
    "TextEncoder",
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
    "grid_positions",
    "gru",
    "length_mask",
    "lstm",
    "lstm_gates",
    "next_symbol_loss",
    "padding_mask",
    "rnn",
    "rotary",
    "scaled_dot_product_attention",
    "state_gradients",
]
