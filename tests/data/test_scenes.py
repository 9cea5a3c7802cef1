"""Synthetic landscapes: the maps and images are as scenes.py says, and a painted PNG is read."""

import numpy as np
import pytest
from PIL import Image

from tinycv.data import label_map_from_png, paint, scenes
from tinycv.data.scenes import (
    CLASSES,
    CLOUD,
    COLOURS,
    GRASS,
    LEGEND,
    SEA,
    SKY,
    STYLES,
    TOLERANCE,
    TREE,
    label_maps,
    patchworks,
    render,
    render_any_colours,
)
from tinycv.vision import mean_iou


def uniform_maps(classes):
    """One map per class number, all of that class."""
    return np.broadcast_to(np.array(classes, np.uint8)[:, None, None], (len(classes), 32, 32))


def as_picture(labels, scale=1):
    """The label map as a Pillow image with scale x scale pixels for each of its pixels."""
    return Image.fromarray(LEGEND[labels].repeat(scale, axis=0).repeat(scale, axis=1))


def test_scenes_have_the_shapes_and_dtypes_that_they_promise():
    labels, images, styles = scenes(7, seed=1)
    assert labels.shape == (7, 32, 32) and labels.dtype == np.uint8
    assert images.shape == (7, 3, 32, 32) and images.dtype == np.float32
    assert styles.shape == (7,) and styles.dtype == np.int64
    assert images.min() >= 0 and images.max() <= 1


def test_a_seed_always_gives_the_same_scenes():
    for first, second in zip(scenes(5, seed=3), scenes(5, seed=3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (scenes(5, seed=3)[0] != scenes(5, seed=4)[0]).any()


def test_every_class_and_every_style_occurs():
    labels, _, styles = scenes(200)
    assert set(np.unique(labels)) == set(range(len(CLASSES)))
    assert set(styles) == set(range(len(STYLES)))


def test_sky_and_clouds_are_never_below_the_ground():
    labels = label_maps(200, np.random.default_rng(0))
    above = (labels == SKY) | (labels == CLOUD)
    ground = (labels == SEA) | (labels == GRASS)
    # a pixel of the sky that lies under one of the ground, in the same column
    assert not (above & (np.cumsum(ground, axis=1) > 0)).any()


def test_trees_stand_on_grass():
    labels = label_maps(300, np.random.default_rng(0))
    with_trees = labels[(labels == TREE).any(axis=(1, 2))]
    assert len(with_trees) > 50
    assert (with_trees == GRASS).any(axis=(1, 2)).mean() > 0.95  # a tree may hide the last grass


def test_styles_change_the_colours_of_the_same_map():
    labels = label_maps(1, np.random.default_rng(0)).repeat(4, axis=0)
    means = render(labels, np.arange(4), np.random.default_rng(1)).mean(axis=(2, 3))
    differences = np.abs(means[:, None] - means[None]).max(axis=-1)
    assert differences[~np.eye(4, dtype=bool)].min() > 0.05


def test_grass_in_winter_is_as_white_as_a_cloud():
    winter = COLOURS[STYLES.index("winter")]
    assert np.abs(winter[GRASS] - winter[CLOUD]).max() < 0.05


def test_colour_alone_does_not_tell_the_class():
    """The most frequent class of each of 12 x 12 x 12 colours, on other scenes."""

    def colours(images):
        red, green, blue = np.minimum(images * 12, 11).astype(int).swapaxes(0, 1)
        return (red * 12 + green) * 12 + blue

    (labels, images, _), (test_labels, test_images, _) = scenes(300, seed=0), scenes(60, seed=1)
    frequency = np.zeros((12**3, 6))
    np.add.at(frequency, (colours(images).ravel(), labels.ravel()), 1)
    guessed = frequency.argmax(axis=1)[colours(test_images)]
    assert 0.3 < mean_iou(guessed, test_labels, 6) < 0.65


def test_textures_tell_classes_of_one_colour_apart():
    # the mean difference of neighbours across and down, in units of the spread
    labels = uniform_maps([SKY, SEA, GRASS]).repeat(40, axis=0)
    grey = render_any_colours(labels, np.random.default_rng(0)).mean(axis=1)
    across, down = (np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2)) for axis in (2, 1))
    ratio = (across / down).reshape(3, 40)
    assert ratio[1].max() < 0.7  # waves change downwards
    assert ratio[2].min() > 1.4  # blades change across
    assert (across[:40] < across[80:].min()).all()  # the sky is smooth


