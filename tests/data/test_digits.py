import sys

import numpy as np
import pytest

from tinycv.data import digits_8x8, split_digits_8x8, stratified_folds
from tinycv.data.extra import import_extra


def test_digits_are_float32_images_from_0_to_1_with_int64_labels():
    images, labels = digits_8x8()
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == (
        (1797, 1, 8, 8),
        "f4",
        (1797,),
        "i8",
    )
    assert (images.min(), images.max()) == (0, 1)
    assert set(labels) == set(range(10))


def test_the_split_has_every_digit_once_in_the_order_of_the_generator():
    images, labels = digits_8x8()
    train_x, train_y, test_x, test_y = split_digits_8x8()
    order = np.random.default_rng(0).permutation(1797)
    assert (len(train_x), len(test_x)) == (1500, 297)
    assert (np.concatenate([train_x, test_x]) == images[order]).all()
    assert (np.concatenate([train_y, test_y]) == labels[order]).all()


def test_a_test_part_without_a_training_part_is_refused():
    for test in (0, 1797):
        with pytest.raises(ValueError, match=f"split_digits_8x8: test is {test}; it must be"):
            split_digits_8x8(test)


def test_each_sample_is_in_the_test_set_of_exactly_one_fold():
    labels = np.repeat(np.arange(3), 20)
    folds = list(stratified_folds(labels, folds=5))
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(60))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(60))


def test_every_fold_tests_each_class_equally_often():
    labels = np.repeat(np.arange(3), 20)
    for _, test in stratified_folds(labels, folds=5):
        assert np.bincount(labels[test]).tolist() == [4, 4, 4]


def test_a_seed_determines_the_folds():
    labels = np.repeat(np.arange(3), 20)
    first, again, other = (next(iter(stratified_folds(labels, seed=seed)))[1] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_error_for_a_missing_package_names_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"scikit-learn.*pip install scikit-learn"):
        digits_8x8()


def test_a_missing_dependency_of_a_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_extra("half_installed", "half-installed")
