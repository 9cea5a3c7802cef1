"""Docstrings as Markdown for the site, with their formulas typeset (MyST, and MathJax).

A block of formulas becomes a table with one row per line: its label, the two sides of the formula,
and its remark or citation. So a long remark wraps, and on a narrow screen it goes below.

latex.py     the notation of the docstrings, and LaTeX of it
blocks.py    which blocks of a docstring are formulas
prose.py     formulas inside a sentence
mathjax.py   puts MathJax and its fonts into the site
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from demos.site.blocks import (
    CITATION,
    SYMBOL,
    Block,
    Cell,
    Row,
    has_columns,
    has_symbols,
    kind_of,
    looks_like_a_formula,
    parses,
    rows_of,
    split,
    stripped,
    words_of,
)
from demos.site.latex import formula, sides
from demos.site.prose import STRONG, paragraphs, prose, remark


def math_extensions() -> list[str]:
    """The extensions of Sphinx that typeset formulas."""
    return ["sphinx.ext.mathjax", "demos.site.mathjax"]


def docstring_to_markdown(text: str, name: str) -> str:
    """A docstring, cleaned of its indentation, as MyST Markdown. name: of the file, such as
    tinycv/sequence/lstm.py."""
    pieces = []
    for piece in split(text):
        if isinstance(piece, Block):
            pieces.append(_block(piece, kind_of(piece, name)))
        else:
            pieces += [prose(part) for part in paragraphs(piece)]
    return "\n\n".join(pieces) + "\n"


def _block(block: Block, kind: str) -> str:
    """A block as Markdown. kind: what it is (blocks.py)."""
    text = "\n".join(block.lines)
    if kind == "code":
        return f"```{'python' if _is_python(text) else 'text'}\n{text}\n```"
    if kind == "command":
        return f"```console\n{text}\n```"
    if kind == "formula":
        return formula_table(lines_of(rows_of(block)))
    if kind == "table" and has_columns(block):
        return columns_table(block)
    if kind == "table" and has_symbols(block):
        return symbols_table(block)
    return f"```text\n{text}\n```"


def _is_python(text: str) -> bool:
    """Can Pygments colour it? Otherwise Sphinx reports an error."""
    from pygments.lexers.python import PythonLexer
    from pygments.token import Error

    return all(kind is not Error for kind, _ in PythonLexer().get_tokens(text))


@dataclass
class Line:
    """A row of a formula block, as the site shows it."""

    label: str = ""
    formula: str = ""
    words: str = ""  # where another row has its formula
    remark: str = ""


def lines_of(rows: list[Row]) -> list[Line]:
    """The rows of a block of formulas as the site shows them. A row of words that begins further
    right than the row above it continues that row."""
    lines: list[Line] = []
    starts: list[dict[int, str]] = []  # of each line: which part of it starts at which column
    for before, row in zip([Row([], 0), *rows], rows, strict=False):
        cells = list(row.cells)
        words = not any(cell.is_formula for cell in cells)
        if lines and cells[0].start > min(starts[-1]) and words:
            _continue(lines[-1], starts[-1], cells)
            continue
        goes_on = before.length > 84 and len(cells) == 1 and cells[0].text[0].islower()
        if lines and goes_on and words and not CITATION.search(before.cells[-1].text):
            # a sentence that goes on at the start of the next line
            part = "remark" if lines[-1].remark else "words"
            setattr(lines[-1], part, f"{getattr(lines[-1], part)} {cells[0].text}")
            continue
        line, where = _line(cells)
        lines.append(line)
        starts.append(where)
    return lines


def _line(cells: list[Cell]) -> tuple[Line, dict[int, str]]:
    """One row as the site shows it, and which of its parts begins at which column."""
    line, where = Line(), {}
    formulas = [at for at, cell in enumerate(cells) if cell.is_formula]
    if formulas and formulas[0] <= 1:
        first = formulas[0]
        if first == 1:
            line.label = cells[0].text
            where[cells[0].start] = "label"
        line.formula = cells[first].text
        where[cells[first].start] = "formula"
        rest = cells[first + 1 :]
    else:
        if len(cells) > 1 and not CITATION.search(cells[1].text):
            line.label = cells[0].text
            where[cells[0].start] = "label"
            cells = cells[1:]
        line.words = cells[0].text
        where[cells[0].start] = "words"
        rest = cells[1:]
    for cell in rest:
        where.setdefault(cell.start, "remark")
    line.remark = _remarks([cell.text for cell in rest])
    return line, where


def _remarks(texts: list[str]) -> str:
    """Remarks one after the other, with a comma between them; a semicolon after a citation."""
    joined = ""
    for text in texts:
        if joined:
            mark = "" if joined.endswith(":") else ";" if CITATION.search(joined) else ","
            joined = f"{joined.rstrip(',;')}{mark} "
        joined += text
    return joined.rstrip(",")


def _continue(line: Line, where: dict[int, str], cells: list[Cell]) -> None:
    """Words under a row: the rest of the part above them, or a further remark."""
    for cell in cells:
        part = where.get(cell.start, "remark")
        if part == "formula":
            part = "remark"
        before = getattr(line, part)
        same = where.get(cell.start) == part
        if part == "remark" and (not same or CITATION.search(before)):
            setattr(line, part, _remarks([before, cell.text] if before else [cell.text]))
        else:
            setattr(line, part, f"{before} {cell.text}".strip())
        where.setdefault(cell.start, part)


def formula_table(lines: list[Line]) -> str:
    """Lines as displayed formulas if there is nothing else, otherwise as a table of formulas."""
    if all(line.formula and not line.label and not line.remark for line in lines):
        return _aligned(lines)
    in_sides = all(line.formula and sides(stripped(line.formula))[1] for line in lines)
    labelled = sum(bool(line.label) for line in lines)
    if not any(line.label and line.formula for line in lines):
        for line in lines:
            # the formula of one row stands where others have a label, or the other way round
            if 2 * labelled > len(lines) and 0 < len(line.formula) < 32:
                line.label, line.formula = line.formula, ""
            elif 2 * labelled <= len(lines) and line.label:
                line.remark = _remarks([text for text in (line.words, line.remark) if text])
                line.label, line.words = "", line.label
    rows = []
    for line in lines:
        row = [label(line.label)]
        if in_sides:
            row += [_display(side) for side in sides(stripped(line.formula))]
        elif line.formula:
            row.append(_display(formula(stripped(line.formula))))
        else:
            row.append(remark(line.words))
        rows.append([*row, remark(line.remark)])
    kind = "formulas sides" if in_sides else "formulas"
    kind += " labelled" if any(line.label for line in lines) else ""
    kind += " remarked" if any(line.remark for line in lines) else ""
    return _list_table(kind, rows)


def _list_table(kind: str, rows: list[list[str]], header: bool = False) -> str:
    """A table in Markdown. Columns that are empty in every row are left out."""
    filled = [at for at in range(len(rows[0])) if any(row[at] for row in rows)]
    out = [":::{list-table}", f":class: {kind}"]
    out += [":header-rows: 1"] if header else []
    out.append("")
    for row in rows:
        for place, at in enumerate(filled):
            out.append(f"{'  -' if place else '* -'} {row[at]}".rstrip())
    return "\n".join([*out, ":::"])


def symbols_table(block: Block) -> str:
    """Names or symbols, what they mean, and a remark such as their shape."""
    rows: list[list[str]] = []
    starts: list[int] = []
    for row in rows_of(block, parts=False):
        cells = _with_whole_sentences(row.cells)
        if cells[0].start == 0 or not rows:
            texts = [cell.text for cell in cells]
            rows.append([texts[0], texts[1] if len(texts) > 1 else "", _remarks(texts[2:])])
            starts = [cell.start for cell in cells]
            continue
        if len(cells) > 1 and len(starts) > 1 and cells[0].start == starts[1]:
            # another row of the same name: moments, normalise, ... of the forward pass
            rows.append(["", cells[0].text, _remarks([cell.text for cell in cells[1:]])])
            continue
        for cell in cells:
            place = max((at for at, start in enumerate(starts) if start <= cell.start), default=0)
            place = min(max(place, 1), 2)
            rows[-1][place] = f"{rows[-1][place]} {cell.text}".strip()
    shown = [[label(row[0]), prose(row[1]), prose(row[2])] for row in rows]
    return _list_table("symbols", shown)


def _with_whole_sentences(cells: list[Cell]) -> list[Cell]:
    """The two spaces after a full stop separate no cells."""
    joined = cells[:1]
    for cell in cells[1:]:
        last = joined[-1]
        if last.text.endswith(".") and cell.start == last.start + len(last.text) + 2:
            joined[-1] = Cell(last.start, f"{last.text} {cell.text}")
        else:
            joined.append(cell)
    return joined


def columns_table(block: Block) -> str:
    """A table with a header. What stands right of the last column belongs to it."""
    lines = [line for line in block.lines if line.strip()]
    starts = [m.start() for m in re.finditer(r"\S+(?: \S+)*", lines[0])]
    if starts[0] > 0:
        starts = [0, *starts]
    rows: list[list[str]] = []
    for line in lines:
        row = [""] * (len(starts) + 1)
        for match in re.finditer(r"\S+(?: \S+)*", line):
            near = [at for at, start in enumerate(starts) if abs(start - match.start()) <= 4]
            before = [at for at, start in enumerate(starts) if start <= match.start()]
            place = near[0] if near else before[-1]
            if place == 0 and row[0]:
                row[0] += ": " + match[0]
                continue
            if row[place] or not near and place == len(starts) - 1:
                place = len(starts)
            row[place] = f"{row[place]}, {match[0]}" if row[place] else match[0]
        rows.append(row)
    shown = [[label(cell) for cell in row] for row in rows]
    return _list_table("columns", shown, header=True)


def label(text: str) -> str:
    """A cell that names something: symbols become mathematics, files and words stay as they are."""
    if re.search(r"[\w)]\.[a-z]|[a-z]{2,}_[a-z]", text):
        return prose(text)  # names of files and of code
    if looks_like_a_formula(text):
        return f"${formula(text, inline=True)}$"
    parts = text.split(", ")
    if all(re.fullmatch(SYMBOL, part) and parses(part) for part in parts):
        return ", ".join(f"${formula(part, inline=True)}$" for part in parts)
    if STRONG.search(text) and not words_of(text) and parses(text) and ".py" not in text:
        return f"${formula(text, inline=True)}$"
    if re.fullmatch(r"-?[a-z]+(?: [-+] [a-z]+)+|-[a-z]+", text):
        return f"${formula(text, inline=True)}$"
    return prose(text)


def _display(latex: str) -> str:
    """A formula in the size of a displayed one."""
    return rf"$\displaystyle {latex}$" if latex else ""


def _aligned(lines: list[Line]) -> str:
    """Formulas without labels and remarks, displayed, with their relations below each other."""
    if len(lines) == 1:
        return f"```{{math}}\n{formula(stripped(lines[0].formula))}\n```"
    rows = []
    for line in lines:
        left, right = sides(stripped(line.formula))
        rows.append(f"{left} &{right}")
    inner = " \\\\\n".join(rows)
    return f"```{{math}}\n\\begin{{aligned}}\n{inner}\n\\end{{aligned}}\n```"
