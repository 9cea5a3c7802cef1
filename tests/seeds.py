"""The seed of the statistical tests, from one place: ``TINYCV_TEST_SEED=3 pytest -m statistical``
draws other numbers."""

from __future__ import annotations

import os

SEED = int(os.environ.get("TINYCV_TEST_SEED", "0"))
