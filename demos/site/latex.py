"""LaTeX of the formulas that the docstrings write in plain text.

    x_t = a x_0 + σ ε      becomes      x_{t} = a x_{0} + \\sigma \\varepsilon

The notation is the one that the files of tinycv use, and small enough for a parser written by hand:

    x_t, x_{t-1}, x_(t-1), x_<t, W_ii      subscripts; ^ and ² in the same way
    √(a + b), Σ_j, ∫₀¹, ε̂, s~_t            roots, sums, integrals, accents
    p(x|z), E_q[...], |x|², ||x||           calls, expectations, norms; KL(q || p) has a plain bar
    a b / c                                 a fraction. Its numerator is the product before it, its
                                            denominator one factor: (c d) needs brackets
    two letters or more                     a name or a word, in upright letters; log, max and so on
                                            are operators. dx, dL are differentials

``formula`` raises ValueError where a text is not in this notation. Whether a text is meant as a
formula at all is decided in blocks.py.
"""

from __future__ import annotations

import re
from dataclasses import replace

from demos.site.notation import (
    ACCENTS,
    CLOSE,
    FUNCTIONS,
    GREEK,
    HIGH,
    KNOWN,
    LARGE,
    LOW,
    MATCH,
    NAMES,
    OPEN,
    OPERATORS,
    PARTS,
    RELATIONS,
    SEPARATORS,
    SYMBOLS,
    TWO_LETTER_WORDS,
    Token,
    tokens_of,
)
from demos.site.pieces import Item, fenced, fractions, join, with_scripts


def formula(text: str, inline: bool = False) -> str:
    """LaTeX of a formula in plain text. inline: fractions stay on one line, as a / b."""
    return join(items_of(text, inline))


def sides(text: str) -> tuple[str, str]:
    """The LaTeX before the first relation, and that from the relation on ("" without one)."""
    items = items_of(text)
    for at, item in enumerate(items):
        if item.kind == "relation" and item.latex not in (r"\mid", r"\,\|\,"):
            return join(items[:at]), join(items[at:])
        if item.kind == "separator":
            break
    return join(items), ""


def items_of(text: str, inline: bool = False) -> list[Item]:
    """The pieces of a formula (pieces.py). ValueError for a text that is not in the notation."""
    parser = _Parser(tokens_of(text.strip()), inline)
    items = parser.items(stop=())
    if parser.at < len(parser.tokens):
        raise ValueError(f"formula: {text!r} closes a bracket that it did not open")
    return items


