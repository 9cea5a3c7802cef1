"""Every page of the project keeps its word: links lead somewhere, commands name what exists, and
Python blocks run and print what the page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pages
import pytest
from pages import ROOT

sys.path.insert(0, str(ROOT))  # demos and benchmarks are no part of the installed package
PAGES = pages.pages()


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_and_image_leads_to_a_file_and_a_heading(page):
    assert not pages.broken_links(page)


# the changelog names what was there before
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_every_command_names_files_modules_and_flags_that_exist(page):
    assert not pages.broken_commands(page)


# test_readme.py runs the blocks of README.md itself
@pytest.mark.parametrize("page", [page for page in PAGES if page != ROOT / "README.md"], ids=name)
def test_every_python_block_runs_and_prints_what_the_page_says(page):
    pages.check_python_blocks(page)


def test_the_pages_that_the_checks_are_for_are_found():
    assert {"README.md", "CONTRIBUTING.md", "tests/README.md", "tinycv/gpu/README.md"} <= {
        name(page) for page in PAGES
    }
    assert pages.check_python_blocks(ROOT / "tinycv/vision/README.md") == 1


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Writes a page into an otherwise empty project."""
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr(pages, "ROOT", tmp_path)

    def write(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        pages.anchors.cache_clear()
        return path

    yield write
    pages.anchors.cache_clear()


def test_a_link_without_a_file_or_a_heading_is_noticed(page):
    text = (
        "# A *b*, `c`!\n# A *b*, `c`!\n[1](#a-b-c) [2](#a-b-c-1) [3](#c) [4](lost.md) [5](page.md)"
    )
    assert pages.broken_links(page(text)) == ["#c", "lost.md"]
    assert pages.broken_links(page('<img src="no.png">\n`[code](x)`')) == ["no.png"]
    assert pages.broken_links(page("[out](../elsewhere.md) [web](https://a.example/x)")) == [
        "../elsewhere.md"
    ]


@pytest.mark.parametrize(
    "command, problem",
    [
        ("python tests/no-file.py", "there is no tests/no-file.py"),
        ("python -m tinycv.lost", "there is no tinycv.lost"),
        ("python -m lost.lost", "there is no lost.lost"),
        ("python -m tinycv.engine.check tanh --speed", "no flag --speed"),
        ("python -m benchmarks run models --minutes 3", "no flag --minutes"),
        ("pytest tests/no-file.py", "tests/no-file.py does not exist"),
        ("pytest --sideways", "no flag --sideways"),
        ("X=1 pytest @tests/lost.txt", "tests/lost.txt does not exist"),
    ],
)
def test_a_command_that_cannot_work_is_noticed(page, command, problem):
    assert pages.broken_commands(page(f"```\n{command}   # why\n```")) == [
        f"{' '.join(w for w in command.split() if '=' not in w)}: {problem}"
    ]
    assert len(pages.broken_commands(page(f"Run `{command}`."))) == 1


def test_an_extra_that_setup_does_not_have_is_noticed():
    assert pages.pip_problems(["install", "-e", ".[demos,lost]"]) == ["setup.py has no extra lost"]


def test_a_block_that_prints_something_else_than_the_page_says_is_noticed(page):
    assert pages.check_python_blocks(page("```python\nprint(6 * 7)\n```\nprints `42`.")) == 1
    with pytest.raises(AssertionError, match="prints '42'"):
        pages.check_python_blocks(page("```python\nprint(6 * 7)\n```\nprints `43`."))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        pages.check_python_blocks(page("```python\n1 / 0\n```"))
    with pytest.raises(SyntaxError):
        pages.check_python_blocks(page("<!-- not run: -->\n```python\n1 +\n```"))
