"""Two images in one, and their labels in the same shares: between the classes, too, a network should be smooth.

    mixup     x = s x_i + (1 - s) x_j,           y = s y_i + (1 - s) y_j,      s ~ Beta(a, a)    Zhang et al. 2018, section 2
    cutmix    x = x_i with a box out of x_j,     y likewise, s the share of x_i that is left     Yun et al. 2019, section 3.1

Labels are probabilities (B, K), which cross_entropy takes as well as class numbers.  A loader mixes what it has transformed:

    DataLoader(images, one_hot(labels, 10), batch_size=64, mix=partial(mixup, alpha=0.4))

The share is drawn once for a batch, as in the papers' programs: so some batches are left nearly as they are.
"""

import numpy as np


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers (N,) as probabilities (N, classes) float32: all on one."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"one_hot takes class numbers (N,), not {labels.dtype} of shape {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"one_hot: labels run from {labels.min()} to {labels.max()}; {classes} classes are numbered from 0")
    return np.eye(classes, dtype=np.float32)[labels]


def mixup(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Blend each image with another of its batch. x (B, C, H, W) float, y (B, K) probabilities; returns both, mixed.

    alpha: small leaves most images nearly as they are, 1 makes every share equally likely.
    """
    if x.dtype.kind != "f":
        raise TypeError(f"mixup blends pixels, so it takes float images, not {x.dtype}; divide by 255 first")
    share, other = _drawn("mixup", x, y, rng, alpha)
    wide = share[:, None, None, None]
    return wide * x + (1 - wide) * x[other], _blend(share, y, other)


def cutmix(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Paste a box of another image into each. x (B, C, H, W), y (B, K) probabilities; returns both, mixed.

    The box would have the share 1 - s of the area, with the image's proportions; where its centre lies near an edge
    a part of it falls outside, and the labels go by what is really seen.
    """
    share, other = _drawn("cutmix", x, y, rng, alpha)
    side = np.sqrt(1 - share)                                               # (B,), of the image's
    tall, broad = (_stretch(rng, side, length) for length in x.shape[2:])   # (B, H), (B, W)
    box = tall[:, None, :, None] & broad[:, None, None, :]                  # (B, 1, H, W)
    left = 1 - box.mean(axis=(1, 2, 3), dtype=y.dtype)
    return np.where(box, x[other], x), _blend(left, y, other)


def _drawn(name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float) -> tuple:
    """Of each image: its share (B,), and the number of the one it meets (B,)."""
    if x.ndim != 4 or y.ndim != 2 or len(x) != len(y) or y.dtype.kind != "f":
        raise ValueError(f"{name} takes images (B, C, H, W) and probabilities (B, K), got {x.shape} and {y.dtype} of shape "
                         f"{y.shape}; one_hot makes them of class numbers")
    if not alpha > 0:
        raise ValueError(f"{name}: alpha={alpha} must be above 0")
    return np.full(len(x), rng.beta(alpha, alpha), y.dtype), rng.permutation(len(x))


def _blend(share: np.ndarray, y: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Probabilities y (B, K) of each image, by its share (B,), and of image number other (B,), by the rest."""
    return share[:, None] * y + (1 - share[:, None]) * y[other]


def _stretch(rng: np.random.Generator, side: np.ndarray, length: int) -> np.ndarray:
    """True inside a stretch of side * length pixels about a random centre: (B, length)."""
    centre, place = rng.uniform(0, length, len(side)), np.arange(length) + 0.5
    return np.abs(place - centre[:, None]) < side[:, None] * (length / 2)
