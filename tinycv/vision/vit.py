"""Vision Transformer (ViT): an image is cut into patches, and a Transformer encoder reads them like
the words of a sentence.

    z_0  = [x_class; x_1 E; x_2 E; ...; x_N E] + E_pos               Dosovitskiy et al. 2021, eq. 1
    z'_l = MSA(LN(z_{l-1})) + z_{l-1}                                eq. 2
    z_l  = MLP(LN(z'_l)) + z'_l                                      eq. 3
    y    = LN(z_L^0)                                                 eq. 4

The steps, as the lecture names them: cut into patches, flatten, project linearly, prepend CLS, add
positions, pass the encoder blocks, and read the class from C0, the output at the position of CLS.
CLS stands for no patch: it learns to collect from all patches what the class depends on.  (The
class can also be read from the mean of all patch outputs: ibid., appendix D.3.)  The first three
steps can be replaced by a convolutional stem (stem.py), which helps if there are few images.

differs from the lecture: the model returns scores (logits) of the classes; their softmax is in the
cross-entropy loss.
differs from the lecture: CLS is prepended before positions are added, so CLS has a position too.

Read first: sequence/attention.py, sequence/transformer.py.   Read next: inside.py.
Demos: demos/06_vit.py, demos/07_vit_maps.py.
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
    """Cut images (B, C, H, W) into patches and flatten each patch: (B, N, C P P). The patches are
    ordered row by row from the top left.

    A patch is flattened in the order channel, row, column, like the weights of a convolution of
    stride P.
    """
    x = inputs.array_like(images, "patchify: images", "images (B, C, H, W)", 4)
    p = size(patch_size, "patchify: patch_size", 1)
    b, c, h, w = x.shape
    if h % p or w % p:
        raise ValueError(
            f"patchify: an image of {h} x {w} cannot be divided into patches of {p} x {p}: resize "
            f"or pad it to multiples of {p}, or choose another patch_size"
        )
    cut = x.reshape((b, c, h // p, p, w // p, p))  # (B, C, H/P, P, W/P, P)
    return cut.transpose((0, 2, 4, 1, 3, 5)).reshape((b, (h // p) * (w // p), c * p * p))


def unpatchify(patches: ArrayLike, patch_size: int, shape: tuple) -> Tensor:
    """The inverse of ``patchify``: patches (B, N, C P P) to images of ``shape``, (B, C, H, W)."""
    x = inputs.array_like(patches, "unpatchify: patches", "patches (B, N, C P P)", 3)
    b, c, h, w = sizes(shape, "unpatchify: shape", 4)
    p = size(patch_size, "unpatchify: patch_size", 1)
    if h % p or w % p or tuple(x.shape) != (b, (h // p) * (w // p), c * p * p):
        raise ValueError(
            f"unpatchify: patches of shape {tuple(x.shape)} do not fill images of shape "
            f"{(b, c, h, w)} with patch_size {p}; they must be (B, N, C P P), as patchify returns"
        )
    cut = x.reshape((b, h // p, w // p, c, p, p))  # (B, H/P, W/P, C, P, P)
    return cut.transpose((0, 3, 1, 4, 2, 5)).reshape((b, c, h, w))


class ViT(Module):
    """Takes images (B, C, H, W) and returns class scores (B, num_classes).

    image_size, patch_size: sides in pixels. dim: D. depth: number of encoder blocks. mlp_dim: 4 D
    by default, as in the paper. The blocks are pre-norm with GELU, as in the paper.
    dropout: applied to the output of each branch and to the hidden units of each MLP.
    differs: the paper also applies dropout after the positions are added.
    pool: what the class is read from, "cls" for C0, or "mean" for the mean of the patch outputs.
    The CLS token exists in both cases.
    layer_norm_eps: the ε of every norm. For pretrained weights, use the value they were trained
    with.
    stem: the widths of the n convolutions of a ConvStem, which replaces the patch projection. Then
    patch_size must be 2^n, and image_size / patch_size is rounded up.
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
                f"ViT: dim {shown(dim)} must be divisible by heads {shown(heads)}, but the "
                f"remainder is {dim % heads}"
            )
        widths = None if stem is None else sizes(stem, "ViT: stem", least=1)
        _check_sides(image_size, patch_size, widths)
        choice(pool, "ViT: pool", ("cls", "mean"))
        patches_per_side = -(-image_size // patch_size)  # rounded up, as a stem does
        count = patches_per_side**2
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
        """images (B, C, H, W). Returns the scores (B, num_classes); their softmax is the
        probabilities."""
        x = self.tokens(images)
        features = x[:, 0] if self.pool == "cls" else x[:, 1:].mean(axis=1)  # (B, D)
        return self.head(features)

    def tokens(self, images: ArrayLike) -> Tensor:
        """The tokens after the last block and the last norm: (B, N + 1, D), CLS first."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)  # (B, N + 1, D)
        return self.norm(x)

    def embed(self, images: ArrayLike) -> Tensor:
        """The input of the first block: projected patches, with CLS prepended and positions added:
        (B, N + 1, D)."""
        x = inputs.images(images, "ViT", (self.channels, self.image_size, self.image_size))
        x = x if self.has_stem else patchify(x, self.patch_size)
        x = self.patch_embed(x)  # (B, N, D)
        cls = expand(self.cls_token, (x.shape[0], 1, x.shape[2]))  # (B, 1, D)
        return concatenate([cls, x], axis=1) + self.pos_embed  # (B, N + 1, D)

    def attention_maps(self, images: ArrayLike) -> list[Tensor]:
        """The attention weights of each block: a list of (B, heads, N + 1, N + 1). In row 0, CLS is
        the query."""
        x, maps = self.embed(images), []
        for block in self.blocks:
            maps.append(block.self_attn.weights(block.norm1(x)))
            x = block(x)
        return maps


def _check_sides(image_size: int, patch_size: int, widths: tuple | None) -> None:
    """Raises ValueError unless the patches fill the image. A stem of n convolutions halves the
    sides n times and rounds up, so then only patch_size = 2^n is checked."""
    if widths is not None and 2 ** len(widths) != patch_size:
        raise ValueError(
            f"ViT: patch_size is {shown(patch_size)}, and stem={widths} halves the image "
            f"{len(widths)} times; patch_size must then be {2 ** len(widths)}"
        )
    if widths is None and image_size % patch_size:
        raise ValueError(
            f"ViT: image_size {shown(image_size)} must be divisible by patch_size {patch_size}, "
            f"but {image_size % patch_size} pixels would be left over"
        )
