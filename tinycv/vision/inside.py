"""Inside a ViT: where it looks, what it has learned of places, what it first looks for, and whether
that matters.

    attention rollout    R = A_L A_{L-1} ... A_1              Abnar & Zuidema 2020, eq. 1, section 3
                         A_l = 1/2 (mean of the heads' maps of block l) + 1/2 I
    attention distance   mean distance of what a query looks at, in pixels
                                                               Dosovitskiy et al. 2021, fig. 7 right
    position similarity  cosine of the position embeddings of two patches       ibid., fig. 7 middle
    patch filters        principal components of the patch projection           ibid., fig. 7 left
    deletion             paint the patches over, those that should matter most first
                                                               Petsiuk et al. 2018 (RISE)

A map of one block says where its tokens look, but after block 1 a token holds more than its own
patch: rollout follows what flowed where.  The I is the residual path, by which a token keeps what
it has.  A picture proves nothing, so there is deletion: if the patches that are pointed at are the
ones that matter, the answer goes first when they go first.

Maps are those of the weights that run: ViT.attention_maps.  What comes back is for pictures: NumPy
arrays, on the host.
Read before: vit.py.   See at work: demos/07_vit_maps.py.
Shapes: B images, L blocks, H heads, g patches a side, N = g² patches, T = N + 1 tokens with CLS
first, P patch side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinycv.data import inputs as given
from tinycv.engine.arguments import number, shown
from tinycv.engine.create import eye
from tinycv.engine.tensor import ArrayLike
from tinycv.vision import inputs
from tinycv.vision.stem import ConvStem
from tinycv.vision.vit import ViT

# on a side, whose squared number of distances fits a memory
MOST_PATCHES = 256

# ── where it looks ───────────────────────────────────────────────────────────────────────────────


def attention_rollout(maps: Sequence[ArrayLike]) -> np.ndarray:
    """How much of each token at the start is in each token at the end: (B, T, T), every row sums to
    1.

    maps: of each block, first to last, Tensors (B, H, T, T); those of the first l blocks tell what
    came after block l.
    """
    maps = inputs.maps(maps, "attention_rollout")
    keep = eye(maps[0].shape[-1], maps[0].dtype, maps[0].device)
    rolled = keep
    for attention in maps:
        rolled = (0.5 * attention.mean(axis=1) + 0.5 * keep) @ rolled  # (B, T, T)
    return rolled.numpy()


def patch_rollout(model: ViT, images: ArrayLike) -> np.ndarray:
    """How much each patch went into what the class is read off, CLS or the mean: (B, N), every row
    sums to 1."""
    inputs.model(model, "patch_rollout: model", ViT)
    rolled = attention_rollout(model.attention_maps(images))
    read = rolled[:, 0, 1:] if model.pool == "cls" else rolled[:, 1:, 1:].mean(axis=1)  # (B, N)
    return read / read.sum(axis=1, keepdims=True)


def cls_attention(maps: Sequence[ArrayLike]) -> np.ndarray:
    """What CLS asks, block by block and head by head: (L, B, H, T). Place 0 is what it has of
    itself."""
    return np.stack(
        [attention[:, :, 0].numpy() for attention in inputs.maps(maps, "cls_attention")]
    )


def attention_distance(maps: Sequence[ArrayLike], patch_size: int) -> np.ndarray:
    """How far each head looks, in pixels, a mean over all patches and images: (L, H). CLS has no
    place and is left out.

    So is a patch that looks at CLS alone. NaN stands for a head in which all patches do.
    """
    maps = inputs.maps(maps, "attention_distance")
    patch_size = given.whole(patch_size, "attention_distance: patch_size", 1)
    side = inputs.side_of(maps[0].shape[-1] - 1, "attention_distance: maps")
    between = patch_size * patch_distance(side)  # (N, N)
    # (B, H, N, N)
    among = (attention[:, :, 1:, 1:].numpy() for attention in maps)
    return np.stack([_mean_distance(a, between) for a in among])


def _mean_distance(attention: np.ndarray, between: np.ndarray) -> np.ndarray:
    """The mean of ``between`` (N, N) under attention (B, H, N, N), over images and queries that
    look at a patch: (H,)."""
    # (B, H, N)
    seen = attention.sum(-1)
    # NaN stays, and is seen
    looks = seen != 0
    far = np.where(looks, (attention * between).sum(-1), 0) / np.where(looks, seen, 1)
    count = looks.sum(axis=(0, 2))
    return np.where(count > 0, far.sum(axis=(0, 2)) / np.maximum(count, 1), np.nan)


# ── what it has learned ──────────────────────────────────────────────────────────────────────────


def patch_distance(side: int) -> np.ndarray:
    """Between the centres of side x side patches, in patches: (N, N)."""
    side = given.whole(side, "patch_distance: side", 1, MOST_PATCHES)
    # (N, 2): row, column
    place = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    return np.sqrt(((place[:, None] - place) ** 2).sum(axis=-1))


def position_similarity(model: ViT) -> np.ndarray:
    """Cosine of the position embeddings of every two patches: (N, N), 1 on the diagonal."""
    inputs.model(model, "position_similarity: model", ViT)
    e = model.pos_embed.numpy()[0, 1:]  # (N, D)
    e = e / np.linalg.norm(e, axis=1, keepdims=True)
    return e @ e.T


def nearness_learned(model: ViT) -> float:
    """Spearman's rho of position similarity with minus the patches' distance, over all pairs: 1
    where near is alike."""
    similarity = position_similarity(inputs.model(model, "nearness_learned: model", ViT))
    pairs = np.triu_indices(len(similarity), k=1)
    return spearman(similarity[pairs], -patch_distance(model.image_size // model.patch_size)[pairs])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of a (n,) with b (n,): Pearson's of their ranks, where equals share the mean
    of theirs.

    ValueError for NaN, which has no rank. The result is NaN where all of a, or all of b, are equal.
    """
    a, b = (
        given.array(v, f"spearman: {name}", "numbers (n,)", ndim=1)
        for name, v in (("a", a), ("b", b))
    )
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"spearman: a has {len(a)} numbers and b has {len(b)}; they must be as many, at least 2"
        )
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("spearman: a or b holds NaN, which has no rank")
    if (a == a[0]).all() or (b == b[0]).all():
        return math.nan
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(a: np.ndarray) -> np.ndarray:
    """Ranks from 1 (n,); equals share the mean of theirs."""
    _, group, size = np.unique(a, return_inverse=True, return_counts=True)
    return (np.cumsum(size) - (size - 1) / 2)[group]


