"""GIFs: frames, times, sizes, captions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tinycv.show import draw
from tinycv.show.motion import DARK_BLUE, captioned, ink_sheet, save_gif


def read(path):
    with Image.open(path) as gif:
        frames = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(gif)
        ]
        return frames, gif.info.get("loop")


def squares(n=6):
    """A white square that moves over black, four pixels per frame."""
    frames = np.zeros((n, 40, 40))
    for i in range(n):
        frames[i, 10:20, 4 * i : 4 * i + 10] = 1
    return frames


def test_a_gif_shows_every_frame_for_its_time_and_repeats_endlessly(tmp_path):
    frames, loop = read(save_gif(squares(), tmp_path / "made" / "walk.gif", 0.2, last=1.5))
    assert [duration for _, duration in frames] == [200] * 5 + [1500]
    assert loop == 0
    for (shown, _), given in zip(frames, squares(), strict=True):
        assert (shown[..., 0] == 255 * given).all()


def test_colours_are_those_of_the_arrays(tmp_path):
    picture = np.zeros((3, 20, 30))
    picture[0, :, :10], picture[1, :, 10:20], picture[2, :, 20:] = 1, 1, 1
    frames, _ = read(save_gif([picture, picture[::-1]], tmp_path / "a.gif"))
    assert (frames[0][0] == 255 * np.moveaxis(picture, 0, -1)).all()
    assert (frames[1][0] == 255 * np.moveaxis(picture[::-1], 0, -1)).all()
    grey, _ = read(
        save_gif(
            [picture[:1], (255 * np.moveaxis(picture, 0, -1)).astype(np.uint8)], tmp_path / "b.gif"
        )
    )
    assert (grey[0][0] == 255 * picture[0][..., None]).all()
    assert (grey[1][0] == frames[0][0]).all()


def test_a_figure_that_changes_gives_a_frame_each_time(tmp_path):
    figure = draw.figure("a point that moves", 3, 2)
    ax = figure.subplots()
    (point,) = ax.plot([0], [0], "o")
    ax.set_xlim(-1, 5)

    def moved():
        for x in range(5):
            point.set_xdata([x])
            yield figure

    path = save_gif(moved(), tmp_path / "point.gif", 0.1)
    frames, _ = read(path)
    assert len({frame.tobytes() for frame, _ in frames}) == 5
    assert path.stat().st_size < 60_000


def test_a_caption_stands_in_a_strip_above_the_frame_and_changes_no_pixel_of_it():
    frame = squares()[0]
    one, two = captioned(frame, "t = 3", 10), captioned(frame, "t = 3\nstep 4", 10)
    assert one.shape == (57, 40, 3) and two.shape == (70, 40, 3)
    for with_caption in (one, two):
        assert (with_caption[-40:] == 255 * frame[..., None]).all()
        assert with_caption[:-40].min() < 100 and (with_caption[:-40, -1] == 255).all()


def test_an_ink_sheet_shows_images_row_by_row_in_white_on_dark_blue():
    images = np.zeros((6, 1, 4, 5))
    images[4] = 3  # the second image of the second row; beyond 1, so it is clipped
    sheet = ink_sheet(images, columns=3, scale=2)
    assert sheet.shape == (16, 30, 3) and sheet.dtype == np.uint8
    assert (sheet[8:, 10:20] == 255).all()
    sheet[8:, 10:20] = DARK_BLUE
    assert (sheet == DARK_BLUE).all()


@pytest.mark.parametrize(
    "images", [np.zeros((5, 1, 4, 4)), np.zeros((6, 3, 4, 4)), np.full((6, 1, 4, 4), np.nan)]
)
def test_images_that_make_no_sheet_are_refused(images):
    with pytest.raises(ValueError, match="ink_sheet: images has shape"):
        ink_sheet(images, columns=3)


@pytest.mark.parametrize(
    "frames, message",
    [
        ([], "0 given have none"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], r"2 given have \[\(4, 4\), \(5, 4\)\]"),
        ([np.zeros((2, 4, 4))], r"a frame of shape \(2, 4, 4\), float64"),
    ],
)
def test_frames_that_make_no_gif_are_refused(frames, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_gif(frames, tmp_path / "no.gif")


def test_frames_too_short_for_browsers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="seconds_per_frame=0.01"):
        save_gif(squares(), tmp_path / "no.gif", 0.01)
