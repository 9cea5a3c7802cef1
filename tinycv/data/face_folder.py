"""faces_from_folder: your own faces, a folder of photos with a CSV file of their attributes.

    faces/attributes.csv            faces/1.jpg, faces/2.png, ...
        file,glasses,woman
        1.jpg,1,0
        2.png,0,1

    images, attributes = faces_from_folder("faces")     as ``faces`` of faces.py returns them

The first column is the name of a photo, relative to the folder; every other column is an attribute,
1 or 0. CelebA writes -1 for 0, which is read as 0. A photo that is named twice is refused, because
it could be learned from and tested on. Photos are scaled, and the square in their
middle is cut out (photos.py). An error names the line of the CSV file, and the photo.
Needs Pillow, which is installed with matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinycv.data import inputs
from tinycv.data.class_folders import read_csv
from tinycv.data.photos import LARGEST_SIDE, open_photo, square
from tinycv.engine.arguments import shown

VALUES = {"1": 1, "0": 0, "-1": 0}


def faces_from_folder(
    folder: str | Path,
    csv_name: str = "attributes.csv",
    size: int = 32,
    columns: Sequence[str] = (),
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The photos (N, 3, size, size) float32 in [0, 1] that a CSV file in the folder names, and
    their attributes by name, (N,) int64, 0 or 1.

    columns: attributes that must be among them, each with both values."""
    folder = inputs.folder(folder, "faces_from_folder: folder")
    csv_name = inputs.text(csv_name, "faces_from_folder: csv_name")
    size = inputs.whole(size, "faces_from_folder: size", 1, LARGEST_SIDE)
    path = inputs.file(folder / csv_name, "faces_from_folder: csv_name")
    if not isinstance(columns, (list, tuple)) or not all(isinstance(c, str) for c in columns):
        raise TypeError(
            f"faces_from_folder: columns is {shown(columns)}; it must be a list of names"
        )
    names, rows = read_csv(path, (), "faces_from_folder")
    for column in columns:
        if column not in names:
            raise ValueError(
                f"faces_from_folder: {path} has no column {column!r}; it has {', '.join(names)}"
            )
    images = np.empty((len(rows), 3, size, size), np.float32)
    attributes = {name: np.empty(len(rows), np.int64) for name in names}
    for i, (line, row) in enumerate(rows):
        images[i] = _photo(folder / row[0], size, f"{path}, line {line}")
        for name, value in zip(names, row[1:], strict=True):
            attributes[name][i] = _value(value, f"{path}, line {line} ({row[0]}): {name}")
    for column in columns:
        if len(set(attributes[column].tolist())) < 2:
            raise ValueError(
                f"faces_from_folder: {path}: {column} is {attributes[column][0]} in every line; "
                "some photos must show it and some must not"
            )
    return images, attributes


def _value(text: str, where: str) -> int:
    """An attribute as the CSV file has it, 0 or 1. where: its place in the file, for errors."""
    if text.strip() not in VALUES:
        raise ValueError(
            f"faces_from_folder: {where} is {text!r}; it must be 1 or 0 (or -1 for 0, as in CelebA)"
        )
    return VALUES[text.strip()]


def _photo(path: Path, size: int, where: str) -> np.ndarray:
    """One photo (3, size, size). where: the line that names it, for errors."""
    try:
        return square(open_photo(path), size)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"faces_from_folder: {where}: {error}") from error
