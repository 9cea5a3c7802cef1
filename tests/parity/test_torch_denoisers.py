"""U-Net and DiT, their blocks and the whole networks, compared with the same networks in PyTorch,
with weights loaded by name."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional as F
from twin import DTYPES, agree_as_layers

from tinycv import Tensor
from tinycv.diffusion.dit import DiT, DiTBlock
from tinycv.diffusion.unet import PixelAttention, ResBlock, UNet

RNG = np.random.default_rng(0)
X, E, Z = RNG.normal(size=(2, 8, 4, 4)), RNG.normal(size=(2, 6)), RNG.normal(size=(2, 3, 6))
# label 3 means "no label"
IMAGES, TIMES, LABELS = RNG.normal(size=(2, 1, 8, 8)), np.array([3.0, 700.0]), np.array([0, 3])

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


class TorchResBlock(nn.Module):
    def __init__(self, channels_in, channels_out, embed_dim):
        super().__init__()
        self.norm1, self.norm2 = (
            nn.GroupNorm(channels_in // 4, channels_in),
            nn.GroupNorm(channels_out // 4, channels_out),
        )
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.embed = nn.Linear(embed_dim, channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x))) + self.embed(e)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + (x if self.skip is None else self.skip(x))


class TorchPixelAttention(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.norm = nn.GroupNorm(channels // 4, channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x):
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


class TorchDiTBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.modulation = nn.Linear(dim, 6 * dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, z, e):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(e)[:, None].chunk(6, dim=-1)
        h = F.layer_norm(z, z.shape[-1:], eps=1e-6) * (1 + scale1) + shift1
        z = z + gate1 * self.attention(h, h, h)[0]
        h = F.layer_norm(z, z.shape[-1:], eps=1e-6) * (1 + scale2) + shift2
        return z + gate2 * self.linear2(F.gelu(self.linear1(h), approximate="tanh"))


@pytest.mark.parametrize("channels_out", [8, 12], ids=["as wide", "wider"])
def test_a_residual_block_matches_pytorch(channels_out, dtype):
    agree_as_layers(ResBlock(8, channels_out, 6), TorchResBlock(8, channels_out, 6), [X, E], dtype)


def test_attention_over_pixels_matches_pytorch(dtype):
    agree_as_layers(PixelAttention(8, 2), TorchPixelAttention(8, 2), [X], dtype)


def test_a_dit_block_matches_pytorch(dtype):
    agree_as_layers(DiTBlock(6, 2), TorchDiTBlock(6, 2), [Z, E], dtype)


# ── The whole ─────────────────────────────────────────────────────────────────────────────────────


class TorchTimeAndLabel(nn.Module):
    def __init__(self, dim, classes):
        super().__init__()
        self.linear1, self.linear2, self.table = (
            nn.Linear(dim, dim),
            nn.Linear(dim, dim),
            nn.Embedding(classes + 1, dim),
        )

    def forward(self, t, label):
        dim = self.linear1.in_features
        angle = t[:, None] / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        clocks = (
            torch.stack([angle.sin(), angle.cos()], -1).flatten(1).to(self.linear1.weight.dtype)
        )
        return F.silu(self.linear2(F.silu(self.linear1(clocks))) + self.table(label))


class TorchUNet(nn.Module):
    """Three levels, written out: sides of 4, 2 and 1 for images of 8 x 8 in patches of 2."""

    def __init__(self):
        super().__init__()
        self.embed, self.stem = TorchTimeAndLabel(6, 3), nn.Conv2d(1, 4, 2, 2)
        self.down = nn.ModuleList([TorchResBlock(width, width, 6) for width in (4, 8, 12)])
        self.halve = nn.ModuleList([nn.Conv2d(4, 8, 2, 2), nn.Conv2d(8, 12, 2, 2)])
        self.middle = nn.ModuleList([TorchResBlock(12, 12, 6) for _ in range(2)])
        self.attention = TorchPixelAttention(12, 2)
        self.up = nn.ModuleList([TorchResBlock(2 * width, width, 6) for width in (4, 8, 12)])
        self.double = nn.ModuleList(
            [nn.ConvTranspose2d(8, 4, 2, 2), nn.ConvTranspose2d(12, 8, 2, 2)]
        )
        self.norm, self.head = nn.GroupNorm(1, 4), nn.ConvTranspose2d(4, 1, 2, 2)

    def forward(self, x, t, label):
        # .double is a method of torch's Module
        e, double = self.embed(t, label), self._modules["double"]
        large = self.down[0](self.stem(x), e)
        middling = self.down[1](self.halve[0](large), e)
        small = self.down[2](self.halve[1](middling), e)
        x = self.middle[1](self.attention(self.middle[0](small, e)), e)
        x = self.up[2](torch.cat([x, small], 1), e)
        x = self.up[1](torch.cat([double[1](x), middling], 1), e)
        x = self.up[0](torch.cat([double[0](x), large], 1), e)
        return self.head(F.silu(self.norm(x)))


class TorchDiT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.patch_embed = TorchTimeAndLabel(6, 3), nn.Linear(4, 6)
        self.pos_embed = nn.Parameter(torch.zeros(1, 16, 6))
        self.blocks = nn.ModuleList([TorchDiTBlock(6, 2) for _ in range(2)])
        self.modulation, self.head = nn.Linear(6, 12), nn.Linear(6, 4)

    def forward(self, x, t, label):
        e = self.embed(t, label)
        z = self.patch_embed(F.unfold(x, 2, stride=2).mT) + self.pos_embed
        for block in self.blocks:
            z = block(z, e)
        shift, scale = self.modulation(e)[:, None].chunk(2, dim=-1)
        z = F.layer_norm(z, z.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return F.fold(self.head(z).mT, (8, 8), 2, stride=2)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (lambda: UNet(1, (4, 8, 12), 2, heads=2, num_classes=3, embed_dim=6), TorchUNet),
        (lambda: DiT(8, 2, dim=6, depth=2, heads=2, num_classes=3), TorchDiT),
    ],
    ids=["U-Net", "DiT"],
)
def test_the_networks_images_and_gradients_match_pytorch(ours, theirs, dtype):
    ours, theirs = ours(), theirs()
    agree_as_layers(
        ours,
        theirs,
        [IMAGES],
        dtype,
        lambda x: ours(x, Tensor(TIMES), Tensor(LABELS)),
        lambda x: theirs(x, torch.tensor(TIMES), torch.tensor(LABELS)),
    )
