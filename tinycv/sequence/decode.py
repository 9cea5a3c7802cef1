"""Greedy decoding and beam search: choosing the symbols of an answer from a model's probabilities.

    greedy         y_t = argmax log p(y | y_1 ... y_{t-1}, x)        the best symbol at each step
    beam search    keep the K best beginnings; extend each by every symbol;
                   keep the K best of these, and so on

    score(Y) = log P(Y | x) / lp(Y)      lp(Y) = ((5 + |Y|) / (5 + 1))^α      Wu et al. 2016, eq. 14

The best next symbol may lead to a place where no continuation is likely, and greedy decoding cannot
go back.  Beam search can, as soon as one of the other K - 1 beginnings becomes more likely
(Sutskever et al. 2014, section 3.2).  Every symbol makes a sentence less likely, so log P favours
short sentences; dividing it by lp, which grows with the length, corrects this.  α = 0 switches the
correction off.
differs: Wu et al. also reward attention that covers the whole source; only the first part of their
eq. 14 is used here.

The search knows a model only as one function:

    step(tokens (B,) int64, state) -> (log_probs (B, V), state)

tokens: a NumPy array of the symbols written last, at first SOS.  state: what the model carries from
symbol to symbol, such as hidden states, or keys and values: Tensors or arrays with the batch on
axis 0, in lists, tuples and dicts, or None.  The symbols are chosen on the host, so the host waits
for a GPU once per symbol.  No graph is recorded.

PAD and SOS are never written, whatever their probabilities: in training they never count as the
correct next symbol, so their probabilities mean nothing.  PAD only fills the rows of finished
sentences.  If no symbol can continue a sentence, a ValueError says so.

Read first: data/text.py.
Shapes: B sentences, K beams, V size of the vocabulary, L symbols written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.data.inputs import whole
from tinycv.data.text import EOS, PAD, SOS
from tinycv.engine.arguments import number, shown, size
from tinycv.engine.backend import array_module, to_numpy
from tinycv.engine.tensor import Tensor, no_grad

MOST_SYMBOLS = 2**28  # the limit of batch * beam * max_length
# What a model carries from symbol to symbol: Tensors, NumPy or CuPy arrays in containers.
Carried = Tensor | np.ndarray | list | tuple | dict | None
Step = Callable[[np.ndarray, Any], tuple[Any, Any]]  # (tokens, state) -> (log_probs, state)


def greedy(step: Step, state: Carried, batch: int, max_length: int) -> np.ndarray:
    """Greedy decoding: the most likely symbol at each step, up to EOS or ``max_length`` symbols.

    Returns int64 (batch, L), L <= max_length: without SOS, with EOS, and with PAD after EOS.
    """
    batch, max_length, _, _ = check_arguments("greedy", step, batch, max_length)
    tokens, written = np.full(batch, SOS), np.empty((batch, 0), np.int64)
    unfinished = np.full(batch, True)
    with no_grad():
        while unfinished.any() and written.shape[1] < max_length:
            log_probs, state = checked_step(step, tokens, state)
            log_probs = allowed_log_probs(log_probs, unfinished)  # (B, V)
            refuse_dead_ends("greedy", unfinished & np.isneginf(log_probs.max(axis=1)))
            tokens = np.where(unfinished, log_probs.argmax(axis=-1), PAD)  # (B,)
            written = np.concatenate([written, tokens[:, None]], axis=1)  # (B, L)
            unfinished &= tokens != EOS
    return written


def beam_search(
    step: Step,
    state: Carried,
    batch: int,
    max_length: int,
    beam: int = 4,
    length_penalty: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """Beam search: keeps the K = ``beam`` best beginnings at each step, and returns the finished
    sentence with the highest score.

    state: has ``batch`` rows; each row is repeated K times. length_penalty: α. A sentence that
    reaches ``max_length`` without EOS is returned only if none has finished. One beam is greedy
    decoding. Returns tokens, int64 (batch, L), as ``greedy`` does, and their scores (batch,); a
    higher score is better.
    """
    batch, max_length, beam, length_penalty = check_arguments(
        "beam_search", step, batch, max_length, beam, length_penalty
    )
    row = np.arange(batch)[:, None]  # (B, 1)
    state = reorder(state, np.repeat(np.arange(batch), beam))  # B·K rows
    log_p = np.full((batch, beam), -np.inf)
    # The K beginnings of a sentence are equal at first. Only the first may be extended; otherwise
    # the beam would hold K copies of the same sentence.
    log_p[:, :1] = 0.0
    written = np.empty((batch, beam, 0), np.int64)
    tokens = np.full((batch, beam), SOS)
    best, best_score = np.full((batch, max_length), PAD), np.full(batch, -np.inf)
    with no_grad():
        for length in range(1, max_length + 1):
            # log P can only fall, and lp is largest at max_length. So this is the best score that
            # an unfinished sentence can still reach.
            if (log_p.max(axis=1) / lp(max_length, length_penalty) <= best_score).all():
                break
            log_probs, state = checked_step(step, tokens.reshape(-1), state)
            unfinished = ~np.isneginf(log_p)  # (B, K)
            log_probs = allowed_log_probs(log_probs, unfinished.reshape(-1))
            log_probs = log_probs.reshape(batch, beam, -1)  # (B, K, V)
            extended = np.where(unfinished[:, :, None], log_p[:, :, None] + log_probs, -np.inf)
            log_p, parent, tokens = best_extensions(extended, beam)  # (B, K) each
            written = np.concatenate([written[row, parent], tokens[:, :, None]], axis=2)
            state = reorder(state, (row * beam + parent).reshape(-1))
            # Sentences that end with EOS leave the beam. At the next step, extensions of the other
            # beginnings fill it up again.
            score = np.where(tokens == EOS, log_p, -np.inf) / lp(length, length_penalty)
            update_best(best, best_score, written, score)
            log_p = np.where(tokens == EOS, -np.inf, log_p)
    # Unfinished sentences count only where no sentence has finished.
    unfinished_log_p = np.where(np.isneginf(best_score)[:, None], log_p, -np.inf)
    update_best(best, best_score, written, unfinished_log_p / lp(max_length, length_penalty))
    refuse_dead_ends("beam_search", np.isneginf(best_score))
    return best[:, : (best != PAD).sum(axis=1).max(initial=0)], best_score


def written(step: Step, state: Carried, batch: int, max_length: int, beam: int) -> np.ndarray:
    """The tokens without scores, by ``greedy`` for one beam and by ``beam_search`` for several."""
    if size(beam, "translate: beam", 1) == 1:
        return greedy(step, state, batch, max_length)
    return beam_search(step, state, batch, max_length, beam)[0]


def best_extensions(extended: np.ndarray, beam: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The K most likely of all extensions (B, K, V): their log P, the number of the beginning that
    each extends, and the symbol that it adds, (B, K) each."""
    flat = extended.reshape(len(extended), -1)  # (B, K·V)
    # A stable sort takes the first of equals, as argmax does.
    chosen = np.argsort(-flat, axis=1, kind="stable")[:, :beam]
    parents, tokens = np.divmod(chosen, extended.shape[-1])
    return np.take_along_axis(flat, chosen, axis=1), parents, tokens


