"""Numbers that are alike but for rounding, on whatever machine."""

from __future__ import annotations

from typing import Any

import numpy as np


def near(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    """Each within ``rtol`` of the LARGEST that is expected: a sum that ends near 0 keeps the
    rounding of its terms, which differs from one BLAS kernel to the next, so that no error relative
    to itself is promised."""
    sizes = np.abs(np.asarray(expected, dtype=float))
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=rtol * sizes[np.isfinite(sizes)].max(initial=0)
    )
