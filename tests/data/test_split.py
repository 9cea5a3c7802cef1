import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinycv.data import split_by_class


def numbered(labels):
    """One image (1, 1, 1) per label, all different: its pixel is its number."""
    return np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1), np.array(labels)


def test_the_same_share_of_each_class_is_held_out():
    images, labels = numbered([0] * 40 + [1] * 10 + [2] * 4)
    (_, train), (_, test) = split_by_class(images, labels, held_out=0.25, seed=3)
    assert np.bincount(test).tolist() == [10, 2, 1] and np.bincount(train).tolist() == [30, 8, 3]


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    pixels=st.lists(st.integers(0, 12), min_size=30, max_size=30),
    held_out=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_no_image_is_lost_none_is_on_both_sides_and_each_class_is_learned(
    labels, pixels, held_out, seed
):
    images = np.array(pixels[: len(labels)], np.float32).reshape(-1, 1, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of copies
        train, test = split_by_class(images, np.array(labels), held_out, seed)
    pairs = [(x.item(), int(y)) for part in (train, test) for x, y in zip(*part, strict=True)]
    assert sorted(pairs) == sorted(zip(images.ravel().tolist(), labels, strict=True))
    assert not set(train[0].ravel()) & set(test[0].ravel())
    assert set(train[1]) == set(labels)


def test_the_split_is_a_function_of_the_seed():
    images, labels = numbered([0, 1] * 20)
    first, again, other = (split_by_class(images, labels, seed=seed)[1][0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_two_parts_are_in_random_order():
    images, labels = numbered([0] * 50 + [1] * 50)
    for _, part in split_by_class(images, labels, 0.5):
        assert (np.diff(part) != 0).sum() > 5  # sorted by class, it would be 1


def test_copies_stay_on_one_side_and_are_counted():
    images, labels = numbered([0] * 10)
    with pytest.warns(RuntimeWarning, match=r"copies of others \(10\)"):
        train, test = split_by_class(np.repeat(images, 2, axis=0), np.repeat(labels, 2), 0.3)
    assert not set(train[0].ravel()) & set(test[0].ravel()) and len(test[0]) == 6


def test_a_class_with_one_image_is_learned_and_a_warning_says_that_it_is_not_tested():
    images, labels = numbered([0] * 4 + [5])
    with pytest.warns(RuntimeWarning, match=r"nothing is tested of classes \[5\]"):
        train, test = split_by_class(images, labels)
    assert 5 in train[1] and 5 not in test[1]


def test_an_image_with_two_labels_is_learned_and_never_tested():
    images, labels = numbered([0] * 6 + [1] * 6)
    images[6] = images[0]
    with pytest.warns(RuntimeWarning) as caught:
        parts = [split_by_class(images, labels, 0.5, seed) for seed in range(5)]
    assert "images of several classes have the same pixels (2)" in str(
        [warning.message for warning in caught]
    )
    assert all(0.0 not in test[0].ravel() for _, test in parts)


@pytest.mark.filterwarnings("ignore:split_by_class")
def test_a_class_whose_images_all_have_two_labels_is_not_said_to_have_one_image():
    images, labels = numbered([0] * 3 + [1] * 6)
    images[3:6] = images[:3]
    with pytest.warns(
        RuntimeWarning, match=r"classes \[0\], .* only images that other classes have"
    ):
        split_by_class(images, labels)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"held_out": 1}, "held_out is 1; it must be"),
        ({"labels": [0, 1]}, "one class number for each of 4 images"),
        ({"images": np.zeros((0, 1, 2, 2))}, "at least one image"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_are_refused(change, words):
    images, labels = numbered([0, 0, 1, 1])
    with pytest.raises(ValueError, match=f"split_by_class: .*{words}"):
        split_by_class(**{"images": images, "labels": labels, **change})
