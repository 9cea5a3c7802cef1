import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as by_scikit_learn

from tinycv.show import draw
from tinycv.show.confusion import MOST_WRITTEN, confusion_matrix

RNG = np.random.default_rng(0)


def test_the_matrix_is_that_of_scikit_learn():
    labels, predicted = RNG.integers(0, 5, (2, 200))
    expected = by_scikit_learn(labels, predicted, labels=range(7))  # classes 5 and 6 never occur
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, 7), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
def test_small_and_unsigned_integers_do_not_wrap_around(dtype):
    labels, predicted = RNG.integers(0, 100, (2, 500))
    expected = confusion_matrix(labels, predicted, 100)
    found = confusion_matrix(labels.astype(dtype), predicted.astype(dtype), 100)
    np.testing.assert_array_equal(found, expected)


def test_rows_are_true_classes_and_columns_are_answers():
    assert confusion_matrix(np.array([0]), np.array([1]), 2).tolist() == [[0, 1], [0, 0]]


def test_a_cell_is_as_dark_as_its_share_of_the_row_and_shows_its_count():
    ax = draw.figure("a").subplots()
    draw.confusion(ax, np.array([[30, 10], [0, 0]]), ["cat", "dog"])
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in ax.texts] == ["30", "10", "0", "0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]


def test_the_counts_of_many_classes_are_not_written():
    count = MOST_WRITTEN + 1
    ax = draw.figure("a").subplots()
    draw.confusion(ax, np.eye(count, dtype=int), [f"c{i}" for i in range(count)])
    assert not ax.texts


def test_a_matrix_that_does_not_fit_the_names_is_refused():
    ax = draw.figure("a").subplots()
    with pytest.raises(ValueError, match=r"confusion: matrix has shape \(2, 2\) and there are 3"):
        draw.confusion(ax, np.eye(2, dtype=int), ["a", "b", "c"])
