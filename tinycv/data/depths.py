"""What white is: Pillow's images of every mode and depth, as the three modes that photos.py goes on
with.

    L, RGB    8 bits: 255 is white. Palettes, CMYK, YCbCr, 1 bit and alpha become one of these, as
              Pillow converts them
    F         floats: 1 is white. Grey of 16 bits is divided by 65535 (of 12 bits, by 4095) and
              keeps its precision

Pillow's own convert("L") cuts 16-bit, 32-bit and float values off at 255, which turns such a
picture white or black.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.data.extra import import_extra

if TYPE_CHECKING:
    from PIL.Image import Image

READ = ("L", "RGB", "F")
WHITE = 65535  # of 16 bits
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0, sections 3 and 19: tags
WHITE_IS_ZERO, SIGNED = 0, 2  # a value of the second, and one of the third


class Unreadable(ValueError):
    """An image that is whole, and whose values still say nothing of brightness."""


def in_mode(photo: Image, channels: int | None = None) -> Image:
    """A Pillow image as "F", "L" (1 channel) or "RGB" (3). channels: how many; None leaves as many
    as its mode has.

    differs: a deep grey image in 3 channels has 8 bits in each, as Pillow has no colour of more.
    Alpha is dropped. Unreadable for values without a white: floats outside 0 to 1, and integers
    that are signed or of 32 bits. So is a deep image that was cut out of a TIFF by Pillow, which
    leaves the tags behind.
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
        photo = photo.convert("RGB")  # the only mode to which Pillow brings it
    return photo.convert("L" if channels == 1 else "RGB")


def _deep(photo: Image, channels: int | None) -> Image:
    """Grey of more than 8 bits as "F", or as "RGB" where 3 channels are asked for."""
    if photo.format is None and "compression" in photo.info and not _tags(photo):
        raise Unreadable(
            "it was copied or cut out of a TIFF, and lost the tags that say what white is: "
            "open_photo(path) returns an image that can be cut"
        )
    from_array = import_extra("PIL.Image", "Pillow").fromarray
    values = _from_0_to_1(photo)
    if channels != 3:
        return from_array(values)  # float32: mode F
    # a large photo fits once more, but not twice
    np.rint(np.multiply(values, 255, out=values), out=values)
    return from_array(values.astype(np.uint8)).convert("RGB")


def _from_0_to_1(photo: Image) -> np.ndarray:
    """The values of a grey image (H, W) of mode F or I, divided by what is white: float32."""
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
    # Pillow stores their 16 bits so, PGM's scaled to them
    if photo.mode == "I" and photo.format in ("PNG", "PPM"):
        return WHITE
    raise _without_white()


def _without_white() -> Unreadable:
    return Unreadable(
        "it holds signed or 32-bit integers, and nothing says which of them is white: save it "
        f"with 16 bits (white is {WHITE}), or as floats from 0 to 1"
    )


def _tags(photo: Image) -> Any:
    """The tags of a TIFF; none of any other image."""
    return getattr(photo, "tag_v2", {})
