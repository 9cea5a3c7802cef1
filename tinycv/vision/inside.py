"""Inside a ViT: attention rollout, attention distance, position similarity, patch filters, and the
deletion test of whether the attended patches matter.

    attention rollout    R = A_L A_{L-1} ... A_1              Abnar & Zuidema 2020, eq. 1, section 3
                         A_l = 1/2 (mean of the heads' maps of block l) + 1/2 I
    attention distance   mean distance between a query and what it attends to, in pixels
                                                               Dosovitskiy et al. 2021, fig. 7 right
    position similarity  cosine of the position embeddings of two patches       ibid., fig. 7 middle
    patch filters        principal components of the patch projection           ibid., fig. 7 left
    deletion             remove patches, those that should matter most first
                                                               Petsiuk et al. 2018 (RISE)

The map of one block shows where its tokens look.  But after block 1 a token contains more than its
own patch; rollout follows how information flows through all blocks.  The I stands for the residual
path, on which a token keeps what it has.

A picture of attention proves nothing by itself.  Deletion is a test: if the patches it points at
are the ones that matter, then the probability of the right class falls fastest when these patches
are painted over first.

The maps come from ViT.attention_maps: they are the attention weights with which ``forward``
averages the values.  The results are NumPy arrays, for pictures.

Read first: vit.py.   Demo: demos/07_vit_maps.py.
Shapes: B images, L blocks, H heads, g patches per side, N = g² patches, T = N + 1 tokens with CLS
first, P patch side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinycv.data import inputs as data_inputs
from tinycv.engine.arguments import number, shown
from tinycv.engine.create import eye
from tinycv.engine.tensor import ArrayLike
from tinycv.vision import inputs
from tinycv.vision.stem import ConvStem
from tinycv.vision.vit import ViT

# The most patches per side: the distances between all pairs must fit into memory.
MOST_PATCHES = 256

# ── where it looks ───────────────────────────────────────────────────────────────────────────────


def attention_rollout(maps: Sequence[ArrayLike]) -> np.ndarray:
    """Attention rollout: how much of each token at the start is in each token at the end, (B, T,
    T). Every row sums to 1.

    maps: one Tensor (B, H, T, T) per block, from first to last. The maps of the first l blocks give
    the rollout after block l.
    """
    maps = inputs.maps(maps, "attention_rollout")
    identity = eye(maps[0].shape[-1], maps[0].dtype, maps[0].device)
    rollout = identity
    for attention in maps:
        rollout = (0.5 * attention.mean(axis=1) + 0.5 * identity) @ rollout  # (B, T, T)
    return rollout.numpy()


def patch_rollout(model: ViT, images: ArrayLike) -> np.ndarray:
    """How much each patch contributes to what the class is read from, CLS or the mean of the
    patches: (B, N). Every row sums to 1."""
    inputs.model(model, "patch_rollout: model", ViT)
    rollout = attention_rollout(model.attention_maps(images))
    share = rollout[:, 0, 1:] if model.pool == "cls" else rollout[:, 1:, 1:].mean(axis=1)  # (B, N)
    return share / share.sum(axis=1, keepdims=True)


def cls_attention(maps: Sequence[ArrayLike]) -> np.ndarray:
    """The attention weights of CLS in each block and head: (L, B, H, T). Entry 0 on the last axis
    is the weight of CLS itself."""
    return np.stack(
        [attention[:, :, 0].numpy() for attention in inputs.maps(maps, "cls_attention")]
    )


def attention_distance(maps: Sequence[ArrayLike], patch_size: int) -> np.ndarray:
    """How far each head looks, in pixels: the mean over all patches and images, (L, H).

    CLS has no position and is left out. So is a patch that attends only to CLS; if all patches of a
    head do, the result is NaN.
    """
    maps = inputs.maps(maps, "attention_distance")
    patch_size = data_inputs.whole(patch_size, "attention_distance: patch_size", 1)
    side = inputs.side_of(maps[0].shape[-1] - 1, "attention_distance: maps")
    distances = patch_size * patch_distance(side)  # (N, N)
    without_cls = (attention[:, :, 1:, 1:].numpy() for attention in maps)  # (B, H, N, N) each
    return np.stack([_mean_distance(attention, distances) for attention in without_cls])


def _mean_distance(attention: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The mean of the distances (N, N), weighted by attention (B, H, N, N), over all images and all
    queries that attend to a patch: (H,)."""
    total_weight = attention.sum(-1)  # (B, H, N)
    # NaN != 0 is True, so a NaN in the attention stays in the result.
    attends = total_weight != 0
    weighted = np.where(attends, (attention * distances).sum(-1), 0)
    mean = weighted / np.where(attends, total_weight, 1)  # (B, H, N)
    count = attends.sum(axis=(0, 2))
    return np.where(count > 0, mean.sum(axis=(0, 2)) / np.maximum(count, 1), np.nan)


