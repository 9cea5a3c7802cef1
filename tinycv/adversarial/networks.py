"""DCGAN and the networks of PacGAN: generators and discriminators of images and of points.

    noise z (B, latent)  ->  generator  ->  x  ->  discriminator  ->  logit (B, 1)

A generator has an attribute ``latent``, the size of the noise that it takes.
Read first: nn/conv.py, nn/batch_norm.py.
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

MOST_SIDE = 1024  # the largest side of an image: each halving of it doubles the channels


def start_small(network: Module, std: float = 0.02) -> None:
    """DCGAN's initialisation, in place: the weights of linear and convolution layers are drawn from
    N(0, std²), and their biases are 0 (Radford et al. 2016, section 4)."""
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
    """z (B, latent) to points (B, out): PacGAN's generator for 2-D data, four hidden layers of
    400 units with batch norm and ReLU.

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
    """Maxout: each output is the largest of ``pieces`` linear functions of the input.

    y_i = max_j (x W_ij + b_ij)                                 Goodfellow et al. 2013, eq. 1-2
    """

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
    """Points (B, features) to logits (B, 1): PacGAN's discriminator for 2-D data, three maxout
    layers of 200 units with five pieces each."""

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
    """(B, features) to (B, out): a multilayer perceptron with ReLUs, for either side of a small GAN
    in the plane.

    Without batch norm each point depends on its own noise alone. In the trials for demo 08 these
    networks hit sharp modes and PacGAN's networks did not; which of the differences matters was not
    tested.
    slope: the slope of a leaky ReLU below 0; 0 gives a plain ReLU.
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
    """z (B, latent) to images (B, channels, side, side) in [0, 1]: the generator of DCGAN (Radford
    et al. 2016, section 3).

    A linear layer turns the noise into a small image of many channels, 4 x 4 or 3 x 3. Transposed
    convolutions of stride 2 then double the side and halve the channels, down to ``width``
    channels; the last one makes the image. Batch norm and ReLU come before each of them. For
    side = 28 and width = 32 the sides are 4, 7, 14, 28 and the channels 128, 64, 32, 1.
    differs: a sigmoid at the end, because images are in [0, 1] here; the paper uses tanh, which is
    2 sigmoid(2x) - 1. ValueError if side is less than 5.
    """

    def __init__(self, side: int, latent: int = 64, channels: int = 1, width: int = 32):
        latent, channels, width = whole(
            "DCGANGenerator", 1, latent=latent, channels=channels, width=width
        )
        sides = _side_lengths(side, "DCGANGenerator")  # 28, 14, 7, 4
        sides.reverse()  # 4, 7, 14, 28: a generator goes from small to large
        self.latent = latent
        self.first_side = sides[0]
        self.first_channels = width * 2 ** (len(sides) - 2)  # halved by all layers but the last
        self.project = Linear(latent, self.first_channels * self.first_side**2, bias=False)
        layers, before = [], self.first_channels
        for next_side in sides[1:-1]:
            kernel = _kernel_size(next_side)
            layers += [
                BatchNorm2d(before),
                ReLU(),
                ConvTranspose2d(before, before // 2, kernel, stride=2, padding=1, bias=False),
            ]
            before //= 2
        last = ConvTranspose2d(width, channels, _kernel_size(sides[-1]), stride=2, padding=1)
        self.layers = Sequential(*layers, BatchNorm2d(width), ReLU(), last, Sigmoid())
        start_small(self)

    def forward(self, z: Tensor) -> Tensor:
        """z (B, latent). Returns images (B, channels, side, side) from 0 to 1."""
        if tuple(batch(z, "DCGANGenerator: z").shape[1:]) != (self.latent,):
            raise ValueError(
                f"DCGANGenerator: z has shape {tuple(z.shape)}; this generator takes noise (B, "
                f"{self.latent})"
            )
        small = (len(z), self.first_channels, self.first_side, self.first_side)
        return self.layers(self.project(z).reshape(small))


class DCGANDiscriminator(Sequential):
    """Images (B, channels, side, side) to logits (B, 1): the discriminator of DCGAN (Radford et al.
    2016, section 3).

    Convolutions of stride 2 with leaky ReLUs halve the side until it is 4 or 3. The first has
    ``width`` channels, and each of the others twice as many as the one before.
    batch_norm: after every convolution but the first. Use False with a gradient penalty: the
    penalty is about the slope at each example, and batch norm makes a logit depend on the other
    examples of the batch. ValueError if side is less than 5.
    """

    def __init__(self, side: int, channels: int = 1, width: int = 32, batch_norm: bool = True):
        channels, width = whole("DCGANDiscriminator", 1, channels=channels, width=width)
        batch_norm = choice(batch_norm, "DCGANDiscriminator: batch_norm", (True, False))
        sides = _side_lengths(side, "DCGANDiscriminator")  # 28, 14, 7, 4
        layers, before = [], channels
        for i, side_before in enumerate(sides[:-1]):
            normed = batch_norm and i > 0
            after = width * 2**i
            kernel = _kernel_size(side_before)
            layers.append(Conv2d(before, after, kernel, stride=2, padding=1, bias=not normed))
            if normed:
                layers.append(BatchNorm2d(after))
            layers.append(LeakyReLU(0.2))
            before = after
        super().__init__(*layers, Flatten(), Linear(before * sides[-1] ** 2, 1))
        start_small(self)


def _side_lengths(side: int, name: str) -> list[int]:
    """The side lengths of an image that is halved, rounded up, until it is 4 or 3 pixels wide:
    28, 14, 7, 4."""
    side = at_most(side, f"{name}: side", 0, MOST_SIDE)
    if side < 5:
        raise ValueError(f"{name}: side is {side}; it must be at least 5, so that it can be halved")
    sides = [side]
    while sides[-1] > 4:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _kernel_size(larger_side: int) -> int:
    """The kernel size with which a convolution of stride 2 and padding 1 halves this side, and a
    transposed convolution doubles up to it: 4 for an even side (14 <-> 7), 3 for an odd one
    (7 <-> 4).

    A transposed convolution makes 2 n - 4 + kernel pixels of n: 2 n with 4, and 2 n - 1 with 3.
    """
    return 4 if larger_side % 2 == 0 else 3
