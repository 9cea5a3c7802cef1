"""Shared memory: arrays that several processes see, in a file that lies in memory and can grow.

    arena = Arena()                      # before the fork
    place = arena.place(array)           # reserve room for an array of this shape and dtype
    arena.view(place)[...] = array       # in any of the processes; the others see the numbers

A ``Place`` is a tuple of plain values, so it can be sent to another process, whose Arena maps the
same file.  The file has no name (memfd_create on Linux, elsewhere a temporary file that is already
deleted), so the system frees it when the last process ends, however that happens.

Arrays keep their order of axes in memory, because a matrix product of a transposed array may round
otherwise.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from typing import Any, NamedTuple

import numpy as np

ALIGNMENT = 64  # bytes; a line of the cache
FIRST_SIZE = 1 << 22  # bytes of a new arena
MOST_BLOCKS = 1 << 12  # views of results that an arena keeps


class Place(NamedTuple):
    """Where an array lies in an arena, and how to read it."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Arena:
    """A file in memory, from which blocks are reserved and to which they are returned."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.file = os.memfd_create("tinycv", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as nameless:
                self.file = os.dup(nameless.fileno())
        self.size, self.used = 0, 0
        self.memory: Any = None
        self.free: dict[int, list[int]] = {}  # {size of a block: offsets of free blocks}
        self.blocks: dict[tuple, np.ndarray] = {}  # the last results of ``block``
        self.grow(FIRST_SIZE)

    # -- blocks, which only one of the processes reserves -----------------------------------------

    def reserve(self, nbytes: int) -> int:
        """The offset of a block of at least ``nbytes``."""
        size = block_size(nbytes)
        blocks = self.free.get(size)
        if blocks:
            return blocks.pop()
        offset, self.used = self.used, self.used + size
        if self.used > self.size:
            self.grow(max(self.used, 2 * self.size))
        return offset

    def release(self, offset: int, nbytes: int) -> None:
        """Return a block that ``reserve(nbytes)`` gave."""
        self.free.setdefault(block_size(nbytes), []).append(offset)

    def place(self, array: np.ndarray) -> Place:
        """Room for an array like this one, with its axes in the same order in memory."""
        strides = np.empty_like(array).strides  # those of a copy without gaps
        return Place(self.reserve(array.nbytes), array.shape, strides, array.dtype.str)

    # -- memory, in both processes ----------------------------------------------------------------

    def grow(self, size: int) -> None:
        """Make the file larger. Views of the old mapping remain valid: they are the same memory."""
        os.ftruncate(self.file, size)
        self.map(size)

    def map(self, size: int) -> None:
        """Map a file that has grown to ``size``, perhaps in another process."""
        self.memory, self.size = mmap.mmap(self.file, size), size

    def view(self, place: Place) -> np.ndarray:
        """The array at a place, in this process."""
        size = nbytes_of(place)
        if not size:
            return np.empty(place.shape, place.dtype)
        if place.offset + size > self.size:
            self.map(os.fstat(self.file).st_size)
        # A memoryview of its own for each array: watch.py takes it for the owner of the memory, and
        # a change of one array must not count as a change of all others.
        block = np.frombuffer(memoryview(self.memory)[place.offset : place.offset + size], "u1")
        return np.ndarray(place.shape, place.dtype, block, strides=place.strides)

    def block(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array in C order at this offset, for results, whose places are often the same again.
        The view itself is kept, so it must never reach the user."""
        key = offset, shape, dtype
        found = self.blocks.get(key)
        if found is None:
            if len(self.blocks) == MOST_BLOCKS:
                self.blocks.clear()
            strides = np.empty(shape, dtype).strides
            found = self.blocks[key] = self.view(Place(offset, shape, strides, dtype.str))
        return found

    def __del__(self) -> None:
        # The mappings end with the last views.
        if hasattr(self, "file"):
            os.close(self.file)


class Slot:
    """The place of an array in shared memory, as long as its owner lives."""

    __slots__ = ("place", "plain_place", "view", "source", "owner")

    def __init__(self, arena: Arena, array: np.ndarray, owner: weakref.ref):
        self.place, self.owner = arena.place(array), owner
        self.plain_place = tuple(self.place)  # pickle writes a plain tuple faster than a Place
        self.view, self.source = arena.view(self.place), (array.shape, array.strides, array.dtype)

    def fits(self, array: np.ndarray) -> bool:
        """Does the place have the shape, strides and dtype of this array?"""
        return self.source == (array.shape, array.strides, array.dtype)


class Slots:
    """The places of all Tensors and arrays that functions have mentioned."""

    def __init__(self, arena: Arena):
        self.arena = arena
        self.slots: dict[int, Slot] = {}

    def of(self, owner: Any, array: np.ndarray) -> Slot:
        """The slot of a Tensor or an array (owner), whose numbers are ``array``."""
        key = id(owner)
        slot = self.slots.get(key)
        if slot is None or not slot.fits(array):
            self.drop(key)
            slot = self.slots[key] = Slot(
                self.arena, array, weakref.ref(owner, lambda _: self.drop(key))
            )
        return slot

    def drop(self, key: int) -> None:
        """Return the block of a slot, if there is one under this key, the id of its owner."""
        slot = self.slots.pop(key, None)
        if slot is not None:
            self.arena.release(slot.place.offset, slot.view.nbytes)


class Exchange:
    """Where the shards of a batch show each other arrays for an all_reduce.

    Each shard has two places, and uses them in turn: a fast shard may show its next array while a
    slow shard still reads the last ones. It cannot get two arrays ahead, because all shards meet at
    every all_reduce.

    rank: of the shard that shows. offset: where the places begin. size: the bytes of each.
    """

    def __init__(self, arena: Arena, rank: int, shards: int, offset: int, size: int):
        self.arena, self.rank, self.shards = arena, rank, shards
        self.offset, self.size, self.turn = offset, size, 0

    def show(self, x: Any) -> tuple[tuple, str] | None:
        """Show x to the other shards. Returns how to read it: its shape and dtype. None if x has to
        be sent in a message instead: it is empty, larger than its place, or no array of numbers in
        C order."""
        if type(x) is not np.ndarray or not 0 < x.nbytes <= self.size:
            return None
        if x.dtype.kind not in "biufc" or not x.flags.c_contiguous:
            return None
        shown = x.shape, x.dtype.str
        self.read(self.rank, *shown)[...] = x
        return shown

    def read(self, rank: int, shape: tuple, dtype: str) -> np.ndarray:
        """What a shard shows."""
        number = self.turn * self.shards + rank
        return self.arena.block(self.offset + number * self.size, shape, np.dtype(dtype))

    def read_all(self, shape: tuple, dtype: str) -> list[np.ndarray]:
        """What all shards show, in the order of ranks, after all have met. The arrays are valid
        until this shard meets the others again."""
        arrays = [self.read(rank, shape, dtype) for rank in range(self.shards)]
        self.turn = 1 - self.turn  # all shards come here
        return arrays


def nbytes_of(place: Place) -> int:
    """The bytes of the array at a place."""
    return math.prod(place.shape) * np.dtype(place.dtype).itemsize


def block_size(nbytes: int) -> int:
    """The bytes that are reserved for ``nbytes``: up to a quarter more, so that blocks of nearly
    the same size can take each other's place."""
    step = max(ALIGNMENT, 1 << max(0, nbytes.bit_length() - 3))
    return max(1, -(-nbytes // step)) * step


def aligned(nbytes: int) -> int:
    """The bytes from the start of an array of ``nbytes`` to where the next one may start."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
