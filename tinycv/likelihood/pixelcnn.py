"""PixelCNN and gated PixelCNN: masked convolutions predict a pixel from those above and left of it.

    p(x) = Π_i p(x_i | x_1 ... x_(i-1)), row by row                van den Oord et al. 2016, eq. 1
    block of PixelCNN:     h + conv 1x1(ReLU(conv 3x3, type B(ReLU(conv 1x1(ReLU(h))))))  figure 5
    gated PixelCNN:        tanh(W_f * h) ⊙ σ(W_g * h)              van den Oord et al. 2016b, eq. 2

A stack of masked convolutions is a MADE with shared weights: every pixel is predicted from the
pixels around it by the same weights.  The first layer has mask type A, the others type B
(nn/masked.py).

The blind spot.  In a 3 x 3 window of type B, the only way to the right goes through the row above:
each step to the right is also a step up.  So a pixel sees one column to its right in the row above
it, and two columns in the row above that one, however deep the stack is.  The pixels to the right
of this diagonal come earlier in the order, but no path leads from them to the prediction.
``receptive_field`` (pixel_by_pixel.py) measures it.

The gated PixelCNN has two stacks and no blind spot:

    vertical      sees all rows up to its own, with no mask within a row. Its features are shifted
                  down by one row, so that they hold only the rows above
    horizontal    sees its own row up to the centre, and adds these shifted features

    v ─ conv 2x3 ──────────────┬─ gate ─ v'        v' sees the rows up to its own
                               └─ down one row, conv 1x1
                                       │
    h ─ conv 1x3, type A or B ──────── + ─ gate ─ conv 1x1 ─ + ─ h'      h' sees what comes before
    └────────────────────────────────────────────────────────┘           the pixel, all of it

A pixel of two levels is predicted by one logit, a pixel of more levels by a softmax over them or,
as in PixelCNN++ (Salimans et al. 2017), by a mixture of discretised logistics.  A softmax treats
the levels as classes without an order; logistics give similar probabilities to similar levels.
differs: one channel, no colours; widths of the user's choice.

Read first: pixel_by_pixel.py, nn/masked.py.   See at work: demos/22_autoregressive.py.
Shapes: B images, H x W pixels, C channels, L levels.
"""

from __future__ import annotations

from tinycv.engine.arguments import choice
from tinycv.engine.methods import split
from tinycv.engine.ops import relu, sigmoid, tanh
from tinycv.engine.tensor import Tensor
from tinycv.likelihood.pixel_by_pixel import PixelModel, centred
from tinycv.nn.conv import Conv2d
from tinycv.nn.inputs import depth_of, whole
from tinycv.nn.masked import MaskedConv2d, odd_window
from tinycv.nn.module import Module
from tinycv.nn.padding import pad
from tinycv.nn.window import Pair


class PixelCNN(PixelModel):
    """PixelCNN with plain masks, and with their blind spot.

    shape: (H, W), or the side of a square. width: channels of the blocks. depth: number of blocks.
    kernel_size: of the first layer. levels: L. mixture: M, see PixelModel.
    first_mask: "A". "B" is a mistake, for the demo: each pixel then sees itself, so the model
    repeats what it is given, and its log_prob is not the logarithm of a probability.
    """

    def __init__(
        self,
        shape: Pair,
        width: int = 32,
        depth: int = 3,
        kernel_size: int = 5,
        levels: int = 2,
        mixture: int = 0,
        first_mask: str = "A",
    ):
        super().__init__(shape, levels, mixture=mixture)
        (width,) = whole("PixelCNN", 1, width=width)
        depth = depth_of(depth, "PixelCNN", 0)
        odd_window(kernel_size, "PixelCNN: kernel_size")
        choice(first_mask, "PixelCNN: first_mask", ("A", "B"))
        self.first = MaskedConv2d(1, width, kernel_size, first_mask)
        self.blocks = [ResidualBlock(width) for _ in range(depth)]
        self.hidden = Conv2d(width, width, 1)
        self.head = Conv2d(width, outputs_of(self.levels, self.mixture), 1)

    def logits(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W). Returns (B, D), (B, D, L) or (B, D, 3 M), as in PixelModel."""
        h = self.first(centred(x, self.levels))  # (B, C, H, W)
        for block in self.blocks:
            h = block(h)
        return by_pixel(self.head(relu(self.hidden(relu(h)))))


class ResidualBlock(Module):
    """The block of PixelCNN: half of the channels inside, and a skip connection."""

    def __init__(self, width: int):
        (width,) = whole("ResidualBlock", 1, width=width)
        half = (width + 1) // 2
        self.squeeze = Conv2d(width, half, 1)
        self.masked = MaskedConv2d(half, half, 3, "B")
        self.expand = Conv2d(half, width, 1)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, H, W). Returns (B, C, H, W)."""
        y = self.masked(relu(self.squeeze(relu(h))))
        return h + self.expand(relu(y))


