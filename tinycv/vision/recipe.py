"""Training recipe for a small image classifier on few images, and its predictions and accuracy: the
recipe of demos 06 and 07.

    AdamW, lr 1.5e-3, beta 0.9, 0.999          weight decay 0.05, only for matrices and convolutions
    warm-up over 5 % of the steps, then cosine decay to 0
    gradient norm clipped to 1                 one unusual batch cannot ruin the training
    label smoothing 0.05                       the model need not be more certain than people are
    averaged weights (EMA)                     over about the last twelfth of the steps

Augmentation and mixing of images are the choice of the caller: data/augment.py, data/mix.py.

Read first: training/loop.py, optim/adam.py.   Demos: demos/06_vit.py, demos/07_vit_maps.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinycv.data import inputs as data_inputs
from tinycv.data.loader import DataLoader, Mix, Transform
from tinycv.data.mix import one_hot
from tinycv.engine.arguments import shown
from tinycv.engine.tensor import ArrayLike, Tensor, no_grad
from tinycv.nn.losses import cross_entropy
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.optim import AdamW, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.optim.inputs import Group
from tinycv.training.half import Half
from tinycv.training.loop import History, fit
from tinycv.vision import inputs


def train_classifier(
    model: Module,
    images: np.ndarray,
    labels: np.ndarray,
    epochs: int,
    *,
    seed: int = 0,
    transform: Transform | None = None,
    mix: Mix | None = None,
    batch_size: int = 64,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    checkpoint: str | os.PathLike | None = None,
    half: bool = False,
) -> History:
    """Train ``model``, whose last layer is ``model.head``, on images (N, C, H, W) and class numbers
    (N,).

    transform, mix: passed to the DataLoader. held_out: images and labels on which "accuracy" is
    measured every ``epochs // 20`` epochs (at least 1), for the history only. checkpoint: passed to
    ``fit``. half: train in float16, in which the model stays (training/half.py). Returns the
    history, and leaves the model in eval mode with the averaged weights.
    """
    inputs.model(model, "train_classifier: model")
    classes = _classes(model)
    images, labels = _examples(images, labels, classes, "train_classifier: ")
    epochs = data_inputs.whole(epochs, "train_classifier: epochs", 1)
    seed = data_inputs.whole(seed, "train_classifier: seed", 0, 2**63)
    batch_size = _batch_size(batch_size, len(images))
    data_inputs.function(transform, "train_classifier: transform", "of a batch and a generator")
    data_inputs.function(mix, "train_classifier: mix", "of two batches and a generator")
    half = data_inputs.flag(half, "train_classifier: half")
    if checkpoint is not None:
        checkpoint = data_inputs.path(checkpoint, "train_classifier: checkpoint")
    evaluate = None if held_out is None else _accuracy_of(held_out, classes)

    loader = DataLoader(
        images,
        one_hot(labels, classes),
        batch_size=batch_size,
        seed=seed,
        drop_last=True,
        transform=transform,
        mix=mix,
    )
    steps = epochs * len(loader)
    optimizer: Any = Half(model, adam) if half else adam(model.named_parameters())
    ema = EMA(model, decay=max(0.0, 1 - 12 / steps))
    history = fit(
        model,
        optimizer,
        smoothed_loss,
        loader,
        epochs,
        clip=1.0,
        ema=ema,
        seed=seed,
        checkpoint=checkpoint,
        schedule=warmup_cosine(steps, warmup=steps // 20),
        evaluate=evaluate,
        evaluate_every=max(1, epochs // 20),
    )
    model.eval().load_state_dict(ema.state_dict())
    return history


def adam(named: Iterable[tuple[str, Tensor]]) -> AdamW:
    """The optimiser of this recipe, for weights passed as (name, weight)."""
    return AdamW(groups([p for _, p in named], weight_decay=0.05), lr=1.5e-3)


def smoothed_loss(model: Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy for images x and labels y with label smoothing: 5 % of each label is spread
    over all classes."""
    return cross_entropy(model(x), y, label_smoothing=0.05)


def groups(weights: list[Tensor], weight_decay: float) -> list[Group]:
    """Two parameter groups: matrices and convolution kernels (2 or 4 axes) with weight decay, and
    all others without it, since decay would only pull a bias, a norm, CLS or a position toward
    0."""
    decay = [p for p in weights if p.ndim in (2, 4)]
    no_decay = [p for p in weights if p.ndim not in (2, 4)]
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]


