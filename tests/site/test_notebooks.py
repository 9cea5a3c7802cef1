"""Each notebook runs in a real Jupyter kernel in its --quick size, and leaves a record and a
picture.

One kernel per worker runs them all, one after the other, because starting a kernel and importing
takes longer than most demos. Before each notebook its variables are deleted; imports stay.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))  # demos is no part of the installed package

from demos.site import notebooks, places  # noqa: E402

FRESH = """\
from matplotlib import pyplot
pyplot.close("all")
%reset -f
import os
os.chdir({folder!r})"""


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """A kernel that runs the package beside these tests."""
    manager = KernelManager()
    manager.start_kernel(
        cwd=str(tmp_path_factory.mktemp("kernel")),
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OPENBLAS_NUM_THREADS": "1",
            "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        },
    )
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the notebooks of a clone are: out/notebooks. The clone is a new folder, so that the
    demos write nothing into this one."""
    for name in ("demos", "tinycv"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "out/notebooks").mkdir(parents=True)
    return tmp_path / "out/notebooks"


def run(kernel: KernelManager, demo: str, folder: Path) -> nbformat.NotebookNode:
    """Run the notebook of a demo in a folder; an error in a cell raises."""
    notebook = nbformat.reads(notebooks.notebook(demo), as_version=4)
    nbformat.validate(notebook)
    fresh = nbformat.v4.new_code_cell(FRESH.format(folder=str(folder)))
    notebook.cells.insert(0, fresh)
    NotebookClient(notebook, km=kernel, timeout=240).execute()
    return notebook


def outputs(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    """What a cell displayed, of one kind such as "image/png"."""
    return [o["data"][kind] for o in cell.get("outputs", []) if kind in o.get("data", {})]


@pytest.mark.parametrize("demo", places.demo_files(), ids=lambda path: Path(path).stem)
def test_a_notebook_runs_and_leaves_a_record_and_a_picture(demo, kernel, folder):
    from matplotlib.image import imread

    stem = Path(demo).stem
    notebook = run(kernel, demo, folder)
    record = json.loads((folder / f"out/{stem}.json").read_text(encoding="utf-8"))
    assert record["demo"] == stem and record["size"] == "quick" and record["rows"]
    picture = (folder / f"out/{stem}.png").read_bytes()
    assert np.unique(imread(folder / f"out/{stem}.png").reshape(-1, 4), axis=0).shape[0] > 20
    displayed = [base64.b64decode(data) for data in outputs(notebook.cells[-1], "image/png")]
    assert picture in displayed
    films = {path.read_bytes() for path in (folder / "out").glob(f"{stem}*.gif")}
    assert films == {base64.b64decode(d) for d in outputs(notebook.cells[-1], "image/gif")}
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    question = notebook.cells[2].source.removeprefix("# ").partition("\n")[0]
    assert question[:2] in said and "--quick" in said
