"""Generators and discriminators: of points, as PacGAN's, and of images, as DCGAN's.

    noise z (B, latent)  ->  generator  ->  x  ->  discriminator  ->  logit (B, 1)

A generator has ``latent``, the size of the noise that it takes.
Read before: nn/conv.py, nn/batch_norm.py.
"""

from __future__ import annotations

from tinycv.data.inputs import whole as at_most
from tinycv.engine.arguments import choice, shown
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.activation import LeakyReLU, ReLU, Sigmoid
from tinycv.nn.batch_norm import BatchNorm1d, BatchNorm2d
from tinycv.nn.conv import Conv2d, ConvTranspose2d
from tinycv.nn.inputs import batch, depth_of, finite, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.sequential import Flatten, Sequential

MOST_SIDE = 1024  # of an image: each halving doubles the channels


def start_small(network: Module, std: float = 0.02) -> None:
    """Matrices and convolutions from N(0, std²), their biases from 0: Radford et al. 2016, section
    4. In place."""
    if not isinstance(network, Module):
        raise TypeError(f"start_small: network is {shown(network)}; it must be a Module")
    std = finite(std, "start_small: std", low=0, high=init.MOST)
    for module in network.modules():
        if isinstance(module, (Linear, Conv2d, ConvTranspose2d)):
            module.weight = init.normal(module.weight.shape, std)
            if module.bias is not None:
                module.bias = init.zeros(module.bias.shape)


# ── points ───────────────────────────────────────────────────────────────────────────────────────


class PointGenerator(Sequential):
    """z (B, latent) to points (B, out): four layers of 400 with batch norm and ReLU, as PacGAN's
    for 2-D data.

    Lin et al. 2018, section 4.1; weights from N(0, 0.02²).
    """

    def __init__(self, latent: int = 2, out: int = 2, width: int = 400, depth: int = 4):
        latent, out, width = whole("PointGenerator", 1, latent=latent, out=out, width=width)
        sizes, layers = [latent] + [width] * depth_of(depth, "PointGenerator"), []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [Linear(before, after, bias=False), BatchNorm1d(after), ReLU()]
        super().__init__(*layers, Linear(width, out))
        self.latent = latent
        start_small(self)


class Maxout(Module):
    """y_i = max_j (x W_ij + b_ij): each output is the highest of ``pieces`` planes. Goodfellow et
    al. 2013, eq. 1-2."""

    def __init__(self, in_features: int, out_features: int, pieces: int):
        in_features, out_features, pieces = whole(
            "Maxout", 1, in_features=in_features, out_features=out_features, pieces=pieces
        )
        self.linear = Linear(in_features, pieces * out_features)
        self.pieces, self.out_features = pieces, out_features

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features). Returns (..., out_features)."""
        planes = self.linear(batch(x, "Maxout: x"))
        return planes.reshape((*planes.shape[:-1], self.pieces, self.out_features)).max(axis=-2)


class PointDiscriminator(Sequential):
    """Points (B, features) to logits (B, 1): three maxout layers of 200 with five pieces, as
    PacGAN's for 2-D data."""

    def __init__(self, features: int = 2, width: int = 200, pieces: int = 5, depth: int = 3):
        features, width, pieces = whole(
            "PointDiscriminator", 1, features=features, width=width, pieces=pieces
        )
        sizes = [features] + [width] * depth_of(depth, "PointDiscriminator")
        super().__init__(
            *[Maxout(a, b, pieces) for a, b in zip(sizes, sizes[1:], strict=False)],
            Linear(width, 1),
        )
        start_small(self)


class PointMLP(Sequential):
    """(B, features) to (B, out) with ReLUs and nothing else: either side of a small game in the
    plane.

    Without batch norm a point depends on its own noise alone. In the trials for demo 08 sharp modes
    were met with these, and not with PacGAN's networks; what of the difference mattered was not
    told apart. slope: of a leaky ReLU.
    """

    def __init__(
        self, features: int, out: int, width: int = 128, depth: int = 3, slope: float = 0.0
    ):
        features, out, width = whole("PointMLP", 1, features=features, out=out, width=width)
        slope = finite(slope, "PointMLP: slope")
        sizes = [features] + [width] * depth_of(depth, "PointMLP")
        hidden = [
            (Linear(a, b), LeakyReLU(slope) if slope else ReLU())
            for a, b in zip(sizes, sizes[1:], strict=False)
        ]
        super().__init__(*[layer for pair in hidden for layer in pair], Linear(width, out))
        self.latent = features


