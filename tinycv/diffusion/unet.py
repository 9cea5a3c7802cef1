"""U-Net: DDPM's denoising network, which shrinks an image and enlarges it again, with skip links.

    h = W_2 * SiLU(GN(W_1 * SiLU(GN(x)) + U e))              a residual block; * is a convolution
    y = x + h                                                Ho, Jain & Abbeel 2020, appendix B
    self-attention between all pixels at the lowest resolution           ibid., at 16 x 16

e is the embedding of the time and of the label (embedding.py), GN is group norm.  The lowest
resolution sees the whole digit, the highest its edges; a denoiser needs both.  Skip connections
carry the features of each resolution over to the way up (Ronneberger et al. 2015, "U-Net").

differs from Ho et al.: the image is first cut into patches, and the result is assembled from
patches, as for the large images of Hoogeboom et al. 2023 ("simple diffusion").  Most of the work of
convolutions is at the full resolution, and patches of 2 x 2 pixels reduce it to a quarter.  Halving
and doubling are convolutions whose windows do not overlap.  There is one block per level.

Read first: nn/conv.py, nn/group_norm.py, sequence/attention.py, embedding.py.   Read next: dit.py.
See at work: demos/17_diffusion_digits.py.
Shapes: B images, C channels, H x W pixels, E width of the embedding.
"""

from __future__ import annotations

from tinycv.diffusion.embedding import Labels, TimeAndLabel, check_time_and_label
from tinycv.engine.arguments import size, sizes
from tinycv.engine.methods import concatenate
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.activation import silu
from tinycv.nn.conv import Conv2d, ConvTranspose2d
from tinycv.nn.group_norm import GroupNorm
from tinycv.nn.inputs import Examples, batch, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.sequence.attention import MultiheadAttention


