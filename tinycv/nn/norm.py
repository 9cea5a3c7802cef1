"""Layer normalisation: each token's features are moved to mean 0 and scaled to variance 1, then to what is learned.

    y = γ (x - E[x]) / √(Var[x] + ε) + β                            Ba, Kiros & Hinton 2016, eq. 4

The statistics are of one token alone, so training and evaluation do the same, whatever the batch.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.fused import fused
from tinycv.engine.ops import sqrt
from tinycv.engine.reduce import as_rows, dot_last, sum_last, sum_rows
from tinycv.nn import init
from tinycv.nn.module import Module


@fused
def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """x (..., D), weight γ (D,) or None, bias β (D,) or None. Returns (..., D). Var divides by D, not D - 1."""
    centred = x - x.mean(axis=-1, keepdims=True)                    # (..., D)
    y = centred / sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class LayerNorm(Module):
    """Layer normalisation over the last axis, of size normalized_shape. weight starts at 1, bias at 0."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5, bias: bool = True):
        self.weight, self.eps = init.ones((normalized_shape,)), eps
        self.bias = init.zeros((normalized_shape,)) if bias else None

    def forward(self, x: Any) -> Any:
        """x (..., normalized_shape). Returns the same shape."""
        return layer_norm(x, self.weight, self.bias, self.eps)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@layer_norm.kernel
def _layer_norm(xp, x, weight=None, bias=None, eps=1e-5):
    width = x.shape[-1]
    rows = as_rows(x)
    normal = rows - sum_last(xp, rows) * (1 / width)
    scale = 1 / xp.sqrt(dot_last(xp, normal, normal) * (1 / width) + eps)
    normal *= scale
    y = normal.copy() if weight is None else normal * weight
    if bias is not None:
        y += bias

    def pull(g):
        g = g.reshape(rows.shape)

        def along_x():
            # x̂ has mean 0 and square 1 along a row: what g has of these two directions cannot pass.
            h = g.copy() if weight is None else g * weight
            across = dot_last(xp, h, normal) * (1 / width)
            h -= sum_last(xp, h) * (1 / width)
            h -= normal * across
            h *= scale
            return h.reshape(x.shape)

        return along_x, lambda: sum_rows(xp, g * normal), lambda: sum_rows(xp, g)

    return y.reshape(x.shape), pull
