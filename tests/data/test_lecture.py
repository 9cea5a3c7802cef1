"""The lecture's sentences: a bag of words cannot distinguish them, and every test word occurs in
training in the same role."""

from collections import defaultdict

import pytest

from tinycv.data import Pairs, Vocabulary, bag_ceiling, lecture
from tinycv.data.lecture import CITIES, PEOPLE, WATER


def texts(pairs):
    return [
        ("".join(source), " ".join(target))
        for source, target in map(pairs.texts, range(len(pairs)))
    ]


def neighbours(english):
    """Each word with the word before it: (leaving, Beijing) and (for, Beijing) are the two roles of
    Beijing in a journey."""
    words = english.split()
    return set(zip(["", *words], words, strict=False))


@pytest.fixture(scope="module", params=range(3))
def split(request):
    """(train, test) of one seed."""
    return lecture(seed=request.param)


@pytest.fixture(scope="module")
def translations(split):
    """The same two, as (Chinese, English)."""
    return [texts(part) for part in split]


def test_the_lectures_sentences_are_in_the_test_set_alone(translations):
    train, test = map(dict, translations)
    for chinese, english in {
        "我要离开北京去天津。": "I am leaving Beijing for Tianjin .",
        "我要离开天津去北京。": "I am leaving Tianjin for Beijing .",
        "上海自来水": "Shanghai tap water",
        "水来自海上": "water comes from the sea",
        "水来自上海": "water comes from Shanghai",
    }.items():
        assert test[chinese] == english
        assert chinese not in train and english not in train.values()


def test_every_tested_sentence_shares_its_bag_with_another_of_different_meaning(translations):
    meanings = defaultdict(set)
    for chinese, english in translations[1]:
        meanings[tuple(sorted(chinese))].add(english)
    assert all(len(english) >= 2 for english in meanings.values())


def test_a_bag_of_words_can_translate_at_most_half_of_the_test_set(split):
    assert 0.49 < bag_ceiling(split[1]) <= 0.5


def test_bag_ceiling_counts_the_most_frequent_translation_of_each_bag():
    words = Vocabulary("abxyz")
    pairs = Pairs.of([("ab", "x"), ("ba", "x"), ("ba", "y"), ("a", "z")], words, words)
    assert bag_ceiling(pairs) == 3 / 4


def test_held_out_pairs_never_occur_together_in_training(translations):
    train, test = map(dict, translations)
    for chinese in test.keys() - set(WATER):
        words = [word for word in (*CITIES, *PEOPLE) if word in chinese]
        assert len(words) == 2
        assert not [seen for seen in train if all(word in seen for word in words)]


def test_every_test_word_follows_the_same_word_in_training(translations):
    train, test = (
        set().union(*(neighbours(english) for _, english in part)) for part in translations
    )
    assert (
        {("leaving", "Beijing"), ("for", "Beijing"), ("the", "sea"), ("", "Shanghai")}
        <= test
        <= train
    )


def test_every_word_and_character_is_seen_in_training(translations):
    train, test = translations
    assert set("".join(c for c, _ in test)) <= set("".join(c for c, _ in train))
    assert {w for _, e in test for w in e.split()} <= {w for _, e in train for w in e.split()}


def test_no_sentence_occurs_twice_and_each_has_one_translation(translations):
    asked = translations[0] + translations[1]
    assert (
        len({chinese for chinese, _ in asked})
        == len({english for _, english in asked})
        == len(asked)
    )


def test_a_seed_chooses_the_other_held_out_pairs():
    first, again, other = (set(texts(lecture(seed=seed)[1])) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("held", [0, 6])
def test_too_few_or_too_many_held_out_pairs_are_refused(held):
    with pytest.raises(ValueError, match=f"held_out={held} must be 1 to 5"):
        lecture(held_out=held)
