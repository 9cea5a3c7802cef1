"""Confusion matrix of a classifier: how many images of each class were taken for which class.

    matrix = confusion_matrix(labels, predicted, classes=3)      row: true class, column: answer
    draw.confusion(ax, matrix, names)

The diagonal counts the right answers.  A bright cell beside it names two classes that the model
confuses, which an accuracy cannot show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tinycv.data import inputs as given
from tinycv.show import inputs
from tinycv.show.colours import INK
from tinycv.show.words import readable

MOST_WRITTEN = 15  # with more classes than this, the counts would be too small to read


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes) int64: entry (i, j) counts the images of class i whose answer was
    j. labels, predicted: class numbers (N,)."""
    classes = given.whole(classes, "confusion_matrix: classes", 1, 10_000)
    labels = given.class_numbers(labels, "confusion_matrix: labels", classes)
    predicted = given.class_numbers(
        predicted, "confusion_matrix: predicted", classes, count=len(labels)
    )
    # int64, since a product of small integers, such as uint8, would wrap around
    cells = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    pairs = np.bincount(cells, minlength=classes**2)
    return pairs.reshape(classes, classes)


def confusion(ax: Axes, matrix: np.ndarray, names: Sequence[str], caption: str = "") -> None:
    """Draw a confusion matrix (K, K), with the names of the K classes. A cell is darker the larger
    its share of the row is, so a rare class can be read too; the numbers are counts."""
    ax, caption = inputs.axes(ax, "confusion"), given.text(caption, "confusion: caption")
    takes = "counts (true class, answer), as confusion_matrix returns them"
    matrix = given.array(matrix, "confusion: matrix", takes, "iu", ndim=2)
    names = inputs.names(names, "confusion: names")
    if matrix.shape != (len(names), len(names)) or not matrix.size or matrix.min() < 0:
        raise ValueError(
            f"confusion: matrix has shape {matrix.shape} and there are {len(names)} names; it must "
            f"be {takes}, with one row and one column per name"
        )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    written, family = readable(names)
    turned = 90 if max(map(len, written)) > 6 or len(names) > MOST_WRITTEN else 0
    ax.set_xticks(range(len(names)), written, fontsize=10, fontfamily=family, rotation=turned)
    ax.set_yticks(range(len(names)), written, fontsize=10, fontfamily=family)
    ax.set_xlabel("answer of the model", fontsize=11)
    ax.set_ylabel("true class", fontsize=11)
    ax.set_title(caption, fontsize=12, color=INK)
    if len(names) <= MOST_WRITTEN:
        for (i, j), count in np.ndenumerate(matrix):
            colour = "white" if shares[i, j] > 0.6 else INK
            ax.text(j, i, str(count), ha="center", va="center", fontsize=11, color=colour)
