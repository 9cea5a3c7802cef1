"""Addition, reversal, sorting: tasks that a child understands, whose answer is right or wrong, and
never half right.

    addition   23+7   -> 30          source and target differ in length, and every digit written
                                     depends on all digits read
    reversal   abcd   -> dcba        nothing to compute; all must be remembered
    sorting    201100 -> 000112      minGPT's

Each has its own way of keeping the test apart. A network that has seen 23+7 has seen 7+23: both go
to one side.

Read before: text.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from string import ascii_lowercase

import numpy as np

from tinycv.data.inputs import generator, whole
from tinycv.data.text import Pairs, Vocabulary
from tinycv.engine.arguments import choice, size, sizes

MOST, LONGEST = 10**7, 10**6  # questions, and letters of one
# of three digits or more, as in Keras's example of it
QUESTIONS = 50_000


def addition(digits: int, reverse_source: bool = False, seed: int = 0) -> tuple[Pairs, Pairs]:
    """(train, test): sums of two numbers of at most ``digits`` digits, "23+7" -> "30". A tenth is
    held out.

    Of one or two digits: every sum there is, 10^4 of two; a + b and b + a on the same side. Of
    more: 50,000 random ones, of which 45,000 to train on, with a + b or b + a but never both, the
    lengths of a and b drawn first (as Keras's example "Sequence to sequence learning for performing
    number addition" does, else 81 % would have three digits each).
    reverse_source: the question backwards, "7+32": what is needed first now stands near (Sutskever
    et al. 2014, 3.3).
    """
    reverse_source = choice(reverse_source, "addition: reverse_source", (False, True))
    digits, rng = (
        size(digits, "addition: digits", 1),
        np.random.default_rng(size(seed, "addition: seed")),
    )
    if digits > 18:
        raise ValueError(f"addition: digits is {digits}; it must be at most 18: numbers are int64")
    numbers = (
        every_pair(10**digits)
        if 10 ** (2 * digits) <= QUESTIONS
        else random_pairs(digits, QUESTIONS, rng)
    )
    low, high = numbers.min(axis=1), numbers.max(axis=1)
    _, group = np.unique(low * 10**digits + high, return_inverse=True)  # {a, b}, numbered
    held = rng.permutation(group.max() + 1) < (group.max() + 1) // 10  # (groups,)
    texts = [
        (f"{a}+{b}"[::-1] if reverse_source else f"{a}+{b}", str(a + b))
        for a, b in numbers.tolist()
    ]
    return Pairs.of(texts, Vocabulary("0123456789+"), Vocabulary("0123456789")).split(
        held[group], rng
    )


def every_pair(n: int) -> np.ndarray:
    """(n², 2): each of 0 ... n-1 with each."""
    return np.stack(np.divmod(np.arange(n * n), n), axis=1)


def random_pairs(digits: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2): no two of them the same numbers, in either order. digits: of the longer number,
    at most 18."""
    digits, count = (
        whole(digits, "random_pairs: digits", 1, 18),
        whole(count, "random_pairs: count", 0, MOST),
    )
    rng, numbers = generator(rng, "random_pairs: rng"), 10**digits
    if count > numbers * (numbers + 1) // 2:
        raise ValueError(
            f"random_pairs: count is {count}; of {digits} digit{'s' * (digits > 1)} there are "
            f"{numbers * (numbers + 1) // 2} pairs"
        )
    found = np.empty((0, 2), np.int64)
    while len(found) < count:
        most = 10 ** rng.integers(1, digits + 1, size=(count, 2))
        found = np.concatenate([found, rng.integers(0, most)])
        _, first = np.unique(np.sort(found, axis=1), axis=0, return_index=True)
        found = found[np.sort(first)]  # in the order drawn
    return found[:count]


def reversal(lengths: Sequence[int], symbols: int = 10, n: int = 10_000, seed: int = 0) -> Pairs:
    """n random strings of the first ``symbols`` letters, "abca" -> "acba"; each of ``lengths``
    equally often.

    To test, ask for another seed, and for lengths where two draws hardly ever agree (10 letters: 5
    and up).
    """
    symbols, n = size(symbols, "reversal: symbols", 1), whole(n, "reversal: n", 0, MOST)
    if symbols > len(ascii_lowercase):
        raise ValueError(
            f"reversal: symbols={symbols} must be 1 to {len(ascii_lowercase)}: they are letters"
        )
    lengths = [
        whole(length, f"reversal: lengths[{i}]", 0, LONGEST)
        for i, length in enumerate(sizes(lengths, "reversal: lengths"))
    ]
    if not lengths:
        raise ValueError(
            "reversal: lengths=() must be one or more numbers of symbols, such as range(1, 21)"
        )
    rng = np.random.default_rng(size(seed, "reversal: seed"))
    letters = Vocabulary(ascii_lowercase[:symbols])
    chosen = rng.permutation(np.resize(lengths, n))
    texts = [
        "".join(ascii_lowercase[i] for i in rng.integers(symbols, size=length)) for length in chosen
    ]
    return Pairs.of([(text, text[::-1]) for text in texts], letters, letters)


def sorting(length: int = 6, symbols: int = 3, seed: int = 0) -> tuple[Pairs, Pairs]:
    """(train, test): every string of ``length`` digits, each once, "201100" -> "000112"; a quarter
    is held out.

    minGPT draws such strings at random and splits them by a hash: 5,000 test questions are the same
    180 asked again and again. Of 6 digits out of 3 there are only 729, so each is here once.
    """
    length, symbols = size(length, "sorting: length"), size(symbols, "sorting: symbols")
    too_many = length > 20 and symbols > 1 or length > 10**6 or symbols**length > 10**6
    if length < 1 or not 1 <= symbols <= 10 or too_many:
        raise ValueError(
            f"sorting: length={length} and symbols={symbols} make {symbols}**{length} strings; "
            "length must be at least 1, symbols 1 to 10, and the strings at most a million"
        )
    rng = np.random.default_rng(size(seed, "sorting: seed"))
    digits = Vocabulary(str(i) for i in range(symbols))
    texts = [(text, sorted(text)) for text in product(digits.symbols, repeat=length)]
    return Pairs.of(texts, digits, digits).split(rng.permutation(len(texts)) < len(texts) // 4, rng)
