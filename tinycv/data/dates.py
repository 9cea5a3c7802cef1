"""Date translation: dates in many Chinese and English forms, to be written in one form.

    2026年3月5日星期四   ->  2026-03-05                  dates(): Chinese and English to ISO
    2026年3月5日星期四   ->  Thursday, March 5, 2026     dates(target="english"): Chinese to English

It is a translation task that a small network can learn, and every answer is known.

Babel spells the days by the patterns of the Unicode consortium for each language
(https://cldr.unicode.org): y, M, d and E mean year, month, day of the month and day of the week;
MMMM and EEEE are full names. The English text has the day of the week only if the Chinese text has
it, so that the network never has to compute it.

Ambiguous texts are left out. A year of two digits may be of either century, so such patterns
(3/5/26, the usual short form in America) are never used. And 3/5/2026 is in March in America and in
May in Britain: a text in which day and month may be exchanged is dropped, while 3/25/2026 stays. So
no text means two days.

The days of the test set never occur in training, in any form. Needs Babel; other versions of Babel
may spell some days differently.

Read first: text.py.   Read next: alignment.py, which computes what was copied from where.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import cache

import numpy as np

from tinycv.data.extra import import_extra
from tinycv.data.text import Pairs, Vocabulary
from tinycv.engine.arguments import choice, size

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2099, 12, 31)
# (language, pattern): the four that Babel knows by name, then others in common use
CHINESE = [
    *(("zh", name) for name in ("short", "medium", "long", "full")),
    ("zh", "y年MM月dd日"),
    ("zh", "y年MMMMd日"),
    ("zh", "y年M月d日（EEE）"),
    ("zh", "EEEE，y年M月d日"),
    ("zh", "y/MM/dd"),
    ("zh", "y.M.d"),
    ("zh", "y-MM-dd"),
]
ENGLISH = [
    *(
        (language, name)
        for language in ("en", "en_GB")
        for name in ("short", "medium", "long", "full")
    ),
    ("en", "EEE, MMM d, y"),
    ("en", "M/d/y"),
    ("en", "MM/dd/y"),
    ("en_GB", "d/M/y"),
    ("en_GB", "dd/MM/y"),
]
ISO, IN_ENGLISH, WITH_WEEKDAY = ("en", "y-MM-dd"), ("en", "long"), ("en", "full")
# For each field a representative day with the same text: the year 2026 is spelled the same on
# every day of that year. There are so few of them that ``spelled`` calls Babel once for each.
REPRESENTATIVE = {
    "y": lambda day: date(day.year, 1, 1),
    "M": lambda day: date(2000, day.month, 1),
    "d": lambda day: date(2000, 1, day.day),
    "E": lambda day: date(2001, 1, 1 + day.weekday()),
}


def dates(seed: int = 0, target: str = "iso", days: int = 2000) -> tuple[Pairs, Pairs]:
    """(train, test): ``days`` random days from 1900 to 2099 in every form to train on, and an
    eighth as many other days to test.

    target: "iso" (from Chinese and English forms) or "english" (from Chinese forms). Symbols are
    characters.
    """
    choice(target, "dates: target", ("iso", "english"))
    days = size(days, "dates: days")
    calendar = (LAST_DAY - FIRST_DAY).days + 1
    test_days = days // 8
    if not 8 <= days <= calendar - test_days:
        raise ValueError(
            f"dates: days={days} must be from 8 to {calendar * 8 // 9}: an eighth as many are "
            f"added for the test, and from 1900 to 2099 there are {calendar}"
        )
    rng = np.random.default_rng(size(seed, "dates: seed"))
    chosen = [
        FIRST_DAY + timedelta(days=int(n))
        for n in rng.choice(calendar, days + test_days, replace=False)
    ]
    texts, tested = [], []
    for number, day in enumerate(chosen):
        texts_of_day = translations(day, target)
        texts += texts_of_day
        tested += [number < test_days] * len(texts_of_day)
    return Pairs.of(texts, *vocabularies(target)).split(np.array(tested), rng)


def translations(day: date, target: str) -> list[tuple[str, str]]:
    """Every (source, target) text of one day."""
    if target == "iso":
        return [(text, spell(ISO, day)) for text in forms(day, (*CHINESE, *ENGLISH))]
    return [
        (text, spell(WITH_WEEKDAY if weekday else IN_ENGLISH, day))
        for text, weekday in forms(day, CHINESE).items()
    ]


def forms(day: date, patterns: tuple | list) -> dict[str, bool]:
    """All texts that mean this day and no other, each with whether it has the day of the week."""
    used = [form for form in patterns if not has_short_year(form)]
    texts = {spell(form, day): has_weekday(form) for form in used}
    if day.day > 12 or day.day == day.month:
        return texts
    exchanged = date(day.year, day.day, day.month)
    other = {spell(form, exchanged) for form in used}
    return {text: weekday for text, weekday in texts.items() if text not in other}


@cache
def vocabularies(target: str) -> tuple[Vocabulary, Vocabulary]:
    """The characters of the sources and of the targets, taken from one year, which has every digit,
    month and day of the week."""
    year = [
        pair
        for n in range(366)
        for pair in translations(date(2024, 1, 1) + timedelta(days=n), target)
    ]
    sources, targets = zip(*year, strict=True)
    return (
        Vocabulary(sorted(set("".join(sources)))),
        Vocabulary(sorted(set("".join(targets)))),
    )


# ── one day, one pattern ─────────────────────────────────────────────────────────────────────────


def spell(form: tuple[str, str], day: date) -> str:
    """The day as text: (("en", "y-MM-dd"), March 5, 2026) gives 2026-03-05."""
    return "".join(text for _, text in fields(form, day))


def fields(form: tuple[str, str], day: date) -> list[tuple[str, str]]:
    """The text of the day in pieces, each with its field: [("y", "2026"), ("", "年"), ("M", "3"),
    ...]."""
    language, _ = form
    return [
        (token[0], spelled(language, token, REPRESENTATIVE[token[0]](day)))
        if token[0] in REPRESENTATIVE
        else ("", token)
        for token in tokens(form)
    ]


@cache
def spelled(language: str, token: str, day: date) -> str:
    """One field, spelled by Babel: ("en", "MMMM", a day in March) gives March."""
    return import_extra("babel.dates", "Babel").format_date(day, token, language)


@cache
def tokens(form: tuple[str, str]) -> list[str]:
    """The pattern cut into fields and the text between them: "y年M月d日" gives y, 年, M, 月, d,
    日."""
    language, pattern = form
    if pattern in ("short", "medium", "long", "full"):
        pattern = import_extra("babel.dates", "Babel").get_date_format(pattern, language).pattern
    return re.findall(r"y+|M+|d+|E+|[^yMdE]+", pattern)


def has_short_year(form: tuple[str, str]) -> bool:
    """Is the year written with two digits, which may be of either century?"""
    return "yy" in tokens(form)


def has_weekday(form: tuple[str, str]) -> bool:
    """Is the day of the week written out?"""
    return any(token[0] == "E" for token in tokens(form))
