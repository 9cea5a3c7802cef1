"""Wrong calls of everything public in tinycv.sequence: the error names the function and the
argument in a plain sentence."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from wrong_calls import riddles

import tinycv
from tinycv import Tensor, sequence
from tinycv.data.text import Pairs, Vocabulary

RNG = np.random.default_rng(0)
B, T, S, E, H = 2, 3, 4, 4, 6


def floats(*shape):
    return Tensor(RNG.normal(size=shape).astype(np.float32))


def ids(*shape):
    return Tensor(RNG.integers(3, 7, shape))


def log_p(tokens, state):
    return np.log(np.full((len(tokens), 7), 1 / 7)), state


def weights(gates):
    return {
        "weight_ih": floats(gates * H, E),
        "weight_hh": floats(gates * H, H),
        "bias_ih": floats(gates * H),
        "bias_hh": floats(gates * H),
    }


RECURRENT = {
    "input_size": E,
    "hidden_size": H,
    "num_layers": 2,
    "bias": True,
    "batch_first": False,
    "dropout": 0.1,
    "bidirectional": True,
}
CELL = {"input_size": E, "hidden_size": H, "bias": True}
BLOCK = {
    "d_model": 4,
    "nhead": 2,
    "dim_feedforward": 8,
    "dropout": 0.1,
    "activation": "relu",
    "norm_first": False,
    "layer_norm_eps": 1e-5,
    "batch_first": True,
}
LETTERS = Vocabulary("abcd")
MASK = np.ones((T, B, 1), bool)
LAYER, DECODER_LAYER = (
    sequence.TransformerEncoderLayer(4, 2, 8),
    sequence.TransformerDecoderLayer(4, 2, 8),
)

# A correct call of each; the test replaces one argument after another.
GOOD = {
    "AdditiveAttention": {"query_size": 3, "memory_size": 4, "attention_size": 5},
    "Decoder": {
        "vocabulary": 7,
        "embedding_dim": 3,
        "hidden_size": 4,
        "num_layers": 1,
        "cell": "gru",
        "attention": "additive",
        "dropout": 0.1,
    },
    "DotAttention": {},
    "Encoder": {
        "vocabulary": 7,
        "embedding_dim": 3,
        "hidden_size": 4,
        "num_layers": 1,
        "cell": "gru",
        "bidirectional": True,
        "dropout": 0.1,
    },
    "FactorisedPositions": {"grid": (3, 2, 2), "d_model": 4},
    "GPT": {"words": 7, "max_length": 8, "d_model": 4, "nhead": 2, "num_layers": 1, "dropout": 0.1},
    "GRU": RECURRENT,
    "GRUCell": CELL,
    "LSTM": RECURRENT,
    "LSTMCell": CELL,
    "RNN": RECURRENT,
    "RNNCell": CELL,
    "GeneralAttention": {"query_size": 3, "memory_size": 4},
    "GridSinusoidalPositions": {"base": 100.0},
    "LearnedPositions": {"max_length": 8, "d_model": 4},
    "LocationAttention": {
        "query_size": 3,
        "memory_size": 4,
        "attention_size": 5,
        "filters": 2,
        "reach": 3,
    },
    "MultiheadAttention": {
        "embed_dim": 4,
        "num_heads": 2,
        "dropout": 0.1,
        "bias": True,
        "batch_first": True,
    },
    "RotaryAttention": {"embed_dim": 4, "num_heads": 2, "base": 100.0},
    "Seq2Seq": {
        "source_size": 7,
        "target_size": 7,
        "embedding_dim": 3,
        "hidden_size": 4,
        "num_layers": 1,
        "cell": "gru",
        "bidirectional": True,
        "attention": "dot",
        "dropout": 0.1,
    },
    "SinusoidalPositions": {},
    "TextEncoder": {"words": 7, "length": 8, "dim": 4, "heads": 2, "depth": 1},
    "Transformer": {
        "source_words": 7,
        "target_words": 7,
        "d_model": 4,
        "nhead": 2,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "dim_feedforward": 8,
        "dropout": 0.1,
        "activation": "relu",
        "norm_first": False,
        "batch_first": True,
    },
    "TransformerDecoder": {"decoder_layer": DECODER_LAYER, "num_layers": 2, "norm": None},
    "TransformerDecoderLayer": BLOCK,
    "TransformerEncoder": {"encoder_layer": LAYER, "num_layers": 2, "norm": None},
    "TransformerEncoderLayer": BLOCK,
    "beam_search": {
        "step": log_p,
        "state": None,
        "batch": B,
        "max_length": 3,
        "beam": 2,
        "length_penalty": 0.6,
    },
    "causal_mask": {"t": 3, "s": 4, "past": 1},
    "chrono_start": {"layer": sequence.LSTM(E, H), "steps": 5},
    "exact_match": {
        "model": sequence.Seq2Seq(7, 7, 3, 4).eval(),
        "beam": 1,
        "at_once": 2,
        "pairs": Pairs.of([("ab", "ba"), ("c", "d")], LETTERS, LETTERS),
    },
    "grid_positions": {"grid": (2, 3)},
    "greedy": {"step": log_p, "state": None, "batch": B, "max_length": 3},
    "gru": {"x": floats(T, B, E), "h0": floats(B, H), **weights(3), "mask": MASK},
    "length_mask": {"lengths": [2, 3], "s": 4},
    "lstm": {
        "x": floats(T, B, E),
        "h0": floats(B, H),
        "c0": floats(B, H),
        **weights(4),
        "mask": MASK,
    },
    "lstm_gates": {"layer": sequence.LSTM(E, H), "x": floats(T, B, E)},
    "next_symbol_loss": {
        "model": sequence.Seq2Seq(7, 7, 3, 4),
        "source": ids(B, S),
        "target": ids(B, T),
        "label_smoothing": 0.1,
    },
    "padding_mask": {"ids": ids(B, S), "pad": 0},
    "rnn": {"x": floats(T, B, E), "h0": floats(B, H), **weights(1), "mask": MASK},
    "rotary": {"x": floats(B, 2, T, E), "positions": np.ones((T, 2)), "base": 100.0},
    "scaled_dot_product_attention": {
        "q": floats(B, 2, T, E),
        "k": floats(B, 2, S, E),
        "v": floats(B, 2, S, E),
        "attn_mask": np.ones((T, S), bool),
        "is_causal": True,
    },
    "state_gradients": {
        "layer": sequence.LSTM(E, H),
        "x": floats(T, B, E),
        "loss": lambda y: (y * y).sum(),
    },
}
# Other names that an error may start with, where an argument is passed on to another function.
ALSO = {
    "Seq2Seq": ("Encoder", "Decoder"),
    "GPT": ("TransformerEncoderLayer", "MultiheadAttention", "num_layers"),
    "Transformer": ("MultiheadAttention", "num_layers"),
    "TransformerEncoderLayer": ("MultiheadAttention",),
    "TransformerDecoderLayer": ("MultiheadAttention",),
    "TransformerEncoder": ("a stack",),
    "TransformerDecoder": ("a stack",),
    "RotaryAttention": ("MultiheadAttention",),
    "exact_match": ("Encoder",),
    "next_symbol_loss": ("Encoder", "Decoder"),
    "lstm_gates": ("linear", "matmul"),
    "state_gradients": ("LSTM", "lstm", "backward", "grad"),
}


def within_reason(function, name):
    """The function, except for numbers with which it would run forever or fill the memory: such
    calls are correct, so they count as refused here."""

    def call(**arguments):
        if any(isinstance(value, int) and value > 10**9 for value in arguments.values()):
            raise ValueError(name)
        return function(**arguments)

    return call


def test_every_public_name_has_a_good_call_here():
    assert set(GOOD) == set(sequence.__all__)
    for name, arguments in GOOD.items():
        given = set(inspect.signature(getattr(sequence, name)).parameters) - {
            "args",
            "options",
            "arguments",
        }
        assert set(arguments) == given, name


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_argument_raises_a_plain_sentence(name):
    found = riddles(
        within_reason(getattr(sequence, name), name), GOOD[name], name, *ALSO.get(name, ())
    )
    assert not found, "\n".join(found)


CALLS = {
    "RNN": (
        sequence.RNN(E, H, 2),
        {"x": floats(T, B, E), "state": floats(2, B, H), "lengths": [2, 3]},
    ),
    "GRU": (
        sequence.GRU(E, H, batch_first=True),
        {"x": floats(B, T, E), "state": floats(1, B, H), "lengths": np.array([2, 3])},
    ),
    "LSTM": (
        sequence.LSTM(E, H),
        {"x": floats(T, B, E), "state": (floats(1, B, H), floats(1, B, H)), "lengths": (2, 3)},
    ),
    "LSTMCell": (
        sequence.LSTMCell(E, H),
        {"x": floats(B, E), "state": (floats(B, H), floats(B, H))},
    ),
    "GRUCell": (sequence.GRUCell(E, H), {"x": floats(B, E), "state": floats(B, H)}),
    "MultiheadAttention": (
        sequence.MultiheadAttention(4, 2),
        {
            "query": floats(B, T, 4),
            "key": floats(B, S, 4),
            "value": floats(B, S, 4),
            "attn_mask": np.ones((T, S), bool),
            "is_causal": False,
        },
    ),
    "TransformerEncoderLayer": (
        LAYER,
        {"x": floats(B, T, 4), "src_mask": np.ones((T, T), bool), "is_causal": False},
    ),
    "TransformerDecoderLayer": (
        DECODER_LAYER,
        {
            "tgt": floats(B, T, 4),
            "memory": floats(B, S, 4),
            "tgt_mask": np.ones((T, T), bool),
            "memory_mask": np.ones((B, 1, 1, S), bool),
            "tgt_is_causal": True,
        },
    ),
    "TransformerEncoder": (
        sequence.TransformerEncoder(LAYER, 1),
        {"src": floats(B, T, 4), "mask": np.ones((T, T), bool)},
    ),
    "TransformerDecoder": (
        sequence.TransformerDecoder(DECODER_LAYER, 1),
        {"tgt": floats(B, T, 4), "memory": floats(B, S, 4)},
    ),
    "Transformer": (
        sequence.Transformer(7, 7, 4, 2, 1, 1, 8),
        {"source": ids(B, S), "target": ids(B, T)},
    ),
    "Seq2Seq": (
        sequence.Seq2Seq(7, 7, 3, 4, attention="general"),
        {"source": ids(B, S), "target": ids(B, T)},
    ),
    "GPT": (sequence.GPT(7, 8, 4, 2, 1), {"ids": ids(B, T)}),
    "TextEncoder": (sequence.TextEncoder(7, 8, 4, 2, 1), {"ids": ids(B, T)}),
    "TextEncoder.pooled": (
        sequence.TextEncoder(7, 8, 4, 2, 1).pooled,
        {"tokens": floats(B, T, 4), "ids": ids(B, T)},
    ),
    "LearnedPositions": (sequence.LearnedPositions(8, 4), {"x": floats(B, T, 4), "start": 2}),
    "SinusoidalPositions": (sequence.SinusoidalPositions(), {"x": floats(B, T, 4), "start": 2}),
    "FactorisedPositions": (
        sequence.FactorisedPositions((3, 2), 4),
        {"x": floats(B, 4, 4), "grid": (2, 2)},
    ),
    "GridSinusoidalPositions": (
        sequence.GridSinusoidalPositions(),
        {"x": floats(B, 4, 4), "grid": (2, 2)},
    ),
    "RotaryAttention": (
        sequence.RotaryAttention(8, 2),
        {
            "x": floats(B, T, 8),
            "positions": np.ones((T, 2)),
            "attn_mask": np.ones((T, T), bool),
        },
    ),
    "AdditiveAttention": (
        sequence.AdditiveAttention(4, 4, 5),
        {"query": floats(B, T, 4), "memory": floats(B, S, 4), "mask": np.ones((B, S), bool)},
    ),
    "LocationAttention": (
        sequence.LocationAttention(4, 4, 5),
        {
            "query": floats(B, T, 4),
            "memory": floats(B, S, 4),
            "mask": np.ones((B, S), bool),
            "last": floats(B, S),
        },
    ),
    "DotAttention": (
        sequence.DotAttention(),
        {"query": floats(B, T, 4), "memory": floats(B, S, 4)},
    ),
    "GeneralAttention": (
        sequence.GeneralAttention(4, 4),
        {"query": floats(B, T, 4), "memory": floats(B, S, 4)},
    ),
}
CALLED = (
    "linear",
    "matmul",
    "rotary",
    "layer_norm",
    "embedding",
    "attention",
    "lstm",
    "gru",
    "rnn",
    "add",
    "Encoder",
    "Decoder",
    "lengths",
    "concatenate",
    "h_0",
    "c_0",
)


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_call_of_a_layer_raises_a_plain_sentence(name):
    layer, good = CALLS[name]
    layer(**good)
    found = riddles(layer, good, name, *CALLED)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["Transformer", "Seq2Seq", "GPT"])
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_call_of_translate_raises_a_plain_sentence(name):
    layer, _ = CALLS[name]
    good = {"question" if name == "GPT" else "source": ids(B, T), "max_length": 2, "beam": 2}
    found = riddles(
        within_reason(layer.eval().translate, name),
        good,
        name,
        "translate",
        "beam_search",
        "greedy",
        *CALLED,
    )
    assert not found, "\n".join(found)


def test_numpy_integers_are_accepted_as_sizes():
    two, four = np.int64(2), np.int64(4)
    assert sequence.MultiheadAttention(four, two).in_proj_weight.shape == (12, 4)
    assert sequence.LSTM(four, two, two).weight_hh_l1.shape == (8, 2)
    assert sequence.causal_mask(two, four).shape == (2, 4)
    sequence.GPT(np.int64(7), np.int64(8), four, two, two)(ids(B, T))


def test_a_width_not_divisible_by_the_heads_and_dropout_above_1_are_refused():
    for heads in (0, -1, 3):
        with pytest.raises(ValueError, match="MultiheadAttention: .*num_heads"):
            sequence.MultiheadAttention(4, heads)
    for dropout in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="dropout is"):
            sequence.MultiheadAttention(4, 2, dropout)


@pytest.mark.parametrize("bad", [-1, 7, 100])
def test_a_token_outside_the_vocabulary_is_named(bad):
    wrong = np.array([[3, bad]])
    for model in (sequence.Seq2Seq(7, 7, 3, 4), sequence.Transformer(7, 7, 4, 2, 1, 1, 8)):
        for arguments in ((Tensor(wrong), ids(1, 2)), (ids(1, 2), Tensor(wrong))):
            with pytest.raises(IndexError, match=f"{bad}.*out of range.*0 to 6"):
                model(*arguments)
    for model in (sequence.GPT(7, 8, 4, 2, 1), sequence.TextEncoder(7, 8, 4, 2, 1)):
        with pytest.raises(IndexError, match=f"{bad}.*out of range"):
            model(Tensor(wrong))


@pytest.mark.parametrize("kind", [sequence.LearnedPositions(8, 4), sequence.SinusoidalPositions()])
def test_a_negative_position_is_refused(kind):
    with pytest.raises(
        ValueError,
        match=rf"{type(kind).__name__}: start is -1; it must be a whole number, at least 0",
    ):
        kind(tinycv.ones(1, 2, 4), -1)


def blocks(count=2):
    return sequence.TransformerEncoder(LAYER, count), sequence.TransformerDecoder(
        DECODER_LAYER, count
    )


PAST = (floats(B, 2, S, 2), floats(B, 2, S, 2))
TALK = sequence.Seq2Seq(7, 7, 3, 4, attention="dot")
MASKED = np.ma.masked_array([1, 2], [True, False])
METHODS = {
    "MultiheadAttention.follow: past": (
        lambda past: LAYER.self_attn.follow(floats(B, T, E), past),
        PAST,
    ),
    "MultiheadAttention.follow: x": (lambda x: LAYER.self_attn.follow(x), floats(B, T, E)),
    "MultiheadAttention.remember: memory": (
        lambda memory: LAYER.self_attn.remember(memory),
        floats(B, T, E),
    ),
    "TransformerEncoder.step: past": (
        lambda past: blocks()[0].step(floats(B, T, E), past),
        [None, PAST],
    ),
    "TransformerDecoder.step: past": (
        lambda past: blocks()[1].step(floats(B, T, E), blocks()[1].remember(floats(B, S, E)), past),
        [None, PAST],
    ),
    "TransformerDecoder.step: remembered": (
        lambda remembered: blocks()[1].step(floats(B, T, E), remembered, [None, None]),
        [PAST, PAST],
    ),
    "Decoder.start: memory": (
        lambda memory: TALK.decoder.start(memory, None, None),
        floats(B, S, 4),
    ),
    "Seq2Seq.step: tokens": (
        lambda tokens: TALK.step(tokens, TALK.start(ids(B, S))),
        np.array([3, 4]),
    ),
    "Transformer.step: tokens": (
        lambda tokens: CHAT.step(tokens, CHAT.start(ids(B, S))),
        np.array([3, 4]),
    ),
}
CHAT = sequence.Transformer(7, 7, 4, 2, 1, 1, 8)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "bad",
    [None, "abc", 2, np.int64(2), [], {}, object(), np.ones((2, 2)), [None], MASKED],
    ids=lambda bad: type(bad).__name__,
)
def test_a_wrong_state_between_steps_is_named(name, bad):
    call, good = METHODS[name]
    call(good)
    if bad is None and name.endswith("follow: past"):
        return  # None is correct: there is no past yet
    with pytest.raises((TypeError, ValueError), match=f"^{name} "):
        call(bad)


@pytest.mark.parametrize(
    "attention",
    [
        sequence.AdditiveAttention(E, E, 3),
        sequence.GeneralAttention(E, E),
        sequence.DotAttention(),
        sequence.LocationAttention(E, E, 3),
    ],
    ids=lambda a: type(a).__name__,
)
@pytest.mark.parametrize(
    "keys", ["abc", 2, np.int64(2), np.ones(3), floats(B, S + 1, 3), floats(B + 1, S, 3), []]
)
def test_keys_of_another_memory_are_refused(attention, keys):
    with pytest.raises((TypeError, ValueError), match=f"^{type(attention).__name__}: keys is"):
        attention(floats(B, T, E), floats(B, S, E), keys=keys)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sequence.padding_mask([[1, 2], [1]]), "padding_mask: ids is .* not equally long"),
        (lambda: sequence.padding_mask(MASKED[None]), "padding_mask: ids is MaskedArray"),
        (lambda: sequence.length_mask(MASKED, 3), "length_mask: lengths is MaskedArray"),
        (
            lambda: sequence.LSTM(E, H)(floats(T, B, E), lengths=MASKED),
            "LSTM: lengths is MaskedArray",
        ),
        (
            lambda: sequence.GRU(E, H)(Tensor(np.ones((T, B, E), int))),
            "gru: x is int64 of shape .*; it must be floats",
        ),
        (
            lambda: sequence.RNN(E, H)(Tensor(np.ones((T, B, E), int))),
            "rnn: x is int64 of shape .*; it must be floats",
        ),
    ],
)
def test_masked_arrays_and_integers_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


MANY = 10**12


@pytest.mark.parametrize(
    "call",
    [
        lambda: sequence.RNN(E, H, MANY),
        lambda: sequence.GRU(E, H, num_layers=MANY),
        lambda: sequence.LSTM(E, H, MANY),
        lambda: sequence.Seq2Seq(7, 7, 3, 4, MANY),
        lambda: sequence.Encoder(7, 3, 4, MANY),
        lambda: sequence.Decoder(7, 3, 4, MANY),
        lambda: sequence.GPT(7, 8, 4, 2, MANY),
        lambda: sequence.TransformerEncoder(LAYER, MANY),
        lambda: sequence.TransformerDecoder(DECODER_LAYER, MANY),
        lambda: sequence.Transformer(7, 7, 4, 2, MANY, 1),
        lambda: sequence.Transformer(7, 7, 4, 2, 1, MANY),
    ],
    ids=[
        "RNN",
        "GRU",
        "LSTM",
        "Seq2Seq",
        "Encoder",
        "Decoder",
        "GPT",
        "TransformerEncoder",
        "TransformerDecoder",
        "Transformer's encoder",
        "Transformer's decoder",
    ],
)
def test_more_layers_than_any_machine_runs_are_refused_at_once(call):
    with pytest.raises(
        ValueError, match=r"^\w+: num_\w*layers is 10{12}; .*, at least 1 and at most"
    ):
        call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: sequence.causal_mask(MANY), "causal_mask: t"),
        (lambda: sequence.causal_mask(3, MANY), "causal_mask: s"),
        (lambda: sequence.length_mask([2], MANY), "length_mask: s"),
        (lambda: sequence.greedy(log_p, None, MANY, 3), "greedy: batch"),
        (lambda: sequence.greedy(log_p, None, 2, MANY), "greedy: max_length"),
        (lambda: sequence.beam_search(log_p, None, 2, 3, MANY), "beam_search: beam"),
        (
            lambda: sequence.beam_search(log_p, None, 10**5, 10**5, 10),
            "beam_search: batch is 100000, max_length 100000",
        ),
    ],
    ids=["causal t", "causal s", "length s", "batch", "max_length", "beam", "all of them"],
)
def test_masks_and_searches_too_large_for_memory_are_refused_at_once(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("value", [0, 1, np.int64(1), "no", None], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda flag: sequence.LSTM(E, H, bias=flag),
        lambda flag: sequence.GRU(E, H, batch_first=flag),
        lambda flag: sequence.RNN(E, H, bidirectional=flag),
        lambda flag: sequence.GRUCell(E, H, bias=flag),
        lambda flag: sequence.MultiheadAttention(4, 2, bias=flag),
        lambda flag: sequence.TransformerEncoderLayer(4, 2, norm_first=flag),
        lambda flag: sequence.Encoder(7, 3, 4, bidirectional=flag),
        lambda flag: sequence.scaled_dot_product_attention(
            *[floats(B, 2, T, E)] * 3, is_causal=flag
        ),
    ],
    ids=[
        "LSTM",
        "GRU",
        "RNN",
        "GRUCell",
        "MultiheadAttention",
        "TransformerEncoderLayer",
        "Encoder",
        "attention",
    ],
)
def test_a_flag_is_true_or_false_as_in_nn(call, value):
    call(np.True_)
    with pytest.raises(TypeError, match="it must be True or False"):
        call(value)


STATES = {
    name: model.eval()
    for name, model in {
        "plain": sequence.Seq2Seq(7, 7, 3, 4),
        "general": sequence.Seq2Seq(7, 7, 3, 4, attention="general", cell="gru"),
        "location": sequence.Seq2Seq(7, 7, 3, 4, attention="location"),
        "additive": sequence.Seq2Seq(7, 7, 3, 4, attention="additive"),
        "Transformer": sequence.Transformer(7, 7, 4, 2, 1, 1, 8),
    }.items()
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(STATES))
def test_a_state_that_start_did_not_return_raises_a_plain_sentence(name):
    model, tokens = STATES[name], np.array([1, 1])
    state = model.start(ids(B, S))
    model.step(tokens, state)
    owner = ("Transformer", "MultiheadAttention", "Decoder", "GRU", "gru", "LSTM", "lstm")
    for entry in state:
        with pytest.raises(ValueError, match=f"has no '{entry}'; it must be the dict that start"):
            model.step(tokens, {k: v for k, v in state.items() if k != entry})
        if entry not in ("mask", "last"):  # these two may be None
            with pytest.raises((TypeError, ValueError), match="it must be"):
                model.step(tokens, {**state, entry: None})
        found = riddles(
            lambda value, entry=entry: model.step(tokens, {**state, entry: value}),
            {"value": state[entry]},
            *owner,
            "attention",
            "Attention",
            "where",
            "linear",
            "matmul",
            "concatenate",
            "add",
        )
        assert not found, "\n".join(found)
    assert not riddles(lambda state: model.step(tokens, state), {"state": state}, *owner)


def test_recall_refuses_what_remember_did_not_return():
    layer = sequence.MultiheadAttention(4, 2)
    remembered, query = layer.remember(floats(B, S, 4)), floats(B, T, 4)
    layer.recall(query, remembered)
    k, v = remembered
    for wrong in (None, (), [1, 2], (k,), (k, None), (k[:, :1], v), (k[0], v[0]), k):
        with pytest.raises(
            (TypeError, ValueError),
            match="(?s)recall: remembered is .* that remember.memory. returned",
        ):
            layer.recall(query, wrong)
    for wrong in (None, query[None], query[0], "word"):
        with pytest.raises((TypeError, ValueError), match="MultiheadAttention.recall: query"):
            layer.recall(wrong, remembered)


def test_gpt_steps_from_the_cache_of_its_blocks():
    model = sequence.GPT(7, 8, 4, 2, 2).eval()
    _, past = model.step(np.array([1, 1]), [None, None])
    model.step(np.array([3, 4]), past)
    for wrong in (None, [], past[:1], [(), ()], [1, 2], {}):
        with pytest.raises((TypeError, ValueError), match="past is"):
            model.step(np.array([3, 4]), wrong)
    for wrong in (None, 3, "word", np.ones((2, 1), int), np.ones(2)):
        with pytest.raises(TypeError, match="GPT.step: tokens is"):
            model.step(wrong, past)
