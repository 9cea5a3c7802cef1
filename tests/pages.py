"""What the pages (Markdown files) of the project claim, taken apart so that tests can check it:
links, headings, commands, and Python programs with what they print.

    check_python_blocks(ROOT / "README.md")     runs every Python block and compares what it prints
    broken_links(page)                          links and images that lead nowhere
    broken_commands(page)                       commands that name what does not exist

A Python block that cannot run here (it needs a GPU, or a name from elsewhere) has the line
``<!-- not run: why -->`` above it; it is then only compiled.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent
FOLDERS = ".github", "benchmarks", "demos", "tests", "tinycv"
FENCE = re.compile(
    r"^(?P<skip><!-- not run:.*?-->\n+)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def pages() -> list[Path]:
    """Every page of the project, the README first."""
    found = sorted(ROOT.glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
    for folder in FOLDERS:
        found += sorted((ROOT / folder).rglob("*.md"))
    return found


# ── Python programs, and what they print ─────────────────────────────────────────────────────────


class Block(NamedTuple):
    """A fenced block: its language, its text, whether it can run, and the prose after it, up to the
    next block or heading."""

    language: str
    code: str
    runs: bool
    prose: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        after = re.split(r"^#|^```", text[match.end() :], maxsplit=1, flags=re.MULTILINE)[0]
        found.append(Block(match["language"], match["code"], not match["skip"], after))
    return found


def check_python_blocks(page: Path) -> int:
    """Run every Python block of a page in a process and a folder of its own. What it prints must
    stand in the prose after it, as `code`, or be the next block, in the language "text". Returns
    how many blocks there are."""
    found = blocks(page)
    programs = [(i, block) for i, block in enumerate(found) if block.language == "python"]
    for i, block in programs:
        compile(block.code, str(page), "exec")
        if block.runs:
            printed = output_of(block.code)
            is_next = [b.code.strip() for b in found[i + 1 : i + 2] if b.language == "text"]
            assert not printed or f"`{printed}`" in block.prose or printed in is_next, (
                f"{page}: this block prints {printed!r}, and the prose after it does not say so:\n"
                f"{block.code}"
            )
    return len(programs)


def output_of(program: str) -> str:
    """What a Python program prints."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        )
    assert done.returncode == 0, f"{done.stderr}\n{program}"
    return done.stdout.strip()


# ── links ────────────────────────────────────────────────────────────────────────────────────────


def prose(page: Path) -> str:
    """A page without its fenced blocks, code spans and comments."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "", text)


def links(page: Path) -> list[str]:
    """Where a page's links and images lead."""
    text = prose(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'\b(?:src|href)="([^"]+)"', text)


@cache
def anchors(page: Path) -> set[str]:
    """The names by which a link reaches the headings of a page, by GitHub's rule: lower case,
    without punctuation, a hyphen for each space, and -1, -2 where a name comes again."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = set(re.findall(r'\b(?:id|name)="([^"]+)"', text))
    counts: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE):
        shown = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if slug in counts else slug)
        counts[slug] = counts.get(slug, 0) + 1
    return found


def broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file or heading does not exist."""
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):  # https: and mailto: lead out of the project
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path if path else page).resolve()
        if (
            not target.is_relative_to(ROOT)
            or not target.exists()
            or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        ):
            broken.append(link)
    return broken


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


def commands(page: Path) -> list[list[str]]:
    """The words of every command that begins with python, pip or pytest, in blocks without a
    language and in code spans."""
    text = page.read_text(encoding="utf-8")
    shells = "\n".join(b.code for b in blocks(page) if b.language in ("", "bash", "sh", "console"))
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    found = []
    for line in [*shells.splitlines(), *spans]:
        for part in re.split(r"&&|;", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # an apostrophe: text, and no command
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if len(words) > 1 and words[0] in CHECKS:
                found.append(words)
    return found


def broken_commands(page: Path) -> list[str]:
    """What is wrong with the commands of a page: files, modules, flags and extras that do not
    exist."""
    return [
        f"{' '.join(words)}: {problem}"
        for words in commands(page)
        for problem in CHECKS[words[0]](words[1:])
    ]


def is_placeholder(word: str) -> bool:
    """Does the reader put something else in its place? NAME, FOLDER, demos/NN_name.py."""
    return re.search(r"\b[A-Z]{2,}", word) is not None or "..." in word


def missing_paths(words: list[str]) -> list[str]:
    """Words that name a file or a folder of the project that does not exist."""
    missing = []
    for word in words:
        path, _, test = word.removeprefix("@").partition("::")
        if is_placeholder(word) or not path.startswith(
            ("demos/", "tests/", "benchmarks/", "tinycv/")
        ):
            continue
        if not (ROOT / path).exists():
            missing.append(f"{path} does not exist")
        elif test and f"def {test.partition('[')[0]}(" not in (ROOT / path).read_text("utf-8"):
            missing.append(f"{path} has no {test}")
    return missing


def python_problems(words: list[str]) -> list[str]:
    """Of  python FILE flags  or  python -m MODULE flags."""
    if words[0] == "-m":
        words = words[1:]
        path = module_file(words[0])
    elif is_placeholder(words[0]) or not words[0].endswith(".py"):
        return []
    else:
        path = ROOT / words[0]
    if path is None or not path.exists():
        return [f"there is no {words[0]}"]
    flags = [word.partition("=")[0] for word in words[1:] if word.startswith("-")]
    known = words_of_help(path, words[1] if len(words) > 1 else "") if flags else ""
    unknown = [f"no flag {flag}" for flag in flags if not has_word(known, flag)]
    return unknown + missing_paths(words[1:])


def has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def module_file(name: str) -> Path | None:
    """The file that  python -m NAME  runs."""
    for candidate in (f"{name}.__main__", name):
        with contextlib.suppress(ModuleNotFoundError):
            spec = importlib.util.find_spec(candidate)
            if spec is not None and spec.origin:
                return Path(spec.origin)
    return None


@cache
def words_of_help(path: Path, subcommand: str) -> str:
    """What a program prints for --help, of its subcommand where it has some. Of a program that does
    not read its flags by argparse, and so would do its work instead, the docstring."""
    source = path.read_text(encoding="utf-8")
    if "argparse" not in source and "Demo(" not in source:
        return ast.get_docstring(ast.parse(source)) or ""
    arguments = [subcommand, "--help"] if "add_subparsers" in source else ["--help"]
    shown = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(path), *arguments]),
        contextlib.redirect_stdout(shown),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_path(str(path), run_name="__main__")
    return shown.getvalue()


def pip_problems(words: list[str]) -> list[str]:
    """Of  pip install -e ".[extra,extra]"."""
    problems = []
    for word in words:
        brackets = re.fullmatch(r"\.\[(.+)\]", word)
        if brackets:
            unknown = set(brackets[1].split(",")) - extras()
            problems += [f"setup.py has no extra {extra}" for extra in sorted(unknown)]
    return problems


@cache
def extras() -> set[str]:
    """The names of setup.py's extras."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            return {ast.literal_eval(key) for key in node.value.keys}
    raise AssertionError("setup.py has no extras_require")


def pytest_problems(words: list[str]) -> list[str]:
    """Of  pytest flags paths."""
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    unknown = [flag for flag in flags if not has_word(help_of_pytest(), flag)]
    return [f"no flag {flag}" for flag in unknown] + missing_paths(words)


@cache
def help_of_pytest() -> str:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    ).stdout


CHECKS = {"python": python_problems, "pip": pip_problems, "pytest": pytest_problems}
