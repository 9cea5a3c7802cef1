"""SPADE (GauGAN), semantic image synthesis: label map to image, spatially-adaptive normalization.

    y = γ(m) (h - μ) / σ + β(m)                                    Park et al. 2019, eq. 1
    h         the activations that enter the norm
    μ, σ      mean and standard deviation of each channel of h,    ibid., eq. 2 and 3
              over all pixels of the batch
    γ(m), β(m)    one number per channel and pixel, computed from the label map m by convolutions

A generator receives a label map (sky here, grass there) and makes the image.  The plain way is to
concatenate the labels to the input of the convolutions, as more channels.  But where the labels are
constant, they only add a constant to every channel, and the instance norm that follows subtracts
the mean of every channel.  So if the whole map has one class, nothing of the label is left: uniform
sky and uniform grass become the same image, whatever the weights are (ibid., section 3).  SPADE
(spatially-adaptive normalization) applies the labels after the normalisation, as a scale and a
shift of each pixel, so the normalisation cannot remove them.

``Generator`` is built with either way, so that the two can be compared, or with concatenated labels
and batch norm.  (Batch norm takes its mean over many images, so a label that fills one of them is
not removed.)  Its convolutions pad by reflection, under which a constant image stays constant; next
to a border of zeros, the labels would leave a trace that instance norm does not remove.  (Only the
convolutions that compute γ and β pad with zeros.)  For the same reason, labels are concatenated
only where a norm follows.

One label map fits many images, by day and by night.  As in a VAE, an encoder describes a real image
by the mean and variance of a style z, and the generator paints the map in this style.  The KL term
keeps z close to N(0, I), so a style can also be drawn at random.

    loss of the generator = hinge + 5 feature matching + 5 L1 + 0.05 KL

    hinge               -mean of the logits that the discriminator D gives the patches of the fake
    feature matching    mean |feature of the fake - feature of the real image|, averaged over the
                        hidden layers of D
    L1                  mean |fake - real|
    KL                  of the style z against N(0, I): a sum over the latents of an image, and a
                        mean over the images

The normalisation inside SPADE is batch norm, as in the paper: it keeps the differences between
images.  Instance norm would also remove the brightness of each image, which is part of its style.

differs from the paper: γ and β by a 1 x 1 convolution, where the paper has 3 x 3; spectral norm in
the discriminator and in the blocks of the generator, not in all layers; a norm before the last
convolution; reflection, not zeros, around the features; images from 0 to 1, by a sigmoid in place
of tanh; no norm in the encoder and the discriminator; one discriminator, not two of different
scales; L1 in place of a perceptual loss, which needs a trained VGG; weight 5 for the mean over the
layers in feature matching, where the authors' code has 10 for the sum; a mean of the KL terms over
the images, where it has the sum.

Read first: gan.py, turns.py, nn/instance_norm.py, nn/spectral_norm.py.
See at work: demos/11_label_to_image.py.
Shapes: B images, K classes, C channels, S the side of an image, s that of a layer; label maps are
one-hot, m (B, K, S, S).
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from tinycv.adversarial.gan import hinge, minus_fake
from tinycv.data import inputs
from tinycv.engine.arguments import choice, shown, sizes
from tinycv.engine.create import one_hot
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import abs as absolute
from tinycv.engine.ops import relu, sigmoid
from tinycv.engine.tensor import ArrayLike, Tensor, no_grad
from tinycv.nn.activation import leaky_relu
from tinycv.nn.batch_norm import BatchNorm2d
from tinycv.nn.conv import Conv2d
from tinycv.nn.distributions import kl_normal, normal_sample
from tinycv.nn.inputs import batch, whole
from tinycv.nn.instance_norm import InstanceNorm2d
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.padding import pad
from tinycv.nn.spectral_norm import SpectralNorm
from tinycv.nn.upsample import interpolate

SLOPE = 0.2  # of the leaky ReLUs below 0
FEATURE_MATCHING, L1, KL = 5.0, 5.0, 0.05  # the weights of the generator's loss
AT_ONCE = 100  # the largest batch in which images are made


def label_planes(labels: ArrayLike, classes: int) -> Tensor:
    """Label maps (B, S, S) of class numbers as one-hot planes (B, classes, S, S).

    IndexError for a number that is no class, as in maps that count from 1. On a GPU its pixels are
    NaN instead (tinycv.one_hot).
    """
    (classes,) = whole("label_planes", 1, classes=classes)
    takes = "label maps (B, S, S) of integers"
    if not isinstance(labels, Tensor):
        labels = Tensor(inputs.array(labels, "label_planes: labels", takes, "iu"))
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise TypeError(f"label_planes: labels is {shown(labels)}; it must be {takes}")
    try:
        planes = one_hot(labels, classes)
    except IndexError as error:
        raise IndexError(f"label_planes: {error}") from error
    return planes.transpose((0, 3, 1, 2))


# ── the two norms ────────────────────────────────────────────────────────────────────────────────


class SPADE(Module):
    """Batch norm, whose scale 1 + γ and shift β are computed from the label map, for each pixel.

    hidden: the channels between the two convolutions that compute γ and β.
    In evaluation mode an image does not depend on the others of its batch.
    differs: eq. 1 has the scale γ. As in the authors' code it is 1 + γ here, which is near 1 at
    the start of training.
    """

    def __init__(self, channels: int, classes: int, hidden: int = 24):
        channels, classes, hidden = whole(
            "SPADE", 1, channels=channels, classes=classes, hidden=hidden
        )
        self.norm = BatchNorm2d(channels, affine=False)
        self.shared = Conv2d(classes, hidden, 3, padding=1)
        self.gamma_beta = Conv2d(hidden, 2 * channels, 1)
        self.channels, self.classes = channels, classes
        self.channels_out = channels

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """h (B, C, s, s) and the label map m (B, K, S, S). Returns (B, C, s, s)."""
        m = label_map_for(h, m, self.channels, self.classes, "SPADE")
        gamma, beta = split(self.gamma_beta(relu(self.shared(m))), 2, axis=1)  # (B, C, s, s)
        return (1 + gamma) * self.norm(h) + beta


class ConcatNorm(Module):
    """The plain way: a norm, and then the labels as ``classes`` more channels. With classes = 0 it
    is the norm alone. norm: "instance", or "batch", which is also the norm inside SPADE."""

    def __init__(self, channels: int, classes: int, norm: str = "instance"):
        (channels,), (classes,) = (
            whole("ConcatNorm", 1, channels=channels),
            whole("ConcatNorm", 0, classes=classes),
        )
        norms = {"instance": InstanceNorm2d, "batch": partial(BatchNorm2d, affine=False)}
        self.norm = norms[choice(norm, "ConcatNorm: norm", tuple(norms))](channels)
        self.channels, self.classes = channels, classes
        self.channels_out = channels + classes

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """h (B, C, s, s) and the label map m (B, K, S, S). Returns (B, C + K, s, s)."""
        if not self.classes:
            return self.norm(h)
        m = label_map_for(h, m, self.channels, self.classes, "ConcatNorm")
        return concatenate([self.norm(h), m], axis=1)


NORMS = {
    "spade": SPADE,
    "concat": ConcatNorm,
    "concat_batch": partial(ConcatNorm, norm="batch"),
}


def label_map_for(h: Tensor, m: Tensor, channels: int, classes: int, who: str) -> Tensor:
    """The label map m (B, K, S, S) in the size of h (B, C, s, s): (B, K, s, s). It is resized by
    nearest neighbour, so that each pixel still has one class. For other shapes an error, which
    names ``who``."""
    if batch(h, f"{who}: h", ndim=4).shape[1] != channels:
        raise ValueError(f"{who}: h has shape {tuple(h.shape)}; it must have {channels} channels")
    if tuple(batch(m, f"{who}: m", ndim=4).shape[:2]) != (len(h), classes):
        raise ValueError(
            f"{who}: m has shape {tuple(m.shape)}; it must be a one-hot label map of {classes} "
            f"classes for each of {len(h)} images: ({len(h)}, {classes}, S, S)"
        )
    return m if m.shape[2:] == h.shape[2:] else interpolate(m, size=tuple(h.shape[2:]))


# ── the generator and the encoder of styles ──────────────────────────────────────────────────────


class ResBlock(Module):
    """A residual block: twice norm, leaky ReLU and a 3 x 3 convolution, and a skip connection with
    a norm and a 1 x 1 convolution (norm_s, conv_s) if the number of channels changes (Park et al.
    2019, appendix A). norm: "spade", "concat" or "concat_batch"."""

    def __init__(self, before: int, after: int, classes: int, norm: str = "spade"):
        before, after, classes = whole("ResBlock", 1, before=before, after=after, classes=classes)
        norm_of = NORMS[choice(norm, "ResBlock: norm", tuple(NORMS))]
        middle = min(before, after)
        self.norm_0, self.norm_1 = norm_of(before, classes), norm_of(middle, classes)
        self.conv_0 = SpectralNorm(Conv2d(self.norm_0.channels_out, middle, 3))
        self.conv_1 = SpectralNorm(Conv2d(self.norm_1.channels_out, after, 3))
        self.norm_s = self.conv_s = None
        if before != after:
            self.norm_s = norm_of(before, classes)
            self.conv_s = SpectralNorm(Conv2d(self.norm_s.channels_out, after, 1, bias=False))

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        """x (B, before, s, s) and the label map m (B, K, S, S). Returns (B, after, s, s)."""
        y = self.conv_0(mirrored(leaky_relu(self.norm_0(x, m), SLOPE)))
        y = self.conv_1(mirrored(leaky_relu(self.norm_1(y, m), SLOPE)))
        if self.norm_s is not None and self.conv_s is not None:
            x = self.conv_s(self.norm_s(x, m))
        return x + y


class Generator(Module):
    """Style z (B, latent) and label map m (B, K, S, S) to images (B, 3, S, S) in [0, 1].

    A linear layer turns z into small feature maps. One residual block follows per entry of
    ``widths``, the number of channels that it returns; between two blocks the side doubles, up to
    ``side``. latent: the length of z. norm: "spade", "concat" (instance norm) or "concat_batch"
    (batch norm). Where labels are concatenated, the last norm has none, because no norm follows
    that would remove them.
    """

    def __init__(
        self,
        classes: int,
        norm: str = "spade",
        latent: int = 8,
        widths: tuple[int, ...] = (48, 48, 32, 24),
        side: int = 32,
    ):
        classes, latent, side = whole("Generator", 1, classes=classes, latent=latent, side=side)
        choice(norm, "Generator: norm", tuple(NORMS))
        self.widths = list(sizes(widths, "Generator: widths", least=1))
        if not self.widths:
            raise ValueError("Generator: widths is empty; it must have the width of each block")
        self.latent, self.side, self.classes = latent, side, classes
        self.first = side // 2 ** (len(self.widths) - 1)
        if self.first < 2 or self.first * 2 ** (len(self.widths) - 1) != side:
            raise ValueError(
                f"Generator: side is {side} and widths has {len(self.widths)} entries; the side is "
                "halved between them and must stay a whole number of at least 2"
            )
        self.project = Linear(latent, self.widths[0] * self.first**2)
        pairs = pairwise([self.widths[0], *self.widths])
        self.blocks = [ResBlock(before, after, classes, norm) for before, after in pairs]
        self.norm = NORMS[norm](self.widths[-1], classes if norm == "spade" else 0)
        self.to_rgb = Conv2d(self.widths[-1], 3, 3)

    def forward(self, z: Tensor, m: Tensor) -> Tensor:
        """z (B, latent), m (B, K, S, S). Returns (B, 3, S, S)."""
        if batch(z, "Generator: z", ndim=2).shape[1] != self.latent:
            raise ValueError(
                f"Generator: z has shape {tuple(z.shape)}; it takes (B, {self.latent})"
            )
        if tuple(batch(m, "Generator: m", ndim=4).shape[2:]) != (self.side, self.side):
            raise ValueError(
                f"Generator: m has shape {tuple(m.shape)}; it takes label maps "
                f"(B, {self.classes}, {self.side}, {self.side})"
            )
        x = self.project(z).reshape((len(z), self.widths[0], self.first, self.first))
        for i, block in enumerate(self.blocks):
            x = interpolate(x, scale_factor=2) if i else x
            x = block(x, m)  # (B, width, side / 8, ...), then side / 4, side / 2, side
        x = leaky_relu(self.norm(x, m), SLOPE)
        return sigmoid(self.to_rgb(mirrored(x)))


class StyleEncoder(Module):
    """Images (B, 3, S, S) to the mean and log variance of their style, both (B, latent). Three
    convolutions halve the side three times."""

    def __init__(self, latent: int = 8, width: int = 24, side: int = 32):
        latent, width, side = whole("StyleEncoder", 1, latent=latent, width=width, side=side)
        if side % 8:
            raise ValueError(f"StyleEncoder: side is {side}; it must be a multiple of 8")
        channels = [3, width, 2 * width, 2 * width]
        self.convs = [Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels)]
        self.head = Linear(channels[-1] * (side // 8) ** 2, 2 * latent)
        self.side = side

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, S, S). Returns the mean and the log variance, (B, latent)."""
        if tuple(batch(x, "StyleEncoder: x").shape[1:]) != (3, self.side, self.side):
            raise ValueError(
                f"StyleEncoder: x has shape {tuple(x.shape)}; it takes (B, 3, {self.side}, "
                f"{self.side})"
            )
        for conv in self.convs:
            x = leaky_relu(conv(x), SLOPE)
        mean, log_variance = split(self.head(x.reshape((len(x), -1))), 2, axis=1)
        return mean, log_variance


