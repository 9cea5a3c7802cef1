"""The README tells the truth: its code runs and prints what it says, and its tables are those of
the files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prepared import Prepared

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # demos is no part of the installed package
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed_by(tmp_path_factory):
    with Prepared("import numpy, tinycv", tmp_path_factory.mktemp("readme")) as process:

        def printed_by(code: str) -> str:
            status, said = process.run(code)
            assert status == 0, said
            return said.strip()

        yield printed_by


def test_the_ten_lines_of_autograd_print_the_numbers_that_it_says(printed_by):
    code, said = re.search(r"```python\n(.*?)```\s+You must see `(.*?)`", TEXT, re.DOTALL).groups()
    assert printed_by(code) == said


def test_the_small_network_prints_exclusive_or(printed_by):
    code, said = re.search(
        r"know from PyTorch:\s+```python\n(.*?)```\s+prints `(.*?)`", TEXT, re.DOTALL
    ).groups()
    assert printed_by(code) == said


def test_the_example_for_all_cores_prints_what_it_says(printed_by):
    code, said = re.search(
        r"### All cores\s+```python\n(.*?)```\s+prints `(.*?)`", TEXT, re.DOTALL
    ).groups()
    assert printed_by(code) == said


def test_the_row_that_it_adds_to_the_table_is_right():
    import numpy as np

    import tinycv
    from tinycv.engine.record import op

    row = re.search(r"square = (op\(.*\))\n", TEXT)[1]
    square = eval(row, {"op": op})
    x = tinycv.tensor(np.array([1.0, -3.0]), requires_grad=True)
    square(x).sum().backward()
    assert x.grad.numpy().tolist() == [2.0, -6.0]


def test_its_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "-m", "demos.readme", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "demos/README.md", "benchmarks/README.md"])
def test_every_file_that_it_points_to_exists(page):
    folder, text = (ROOT / page).parent, (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links and not [
        link for link in links if not link.startswith("http") and not (folder / link).exists()
    ]


def test_what_there_is_is_there():
    from tinycv import adversarial, diffusion, nn, sequence, vision

    rows = re.findall(r"^\| (?:layers|norms|activations|models) \| (.*?) \|$", TEXT, re.MULTILINE)
    names, homes = ", ".join(rows).split(", "), (nn, sequence, vision, adversarial, diffusion)
    assert len(rows) == 4 and not [
        name for name in names if not any(hasattr(home, name) for home in homes)
    ]
    has = {
        name
        for home in homes
        for name, found in vars(home).items()
        if isinstance(found, type) and issubclass(found, nn.Module) and not name.endswith("Loss")
    }
    assert has - set(names) == {"Module", "Sequential", "Identity", "Flatten"}


@pytest.mark.parametrize(
    ("record", "said"), [(None, "is not there"), ({"quick": True}, "quick run")]
)
def test_its_speed_is_that_of_a_whole_run_or_it_says_what_to_run(
    tmp_path, monkeypatch, record, said
):
    # demos and benchmarks are no part of the installed package
    monkeypatch.syspath_prepend(ROOT)
    from demos import readme

    monkeypatch.setattr(readme, "ROOT", tmp_path)
    if record:
        (tmp_path / "benchmarks/results").mkdir(parents=True)
        (tmp_path / "benchmarks/results/models.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match=f"models.json .*{said}.* run "):
        readme.speed()


@pytest.mark.parametrize(
    "target, good, bad",
    [
        (">= 0.9", [0.9, 1], 0.89),
        ("<= 0.03: noise is gone", [-1, 0.03], 0.031),
        ("> 0", [1e-9], 0),
        ("< 2", [1.9], 2),
        ("1 +- 0.005", [0.9951, 1.004], 1.0075),
        ("0.78 to 0.80", [0.78, 0.8], 0.77),
        ("-0.05 to 0 + 2 errors", [-0.01], -0.06),
        ("within 1e-3", [-1e-3], 0.002),
        ("|.| <= 2", [-2], 2.1),
        ("25", [25], 24),
        ("the same order", None, None),
        ("within 1 %", None, None),
        ("1 within 1 %", [0.991, 1.009], 1.02),
    ],
)
def test_targets_are_read_and_a_miss_is_seen(target, good, bad):
    from demos.readme import met

    if good is None:
        assert met(1.0, target) is None
    else:
        assert (
            met(good, target) is True
            and met([*good, bad], target) is False
            and met(bad, target) is False
        )
