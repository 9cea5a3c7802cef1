"""The blocks of the U-Net and of DiT against the same written in PyTorch, with weights loaded by name."""
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from twin import DTYPES, agree_as_layers  # noqa: E402

from tinycv.generative.dit import DiTBlock  # noqa: E402
from tinycv.generative.unet import PixelAttention, ResBlock  # noqa: E402

RNG = np.random.default_rng(0)
X, E, Z = RNG.normal(size=(2, 8, 4, 4)), RNG.normal(size=(2, 6)), RNG.normal(size=(2, 3, 6))

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


class TorchResBlock(nn.Module):
    def __init__(self, channels_in, channels_out, embed_dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(channels_in // 4, channels_in), nn.GroupNorm(channels_out // 4, channels_out)
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
def test_a_residual_block_is_pytorchs(channels_out, dtype):
    agree_as_layers(ResBlock(8, channels_out, 6), TorchResBlock(8, channels_out, 6), [X, E], dtype)


def test_attention_over_pixels_is_pytorchs(dtype):
    agree_as_layers(PixelAttention(8, 2), TorchPixelAttention(8, 2), [X], dtype)


def test_a_dit_block_is_pytorchs(dtype):
    agree_as_layers(DiTBlock(6, 2), TorchDiTBlock(6, 2), [Z, E], dtype)
