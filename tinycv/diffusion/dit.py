"""DiT: a Transformer over image patches as the denoiser, conditioned by adaLN-Zero.

    (β_1, γ_1, α_1, β_2, γ_2, α_2) = W SiLU(e) + b       adaLN-Zero: Peebles & Xie 2023, section 3.2
    z = z + α_1 MSA((1 + γ_1) LN(z) + β_1)                                                  figure 3
    z = z + α_2 MLP((1 + γ_2) LN(z) + β_2)

e is the embedding of the time and of the label.  It sets the scale γ and the shift β of every layer
norm LN, which has no parameters, and the gate α of every branch.  (These α and β are the paper's
letters; they have nothing to do with the noise schedule.)  W and b start at 0, so every block
starts as the identity, and a deep stack can be trained from the first step.

As in ViT, the image is cut into patches, each of which becomes a token with a position.  Each
output token becomes a patch again.
differs: positions are learned, as in ViT (in the paper they are fixed sines and cosines).

Read first: vision/vit.py, embedding.py.   See at work: tests/diffusion/test_unet_and_dit.py.
Shapes: B images, C channels, P patch side, N patches, D width.
"""

from __future__ import annotations

from tinycv.diffusion.embedding import Labels, TimeAndLabel, check_time_and_label
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
    """A Transformer encoder block whose norms and branches are scaled by an embedding e (B, D), by
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
        modulation = self.modulation(e)[:, None]  # (B, 1, 6 D)
        # six parts (B, 1, D), in the order of the formula above
        shift1, scale1, gate1, shift2, scale2, gate2 = split(modulation, 6, axis=-1)
        z = z + gate1 * self.attention(modulated(z, shift1, scale1))
        return z + gate2 * self.linear2(gelu(self.linear1(modulated(z, shift2, scale2)), "tanh"))


def modulated(z: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) LN(z) + shift."""
    reals("modulated", z=batch(z, "modulated: z"), shift=shift, scale=scale)
    return layer_norm(z, eps=1e-6) * (1 + scale) + shift


def zero_linear(inputs: int, outputs: int) -> Linear:
    """A Linear whose weight and bias start at 0."""
    inputs, outputs = whole("zero_linear", 1, inputs=inputs, outputs=outputs)
    layer = Linear(inputs, outputs)
    layer.weight, layer.bias = init.zeros((outputs, inputs)), init.zeros((outputs,))
    return layer


class DiT(Module):
    """Predicts ε, x_0 or v (denoising.py) from noised images (B, C, H, W), their times (B,) and
    labels (B,).

    image_size, patch_size: side lengths in pixels. dim: the width D of a token. depth: the number
    of blocks. heads: of each attention. num_classes: 0 for no labels.
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
        """x (B, C, H, W), t (B,), label (B,) or None for "no label". Returns (B, C, H, W)."""
        image_shape = self.channels, self.image_size, self.image_size
        if tuple(batch(x, "DiT: x", 4).shape[1:]) != image_shape:
            raise ValueError(
                f"DiT: x has shape {x.shape}; this network takes images of {self.image_size} x "
                f"{self.image_size} pixels with {self.channels} channels"
            )
        check_time_and_label("DiT", x, t, label, self.embed.num_classes)
        e = silu(self.embed(t, label))  # (B, D)
        z = self.patch_embed(patchify(x, self.patch_size)) + self.pos_embed  # (B, N, D)
        for block in self.blocks:
            z = block(z, e)
        shift, scale = split(self.modulation(e)[:, None], 2, axis=-1)
        return unpatchify(self.head(modulated(z, shift, scale)), self.patch_size, x.shape)