class _Parser:
    """A recursive descent parser: each method reads one construct of the notation from the tokens,
    beginning at the token number ``at``, and leaves ``at`` behind it."""

    def __init__(self, tokens: list[Token], inline: bool):
        self.tokens, self.inline, self.at = tokens, inline, 0
        self.in_script = 0

    # what comes next

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one further ahead, which is not taken."""
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else Token("end", "", 1)

    def take(self) -> Token:
        """Return the next token, and move past it."""
        token = self.peek()
        self.at += 1
        return token

    # a list of items, up to a closing bracket

    def items(self, stop: tuple[str, ...]) -> list[Item]:
        """The pieces up to one of the signs in ``stop``, or up to the end."""
        found: list[Item] = []
        while True:
            token = self.peek()
            if token.kind == "end" or token.text in stop:
                break
            if token.kind == "close":
                if stop:
                    raise ValueError(f"formula: {token.text!r} where {stop[0]!r} was expected")
                break
            if token.text in ("|", "||") and stop and stop[0] == token.text:
                break
            found.append(self.item(found))
        if self.inline or self.in_script:
            return found
        return fractions(found)

    def item(self, before: list[Item]) -> Item:
        """The next piece. before: the pieces in front of it."""
        token = self.peek()
        if token.text in ("|", "||") and self.opens_a_norm(before):
            return self.scripts(self.norm())
        if token.kind == "operator":
            self.take()
            return Item("operator", OPERATORS[token.text.replace("−", "-")], token.space)
        if token.kind == "relation":
            self.take()
            if token.text in ("|", "||") and self.peek().kind in ("end", "close"):
                raise ValueError(f"formula: {token.text!r} closes nothing")
            return Item("relation", RELATIONS[token.text], token.space)
        if token.kind == "separator":
            self.take()
            return Item("separator", SEPARATORS[token.text], token.space)
        if token.kind == "large":
            self.take()
            return self.scripts(Item("large", LARGE[token.text], token.space))
        return self.factor()

    # brackets

    def opens_a_norm(self, before: list[Item]) -> bool:
        """|x| opens after a space, a bracket or an operator, and is not followed by a space."""
        token, after = self.peek(), self.peek(1)
        if after.space or after.kind == "end":
            return False
        first = not before or before[-1].kind in ("operator", "relation", "separator")
        return first or token.space > 0

    def norm(self) -> Item:
        """|x| or ||x||, with the bars."""
        bar = self.take()
        inner = join(self.items(stop=(bar.text,)))
        if self.take().text != bar.text:
            raise ValueError(f"formula: {bar.text!r} is not closed")
        name = "vert" if bar.text == "|" else "Vert"
        return Item("factor", fenced(rf"\l{name}", inner, rf"\r{name}"), bar.space)

    def group(self, half_open: bool = False) -> Item:
        """What is in brackets, with the brackets. half_open: as in [0, 1)."""
        opening = self.take()
        stop = (MATCH[opening.text],) if not half_open else ("]", ")")
        size = [self.peek(ahead).text for ahead in range(4)]
        if size[1] == "x" and size[3] == ")" and self.peek(1).space:  # (m x n)
            self.tokens[self.at + 1] = Token("operator", "×", 1)
        inner = join(self.items(stop))
        closing = self.take()
        if closing.text not in stop:
            raise ValueError(f"formula: {opening.text!r} is not closed")
        latex = fenced(OPEN[opening.text], inner, CLOSE[closing.text])
        return Item("factor", latex, opening.space, bare=inner)

    # one factor, with its scripts and arguments

    def factor(self) -> Item:
        """A number, a letter, a name, a root or a group."""
        token = self.peek()
        if token.kind == "open":
            return self.scripts(self.group())
        if token.kind == "root":
            return self.root()
        self.take()
        if token.kind == "size":
            return Item("factor", token.text.replace("x", r" \times "), token.space)
        if token.kind == "number":
            return self.scripts(Item("factor", _number(token.text), token.space))
        if token.kind == "part":
            return Item("factor", PARTS[token.text], token.space)
        if token.kind == "greek":
            latex = self.accented("\\" + GREEK[token.text])
            if self.peek().kind == "number" and self.peek().space == 0:
                latex = f"{latex}_{{{self.take().text}}}"
            return self.scripts(Item("factor", latex, token.space))
        if token.kind == "symbol":
            return self.scripts(Item("factor", SYMBOLS[token.text], token.space))
        if token.kind == "dots":
            return Item("factor", r"\ldots", token.space)
        if token.kind == "name":
            return self.name(token)
        raise ValueError(f"formula: {token.text!r} cannot stand here")

    def accented(self, latex: str) -> str:
        """A letter with the accents that follow it."""
        while self.peek().kind == "accent":
            latex = rf"\{ACCENTS[self.take().text]}{{{latex}}}"
        return latex

    def root(self) -> Item:
        """The root of the group or of the factor behind it."""
        space = self.take().space
        if self.peek().text == "(":
            inner = self.group().bare
        else:
            inner = self.factor().latex
        return self.scripts(Item("factor", rf"\sqrt{{{inner}}}", space))

    def name(self, token: Token) -> Item:
        """One letter, a known name, a differential, two letters that are multiplied, or a word."""
        text, space, after = token.text, token.space, self.peek()
        called = after.text in ("(", "[") and after.space == 0
        if text == "sqrt" and called:
            return self.scripts(Item("factor", rf"\sqrt{{{self.group().bare}}}", space))
        if text == "a" and self.is_article():
            return Item("word", r"\text{a}", space, upright=True)
        if len(text) == 1:
            return self.letter(token, called)
        if text in NAMES:
            item = Item("factor", NAMES[text], space, upright=NAMES[text].startswith(r"\math"))
            return self.scripts(item)
        if re.fullmatch("d[A-Za-z]", text) and text not in TWO_LETTER_WORDS:
            return self.scripts(Item("factor", f"d{text[1]}", space, differential=True))
        if len(text) == 2 and text.islower() and text not in TWO_LETTER_WORDS and not called:
            return self.scripts(Item("factor", f"{text[0]} {text[1]}", space))
        return self.scripts(self.word(self.with_second_name(text), space, called))

    def word(self, text: str, space: int, called: bool) -> Item:
        """A name of several letters: an operator, a function, or a word."""
        if text in KNOWN:
            return Item("function", "\\" + text, space)
        with_script = self.peek().kind in ("script", "high", "prime") and not self.peek().space
        if "_" in text or with_script and not called and text not in FUNCTIONS:
            return Item("factor", rf"\mathrm{{{text}}}", space, upright=True)
        if text in FUNCTIONS or called:
            return Item("function", rf"\operatorname{{{text}}}", space)
        return Item("word", rf"\text{{{text}}}", space, upright=True)

    def is_article(self) -> bool:
        """The a of "variance of a weight", which stands between two words."""
        before = self.tokens[self.at - 2] if self.at > 1 else Token("end", "", 0)
        after = self.peek()
        words = before.kind == after.kind == "name" and min(len(before.text), len(after.text)) > 1
        return words and after.space == 1 and after.text.islower()

    def with_second_name(self, text: str) -> str:
        """fan_in and weight_decay are names, in which _ starts no subscript."""
        script, second = self.peek(), self.peek(1)
        names = text.islower() and second.kind == "name" and len(second.text) > 1
        glued = script.text == "_" and script.space == second.space == 0
        if not names or not glued or text in KNOWN | FUNCTIONS:
            return text
        self.at += 2
        return rf"{text}\_{second.text}"

    def letter(self, token: Token, called: bool) -> Item:
        """One letter with its scripts; N(, U[ and E[ are distributions and the expectation."""
        text, after = token.text, self.peek()
        if text == "N" and after.text == "(" and called:
            return self.scripts(Item("factor", r"\mathcal{N}", token.space))
        if text == "U" and after.text == "[" and called:
            group = self.group(half_open=True)
            return self.scripts(Item("factor", r"\mathcal{U}" + group.latex, token.space))
        if text == "E" and self.is_expectation():
            item = Item("function", r"\mathbb{E}", token.space)
            return self.scripts(item)
        latex = self.accented(text)
        if after.kind == "number" and after.space == 0:
            latex = f"{latex}_{{{self.take().text}}}"
        return self.scripts(Item("factor", latex, token.space))

    def is_expectation(self) -> bool:
        """E[...], E_q ..., E |x|² and E w, but not the matrix E in x_1 E; or E_pos."""
        after = self.peek()
        if after.text == "[":
            return True
        if after.text == "_":
            return self.peek(1).text in ("q", "x", "z", "t", "u")
        if after.space != 1:
            return False
        return after.kind in ("name", "greek") or after.text in ("|", "||")

    # scripts

    def scripts(self, item: Item) -> Item:
        """Primes, subscripts and superscripts, and arguments in brackets that follow directly."""
        low = high = prime = ""
        callable_ = item.kind != "large" and not item.bare
        while self.peek().space == 0:
            token = self.peek()
            if token.kind == "prime":
                prime += self.take().text
            elif token.kind in ("high", "low"):
                self.take()
                if token.kind == "high":
                    high += "".join(HIGH[c] for c in token.text)
                else:
                    low += "".join(LOW[c] for c in token.text)
            elif token.kind == "part" and item.bare:
                break
            elif token.text == "_":
                self.take()
                low += self.script()
            elif token.text == "^":
                self.take()
                high += self.script()
                if self.peek().text == "_" and self.peek().space == 0:
                    self.take()
                    high += f"_{{{self.script()}}}"  # f^β_t: the index belongs to β
            elif token.text in ("(", "[") and callable_:
                called = with_scripts(item.latex, low, high, prime) + self.group().latex
                item = Item("factor", called, item.space, upright=item.upright)
                low = high = prime = ""
            else:
                break
        if not (low or high or prime):
            return item
        if low == "i n" and item.latex not in ("W", "b"):
            low = r"\mathrm{in}"  # c_in; but W_in of a GRU has two indices
        high = re.sub(r"^(-?)T$", r"\1\\top", high)
        latex = with_scripts(item.latex, low, high, prime)
        return replace(item, latex=latex, bare="")

    def script(self) -> str:
        """What stands directly behind _ or ^."""
        token = self.peek()
        if token.space or token.kind == "end":
            raise ValueError("formula: nothing follows _ or ^")
        self.in_script += 1
        try:
            if token.text in ("(", "{"):
                return self.group().bare
            return self.script_run()
        finally:
            self.in_script -= 1

    def script_run(self) -> str:
        """A subscript or superscript without brackets: it ends at a space."""
        pieces: list[str] = []
        while not (pieces and self.peek().space):
            piece = self.script_piece(first=not pieces)
            if not piece:
                break
            pieces.append(piece)
        if not pieces:
            raise ValueError(f"formula: {self.peek().text!r} cannot be a subscript or superscript")
        return " ".join(pieces)

    def script_piece(self, first: bool) -> str:
        """The next piece of a subscript; "" if it has ended."""
        token, after = self.peek(), self.peek(1)
        if token.kind == "name":
            return _script_name(self.take().text)
        if token.kind == "number":
            return self.take().text
        if token.kind == "part":
            self.take()
            return "1/2" if token.text == "½" else "1/4"
        if token.kind == "greek":
            self.take()
            latex = self.accented("\\" + GREEK[token.text])
            one = self.peek().kind == "name" and len(self.peek().text) == 1
            if one and not self.peek().space and token.text != "Δ":
                latex = f"{latex}_{{{self.take().text}}}"  # p_σi
            return latex
        if first and token.text in ("<", ">", "-", "*"):
            return self.take().text
        if token.text == "·" and (first or after.space > 1 or after.kind in ENDS):
            self.take()
            return r"\cdot "
        if not first and token.text in ("+", "-") and after.kind == "number" and not after.space:
            return self.take().text
        return ""


ENDS = ("end", "close", "operator")


def _script_name(text: str) -> str:
    """Indices such as ij are letters; max, skip and TV are names."""
    if len(text) == 1:
        return text
    indices = len(text) == 2 and text.islower() and text not in ("id", "ll", "un", "re")
    return " ".join(text) if indices else rf"\mathrm{{{text}}}"


def _number(text: str) -> str:
    """A number: 60,000 keeps its comma, and 1e-5 becomes a power of ten."""
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa.replace(",", "{,}")
    if not exponent:
        return mantissa
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
