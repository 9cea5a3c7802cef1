"""Word tokenizer: words of both languages as numbers and back, and what it says about prompts that
it cannot read."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wrong_calls import riddles

from tinycv.data.shapes_and_words import words
from tinycv.data.text import FIRST, PAD
from tinycv.data.tokenizer import WordTokenizer, is_chinese, joined, script_of

ENGLISH, CHINESE = words(["en"]), words(["zh"])
BOTH = WordTokenizer(ENGLISH + CHINESE)


def test_a_text_becomes_the_numbers_of_its_words_and_pad():
    ids = WordTokenizer(["a", "red", "circle"]).encode("a circle", 4)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[FIRST, FIRST + 2, PAD, PAD]]


def test_the_length_counts_pad_sos_and_eos():
    assert len(BOTH) == len(ENGLISH) + len(CHINESE) + 3


def test_chinese_is_cut_by_the_longest_match():
    tokenizer = WordTokenizer(["左", "左上角", "上", "角", "的"])
    assert tokenizer.split("左上角的左上") == ["左上角", "的", "左", "上"]


def test_english_and_chinese_may_stand_side_by_side():
    assert BOTH.split("red圆形") == ["red", "圆形"]
    assert BOTH.split("a 红色 circle") == ["a", "红色", "circle"]


def test_capitals_and_further_spaces_do_not_matter():
    np.testing.assert_array_equal(
        BOTH.encode("  A Red  CIRCLE ", 5), BOTH.encode("a red circle", 5)
    )


@pytest.mark.parametrize(
    "text, plain",
    [
        ("A small red circle, top left.", "a small red circle top left"),
        ("a small red circle top-left", "a small red circle top left"),
        ("\"a red circle\" ; 'above' (a blue square)!", "a red circle above a blue square"),
        ("左上角的，红色小圆形。", "左上角的红色小圆形"),
        ("“红色圆形”、在蓝色方块左边！", "红色圆形在蓝色方块左边"),
    ],
)
def test_punctuation_at_the_edges_of_words_and_hyphens_do_not_matter(text, plain):
    assert BOTH.split(text) == BOTH.split(plain)


def test_punctuation_inside_a_word_is_no_edge_and_a_known_word_stays_whole():
    tokenizer = WordTokenizer(["t-shirt", "a", "don't", "etc."])
    assert tokenizer.split("a t-shirt, don't etc.") == ["a", "t-shirt", "don't", "etc."]
    with pytest.raises(ValueError, match=r"does not know 're\.d'"):
        BOTH.split("a re.d circle")


def test_a_mark_that_is_a_word_is_not_left_out():
    tokenizer = WordTokenizer(["a", "circle", "!", "？", "圆形"])
    assert tokenizer.split("a circle ! 圆形？") == ["a", "circle", "!", "圆形", "？"]
    with pytest.raises(ValueError, match="does not know 'circle!'"):
        tokenizer.split("a circle!")


@pytest.mark.parametrize("text", [".", "- -", "。，", "?! '"])
def test_a_prompt_of_punctuation_alone_is_refused(text):
    with pytest.raises(ValueError, match="punctuation alone; a prompt must have at least one word"):
        BOTH.encode(text, 4)


@pytest.mark.parametrize("word", ["dog", "pink", "word", "house"])
def test_a_word_like_no_other_gets_no_proposal_but_all_words_of_its_script(word):
    with pytest.raises(ValueError) as caught:
        BOTH.encode(f"a {word}", 4)
    said = str(caught.value)
    assert "did you mean" not in said and f"does not know '{word}'; its words in Latin" in said
    assert all(f" {known}" in said for known in ENGLISH) and CHINESE[0] not in said


def test_a_large_vocabulary_is_not_listed():
    tokenizer = WordTokenizer([f"x{i}" for i in range(61)])
    with pytest.raises(ValueError, match="does not know 'dog'$"):
        tokenizer.encode("dog", 4)


@given(st.lists(st.sampled_from(ENGLISH), min_size=1, max_size=8))
def test_decoding_inverts_encoding_in_english(chosen):
    assert BOTH.decode(BOTH.encode(" ".join(chosen), 8)) == [" ".join(chosen)]


@given(st.lists(st.sampled_from(CHINESE), min_size=1, max_size=8))
def test_decoding_returns_the_same_characters_in_chinese(chosen):
    assert BOTH.decode(BOTH.encode("".join(chosen), 30)) == ["".join(chosen)]


def test_a_row_of_pad_alone_is_the_empty_text():
    assert BOTH.decode(np.zeros((2, 3), np.int64)) == ["", ""]


def test_many_texts_become_rows_of_one_length():
    assert BOTH.encode(["a red circle", "红色圆形"], 6).shape == (2, 6)
    assert BOTH.encode([], 6).shape == (0, 6)


def test_all_unknown_words_are_named_with_the_nearest_known_one():
    with pytest.raises(ValueError) as caught:
        BOTH.encode("a smal pink triangel", 6)
    said = str(caught.value)
    assert (
        "'smal' (did you mean 'small'?)" in said and "'triangel' (did you mean 'triangle'?)" in said
    )
    assert "'pink'" in said and "'a'" not in said


def test_an_unknown_chinese_word_is_named_as_one_piece():
    with pytest.raises(ValueError, match=r"does not know '紫色' \(did you mean '.色'\?\)$"):
        BOTH.encode("紫色圆形在蓝色方块左边", 8)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused(text):
    with pytest.raises(ValueError, match="encode: texts holds the empty prompt"):
        BOTH.encode(text, 4)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="of 5 words; length is 4, so it must have at most 4"):
        BOTH.encode("a red red red circle", 4)


@pytest.mark.parametrize(
    "tokenizer, text, script",
    [
        (WordTokenizer(ENGLISH), "红色圆形", "Chinese"),
        (WordTokenizer(CHINESE), "a red circle", "Latin letters"),
        (BOTH, "красный круг", "Cyrillic"),
        (BOTH, "كبير", "Arabic"),
    ],
)
def test_a_prompt_in_a_script_without_known_words_is_told_so(tokenizer, text, script):
    with pytest.raises(ValueError, match=f"written in {script}; .* does not know that language"):
        tokenizer.encode(text, 6)


def test_a_prompt_of_digits_is_unknown_and_no_language():
    with pytest.raises(ValueError, match="does not know '123'"):
        BOTH.encode("123", 4)


def test_a_very_long_prompt_is_refused_briefly():
    with pytest.raises(ValueError) as caught:
        BOTH.encode("qwerty" * 50_000, 4)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "words, said",
    [
        (["red", "red"], "repeats 'red'"),
        (["two words"], "a word is a text without spaces"),
        ([""], "at least one character"),
        (["a红"], "Chinese as a whole or not at all"),
    ],
)
def test_words_that_are_no_words_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        WordTokenizer(words)


def test_a_script_is_named_by_unicode():
    assert [script_of(c) for c in "a红к"] == ["LATIN", "CJK", "CYRILLIC"]
    assert is_chinese("红") and not is_chinese("a")


def test_words_are_joined_as_each_language_does():
    assert joined(["a", "red"]) == "a red" and joined(["红色", "圆形"]) == "红色圆形"
    assert joined(["a", "红色"]) == "a 红色" and joined([]) == ""


GOOD = {
    "WordTokenizer": (WordTokenizer, {"words": ["a", "红"]}),
    "encode": (BOTH.encode, {"texts": ["a red circle"], "length": 4}),
    "encode of one": (BOTH.encode, {"texts": "红色圆形", "length": 4}),
    "decode": (BOTH.decode, {"ids": np.array([[3, 4, 0]])}),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_error_of_a_wrong_call_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(function, good, name.split()[0], "vocabulary")
    assert not found, "\n".join(found)


def test_a_set_of_words_gives_the_same_numbers_in_every_process():
    """Python changes the order of a set of strings from run to run."""
    program = (
        "from tinycv.data.text import Vocabulary; from tinycv.data.tokenizer import WordTokenizer;"
        "words = set('the order of a set of strings is another one in each run'.split());"
        "print(WordTokenizer(words).vocabulary.symbols, Vocabulary(words).symbols)"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