# ── what it has learned ──────────────────────────────────────────────────────────────────────────


def patch_distance(side: int) -> np.ndarray:
    """The distances between the centres of side x side patches, measured in patches: (N, N)."""
    side = data_inputs.whole(side, "patch_distance: side", 1, MOST_PATCHES)
    centres = np.stack(np.divmod(np.arange(side * side), side), axis=1)  # (N, 2): row, column
    return np.sqrt(((centres[:, None] - centres) ** 2).sum(axis=-1))


def position_similarity(model: ViT) -> np.ndarray:
    """The cosine similarity of the position embeddings of every pair of patches: (N, N), 1 on the
    diagonal."""
    inputs.model(model, "position_similarity: model", ViT)
    e = model.pos_embed.numpy()[0, 1:]  # (N, D)
    e = e / np.linalg.norm(e, axis=1, keepdims=True)
    return e @ e.T


def nearness_learned(model: ViT) -> float:
    """Spearman's rho between position similarity and minus the distance of the patches, over all
    pairs: 1 if nearer patches always have more similar positions."""
    similarity = position_similarity(inputs.model(model, "nearness_learned: model", ViT))
    pairs = np.triu_indices(len(similarity), k=1)
    return spearman(similarity[pairs], -patch_distance(model.image_size // model.patch_size)[pairs])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of a (n,) with b (n,): the Pearson correlation of their ranks,
    where equal numbers get their mean rank.

    NaN has no rank and raises ValueError. If all numbers of a, or all of b, are equal, the result
    is NaN.
    """
    a, b = (
        data_inputs.array(v, f"spearman: {name}", "numbers (n,)", ndim=1)
        for name, v in (("a", a), ("b", b))
    )
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"spearman: a has {len(a)} numbers and b has {len(b)}; they must have the same number, "
            "at least 2"
        )
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("spearman: a or b contains NaN, which has no rank")
    if (a == a[0]).all() or (b == b[0]).all():
        return math.nan
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(a: np.ndarray) -> np.ndarray:
    """Ranks from 1 on, (n,); equal numbers get their mean rank."""
    _, group, size = np.unique(a, return_inverse=True, return_counts=True)
    return (np.cumsum(size) - (size - 1) / 2)[group]


def patch_filters(model: ViT, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` principal components of the D filters of the patch projection, and their
    shares of the variance.

    Returns (count, C, P, P), where each component has length 1, and (count,).
    """
    inputs.model(model, "patch_filters: model", ViT)
    count = data_inputs.whole(count, "patch_filters: count")
    if isinstance(model.patch_embed, ConvStem):
        raise ValueError(
            "patch_filters: the model has a convolutional stem, so it has no filters of whole "
            "patches; build it without stem"
        )
    weight = model.patch_embed.weight.numpy()  # (D, C P P)
    if not 0 < count <= min(weight.shape):
        raise ValueError(
            f"patch_filters: count is {count}; weights of shape {weight.shape} have "
            f"{min(weight.shape)} components"
        )
    centred = weight - weight.mean(axis=0)
    _, singular_values, components = np.linalg.svd(centred, full_matrices=False)
    variances = singular_values**2
    shape = count, model.channels, model.patch_size, model.patch_size
    return components[:count].reshape(shape), (variances / variances.sum())[:count]


# ── whether it matters ───────────────────────────────────────────────────────────────────────────


def enrichment(mass: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean density of ``mass`` where the mask is True, divided by its mean density over the
    whole image: (B,). It is 1 if the mass is spread evenly.

    mass (B, N) >= 0, taken to be even within each patch; mask: bool (B, H, W).
    """
    mass = data_inputs.array(mass, "enrichment: mass", "numbers (B, N)", ndim=2)
    mask = (
        data_inputs.array(mask, "enrichment: mask", "True and False (B, H, W)", "biu", ndim=3) != 0
    )
    side = inputs.side_of(mass.shape[1], "enrichment: mass")
    if len(mask) != len(mass) or any(n % side or not n for n in mask.shape[1:]):
        raise ValueError(
            f"enrichment: a mask of shape {mask.shape} cannot be divided into the patches of mass "
            f"{mass.shape}"
        )
    if mass.size and not (
        mass.min() >= 0 and np.isfinite(mass).all() and (mass.sum(axis=1) > 0).all()
    ):
        raise ValueError(
            "enrichment: mass must be finite and at least 0, and more than 0 somewhere in each "
            "image"
        )
    empty = np.flatnonzero(~mask.any(axis=(1, 2)))
    if len(empty):
        raise ValueError(
            f"enrichment: the mask is empty in images {empty[:8].tolist()}; it must be True "
            "somewhere"
        )
    height, width = (n // side for n in mask.shape[1:])
    # The share of each patch that lies inside the mask, (B, N).
    inside = mask.reshape((len(mask), side, height, side, width)).mean(axis=(2, 4))
    inside = inside.reshape(mass.shape)
    return (mass * inside).sum(axis=1) / mass.sum(axis=1) / inside.mean(axis=1)


def deletion_curve(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    fill: float = 0.0,
) -> np.ndarray:
    """The deletion test: the mean probability of the right label after 0, 1, ... N patches have
    been painted over with ``fill``, (N + 1,).

    predict: a function from images (B, C, H, W) to probabilities (B, K). order (B, N): the numbers
    of the patches of each image, in the order in which they are removed. The lower the mean of the
    curve, the better the order finds the patches on which the prediction depends.
    """
    if not callable(predict):
        raise TypeError(
            f"deletion_curve: predict is {shown(predict)}; it must be a function of images"
        )
    images = data_inputs.images(images, "deletion_curve: images", floats=True)
    labels = data_inputs.class_numbers(labels, "deletion_curve: labels", count=len(images))
    order = data_inputs.array(order, "deletion_curve: order", "whole numbers (B, N)", "iu", ndim=2)
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
            "patches, 0 to N - 1, each once"
        )
    # For each pixel, the step at which its patch is removed, (B, 1, H, W).
    removal_step = np.argsort(order, axis=1).reshape((-1, 1, side, side))
    height, width = images.shape[2] // side, images.shape[3] // side
    removal_step = removal_step.repeat(height, axis=2).repeat(width, axis=3)
    curve = []
    for removed in range(side**2 + 1):
        painted = np.where(removal_step < removed, images.dtype.type(fill), images)
        curve.append(_label_probabilities(labels, predict(painted)).mean())
    return np.array(curve)


def _label_probabilities(labels: np.ndarray, probabilities: ArrayLike) -> np.ndarray:
    """From probabilities (B, K), those of the labels: (B,). Raises IndexError for a label that is
    not a class."""
    probabilities = data_inputs.array(
        probabilities, "deletion_curve: what predict returns", "probabilities (B, K)", "f", ndim=2
    )
    if len(probabilities) != len(labels):
        raise ValueError(
            f"deletion_curve: predict returned {probabilities.shape}; it must be (B, K), for "
            f"{len(labels)} images"
        )
    data_inputs.class_numbers(labels, "deletion_curve: labels", probabilities.shape[1])
    return probabilities[np.arange(len(labels)), labels]