class LabelToImage(Module):
    """Encoder and generator together: the player that makes images, against the discriminator."""

    def __init__(self, classes: int, norm: str = "spade", **options: Any):
        self.generator = Generator(classes, norm, **options)
        self.encoder = StyleEncoder(self.generator.latent, side=self.generator.side)

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Real images x (B, 3, S, S) and their label maps m. Returns the maps painted in styles
        that are drawn from what the encoder says of x (B, 3, S, S), and the mean and the log
        variance of these styles, (B, latent). The sum below lets gradients reach the encoder (the
        reparameterisation trick)."""
        mean, log_variance = self.encoder(x)
        z = normal_sample(mean, log_variance)
        return self.generator(z, m), mean, log_variance


def mirrored(x: Tensor) -> Tensor:
    """One more pixel on each side, by reflection."""
    return pad(x, (1, 1, 1, 1), mode="reflect")


# ── the discriminator and the losses ─────────────────────────────────────────────────────────────


class Discriminator(Module):
    """Images (B, 3, S, S) and label maps m (B, K, S, S) to logits (B, 1, S / 4, S / 4), one for
    each patch of the image (PatchGAN, Isola et al. 2017), and the features of all hidden layers.

    The labels are concatenated to the image, so it sees whether the two belong together.
    """

    def __init__(self, classes: int, width: int = 32):
        classes, width = whole("Discriminator", 1, classes=classes, width=width)
        self.convs = [
            SpectralNorm(Conv2d(3 + classes, width, 4, stride=2, padding=1)),
            SpectralNorm(Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            SpectralNorm(Conv2d(2 * width, 2 * width, 3, padding=1)),
        ]
        self.head = SpectralNorm(Conv2d(2 * width, 1, 3, padding=1))
        self.classes = classes

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the logits and the list of features."""
        m = label_map_for(x, m, 3, self.classes, "Discriminator")
        h, features = concatenate([x, m], axis=1), []
        for conv in self.convs:
            h = leaky_relu(conv(h), SLOPE)
            features.append(h)
        return self.head(h), features


