"""Parity cannot be skipped in silence: these run whether torch is there or not, on a Python that
cannot import it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import pytest
sys.exit(pytest.main(["tests/parity", "-rs"]))
"""


def parity_without_torch(**variables):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TINYCV_REQUIRE_PARITY", "PYTEST_ADDOPTS")
    }
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
    )


def test_without_torch_every_parity_file_is_skipped_and_says_why():
    run = parity_without_torch()
    files = list((ROOT / "tests" / "parity").glob("test_*.py"))
    assert run.stdout.count("could not import 'torch'") == len(files) > 0
    assert f"{len(files)} skipped" in run.stdout
    assert "passed" not in run.stdout


def test_where_parity_is_required_a_missing_torch_fails():
    run = parity_without_torch(TINYCV_REQUIRE_PARITY="1")
    assert run.returncode not in (0, 5)  # 5: "no tests collected"
    assert "TINYCV_REQUIRE_PARITY=1 asks for parity" in run.stdout + run.stderr
    assert "skipped" not in run.stdout
