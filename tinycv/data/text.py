"""Vocabulary, padding and pairs of sentences: text as rows of integers of equal length.

    source   (N, S)   23+7     ->  [symbols ..., EOS, PAD ...]           what the encoder reads
    target   (N, T)   30       ->  [SOS, symbols ..., EOS, PAD ...]      what the decoder writes

Three numbers are reserved in every vocabulary. PAD fills up short rows and has no meaning. SOS,
start of sequence, is what a decoder reads before it has written anything. EOS, end of sequence,
marks the end of a sentence. A decoder stops when it has written EOS, so its output may be longer or
shorter than its input (Sutskever et al. 2014, section 2).

Teacher forcing: the decoder reads target[:, :-1], the correct symbols so far, and at each position
predicts the next one, target[:, 1:]. The loss ignores PAD: cross_entropy(..., ignore_index=PAD).

Read next: arithmetic.py, dates.py and lecture.py, which make such pairs.
Shapes: N pairs; S and T are the lengths of the longest source and target, with SOS and EOS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tinycv.data.inputs import array
from tinycv.engine.arguments import listed, number_kind, shown, size, sizes

PAD, SOS, EOS = 0, 1, 2
FIRST = 3  # the number of the first symbol that is not one of these three


class Vocabulary:
    """The number of each symbol. A symbol is a string: a character or a word."""

    def __init__(self, symbols: Iterable[str]):
        self.symbols = strings(symbols, "Vocabulary: symbols")
        self.numbers = {symbol: number for number, symbol in enumerate(self.symbols, FIRST)}
        if len(self.numbers) < len(self.symbols):
            twice = [repr(symbol) for symbol, times in Counter(self.symbols).items() if times > 1]
            raise ValueError(
                f"Vocabulary: symbols repeats {listed(twice, 4)}; a symbol has one number, so it "
                "must occur once"
            )

    def __len__(self) -> int:
        """How many numbers there are, including PAD, SOS and EOS: the number of rows of an
        embedding, or of logits of an output layer."""
        return FIRST + len(self.symbols)

    def encode(self, text: Iterable[str]) -> list[int]:
        """The numbers of the characters of a string, or of the words of a list."""
        text = strings(text, "encode: text")
        unknown = sorted(set(text) - self.numbers.keys())
        if unknown:
            raise ValueError(
                f"encode: text is {shown(text)}, and {listed(map(repr, unknown), 4)} not among the "
                f"vocabulary's {len(self.symbols)} symbols; make the vocabulary from all texts, "
                "the test texts included"
            )
        return [self.numbers[symbol] for symbol in text]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The symbols up to the first EOS; PAD and SOS are left out."""
        symbols = []
        for number in sizes(numbers, "decode: numbers", least=-(2**63)):
            if number == EOS:
                break
            if not 0 <= number < len(self):
                raise ValueError(
                    f"{number} is no symbol of this vocabulary: its numbers are 0 to "
                    f"{len(self) - 1}"
                )
            if number >= FIRST:
                symbols.append(self.symbols[number - FIRST])
        return symbols


def strings(values: Iterable[str], what: str) -> list[str]:
    """The strings of a list, or the characters of a string."""
    if isinstance(values, (set, frozenset)) and all(isinstance(value, str) for value in values):
        values = sorted(values)  # the order of a set of strings changes from run to run
    elif isinstance(values, Iterable) and getattr(values, "ndim", 1):
        values = list(values)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{what} is {shown(values)}; it must be a string, or a list of strings")
    return values