# ── images ───────────────────────────────────────────────────────────────────────────────────────


class DCGANGenerator(Module):
    """z (B, latent) to images (B, channels, side, side) in [0, 1]: Radford et al. 2016, section 3.

    The noise becomes a small image of many channels, 4 x 4 or 3 x 3, and convolutions of stride ½
    double its side and halve its channels, down to ``width`` before the last; batch norm and ReLU
    between them.
    differs: a sigmoid at the end, as images are 0 to 1 here; theirs ends in tanh, which is 2
    sigmoid(2x) - 1. ValueError if side is less than 5.
    """

    def __init__(self, side: int, latent: int = 64, channels: int = 1, width: int = 32):
        latent, channels, width = whole(
            "DCGANGenerator", 1, latent=latent, channels=channels, width=width
        )
        self.latent, sides = latent, _sides(side, "DCGANGenerator")
        side = sides[0]
        self.start, self.most = sides[-1], width << (len(sides) - 2)
        self.project = Linear(latent, self.most * self.start**2, bias=False)
        layers, before = [], self.most
        for to in sides[-2:0:-1]:
            layers += [
                BatchNorm2d(before),
                ReLU(),
                ConvTranspose2d(before, before // 2, 4 - to % 2, 2, 1, bias=False),
            ]
            before //= 2
        last = ConvTranspose2d(width, channels, 4 - side % 2, 2, 1)
        self.layers = Sequential(*layers, BatchNorm2d(width), ReLU(), last, Sigmoid())
        start_small(self)

    def forward(self, z: Tensor) -> Tensor:
        """z (B, latent) to images (B, channels, side, side), 0 to 1."""
        if tuple(batch(z, "DCGANGenerator: z").shape[1:]) != (self.latent,):
            raise ValueError(
                f"DCGANGenerator: z has shape {tuple(z.shape)}; this generator takes noise (B, "
                f"{self.latent})"
            )
        x = self.project(z).reshape((len(z), self.most, self.start, self.start))
        return self.layers(x)


class DCGANDiscriminator(Sequential):
    """Images (B, channels, side, side) to logits (B, 1): convolutions of stride 2 and leaky ReLUs,
    ``width`` channels, then twice as many each time; batch norm after all but the first, if asked.
    Penalties on the slope want it without: it ties the examples of a batch to each other.
    ValueError if side is less than 5.
    """

    def __init__(self, side: int, channels: int = 1, width: int = 32, batch_norm: bool = True):
        channels, width = whole("DCGANDiscriminator", 1, channels=channels, width=width)
        batch_norm = choice(batch_norm, "DCGANDiscriminator: batch_norm", (True, False))
        sides, layers, before = _sides(side, "DCGANDiscriminator"), [], channels
        for i, at in enumerate(sides[:-1]):
            normed = batch_norm and i > 0
            after = width << i
            layers += [
                Conv2d(before, after, 4 - at % 2, 2, 1, bias=not normed),
                *([BatchNorm2d(after)] * normed),
                LeakyReLU(0.2),
            ]
            before = after
        super().__init__(*layers, Flatten(), Linear(before * sides[-1] ** 2, 1))
        start_small(self)


def _sides(side: int, name: str) -> list[int]:
    """A side, halved and rounded up, until it is 4 or 3: 28, 14, 7, 4. Windows of 4 make an even
    side, of 3 an odd one."""
    side = at_most(side, f"{name}: side", 0, MOST_SIDE)
    if side < 5:
        raise ValueError(f"{name}: a side of {side}: images of 5 x 5 and above can be halved")
    sides = [side]
    while sides[-1] > 4:
        sides.append(-(-sides[-1] // 2))
    return sides
