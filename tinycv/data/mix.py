"""Two images in one, and their labels in the same shares: between the classes, too, a network
should be smooth.

    mixup     x = s x_i + (1 - s) x_j,   y = s y_i + (1 - s) y_j,   s ~ Beta(a, a)
              Zhang et al. 2018, section 2
    cutmix    x = x_i with a box out of x_j,   y likewise, s the share of x_i that is left
              Yun et al. 2019, section 3.1

Labels are probabilities (B, K), which cross_entropy takes as well as class numbers.  A loader mixes
what it has transformed:

    DataLoader(images, one_hot(labels, 10), batch_size=64, mix=partial(mixup, alpha=0.4))

The share is drawn once for a batch, as in the papers' programs: so some batches are left nearly as
they are.
"""

from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import number

MOST_CLASSES = 2**24


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers (N,) as probabilities (N, classes) float32: all on one. IndexError for a class
    that is not there."""
    classes = inputs.whole(classes, "one_hot: classes", 1, MOST_CLASSES)
    labels = inputs.class_numbers(labels, "one_hot: labels", classes)
    chances = np.zeros((len(labels), classes), np.float32)
    chances[np.arange(len(labels)), labels] = 1
    return chances


def mixup(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float = 0.4
) -> tuple[np.ndarray, np.ndarray]:
    """Blend each image with another of its batch. x (B, C, H, W) float, y (B, K) probabilities;
    returns both, mixed.

    alpha: small leaves most images nearly as they are, 1 makes every share equally likely.
    """
    x, y = _taken("mixup", x, y, floats=True)
    share, other = _drawn("mixup", x, y, rng, alpha)
    return _blend(share.astype(x.dtype)[:, None, None, None], x, other), _blend(
        share[:, None], y, other
    )


def cutmix(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a box of another image into each. x (B, C, H, W), y (B, K) probabilities; returns both,
    mixed.

    The box would have the share 1 - s of the area, with the image's proportions; where its centre
    lies near an edge a part of it falls outside, and the labels go by what is really seen.
    """
    x, y = _taken("cutmix", x, y)
    share, other = _drawn("cutmix", x, y, rng, alpha)
    side = np.sqrt(1 - share)  # (B,), of the image's
    tall, broad = (_stretch(rng, side, length) for length in x.shape[2:])  # (B, H), (B, W)
    box = tall[:, None, :, None] & broad[:, None, None, :]  # (B, 1, H, W)
    left = 1 - box.mean(axis=(1, 2, 3), dtype=y.dtype)
    return np.where(box, x[other], x), _blend(left[:, None], y, other)


def _taken(name: str, x: Any, y: Any, floats: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, C, H, W) and probabilities (B, K), or an error in the name of ``name``."""
    x, y = (
        inputs.images(x, f"{name}: x", floats),
        inputs.array(y, f"{name}: y", "probabilities (B, K)"),
    )
    y = y if y.dtype.isnative else y.astype(y.dtype.newbyteorder("="))
    if y.ndim != 2 or len(x) != len(y) or y.dtype.kind != "f":
        raise ValueError(
            f"{name} takes images (B, C, H, W) and probabilities (B, K), got {x.shape} and "
            f"{y.dtype} of shape {y.shape}; one_hot makes them of class numbers"
        )
    return x, y


def _drawn(
    name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float
) -> tuple:
    """Of each image: its share (B,), and the number of the one it meets (B,)."""
    rng, alpha = (
        inputs.generator(rng, f"{name}: rng"),
        number(alpha, f"{name}: alpha", above=0, high=1e6),
    )
    return np.full(len(x), rng.beta(alpha, alpha), y.dtype), rng.permutation(len(x))


def _blend(share: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Images or probabilities (B, ...) by their share (B, 1, ...), and those of number other (B,)
    by the rest. What has no share at all is not read: it may be NaN."""
    with np.errstate(invalid="ignore"):  # 0 times infinity, which is put right below
        blend = share * own + (1 - share) * own[other]
    whole = (share == 0) | (share == 1)
    return np.where(whole, np.where(share == 1, own, own[other]), blend) if whole.any() else blend


def _stretch(rng: np.random.Generator, side: np.ndarray, length: int) -> np.ndarray:
    """True inside a stretch of side * length pixels about a random centre: (B, length)."""
    centre, place = rng.uniform(0, length, len(side)), np.arange(length) + 0.5
    return np.abs(place - centre[:, None]) < side[:, None] * (length / 2)
