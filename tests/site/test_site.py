"""The site as it is built: every link leads somewhere, in both directions; nothing is fetched; the
page, notebook and script of a demo are the same code."""

from __future__ import annotations

import json
import posixpath
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))  # demos is no part of the installed package

from demos.lecture import LECTURE  # noqa: E402
from demos.site import chapters, crossings, notebooks, places  # noqa: E402

# Pages that Sphinx makes beside the documents
GENERATED = {"genindex", "search"}


@cache
def html(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def pages(site: Path) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)


def anchors(page: Path) -> set[str]:
    return set(re.findall(r'\sid="([^"]+)"', html(page)))


def targets(page: Path) -> list[str]:
    """Where the links and images of a page lead, except out of the site."""
    found = re.findall(r'\s(?:href|src)="([^"]*)"', html(page))
    return [target.replace("&amp;", "&") for target in found if not re.match(r"[a-z]+:", target)]


def links_from(site: Path, page: str) -> set[str]:
    """The pages and anchors to which a page has links, as addresses below the root of the site."""
    found = set()
    for target in targets(site / f"{page}.html"):
        path, hash_, anchor = unquote(target).partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else ""
        found |= {path + hash_ + anchor, path}
    return found


def test_every_document_became_a_page(site):
    expected = {
        *(places.page(file) for file in places.markdown_files()),
        *(places.page(file) for file in places.package_files()),
        *(places.page(file) for file in places.demo_files()),
        *(places.page(file) for file in places.source_files()),
        *(chapters.api_page(folder) for folder in chapters.api_folders()),
        *("lecture", "glossary", "api/index"),
    }
    made = {path.relative_to(site).with_suffix("").as_posix() for path in pages(site)}
    assert expected <= made
    assert len(places.demo_files()) == 25


def test_every_link_leads_to_a_file_and_an_anchor(site):
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    known = {page.relative_to(site).as_posix(): anchors(page) for page in pages(site)}
    broken = []
    for name in known:
        for target in set(targets(site / name)):
            path, _, anchor = unquote(target).partition("#")
            path = path.partition("?")[0]
            file = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            file = file if path else name
            if file not in files or (anchor and file in known and anchor not in known[file]):
                broken.append(f"{name}: {target}")
    assert len(known) > 600 and not broken


def test_no_page_loads_anything_from_elsewhere(site):
    for page in pages(site):
        loaded = re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", html(page))
        away = [
            tag
            for tag in loaded
            if re.search(r'\b(?:src|href|srcset)="(?:https?:)?//', tag)
            and 'rel="canonical"' not in tag
        ]
        assert not away, page


def test_no_style_sheet_or_script_loads_anything_from_elsewhere(site):
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        away = re.findall(
            r"""(?:@import\s*|url\(\s*|fetch\(\s*|import\(\s*|\.(?:src|href)\s*=\s*)["']?https?://\S*""",
            text,
        )
        assert not away, path


@pytest.mark.parametrize("slide", LECTURE, ids=crossings.slide_anchor)
def test_slide_page_source_and_test_lead_to_each_other(slide, site):
    lecture = f"lecture.html#{crossings.slide_anchor(slide)}"
    demo = places.page(crossings.demo_of(slide))
    test = places.page(slide.test)
    files = [places.page(file) for file in crossings.package_files_of(slide)]
    everything = {demo, test, *files}
    assert lecture in links_from(site, "index")
    assert {f"{page}.html" for page in everything} <= links_from(site, "lecture")
    for page in everything:
        assert lecture in links_from(site, page)
    for file in files:
        assert {f"{demo}.html", f"{test}.html"} <= links_from(site, file)
    for page in (demo, test):
        assert {f"{file}.html" for file in files} <= links_from(site, page)
    assert f"{test}.html" in links_from(site, demo)
    assert f"{demo}.html" in links_from(site, test)


def test_a_name_in_a_demo_leads_to_the_line_that_defines_it(site):
    source = (ROOT / "tinycv/vision/vit.py").read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(source, 1) if text.startswith("class ViT("))
    assert f"tinycv/vision/vit.html#L{line}" in links_from(site, "demos/06_vit")
    assert f'<span class="line" id="L{line}">' in html(site / "tinycv/vision/vit.html")


