"""The notation of formulas in plain text: its signs, its names, and how a text is cut into tokens.

latex.py says what they mean together.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

GREEK = {}
for _letters, _names in (
    ("αβγδεζηθ", "alpha beta gamma delta varepsilon zeta eta theta"),
    ("ικλμνξ", "iota kappa lambda mu nu xi"),
    ("πρστυφχψω", "pi rho sigma tau upsilon varphi chi psi omega"),
    ("ΓΔΘΛΞΦΨΩ", "Gamma Delta Theta Lambda Xi Phi Psi Omega"),
):
    GREEK |= dict(zip(_letters, _names.split(" "), strict=True))
ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "~": "tilde"}
HIGH = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᴼᵗ", "0123456789+-TOt", strict=True))
LOW = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
PARTS = {"½": r"\tfrac{1}{2}", "¼": r"\tfrac{1}{4}"}
LARGE = {"Σ": r"\sum", "∏": r"\prod", "Π": r"\prod", "∫": r"\int"}
OPERATORS = {
    "·": r"\cdot", "⊙": r"\odot", "∘": r"\circ", "*": "*", "×": r"\times", "±": r"\pm",
    "+": "+", "-": "-", "/": "/",
}  # fmt: skip
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": r"\le", ">=": r"\ge", "≤": r"\le", "≥": r"\ge",
    "->": r"\to", "<-": r"\leftarrow", "~": r"\sim", "!=": r"\ne", "≈": r"\approx",
    "||": r"\,\|\,", "|": r"\mid",
}  # fmt: skip
SEPARATORS = {",": ",", ";": ";", ".": ".", ":": r"\colon"}
SYMBOLS = {"∇": r"\nabla", "∂": r"\partial", "∞": r"\infty", "...": r"\ldots", "%": r"\%"}
OPEN = {"(": "(", "[": "[", "{": r"\{", "⟨": r"\langle", "⌊": r"\lfloor"}
CLOSE = {")": ")", "]": "]", "}": r"\}", "⟩": r"\rangle", "⌋": r"\rfloor"}
MATCH = {"(": ")", "[": "]", "{": "}", "⟨": "⟩", "⌊": "⌋"}
# Operators of LaTeX, and others that take an argument without brackets
KNOWN = {"log", "ln", "exp", "sin", "cos", "tanh", "max", "min", "det"}
FUNCTIONS = {"softmax", "argmax", "argmin", "sigmoid", "softplus", "tr", "diag", "erf", "sqrt"}
# Symbols of several letters, which multiply like others
NAMES = {"lr": r"\mathrm{lr}", "eps": r"\mathrm{eps}", "pi": r"\pi", "inf": r"\infty"}
TWO_LETTER_WORDS = {
    "an", "as", "at", "be", "by", "if", "in", "is", "it", "no", "of", "on", "or", "so", "to", "we",
    "CE", "GN", "IN", "JS", "KL", "LN", "PE", "id", "ln", "sg", "tr", "up",
}  # fmt: skip

TOKEN = re.compile(
    r"""(?P<size>\d+x\d+)|(?P<number>\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?![\d]))
    |(?P<dots>\.\.\.)
    |(?P<relation><=|>=|->|<-|!=|\|\||[=<>≤≥≈~|])
    |(?P<name>[A-Za-z]{2,}'s\b|[A-Za-z]{3,}'(?=\ [a-z])|[A-Za-z]+(?:-[A-Za-z]{2,})*)
    |(?P<greek>[αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΦΨΩ])
    |(?P<accent>[\u0302\u0303\u0304])
    |(?P<high>[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᴼᵗ]+)|(?P<low>[₀₁₂₃₄₅₆₇₈₉]+)
    |(?P<part>[½¼])|(?P<large>[ΣΠ∏∫])|(?P<root>√)
    |(?P<prime>'+)|(?P<script>[_^])
    |(?P<operator>[·⊙∘*×±+\-/−])|(?P<symbol>[∇∂∞%])|(?P<separator>[,;.:])
    |(?P<open>[(\[{⟨⌊])|(?P<close>[)\]}⟩⌋])""",
    re.VERBOSE,
)


@dataclass
class Token:
    """The smallest piece of a formula: a number, a name, a sign."""

    kind: str
    text: str
    space: int  # how many spaces stand before it


def tokens_of(text: str) -> list[Token]:
    """The tokens of a formula. ValueError for a character that is not in the notation."""
    text = "".join(unicodedata.normalize("NFD", c) if c.isalpha() else c for c in text)
    found, at = [], 0
    while at < len(text):
        start = at
        while at < len(text) and text[at] == " ":
            at += 1
        if at == len(text):
            break
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"formula: {text[at]!r} in {text!r} is not in the notation")
        kind, space = match.lastgroup or "", at - start
        glued = space == 0 and bool(found) and found[-1].kind in ("name", "greek", "accent")
        if match[0] == "~" and glued:
            kind = "accent"
        found.append(Token(kind, match[0], space))
        at = match.end()
    for left, middle, right in zip(found, found[1:], found[2:], strict=False):
        same = left.kind == right.kind == "number"
        same |= left.kind == "name" and left.text == right.text
        if middle.text == "x" and middle.space and right.space and same:
            middle.kind, middle.text = "operator", "×"  # 3 x 3, P x P
    return found
