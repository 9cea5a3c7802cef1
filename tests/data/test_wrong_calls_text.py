"""Wrong calls of the text datasets: the error names the function and the argument."""

from __future__ import annotations

import numpy as np
import pytest
from wrong_calls import riddles

from tinycv.data.alignment import alignment_error, copies
from tinycv.data.arithmetic import addition, random_pairs, reversal, sorting
from tinycv.data.dates import dates
from tinycv.data.lecture import bag_ceiling
from tinycv.data.pinyin import is_chinese, romanised
from tinycv.data.text import Pairs, Vocabulary, padded

LETTERS = Vocabulary("abcd")
PAIRS = Pairs.of([("ab", "ba"), ("c", "dd")], LETTERS, LETTERS)
GOOD = {
    "addition": (addition, {"digits": 1, "reverse_source": False, "seed": 0}),
    "reversal": (reversal, {"lengths": [2, 3], "symbols": 4, "n": 5, "seed": 0}),
    "sorting": (sorting, {"length": 2, "symbols": 3, "seed": 0}),
    "dates": (dates, {"seed": 0, "target": "iso", "days": 8}),
    "Vocabulary": (Vocabulary, {"symbols": "abc"}),
    "encode": (LETTERS.encode, {"text": "ab"}),
    "decode": (LETTERS.decode, {"numbers": [3, 4, 2]}),
    "padded": (padded, {"sequences": [[1, 2], [3]]}),
    "Pairs.of": (
        Pairs.of,
        {"texts": [("ab", "ba")], "source_words": LETTERS, "target_words": LETTERS},
    ),
    "texts": (PAIRS.texts, {"i": 1}),
    "split": (PAIRS.split, {"test": np.array([True, False]), "rng": np.random.default_rng(0)}),
    "copies": (copies, {"source": "2026-03-05", "target": "2026-03-05"}),
    "romanised": (romanised, {"text": "三月"}),
    "is_chinese": (is_chinese, {"text": "三月"}),
}
LARGE = {"n", "lengths", "days"}


def within_reason(function, name):
    """The function, except for numbers that would be right but would fill the memory."""

    def call(**arguments):
        if any(
            isinstance(value, int) and value > 10**6
            for key, value in arguments.items()
            if key in LARGE
        ):
            raise ValueError(name)
        return function(**arguments)

    return call


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_argument_is_named_in_the_error(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(within_reason(function, name), good, name, "vocabulary", "dates", "PINYIN")
    assert not found, "\n".join(found)


def test_weights_that_are_no_attention_are_refused():
    train, _ = dates(days=8)
    few = train[:3]
    shape = (3, few.target.shape[1] - 1, few.source.shape[1])
    alignment_error(np.ones(shape), few)
    for weights, said in (
        (np.full(shape, np.nan), "NaN"),
        (np.ones((3, 1, shape[2])), "alignment_error: weights"),
        (np.ones((2, *shape[1:])), "alignment_error: weights"),
        ("word", "alignment_error: weights"),
        (np.ma.masked_array(np.ones(shape)), "weights is MaskedArray .* a plain array"),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            alignment_error(weights, few)
    with pytest.raises(ValueError, match="no digit"):
        alignment_error(np.ones((0, *shape[1:])), train[:0])


@pytest.mark.parametrize("slack", [0, 1, 3, 10**18])
def test_slack_may_be_any_size(slack):
    few = dates(days=8)[0][:4]
    weights = np.random.default_rng(0).random((4, few.target.shape[1] - 1, few.source.shape[1]))
    hits = links = 0
    for looked, i in zip(weights.argmax(axis=-1), range(4), strict=True):
        sure, possible = copies(*("".join(text) for text in few.texts(i)))
        made = {(t, int(looked[t])) for t, _ in sure}
        for truth in (sure, possible):
            hits += sum(
                min(abs(s - place) for right, place in truth if right == t) <= slack
                for t, s in made
            )
        links += len(made) + len(sure)
    assert alignment_error(weights, few, slack) == pytest.approx(1 - hits / links)


LETTERS = Vocabulary("abc")
FEW = Pairs.of([("ab", "ba"), ("b", "c"), ("ca", "ac")], LETTERS, LETTERS)
DRAW = np.random.default_rng(0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: bag_ceiling(None), "bag_ceiling: pairs is None; it must be Pairs"),
        (lambda: bag_ceiling(FEW[[]]), "bag_ceiling: pairs holds no sentence"),
        (lambda: FEW[[[1], [1, 2]]], "Pairs: the index is .* not equally long"),
        (lambda: FEW[1], "texts\\(i\\) reads one"),
        (lambda: FEW["a"], "Pairs: the index is 'a'"),
        (lambda: FEW[[0.5]], "texts\\(i\\) reads one"),
        (lambda: random_pairs(0, 1, DRAW), "random_pairs: digits is 0"),
        (lambda: random_pairs(19, 1, DRAW), "random_pairs: digits is 19"),
        (lambda: random_pairs(1, 2, None), "random_pairs: rng is None"),
        (
            lambda: random_pairs(1, 56, DRAW),
            "random_pairs: count is 56; with 1 digit there are only 55 pairs",
        ),
    ],
)
def test_arguments_that_once_hung_or_gave_an_unclear_error_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_every_pair_of_numbers_can_be_drawn_and_every_kind_of_index_works():
    assert len(random_pairs(1, 55, DRAW)) == 55
    for index in ([0, 2], np.array([0, 2]), (0, 2), [True, False, True], slice(0, 3, 2)):
        assert [FEW[index].texts(i) for i in (0, 1)] == [FEW.texts(0), FEW.texts(2)]
    assert len(FEW[[]]) == len(FEW[np.zeros(3, bool)]) == 0
