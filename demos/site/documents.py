"""The documents of the site: the name of each page, and the Markdown from which Sphinx makes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from demos.site import chapters, demo_pages, fronts, places

# Pages of the side bar, in this order; every further Markdown file of the clone follows
GUIDES = (
    "lecture",
    "README.zh",
    "glossary",
)
EVIDENCE = (
    "tests/README",
    "benchmarks/README",
    "tinycv/gpu/README",
    "tinycv/vision/README",
    "CONTRIBUTING",
    "CHANGELOG",
)


def documents() -> Iterator[tuple[str, str]]:
    """Every document: its name, such as "demos/06_vit", and its Markdown."""
    for file in places.markdown_files():
        name = places.page(file) or ""
        text = fronts.markdown_page(file)
        if name == "index":
            text += contents()
        yield name, text
    yield "lecture", fronts.lecture_page()
    yield "glossary", chapters.glossary_page()
    for demo in places.demo_files():
        yield places.page(demo) or "", demo_pages.demo_page(demo)
    for file in places.package_files():
        is_folder = PurePosixPath(file).name == "__init__.py"
        text = chapters.folder_page(file) if is_folder else chapters.file_page(file)
        yield places.page(file) or "", text
    yield "api/index", chapters.api_index()
    for folder in chapters.api_folders():
        yield chapters.api_page(folder), chapters.api_of_folder(folder)


def contents() -> str:
    """The side bar."""
    demos = ["demos/README", *(places.page(demo) or "" for demo in places.demo_files())]
    folders = [
        places.page(file) or ""
        for file in places.package_files()
        if PurePosixPath(file).name == "__init__.py"
    ]
    listed = {*GUIDES, *EVIDENCE, *demos, "index", "tinycv/README"}
    further = [places.page(file) or "" for file in places.markdown_files()]
    further = [name for name in further if name not in listed]
    groups = {
        "The lecture": [*GUIDES, *further],
        "Demos": demos,
        "The source": ["tinycv/README", *sorted(folders, key=order_of_chapter), "api/index"],
        "Evidence": list(EVIDENCE),
    }
    trees = [
        f"```{{toctree}}\n:hidden:\n:titlesonly:\n:caption: {caption}\n\n"
        + "\n".join(pages)
        + "\n```"
        for caption, pages in groups.items()
    ]
    return "\n\n" + "\n\n".join(trees) + "\n"


def order_of_chapter(page: str) -> tuple[int, str]:
    """The folders of the package in the order in which they read best."""
    order = [folder for folder, _ in chapters.READING.values()]
    folder = page.removeprefix("tinycv/").removesuffix("/index")
    return (order.index(folder) if folder in order else len(order), page)
