"""Without torch, the parity tests are skipped; with TINYCV_REQUIRE_PARITY=1, as in CI, a missing
torch is a failure."""

from __future__ import annotations

import os

import pytest

try:
    import torch
except ImportError as error:
    if os.environ.get("TINYCV_REQUIRE_PARITY") == "1":
        raise RuntimeError(
            "TINYCV_REQUIRE_PARITY=1 requires parity with PyTorch, and torch cannot be imported: "
            "pip install -e '.[parity]'"
        ) from error


@pytest.fixture(autouse=True)
def torch_seeded():
    torch.manual_seed(0)