def probabilities(model: Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """The class probabilities of each image: (N, K). The images run through the model in batches,
    on its device and without recording a graph."""
    inputs.model(model, "probabilities: model")
    images = data_inputs.array(images, "probabilities: images", "images (N, C, H, W)")
    batch_size = data_inputs.whole(batch_size, "probabilities: batch_size", 1)
    if not images.ndim or not len(images):
        raise ValueError(
            f"probabilities: images has shape {images.shape}; there must be at least one image"
        )
    return in_batches(model, images, batch_size, softmax, "probabilities")


def in_batches(
    model: Module,
    images: np.ndarray,
    batch_size: int,
    activation: Callable[[Tensor], Tensor],
    who: str,
) -> np.ndarray:
    """activation(scores) of all images (N, C, H, W), at least one, as an array (N, K). who: the
    name of the caller, for errors."""
    devices = [p.device for p in model.parameters()]
    device = devices[0] if devices else "cpu"
    batches = []
    with no_grad():
        for start in range(0, len(images), batch_size):
            x = Tensor(images[start : start + batch_size], device=device)
            batches.append(activation(scores_of(model, x, who)).numpy())
    return np.concatenate(batches)


def scores_of(model: Module, x: Tensor, who: str) -> Tensor:
    """The scores (B, K) of a batch. who: the name of the caller, for errors."""
    scores = model(x)
    if (
        not isinstance(scores, Tensor)
        or scores.ndim != 2
        or len(scores) != len(x)
        or not scores.shape[1]
    ):
        raise TypeError(
            f"{who}: model returned {shown(scores)} for {len(x)} images; it must be a classifier, "
            "which returns scores (B, K)"
        )
    return scores


def accuracy(model: Module, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose most likely class is their label. An image with NaN probabilities
    counts as wrong.

    Raises ValueError if there are not as many labels (N,) as images, and for images that are not
    finite, because the result would mean nothing. Raises IndexError for a label that is not a class
    of the model.
    """
    inputs.model(model, "accuracy: model")
    images = data_inputs.array(images, "accuracy: images", "images (N, C, H, W)")
    if not images.ndim or not len(images):
        raise ValueError(
            f"accuracy: images has shape {images.shape}; there must be at least one image"
        )
    _expect_finite(images, "accuracy: images")
    labels = data_inputs.class_numbers(labels, "accuracy: labels", count=len(images))
    predicted = probabilities(model, images)  # (N, K)
    data_inputs.class_numbers(labels, "accuracy: labels", predicted.shape[1])
    correct = predicted.argmax(axis=1) == labels
    return float((correct & ~np.isnan(predicted).any(axis=1)).mean())


def _expect_finite(images: np.ndarray, what: str) -> None:
    """Raises ValueError for images that contain NaN or infinity."""
    not_finite = ~np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not_finite.any():
        raise ValueError(
            f"{what} of shape {images.shape}: {not_finite.sum()} of them contain NaN or infinity; "
            "all pixels must be finite"
        )


def _classes(model: Module) -> int:
    """The number of classes of model.head."""
    bias = getattr(getattr(model, "head", None), "bias", None)
    if bias is None:
        raise TypeError(
            f"train_classifier: model is {shown(model)}; its last layer must be model.head, with a "
            "bias"
        )
    return bias.shape[0]


def _batch_size(value: Any, most: int) -> int:
    """The batch size as an int, at least 1 and at most ``most``, the number of images."""
    batch_size = data_inputs.whole(value, "train_classifier: batch_size", 1)
    if batch_size > most:
        raise ValueError(
            f"train_classifier: batch_size is {batch_size}; it must be at most {most}, the number "
            "of images"
        )
    return batch_size


def _accuracy_of(held_out: Any, classes: int) -> Callable[[Module], dict[str, float]]:
    """A function that measures the accuracy of a model on the pair (images, labels)."""
    if not isinstance(held_out, (tuple, list)) or len(held_out) != 2:
        raise TypeError(
            f"train_classifier: held_out is {shown(held_out)}; it must be a pair (images, labels)"
        )
    images, labels = held_out
    images, labels = _examples(images, labels, classes, "train_classifier: held_out ")
    return lambda model: {"accuracy": accuracy(model, images, labels)}


def _examples(
    images: ArrayLike, labels: ArrayLike, classes: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Checked examples: float images (N, C, H, W), at least one, and N class numbers."""
    images = data_inputs.images(images, f"{what}images", floats=True)
    if not len(images):
        raise ValueError(f"{what}images has shape {images.shape}; there must be at least one image")
    _expect_finite(images, f"{what}images")
    return images, data_inputs.class_numbers(labels, f"{what}labels", classes, len(images))
