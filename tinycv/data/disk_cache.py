"""Disk cache: data that are slow to read are stored as .npz in the cache folder of the user.

If the cache is broken or cannot be written, a warning says so and the source is read. Nothing in
the file is trusted: no pickle is opened, and no array is unpacked unless its header is as expected.
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
    """$TINYCV_CACHE, or $XDG_CACHE_HOME/tinycv, or ~/.cache/tinycv. The folder may not exist
    yet."""
    chosen = os.environ.get("TINYCV_CACHE")
    if chosen:
        return Path(chosen)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "tinycv"


def cached(
    name: str,
    read_source: Callable[[], Arrays],
    shapes: dict[str, tuple[int, ...]],
    dtype: str = "uint8",
) -> Arrays:
    """The arrays that ``read_source`` returns, all of one dtype: from the cache if it has them,
    otherwise from the source, and then stored in the cache.

    ``shapes`` has the name and the shape of each array; a cache file that holds anything else is
    not used.
    """
    arrays = _load(name, shapes, dtype)
    if arrays is None:
        arrays = read_source()
        _save(name, arrays)
    return arrays


def _load(name: str, shapes: dict[str, tuple[int, ...]], dtype: str) -> Arrays | None:
    """The arrays from the cache; None if they are not there or, with a warning, if they are not as
    expected."""
    try:
        path = cache_folder() / f"{name}.npz"
        if not path.exists():
            return None
        if not path.is_file():  # opening a pipe, for example, would block
            raise ValueError(f"{path} is no file")
        with zipfile.ZipFile(path) as archive:
            return {
                key: _member(archive, key, shape, np.dtype(dtype)) for key, shape in shapes.items()
            }
    # a damaged zip file raises errors of a dozen types
    except Exception as error:
        _warn(
            f"the cached {name} could not be read and is made again: {type(error).__name__}: "
            f"{error}"
        )
        return None


def _member(
    archive: zipfile.ZipFile, key: str, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """One array of an .npz file; ValueError unless its header states this shape and dtype. Unpacks
    only as many bytes as they need."""
    with archive.open(f"{key}.npy") as file:
        # a header of version 1 has at most 64 KiB, a later version up to 4 GiB
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(
                f"{key} is in another version of .npy than the one that is written here"
            )
        stored_shape, fortran_order, stored_dtype = np.lib.format.read_array_header_1_0(file)
        if (stored_shape, stored_dtype) != (shape, dtype) or fortran_order:
            raise ValueError(
                f"{key} holds {stored_dtype} of shape {stored_shape}, expected {dtype} of shape "
                f"{shape}"
            )
        array = np.empty(shape, dtype)
        body, need = file.read(array.nbytes), prod(shape) * dtype.itemsize
        if len(body) != need or file.read(1):
            raise ValueError(f"{key} holds {len(body)} bytes or more, expected {need}")
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(body, np.uint8)
        return array


def _save(name: str, arrays: Arrays) -> None:
    """Write the arrays to the cache; if that fails, warn and continue."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(folder / f"{name}.npz", arrays)
    # RuntimeError: Path.home() found no home folder
    except (OSError, RuntimeError) as error:
        _warn(
            f"{name} could not be cached, so the next start is slow again: {error}; "
            "set TINYCV_CACHE to a folder that can be written"
        )


def _write_atomically(path: Path, arrays: Arrays) -> None:
    """Write the file so that another process sees either the old or the complete new file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
    except BaseException:  # also for Ctrl-C: remove the temporary file
        os.unlink(temporary)
        raise


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)  # points at the line that loads the data
