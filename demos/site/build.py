"""python -m demos site            builds the site in out/site
python -m demos notebooks       writes the notebooks to out/notebooks

The documents are written to out/site.build, and Sphinx makes the site of them; nothing is fetched,
and no demo is run. A warning of Sphinx is an error: the site is complete, or it is not there.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
from pathlib import Path

NEEDED = ("sphinx", "myst_parser", "sphinx_gallery", "furo", "sphinx-mathjax-offline")


def missing() -> str:
    """The sentence for a machine without the extra; empty if everything is there."""
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not lacking:
        return ""
    return (
        f"the site and the notebooks need {', '.join(lacking)}: run  pip install -e "
        '".[site]"  in the clone of tinycv'
    )


def build(out: Path, quiet: bool = True) -> int:
    """Build the site in the folder ``out``; returns Sphinx's exit status, 0 if all went well."""
    from sphinx.cmd.build import main as sphinx

    from demos.site import documents

    work = out.with_name(f"{out.name}.build")
    for folder in (work, out):
        shutil.rmtree(folder, ignore_errors=True)
    for name, text in documents.documents():
        path = work / "documents" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    copy_downloads(out)
    here = Path(__file__).parent
    arguments = ["-b", "html", "-c", here, "-d", work / "doctrees", "-W", "--keep-going"]
    arguments += ["-j", "auto", *(["-q"] if quiet else []), work / "documents", out]
    return sphinx([str(word) for word in arguments])


def copy_downloads(out: Path) -> None:
    """What the pages show or offer as it is: pictures, films, notebooks and scripts."""
    from demos.site import names, notebooks, places

    pictures = [path for path in places.below("demos/gallery") if path.endswith(places.PICTURES)]
    pictures += [path for path in places.below("benchmarks") if path.endswith(places.PICTURES)]
    copies = {path: path for path in pictures}
    copies |= {path: f"scripts/{Path(path).name}" for path in places.demo_files()}
    for path, target in copies.items():
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(names.ROOT / path, out / target)
    notebooks.write(out / "notebooks")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("site", "notebooks"))
    parser.add_argument(
        "--out", type=Path, help="folder for what is made (default: out/site, out/notebooks)"
    )
    chosen = parser.parse_args(arguments)
    problem = missing()
    if problem:
        print(problem, file=sys.stderr)
        return 2
    out = (chosen.out or Path("out") / chosen.command).resolve()
    started = time.perf_counter()
    if chosen.command == "notebooks":
        from demos.site import notebooks

        written = notebooks.write(out)
        print(f"{len(written)} notebooks in {out}")
        return 0
    status = build(out)
    if status == 0:
        pages = len(list(out.rglob("*.html")))
        print(f"{pages} pages in {time.perf_counter() - started:.0f} s: {out / 'index.html'}")
    return status
