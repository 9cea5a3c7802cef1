"""Alignment error rate: does attention look at the characters that a translated date copies?

    AER = 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|)                 alignment error rate, Och & Ney 2003

A link connects a target character with a source character. S is the set of sure links. P is the set
of possible links, which includes all sure links. A is the set of links that a model made. AER is 0
if every link of the model is possible and no sure link is missing.

In a date the links are known. A digit of the target is copied from the same digit of the same
field: in the year 2026 the 0 comes from the 0. A link from one 2 of 2026 to the other 2 is
possible, because a model that looked there has read the same digit. Characters that are not copied
have no link: a padded 0, the letters of March, a hyphen.

Read first: dates.py.   Seen at work: demos/04_attention.py.
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

Links = set[tuple[int, int]]  # (position in the target, position in the source), counted from 0


def copies(source: str, target: str) -> tuple[Links, Links]:
    """(sure, possible): the links from each digit of ``target`` to the characters of ``source``
    that it was copied from."""
    for name, text in (("source", source), ("target", target)):
        if not isinstance(text, str):
            raise TypeError(f"copies: {name} is {shown(text)}; it must be a string")
    day = day_of(target)
    in_source, in_target = field_ranges(source, day), field_ranges(target, day)
    sure, possible = set(), set()
    for field in in_source.keys() & in_target.keys():
        # from the right, so that units are compared with units even if one side has a padded 0
        for s, t in zip(reversed(in_source[field]), reversed(in_target[field]), strict=False):
            if target[t].isdigit() and source[s] == target[t]:
                sure.add((t, s))
                possible |= {(t, other) for other in in_source[field] if source[other] == target[t]}
    return sure, possible


def field_ranges(text: str, day: date) -> dict[str, range]:
    """The positions of each field in the text: {"y": range(0, 4), "M": range(5, 6), ...}."""
    for form in (ISO, IN_ENGLISH, WITH_WEEKDAY, *CHINESE, *ENGLISH):
        if spell(form, day) == text:
            names, texts = zip(*fields(form, day), strict=True)
            ends = accumulate(map(len, texts))
            return {
                name: range(end - len(piece), end)
                for name, piece, end in zip(names, texts, ends, strict=True)
                if name
            }
    raise ValueError(f"copies: {shown(text)} is not a form of {day} that dates() uses")


def day_of(target: str) -> date:
    """The day that a target text means: 2026-03-05; or March 5, 2026, with or without a day of the
    week before it."""
    try:
        if target[:1].isdigit():
            return date.fromisoformat(target)
        month, day, year = target.replace(",", "").split()[-3:]
        return date(int(year), months()[month], int(day))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"day_of: target is {shown(target)}, which is not a date as dates() writes it; it must "
            "be like 2026-03-05 or March 5, 2026"
        ) from error


@cache
def months() -> dict[str, int]:
    """{"January": 1, ...}: the English months as Babel spells them."""
    return {spell(("en", "MMMM"), date(2000, month, 1)): month for month in range(1, 13)}


def alignment_error(weights: np.ndarray, pairs: Pairs, slack: int = 0) -> float:
    """The alignment error rate of attention, from 0 to 1, over the copied digits of all pairs
    together.

    weights (N, T, S): the attention of pair i while its target character t was written, t counted
    from 0 without SOS. The link of the model is the largest weight. slack: how many positions a
    link may be away from the true one.
    """
    slack = size(slack, "alignment_error: slack")
    if not isinstance(pairs, Pairs):
        raise TypeError(f"alignment_error: pairs is {shown(pairs)}; it must be Pairs")
    _check_weights(weights, len(pairs))
    hits = links = 0
    # strongest (T,): for each target character the source position with the largest weight
    for strongest, i in zip(weights.argmax(axis=-1), range(len(pairs)), strict=True):
        sure, possible = copies(*("".join(text) for text in pairs.texts(i)))
        if any(t >= weights.shape[1] for t, _ in sure):
            raise ValueError(
                f"alignment_error: weights has {weights.shape[1]} rows per pair; the target of "
                f"pair {i} is longer"
            )
        by_model = {(t, int(strongest[t])) for t, _ in sure}
        hits += len(near(by_model, sure, slack)) + len(near(by_model, possible, slack))
        links += len(by_model) + len(sure)
    if not links:
        raise ValueError(
            "alignment_error: no digit of these pairs was copied, so there is nothing to align"
        )
    return 1 - hits / links


def _check_weights(weights: Any, count: int) -> None:
    """TypeError or ValueError unless the weights are attention (N, T, S) of ``count`` pairs."""
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
            f"{count}, the number of pairs"
        )
    if np.isnan(weights).any():
        raise ValueError("alignment_error: weights holds NaN; all weights must be numbers")


def near(links: Links, truth: Links, slack: int) -> Links:
    """The links that are at most ``slack`` source positions away from a true link of the same
    target character."""
    return {
        (t, s)
        for t, s in links
        if any(t == true_t and abs(s - true_s) <= slack for true_t, true_s in truth)
    }
