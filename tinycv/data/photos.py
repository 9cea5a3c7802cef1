"""Photos of your own: a folder with one folder a class, and what brings a photo to the square that a model reads.

    pets/cat/1.jpg, pets/cat/2.png, pets/dog/a/3.jpg   ->   images, labels, names = image_folder("pets", size=64)

Needs Pillow, which matplotlib brings. Images are turned as their camera noted (EXIF), grey or RGB as asked.
"""

from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from .extra import import_extra

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MODES = {1: "L", 3: "RGB"}
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")


def image_folder(
    path: str | Path, size: int | None = None, channels: int = 3
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, channels, H, W) float32 in [0, 1], labels (N,) int64, and the names of the classes, in order.

    Each folder in ``path`` is a class, and all images below it are its examples. size: the side of the square that each
    image is cut to (see ``square``); None leaves them as they are, and then all must be of one size.
    FileNotFoundError where there is nothing to read; ValueError, with its path, for an image that is broken or differs.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder; name the one that holds a folder for each class")
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise FileNotFoundError(f"{path}: it holds no folders; expected one of images for each class: {path}/cat/1.jpg")
    classes = [_images_in(folder) for folder in folders]
    files = [file for members in classes for file in members]
    images = None
    for i, file in enumerate(files):
        photo = open_photo(file, channels)
        image = pixels(photo) if size is None else square(photo, size)
        if images is None:
            images = np.empty((len(files), *image.shape), np.float32)
        elif image.shape != images.shape[1:]:
            raise ValueError(f"{file} is {_size(image)}, {files[0]} is {_size(images[0])}: give size= to cut all to one")
        images[i] = image
    labels = np.repeat(np.arange(len(folders)), [len(members) for members in classes])
    return images, labels, [folder.name for folder in folders]


def open_photo(path: str | Path, channels: int = 3) -> Any:
    """The Pillow image in a file, in 1 channel or 3. ValueError, with the path, for what is no whole image."""
    if channels not in MODES:
        raise ValueError(f"{path}: a photo has 1 channel (grey) or 3 (RGB), not {channels}")
    image, ops = import_extra("PIL.Image", "Pillow"), import_extra("PIL.ImageOps", "Pillow")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with image.open(path) as photo:
            return ops.exif_transpose(photo).convert(MODES[channels])
    except image.UnidentifiedImageError as error:
        raise ValueError(f"{path}: not an image, or of a kind that Pillow does not know") from error
    except image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:                  # a damaged image raises whatever its format's reader stumbles on
        raise ValueError(f"{path}: a broken image: {type(error).__name__}: {error}") from error


def square(photo: Any, size: int, crop: float = 1.0, resample: str = "bicubic") -> np.ndarray:
    """A Pillow image as (C, size, size) float32 in [0, 1]: scaled, then the square in the middle is cut out of it.

    crop: how much of the shorter side the square shows; 0 squeezes the whole photo into it. resample: one of FILTERS.
    Rounding is torchvision's (Resize, CenterCrop), which timm uses too.
    """
    if size < 1 or not 0 <= crop <= 1 or resample not in FILTERS:
        raise ValueError(f"size={size} must be at least 1, crop={crop} from 0 to 1, resample={resample!r} one of {FILTERS}")
    how = import_extra("PIL.Image", "Pillow").Resampling[resample.upper()]
    if not crop:
        return pixels(photo.resize((size, size), how))
    short, shorter = min(photo.size), floor(size / crop)
    width, height = (int(shorter * side / short) for side in photo.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return pixels(photo.resize((width, height), how).crop((left, top, left + size, top + size)))


def pixels(photo: Any) -> np.ndarray:
    """A Pillow image as (C, H, W) float32 in [0, 1]."""
    values = np.asarray(photo)
    values = values[:, :, None] if values.ndim == 2 else values                 # (H, W, C)
    return np.divide(values.transpose(2, 0, 1), 255, dtype=np.float32)


def _images_in(folder: Path) -> list[Path]:
    """All images at any depth, in order of their names; FileNotFoundError where there is none."""
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and not file.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"{folder}: no image there ({', '.join(sorted(ENDINGS))}); each folder is a class: fill "
                                "it or move it away")
    return found


def _size(image: np.ndarray) -> str:
    """Of an image (C, H, W): "W x H", as photographers say it."""
    return f"{image.shape[2]} x {image.shape[1]}"
