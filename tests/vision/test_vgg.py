"""VGG-19 features: names, shapes, and what is said of a file that is no VGG-19. (The values are
compared with PyTorch in tests/parity/test_torch_vgg.py.)"""

import numpy as np
import pytest
from vgg_file import vgg_arrays, vgg_file

from tinycv import Tensor
from tinycv.training.checkpoint import CheckpointError, save
from tinycv.vision import StyleObjective, VGG19Features
from tinycv.vision.vgg import expected_shapes

RNG = np.random.default_rng(0)
PHOTO = Tensor(RNG.uniform(0, 1, (1, 3, 32, 32)).astype(np.float32))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return vgg_file(tmp_path_factory.mktemp("vgg"))


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_five_style_layers_and_the_content_have_the_shapes_of_vgg_19(path, pooling):
    features = VGG19Features(path, pooling)(PHOTO)
    assert [maps.shape for maps in features.style] == [
        (1, 64, 32, 32),
        (1, 128, 16, 16),
        (1, 256, 8, 8),
        (1, 512, 4, 4),
        (1, 512, 2, 2),
    ]
    assert features.content.shape == (1, 512, 4, 4)
    assert all((maps.numpy() >= 0).all() for maps in features.style)


def test_the_weights_are_not_learned(path):
    assert not list(VGG19Features(path).parameters())


def test_its_names_are_those_of_torchvision_up_to_conv5_1():
    names = [name for name in expected_shapes() if name.endswith("weight")]
    numbers = [int(name.split(".")[1]) for name in names]
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28]


def test_it_is_an_extractor_for_style_transfer(path):
    x = Tensor(PHOTO.numpy(), requires_grad=True)
    StyleObjective(None, 1 - PHOTO, VGG19Features(path))(x).backward()
    assert np.isfinite(x.grad.numpy()).all() and (x.grad.numpy() != 0).any()


def test_the_classifier_and_later_convolutions_in_the_file_are_ignored(tmp_path):
    more = {"classifier.0.weight": np.ones((2, 2), np.float32), "features.34.bias": np.ones(512)}
    save(tmp_path / "whole.safetensors", vgg_arrays() | more)
    VGG19Features(tmp_path / "whole.safetensors")


def changed(change):
    arrays = vgg_arrays()
    change(arrays)
    return arrays


WRONG = {
    "missing": (lambda a: a.pop("features.28.bias"), "missing: features.28.bias"),
    "batch norm": (
        lambda a: a.update({"features.1.weight": np.ones(64, np.float32)}),
        "unexpected: features.1.weight",
    ),
    "shape": (
        lambda a: a.update({"features.0.weight": np.ones((64, 1, 3, 3), np.float32)}),
        r"of another shape: features.0.weight is \(64, 1, 3, 3\), should be \(64, 3, 3, 3\)",
    ),
    "NaN": (lambda a: a["features.0.bias"].fill(np.nan), "NaN or infinity: features.0.bias"),
    "infinity": (lambda a: a["features.2.bias"].fill(np.inf), "NaN or infinity: features.2.bias"),
    "integers": (
        lambda a: a.update({"features.0.bias": np.ones(64, np.int64)}),
        r"not of real numbers: features.0.bias \(int64\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_vgg_19_is_refused_with_what_is_there_and_what_is_taken(name, tmp_path):
    change, words = WRONG[name]
    save(tmp_path / "wrong.safetensors", changed(change))
    with pytest.raises(CheckpointError, match=f"not VGG-19 by the names of torchvision.*{words}"):
        VGG19Features(tmp_path / "wrong.safetensors")


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        VGG19Features(tmp_path / "none.pt")


def test_an_image_that_four_poolings_would_use_up_is_refused(path):
    with pytest.raises(ValueError, match="VGG19Features: x is 8 x 8 pixels; .* at least 16"):
        VGG19Features(path)(PHOTO[:, :, :8, :8])
