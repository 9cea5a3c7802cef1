"""Discrete VAE (dVAE) of DALL-E, and VQ-VAE: an image becomes a grid of codes, and codes an image.

    discrete VAE    q(k|x) = softmax(encoder(x)),  y ~ Gumbel-softmax     Ramesh et al. 2021,
                    L = -log p(x|y) + β KL(q || uniform)                  section 2.1
    VQ-VAE          k = the code nearest to encoder(x)                    van den Oord et al. 2017
                    L = mean (x - decoder(e_k))² / 2 σ² + codebook loss + commitment loss

x is the image and q the distribution of the code k of one patch; y is a mixture of the codes, and
e_k is a vector of the codebook.  Pixels are a poor alphabet for a GPT: an image has too many, and
most of their detail is noise.  Both models learn a vocabulary of K codes, each of which stands for
a kind of patch.  The encoder turns an image into N codes, and the decoder draws it from them.  A
GPT can then learn to write images, since N codes are a short text (dalle.py).

The choice of a code has no gradient.  The discrete VAE replaces it by Gumbel-softmax
(nn/gumbel.py): in training, the decoder gets a mixture of codes, which comes closer to a single
code as the temperature τ falls to 1/16 (``falling_tau``).  After training, the code of a patch is
the one with the largest logit.  VQ-VAE chooses the nearest vector of a codebook, and passes the
gradient straight through (nn/vector_quantizer.py).

    KL(q || uniform) = Σ_k q_k log q_k + log K                       per code, in nats

The KL term keeps the distribution of each code close to the uniform one, as strongly as its weight
β says.  The paper reports that a large β, 6.6 in DALL-E, leads to the use of more codes; it keeps
the choices random for longer.  The full page of demo 24 measures this.

``start_at_patches`` gives each code a patch of the data to start from.  Without it, a training as
short as that of demo 24 leaves most codes unused: all codes start almost equal, a few of them win
the blank patches and the edges, and the others get hardly any gradient.

The convolutions next to the choice of the code are 1 x 1, as in the paper: no code is chosen or
decoded by looking at neighbouring codes.  Between these convolutions and the pixels there are
``blocks`` residual blocks of 3 x 3 convolutions, so the encoder sees the surroundings of a patch,
and the decoder can join patches without a seam.  With blocks = 0, a code depends on its own patch
alone.  This is enough for drawings in flat colours, and takes less than half the time.

differs: p(x|y) is a normal distribution with a fixed σ, which gives a squared error; the paper uses
the logit-Laplace distribution.  The networks are far smaller, and the paper needs no special start.

Read first: vae.py, nn/gumbel.py, nn/vector_quantizer.py.   Read next: dalle.py.
Shapes: images (B, C, H, W), in [-1, 1]; patches of P x P pixels; K codes; N = (H / P)(W / P) codes
per image, row by row; F features of the networks.
"""

from __future__ import annotations

from math import cos, log, pi
from typing import Any

import numpy as np

from tinycv.engine.arguments import flag, shown, sizes
from tinycv.engine.backend import Array, array_module, from_host, host_generator
from tinycv.engine.create import one_hot
from tinycv.engine.ops import argmax, exp
from tinycv.engine.tensor import ArrayLike, Tensor, bare, no_grad
from tinycv.nn.activation import SiLU, silu
from tinycv.nn.conv import Conv2d
from tinycv.nn.gumbel import gumbel_softmax
from tinycv.nn.inputs import Examples, batch, finite, whole
from tinycv.nn.module import Module
from tinycv.nn.sequential import Sequential
from tinycv.nn.shuffle import pixel_shuffle, pixel_unshuffle
from tinycv.nn.softmax import log_softmax
from tinycv.nn.vector_quantizer import VectorQuantizer


class ResidualConv(Module):
    """x + W_2 * SiLU(W_1 * SiLU(x)), with 3 x 3 convolutions. x (B, F, h, w)."""

    def __init__(self, features: int):
        (features,) = whole("ResidualConv", 1, features=features)
        self.conv1 = Conv2d(features, features, 3, padding=1)
        self.conv2 = Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(silu(self.conv1(silu(x))))


