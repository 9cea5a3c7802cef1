"""Pixel shuffle and its inverse (squeeze, space to depth): pixels become channels and back.

    pixel_unshuffle   y[c r² + i r + j, h, w] = x[c, h r + i, w r + j]      (C, H, W) to
                                                                            (C r², H / r, W / r)
    pixel_shuffle     the inverse: (C r², H, W) to (C, H r, W r)            Shi et al. 2016

Every r x r square of pixels becomes one pixel with r² times as many channels.  No number is changed
or lost, so the map is invertible, and the log-determinant of its Jacobian is 0: a normalizing flow
uses pixel_unshuffle, which RealNVP calls squeeze, to trade resolution for channels
(likelihood/flow.py).  Shi et al. use pixel_shuffle to enlarge images: a convolution computes r²
values for each pixel of the small image, and the shuffle lays them out as an r x r square.

The order of the new channels is that of PyTorch: a 2 x 2 square is read as top left, top right,
bottom left, bottom right, and the r² channels of one old channel stand together.
differs: RealNVP's code reads top left, bottom right, top right, bottom left, and the channels of
one place stand together.  There, half of the channels are a checkerboard; here, if C = 1, a row.

Read first: conv.py.   Shapes: N images, C channels, H x W pixels, r the factor.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.tensor import Tensor
from tinycv.nn.checks import array, count
from tinycv.nn.module import Module


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """x (N, C, H, W) to (N, C r², H / r, W / r), with r = downscale_factor.

    H and W must be multiples of r. differs: PyTorch takes any number of axes before C.
    """
    r = count(downscale_factor, "pixel_unshuffle: downscale_factor", 1)
    n, c, h, w = image_shape(x, "pixel_unshuffle: x")
    if h % r or w % r:
        raise ValueError(
            f"pixel_unshuffle: x has {h} x {w} pixels; both must be multiples of "
            f"downscale_factor, which is {r}"
        )
    squares = x.reshape((n, c, h // r, r, w // r, r))  # row h r + i is (h, i), column (w, j)
    return squares.transpose((0, 1, 3, 5, 2, 4)).reshape((n, c * r * r, h // r, w // r))


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """x (N, C r², H, W) to (N, C, H r, W r), with r = upscale_factor: the inverse of
    pixel_unshuffle.

    The number of channels must be a multiple of r². differs: PyTorch takes any number of axes
    before C.
    """
    r = count(upscale_factor, "pixel_shuffle: upscale_factor", 1)
    n, channels, h, w = image_shape(x, "pixel_shuffle: x")
    if channels % (r * r):
        raise ValueError(
            f"pixel_shuffle: x has {channels} channels; for upscale_factor = {r} their number must "
            f"be a multiple of {r * r}"
        )
    c = channels // (r * r)
    squares = x.reshape((n, c, r, r, h, w))  # channel c r² + i r + j is (c, i, j)
    return squares.transpose((0, 1, 4, 2, 5, 3)).reshape((n, c, h * r, w * r))


class PixelUnshuffle(Module):
    """``pixel_unshuffle`` as a layer."""

    def __init__(self, downscale_factor: int):
        self.downscale_factor = count(downscale_factor, "PixelUnshuffle: downscale_factor", 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C r², H / r, W / r)."""
        return pixel_unshuffle(x, self.downscale_factor)


class PixelShuffle(Module):
    """``pixel_shuffle`` as a layer."""

    def __init__(self, upscale_factor: int):
        self.upscale_factor = count(upscale_factor, "PixelShuffle: upscale_factor", 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C r², H, W). Returns (N, C, H r, W r)."""
        return pixel_shuffle(x, self.upscale_factor)


def image_shape(x: Any, what: str) -> tuple[int, ...]:
    """The shape (N, C, H, W) of x; an error if x is not an array with four axes."""
    if array(x, what).ndim != 4:
        raise ValueError(f"{what} has shape {tuple(x.shape)}; it must be (N, C, H, W)")
    return tuple(x.shape)
