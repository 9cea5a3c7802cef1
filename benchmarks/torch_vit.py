"""The ViT of tinycv/vision/vit.py, built from PyTorch's layers with the same parameter names."""

from __future__ import annotations

import torch


class TorchViT(torch.nn.Module):
    """Images (B, 1, S, S) to scores (B, classes)."""

    def __init__(
        self, image: int, patch: int, classes: int, dim: int = 64, depth: int = 4, heads: int = 4
    ):
        super().__init__()
        self.patch = patch
        self.patch_embed = torch.nn.Linear(patch * patch, dim)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, dim))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, 0.0, "gelu", norm_first=True, batch_first=True
            )
            for _ in range(depth)
        )
        self.norm = torch.nn.LayerNorm(dim)
        self.head = torch.nn.Linear(dim, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        b, _, side, _ = images.shape
        p, n = self.patch, side // self.patch
        # (B, N, P P)
        patches = images.reshape(b, n, p, n, p).transpose(2, 3).reshape(b, n * n, p * p)
        x = (
            torch.cat([self.cls_token.expand(b, -1, -1), self.patch_embed(patches)], 1)
            + self.pos_embed
        )
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
