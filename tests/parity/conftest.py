"""Without torch these tests are skipped; with TINYCV_REQUIRE_PARITY=1, as in CI, its absence is a failure."""
from __future__ import annotations

import os

if os.environ.get("TINYCV_REQUIRE_PARITY") == "1":
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise RuntimeError("TINYCV_REQUIRE_PARITY=1 asks for parity with PyTorch, and torch cannot be imported: "
                           "pip install -e '.[parity]'") from error
