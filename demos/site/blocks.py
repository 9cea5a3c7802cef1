"""The blocks of a docstring: which of them are formulas, tables, code, commands or drawings.

An indented block is one of these. ``kind_of`` decides which, by rules that a reader can follow.

    formula    at least one cell of a line is a formula. Two spaces or more separate the cells: a
               label in words, the formula, a remark or a citation
    table      words in columns, such as the files of a folder or the symbols of a chapter
    code       Python
    command    what a shell runs
    drawing    lines and boxes

EXCEPTIONS is for blocks that the rules get wrong; a test fails when it names a block that no longer
exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from demos.site.latex import items_of

# (file, first line of a block) -> what it is, where the rules get it wrong
EXCEPTIONS = {
    (
        "tinycv/sequence/decode.py",
        "step(tokens (B,) int64, state) -> (log_probs (B, V), state)",
    ): "code",
    ("tinycv/engine/methods.py", "here in PyTorch"): "drawing",  # two cells stand below "here"
}


# Splitting a docstring


@dataclass
class Block:
    """An indented block, without its indentation. Blank lines inside it stay."""

    lines: list[str]


def split(text: str) -> list[Block | list[str]]:
    """The paragraphs (lists of lines) and the indented Blocks of a docstring, in their order."""
    found: list[Block | list[str]] = []
    lines = [line.rstrip() for line in text.expandtabs().splitlines()]
    at = 0
    while at < len(lines):
        if not lines[at]:
            at += 1
            continue
        in_block = _in_block(lines[at])
        end = at + 1
        while end < len(lines):
            following = next((line for line in lines[end:] if line), "")
            if not in_block and not lines[end] or _in_block(following) != in_block:
                break
            end += 1
        piece = lines[at:end]
        found.append(Block(_dedent(piece)) if in_block else piece)
        at = end
    return found


def _in_block(line: str) -> bool:
    """Does a line belong to an indented block? A row of a list of files does, indented or not."""
    return line.startswith("    ") or _is_file_row(line)


def _is_file_row(line: str) -> bool:
    """Such as "vit.py    Vision Transformer": names of files, a gap, words."""
    return re.match(r"[\w./]+\.py(?:, \w+\.py)* {2,}\S", line) is not None


def _dedent(lines: list[str]) -> list[str]:
    """The lines without the indentation that all of them share."""
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return [line[margin:] for line in lines]


# What a block is

CODE = re.compile(
    r"^(?:@|def |for .+:$|with [\w.]+\(|import |from \w+ import |    \.\.\.)"
    r"|^[\w, .]+ = .*\w\(.*(?:\"|\w=\w)|^\w+\(.*\)\s+#|lambda xp|\.backward\(|\(xp, |self\.\w"
    r"|^[\w, .]+ = .*\w\.\w+\(|^run = |^\w+ \+= |^# "
)
COMMAND = re.compile(r"^(?:\$ |python |pip |pytest|mpiexec|git )")
CITATION = re.compile(
    r"\b(?:1[89]|20)\d\d[a-z]?\b|ibid|\beqs?\. ?\d|\bsections? \d|\bappendix|\bfig(?:ure|\.) ?\d"
    r"|\btheorem|\balgorithm \d|\btable \d|\blater\b|et al\."
)


def kind_of(block: Block, name: str) -> str:
    """formula, table, code or command."""
    first = " ".join(block.lines[0].split())
    if (name, first) in EXCEPTIONS:
        return EXCEPTIONS[name, first]
    lines = [line for line in block.lines if line.strip()]
    if all(COMMAND.match(line.strip()) for line in lines):
        return "command"
    if any(CODE.search(line) for line in lines):
        return "code"
    if re.search("[─│└┘┬]", "\n".join(lines)) or any(bars(line) > 1 for line in lines):
        return "drawing"
    if has_columns(block) or has_symbols(block):
        return "table"
    if any(cell.is_formula for row in rows_of(block) for cell in row.cells):
        return "formula"
    return "table"


def has_columns(block: Block) -> bool:
    """A header stands over the columns."""
    first, rest = block.lines[0], block.lines[1:]
    if "->" in first or "=" in first or len(rest) < 2 or any(line[:1] == " " for line in rest):
        return False
    starts = [match.start() for match in re.finditer(r"\S+(?: \S+)*", first)]
    if not rest or len(starts) < 3 and not (len(starts) == 2 and starts[0] > 0):
        return False
    indented = starts[0] > 0 and any(line[:1].strip() for line in rest)
    return indented or len(starts) >= 4 and not CITATION.search(first)


def has_symbols(block: Block) -> bool:
    """A list of symbols, or of files, and what they mean."""
    rows = [row for row in rows_of(block) if row.cells[0].start == 0]
    if len(rows) < 2 or not all(len(row.cells) > 1 for row in rows):
        return False
    named = 0
    for row in rows:
        first, second = row.cells[0], row.cells[1] if len(row.cells) > 1 else None
        if first.is_formula and re.search(RELATION, first.text):
            return False
        if second is not None and second.is_formula and not _is_label(first.text):
            return False
        named += second is not None and len(first.text) < 50
    return named >= 0.8 * len(rows)


def _is_label(text: str) -> bool:
    """Is a text a list of symbols, or of names in capital letters?"""
    parts = text.split(", ")
    return all(re.fullmatch(SYMBOL, part) or part.isupper() for part in parts)


# Cells


@dataclass
class Cell:
    """A piece of a line, and the column at which it starts."""

    start: int
    text: str
    is_formula: bool = False


@dataclass
class Row:
    """The cells of one line."""

    cells: list[Cell]
    length: int  # of the whole line


def cells_of(line: str, parts: bool = True) -> list[Cell]:
    """The cells of a line: two spaces or more separate them, except inside a formula."""
    pieces = [Cell(m.start(), m[0]) for m in re.finditer(r"\S+(?: \S+)*", line)]
    done: list[Cell] = []
    for piece in _balanced_cells(pieces):
        piece.is_formula = looks_like_a_formula(piece.text)
        if done and _belongs_together(done[-1], piece):
            gap = piece.start - done[-1].start - len(done[-1].text)
            joined = done[-1].text + " " * min(gap, 3) + piece.text
            done[-1] = Cell(done[-1].start, joined, True)
        else:
            done.append(piece)
    return [part for cell in done for part in _parts(cell)] if parts else done


def _balanced_cells(pieces: list[Cell]) -> list[Cell]:
    """A bracket that opens in one cell and closes in the next makes one cell of both."""
    done: list[Cell] = []
    for piece in pieces:
        if done and not balanced(done[-1].text) and depth(done[-1].text) > 0:
            done[-1] = Cell(done[-1].start, f"{done[-1].text} {piece.text}")
        else:
            done.append(piece)
    return done


LABEL = re.compile(r"^([a-z][a-z ]+:) (.+)$")
COMMA = re.compile(r"[,;] +(?=(?!then |else )[a-z]{2,}[ :]|[a-z]: |an? [a-z]{2})")


def _parts(cell: Cell) -> list[Cell]:
    """label: formula, and formula, remark are separate cells too."""
    label = LABEL.match(cell.text)
    if label and "=" in label[2] and looks_like_a_formula(label[2]):
        start = cell.start + label.start(2)
        return [Cell(cell.start, label[1]), *_parts(Cell(start, label[2], True))]
    for match in COMMA.finditer(cell.text):
        left, right = cell.text[: match.start()], cell.text[match.end() :]
        if looks_like_a_formula(left) and not looks_like_a_formula(right):
            return [Cell(cell.start, left, True), Cell(cell.start + match.end(), right)]
    return [cell]


RELATION = r"(?:<=|>=|->|<-|[=≤≥~<>])"
OPEN_END = re.compile(rf"(?:[+\-*/·⊙]|(?:^|\s){RELATION}|(?:Σ|Π|∏)(?:_\S+)?|^min_\w max_\w)$")
OPEN_START = re.compile(rf"^(?:[+*/·⊙]|{RELATION})(?: |$)")


def _belongs_together(left: Cell, right: Cell) -> bool:
    """Are two cells one formula with a gap inside? So if both are formulas, or if a sign at the
    gap, such as = or +, needs another side."""
    if not parses(f"{left.text}  {right.text}") or CITATION.search(right.text):
        return False
    if OPEN_END.search(left.text) or OPEN_START.match(right.text):
        joined = f"{left.text} {right.text}"
        if re.fullmatch(r"[A-Za-z]+(?:_\w+)?", left.text) and looks_like_a_formula(joined):
            return True
        short = len(WORD.findall(left.text)) <= 3 and len(WORD.findall(right.text)) <= 5
        return left.is_formula or right.is_formula or short
    return left.is_formula and (right.is_formula or right.text in ("or", "and"))


WORD = re.compile(
    r"(?<![\w\\(.])[a-zA-Z][a-z]+(?:-[a-z]+)*(?![\w(\[_^'²])|(?<!\S)[aI](?= [a-z]{2})"
)
NOT_WORDS = {"log", "exp", "ln", "sin", "cos", "max", "min", "argmax", "argmin", "det", "tr"}
NOT_WORDS |= {"softmax"}
EVIDENCE = re.compile(r"[⌊⟨_^²³√Σ∏Π∫∇∂½ᵀ|·⊙α-ωΓ-Ω]|\w\(")


NOT_FIRST = re.compile(r"^(?:from|for|the|if|and|with|since|where|so|but|in|an? [a-z]{2,})\b")


def looks_like_a_formula(text: str) -> bool:
    """The notation covers it, it has a sign of mathematics, and not too many words."""
    bare = text.rstrip(",;:")
    if (
        " += " in bare
        or ":" in bare
        or CITATION.search(text)
        or NOT_FIRST.match(bare)
        or not parses(bare)
    ):
        return False
    if bars(bare) > 1:
        return False
    words = words_of(bare)
    signs = len(re.findall(r"[-+*/()|\[\]=<>^_²√Σ∫·⊙~α-ωᵀ]", bare))
    relation = re.search(rf"(?:^|(?<=\s)){RELATION}(?=\s|$)", bare)
    if relation is None:
        evidence = EVIDENCE.search(bare) is not None or signs > 5
        if is_list(bare) or not evidence or re.search(r"[a-z]{3}_[a-z]{3}", bare):
            return False
        return not words or len(words) <= signs / 3
    before, after = bare[: relation.start()], bare[relation.end() :].strip()
    if not after:
        return False
    if not words_of(before):
        return len(words) <= max(9, signs)
    if len(words_of(before)) == 1 and " " not in before.strip() and not after[:1].isdigit():
        return len(words) <= max(2, 2 * signs + 1)
    if re.fullmatch(r"[\d.]+", after):
        return False  # a setting, such as patch = 1
    return len(words_of(before)) <= 4 and len(words) <= max(2, 2 * signs)


def bars(text: str) -> int:
    """How many bars stand alone outside of brackets: | a b | c d | draws columns."""
    outside = re.sub(r"\([^()]*\)|\[[^\[\]]*\]", "", text)
    return len(re.findall(r"(?<!\S)\|(?!\S)", outside))


def words_of(text: str) -> list[str]:
    """The words of ordinary language in a text. Names of functions, such as log, are not."""
    return [word for word in WORD.findall(text) if word not in NOT_WORDS]


def is_list(text: str) -> bool:
    """Such as (B, T, D), or θ_D, θ_G, or x_0: symbols or shapes, not a statement."""
    shape = re.fullmatch(r"\([^()]*,[^()]*\)|[^ ]+(?:, [^ ]+)+,?", text)
    return shape is not None or re.fullmatch(r"[^ (+\-*/|√½]+", text) is not None


def rows_of(block: Block, parts: bool = True) -> list[Row]:
    """The lines of a block, each divided into cells."""
    lines = [line for line in block.lines if line.strip()]
    return [Row(cells_of(line, parts), len(line)) for line in lines]


SYMBOL = re.compile(
    r"(?:log )?[A-Za-zα-ωΓ-Ω][\u0302-\u0304]?'?(?:_\w+)?(?:\(\w(?:[,|] ?\w)*\))?|k[HW]|[εᾱ]\S*"
)


def stripped(text: str) -> str:
    """Without the comma or colon in front of a remark."""
    return text.rstrip(",;:")


def balanced(text: str) -> bool:
    """Does a text close as many brackets of each kind as it opens?"""
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


def depth(text: str) -> int:
    """How many more brackets a text opens than it closes."""
    return sum(text.count(c) for c in "([{") - sum(text.count(c) for c in ")]}")


def parses(text: str) -> bool:
    """Is a text in the notation of latex.py?"""
    try:
        items_of(text)
    except ValueError:
        return False
    return True
