"""Networks that are told the time: how noisy what they look at is.

    h_0 = [x, γ(t)],   h_l = SiLU(W_l h_{l-1} + b_l),   out = W h_L + b
    γ(t) = [sin(ω_i t), cos(ω_i t)],   ω_i from 1/2 to 16 in equal ratios                 Fourier features of the time

One number for the time would enter a network as one more coordinate among many, and be outvoted; a vector of waves of it
cannot be (Vaswani et al. 2017, section 3.5, for places in a sentence; Tancik et al. 2020).  t is a time in [0, 1] or the
log of a noise level, some units wide.

Read before: nn/linear.py, nn/activation.py.   Read next: score.py.   Shapes: B points, D axes.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.backend import array_module
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import cos, sin
from tinycv.engine.tensor import bare
from tinycv.nn.activation import SiLU
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module, Sequential


def fourier_features(t: Any, width: int = 16) -> Any:
    """γ(t): (B, width) for t (B,); width is even."""
    own = bare(t)
    turns = 2.0 ** array_module(own).linspace(-1, 4, width // 2, dtype=own.dtype)
    angle = t[:, None] * turns                                      # (B, width / 2)
    return concatenate([sin(angle), cos(angle)], axis=-1)           # (B, width)


class ScoreMLP(Module):
    """Points x (B, dim) at times t (B,) to vectors (B, dim): a multilayer perceptron with ``depth`` hidden layers.

    What the vectors mean is the loss's business: a score, the noise that was added, or the point without it.
    """

    def __init__(self, dim: int, hidden: int = 128, depth: int = 3, time_features: int = 16):
        self.time_features = time_features
        widths = [dim + time_features] + [hidden] * depth
        layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (Linear(a, b), SiLU())]
        self.layers = Sequential(*layers, Linear(hidden, dim))

    def forward(self, x: Any, t: Any) -> Any:
        """x (B, dim), t (B,). Returns (B, dim)."""
        return self.layers(concatenate([x, fourier_features(t, self.time_features)], axis=-1))