def update_best(
    best: np.ndarray, best_score: np.ndarray, written: np.ndarray, score: np.ndarray
) -> None:
    """Where the best of the K scores (B, K) is higher than best_score (B,), replace best_score and
    best, in place."""
    best_beam = score.argmax(axis=1)
    for i in np.flatnonzero(score.max(axis=1) > best_score):
        best_score[i], best[i] = score[i, best_beam[i]], PAD
        best[i, : written.shape[2]] = written[i, best_beam[i]]


def lp(length: int, alpha: float) -> float:
    """The length penalty, Wu et al. 2016, eq. 14. length: symbols written, including EOS."""
    return ((5 + length) / (5 + 1)) ** alpha


def checked_step(step: Step, tokens: np.ndarray, state: Carried) -> tuple[Any, Any]:
    """step(tokens, state). Raises TypeError if the result is not a pair."""
    result = step(tokens, state)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(f"step returned {shown(result)}; it must be (log_probs (B, V), state)")
    return result[0], result[1]


def allowed_log_probs(log_probs: Any, unfinished: np.ndarray) -> np.ndarray:
    """The log-probabilities of a step, on the host in float64 (rows, V), with -inf for PAD and SOS.
    unfinished: bool (rows,). A NaN in the row of an unfinished sentence raises ValueError, even for
    PAD and SOS; rows of finished sentences may contain anything."""
    host = log_probs.numpy() if isinstance(log_probs, Tensor) else to_numpy(log_probs)
    rows = len(unfinished)
    if (
        getattr(host, "ndim", 0) != 2
        or len(host) != rows
        or host.shape[1] <= EOS
        or host.dtype.kind not in "fiu"
    ):
        raise ValueError(
            f"step returned log_probs of shape {getattr(host, 'shape', None)}, {shown(host)}; it "
            f"must be ({rows}, V), numbers: one row for each token that step was given, and V = "
            f"len(vocabulary), at least {EOS + 1}"
        )
    host = host.astype(np.float64)
    nan_rows = np.isnan(host).any(axis=1) & unfinished
    if nan_rows.any():
        raise ValueError(
            f"step returned NaN for row {int(nan_rows.argmax())}, whose sentence is not finished, "
            "so the most likely symbol is undefined"
        )
    host[:, [PAD, SOS]] = -np.inf
    return host


