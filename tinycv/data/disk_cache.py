"""What is slow to read is read once, then kept as .npz in the user's cache folder.

A cache is a convenience: when it is broken or cannot be written, a warning says so and the source
is read. Nothing in the file is trusted: no pickle is opened, and no byte is unpacked before the
header of an array is as expected.
"""

import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """$TINYCV_CACHE, else $XDG_CACHE_HOME/tinycv, else ~/.cache/tinycv. It need not exist."""
    if own := os.environ.get("TINYCV_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "tinycv"


def cached(
    name: str,
    read_source: Callable[[], Arrays],
    shapes: dict[str, tuple[int, ...]],
    dtype: str = "uint8",
) -> Arrays:
    """The arrays that ``read_source`` returns, all of one dtype: from the cache when it has them,
    else read and kept.

    ``shapes`` names the arrays and the shape each must have; a cache that holds anything else is
    not used.
    """
    arrays = _load(name, shapes, dtype)
    if arrays is None:
        arrays = read_source()
        _save(name, arrays)
    return arrays


def _load(name: str, shapes: dict[str, tuple[int, ...]], dtype: str) -> Arrays | None:
    """The arrays from the cache; None where they are not there, or, with a warning, not as
    expected."""
    try:
        path = cache_folder() / f"{name}.npz"
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would be waited for
            raise ValueError(f"{path} is no file")
        with zipfile.ZipFile(path) as archive:
            return {
                key: _member(archive, key, shape, np.dtype(dtype)) for key, shape in shapes.items()
            }
    # a damaged zip raises any of a dozen types; every one is reported
    except Exception as error:
        _warn(
            f"the cached {name} could not be read and is made again: {type(error).__name__}: "
            f"{error}"
        )
        return None


def _member(
    archive: zipfile.ZipFile, key: str, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """One array of an .npz; ValueError unless its header says this shape and dtype. Unpacks what
    these need, no more."""
    with archive.open(f"{key}.npy") as file:
        # headers of version 1 end at 64 KiB, later ones at 4 GiB
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(
                f"{key} is in another version of .npy than the one that is written here"
            )
        found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        if (found, kind) != (shape, dtype) or fortran:
            raise ValueError(
                f"{key} holds {kind} of shape {found}, expected {dtype} of shape {shape}"
            )
        array = np.empty(shape, dtype)
        body, need = file.read(array.nbytes), prod(shape) * dtype.itemsize
        if len(body) != need or file.read(1):
            raise ValueError(f"{key} holds {len(body)} bytes or more, expected {need}")
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(body, np.uint8)
        return array


def _save(name: str, arrays: Arrays) -> None:
    """Into the cache; where that cannot be, a warning, and life goes on."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(folder / f"{name}.npz", arrays)
    # RuntimeError: there is no home folder
    except (OSError, RuntimeError) as error:
        _warn(
            f"{name} could not be cached, so the next start is slow again: {error}; "
            "set TINYCV_CACHE to a folder that can be written"
        )


def _write_atomically(path: Path, arrays: Arrays) -> None:
    """Another process sees the old file or the whole new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: leave no litter behind
        os.unlink(temporary)
        raise


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)  # points at who asked for the data
