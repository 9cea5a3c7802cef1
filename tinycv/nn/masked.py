"""Masked linear layer and masked convolution: layers in which some weights do not exist.

    y = (W where M, else 0) x + b                     MADE: Germain et al. 2015, section 4
    mask type A of a convolution: the pixels above and those to the left
    mask type B: the same, and the pixel itself           van den Oord et al. 2016, figure 2

An autoregressive model predicts each pixel from the pixels before it.  One network can do this for
all pixels in one pass, if no path leads from a pixel to its own prediction or to the prediction of
an earlier one.  A mask M cuts these paths.

    type A  1 1 1     type B  1 1 1      The first layer takes the pixels themselves, so it must not
            1 0 0             1 1 0      see the centre: type A.  The features of later layers hold
            0 0 0             0 0 0      earlier pixels only, so type B lets them see the centre.

A masked weight is left out by ``where``.  To multiply it by zero would almost be the same, but
0 · NaN and 0 · inf are NaN, so a weight that nobody uses could destroy the result.  The gradient of
a masked weight is exactly 0.

Read first: linear.py, conv.py.   Used in: likelihood/autoregressive.py, likelihood/pixelcnn.py.
Shapes: N images, C channels in, O channels out, H x W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.arguments import choice, number_kind, shown
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.checks import array, count, flag
from tinycv.nn.conv import Conv2d, conv2d
from tinycv.nn.linear import Linear, linear
from tinycv.nn.padding import pad
from tinycv.nn.window import Pair, as_pair


class MaskedLinear(Linear):
    """``linear`` with the weights of ``mask`` alone.

    mask (out_features, in_features): bool, True where output and input are connected. It is a
    buffer: it is saved with the weights, and not learned.
    """

    def __init__(self, in_features: int, out_features: int, mask: Any, bias: bool = True):
        super().__init__(
            count(in_features, "MaskedLinear: in_features"),
            count(out_features, "MaskedLinear: out_features"),
            flag(bias, "MaskedLinear: bias"),
        )
        self.mask = Tensor(bools(mask, "MaskedLinear: mask", self.weight.shape).copy())

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (..., in_features). Returns (..., out_features). mask: for this call, another mask."""
        if mask is None:
            mask = self.mask
        else:
            bools(mask, "MaskedLinear: mask", self.weight.shape)
        return linear(x, where(mask, self.weight, 0.0), self.bias)


class MaskedConv2d(Conv2d):
    """A convolution that sees only the part of its window that comes first in raster order. The
    image keeps its size; outside the image there are zeros.

    mask_type: "A" hides the centre of the window, "B" shows it. kernel_size: odd.
    differs: PyTorch has no such layer. van den Oord et al. order the colours of a pixel as well;
    here all channels of a pixel are hidden or shown together, which is the same for one colour.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        mask_type: str = "B",
        bias: bool = True,
    ):
        choice(mask_type, "MaskedConv2d: mask_type", ("A", "B"))
        window = odd_window(kernel_size, "MaskedConv2d: kernel_size")
        super().__init__(in_channels, out_channels, window, bias=bias)
        self.mask_type = mask_type
        self.mask = Tensor(raster_mask(window, mask_type))  # (kH, kW)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W). Returns (N, out_channels, H, W)."""
        if array(x, "MaskedConv2d: x").ndim != 4:
            raise ValueError(
                f"MaskedConv2d: x has shape {tuple(x.shape)}; it must be (N, channels, H, W)"
            )
        down, across = (side // 2 for side in self.mask.shape)
        # The rows below the centre are always masked, so the window ends with the centre row.
        rows = down + 1
        weight = where(self.mask[:rows], self.weight[:, :, :rows], 0.0)
        return conv2d(pad(x, (across, across, down, 0)), weight, self.bias)


def raster_mask(kernel_size: Pair, mask_type: str) -> np.ndarray:
    """The taps (kH, kW) of an odd window that come before its centre, row by row: bools. Mask type
    "B" includes the centre, "A" does not."""
    height, width = odd_window(kernel_size, "raster_mask: kernel_size")
    includes_centre = choice(mask_type, "raster_mask: mask_type", ("A", "B")) == "B"
    number_of_tap = np.arange(height * width).reshape(height, width)  # in raster order
    centre = number_of_tap[height // 2, width // 2]
    return number_of_tap < centre + includes_centre


# ── checks ───────────────────────────────────────────────────────────────────────────────────────


def odd_window(kernel_size: Any, what: str) -> tuple[int, int]:
    """(height, width) of a window that has a centre."""
    height, width = as_pair(what, kernel_size, 1)
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(f"{what} is {shown(kernel_size)}; it must be odd, or two odd numbers")
    return height, width


def bools(mask: Any, what: str, shape: tuple[int, ...]) -> Any:
    """The mask, if it is an array or a Tensor of bools in this shape; else an error."""
    if number_kind(mask) != "b":
        raise TypeError(f"{what} is {shown(mask)}; it must be an array of True and False {shape}")
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(f"{what} has shape {tuple(mask.shape)}; it must be {tuple(shape)}")
    return bare(mask)
