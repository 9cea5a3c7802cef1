"""The README tells the truth: its code runs and prints what it says, and its tables are those of the files."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def printed_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def test_the_ten_lines_of_autograd_print_the_numbers_that_it_says():
    code, said = re.search(r"```python\n(.*?)```\s+You must see `(.*?)`", TEXT, re.DOTALL).groups()
    assert printed_by(code) == said


def test_the_small_network_prints_exclusive_or():
    code, said = re.search(r"know from PyTorch:\s+```python\n(.*?)```\s+prints `(.*?)`", TEXT, re.DOTALL).groups()
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
    done = subprocess.run([sys.executable, "-m", "demos.readme", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_file_that_it_points_to_exists():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
