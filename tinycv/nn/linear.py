"""Linear: every output is a weighted sum of all inputs. Embedding: a table of vectors, looked up by
number.

y = x Wᵀ + b                W is (out, in), as PyTorch keeps it
"""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.fused import fused
from tinycv.engine.methods import getitem
from tinycv.engine.ops import where
from tinycv.engine.reduce import as_rows, sum_rows
from tinycv.engine.tensor import ArrayLike, Tensor, as_array, bare
from tinycv.nn import init
from tinycv.nn.checks import array, count, fits, flag, index_of
from tinycv.nn.module import Module


@fused
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in), weight (out, in), bias (out,) or None. Returns (..., out)."""
    y = x @ weight.swapaxes(0, 1)  # (..., out)
    return y if bias is None else y + bias


def embedding(ids: ArrayLike, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of weight (n, d) by number: ids, integers of any shape S, give (*S, d).

    ids: a Tensor, an array, or lists and tuples of whole numbers. IndexError names an id outside 0
    ... n-1; -1 is outside. On a GPU the row of such an id is NaN instead, and gets no gradient: to
    look would be to wait. TypeError (and IndexError, as it is both) for ids that are no integers:
    masks, slices, floats, None.
    padding_idx: the row that stands for padding, which gets no gradient.
    """
    index = whole_numbers(ids)
    if array(weight, "embedding: weight").ndim != 2:
        raise ValueError(
            f"embedding: weight has shape {tuple(weight.shape)}; it must be a table (rows, "
            "features)"
        )
    rows = weight.shape[0]
    # ids on a GPU are not looked at: that would wait
    if isinstance(index, np.ndarray):
        bad = index[(index < 0) | (index >= rows)]
        if bad.size:
            raise IndexError(
                f"embedding: id {bad.flat[0]} is out of range: the table has {rows} rows, 0 to "
                f"{rows - 1}"
            )
    found = getitem(weight, index)
    if not isinstance(index, np.ndarray) and backend.array_module(index) is not np:
        unsigned = index.view(f"u{index.dtype.itemsize}")  # -1 is a large number now
        found = where((unsigned >= rows)[..., None], nan, found)
    if padding_idx is None or not isinstance(weight, Tensor):
        return found
    row = row_of(padding_idx, rows, "embedding: padding_idx")
    padding = backend.from_host(backend.array_module(bare(weight)), index) == row
    return where(padding[..., None], found.detach(), found)


class NoIds(TypeError, IndexError):
    """What is no array of integers cannot say which rows: an argument of a wrong kind, and an index
    that is none."""


def whole_numbers(ids: ArrayLike) -> backend.Array:
    """An array of integers. NoIds for all that NumPy would take as an index besides: masks, slices,
    None, floats."""
    try:
        array_of_ids = as_array(list(ids) if isinstance(ids, range) else ids)
    except (TypeError, ValueError):
        array_of_ids = None
    if isinstance(ids, (list, tuple, range)) and array_of_ids is not None and not array_of_ids.size:
        # an empty list, which NumPy takes for floats
        return array_of_ids.astype(np.int64)
    if array_of_ids is None or array_of_ids.dtype.kind not in "iu":
        raise NoIds(
            f"embedding: ids is {shown(bare(ids))}; it must be an array of integers, or lists of "
            "whole numbers"
        )
    return array_of_ids


def row_of(value: Any, rows: int, what: str) -> int:
    """A row by its number, from 0 on; a negative one counts from the end, as in PyTorch."""
    row = index_of(value)
    if row is None:
        raise TypeError(f"{what} is {shown(value)}; it must be a whole number, or None")
    if not -rows <= row < rows:
        raise ValueError(
            f"{what} is {row}; it must be a row of the table, at least {-rows} and at most "
            f"{rows - 1}"
        )
    return row % rows


class Linear(Module):
    """y = x Wᵀ + b. weight (out_features, in_features), bias (out_features,), started as PyTorch
    starts them."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        in_features = count(in_features, "Linear: in_features")
        out_features = count(out_features, "Linear: out_features")
        self.weight = init.kaiming_uniform((out_features, in_features), a=5**0.5)
        bound = 1 / max(in_features, 1) ** 0.5
        self.bias = init.uniform((out_features,), bound) if flag(bias, "Linear: bias") else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features). Returns (..., out_features)."""
        return linear(x, self.weight, self.bias)


class Embedding(Module):
    """A learned vector for each of ``num_embeddings`` things. weight (num_embeddings,
    embedding_dim), N(0, 1).

    padding_idx: the number of the thing that stands for padding. Its vector starts at 0 and gets no
    gradient.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None):
        rows = count(num_embeddings, "Embedding: num_embeddings")
        self.weight = init.normal((rows, count(embedding_dim, "Embedding: embedding_dim")), std=1.0)
        self.padding_idx = (
            None if padding_idx is None else row_of(padding_idx, rows, "Embedding: padding_idx")
        )
        if padding_idx is not None:
            self.weight._data[self.padding_idx] = 0

    def forward(self, ids: ArrayLike) -> Tensor:
        """ids, integers of any shape S. Returns (*S, embedding_dim)."""
        return embedding(ids, self.weight, self.padding_idx)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


def refuse_misfit(x: Any, weight: Any, bias: Any) -> None:
    """An error for an x whose last axis is not what weight takes, and for a bias that is not what
    comes out."""
    if array(weight, "weight").ndim != 2:
        raise ValueError(f"weight has shape {weight.shape}; it must be (out, in)")
    if array(x, "x").ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x of shape {x.shape} has {x.shape[-1] if x.ndim else 'no'} features along its last "
            f"axis, weight of shape {weight.shape} takes {weight.shape[1]}"
        )
    fits(bias, "bias", weight.shape[:1], "one number for each row of weight")


@linear.kernel
def _linear(xp, x, weight, bias=None):
    refuse_misfit(x, weight, bias)
    rows = as_rows(x)  # one product of matrices, whatever x's rank
    y = rows @ weight.T
    if bias is not None:
        y += bias

    def pull(g):
        g = as_rows(g)
        return (lambda: (g @ weight).reshape(x.shape), lambda: g.T @ rows, lambda: sum_rows(xp, g))

    return y.reshape(*x.shape[:-1], weight.shape[0]), pull
