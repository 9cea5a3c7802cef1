"""The judge: what it recognises, how it is cached, and that it leaves the random number
generators unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED

from tinycv.data import digits_8x8
from tinycv.engine.backend import get_rng_state, host_generator
from tinycv.show import judge as judge_module
from tinycv.show.judge import judge_of

IMAGES, LABELS = digits_8x8()
TRAIN, TEST = slice(0, 800), slice(1200, 1797)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYCV_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def judge():
    return judge_of(IMAGES[TRAIN], LABELS[TRAIN], epochs=4, seed=SEED)


@pytest.mark.statistical
def test_it_recognises_unseen_digits(judge):
    assert (judge.labels(IMAGES[TEST]) == LABELS[TEST]).mean() > 0.7
    np.testing.assert_allclose(judge.probabilities(IMAGES[:300]).sum(axis=1), 1, rtol=1e-5)


def test_the_result_for_an_image_does_not_depend_on_the_rest_of_the_batch(judge):
    np.testing.assert_allclose(
        judge.features(IMAGES[:300])[7], judge.features(IMAGES[7:8])[0], rtol=1e-4, atol=1e-5
    )


def test_it_is_trained_once_for_the_same_data_and_again_for_different_data(judge, monkeypatch):
    def never(*_):
        raise AssertionError("it was trained again")

    monkeypatch.setattr(judge_module, "train", never)
    again = judge_of(IMAGES[TRAIN], LABELS[TRAIN], epochs=4, seed=SEED)
    np.testing.assert_array_equal(again.features(IMAGES[:9]), judge.features(IMAGES[:9]))
    for changed in (
        {"seed": SEED + 1},
        {"epochs": 9},
        {"labels": LABELS[TRAIN][::-1]},
        {"images": IMAGES[TRAIN][::-1]},
    ):
        with pytest.raises(AssertionError, match="trained again"):
            judge_of(
                **{"images": IMAGES[TRAIN], "labels": LABELS[TRAIN], "epochs": 4, "seed": SEED}
                | changed
            )


def test_training_a_judge_does_not_change_the_random_numbers_that_follow(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path))
    host_generator().random(3)
    before = get_rng_state()
    for _ in ("trained", "loaded"):
        judge_of(IMAGES[:64], LABELS[:64], epochs=1)
        assert get_rng_state() == before


@pytest.mark.statistical
def test_the_frechet_multiple_of_training_images_is_one_and_that_of_noise_is_large(judge):
    train, test = IMAGES[TRAIN], IMAGES[TEST]
    assert judge.frechet_multiple(train, train, test) == pytest.approx(1)
    assert (
        judge.frechet_multiple(
            np.random.default_rng(SEED).random(train.shape, np.float32), train, test
        )
        > 10
    )


def test_the_frechet_multiple_compares_equal_numbers_of_images(judge):
    # The Frechet distance of 150 images is larger than that of 800.
    few = IMAGES[TRAIN][:150]
    assert judge.frechet_multiple(few, IMAGES[TRAIN], IMAGES[TEST]) == pytest.approx(1)


def test_masked_images_and_labels_are_refused():
    images, labels = np.zeros((2, 1, 8, 8), np.float32), np.arange(2)
    mask = np.zeros(images.shape, bool)
    with pytest.raises(TypeError, match="judge_of: images is MaskedArray .* a plain NumPy array"):
        judge_of(np.ma.masked_array(images, mask), labels)
    with pytest.raises(TypeError, match="judge_of: labels are MaskedArray .* a plain NumPy array"):
        judge_of(images, np.ma.masked_array(labels, [True, False]))
