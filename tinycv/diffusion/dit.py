"""DiT: a Transformer over patches as denoiser. The time and the label set the scale of every norm.

    (β_1, γ_1, α_1, β_2, γ_2, α_2) = W s(e) + b          adaLN-Zero: Peebles & Xie 2023, section 3.2
    z = z + α_1 MSA((1 + γ_1) LN(z) + β_1)                                                  figure 3
    z = z + α_2 MLP((1 + γ_2) LN(z) + β_2)

e is the embedding of the time and of the label, s is SiLU.  W and b start at 0, so that every block
starts as the identity, and a deep stack trains from the first step.  LN has no scale and no shift
of its own: e gives both.

The image goes in as ViT's do, patch by patch with positions; what comes out is a patch for each
token.
differs: positions are learned, as ViT's (the paper's are fixed sines).

Read before: vision/vit.py, embedding.py.   See at work: tests/diffusion/test_unet_and_dit.py.
Shapes: B images, C channels, P patch side, N patches, D width.
"""

from __future__ import annotations

from tinycv.diffusion.embedding import Labels, TimeAndLabel, check_told
from tinycv.engine.arguments import size
from tinycv.engine.methods import split
from tinycv.engine.tensor import Tensor
from tinycv.nn import init
from tinycv.nn.activation import gelu, silu
from tinycv.nn.inputs import Examples, batch, depth_of, reals, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.norm import layer_norm
from tinycv.sequence.attention import MultiheadAttention
from tinycv.vision.vit import patchify, unpatchify


class DiTBlock(Module):
    """An encoder block whose norms and branches are scaled by an embedding e (B, D), through
    adaLN-Zero."""

    def __init__(self, dim: int, heads: int):
        dim, heads = whole("DiTBlock", 1, dim=dim, heads=heads)
        if dim % heads:
            raise ValueError(
                f"DiTBlock: dim is {dim} and heads {heads}; dim must divide evenly among the heads"
            )
        self.modulation = zero_linear(dim, 6 * dim)
        self.attention = MultiheadAttention(dim, heads)
        self.linear1, self.linear2 = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """z (B, N, D), e (B, D) after its SiLU. Returns (B, N, D)."""
        parts = self.modulation(e)[:, None]  # (B, 1, 6 D)
        # (B, 1, D) each
        shift1, scale1, gate1, shift2, scale2, gate2 = split(parts, 6, axis=-1)
        z = z + gate1 * self.attention(modulated(z, shift1, scale1))
        return z + gate2 * self.linear2(gelu(self.linear1(modulated(z, shift2, scale2)), "tanh"))


def modulated(z: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + γ) LN(z) + β."""
    reals("modulated", z=batch(z, "modulated: z"), shift=shift, scale=scale)
    return layer_norm(z, eps=1e-6) * (1 + scale) + shift


def zero_linear(inputs: int, outputs: int) -> Linear:
    """A Linear that starts as 0."""
    inputs, outputs = whole("zero_linear", 1, inputs=inputs, outputs=outputs)
    layer = Linear(inputs, outputs)
    layer.weight, layer.bias = init.zeros((outputs, inputs)), init.zeros((outputs,))
    return layer


class DiT(Module):
    """Noised images (B, C, H, W), their times (B,) and labels (B,) to what was asked for: "eps",
    "x0" or "v".

    image_size, patch_size: sides in pixels. dim D, depth (number of blocks), heads. num_classes: 0
    for no labels.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        channels: int = 1,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
        num_classes: int = 0,
    ):
        image_size, patch_size, channels, dim, heads = whole(
            "DiT",
            1,
            image_size=image_size,
            patch_size=patch_size,
            channels=channels,
            dim=dim,
            heads=heads,
        )
        depth, num_classes = depth_of(depth, "DiT", 0), size(num_classes, "DiT: num_classes")
        if dim % heads:
            raise ValueError(
                f"DiT: dim is {dim} and heads {heads}; dim must divide evenly among the heads"
            )
        if image_size % patch_size:
            raise ValueError(
                f"DiT: image_size {image_size} does not divide into patches of patch_size "
                f"{patch_size}"
            )
        self.channels, self.image_size, self.patch_size = channels, image_size, patch_size
        patch = channels * patch_size**2
        self.embed = TimeAndLabel(dim, num_classes)
        self.patch_embed = Linear(patch, dim)
        self.pos_embed = init.trunc_normal((1, (image_size // patch_size) ** 2, dim))
        self.blocks = [DiTBlock(dim, heads) for _ in range(depth)]
        self.modulation = zero_linear(dim, 2 * dim)
        self.head = zero_linear(dim, patch)

    def forward(self, x: Examples, t: Examples, label: Labels | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), label (B,) or None for "nobody said". Returns (B, C, H, W)."""
        takes = self.channels, self.image_size, self.image_size
        if tuple(batch(x, "DiT: x", 4).shape[1:]) != takes:
            raise ValueError(
                f"DiT: images of shape {x.shape}; this DiT takes {self.image_size} x "
                f"{self.image_size} pixels in {self.channels} channels"
            )
        check_told("DiT", x, t, label, self.embed.num_classes)
        e = silu(self.embed(t, label))  # (B, D)
        z = self.patch_embed(patchify(x, self.patch_size)) + self.pos_embed  # (B, N, D)
        for block in self.blocks:
            z = block(z, e)
        shift, scale = split(self.modulation(e)[:, None], 2, axis=-1)
        return unpatchify(self.head(modulated(z, shift, scale)), self.patch_size, x.shape)
