"""IDX files, the format of MNIST and Fashion-MNIST: read and write your own, plain or gzipped.

    bytes 0, 1     zero
    byte 2         element type (see TYPES)
    byte 3         number of dimensions n
    4n bytes       the sizes, 32 bits each
    the rest       the elements in C order; every number has its most significant byte first

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section on file formats.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinycv.data import inputs
from tinycv.data.atomic import file_path, write

CODES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
TYPES = {code: np.dtype(name) for code, name in CODES.items()}
MOST_AXES = 64  # NumPy's own limit
BLOCK = 1 << 20
# a gzip file may unpack to 64 MiB, or to 100 times its size if that is more
FREE_BYTES, TIMES_PACKED = 1 << 26, 100
GZIP = 16 + zlib.MAX_WBITS  # tells zlib that the stream has a gzip header
PACKED = 1 << 16  # how many bytes are read at a time
# a gzip file may have 1,000 parts, and one more for every 1,000 bytes of its size
FREE_PARTS, BYTES_EACH = 1000, 1000

FilePath = str | Path


def read_idx(path: FilePath) -> np.ndarray:
    """The array in an IDX file, in the byte order of this machine. ValueError if the file is
    damaged.

    The memory used depends on what the file really holds, not on what its header claims. A gzip
    stream is unpacked only as far as the header says, and at most to about a hundred times the size
    of the file. To see the shape without reading the data, use ``idx_header``.
    """
    path = inputs.file(path, "read_idx: path")
    with _opened(path) as stream:
        dtype, shape = _read_header(path, stream)
        expected = prod(shape) * dtype.itemsize
        if isinstance(stream, _Unpacked):
            _expect_modest(
                path,
                expected,
                path.stat().st_size,
                "fetch the file again, or unpack it with gunzip if you expect so many",
            )
        body = _read_at_most(expected + 1, stream)
    if len(body) != expected:
        state, size = ("cut short", len(body)) if len(body) < expected else ("too long", "more")
        raise ValueError(
            f"{path}: the file is {state}: its header says {shape} of {dtype.name}, which is "
            f"{expected} bytes, and it holds {size}; fetch the file again"
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def idx_header(path: FilePath) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and shape that the header of an IDX file states. Reads a few bytes; raises the same
    errors as ``read_idx``."""
    path = inputs.file(path, "idx_header: path")
    with _opened(path) as stream:
        return _read_header(path, stream)


def write_idx(path: FilePath, array: np.ndarray) -> None:
    """Write ``array`` as IDX, gzipped if ``path`` ends in .gz. An old file is replaced only when
    the new one is complete.

    TypeError for a dtype that IDX does not have. ValueError for an array that gzip compresses so
    much that ``read_idx`` would refuse the file.
    """
    path = file_path(path, "write_idx: path")
    array = inputs.array(array, "write_idx: array", kinds=inputs.NUMBERS + "c")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"write_idx: path: {path}: "
            + ("this is a folder" if path.is_dir() else "its folder is not there; make it first")
        )
    big_endian = array.dtype.newbyteorder(">")
    code = next((code for code, dtype in TYPES.items() if dtype == big_endian), None)
    if code is None:
        names = ", ".join(dtype.name for dtype in TYPES.values())
        raise TypeError(
            f"write_idx: {path}: IDX has no {array.dtype}, only {names}; convert it with "
            ".astype(...)"
        )
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = header + array.astype(big_endian).tobytes()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)  # no time of day, so equal arrays give equal files
        _expect_modest(path, array.nbytes, len(data), "write_idx to a name without .gz")
    write(path, data)


def idx_folder(folder: FilePath) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """train_x, train_y, test_x, test_y from a folder with the four files of MNIST or
    Fashion-MNIST.

    Images (N, 1, H, W) float32 in [0, 1], labels (N,) int64.
    """
    folder = inputs.folder(folder, "idx_folder: folder")
    return *_read_pair(folder, "train"), *_read_pair(folder, "t10k")


