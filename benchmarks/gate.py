"""The gate: a row whose contenders disagree gets no figures, for the speed of a wrong answer is no
speed."""

from __future__ import annotations

from typing import Any

import numpy as np

RTOL = 1e-4  # of the largest magnitude in an array of float32


class Refused(Exception):
    """Why a row gets no figures."""


def gate(results: dict[str, dict[str, np.ndarray]], rtol: float = RTOL) -> None:
    """Raises Refused unless every contender's outputs and gradients are the first one's, in name,
    shape, dtype, value."""
    names = list(results)
    for name in names[1:]:
        problem = disagreement(results[names[0]], results[name], rtol)
        if problem:
            raise Refused(f"{name} disagrees with {names[0]}: {problem}")


def disagreement(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rtol: float) -> str | None:
    if a.keys() != b.keys():
        return f"only one of them has {sorted(a.keys() ^ b.keys())}"
    for name, x in a.items():
        y = b[name]
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"{name} is {y.dtype}{list(y.shape)}, not {x.dtype}{list(x.shape)}"
        largest, apart = np.abs(x).max(initial=0.0), np.abs(x - y).max(initial=0.0)
        if not apart <= rtol * largest:  # so written, NaN is refused too
            return f"{name} is {apart:.3g} apart, where the largest value is {largest:.3g}"
    return None


def array_of(value: Any) -> np.ndarray:
    # PyTorch's must be asked to come
    value = value.cpu() if hasattr(value, "cpu") else value
    # tinycv's and PyTorch's alike
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
