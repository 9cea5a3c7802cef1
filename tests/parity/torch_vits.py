"""The ViTs of timm, torchvision and Hugging Face, built from PyTorch layers with the parameter
names, orders and epsilons of each library.

Written after timm/models/vision_transformer.py, torchvision/models/vision_transformer.py and
transformers/models/vit/modeling_vit.py. All three are the same network, with its layers nested and
named differently.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention


class Box(nn.Module):
    """Named submodules, without a forward."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def attend(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def cut(projection, images):
    return projection(images).flatten(2).transpose(1, 2)  # (B, N, D)


def with_cls(cls, x):
    return torch.cat([cls.expand(len(x), -1, -1), x], dim=1)


class TimmBlock(nn.Module):
    def __init__(self, dim, heads, mlp, eps):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps)
        self.attn = Box(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim))
        self.norm2 = nn.LayerNorm(dim, eps)
        self.mlp = Box(fc1=nn.Linear(dim, mlp), fc2=nn.Linear(mlp, dim))

    def forward(self, x):
        x = x + self.attn.proj(attend(*self.attn.qkv(self.norm1(x)).chunk(3, -1), self.heads))
        return x + self.mlp.fc2(gelu(self.mlp.fc1(self.norm2(x))))


class Timm(nn.Module):
    def __init__(self, image, patch, channels, dim, depth, heads, mlp, classes, eps=1e-6):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, dim))
        self.patch_embed = Box(proj=nn.Conv2d(channels, dim, patch, patch))
        self.blocks = nn.Sequential(*[TimmBlock(dim, heads, mlp, eps) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps)
        self.head = nn.Linear(dim, classes)

    def forward(self, images):
        x = with_cls(self.cls_token, cut(self.patch_embed.proj, images)) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class TorchvisionBlock(nn.Module):
    def __init__(self, dim, heads, mlp, eps):
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps)
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim, eps)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp), nn.GELU(), nn.Dropout(0), nn.Linear(mlp, dim), nn.Dropout(0)
        )

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Torchvision(nn.Module):
    def __init__(self, image, patch, channels, dim, depth, heads, mlp, classes, eps=1e-6):
        super().__init__()
        blocks = OrderedDict(
            (f"encoder_layer_{i}", TorchvisionBlock(dim, heads, mlp, eps)) for i in range(depth)
        )
        self.conv_proj = nn.Conv2d(channels, dim, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.encoder = Box(
            pos_embedding=nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, dim)),
            layers=nn.Sequential(blocks),
            ln=nn.LayerNorm(dim, eps),
        )
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(dim, classes)))

    def forward(self, images):
        x = with_cls(self.class_token, cut(self.conv_proj, images)) + self.encoder.pos_embedding
        return self.heads(self.encoder.ln(self.encoder.layers(x))[:, 0])


class HuggingFaceLayer(nn.Module):
    def __init__(self, dim, heads, mlp, eps):
        super().__init__()
        self.heads = heads
        self.attention = Box(
            attention=Box(
                query=nn.Linear(dim, dim), key=nn.Linear(dim, dim), value=nn.Linear(dim, dim)
            ),
            output=Box(dense=nn.Linear(dim, dim)),
        )
        self.intermediate = Box(dense=nn.Linear(dim, mlp))
        self.output = Box(dense=nn.Linear(mlp, dim))
        self.layernorm_before = nn.LayerNorm(dim, eps)
        self.layernorm_after = nn.LayerNorm(dim, eps)

    def forward(self, x):
        attention, y = self.attention.attention, self.layernorm_before(x)
        x = x + self.attention.output.dense(
            attend(attention.query(y), attention.key(y), attention.value(y), self.heads)
        )
        return x + self.output.dense(gelu(self.intermediate.dense(self.layernorm_after(x))))


class HuggingFace(nn.Module):
    def __init__(self, image, patch, channels, dim, depth, heads, mlp, classes, eps=1e-12):
        super().__init__()
        self.patch = patch
        layers = nn.ModuleList(HuggingFaceLayer(dim, heads, mlp, eps) for _ in range(depth))
        self.vit = Box(
            embeddings=Box(
                cls_token=nn.Parameter(torch.zeros(1, 1, dim)),
                position_embeddings=nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, dim)),
                patch_embeddings=Box(projection=nn.Conv2d(channels, dim, patch, patch)),
            ),
            encoder=Box(layer=layers),
            layernorm=nn.LayerNorm(dim, eps),
        )
        self.classifier = nn.Linear(dim, classes)

    def forward(self, images):
        there = self.vit.embeddings
        x = with_cls(
            there.cls_token, cut(there.patch_embeddings.projection, images)
        ) + self.positions(images.shape[-1])
        for layer in self.vit.encoder.layer:
            x = layer(x)
        return self.classifier(self.vit.layernorm(x)[:, 0])

    def positions(self, image):
        """As with interpolate_pos_encoding=True: for images of another size than in training."""
        known = self.vit.embeddings.position_embeddings
        side = int((known.shape[1] - 1) ** 0.5)
        grid = known[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        grid = interpolate(
            grid, size=(image // self.patch,) * 2, mode="bicubic", align_corners=False
        )
        return torch.cat([known[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


TWINS = {"timm": Timm, "torchvision": Torchvision, "huggingface": HuggingFace}
SMALL = {
    "image": 24,
    "patch": 4,
    "channels": 3,
    "dim": 16,
    "depth": 3,
    "heads": 2,
    "mlp": 24,
    "classes": 5,
}
small = {layout: partial(twin, **SMALL) for layout, twin in TWINS.items()}
