"""Convolutional stem for ViT: small strided convolutions make the tokens, instead of patches.

    patches    x -> cut into P x P -> linear          the same as one P x P convolution of stride P
    stem       x -> [3 x 3 convolution of stride 2, batch norm, ReLU] n times -> 1 x 1 convolution

With P = 2^n both give one token per P x P pixels.  But the windows of the stem overlap: a token
sees 2^(n+1) - 1 pixels across, so a stroke that crosses the border between two patches is not cut
in two.  And the first layers of the stem look for the same small features everywhere, as in a
convolutional network.  A ViT with a stem needs fewer epochs, and its accuracy depends less on the
learning rate.

Xiao et al. 2021, "Early convolutions help transformers see better", section 4; the norms and the
ReLUs are placed as in the paper.
differs: Xiao et al. leave out one encoder block to pay for the stem; here the caller decides.

Read first: nn/conv.py, nn/batch_norm.py.   Read next: vit.py.   Demo: demos/06_vit.py.
Shapes: B images, C channels, H x W pixels, D width of the tokens, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinycv.engine.arguments import size, sizes
from tinycv.engine.ops import relu
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.batch_norm import BatchNorm2d
from tinycv.nn.conv import Conv2d
from tinycv.nn.module import Module
from tinycv.vision import inputs


class ConvStem(Module):
    """Takes images (B, channels, H, W) and returns tokens (B, N, dim), row by row from the top
    left.

    widths: the channels after each of the n convolutions. Every convolution halves both sides and
    rounds up, so N = ⌈H / 2^n⌉ ⌈W / 2^n⌉.
    In training, the norms use the statistics of the batch; call ``eval()`` before inference.
    """

    def __init__(self, channels: int, widths: Iterable[int], dim: int):
        channels, dim = size(channels, "ConvStem: channels", 1), size(dim, "ConvStem: dim", 1)
        widths = sizes(widths, "ConvStem: widths", least=1)
        if not widths:
            raise ValueError("ConvStem: widths is empty; it must have at least one number")
        before = (channels, *widths[:-1])
        self.channels = channels
        self.convs = [
            Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False)  # the norm has one
            for c_in, c_out in zip(before, widths, strict=True)
        ]
        self.norms = [BatchNorm2d(width) for width in widths]
        self.project = Conv2d(widths[-1], dim, 1)

    def forward(self, images: ArrayLike) -> Tensor:
        """images (B, C, H, W). Returns the tokens (B, N, D)."""
        takes = f"(B, {self.channels}, H, W)"
        x = inputs.array_like(images, "ConvStem: images", takes, 4)
        if x.shape[1] != self.channels:
            raise ValueError(f"ConvStem: images of shape {tuple(x.shape)}; it takes {takes}")
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = relu(norm(conv(x)))  # (B, width, ⌈H / 2⌉, ⌈W / 2⌉)
        x = self.project(x)  # (B, D, ⌈H / 2^n⌉, ⌈W / 2^n⌉)
        b, d, h, w = x.shape
        return x.reshape((b, d, h * w)).transpose((0, 2, 1))  # (B, N, D)
