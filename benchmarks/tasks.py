"""The tasks of the benchmarked models: their sizes, a batch of examples, and the FLOPs of a step.

A task imports no autograd library, so every contender's process can use it. The networks themselves
are in networks.py (tinycv and PyTorch) and functional.py (HIPS autograd and MyGrad).

Only matrix products are counted, a multiplication and an addition as two FLOPs, and only those that
cannot be avoided: in the backward pass, a product of values and weights needs two more products,
one for each gradient; the first layer needs only one, because the examples need no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.inputs import normal, weights


class Product(NamedTuple):
    """A matrix product. terms: its multiply-adds. pulls: how many products of the same size its
    backward pass needs."""

    terms: int
    pulls: int = 2


@dataclass(frozen=True)
class Task:
    """One model with its sizes. The defaults are the sizes that the suite "models" reports."""

    batch: int = 128

    def flops(self, train: bool) -> float:
        """The FLOPs of one training step, without the optimiser, or of one inference."""
        return float(sum(2 * p.terms * (1 + p.pulls if train else 1) for p in self.products()))

    def examples(self) -> tuple[np.ndarray, ...]:
        """The arguments of the loss, after the model. The first one is the model's input."""
        raise TypeError(f"{type(self).__name__} must define examples()")

    def products(self) -> Iterator[Product]:
        raise TypeError(f"{type(self).__name__} must define products()")

    def weights(self, shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
        """The weights from which every library starts, by PyTorch's names."""
        return weights(shapes)


@dataclass(frozen=True)
class Mlp(Task):
    widths: tuple[int, ...] = (784, 256, 256, 10)

    def examples(self) -> tuple[np.ndarray, ...]:
        return *normal((self.batch, self.widths[0])), labels(self.batch, self.widths[-1])

    def products(self) -> Iterator[Product]:
        for i, (a, b) in enumerate(pairwise(self.widths)):
            yield Product(self.batch * a * b, 2 if i else 1)


@dataclass(frozen=True)
class Lstm(Task):
    """An LSTM reads a sequence; a linear layer on its last hidden state gives the class."""

    steps: int = 28
    inputs: int = 28
    hidden: int = 128
    classes: int = 10

    def examples(self) -> tuple[np.ndarray, ...]:
        x = normal((self.batch, self.steps, self.inputs))
        return *x, labels(self.batch, self.classes)

    def products(self) -> Iterator[Product]:
        yield Product(self.batch * self.steps * self.inputs * 4 * self.hidden, 1)
        # the first state is 0
        yield Product(self.batch * (self.steps - 1) * self.hidden * 4 * self.hidden)
        yield Product(self.batch * self.hidden * self.classes)


@dataclass(frozen=True)
class Transformer(Task):
    """Post-norm encoder blocks with a causal mask; every token predicts the next one."""

    batch: int = 32
    tokens: int = 64
    width: int = 128
    heads: int = 4
    mlp: int = 512
    layers: int = 2
    words: int = 100

    def examples(self) -> tuple[np.ndarray, ...]:
        ids = np.random.default_rng(0).integers(0, self.words, (self.batch, self.tokens + 1))
        return ids[:, :-1].copy(), ids[:, 1:].copy()

    def weights(self, shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
        """The hidden units stay clear of 0, where ReLU has its kink.

        There are millions of them. Around 0 they are so dense that rounding decides the sign of a
        few, and then the gradient jumps. With width 256, one unit of four million was at 5e-7:
        tinycv rounded it to the other side of 0 than PyTorch, and a gradient changed by 7e-4 of its
        largest value. In float64 and with that one unit switched, it was tinycv's gradient to 7e-7.
        So the numbers could not tell whether a library is right. Here the biases alternate between
        4 and -4 standard deviations; one unit in 30,000 is still on the other side of 0.
        """
        start = weights(shapes)
        for name in shapes:
            if name.endswith("linear1.bias"):
                # the units read a layer norm, so their variance is the sum of the squared weights
                weight = start[name.removesuffix("bias") + "weight"]
                deviation = np.sqrt((weight * weight).sum(axis=1))
                start[name] += 4 * deviation * np.resize(np.float32([1, -1]), deviation.shape)
        return start

    def products(self) -> Iterator[Product]:
        pairs = self.tokens * (self.tokens + 1) // 2
        for _ in range(self.layers):
            yield from block(self.batch, self.tokens, self.width, self.mlp, pairs)
        yield Product(self.batch * self.tokens * self.width * self.words)


@dataclass(frozen=True)
class Vit(Task):
    image: int = 28
    patch: int = 7
    width: int = 64
    heads: int = 4
    layers: int = 4
    classes: int = 10

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2

    def examples(self) -> tuple[np.ndarray, ...]:
        images = normal((self.batch, 1, self.image, self.image))
        return *images, labels(self.batch, self.classes)

    def products(self) -> Iterator[Product]:
        tokens = self.patches + 1
        yield Product(self.batch * self.patches * self.patch**2 * self.width, 1)
        for _ in range(self.layers):
            yield from block(self.batch, tokens, self.width, 4 * self.width, tokens**2)
        yield Product(self.batch * self.width * self.classes)


@dataclass(frozen=True)
class LeNet(Task):
    """Two 5 x 5 convolutions and three linear layers on 28 x 28 images (after LeCun et al. 1998,
    with ReLU and mean pooling)."""

    channels: tuple[int, int] = (6, 16)

    def examples(self) -> tuple[np.ndarray, ...]:
        return *normal((self.batch, 1, 28, 28)), labels(self.batch, 10)

    def products(self) -> Iterator[Product]:
        a, b = self.channels
        yield Product(self.batch * 24 * 24 * 25 * a, 1)
        yield Product(self.batch * 8 * 8 * 25 * a * b)
        for m, n in ((16 * b, 120), (120, 84), (84, 10)):
            yield Product(self.batch * m * n)


@dataclass(frozen=True)
class Gan(Task):
    """A generator and a discriminator of 32 x 32 images, each with four (transposed) convolutions
    (after DCGAN: Radford, Metz & Chintala 2016)."""

    batch: int = 64
    latent: int = 64
    channels: int = 32  # of the maps of side 16; twice as many each time the side is halved

    def examples(self) -> tuple[np.ndarray, ...]:
        noise = (self.batch, self.latent, 1, 1)
        first, images, second = normal(noise, (self.batch, 1, 32, 32), noise)
        return first, np.tanh(images), second

    def one_pass(self) -> tuple[list[int], list[int]]:
        """The multiply-adds of every layer of the generator, and of the discriminator, for one
        batch."""
        c = self.channels
        # the side of a convolution's smaller map, and the channels of both maps
        maps = ((16, 1, c), (8, c, 2 * c), (4, 2 * c, 4 * c))
        middle = [self.batch * side**2 * 16 * a * b for side, a, b in maps]
        first, last = self.batch * 16 * self.latent * 4 * c, self.batch * 16 * 4 * c
        return [first, *reversed(middle)], [*middle, last]

    def flops(self, train: bool) -> float:
        generator, discriminator = self.one_pass()
        if not train:
            return 2.0 * sum(generator)
        # the generator runs forward twice and backward once (two products per layer), but the
        # noise needs no gradient
        in_generator = 4 * sum(generator) - generator[0]
        # the discriminator learns from images and from fakes, which need no gradient
        learning = 2 * (3 * sum(discriminator) - discriminator[0])
        # for the generator's loss, the gradient passes through it; its weights need none
        passing = 2 * sum(discriminator)
        return 2.0 * (in_generator + learning + passing)


@dataclass(frozen=True)
class UNet(Task):
    """A U-Net of 3 x 3 convolutions with group norm and SiLU, two scales and one skip connection;
    it learns to denoise."""

    batch: int = 64
    side: int = 28
    channels: int = 32

    def examples(self) -> tuple[np.ndarray, ...]:
        return tuple(normal(*[(self.batch, 1, self.side, self.side)] * 2))

    def products(self) -> Iterator[Product]:
        c, fine = self.channels, self.batch * self.side**2
        coarse = self.batch * (self.side // 2) ** 2
        yield Product(fine * 9 * c, 1)
        yield Product(fine * 9 * c * c)
        yield Product(coarse * 9 * c * 2 * c)
        yield Product(coarse * 9 * 2 * c * 2 * c)
        yield Product(coarse * 4 * 2 * c * c)
        yield Product(fine * 9 * 2 * c * c)
        yield Product(fine * 9 * c)


@dataclass(frozen=True)
class Score(Task):
    """Implicit score matching in the plane: E[|score|^2 / 2 + tr(dscore/dx)], Hyvarinen 2005,
    theorem 1. It needs second derivatives."""

    batch: int = 512
    hidden: int = 128

    def examples(self) -> tuple[np.ndarray, ...]:
        return tuple(normal((self.batch, 2)))

    def products(self) -> Iterator[Product]:
        """The score, and the gradient of each of its two coordinates with respect to x: three times
        the same products. All of them need gradients of the weights."""
        outer, middle = self.batch * 2 * self.hidden, self.batch * self.hidden**2
        for _ in range(3):
            yield Product(outer, 1)
            yield Product(middle)
            yield Product(outer)

    def flops(self, train: bool) -> float:
        if train:
            return super().flops(True)
        return 2.0 * self.batch * (4 * self.hidden + self.hidden**2)


def labels(batch: int, classes: int) -> np.ndarray:
    return np.arange(batch) % classes


def block(batch: int, tokens: int, width: int, mlp: int, pairs: int) -> Iterator[Product]:
    """The products of an encoder block. pairs: the number of (query, key) pairs it attends to."""
    yield Product(batch * tokens * width * (3 + 1) * width)
    yield Product(batch * pairs * width * 2)
    yield Product(batch * tokens * width * mlp * 2)
