"""Photos and textures that ship with scikit-learn and scikit-image."""

import socket
import sys

import numpy as np
import pytest

from tinycv.data import PhotoCrops, credit, sample_photo
from tinycv.data.sample_photos import ALL, TEXTURES, halvings

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ALL)
def test_every_photo_loads_without_a_network(name, monkeypatch):
    def no_network(*args, **options):
        raise AssertionError("a photo was downloaded")

    monkeypatch.setattr(socket, "socket", no_network)
    photo = sample_photo(name, size=16)
    assert photo.shape == (3, 16, 16) and photo.dtype == np.float32
    assert 0 <= photo.min() < photo.max() <= 1


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_has_three_equal_channels(name):
    photo = sample_photo(name)
    assert photo.shape == (3, 512, 512)
    assert (photo[0] == photo[1]).all() and (photo[0] == photo[2]).all()


def test_a_box_of_its_own_size_is_that_part_of_the_photo():
    whole, part = sample_photo("chelsea"), sample_photo("chelsea", size=50, box=(20, 30, 50))
    np.testing.assert_allclose(part, whole[:, 20:70, 30:80], rtol=0, atol=1e-6)


def test_a_box_outside_the_photo_is_refused_with_the_size_of_the_photo():
    with pytest.raises(ValueError, match="must lie inside chelsea, which is 300 x 451"):
        sample_photo("chelsea", box=(200, 0, 101))


def test_an_unknown_photo_is_refused_with_the_names_that_there_are():
    with pytest.raises(ValueError, match="sample_photo: name is 'mona lisa'; .*'china', 'flower'"):
        sample_photo("mona lisa")


@pytest.mark.parametrize(
    "name, module, package",
    [
        ("china", "sklearn.datasets", "scikit-learn"),
        ("brick", "skimage.data", "scikit-image"),
    ],
)
def test_without_its_package_a_photo_names_the_pip_command(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
        sample_photo(name)


def test_the_authors_of_photos_that_demand_it_are_named():
    assert credit(["china", "flower", "china"]) == (
        "china: danielbuechele, CC BY 2.0; flower: vultilion, CC BY 2.0"
    )


def test_crops_are_parts_of_the_photos_and_repeat_with_the_seed():
    crops = PhotoCrops([sample_photo("coffee", 64), sample_photo("brick", 80)], 16)
    (a,), (b,) = crops(5, np.random.default_rng(1)), crops(5, np.random.default_rng(1))
    assert a.shape == (5, 3, 16, 16) and a.dtype == np.float32
    assert (a == b).all()
    assert (a != crops(5, np.random.default_rng(2))[0]).any()


def test_halvings_are_means_of_2_x_2_pixels():
    picture = RNG.random((3, 8, 9), np.float32)
    first, second = halvings(picture, 4)
    assert first is picture and second.shape == (3, 4, 4)
    np.testing.assert_allclose(second[:, 0, 0], picture[:, :2, :2].mean(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("value", [255, np.nan])
def test_values_that_are_no_pixels_are_refused(value):
    with pytest.raises(ValueError, match=r"PhotoCrops: pictures\[0\] runs from .* from 0 to 1"):
        PhotoCrops([np.full((3, 20, 20), value, np.float32)], 16)


def test_a_photo_smaller_than_a_crop_is_refused():
    with pytest.raises(ValueError, match=r"PhotoCrops: pictures\[0\] .* at least 16"):
        PhotoCrops([sample_photo("coffee", 8)], 16)
