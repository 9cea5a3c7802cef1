"""Animated GIFs from figures or arrays, with captions, small enough for a README.

All frames share one palette, so a pixel that does not change keeps its colour, and each frame
stores only the rectangle that has changed. Needs Pillow, which matplotlib installs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from tinycv.data import inputs as given
from tinycv.engine.arguments import number, shown
from tinycv.engine.tensor import ArrayLike
from tinycv.show import inputs

DARK_BLUE = np.array([16, 36, 63])  # the paper of ink_sheet


def save_gif(
    frames: Iterable[Figure | np.ndarray],
    path: Path | str,
    seconds_per_frame: float = 0.1,
    last: float = 2.0,
    colours: int = 64,
) -> Path:
    """Write an animated GIF that repeats endlessly and shows its last frame for ``last`` seconds.
    Returns the path.

    frames: figures (drawn at their own dpi), arrays (H, W), (1, H, W) or (3, H, W) with values
    from 0 to 1, like all images of this library, or arrays (H, W, 3) of uint8. All frames have the
    same size. A generator may change one figure and yield it again, because each frame is drawn as
    soon as it is yielded.
    """
    path = given.path(path, "save_gif: path")
    colours = given.whole(colours, "save_gif: colours", 2, 256)
    if path.suffix.lower() != ".gif" or path.is_dir():
        raise ValueError(f"save_gif: path is {str(path)!r}; it must be a file that ends in .gif")
    seconds_per_frame = number(seconds_per_frame, "save_gif: seconds_per_frame", high=600)
    last = number(last, "save_gif: last", 0, 600)
    pictures = _pictures(frames)
    if not seconds_per_frame >= 0.02:
        raise ValueError(
            f"save_gif: seconds_per_frame={seconds_per_frame}: browsers play no faster than 0.02"
        )
    given.make_folder_of(path, "save_gif: path")
    palette = shared_palette(pictures, colours)
    flat = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    times = [round(1000 * seconds_per_frame)] * len(flat)
    times[-1] = round(1000 * max(last, seconds_per_frame))
    flat[0].save(
        path, save_all=True, append_images=flat[1:], duration=times, loop=0, optimize=False
    )
    return path


def ink_sheet(images: ArrayLike, columns: int, scale: int = 2, shades: int = 10) -> np.ndarray:
    """Digits (N, 1, H, W) as one picture (rows H scale, columns W scale, 3) of uint8, in white ink
    on dark blue. Values beyond 0 to 1 are clipped.

    Few shades keep a GIF of noisy images small. N must be a multiple of ``columns``.
    """
    a = given.array(images, "ink_sheet: images", "images (N, 1, H, W)", ndim=4)
    columns = given.whole(columns, "ink_sheet: columns", 1)
    scale = given.whole(scale, "ink_sheet: scale", 1, 100)
    shades = given.whole(shades, "ink_sheet: shades", 2, 256)
    count, channels, height, width = a.shape
    if channels != 1 or not a.size or count % columns or not np.isfinite(a).all():
        raise ValueError(
            f"ink_sheet: images has shape {a.shape} for columns={columns}; it must be finite "
            "(N, 1, H, W), with N a multiple of columns"
        )
    a = a.reshape(-1, columns, height, width).swapaxes(1, 2).reshape(-1, columns * width)
    ink = np.rint(np.clip(a, 0, 1) * (shades - 1))[..., None] / (shades - 1)
    coloured = DARK_BLUE + ink * (255 - DARK_BLUE)
    return np.rint(coloured).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)


def captioned(frame: Figure | np.ndarray, caption: str, size: int = 15) -> np.ndarray:
    """The frame with a white strip above it that holds the caption: (H + strip, W, 3) uint8.

    frame: as in ``save_gif``. caption: one or more lines. size: of the letters, in pixels.
    """
    a = pixels(frame)
    caption = given.text(caption, "captioned: caption")
    size = given.whole(size, "captioned: size", 6, 200)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
    height = round((0.4 + 1.3 * len(caption.splitlines())) * size)
    strip = Image.new("RGB", (a.shape[1], height), "white")
    ImageDraw.Draw(strip).text((size // 3, size // 4), caption, fill="black", font=font)
    return np.concatenate([np.asarray(strip), a])


def _pictures(frames: Iterable[Figure | np.ndarray]) -> list[Image.Image]:
    """The frames of ``save_gif`` as Pillow images: at least one, all of the same size."""
    if (
        isinstance(frames, (str, bytes, dict))
        or not isinstance(frames, Iterable)
        or getattr(frames, "ndim", 1) == 0
    ):
        raise TypeError(
            f"save_gif: frames is {shown(frames)}; it must be a sequence of figures or arrays"
        )
    pictures = [Image.fromarray(pixels(frame)) for frame in frames]
    sizes = {picture.size for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(
            f"save_gif: a GIF needs frames of one size; the {len(pictures)} given have "
            f"{shown(sorted(sizes)) if sizes else 'none'} (width, height)"
        )
    return pictures


def pixels(frame: Figure | np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a figure or an array."""
    if isinstance(frame, Figure):
        frame.canvas.draw()
        canvas: Any = frame.canvas
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
    a = given.array(frame, "a frame of save_gif", "a figure or an array of pixels")
    if 0 not in a.shape and a.ndim == 3 and a.shape[-1] == 3 and a.dtype == np.uint8:
        return a
    if 0 in a.shape or a.ndim not in (2, 3) or (a.ndim == 3 and a.shape[0] not in (1, 3)):
        raise ValueError(
            f"save_gif: a frame of shape {a.shape}, {a.dtype}: it must be a figure, (H, W), (1, H, "
            "W) or (3, H, W) of values 0 to 1, or (H, W, 3) of uint8"
        )
    a = inputs.from_0_to_1(a, "a frame of save_gif", "pixels")
    if np.isnan(a).any():
        raise ValueError(
            f"a frame of save_gif, of shape {a.shape}, holds NaN; a pixel must be a number"
        )
    a = np.rint(np.clip(a, 0, 1) * 255).astype(np.uint8)
    return (
        np.stack([a] * 3, -1)
        if a.ndim == 2
        else np.moveaxis(np.broadcast_to(a, (3, *a.shape[1:])), 0, -1)
    )


def shared_palette(pictures: list[Image.Image], colours: int) -> Image.Image:
    """One palette for all frames, chosen from the first, the middle and the last frame."""
    samples = [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})]
    width, height = samples[0].size
    column = Image.new("RGB", (width, height * len(samples)))
    for i, picture in enumerate(samples):
        column.paste(picture, (0, i * height))
    return column.quantize(colours, method=Image.Quantize.MEDIANCUT)
