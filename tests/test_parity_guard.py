"""The parity tests cannot be skipped silently. These tests hide torch from Python, so they run with
and without torch installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from prepared import Prepared

ROOT = Path(__file__).parent.parent
# importing what conftest.py needs takes longer than the tests themselves
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


# --assert=plain: no assert is reached, so rewriting them would only cost time
RUN_PARITY = 'sys.exit(pytest.main(["tests/parity", "-rs", "--assert=plain"]))'


def test_without_torch_every_parity_file_is_skipped_and_says_why(without_torch):
    _, output = without_torch.run(RUN_PARITY)
    files = list((ROOT / "tests" / "parity").glob("test_*.py"))
    assert output.count("could not import 'torch'") == len(files) > 0
    assert f"{len(files)} skipped" in output
    assert "passed" not in output


def test_if_parity_is_required_a_missing_torch_is_a_failure(without_torch):
    code, output = without_torch.run(RUN_PARITY, TINYCV_REQUIRE_PARITY="1")
    assert code not in (0, 5)  # 5: "no tests collected"
    assert "TINYCV_REQUIRE_PARITY=1 requires parity" in output
    assert "skipped" not in output
