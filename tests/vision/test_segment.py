"""A segmenter learns to read textures, and mean IoU is what its definition says."""

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.nn import Flatten
from tinycv.nn.losses import cross_entropy
from tinycv.optim import Adam
from tinycv.vision.segment import Segmenter, iou_by_class, mean_iou, pixel_cross_entropy, segment

RNG = np.random.default_rng(0)


def test_iou_is_the_overlap_divided_by_the_union():
    labels = np.array([[[0, 0, 1, 1]]])
    predicted = np.array([[[0, 1, 1, 1]]])
    np.testing.assert_allclose(iou_by_class(predicted, labels, 2), [1 / 2, 2 / 3])
    assert mean_iou(predicted, labels, 2) == pytest.approx(7 / 12)


def test_iou_equals_a_loop_over_the_classes():
    labels, predicted = RNG.integers(0, 5, (2, 3, 8, 8))
    expected = [
        ((predicted == k) & (labels == k)).sum() / ((predicted == k) | (labels == k)).sum()
        for k in range(5)
    ]
    np.testing.assert_allclose(iou_by_class(predicted, labels, 5), expected)


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    labels = np.zeros((1, 4, 4), int)
    assert np.isnan(iou_by_class(labels, labels, 3)[1:]).all()
    assert mean_iou(labels, labels, 3) == 1


def test_scores_have_the_size_of_the_images():
    assert Segmenter(5, width=2)(RNG.random((2, 3, 12, 8), np.float32)).shape == (2, 5, 12, 8)


def test_the_loss_is_the_mean_cross_entropy_of_all_pixels():
    scores, labels = RNG.normal(size=(2, 3, 4, 4)), RNG.integers(0, 3, (2, 4, 4))
    pixels = [
        cross_entropy(Tensor(scores[None, b, :, i, j]), Tensor(labels[None, b, i, j])).numpy()
        for b in range(2)
        for i in range(4)
        for j in range(4)
    ]
    found = pixel_cross_entropy(Tensor(scores), Tensor(labels)).numpy()
    np.testing.assert_allclose(found, np.mean(pixels), rtol=1e-6)


def test_it_learns_which_half_has_stripes():
    tinycv.manual_seed(0)
    labels = np.zeros((16, 8, 8), np.int64)
    labels[::2, :, :4] = labels[1::2, :, 4:] = 1
    stripes = np.where(np.arange(8)[:, None] % 2, 0.9, 0.1)
    images = np.where(labels, stripes, 0.5)[:, None].repeat(3, axis=1).astype(np.float32)
    model = Segmenter(2, width=4)
    optimizer = Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        pixel_cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert (segment(model.eval(), images) == labels).mean() > 0.9


def test_labels_out_of_range_are_refused():
    labels = np.full((1, 4, 4), 3)
    with pytest.raises(IndexError, match="labels holds numbers from 3 to 3; 3 classes"):
        mean_iou(np.zeros((1, 4, 4), int), labels, 3)


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_the_kind_of_whole_numbers_does_not_matter(kind):
    labels = np.array([[[0, 1], [1, 2]]])
    assert mean_iou(labels.astype(kind), labels, 3) == 1


def test_nan_is_not_taken_for_the_first_class():
    with pytest.raises(ValueError, match="segment: model returned scores with NaN"):
        segment(Segmenter(3, width=2).eval(), np.full((1, 3, 8, 8), np.nan, np.float32))


def test_a_model_without_a_score_per_pixel_is_refused():
    with pytest.raises(ValueError, match=r"segment: model returned .* scores \(1, K, 8, 8\)"):
        segment(Flatten(), np.zeros((1, 3, 8, 8), np.float32))