class PatchEncoder(Module):
    """Images (B, C, H, W) to features of their patches (B, F, H / P, W / P)."""

    def __init__(self, channels: int, patch_size: int, features: int, blocks: int = 1):
        channels, patch_size, features = whole(
            "PatchEncoder", 1, channels=channels, patch_size=patch_size, features=features
        )
        (blocks,) = whole("PatchEncoder", 0, blocks=blocks)
        self.patch_size = patch_size
        self.first = Conv2d(channels * patch_size**2, features, 1)
        self.blocks = Sequential(*[ResidualConv(features) for _ in range(blocks)], SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.first(pixel_unshuffle(x, self.patch_size)))


class PatchDecoder(Module):
    """Features of patches (B, F, h, w) to images (B, C, h P, w P)."""

    def __init__(self, channels: int, patch_size: int, features: int, blocks: int = 1):
        channels, patch_size, features = whole(
            "PatchDecoder", 1, channels=channels, patch_size=patch_size, features=features
        )
        (blocks,) = whole("PatchDecoder", 0, blocks=blocks)
        self.patch_size = patch_size
        self.blocks = Sequential(*[ResidualConv(features) for _ in range(blocks)], SiLU())
        self.last = Conv2d(features, channels * patch_size**2, 1)

    def forward(self, features: Tensor) -> Tensor:
        return pixel_shuffle(self.last(self.blocks(features)), self.patch_size)


