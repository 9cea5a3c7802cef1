"""Pinyin: the table has every character that the data use, and an error names any other
character."""

import pytest

from tinycv.data.dates import vocabularies as of_dates
from tinycv.data.lecture import vocabularies as of_the_lecture
from tinycv.data.pinyin import PINYIN, is_chinese, romanised


@pytest.fixture
def used():
    return {
        symbol
        for words in (*of_dates("iso"), *of_dates("english"), *of_the_lecture())
        for symbol in words.symbols
    }


def test_every_chinese_character_of_the_data_can_be_written_in_latin_letters(used):
    assert len([symbol for symbol in used if is_chinese(symbol)]) > 60
    assert not [symbol for symbol in used if is_chinese(romanised(symbol))]


def test_every_character_of_the_table_is_used_by_the_data(used):
    assert used > PINYIN.keys()


def test_characters_are_replaced_by_their_pinyin():
    assert romanised("2026年3月") == "2026nián3yuè"
    assert romanised("Beijing") == "Beijing"
    assert romanised("") == ""


def test_a_character_without_an_entry_is_named():
    with pytest.raises(ValueError, match=r"\['龘'\] of '龘年'"):
        romanised("龘年")
