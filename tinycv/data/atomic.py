"""Atomic writes: a file is written under a temporary name, forced to disk, and then renamed.

The temporary name is ".NAME.xxxxxxxx.partial" with eight hexadecimal digits. (A very long NAME is
replaced by its beginning and a checksum.) The writing process holds a lock on this file. So a file
left behind by a killed process, which is removed, can be distinguished from one that another
process is writing.
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
except ImportError:  # Windows, where an open file cannot be removed, so no lock is needed
    fcntl = None

NO_SYNC = {errno.EBADF, errno.EINVAL, errno.ENOTSUP}  # "this cannot be synced", not "it failed"
LONGEST_NAME = 255  # bytes; the limit of nearly every file system


def file_path(path: Any, what: str) -> Path:
    """``path`` as a Path; TypeError or ValueError if it names no file. ``what`` is its name in the
    error, such as "save: path"."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{what} is {shown(path)}; it must be a str or a Path")
    # checked before Path, which would turn "a/." into "a"
    if os.path.basename(text) in ("", ".", "..") or "\0" in text:
        raise ValueError(f"{what} is {shown(text)}; it must name a file")
    refuse_unspeakable(text, what)
    return Path(text)


def refuse_unspeakable(path: str | os.PathLike, what: str) -> None:
    """ValueError for a path that no file can have: one that is too long for the system, or with
    characters that it cannot encode."""
    try:
        os.lstat(path)
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} is {shown(path)}, which no file system can spell; it must be a path"
        ) from None
    # other errors, such as a missing file, are left to the function that opens the path
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(
                f"{what} is {shown(path)}, a name of {len(os.fspath(path))} letters, too long for "
                "a file or folder; it must be a path"
            ) from None


def obstacle(path: Path) -> str:
    """Why this file cannot be written: it is a folder, or one of the folders above it is a file. ""
    if neither is so."""
    if path.is_dir():
        return f"{path} is a folder, not a file"
    files = [above for above in path.parents if above.exists() and not above.is_dir()]
    return f"{files[0]} is a file, not a folder" if files else ""


def write(path: Path, data: bytes) -> None:
    """Write the file. If path is a symbolic link, its target is written and the link stays. The new
    file has the permissions of the old one. (A hard link is separated: the other names keep the old
    content.)

    OSError if the file cannot be written; then the old file is unchanged, and no partial file is
    left.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"write: data is {shown(data)}; it must be bytes")
    target, mode = _target(file_path(path, "write: path"))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    file, partial = _open_partial(target, mode)
    try:
        with file:
            if mode is not None:
                os.chmod(partial, mode)
            file.write(data)
            file.flush()
            # on disk before the rename, or after a power cut the name could point to an empty file
            os.fsync(file.fileno())
            if fcntl is not None:  # while the file is open and therefore still locked
                os.replace(partial, target)
        if fcntl is None:  # Windows cannot rename an open file
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)  # it still exists only if something failed
    _sync_folder(target.parent)


def _target(path: Path) -> tuple[Path, int | None]:
    """The file that the path leads to, and the permissions of the old file, None if there is none.
    OSError for what is not, and cannot become, an ordinary file."""
    target = Path(os.path.realpath(path))
    try:
        old = os.lstat(target)
    except FileNotFoundError:
        return target, None
    except NotADirectoryError:
        why = f"cannot be written, {obstacle(path)}"
        raise NotADirectoryError(errno.ENOTDIR, why, str(path)) from None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "cannot be written, it is a folder", str(path))
    if stat.S_ISLNK(old.st_mode):
        raise OSError(
            errno.ELOOP, "cannot be written, it is a link that leads back to itself", str(path)
        )
    if not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EINVAL, "cannot be written, it is not an ordinary file", str(path))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot be written, it is protected", str(path))
    return target, stat.S_IMODE(old.st_mode)


def _open_partial(target: Path, mode: int | None) -> tuple[BinaryIO, Path]:
    """A new partial file, open and locked. If there is an old file, the new one can be read by its
    owner alone until it has the permissions of the old one."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode & 0o600)

    while True:
        partial = target.parent / f"{_stem(target)}.{uuid.uuid4().hex[:8]}.partial"
        file = open(partial, "xb", opener=opener)  # noqa: SIM115 -- the caller closes it
        if fcntl is None:
            return file, partial
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        # between open and flock another process may have removed the file as a leftover: try again
        if partial.exists():
            return file, partial
        file.close()


def _stem(target: Path) -> str:
    """The beginning of the names of partial files; 17 more bytes follow it."""
    name = os.fsencode(target.name)
    if len(name) > LONGEST_NAME - 18:
        name = name[: LONGEST_NAME - 27] + b"~%08x" % zlib.crc32(name)
    return "." + os.fsdecode(name)


def _remove_leftovers(target: Path) -> None:
    """Remove the partial files that killed writes of this file left behind."""
    leftover = re.compile(re.escape(_stem(target)) + r"\.[0-9a-f]{8}\.partial")
    for name in os.listdir(target.parent):
        if leftover.fullmatch(name) and stat.S_ISREG(_mode(target.parent / name)):
            # OSError: another process is writing it (locked), or it belongs to another user
            with contextlib.suppress(OSError):
                _remove_if_abandoned(target.parent / name)


def _mode(path: Path) -> int:
    """The type and permissions of a file, 0 if it is gone."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:  # its writer has just renamed it
        return 0


def _remove_if_abandoned(partial: Path) -> None:
    """Remove the file; OSError if its writer still holds the lock."""
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
    """Force the rename to disk too, where the system can: Windows opens no folder, and some network
    file systems do not sync one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)
