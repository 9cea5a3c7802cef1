"""Synthetic faces: each attribute is visible, changes only its own part of the image, and is
independent of the others; and a user's own folder is read or refused with its line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from seeds import SEED

from tinycv.data import draw_faces, faces, faces_from_folder
from tinycv.data.faces import BINARY, CHUNK, RANGES


def difference(first, second):
    """(32, 32): how much a pixel differs between two drawings, at most over the colours."""
    return np.abs(draw_faces(first) - draw_faces(second))[0].max(axis=0)


def test_faces_are_images_with_one_value_of_every_attribute():
    images, attributes = faces(5, seed=3)
    assert images.shape == (5, 3, 32, 32) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert list(attributes) == [*BINARY, *RANGES]
    assert {value.shape for value in attributes.values()} == {(5,)}


def test_a_seed_makes_the_same_faces_and_another_seed_other_ones():
    np.testing.assert_array_equal(faces(4, seed=7)[0], faces(4, seed=7)[0])
    assert (faces(4, seed=7)[0] != faces(4, seed=8)[0]).any()


def test_the_images_are_drawings_of_the_attributes_also_across_chunks():
    images, attributes = faces(CHUNK + 3, seed=1)
    np.testing.assert_array_equal(images, draw_faces(attributes))


def test_chosen_attributes_are_those_of_all_faces():
    _, attributes = faces(20, seed=0, glasses=1, turn=np.linspace(-1, 1, 20))
    assert (attributes["glasses"] == 1).all()
    np.testing.assert_allclose(attributes["turn"], np.linspace(-1, 1, 20), atol=1e-6)
    assert len(np.unique(attributes["hat"])) == 2


def test_choosing_an_attribute_does_not_change_the_others():
    _, free = faces(50, seed=4)
    _, chosen = faces(50, seed=4, glasses=1)
    assert all((free[name] == chosen[name]).all() for name in free if name != "glasses")


@pytest.mark.statistical
def test_attributes_are_independent():
    _, attributes = faces(4000, seed=SEED)
    values = np.stack([attributes[name] for name in attributes], axis=1)
    correlation = np.corrcoef(values, rowvar=False) - np.eye(values.shape[1])
    assert np.abs(correlation).max() < 6 / 4000**0.5  # six standard errors


@pytest.mark.parametrize("name", BINARY)
def test_every_attribute_is_visible_on_every_face(name):
    """In all 32 combinations of the others, at least 12 pixels change by a tenth."""
    for code in range(32):
        others = {other: code >> i & 1 for i, other in enumerate(k for k in BINARY if k != name)}
        changed = difference(others | {name: 0}, others | {name: 1}) > 0.1
        assert changed.sum() >= 12, others


def test_a_hat_hides_nothing_of_the_glasses():
    for woman in (0, 1):
        bare = difference({"woman": woman}, {"woman": woman, "glasses": 1})
        hatted = difference({"woman": woman, "hat": 1}, {"woman": woman, "hat": 1, "glasses": 1})
        np.testing.assert_allclose(hatted, bare, atol=1e-6)


def test_glasses_change_only_the_middle_of_the_face():
    changed = difference({}, {"glasses": 1}) > 1e-6
    assert not changed[:8].any() and not changed[22:].any()


def test_a_turn_to_the_right_is_the_mirror_image_of_a_turn_to_the_left():
    right = draw_faces({"turn": 0.8, "smile": 1, "beard": 1, "light": 0.5})
    left = draw_faces({"turn": -0.8, "smile": 1, "beard": 1, "light": -0.5})
    np.testing.assert_allclose(right, left[..., ::-1], atol=1e-5)


def test_a_face_moved_by_one_pixel_is_the_same_face_one_pixel_further():
    moved, middle = draw_faces({"dx": 1, "dy": 1}), draw_faces({})
    np.testing.assert_allclose(moved[0, :, 1:, 1:], middle[0, :, :-1, :-1], atol=1e-5)


def test_edges_are_smooth_so_a_small_move_is_a_small_change():
    assert difference({}, {"dx": 0.05}).max() < 0.1


def test_light_makes_its_own_side_brighter():
    image = draw_faces({"light": 1})[0].mean(axis=0)
    assert image[:, 20:].mean() > image[:, :12].mean() + 0.02


@pytest.mark.parametrize(
    "chosen, words",
    [
        ({"nose": 1}, "faces: there is no attribute 'nose'; a face has glasses, woman"),
        ({"glasses": 0.5}, "faces: glasses is 0.5; it must be 0 or 1"),
        ({"turn": 1.5}, "faces: turn is 1.5; it must be from -1.0 to 1.0"),
        ({"skin": float("nan")}, "faces: skin is nan; it must be from 0.0 to 1.0"),
        ({"hat": [1, 0]}, r"faces: hat has shape \(2,\); it must be one number, or 3 numbers"),
    ],
)
def test_an_attribute_that_no_face_has_is_refused(chosen, words):
    with pytest.raises(ValueError, match=words):
        faces(3, **chosen)


# ── your own faces ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def own(tmp_path):
    """A folder of three photos and their attributes."""
    rng = np.random.default_rng(0)
    for name in ("1.png", "2.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "attributes.csv").write_text("file,glasses,woman\n1.png,1,0\nb.jpg,-1,1\n")
    return tmp_path


def test_a_folder_gives_the_photos_of_its_csv_in_order_with_their_attributes(own):
    images, attributes = faces_from_folder(own, size=16)
    assert images.shape == (2, 3, 16, 16) and images.dtype == np.float32
    assert 0 <= images.min() <= images.max() <= 1
    assert {name: list(v) for name, v in attributes.items()} == {"glasses": [1, 0], "woman": [0, 1]}


def test_a_photo_is_the_square_in_its_middle(own):
    Image.new("RGB", (60, 20), (255, 0, 0)).save(own / "1.png")
    image = faces_from_folder(own)[0][0]
    np.testing.assert_allclose(image, np.array([1, 0, 0])[:, None, None] * np.ones((3, 32, 32)))


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "attributes.csv begins with ''; its first line must be 'file' and the names"),
        ("name,glasses\n1.png,1\n", "attributes.csv begins with 'name,glasses'; its first line"),
        ("file,hat,hat\n1.png,1,1\n", "all different"),
        ("file,hat,\n1.png,1,1\n", "begins with 'file,hat,'; its first line"),
        ("file,glasses\n", "attributes.csv names no photo"),
        ("file,a\n1.png,1\n./1.png,0\n", "line 3 names ./1.png, as line 2 does; each photo must"),
        ("file,a,b\n1.png,1,0\n2.png,1\n", r"line 3 \(2.png\) has 2 values; the header has 3"),
        ("file,a\n1.png,1\n2.png,yes\n", r"line 3 \(2.png\): a is 'yes'; it must be 1 or 0"),
        ("file,a\n1.png,1\n9.png,1\n", "line 3: open_photo: .*9.png: there is no such file"),
        ("file,a\nattributes.csv,1\n", "line 2: open_photo: .*attributes.csv: not an image"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(own, text, words):
    (own / "attributes.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match="faces_from_folder: .*" + words):
        faces_from_folder(own)


def test_a_damaged_photo_is_refused_with_its_line(own):
    whole = (own / "b.jpg").read_bytes()
    (own / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="faces_from_folder: .*line 3: open_photo: .*b.jpg"):
        faces_from_folder(own)


def test_a_folder_without_the_csv_is_refused_with_its_name(own):
    (own / "attributes.csv").unlink()
    with pytest.raises(FileNotFoundError, match="faces_from_folder: .*attributes.csv: there is no"):
        faces_from_folder(own)


def test_a_csv_without_a_column_that_is_needed_is_refused_with_its_columns(own):
    with pytest.raises(ValueError, match="has no column 'hat'; it has glasses, woman"):
        faces_from_folder(own, columns=["woman", "hat"])


def test_a_needed_column_with_one_value_in_every_line_is_refused(own):
    (own / "attributes.csv").write_text("file,glasses,woman\n1.png,1,0\nb.jpg,1,1\n")
    with pytest.raises(ValueError, match="glasses is 1 in every line; some photos must show it"):
        faces_from_folder(own, columns=["glasses"])
    assert faces_from_folder(own, columns=["woman"])[1]["glasses"].tolist() == [1, 1]
