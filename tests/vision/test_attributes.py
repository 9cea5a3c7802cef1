"""The attribute classifier learns several attributes of one image, also continuous ones."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv.vision import ConvNet, attribute_probabilities, train_attributes
from tinycv.vision.attributes import attribute_loss


def squares(n, seed):
    """Images (n, 1, 8, 8) with a bright upper half, a bright left half, both or neither; and, last,
    their brightness elsewhere."""
    rng = np.random.default_rng(seed)
    attributes = rng.integers(0, 2, (n, 3)).astype(np.float32)
    attributes[:, 2] = rng.random(n)
    images = np.zeros((n, 1, 8, 8), np.float32)
    images[:, 0, :4] += 0.5 * attributes[:, 0, None, None]
    images[:, 0, :, :4] += 0.5 * attributes[:, 1, None, None]
    images[:, 0, 6:, 6:] += attributes[:, 2, None, None]
    return images + rng.normal(size=images.shape).astype(np.float32) * 0.02, attributes


def test_each_attribute_of_unseen_images_is_learned_on_its_own():
    x, y = squares(640, 0)
    tinycv.manual_seed(0)
    model = ConvNet(3, 8, 1, width=4)
    train_attributes(model, x, y, epochs=8)
    x_test, y_test = squares(200, 1)
    found = attribute_probabilities(model, x_test)
    assert found.shape == (200, 3) and not model.training
    assert ((found[:, :2] > 0.5) == (y_test[:, :2] > 0.5)).mean() > 0.9
    assert np.corrcoef(found[:, 2], y_test[:, 2])[0, 1] > 0.8


def test_the_loss_is_the_mean_cross_entropy_of_all_attributes():
    x, y = squares(4, 0)
    tinycv.manual_seed(0)
    model = ConvNet(3, 8, 1, width=2).eval()
    p = attribute_probabilities(model, x)
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    loss = attribute_loss(model, tinycv.tensor(x), tinycv.tensor(y))
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)


def test_probabilities_do_not_depend_on_the_batch_size():
    x, _ = squares(7, 0)
    model = ConvNet(3, 8, 1, width=2).eval()
    np.testing.assert_allclose(
        attribute_probabilities(model, x, 3), attribute_probabilities(model, x), atol=1e-6
    )


@pytest.mark.parametrize(
    "attributes, words",
    [
        (np.full((4, 3), 2.0), "attributes run from 2.0 to 2.0; they must be numbers"),
        (np.full((4, 3), np.nan), "attributes run from nan to nan"),
        (np.zeros((3, 3)), r"attributes has shape \(3, 3\); it must be numbers \(4, A\)"),
        (
            np.zeros((4, 2)),
            r"attribute_loss: model returned scores \(4, 3\) for attributes \(4, 2\)",
        ),
    ],
)
def test_targets_that_are_no_probabilities_are_refused(attributes, words):
    with pytest.raises(ValueError, match=words):
        train_attributes(ConvNet(3, 8, 1, width=2), squares(4, 0)[0], attributes, 1)
