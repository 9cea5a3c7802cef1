"""Linear (fully connected) layer, and Embedding, a table of learned vectors looked up by id.

    y = x Wᵀ + b             linear: every output is a weighted sum of all inputs; W is (out, in)
    y = W[id]                embedding: row id of the table W (rows, features)

The layouts of W and the initial weights follow PyTorch.
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
    """Look up rows of weight (n, d): ids, integers of any shape S, give (*S, d).

    ids: a Tensor, an array, or lists and tuples of whole numbers. An id outside 0 ... n-1, such as
    -1, is an IndexError. On a GPU the row of such an id is NaN instead and gets no gradient,
    because checking its value would mean waiting for the GPU. Masks, slices, floats and None raise
    NoIds, which is a TypeError and an IndexError.
    padding_idx: the row that represents padding. It gets no gradient.
    """
    index = whole_numbers(ids)
    if array(weight, "embedding: weight").ndim != 2:
        raise ValueError(
            f"embedding: weight has shape {tuple(weight.shape)}; it must be a table (rows, "
            "features)"
        )
    rows = weight.shape[0]
    # only on the host: to look at ids on a GPU would mean waiting for it
    if isinstance(index, np.ndarray):
        bad = index[(index < 0) | (index >= rows)]
        if bad.size:
            raise IndexError(
                f"embedding: id {bad.flat[0]} is out of range: the table has {rows} rows, 0 to "
                f"{rows - 1}"
            )
    vectors = getitem(weight, index)
    if not isinstance(index, np.ndarray) and backend.array_module(index) is not np:
        # read as unsigned, -1 is the largest number of its type, so one comparison finds both ends
        unsigned = index.view(f"u{index.dtype.itemsize}")
        vectors = where((unsigned >= rows)[..., None], nan, vectors)
    if padding_idx is None or not isinstance(weight, Tensor):
        return vectors
    row = row_of(padding_idx, rows, "embedding: padding_idx")
    padding = backend.from_host(backend.array_module(bare(weight)), index) == row
    return where(padding[..., None], vectors.detach(), vectors)


class NoIds(TypeError, IndexError):
    """The ids are not integers. A TypeError, since the argument has the wrong type, and an
    IndexError, since it is not a valid index: callers may catch either."""


def whole_numbers(ids: ArrayLike) -> backend.Array:
    """ids as an array of integers. NoIds for everything else that NumPy would accept as an index:
    masks, slices, None, floats."""
    try:
        array_of_ids = as_array(list(ids) if isinstance(ids, range) else ids)
    except (TypeError, ValueError):
        array_of_ids = None
    if isinstance(ids, (list, tuple, range)) and array_of_ids is not None and not array_of_ids.size:
        # NumPy makes an empty list an array of floats
        return array_of_ids.astype(np.int64)
    if array_of_ids is None or array_of_ids.dtype.kind not in "iu":
        raise NoIds(
            f"embedding: ids is {shown(bare(ids))}; it must be an array of integers, or lists of "
            "whole numbers"
        )
    return array_of_ids


def row_of(value: Any, rows: int, what: str) -> int:
    """A row's number, counted from 0. A negative one counts from the end, as in PyTorch."""
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
    """y = x Wᵀ + b. weight (out_features, in_features) and bias (out_features,) start as in
    PyTorch: uniform within ±1/√in_features."""

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
    """A table of learned vectors, one per id. weight (num_embeddings, embedding_dim) starts as
    N(0, 1).

    padding_idx: the id that represents padding. Its vector starts at 0 and gets no gradient.
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
        """ids: integers of any shape S. Returns (*S, embedding_dim)."""
        return embedding(ids, self.weight, self.padding_idx)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


def refuse_misfit(x: Any, weight: Any, bias: Any) -> None:
    """ValueError if the last axis of x does not fit the weight, or the bias does not fit the
    output."""
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
    if not in_plain_shapes(x, weight, bias):
        refuse_misfit(x, weight, bias)
    rows = as_rows(x)  # (all rows, in): one matrix product, however many axes x has
    y = rows @ weight.T
    if bias is not None:
        y += bias

    def pull(g):
        g = as_rows(g)
        return (lambda: (g @ weight).reshape(x.shape), lambda: g.T @ rows, lambda: sum_rows(xp, g))

    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0]), pull


@linear.derivative
def _(g, x, weight, bias=None):
    columns = as_rows(g).swapaxes(0, 1)  # (out, N)
    return lambda: g @ weight, lambda: columns @ as_rows(x), lambda: columns.sum(axis=1)


def in_plain_shapes(x: Any, weight: Any, bias: Any) -> bool:
    """Are these x (N, in), weight (out, in) and bias (out,)? Then nothing is to be refused, which
    for small layers takes as long to find out as the product."""
    if not (type(x) is type(weight) is np.ndarray and x.ndim == weight.ndim == 2):
        return False
    plain_bias = bias is None or type(bias) is np.ndarray and bias.shape == weight.shape[:1]
    return plain_bias and x.shape[1] == weight.shape[1]
