"""Linear: every output is a weighted sum of all inputs. Embedding: a table of vectors, looked up by number.

    y = x Wᵀ + b                W is (out, in), as PyTorch keeps it
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.fused import fused
from tinycv.engine.methods import getitem
from tinycv.engine.reduce import as_rows, sum_rows
from tinycv.engine.tensor import bare
from tinycv.nn import init
from tinycv.nn.module import Module


@fused
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x (..., in), weight (out, in), bias (out,) or None. Returns (..., out)."""
    y = x @ weight.swapaxes(0, 1)                                   # (..., out)
    return y if bias is None else y + bias


def embedding(ids: Any, weight: Any) -> Any:
    """Rows of weight (n, d) by number: ids of any shape S gives (*S, d). IndexError names an id outside 0 ... n-1."""
    ids = bare(ids)
    if isinstance(ids, (np.ndarray, list)):                         # ids on a GPU are not looked at: that would wait
        ids = np.asarray(ids)
        bad = ids[(ids < 0) | (ids >= weight.shape[0])]
        if bad.size:
            raise IndexError(f"embedding: id {bad.flat[0]} is out of range: the table has {weight.shape[0]} rows, "
                             f"0 to {weight.shape[0] - 1}")
    return getitem(weight, ids)


class Linear(Module):
    """y = x Wᵀ + b. weight (out_features, in_features), bias (out_features,), started as PyTorch starts them."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.weight = init.kaiming_uniform((out_features, in_features), a=5 ** 0.5)
        self.bias = init.uniform((out_features,), 1 / max(in_features, 1) ** 0.5) if bias else None

    def forward(self, x: Any) -> Any:
        """x (..., in_features). Returns (..., out_features)."""
        return linear(x, self.weight, self.bias)


class Embedding(Module):
    """A learned vector for each of ``num_embeddings`` things. weight (num_embeddings, embedding_dim), N(0, 1)."""

    def __init__(self, num_embeddings: int, embedding_dim: int):
        self.weight = init.normal((num_embeddings, embedding_dim), std=1.0)

    def forward(self, ids: Any) -> Any:
        """ids, integers of any shape S. Returns (*S, embedding_dim)."""
        return embedding(ids, self.weight)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


def refuse_misfit(x: Any, weight: Any) -> None:
    """ValueError for an x whose last axis is not what weight takes."""
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x of shape {x.shape} has {x.shape[-1] if x.ndim else 'no'} features along its last axis, "
                         f"weight of shape {weight.shape} takes {weight.shape[1]}")


@linear.kernel
def _linear(xp, x, weight, bias=None):
    refuse_misfit(x, weight)
    rows = as_rows(x)                           # one product of matrices, whatever x's rank
    y = rows @ weight.T
    if bias is not None:
        y += bias

    def pull(g):
        g = as_rows(g)
        return (lambda: (g @ weight).reshape(x.shape),
                lambda: g.T @ rows,
                lambda: sum_rows(xp, g))

    return y.reshape(*x.shape[:-1], weight.shape[0]), pull
