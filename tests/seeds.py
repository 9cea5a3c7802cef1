"""The seed of all tests. ``TINYCV_TEST_SEED=3 pytest -m statistical`` runs the statistical tests
with other random numbers."""

from __future__ import annotations

import os

SEED = int(os.environ.get("TINYCV_TEST_SEED", "0"))
