"""MathJax for the site: the script and its fonts are copied into it, so nothing is fetched.

The package sphinx-mathjax-offline ships MathJax 3.2.2 (The MathJax Consortium, Apache licence 2.0).
Of its 24 MB the site needs 1.6: the script that reads LaTeX and writes HTML, and the fonts. What
would load further parts later (the menu, packages of LaTeX on demand) is switched off, and so is
what would hide a wrong formula instead of showing an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path
from typing import Any

PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2")
SETTINGS = {
    "tex": {"packages": {"[-]": ["autoload", "require", "noerrors", "noundefined"]}},
    "options": {"enableMenu": False},
    "chtml": {"scale": 0.95},
}


def folder() -> Path:
    """The folder of MathJax in the package."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise RuntimeError(
            "the formulas of the site need sphinx-mathjax-offline: run, in the clone,  "
            'pip install -e ".[site]"'
        )
    return Path(found.origin).parent / "static/mathjax"


def copy(target: Path) -> None:
    """Copy what the site needs of MathJax, and its licence, to a folder."""
    for part in PARTS:
        source, goal = folder() / part, target / part
        goal.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, goal)
    notice = "MathJax 3.2.2, The MathJax Consortium, https://www.mathjax.org\n\n"
    (target / "LICENSE.txt").write_text(notice + apache_licence(), encoding="utf-8")


def apache_licence() -> str:
    """The text of the licence, which the package leaves out. Requests has the same one, and Sphinx
    needs Requests."""
    for file in importlib.metadata.files("requests") or []:
        if file.name == "LICENSE":
            return file.read_text(encoding="utf-8")
    raise RuntimeError("the package requests has no file LICENSE with the text of Apache 2.0")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.config.mathjax3_config = SETTINGS
    app.connect("builder-inited", lambda app: copy(Path(app.outdir) / "_static/mathjax"))
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
