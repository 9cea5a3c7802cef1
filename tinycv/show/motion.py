"""Moving pictures: a GIF from figures or arrays, small enough for a README.

All frames share one palette, so what stands still keeps its colour; and a frame stores only what
has changed. Needs Pillow, which matplotlib brings.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tinycv.data import inputs as given
from tinycv.engine.arguments import number, shown
from tinycv.show import inputs


def save_gif(
    frames: Iterable[Figure | np.ndarray],
    path: Path | str,
    seconds_per_frame: float = 0.1,
    last: float = 2.0,
    colours: int = 64,
) -> Path:
    """Write an animated GIF that plays for ever, and rests ``last`` seconds on its last frame.
    Returns the path.

    frames: figures (drawn at their own dpi), or arrays (H, W), (1, H, W) or (3, H, W), values 0 to
    1, as images are in this library; (H, W, 3) of uint8 as well. All of one size. A figure that is
    changed between two frames can be given again and again by a generator: each frame is read when
    it comes.
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
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = shared_palette(pictures, colours)
    flat = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    times = [round(1000 * seconds_per_frame)] * len(flat)
    times[-1] = round(1000 * max(last, seconds_per_frame))
    flat[0].save(
        path, save_all=True, append_images=flat[1:], duration=times, loop=0, optimize=False
    )
    return path


def _pictures(frames: Iterable[Figure | np.ndarray]) -> list[Image.Image]:
    """The frames of ``save_gif`` as Pillow images, all of one size, at least one."""
    if (
        isinstance(frames, (str, bytes, dict))
        or not isinstance(frames, Iterable)
        or getattr(frames, "ndim", 1) == 0
    ):
        raise TypeError(
            f"save_gif: frames is {shown(frames)}; it must be figures or arrays, one after the "
            "other"
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
            f"a frame of save_gif, of shape {a.shape}, holds NaN, which is no brightness"
        )
    a = np.rint(np.clip(a, 0, 1) * 255).astype(np.uint8)
    return (
        np.stack([a] * 3, -1)
        if a.ndim == 2
        else np.moveaxis(np.broadcast_to(a, (3, *a.shape[1:])), 0, -1)
    )


def shared_palette(pictures: list[Image.Image], colours: int) -> Image.Image:
    """Colours that serve the first, the middle and the last frame."""
    shown = [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})]
    width, height = shown[0].size
    together = Image.new("RGB", (width, height * len(shown)))
    for i, picture in enumerate(shown):
        together.paste(picture, (0, i * height))
    return together.quantize(colours, method=Image.Quantize.MEDIANCUT)
