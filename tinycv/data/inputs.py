"""Checks for the functions of data, show and vision: arrays, images, labels, generators and paths.

Each function takes the value and ``what`` it is, "random_flip: x", which begins the sentence of its
error, as in engine/arguments.py, where whole numbers, real numbers and choices are checked. What
comes back is plain NumPy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data.atomic import refuse_unspeakable
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
    """``value`` as an array of one of the ``kinds`` of numbers, with ``ndim`` axes. takes: those
    two in words.

    Lists, Tensors and PyTorch tensors on the CPU are read. A masked array is refused, also in a
    list: NumPy would show what lies under the mask. So are np.matrix, and what NumPy can hold but
    not count with: texts, dates, complex numbers, objects.
    """
    refuse_masked(value, what, takes)
    for part in value if isinstance(value, (list, tuple)) else ():
        refuse_masked(part, what, takes)
    try:
        found = np.asarray(value)
    # each library refuses in its own way: uneven rows, another device
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
    if found.dtype.kind not in kinds or (ndim is not None and found.ndim != ndim):
        kind = TypeError if found.dtype.kind not in kinds else ValueError
        is_array = found.ndim and hasattr(value, "dtype")
        held = f"{found.dtype} of shape {found.shape}" if is_array else shown(value)
        raise kind(f"{what} is {held}; it must be {takes}")
    return found


def real_numbers(values: Any, what: str) -> np.ndarray:
    """A float64 array of its own, of finite real numbers."""
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
    """How many points to draw, with a generator to draw them by."""
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
                "say what stands where the mask is, with .filled(...)"
                if masked
                else "np.asarray(...) makes an array of it"
            )
        )


def images(value: Any, what: str, floats: bool = False) -> np.ndarray:
    """Images (B, C, H, W) with at least one pixel each; of floats where pixels are mixed."""
    found = array(value, what, "images (B, C, H, W); add missing axes with None", ndim=4)
    if 0 in found.shape[1:]:
        raise ValueError(
            f"{what} has shape {found.shape}; images (B, C, H, W) need at least one channel and "
            "one pixel"
        )
    if floats and found.dtype.kind != "f":
        raise TypeError(
            f"{what} is {found.dtype} of shape {found.shape}; pixels are mixed here, which takes "
            f"float images, not {found.dtype}; divide by 255 first"
        )
    return found


def whole(value: Any, what: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """A whole number from ``least`` to ``most``."""
    count = size(value, what, least)
    if count > most:
        raise ValueError(
            f"{what} is {shown(count)}; it must be a whole number, at least {least} and at most "
            f"{most}"
        )
    return count


def class_numbers(
    value: Any, what: str, classes: int | None = None, count: int | None = None
) -> np.ndarray:
    """Whole numbers (N,), as many as ``count`` says, each from 0 to ``classes`` - 1. IndexError for
    a class outside."""
    found = array(value, what, "class numbers (N,)", "iu", ndim=1)
    if count is not None and len(found) != count:
        raise ValueError(
            f"{what} is {found.dtype} of shape {found.shape}; there must be one class number for "
            f"each of {count} images"
        )
    if classes is not None and found.size and not 0 <= found.min() <= found.max() < classes:
        raise IndexError(
            f"{what} run from {found.min()} to {found.max()}; {classes} classes are numbered from "
            f"0 to {classes - 1}"
        )
    return found


def generator(value: Any, what: str) -> np.random.Generator:
    """NumPy's Generator, from which all chance comes."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"{what} is {shown(value)}; it must be a generator: np.random.default_rng(seed)"
        )
    return value


def path(value: Any, what: str) -> Path:
    """A path; what is no text is refused, and so is an empty one, which would mean the folder one
    stands in."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{what} is {shown(value)}; it must be a path, as a text or a pathlib.Path")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(
            f"{what} is {shown(value)}, which names no file or folder; it must be a path"
        )
    refuse_unspeakable(value, what)
    return Path(value)


def file(value: Any, what: str) -> Path:
    """The path of a file that is there."""
    found = path(value, what)
    if not found.is_file():
        raise FileNotFoundError(
            f"{what}: {found}: "
            + ("this is a folder, not a file" if found.is_dir() else "there is no such file")
        )
    return found


def folder(value: Any, what: str) -> Path:
    """The path of a folder that is there."""
    found = path(value, what)
    if not found.is_dir():
        raise FileNotFoundError(
            f"{what}: {found}: "
            + ("this is a file, not a folder" if found.exists() else "there is no such folder")
        )
    return found


def function(value: Any, what: str, takes: str) -> Any:
    """Something that can be called, or None. takes: with which arguments."""
    if value is not None and not callable(value):
        raise TypeError(f"{what} is {shown(value)}; it must be a function {takes}, or None")
    return value


def text(value: Any, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {shown(value)}; it must be a text")
    return value
