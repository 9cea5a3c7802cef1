"""How a small classifier is trained from few images, and asked: the recipe of demos 06 and 07.

    AdamW, lr 1.5e-3, beta 0.9, 0.999          weight decay 0.05 for matrices and windows alone
    a warm-up of 5 % of the steps, then half a cosine down to 0
    the gradient's norm is at most 1           one odd batch does not throw it out
    label smoothing 0.05                       it need not be surer than people are
    averaged weights are kept                  EMA, over about the last twelfth of the steps

What the images go through on their way, and whether two are mixed, is the caller's:
data/augment.py, data/mix.py. Read before: training/loop.py, optim/adam.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from tinycv.data import inputs as given
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

    transform, mix: as a DataLoader's. held_out: images and labels by which "accuracy" is measured
    now and then, for the history alone. checkpoint: as ``fit``'s. half: in float16, which the model
    stays in (training/half.py). Leaves the averaged weights in the model, in eval mode.
    """
    inputs.model(model, "train_classifier: model")
    classes = _classes(model)
    images, labels = _examples(images, labels, classes, "train_classifier: ")
    epochs = given.whole(epochs, "train_classifier: epochs", 1)
    seed = given.whole(seed, "train_classifier: seed", 0, 2**63)
    batch_size = _batch_size(batch_size, len(images))
    given.function(transform, "train_classifier: transform", "of a batch and a generator")
    given.function(mix, "train_classifier: mix", "of two batches and a generator")
    half = given.flag(half, "train_classifier: half")
    if checkpoint is not None:
        checkpoint = given.path(checkpoint, "train_classifier: checkpoint")
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
    """The recipe's optimiser of these weights."""
    return AdamW(groups([p for _, p in named], weight_decay=0.05), lr=1.5e-3)


def smoothed_loss(model: Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of images x and labels y, where 5 % of each label is spread over all
    classes."""
    return cross_entropy(model(x), y, label_smoothing=0.05)


def groups(weights: list[Tensor], weight_decay: float) -> list[Group]:
    """Matrices and windows decay. A bias, a norm, CLS or a position that shrinks only forgets where
    it stands."""
    decays = [p for p in weights if p.ndim in (2, 4)]
    others = [p for p in weights if p.ndim not in (2, 4)]
    return [
        {"params": decays, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def probabilities(model: Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """What the model thinks of each image: (N, K). So many at a time, on the model's device,
    nothing recorded."""
    inputs.model(model, "probabilities: model")
    images = given.array(images, "probabilities: images", "images (N, C, H, W)")
    batch_size = given.whole(batch_size, "probabilities: batch_size", 1)
    if not images.ndim or not len(images):
        raise ValueError(
            f"probabilities: images has shape {images.shape}; there must be at least one image"
        )
    devices = [p.device for p in model.parameters()]
    ask = partial(Tensor, device=devices[0] if devices else "cpu")
    with no_grad():
        parts = [
            softmax(scores_of(model, ask(images[i : i + batch_size]), "probabilities")).numpy()
            for i in range(0, len(images), batch_size)
        ]
    return np.concatenate(parts)


def scores_of(model: Module, x: Tensor, who: str) -> Tensor:
    """The model's scores (B, K) of a batch; who: what asked for them."""
    scores = model(x)
    if (
        not isinstance(scores, Tensor)
        or scores.ndim != 2
        or len(scores) != len(x)
        or not scores.shape[1]
    ):
        raise TypeError(
            f"{who}: model made {shown(scores)} of {len(x)} images; it must be a classifier, which "
            "makes scores (B, K)"
        )
    return scores


def accuracy(model: Module, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose likeliest class is their label. An image whose probabilities are
    NaN counts as missed.

    ValueError where labels (N,) are not as many as images, and for an image that is not finite: its
    class cannot be said, so no share of images can. IndexError for a label that is no class of the
    model.
    """
    inputs.model(model, "accuracy: model")
    images = given.array(images, "accuracy: images", "images (N, C, H, W)")
    if not images.ndim or not len(images):
        raise ValueError(
            f"accuracy: images has shape {images.shape}; there must be at least one image"
        )
    _expect_finite(images, "accuracy: images")
    labels = given.class_numbers(labels, "accuracy: labels", count=len(images))
    chances = probabilities(model, images)
    given.class_numbers(labels, "accuracy: labels", chances.shape[1])
    return float(((chances.argmax(axis=1) == labels) & ~np.isnan(chances).any(axis=1)).mean())


def _expect_finite(images: np.ndarray, what: str) -> None:
    """ValueError for images with NaN or infinity in them."""
    lost = ~np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if lost.any():
        raise ValueError(
            f"{what} of shape {images.shape}: {lost.sum()} of them hold NaN or infinity; all "
            "pixels must be finite"
        )


def _classes(model: Module) -> int:
    """How many classes the model's head tells apart."""
    bias = getattr(getattr(model, "head", None), "bias", None)
    if bias is None:
        raise TypeError(
            f"train_classifier: model is {shown(model)}; its last layer must be model.head, with a "
            "bias"
        )
    return bias.shape[0]


def _batch_size(value: Any, most: int) -> int:
    """How many images a batch has, at least 1 and at most all of them."""
    found = given.whole(value, "train_classifier: batch_size", 1)
    if found > most:
        raise ValueError(
            f"train_classifier: batch_size is {found}; it must be at most {most}, the number of "
            "images"
        )
    return found


def _accuracy_of(held_out: Any, classes: int) -> Callable[[Module], dict[str, float]]:
    """A function of the model, which measures its accuracy on a pair (images, labels)."""
    if not isinstance(held_out, (tuple, list)) or len(held_out) != 2:
        raise TypeError(
            f"train_classifier: held_out is {shown(held_out)}; it must be a pair, images and labels"
        )
    images, labels = held_out
    images, labels = _examples(images, labels, classes, "train_classifier: held_out ")
    return lambda model: {"accuracy": accuracy(model, images, labels)}


def _examples(
    images: ArrayLike, labels: ArrayLike, classes: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) of floats, at least one, and as many class numbers."""
    images = given.images(images, f"{what}images", floats=True)
    if not len(images):
        raise ValueError(f"{what}images has shape {images.shape}; there must be at least one image")
    _expect_finite(images, f"{what}images")
    return images, given.class_numbers(labels, f"{what}labels", classes, len(images))