def padded(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Sequences of different lengths as the rows of one array (N, T) int64: T is the length of the
    longest, and PAD fills the rest."""
    if not isinstance(sequences, (list, tuple)) or not all(
        hasattr(s, "__len__") for s in sequences
    ):
        raise TypeError(
            f"padded: sequences is {shown(sequences)}; it must be a list of lists of whole numbers"
        )
    sequences = [
        sizes(s, f"padded: sequences[{i}]", least=-(2**63)) for i, s in enumerate(sequences)
    ]
    rows = np.full((len(sequences), max(map(len, sequences), default=0)), PAD, np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences: source (N, S) and target (N, T), both int64, with their vocabularies."""

    source: np.ndarray
    target: np.ndarray
    source_words: Vocabulary
    target_words: Vocabulary

    def __post_init__(self) -> None:
        for name, ids, words in (
            ("source", self.source, self.source_words),
            ("target", self.target, self.target_words),
        ):
            if number_kind(ids) not in ("i", "u") or ids.ndim != 2:
                raise TypeError(
                    f"Pairs: {name} is {shown(ids)}; it must be a plain array of whole numbers (N, "
                    "length)"
                )
            if not isinstance(words, Vocabulary):
                raise TypeError(f"Pairs: {name}_words is {shown(words)}; it must be a Vocabulary")
        if len(self.source) != len(self.target):
            raise ValueError(
                f"Pairs: source has {len(self.source)} rows and target {len(self.target)}; they "
                "must have equally many"
            )

    @classmethod
    def of(
        cls,
        texts: Sequence[tuple[Iterable[str], Iterable[str]]],
        source_words: Vocabulary,
        target_words: Vocabulary,
    ) -> Pairs:
        """Pairs made from (source, target) texts, each a string of characters or a list of
        words."""
        for name, words in (("source_words", source_words), ("target_words", target_words)):
            if not isinstance(words, Vocabulary):
                raise TypeError(f"Pairs.of: {name} is {shown(words)}; it must be a Vocabulary")
        pairs = isinstance(texts, (list, tuple)) and all(
            isinstance(t, (tuple, list)) and len(t) == 2 for t in texts
        )
        if not pairs:
            raise TypeError(
                f"Pairs.of: texts is {shown(texts)}; it must be a list of (source, target)"
            )
        source = padded([[*source_words.encode(source), EOS] for source, _ in texts])
        target = padded([[SOS, *target_words.encode(target), EOS] for _, target in texts])
        return cls(source, target, source_words, target_words)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray | slice) -> Pairs:
        """The chosen pairs, in arrays of the same widths. index: a slice, an array of numbers, or a
        mask; not a single number, for which there is texts(i)."""
        if not isinstance(index, slice):
            index = array(
                index,
                "Pairs: the index",
                "a slice, or numbers or bools (N,); texts(i) reads one pair",
            )
            # NumPy turns an empty list into an array of floats
            index = index if index.size else index.astype(np.int64)
            if index.ndim != 1 or index.dtype.kind == "f":
                raise TypeError(
                    f"Pairs are chosen by a slice or an array of numbers, not by {shown(index)}; "
                    "texts(i) reads one"
                )
            count = len(self)
            if index.dtype.kind == "b" and len(index) != count:
                raise ValueError(
                    f"Pairs: the index has {len(index)} bools; there must be {count}, one per pair"
                )
            if (
                index.dtype.kind in "iu"
                and index.size
                and not -count <= index.min() <= index.max() < count
            ):
                raise IndexError(
                    f"Pairs: the index runs from {index.min()} to {index.max()}; there are {count} "
                    "pairs"
                )
        return Pairs(self.source[index], self.target[index], self.source_words, self.target_words)

    def texts(self, i: int) -> tuple[list[str], list[str]]:
        """Pair i as text: the symbols of its source and the symbols of its target."""
        i = size(i, "texts: i", -len(self))
        if i >= len(self):
            raise IndexError(f"texts: i is {i}; there are {len(self)} pairs, 0 to {len(self) - 1}")
        return self.source_words.decode(self.source[i]), self.target_words.decode(self.target[i])

    def split(self, test: np.ndarray, rng: np.random.Generator) -> tuple[Pairs, Pairs]:
        """(train, test), each in random order. test: (N,) bool, True for the pairs of the test
        set."""
        if number_kind(test) != "b" or test.shape != (len(self),):
            raise TypeError(
                f"split: test is {shown(test)}; it must be a plain array of {len(self)} bools"
            )
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"split: rng is {shown(rng)}; it must be np.random.default_rng(seed)")
        return self[rng.permutation(np.flatnonzero(~test))], self[
            rng.permutation(np.flatnonzero(test))
        ]
