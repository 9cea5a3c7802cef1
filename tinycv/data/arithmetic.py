"""Addition, reversal and sorting of strings: sequence tasks whose answers are right or wrong.

    addition   23+7   -> 30          source and target differ in length, and every digit of the sum
                                     depends on all digits of the source
    reversal   abcd   -> dcba        nothing to compute, but everything to remember
    sorting    201100 -> 000112      the task of minGPT

Each task makes sure that no test question was seen in training. For addition, 23+7 and 7+23 count
as one question: both are in the training set, or both in the test set.

Read first: text.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from string import ascii_lowercase

import numpy as np

from tinycv.data.inputs import generator, whole
from tinycv.data.text import Pairs, Vocabulary
from tinycv.engine.arguments import choice, size, sizes

MOST, LONGEST = 10**7, 10**6  # the most questions, and the most letters of one
# how many sums of three or more digits, as in the Keras example "addition_rnn"
QUESTIONS = 50_000


def addition(digits: int, reverse_source: bool = False, seed: int = 0) -> tuple[Pairs, Pairs]:
    """(train, test): sums of two numbers of at most ``digits`` digits, "23+7" -> "30". A tenth is
    the test set.

    One or two digits: every possible sum (10^4 for two), with a + b and b + a in the same set.
    More digits: 50,000 random sums, 45,000 of them for training, with a + b or b + a but never
    both. The lengths of a and b are drawn first, as in the Keras example "Sequence to sequence
    learning for performing number addition"; otherwise 81 % of the sums would have three digits
    each.
    reverse_source: write the source backwards, "7+32", so that the digits that are needed first are
    near (Sutskever et al. 2014, section 3.3).
    """
    reverse_source = choice(reverse_source, "addition: reverse_source", (False, True))
    digits = size(digits, "addition: digits", 1)
    rng = np.random.default_rng(size(seed, "addition: seed"))
    if digits > 18:
        raise ValueError(f"addition: digits is {digits}; it must be at most 18: numbers are int64")
    numbers = (
        every_pair(10**digits)
        if 10 ** (2 * digits) <= QUESTIONS
        else random_pairs(digits, QUESTIONS, rng)
    )
    low, high = numbers.min(axis=1), numbers.max(axis=1)
    # a + b and b + a have the same group number
    _, group = np.unique(low * 10**digits + high, return_inverse=True)
    in_test = rng.permutation(group.max() + 1) < (group.max() + 1) // 10  # (groups,)
    texts = [
        (f"{a}+{b}"[::-1] if reverse_source else f"{a}+{b}", str(a + b))
        for a, b in numbers.tolist()
    ]
    return Pairs.of(texts, Vocabulary("0123456789+"), Vocabulary("0123456789")).split(
        in_test[group], rng
    )


def every_pair(n: int) -> np.ndarray:
    """All n² pairs of numbers from 0 to n - 1: (n², 2)."""
    return np.stack(np.divmod(np.arange(n * n), n), axis=1)


def random_pairs(digits: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` random pairs of numbers of at most ``digits`` digits, (count, 2). No two pairs are
    the same, in either order."""
    digits = whole(digits, "random_pairs: digits", 1, 18)
    count = whole(count, "random_pairs: count", 0, MOST)
    rng, numbers = generator(rng, "random_pairs: rng"), 10**digits
    if count > numbers * (numbers + 1) // 2:
        raise ValueError(
            f"random_pairs: count is {count}; with {digits} digit{'s' * (digits > 1)} there are "
            f"only {numbers * (numbers + 1) // 2} pairs"
        )
    pairs = np.empty((0, 2), np.int64)
    while len(pairs) < count:
        most = 10 ** rng.integers(1, digits + 1, size=(count, 2))
        pairs = np.concatenate([pairs, rng.integers(0, most)])
        _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
        pairs = pairs[np.sort(first)]  # without repetitions, in the order in which they were drawn
    return pairs[:count]


def reversal(lengths: Sequence[int], symbols: int = 10, n: int = 10_000, seed: int = 0) -> Pairs:
    """n random strings of the first ``symbols`` letters, to be reversed: "abca" -> "acba". Each of
    ``lengths`` occurs equally often.

    For a test set use another seed, and lengths at which two random strings are hardly ever equal
    (with 10 letters: 5 and more).
    """
    symbols, n = size(symbols, "reversal: symbols", 1), whole(n, "reversal: n", 0, MOST)
    if symbols > len(ascii_lowercase):
        raise ValueError(
            f"reversal: symbols is {symbols}; it must be 1 to {len(ascii_lowercase)}, because the "
            "symbols are letters"
        )
    lengths = [
        whole(length, f"reversal: lengths[{i}]", 0, LONGEST)
        for i, length in enumerate(sizes(lengths, "reversal: lengths"))
    ]
    if not lengths:
        raise ValueError(
            "reversal: lengths is empty; it must hold at least one length, such as range(1, 21)"
        )
    rng = np.random.default_rng(size(seed, "reversal: seed"))
    letters = Vocabulary(ascii_lowercase[:symbols])
    chosen = rng.permutation(np.resize(lengths, n))
    texts = [
        "".join(ascii_lowercase[i] for i in rng.integers(symbols, size=length)) for length in chosen
    ]
    return Pairs.of([(text, text[::-1]) for text in texts], letters, letters)


def sorting(length: int = 6, symbols: int = 3, seed: int = 0) -> tuple[Pairs, Pairs]:
    """(train, test): every string of ``length`` digits, to be sorted: "201100" -> "000112". A
    quarter is the test set.

    minGPT draws such strings at random and splits them by a hash, so its 5,000 test questions are
    the same 180 over and over. With three digits there are only 729 strings of length 6, so here
    each occurs once.
    """
    length, symbols = size(length, "sorting: length"), size(symbols, "sorting: symbols")
    too_many = length > 20 and symbols > 1 or length > 10**6 or symbols**length > 10**6
    if length < 1 or not 1 <= symbols <= 10 or too_many:
        raise ValueError(
            f"sorting: length={length} and symbols={symbols} make {symbols}**{length} strings; "
            "length must be at least 1, symbols 1 to 10, and there must be at most a million "
            "strings"
        )
    rng = np.random.default_rng(size(seed, "sorting: seed"))
    digits = Vocabulary(str(i) for i in range(symbols))
    texts = [(text, sorted(text)) for text in product(digits.symbols, repeat=length)]
    return Pairs.of(texts, digits, digits).split(rng.permutation(len(texts)) < len(texts) // 4, rng)
