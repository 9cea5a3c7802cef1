"""RealNVP, a normalizing flow: an invertible network whose likelihood is exact (Dinh et al. 2017).

    log p(x) = log N(f(x); 0, I) + log |det ∂f(x)/∂x|           change of variables, section 3.1
    f = f_K ∘ ... ∘ f_1:   log |det ∂f/∂x| = Σ_k log |det ∂f_k/∂x_k|      x_k: the input of layer k
    coupling:   y = b x + (1 - b) (x e^s + t),   s and t computed from b x        section 3.2, 3.4
                log |det ∂y/∂x| = Σ (1 - b) s
                x = b y + (1 - b) (y - t) e^(-s),   since b y = b x

A flow bends space until the data look like noise from N(0, I).  Where it stretches space, the
density of x is larger than that of z, and the log-determinant says by how much.  A determinant of
D x D numbers costs D³ operations in general; for an affine coupling layer its logarithm is a sum.
The mask b keeps some numbers of x as they are, and only these decide how the others are scaled and
shifted.  So the Jacobian is triangular, up to the order of the numbers, with 1 and e^s on its
diagonal.  The network that computes s and t is never inverted, so it can be any network.  The masks
of successive layers alternate, so that every number is changed.

The log-determinants of the layers are added.  Here s is the tanh of a number from the network, so
|s| < 1: one layer stretches by at most e, K layers by at most e^K.  Without a bound e^s can
overflow.
differs: RealNVP multiplies the tanh by a learned number per channel.

Images: the masks are a checkerboard of pixels, or half of the channels.  Between the two,
pixel_unshuffle (RealNVP: squeeze) turns squares of 2 x 2 pixels into channels.  Half of the
channels then leave the flow; only the other half is modelled at coarser scales (``MultiScale``).
Pixel values are whole numbers, and the density of a continuous model could grow without bound
there.  So uniform noise is added to them first (dequantize in units.py).  A logit then stretches
the interval [0, 1] to the whole line.

Read first: units.py, nn/shuffle.py.   Read next: glow.py, diffusion/flow_matching.py.
See at work: demos/21_flow.py.
Shapes: B examples; D numbers of a point; C channels of H x W pixels. A log-determinant is (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinycv.data.inputs import whole as at_most
from tinycv.engine.arguments import choice, shown, sizes
from tinycv.engine.create import randn, zeros
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import exp, log, softplus, tanh, where
from tinycv.engine.tensor import ArrayLike, Tensor, as_array, bare, no_grad
from tinycv.nn import init
from tinycv.nn.activation import ReLU
from tinycv.nn.conv import Conv2d
from tinycv.nn.distributions import normal_log_prob
from tinycv.nn.inputs import Examples, answer, batch, finite, function, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.sequential import Sequential
from tinycv.nn.shuffle import pixel_shuffle, pixel_unshuffle

MOST_SCALES = 20  # more would need images of a million pixels across

# ── the coupling layer ───────────────────────────────────────────────────────────────────────────


class AffineCoupling(Module):
    """y = x where the mask is 1, and x e^s + t where it is 0. s and t are computed from the numbers
    of x where the mask is 1.

    mask: zeros and ones, (D,) or (C, H, W), or a shape that broadcasts to that of an example.
    network: from (B, D) to (B, 2 D), or from (B, C, H, W) to (B, 2 C, H, W). s is the tanh of the
    first half of its result, and t the second half.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], mask: ArrayLike):
        self.network = function(network, "AffineCoupling: network")
        zeros_and_ones = as_array(mask, what="AffineCoupling: mask")
        if not np.isin(zeros_and_ones, (0, 1)).all() or len(np.unique(zeros_and_ones)) < 2:
            raise ValueError(
                f"AffineCoupling: mask is {shown(zeros_and_ones)}; it must hold zeros and ones, at "
                "least one of each"
            )
        self.mask = Tensor(zeros_and_ones.astype(bool))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, ...). Returns y (B, ...) and log |det ∂y/∂x| (B,)."""
        s, t = self._log_scale_and_shift(x, "AffineCoupling: x")
        return x * exp(s) + t, sum_of_example(s)

    def inverse(self, y: Tensor) -> Tensor:
        """The x for which forward returns y."""
        s, t = self._log_scale_and_shift(y, "AffineCoupling.inverse: y")
        return (y - t) * exp(-s)

    def _log_scale_and_shift(self, x: Tensor, what: str) -> tuple[Tensor, Tensor]:
        """s and t in the shape of x, both 0 where the mask is 1."""
        if batch(x, what).ndim != max(2, self.mask.ndim + 1):
            raise ValueError(
                f"{what} has shape {tuple(x.shape)}; for a mask of shape {self.mask.shape} it must "
                f"have {self.mask.ndim + 1} axes, the first of which is the batch"
            )
        shape = (x.shape[0], 2 * x.shape[1], *x.shape[2:])
        kept = where(self.mask, x, 0.0)
        both = answer(self.network(kept), shape, "AffineCoupling: network")
        s, t = split(both, 2, axis=1)
        return where(self.mask, 0.0, tanh(s)), where(self.mask, 0.0, t)


def alternating_mask(dim: int, first: int) -> np.ndarray:
    """(D,): zeros and ones in turn, beginning with ``first`` (0 or 1). D is at least 2."""
    (dim,) = whole("alternating_mask", 2, dim=dim)
    return (np.arange(dim) + choice(first, "alternating_mask: first", (0, 1))) % 2


def checkerboard_mask(height: int, width: int, first: int) -> np.ndarray:
    """(1, H, W): a checkerboard of zeros and ones, with ``first`` (0 or 1) at the upper left."""
    height, width = whole("checkerboard_mask", 1, height=height, width=width)
    first = choice(first, "checkerboard_mask: first", (0, 1))
    return (np.arange(height)[:, None] + np.arange(width) + first)[None] % 2


def channel_mask(channels: int, first: int) -> np.ndarray:
    """(C, 1, 1): ``first`` (0 or 1) in the first half of the channels, 1 - first in the others."""
    (channels,) = whole("channel_mask", 2, channels=channels)
    first = choice(first, "channel_mask: first", (0, 1))
    in_first_half = np.arange(channels) < channels // 2
    return np.where(in_first_half, first, 1 - first)[:, None, None]


# ── a flow: layers, their log-determinants added, and a normal distribution at the end ───────────


class Flow(Module):
    """Invertible layers, one after another, that turn an example into noise from N(0, I).

    layers: each has a method ``forward``, x -> (y, log |det ∂y/∂x| (B,)), and a method
    ``inverse``, y -> x. shape: the shape of one example, which is also that of its noise z.
    """

    def __init__(self, layers: Sequence[Module], shape: Sequence[int] | int):
        self.layers = flow_layers(layers, "Flow: layers")
        self.shape = sizes(shape, "Flow: shape", least=1)

    def forward(self, x: Examples) -> tuple[Tensor, Tensor]:
        """x (B, *shape). Returns z (B, *shape) and log |det ∂z/∂x| (B,)."""
        self._check(x, "x")
        return through(self.layers, x)

    def inverse(self, z: Examples) -> Tensor:
        """The x (B, *shape) that the flow takes to z (B, *shape)."""
        self._check(z, "z")
        return back(self.layers, z)

    def log_prob(self, x: Examples) -> Tensor:
        """log p(x) in nats: (B,), for x (B, *shape)."""
        z, log_det = self(x)
        return sum_of_example(normal_log_prob(z, 0.0, 0.0)) + log_det

    @no_grad()
    def sample(self, n: int) -> Tensor:
        """n new examples: (n, *shape)."""
        (n,) = whole("sample", 0, n=n)
        weight = next(self.parameters(), zeros(0))  # a flow may have no weights at all
        return self.inverse(randn(n, *self.shape, dtype=weight.dtype, device=weight.device))

    def _check(self, x: Any, argument: str) -> None:
        name = f"{type(self).__name__}: {argument}"
        if tuple(batch(x, name).shape[1:]) != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be (B, {expected})")


def through(layers: Sequence[Module], x: Tensor) -> tuple[Tensor, Tensor]:
    """x after all layers, and the sum of their log-determinants (B,)."""
    total = 0.0 * sum_of_example(x)  # a log-determinant of 0 for each example
    for layer in layers:
        x, log_det = layer(x)
        total = total + log_det
    return x, total


def back(layers: Sequence[Any], y: Tensor) -> Tensor:
    """The x that ``through`` takes to y: the inverses of the layers, the last one first."""
    for layer in reversed(layers):
        y = layer.inverse(y)
    return y


def sum_of_example(x: Tensor) -> Tensor:
    """x (B, ...) summed over everything but the batch: (B,)."""
    return x.sum(axis=tuple(range(1, x.ndim)))


class RealNVP(Flow):
    """Points (B, dim) to noise (B, dim), dim from 2: affine couplings with alternating masks.

    hidden: the widths of the hidden layers of each coupling's network.
    """

    def __init__(self, dim: int, couplings: int = 4, hidden: Sequence[int] = (200, 100)):
        dim, couplings = whole("RealNVP", 1, dim=dim, couplings=couplings)
        if dim < 2:
            raise ValueError(
                "RealNVP: dim is 1; it must be at least 2, because a coupling keeps some of the "
                "numbers and changes the others"
            )
        hidden = sizes(hidden, "RealNVP: hidden", least=1)
        layers = [
            AffineCoupling(point_network(dim, hidden), alternating_mask(dim, i % 2))
            for i in range(couplings)
        ]
        super().__init__(layers, dim)


def point_network(dim: int, hidden: Sequence[int]) -> Sequential:
    """(B, dim) to (B, 2 dim): a multilayer perceptron with ReLUs, whose result is 0 at first, so
    that the coupling begins as the identity (Glow, section 3.3)."""
    (dim,) = whole("point_network", 1, dim=dim)
    layers: list[Module] = []
    width = dim
    for after in sizes(hidden, "point_network: hidden", least=1):
        layers += [Linear(width, after), ReLU()]
        width = after
    return Sequential(*layers, start_at_zero(Linear(width, 2 * dim)))


def start_at_zero(layer: Any) -> Any:
    """The Linear or Conv2d, with its weight and its bias set to 0."""
    layer.weight, layer.bias = init.zeros(layer.weight.shape), init.zeros(layer.bias.shape)
    return layer


# ── images ───────────────────────────────────────────────────────────────────────────────────────


class MultiScale(Module):
    """One scale of RealNVP's multi-scale architecture (section 3.6), for images (B, C, H, W).

    The layers ``fine`` take (B, C, H, W), and after a squeeze the layers ``coarse`` take
    (B, 4 C, H / 2, W / 2). Then half of these channels are left as they are, and the layers
    ``rest`` take the others, (B, 2 C, H / 2, W / 2); rest may hold another MultiScale.
    differs: at the end all channels are put back in their places. So the result has the shape of
    x, and each number lies at the pixels that it describes. RealNVP's code keeps a list of parts.
    """

    def __init__(
        self,
        fine: Sequence[Module] = (),
        coarse: Sequence[Module] = (),
        rest: Sequence[Module] = (),
    ):
        self.fine = flow_layers(fine, "MultiScale: fine", 0)
        self.coarse = flow_layers(coarse, "MultiScale: coarse", 0)
        self.rest = flow_layers(rest, "MultiScale: rest", 0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W). Returns y (B, C, H, W) and log |det ∂y/∂x| (B,)."""
        x, of_fine = through(self.fine, batch(x, "MultiScale: x", 4))
        x, of_coarse = through(self.coarse, pixel_unshuffle(x, 2))  # (B, 4C, H/2, W/2)
        leaving, staying = split(x, 2, axis=1)  # (B, 2C, H/2, W/2) both
        staying, of_rest = through(self.rest, staying)
        y = pixel_shuffle(concatenate([leaving, staying], axis=1), 2)
        return y, of_fine + of_coarse + of_rest

    def inverse(self, y: Tensor) -> Tensor:
        """The x for which forward returns y."""
        coarse = pixel_unshuffle(batch(y, "MultiScale.inverse: y", 4), 2)
        leaving, staying = split(coarse, 2, axis=1)
        x = concatenate([leaving, back(self.rest, staying)], axis=1)
        return back(self.fine, pixel_shuffle(back(self.coarse, x), 2))


