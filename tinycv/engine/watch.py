"""Has memory changed since a graph saved it? If so, a derivative would be of other values, and must
be refused.

A view (x[:], x.reshape(...), x.detach(), a state dict) is another Tensor on the same memory. So the
time of the last change belongs to the memory, and all its views share it, as PyTorch's version
counter does. Here the counter is the clock on which Nodes are numbered: what changed after a Node
was made is no longer what that Node saved.

Only writes through a Tensor (x += 1, x[0] = 1, x.data = a) can be noticed this way. Reading
``x.data`` hands out the array itself, so a fingerprint of the memory is taken at that moment; if it
is another one at the walk back, somebody wrote into the array. (CuPy arrays are not fingerprinted,
since that would wait for the GPU.)
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import count
from types import CellType, FunctionType
from typing import Any

import numpy as np

from tinycv.engine.backend import Array

tick = count(1).__next__  # one clock for nodes and for changes
# the last event that any Memory knows: a Node made later need not ask
latest = 0


class Memory:
    """What is known of one piece of memory: when it changed, and what it looked like when its array
    was handed out."""

    __slots__ = ("changed", "seen", "prints", "alive")

    def __init__(self, alive: weakref.ref):
        self.changed, self.seen, self.prints, self.alive = 0, 0, {}, alive


# by the id of the object that owns it, for as long as that lives
MEMORIES: dict[int, Memory] = {}


def root(array: Array) -> Array:
    """The array that owns the memory which ``array`` looks into, or the first one known to look
    into it."""
    base = array.base
    while base is not None:
        # np.memmap is an ndarray, too
        if isinstance(base, np.ndarray) or type(base) is type(array):
            array = base
        base = getattr(base, "base", None)  # of as_strided's helper, too, which is no array
    return array


def owner_of(array: Array) -> Any:
    """Its root, or the object from which the root itself has borrowed the memory: a torch tensor,
    for one."""
    owner = root(array)
    lender = owner.base
    return lender if getattr(type(lender), "__weakrefoffset__", 0) else owner


def memory_of(array: Array) -> Memory:
    """The record of an array's memory, made at the first call."""
    owner = owner_of(array)
    key = id(owner)
    if key not in MEMORIES:
        MEMORIES[key] = Memory(weakref.ref(owner, lambda _: MEMORIES.pop(key, None)))
    return MEMORIES[key]


def mark(array: Array) -> int:
    """Note that the memory of ``array`` has changed now. Returns the time."""
    global latest
    latest = memory_of(array).changed = tick()
    return latest


def moved() -> int:
    """The time, for a Tensor that has just been given another array."""
    global latest
    latest = tick()
    return latest


def look(array: Array) -> None:
    """Note what the memory holds now. What was written since the last look is dated to that
    look."""
    global latest
    if type(array) is not np.ndarray:
        return
    memory, part, now = memory_of(array), extent(array), fingerprint(array)
    if memory.prints.get(part, now) != now:
        memory.changed = max(memory.changed, memory.seen)
    memory.prints[part] = now
    latest = memory.seen = tick()


def changed_since(seq: int, array: Array) -> bool:
    """Was the memory of ``array`` written to after time ``seq``?"""
    memory = MEMORIES.get(id(owner_of(array)))
    if memory is None:
        return False
    if memory.changed > seq:
        return True
    looked_like = memory.prints.get(extent(array))
    return looked_like is not None and memory.seen > seq and fingerprint(array) != looked_like


def extent(array: np.ndarray) -> tuple[int, int] | None:
    """Which part of its owner's memory its root is: two arrays may have borrowed different
    parts."""
    whole = root(array)
    return (whole.ctypes.data, whole.nbytes) if isinstance(whole, np.ndarray) else None


def fingerprint(array: np.ndarray) -> int:
    """A number of the whole memory that ``array`` looks into; it almost surely differs where one
    bit does."""
    return zlib.crc32(np.ascontiguousarray(root(array).ravel(order="K")).data)


def arrays_in(value: Any) -> Iterator[Array]:
    """The arrays that a saved value holds: itself, or what tuples, lists and the closures of
    functions hold."""
    # each thing once: functions may call each other
    seen, left = set(), [value]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if hasattr(value, "base") and hasattr(value, "strides"):
            yield value
        elif hasattr(value, "_data"):  # a Tensor
            yield value._data
        elif isinstance(value, (tuple, list)):
            left.extend(value)
        elif isinstance(value, FunctionType):
            left.extend(map(contents, value.__closure__ or ()))
        elif isinstance(value, partial):
            left.extend((value.func, *value.args, *value.keywords.values()))


def contents(cell: CellType) -> Any:
    """What a closure holds under one name; None where that name has no value yet, or no longer."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
