"""The recipe for small classifiers: which weights decay, which weights it leaves at the end, and
that it learns."""

from functools import partial

import numpy as np
import pytest
from near import near
from seeds import SEED

import tinycv
from tinycv.data import digits_8x8, mixup, random_affine
from tinycv.vision import ConvNet, ViT, accuracy, probabilities, train_classifier
from tinycv.vision.recipe import groups

IMAGES, LABELS = (a[:256] for a in digits_8x8())
SMALL_CONV = partial(ConvNet, num_classes=10, image_size=8, width=4)
SMALL_VIT = partial(ViT, num_classes=10, image_size=8, patch_size=4, dim=16, depth=1, heads=2)
both = pytest.mark.parametrize("make", [SMALL_CONV, SMALL_VIT], ids=["conv net", "ViT"])


@both
def test_only_matrices_and_convolutions_decay_and_every_weight_is_in_a_group(make):
    model = make()
    names = {p: name for name, p in model.named_parameters()}
    decay, others = (
        [names[p] for p in group["params"]] for group in groups(list(model.parameters()), 0.05)
    )
    assert sorted(decay + others) == sorted(names.values())
    assert all(name.endswith("weight") and "norm" not in name for name in decay)
    assert all(
        name.endswith("bias") or "norm" in name or name in ("cls_token", "pos_embed")
        for name in others
    )


@pytest.mark.statistical
@both
def test_it_learns_digits_and_reports_the_accuracy(make):
    model = make()
    before = accuracy(model.eval(), IMAGES, LABELS)
    history = train_classifier(model, IMAGES, LABELS, 30, seed=SEED, held_out=(IMAGES, LABELS))
    assert not model.training and len(history.losses) == 30 * 4
    assert accuracy(model, IMAGES, LABELS) == history.metrics[-1]["accuracy"]
    assert history.metrics[-1]["accuracy"] - before > 0.15


@both
def test_every_device_takes_the_same_steps_and_reports_the_same(make, device):
    images, labels, taken = IMAGES[:64], LABELS[:64], []
    for place in ("cpu", device):
        tinycv.manual_seed(0)
        model = make().to(place)
        history = train_classifier(
            model, images, labels, 2, seed=SEED, batch_size=32, held_out=(images, labels)
        )
        assert accuracy(model, images, labels) == history.metrics[-1]["accuracy"]
        taken.append((history.losses, model.state_dict()))
    (losses, weights), (others, found) = taken
    np.testing.assert_allclose(others, losses, rtol=1e-3)
    for name, tensor in weights.items():
        np.testing.assert_allclose(found[name].numpy(), tensor.numpy(), rtol=1e-2, atol=1e-3)


@pytest.mark.statistical
@both
def test_it_learns_in_float16_too(make):
    model = make()
    before = accuracy(model.eval(), IMAGES, LABELS)
    train_classifier(model, IMAGES, LABELS, 30, seed=SEED, half=True)
    assert {p.dtype for p in model.parameters()} == {np.dtype("float16")}
    assert accuracy(model, IMAGES, LABELS) - before > 0.15


@pytest.mark.statistical
def test_it_learns_from_augmented_and_mixed_images():
    transform = partial(random_affine, degrees=5, translate=0.05)
    model = SMALL_CONV(width=8)
    train_classifier(
        model, IMAGES, LABELS, 12, seed=SEED, transform=transform, mix=mixup, batch_size=16
    )
    assert accuracy(model, IMAGES, LABELS) > 0.7


def test_a_resumed_training_ends_with_the_same_weights(tmp_path):
    def trained(epochs, name):
        tinycv.manual_seed(0)
        model = SMALL_CONV()
        train_classifier(
            model, IMAGES, LABELS, 2, mix=mixup, checkpoint=tmp_path / name if name else None
        )
        return model.state_dict()

    # the second run finds everything done
    at_once, twice = trained(2, None), [trained(2, "kept") for _ in range(2)][1]
    assert (tmp_path / "kept").exists()
    for name, tensor in at_once.items():
        assert (tensor.numpy() == twice[name].numpy()).all(), name


def test_probabilities_do_not_depend_on_the_batch_size(device):
    model = SMALL_VIT().to(device).eval()
    every = probabilities(model, IMAGES[:10])
    assert every.shape == (10, 10)
    np.testing.assert_allclose(every.sum(axis=1), 1, rtol=1e-5)
    near(probabilities(model, IMAGES[:10], batch_size=3), every, rtol=1e-4)


def test_accuracy_is_the_share_of_correct_classes():
    model = SMALL_CONV().eval()
    guess = probabilities(model, IMAGES[:8]).argmax(axis=1)
    assert accuracy(model, IMAGES[:8], np.where(np.arange(8) < 6, guess, guess + 1)) == 0.75