class ImageCodes(Module):
    """The base class of the two models: images (B, C, H, W) to codes (B, N), and back. A subclass
    defines ``code_grid`` and ``decode_codes``.

    shape: (C, H, W) of an image. codes: K. patch_size: P. features, blocks: the width of encoder
    and decoder, and how many residual blocks of 3 x 3 convolutions each has. sigma: the standard
    deviation of p(x|codes), the scale on which errors of pixels count.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        codes: int,
        patch_size: int,
        features: int,
        blocks: int,
        sigma: float,
    ):
        name = type(self).__name__
        self.shape = shape_of(shape, name)
        self.codes, self.patch_size = whole(name, 1, codes=codes, patch_size=patch_size)
        channels, height, width = self.shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"{name}: patch_size is {self.patch_size}; it must divide the sides {height} and "
                f"{width} of the images"
            )
        self.grid = height // self.patch_size, width // self.patch_size
        self.tokens = self.grid[0] * self.grid[1]  # N
        self.sigma = finite(sigma, f"{name}: sigma", above=0)
        (features,) = whole(name, 1, features=features)
        (blocks,) = whole(name, 0, blocks=blocks)
        self.encoder = PatchEncoder(channels, self.patch_size, features, blocks)
        self.decoder = PatchDecoder(channels, self.patch_size, features, blocks)

    def forward(self, images: Examples) -> Tensor:
        """The images encoded and decoded again: (B, C, H, W), without a graph. No gradient could
        reach the encoder through the choice of a code; ``loss`` has an estimator for it."""
        with no_grad():
            return self.images_of(self.codes_of(images))

    def codes_of(self, images: Examples) -> Array:
        """Images (B, C, H, W) as codes (B, N), whole numbers 0 ... K - 1: a bare array of int64,
        row by row. On a GPU an image that is not finite gets the code -1."""
        x = self.images_in(images, f"{type(self).__name__}.codes_of: images")
        with no_grad():
            codes = self.code_grid(x).reshape((len(x), self.tokens))
        xp = array_module(codes)
        if xp is np:
            return codes
        valid = xp.isfinite(bare(x)).reshape((len(codes), -1)).all(axis=1)
        return xp.where(valid[:, None], codes, -1)

    def images_of(self, codes: ArrayLike) -> Tensor:
        """Codes (B, N) as images (B, C, H, W). IndexError for a number that is not a code; on a GPU
        its image is NaN instead."""
        name = f"{type(self).__name__}.images_of: codes"
        numbers = numbers_in(codes, name, self.codes, self.tokens)
        xp = array_module(bare(next(self.parameters())))
        grid = from_host(xp, numbers).reshape((len(numbers), *self.grid))
        return self.decode_codes(grid)

    def codebook(self) -> np.ndarray:
        """What each code looks like: the patch in the middle of an image that consists of this code
        alone, (K, C, P, P)."""
        size = self.patch_size
        top, left = (count // 2 * size for count in self.grid)
        everywhere = np.repeat(np.arange(self.codes)[:, None], self.tokens, axis=1)  # (K, N)
        with no_grad():
            images = self.images_of(everywhere)
        return images[:, :, top : top + size, left : left + size].numpy()

    def error(self, images: Tensor, drawn: Tensor) -> Tensor:
        """-log N(images; drawn, σ²) without its constant, summed over the pixels of an image and
        averaged over the images: a number, in nats."""
        difference = images - drawn
        return (difference * difference).sum() / (2 * self.sigma**2 * max(1, len(images)))

    def images_in(self, images: Any, what: str) -> Tensor:
        """The images as a Tensor in the dtype of the weights, on their device. A pixel that is not
        finite is an error on the host."""
        pixels = bare(batch(images, what, ndim=4))
        if tuple(pixels.shape[1:]) != self.shape:
            raise ValueError(
                f"{what} has shape {tuple(pixels.shape)}; it must be (B, {self.shape[0]}, "
                f"{self.shape[1]}, {self.shape[2]})"
            )
        if array_module(pixels) is np and not np.isfinite(pixels).all():
            raise ValueError(f"{what} holds NaN or infinity; every pixel must be finite")
        weight = next(self.parameters())
        if isinstance(images, Tensor):
            return images if images.dtype == weight.dtype else images.astype(weight.dtype)
        return Tensor(images, dtype=weight.dtype, device=weight.device)

    def code_grid(self, x: Tensor) -> Array:
        """The codes of images x (B, C, H, W): (B, h, w)."""
        raise TypeError(f"{type(self).__name__} must define code_grid()")

    def decode_codes(self, codes: Array) -> Tensor:
        """The images (B, C, H, W) of a grid of codes (B, h, w)."""
        raise TypeError(f"{type(self).__name__} must define decode_codes()")


class DiscreteVAE(ImageCodes):
    """The discrete VAE of DALL-E. It is trained by ``loss(images, tau, beta)``, with τ from
    ``falling_tau``. The arguments are those of ImageCodes."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        codes: int = 96,
        patch_size: int = 2,
        features: int = 48,
        blocks: int = 1,
        sigma: float = 0.3,
    ):
        super().__init__(shape, codes, patch_size, features, blocks, sigma)
        self.to_logits = Conv2d(features, self.codes, 1)
        self.from_codes = Conv2d(self.codes, features, 1)

    def start_at_patches(self, images: Examples) -> None:
        """Start with codes that stand for ``codes`` different patches of these images. h_k are the
        features that the encoder computes for these patches. The logits of a patch with features h
        become -s/2 ||h - h_k||² up to a constant, so the nearest of them is the likeliest code. s
        is chosen so that at h = h_k the logit of the next code is typically lower by 2."""
        x = self.images_in(images, "DiscreteVAE.start_at_patches: images")
        with no_grad():
            features = self.encoder(x).transpose((0, 2, 3, 1))  # (B, h, w, F)
        chosen = different_rows(features, self.codes, "DiscreteVAE.start_at_patches: images")
        squares = (chosen * chosen).sum(axis=1)  # (K,)
        distances = squares[:, None] - 2 * chosen @ chosen.T + squares  # (K, K)
        nearest = np.sort(distances, axis=1)[:, 1] if self.codes > 1 else np.ones(1)
        s = 4 / max(float(np.median(nearest)), 1e-12)
        xp, dtype = array_module(bare(x)), x.dtype
        starts: list[tuple[Any, np.ndarray]] = [
            (self.to_logits.weight, s * chosen),
            (self.to_logits.bias, -s / 2 * squares),
            (self.from_codes.weight, chosen.T / chosen.std()),
        ]
        for parameter, values in starts:
            shaped = values.reshape(parameter.shape).astype(dtype)
            parameter.data = from_host(xp, shaped)

    def logits(self, images: Examples) -> Tensor:
        """log q(k|x) up to a constant, for images (B, C, H, W): (B, K, h, w)."""
        return self.to_logits(self.encoder(self.images_in(images, "DiscreteVAE.logits: images")))

    def loss(
        self, images: Examples, tau: float = 1.0, beta: float = 1.0, hard: bool = False
    ) -> Tensor:
        """-log p(x|y) + β KL(q || uniform) in nats per image, without the constant of p: a mean
        over the images (B, C, H, W). tau, hard: as in gumbel_softmax."""
        tau, hard = (
            finite(tau, "DiscreteVAE.loss: tau", above=0),
            flag(hard, "DiscreteVAE.loss: hard"),
        )
        beta = finite(beta, "DiscreteVAE.loss: beta", low=0)
        x = self.images_in(images, "DiscreteVAE.loss: images")
        logits = self.logits(x)  # (B, K, h, w)
        drawn = self.decode_mixture(gumbel_softmax(logits, tau, hard, axis=1))
        return self.error(x, drawn) + beta * kl_from_uniform(logits, axis=1).sum() / max(1, len(x))

    def decode_mixture(self, y: Tensor) -> Tensor:
        """The images (B, C, H, W) of mixtures of codes y (B, K, h, w), such as one-hot vectors."""
        return self.decoder(self.from_codes(y))

    def code_grid(self, x: Tensor) -> Array:
        return bare(argmax(self.logits(x), axis=1)).astype(np.int64)

    def decode_codes(self, codes: Array) -> Tensor:
        # On a GPU a row of one_hot is NaN if the number is not a code.
        y = one_hot(Tensor(codes), self.codes).transpose((0, 3, 1, 2))  # (B, K, h, w)
        return self.decode_mixture(y.astype(self.from_codes.weight.dtype))


