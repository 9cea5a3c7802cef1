"""Pieces of LaTeX and how they come together: scripts, brackets, fractions, and the room between.

A fraction a b / c d is (a b / c) d: its numerator is the product before the stroke, its denominator
one factor. latex.py reads the pieces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from demos.site.notation import PARTS


@dataclass
class Item:
    """A piece of LaTeX. kind: factor, function, large, word, operator, relation or separator."""

    kind: str
    latex: str
    space: int
    bare: str = ""  # of a group in brackets: the LaTeX inside them
    upright: bool = False
    differential: bool = False  # dx, which gets some room in front


def with_scripts(latex: str, low: str, high: str, prime: str) -> str:
    """LaTeX with a subscript, a superscript and primes, each "" if there is none."""
    if prime and high:
        high = r"\prime" * len(prime) + " " + high
        prime = ""
    result = latex + prime
    if low:
        result += f"_{{{low}}}"
    if high:
        result += f"^{{{high}}}"
    return result


def fenced(left: str, inner: str, right: str) -> str:
    """LaTeX in brackets, which grow if there is a fraction, a sum or an integral inside."""
    if re.search(r"\\(?:frac|sum|prod|int)(?![a-z])", inner):
        return rf"\left{left} {inner} \right{right}"
    gap = " " if left.startswith("\\") else ""
    return f"{left}{gap}{inner}{gap}{right}"


# Fractions


def fractions(items: list[Item]) -> list[Item]:
    """a b / c d as (a b / c) d. Where the numerator is a function without brackets, as in
    log p / q, the stroke stays, since its reach is not certain."""
    done: list[Item] = []
    at = 0
    while at < len(items):
        item = items[at]
        if item.latex != "/" or item.kind != "operator":
            done.append(item)
            at += 1
            continue
        above = _derivative(done, items, at) or _numerator(done, tight=item.space == 0)
        below = _denominator(items, at + 1)
        if not above or not below:
            done.append(item)
            at += 1
            continue
        del done[len(done) - len(above) :]
        top, bottom = _bare_or_joined(above), _bare_or_joined(below)
        small = top.isdigit() and bottom.isdigit()
        latex = rf"\{'tfrac' if small else 'frac'}{{{top}}}{{{bottom}}}"
        done.append(Item("factor", latex, above[0].space))
        at += 1 + len(below)
    return done


def _bare_or_joined(items: list[Item]) -> str:
    """The LaTeX of the two sides of a fraction: a group in brackets does without them."""
    return items[0].bare if len(items) == 1 and items[0].bare else join(items).strip()


def _derivative(done: list[Item], items: list[Item], at: int) -> list[Item]:
    """d log p(x) of d log p(x) / dt."""
    if at + 1 == len(items) or not items[at + 1].differential:
        return []
    start = len(done)
    while start > 0 and done[start - 1].kind in ("factor", "function"):
        start -= 1
        if done[start].latex == "d":
            return done[start:]
    return []


def _numerator(done: list[Item], tight: bool) -> list[Item]:
    """The last factors of ``done`` that are above the stroke. tight: no space before the stroke,
    as in a b/c, where only b is above."""
    start = len(done)
    while start > 0 and done[start - 1].kind == "factor":
        start -= 1
        if tight and done[start].space or done[start].space > 2:
            break
    if start == len(done):
        return []
    before = done[start - 1] if start else Item("operator", "", 0)
    applied = before.kind in ("function", "word", "large")
    # Σ and E are linear, so it makes no difference whether they act on a or on a / b
    linear = (r"\sum", r"\int", r"\mathbb{E}", r"\text{or}", r"\text{and}")
    applied &= not before.latex.startswith(linear)
    if applied and not (tight and done[start].space):
        return []
    if done[start].latex in PARTS.values() and start + 1 < len(done):
        start += 1  # ½ a / b is half of a / b
    return done[start:]


def _denominator(items: list[Item], at: int) -> list[Item]:
    """The items from ``at`` on that are below the stroke."""
    end = at
    if end < len(items) and items[end].kind in ("large", "function"):
        whole_term = items[end].kind == "large"
        end += 1
        while end < len(items) and items[end].kind in ("function", "factor"):
            if items[end].space > 2:
                break
            end += 1
            if not whole_term:
                break
        return items[at:end]
    while end < len(items) and items[end].kind == "factor":
        end += 1
        if end < len(items) and items[end].space:
            break
    return items[at:end]


# Putting the pieces together


def join(items: list[Item]) -> str:
    """The LaTeX of all pieces, with the room between them."""
    pieces: list[str] = []
    last: Item | None = None
    for item in items:
        if last is not None:
            pieces.append(_gap(last, item))
        pieces.append(item.latex)
        last = item
    latex = re.sub(" +", " ", "".join(pieces)).strip()
    while True:  # words next to each other are one piece of text
        joined = re.sub(r"(\\text\{[^{}]*)\}\\ \\text\{", r"\1 ", latex)
        if joined == latex:
            return latex
        latex = joined


ENDS_A_FORMULA = ("operator", "relation", "separator")


def _gap(left: Item, right: Item) -> str:
    """The room between two neighbours."""
    if left.kind == "separator":
        return r"\quad " if right.space > 1 else " "
    open_sides = (left.kind in ("operator", "relation"), right.kind in ENDS_A_FORMULA)
    if right.space > 2 and not any(open_sides):
        return r"\qquad "
    if right.kind == "separator":
        return ""
    if "word" in (left.kind, right.kind) and right.space:
        other = right.kind if left.kind == "word" else left.kind
        return " " if other in ("operator", "relation") else r"\ "
    if right.differential and right.space and left.kind == "factor":
        return r"\, "
    upright = left.upright or right.upright
    if upright and left.kind == right.kind == "factor":
        return r"\, "
    return " "
