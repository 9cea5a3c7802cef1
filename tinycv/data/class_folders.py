"""Class folders: which image files there are, and the class of each, from folders or a CSV file.

    pets/cat/1.jpg, pets/dog/a/2.png          each folder in pets/ is a class (as in torchvision)
    photos/labels.csv, photos/1.jpg, ...      file,label      the first line of the CSV file
                                              1.jpg,cat       one line per image

Classes are numbered in the sorted order of their names, as in torchvision: "10" comes before "2".
Names that begin with a dot are ignored, at any depth (.DS_Store, .ipynb_checkpoints, ._1.jpg), and
so are files that are not images (Thumbs.db, notes.txt) and the folder __MACOSX of zip files.
"""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path

import numpy as np

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
IGNORED = ("__MACOSX",)

Listed = tuple[list[Path], np.ndarray, list[str]]


def files_in_folders(path: Path, who: str) -> Listed:
    """The images below a folder of folders, the class number of each (N,) int64, and the names of
    the classes. who: the function that is named in errors.

    FileNotFoundError if a class has no image. Images beside the folders have no class; a warning
    says that they are not read."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"{who}: {path}: there is no such folder; name the folder that holds one folder "
            "per class"
        )
    folders = sorted(
        folder
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in IGNORED
    )
    if not folders:
        raise FileNotFoundError(
            f"{who}: {path}: it holds no folders; expected one folder of images per class, "
            f"such as {path}/cat/1.jpg"
        )
    beside = [file for file in path.iterdir() if _is_image(file, path)]
    if beside:
        warnings.warn(
            f"{who}: {path}: images beside the class folders have no class and are not read "
            f"({len(beside)}, such as {min(beside).name})",
            RuntimeWarning,
            stacklevel=3,
        )
    classes = [_images_in(folder, who) for folder in folders]
    labels = np.repeat(np.arange(len(folders)), [len(members) for members in classes])
    return (
        [file for members in classes for file in members],
        labels,
        [folder.name for folder in folders],
    )


def files_in_csv(path: Path, csv_name: str, who: str) -> Listed:
    """The images that a CSV file in the folder names, the class number of each (N,) int64, and the
    names of the classes. who: the function that is named in errors."""
    rows = read_csv(path / csv_name, ("label",), who)[1]
    for line, (file, label) in rows:
        if not label.strip():
            raise ValueError(
                f"{who}: {path / csv_name}, line {line} ({file}) has no label; write the name of "
                "its class"
            )
        if not (path / file).is_file():
            raise FileNotFoundError(
                f"{who}: {path / csv_name}, line {line}: there is no file {path / file}"
            )
    label_names = [label.strip() for _, (_, label) in rows]
    names = sorted(set(label_names))
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number[label] for label in label_names], np.int64)
    return [path / file for _, (file, _) in rows], labels, names


def read_csv(
    path: Path, columns: tuple[str, ...], who: str
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of all columns but the first, and each row with the number of its line. The first
    column is "file", the name of an image, which may occur once. who: the function that is named in
    errors.

    columns: the names of the others; () takes any names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{who}: {path} is not a CSV file in UTF-8: {error}") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    _check_header(path, header, columns, who)
    if len(lines) < 2:
        raise ValueError(f"{who}: {path} names no photo; it must have a line for each")
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"{who}: {path}, line {line} ({row[0]}) has {len(row)} values; the "
                f"header has {len(header)} columns: {', '.join(header)}"
            )
    seen: dict[str, int] = {}
    for line, row in lines[1:]:
        first = seen.setdefault(os.path.normpath(row[0]), line)
        if first != line:
            raise ValueError(
                f"{who}: {path}, line {line} names {row[0]}, as line {first} does; "
                "each photo must be named once"
            )
    return header[1:], lines[1:]


def _check_header(path: Path, header: list[str], columns: tuple[str, ...], who: str) -> None:
    """ValueError unless the first line of a CSV file is "file" and the names of the columns."""
    begins = f"{who}: {path} begins with {','.join(header)!r}; its first line must be "
    if columns and header != ["file", *columns]:
        raise ValueError(f"{begins}{','.join(('file', *columns))!r}")
    if header[:1] != ["file"] or len({*header} - {""}) < max(2, len(header)):
        raise ValueError(
            f"{begins}'file' and the names of the attributes, all different, such as "
            "'file,glasses,woman'"
        )


def _images_in(folder: Path, who: str) -> list[Path]:
    """All images below the folder, at any depth, sorted by name; FileNotFoundError if there is
    none."""
    files = sorted(file for file in folder.rglob("*") if _is_image(file, folder))
    if not files:
        raise FileNotFoundError(
            f"{who}: {folder}: no image there ({', '.join(sorted(ENDINGS))}); each folder "
            "is a class: fill it or move it away"
        )
    return files


def _is_image(file: Path, folder: Path) -> bool:
    """Is it an image by its name? A hidden one does not count, and none in a hidden folder."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in ENDINGS and not hidden and not file.is_dir()