def discriminator_loss(discriminator: Discriminator, real: Tensor, fake: Tensor, m: Tensor):
    """The hinge loss over all patches of real images and of fakes (B, 3, S, S), which are constants
    here."""
    return hinge(discriminator(real, m)[0], discriminator(fake.detach(), m)[0])


def generator_loss(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    m: Tensor,
    mean: Tensor,
    log_variance: Tensor,
) -> Tensor:
    """The sum at the top of this file, for the three results of ``LabelToImage``."""
    with no_grad():
        _, real_features = discriminator(real, m)
    logits, fake_features = discriminator(fake, m)
    return (
        minus_fake(logits)
        + FEATURE_MATCHING * feature_matching(fake_features, real_features)
        + L1 * absolute(fake - real).mean()
        + KL * kl_to_normal(mean, log_variance)
    )


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """The mean |fake - real| of each layer's features, averaged over the layers; real is
    constant."""
    distances = [absolute(f - r.detach()).mean() for f, r in zip(fake, real, strict=True)]
    return sum(distances[1:], distances[0]) / len(distances)


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) = ½ Σ (mean² + variance - log variance - 1): a sum over the
    latents of each image, and a mean over the images. mean, log_variance (B, latent)."""
    if (
        batch(mean, "kl_to_normal: mean", ndim=2).shape
        != batch(log_variance, "kl_to_normal: log_variance", ndim=2).shape
    ):
        raise ValueError(
            f"kl_to_normal: mean has shape {tuple(mean.shape)} and log_variance "
            f"{tuple(log_variance.shape)}; they must be equal"
        )
    return kl_normal(mean, log_variance).sum(axis=1).mean()


# ── using a trained model ────────────────────────────────────────────────────────────────────────


def styles_of(painter: LabelToImage, images: np.ndarray) -> np.ndarray:
    """The mean of each image's style, (N, latent), of images (N, 3, S, S), as a NumPy array."""
    device = _device_of(painter, "styles_of")
    images = inputs.images(images, "styles_of: images", floats=True)
    if not len(images):
        raise ValueError(f"styles_of: images has shape {images.shape}; there must be at least one")
    with no_grad():
        found = [
            painter.encoder(Tensor(images[i : i + AT_ONCE], device=device))[0].numpy()
            for i in range(0, len(images), AT_ONCE)
        ]
    return np.concatenate(found)


