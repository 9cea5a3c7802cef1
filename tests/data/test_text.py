"""Vocabulary, padding and pairs: decoding inverts encoding, and SOS, EOS and PAD are where a
decoder expects them."""

import ast
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv.data
from tinycv.data import EOS, PAD, SOS, Pairs, Vocabulary, padded

WORDS = ["the", "cat", "sees", "dog", "."]
sentences = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), max_size=5)


@given(st.lists(st.sampled_from(WORDS)))
def test_decoding_inverts_encoding(words):
    vocabulary = Vocabulary(WORDS)
    assert vocabulary.decode(vocabulary.encode(words)) == words


def test_a_string_is_encoded_by_characters():
    assert Vocabulary("ab").encode("bab") == [4, 3, 4]


def test_the_length_of_a_vocabulary_counts_pad_sos_and_eos():
    assert len(Vocabulary("ab")) == 5
    assert max(Vocabulary("ab").encode("ab")) == 4


def test_decoding_stops_at_the_first_eos_and_skips_pad_and_sos():
    assert Vocabulary("ab").decode([SOS, 3, PAD, 4, EOS, 3, 3]) == ["a", "b"]


def test_an_unknown_symbol_is_named():
    with pytest.raises(
        ValueError, match=r"text is \['a', 'd', 'b', 'c'\], and 'c', 'd' not among .* 2 symbols"
    ):
        Vocabulary("ab").encode("adbc")


@pytest.mark.parametrize("number", [5, -1])
def test_a_number_beyond_the_vocabulary_is_refused(number):
    with pytest.raises(ValueError, match=f"{number} is no symbol .* 0 to 4"):
        Vocabulary("ab").decode([3, number])


def test_a_symbol_given_twice_is_refused():
    with pytest.raises(ValueError, match="symbols repeats 'a'; a symbol has one number"):
        Vocabulary("aba")


@pytest.mark.parametrize(
    "symbols",
    ["abcdefghij " * 20_000, [f"w{i % 150_000}" for i in range(200_000)], ["w" * 100_000] * 3],
    ids=["letters", "words", "one long word"],
)
def test_many_repeats_are_found_quickly_and_named_briefly(symbols):
    began = time.perf_counter()
    with pytest.raises(ValueError, match="symbols repeats '") as caught:
        Vocabulary(symbols)
    # counting each symbol in the whole list took hours
    assert time.perf_counter() - began < 5
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    ["abcd" * 100_000, [f"w{i}" for i in range(100_000)], ["w" * 100_000]],
    ids=["letters", "words", "one long word"],
)
def test_a_text_of_unknown_symbols_is_named_briefly(text):
    with pytest.raises(ValueError, match="not among the vocabulary's 3 symbols") as caught:
        Vocabulary("abc").encode(text)
    assert len(str(caught.value)) < 500


@given(st.lists(st.lists(st.integers(3, 9), max_size=6), max_size=5))
def test_padding_only_adds_pad_at_the_end(sequences):
    rows = padded(sequences)
    assert rows.dtype == np.int64
    assert rows.shape == (len(sequences), max(map(len, sequences), default=0))
    for row, sequence in zip(rows, sequences, strict=True):
        assert row.tolist() == sequence + [PAD] * (len(row) - len(sequence))


@given(sentences, sentences)
def test_a_source_ends_with_eos_and_a_target_is_between_sos_and_eos(sources, targets):
    texts = list(zip(sources, targets, strict=False))
    pairs = Pairs.of(texts, Vocabulary(WORDS), Vocabulary(WORDS))
    assert len(pairs) == len(texts)
    for i, (source, target) in enumerate(texts):
        assert pairs.texts(i) == (source, target)
        assert pairs.source[i, len(source)] == EOS
        assert pairs.target[i, 0] == SOS
        assert pairs.target[i, 1 + len(target)] == EOS
        assert (pairs.source[i] == EOS).sum() == (pairs.target[i] == EOS).sum() == 1


def test_chosen_pairs_keep_their_width_and_their_vocabularies():
    pairs = Pairs.of([("a", "b"), ("bb", ""), ("abab", "aa")], Vocabulary("ab"), Vocabulary("ab"))
    some = pairs[np.array([1, 0])]
    assert [some.texts(i) for i in range(2)] == [(["b", "b"], []), (["a"], ["b"])]
    assert (some.source.shape, some.target.shape) == ((2, 5), (2, 4))
    assert len(pairs[pairs.source[:, 1] == EOS]) == 1
    assert len(pairs[1:]) == 2


def test_a_single_number_as_index_is_refused_and_texts_is_named():
    with pytest.raises(TypeError, match=r"texts\(i\) reads one"):
        Pairs.of([("a", "b")], Vocabulary("ab"), Vocabulary("ab"))[0]


def test_only_the_densities_import_tensors():
    exact = {"densities", "components", "noised_box", "shapes"}
    files = [
        file for file in Path(tinycv.data.__file__).parent.glob("*.py") if file.stem not in exact
    ]
    imported = {
        name
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(a.name for a in node.names)]
    }
    assert len(files) > 5 and "numpy" in imported
    above = [
        name
        for name in imported - {"tinycv.engine.arguments", "tinycv.engine.torch_names"}
        if name.startswith(("tinycv", "cupy"))
    ]
    assert not [name for name in above if not name.startswith("tinycv.data")]


def test_masked_arrays_are_no_pairs():
    ids, words = np.ma.masked_array([[3, 4], [3, 3]], [[False, True]] * 2), Vocabulary("ab")
    for source, target in ((ids, ids.data), (ids.data, ids)):
        with pytest.raises(
            TypeError, match="Pairs: .* is MaskedArray .* a plain array of whole numbers"
        ):
            Pairs(source, target, words, words)
    pairs = Pairs(ids.data, ids.data, words, words)
    with pytest.raises(TypeError, match="split: test is MaskedArray .* a plain array of 2 bools"):
        pairs.split(np.ma.masked_array([True, False], [True, False]), np.random.default_rng(0))


@pytest.mark.parametrize(
    "index, words",
    [
        ([10**6], "runs from 1000000 to 1000000; there are 2 pairs"),
        ([-3, 0], "runs from -3 to 0"),
        ([0, 2], "runs from 0 to 2"),
        ([True], "has 1 bools; there must be 2"),
        ([True] * 3, "has 3 bools"),
    ],
    ids=["far", "below", "end", "short mask", "long mask"],
)
def test_an_index_out_of_range_is_named(index, words):
    ids, letters = np.full((2, 2), 3), Vocabulary("ab")
    pairs = Pairs(ids, ids, letters, letters)
    with pytest.raises((IndexError, ValueError), match=f"Pairs: the index {words}"):
        pairs[index]
    assert len(pairs[[1, -2]]) == len(pairs[[True, True]]) == 2 and len(pairs[[]]) == 0
