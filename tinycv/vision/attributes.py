"""Attribute classifier: several yes-or-no questions about one image, with one sigmoid for each.

    p_k = σ(score_k)                        the probability that the image has attribute k
    L   = mean over images and attributes of binary cross-entropy(p_k, t_k)

A softmax says which one of several classes an image belongs to. A face can wear glasses and a hat
at once, so each attribute gets a sigmoid instead. A target may also be a share between 0 and 1: the
loss is least when p_k is the expected target, so a continuous attribute, such as the turn of a head
scaled to 0..1, is learned by the same loss.

Read first: convnet.py, nn/binary_cross_entropy.py.   Demo: demos/10_face_arithmetic.py.
Shapes: N images, A attributes.
"""

from __future__ import annotations

import numpy as np

from tinycv.data import inputs as data_inputs
from tinycv.data.loader import DataLoader, Transform
from tinycv.engine.ops import sigmoid
from tinycv.engine.tensor import Tensor
from tinycv.nn.binary_cross_entropy import binary_cross_entropy_with_logits
from tinycv.nn.module import Module
from tinycv.optim import AdamW, warmup_cosine
from tinycv.training.loop import History, fit
from tinycv.vision import inputs
from tinycv.vision.recipe import in_batches, scores_of


def train_attributes(
    model: Module,
    images: np.ndarray,
    attributes: np.ndarray,
    epochs: int,
    *,
    seed: int = 0,
    transform: Transform | None = None,
    batch_size: int = 64,
    device: str | None = None,
) -> History:
    """Train ``model`` on images (N, C, H, W) and their attributes (N, A), each from 0 to 1.

    transform: augmentation, passed to the DataLoader. Returns the history, and leaves the model in
    eval mode.
    """
    inputs.model(model, "train_attributes: model")
    images = data_inputs.images(images, "train_attributes: images", floats=True)
    attributes = _targets(attributes, len(images))
    epochs = data_inputs.whole(epochs, "train_attributes: epochs", 1)
    seed = data_inputs.whole(seed, "train_attributes: seed", 0, 2**63)
    batch_size = data_inputs.whole(batch_size, "train_attributes: batch_size", 1)
    data_inputs.function(transform, "train_attributes: transform", "of a batch and a generator")
    loader = DataLoader(
        images,
        attributes,
        batch_size=batch_size,
        seed=seed,
        drop_last=len(images) >= batch_size,
        transform=transform,
    )
    steps = epochs * len(loader)
    history = fit(
        model,
        AdamW(model.parameters(), lr=3e-3),
        attribute_loss,
        loader,
        epochs,
        seed=seed,
        schedule=warmup_cosine(steps, warmup=steps // 10),
        device=device,
        progress=False,
    )
    model.eval()
    return history


def attribute_loss(model: Module, x: Tensor, attributes: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over images x (B, C, H, W) and attributes (B, A)."""
    scores = scores_of(model, x, "attribute_loss")  # (B, A)
    if tuple(scores.shape) != tuple(attributes.shape):
        raise ValueError(
            f"attribute_loss: model returned scores {tuple(scores.shape)} for attributes "
            f"{tuple(attributes.shape)}; it must return one score per attribute"
        )
    return binary_cross_entropy_with_logits(scores, attributes)


def attribute_probabilities(model: Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """The probability that each image has each attribute: (N, A). The images (N, C, H, W) run
    through the model in batches, on its device and without recording a graph. The model should be
    in eval mode, in which ``train_attributes`` leaves it."""
    inputs.model(model, "attribute_probabilities: model")
    images = data_inputs.images(images, "attribute_probabilities: images", floats=True)
    batch_size = data_inputs.whole(batch_size, "attribute_probabilities: batch_size", 1)
    if not len(images):
        raise ValueError(
            f"attribute_probabilities: images has shape {images.shape}; there must be at least one "
            "image"
        )
    return in_batches(model, images, batch_size, sigmoid, "attribute_probabilities")


def _targets(attributes: np.ndarray, count: int) -> np.ndarray:
    """Attributes (N, A) as float32, one row per image, all from 0 to 1."""
    takes = f"numbers ({count}, A) from 0 to 1, one row per image"
    targets = data_inputs.array(attributes, "train_attributes: attributes", takes, ndim=2)
    if len(targets) != count or not targets.shape[1]:
        raise ValueError(
            f"train_attributes: attributes has shape {targets.shape}; it must be {takes}"
        )
    if not ((targets >= 0) & (targets <= 1)).all():  # also refuses NaN
        raise ValueError(
            f"train_attributes: attributes run from {targets.min()} to {targets.max()}; they must "
            f"be {takes}"
        )
    return targets.astype(np.float32)
