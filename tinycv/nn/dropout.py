"""Dropout: sets random entries to 0 in training, so that no unit can rely on a single other unit.

    y = m x / (1 - p),  m is 0 with probability p, else 1                Srivastava et al. 2014

Dividing by 1 - p keeps the expected value of y at x, so evaluation needs no correction: it returns
x unchanged.
"""

from __future__ import annotations

from tinycv.engine import backend
from tinycv.engine.arguments import number
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare
from tinycv.engine.torch_names import with_hints
from tinycv.nn.checks import array, flag
from tinycv.nn.module import Module


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, set each entry of x to 0 with probability p and divide the others by 1 - p.
    Otherwise return x. Same shape as x.

    differs: Srivastava et al. 2014 do not divide in training, but multiply the weights by 1 - p at
    test time. The expected value is the same.
    """
    p = number(p, "dropout: p", 0, 1)
    values = array(bare(x), "dropout: x")
    if not flag(training, "dropout: training") or p == 0:
        return x
    kept = backend.uniform(values.shape, backend.array_module(values), "float32") >= p
    return where(kept, x * (1 / (1 - p) if p < 1 else 0.0), 0.0)


class Dropout(Module):
    """``dropout`` as a layer: active in training mode, the identity in evaluation mode."""

    @with_hints
    def __init__(self, p: float = 0.5):
        self.p = number(p, "Dropout: p", 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape. Returns the same shape."""
        return dropout(x, self.p, self.training)
