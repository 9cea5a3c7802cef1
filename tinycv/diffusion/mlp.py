"""ScoreMLP: a multilayer perceptron that takes the time, or the noise level, as Fourier features.

    h_0 = [x, γ(t), φ(x)],   h_l = SiLU(W_l h_{l-1} + b_l),   out = W h_L + b
    γ(t) = [sin(ω_i t), cos(ω_i t)],   ω_i from 1/2 to 16 in equal ratios       Fourier features

As a single number the time would be one more input among many, with little influence.  A vector of
its sines and cosines has more (Vaswani et al. 2017, section 3.5, for positions in a sentence;
Tancik et al. 2020).  t is a time in [0, 1] or the log of a noise level, with a range of a few
units.  φ(x) are waves of the coordinates, for densities with very fine detail: a network learns
functions that vary slowly with its inputs first, and the fast waves give it fast ones to start from
(Tancik et al. 2020).

Read first: nn/linear.py, nn/activation.py.   Read next: score.py.   Shapes: B points, D axes.
"""

from __future__ import annotations

from math import log2, prod

from tinycv.engine.arguments import number_kind, size
from tinycv.engine.backend import array_module
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import cos, sin
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.activation import SiLU
from tinycv.nn.inputs import Examples, batch, depth_of, finite, times_in, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.sequential import Sequential


def fourier_features(
    t: Examples, width: int = 16, slowest: float = 0.5, fastest: float = 16.0
) -> Examples:
    """Fourier features γ(t): (B, width) for t (B,); for points (B, D), (B, D * width), the waves of
    each axis. width is even.

    Whole numbers become float32: in integers the frequencies would be rounded.
    """
    width = size(width, "fourier_features: width", 2)
    if width % 2:
        raise ValueError(
            f"fourier_features: width is {width}; it must be even, because there are a sine and a "
            "cosine per frequency"
        )
    slowest = finite(slowest, "fourier_features: slowest", above=0)
    fastest = finite(fastest, "fourier_features: fastest", above=0)
    if number_kind(t) in ("i", "u"):
        t = t.astype("float32")
    batch(t, "fourier_features: t")
    array = bare(t)
    frequencies = 2.0 ** array_module(array).linspace(
        log2(slowest), log2(fastest), width // 2, dtype=array.dtype
    )
    angle = (t[..., None] * frequencies).reshape((len(t), prod(t.shape[1:]) * len(frequencies)))
    return concatenate([sin(angle), cos(angle)], axis=-1)  # (B, width)


class ScoreMLP(Module):
    """Points x (B, dim) at times t (B,) to vectors (B, dim): a multilayer perceptron with ``depth``
    hidden layers.

    The loss decides what the vectors mean: a score, the noise that was added, or the point without
    noise.
    place_features: the number of waves per axis, with frequencies from 1 to ``fastest``, for points
    within a few units of 0; with 0 the network sees the points alone. Faster waves allow finer
    detail but make the network rougher, so that its divergence (for a likelihood) is noisier.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 128,
        depth: int = 3,
        time_features: int = 16,
        place_features: int = 0,
        fastest: float = 64.0,
    ):
        dim, hidden = whole("ScoreMLP", 1, dim=dim, hidden=hidden)
        time_features = size(time_features, "ScoreMLP: time_features", 2)
        place_features = size(place_features, "ScoreMLP: place_features")
        if time_features % 2 or place_features % 2:
            raise ValueError(
                f"ScoreMLP: time_features is {time_features} and place_features {place_features}; "
                "both must be even, because there are a sine and a cosine per frequency"
            )
        self.time_features, self.place_features = time_features, place_features
        self.dim, self.fastest = dim, finite(fastest, "ScoreMLP: fastest", above=0)
        width, layers = dim * (1 + place_features) + time_features, []
        for _ in range(depth_of(depth, "ScoreMLP")):
            layers += [Linear(width, hidden), SiLU()]
            width = hidden
        self.layers = Sequential(*layers, Linear(hidden, dim))

    def forward(self, x: Examples, t: Examples) -> Tensor:
        """x (B, dim), t (B,). Returns (B, dim)."""
        if batch(x, "ScoreMLP: x", 2).shape[1] != self.dim:
            raise ValueError(
                f"ScoreMLP: x has shape {tuple(x.shape)}; this network takes points (B, {self.dim})"
            )
        if times_in(t, "ScoreMLP: t", gradient=True).shape != (len(x),):
            raise ValueError(
                f"ScoreMLP: t has shape {tuple(t.shape)} and x {tuple(x.shape)}; t must be "
                f"({len(x)},)"
            )
        inputs = [x, fourier_features(t, self.time_features)]
        if self.place_features:
            inputs.append(
                fourier_features(x, self.place_features, slowest=1.0, fastest=self.fastest)
            )
        return self.layers(concatenate(inputs, axis=-1))
