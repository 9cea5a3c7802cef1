"""Greedy decoding and beam search: they find what a search through all sentences finds, and stop
when they should."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from near import near

import tinycv
from tinycv.data import EOS, PAD, SOS
from tinycv.engine.tensor import recording
from tinycv.sequence import beam_search, greedy
from tinycv.sequence.decode import best_extensions, reorder

V, LONGEST = 6, 4  # PAD, SOS, EOS and three symbols
seeds, alphas = st.integers(0, 10_000), st.sampled_from([0.0, 0.6, 2.0])


class Oracle:
    """A random model: the next symbol depends on everything written so far, and on the sentence."""

    def __init__(self, seed, batch, device="cpu", spread=2.0):
        # SOS is 1; at most LONGEST - 1 symbols come between it and the last one that is predicted
        scores = spread * np.random.default_rng(seed).standard_normal(
            (batch, 2 * V ** (LONGEST - 1), V)
        )
        self.log_p = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        self.state = {
            "who": tinycv.Tensor(np.arange(batch, dtype=np.float32), device=device),
            "seen": (np.zeros(batch, np.int64), None),
        }

    def step(self, tokens, state):
        who, (seen, nothing) = state["who"], state["seen"]
        assert tokens.dtype == np.int64 and len(tokens) == len(who.numpy()) == len(seen)
        seen = seen * V + tokens
        log_p = self.log_p[who.numpy().astype(int), seen]
        return tinycv.Tensor(log_p, device=who.device), {"who": who, "seen": (seen, nothing)}

    def best(self, i, max_length, alpha):
        """(score, symbols) of the best sentence, by trying all that end within max_length."""
        found = []
        for n in range(max_length):
            for symbols in product(range(3, V), repeat=n):
                seen, log_p = SOS, 0.0
                for symbol in (*symbols, EOS):
                    log_p += self.log_p[i, seen, symbol]
                    seen = seen * V + symbol
                found.append((log_p / ((5 + n + 1) / 6) ** alpha, (*symbols, EOS)))
        return max(found)


def symbols(row):
    return tuple(int(token) for token in row if token != PAD)


@given(seeds, alphas, st.integers(1, LONGEST))
def test_a_beam_that_holds_all_sentences_finds_the_best(seed, alpha, max_length):
    oracle = Oracle(seed, batch=3)
    tokens, scores = beam_search(
        oracle.step, oracle.state, 3, max_length, beam=81, length_penalty=alpha
    )
    for i in range(3):
        score, best = oracle.best(i, max_length, alpha)
        assert symbols(tokens[i]) == best
        assert scores[i] == pytest.approx(score)


@given(seeds, alphas)
def test_one_beam_equals_greedy_decoding(seed, alpha):
    oracle = Oracle(seed, batch=4)
    tokens, _ = beam_search(oracle.step, oracle.state, 4, LONGEST, beam=1, length_penalty=alpha)
    np.testing.assert_array_equal(tokens, greedy(oracle.step, oracle.state, 4, LONGEST))


@given(seeds, st.integers(1, 5))
def test_decoding_a_sentence_does_not_depend_on_the_rest_of_the_batch(seed, beam):
    oracle = Oracle(seed, batch=3)
    tokens, scores = beam_search(oracle.step, oracle.state, 3, LONGEST, beam)
    batched = greedy(oracle.step, oracle.state, 3, LONGEST)
    for i in range(3):
        alone = reorder(oracle.state, np.array([i]))
        (one,), (score,) = beam_search(oracle.step, alone, 1, LONGEST, beam)
        assert (symbols(one), score) == (symbols(tokens[i]), pytest.approx(scores[i]))
        assert symbols(greedy(oracle.step, alone, 1, LONGEST)[0]) == symbols(batched[i])


def test_greedy_takes_the_most_likely_symbol_at_each_step_and_beam_search_can_do_better():
    table = np.log(np.full((9, V), 1e-9))
    table[SOS, [3, 4]] = np.log([0.6, 0.4])  # at first 3 looks better ...
    table[3, [3, 4, EOS]] = np.log([0.4, 0.35, 0.25])  # ... but then nothing is likely
    table[4, EOS] = 0.0

    def step(tokens, state):
        return table[tokens], state

    assert symbols(greedy(step, None, 1, 2)[0]) == (3, 3)
    tokens, scores = beam_search(step, None, 1, 2, beam=2, length_penalty=0)
    assert symbols(tokens[0]) == (4, EOS)
    assert scores[0] == pytest.approx(np.log(0.4))


def test_a_model_that_ends_at_once_writes_only_eos():
    def step(tokens, state):
        return np.where(np.arange(V) == EOS, -0.01, -9.0) + np.zeros((len(tokens), 1)), state

    assert greedy(step, None, 2, 9).tolist() == [[EOS], [EOS]]
    assert beam_search(step, None, 2, 9)[0].tolist() == [[EOS], [EOS]]


def test_a_model_that_never_ends_is_stopped_at_max_length():
    def step(tokens, state):
        return np.where(np.arange(V) == EOS, -np.inf, -1.0) + np.zeros((len(tokens), 1)), state

    assert greedy(step, None, 2, 5).shape == beam_search(step, None, 2, 5)[0].shape == (2, 5)
    tokens, scores = beam_search(step, None, 1, 5, beam=3, length_penalty=0)
    assert EOS not in tokens and scores[0] == pytest.approx(-5)


def test_a_finished_sentence_is_preferred_to_a_more_likely_one_cut_by_max_length():
    log_probs = np.log([[1e-9, 1e-9, 0.1, 0.9, 1e-9, 1e-9]])

    def step(tokens, state):
        return np.repeat(log_probs, len(tokens), axis=0), state

    assert symbols(beam_search(step, None, 1, 3, beam=6, length_penalty=0)[0][0]) == (EOS,)


def test_pad_fills_finished_rows_and_decoding_stops_when_all_rows_are_finished():
    calls = []

    def step(tokens, state):
        calls.append(tokens.tolist())
        log_probs = np.full((2, V), -9.0)
        log_probs[0, EOS if len(calls) > 1 else 3] = log_probs[1, EOS if len(calls) > 2 else 4] = (
            0.0
        )
        return log_probs, state

    assert greedy(step, None, 2, 9).tolist() == [[3, EOS, PAD], [4, 4, EOS]]
    assert calls == [[SOS, SOS], [3, 4], [EOS, 4]]


def test_a_beam_stops_when_no_unfinished_sentence_can_still_win():
    calls = []

    def step(tokens, state):
        calls.append(len(tokens))
        end, other = (-9.0, -1.0) if len(calls) < 3 else (-0.1, -9.0)
        return np.where(np.arange(V) == EOS, end, other) + np.zeros((len(tokens), 1)), state

    assert beam_search(step, None, 1, 50, beam=2)[0].shape == (1, 3)
    assert calls == [2, 2, 2]


def test_a_beam_continues_while_a_better_score_can_still_be_reached():
    """With α = 2, a beginning of probability 0.3 beats one of 0.5 after nine symbols, if all
    symbols after the first are certain."""

    def step(tokens, state):
        first = (tokens == SOS)[:, None]
        return np.log(
            np.where(first, [0, 0, 0.5, 0.3, 0.2, 0], np.eye(V)[3 if state[0] < 9 else EOS]) + 1e-9
        ), state + 1

    (found,), (score,) = beam_search(step, np.ones(1), 1, 9, beam=2, length_penalty=2.0)
    assert symbols(found) == (3,) * 8 + (EOS,)
    assert score == pytest.approx(np.log(0.3) / (14 / 6) ** 2)


def test_of_equally_likely_extensions_the_first_are_kept_as_in_greedy_decoding():
    log_p, parent, symbol = best_extensions(np.tile([-1.0, 0.0], (2, 3, 100)), 5)
    assert (log_p == 0).all() and (parent == 0).all() and symbol.tolist() == [[1, 3, 5, 7, 9]] * 2


def test_pad_and_sos_are_never_written_however_likely():
    def step(tokens, state):
        return np.array([[9.0, 9.0, -5.0, -1.0, -2.0, -3.0]]).repeat(len(tokens), axis=0), state

    assert greedy(step, None, 1, 3).tolist() == [[3, 3, 3]]
    assert not {PAD, SOS} & set(symbols(beam_search(step, None, 1, 3, beam=9)[0][0]))


def test_an_empty_batch_is_decoded_without_calling_the_model():
    state = np.zeros((0, 3))
    assert greedy(pytest.fail, state, 0, 5).shape == (0, 0)
    tokens, scores = beam_search(pytest.fail, state, 0, 5)
    assert (tokens.shape, tokens.dtype, scores.shape) == ((0, 0), np.int64, (0,))


def test_nothing_is_recorded_while_decoding():
    weight = tinycv.tensor(np.zeros((1, V)), requires_grad=True)

    def step(tokens, state):
        assert not recording()
        return weight + np.zeros((len(tokens), 1), np.float32), state

    greedy(step, None, 1, 2)
    beam_search(step, None, 1, 2)
    assert recording()


def test_decoding_is_the_same_on_every_device(device):
    here, there = Oracle(3, batch=2), Oracle(3, batch=2, device=device)
    np.testing.assert_array_equal(
        greedy(here.step, here.state, 2, LONGEST), greedy(there.step, there.state, 2, LONGEST)
    )
    for one, other in zip(
        beam_search(here.step, here.state, 2, LONGEST, beam=3),
        beam_search(there.step, there.state, 2, LONGEST, beam=3),
        strict=True,
    ):
        near(one, other)


def test_every_array_in_a_state_is_reordered(device):
    state = {
        "h": [tinycv.Tensor(np.arange(3.0), device=device), None],
        "mask": (np.eye(3, dtype=bool),),
    }
    taken = reorder(state, np.array([2, 0, 0, 1]))
    assert taken["h"][0].numpy().tolist() == [2, 0, 0, 1]
    assert taken["h"][0].device == device and taken["h"][1] is None
    assert taken["mask"][0].argmax(axis=1).tolist() == [2, 0, 0, 1]
    assert type(taken["mask"]) is tuple


@pytest.mark.parametrize("state", [3, "h", np.float32(2), (tinycv.tensor(1.0),)])
def test_a_state_without_a_batch_is_refused(state):
    with pytest.raises(TypeError, match="the batch on axis 0"):
        reorder(state, np.array([0]))


@pytest.mark.parametrize("shape", [(V,), (1, V), (2, 2), (2, 1, V)])
def test_log_probabilities_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"log_probs of shape .* must be \(2, V\)"):
        greedy(lambda tokens, state: (np.zeros(shape), state), None, 2, 3)


@pytest.mark.parametrize(
    "options",
    [{"max_length": 0}, {"max_length": 3, "beam": 0}, {"max_length": 3, "length_penalty": -1.0}],
)
def test_a_search_for_nothing_is_refused(options):
    with pytest.raises(
        ValueError,
        match=r"beam_search: (max_length is 0|beam is 0|length_penalty is -1.0); .*at least",
    ):
        beam_search(pytest.fail, None, 1, **options)


# ── finished sentences and dead ends ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("beam", [1, 3])
def test_nan_for_a_finished_sentence_is_ignored_and_for_an_unfinished_one_is_refused(
    beam,
):
    table = np.log(np.random.default_rng(0).dirichlet(np.ones(6), size=6))

    def search(poison):
        def step(tokens, state):
            poisoned = table[tokens].copy()
            poisoned[np.isin(tokens, poison)] = np.nan
            return poisoned, state

        return (greedy(step, None, 4, 5), 0) if beam == 1 else beam_search(step, None, 4, 5, beam)

    # NaN only after PAD or EOS, that is, for finished sentences
    for found, expected in zip(search([0, 2]), search([]), strict=True):
        assert np.array_equal(found, expected)
    with pytest.raises(ValueError, match="step returned NaN for row 0"):
        search([1])


@pytest.mark.parametrize("beam", [None, 1, 3])
@pytest.mark.parametrize("at", [0, 1])
def test_a_sentence_that_no_symbol_can_continue_is_refused(beam, at):
    """Only PAD and SOS have a probability in sentence 1, from symbol number ``at`` on."""

    def step(tokens, length):
        log_p = np.where(np.arange(V) == 4, 0.0, -5.0) + np.zeros((len(tokens), 1))
        rows = np.repeat([False, True], len(tokens) // 2) & (length >= at)
        log_p[rows, EOS:] = -np.inf
        log_p[length < at, EOS] = -np.inf  # not finished yet
        return log_p, length + 1

    search = greedy if beam is None else beam_search
    options = {} if beam is None else {"beam": beam}
    with pytest.raises(
        ValueError, match=rf"{search.__name__}: step returned -inf .* in sentence 1, so no answer"
    ):
        search(step, np.zeros(2), 2, LONGEST, **options)


def test_a_beam_leaves_a_dead_end_for_a_sentence_that_can_finish():
    """After symbol 4, the most likely, nothing can follow; after 3 the sentence can end."""

    def step(tokens, state):
        log_p = np.full((len(tokens), V), -np.inf)
        log_p[tokens == SOS, 3:5] = [-2.0, -0.1]
        log_p[tokens == 3, EOS] = -0.1
        return log_p, state

    tokens, scores = beam_search(step, np.zeros(1), 1, LONGEST, beam=2, length_penalty=0.0)
    assert tokens.tolist() == [[3, EOS]] and scores == pytest.approx([-2.1])


def test_a_named_tuple_stays_a_named_tuple():
    class State(NamedTuple):
        h: np.ndarray
        c: np.ndarray | None

    found = reorder(State(np.arange(3), None), np.array([2, 0]))
    assert isinstance(found, State) and found.h.tolist() == [2, 0] and found.c is None


@pytest.mark.parametrize("place", range(5))
def test_one_nan_among_the_log_probabilities_is_refused_in_any_position(place):
    poisoned = np.log(np.full((2, 5), 0.2))
    poisoned[1, place] = np.nan
    for search in (greedy, beam_search):
        with pytest.raises(ValueError, match="step returned NaN for row 1"):
            search(lambda tokens, state: (poisoned[np.arange(len(tokens)) % 2], state), None, 2, 3)
