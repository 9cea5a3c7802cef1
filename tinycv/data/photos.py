"""image_folder: your own photos, one folder per class, scaled and cropped to the size of a model.

    pets/cat/1.jpg, pets/cat/2.png, pets/dog/a/3.jpg
    images, labels, names = image_folder("pets", size=64)

README.md in this folder goes from there to a confusion matrix; split.py holds images out for the
test; class_folders.py says which files are read, and how a CSV file gives their labels.

Needs Pillow, which is installed with matplotlib. Images are rotated as their camera noted (EXIF),
converted to grey or RGB, and their values are scaled by their bit depth (depths.py). Of an
animation, or a file with several pages, the first picture is read.

A small file can describe a huge picture. Its size is known from the header, before it is decoded.
Refused are pictures of which Pillow warns (more than PIL.Image.MAX_IMAGE_PIXELS), pictures that
would be huge after scaling, or unscaled as floats, and pictures of too many pieces
(photo_costs.py).
"""

from __future__ import annotations

import warnings
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.data import inputs
from tinycv.data.class_folders import files_in_csv, files_in_folders
from tinycv.data.depths import Unreadable, in_mode
from tinycv.data.extra import import_extra
from tinycv.data.photo_costs import pieces
from tinycv.data.split import digest_of
from tinycv.engine.arguments import choice, number, shown

if TYPE_CHECKING:
    from PIL.Image import Image

BROKEN = ("refuse", "skip")  # what image_folder does with a file that cannot be read
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
LARGEST_SIDE = 2**14  # of the square that a photo is cut to
# the most pixels of a photo that image_folder reads without a size
UNSCALED_PIXELS = 2**24
# the most pixels of a scaled photo: 2**24, or 16 times those of its square if that is more
SCALED_PIXELS, SCALED_SQUARES = 2**24, 16


def image_folder(
    path: str | Path,
    size: int | None = None,
    channels: int = 3,
    labels: str | None = None,
    broken: str = "refuse",
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, channels, H, W) float32 in [0, 1], labels (N,) int64, and the names of the
    classes, in order.

    Each folder in ``path`` is a class, and all images below it are its examples. size: the side of
    the square that each image is cut to (see ``square``). None leaves the images as they are; then
    all must have the same size, and at most 16 million pixels. labels: the name of a CSV file in
    ``path`` that names the images and their classes (class_folders.py), instead of folders.
    broken: what becomes of a file that cannot be read: "refuse" raises a ValueError that names it;
    "skip" leaves it out, and a warning names such files.
    FileNotFoundError if there is nothing to read; ValueError, with the path, for an image that has
    another size. A warning names images with the same pixels in two classes.
    """
    path = inputs.path(path, "image_folder: path")
    size = None if size is None else _side(size, "image_folder: size")
    channels = _channels(channels, "image_folder")
    choice(broken, "image_folder: broken", BROKEN)
    if labels is None:
        files, numbers, names = files_in_folders(path, "image_folder")
    else:
        csv_name = inputs.text(labels, "image_folder: labels")
        path = inputs.folder(path, "image_folder: path")
        inputs.file(path / csv_name, "image_folder: labels")
        files, numbers, names = files_in_csv(path, csv_name, "image_folder")
    images: np.ndarray | None = None
    kept: list[int] = []  # the numbers of the files that could be read
    problems: list[str] = []
    for i, file in enumerate(files):
        try:
            photo = _opened(file, channels, None if size is not None else UNSCALED_PIXELS)
        except ValueError as error:
            if broken == "refuse":
                raise
            problems.append(str(error).removeprefix("open_photo: "))
            continue
        sides = photo.size[::-1] if size is None else (size, size)
        if images is None:
            images = np.empty((len(files), channels, *sides), np.float32)
        if sides != images.shape[2:]:
            raise ValueError(
                f"{file} is {_size(photo.size)}, {files[kept[0]]} is "
                f"{_size(images.shape[:1:-1])}: give size= to cut all to one size"
            )
        if size is None:
            _values(photo, images[len(kept)])
        else:
            images[len(kept)] = _squared(photo, size, str(file))
        kept.append(i)
    _report_broken(problems, len(files))
    lost = sorted(set(range(len(names))) - set(numbers[kept].tolist()))
    if images is None or lost:
        raise ValueError(
            f"image_folder: {path}: no image of class {names[lost[0]]!r} can be read, such as "
            f"{problems[0]}"
        )
    images, numbers = images[: len(kept)], numbers[kept]
    _report_contradictions(images, numbers, [files[i] for i in kept])
    return images, numbers, names


def _report_broken(problems: list[str], count: int) -> None:
    """A warning about files that could not be read. count: the number of all files."""
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        warnings.warn(
            f"image_folder: {len(problems)} of {count} files cannot be read and are left out: "
            f"{'; '.join(problems[:3])}{more}",
            RuntimeWarning,
            stacklevel=3,
        )


def _report_contradictions(images: np.ndarray, labels: np.ndarray, files: list[Path]) -> None:
    """A warning if images of two classes have the same pixels: one of the labels must be wrong."""
    first: dict[bytes, int] = {}
    pairs = []
    for i, digest in enumerate(map(digest_of, images)):
        other = first.setdefault(digest, i)
        if labels[other] != labels[i]:
            pairs.append(f"{files[other]} and {files[i]}")
    if pairs:
        warnings.warn(
            f"image_folder: images of two classes have the same pixels ({len(pairs)}, such as "
            f"{pairs[0]}): remove the one whose class is wrong",
            RuntimeWarning,
            stacklevel=3,
        )


def open_photo(path: str | Path, channels: int = 3, alpha: bool = False) -> Image:
    """The Pillow image in a file, with 1 channel (mode L, or F for 16 bits and floats) or 3 (mode
    RGB). Transparency is dropped; with alpha=True, an image that has some keeps it, in mode RGBA.

    ValueError, with the path, for a file that is no complete image, for a huge image, and for one
    whose values have no known white.
    """
    alpha = inputs.flag(alpha, "open_photo: alpha")
    path, channels = inputs.path(path, "open_photo: path"), _channels(channels, "open_photo")
    return _opened(path, channels, alpha=alpha)


def _opened(path: Path, channels: int, unscaled: int | None = None, alpha: bool = False) -> Image:
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
            if alpha and ("transparency" in photo.info or photo.mode in ("RGBA", "LA", "PA")):
                return photo.convert("RGBA")
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


def _size(sides: tuple[int, ...]) -> str:
    """(width, height) as text: "W x H"."""
    return f"{sides[0]} x {sides[1]}"
