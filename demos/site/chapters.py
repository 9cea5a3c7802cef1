"""The pages of the package: one per file, with its docstring, its source, and what leads there; one
per folder, with its map and its symbols; and the API, from docstrings.
"""

from __future__ import annotations

import ast
import posixpath
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import PurePosixPath

from demos.readme import READING, chapter_files
from demos.site import crossings, formulas, markdown, names, places
from demos.site.prose import prose as typeset

FILE_ROW = re.compile(r"^ *((?:[\w/]+\.py(?:, )?)+)\s*(.*)$")
ROW = re.compile(r"^ *(\S.*?)(?<![.;:])\s{2,}(\S.*)$")


# ── a file ───────────────────────────────────────────────────────────────────────────────────────


def file_page(file: str) -> str:
    """The page of one file of the package."""
    here = places.page(file) or ""
    docstring = ast.get_docstring(names.tree(file)) or ""
    sentence, body = first_sentence(docstring)
    title, lead = title_and_lead(sentence, file)
    parts = [
        "---\norphan: true\nhide-toc: true\n---",
        f"# {markdown.escaped(title)}",
        markdown.raw(path_to(file, here)),
        f"**{markdown.of_docstring(lead, file, here).strip()}**" if lead else "",
        markdown.of_docstring(body, file, here),
        markdown.raw(crossings_box(file, here)),
        "## Source",
        f"```{{source}} {file}\n:first: {line_after_docstring(file)}\n```",
        markdown.raw(neighbours(file, here)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def first_sentence(docstring: str) -> tuple[str, str]:
    """The first paragraph of a docstring on one line, and the rest."""
    first, _, rest = docstring.partition("\n\n")
    if any(line.startswith("  ") for line in first.splitlines()):
        return "", docstring
    return " ".join(first.split()), rest


def title_and_lead(sentence: str, file: str) -> tuple[str, str]:
    """The title of a file's page, and the sentence below it, from the first sentence of its
    docstring: "LSTM: a recurrent layer" is divided at the colon. Otherwise the title is the name of
    the file."""
    term, colon, rest = sentence.partition(": ")
    if colon and len(term) <= 70 and "`" not in term:
        return term, rest[:1].upper() + rest[1:]
    return PurePosixPath(file).name, sentence


def line_after_docstring(file: str) -> int:
    """The first line of a file's source below its docstring."""
    lines = names.text(file).splitlines()
    body = names.tree(file).body
    number = (body[0].end_lineno or 0) if ast.get_docstring(names.tree(file)) else 0
    while number < len(lines) and not lines[number].strip():
        number += 1
    return min(number + 1, len(lines))


def path_to(file: str, here: str) -> str:
    """The line below the title: the folder, the file, its length, and its public names."""
    folder = posixpath.dirname(file)
    links = [anchor_to(here, f"{folder}/__init__.py", folder.replace("/", " / "))]
    length = len(names.text(file).splitlines())
    api = [
        f'<a href="{places.relative(here, api_address(name))}">{name.rpartition(".")[2]}</a>'
        for name in public_of_file(file)
    ]
    offered = f" · API: {', '.join(api)}" if api else ""
    return f'<p class="path">{links[0]} / {PurePosixPath(file).name} · {length} lines{offered}</p>'


def crossings_box(file: str, here: str) -> str:
    """What leads to a file and from it: slides, demos, tests."""
    rows = []
    slides = [
        f'<a href="{places.relative(here, f"lecture.html#{crossings.slide_anchor(slide)}")}">'
        f"{escape(slide.english)}</a>"
        for slide in crossings.slides(file)
    ]
    if slides:
        rows.append(("Slide", ", ".join(slides)))
    demos = [anchor_to(here, demo, PurePosixPath(demo).stem) for demo in crossings.demos(file)]
    if demos:
        rows.append(("Demos", ", ".join(demos)))
    own, others = crossings.tests(file)
    if own:
        rows.append(("Tests", ", ".join(anchor_to(here, test, test_name(test)) for test in own)))
    if others:
        links = ", ".join(anchor_to(here, test, test_name(test)) for test in others)
        label = "one further test file" if len(others) == 1 else f"{len(others)} further test files"
        rows.append(("", f"<details><summary>used by {label}</summary>{links}</details>"))
    return definition_list(rows)


def definition_list(rows: list[tuple[str, str]]) -> str:
    """Rows of a term and of HTML, as a small table beside the text."""
    if not rows:
        return ""
    cells = "".join(f"<dt>{term}</dt><dd>{html}</dd>" for term, html in rows)
    return f'<dl class="crossings">{cells}</dl>'


def test_name(test: str) -> str:
    """The name of a test file, as links show it."""
    return PurePosixPath(test).stem


def anchor_to(here: str, path: str, label: str) -> str:
    """An HTML link from a page to the page of a file."""
    return f'<a href="{places.link(here, path)}">{escape(label)}</a>'


@cache
def reading_order() -> tuple[str, ...]:
    """The files of the package in the order in which they read best."""
    return tuple(f"tinycv/{file}" for title in READING for file in chapter_files(title))


def neighbours(file: str, here: str) -> str:
    """Links to the files before and after this one in the reading order."""
    order = reading_order()
    if file not in order:
        return ""
    i = order.index(file)
    links = []
    if i > 0:
        links.append(anchor_to(here, order[i - 1], f"← {short(order[i - 1])}"))
    if i + 1 < len(order):
        links.append(anchor_to(here, order[i + 1], f"{short(order[i + 1])} →"))
    return f'<nav class="neighbours" aria-label="Reading order">{"".join(links)}</nav>'


def short(file: str) -> str:
    return file.removeprefix("tinycv/")


# ── a folder ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Part:
    """A part of the docstring of an ``__init__``. kind: "text", "files" or "symbols". rows: the
    cells of a table. heading: the line that introduces the table."""

    kind: str
    text: str = ""
    heading: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def parts_of_map(docstring: str) -> list[Part]:
    """The docstring of an ``__init__``, divided into text, tables of files, tables of symbols."""
    parts, waiting = [], []
    lines = docstring.splitlines()
    while lines:
        kind = kind_of_row(lines[0])
        before = waiting[-1].rstrip() if waiting else ""
        starts = not before or before.endswith(":")  # a table begins after a heading or a gap
        if kind == "text" or not starts or not (lines[0].startswith(" ") or kind == "files"):
            waiting.append(lines.pop(0))
            continue
        table = []
        while lines and lines[0].strip():
            table.append(lines.pop(0))
        heading = ""
        while waiting and not waiting[-1].strip():
            waiting.pop()
        if waiting and waiting[-1].rstrip().endswith(":"):
            while waiting and waiting[-1].strip():
                heading = f"{waiting.pop().strip()} {heading}".strip()
        parts += [Part("text", "\n".join(waiting)), Part(kind, "", heading, rows_of(table, kind))]
        waiting = []
    parts.append(Part("text", "\n".join(waiting)))
    return [part for part in parts if part.rows or part.text.strip()]


def kind_of_row(line: str) -> str:
    """Is a line the row of a table of files, or of one of symbols, or text?"""
    if FILE_ROW.match(line):
        return "files"
    return "symbols" if ROW.match(line) else "text"


def rows_of(lines: list[str], kind: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a table of plain text: cells are divided by two spaces or more. A line that
    begins further right than a row continues the second cell of the row before it."""
    margin = len(lines[0]) - len(lines[0].lstrip())
    rows: list[list[str]] = []
    for line in lines:
        match = FILE_ROW.match(line)
        if rows and len(line) - len(line.lstrip()) > margin:
            rows[-1][1] += " " + line.strip()
        elif kind == "files":
            rows.append([match[1], match[2]] if match else [line.strip(), ""])
        else:
            cells = re.split(r"(?<![.;:])\s{2,}", line.strip(), maxsplit=2)
            rows.append(cells + [""] * (3 - len(cells)))
    return tuple(tuple(row) for row in rows)


def folder_page(file: str) -> str:
    """The page of a folder of the package, from the docstring of its ``__init__``."""
    here = places.page(file) or ""
    folder = posixpath.dirname(file)
    title, body = first_sentence(ast.get_docstring(names.tree(file)) or "")
    title = re.sub(rf"^(Chapter \d, |{PurePosixPath(folder).name}: )", "", title)
    lead = f"**{markdown.of_docstring(title[:1].upper() + title[1:], file, here).strip()}**"
    parts = [f"# {folder_title(folder)}", lead]
    for part in parts_of_map(body):
        parts += [markdown.escaped(part.heading) if part.heading else ""]
        parts.append(part_as_markdown(part, file, here))
    unlisted = [path for path in listed_nowhere(file, body)]
    if unlisted:
        links = [f"[{PurePosixPath(path).name}]({places.link(here, path)})" for path in unlisted]
        parts.append(f"Also here: {', '.join(links)}.")
    if public_of_folder(folder):
        parts.append(f"[The API of {folder}]({places.relative(here, api_page(folder) + '.html')})")
    parts += [
        "## Source of `__init__.py`",
        f"```{{source}} {file}\n:first: {line_after_docstring(file)}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def folder_title(folder: str) -> str:
    """The title of a folder: that of the chapter, where it is one."""
    for title, (name, _) in READING.items():
        if f"tinycv/{name}" == folder:
            return title
    return folder


def reading_place(folder: str) -> tuple[int, str]:
    """A key that sorts the folders of the package in the order in which they read best."""
    order = [f"tinycv/{name}" for name, _ in READING.values()]
    return (order.index(folder) if folder in order else len(order), folder)


def listed_nowhere(file: str, text: str) -> list[str]:
    """The files and folders beside an ``__init__`` that its docstring does not name."""
    folder = posixpath.dirname(file)
    return [
        path
        for path in places.package_files()
        if posixpath.dirname(path) == folder
        and path != file
        and PurePosixPath(path).name not in text
    ]


def part_as_markdown(part: Part, file: str, here: str) -> str:
    """A part of a map as Markdown."""
    if part.kind == "text":
        return markdown.of_docstring(part.text, file, here)
    if part.kind == "files":
        rows = [
            [markdown.with_paths(name, file, here), prose(text, file, here)]
            for name, text in part.rows
        ]
        return markdown.table(["file", ""], rows)
    return symbols_table(part, file, here)


def symbols_table(part: Part, file: str, here: str) -> str:
    """A table of symbols, without its column of shapes if it has none."""
    rows = [
        [formulas.label(symbol), prose(meaning, file, here), prose(shape, file, here)]
        for symbol, meaning, shape in part.rows
    ]
    if not any(row[2] for row in rows):
        return markdown.table(["symbol", "meaning"], [row[:2] for row in rows])
    return markdown.table(["symbol", "meaning", "shape"], rows)


def prose(text: str, file: str, here: str) -> str:
    """A cell of a table."""
    return markdown.with_paths(typeset(text), file, here)


def glossary_page() -> str:
    """All symbols, chapter by chapter, from the docstrings of the folders."""
    here = "glossary"
    parts = [
        "# Glossary of symbols",
        "One symbol has one meaning within a chapter. The tables are those of each chapter's "
        "`__init__.py`.",
    ]
    folders = [posixpath.dirname(f) for f in places.package_files() if f.endswith("__init__.py")]
    for file in [f"{folder}/__init__.py" for folder in sorted(folders, key=reading_place)]:
        found = [
            part
            for part in parts_of_map(ast.get_docstring(names.tree(file)) or "")
            if part.kind == "symbols"
        ]
        if not found or file == "tinycv/__init__.py":
            continue
        folder = posixpath.dirname(file)
        parts.append(f"## {folder_title(folder)}")
        parts.append(f"[{folder}]({places.link(here, file)})")
        for part in found:
            parts += [markdown.escaped(part.heading), symbols_table(part, file, here)]
    return "\n\n".join(part for part in parts if part) + "\n"


# ── the API ──────────────────────────────────────────────────────────────────────────────────────


@cache
def api_folders() -> tuple[str, ...]:
    """The folders of the package that offer names to users."""
    folders = [posixpath.dirname(f) for f in places.package_files() if f.endswith("__init__.py")]
    return tuple(folder for folder in folders if public_of_folder(folder))


@cache
def public_of_folder(folder: str) -> tuple[tuple[str, names.Definition], ...]:
    """The public names of a folder, each with its definition: those of ``__all__`` if there is one,
    otherwise those that the ``__init__`` imports from the package."""
    file = f"{folder}/__init__.py"
    here = names.module(file)
    listed = listed_in_all(file)
    if listed is None:
        listed = sorted(here.imported) if folder == "tinycv" else []
    found = []
    for name in listed:
        definition = names.resolve(names.dotted(file), name)
        if definition is not None and definition.line and not name.startswith("_"):
            found.append((name, definition))
    return tuple(found)


def listed_in_all(file: str) -> list[str] | None:
    """The names of ``__all__`` in a file. None: it has none."""
    for node in names.tree(file).body:
        if isinstance(node, ast.Assign) and names.stored_names(node) == ["__all__"]:
            return sorted(ast.literal_eval(node.value), key=str.lower)
    return None


@cache
def public_of_file(file: str) -> tuple[str, ...]:
    """The public names that a file defines, as users write them: "nn.Linear"."""
    found = {}
    for folder in api_folders():
        for name, definition in public_of_folder(folder):
            if definition.file == file:
                found.setdefault(definition, f"{folder.replace('/', '.')}.{name}")
    return tuple(found.values())


def api_page(folder: str) -> str:
    """The name of the page with the API of a folder."""
    return f"api/{folder.replace('/', '.')}"


def api_address(full_name: str) -> str:
    """Where the API describes a name such as "tinycv.nn.Linear"."""
    folder, _, _ = full_name.rpartition(".")
    return f"{api_page(folder.replace('.', '/'))}.html#{full_name}"


def api_index() -> str:
    """The list of all public names."""
    parts = ["# API", "Every public name of tinycv, from its docstring."]
    for folder in api_folders():
        dotted = folder.replace("/", ".")
        links = [
            f"[`{name}`]({places.relative('api/index', api_address(f'{dotted}.{name}'))})"
            for name, _ in public_of_folder(folder)
        ]
        parts += [f"## {dotted}", " · ".join(links)]
    pages = "\n".join(api_page(folder).removeprefix("api/") for folder in api_folders())
    parts.append(f"```{{toctree}}\n:hidden:\n\n{pages}\n```")
    return "\n\n".join(parts) + "\n"


def api_of_folder(folder: str) -> str:
    """The API of one folder: each public name with its signature, docstring and line."""
    here = api_page(folder)
    dotted = folder.replace("/", ".")
    parts = [
        f"# {dotted}",
        f"[{folder}/]({places.link(here, f'{folder}/__init__.py')}): the map of its files.",
    ]
    for name, definition in public_of_folder(folder):
        parts.append(entry(f"{dotted}.{name}", name, definition, here))
    return "\n\n".join(parts) + "\n"


def entry(full_name: str, name: str, definition: names.Definition, here: str) -> str:
    """The description of one public name."""
    node = node_at(definition)
    where = f"{short(definition.file)}, line {definition.line}"
    parts = [
        f'## <span id="{full_name}" class="anchor"></span>{markdown.escaped(name)}',
        markdown.raw(f'<p class="path"><a href="{places.line(here, definition)}">{where}</a></p>'),
        f"```python\n{signature(name, node)}\n```",
    ]
    docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
    if docstring:
        parts.append(markdown.of_docstring(docstring, definition.file, here))
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        comment = comment_above(definition)
        parts.append(markdown.with_paths(markdown.escaped(comment), definition.file, here))
    if isinstance(node, ast.ClassDef):
        parts += [method_entry(method, definition.file, here) for method in methods(node)]
    return "\n\n".join(part for part in parts if part)


DOCUMENTED = (ast.FunctionDef, ast.ClassDef)


def node_at(definition: names.Definition) -> ast.stmt:
    """The statement that defines something."""
    for node in ast.walk(names.tree(definition.file)):
        if isinstance(node, ast.stmt) and node.lineno == definition.line:
            return node
    raise ValueError(f"node_at: {definition.file} has no statement at line {definition.line}")


def signature(name: str, node: ast.stmt) -> str:
    """How a name is called: the head of its function, or that of its class's ``__init__``. A name
    that is assigned (an op of the table) shows the assignment."""
    if isinstance(node, ast.FunctionDef):
        return call_form(name, node)
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                return f"class {call_form(name, inner, bound=True)}"
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})"
    return ast.unparse(node)


def call_form(name: str, node: ast.FunctionDef, bound: bool = False) -> str:
    """The head of a function on one line, or one argument per line if that is too long."""
    arguments = node.args
    if bound:
        arguments = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0].args
        del (arguments.posonlyargs or arguments.args)[:1]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and not bound else ""
    outside_brackets = r", (?=[^\[\]()]*(?:[\[(][^\[\]()]*[\])][^\[\]()]*)*$)"
    pieces = re.split(outside_brackets, ast.unparse(arguments))
    pieces = [re.sub(r"^(\w+: [^=]+)=", r"\1 = ", piece) for piece in pieces]
    line = f"{name}({', '.join(pieces)}){returns}"
    if len(line) <= 80:
        return line
    return f"{name}(\n" + "".join(f"    {piece},\n" for piece in pieces) + f"){returns}"


def methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """The public methods of a class that have docstrings."""
    return [
        inner
        for inner in node.body
        if isinstance(inner, ast.FunctionDef)
        and not inner.name.startswith("_")
        and ast.get_docstring(inner)
    ]


def method_entry(method: ast.FunctionDef, file: str, here: str) -> str:
    """A method of a class: its head as a link to its line, and its docstring."""
    is_static = any(ast.unparse(name) == "staticmethod" for name in method.decorator_list)
    head = call_form(method.name, method, bound=not is_static).replace("\n", " ")
    link = places.line(here, names.Definition(file, method.lineno))
    docstring = markdown.of_docstring(ast.get_docstring(method) or "", file, here)
    return (
        markdown.raw(f'<p class="method"><a href="{link}"><code>.{escape(head)}</code></a></p>')
        + f"\n{docstring}"
    )


def comment_above(definition: names.Definition) -> str:
    """The comment lines directly above a definition, or the one at the end of its line."""
    lines = names.text(definition.file).splitlines()
    found = []
    for line in reversed(lines[: definition.line - 1]):
        if not line.startswith("# ") or "──" in line:
            break
        found.insert(0, line.removeprefix("# "))
    return " ".join(found) or lines[definition.line - 1].partition("  # ")[2]
