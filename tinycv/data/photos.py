"""image_folder: your own photos, one folder per class, scaled and cropped to the size of a model.

    pets/cat/1.jpg, pets/cat/2.png, pets/dog/a/3.jpg
    images, labels, names = image_folder("pets", size=64)

Needs Pillow, which is installed with matplotlib. Images are rotated as their camera noted (EXIF),
converted to grey or RGB, and their values are scaled by their bit depth (depths.py). Of an
animation, or a file with several pages, the first picture is read.

A small file can describe a huge picture. Its size is known from the header, before it is decoded.
Refused are pictures of which Pillow warns (more than PIL.Image.MAX_IMAGE_PIXELS), pictures that
would be huge after scaling, or unscaled as floats, and pictures of too many pieces
(photo_costs.py).
"""

from __future__ import annotations

from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.data import inputs
from tinycv.data.depths import Unreadable, in_mode
from tinycv.data.extra import import_extra
from tinycv.data.photo_costs import pieces
from tinycv.engine.arguments import choice, number, shown

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
LARGEST_SIDE = 2**14  # of the square that a photo is cut to
# the most pixels of a photo that image_folder reads without a size
UNSCALED_PIXELS = 2**24
# the most pixels of a scaled photo: 2**24, or 16 times those of its square if that is more
SCALED_PIXELS, SCALED_SQUARES = 2**24, 16


