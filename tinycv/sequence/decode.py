"""Decoding: a model says how likely each next symbol is; somebody must choose. Greedy and beam
search.

    greedy         y_t = argmax log p(y | y_1 ... y_{t-1}, x)        the best next symbol, each time
    beam search    keep the K best beginnings; extend each by every symbol;
                   of these keep the K best again

    score(Y) = log P(Y | x) / lp(Y)      lp(Y) = ((5 + |Y|) / (5 + 1))^α      Wu et al. 2016, eq. 14

The best next symbol may lead to where no continuation is likely, and greedy cannot go back. Beam
search sees that as soon as one of the other K - 1 beginnings overtakes (Sutskever et al. 2014,
section 3.2). Every symbol makes a sentence less likely, so log P alone likes short ones; lp divides
that by a power of the length, and α = 0 leaves it.
differs: Wu et al. also reward attention that covers the whole source; here is only eq. 14's first
part.

A model is one function, whatever it is made of:

    step(tokens (B,) int64, state) -> (log_probs (B, V), state)

tokens are NumPy's: the symbols last written, SOS at first. state is what the model carries from
symbol to symbol, such as hidden states, or keys and values: Tensors or arrays with the batch on
axis 0, in lists, tuples and dicts, or None. The choosing is done on the host, so a GPU is waited
for once a symbol. Nothing is recorded. PAD and SOS are never written, however likely a model thinks
them: it was never asked for them, so what it says of them means nothing. PAD only fills the rows of
sentences that are over. A sentence that no symbol may continue is refused (ValueError).

Read before: data/text.py.
Shapes: B sentences, K beams, V numbers of the vocabulary, L symbols written.
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

MOST_SYMBOLS = 2**28  # that a search may write
# What a model carries from symbol to symbol: Tensors or arrays (CuPy's too) in containers
Carried = Tensor | np.ndarray | list | tuple | dict | None
Step = Callable[[np.ndarray, Any], tuple[Any, Any]]  # (tokens, state) -> (log_probs, state)


def greedy(step: Step, state: Carried, batch: int, max_length: int) -> np.ndarray:
    """The likeliest symbol each time, up to EOS or ``max_length`` symbols.

    Returns (batch, L) int64, L <= max_length: without SOS, with EOS, and PAD after it.
    """
    batch, max_length, _, _ = checked("greedy", step, batch, max_length)
    tokens, written = np.full(batch, SOS), np.empty((batch, 0), np.int64)
    going = np.full(batch, True)
    with no_grad():
        while going.any() and written.shape[1] < max_length:
            log_probs, state = asked(step, tokens, state)
            # (B, V)
            said = choices(log_probs, going)
            refuse_dead_ends("greedy", going & np.isneginf(said.max(axis=1)))
            # (B,)
            tokens = np.where(going, said.argmax(axis=-1), PAD)
            # (B, L)
            written = np.concatenate([written, tokens[:, None]], axis=1)
            going &= tokens != EOS
    return written


def beam_search(
    step: Step,
    state: Carried,
    batch: int,
    max_length: int,
    beam: int = 4,
    length_penalty: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """The K = ``beam`` best beginnings each time; of all that come to an end, the one of the
    highest score.

    state: of ``batch`` rows; each is repeated K times. length_penalty: α. A sentence that reaches
    ``max_length`` without EOS is answered only where none has ended. One beam is greedy search.
    Returns tokens (batch, L) int64 as ``greedy`` does, and their scores (batch,), higher is better.
    """
    batch, max_length, beam, length_penalty = checked(
        "beam_search", step, batch, max_length, beam, length_penalty
    )
    # (B, 1)
    row = np.arange(batch)[:, None]
    # B·K rows
    state = reorder(state, np.repeat(np.arange(batch), beam))
    log_p = np.full((batch, beam), -np.inf)
    # K equal beginnings: only the first of them may go on
    log_p[:, :1] = 0.0
    written = np.empty((batch, beam, 0), np.int64)
    tokens = np.full((batch, beam), SOS)
    best, best_score = np.full((batch, max_length), PAD), np.full(batch, -np.inf)
    with no_grad():
        for length in range(1, max_length + 1):
            # log P can only fall, and no sentence is longer than max_length: what one still going
            # may come to at most
            if (log_p.max(axis=1) / lp(max_length, length_penalty) <= best_score).all():
                break
            log_probs, state = asked(step, tokens.reshape(-1), state)
            # (B, K)
            going = ~np.isneginf(log_p)
            # (B, K, V)
            said = choices(log_probs, going.reshape(-1)).reshape(batch, beam, -1)
            extended = np.where(going[:, :, None], log_p[:, :, None] + said, -np.inf)
            # (B, K) each
            log_p, parent, tokens = the_best(extended, beam)
            # (B, K, L)
            written = np.concatenate([written[row, parent], tokens[:, :, None]], axis=2)
            state = reorder(state, (row * beam + parent).reshape(-1))
            # those with EOS leave the beam; the next step's extensions of the others take their
            # places
            score = np.where(tokens == EOS, log_p, -np.inf) / lp(length, length_penalty)
            keep_better(best, best_score, written, score)
            log_p = np.where(tokens == EOS, -np.inf, log_p)
    unended = np.where(np.isneginf(best_score)[:, None], log_p, -np.inf)
    keep_better(best, best_score, written, unended / lp(max_length, length_penalty))
    refuse_dead_ends("beam_search", np.isneginf(best_score))
    return best[:, : (best != PAD).sum(axis=1).max(initial=0)], best_score


def written(step: Step, state: Carried, batch: int, max_length: int, beam: int) -> np.ndarray:
    """The tokens alone: by ``greedy`` for one beam, else by ``beam_search``."""
    if size(beam, "translate: beam", 1) == 1:
        return greedy(step, state, batch, max_length)
    return beam_search(step, state, batch, max_length, beam)[0]


def the_best(extended: np.ndarray, beam: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all (B, K, V) extensions the K most likely: their log P, which beginning each extends, and
    by which symbol."""
    # (B, K·V)
    flat = extended.reshape(len(extended), -1)
    # ties: the first, as argmax
    chosen = np.argsort(-flat, axis=1, kind="stable")[:, :beam]
    return np.take_along_axis(flat, chosen, axis=1), *np.divmod(chosen, extended.shape[-1])