def test_a_name_in_a_test_leads_to_the_line_that_defines_it(site):
    source = (ROOT / "tinycv/sequence/lstm.py").read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(source, 1) if text.startswith("class LSTM("))
    test = places.page("tests/sequence/test_lstm.py")
    assert f"tinycv/sequence/lstm.html#L{line}" in links_from(site, test)


def shown_source(page: Path) -> list[tuple[int, str]]:
    """The lines of source on a page: number and text."""
    import html as entities

    found = re.findall(r'<span class="line" id="L(\d+)"><a[^>]*></a>(.*?)\n</span>', html(page))
    return [
        (int(number), entities.unescape(re.sub(r"<[^>]*>", "", line))) for number, line in found
    ]


@pytest.mark.parametrize("demo", places.demo_files(), ids=lambda path: Path(path).stem)
def test_page_and_notebook_hold_every_line_of_the_demo(demo, site):
    stem = Path(demo).stem
    lines = (ROOT / demo).read_text(encoding="utf-8").splitlines()
    on_page = shown_source(site / f"demos/{stem}.html")
    assert all(lines[number - 1] == text for number, text in on_page)
    saved = json.loads((site / f"notebooks/{stem}.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in saved["cells"] if c["cell_type"] == "code"][1:-1]
    assert [line for cell in code for line in cell.splitlines() if line.strip()] == [
        text for _, text in on_page if text.strip()
    ]
    import ast

    body = ast.parse((ROOT / demo).read_text(encoding="utf-8")).body
    statements = {node.lineno for node in body[1:]}
    assert statements <= {number for number, _ in on_page}


@pytest.mark.parametrize("demo", places.demo_files(), ids=lambda path: Path(path).stem)
def test_a_demo_page_has_its_picture_figures_and_downloads(demo, site):
    stem = Path(demo).stem
    text = html(site / f"demos/{stem}.html")
    assert f'<img src="gallery/{stem}.png"' in text
    films = sorted((ROOT / "demos/gallery").glob(f"{stem}*.gif"))
    assert all(f'<img src="gallery/{film.name}"' in text for film in films)
    assert {f"notebooks/{stem}.ipynb", f"scripts/{stem}.py"} <= links_from(site, f"demos/{stem}")
    figures = (ROOT / f"demos/figures/{stem}.md").read_text(encoding="utf-8")
    rows = [line for line in figures.splitlines() if line.startswith("| ")]
    heads = sum(line.startswith("| figure |") for line in rows)
    after = text.partition('id="figures"')[2]
    assert after.count("<tr") == len(rows), (after.count("<tr"), len(rows), heads)


def test_the_notebooks_of_the_site_are_those_of_the_command(site, tmp_path):
    for path in notebooks.write(tmp_path):
        assert path.read_bytes() == (site / "notebooks" / path.name).read_bytes()


def test_the_glossary_has_the_symbols_of_every_chapter(site):
    text = html(site / "glossary.html")
    for folder in ("sequence", "vision", "adversarial", "likelihood", "diffusion", "nn", "engine"):
        assert f"tinycv/{folder}/index.html" in links_from(site, "glossary"), folder
    assert "the strength of guidance" in text and r"\bar{\alpha}_{t}" in text


def test_the_search_index_knows_words_of_the_text_and_titles(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")
    for word in ("langevin", "bahdanau", "winograd"):
        assert re.search(rf'"?{word}"?:', index), word


def test_the_api_describes_every_public_name(site):
    for folder in chapters.api_folders():
        found = anchors(site / f"{chapters.api_page(folder)}.html")
        dotted = folder.replace("/", ".")
        missing = [
            name for name, _ in chapters.public_of_folder(folder) if f"{dotted}.{name}" not in found
        ]
        assert not missing


def test_the_chinese_front_page_says_which_language_it_is(site):
    text = html(site / "README.zh.html")
    assert '<div lang="zh">' in text and "视觉 Transformer" in text
