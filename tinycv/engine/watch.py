"""Has memory changed since a graph saved it? If so, a derivative would be of other values, and must be refused.

A view (x[:], x.reshape(...), x.detach(), a state dict) is another Tensor on the same memory. So the time of the last
change belongs to the memory, and all its views share it, as PyTorch's version counter does. Here the counter is the
clock on which Nodes are numbered: what changed after a Node was made is no longer what that Node saved.

Only writes through a Tensor (x += 1, x[0] = 1, x.data = a) can be noticed this way. Reading ``x.data`` hands out the
array itself, so a fingerprint of the memory is taken at that moment; if it is another one at the walk back, somebody
wrote into the array. (CuPy arrays are not fingerprinted, since that would wait for the GPU.)
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import count
from types import FunctionType
from typing import Any

import numpy as np

tick = count(1).__next__                        # one clock for nodes and for changes
latest = 0                                      # the last event that any Memory knows: a Node made later need not ask


class Memory:
    """What is known of one piece of memory: when it changed, and what it looked like when its array was handed out."""

    __slots__ = ("changed", "seen", "print", "alive")

    def __init__(self, alive: Any):
        self.changed, self.seen, self.print, self.alive = 0, 0, None, alive


MEMORIES: dict[int, Memory] = {}                # by the id of the array that owns it, for as long as that lives


def root(array: Any) -> Any:
    """The array that owns the memory which ``array`` looks into, or the first one known to look into it."""
    base = array.base
    while base is not None:
        if type(base) is type(array):
            array = base
        base = getattr(base, "base", None)      # of as_strided's helper, too, which is no array
    return array


def memory_of(array: Any) -> Memory:
    """The record of an array's memory, made at the first call."""
    owner = root(array)
    key = id(owner)
    if key not in MEMORIES:
        MEMORIES[key] = Memory(weakref.ref(owner, lambda _: MEMORIES.pop(key, None)))
    return MEMORIES[key]


def mark(array: Any) -> int:
    """Note that the memory of ``array`` has changed now. Returns the time."""
    global latest
    latest = memory_of(array).changed = tick()
    return latest


def moved() -> int:
    """The time, for a Tensor that has just been given another array."""
    global latest
    latest = tick()
    return latest


def look(array: Any) -> None:
    """Note what the memory holds now. What was written since the last look is dated to that look."""
    global latest
    if type(array) is not np.ndarray:
        return
    memory, now = memory_of(array), fingerprint(array)
    if memory.print not in (None, now):
        memory.changed = max(memory.changed, memory.seen)
    memory.print = now
    latest = memory.seen = tick()


def changed_since(seq: int, array: Any) -> bool:
    """Was the memory of ``array`` written to after time ``seq``?"""
    memory = MEMORIES.get(id(root(array)))
    if memory is None:
        return False
    if memory.changed > seq:
        return True
    return memory.print is not None and memory.seen > seq and fingerprint(array) != memory.print


def fingerprint(array: np.ndarray) -> int:
    """A number of the whole memory that ``array`` looks into; it almost surely differs where one bit does."""
    return zlib.crc32(np.ascontiguousarray(root(array).ravel(order="K")))


def arrays_in(value: Any, seen: frozenset = frozenset()) -> Iterator[Any]:
    """The arrays that a saved value holds: itself, or what tuples, lists and the closures of functions hold."""
    if id(value) in seen:                                           # a function that calls itself
        return
    seen = seen | {id(value)}
    if hasattr(value, "base") and hasattr(value, "strides"):
        yield value
    elif hasattr(value, "_data"):                                   # a Tensor
        yield value._data
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays_in(part, seen)
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            yield from arrays_in(cell.cell_contents, seen)
    elif isinstance(value, partial):
        yield from arrays_in((value.func, *value.args, *value.keywords.values()), seen)
