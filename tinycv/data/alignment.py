"""What was copied from where in a translated date, and how often attention looked there.

    AER = 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|)                 alignment error rate, Och & Ney 2003

S are the sure links from what is written to what was read, P the possible ones (all sure ones among
them), A the links that a model made. It is 0 where every link made is possible and no sure one is
missing.

In a date a figure that is written was copied from the same figure of the same field, and that is
known: of the year 2026 the 0 comes from the 0. A link from one 2 to the other 2 is possible: who
looked there has read the same. What is no copy has no link: a padded 0, the letters of March, a
hyphen.

Read before: dates.py.   Seen at work: demos/04_attention.py.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np

from tinycv.data.dates import CHINESE, ENGLISH, IN_ENGLISH, ISO, WITH_WEEKDAY, fields, spell
from tinycv.data.text import Pairs
from tinycv.engine.arguments import number_kind, shown, size

# (place in the target, place in the source), counted from 0
Links = set[tuple[int, int]]


def copies(source: str, target: str) -> tuple[Links, Links]:
    """(sure, possible): from which character of ``source`` each figure of ``target`` was copied."""
    for name, text in (("source", source), ("target", target)):
        if not isinstance(text, str):
            raise TypeError(f"copies: {name} is {shown(text)}; it must be a string")
    day = day_of(target)
    read, written = places(source, day), places(target, day)
    sure, possible = set(), set()
    for field in read.keys() & written.keys():
        # units under units
        for s, t in zip(reversed(read[field]), reversed(written[field]), strict=False):
            if target[t].isdigit() and source[s] == target[t]:
                sure.add((t, s))
                possible |= {(t, other) for other in read[field] if source[other] == target[t]}
    return sure, possible


def places(text: str, day: date) -> dict[str, range]:
    """Where the fields stand: {"y": range(0, 4), "M": range(5, 6), ...}."""
    for form in (ISO, IN_ENGLISH, WITH_WEEKDAY, *CHINESE, *ENGLISH):
        if spell(form, day) == text:
            names, texts = zip(*fields(form, day), strict=True)
            ends = accumulate(map(len, texts))
            return {
                name: range(end - len(piece), end)
                for name, piece, end in zip(names, texts, ends, strict=True)
                if name
            }
    raise ValueError(f"{shown(text)} is no form of {day} that dates() uses")


def day_of(target: str) -> date:
    """The day that a target means: 2026-03-05, or March 5, 2026, with a day of the week before it
    or without."""
    try:
        if target[:1].isdigit():
            return date.fromisoformat(target)
        month, day, year = target.replace(",", "").split()[-3:]
        return date(int(year), months()[month], int(day))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{shown(target)} is no date as dates() writes it: 2026-03-05, or March 5, 2026"
        ) from error


@cache
def months() -> dict[str, int]:
    """{"January": 1, ...}, as Babel spells them."""
    return {spell(("en", "MMMM"), date(2000, month, 1)): month for month in range(1, 13)}


def alignment_error(weights: np.ndarray, pairs: Pairs, slack: int = 0) -> float:
    """The alignment error rate of attention over the copied figures of all pairs together, between
    0 and 1.

    weights (N, T, S): where pair i looked while it wrote its t-th character (the first has t = 0,
    SOS is not counted); the strongest weight makes the link. slack: places that a link may stand
    beside the truth (1: within one of it).
    """
    slack = size(slack, "alignment_error: slack")
    if not isinstance(pairs, Pairs):
        raise TypeError(f"alignment_error: pairs is {shown(pairs)}; it must be Pairs")
    _check_weights(weights, len(pairs))
    hits = links = 0
    # looked (T,)
    for looked, i in zip(weights.argmax(axis=-1), range(len(pairs)), strict=True):
        sure, possible = copies(*("".join(text) for text in pairs.texts(i)))
        if any(t >= weights.shape[1] for t, _ in sure):
            raise ValueError(
                f"alignment_error: weights have {weights.shape[1]} rows for each pair; the answer "
                f"of pair {i} is longer"
            )
        made = {(t, int(looked[t])) for t, _ in sure}
        hits += len(near(made, sure, slack)) + len(near(made, possible, slack))
        links += len(made) + len(sure)
    if not links:
        raise ValueError(
            "alignment_error: no figure of these pairs was copied, so there is nothing to align"
        )
    return 1 - hits / links


def _check_weights(weights: Any, count: int) -> None:
    """TypeError or ValueError for what is not attention (N, T, S) of ``count`` pairs."""
    if not isinstance(weights, np.ndarray) or number_kind(weights) is None:
        raise TypeError(
            f"alignment_error: weights is {shown(weights)}; it must be a plain array (N, T, S)"
        )
    if (
        weights.dtype.kind != "f"
        or len(weights.shape) != 3
        or len(weights) != count
        or not weights.shape[2]
    ):
        raise ValueError(
            f"alignment_error: weights is {shown(weights)}; it must be floats (N, T, S) with N = "
            f"{count}, the pairs"
        )
    if np.isnan(weights).any():
        raise ValueError("alignment_error: weights hold NaN: where attention looked cannot be said")


def near(made: Links, truth: Links, slack: int) -> Links:
    """Those of the links made that are true, or stand at most ``slack`` places of the source beside
    the truth."""
    return {
        (t, s)
        for t, s in made
        if any(t == right and abs(s - place) <= slack for right, place in truth)
    }