def paint_maps(painter: LabelToImage, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Paint label maps (N, S, S) of class numbers in the styles z (N, latent). Returns a NumPy
    array (N, 3, S, S). The painter must be in eval mode, so that no image depends on the others.
    """
    device, generator = _device_of(painter, "paint_maps"), painter.generator
    if painter.training:
        raise ValueError(
            "paint_maps: painter is in training mode, in which an image depends on the others of "
            "its batch; call painter.eval() first"
        )
    takes = f"styles (N, {generator.latent})"
    z = inputs.array(z, "paint_maps: z", takes, "f", ndim=2).astype(np.float32, copy=False)
    labels = inputs.array(labels, "paint_maps: labels", "label maps (N, S, S)", "iu", ndim=3)
    if len(z) != len(labels) or not len(z):
        raise ValueError(
            f"paint_maps: z has shape {z.shape} and labels {labels.shape}; there must be one style "
            "for each map, and at least one map"
        )
    if not np.isfinite(z).all():
        raise ValueError("paint_maps: z holds NaN or infinity; a style must be finite numbers")
    made = []
    with no_grad():
        for i in range(0, len(labels), AT_ONCE):
            m = label_planes(Tensor(labels[i : i + AT_ONCE], device=device), generator.classes)
            made.append(generator(Tensor(z[i : i + AT_ONCE], device=device), m).numpy())
    return np.concatenate(made)


def _device_of(painter: LabelToImage, who: str) -> str:
    """The device of the painter's weights; TypeError, which names ``who``, for anything else."""
    if not isinstance(painter, LabelToImage):
        raise TypeError(f"{who}: painter is {shown(painter)}; it must be a LabelToImage")
    return painter.generator.to_rgb.weight.device
