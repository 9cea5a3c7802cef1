"""Dropout: while training, forget a random part of every layer's output, so that no unit can rely on one other."""

from __future__ import annotations

from typing import Any

from tinycv.engine import backend
from tinycv.engine.tensor import bare
from tinycv.nn.module import Module


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Set each entry to 0 with probability p, and divide the others by 1 - p, so that the mean stays.

    Srivastava et al. 2014. differs: they multiply by 1 - p at test time instead, which is the same in the mean.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p is {p}; it must be at least 0 and less than 1")
    if not training or p == 0:
        return x
    array = bare(x)
    kept = backend.uniform(array.shape, backend.array_module(array), "float32") >= p
    return x * (kept.astype(array.dtype) / (1 - p))


class Dropout(Module):
    """Each entry is set to 0 with probability p while training, and left alone in evaluation."""

    def __init__(self, p: float = 0.5):
        self.p = p

    def forward(self, x: Any) -> Any:
        return dropout(x, self.p, self.training)
