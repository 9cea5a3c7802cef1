"""Softmax: scores become probabilities, the largest score the likeliest.

    softmax(x)_i = exp(x_i) / Σ_j exp(x_j)

Read before: engine/fused.py.   Read next: losses.py, which needs its logarithm.
Seen at work: sequence/attention.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.arguments import size
from tinycv.engine.fused import fused
from tinycv.engine.ops import exp, log
from tinycv.engine.reduce import as_rows, blocks, exp_rows, sum_last
from tinycv.engine.tensor import Tensor
from tinycv.nn.checks import array, axis_of
from tinycv.nn.module import Module


@fused
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x_i) / Σ_j exp(x_j) along ``axis``: positive numbers that sum to 1. Same shape as x.

    The largest x is subtracted first, which changes nothing but keeps exp from overflowing
    (Goodfellow, Bengio & Courville 2016, section 4.1). differs: the axis is the last unless it is
    given; PyTorch guesses one by the shape.
    """
    # no numbers, and no largest of them
    if not x.size:
        return x * 1
    e = exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@fused
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log softmax(x) = x - log Σ_j exp(x_j), without ever taking the log of a number that
    underflowed to 0.

    differs: the axis is the last unless it is given, as softmax's.
    """
    if not x.size:
        return x * 1
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - log(exp(shifted).sum(axis=axis, keepdims=True))


class Softmax(Module):
    """softmax along one axis. differs: the last, unless it is given."""

    def __init__(self, axis: int = -1):
        # NumPy's arrays have at most 64 axes
        self.axis = size(axis, "Softmax: axis", -64)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape. Returns the same shape."""
        return softmax(x, self.axis)


# ── below this line: speed. The definitions above are what it must equal ─────────────────────────


def checked(x: Any, axis: Any) -> Tensor:
    """x; an error for one that is no array, or has no such axis."""
    axis_of(axis, array(x, "x").ndim)
    return x


@softmax.kernel
def _softmax(xp, x, axis=-1):
    x = checked(x, axis).swapaxes(axis, -1)
    rows = as_rows(x)
    y = xp.empty_like(rows)
    if not x.size:
        return y.reshape(x.shape).swapaxes(axis, -1), lambda g: g
    for at in blocks(xp, *rows.shape):
        y[at] /= exp_rows(xp, rows[at], out=y[at])[0]

    def pull(g):
        g, gx = as_rows(g.swapaxes(axis, -1)), xp.empty_like(rows)
        for at in blocks(xp, *rows.shape):
            part = xp.multiply(g[at], y[at], out=gx[at])
            part -= y[at] * sum_last(xp, part)
        return gx.reshape(x.shape).swapaxes(axis, -1)

    return y.reshape(x.shape).swapaxes(axis, -1), pull


@log_softmax.kernel
def _log_softmax(xp, x, axis=-1):
    x = checked(x, axis).swapaxes(axis, -1)
    rows = as_rows(x)
    y, p = xp.empty_like(rows), xp.empty_like(rows)
    if not x.size:
        return y.reshape(x.shape).swapaxes(axis, -1), lambda g: g
    for at in blocks(xp, *rows.shape):
        total, top = exp_rows(xp, rows[at], out=p[at])
        p[at] /= total
        part = xp.subtract(rows[at], top, out=y[at])
        part -= xp.log(total)

    def pull(g):
        g = as_rows(g.swapaxes(axis, -1))
        return (g - p * sum_last(xp, g)).reshape(x.shape).swapaxes(axis, -1)

    return y.reshape(x.shape).swapaxes(axis, -1), pull