def keep_better(
    best: np.ndarray, best_score: np.ndarray, written: np.ndarray, score: np.ndarray
) -> None:
    """Where the best of K scores (B, K) beats the best so far (B,), it and its symbols take that
    one's place."""
    first = score.argmax(axis=1)
    for i in np.flatnonzero(score.max(axis=1) > best_score):
        best_score[i], best[i] = score[i, first[i]], PAD
        best[i, : written.shape[2]] = written[i, first[i]]


def lp(length: int, alpha: float) -> float:
    """Wu et al. 2016, eq. 14. length: symbols written, EOS among them."""
    return ((5 + length) / (5 + 1)) ** alpha


def asked(step: Step, tokens: np.ndarray, state: Carried) -> tuple[Any, Any]:
    """What a step says; TypeError where that is not two things."""
    said = step(tokens, state)
    if not isinstance(said, (tuple, list)) or len(said) != 2:
        raise TypeError(f"step returned {shown(said)}; it must be (log_probs (B, V), state)")
    return said[0], said[1]


def choices(log_probs: Any, going: np.ndarray) -> np.ndarray:
    """What a step said, on the host in float64 (rows, V), without PAD and SOS. going: (rows,) bool,
    which sentences are not over. Of those that are, a step may say anything; ValueError for a NaN
    about one that is not, for PAD and SOS too."""
    host = log_probs.numpy() if isinstance(log_probs, Tensor) else to_numpy(log_probs)
    rows = len(going)
    if (
        getattr(host, "ndim", 0) != 2
        or len(host) != rows
        or host.shape[1] <= EOS
        or host.dtype.kind not in "fiu"
    ):
        raise ValueError(
            f"step returned log_probs of shape {getattr(host, 'shape', None)}, {shown(host)}; it "
            f"must be ({rows}, V), numbers: a row for each of the tokens it was given, and V = "
            f"len(vocabulary), at least {EOS + 1}"
        )
    host = host.astype(np.float64)
    lost = np.isnan(host).any(axis=1) & going
    if lost.any():
        raise ValueError(
            f"step returned NaN for row {int(lost.argmax())}, whose sentence is not over: which "
            "symbol is the likeliest cannot be said"
        )
    host[:, [PAD, SOS]] = -np.inf
    return host


def refuse_dead_ends(owner: str, dead: np.ndarray) -> None:
    """ValueError for a sentence (B,) that no symbol may continue: none of its answers is
    possible."""
    if dead.any():
        raise ValueError(
            f"{owner}: step gave -inf to every symbol that may be written next in sentence "
            f"{int(dead.argmax())}: no answer is possible"
        )


def reorder(state: Carried, rows: np.ndarray) -> Any:
    """The same tree with ``rows`` (M,) of axis 0 of each Tensor and array in it, in that order; a
    row may come twice."""
    if state is None:
        return None
    if isinstance(state, dict):
        return {name: reorder(part, rows) for name, part in state.items()}
    if isinstance(state, (list, tuple)):
        parts = [reorder(part, rows) for part in state]
        # a named tuple takes each
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    array: Any = state.data if isinstance(state, Tensor) else state
    if not getattr(array, "ndim", 0):
        raise TypeError(
            f"beam_search: the state holds {state!r}; it must be Tensors or arrays with the batch "
            "on axis 0, in tuples, lists and dicts, or None. What is equal for all sentences "
            "belongs into step itself"
        )
    if len(array) <= rows.max(initial=-1):
        raise ValueError(
            f"beam_search: the state holds {shown(state)}; its axis 0 must be the batch, "
            f"with at least {rows.max() + 1} rows"
        )
    xp = array_module(array)
    taken = xp.take(array, xp.asarray(rows), axis=0)
    return Tensor(taken) if isinstance(state, Tensor) else taken


def checked(
    owner: str, step: Any, batch: Any, max_length: Any, beam: Any = 1, length_penalty: Any = 0.0
) -> tuple[int, int, int, float]:
    """The numbers as Python's own; refuses a search that could find nothing, and a negative α: log
    P makes long sentences unlikely already, and a negative α would punish length twice."""
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
            f"{owner}: batch is {batch}, max_length {max_length} and beam {beam}; all of them "
            f"multiplied must be at most {MOST_SYMBOLS}, the symbols that fit into memory"
        )
    return batch, max_length, beam, number(length_penalty, f"{owner}: length_penalty", 0, 100)
