"""Layer norm: shift a token's features to mean 0, scale them to variance 1, then apply γ and β.

    y = γ (x - E[x]) / √(Var[x] + ε) + β                     Ba, Kiros & Hinton 2016, eq. 4

E and Var are taken over the features of one token, so its result does not depend on the rest of the
batch, and is the same in training and evaluation.  γ and β are learned.

Read next: group_norm.py and batch_norm.py, which differ in the numbers over which E and Var are
taken.
Shapes: D features of a token, N tokens.
"""

from __future__ import annotations

from functools import partial
from math import ceil, prod
from typing import Any

import numpy as np

from tinycv.engine.arguments import shown, sizes
from tinycv.engine.blocks import LARGE, in_blocks
from tinycv.engine.fused import fused
from tinycv.engine.ops import sqrt
from tinycv.engine.reduce import as_rows, dot_last, sum_last, sum_rows
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import array, count, epsilon, fits, flag
from tinycv.nn.module import Module

# types that PyTorch's normalized_shape may have and a weight cannot
SHAPES = int, tuple, list


@fused
def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (..., D), weight γ (D,) or None, bias β (D,) or None. Returns (..., D). Var divides by D,
    not D - 1.

    differs: always normalises over the last axis, so there is no argument normalized_shape,
    PyTorch's second. The layer LayerNorm does take a shape of several axes.
    """
    centred = x - x.mean(axis=-1, keepdims=True)  # (..., D)
    y = centred * inverse_root((centred * centred).mean(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def inverse_root(x: Tensor) -> Tensor:
    """1 / √x, computed as √x / x, which is NaN for an infinite x.

    1 / √x would be 0 there. A network whose squares overflow would then silently go on with zeros
    and learn nothing; NaN makes the overflow visible.
    """
    return sqrt(x) / x


class LayerNorm(Module):
    """Layer norm over the last axis, of size normalized_shape, or over several last axes of that
    shape. weight starts at 1 and bias at 0; both have that shape.

    differs: bias is the third argument. PyTorch has elementwise_affine there, which is always True
    here.
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, bias: bool = True
    ):
        self.normalized_shape = sizes(normalized_shape, "LayerNorm: normalized_shape")
        if not self.normalized_shape:
            raise ValueError("LayerNorm: normalized_shape is (); it must have at least one axis")
        count(prod(self.normalized_shape), "LayerNorm: the size of normalized_shape")
        self.weight, self.eps = init.ones(self.normalized_shape), epsilon(eps, "LayerNorm: eps")
        self.bias = init.zeros(self.normalized_shape) if flag(bias, "LayerNorm: bias") else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., *normalized_shape). Returns the same shape."""
        shape = self.normalized_shape
        if len(shape) == 1:
            return layer_norm(x, self.weight, self.bias, self.eps)
        if array(x, "LayerNorm: x").ndim < len(shape) or tuple(x.shape[-len(shape) :]) != shape:
            raise ValueError(f"LayerNorm: x has shape {x.shape}; its last axes must be {shape}")
        # joins the last axes to one, over which layer_norm works
        rows = x.reshape((*x.shape[: x.ndim - len(shape)], prod(shape)))
        weight, bias = (
            None if p is None else p.reshape((prod(shape),)) for p in (self.weight, self.bias)
        )
        return layer_norm(rows, weight, bias, self.eps).reshape(x.shape)


# ── below this line: speed. The definitions above are what it must equal ──────────────────────────


@layer_norm.doubtful
def refuse_shape(args: tuple, options: dict) -> None:
    """TypeError for PyTorch's call, layer_norm(x, (D,), weight, bias)."""
    weight = args[1] if len(args) > 1 else options.get("weight")
    if "normalized_shape" in options or isinstance(weight, SHAPES):
        problem = (
            "normalized_shape was given"
            if "normalized_shape" in options
            else (f"weight is {shown(weight)}; it must be an array or a Tensor, or None")
        )
        raise TypeError(
            f"layer_norm: {problem}. It always normalises over the last axis, and PyTorch's "
            "normalized_shape is no argument here"
        )


def check_layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """TypeError or ValueError for arguments of layer_norm that do not fit each other."""
    if isinstance(weight, SHAPES):
        refuse_shape((x, weight), {})
    if array(x, "x").ndim == 0:
        raise ValueError("x is a single number; it must have an axis of features")
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, name, x.shape[-1:], "one number for each feature along the last axis of x")
    epsilon(eps)


# From so many numbers on, layer norm works in blocks of rows.
FEW = 1 << 16
# The size of a block, in numbers
ROWS = 1 << 17
# The largest number of rows that are added up by one product with BLAS, which adds one number after
# the other, and so adds up rounding errors too
LONG = 1 << 10