def group_norm_of(channels: int) -> GroupNorm:
    """Group norm with groups of four channels. With one channel per group it would subtract what
    the embedding has just added to that channel."""
    channels = channels_of_four(channels, "group_norm_of: channels")
    return GroupNorm(channels // 4, channels)


def channels_of_four(channels: int, what: str) -> int:
    """A number of channels; ValueError unless it divides into groups of four."""
    channels = size(channels, what, 4)
    if channels % 4:
        raise ValueError(f"{what} is {channels}; it must be a multiple of 4")
    return channels


class ResBlock(Module):
    """A residual block: two convolutions, with the embedding added between them, and a skip
    connection. The second convolution starts at 0, so the block starts as the skip connection."""

    def __init__(self, channels_in: int, channels_out: int, embed_dim: int):
        embed_dim = size(embed_dim, "ResBlock: embed_dim", 1)
        channels_in, channels_out = (
            channels_of_four(channels, f"ResBlock: {name}")
            for name, channels in (("channels_in", channels_in), ("channels_out", channels_out))
        )
        self.norm1, self.norm2 = group_norm_of(channels_in), group_norm_of(channels_out)
        self.conv1 = Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv2.weight = init.zeros(self.conv2.weight.shape)
        self.conv2.bias = init.zeros((channels_out,))
        self.embed = Linear(embed_dim, channels_out)
        self.skip = None if channels_in == channels_out else Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x (B, channels_in, H, W), e (B, E) after its SiLU. Returns (B, channels_out, H, W)."""
        h = self.conv1(silu(self.norm1(x)))  # (B, channels_out, H, W)
        h = h + self.embed(e)[:, :, None, None]
        h = self.conv2(silu(self.norm2(h)))
        return h + (x if self.skip is None else self.skip(x))


class PixelAttention(Module):
    """Self-attention between all pixels: x + MSA(GN(x)), where each pixel is a token and its
    channels are the features."""

    def __init__(self, channels: int, heads: int):
        channels = channels_of_four(channels, "PixelAttention: channels")
        heads = size(heads, "PixelAttention: heads", 1)
        if channels % heads:
            raise ValueError(
                f"PixelAttention: channels is {channels} and heads {heads}; the channels must "
                "divide evenly among the heads"
            )
        self.norm, self.attention = group_norm_of(channels), MultiheadAttention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W). Returns the same shape."""
        b, c, h, w = batch(x, "PixelAttention: x", 4).shape
        tokens = self.norm(x).reshape((b, c, h * w)).swapaxes(1, 2)  # (B, H W, C)
        return x + self.attention(tokens).swapaxes(1, 2).reshape(x.shape)


class UNet(Module):
    """Predicts ε, x_0 or v (denoising.py) from noised images (B, C, H, W), their times (B,) and
    labels (B,).

    widths: the channels at each level, multiples of 4. The image is cut into patches of patch_size
    and halved between levels, so H and W must be multiples of patch_size * 2^(levels - 1).
    embed_dim: E. num_classes: 0 for no labels.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64),
        patch_size: int = 2,
        heads: int = 4,
        num_classes: int = 0,
        embed_dim: int = 128,
    ):
        channels, patch_size, heads, embed_dim = whole(
            "UNet", 1, channels=channels, patch_size=patch_size, heads=heads, embed_dim=embed_dim
        )
        num_classes = size(num_classes, "UNet: num_classes")
        widths = tuple(
            channels_of_four(width, "UNet: widths") for width in sizes(widths, "UNet: widths")
        )
        if not widths or widths[-1] % heads:
            raise ValueError(
                f"UNet: widths are {widths} and heads {heads}; there must be at least one width, "
                "and the last must divide evenly among the heads"
            )
        self.channels = channels
        levels = list(zip(widths, widths[1:], strict=False))  # (above, below)
        self.unit = patch_size * 2 ** len(levels)
        self.embed = TimeAndLabel(embed_dim, num_classes)
        self.stem = Conv2d(channels, widths[0], patch_size, stride=patch_size)
        self.down = [ResBlock(width, width, embed_dim) for width in widths]
        self.halve = [Conv2d(above, below, 2, stride=2) for above, below in levels]
        self.middle = [ResBlock(widths[-1], widths[-1], embed_dim) for _ in range(2)]
        self.attention = PixelAttention(widths[-1], heads)
        self.up = [ResBlock(2 * width, width, embed_dim) for width in widths]
        self.double = [ConvTranspose2d(below, above, 2, stride=2) for above, below in levels]
        self.norm = group_norm_of(widths[0])
        self.head = ConvTranspose2d(widths[0], channels, patch_size, stride=patch_size)
        self.head.weight = init.zeros(self.head.weight.shape)
        self.head.bias = init.zeros((channels,))

    def forward(self, x: Examples, t: Examples, label: Labels | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), label (B,) or None for "no label". Returns (B, C, H, W)."""
        if batch(x, "UNet: x", 4).shape[1] != self.channels:
            raise ValueError(
                f"UNet: x has shape {tuple(x.shape)}; this network takes images with "
                f"{self.channels} channels"
            )
        check_time_and_label("UNet", x, t, label, self.embed.num_classes)
        if x.shape[2] % self.unit or x.shape[3] % self.unit:
            raise ValueError(
                f"UNet: x has shape {x.shape}; this network divides both sides by {self.unit}, so "
                f"they must be multiples of {self.unit}: pad the images, or build the network with "
                "fewer widths"
            )
        e = silu(self.embed(t, label))  # (B, E)
        x = self.down[0](self.stem(x), e)  # (B, widths[0], H / patch, W / patch)
        skips = [x]  # one per level, from the highest resolution to the lowest
        for halve, block in zip(self.halve, self.down[1:], strict=True):
            x = block(halve(x), e)
            skips.append(x)
        x = self.middle[1](self.attention(self.middle[0](x, e)), e)
        x = self.up[-1](concatenate([x, skips.pop()], axis=1), e)
        # self.up[-2::-1]: all blocks but the last, which has just run, from the lowest level up
        for double, block in zip(self.double[::-1], self.up[-2::-1], strict=True):
            x = block(concatenate([double(x), skips.pop()], axis=1), e)
        return self.head(silu(self.norm(x)))
