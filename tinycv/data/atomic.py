"""Atomic writes: a file is written under another name, forced to disk, and renamed into its place.

The other name is ".NAME.xxxxxxxx.partial" with eight hexadecimal digits; of a very long NAME only
its beginning and a checksum. Who writes holds a lock on it, so that a file which a killed program
left behind can be told from one that another process is writing, and only the first is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from tinycv.engine.arguments import shown

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None

LONGEST_NAME = 255  # bytes; the limit of nearly every file system


def file_path(path: Any, what: str) -> Path:
    """``path`` as a Path, where ``what`` is "save: path". TypeError or ValueError if it names no
    file."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{what} is {shown(path)}; it must be a str or a Path")
    if os.path.basename(text) in ("", ".", "..") or "\0" in text:  # Path("a/.") would be Path("a")
        raise ValueError(f"{what} is {shown(text)}; it must name a file")
    refuse_unspeakable(text, what)
    return Path(text)


def refuse_unspeakable(path: str | os.PathLike, what: str) -> None:
    """ValueError for a path that no file can have: longer than the system's names, or of letters
    that it cannot spell."""
    try:
        os.lstat(path)
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} is {shown(path)}, which no file system can spell; it must be a path"
        ) from None
    # what is not there, or not to be looked at, its reader says
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(
                f"{what} is {shown(path)}, a name of {len(os.fspath(path))} letters, too long for "
                "a file or folder; it must be a path"
            ) from None


def write(path: Path, data: bytes) -> None:
    """Write the file. A symbolic link is written through and stays one; an old file keeps its
    permissions. (A hard link becomes a file of its own: the other names keep the old content.)

    OSError when the place or the disk refuses; the old file then stays, with nothing left beside
    it.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"write: data is {shown(data)}; it must be bytes")
    place, mode = _place(file_path(path, "write: path"))
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(place)
    file, partial = _claimed(place, mode)
    try:
        with file:
            if mode is not None:
                os.chmod(partial, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the bytes first, or the name may point at none
            if fcntl is not None:  # the lock ends when the file is closed
                os.replace(partial, place)
        if fcntl is None:
            os.replace(partial, place)
    finally:
        partial.unlink(missing_ok=True)  # still there only where something failed
    _sync_folder(place.parent)


def _place(path: Path) -> tuple[Path, int | None]:
    """(where the bytes go, an old file's permissions). OSError for what is not, and cannot become,
    an ordinary file.
    """
    place = Path(os.path.realpath(path))
    try:
        old = os.lstat(place)
    except FileNotFoundError:
        return place, None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "cannot be written, it is a folder", str(path))
    if stat.S_ISLNK(old.st_mode):
        raise OSError(
            errno.ELOOP, "cannot be written, it is a link that leads back to itself", str(path)
        )
    if not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EINVAL, "cannot be written, it is not an ordinary file", str(path))
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot be written, it is protected", str(path))
    return place, stat.S_IMODE(old.st_mode)


def _claimed(place: Path, mode: int | None) -> tuple[BinaryIO, Path]:
    """A new partial file, open and locked. Nobody may read it who may not read the old file."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode & 0o600)

    while True:
        partial = place.parent / f"{_stem(place)}.{uuid.uuid4().hex[:8]}.partial"
        file = open(partial, "xb", opener=opener)  # noqa: SIM115 -- its caller closes it
        if fcntl is None:
            return file, partial
        with contextlib.suppress(OSError):  # a file system without locks: then there is none
            fcntl.flock(file, fcntl.LOCK_EX)
        if partial.exists():  # nobody removed it before it was locked
            return file, partial
        file.close()


def _stem(place: Path) -> str:
    """How the names of the partial files begin; they have 17 bytes more."""
    name = os.fsencode(place.name)
    if len(name) > LONGEST_NAME - 18:
        name = name[: LONGEST_NAME - 27] + b"~%08x" % zlib.crc32(name)
    return "." + os.fsdecode(name)


def _remove_leftovers(place: Path) -> None:
    """Remove what killed writes of this very file left behind."""
    leftover = re.compile(re.escape(_stem(place)) + r"\.[0-9a-f]{8}\.partial")
    for name in os.listdir(place.parent):
        if leftover.fullmatch(name) and stat.S_ISREG(_mode(place.parent / name)):
            with contextlib.suppress(OSError):  # locked, so it is being written; or somebody else's
                _remove_if_abandoned(place.parent / name)


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:  # its writer has renamed it by now
        return 0


def _remove_if_abandoned(partial: Path) -> None:
    """OSError if its writer still holds the lock."""
    if fcntl is None:
        partial.unlink(missing_ok=True)
        return
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Force the rename to disk too; Windows has no such call, and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
