"""8x8 digits: 1,797 images that ship with scikit-learn, small enough to train on in seconds.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test
part).
"""

from collections.abc import Iterator

import numpy as np

from tinycv.data import inputs
from tinycv.data.extra import import_extra


def digits_8x8() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 1, 8, 8) float32 in [0, 1] and labels (1797,) int64."""
    digits = import_extra("sklearn.datasets", "scikit-learn").load_digits()
    images = np.divide(digits.images[:, None], 16, dtype=np.float32)  # pixels count 0 ... 16
    return images, digits.target.astype(np.int64)


def split_digits_8x8(
    test: int = 297, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The digits in a random order, cut in two: training images and labels, test images and labels.

    The last ``test`` of the order are the test images. With the defaults 1,500 remain for training;
    this is the split of all likelihoods of 8x8 digits in the demos.
    """
    test = inputs.whole(test, "split_digits_8x8: test", 1)
    seed = inputs.whole(seed, "split_digits_8x8: seed")
    images, labels = digits_8x8()
    if test >= len(images):
        raise ValueError(
            f"split_digits_8x8: test is {test}; it must be below {len(images)}, the "
            "number of images"
        )
    order = np.random.default_rng(seed).permutation(len(images))
    train, held_out = order[:-test], order[-test:]
    return images[train], labels[train], images[held_out], labels[held_out]


def stratified_folds(
    labels: np.ndarray, folds: int = 5, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stratified cross-validation: yields (train_index, test_index) ``folds`` times, with each
    class spread evenly over the test sets.

    labels: class numbers (N,). ValueError if every class has fewer members than there are folds.
    """
    labels = inputs.class_numbers(labels, "stratified_folds: labels")
    folds = inputs.whole(folds, "stratified_folds: folds", 2)
    seed = inputs.whole(seed, "stratified_folds: seed", 0, 2**32 - 1)
    largest = np.unique(labels, return_counts=True)[1].max(initial=0)
    if folds > largest:
        raise ValueError(
            f"stratified_folds: folds is {folds}; the largest class has {largest} members, and "
            "every fold needs one of them"
        )
    selection = import_extra("sklearn.model_selection", "scikit-learn")
    splitter = selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
    return splitter.split(np.zeros(len(labels)), labels)