def patch_filters(model: ViT, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the D filters by which patches are projected, the first principal components, and their
    share of the variance.

    Returns (count, C, P, P), each of length 1, and (count,).
    """
    inputs.model(model, "patch_filters: model", ViT)
    count = given.whole(count, "patch_filters: count")
    if isinstance(model.patch_embed, ConvStem):
        raise ValueError(
            "patch_filters: the model has a convolutional stem, and so no filters of a "
            "whole patch; build it without stem"
        )
    # (D, C P P)
    weight = model.patch_embed.weight.numpy()
    if not 0 < count <= min(weight.shape):
        raise ValueError(
            f"patch_filters: {count} components of weights {weight.shape}; there are "
            f"{min(weight.shape)}"
        )
    _, spread, components = np.linalg.svd(weight - weight.mean(axis=0), full_matrices=False)
    shape = count, model.channels, model.patch_size, model.patch_size
    return components[:count].reshape(shape), (spread**2 / (spread**2).sum())[:count]


# ── whether it matters ───────────────────────────────────────────────────────────────────────────


def enrichment(mass: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How much denser mass lies where the mask is True than over the image: (B,); 1 if it is spread
    evenly.

    mass (B, N) >= 0, spread evenly within each patch; mask (B, H, W) bool.
    """
    mass = given.array(mass, "enrichment: mass", "numbers (B, N)", ndim=2)
    mask = given.array(mask, "enrichment: mask", "True and False (B, H, W)", "biu", ndim=3) != 0
    side = inputs.side_of(mass.shape[1], "enrichment: mass")
    if len(mask) != len(mass) or any(n % side or not n for n in mask.shape[1:]):
        raise ValueError(
            f"enrichment: a mask of shape {mask.shape} does not divide into the patches of mass "
            f"{mass.shape}"
        )
    if mass.size and not (
        mass.min() >= 0 and np.isfinite(mass).all() and (mass.sum(axis=1) > 0).all()
    ):
        raise ValueError(
            "enrichment: mass must be at least 0 and finite, and more than 0 somewhere in each "
            "image"
        )
    empty = np.flatnonzero(~mask.any(axis=(1, 2)))
    if len(empty):
        raise ValueError(
            f"enrichment: the mask is empty in images {empty[:8].tolist()}: nothing can lie there"
        )
    height, width = (n // side for n in mask.shape[1:])
    # (B, N)
    inside = (
        mask.reshape((len(mask), side, height, side, width)).mean(axis=(2, 4)).reshape(mass.shape)
    )
    return (mass * inside).sum(axis=1) / mass.sum(axis=1) / inside.mean(axis=1)


def deletion_curve(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    fill: float = 0.0,
) -> np.ndarray:
    """The mean chance that is given to the labels after 0, 1, ... N patches were painted over with
    ``fill``: (N + 1,).

    predict: images (B, C, H, W) to probabilities (B, K). order (B, N): the patches of each image,
    first to go first. The lower the mean of the curve, the sooner the order takes away what the
    answer stands on.
    """
    if not callable(predict):
        raise TypeError(
            f"deletion_curve: predict is {shown(predict)}; it must be a function of images"
        )
    images = given.images(images, "deletion_curve: images", floats=True)
    labels = given.class_numbers(labels, "deletion_curve: labels", count=len(images))
    order = given.array(order, "deletion_curve: order", "whole numbers (B, N)", "iu", ndim=2)
    fill = number(fill, "deletion_curve: fill")
    side = inputs.side_of(order.shape[1], "deletion_curve: order")
    if len(order) != len(images) or not len(order) or any(n % side for n in images.shape[2:]):
        raise ValueError(
            f"deletion_curve: order of shape {order.shape} does not number the patches of images "
            f"of shape {images.shape}"
        )
    if (np.sort(order, axis=1) != np.arange(side**2)).any():
        raise ValueError(
            f"deletion_curve: order of shape {order.shape}: every row must hold the numbers of all "
            "patches, a square number"
        )
    # when each patch goes
    turn = np.argsort(order, axis=1).reshape((-1, 1, side, side))
    # (B, 1, H, W)
    turn = turn.repeat(images.shape[2] // side, axis=2).repeat(images.shape[3] // side, axis=3)
    chances = (
        predict(np.where(turn < gone, images.dtype.type(fill), images))
        for gone in range(side**2 + 1)
    )
    return np.array([_chance_of(labels, chance).mean() for chance in chances])


def _chance_of(labels: np.ndarray, chances: ArrayLike) -> np.ndarray:
    """Of probabilities (B, K), those of the labels: (B,). IndexError for a label that is no
    class."""
    chances = given.array(
        chances, "deletion_curve: what predict returns", "probabilities (B, K)", "f", ndim=2
    )
    if len(chances) != len(labels):
        raise ValueError(
            f"deletion_curve: predict returned {chances.shape}; it must be (B, K), for "
            f"{len(labels)} images"
        )
    given.class_numbers(labels, "deletion_curve: labels", chances.shape[1])
    return chances[np.arange(len(labels)), labels]