class VQVAE(ImageCodes):
    """VQ-VAE: the same encoder and decoder, with a codebook of K vectors between them. It is
    trained by ``loss(images)``; call ``revive(images)`` after each step.

    dim: D, the width of the codebook. commitment: β of VectorQuantizer. The other arguments are
    those of ImageCodes.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        codes: int = 96,
        patch_size: int = 2,
        features: int = 48,
        blocks: int = 1,
        sigma: float = 0.3,
        dim: int = 8,
        commitment: float = 0.25,
    ):
        super().__init__(shape, codes, patch_size, features, blocks, sigma)
        self.quantizer = VectorQuantizer(self.codes, dim, commitment)
        self.to_vectors = Conv2d(features, dim, 1)
        self.from_vectors = Conv2d(dim, features, 1)

    def vectors(self, images: Examples) -> Tensor:
        """The vector of each patch of images (B, C, H, W), before quantisation: (B, h, w, D)."""
        x = self.images_in(images, "VQVAE.vectors: images")
        return self.to_vectors(self.encoder(x)).transpose((0, 2, 3, 1))

    def loss(self, images: Examples) -> Tensor:
        """Mean squared error / (2 σ²), plus the codebook and commitment losses, for images (B, C,
        H, W): a number."""
        x = self.images_in(images, "VQVAE.loss: images")
        nearest, _, codebook_loss = self.quantizer(self.vectors(x))
        difference = x - self.decode_vectors(nearest)
        return (difference * difference).mean() / (2 * self.sigma**2) + codebook_loss

    def start_at_patches(self, images: Examples) -> None:
        """Start with a codebook of the vectors of ``codes`` different patches of these images."""
        x = self.images_in(images, "VQVAE.start_at_patches: images")
        with no_grad():
            vectors = self.vectors(x)  # (B, h, w, D)
        chosen = different_rows(vectors, self.codes, "VQVAE.start_at_patches: images")
        self.quantizer.weight.data = from_host(array_module(bare(x)), chosen.astype(x.dtype))

    def revive(self, images: Examples, patience: int = 20) -> int:
        """``VectorQuantizer.revive`` for the vectors of these images: returns how many dead codes
        it has moved."""
        images = self.images_in(images, "VQVAE.revive: images")
        (patience,) = whole("VQVAE.revive", 1, patience=patience)
        with no_grad():
            return self.quantizer.revive(self.vectors(images), patience)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """The images (B, C, H, W) of vectors of the codebook (B, h, w, D)."""
        return self.decoder(self.from_vectors(vectors.transpose((0, 3, 1, 2))))

    def code_grid(self, x: Tensor) -> Array:
        return self.quantizer.codes_of(self.vectors(x))

    def decode_codes(self, codes: Array) -> Tensor:
        return self.decode_vectors(self.quantizer.vectors_at(Tensor(codes)))


def kl_from_uniform(logits: Tensor, axis: int = -1) -> Tensor:
    """KL(softmax(logits) || uniform) = Σ q log q + log K along ``axis``, in nats: between 0 and
    log K, where K is the length of that axis."""
    log_q = log_softmax(logits, axis)
    return (exp(log_q) * log_q).sum(axis=axis) + log(logits.shape[axis])


def falling_tau(step: int, total: int, last: float = 1 / 16) -> float:
    """The temperature τ at ``step``, which falls from 1 to ``last`` along half a cosine in
    ``total`` steps, and then stays there."""
    (step,) = whole("falling_tau", 0, step=step)
    (total,) = whole("falling_tau", 1, total=total)
    last = finite(last, "falling_tau: last", above=0)
    share = min(1.0, step / total)
    return last + (1 - last) * 0.5 * (1 + cos(pi * share))


def codes_in_use(codes: ArrayLike, total: int) -> tuple[int, float]:
    """(how many of the ``total`` codes occur in ``codes``, an array of any shape; their perplexity
    exp(H), where H is the entropy of their frequencies). The perplexity is the number of equally
    frequent codes that would be as hard to predict."""
    (total,) = whole("codes_in_use", 1, total=total)
    numbers = codes.numpy() if isinstance(codes, Tensor) else np.asarray(codes)
    if numbers.dtype.kind not in "iu" or not numbers.size:
        raise TypeError(
            f"codes_in_use: codes is {shown(codes)}; it must be an array of code numbers"
        )
    if not 0 <= numbers.min() <= numbers.max() < total:
        raise IndexError(
            f"codes_in_use: codes run from {numbers.min()} to {numbers.max()}; {total} codes are "
            f"numbered from 0 to {total - 1}"
        )
    frequency = np.bincount(numbers.reshape(-1), minlength=total) / numbers.size
    used = frequency[frequency > 0]
    return len(used), float(np.exp(-(used * np.log(used)).sum()))


def different_rows(features: Tensor, count: int, what: str) -> np.ndarray:
    """``count`` different vectors among features (..., F), drawn at random: (count, F) in float64.
    ValueError if there are too few. what: the images from which they come, for the message."""
    rows = features.numpy().reshape((-1, features.shape[-1])).astype(np.float64)
    different = np.unique(rows.round(5), axis=0)
    if len(different) < count:
        raise ValueError(
            f"{what} have {len(different)} different patches; there must be at least {count}, one "
            "for each code"
        )
    return different[host_generator().choice(len(different), count, replace=False)]


# ── argument checks ──────────────────────────────────────────────────────────────────────────────


def shape_of(shape: Any, name: str) -> tuple[int, int, int]:
    """The shape of an image, (C, H, W), as whole numbers of at least 1."""
    if isinstance(shape, (int, np.integer)):
        raise TypeError(f"{name}: shape is {shape}; it must be (C, H, W)")
    channels, height, width = sizes(shape, f"{name}: shape", 3, 1)
    return channels, height, width


def numbers_in(values: Any, what: str, count: int, length: int) -> Array:
    """``values`` as a bare array (B, length) of whole numbers 0 ... count - 1. On the host a number
    out of range is an IndexError; on a GPU it stays, because a check would have to wait."""
    array = bare(values)
    if getattr(getattr(array, "dtype", None), "kind", "") not in ("i", "u"):
        raise TypeError(f"{what} is {shown(values)}; it must be integers of shape (B, {length})")
    if array.ndim != 2 or array.shape[1] != length:
        raise ValueError(f"{what} has shape {tuple(array.shape)}; it must be (B, {length})")
    if isinstance(array, np.ndarray) and array.size:
        wrong = array[(array < 0) | (array >= count)]
        if wrong.size:
            raise IndexError(
                f"{what} holds {wrong[0]}; it must hold whole numbers from 0 to {count - 1}"
            )
    return array
