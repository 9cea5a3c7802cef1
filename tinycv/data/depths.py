"""Bit depth of images: Pillow images of every mode, converted to the three modes of photos.py.

    L, RGB    8 bits: 255 is white. Palettes, CMYK, YCbCr, 1 bit and alpha are converted to one of
              these by Pillow
    F         floats: 1 is white. 16-bit grey is divided by 65535 (12-bit grey by 4095) and keeps
              its precision

Pillow's own convert("L") clips 16-bit, 32-bit and float values at 255, which turns such a picture
white or black.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.data.extra import import_extra

if TYPE_CHECKING:
    from PIL.Image import Image

READ = ("L", "RGB", "F")
WHITE = 65535  # the value of white in 16 bits
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0, sections 3 and 19: tags
WHITE_IS_ZERO, SIGNED = 0, 2  # values of PHOTOMETRIC and of SAMPLE_FORMAT


class Unreadable(ValueError):
    """An image that cannot be used although its file is complete: for example, because it is not
    known which of its values is white."""


def in_mode(photo: Image, channels: int | None = None) -> Image:
    """A Pillow image converted to mode "F" or "L" (1 channel) or "RGB" (3). channels: 1 or 3; None
    keeps the number that its mode has.

    A grey image of more than 8 bits is reduced to 8 bits if it is converted to RGB, because Pillow
    has no deeper colour. Alpha is dropped. Raises Unreadable if it is not known which value is
    white. This happens for floats outside 0 to 1, for integers that are signed or have 32 bits, and
    for deep images that Pillow has cut out of a TIFF, which loses the tags.
    """
    formats = _tags(photo).get(SAMPLE_FORMAT, ())
    if SIGNED in (formats if isinstance(formats, tuple) else (formats,)):
        raise _without_white()
    if photo.mode.startswith(("I", "F")):
        return _deep(photo, channels)
    if photo.mode in READ and channels in (None, len(photo.getbands())):
        return photo
    if channels is None:
        channels = 1 if photo.mode in ("1", "L", "LA", "La") else 3
    # colours multiplied by their alpha, which Pillow undoes in one step
    if photo.mode in ("La", "RGBa"):
        photo = photo.convert(photo.mode.upper())
    if photo.mode == "LAB":
        photo = photo.convert("RGB")  # the only mode that Pillow converts LAB to
    return photo.convert("L" if channels == 1 else "RGB")


def _deep(photo: Image, channels: int | None) -> Image:
    """A grey image of more than 8 bits as "F", or as "RGB" if channels is 3."""
    if photo.format is None and "compression" in photo.info and not _tags(photo):
        raise Unreadable(
            "it was copied or cut out of a TIFF, and lost the tags that say what white is: "
            "open_photo(path) returns an image that can be cut"
        )
    from_array = import_extra("PIL.Image", "Pillow").fromarray
    values = _from_0_to_1(photo)
    if channels != 3:
        return from_array(values)  # float32: mode F
    # in place, so that a large photo needs memory for one copy and not for two
    np.rint(np.multiply(values, 255, out=values), out=values)
    return from_array(values.astype(np.uint8)).convert("RGB")


def _from_0_to_1(photo: Image) -> np.ndarray:
    """The values of a grey image (H, W) of mode F or I, divided by the value of white: float32."""
    values, white = np.asarray(photo), _white(photo)
    if not (values.min() >= 0 and values.max() <= white):  # NaN is refused too
        raise Unreadable(
            f"its values run from {values.min():g} to {values.max():g}, and should lie between 0 "
            f"(black) and {white} (white)"
        )
    values = np.divide(values, white, dtype=np.float32)
    if _tags(photo).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        np.subtract(1, values, out=values)
    return values


def _white(photo: Image) -> int:
    """The value that stands for white in a deep image."""
    if photo.mode.startswith("F"):
        return 1
    if photo.mode.startswith("I;16"):
        bits = _tags(photo).get(BITS_PER_SAMPLE, (16,))[0]
        return 2 ** min(bits, 16) - 1
    # Pillow stores the 16 bits of a PNG in mode I, and scales a PGM to 16 bits
    if photo.mode == "I" and photo.format in ("PNG", "PPM"):
        return WHITE
    raise _without_white()


def _without_white() -> Unreadable:
    return Unreadable(
        "it holds signed or 32-bit integers, and nothing says which of them is white: save it "
        f"with 16 bits (white is {WHITE}), or as floats from 0 to 1"
    )


def _tags(photo: Image) -> Any:
    """The tags of a TIFF; an empty dictionary for any other image."""
    return getattr(photo, "tag_v2", {})
