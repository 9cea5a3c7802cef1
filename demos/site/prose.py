"""Prose of docstrings as Markdown: code, formulas inside a sentence, and everything else as it is.

A formula in a sentence is a run of words of the notation (latex.py) that holds something which only
formulas have: a Greek letter, a subscript, a power, a call such as p(x). Single letters alone stay
prose.
"""

from __future__ import annotations

import re

from demos.site.blocks import balanced, depth, looks_like_a_formula, parses, stripped
from demos.site.latex import formula

NEW_LINE = re.compile(
    r"^(?:- |differs|Read first|Read next|See at work|Demos?:|Shapes:|Then:|Used (?:by|in):|Test:)"
)


def paragraphs(lines: list[str]) -> list[str]:
    """The lines of a paragraph joined; what starts with a keyword such as Shapes: stands alone."""
    parts: list[str] = []
    for line in lines:
        if not parts or NEW_LINE.match(line):
            parts.append(line.strip())
        else:
            parts[-1] += " " + line.strip()
    return parts


def prose(text: str) -> str:
    """Prose as Markdown: ``code`` is code, formulas are $...$, the rest is escaped."""
    pieces = re.split(r"``(.+?)``", text)
    return "".join(
        f"`{piece}`" if at % 2 else _with_formulas(piece) for at, piece in enumerate(pieces)
    )


def remark(text: str) -> str:
    """A cell of a table: one formula, or prose."""
    if looks_like_a_formula(text) and STRONG.search(text):
        return f"${formula(stripped(text), inline=True)}$"
    return prose(text)


# What only formulas have
STRONG = re.compile(
    r"[_^²³√Σ∏Π∫∇∂½ᵀα-ωΓ-ΩΔ∞⁻]|(?<![\w.])[A-Za-z][\u0300-\u036f]?'?\((?=.)|\bE\[|\bd[A-Za-z]/d[A-Za-z]"
)
# What is a formula unless it is a part of a larger one in words, such as h = 1 / (levels - 1)
WEAK = re.compile(r"^[A-Za-z]'?(?: [A-Z]'?)* (?:=|<=|>=|->|<|>) |\b(?:KL|CE|JS)\(|\blog [pqPw]\b")
NAMED = r"(?:log|ln|exp|softmax|tanh|min|max|argmax|cos|sin|sigmoid|unit|diag|det|KL|JS|CE|PE|LN)"
SIGN = r"(?:[+\-/=·⊙<>~≤≥≈]|<=|>=|->|<-|\|\|?|\.\.\.)"
SINGLE = re.compile(
    rf"[A-Za-zα-ω]'?|\d+(?:\.\d+)?|{SIGN}|\|?-?{NAMED}|d[a-z]|-[A-Za-z]|\|[A-Za-z]\|"
)


def _with_formulas(text: str) -> str:
    """Prose in which runs of mathematical words are formulas."""
    tokens = re.split(r"( +)", text)
    out, at = [], 0
    while at < len(tokens):
        end = _run_end(tokens, at) if tokens[at].strip() else at
        if end > at:
            lead, core, tail = _core("".join(tokens[at:end]))
            whole = not _is_sign(tokens, at - 2) and (tail or not _is_sign(tokens, end + 1))
            if core and (STRONG.search(core) or whole and WEAK.search(core)) and _fits(core):
                out.append(f"{escape(lead)}${formula(core, inline=True)}${escape(tail)}")
                at = end
                continue
        out.append(escape(tokens[at]))
        at += 1
    return "".join(out)


def _fits(core: str) -> bool:
    """Is it a whole formula?"""
    return balanced(core) and parses(core)


def _is_sign(tokens: list[str], at: int) -> bool:
    """Is the token at this place a sign such as = or +?"""
    return 0 <= at < len(tokens) and re.fullmatch(rf"{SIGN}|x", tokens[at]) is not None


