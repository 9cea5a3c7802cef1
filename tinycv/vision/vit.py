"""Vision Transformer: an image is cut into patches, and the patches are read like the words of a
sentence.

    z_0  = [x_class; x_1 E; x_2 E; ...; x_N E] + E_pos               Dosovitskiy et al. 2021, eq. 1
    z'_l = MSA(LN(z_{l-1})) + z_{l-1}                                eq. 2
    z_l  = MLP(LN(z'_l)) + z'_l                                      eq. 3
    y    = LN(z_L^0)                                                 eq. 4

The steps, as the lecture names them: cut into patches, flatten, project linearly, put CLS in front,
add positions, pass the encoders, and read the class off C0, the place where CLS came out: it alone
has looked at everything for this. (Or off the mean of all patches, without a CLS that asks: ibid.,
appendix D.3.) The first three steps may be replaced by a convolutional stem (stem.py), which helps
if images are few.

Read before: sequence/attention.py, sequence/transformer.py, stem.py.
See at work: demos/06_vit.py, and demos/07_vit_maps.py.
Shapes: B images, C channels, P patch side, N = (H / P) (W / P) patches, D width.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinycv.data.inputs import whole
from tinycv.engine.arguments import choice, number, shown, size, sizes
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import expand
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn import init
from tinycv.nn.checks import MOST_LAYERS
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.sequence.transformer import TransformerEncoderLayer
from tinycv.vision import inputs
from tinycv.vision.stem import ConvStem


def patchify(images: ArrayLike, patch_size: int) -> Tensor:
    """Cut images (B, C, H, W) into patches and flatten each: (B, N, C P P), row by row from the top
    left.

    A patch is flattened in the order channel, row, column, as the weights of a convolution of
    stride P are.
    """
    x = inputs.array_like(images, "patchify: images", "images (B, C, H, W)", 4)
    p = size(patch_size, "patchify: patch_size", 1)
    b, c, h, w = x.shape
    if h % p or w % p:
        raise ValueError(
            f"patchify: an image of {h} x {w} does not divide into patches of {p} x {p}: resize or "
            f"pad it to multiples of {p}, or choose another patch_size"
        )
    cut = x.reshape((b, c, h // p, p, w // p, p))  # (B, C, H/P, P, W/P, P)
    return cut.transpose((0, 2, 4, 1, 3, 5)).reshape((b, (h // p) * (w // p), c * p * p))


def unpatchify(patches: ArrayLike, patch_size: int, shape: tuple) -> Tensor:
    """The way back: patches (B, N, C P P), as ``patchify`` cuts them, to images of ``shape``, (B,
    C, H, W)."""
    x = inputs.array_like(patches, "unpatchify: patches", "patches (B, N, C P P)", 3)
    b, c, h, w = sizes(shape, "unpatchify: shape", 4)
    p = size(patch_size, "unpatchify: patch_size", 1)
    if h % p or w % p or tuple(x.shape) != (b, (h // p) * (w // p), c * p * p):
        raise ValueError(
            f"unpatchify: patches of shape {tuple(x.shape)} do not fill images of shape "
            f"{(b, c, h, w)} with patch_size {p}; patchify cuts these into (B, N, C P P)"
        )
    cut = x.reshape((b, h // p, w // p, c, p, p))  # (B, H/P, W/P, C, P, P)
    return cut.transpose((0, 3, 1, 4, 2, 5)).reshape((b, c, h, w))


class ViT(Module):
    """Images (B, C, H, W) to class scores (B, num_classes).

    image_size, patch_size: sides in pixels. dim D, depth (number of encoder blocks), heads, mlp_dim
    (4 D as in the paper where left out), dropout after each branch. Blocks are pre-norm with GELU,
    as in the paper.
    pool: what the class is read off, "cls" for C0, or "mean" for the mean of the patches' places;
    CLS is there in both.
    layer_norm_eps: the ε of every norm; those who trained the weights you load chose it.
    stem: the widths of the n convolutions of a ConvStem, which makes the tokens in place of the
    patch projection; patch_size must then be 2^n, and image_size / patch_size is rounded up.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        num_classes: int,
        channels: int = 1,
        dim: int = 64,
        depth: int = 4,
        heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        pool: str = "cls",
        layer_norm_eps: float = 1e-5,
        stem: Iterable[int] | None = None,
    ):
        image_size = whole(image_size, "ViT: image_size", 1)
        patch_size = whole(patch_size, "ViT: patch_size", 1)
        num_classes = whole(num_classes, "ViT: num_classes", 1)
        channels = whole(channels, "ViT: channels", 1)
        dim, depth = whole(dim, "ViT: dim", 1), whole(depth, "ViT: depth", 1, MOST_LAYERS)
        heads = whole(heads, "ViT: heads", 1)
        mlp_dim = 4 * dim if mlp_dim is None else whole(mlp_dim, "ViT: mlp_dim", 1)
        dropout = number(dropout, "ViT: dropout", 0, 1)
        layer_norm_eps = number(layer_norm_eps, "ViT: layer_norm_eps", 0, 1)
        if dim % heads:
            raise ValueError(
                f"ViT: dim {shown(dim)} does not divide among {shown(heads)} heads: {dim % heads} "
                "numbers would be left over"
            )
        widths = None if stem is None else sizes(stem, "ViT: stem", least=1)
        _check_sides(image_size, patch_size, widths)
        choice(pool, "ViT: pool", ("cls", "mean"))
        count = (-(-image_size // patch_size)) ** 2  # rounded up, as a stem does
        self.image_size, self.patch_size = image_size, patch_size
        self.channels, self.pool = channels, pool
        self.has_stem = widths is not None
        self.patch_embed: ConvStem | Linear
        if widths is None:
            self.patch_embed = Linear(channels * patch_size**2, dim)
        else:
            self.patch_embed = ConvStem(channels, widths, dim)
        self.cls_token = init.trunc_normal((1, 1, dim))
        self.pos_embed = init.trunc_normal((1, count + 1, dim))
        self.blocks = [
            TransformerEncoderLayer(dim, heads, mlp_dim, dropout, "gelu", True, layer_norm_eps)
            for _ in range(depth)
        ]
        self.norm = LayerNorm(dim, layer_norm_eps)
        self.head = Linear(dim, num_classes)

    def forward(self, images: ArrayLike) -> Tensor:
        """images (B, C, H, W). Returns the scores (B, num_classes); softmax makes them
        probabilities."""
        x = self.tokens(images)
        # of (B, D)
        return self.head(x[:, 0] if self.pool == "cls" else x[:, 1:].mean(axis=1))

    def tokens(self, images: ArrayLike) -> Tensor:
        """What every place holds after the last block: (B, N + 1, D), CLS first."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)  # (B, N + 1, D)
        return self.norm(x)

    def embed(self, images: ArrayLike) -> Tensor:
        """Patches, projected, with CLS in front and positions added: (B, N + 1, D)."""
        x = inputs.images(images, "ViT", (self.channels, self.image_size, self.image_size))
        x = x if self.has_stem else patchify(x, self.patch_size)
        x = self.patch_embed(x)  # (B, N, D)
        cls = expand(self.cls_token, (x.shape[0], 1, x.shape[2]))  # (B, 1, D)
        return concatenate([cls, x], axis=1) + self.pos_embed  # (B, N + 1, D)

    def attention_maps(self, images: ArrayLike) -> list[Tensor]:
        """Where each token looks, block by block: a list of (B, heads, N + 1, N + 1). Row 0 is
        CLS."""
        x, maps = self.embed(images), []
        for block in self.blocks:
            maps.append(block.self_attn.weights(block.norm1(x)))
            x = block(x)
        return maps


def _check_sides(image_size: int, patch_size: int, widths: tuple | None) -> None:
    """Patches fill the image; a stem of n convolutions halves it n times, and may round up."""
    if widths is not None and 2 ** len(widths) != patch_size:
        raise ValueError(
            f"ViT: patch_size is {shown(patch_size)}, and stem={widths} halves the image "
            f"{len(widths)} times; patch_size must then be {2 ** len(widths)}"
        )
    if widths is None and image_size % patch_size:
        raise ValueError(
            f"ViT: image_size {shown(image_size)} does not divide into patches of patch_size "
            f"{patch_size}: {image_size % patch_size} pixels would be left over"
        )