class Logit(Module):
    """y = logit(p), p = alpha + (1 - 2 alpha) x: from pixels in [0, 1] to the whole line.

    Without alpha, pixels of 0 and 1 would be infinitely far away. The inverse returns numbers from
    -alpha / (1 - 2 alpha) to 1 + alpha / (1 - 2 alpha), a little more than [0, 1].
    differs: section 4.1 of the paper has alpha + (1 - alpha) x, which is not symmetric.
    """

    def __init__(self, alpha: float = 0.05):
        self.alpha = finite(alpha, "Logit: alpha", above=0, below=0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, ...). Returns y (B, ...) and log |det ∂y/∂x| (B,)."""
        p = self.alpha + (1 - 2 * self.alpha) * batch(x, "Logit: x")
        values = bare(p)
        if isinstance(values, np.ndarray) and not ((values > 0) & (values < 1)).all():
            margin = self.alpha / (1 - 2 * self.alpha)
            raise ValueError(
                f"Logit: x has values from {bare(x).min()} to {bare(x).max()}; they must be pixel "
                f"values from 0 to 1, or at most {margin:.4g} outside"
            )
        y = log(p) - log(1 - p)
        # dy/dx = (1 - 2 alpha) / (p (1 - p)), and -log p = softplus(-y), -log(1 - p) = softplus(y)
        return y, sum_of_example(math.log(1 - 2 * self.alpha) + softplus(y) + softplus(-y))

    def inverse(self, y: Tensor) -> Tensor:
        """The x for which forward returns y."""
        p = exp(-softplus(-batch(y, "Logit.inverse: y")))  # the sigmoid of y
        return (p - self.alpha) / (1 - 2 * self.alpha)


class ImageRealNVP(Flow):
    """Images (B, channels, side, side) in [0, 1] to noise of that shape: RealNVP with ``scales``
    scales; side must be a multiple of 2^(scales - 1).

    Each scale but the last has three couplings with checkerboard masks, a squeeze, and three with
    channel masks; the last has four with checkerboard masks (section 3.6). hidden: the channels
    inside each coupling's network.
    differs: three convolutions instead of a residual network, and no batch norm.
    """

    def __init__(
        self, channels: int, side: int, scales: int = 2, hidden: int = 32, alpha: float = 0.05
    ):
        channels, side, hidden = whole(
            "ImageRealNVP", 1, channels=channels, side=side, hidden=hidden
        )
        scales = at_most(scales, "ImageRealNVP: scales", 1, MOST_SCALES)
        check_side(side, 2 ** (scales - 1), "ImageRealNVP")
        if side // 2 ** (scales - 1) < 2:
            raise ValueError(
                f"ImageRealNVP: scales is {scales} and side {side}; the last scale must have 2 x 2 "
                "pixels or more, for a checkerboard"
            )
        layers = [Logit(alpha), *scale_layers(channels, side, scales, hidden)]
        super().__init__(layers, (channels, side, side))


def scale_layers(channels: int, side: int, scales: int, hidden: int) -> list[Module]:
    """The layers of RealNVP from one scale on, for images (B, channels, side, side). The layers of
    the next scales are inside the MultiScale."""
    checkerboards: list[Module] = [
        AffineCoupling(image_network(channels, hidden), checkerboard_mask(side, side, i % 2))
        for i in range(3 if scales > 1 else 4)
    ]
    if scales == 1:
        return checkerboards
    halves: list[Module] = [
        AffineCoupling(image_network(4 * channels, hidden), channel_mask(4 * channels, i % 2))
        for i in range(3)
    ]
    rest = scale_layers(2 * channels, side // 2, scales - 1, hidden)
    return [MultiScale(checkerboards, halves, rest)]


def image_network(channels: int, hidden: int) -> Sequential:
    """(B, C, H, W) to (B, 2 C, H, W): convolutions of 3 x 3, 1 x 1 and 3 x 3 pixels with ReLUs,
    whose result is 0 at first (Glow, section 3.3)."""
    channels, hidden = whole("image_network", 1, channels=channels, hidden=hidden)
    return Sequential(
        Conv2d(channels, hidden, 3, padding=1),
        ReLU(),
        Conv2d(hidden, hidden, 1),
        ReLU(),
        start_at_zero(Conv2d(hidden, 2 * channels, 3, padding=1)),
    )


# ── checks ───────────────────────────────────────────────────────────────────────────────────────


def flow_layers(layers: Any, what: str, least: int = 1) -> list[Module]:
    """The layers as a list; an error unless all are Modules that have an inverse."""
    if not isinstance(layers, (list, tuple)) or not all(isinstance(m, Module) for m in layers):
        raise TypeError(f"{what} is {shown(layers)}; it must be a list of invertible layers")
    for layer in layers:
        if not callable(getattr(layer, "inverse", None)):
            raise TypeError(f"{what} holds {type(layer).__name__}, which has no inverse")
    if len(layers) < least:
        raise ValueError(f"{what} is empty; there must be at least one layer")
    return list(layers)


def check_side(side: int, factor: int, name: str) -> None:
    """ValueError unless the side can be halved as often as the flow squeezes."""
    if side % factor:
        raise ValueError(
            f"{name}: side is {side}; it must be a multiple of {factor}, because the flow halves "
            "it at each scale"
        )
