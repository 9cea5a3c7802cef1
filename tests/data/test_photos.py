import sys

import numpy as np
import pytest
from PIL import Image

from tinycv.data import image_folder
from tinycv.data.photos import FILTERS, open_photo, pixels, square

RNG = np.random.default_rng(0)


def picture(height=6, width=8, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path)
    return array


@pytest.fixture
def pets(tmp_path):
    arrays = [
        put(tmp_path / name, picture())
        for name in ("cat/1.png", "cat/10.PNG", "dog/a/2.png", "dog/b.bmp")
    ]
    (tmp_path / "cat/notes.txt").write_text("not an image")
    (tmp_path / "readme.md").write_text("no class")
    (tmp_path / ".cache").mkdir()
    return tmp_path, np.stack(arrays).transpose(0, 3, 1, 2) / np.float32(255)


# ── a folder of class folders ────────────────────────────────────────────────────────────────────


def test_each_folder_is_a_class_and_every_image_below_it_an_example(pets):
    folder, expected = pets
    images, labels, names = image_folder(str(folder))
    assert (images.dtype, labels.dtype, names) == ("f4", "i8", ["cat", "dog"])
    assert labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(images, expected)


def test_images_of_several_sizes_are_cut_to_one_size(pets):
    folder, _ = pets
    put(folder / "dog/c.png", picture(20, 11))
    images, labels, _ = image_folder(folder, size=4)
    assert images.shape == (5, 3, 4, 4) and labels.tolist() == [0, 0, 1, 1, 1]


def test_images_with_one_channel_are_grey(pets):
    folder, _ = pets
    images, _, _ = image_folder(folder, channels=1)
    np.testing.assert_allclose(
        images[0, 0], np.asarray(Image.open(folder / "cat/1.png").convert("L")) / 255, rtol=1e-6
    )


def test_images_of_several_sizes_are_refused_without_a_size(pets):
    folder, _ = pets
    put(folder / "dog/c.png", picture(20, 11))
    with pytest.raises(ValueError, match=r"c\.png is 11 x 20, .*cat.1\.png is 8 x 6: give size="):
        image_folder(folder)


@pytest.mark.parametrize(
    "content, words", [(b"no image at all", "not an image"), (None, "broken image")]
)
def test_a_broken_image_is_named(content, words, pets):
    folder, _ = pets
    whole = (folder / "cat/1.png").read_bytes()
    (folder / "dog/bad.png").write_bytes(content or whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"bad\.png: .*{words}"):
        image_folder(folder)


def test_a_folder_that_is_not_there_or_a_file_is_refused(pets):
    for place in ("nowhere", "readme.md"):
        with pytest.raises(FileNotFoundError, match=f"{place}: there is no such folder"):
            image_folder(pets[0] / place)


def test_a_folder_without_folders_is_refused(tmp_path):
    put(tmp_path / "a.png", picture())
    with pytest.raises(
        FileNotFoundError, match=r"holds no folders; expected one folder of images per class"
    ):
        image_folder(tmp_path)


def test_a_class_without_images_is_refused_by_name(pets):
    (pets[0] / "eel").mkdir()
    with pytest.raises(FileNotFoundError, match=r"eel: no image there .*fill it or move it away"):
        image_folder(pets[0])


# ── one photo ────────────────────────────────────────────────────────────────────────────────────


def test_hidden_files_and_folders_and_those_of_zip_files_are_ignored(pets):
    folder, _ = pets
    put(folder / "cat/.ipynb_checkpoints/1-checkpoint.png", picture())
    put(folder / "__MACOSX/1.png", picture())
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "cat/._1.png"):
        (folder / name).write_bytes(b"\0\1")
    _, labels, names = image_folder(folder)
    assert labels.tolist() == [0, 0, 1, 1] and names == ["cat", "dog"]


def test_a_warning_says_that_an_image_beside_the_folders_is_not_read(pets):
    folder, _ = pets
    put(folder / "loose.png", picture())
    with pytest.warns(RuntimeWarning, match=r"beside .* not read \(1, such as loose\.png\)"):
        assert len(image_folder(folder)[0]) == 4


def test_broken_images_are_left_out_if_asked_and_a_warning_names_them(pets):
    folder, expected = pets
    (folder / "cat/0.png").write_bytes(b"no image")
    (folder / "dog/c.jpg").write_bytes((folder / "cat/1.png").read_bytes()[:60])
    with pytest.warns(RuntimeWarning, match=r"2 of 6 files .*left out: .*0\.png: .*c\.jpg"):
        images, labels, names = image_folder(folder, broken="skip")
    np.testing.assert_array_equal(images, expected)
    assert labels.tolist() == [0, 0, 1, 1] and names == ["cat", "dog"]


def test_a_class_of_broken_images_alone_is_refused_also_if_they_may_be_left_out(pets):
    folder, _ = pets
    put(folder / "emu/1.png", picture())
    (folder / "emu/1.png").write_bytes(b"no image")
    with (
        pytest.warns(RuntimeWarning, match="left out"),
        pytest.raises(ValueError, match=r"no image of class 'emu' can be read, such as .*1\.png"),
    ):
        image_folder(folder, broken="skip")