@layer_norm.kernel
def _layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    check_layer_norm(x, weight, bias, eps)
    if xp is np and x.size >= FEW:
        return many_rows(x, weight, bias, eps)
    # D, or 1 for rows without features, so that nothing is divided by 0
    width = max(x.shape[-1], 1)
    rows = as_rows(x)
    mean = sum_last(xp, rows) * (1 / width)
    normal = rows - mean
    square = dot_last(xp, normal, normal) * (1 / width) + eps
    scale = xp.sqrt(square) / square  # 1 / √square, NaN for inf, as in inverse_root
    normal *= scale  # x̂ = (x - E[x]) / √(Var[x] + ε)
    # y takes the memory of x̂, and the backward pass computes x̂ again from x. Otherwise x̂ would be
    # a third array of this size in memory, beside x and y, which the next layer keeps.
    y = normal
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias

    def pull(g):
        g = g.reshape(rows.shape)
        normal = rows - mean
        normal *= scale

        def along_x():
            # dL/dx = scale (h - E[h] - x̂ E[h x̂]) with h = γ g. Why: each row of x̂ has a fixed mean,
            # 0, and a fixed mean square, 1. So the parts of h along the vector of ones and along x̂
            # cannot change y, and are removed.
            h = g.copy() if weight is None else g * weight
            across = dot_last(xp, h, normal) * (1 / width)
            h -= sum_last(xp, h) * (1 / width)
            h -= normal * across
            h *= scale
            return h.reshape(x.shape)

        return along_x, lambda: sum_rows(xp, g * normal), lambda: sum_rows(xp, g)

    return y.reshape(x.shape), pull


def many_rows(x, weight, bias, eps):
    """The kernel of layer norm for many numbers on a CPU: the same formulas, in blocks of rows that
    all cores share. Sums over a row or a column are products with a vector."""
    width, rows = x.shape[-1], as_rows(x)
    # not empty_like, which would put the numbers in the order in which those of x lie
    y, mean, scale = (np.empty((len(rows), n), x.dtype) for n in (width, 1, 1))
    gamma = np.ones(width, x.dtype) if weight is None else weight
    per_product = min(LONG, max(1, ROWS // width))  # rows that one product adds up
    # Blocks of a fixed size, so that results do not depend on the number of cores. Each has a whole
    # number of products, so that no two blocks write to the same row of to_weight and to_bias.
    size = per_product * width * max(1, ROWS // (per_product * width))
    of_rows = partial(
        in_blocks, np, rows=len(rows), width=width, size=size, least=LARGE, products=True
    )

    def forward(at):
        mean[at] = sum_last(np, rows[at]) * (1 / width)
        out = np.subtract(rows[at], mean[at], out=y[at])
        square = dot_last(np, out, out) * (1 / width) + eps
        scale[at] = np.sqrt(square) / square
        out *= outer(scale[at], gamma)
        if bias is not None:
            out += bias

    of_rows(forward)

    def pull(g):
        g, gx = as_rows(g), np.empty(rows.shape, x.dtype)
        # One row for each product. There may be a thousand rows, so they are added up in float64.
        to_weight, to_bias = np.empty((2, ceil(len(rows) / per_product), width), x.dtype)

        def backward(at):
            # dx = scale (h - E[h] - x̂ E[h x̂]) with h = γ g and x̂ = scale (x - mean)
            part, scales = g[at], scale[at]
            centred = rows[at] - mean[at]
            out = np.multiply(part, centred, out=gx[at])
            total, dots = part @ gamma, out @ gamma
            for start in range(0, len(part), per_product):
                summed = slice(start, start + per_product)
                i = (at.start + start) // per_product
                to_weight[i] = scales[summed, 0] @ out[summed]
                to_bias[i] = sum_rows(np, part[summed])
            np.multiply(part, outer(scales, gamma), out=out)
            # in this order, since the cube of a small scale would be 0
            centred *= scales * (scales * (scales * dots[:, None])) * (1 / width)
            centred += scales * total[:, None] * (1 / width)
            out -= centred

        of_rows(backward)
        sums = (part.sum(axis=0, dtype=np.float64).astype(x.dtype) for part in (to_weight, to_bias))
        return gx.reshape(x.shape), *sums

    return y.reshape(x.shape), pull


def outer(column, row):
    """column (n, 1) * row (D,), (n, D), as a product of matrices. For rows of up to 512 numbers it
    takes about half of the time of NumPy's multiplication. The inner axis has 2 numbers, one of
    them 0, because NumPy calls no BLAS for an inner axis of 1."""
    left, right = np.zeros((len(column), 2), row.dtype), np.zeros((2, len(row)), row.dtype)
    left[:, :1], right[0] = column, row
    return left @ right
