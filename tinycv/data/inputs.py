"""Argument checks for data, show and vision: arrays, images, labels, generators and paths.

Each function takes a value and ``what`` it is, such as "random_flip: x", with which its error
message begins. (engine/arguments.py has the checks of whole numbers, real numbers and choices.)
Arrays are returned as plain NumPy arrays.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data.atomic import obstacle, refuse_unspeakable
from tinycv.engine.arguments import (  # noqa: F401  flag: for the files of data
    NOT_PLAIN,
    flag,
    shown,
    size,
)

NUMBERS = "biuf"  # NumPy's kinds: bool, signed, unsigned, float
MOST = np.finfo(np.float64).max  # numbers below it are finite


def array(
    value: Any, what: str, takes: str = "numbers", kinds: str = NUMBERS, ndim: int | None = None
) -> np.ndarray:
    """``value`` as an array of one of the ``kinds`` of numbers, with ``ndim`` axes. takes: these
    requirements in words, for the error.

    Lists, Tensors and PyTorch tensors on the CPU are accepted. Masked arrays are refused, also
    inside a list, because NumPy would return the values under the mask. np.matrix is refused too,
    and so are texts, dates, complex numbers and objects.
    """
    refuse_masked(value, what, takes)
    for part in value if isinstance(value, (list, tuple)) else ():
        refuse_masked(part, what, takes)
    try:
        as_array = np.asarray(value)
    # uneven rows, or an array on another device: each library raises errors of other types
    except Exception as error:
        text = str(error).partition("\n")[0]
        why = (
            "its rows are not equally long"
            if "inhomogeneous" in text
            else (
                "it is nested too deeply"
                if "maximum number of dim" in text
                else f"{type(error).__name__}: {text}"
            )
        )
        raise TypeError(f"{what} is {shown(value)}; it must be {takes} ({why})") from error
    if as_array.dtype.kind not in kinds or (ndim is not None and as_array.ndim != ndim):
        kind = TypeError if as_array.dtype.kind not in kinds else ValueError
        is_array = as_array.ndim and hasattr(value, "dtype")
        description = f"{as_array.dtype} of shape {as_array.shape}" if is_array else shown(value)
        raise kind(f"{what} is {description}; it must be {takes}")
    return as_array


def real_numbers(values: Any, what: str) -> np.ndarray:
    """A new float64 array of finite real numbers."""
    try:
        array = np.array(values)
    except (TypeError, ValueError) as error:  # rows of unequal length
        raise TypeError(
            f"{what} is {shown(values)}; it must be an array of real numbers"
        ) from error
    if isinstance(values, NOT_PLAIN) or array.dtype.kind not in "fiu":
        raise TypeError(f"{what} is {shown(values)}; it must be a plain array of real numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or infinity; all of its numbers must be finite")
    return array.astype(np.float64, copy=False)


def drawn(name: str, n: Any, rng: Any) -> int:
    """n, the number of points to draw; an error, which names the function ``name``, unless n is a
    whole number and rng a generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"{name}: rng is {shown(rng)}; it must be a NumPy Generator, "
            "np.random.default_rng(seed)"
        )
    return size(n, f"{name}: n")


def refuse_masked(value: Any, what: str, takes: str) -> None:
    """TypeError for a masked array and np.matrix."""
    if isinstance(value, NOT_PLAIN):
        masked = isinstance(value, np.ma.MaskedArray)
        raise TypeError(
            f"{what} is {'a masked array' if masked else 'an np.matrix'} of shape {value.shape}; "
            f"it must be {takes}: "
            + (
                "fill the masked values with .filled(...)"
                if masked
                else "np.asarray(...) makes an array of it"
            )
        )


def images(value: Any, what: str, floats: bool = False) -> np.ndarray:
    """Images (B, C, H, W) with at least one pixel each. floats: whether they must be floats,
    because pixels are going to be mixed."""
    batch = array(value, what, "images (B, C, H, W); add missing axes with None", ndim=4)
    if 0 in batch.shape[1:]:
        raise ValueError(
            f"{what} has shape {batch.shape}; images (B, C, H, W) need at least one channel and "
            "one pixel"
        )
    if floats and batch.dtype.kind != "f":
        raise TypeError(
            f"{what} is {batch.dtype} of shape {batch.shape}; pixels are mixed here, which takes "
            f"float images, not {batch.dtype}; divide by 255 first"
        )
    return batch