class GatedPixelCNN(PixelModel):
    """The gated PixelCNN, with a vertical and a horizontal stack.

    shape: (H, W), or the side of a square. width: channels of each stack. depth: number of layers.
    kernel_size: of the first layer; the others have 3. levels: L. mixture: M, see PixelModel.
    """

    def __init__(
        self,
        shape: Pair,
        width: int = 32,
        depth: int = 4,
        kernel_size: int = 3,
        levels: int = 2,
        mixture: int = 0,
    ):
        super().__init__(shape, levels, mixture=mixture)
        (width,) = whole("GatedPixelCNN", 1, width=width)
        depth = depth_of(depth, "GatedPixelCNN", 1)
        odd_window(kernel_size, "GatedPixelCNN: kernel_size")
        first = GatedLayer(1, width, kernel_size, "A")
        self.layers = [first, *(GatedLayer(width, width, 3, "B") for _ in range(depth - 1))]
        self.hidden = Conv2d(width, width, 1)
        self.head = Conv2d(width, outputs_of(self.levels, self.mixture), 1)

    def logits(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W). Returns (B, D), (B, D, L) or (B, D, 3 M), as in PixelModel."""
        v = h = centred(x, self.levels)
        for layer in self.layers:
            v, h = layer(v, h)  # (B, C, H, W) each
        return by_pixel(self.head(relu(self.hidden(relu(h)))))


class GatedLayer(Module):
    """One layer of both stacks. The window of the vertical convolution has (k + 1) / 2 rows, for a
    kernel_size k. mask_type: of the horizontal convolution, "A" in the first layer. The first layer
    has no skip connection, because it would show each pixel to itself."""

    def __init__(self, before: int, width: int, kernel_size: int = 3, mask_type: str = "B"):
        before, width = whole("GatedLayer", 1, before=before, width=width)
        side, _ = odd_window(kernel_size, "GatedLayer: kernel_size")
        choice(mask_type, "GatedLayer: mask_type", ("A", "B"))
        self.reach = side // 2
        self.vertical = Conv2d(before, 2 * width, (self.reach + 1, side))
        self.horizontal = MaskedConv2d(before, 2 * width, (1, side), mask_type)
        self.down = Conv2d(2 * width, 2 * width, 1)
        self.out = Conv2d(width, width, 1)
        self.has_skip = mask_type == "B" and before == width

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """v, h (B, before, H, W), the features of the two stacks. Returns both, (B, C, H, W)."""
        rows_to_here = self.vertical(pad(v, (self.reach, self.reach, self.reach, 0)))
        rows_above = pad(rows_to_here[:, :, :-1], (0, 0, 1, 0))  # shifted down by one row
        y = self.out(gate(self.horizontal(h) + self.down(rows_above)))
        return gate(rows_to_here), h + y if self.has_skip else y


def gate(h: Tensor) -> Tensor:
    """tanh(f) ⊙ σ(g), where f is the first half of the channels of h (B, 2 C, H, W) and g the
    second. Returns (B, C, H, W)."""
    f, g = split(h, 2, axis=1)
    return tanh(f) * sigmoid(g)


def outputs_of(levels: int, mixture: int) -> int:
    """How many numbers predict a pixel: three for each logistic of a mixture (weight, mean, scale);
    without a mixture one logit for two levels, and otherwise one number for each level."""
    if mixture:
        return 3 * mixture
    return 1 if levels == 2 else levels


def by_pixel(planes: Tensor) -> Tensor:
    """The logits (B, L, H, W) as (B, D, L), or as (B, D) if there is one per pixel."""
    b, k, h, w = planes.shape
    if k == 1:
        return planes.reshape((b, h * w))
    return planes.reshape((b, k, h * w)).swapaxes(1, 2)
