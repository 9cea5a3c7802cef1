"""Dropout: while training, forget a random part of every layer's output, so that no unit can rely
on one other."""

from __future__ import annotations

from tinycv.engine import backend
from tinycv.engine.arguments import number
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.checks import array, flag
from tinycv.nn.module import Module


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each entry to 0 with probability p, and divide the others by 1 - p, so that the mean
    stays.

    Srivastava et al. 2014. differs: they multiply by 1 - p at test time instead, which is the same
    in the mean.
    """
    p = number(p, "dropout: p", 0, 1)
    values = array(bare(x), "dropout: x")
    if not flag(training, "dropout: training") or p == 0:
        return x
    kept = backend.uniform(values.shape, backend.array_module(values), "float32") >= p
    return where(kept, x * (1 / (1 - p) if p < 1 else 0.0), 0.0)


class Dropout(Module):
    """Each entry is set to 0 with probability p while training, and left alone in evaluation."""

    def __init__(self, p: float = 0.5):
        self.p = number(p, "Dropout: p", 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape. Returns the same shape."""
        return dropout(x, self.p, self.training)
