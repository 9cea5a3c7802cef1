"""mixup and CutMix: images and labels are mixed in the same shares."""

import numpy as np
import pytest
from seeds import SEED

from tinycv.data import DataLoader, cutmix, mixup, one_hot

B, K = 300, 300
# image i is all i
X = np.ones((B, 2, 8, 6), np.float32) * np.arange(B, dtype=np.float32)[:, None, None, None]
# and of class i
Y = np.eye(K, dtype=np.float32)
both = pytest.mark.parametrize("mix", [mixup, cutmix])


def rng(seed=0):
    return np.random.default_rng(seed)


@both
def test_labels_stay_probabilities(mix):
    _, y = mix(X, Y, rng())
    assert y.shape == Y.shape and y.min() >= 0
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)


@both
def test_labels_have_the_shares_of_the_two_images(mix):
    x, y = mix(X, Y, rng())
    np.testing.assert_allclose(
        x.mean(axis=(1, 2, 3)), y @ np.arange(K, dtype=np.float32), rtol=1e-4, atol=1e-3
    )


def test_a_batch_has_one_share_and_each_box_its_own_position():
    shares = np.diag(mixup(X, Y, rng())[1])
    met_another = shares < 1
    assert met_another.sum() > B - 10 and len(np.unique(shares[met_another])) == 1
    boxes = cutmix(X, Y, rng())[0][:, 0] != X[:, 0]
    assert len(np.unique(boxes.reshape(B, -1), axis=0)) > 20


@both
def test_the_result_depends_on_the_generator_alone_and_the_arguments_are_not_changed(mix):
    x, y = X.copy(), Y.copy()
    first, again, other = (mix(x, y, rng(seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all((a != b).any() for a, b in zip(first, other, strict=True))
    assert (x == X).all() and (y == Y).all()


@both
def test_dtypes_are_kept(mix):
    x, y = mix(X, Y, rng())
    assert (x.dtype, y.dtype, x.shape) == (X.dtype, Y.dtype, X.shape)


@both
def test_a_batch_of_one_image_is_unchanged(mix):
    x, y = mix(X[5:6], Y[5:6], rng())
    np.testing.assert_allclose(x, X[5:6], rtol=1e-6)
    np.testing.assert_allclose(y, Y[5:6], rtol=1e-6)


@pytest.mark.statistical
def test_mixup_with_a_small_alpha_changes_few_batches_and_with_1_has_uniform_shares():
    chance = rng(SEED)
    even = {
        alpha: np.array(
            [abs(mixup(X[:2], Y[:2], chance, alpha)[1].max() - 0.5) for _ in range(1600)]
        )
        for alpha in (0.01, 1.0)
    }
    assert (even[0.01] > 0.49).mean() > 0.9
    # 0.5: an image that met itself
    assert even[1.0][even[1.0] < 0.5].mean() == pytest.approx(0.25, abs=0.03)


def test_cutmix_pastes_one_box_and_never_blends():
    x, y = cutmix(X, Y, rng())
    for i, image in enumerate(x):
        # the same box in every channel
        assert (image[0] == image[1]).all()
        foreign = image[0] != i
        assert len(np.unique(image[0])) <= 2
        if foreign.any():
            rows, columns = np.flatnonzero(foreign.any(axis=1)), np.flatnonzero(foreign.any(axis=0))
            assert (
                foreign.sum()
                == len(rows) * len(columns)
                == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            )
        assert y[i, i] == pytest.approx(1 - foreign.mean(), abs=1e-6)


def test_a_box_far_from_the_edges_has_the_share_that_was_drawn(monkeypatch):
    class Middle:
        def uniform(self, low, high, size):
            return np.full(size, high / 2)

    monkeypatch.setattr("tinycv.data.mix._drawn", lambda *_: (np.full(2, 0.75), np.array([1, 0])))
    x, y = cutmix(np.stack([np.zeros((1, 40, 20)), np.ones((1, 40, 20))]), np.eye(2), Middle())
    assert x[0].sum() == 20 * 10 and y[0].tolist() == [0.75, 0.25]


def test_a_loader_mixes_after_its_transform_and_resumes_with_the_same_bits():
    loader = DataLoader(X, Y, batch_size=100, seed=3, transform=lambda x, rng: x + 1000, mix=mixup)
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, start=1))
    for (x, y), (again, labels) in zip(whole[1:], rest, strict=True):
        assert (x == again).all() and (y == labels).all()
        np.testing.assert_allclose(
            x.mean(axis=(1, 2, 3)) - 1000, y @ np.arange(K, dtype=np.float32), rtol=1e-3, atol=1e-2
        )


def test_mix_without_labels_is_refused():
    with pytest.raises(ValueError, match="mix blends images and their labels"):
        DataLoader(X, batch_size=2, mix=mixup)


def test_one_hot_is_1_for_the_class_and_0_elsewhere():
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(np.array([], int), 3).shape == (0, 3)


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.array([0, 3]), "labels run from 0 to 3; 3 classes are numbered from 0"),
        (np.array([-1]), "labels run from -1"),
        (np.array([0.5]), r"is float64 of shape \(1,\)"),
        (np.eye(3, dtype=int), r"is int64 of shape \(3, 3\)"),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused(labels, message):
    kind = TypeError if labels.dtype.kind == "f" else ValueError if labels.ndim == 2 else IndexError
    with pytest.raises(kind, match=message):
        one_hot(labels, 3)


@both
@pytest.mark.parametrize("x, y", [(X, Y[:5]), (X, np.arange(B)), (X, Y.astype(int))])
def test_labels_that_are_no_probabilities_are_refused_and_one_hot_is_named(mix, x, y):
    with pytest.raises(ValueError, match=f"{mix.__name__} takes images .* one_hot makes them"):
        mix(x, y, rng())


@both
@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_an_alpha_that_is_not_above_0_is_refused(mix, alpha):
    with pytest.raises(ValueError, match=f"{mix.__name__}: alpha is {alpha}; .* more than 0"):
        mix(X, Y, rng(), alpha)


def test_mixup_of_integers_is_refused():
    with pytest.raises(TypeError, match="float images, not uint8"):
        mixup(X.astype(np.uint8), Y, rng())


class Drawn:
    """A generator that always draws this share, and pairs each image with the next one."""

    def __init__(self, share):
        self.share = share

    def beta(self, a, b):
        return self.share

    def permutation(self, n):
        return np.roll(np.arange(n), -1)


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_with_the_share_0_does_not_affect_the_result(share, lost, dtype, monkeypatch):
    monkeypatch.setattr("tinycv.data.inputs.generator", lambda value, what: value)
    x, y = np.ones((3, 1, 2, 2), dtype), np.eye(3, dtype=dtype)
    x[1], y[1] = lost, lost
    mixed, labels = mixup(x, y, Drawn(share))
    source = [0, 1, 2] if share else [1, 2, 0]
    np.testing.assert_array_equal(mixed, x[source])
    np.testing.assert_array_equal(labels, y[source])
    assert mixed.dtype == labels.dtype == dtype


def test_an_empty_box_does_not_use_the_other_labels(monkeypatch):
    monkeypatch.setattr("tinycv.data.inputs.generator", lambda value, what: value)
    monkeypatch.setattr(
        "tinycv.data.mix._interval", lambda rng, side, length: np.zeros((3, length), bool)
    )
    y = np.eye(3)
    y[1] = np.nan
    np.testing.assert_array_equal(cutmix(np.ones((3, 1, 2, 2)), y, Drawn(0.5))[1], y)
