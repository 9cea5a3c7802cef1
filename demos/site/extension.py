"""The part of the site that runs inside Sphinx: a directive that shows source, and pages that show
source and nothing else.

    ```{source} tinycv/sequence/lstm.py
    :first: 32
    ```

The source is made into HTML when its page is written, so it takes no room in Sphinx's tree of the
document and does not fill the search index, which finds what the text says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from demos.site import chapters, crossings, demo_pages, places, source


class source_lines(nodes.General, nodes.Element):
    """Lines of a file, in the tree of a document."""


class SourceDirective(SphinxDirective):
    """Shows lines of a file. :first: and :last: are line numbers."""

    required_arguments = 1
    option_spec = {"first": int, "last": int}

    def run(self) -> list[nodes.Node]:
        return [
            source_lines(
                file=self.arguments[0],
                first=self.options.get("first", 1),
                last=self.options.get("last"),
            )
        ]


def visit(translator: Any, node: source_lines) -> None:
    """Write the lines into the page."""
    here = translator.builder.current_docname
    translator.body.append(
        source.shown(
            node["file"],
            lambda definition: places.line(here, definition),
            node["first"],
            node["last"],
        )
    )
    raise nodes.SkipNode


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The pages of sources outside the package, and of folders without a README."""
    for file in places.source_files():
        yield places.page(file) or "", {"title": file, "body": source_body(file)}, "page.html"
    for folder in places.source_folders():
        yield places.page(folder) or "", {"title": folder, "body": folder_body(folder)}, "page.html"


def source_body(file: str) -> str:
    """The body of a page that shows a source: what it tests, then its lines."""
    here = places.page(file) or ""
    folder, _, name = file.rpartition("/")
    rows = test_rows(file, here) if file in places.test_files() else []
    above = chapters.anchor_to(here, folder, folder) if places.page(folder) else escape(folder)
    return (
        f'<h1>{escape(name)}</h1><p class="path">{above} / {escape(name)}</p>'
        + chapters.definition_list(rows)
        + source.shown(file, lambda definition: places.line(here, definition))
    )


def test_rows(test: str, here: str) -> list[tuple[str, str]]:
    """What leads from a test to what it tests: slides, demos, files."""
    rows = []
    slides = crossings.slides(test)
    if slides:
        rows.append(("Slides", ", ".join(demo_pages.slide_link(slide, here) for slide in slides)))
        demos = crossings.unique([crossings.demo_of(slide) for slide in slides])
        links = [chapters.anchor_to(here, demo, posixpath.basename(demo)[:-3]) for demo in demos]
        rows.append(("Demos", ", ".join(links)))
    own, others = crossings.tested(test)
    if own:
        rows.append(("Tests", ", ".join(demo_pages.file_link(file, here) for file in own)))
    if others:
        links = ", ".join(demo_pages.file_link(file, here) for file in others)
        rows.append(
            (
                "Uses",
                f"<details><summary>{len(others)} files of the package</summary>{links}</details>",
            )
        )
    return rows


def folder_body(folder: str) -> str:
    """The list of the files of a folder."""
    here = places.page(folder) or ""
    items = []
    for file in places.below(folder):
        name = file.removeprefix(f"{folder}/")
        target = places.address(file)
        label = escape(name)
        if target is not None:
            label = f'<a href="{places.relative(here, target)}">{label}</a>'
        items.append(f"<li>{label}</li>")
    return f"<h1>{escape(folder)}/</h1><ul>{''.join(items)}</ul>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_node(source_lines, html=(visit, None))
    app.add_directive("source", SourceDirective)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
