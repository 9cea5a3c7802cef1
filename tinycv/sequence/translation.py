"""Training and judging a model that answers a sentence with a sentence, whatever it is made of.

    teacher forcing    the model reads the right answer up to symbol t, and is asked for the next
                       one: next_symbol_loss, the mean of -log p(y_t | x, y_1 ... y_{t-1})
    running free       it reads what it has written itself: exact_match, the share of answers that
                       are right to the last symbol

Read before: seq2seq.py or encoder_decoder.py.   Seen at work: demos/03_seq2seq.py.
Shapes: B batch, S source symbols, T target symbols, V target vocabulary.
"""

from __future__ import annotations

import numpy as np

from tinycv.data.text import PAD, Pairs
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.tensor import Tensor
from tinycv.nn.losses import cross_entropy
from tinycv.nn.module import Module
from tinycv.sequence.inputs import Ids, some


def next_symbol_loss(
    model: Module, source: Ids, target: Ids, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy, in nats a symbol, of target (B, 1 + T, from SOS to EOS) under teacher forcing.
    Padding is not counted. For any model whose ``forward(source, target)`` gives scores of the next
    symbols."""
    if not callable(model):
        raise TypeError(
            f"next_symbol_loss: model is {shown(model)}; it must be a Module, called with (source, "
            "target)"
        )
    some(source, "next_symbol_loss: source")
    some(target, "next_symbol_loss: target", 2)
    if source.shape[0] != target.shape[0]:
        raise ValueError(
            f"next_symbol_loss: source has shape {source.shape} and target {target.shape}; both "
            "must be of one batch"
        )
    label_smoothing = number(label_smoothing, "next_symbol_loss: label_smoothing", 0, 1)
    # (B, T, V)
    scores = model(source, target[:, :-1])
    return cross_entropy(
        scores.reshape((-1, scores.shape[-1])),
        target[:, 1:].reshape((-1,)),
        ignore_index=PAD,
        label_smoothing=label_smoothing,
    )


def exact_match(model: Module, pairs: Pairs, beam: int = 1, at_once: int = 500) -> np.ndarray:
    """(N,) bool: which answers are right to the last symbol, running free. For any model with
    ``translate``."""
    if not isinstance(pairs, Pairs):
        raise TypeError(f"exact_match: pairs is {shown(pairs)}; it must be Pairs (data/text.py)")
    translate = getattr(model, "translate", None)
    if not isinstance(model, Module) or translate is None:
        raise TypeError(
            f"exact_match: model is {shown(model)}; it must be a Module with translate(source, "
            "max_length, beam)"
        )
    at_once, beam = size(at_once, "exact_match: at_once", 1), size(beam, "exact_match: beam", 1)
    device, longest = next(model.parameters()).device, pairs.target.shape[1] - 1
    right = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), at_once):
        part = slice(start, start + at_once)
        written = translate(Tensor(pairs.source[part], device=device), longest, beam)
        check_answers(written, len(pairs.source[part]), longest)
        written = np.pad(written, ((0, 0), (0, longest - written.shape[1])), constant_values=PAD)
        right[part] = (written == pairs.target[part, 1:]).all(axis=1)
    return right


def check_answers(written: Ids, count: int, longest: int) -> None:
    """Refuses what ``translate`` returned unless it is ``count`` rows of at most ``longest``
    symbols: one row for all would be compared with each."""
    of_integers = isinstance(written, np.ndarray) and written.dtype.kind in "iu"
    if not of_integers or written.ndim != 2 or len(written) != count or written.shape[1] > longest:
        raise (ValueError if of_integers else TypeError)(
            f"exact_match: translate returned {shown(written)}; it must return a NumPy array of "
            f"integers ({count}, at most {longest})"
        )
