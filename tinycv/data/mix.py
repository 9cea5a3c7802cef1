"""mixup and CutMix: two training images in one, with their labels mixed in the same shares.

    mixup     x = λ x_i + (1 - λ) x_j,   y = λ y_i + (1 - λ) y_j,   λ ~ Beta(α, α)
              Zhang et al. 2018, section 2
    cutmix    x = x_i with a box of x_j pasted in,   y as above, λ the share of x_i that is left
              Yun et al. 2019, section 3.1

A network trained on such images varies smoothly between the classes.  Labels are probabilities
(B, K), which cross_entropy takes as well as class numbers.  A loader mixes after its transform:

    DataLoader(images, one_hot(labels, 10), batch_size=64, mix=partial(mixup, alpha=0.4))

λ is drawn once per batch, as in the code of both papers, so some batches are hardly changed.
"""

from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import number

MOST_CLASSES = 2**24


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers (N,) as probabilities (N, classes) float32: 1 for the class, 0 for all others.
    IndexError for a class number out of range."""
    classes = inputs.whole(classes, "one_hot: classes", 1, MOST_CLASSES)
    labels = inputs.class_numbers(labels, "one_hot: labels", classes)
    probabilities = np.zeros((len(labels), classes), np.float32)
    probabilities[np.arange(len(labels)), labels] = 1
    return probabilities


def mixup(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float = 0.4
) -> tuple[np.ndarray, np.ndarray]:
    """Blend each image with another of its batch. x (B, C, H, W) float, y (B, K) probabilities;
    returns both, mixed.

    alpha: of the Beta distribution. A small alpha leaves most batches nearly unchanged; with 1
    every share is equally likely.
    """
    x, y = _taken("mixup", x, y, floats=True)
    share, other = _drawn("mixup", x, y, rng, alpha)
    return _blend(share.astype(x.dtype)[:, None, None, None], x, other), _blend(
        share[:, None], y, other
    )


def cutmix(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a box of another image into each image. x (B, C, H, W), y (B, K) probabilities; returns
    both, mixed.

    The box has the share 1 - λ of the area and the proportions of the image. If its centre is near
    an edge, a part of it falls outside; the labels are mixed by the area that was really replaced.
    """
    x, y = _taken("cutmix", x, y)
    share, other = _drawn("cutmix", x, y, rng, alpha)
    side = np.sqrt(1 - share)  # (B,), sides of the box as shares of the sides of the image
    in_rows, in_columns = (_interval(rng, side, length) for length in x.shape[2:])
    box = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (B, 1, H, W)
    share_left = 1 - box.mean(axis=(1, 2, 3), dtype=y.dtype)
    return np.where(box, x[other], x), _blend(share_left[:, None], y, other)


def _taken(name: str, x: Any, y: Any, floats: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, C, H, W) and probabilities (B, K), checked; errors name the function ``name``."""
    x, y = (
        inputs.images(x, f"{name}: x", floats),
        inputs.array(y, f"{name}: y", "probabilities (B, K)"),
    )
    y = y if y.dtype.isnative else y.astype(y.dtype.newbyteorder("="))
    if y.ndim != 2 or len(x) != len(y) or y.dtype.kind != "f":
        raise ValueError(
            f"{name} takes images (B, C, H, W) and probabilities (B, K), got {x.shape} and "
            f"{y.dtype} of shape {y.shape}; one_hot makes them from class numbers"
        )
    return x, y


def _drawn(
    name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float
) -> tuple:
    """For each image its share λ (B,), and the index of its partner in the batch (B,)."""
    rng = inputs.generator(rng, f"{name}: rng")
    alpha = number(alpha, f"{name}: alpha", above=0, high=1e6)
    return np.full(len(x), rng.beta(alpha, alpha), y.dtype), rng.permutation(len(x))


def _blend(share: np.ndarray, values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """share * values + (1 - share) * values[other], for images or probabilities (B, ...) and share
    (B, 1, ...). A term with the weight 0 does not affect the result, even if it is NaN."""
    with np.errstate(invalid="ignore"):  # 0 times infinity is NaN, and is replaced below
        blend = share * values + (1 - share) * values[other]
    unmixed = (share == 0) | (share == 1)
    if not unmixed.any():
        return blend
    return np.where(unmixed, np.where(share == 1, values, values[other]), blend)


def _interval(rng: np.random.Generator, side: np.ndarray, length: int) -> np.ndarray:
    """(B, length) bool, True inside an interval of side * length pixels around a random centre."""
    centre = rng.uniform(0, length, len(side))
    pixel = np.arange(length) + 0.5
    return np.abs(pixel - centre[:, None]) < side[:, None] * (length / 2)
