"""Word tokenizer for prompts in English and Chinese: a text becomes a row of word numbers.

    a small green triangle top left   ->  [3, 4, 7, 12, 14, 15, PAD, PAD]
    左上角的绿色小三角形               ->  [33, 21, 28, 31, 25, PAD, PAD, PAD]

English is split at spaces. Chinese has no spaces, so a text is cut from left to right, and each
piece is the longest word of the vocabulary that matches there (forward maximum matching). Upper
case is read as lower case, a hyphen between Latin letters as a space, and punctuation at the edges
of words is left out: "A circle, top-left." is read as "a circle top left". A mark that is a word of
the vocabulary stays.

DALL-E and CLIP split texts into pieces of words (byte-pair encoding, Sennrich et al. 2016), because
a caption from the web may hold any word. The captions of shapes_and_words.py use a few dozen words,
so here each word is one number. A word that is not in the vocabulary is an error, whose message
names the word.

differs from ``Pairs`` of text.py: no SOS and no EOS are added. A text encoder reads a whole row at
once, and PAD is enough to show where the text ends.

Read first: text.py.   Used in: sequence/text_encoder.py.
Shapes: N texts, T = length, the number of words that fit into a row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np

from tinycv.data import inputs
from tinycv.data.text import PAD, Vocabulary
from tinycv.engine.arguments import listed, shown

# How alike two words must be (0 to 1) before one is proposed for the other. A Chinese word of two
# characters has a likeness of 0.5 to one that shares a character. In Latin letters "dog" and "top"
# are 0.33 alike, "word" and "red" 0.57, and "rad" and "red" 0.67.
LIKENESS, LIKENESS_OF_CHINESE = 0.65, 0.5
FEW = 60  # an error lists all words of a script if there are at most so many
# What may stand at the edge of a word without being a part of it.
PUNCTUATION = ".,!?;:\"'()“”‘’„«»。，！？；：、（）「」《》"
# The Unicode names of the scripts, and the names that people use.
SCRIPTS = {"LATIN": "Latin letters", "CJK": "Chinese"}


class WordTokenizer:
    """Texts as rows of word numbers, and back. words: every word that occurs, each once."""

    def __init__(self, words: Iterable[str]):
        if not isinstance(words, (list, tuple, set, frozenset)) or not words:
            raise TypeError(f"WordTokenizer: words is {shown(words)}; it must be a list of words")
        for word in words:
            if not isinstance(word, str) or not word or any(c.isspace() for c in word):
                raise ValueError(
                    f"WordTokenizer: words holds {shown(word)}; a word is a text without spaces, "
                    "of at least one character"
                )
            if len({is_chinese(c) for c in word}) > 1:
                raise ValueError(
                    f"WordTokenizer: words holds {shown(word)}; a word must be Chinese as a whole "
                    "or not at all"
                )
        # The order of a set of strings changes from run to run, and with it every number.
        ordered = sorted(words) if isinstance(words, (set, frozenset)) else words
        self.vocabulary = Vocabulary([word.lower() for word in ordered])
        self.longest = max(map(len, words))
        self.ignored = "".join(mark for mark in PUNCTUATION if mark not in self.vocabulary.numbers)
        self.scripts = {script_of(character) for word in words for character in word}

    def __len__(self) -> int:
        """How many numbers there are, including PAD, SOS and EOS: the rows of an embedding."""
        return len(self.vocabulary)

    def encode(self, texts: list[str] | str, length: int) -> np.ndarray:
        """Word numbers (N, length) int64 of N texts, or (1, length) of one. PAD fills up a row."""
        length = inputs.whole(length, "encode: length", 1, 100_000)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
            raise TypeError(
                f"encode: texts is {shown(texts)}; it must be a text or a list of texts"
            )
        words_of_texts = [self.split(text) for text in texts]
        most = max(map(len, words_of_texts), default=0)
        if most > length:
            text = next(t for t, w in zip(texts, words_of_texts, strict=True) if len(w) == most)
            raise ValueError(
                f"encode: texts holds {shown(text)} of {most} words; length is {length}, so it "
                f"must have at most {length}"
            )
        ids = np.full((len(texts), length), PAD, np.int64)
        for row, words in zip(ids, words_of_texts, strict=True):
            row[: len(words)] = self.vocabulary.encode(words)
        return ids

    def split(self, text: str) -> list[str]:
        """The words of one text. ValueError if it has none, or if one of them is unknown."""
        text = inputs.text(text, "encode: a text of texts")
        if not text.strip():
            raise ValueError(
                f"encode: texts holds the empty prompt {text!r}; a prompt must have at least one "
                "word"
            )
        self._refuse_other_scripts(text)
        words = []
        for run in self._runs(text.lower()):
            words += self._split_run(run)
        if not words:
            raise ValueError(
                f"encode: texts holds {shown(text)}, which is punctuation alone; a prompt must "
                "have at least one word"
            )
        unknown = [word for word in dict.fromkeys(words) if word not in self.vocabulary.numbers]
        if unknown:
            proposals = {word: self._proposal(word) for word in unknown}
            named = [
                f"{shown(word)} (did you mean {near!r}?)" if near else shown(word)
                for word, near in proposals.items()
            ]
            lost = [word for word, near in proposals.items() if not near]
            raise ValueError(
                f"encode: texts holds {shown(text)}, of which this tokenizer does not know "
                f"{listed(named, 8)}{self._known_words(lost)}"
            )
        return words

    def decode(self, ids: np.ndarray) -> list[str]:
        """The texts of word numbers (N, T). English words are joined by spaces, Chinese ones are
        not."""
        ids = inputs.array(ids, "decode: ids", "word numbers (N, T)", "iu", ndim=2)
        return [joined(self.vocabulary.decode(row)) for row in ids]

    def _split_run(self, run: str) -> list[str]:
        """The words of a text without spaces: Chinese by the longest match, other scripts whole.
        What matches no word is returned too, as one piece, so that an error can name it."""
        words, start, unmatched = [], 0, ""
        while start < len(run):
            if is_chinese(run[start]):
                word = self._longest_match(run, start)
            else:
                word = _until_chinese(run, start)
            if word:
                words += [unmatched] * bool(unmatched) + [word]
                unmatched = ""
            else:
                unmatched += run[start]
            start += max(len(word), 1)
        return words + [unmatched] * bool(unmatched)

    def _longest_match(self, run: str, start: int) -> str:
        """The longest word of the vocabulary that begins at ``start``, or the empty text."""
        for stop in range(min(start + self.longest, len(run)), start, -1):
            if run[start:stop] in self.vocabulary.numbers:
                return run[start:stop]
        return ""

    def _runs(self, text: str) -> list[str]:
        """The parts of a text between spaces, without punctuation at their edges. A part that is a
        word of the vocabulary as it is, such as "t-shirt", stays whole."""
        runs = []
        for part in _without_marks_in_chinese(text, self.ignored).split():
            if part in self.vocabulary.numbers:
                runs.append(part)
                continue
            part = part.strip(self.ignored)
            known = part in self.vocabulary.numbers
            pieces = [part] if known else part.replace("-", " ").split()
            runs += [piece.strip(self.ignored) for piece in pieces]
        return [run for run in runs if run]

    def _proposal(self, word: str) -> str | None:
        """The known word that is nearest to an unknown one, if one is near enough."""
        likeness = LIKENESS_OF_CHINESE if is_chinese(word[0]) else LIKENESS
        nearest = get_close_matches(word[:100], self.vocabulary.symbols, 1, likeness)
        return nearest[0] if nearest else None

    def _known_words(self, lost: list[str]) -> str:
        """The end of an error: all words of the scripts of the words ``lost``, which have no
        proposal, if they are few."""
        of_script: dict[bool, list[str]] = {}
        for symbol in self.vocabulary.symbols:
            of_script.setdefault(is_chinese(symbol[0]), []).append(symbol)
        wanted = dict.fromkeys(is_chinese(word[0]) for word in lost)
        lists = [
            f"; its words in {'Chinese' if chinese else 'Latin letters'} are "
            + listed(of_script[chinese], FEW)
            for chinese in wanted
            if 0 < len(of_script.get(chinese, ())) <= FEW
        ]
        return "".join(lists)

    def _refuse_other_scripts(self, text: str) -> None:
        """ValueError if no letter of the text is of a script in which the vocabulary has words."""
        scripts = {script_of(character) for character in text if character.isalpha()}
        if scripts and not scripts & self.scripts:
            raise ValueError(
                f"encode: texts holds {shown(text)}, written in {_named(scripts)}; this tokenizer "
                f"does not know that language: its words are written in {_named(self.scripts)}"
            )


def is_chinese(character: str) -> bool:
    """Is this a Chinese character (of Unicode's main block)?"""
    return "\u4e00" <= character <= "\u9fff"


def script_of(character: str) -> str:
    """The script of a character, by the first word of its Unicode name: LATIN, CJK, CYRILLIC."""
    return unicodedata.name(character, "UNKNOWN").split()[0]


def joined(words: list[str]) -> str:
    """The words as a text. A space separates two words unless both are Chinese."""
    text = ""
    for word in words:
        both_chinese = bool(text) and is_chinese(text[-1]) and is_chinese(word[0])
        text += word if both_chinese or not text else " " + word
    return text


def _until_chinese(run: str, start: int) -> str:
    stop = start
    while stop < len(run) and not is_chinese(run[stop]):
        stop += 1
    return run[start:stop]


def _without_marks_in_chinese(text: str, marks: str) -> str:
    """The text with a space in place of each of ``marks`` beside a Chinese character, because there
    the edges of words are not marked by spaces."""
    characters = list(text)
    for i, character in enumerate(text):
        beside = text[max(0, i - 1) : i] + text[i + 1 : i + 2]
        if character in marks and any(map(is_chinese, beside)):
            characters[i] = " "
    return "".join(characters)


def _named(scripts: set[str]) -> str:
    return " and ".join(sorted(SCRIPTS.get(script, script.capitalize()) for script in scripts))
