"""PyTorch's .pt files: reads the tensors of a saved state_dict, without running any code.

``torch.save`` writes a zip file (since PyTorch 1.6):

    NAME/data.pkl       a pickle: for each tensor its name, its storage, and the offset, shape and
                        strides with which it views that storage
    NAME/data/0 ...     the storages: the numbers as they were in memory, not compressed
    NAME/byteorder      "little" or "big"; older files do not have it, and are little

    entry (i, j, ...) of a tensor is number  offset + i strides[0] + j strides[1] + ...  of its
    storage

differs from torch.load(path, weights_only=True): bfloat16 becomes float32, which can hold the same
numbers; a view that repeats its numbers (``expand``) is refused, and so is one that PyTorch negates
only when it is read (``x.conj().imag``). As in PyTorch, tensors that shared a storage share memory.

Read first: torch_pickle.py, which explains why this is safe.
Used by checkpoint.load, which recognises a .pt file by its first bytes.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinycv.engine.arguments import listed
from tinycv.training.torch_pickle import STORAGES, Machine, Named, Refused, kind, short

# the keys under which training scripts save the weights, next to other things
NESTED = "state_dict", "model_state_dict", "model"
LONGEST_PICKLE = 4_000_000  # bytes; the pickle of a ViT-B/16 has 30,000
LONGEST_DIRECTORY = 2_000_000  # bytes of the zip's list of entries, about 60 for each tensor
# instructions that the pickle may have, and more for each entry of the zip: a tensor takes about 30
FREE_STEPS, STEPS_EACH = 100_000, 200
# how often, on average, all views together may show each byte of the file
MOST_REPEATED = 8
MOST_AXES = 64  # NumPy's limit
# what zipfile, pickletools and the machine's empty stack raise for a damaged file
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
)


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of the file by name. ValueError, with the reason, for anything that is not a dict
    of tensors."""
    try:
        with LimitedFile(path) as raw_file, zipfile.ZipFile(raw_file) as file:
            raw_file.most = None  # the list of entries has been read: the limit is no longer needed
            storages = Storages(file, os.path.getsize(path))
            tree = Machine(storages, FREE_STEPS + STEPS_EACH * len(storages.entries)).run(
                storages.pickle()
            )
    except Refused:
        raise
    except DAMAGE as error:
        raise Refused(f"damaged: {short(error) or type(error).__name__}") from error
    return tensors_of(tree)


class LimitedFile(io.FileIO):
    """A file that refuses to be read in large pieces while ``most`` is set. ZipFile starts by
    reading the whole list of entries at once, and makes an object from every 46 bytes or more."""

    most: int | None = LONGEST_DIRECTORY

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise Refused(
                f"refused: its list of entries has {size} bytes; {self.most} are enough "
                "for thirty thousand tensors"
            )
        return super().read(size)


def tensors_of(tree: Any) -> dict[str, np.ndarray]:
    """The dict of arrays that was saved: ``tree`` itself, or the dict in it under a key that
    training scripts use."""
    if isinstance(tree, dict):
        tree = next((tree[name] for name in NESTED if isinstance(tree.get(name), dict)), tree)
    if not isinstance(tree, dict) or not tree:
        raise Refused(
            f"holds {kind(tree)}, which is not a dict of tensors: save model.state_dict()"
        )
    odd = [
        f"{short(name)} ({kind(value)})"
        for name, value in tree.items()
        if not isinstance(value, np.ndarray) or not isinstance(name, str)
    ]
    if odd:
        raise Refused(
            f"holds other things than tensors by name: {listed(odd)}; save model.state_dict() alone"
        )
    return tree


