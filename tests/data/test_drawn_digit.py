"""Pictures of digits that somebody drew: whatever their size, colours, light and place, they become
images in MNIST's proportions, and what shows no single digit is refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from wrong_calls import riddles

from tinycv.data.drawn_digit import (
    NoDigit,
    drawn_digit,
    ink,
    like_mnist,
    only_digit,
    otsu,
    paper,
    save_enlarged,
    shapes,
    stroke_width,
)

SEVEN = [(0.1, 0), (0.85, 0), (0.4, 1)]
RNG = np.random.default_rng(0)


def seven(side=200, box=(60, 30, 140, 170), width=12, ink_colour=0, paper_colour=255, mode="L"):
    """A picture (Pillow) of a 7 that fills the box (left, top, right, bottom)."""
    picture = Image.new(mode, (side, side), paper_colour)
    left, top, right, bottom = box
    points = [(left + x * (right - left), top + y * (bottom - top)) for x, y in SEVEN]
    ImageDraw.Draw(picture).line(points, fill=ink_colour, width=width, joint="curve")
    return picture


def saved(picture, tmp_path, name="seven.png"):
    picture.save(tmp_path / name)
    return tmp_path / name


def centre_of_mass(image):
    total = image.sum()
    rows, columns = np.indices(image.shape)
    return (image * rows).sum() / total, (image * columns).sum() / total


def sides(image, least=0.25):
    rows, columns = np.nonzero(image > least)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


PLAIN = seven()


def plain(tmp_path):
    return drawn_digit(saved(PLAIN, tmp_path, "plain.png"))


# ── MNIST's proportions ───────────────────────────────────────────────────────────────────────────


def test_the_longer_side_has_20_pixels_and_the_centre_of_mass_lies_in_the_middle(tmp_path):
    image = plain(tmp_path)
    assert image.shape == (1, 28, 28) and image.dtype == np.float32
    assert image.min() == 0 and 0.9 < image.max() <= 1
    assert max(sides(image[0])) in (19, 20)
    np.testing.assert_allclose(centre_of_mass(image[0]), (14, 14), atol=0.51)


@pytest.mark.parametrize("width", [2, 4, 40])
def test_thin_and_thick_strokes_get_a_width_that_occurs_in_mnist(width, tmp_path):
    image = drawn_digit(saved(seven(400, (100, 40, 320, 360), width), tmp_path))
    assert 1.6 < stroke_width(image[0]) < 4.5


def test_a_long_bar_has_the_width_that_it_was_drawn_with():
    bar = np.zeros((300, 40))
    bar[10:290, 10:22] = 1
    assert stroke_width(bar) == pytest.approx(12, rel=0.06)


# ── the same digit, however it was drawn ──────────────────────────────────────────────────────────


def lit(picture, strength=0.5, noise=0.01):
    """A photo of the sheet: darker towards one corner, and with noise."""
    grey = np.asarray(picture, np.float64)
    grey = grey[..., None] if grey.ndim == 2 else grey
    y, x = np.mgrid[0 : 1 : grey.shape[0] * 1j, 0 : 1 : grey.shape[1] * 1j]
    light = (1 - strength * (0.6 * x + 0.4 * y * y))[..., None]
    pixels = grey * light + 255 * noise * RNG.normal(size=grey.shape)
    pixels = np.repeat(pixels, 3 // pixels.shape[2], axis=2)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def in_rgba(ink_colour):
    return seven(ink_colour=(*ink_colour, 255), paper_colour=(0, 0, 0, 0), mode="RGBA")


SAME = {
    "light on dark": seven(ink_colour=255, paper_colour=0),
    "red on cyan of the same brightness": seven(
        ink_colour=(235, 60, 60), paper_colour=(40, 120, 190), mode="RGB"
    ),
    "dark ink on a transparent picture": in_rgba((0, 0, 0)),
    "light ink on a transparent picture": in_rgba((255, 255, 255)),
    "a marker whose ink is half transparent": seven(
        ink_colour=(0, 0, 0, 100), paper_colour=(0, 0, 0, 0), mode="RGBA"
    ),
    "four times as large": seven(800, (240, 120, 560, 680), 48),
    "larger than 512 pixels": seven(1600, (480, 240, 1120, 1360), 96),
    "in a corner": seven(box=(115, 55, 195, 195)),
    "small in a corner": seven(400, (310, 250, 390, 390)),
    "on paper in uneven light": lit(PLAIN),
    "pale": seven(ink_colour=205),
    "one bit per pixel": PLAIN.convert("1"),
    "with a palette": PLAIN.convert("P"),
    "16 bits per pixel": Image.fromarray(257 * np.asarray(PLAIN).astype(np.uint16)),
}


@pytest.mark.parametrize("way", SAME)
def test_it_gives_the_same_image(way, tmp_path):
    image = drawn_digit(saved(SAME[way], tmp_path))
    assert abs(image - plain(tmp_path)).mean() < 0.03  # the digit itself has a mean of 0.1


def test_a_jpeg_gives_nearly_the_same_image(tmp_path):
    image = drawn_digit(saved(PLAIN, tmp_path, "seven.jpg"))
    assert abs(image - plain(tmp_path)).mean() < 0.03


def test_specks_and_the_edge_of_the_table_do_not_count(tmp_path):
    picture = seven()
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 180, 23, 183), fill=0)
    draw.rectangle((0, 0, 6, 199), fill=60)
    image = drawn_digit(saved(picture, tmp_path))
    assert abs(image - plain(tmp_path)).mean() < 0.03


def test_the_loose_bar_of_a_five_belongs_to_it():
    strength = np.zeros((100, 100))
    strength[20:26, 40:70] = 1  # the bar
    strength[34:80, 40:46] = strength[74:80, 40:66] = 1  # the rest
    assert only_digit(strength).shape == (60, 30)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────


def two_sevens():
    picture = seven(box=(20, 50, 80, 150))
    picture.paste(seven(80, (10, 0, 70, 80)), (110, 60))
    return picture


def noise():
    return Image.fromarray(RNG.integers(0, 255, (100, 100), np.uint8))


REFUSED = {
    "blank": (Image.new("L", (100, 100), 255), "it is blank"),
    "blank, noisy paper": (lit(Image.new("L", (100, 100), 230)), "it is blank"),
    "one pixel": (Image.new("L", (1, 1), 255), "it is blank"),
    "transparent": (Image.new("RGBA", (50, 50)), "all of it is transparent"),
    "two digits": (two_sevens(), "there are 2 shapes beside each other"),
    "a long line": (seven(box=(10, 90, 190, 100), width=4), "times as wide as it is high"),
    "noise": (noise(), "."),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_picture_without_exactly_one_digit_is_refused(what, tmp_path):
    picture, words = REFUSED[what]
    file = saved(picture, tmp_path)
    with pytest.raises(NoDigit) as caught:
        drawn_digit(file)
    assert str(caught.value).startswith(f"drawn_digit: {file}: ") and words in str(caught.value)


def random_picture():
    """Any size, with noise, spots, lines and a smear."""
    height, width = RNG.integers(1, 60, 2)
    pixels = RNG.uniform(0, 255) + RNG.uniform(0, 30) * RNG.normal(size=(height, width))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    for _ in range(RNG.integers(4)):
        ends = [tuple(RNG.uniform(-5, 65, 2)) for _ in range(2)]
        grey = int(RNG.integers(256))
        ImageDraw.Draw(picture).line(ends, fill=grey, width=int(RNG.integers(1, 30)))
    return picture


def test_any_picture_gives_an_image_of_mnist_or_a_sentence(tmp_path):
    results = []
    for _ in range(60):
        try:
            image = drawn_digit(saved(random_picture(), tmp_path))
        except NoDigit:
            results.append("a sentence")
        else:
            assert image.shape == (1, 28, 28) and np.isfinite(image).all()
            assert image.min() >= 0 and 0.25 < image.max() <= 1
            results.append("an image")
    assert set(results) == {"a sentence", "an image"}


def test_files_that_hold_no_image_are_refused(tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    cut = saved(PLAIN, tmp_path)
    cut.write_bytes(cut.read_bytes()[:200])
    for name, words in (("words.png", "not an image"), ("seven.png", "broken image")):
        with pytest.raises(ValueError, match=words):
            drawn_digit(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        drawn_digit(tmp_path / "none.png")


def test_a_huge_picture_is_refused_by_its_header_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ValueError, match=r"seven.png: Image size \(40000 pixels\) exceeds limit"):
        drawn_digit(saved(PLAIN, tmp_path))


def test_wrong_arguments_are_named_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(PLAIN, tmp_path)
    digit = np.zeros((1, 28, 28), np.float32)
    assert not riddles(drawn_digit, {"path": "seven.png"}, "drawn_digit", "open_photo")
    assert not riddles(save_enlarged, {"path": "seen.png", "digit": digit}, "save_enlarged")


# ── the steps ─────────────────────────────────────────────────────────────────────────────────────


def test_otsu_separates_two_groups_of_values():
    values = np.concatenate([RNG.normal(0.2, 0.02, 900), RNG.normal(0.8, 0.02, 100)])
    assert 0.3 < otsu(values) < 0.7


def test_the_paper_is_found_under_the_ink():
    y, x = np.mgrid[-1:1:80j, -1:1:60j]
    sheet = np.stack([0.8 - 0.1 * x, 0.7 + 0.1 * y * y, 0.75 - 0.05 * x * y], axis=-1)
    pixels = sheet.copy()
    pixels[30:60, 20:30] = 0.1
    np.testing.assert_allclose(paper(pixels), sheet, atol=1e-6)


def test_ink_is_1_in_the_stroke_and_0_on_the_paper():
    strength = ink(np.repeat(np.asarray(PLAIN, float)[..., None] / 255, 3, axis=2))
    assert strength[35, 100] == 1 and strength[150, 180] == 0


def test_shapes_that_touch_only_at_a_corner_are_one():
    drawn = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    labels = shapes(drawn)
    assert len(np.unique(labels)) == 4 and labels[0, 0] == labels[1, 1]
    assert (labels[~drawn] == 0).all()


def test_a_digit_stays_whole_if_its_mass_lies_at_one_end():
    strength = np.zeros((100, 20))
    strength[:, 8:12] = 1
    strength[80:, :] = 1
    assert sides(like_mnist(strength))[0] in (19, 20)


def test_the_enlarged_picture_shows_each_pixel_as_a_square(tmp_path):
    image = plain(tmp_path)
    save_enlarged(tmp_path / "seen.png", image)
    seen = np.asarray(Image.open(tmp_path / "seen.png"))
    np.testing.assert_array_equal(seen[5::10, 5::10], np.rint(255 * image[0]))
    assert seen.shape == (280, 280)
