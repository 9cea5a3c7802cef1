"""How the pages of the site are written (demos/site), without Sphinx: what names mean, where links
lead, how a docstring is divided."""

import ast
import posixpath
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # demos is no part of the installed package

from demos.site import (  # noqa: E402
    build,
    chapters,
    crossings,
    fronts,
    markdown,
    names,
    notebooks,
    places,
    source,
)


def line_of(file: str, start: str) -> int:
    """The number of the line of a file that begins with ``start``."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(start))


# ── what names mean ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "module, name, file, start",
    [
        ("tinycv.vision", "ViT", "tinycv/vision/vit.py", "class ViT("),
        ("tinycv", "tanh", "tinycv/engine/ops.py", "tanh = "),
        ("tinycv.nn.functional", "layer_norm", "tinycv/nn/norm.py", "def layer_norm("),
        ("tinycv.show.draw", "figure", "tinycv/show/draw.py", "def figure("),
    ],
)
def test_a_name_is_followed_through_imports_to_its_definition(module, name, file, start):
    assert names.resolve(module, name) == names.Definition(file, line_of(file, start))


def test_a_module_is_a_file_and_an_unknown_name_is_nothing():
    assert names.resolve("tinycv.nn") == names.Definition("tinycv/nn/__init__.py", 0)
    assert names.resolve("tinycv", "nn") == names.Definition("tinycv/nn/__init__.py", 0)
    assert names.resolve("tinycv", "no_such_name") is None
    assert names.resolve("numpy", "tanh") is None


def test_a_name_that_a_file_also_uses_for_something_else_is_no_link(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "from tinycv.nn import Linear, slerp\nfrom tinycv import nn\n\n\n"
        "def f(slerp):\n    return slerp, Linear, nn.Linear, other.Linear\n"
    )
    linear = names.resolve("tinycv.nn", "Linear")
    found = names.Uses(str(page)).found
    assert [place for place in sorted(found) if place[0] == 6] == [(6, 18), (6, 26), (6, 29)]
    assert found[6, 18] == found[6, 29] == linear
    assert found[6, 26] == names.Definition("tinycv/nn/__init__.py", 0)


# ── links ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path, page",
    [
        ("README.md", "index"),
        ("tinycv/nn/__init__.py", "tinycv/nn/index"),
        ("tinycv/nn", "tinycv/nn/index"),
        ("tinycv/nn/linear.py", "tinycv/nn/linear"),
        ("demos/06_vit.py", "demos/06_vit"),
        ("demos/figures/06_vit.md", "demos/06_vit"),
        ("demos/full/06_vit.py", "source/demos/full/06_vit.py"),
        ("tests/nn/test_conv.py", "source/tests/nn/test_conv.py"),
        ("tests/parity", "source/tests/parity/index"),
        ("demos", "demos/README"),
        (".ci/run", "source/ci/run"),
        ("tinycv/lost", None),
    ],
)
def test_every_file_has_its_page(path, page):
    assert places.page(path) == page


def test_links_are_relative_to_the_page():
    assert (
        places.link("demos/06_vit", "tinycv/vision/vit.py", "L3") == "../tinycv/vision/vit.html#L3"
    )
    assert places.link("index", "demos/06_vit.py") == "demos/06_vit.html"
    assert places.link("tinycv/nn/index", "tinycv/nn/linear.py") == "linear.html"
    assert places.link("demos/06_vit", "demos/06_vit.py", "figures") == "#figures"
    with pytest.raises(ValueError, match="lost.py has no page"):
        places.link("index", "lost.py")


def test_a_link_of_a_readme_leads_to_the_page_of_its_file():
    text = "# A *b*, `c`!\n[a](../nn/linear.py) ![p](../../demos/gallery/01_autograd.png) `[x](y)`"
    made = markdown.for_site(text, "tinycv/gpu/README.md", "tinycv/gpu/README")
    assert '# <span id="a-b-c" class="anchor"></span>A *b*, `c`!' in made
    assert "[a](../nn/linear.html)" in made and "`[x](y)`" in made
    assert '<img src="../../demos/gallery/01_autograd.png" alt="p">' in made
    out = "[w](https://a.example/x.py)"
    assert markdown.for_site(out, "README.md", "index") == out
    with pytest.raises(ValueError, match="lost.py leads to nothing"):
        markdown.for_site("[a](lost.py)", "README.md", "index")


@pytest.mark.parametrize("file", places.markdown_files())
def test_every_link_of_a_page_leads_to_something_that_the_site_shows(file):
    assert fronts.markdown_page(file)


def test_names_of_files_in_a_docstring_become_links():
    made = markdown.with_paths(
        "Read tinycv/vision/vit.py, stem.py; `vit.py` and lost.py",
        "demos/06_vit.py",
        "demos/06_vit",
    )
    assert made == (
        "Read [tinycv/vision/vit.py](../tinycv/vision/vit.html), "
        "[stem.py](../tinycv/vision/stem.html); `vit.py` and lost.py"
    )


# ── maps and glossaries ──────────────────────────────────────────────────────────────────────────


def test_a_map_is_divided_into_text_files_and_symbols():
    parts = chapters.parts_of_map(
        "In reading order:\n\na.py       the first\n           file\nlonger.py the second\n\n"
        "Symbols:\n    x, y   an input    (B, D)\n    g      its gradient\n\nText.  More text."
    )
    assert [(part.kind, part.heading) for part in parts] == [
        ("files", "In reading order:"),
        ("symbols", "Symbols:"),
        ("text", ""),
    ]
    assert parts[0].rows == (("a.py", "the first file"), ("longer.py", "the second"))
    assert parts[1].rows == (("x, y", "an input", "(B, D)"), ("g", "its gradient", ""))


@pytest.mark.parametrize("folder", [f for f in chapters.api_folders() if f != "tinycv"])
def test_the_page_of_a_folder_links_to_each_of_its_files(folder):
    page = chapters.folder_page(f"{folder}/__init__.py")
    for file in places.package_files():
        if posixpath.dirname(file) == folder and not file.endswith("__init__.py"):
            assert f"]({posixpath.basename(file)[:-3]}.html)" in page, file


def test_every_chapter_has_symbols_in_the_glossary():
    page = chapters.glossary_page()
    for folder in (
        "engine",
        "nn",
        "optim",
        "sequence",
        "vision",
        "adversarial",
        "likelihood",
        "diffusion",
    ):
        assert f"(tinycv/{folder}/index.html)" in page, folder
    assert "| $w$ | the strength of guidance | a number |" in page


def test_the_api_shows_how_a_class_and_a_function_are_called():
    page = chapters.api_of_folder("tinycv/nn")
    assert "class Linear(" in page and "self" not in page.partition("class Linear(")[2][:200]
    assert "tinycv.vision.ViT" in chapters.public_of_file("tinycv/vision/vit.py")


# ── crossings ────────────────────────────────────────────────────────────────────────────────────


def test_a_file_knows_its_demos_and_tests_and_they_know_the_file():
    demo, test = "demos/06_vit.py", "tests/vision/test_vit.py"
    assert demo in crossings.demos("tinycv/vision/vit.py")
    assert "tinycv/vision/vit.py" in crossings.files_of_demo(demo)[0]
    assert "tinycv/optim/adam.py" in crossings.files_of_demo(demo)[1]
    assert [slide.demo for slide in crossings.slides(test)] == ["06"]


# ── source and notebooks ─────────────────────────────────────────────────────────────────────────


def test_source_has_a_line_with_its_number_and_links():
    first = line_of("demos/06_vit.py", "from tinycv.optim import ")
    shown = source.shown("demos/06_vit.py", lambda d: f"{d.file}#L{d.line}", first, first + 1)
    assert shown.count('<span class="line"') == 2
    assert f'id="L{first}"' in shown and f'id="L{first + 1}"' in shown
    adam = line_of("tinycv/optim/adam.py", "class AdamW(")
    assert f'href="tinycv/optim/adam.py#L{adam}">AdamW</a>' in shown


@pytest.mark.parametrize(
    "text, heading, rest",
    [
        ("Measure", "Measure", ""),
        ("Does it copy? The distance to digits", "Does it copy?", "The distance to digits."),
        ("A model (Xiao et al. Also) and a head", "A model (Xiao et al. Also) and a head", ""),
    ],
)
def test_the_first_sentence_of_a_cell_is_its_heading(text, heading, rest):
    assert notebooks.divided(text) == (heading, rest)


@pytest.mark.parametrize("demo", places.demo_files(), ids=lambda path: Path(path).stem)
def test_the_copy_for_the_notebook_has_the_code_of_the_demo(demo):
    text = (ROOT / demo).read_text(encoding="utf-8")
    copy = notebooks.copy_for_gallery(text)
    original, copied = ast.parse(text), ast.parse(copy)
    assert [ast.dump(node) for node in original.body[1:]] == [
        ast.dump(node) for node in copied.body[1:]
    ]


@pytest.fixture
def started(monkeypatch):
    """Runs the first cell of a notebook in a folder, and restores what it changes."""

    def run(demo: str, folder: Path) -> dict:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["kernel"])
        monkeypatch.setattr(sys, "path", [*sys.path])
        variables = {"__doc__": "the kernel's"}
        exec(notebooks.first_cell(demo), variables)
        return variables

    return run


def test_the_first_cell_of_a_notebook_makes_the_kernel_look_like_a_run_of_the_demo(
    started, tmp_path
):
    (tmp_path / "demos").symlink_to(ROOT / "demos")
    (tmp_path / "out/notebooks").mkdir(parents=True)
    variables = started("demos/10_face_arithmetic.py", tmp_path / "out/notebooks")
    assert sys.argv == [str(tmp_path / "demos/10_face_arithmetic.py"), "--quick"]
    assert sys.path[0] == str(tmp_path)
    assert variables["__file__"] == sys.argv[0]
    assert variables["__doc__"] == '10 · GAN: what is "man with glasses - man + woman"?'


def test_a_notebook_mentions_the_weights_that_ship_where_its_demo_reads_some():
    assert '# "--pretrained"' in notebooks.first_cell("demos/06_vit.py")
    assert "--pretrained" not in notebooks.first_cell("demos/01_autograd.py")


def test_a_notebook_outside_of_a_clone_uses_the_installed_package_or_says_what_to_install(
    started, tmp_path, monkeypatch
):
    before = list(sys.path)
    assert "tinycv" in started("demos/06_vit.py", tmp_path)
    assert sys.path == before
    monkeypatch.setitem(sys.modules, "tinycv", None)
    with pytest.raises(ImportError, match=r"tinycv is not installed: run  pip install -e"):
        started("demos/06_vit.py", tmp_path)


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    for command in ("site", "notebooks"):
        assert build.main([command]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and 'pip install -e ".[site]"' in said


def test_the_list_of_demos_names_the_commands_and_an_unknown_one_is_refused():
    listed = subprocess.run(
        [sys.executable, "-m", "demos"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "python -m demos site" in listed and "python -m demos notebooks" in listed
    wrong = subprocess.run(
        [sys.executable, "-m", "demos", "sight"], cwd=ROOT, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "no demo is called 'sight'" in wrong.stderr
