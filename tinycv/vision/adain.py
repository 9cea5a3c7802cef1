"""AdaIN: style transfer in one forward pass, for styles never seen (Huang & Belongie 2017).

    AdaIN(x, y) = σ(y) (x - μ(x)) / σ(x) + μ(y)           mean and deviation of each channel
    t = AdaIN(f(c), f(s))                                  f: the encoder, which is fixed
    T(c, s) = g(t)                                         g: the decoder, which is trained
    L_c = |f(g(t)) - t|                                    Euclidean norms
    L_s = Σ_l |μ(φ_l(g(t))) - μ(φ_l(s))| + |σ(φ_l(g(t))) - σ(φ_l(s))|    φ_l: features of layer l
    L   = L_c + λ L_s                                      c, s: the content and the style photo

The optimisation of style.py starts again for every picture. Here a decoder learns once, from many
pairs of photos, to paint an image that has given features. The style enters by the statistics of
the channels alone, two numbers per channel. So a new style needs no training, only one pass through
f and g. But these numbers cannot say which channels respond together, as the Gram matrix does; so
AdaIN prescribes less of a texture.

differs: in the paper f and φ are layers of VGG-19, and g is trained on tens of thousands of photos
and paintings. Here f is a cosine transform of overlapping patches, φ are RandomFilters, and a
handful of photos has to do. f has an exact inverse, ``PatchCosines.inverse``, which shows what a
decoder that was never trained for style would paint. The norms are divided by the square root of
how many numbers they have.
Requires: adaptive_instance_norm (nn/instance_norm.py), interpolate (nn/upsample.py).
Read first: style.py, style_filters.py.   Shapes: images (N, 3, H, W) from 0 to 1, H and W multiples
of 4; features (N, 192, H / 4 + 1, W / 4 + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinycv.engine.arguments import function
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import clip, relu, sqrt
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import count
from tinycv.nn.conv import Conv2d, ConvTranspose2d, conv2d, conv_transpose2d
from tinycv.nn.inputs import finite
from tinycv.nn.instance_norm import adaptive_instance_norm
from tinycv.nn.module import Module
from tinycv.nn.padding import pad
from tinycv.nn.upsample import interpolate
from tinycv.vision import inputs
from tinycv.vision.style import Extractor, extracted
from tinycv.vision.style_filters import from_opponent_colours, opponent_colours

PATCH, STEP = 8, 4  # patches of 8 x 8 pixels, 4 apart: every pixel lies in four of them
CHANNELS = 3 * PATCH**2
EPS = 1e-5  # added to variances, so that the square root has a derivative at 0


class PatchCosines(Module):
    """f: the cosine transform (DCT) of overlapping patches, for brightness and two colour
    differences. Each channel is one spatial frequency of one of the three. (JPEG has the same
    transform, but its patches do not overlap.)"""

    def __init__(self):
        # both are buffers, not learned
        self.weight = Tensor(np.tile(cosines(PATCH), (3, 1, 1, 1)))  # (192, 1, 8, 8)
        self.gain = Tensor(np.tile(gains(PATCH), 3)[:, None, None])  # (192, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W). Returns (N, 192, H / 4 + 1, W / 4 + 1)."""
        x = inputs.photo(x, "PatchCosines: x", PATCH)
        if x.shape[2] % STEP or x.shape[3] % STEP:
            raise ValueError(
                f"PatchCosines: x is {x.shape[2]} x {x.shape[3]} pixels; both sides must be "
                f"multiples of {STEP}"
            )
        x = pad(opponent_colours(x), STEP, mode="reflect")
        return self.gain * conv2d(x, self.weight, stride=STEP, groups=3)

    def inverse(self, features: Tensor) -> Tensor:
        """The image (N, 3, H, W) with these features, if there is one; its values may leave 0 to 1.

        The cosines of a patch are orthonormal, so their transpose takes a patch back. Each pixel is
        the mean of the four patches in which it lies.
        """
        x = conv_transpose2d(features / self.gain, self.weight, stride=STEP, groups=3)
        x = x / (PATCH / STEP) ** 2
        return from_opponent_colours(x[:, :, STEP:-STEP, STEP:-STEP])


def cosines(side: int) -> np.ndarray:
    """The orthonormal basis of the cosine transform (DCT-II): (side², 1, side, side) float32."""
    frequency, place = np.arange(side)[:, None], np.arange(side)[None]
    basis = np.cos(np.pi * frequency * (place + 0.5) / side) * (2 / side) ** 0.5
    basis[0] /= 2**0.5
    products = np.einsum("ay,bx->abyx", basis, basis)
    return products.reshape(side**2, 1, side, side).astype(np.float32)


def gains(side: int) -> np.ndarray:
    """One factor per cosine, (side²,) float32: the contrast of photos falls about as 1 / frequency,
    and with these factors all channels vary about equally much."""
    frequency = np.arange(side)
    return ((1 + frequency[:, None] + frequency[None]) / side).ravel().astype(np.float32)