def _read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, H, W) float32, 0 to 1, and labels (N,) int64 of "train" or "t10k"; ValueError
    unless there are as many labels as images."""
    image_path = _find(folder, f"{part}-images", "idx3")
    label_path = _find(folder, f"{part}-labels", "idx1")
    image_shape, label_shape = _expect(image_path, axes=3), _expect(label_path, axes=1)
    if image_shape[0] != label_shape[0]:
        raise ValueError(
            f"{image_path} holds {image_shape[0]} images and {label_path} holds {label_shape[0]} "
            "labels; take both files from the same data set"
        )
    # the smaller file first: if the labels are damaged, no image is unpacked
    labels = read_idx(label_path)
    images = read_idx(image_path)
    return np.divide(images[:, None], 255, dtype=np.float32), labels.astype(np.int64)


def _expect(path: Path, axes: int) -> tuple[int, ...]:
    """The shape in the header of the file; ValueError unless it states bytes with this number of
    axes."""
    dtype, shape = idx_header(path)
    if len(shape) != axes or dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 with {axes} axes, found {dtype.name} of shape {shape}; "
            "are images and labels swapped?"
        )
    return shape


def _find(folder: Path, stem: str, kind: str) -> Path:
    """The path of the file, under any of the names that are in use, gzipped or not;
    FileNotFoundError lists these names."""
    names = [f"{stem}{dot}{kind}-ubyte{ending}" for dot in "-." for ending in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder}: no {stem} there, looked for {', '.join(names)}; "
        "name the folder that holds the four IDX files"
    )


@contextmanager
def _opened(path: Path) -> Iterator["BinaryIO | _Unpacked"]:
    """The file as a stream of bytes, unpacked if it is gzipped. ValueError, with the path, for a
    damaged gzip stream."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"  # by content and not by name: files get renamed
        file.seek(0)
        try:
            yield _Unpacked(file) if zipped else file
        except (EOFError, zlib.error) as error:
            raise ValueError(
                f"{path}: the gzip stream is damaged ({error}); fetch the file again"
            ) from error


class _Unpacked:
    """The unpacked bytes of a gzip file. zlib checks the checksum of each part.

    Not Python's gzip module, because a hostile file could keep it busy: it reads names, and zeros
    after the end, one byte at a time (4 MB per second), and accepts any number of empty parts.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.packed, self.parts = file, b"", 0
        self.unpack: Any = None  # the zlib decompressor of the current part
        self.most = FREE_PARTS + os.fstat(file.fileno()).st_size // BYTES_EACH

    def read(self, count: int) -> bytes:
        """``count`` unpacked bytes, or fewer at the end. EOFError or zlib.error if the stream is
        damaged."""
        unpacked = bytearray()
        while len(unpacked) < count and self._has_more():
            unpacked += self.unpack.decompress(self.packed, count - len(unpacked))
            self.packed = self.unpack.unconsumed_tail or self.unpack.unused_data
            if self.unpack.eof:
                self.unpack = None
        return bytes(unpacked)

    def _has_more(self) -> bool:
        """Is there more to unpack? If so, self.packed holds bytes and self.unpack is the part that
        they belong to."""
        while True:
            if self.unpack is None:
                self.packed = self.packed.lstrip(b"\0")  # zeros may fill the space between parts
            if self.packed:
                break
            self.packed = self.file.read(PACKED)
            if not self.packed and self.unpack is None:
                return False
            if not self.packed:
                raise EOFError("it is cut short")
        if self.unpack is None:
            self.unpack, self.parts = zlib.decompressobj(GZIP), self.parts + 1
        if self.parts > self.most:
            raise zlib.error(f"it has more than {self.most} parts")
        return True


def _expect_modest(path: Path, count: int, packed: int, hint: str) -> None:
    """ValueError for a gzip file of ``packed`` bytes that would unpack to too many bytes,
    ``count``. (gzip can pack a thousand bytes into one.)"""
    most = max(FREE_BYTES, TIMES_PACKED * packed)
    if count > most:
        raise ValueError(
            f"{path}: {count} bytes in a gzip file of {packed} bytes; at most {most} are allowed: "
            f"{hint}"
        )


def _read_header(
    path: FilePath, stream: "BinaryIO | _Unpacked"
) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and shape of the data that follow; ValueError says what is wrong with the
    header."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] > MOST_AXES:
        codes = ", ".join(f"{code:02x}" for code in TYPES)
        raise ValueError(
            f"{path}: not an IDX file: it begins with the bytes {magic.hex(' ') or '(none)'}, "
            f"expected 00 00, a type ({codes}) and a number of axes up to {MOST_AXES:02x}; wrong "
            "file?"
        )
    dtype, sizes = TYPES[magic[2]], stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(
            f"{path}: the file is cut short: {magic[3]} axes need {4 * magic[3]} bytes of sizes, "
            f"and it holds {len(sizes)}; fetch the file again"
        )
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if prod(size or 1 for size in shape) * dtype.itemsize > np.iinfo(np.intp).max:
        raise ValueError(
            f"{path}: its header says {shape}, more than any memory holds; fetch the file again"
        )
    return dtype, shape


def _read_at_most(count: int, stream: "BinaryIO | _Unpacked") -> bytearray:
    """``count`` bytes, or fewer if there are no more. It reads block by block, so that a header
    that promises too much costs no memory."""
    body = bytearray()
    while len(body) < count:
        block = stream.read(min(BLOCK, count - len(body)))
        if not block:
            break
        body += block
    return body
