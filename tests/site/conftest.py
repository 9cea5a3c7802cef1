"""Tests of the site and of the notebooks. They need the extra: pip install -e ".[site]". Without it
they are not collected; with TINYCV_REQUIRE_SITE=1, as in CI, that is a failure.

The site is built once; workers of pytest-xdist share it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NEEDED = (
    "sphinx",
    "myst_parser",
    "sphinx_gallery",
    "sphinx-mathjax-offline",
    "furo",
    "nbclient",
    "ipykernel",
)
MISSING = [name for name in NEEDED if find_spec(name) is None]

if MISSING:
    if os.environ.get("TINYCV_REQUIRE_SITE") == "1":
        raise RuntimeError(
            f"TINYCV_REQUIRE_SITE=1 requires {', '.join(NEEDED)}; missing: {', '.join(MISSING)}: "
            "pip install -e '.[site]'"
        )
    collect_ignore_glob = ["test_*.py"]

# test_browser.py also needs a browser; Playwright's own downloads are not used
BROWSERS = [
    found
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for found in [shutil.which(name)]
    if found is not None
]
if not BROWSERS or find_spec("playwright") is None:
    if os.environ.get("TINYCV_REQUIRE_SITE") == "1":
        raise RuntimeError(
            "TINYCV_REQUIRE_SITE=1 requires playwright, and Chromium or Google Chrome on the PATH: "
            "pip install -e '.[site]' && apt-get install chromium"
        )
    collect_ignore = ["test_browser.py"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser."""
    return BROWSERS[0]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. The first worker that needs it builds it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    out, said = folder / "site", folder / "site.txt"
    with open(folder / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            done = subprocess.run(
                [sys.executable, "-m", "demos", "site", "--out", str(out)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            said.write_text(f"exit status {done.returncode}\n{done.stdout}", encoding="utf-8")
    text = said.read_text(encoding="utf-8")
    assert text.startswith("exit status 0\n"), text[-5000:]
    return out
