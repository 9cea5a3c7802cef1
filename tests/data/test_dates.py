"""Date translation: every text means one day, no test day occurs in training, and the links of the
alignment are right."""

import sys
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeds import SEED

from tinycv.data import alignment_error, copies, dates
from tinycv.data.alignment import day_of
from tinycv.data.dates import FIRST_DAY, LAST_DAY, spell, spelled, translations, vocabularies

days = st.dates(FIRST_DAY, LAST_DAY)
LEAP_YEAR = [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]


def texts(pairs):
    return [tuple("".join(side) for side in pairs.texts(i)) for i in range(len(pairs))]


@pytest.fixture(scope="module", params=["iso", "english"])
def split(request):
    return dates(SEED, request.param, days=80)


@pytest.mark.parametrize("target", ["iso", "english"])
def test_no_text_of_a_year_means_two_days(target):
    meanings = {}
    for day in LEAP_YEAR:
        for source, _ in translations(day, target):
            assert "2024" in source  # so that no text of another year is the same
            assert meanings.setdefault(source, day) == day, source


@pytest.mark.parametrize("target", ["iso", "english"])
def test_a_text_has_one_translation(target):
    for day in LEAP_YEAR:
        sources = [source for source, _ in translations(day, target)]
        assert len(set(sources)) == len(sources) >= 7


def test_ambiguous_dates_are_dropped_only_if_written_in_digits():
    kept, dropped = (
        dict(translations(date(2026, 3, 25), "iso")),
        dict(translations(date(2026, 3, 5), "iso")),
    )
    assert kept["3/25/2026"] == kept["25/3/2026"] == "2026-03-25"
    assert "3/5/2026" not in dropped and "2026/3/5" in dropped
    assert "7/7/2026" in dict(translations(date(2026, 7, 7), "iso"))


def test_english_has_the_weekday_only_if_the_chinese_has_it():
    texts_of_day = dict(translations(date(2026, 3, 5), "english"))
    assert texts_of_day["2026年3月5日"] == texts_of_day["2026年三月5日"] == "March 5, 2026"
    assert (
        texts_of_day["2026年3月5日星期四"]
        == texts_of_day["2026年3月5日（周四）"]
        == "Thursday, March 5, 2026"
    )


def test_no_test_day_occurs_in_training_in_any_form(split):
    train, test = ({target[-12:] for _, target in texts(part)} for part in split)
    assert len({day_of(target) for _, target in texts(split[1])}) == 10
    assert not train & test


def test_both_parts_have_the_same_vocabularies_for_all_days():
    (train, _), (_, test) = dates(days=8, seed=1), dates(days=80, seed=2)
    assert train.source_words.symbols == test.source_words.symbols
    assert set("0123456789-") == set(train.target_words.symbols)


@given(days)
def test_the_vocabulary_spells_every_day_of_the_two_centuries(day):
    for target in ("iso", "english"):
        reads, writes = vocabularies(target)
        for source, answer in translations(day, target):
            assert "".join(reads.decode(reads.encode(source))) == source
            assert writes.encode(answer)


@given(
    days,
    st.sampled_from(
        [("zh", "y年M月d日EEEE"), ("zh", "y年MMMMd日"), ("en", "EEE, MMM d, y"), ("en_GB", "d/M/y")]
    ),
)
def test_a_date_spelled_field_by_field_equals_babels_spelling(day, form):
    from babel.dates import format_date

    assert spell(form, day) == format_date(day, form[1], form[0])


def test_a_seed_determines_the_dates():
    assert texts(dates(days=8, seed=1)[1]) == texts(dates(days=8, seed=1)[1])
    assert texts(dates(days=8, seed=1)[1]) != texts(dates(days=8, seed=2)[1])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dates(target="french"), "target is 'french'; it must be"),
        (lambda: dates(days=3), "days=3 must be from 8 to"),
        (lambda: dates(days=73_000), "days=73000"),
    ],
)
def test_arguments_that_make_no_task_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_babel_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel.dates", None)
    spelled.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"Babel.*pip install Babel"):
        dates(days=8)


# ── alignment: what was copied from where ────────────────────────────────────────────────────────


def test_units_are_copied_from_units_and_a_padded_zero_has_no_link():
    sure, _ = copies("2026年3月15日", "2026-03-15")
    assert sure == {(0, 0), (1, 1), (2, 2), (3, 3), (6, 5), (8, 7), (9, 8)}


def test_an_equal_digit_of_the_same_field_is_a_possible_link_but_not_a_sure_one():
    sure, possible = copies("2026年3月15日", "2026-03-15")
    assert possible - sure == {(0, 2), (2, 0)}


def test_a_month_written_as_a_word_has_no_links():
    sure, _ = copies("2026年3月5日星期四", "Thursday, March 5, 2026")
    assert sure == {(16, 7), (19, 0), (20, 1), (21, 2), (22, 3)}
    assert copies("2026年十一月5日", "2026-11-05")[0] == {(0, 0), (1, 1), (2, 2), (3, 3), (9, 8)}


@given(days, st.sampled_from(["iso", "english"]))
def test_every_sure_link_is_a_digit_and_the_whole_year_is_linked(day, target):
    for source, answer in translations(day, target):
        sure, possible = copies(source, answer)
        assert sure <= possible and len(sure) == len({t for t, _ in sure}) >= 4
        assert all(source[s] == answer[t] and answer[t].isdigit() for t, s in possible)


@pytest.mark.parametrize("target", ["2026-13-05", "Marchember 5, 2026", "five", ""])
def test_a_target_that_is_no_date_is_refused(target):
    with pytest.raises(ValueError, match="is not a date as dates"):
        copies("2026年3月5日", target)


def test_a_source_that_means_another_day_is_refused():
    with pytest.raises(ValueError, match="is not a form of 2026-03-05"):
        copies("2026年3月6日", "2026-03-05")


def looking_at(pairs, shift):
    """Attention that is ``shift`` positions away from the character that it copies."""
    weights = np.zeros((len(pairs), pairs.target.shape[1] - 1, pairs.source.shape[1] + 2))
    for i, (source, target) in enumerate(texts(pairs)):
        for t, s in copies(source, target)[0]:
            weights[i, t, s + shift] = 1
    return weights


def test_attention_on_the_copied_characters_has_error_0(split):
    assert alignment_error(looking_at(split[1], 0), split[1]) == 0


@pytest.mark.statistical
def test_attention_one_position_off_is_wrong_unless_slack_allows_it(split):
    beside = looking_at(split[1], 1)
    assert alignment_error(beside, split[1]) > 0.85
    assert alignment_error(beside, split[1], slack=1) == 0
    assert alignment_error(looking_at(split[1], 2), split[1], slack=1) > 0.6


def test_a_possible_link_counts_half_as_much_as_a_sure_one():
    pairs = dates(days=8)[0]
    (i, source, target) = next(
        (i, s, t) for i, (s, t) in enumerate(texts(pairs)) if len(set(t[:4])) == 3 and t in s
    )
    weights = looking_at(pairs, 0)[i : i + 1]
    sure, possible = copies(source, target)
    t, s = next(iter(sorted(possible - sure)))
    weights[0, t] = np.eye(weights.shape[-1])[s]
    assert alignment_error(weights, pairs[i : i + 1]) == pytest.approx(1 / (2 * len(sure)))


def test_weights_of_another_number_of_pairs_are_refused(split):
    with pytest.raises(ValueError, match=r"weights .*must be floats \(N, T, S\) with N ="):
        alignment_error(np.zeros((1, 2, 3)), split[1])
