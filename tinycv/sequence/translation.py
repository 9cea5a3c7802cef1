"""Training and evaluating sequence-to-sequence models: teacher-forcing loss and exact match, for
recurrent models and Transformers alike.

    teacher forcing    the model reads the correct answer up to symbol t and predicts the next one:
                       next_symbol_loss, the mean of -log p(y_t | x, y_1 ... y_{t-1})
    free running       the model reads what it has written itself: exact_match, the share of answers
                       that are correct to the last symbol

Read first: seq2seq.py or encoder_decoder.py.   Demo: demos/03_seq2seq.py.
Shapes: B batch, S source symbols, T target symbols, V size of the target vocabulary.
"""

from __future__ import annotations

import numpy as np

from tinycv.data.text import PAD, Pairs
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.tensor import Tensor
from tinycv.nn.losses import cross_entropy
from tinycv.nn.module import Module
from tinycv.sequence.inputs import Ids, check_ids


def next_symbol_loss(
    model: Module, source: Ids, target: Ids, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy under teacher forcing, in nats per symbol. target (B, 1 + T), from SOS to EOS.
    Padding is not counted. Works for any model whose ``forward(source, target)`` returns scores of
    the next symbols."""
    if not callable(model):
        raise TypeError(
            f"next_symbol_loss: model is {shown(model)}; it must be a Module, called with (source, "
            "target)"
        )
    check_ids(source, "next_symbol_loss: source")
    check_ids(target, "next_symbol_loss: target", 2)
    if source.shape[0] != target.shape[0]:
        raise ValueError(
            f"next_symbol_loss: source has shape {source.shape} and target {target.shape}; both "
            "must have the same batch size"
        )
    label_smoothing = number(label_smoothing, "next_symbol_loss: label_smoothing", 0, 1)
    scores = model(source, target[:, :-1])  # (B, T, V)
    return cross_entropy(
        scores.reshape((-1, scores.shape[-1])),
        target[:, 1:].reshape((-1,)),
        ignore_index=PAD,
        label_smoothing=label_smoothing,
    )


def exact_match(model: Module, pairs: Pairs, beam: int = 1, at_once: int = 500) -> np.ndarray:
    """Which answers of the free-running model are correct to the last symbol: bool (N,). Works for
    any model with ``translate``. at_once: the batch size."""
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
    correct = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), at_once):
        batch = slice(start, start + at_once)
        written = translate(Tensor(pairs.source[batch], device=device), longest, beam)
        check_answers(written, len(pairs.source[batch]), longest)
        written = np.pad(written, ((0, 0), (0, longest - written.shape[1])), constant_values=PAD)
        correct[batch] = (written == pairs.target[batch, 1:]).all(axis=1)
    return correct


def check_answers(written: Ids, count: int, longest: int) -> None:
    """Raises unless ``translate`` returned ``count`` rows of at most ``longest`` symbols. A single
    row would otherwise be broadcast and compared with every answer."""
    of_integers = isinstance(written, np.ndarray) and written.dtype.kind in "iu"
    if not of_integers or written.ndim != 2 or len(written) != count or written.shape[1] > longest:
        raise (ValueError if of_integers else TypeError)(
            f"exact_match: translate returned {shown(written)}; it must return a NumPy array of "
            f"integers ({count}, at most {longest})"
        )
