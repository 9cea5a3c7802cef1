"""Networks that are told the time: how noisy what they look at is.

    h_0 = [x, γ(t), φ(x)],   h_l = SiLU(W_l h_{l-1} + b_l),   out = W h_L + b
    γ(t) = [sin(ω_i t), cos(ω_i t)],   ω_i from 1/2 to 16 in equal ratios                 Fourier features of the time

One number for the time would enter a network as one more coordinate among many, and be outvoted; a vector of waves of it
cannot be (Vaswani et al. 2017, section 3.5, for places in a sentence; Tancik et al. 2020).  t is a time in [0, 1] or the
log of a noise level, some units wide.  And waves of the places, φ(x), where the density has detail that is much finer than
the whole: a network learns slow functions of its inputs first, and the fast waves are there already (Tancik et al. 2020).

Read before: nn/linear.py, nn/activation.py.   Read next: score.py.   Shapes: B points, D axes.
"""

from __future__ import annotations

from math import log2, prod
from typing import Any

from tinycv.engine.backend import array_module
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import cos, sin
from tinycv.engine.tensor import bare
from tinycv.nn.activation import SiLU
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module, Sequential


def fourier_features(t: Any, width: int = 16, slowest: float = 0.5, fastest: float = 16.0) -> Any:
    """γ(t): (B, width) for t (B,); or (B, D * width), waves of each axis, for points (B, D). width is even."""
    own = bare(t)
    turns = 2.0 ** array_module(own).linspace(log2(slowest), log2(fastest), width // 2, dtype=own.dtype)
    angle = (t[..., None] * turns).reshape((len(t), prod(t.shape[1:]) * len(turns)))
    return concatenate([sin(angle), cos(angle)], axis=-1)           # (B, width)


class ScoreMLP(Module):
    """Points x (B, dim) at times t (B,) to vectors (B, dim): a multilayer perceptron with ``depth`` hidden layers.

    What the vectors mean is the loss's business: a score, the noise that was added, or the point without it.
    place_features: waves of each axis, from 1 to ``fastest``, for points within a few units of 0; 0: the points themselves
    suffice. Faster waves show finer detail, and make a rougher network: its divergence, for a likelihood, is noisier.
    """

    def __init__(self, dim: int, hidden: int = 128, depth: int = 3, time_features: int = 16, place_features: int = 0,
                 fastest: float = 64.0):
        self.time_features, self.place_features, self.fastest = time_features, place_features, fastest
        widths = [dim * (1 + place_features) + time_features] + [hidden] * depth
        layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (Linear(a, b), SiLU())]
        self.layers = Sequential(*layers, Linear(hidden, dim))

    def forward(self, x: Any, t: Any) -> Any:
        """x (B, dim), t (B,). Returns (B, dim)."""
        seen = [x, fourier_features(t, self.time_features)]
        if self.place_features:
            seen.append(fourier_features(x, self.place_features, slowest=1.0, fastest=self.fastest))
        return self.layers(concatenate(seen, axis=-1))
