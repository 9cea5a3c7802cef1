"""IDX, the format of MNIST and Fashion-MNIST: read and write your own files, plain or gzipped.

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
# a gzip file may become so many bytes, or times its own
FREE_BYTES, TIMES_PACKED = 1 << 26, 100
GZIP = 16 + zlib.MAX_WBITS  # what zlib calls the format
PACKED = 1 << 16  # bytes that are read at a time
# so many parts, and one more for so many bytes of the file
FREE_PARTS, BYTES_EACH = 1000, 1000

FilePath = str | Path


def read_idx(path: FilePath) -> np.ndarray:
    """The array of one IDX file, in this machine's byte order. Raises ValueError when the file is
    damaged.

    Memory follows what the file really holds, never what its header claims; and of a gzip stream no
    more is unpacked than the header says, nor much more than a hundred times the file. Whoever
    expects a shape can look at the header alone: ``idx_header``.
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
        state, found = ("cut short", len(body)) if len(body) < expected else ("too long", "more")
        raise ValueError(
            f"{path}: the file is {state}: its header says {shape} of {dtype.name}, which is "
            f"{expected} bytes, and it holds {found}; fetch the file again"
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def idx_header(path: FilePath) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and shape that one IDX file claims to hold. Reads a few bytes; errors as
    ``read_idx``."""
    path = inputs.file(path, "idx_header: path")
    with _opened(path) as stream:
        return _read_header(path, stream)


def write_idx(path: FilePath, array: np.ndarray) -> None:
    """Write ``array`` as IDX, gzipped when ``path`` ends in .gz. An old file stays until the new
    one is whole.

    TypeError for a type that IDX lacks; ValueError for an array so even that ``read_idx`` would
    refuse it gzipped.
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
        data = gzip.compress(data, mtime=0)  # one array, one file: no time of day is in it
        _expect_modest(path, array.nbytes, len(data), "write_idx to a name without .gz")
    write(path, data)


def idx_folder(folder: FilePath) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """train_x, train_y, test_x, test_y of a folder that holds MNIST's or Fashion-MNIST's four
    files.

    Images (N, 1, H, W) float32 in [0, 1], labels (N,) int64.
    """
    folder = inputs.folder(folder, "idx_folder: folder")
    return *_read_pair(folder, "train"), *_read_pair(folder, "t10k")


def _read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, H, W) float32, 0 to 1, and labels (N,) int64 of "train" or "t10k", as many as
    there are images."""
    image_path, label_path = (
        _find(folder, f"{part}-images", "idx3"),
        _find(folder, f"{part}-labels", "idx1"),
    )
    image_shape, label_shape = _expect(image_path, axes=3), _expect(label_path, axes=1)
    if image_shape[0] != label_shape[0]:
        raise ValueError(
            f"{image_path} holds {image_shape[0]} images and {label_path} holds {label_shape[0]} "
            "labels; take both files from the same data set"
        )
    # first the smaller one: where labels are missing, no image is unpacked
    labels = read_idx(label_path)
    images = read_idx(image_path)
    return np.divide(images[:, None], 255, dtype=np.float32), labels.astype(np.int64)


def _expect(path: Path, axes: int) -> tuple[int, ...]:
    """The shape in the file's header; ValueError unless it says bytes, with so many axes."""
    dtype, shape = idx_header(path)
    if len(shape) != axes or dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 with {axes} axes, found {dtype.name} of shape {shape}; "
            "are images and labels swapped?"
        )
    return shape


def _find(folder: Path, stem: str, kind: str) -> Path:
    """The file by any of the names that mirrors give it, zipped or not; FileNotFoundError lists
    them."""
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
    """The file's bytes, unzipped if they are zipped. ValueError, with the path, for a damaged gzip
    stream."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"  # the content decides: files get renamed
        file.seek(0)
        try:
            yield _Unpacked(file) if zipped else file
        except (EOFError, zlib.error) as error:
            raise ValueError(
                f"{path}: the gzip stream is damaged ({error}); fetch the file again"
            ) from error


class _Unpacked:
    """The bytes of a gzip file. zlib tests the checksum of each part.

    Python's gzip takes names, and zeros behind the end, one byte at a time, 4 MB in a second; and
    a file may have any number of parts that hold nothing.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.packed, self.parts = file, b"", 0
        self.unpack: Any = None  # zlib's decompressor of the present part
        self.most = FREE_PARTS + os.fstat(file.fileno()).st_size // BYTES_EACH

    def read(self, count: int) -> bytes:
        """``count`` bytes, or fewer at the end. EOFError or zlib.error where the stream is
        damaged."""
        found = bytearray()
        while len(found) < count and self._goes_on():
            found += self.unpack.decompress(self.packed, count - len(found))
            self.packed = self.unpack.unconsumed_tail or self.unpack.unused_data
            if self.unpack.eof:
                self.unpack = None
        return bytes(found)

    def _goes_on(self) -> bool:
        """Whether there is more: packed bytes at hand, and the part that unpacks them."""
        while True:
            if self.unpack is None:
                self.packed = self.packed.lstrip(b"\0")  # between parts, zeros fill the space
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
    """ValueError for a gzip file of ``packed`` bytes that would become ``count``: a thousand times
    as many, at worst.
    """
    most = max(FREE_BYTES, TIMES_PACKED * packed)
    if count > most:
        raise ValueError(
            f"{path}: {count} bytes in a gzip file of {packed}; {most} are the most: {hint}"
        )


def _read_header(
    path: FilePath, stream: "BinaryIO | _Unpacked"
) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and shape of what follows; ValueError says where the header is wrong."""
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
    """``count`` bytes, or as many as there are: a header that promises too much costs no memory."""
    body = bytearray()
    while len(body) < count and (block := stream.read(min(BLOCK, count - len(body)))):
        body += block
    return body