def test_random_colours_do_not_depend_on_the_class():
    labels = uniform_maps(range(6)).repeat(150, axis=0)
    means = (
        render_any_colours(labels, np.random.default_rng(0)).mean(axis=(2, 3)).reshape(6, 150, 3)
    )
    standard_error = means.std(axis=1) / 150**0.5
    difference = means.mean(axis=1) - means.mean(axis=(0, 1))
    assert np.abs(difference / standard_error).max() < 5


def test_a_patchwork_has_at_most_as_many_regions_as_points_and_some_have_one():
    labels = patchworks(300, np.random.default_rng(0), seeds=4)
    kinds = np.array([len(np.unique(one)) for one in labels])
    assert kinds.max() <= 4 and (kinds == 1).any()


def test_a_map_saved_as_png_is_read_back(tmp_path):
    labels = label_maps(1, np.random.default_rng(5))[0]
    as_picture(labels).save(tmp_path / "map.png")
    np.testing.assert_array_equal(label_map_from_png(tmp_path / "map.png"), labels)


def test_a_map_painted_eight_times_as_large_is_read(tmp_path):
    labels = label_maps(1, np.random.default_rng(6))[0]
    as_picture(labels, scale=8).save(tmp_path / "map.png")
    np.testing.assert_array_equal(label_map_from_png(tmp_path / "map.png"), labels)


def test_colours_a_little_off_the_legend_are_taken(tmp_path):
    labels = label_maps(1, np.random.default_rng(7))[0]
    off = np.random.default_rng(0).integers(-TOLERANCE, TOLERANCE + 1, (32, 32, 3))
    picture = np.clip(LEGEND[labels].astype(int) + off, 0, 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "map.png")
    np.testing.assert_array_equal(label_map_from_png(tmp_path / "map.png"), labels)


def test_colours_of_the_legend_are_farther_apart_than_twice_the_tolerance():
    colours = LEGEND.astype(int)
    distances = np.abs(colours[:, None] - colours[None]).max(axis=-1)
    assert distances[~np.eye(6, dtype=bool)].min() > 2 * TOLERANCE


def test_unknown_colours_are_counted_and_the_first_is_located(tmp_path):
    picture = np.array(LEGEND[uniform_maps([SKY])[0]])
    picture[3, 5] = picture[20, 1] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "map.png")
    words = r"2 of 1024 pixels .* \(255, 0, 0\) at row 3, column 5; the legend is cloud \(206, 212"
    with pytest.raises(ValueError, match=words):
        label_map_from_png(tmp_path / "map.png")


@pytest.mark.parametrize("size", [(30, 30), (64, 32), (16, 16)])
def test_a_picture_of_another_size_is_refused(tmp_path, size):
    Image.new("RGB", size, tuple(LEGEND[SKY].tolist())).save(tmp_path / "map.png")
    words = f"is {size[0]} x {size[1]} pixels; it must be 32 x 32, or a square of a multiple"
    with pytest.raises(ValueError, match=words):
        label_map_from_png(tmp_path / "map.png")


def test_paint_has_the_colours_of_the_legend():
    picture = paint(uniform_maps([TREE]))
    assert picture.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(picture[0, :, 0, 0] * 255, LEGEND[TREE])


@pytest.mark.parametrize("call", [paint, lambda x: render(x, np.array([0]), RNG)])
def test_labels_counted_from_one_are_refused(call):
    with pytest.raises(IndexError, match="from 1 to 6; the 6 classes are numbered from 0 to 5"):
        call(np.arange(1, 7).repeat(171)[: 32 * 32].reshape(1, 32, 32))


RNG = np.random.default_rng(0)
