"""What is done to Markdown and to docstrings before Sphinx reads them: links are rewritten to the
pages of the site, headings get the anchors that GitHub gives them, and names of files become links.

MyST takes all links as they are (``myst_all_links_external``), so they are written here, relative
to the page on which they stand. A test follows each of them on the finished site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from html import escape

from demos.site import places
from demos.site.formulas import docstring_to_markdown

# What is no prose: fenced blocks, comments, code spans, formulas
CODE = re.compile(
    r"(^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=fence)\s*?$"
    r"|<!--.*?-->"
    r"|(?P<span>`+)(?!`).*?(?<!`)(?P=span)(?!`)"
    r"|(?<!\\)\$[^$\n]+\$)",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)\)")
ATTRIBUTE = re.compile(r'\b(src|href)="([^"]+)"')
HEADING = re.compile(r"^(#{1,6}) +(.*?) *#*$", re.MULTILINE)
PATH = re.compile(r"(?<![\w/.\[\\])(?<!\]\()((?:(?:\w|\\_)+/)*(?:\w|\\_)+\.py)(?![\w/(])")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with ``change`` applied to what is neither code, comment nor formula."""
    parts, position = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[position : match.start()]), match[0]]
        position = match.end()
    return "".join([*parts, change(text[position:])])


def for_site(text: str, file: str, here: str) -> str:
    """A Markdown file of the clone as the page ``here`` shows it."""
    text = with_anchors(text)
    return outside_code(text, lambda prose: with_links(prose, file, here))


def with_links(prose: str, file: str, here: str) -> str:
    """Prose of a Markdown file whose links lead to pages of the site."""

    def of_markdown(match: re.Match) -> str:
        mark, label, target = match.groups()
        label = LINK.sub(of_markdown, label)
        target = target_on_site(target, file, here)
        if mark:
            return f'<img src="{escape(target)}" alt="{escape(label)}">'
        return f"[{label}]({target})"

    def of_html(match: re.Match) -> str:
        return f'{match[1]}="{target_on_site(match[2], file, here)}"'

    return ATTRIBUTE.sub(of_html, LINK.sub(of_markdown, prose))


def target_on_site(target: str, file: str, here: str) -> str:
    """The page of the site that shows the target of a link. A link out of the project stays as it
    is."""
    if re.match(r"[a-z]+:", target):
        return target
    path, _, anchor = target.partition("#")
    if path:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
    found = places.address(path or file, anchor)
    if found is None:
        raise ValueError(f"{file}: the link {target} leads to nothing that the site shows")
    return places.relative(here, found)


def with_anchors(text: str) -> str:
    """The text with an anchor before each heading, by the name that GitHub gives it."""
    counts: dict[str, int] = {}

    def of_heading(prose: str) -> str:
        def anchored(match: re.Match) -> str:
            name = slug(match[2])
            counts[name] = counts.get(name, -1) + 1
            if counts[name]:
                name = f"{name}-{counts[name]}"
            return f'{match[1]} <span id="{escape(name)}" class="anchor"></span>{match[2]}'

        return HEADING.sub(anchored, prose)

    # headings may hold code spans, so only fenced blocks are left out
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else of_heading(part) for part in parts)


def slug(heading: str) -> str:
    """The anchor of a heading, by GitHub's rule: lower case, without punctuation, and a hyphen for
    each space."""
    shown = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


def of_docstring(text: str, file: str, here: str) -> str:
    """A docstring of a file as Markdown: formulas typeset, names of files as links."""
    return with_paths(docstring_to_markdown(text, file), file, here)


def with_paths(text: str, file: str, here: str) -> str:
    """Markdown in which each name of a file that has a page is a link: "rnn.py" beside the file,
    "engine/ops.py" in the package, "tests/test_order.py". After "tinycv/vision/vit.py, stem.py" the
    second name is in the folder of the first."""
    folder = posixpath.dirname(file)

    def linked(match: re.Match) -> str:
        nonlocal folder
        name = match[1].replace("\\_", "_")
        for start in (folder, posixpath.dirname(file), "tinycv", ""):
            path = posixpath.normpath(posixpath.join(start, name))
            if places.page(path) is not None:
                folder = posixpath.dirname(path) if "/" in name else folder
                return f"[{match[1]}]({places.link(here, path)})"
        return match[1]

    return outside_code(text, lambda prose: PATH.sub(linked, prose))


def escaped(text: str) -> str:
    """Plain text as Markdown that shows it as it is, except `code`, which stays code."""
    return outside_code(text, lambda prose: re.sub(r"([\\*_\[\]<>|#$~^])", r"\\\1", prose))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    escaped_lines = [[re.sub(r"(?<!\\)[|]", r"\\|", cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped_lines)


def raw(html: str) -> str:
    """HTML on a page, as it is."""
    return f"```{{raw}} html\n{html}\n```\n" if html else ""
