"""Compares numbers that differ only by rounding, on any machine."""

from __future__ import annotations

from typing import Any

import numpy as np


def near(actual: Any, expected: Any, rtol: float = 1e-5) -> None:
    """Assert that the errors are at most ``rtol`` times the LARGEST expected number. A sum near 0
    has the rounding errors of its large terms, which differ between BLAS kernels, so its own
    relative error can be arbitrarily large."""
    sizes = np.abs(np.asarray(expected, dtype=float))
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=rtol * sizes[np.isfinite(sizes)].max(initial=0)
    )
