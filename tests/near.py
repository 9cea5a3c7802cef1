"""Comparison of numbers that may differ by rounding errors, on any machine."""

from __future__ import annotations

from typing import Any

import numpy as np


def near(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    """Check that each number is within ``rtol`` times the LARGEST expected number. A sum that
    happens to be near 0 keeps the rounding errors of its terms, which depend on the BLAS kernel, so
    its error relative to itself has no bound."""
    sizes = np.abs(np.asarray(expected, dtype=float))
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=rtol * sizes[np.isfinite(sizes)].max(initial=0)
    )
