"""Parity cannot be skipped in silence: these run whether torch is there or not, on a Python that
cannot import it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prepared import Prepared

ROOT = Path(__file__).parent.parent
# what conftest.py imports takes longer than all that is asked here
START = f"""
import os, sys
os.chdir({str(ROOT)!r})
sys.path[:0] = ["tests", ""]
sys.modules["torch"] = None
os.environ.pop("TINYCV_REQUIRE_PARITY", None)
os.environ.pop("PYTEST_ADDOPTS", None)
import cupy_double, hypothesis, pytest, safetensors.numpy, tinycv
"""


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory):
    with Prepared(START, tmp_path_factory.mktemp("parity")) as process:
        yield process


# no assert is reached, and none made to explain itself
ASKED = 'sys.exit(pytest.main(["tests/parity", "-rs", "--assert=plain"]))'


def test_without_torch_every_parity_file_is_skipped_and_says_why(without_torch):
    _, said = without_torch.run(ASKED)
    files = list((ROOT / "tests" / "parity").glob("test_*.py"))
    assert said.count("could not import 'torch'") == len(files) > 0
    assert f"{len(files)} skipped" in said
    assert "passed" not in said


def test_where_parity_is_required_a_missing_torch_fails(without_torch):
    code, said = without_torch.run(ASKED, TINYCV_REQUIRE_PARITY="1")
    assert code not in (0, 5)  # 5: "no tests collected"
    assert "TINYCV_REQUIRE_PARITY=1 asks for parity" in said
    assert "skipped" not in said
