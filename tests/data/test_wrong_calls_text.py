"""Wrong calls of the data sets of symbols: the error names who was called and the argument, in words."""
from __future__ import annotations

import numpy as np
import pytest
from wrong_calls import riddles

from tinycv.data.alignment import alignment_error, copies
from tinycv.data.arithmetic import addition, reversal, sorting
from tinycv.data.dates import dates
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
    "Pairs.of": (Pairs.of, {"texts": [("ab", "ba")], "source_words": LETTERS, "target_words": LETTERS}),
    "texts": (PAIRS.texts, {"i": 1}),
    "split": (PAIRS.split, {"test": np.array([True, False]), "rng": np.random.default_rng(0)}),
    "copies": (copies, {"source": "2026-03-05", "target": "2026-03-05"}),
    "romanised": (romanised, {"text": "三月"}),
    "is_chinese": (is_chinese, {"text": "三月"}),
}
LARGE = {"n", "lengths", "days"}


def within_reason(function, name):
    """The function, but for numbers that would fill the memory: these are right calls."""
    def call(**arguments):
        if any(isinstance(value, int) and value > 10 ** 6 for key, value in arguments.items() if key in LARGE):
            raise ValueError(name)
        return function(**arguments)
    return call


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_argument_gets_a_sentence(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(within_reason(function, name), good, name, "vocabulary", "dates", "PINYIN")
    assert not found, "\n".join(found)


def test_alignment_of_garbage_is_no_alignment():
    train, _ = dates(days=8)
    few = train[:3]
    shape = (3, few.target.shape[1] - 1, few.source.shape[1])
    alignment_error(np.ones(shape), few)
    for weights, said in ((np.full(shape, np.nan), "NaN"), (np.ones((3, 1, shape[2])), "alignment_error: weights"),
                          (np.ones((2, *shape[1:])), "alignment_error: weights"), ("word", "alignment_error: weights")):
        with pytest.raises((ValueError, TypeError), match=said):
            alignment_error(weights, few)
    with pytest.raises(ValueError, match="no figure"):
        alignment_error(np.ones((0, *shape[1:])), train[:0])
