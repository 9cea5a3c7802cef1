"""Every indented block of the chapters is classified, and no sign of a formula is lost in LaTeX."""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path

import pytest

from demos.site.blocks import EXCEPTIONS, Block, kind_of, rows_of, split
from demos.site.formulas import docstring_to_markdown
from demos.site.latex import formula
from demos.site.notation import GREEK, HIGH, LOW

ROOT = Path(__file__).parents[2]
CHAPTERS = ("sequence", "vision", "adversarial", "likelihood", "diffusion")
FOLDERS = (*CHAPTERS, "engine", "nn", "optim")


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


DOCSTRINGS = {
    path.relative_to(ROOT).as_posix(): docstring(path)
    for folder in FOLDERS
    for path in sorted((ROOT / "tinycv" / folder).glob("*.py"))
}
BLOCKS = [
    (name, block)
    for name, text in DOCSTRINGS.items()
    for block in split(text)
    if isinstance(block, Block)
]
FORMULAS = sorted(
    {
        cell.text
        for name, block in BLOCKS
        if kind_of(block, name) == "formula"
        for row in rows_of(block)
        for cell in row.cells
        if cell.is_formula
    }
)


def test_every_chapter_has_formulas():
    having = {name.split("/")[1] for name, block in BLOCKS if kind_of(block, name) == "formula"}
    assert having >= {*CHAPTERS, "nn", "optim"}


def test_a_block_with_a_sign_that_only_formulas_have_is_typeset():
    signs = re.compile(r"[√∇∂∫Σ∏]|\b[A-Za-z]_[a-z0-9]\b")
    literal = {}
    for name, block in BLOCKS:
        text = "\n".join(block.lines)
        if signs.search(text) and kind_of(block, name) in ("code", "command", "drawing"):
            literal[name] = text
    assert literal == {}


def test_python_and_commands_are_not_typeset():
    for name, block in BLOCKS:
        text = "\n".join(block.lines)
        if re.search(
            r"^(?:def|for \w+ in .*:$|with \w+.*:$|import|python -m) ", text, re.MULTILINE
        ):
            assert kind_of(block, name) in ("code", "command"), text


@pytest.mark.parametrize("place", EXCEPTIONS)
def test_an_exception_names_a_block_that_exists(place):
    first_lines = [(name, " ".join(block.lines[0].split())) for name, block in BLOCKS]
    assert place in first_lines


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_no_word_of_a_docstring_is_lost(name):
    """All words of two letters or more, in their order, are in the Markdown too."""
    shown = docstring_to_markdown(DOCSTRINGS[name], name)
    shown = re.sub(r"\\(?:text|mathrm|operatorname|mathcal|mathbb)\b", " ", shown)
    shown = re.sub(
        r"\\([A-Za-z]+)", " ", re.sub(r"\\(log|ln|exp|sin|cos|tanh|max|min|det)\b", r"\1", shown)
    )
    words = re.compile(r"[a-z]{4,}")
    plain = set(words.findall(DOCSTRINGS[name]))
    plain -= {"sqrt"}
    assert plain <= set(words.findall(shown))


NAMES = {"\\" + latex: letter for letter, latex in GREEK.items()}
NAMES |= {r"\sum": "Σ", r"\prod": "Π", r"\int": "∫", r"\nabla": "∇", r"\partial": "∂"}
NAMES |= {r"\le": "≤", r"\ge": "≥", r"\leftarrow": "←", r"\to": "→", r"\sim": "~", r"\odot": "⊙"}
NAMES |= {r"\infty": "∞", r"\pm": "±", r"\circ": "∘", r"\cdot": "·", r"\times": "×", r"\top": "T"}
NAMES |= {rf"\{name}": name for name in ("log", "ln", "exp", "sin", "cos", "tanh", "max", "min")}
NAMES |= {r"\det": "det", r"\mid": "|", r"\|": "‖", r"\prime": "'", r"\pi": "π", r"\ldots": "…"}
NAMES |= {r"\lvert": "|", r"\rvert": "|", r"\lVert": "‖", r"\rVert": "‖"}
SHORT = {"<=": "≤", ">=": "≥", "<-": "←", "->": "→", "...": "…", "||": "‖", "∏": "Π", "½": "12"}
SHORT |= {"¼": "14", "sqrt": "", "pi": "π", "inf": "∞", "ϵ": "ε"}


def signs_of_plain(text: str) -> list[str]:
    for before, after in SHORT.items():
        text = re.sub(rf"\b{before}\b" if before.isalpha() else re.escape(before), after, text)
    text = "".join(HIGH.get(c, LOW.get(c, c)) for c in text)
    text = re.sub(r"(?<=[\w)])~(?=_)", "", text)  # s~ is an accent
    text = re.sub(r"(?<=[\dA-Z]) x (?=[\dA-Z])|(?<=\d)x(?=\d)|(?<=\(\w) x (?=\w\))", "×", text)
    kept = unicodedata.normalize("NFD", text)
    return [c for c in kept if c.isalnum() or c in "=<>≤≥←→~⊙∞±∘·×|‖'∇∂∫…+-*"]


def signs_of_latex(latex: str) -> list[str]:
    latex = re.sub(
        r"\\(?:text|mathrm|operatorname|mathcal|mathbb|t?frac|sqrt|hat|bar|tilde)\b", "", latex
    )
    latex = re.sub(
        r"\\(?:left|right)(?![a-zA-Z])|\\(?:q?quad|colon)|\\[, _]|\\[lr]floor", " ", latex
    )
    latex = re.sub(r"\\(?:[A-Za-z]+|\|)", lambda match: NAMES.get(match[0], match[0]), latex)
    return [c for c in latex if c.isalnum() or c in "=<>≤≥←→~⊙∞±∘·×|‖'∇∂∫…+-*"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_sign_of_a_formula_is_lost(text):
    assert sorted(signs_of_latex(formula(text))) == sorted(signs_of_plain(text))


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def rows_of_table(text: str) -> list[list[str]]:
    """The cells of the only table of a docstring."""
    lines = docstring_to_markdown(text, "a.py").split(":::{list-table}")[1].splitlines()
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("* -"):
            rows.append([])
        if line.startswith(("* -", "  -")):
            rows[-1].append(line[3:].strip())
    return rows


def test_names_below_each_other_in_the_second_column_are_rows_of_their_own():
    text = """Kernels.

    forward     moments      the mean of every strip
                             and the squares
                normalise    the result
    backward    sums         of all strips
    """
    assert rows_of_table(text) == [
        ["forward", "moments", "the mean of every strip and the squares"],
        ["", "normalise", "the result"],
        ["backward", "sums", "of all strips"],
    ]


def test_two_spaces_after_a_full_stop_separate_no_cells():
    text = """Ways.

    columns     for few channels.  It copies
                the windows.  Then it adds
    direct      for many channels
    """
    assert rows_of_table(text) == [
        ["columns", "for few channels. It copies the windows. Then it adds"],
        ["direct", "for many channels"],
    ]
