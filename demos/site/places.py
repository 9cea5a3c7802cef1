"""Where everything is on the site: the page of each file of the clone, and links between pages.

A page has the name of its document, such as "tinycv/sequence/lstm"; its address below the root of
the site is that name with ".html". All links on the site are relative, so the folder can be opened
from a disk, moved, or served from any address.

    README.md                 index             tinycv/nn/__init__.py     tinycv/nn/index
    tests/README.md           tests/README      tinycv/nn/linear.py       tinycv/nn/linear
    demos/06_vit.py           demos/06_vit      tests/nn/test_conv.py     source/tests/nn/...
    demos/figures/06_vit.md   demos/06_vit      tests/nn (a folder)       source/tests/nn/index
"""

from __future__ import annotations

import posixpath
import re
from functools import cache

from demos.site.names import ROOT, Definition

FOLDERS = "tinycv", "demos", "tests", "benchmarks"
# Files that pages of the project link to, and that are in no folder of the four above
OTHER_SOURCES = (
    ".ci/run",
    ".github/workflows/ci.yml",
    "CITATION.cff",
    "LICENSE",
    "pyproject.toml",
    "setup.py",
    "tests/quick.txt",
)
PICTURES = ".png", ".gif", ".jpg", ".svg"
FIGURES = re.compile(r"demos/figures/(\d\d_\w+)\.md")
DEMO = re.compile(r"demos/(\d\d_\w+)\.py")


@cache
def markdown_files() -> tuple[str, ...]:
    """The Markdown files that become pages, as paths below the root."""
    found = sorted(path.name for path in ROOT.glob("*.md"))
    for folder in FOLDERS:
        found += [path for path in below(folder) if path.endswith(".md")]
    return tuple(path for path in found if not FIGURES.fullmatch(path))


@cache
def package_files() -> tuple[str, ...]:
    """The files of the package, each of which has a page with its docstring."""
    return tuple(path for path in below("tinycv") if path.endswith(".py"))


@cache
def demo_files() -> tuple[str, ...]:
    """The numbered demos, in their order."""
    return tuple(path for path in below("demos") if DEMO.fullmatch(path))


@cache
def test_files() -> tuple[str, ...]:
    """The files of tests."""
    return tuple(path for path in below("tests") if posixpath.basename(path).startswith("test_"))


@cache
def source_files() -> tuple[str, ...]:
    """The files whose pages show their source and nothing else."""
    found = [path for path in OTHER_SOURCES if (ROOT / path).is_file()]
    for folder in FOLDERS[1:]:
        found += [path for path in below(folder) if path.endswith(".py")]
    return tuple(path for path in found if path not in demo_files())


@cache
def below(folder: str) -> tuple[str, ...]:
    """All files below a folder, as paths below the root; nothing hidden, nothing compiled."""
    found = []
    for path in sorted((ROOT / folder).rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith((".", "__pycache__")) or part == "out" for part in parts)
        if path.is_file() and not hidden:
            found.append("/".join(parts))
    return tuple(found)


def page(path: str) -> str | None:
    """The page of a file or a folder of the clone. None: it has no page."""
    path = path.rstrip("/")
    figures = FIGURES.fullmatch(path)
    if figures:
        return f"demos/{figures[1]}"
    if path in ("README.md", "."):
        return "index"
    if path in markdown_files():
        return path.removesuffix(".md")
    if path in package_files():
        return path.removesuffix(".py").replace("__init__", "index")
    if path in demo_files():
        return path.removesuffix(".py")
    if path in source_files():
        return f"source/{path.lstrip('.')}"
    if (ROOT / path).is_dir():
        return page_of_folder(path)
    if (ROOT / path).is_file():  # a file of data: its folder's page lists it
        return page_of_folder(posixpath.dirname(path))
    return None


def page_of_folder(path: str) -> str | None:
    """The page of a folder: of its ``__init__``, of its README, or a list of its files."""
    if f"{path}/__init__.py" in package_files():
        return f"{path}/index"
    if path in ("demos/figures", "demos/gallery"):
        return "demos/README"
    if f"{path}/README.md" in markdown_files():
        return f"{path}/README"
    return f"source/{path}/index" if path in source_folders() else None


@cache
def source_folders() -> tuple[str, ...]:
    """The folders whose pages list their files: those without an ``__init__`` and a README."""
    folders = {posixpath.dirname(path) for folder in FOLDERS for path in below(folder)}
    of_other_pages = {posixpath.dirname(path) for path in (*package_files(), *markdown_files())}
    return tuple(sorted(folders - of_other_pages - {"demos/figures", "demos/gallery"}))


def address(path: str, anchor: str = "") -> str | None:
    """Where a file or folder of the clone is, below the root of the site. None: nowhere."""
    if path.endswith(PICTURES):
        return path if (ROOT / path).is_file() else None
    if path == "demos/README.md" and f"demos/{anchor}.py" in demo_files():
        return f"demos/{anchor}.html"
    name = page(path)
    if name is None:
        return None
    if FIGURES.fullmatch(path):
        anchor = "figures"
    return f"{name}.html#{anchor}" if anchor else f"{name}.html"


def relative(here: str, target: str) -> str:
    """A link from the page ``here`` to an address below the root of the site."""
    path, hash_, anchor = target.partition("#")
    if path == f"{here}.html":
        return f"#{anchor}" if anchor else posixpath.basename(path)
    return posixpath.relpath(path, posixpath.dirname(here) or ".") + hash_ + anchor


def link(here: str, path: str, anchor: str = "") -> str:
    """A link from the page ``here`` to the page of a file, which has one."""
    target = address(path, anchor)
    if target is None:
        raise ValueError(f"link: {path} has no page on the site")
    return relative(here, target)


def line(here: str, definition: Definition) -> str:
    """A link from the page ``here`` to the line that defines something."""
    anchor = f"L{definition.line}" if definition.line else ""
    return link(here, definition.file, anchor)