class Storages:
    """The entries of the zip file, and the storages among them. Nothing is ever decompressed, so an
    entry cannot hold more bytes than the file has."""

    def __init__(self, file: zipfile.ZipFile, size: int):
        self.file, self.size = file, size
        self.bytes_shown = 0  # by all views so far
        self.arrays = {}  # storage key -> (its type, its numbers)
        entries = {entry.filename: entry for entry in file.infolist()}
        if len(entries) < len(file.infolist()):
            raise Refused("damaged: two of its entries have the same name")
        packed = [
            short(name)
            for name, entry in entries.items()
            if entry.compress_type or entry.flag_bits & 1
        ]
        if packed:
            raise Refused(
                "refused: torch.save does not compress or encrypt, but these entries are "
                f"compressed or encrypted: {listed(packed)}"
            )
        if sum(entry.file_size for entry in entries.values()) > size:
            raise Refused("damaged: its entries claim more bytes than the file has")
        roots = [
            name.removesuffix("data.pkl")
            for name in entries
            if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(roots) != 1:
            raise Refused(
                "a zip file, but not one that torch.save wrote: it has no data.pkl (an .npz file "
                "is opened by numpy.load)"
            )
        self.entries = {name.removeprefix(roots[0]): entry for name, entry in entries.items()}
        small = {
            name: file.read(entry)
            for name, entry in self.entries.items()
            if not name.startswith("data")
        }
        order = small.get("byteorder", b"little")
        if order not in (b"little", b"big"):
            raise Refused(f"damaged: its byteorder is {short(order)}, neither little nor big")
        self.order = "<" if order == b"little" else ">"

    def pickle(self) -> bytes:
        entry = self.entries["data.pkl"]
        if entry.file_size > LONGEST_PICKLE:
            raise Refused(
                f"refused: its pickle has {entry.file_size} bytes; {LONGEST_PICKLE} are enough for "
                "twenty thousand tensors"
            )
        return self.file.read(entry)

    def storage(self, reference: Any) -> np.ndarray:
        """The numbers of the storage to which the pickle refers as ("storage", type, key, device,
        count). They are read once; zipfile checks their CRC."""
        if not (
            isinstance(reference, tuple)
            and len(reference) == 5
            and reference[0] == "storage"
            and isinstance(reference[1], Named)
            and reference[1] in STORAGES
            and isinstance(reference[2], str)
        ):
            raise Refused(
                "damaged: its pickle refers to a storage in a way that torch.save does not"
            )
        _, name, key, _, count = reference
        is_bfloat16 = STORAGES[name] == "bfloat16"
        dtype = np.dtype("u2" if is_bfloat16 else STORAGES[name])
        entry = self.entries.get(f"data/{key}")
        if entry is None or entry.file_size != count * dtype.itemsize:
            raise Refused(
                f"damaged: storage {short(key)} should hold {short(count)} numbers of "
                f"{dtype.itemsize} bytes, "
                + ("but is missing" if entry is None else f"but has {entry.file_size} bytes")
            )
        if key not in self.arrays:
            raw = np.frombuffer(
                bytearray(self.file.read(entry)),
                dtype.newbyteorder("<" if self.order == "<" else ">"),
            )
            numbers = raw.astype(dtype, copy=False)  # to this machine's byte order
            self.arrays[key] = name, from_bfloat16(numbers) if is_bfloat16 else numbers
        first_name, numbers = self.arrays[key]
        if first_name != name:
            raise Refused(
                f"damaged: storage {short(key)} has two types, {short(first_name)} and "
                f"{short(name)}"
            )
        return numbers

    def view(self, numbers: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
        """The tensor with this offset, shape and strides in the storage ``numbers``. Refused unless
        all of its entries are inside the storage."""
        if not (
            isinstance(numbers, np.ndarray)
            and isinstance(shape, tuple)
            and isinstance(strides, tuple)
            and len(shape) == len(strides) <= MOST_AXES
            and all(type(n) is int and 0 <= n < 2**62 for n in (offset, *shape, *strides))
        ):
            raise Refused(
                f"damaged: a tensor of shape {short(shape)}, strides {short(strides)}, from "
                f"{short(offset)}"
            )
        count = prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if count and last >= len(numbers):
            raise Refused(
                f"damaged: a tensor of shape {short(shape)}, strides {short(strides)}, from "
                f"{offset}, reaches beyond its storage, which has {len(numbers)} numbers"
            )
        self.bytes_shown += count * numbers.itemsize
        if count > len(numbers) or self.bytes_shown > MOST_REPEATED * self.size:
            raise Refused(
                f"refused: a tensor of shape {short(shape)} repeats the {len(numbers)} numbers of "
                "its storage, or too many tensors share them: call .contiguous() and .clone() "
                "before saving"
            )
        steps = [
            step * numbers.itemsize if n > 1 else 0 for n, step in zip(shape, strides, strict=True)
        ]
        return as_strided(numbers[offset:], shape, steps)


def from_bfloat16(halves: np.ndarray) -> np.ndarray:
    """bfloat16 numbers, given as uint16, as float32: bfloat16 is the upper half of a float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
