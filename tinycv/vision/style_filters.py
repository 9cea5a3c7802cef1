"""Random filters at several scales: features for textures without a trained network.

    level 0     the image, as brightness and two colour differences
    level l     level l - 1 at half the size
    features    ReLU of 3 x 3, 5 x 5 and 7 x 7 convolutions with random weights, at every level

Ustyuzhaninov et al. 2016 synthesise textures from the Gram matrices of one layer of random
filters of many sizes, and find them as good as those from VGG-19. A random filter is no detector of
anything; but together the filters of one size fix the statistics of small patches, and a coarse
level does so for large ones. Two sets drawn from different seeds ask the same question with
different filters. So fresh filters can judge a picture that other filters have made.

Half of the filters have mean 0: they do not respond to a constant colour, only to texture. The
others see colours too.
differs: the paper has one level and filters of up to 55 x 55 on RGB. Here a pyramid makes the
filters large. Colours are decorrelated, since the channels of RGB are almost equal in photos, and
filters on RGB would see brightness only.
Read first: style.py.   Shapes: images (N, 3, H, W) from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinycv.engine.methods import concatenate
from tinycv.engine.ops import relu
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.checks import count
from tinycv.nn.conv import conv2d
from tinycv.nn.module import Module
from tinycv.nn.padding import pad
from tinycv.nn.pool import avg_pool2d
from tinycv.vision.inputs import odd_sizes, photo
from tinycv.vision.style import Features, luminance

# Brightness has a standard deviation of about 1/4 in photos, a colour difference of about 1/8.
BRIGHTNESS, COLOUR = 4.0, 6.0
# How much longer the filters of mean 0 are, whose responses are smaller.
TEXTURE = 2.0


class RandomFilters(Module):
    """An extractor for StyleObjective: one style layer per level of the pyramid. Content is the
    brightness of every pixel.

    per_size: the number of filters of each size. sizes: the sides of the filters, odd numbers.
    levels: the levels of the pyramid. The weights come from the generator that
    ``tinycv.manual_seed`` sets, so another seed gives fresh filters. They are not trained.
    """

    def __init__(self, per_size: int = 24, sizes: Sequence[int] = (3, 5, 7), levels: int = 4):
        per_size = count(per_size, "RandomFilters: per_size", 1)
        self.levels = count(levels, "RandomFilters: levels", 1)
        self.sizes = odd_sizes(sizes, "RandomFilters: sizes")
        self.filters = [random_filters(per_size, side) for side in self.sizes]

    @property
    def least(self) -> int:
        """The smallest side of an image: at the coarsest level the largest filter still fits."""
        return max(self.sizes) * 2 ** (self.levels - 1)

    def forward(self, x: Tensor) -> Features:
        """x (N, 3, H, W). Returns Features with maps (N, sizes * per_size, H / 2^l, W / 2^l) for
        each level l, and the brightness (N, 1, H, W)."""
        x = photo(x, "RandomFilters: x", self.least)
        scaled = opponent_colours(x)
        maps = []
        for level in range(self.levels):
            scaled = halve(scaled) if level else scaled
            maps.append(concatenate([self.responses(scaled, w) for w in self.filters], axis=1))
        return Features(maps, luminance(x))

    def responses(self, x: Tensor, weight: Tensor) -> Tensor:
        """ReLU of one convolution, as large as x: the image is mirrored at its edges."""
        rim = weight.shape[-1] // 2
        return relu(conv2d(pad(x, rim, mode="reflect"), weight))


def random_filters(number: int, side: int) -> Tensor:
    """Weights (number, 3, side, side), normal, each filter scaled to length 1. The first half of
    the filters have mean 0 in each channel. A buffer: it is not learned."""
    weight = init.normal((number, 3, side, side)).detach()
    half = number // 2
    centred = weight[:half] - weight[:half].mean(axis=(2, 3), keepdims=True)
    unit = [w / (w * w).sum(axis=(1, 2, 3), keepdims=True) ** 0.5 for w in (centred, weight[half:])]
    return concatenate([TEXTURE * unit[0], unit[1]], axis=0)


def opponent_colours(x: Tensor) -> Tensor:
    """RGB (N, 3, H, W) as brightness, blue minus brightness and red minus brightness, each scaled
    so that it varies about equally much in photos. Returns (N, 3, H, W)."""
    y = luminance(x)
    blue, red = x[:, 2:3] - y, x[:, 0:1] - y
    return concatenate([BRIGHTNESS * (y - 0.5), COLOUR * blue, COLOUR * red], axis=1)


def from_opponent_colours(x: Tensor) -> Tensor:
    """The inverse of ``opponent_colours``."""
    y = x[:, 0:1] / BRIGHTNESS + 0.5
    blue, red = x[:, 1:2] / COLOUR + y, x[:, 2:3] / COLOUR + y
    return concatenate([red, (y - 0.299 * red - 0.114 * blue) / 0.587, blue], axis=1)


def halve(x: Tensor) -> Tensor:
    """x at half the size. Each new pixel is the mean of 4 x 4 old ones, which overlap: means of
    2 x 2 pixels would leave blocks in a picture that is optimised."""
    return avg_pool2d(pad(x, 1, mode="reflect"), 4, stride=2)