def _core(run: str) -> tuple[str, str, str]:
    """A run without the punctuation around it, and without brackets that it does not close."""
    core, lead, tail = run, "", ""
    while core and core[-1] in ",;.:?!" and not core.endswith("..."):
        core, tail = core[:-1], core[-1] + tail
    while core and core[-1] in ")]" and depth(core) < 0:
        core, tail = core[:-1], core[-1] + tail
        while core and core[-1] in ",;.:?!":
            core, tail = core[:-1], core[-1] + tail
    while core and core[0] in "([" and depth(core) > 0:
        core, lead = core[1:], lead + core[0]
    whole = re.fullmatch(r"\(([^()]*)\)", core)
    if whole:  # (θ) in brackets: the brackets belong to the sentence
        return lead + "(", whole[1], ")" + tail
    return lead, core, tail


def _run_end(tokens: list[str], at: int) -> int:
    """The end of the longest run of words from here that is a formula. It starts and ends with a
    value, and a sentence does not end in it."""
    first = tokens[at].lstrip("([")
    if re.fullmatch(SIGN, first) and first != "...":
        return at
    if first in ("a", "A", "I") and not _follows_a_sign(tokens, at):
        return at
    best = end = at
    while end < len(tokens):
        token = tokens[end]
        if not token.strip():
            if len(token) > 1:
                break
            end += 1
            continue
        in_call = re.fullmatch(r"[a-z]+[),]*", token) and _in_a_call("".join(tokens[at:end]))
        article = token in ("A", "a", "I") and best == end - 1 and not _follows_a_sign(tokens, end)
        aside = end > at and re.fullmatch(r"\([^()]+\)[,;.:]*", token)
        if not (in_call or _mathematical(token)) or article or aside:
            break
        end += 1
        run = "".join(tokens[at:end])
        core = run.rstrip(",;.:?!")
        if re.search(rf"(?:^|\s)(?:{SIGN}|-?{NAMED})$", core) and not core.endswith("..."):
            continue
        lead, core, tail = _core(run)
        if _fits(core):
            best = end
        if tail.strip(")]") and balanced(core):
            break
    return best


def _in_a_call(run: str) -> bool:
    """The last bracket that is still open belongs to a call, as in p(x | the words before it)."""
    opened = [at for at, sign in enumerate(run) if sign in "([" and depth(run[at:]) > 0]
    return bool(opened) and opened[-1] > 0 and run[opened[-1] - 1].isalpha()


def _follows_a_sign(tokens: list[str], at: int) -> bool:
    """The word after this one is = or another sign."""
    after = tokens[at + 2] if at + 2 < len(tokens) else ""
    return re.fullmatch(SIGN, after) is not None and after != "..." or after[:1] in ("²", "^")


def _mathematical(token: str) -> bool:
    """May a word be a part of a formula?"""
    bare = token.strip(",;.:?!()[]{}") or token
    if re.search(r"\.py\b|[/\w]{3,}/\w|[a-z]{2,}\d*_|__|[A-Za-z]{2,}-", bare):
        return False
    if re.match(r"\((?:[A-Z]|\d+)(?:,|\)$)", token) or re.search(r"\.(?=[a-z])", bare):
        return False  # a shape, (B, T); an attribute, x.shape
    if SINGLE.fullmatch(bare):
        return True
    named = re.match(rf"\(*-?{NAMED}\(", token) is not None
    bar = re.fullmatch(r"\|?[A-Za-z]\(?|[A-Za-z]\|?[²,.]?", token) is not None
    return (named or bar or STRONG.search(token) is not None) and _parses_loosely(token)


def _parses_loosely(token: str) -> bool:
    """Is a word in the notation, or a piece of a formula that other words complete?"""
    core = token.strip(",;.:?!")
    return not balanced(core) or core.count("|") == 1 or parses(core) or parses(core.strip("()[]"))


SPECIAL = re.compile(r"([\\`*_{}\[\]<>$|~])")


EMPHASIS = re.compile(r"(?<!\w)\\\*([a-z]+)\\\*(?!\w)")


def escape(text: str) -> str:
    """Text as Markdown that shows it as it is, except *word*, which stays emphasis."""
    return EMPHASIS.sub(r"*\1*", SPECIAL.sub(r"\\\1", text))