def whole(value: Any, what: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """A whole number from ``least`` to ``most``."""
    count = size(value, what, least)
    if count > most:
        raise ValueError(
            f"{what} is {shown(count)}; it must be a whole number, at least {least} and at most "
            f"{most}"
        )
    return count


def refuse_other_ranges(pixels: np.ndarray, what: str, name: str = "images") -> None:
    """ValueError for pixels that are clearly not from 0 to 1, such as those of a model, which are
    from -1 to 1, or bytes up to 255. Values up to 0.5 outside are allowed: a model that predicts
    pixels from 0 to 1 may exceed them a little."""
    if pixels.size and not -0.5 <= pixels.min() <= pixels.max() <= 1.5:
        from_model = f"if they are from -1 to 1, as models make them, use {name} / 2 + 0.5"
        from_bytes = f"if they were bytes from 0 to 255, use {name} / 255"
        raise ValueError(
            f"{what} has values from {pixels.min():.3g} to {pixels.max():.3g}; they must be from 0 "
            f"to 1: {from_bytes if pixels.max() > 2 else from_model}"
        )


def class_numbers(
    value: Any, what: str, classes: int | None = None, count: int | None = None
) -> np.ndarray:
    """Class numbers (N,) from 0 to ``classes`` - 1, with N = ``count``. IndexError for a number out
    of range."""
    labels = array(value, what, "class numbers (N,)", "iu", ndim=1)
    if count is not None and len(labels) != count:
        raise ValueError(
            f"{what} is {labels.dtype} of shape {labels.shape}; there must be one class number for "
            f"each of {count} images"
        )
    if classes is not None and labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise IndexError(
            f"{what} run from {labels.min()} to {labels.max()}; {classes} classes are numbered "
            f"from 0 to {classes - 1}"
        )
    return labels


def generator(value: Any, what: str) -> np.random.Generator:
    """A NumPy Generator, which makes all random choices."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"{what} is {shown(value)}; it must be a generator: np.random.default_rng(seed)"
        )
    return value


def path(value: Any, what: str) -> Path:
    """A path as a pathlib.Path. An empty path is refused, because it would mean the current
    folder."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{what} is {shown(value)}; it must be a path, as a str or a pathlib.Path")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(
            f"{what} is {shown(value)}, which names no file or folder; it must be a path"
        )
    refuse_unspeakable(value, what)
    return Path(value)


def file(value: Any, what: str) -> Path:
    """The path of a file that exists."""
    file_path = path(value, what)
    if not file_path.is_file():
        raise FileNotFoundError(
            f"{what}: {file_path}: "
            + ("this is a folder, not a file" if file_path.is_dir() else "there is no such file")
        )
    return file_path


def folder(value: Any, what: str) -> Path:
    """The path of a folder that exists."""
    folder_path = path(value, what)
    if not folder_path.is_dir():
        raise FileNotFoundError(
            f"{what}: {folder_path}: "
            + (
                "this is a file, not a folder"
                if folder_path.exists()
                else "there is no such folder"
            )
        )
    return folder_path


def make_folder_of(file_path: Path, what: str) -> None:
    """Create the folder in which this file is to be written, if it does not exist."""
    problem = obstacle(file_path)
    if problem:
        raise NotADirectoryError(f"{what}: {file_path} cannot be written: {problem}")
    file_path.parent.mkdir(parents=True, exist_ok=True)


def function(value: Any, what: str, takes: str) -> Any:
    """A function, or None. takes: its arguments in words, for the error."""
    if value is not None and not callable(value):
        raise TypeError(f"{what} is {shown(value)}; it must be a function {takes}, or None")
    return value


def text(value: Any, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {shown(value)}; it must be a text")
    return value