class StyleDecoder(Module):
    """g: a transposed convolution, which can learn to put the patches together again, plus a
    correction by nearest upsampling and 3 x 3 convolutions. Like the decoder of the paper, it has
    no norm: an instance norm would remove the statistics that carry the style."""

    def __init__(self, width: int = 32):
        width = count(width, "StyleDecoder: width", 1)
        self.patches = ConvTranspose2d(CHANNELS, 3, PATCH, stride=STEP)
        self.conv1 = Conv2d(CHANNELS, 2 * width, 3)
        self.conv2 = Conv2d(2 * width, width, 3)
        self.conv3 = Conv2d(width + 3, width, 3)
        self.conv4 = Conv2d(width, 3, 3)
        self.conv4.weight = init.zeros(self.conv4.weight.shape)  # begins without a correction
        self.conv4.bias = init.zeros((3,))

    def forward(self, features: Tensor) -> Tensor:
        """features (N, 192, H / 4 + 1, W / 4 + 1). Returns (N, 3, H, W)."""
        sketch = from_opponent_colours(self.patches(features)[:, :, STEP:-STEP, STEP:-STEP])
        x = relu(self.conv1(mirrored(features)))
        x = interpolate(x, scale_factor=2)
        x = relu(self.conv2(mirrored(x)))
        x = interpolate(x, scale_factor=2)  # (N, width, H + 4, W + 4)
        x = x[:, :, STEP // 2 : -STEP // 2, STEP // 2 : -STEP // 2]  # the middles of the patches
        x = concatenate([x, sketch], axis=1)
        x = relu(self.conv3(mirrored(x)))
        return clip(sketch + self.conv4(mirrored(x)), 0.0, 1.0)


def mirrored(x: Tensor) -> Tensor:
    """x with one more pixel at each side, as a 3 x 3 convolution needs to keep the size."""
    return pad(x, 1, mode="reflect")


class AdaINTransfer(Module):
    """T(c, s): encoder, AdaIN, decoder. Only the decoder has Parameters."""

    def __init__(self, width: int = 32):
        self.encoder = PatchCosines()
        self.decoder = StyleDecoder(width)

    def target(self, content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        """t, the features that the decoder is to paint: (1 - α) f(c) + α AdaIN(f(c), f(s))."""
        alpha = finite(alpha, "AdaINTransfer: alpha", low=0, high=1)
        content = inputs.photo(content, "AdaINTransfer: content")
        style = inputs.photo(style, "AdaINTransfer: style")
        if len(content) != len(style):
            raise ValueError(
                f"AdaINTransfer: content holds {len(content)} images and style {len(style)}; "
                "there must be one style per image"
            )
        features = self.encoder(content)
        styled = adaptive_instance_norm(features, self.encoder(style), EPS)
        return styled if alpha == 1 else (1 - alpha) * features + alpha * styled

    def forward(self, content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        """content (N, 3, H, W), style (N, 3, H', W'), alpha from 0 (the content) to 1 (the style).
        Returns images (N, 3, H, W)."""
        return self.decoder(self.target(content, style, alpha))


def adain_loss(
    model: AdaINTransfer,
    content: Tensor,
    style: Tensor,
    extractor: Extractor,
    style_weight: float = 1.0,
) -> Tensor:
    """L = L_c + λ L_s for a batch of pairs, λ being style_weight. extractor: φ, for example
    RandomFilters."""
    style_weight = finite(style_weight, "adain_loss: style_weight", low=0)
    model = inputs.model(model, "adain_loss: model", AdaINTransfer)
    function(extractor, "adain_loss: extractor")
    t = model.target(content, style)
    images = model.decoder(t)  # (N, 3, H, W)
    loss_c = rms(model.encoder(images) - t)
    painted, wanted = (extracted(extractor, x, "adain_loss").style for x in (images, style))
    return loss_c + style_weight * statistics_loss(painted, wanted)


def statistics_loss(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """L_s: how far the means and the standard deviations of all channels are from those of the
    targets, summed over the layers, each (N, C, H, W)."""
    total: Any = 0.0
    for maps, target in zip(features, targets, strict=True):
        means, deviations = statistics(maps)
        target_means, target_deviations = statistics(target)
        total = total + rms(means - target_means) + rms(deviations - target_deviations)
    return total


def rms(x: Tensor) -> Tensor:
    """The root mean square of each example, averaged over the batch. EPS² keeps its derivative
    finite at 0. Unlike the square of a norm, the norm itself is not dominated by the few pairs that
    differ most."""
    return sqrt((x * x).mean(axis=tuple(range(1, x.ndim))) + EPS**2).mean()


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each channel of (N, C, H, W), both (N, C)."""
    return features.mean(axis=(2, 3)), sqrt(features.var(axis=(2, 3)) + EPS)