def refuse_dead_ends(owner: str, dead: np.ndarray) -> None:
    """Raises ValueError if a sentence cannot be continued. dead: bool (B,)."""
    if dead.any():
        raise ValueError(
            f"{owner}: step returned -inf for every symbol that may come next in sentence "
            f"{int(dead.argmax())}, so no answer is possible"
        )


def reorder(state: Carried, rows: np.ndarray) -> Any:
    """The same structure, in which every Tensor and array is indexed with ``rows`` (M,) along axis
    0. A row may occur more than once."""
    if state is None:
        return None
    if isinstance(state, dict):
        return {name: reorder(part, rows) for name, part in state.items()}
    if isinstance(state, (list, tuple)):
        parts = [reorder(part, rows) for part in state]
        # The constructor of a named tuple takes its fields one by one.
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    array: Any = state.data if isinstance(state, Tensor) else state
    if not getattr(array, "ndim", 0):
        raise TypeError(
            f"beam_search: the state contains {state!r}; it must be Tensors or arrays with the "
            "batch on axis 0, in tuples, lists and dicts, or None. Keep what is the same for all "
            "sentences inside step"
        )
    if len(array) <= rows.max(initial=-1):
        raise ValueError(
            f"beam_search: the state contains {shown(state)}; its axis 0 must be the batch, "
            f"with at least {rows.max() + 1} rows"
        )
    xp = array_module(array)
    taken = xp.take(array, xp.asarray(rows), axis=0)
    return Tensor(taken) if isinstance(state, Tensor) else taken


def check_arguments(
    owner: str, step: Any, batch: Any, max_length: Any, beam: Any = 1, length_penalty: Any = 0.0
) -> tuple[int, int, int, float]:
    """Returns the arguments as Python numbers. A search that could find nothing is refused, and so
    is a negative α: log P already penalises long sentences, and a negative α would do it twice."""
    if not callable(step):
        raise TypeError(
            f"{owner}: step is {shown(step)}; it must be a function, (tokens, state) -> "
            "(log_probs, state)"
        )
    batch = whole(batch, f"{owner}: batch")
    max_length = whole(max_length, f"{owner}: max_length", 1)
    beam = whole(beam, f"{owner}: beam", 1)
    if batch * max_length * beam > MOST_SYMBOLS:
        raise ValueError(
            f"{owner}: batch is {batch}, max_length {max_length} and beam {beam}; their product "
            f"must be at most {MOST_SYMBOLS}, so that the symbols fit into memory"
        )
    return batch, max_length, beam, number(length_penalty, f"{owner}: length_penalty", 0, 100)
