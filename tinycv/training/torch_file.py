"""PyTorch's .pt files, read without running them: the tensors of a state_dict, and nothing else.

``torch.save`` writes a zip file (since PyTorch 1.6):

    NAME/data.pkl       a pickle: which tensor, by name, looks at which storage, from where, with
                        which shape and strides
    NAME/data/0 ...     the storages: numbers as they lay in memory, not compressed
    NAME/byteorder      "little" or "big"; not in files of old, which are little

    entry (i, j, ...) of a tensor is number  offset + i strides[0] + j strides[1] + ...  of its
    storage

differs from torch.load(path, weights_only=True): bfloat16 becomes float32, which holds the same
numbers; a view that repeats its numbers (``expand``) is refused, and so is one that PyTorch negates
only when it is read (``x.conj().imag``). As there, tensors that shared a storage share their
memory.

Read before: torch_pickle.py, why this is safe.
Used by checkpoint.load, which tells what a file is by how it begins.
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

# where training scripts put the weights, beside other things
NESTED = "state_dict", "model_state_dict", "model"
LONGEST_PICKLE = 4_000_000  # bytes; a ViT-B/16 has 30,000
LONGEST_DIRECTORY = 2_000_000  # bytes of the zip's list of entries, about 60 for each tensor
# instructions of the pickle, and more for each entry: a tensor takes about 30
FREE_STEPS, STEPS_EACH = 100_000, 200
# all views together may show each byte of the file this often, on average
MOST_REPEATED = 8
MOST_AXES = 64  # NumPy's own limit
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
    # what zipfile, pickletools and an empty stack say to nonsense
    OverflowError,
)


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of the file by name. ValueError, with the reason, for whatever is not a dict of
    tensors."""
    try:
        with Opened(path) as whole, zipfile.ZipFile(whole) as file:
            whole.most = None
            storages = Storages(file, os.path.getsize(path))
            tree = Machine(storages, FREE_STEPS + STEPS_EACH * len(storages.entries)).run(
                storages.pickle()
            )
    except Refused:
        raise
    except DAMAGE as error:
        raise Refused(f"damaged: {short(error) or type(error).__name__}") from error
    return tensors_of(tree)


class Opened(io.FileIO):
    """A file that refuses to be read in large pieces while ``most`` is set: ZipFile first reads the
    list of its entries, all of it at once, and makes an object of each 46 bytes."""

    most: int | None = LONGEST_DIRECTORY

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise Refused(
                f"refused: its list of entries has {size} bytes; {self.most} are enough "
                "for thirty thousand tensors"
            )
        return super().read(size)


def tensors_of(tree: Any) -> dict[str, np.ndarray]:
    """The tree itself where it is a dict of arrays, else the one it holds under a name that
    training scripts use."""
    if isinstance(tree, dict):
        tree = next((tree[name] for name in NESTED if isinstance(tree.get(name), dict)), tree)
    if not isinstance(tree, dict) or not tree:
        raise Refused(f"holds {kind(tree)} that is no dict of tensors: save model.state_dict()")
    odd = [
        f"{short(name)} ({kind(value)})"
        for name, value in tree.items()
        if not isinstance(value, np.ndarray) or not isinstance(name, str)
    ]
    if odd:
        raise Refused(
            f"holds what is no tensor under a name: {listed(odd)}; save model.state_dict() alone"
        )
    return tree


class Storages:
    """The zip's entries. Nothing is ever unpacked: what an entry claims to hold must lie in the
    file."""

    def __init__(self, file: zipfile.ZipFile, size: int):
        self.file, self.size, self.shown, self.made = file, size, 0, {}
        entries = {entry.filename: entry for entry in file.infolist()}
        if len(entries) < len(file.infolist()):
            raise Refused("damaged: two of its entries have one name")
        packed = [
            short(name)
            for name, entry in entries.items()
            if entry.compress_type or entry.flag_bits & 1
        ]
        if packed:
            raise Refused(
                "refused: torch.save does not compress or encrypt, and these entries are: "
                f"{listed(packed)}"
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
                "a zip file, but none that torch.save wrote: it has no data.pkl (numpy.load opens "
                "an .npz)"
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

    def storage(self, told: Any) -> np.ndarray:
        """The numbers that ("storage", type, key, device, count) stands for, read once; zipfile
        checks their CRC."""
        if not (
            isinstance(told, tuple)
            and len(told) == 5
            and told[0] == "storage"
            and isinstance(told[1], Named)
            and told[1] in STORAGES
            and isinstance(told[2], str)
        ):
            raise Refused(
                "damaged: its pickle speaks of a storage in a way that torch.save does not"
            )
        _, name, key, _, count = told
        is_bfloat16 = STORAGES[name] == "bfloat16"
        dtype = np.dtype("u2" if is_bfloat16 else STORAGES[name])
        entry = self.entries.get(f"data/{key}")
        if entry is None or entry.file_size != count * dtype.itemsize:
            raise Refused(
                f"damaged: storage {short(key)} should hold {short(count)} numbers of "
                f"{dtype.itemsize} bytes, "
                + ("and is not there" if entry is None else f"and has {entry.file_size} bytes")
            )
        if key not in self.made:
            raw = np.frombuffer(
                bytearray(self.file.read(entry)),
                dtype.newbyteorder("<" if self.order == "<" else ">"),
            )
            # in this machine's byte order
            numbers = raw.astype(dtype, copy=False)
            self.made[key] = name, from_bfloat16(numbers) if is_bfloat16 else numbers
        made_as, numbers = self.made[key]
        if made_as != name:
            raise Refused(
                f"damaged: storage {short(key)} is of two types, {short(made_as)} and {short(name)}"
            )
        return numbers

    def view(self, numbers: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
        """The tensor that looks at these numbers, if every entry it has lies among them."""
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
                f"{offset}, looks beyond its storage's {len(numbers)} numbers"
            )
        self.shown += count * numbers.itemsize
        if count > len(numbers) or self.shown > MOST_REPEATED * self.size:
            raise Refused(
                f"refused: a tensor of shape {short(shape)} repeats its storage's {len(numbers)} "
                "numbers, or too many tensors share them: .contiguous() and .clone() before "
                "saving mend that"
            )
        steps = [
            step * numbers.itemsize if n > 1 else 0 for n, step in zip(shape, strides, strict=True)
        ]
        return as_strided(numbers[offset:], shape, steps)


def from_bfloat16(halves: np.ndarray) -> np.ndarray:
    """uint16 that hold bfloat16 to float32, of which bfloat16 is the upper half."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