def image_folder(
    path: str | Path, size: int | None = None, channels: int = 3
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, channels, H, W) float32 in [0, 1], labels (N,) int64, and the names of the
    classes, in order.

    Each folder in ``path`` is a class, and all images below it are its examples. size: the side of
    the square that each image is cut to (see ``square``). None leaves the images as they are; then
    all must have the same size, and at most 16 million pixels.
    FileNotFoundError if there is nothing to read; ValueError, with the path, for an image that is
    broken or has another size.
    """
    path = inputs.path(path, "image_folder: path")
    size = None if size is None else _side(size, "image_folder: size")
    channels = _channels(channels, "image_folder")
    files, labels, names = _listed(path)
    images: np.ndarray | None = None
    for i, file in enumerate(files):
        photo = _opened(file, channels, None if size is not None else UNSCALED_PIXELS)
        sides = photo.size[::-1] if size is None else (size, size)
        if images is None:
            images = np.empty((len(files), channels, *sides), np.float32)
        if sides != images.shape[2:]:
            raise ValueError(
                f"{file} is {_size(photo.size)}, {files[0]} is {_size(images.shape[:1:-1])}: give "
                "size= to cut all to one size"
            )
        if size is None:
            _values(photo, images[i])
        else:
            images[i] = _squared(photo, size, str(file))
    assert images is not None  # _listed refuses a folder without photos
    return images, labels, names


def open_photo(path: str | Path, channels: int = 3) -> Image:
    """The Pillow image in a file, with 1 channel (mode L, or F for 16 bits and floats) or 3 (mode
    RGB).

    ValueError, with the path, for a file that is no complete image, for a huge image, and for one
    whose values have no known white.
    """
    return _opened(inputs.path(path, "open_photo: path"), _channels(channels, "open_photo"))


def _opened(path: Path, channels: int, unscaled: int | None = None) -> Image:
    """``open_photo`` for checked arguments. unscaled: the most pixels that the photo may have, if
    it is not going to be scaled."""
    image, ops = import_extra("PIL.Image", "Pillow"), import_extra("PIL.ImageOps", "Pillow")
    if not path.is_file():
        raise FileNotFoundError(
            f"open_photo: {path}: there is no such file"
            + (", but a folder" if path.is_dir() else "")
        )
    try:
        if problem := pieces(path):
            raise Unreadable(problem)
        with image.open(path) as photo:
            _expect_modest(photo, image.MAX_IMAGE_PIXELS, unscaled)
            photo.load()
            ops.exif_transpose(photo, in_place=True)
            return in_mode(photo, channels)
    except image.UnidentifiedImageError as error:
        raise ValueError(
            f"open_photo: {path}: not an image, or of a kind that Pillow does not know"
        ) from error
    except (Unreadable, image.DecompressionBombError, image.DecompressionBombWarning) as error:
        raise ValueError(f"open_photo: {path}: {error}") from error
    except MemoryError:
        raise  # it is no fault of the file
    # for a damaged image the readers of Pillow raise errors of many types
    except Exception as error:
        raise ValueError(
            f"open_photo: {path}: a broken image: {type(error).__name__}: {error}"
        ) from error


def square(photo: Image, size: int, crop: float = 1.0, resample: str = "bicubic") -> np.ndarray:
    """A Pillow image as (C, size, size) float32 in [0, 1]: it is scaled, and the square in the
    middle is cut out.

    crop: the share of the shorter side that the square shows; 0 squeezes the whole photo into the
    square. resample: one of FILTERS. Sizes are rounded as in torchvision (Resize, CenterCrop) and
    timm.
    """
    size, crop = _side(size, "square: size"), number(crop, "square: crop", 0, 1)
    choice(resample, "square: resample", FILTERS)
    return _squared(_plain(photo, "square"), size, "square: photo", crop, resample)


def pixels(photo: Image) -> np.ndarray:
    """A Pillow image as (C, H, W) float32 in [0, 1], C being 1 for grey and 3 for colour."""
    return _values(_plain(photo, "pixels"))


def _values(photo: Image, out: np.ndarray | None = None) -> np.ndarray:
    """``pixels`` of an image in one of the modes of depths.READ, written to ``out`` if it is
    given."""
    values = np.asarray(photo)
    if values.dtype == np.uint8:
        values = values[:, :, None] if values.ndim == 2 else values  # (H, W, C)
        return np.divide(values.transpose(2, 0, 1), 255, out=out, dtype=np.float32)
    # mode F: bicubic and lanczos overshoot at edges (Pillow itself clips 8-bit images)
    return np.clip(values[None], 0, 1, out=out)


def _squared(
    photo: Image, size: int, what: str, crop: float = 1.0, resample: str = "bicubic"
) -> np.ndarray:
    """``square`` of an image in one of the modes of depths.READ. what: the name of the image in an
    error message."""
    method = import_extra("PIL.Image", "Pillow").Resampling[resample.upper()]
    if not crop:
        return _values(photo.resize((size, size), method))
    short, long = min(photo.size), max(photo.size)
    scaled = (size / crop) ** 2 * long / short  # the approximate number of pixels after scaling
    if scaled > max(SCALED_PIXELS, SCALED_SQUARES * size**2):
        raise ValueError(
            f"{what} is {_size(photo.size)}: with its shorter side scaled to {size / crop:g} it "
            f"would have {scaled:.1e} pixels, of which size={size} keeps {size**2}: cut it to a "
            "squarer shape first"
        )
    shorter = floor(size / crop)
    width, height = (int(shorter * side / short) for side in photo.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    scaled_photo = photo.resize((width, height), method)
    return _values(scaled_photo.crop((left, top, left + size, top + size)))


def _plain(photo: Image, who: str) -> Image:
    """A Pillow image converted to one of the modes of depths.READ; TypeError, which names the
    function ``who``, for anything else."""
    if not isinstance(photo, import_extra("PIL.Image", "Pillow").Image):
        raise TypeError(
            f"{who}: photo is {shown(photo)}; it must be a Pillow image, as open_photo returns it"
        )
    try:
        return in_mode(photo)
    except Unreadable as error:
        raise ValueError(f"{who}: photo: {error}") from error


def _expect_modest(photo: Image, most: int | None, unscaled: int | None) -> None:
    """Unreadable for an image that would be expensive to decode, or that Pillow would have to pass
    to another program. Reads no pixel."""
    if photo.format == "EPS":
        raise Unreadable("PostScript is a program, not pixels: save it as PNG")
    width, height = photo.size
    if most is not None and width * height > most:
        raise Unreadable(
            f"{width} x {height} are more pixels than PIL.Image.MAX_IMAGE_PIXELS allows, {most}: a "
            "small file can claim any number; raise that limit if the picture is what you expect"
        )
    if unscaled is not None and width * height > unscaled:
        raise Unreadable(
            f"{width} x {height} are more pixels than a photo may have that is not scaled, "
            f"{unscaled}: give size= to cut all to one size"
        )


def _side(size: Any, what: str) -> int:
    """The side of a square, from 1 to LARGEST_SIDE."""
    return inputs.whole(size, what, 1, LARGEST_SIDE)


def _channels(channels: Any, who: str) -> int:
    """1 or 3."""
    count = inputs.whole(channels, f"{who}: channels")
    if count not in (1, 3):
        raise ValueError(
            f"{who}: channels is {count}; a photo has 1 channel (grey) or 3 (RGB), not {count}"
        )
    return count


def _listed(path: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """The files below a folder of folders, the class number of each, and the names of the
    classes."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"image_folder: {path}: there is no such folder; name the folder that holds one folder "
            "per class"
        )
    folders = sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )
    if not folders:
        raise FileNotFoundError(
            f"image_folder: {path}: it holds no folders; expected one folder of images per class, "
            f"such as {path}/cat/1.jpg"
        )
    classes = [_images_in(folder) for folder in folders]
    labels = np.repeat(np.arange(len(folders)), [len(members) for members in classes])
    return (
        [file for members in classes for file in members],
        labels,
        [folder.name for folder in folders],
    )


def _images_in(folder: Path) -> list[Path]:
    """All images below the folder, at any depth, sorted by name; FileNotFoundError if there is
    none."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".") and not file.is_dir()
    )
    if not files:
        raise FileNotFoundError(
            f"image_folder: {folder}: no image there ({', '.join(sorted(ENDINGS))}); each folder "
            "is a class: fill it or move it away"
        )
    return files


def _size(sides: tuple[int, ...]) -> str:
    """(width, height) as text: "W x H"."""
    return f"{sides[0]} x {sides[1]}"