def test_a_warning_names_the_same_image_in_two_classes(pets):
    folder, _ = pets
    copied = Image.open(folder / "cat/1.png")
    copied.save(folder / "dog/zzz.bmp")  # another file, but the same pixels
    with pytest.warns(RuntimeWarning, match=r"\(1, such as .*1\.png and .*zzz\.bmp\): remove"):
        assert len(image_folder(folder)[0]) == 5


# ── labels from a CSV file ───────────────────────────────────────────────────────────────────────


def write_csv(folder, text):
    (folder / "labels.csv").write_text(text, encoding="utf-8")


def test_a_csv_file_gives_the_labels_and_classes_are_sorted_by_name(pets):
    folder, expected = pets
    write_csv(folder, "\ufefffile, label\ndog/b.bmp,wild\ncat/1.png, tame \n")
    images, labels, names = image_folder(folder, labels="labels.csv")
    np.testing.assert_array_equal(images, expected[[3, 0]])
    assert labels.tolist() == [1, 0] and names == ["tame", "wild"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("name,label\ncat/1.png,a\n", "its first line must be 'file,label'"),
        ("file,label\n", "names no photo"),
        ("file,label\ncat/1.png\n", r"line 2 \(cat/1.png\) has 1 values"),
        ("file,label\ncat/1.png, \n", r"line 2 \(cat/1.png\) has no label"),
        ("file,label\ncat/1.png,a\ncat/./1.png,b\n", "line 3 names .*, as line 2 does"),
        ("file,label\nnowhere.png,a\n", "line 2: there is no file .*nowhere.png"),
    ],
)
def test_a_csv_file_that_cannot_be_followed_is_refused_with_its_line(text, words, pets):
    folder, _ = pets
    write_csv(folder, text)
    with pytest.raises((ValueError, FileNotFoundError), match=f"image_folder: .*{words}"):
        image_folder(folder, labels="labels.csv")


def test_a_photo_is_rotated_by_its_exif_tag(tmp_path):
    array = picture()
    exif = Image.Exif()
    # to be turned by 90 degrees, clockwise
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(
        pixels(open_photo(tmp_path / "a.png")),
        np.rot90(array, -1).transpose(2, 0, 1) / np.float32(255),
    )


def test_a_photo_with_transparency_or_a_palette_has_three_channels(tmp_path):
    put(tmp_path / "a.png", picture(channels=4))
    Image.fromarray(picture()).quantize(8).save(tmp_path / "b.gif")
    assert [pixels(open_photo(tmp_path / name)).shape for name in ("a.png", "b.gif")] == [
        (3, 6, 8)
    ] * 2


def test_two_channels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 channel .* or 3 .*, not 2"):
        open_photo(tmp_path / "a.png", 2)


def test_a_picture_that_claims_to_be_enormous_is_refused(tmp_path, monkeypatch):
    put(tmp_path / "a.png", picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"a\.png: Image size .48 pixels. exceeds limit"):
        open_photo(tmp_path / "a.png")


def test_the_error_for_a_missing_pillow_names_the_pip_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"Pillow, which is not installed: pip install Pillow"
    ):
        open_photo(tmp_path / "a.png")


def test_the_middle_square_is_cut_out():
    wide = picture(6, 10)
    np.testing.assert_array_equal(
        square(Image.fromarray(wide), 6), wide[:, 2:8].transpose(2, 0, 1) / np.float32(255)
    )


def test_crop_is_the_share_of_the_shorter_side_that_is_shown():
    array = picture(8, 12)  # 4 of 8 pixels, at their own size
    np.testing.assert_array_equal(
        square(Image.fromarray(array), 4, crop=0.5),
        array[2:6, 4:8].transpose(2, 0, 1) / np.float32(255),
    )


def test_a_crop_of_0_squeezes_the_whole_photo():
    # 3 x 8, black then white
    halves = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1).repeat(3, axis=0)
    np.testing.assert_array_equal(
        square(Image.fromarray(halves), 2, 0, "nearest"), [[[0, 1], [0, 1]]]
    )


@pytest.mark.parametrize("how", FILTERS)
def test_every_filter_keeps_a_plain_colour(how):
    np.testing.assert_allclose(
        square(Image.new("RGB", (17, 9), (255, 0, 51)), 5, 0.8, how)[:, 2, 2],
        [1, 0, 0.2],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "options, words",
    [
        ({"size": 0}, "size is 0; .* at least 1"),
        ({"size": 4, "crop": 1.1}, "crop is 1.1; .* at most 1"),
        ({"size": 4, "crop": -0.1}, "crop is -0.1; .* at least 0"),
        ({"size": 4, "resample": "sharp"}, "it must be one of 'nearest'"),
        ({"size": 10**9}, "at most 16384"),
        ({"size": 4, "crop": 1e-9}, "is 5 x 5: .* would have .* pixels"),
    ],
)
def test_invalid_sizes_crops_and_filters_are_refused(options, words):
    with pytest.raises(ValueError, match=f"square: .*{words}"):
        square(Image.new("RGB", (5, 5)), **options)
