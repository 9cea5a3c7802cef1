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
# Names in the side bar of pages whose own titles do not say which page it is
SHORT = {
    "README.zh": "中文",
    "tinycv/README": "Overview, and the reading order",
    "tinycv/index": "tinycv: what users import",
    "tinycv/gpu/README": "CUDA kernels: speed and limits",
}


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
    folders = {str(PurePosixPath(file).parent) for file in places.package_files()}
    chapter_pages = [f"{name}/index" for name in sorted(folders, key=chapters.reading_place)]
    listed = {*GUIDES, *EVIDENCE, *demos, "index", "tinycv/README"}
    further = [places.page(file) or "" for file in places.markdown_files()]
    further = [name for name in further if name not in listed]
    groups = {
        "The lecture": [*GUIDES, *further],
        "Demos": demos,
        "The source": ["tinycv/README", *chapter_pages, "api/index"],
        "Evidence": list(EVIDENCE),
    }
    trees = [
        f"```{{toctree}}\n:hidden:\n:titlesonly:\n:caption: {caption}\n\n"
        + "\n".join(f"{SHORT[page]} <{page}>" if page in SHORT else page for page in pages)
        + "\n```"
        for caption, pages in groups.items()
    ]
    return "\n\n" + "\n\n".join(trees) + "\n"
