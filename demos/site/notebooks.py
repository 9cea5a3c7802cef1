"""The demos as Jupyter notebooks:  python -m demos notebooks  writes them to out/notebooks

sphinx-gallery cuts a demo at its ``# %%`` lines and writes the notebook. The page of the demo shows
the same cells, so page and notebook cannot drift apart. Since sphinx-gallery takes the text of a
cell from the comment lines below ``# %%``, and a demo writes it beside, both are cut from a copy in
which the text is Markdown. The code of the copy is that of the demo, line by line.

A kernel has neither the demo's command line nor its docstring. So the first cell of a notebook sets
both, and finds the package: the clone around the notebook, or the package that is installed.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demos.site import names, places

FIRST_CELL = """\
# This cell and the last one are all that the notebook adds to {file}.
# "--quick" takes seconds, and its figures mean nothing. Without it: {minutes}.{pretrained}
flags = ["--quick"]

import sys
from pathlib import Path

here = Path.cwd()
clones = [folder for folder in (here, *here.parents) if (folder / "{file}").is_file()]
if clones:  # the notebook is in a clone of tinycv; otherwise it uses the package that is installed
    sys.path.insert(0, str(clones[0]))
try:
    import tinycv
except ImportError:
    command = 'pip install -e ".[demos]"'
    raise ImportError(f"tinycv is not installed: run  {{command}}  in its clone") from None

# What the demo would find if Python ran it as a script
__file__ = str((clones[0] if clones else here) / "{file}")
__doc__ = "{question}"
sys.argv = [__file__, *flags]"""

PRETRAINED = """
# "--pretrained" trains nothing: it uses the weights that ship, so pictures and figures are real."""

LAST_CELL = """\
# The picture and the film that this run wrote
from IPython.display import Image, display

for path in sorted(show.out.glob(f"{show.name}*.*")):
    if path.suffix in (".png", ".gif"):
        display(Image(filename=str(path)))"""


@dataclass(frozen=True)
class Cell:
    """A cell of a demo. kind: "text" (Markdown) or "code". first, last: its lines in the demo; a
    text has none."""

    kind: str
    content: str
    first: int = 0
    last: int = 0


def copy_for_gallery(source: str) -> str:
    """The source of a demo as sphinx-gallery reads it: the docstring and the text beside ``# %%``
    as Markdown with headings. Every other line stays where it is, counted from the end."""
    body = ast.parse(source).body
    lines = source.splitlines()
    story = markdown_of_story(ast.get_docstring(ast.parse(source)) or "")
    copy = ['r"""' + story + '"""']
    rest = lines[body[0].end_lineno :]
    while rest:
        line = rest.pop(0)
        if not line.startswith("# %%"):
            copy.append(line)
            continue
        title = [line.removeprefix("# %%").strip()]
        while rest and rest[0].startswith("# "):
            title.append(rest.pop(0).removeprefix("# "))
        heading, text = divided(" ".join(title))
        copy += ["# %%", f"# ## {heading}", *(["#", f"# {text}"] if text else [])]
    return "\n".join(copy) + "\n"


def markdown_of_story(docstring: str) -> str:
    """The docstring of a demo as Markdown: its first line is the title, its second a command."""
    title, command, *rest = docstring.splitlines()
    command, _, minutes = command.partition("   ")
    text = "\n".join(rest).strip()
    return f"# {title}\n\n`{command.strip()}`: {minutes.strip()}\n\n{text}\n"


def divided(text: str) -> tuple[str, str]:
    """The heading of a cell, and the text below it: the first sentence, and the others."""
    for match in re.finditer(r"[.?!] (?=[A-Z0-9])", text):
        sentence = text[: match.start() + 1]
        if sentence.count("(") == sentence.count(")"):
            rest = text[match.end() :]
            return sentence.removesuffix("."), rest + ("" if rest[-1] in ".?!" else ".")
    return text, ""


def cells(demo: str) -> list[Cell]:
    """The cells of a demo, as sphinx-gallery cuts them, with the lines of their code."""
    lines = names.text(demo).splitlines()
    found = []
    position = ast.parse(names.text(demo)).body[0].end_lineno or 0
    for kind, content, _ in blocks(demo):
        if kind == "text":
            found.append(Cell("text", content.strip()))
            continue
        code = content.strip("\n").splitlines()
        first = place_of(code, lines, position)
        position = first + len(code) - 1
        found.append(Cell("code", "\n".join(code), first, position))
    return found


def place_of(code: list[str], lines: list[str], start: int) -> int:
    """The number of the first line of a cell in its demo; from line ``start`` on."""
    for first in range(start, len(lines)):
        if lines[first : first + len(code)] == code:
            return first + 1
    raise ValueError(f"place_of: the demo has no lines {code[0]!r} ... {code[-1]!r}")


def blocks(demo: str) -> list:
    """The blocks into which sphinx-gallery divides a demo: (kind, content, line in the copy)."""
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(demo).name
        copy.write_text(copy_for_gallery(names.text(demo)), encoding="utf-8")
        _, found = split_code_and_text_blocks(copy)
    return found


def first_cell(demo: str) -> str:
    """The first cell of the notebook of a demo."""
    question, command = (ast.get_docstring(names.tree(demo)) or "").splitlines()[:2]
    return FIRST_CELL.format(
        file=demo,
        minutes=command.partition("   ")[2].strip(),
        pretrained=PRETRAINED if "pretrained=True" in names.text(demo) else "",
        question=question.replace("\\", "\\\\").replace('"', '\\"'),
    )


def notebook(demo: str) -> str:
    """The notebook of a demo, as JSON."""
    from sphinx_gallery.notebook import jupyter_notebook

    settings = {
        "first_notebook_cell": first_cell(demo),
        "last_notebook_cell": LAST_CELL,
        "pypandoc": False,
        "notebook_images": False,
        "promote_jupyter_magic": False,
    }
    made = jupyter_notebook(blocks(demo), settings, Path(demo).parent)
    for number, cell in enumerate(made["cells"]):
        cell["id"] = f"cell-{number}"  # nbformat 4.5 requires one; it is the same in every build
    made["nbformat"], made["nbformat_minor"] = 4, 5
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write the notebooks of all demos into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for demo in places.demo_files():
        path = folder / f"{Path(demo).stem}.ipynb"
        path.write_text(notebook(demo), encoding="utf-8")
        written.append(path)
    return written
