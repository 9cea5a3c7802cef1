"""The convolutional network: its sizes, its certificate, its locality, and that it learns."""

import numpy as np
import pytest
from certified import certify_layer
from near import near
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.data import DataLoader, digits_8x8, stratified_folds
from tinycv.nn.functional import cross_entropy
from tinycv.optim import Adam
from tinycv.training.loop import fit
from tinycv.vision import ConvNet

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(5, 2, 9, 9)).astype(np.float32)


def small():
    return ConvNet(num_classes=3, image_size=9, in_channels=2, width=2)


@pytest.mark.parametrize("image_size", [4, 8, 14, 28])
def test_every_image_gets_a_score_for_every_class_and_features_that_are_not_negative(
    device, image_size
):
    model = ConvNet(10, image_size, width=3).to(device).eval()
    images = Tensor(np.ones((2, 1, image_size, image_size), np.float32), device=device)
    assert model(images).shape == (2, 10)
    features = model.features(images).numpy()
    assert features.shape == (2, 12) and (features >= 0).all()


def test_scores_are_a_linear_function_of_the_features(device):
    model, images = small().to(device).eval(), Tensor(IMAGES, device=device)
    near(model(images).numpy(), model.head(model.features(images)).numpy())


def test_after_training_an_image_does_not_depend_on_its_batch(device):
    model = small().to(device)
    model(Tensor(IMAGES, device=device))  # moves the running statistics
    model.eval()
    batched = model(Tensor(IMAGES, device=device)).numpy()
    np.testing.assert_allclose(
        model(Tensor(IMAGES[:1], device=device)).numpy(), batched[:1], rtol=1e-4, atol=1e-6
    )


def test_a_distant_pixel_does_not_change_the_output_of_the_first_convolution():
    model, moved = small().eval(), IMAGES.copy()
    moved[:, :, 8, 8] += 1
    before, after = model.conv1(Tensor(IMAGES)).numpy(), model.conv1(Tensor(moved)).numpy()
    changed = np.argwhere((before != after).any(axis=(0, 1)))
    # only rows and columns 7 and 8 change: the reach of the window
    assert changed.min() == 7


@pytest.mark.parametrize("training", [True, False], ids=["training", "after"])
def test_the_whole_network_is_certified(training):
    # A seed for which no kink of a ReLU or a maximum lies within the step of a finite difference,
    # as for 9 seeds in 10.
    model = ConvNet(num_classes=3, image_size=5, in_channels=2, width=1)
    certify_layer(model.train(training), np.random.default_rng(0).normal(size=(3, 2, 5, 5)))


def learn(model, images, labels, epochs):
    loader = DataLoader(images, labels, batch_size=64, seed=SEED)
    fit(
        model,
        Adam(model.parameters(), lr=1e-2),
        lambda m, x, y: cross_entropy(m(x), y),
        loader,
        epochs,
        progress=False,
    )
    return model.eval()


def accuracy(model, images, labels):
    return (
        model(Tensor(images, device=model.head.bias.device)).numpy().argmax(axis=1) == labels
    ).mean()


@pytest.mark.statistical
def test_it_memorises_128_digits(device):
    images, labels = (a[:128] for a in digits_8x8())
    assert (
        accuracy(learn(ConvNet(10, 8, width=4).to(device), images, labels, 30), images, labels)
        > 0.95
    )


@pytest.mark.statistical
def test_it_classifies_digits_that_it_has_not_seen():
    images, labels = digits_8x8()
    train, held = next(iter(stratified_folds(labels, folds=5, seed=SEED)))
    assert (
        accuracy(
            learn(ConvNet(10, 8, width=8), images[train], labels[train], 3),
            images[held],
            labels[held],
        )
        > 0.8
    )


def test_an_image_too_small_to_be_halved_twice_is_refused():
    with pytest.raises(ValueError, match="image_size is 3; it must be at least 4"):
        ConvNet(10, 3)


@pytest.mark.parametrize("shape", [(4, 2, 9, 8), (4, 1, 9, 9), (2, 9, 9)])
def test_images_of_another_size_are_refused_with_both_sizes(shape):
    with pytest.raises(ValueError) as caught:
        small()(tinycv.ones(*shape))
    assert str(shape) in str(caught.value) and "(B, 2, 9, 9)" in str(caught.value)
