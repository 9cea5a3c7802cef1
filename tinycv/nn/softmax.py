"""Softmax and log-softmax: turn scores (logits) into probabilities and their logarithms.

    softmax(x)_i     = exp(x_i) / Σ_j exp(x_j)
    log softmax(x)_i = x_i - log Σ_j exp(x_j)

Read first: engine/fused.py.   Read next: losses.py, where cross-entropy uses log-softmax.
Used in: sequence/attention.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.arguments import size
from tinycv.engine.blocks import BLOCK, LEAST, in_blocks
from tinycv.engine.fused import fused
from tinycv.engine.ops import exp, log
from tinycv.engine.reduce import as_rows, dot_last, exp_rows, sum_last
from tinycv.engine.tensor import Tensor
from tinycv.engine.torch_names import with_hints
from tinycv.nn.checks import array, axis_of
from tinycv.nn.module import Module


@fused
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x_i) / Σ_j exp(x_j) along ``axis``: positive numbers that sum to 1. Same shape as x.

    The largest x is subtracted first. The result stays the same, since the factor exp(-max)
    cancels, but exp cannot overflow (Goodfellow, Bengio & Courville 2016, section 4.1).
    differs: the default is the last axis; PyTorch's default depends on the number of axes.
    """
    # an empty array has no largest value
    if not x.size:
        return x * 1
    e = exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@fused
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log softmax(x) = x - log Σ_j exp(x_j). Same shape as x.

    log(softmax(x)) would be -inf where softmax underflows to 0; this form never takes the logarithm
    of such a number.
    differs: the default is the last axis, as for softmax.
    """
    if not x.size:
        return x * 1
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - log(exp(shifted).sum(axis=axis, keepdims=True))


class Softmax(Module):
    """``softmax`` along one axis, as a layer. differs: the default is the last axis."""

    @with_hints
    def __init__(self, axis: int = -1):
        # NumPy's arrays have at most 64 axes
        self.axis = size(axis, "Softmax: axis", -64)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape. Returns the same shape."""
        return softmax(x, self.axis)


# ── below this line: speed. The definitions above are what it must equal ─────────────────────────


def check_softmax(x: Any, axis: Any) -> Tensor:
    """x, if it is an array that has this axis; otherwise an error."""
    axis_of(axis, array(x, "x").ndim)
    return x


# How many numbers a block has. This does not depend on the number of cores, because exp_rows
# subtracts the maximum of the whole block: other blocks would round differently.
ROWS = BLOCK


@softmax.kernel
def _softmax(xp, x, axis=-1):
    x = check_softmax(x, axis).swapaxes(axis, -1)
    rows = as_rows(x)
    y = xp.empty_like(rows)
    if not x.size:
        return y.reshape(x.shape).swapaxes(axis, -1), lambda g: g

    def forward(at):
        # exp_rows writes exp(x - max x) into ``part`` first, and returns its sums
        part = y[at]
        part /= exp_rows(xp, rows[at], out=part)[0]

    in_blocks(xp, forward, *rows.shape, size=ROWS, products=True)

    def pull(g):
        # dL/dx = y (g - Σ g y)
        g, gx = as_rows(g.swapaxes(axis, -1)), xp.empty_like(rows)

        def backward(at):
            part = xp.subtract(g[at], dot_last(xp, g[at], y[at]), out=gx[at])
            part *= y[at]

        in_blocks(xp, backward, *rows.shape, size=ROWS, products=True)
        return gx.reshape(x.shape).swapaxes(axis, -1)

    return y.reshape(x.shape).swapaxes(axis, -1), pull


@log_softmax.kernel
def _log_softmax(xp, x, axis=-1):
    x = check_softmax(x, axis).swapaxes(axis, -1)
    rows = as_rows(x)
    y, p = xp.empty_like(rows), xp.empty_like(rows)
    if not x.size:
        return y.reshape(x.shape).swapaxes(axis, -1), lambda g: g

    def forward(at):
        total, top = exp_rows(xp, rows[at], out=p[at])
        p[at] /= total
        part = xp.subtract(rows[at], top, out=y[at])
        part -= xp.log(total)

    in_blocks(xp, forward, *rows.shape, size=ROWS, products=True)

    def pull(g):
        g = as_rows(g.swapaxes(axis, -1))
        if x.size < LEAST:  # fewer calls
            return (g - p * sum_last(xp, g)).reshape(x.shape).swapaxes(axis, -1)
        gx = xp.empty_like(rows)

        def backward(at):
            part = xp.multiply(p[at], sum_last(xp, g[at]), out=gx[at])
            xp.subtract(g[at], part, out=part)

        in_blocks(xp, backward, *rows.shape, size=ROWS, products=True)
        return gx.reshape(x.shape).swapaxes(axis, -1)

    return y.reshape(x.shape).swapaxes(axis, -1), pull
