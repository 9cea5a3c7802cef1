"""CLIP: an image encoder and a text encoder with one shared space, and reranking of samples by it.

    u = unit(W_I ConvNet(image)),   v = unit(W_T TextEncoder(text))   Radford et al. 2021, figure 3
    score(image, text) = u · v, a cosine                  trained by nn/contrastive.py

W_I and W_T are linear maps, and unit(x) = x / |x|.  CLIP learns from pairs alone how well an image
fits a text: nobody labels shapes or colours.  DALL-E 1 drew 512 images for a text and kept those
with the best scores (Ramesh et al. 2021, section 2.6).

What reranking can gain.  Let each of N samples be right with probability p, independently.  At
least one of them is right with probability 1 - (1 - p)^N, and no ranker can choose a right image
if there is none:

    share right after choosing 1 of N  ≤  mean over texts of 1 - (1 - p_text)^N    perfect ranker

The mean is over texts, because reranking gains nothing for a text that the model never draws right.
It is at most 1 - (1 - mean p)^N, since this function of p is concave.  A ranker that shares the
errors of the generator prefers its wrong images, and can even do worse than a random choice.

differs: the image encoder is a small convolutional network; CLIP has a ResNet or a ViT.  The text
vector is the mean of the tokens; CLIP uses the token of EOS.

Read first: convnet.py, sequence/text_encoder.py, nn/contrastive.py.
Shapes: B images or texts, T words, E width of the shared space; K images to rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.data.inputs import whole
from tinycv.engine.arguments import number, number_kind, shown, size
from tinycv.engine.create import full
from tinycv.engine.tensor import ArrayLike, Parameter, Tensor, bare, no_grad
from tinycv.nn.contrastive import FIRST_SCALE, contrastive_loss, normalize
from tinycv.nn.inputs import is_number, reals, within
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.sequence.inputs import Ids, check_ids, ids_hint
from tinycv.sequence.text_encoder import TextEncoder
from tinycv.vision.convnet import ConvNet


class CLIP(Module):
    """Images (B, C, S, S) and texts, word numbers (B, T), as unit vectors (B, E).

    image_size: S. channels: C. words, length: the size of the vocabulary and the longest text.
    dim, heads, depth: of the text encoder. embed_dim: E. width: of the image encoder's first layer.
    The image encoder has batch norm, so call ``eval()`` before images are compared.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        words: int,
        length: int,
        dim: int = 64,
        heads: int = 4,
        depth: int = 1,
        embed_dim: int = 32,
        width: int = 16,
    ):
        self.embed_dim = whole(embed_dim, "CLIP: embed_dim", 1)
        # The last layer of each encoder is the projection into the shared space.
        self.image_encoder = ConvNet(embed_dim, image_size, channels, width)
        self.text_encoder = TextEncoder(words, length, dim, heads, depth)
        self.text_head = Linear(dim, embed_dim)
        self.log_scale = Parameter(full((), FIRST_SCALE))

    def forward(self, images: ArrayLike, ids: Ids) -> Tensor:
        """The cosine of each image with its own text: (B,)."""
        u, v = self.encode_image(images), self.encode_text(ids)
        if len(u) != len(v):
            raise ValueError(
                f"CLIP: there are {len(u)} images and {len(v)} texts; there must be one text for "
                "each image"
            )
        return (u * v).sum(axis=-1)

    def encode_image(self, images: ArrayLike) -> Tensor:
        """images (B, C, S, S). Returns unit vectors (B, E)."""
        return normalize(self.image_encoder(images))

    def encode_text(self, ids: Ids) -> Tensor:
        """ids (B, T), with T at most ``length``. Returns unit vectors (B, E)."""
        check_ids(ids, "CLIP: ids")
        if ids.shape[1] > self.text_encoder.length:
            raise ValueError(
                f"CLIP: ids has shape {tuple(ids.shape)}; a text must have at most "
                f"{self.text_encoder.length} words"
            )
        pooled = self.text_encoder.pooled(self.text_encoder(ids), ids)  # (B, dim)
        return normalize(self.text_head(pooled))

    def loss(self, images: ArrayLike, ids: Ids, groups: ArrayLike | None = None) -> Tensor:
        """The contrastive loss of B pairs, in nats. groups (B,): equal numbers for pairs that fit
        each other, such as a text and its translation."""
        return contrastive_loss(
            self.encode_image(images), self.encode_text(ids), self.log_scale, groups
        )


def rerank(clip: CLIP, images: ArrayLike, ids: Ids) -> np.ndarray:
    """The order of images (K, C, S, S) by how well they fit one text, ids (T,) or (1, T): the best
    one first, (K,) int64 on the host. images[rerank(...)[0]] is the one to show."""
    if not isinstance(clip, CLIP):
        raise TypeError(f"rerank: clip is {shown(clip)}; it must be a CLIP")
    if clip.training:
        raise ValueError(
            "rerank: clip is in training mode, in which the score of an image depends on the other "
            "images; call clip.eval() first"
        )
    row = bare(ids)
    is_numbers = number_kind(row) in ("i", "u")
    if not is_numbers or tuple(row.shape) not in ((row.size,), (1, row.size)):
        raise ValueError(
            f"rerank: ids is {shown(ids)}; it must be word numbers of one text, (T,) or (1, T), so "
            f"call rerank once for each text{ids_hint(ids)}"
        )
    row = row.reshape(1, -1)
    with no_grad():
        cosines = (clip.encode_image(images) @ clip.encode_text(row)[0]).numpy()  # (K,)
    if np.isnan(cosines).any():
        raise ValueError(
            f"rerank: the score of image {int(np.isnan(cosines).argmax())} is NaN, so there is no "
            "order; images and the weights of clip must be finite"
        )
    return (-cosines).argsort(kind="stable")


def perfect_ranker(p: Any, n: int) -> Any:
    """1 - (1 - p)^n: the probability that at least one of n samples is right, and so the most that
    any choice among n can reach. p: the probability of one sample, a number or one per text."""
    reals("perfect_ranker", p=p)
    if is_number(p):
        p = number(p, "perfect_ranker: p", 0, 1)
    else:
        p = within(p, "perfect_ranker: p", low=0, high=1)
    return 1 - (1 - p) ** size(n, "perfect_ranker: n", 1)
