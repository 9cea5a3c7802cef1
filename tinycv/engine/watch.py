"""Version counter: detect that an array was changed in place after a graph saved it.

If a saved array has changed, the gradient would be computed from the wrong values, so ``backward``
raises an error.  A view (x[:], x.reshape(...), x.detach(), a state dict) is another Tensor that
uses the same memory.  So the time of the last change is stored per block of memory, not per Tensor;
PyTorch's version counter works in the same way.  Time is counted by ``tick``, which also numbers
the Nodes: if the memory changed at a later tick than that of the Node, the Node's saved values are
gone.

This detects writes through a Tensor (x += 1, x[0] = 1, x.data = a).  ``x.data`` returns the array
itself, and writes into that are invisible.  So whenever it is read, a fingerprint (a checksum) of
the memory is taken; if the backward pass finds another fingerprint, someone wrote into the array.
(CuPy arrays get no fingerprint, because it would have to wait for the GPU.)
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

tick = count(1).__next__  # the next number; one clock for Nodes and for changes
# The time of the last change or fingerprint of any memory. Whatever was saved by a Node that is
# newer than this cannot have changed, so the backward pass need not check it.
latest = 0


class Memory:
    """What is known about one block of memory.

    changed: the time of the last change.
    looked: the time of the last fingerprint, and prints: {extent: fingerprint}.
    alive: a weak reference to the owner, which removes this record when the owner is freed.
    """

    __slots__ = ("changed", "looked", "prints", "alive")

    def __init__(self, alive: weakref.ref):
        self.changed, self.looked, self.prints, self.alive = 0, 0, {}, alive


# the records, by the id of the object that owns the memory
MEMORIES: dict[int, Memory] = {}


def root(array: Array) -> Array:
    """The array that ``array`` is a view of: follow ``base``, which NumPy and CuPy set in every
    view, to the last array in the chain."""
    base = array.base
    while base is not None:
        # np.memmap is a subclass of ndarray
        if isinstance(base, np.ndarray) or type(base) is type(array):
            array = base
        # np.lib.stride_tricks.as_strided puts a helper object into the chain, which has a base too
        base = getattr(base, "base", None)
    return array


def owner_of(array: Array) -> Any:
    """The object that owns the memory: the root, or the object that the root has its memory from,
    such as a torch tensor (if that object can be weakly referenced)."""
    owner = root(array)
    lender = owner.base
    return lender if getattr(type(lender), "__weakrefoffset__", 0) else owner


def memory_of(array: Array) -> Memory:
    """The record of an array's memory, created at the first call."""
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
    """Note that a Tensor was given another array (x.data = a). Returns the time, for ``_moved``."""
    global latest
    latest = tick()
    return latest


def look(array: Array) -> None:
    """Take a fingerprint of the array's memory. If it differs from the previous one, the memory has
    changed at some time since that was taken; the earliest such time is noted."""
    global latest
    if type(array) is not np.ndarray:
        return
    memory, part, new_print = memory_of(array), extent(array), fingerprint(array)
    if memory.prints.get(part, new_print) != new_print:
        memory.changed = max(memory.changed, memory.looked)
    memory.prints[part] = new_print
    latest = memory.looked = tick()


def changed_since(seq: int, array: Array) -> bool:
    """Was the memory of ``array`` written to after time ``seq``?"""
    memory = MEMORIES.get(id(owner_of(array)))
    if memory is None:
        return False
    if memory.changed > seq:
        return True
    old_print = memory.prints.get(extent(array))
    return old_print is not None and memory.looked > seq and fingerprint(array) != old_print


def extent(array: np.ndarray) -> tuple[int, int] | None:
    """(address, length in bytes) of the root. Two roots may share one owner, such as a torch
    tensor, and lie in different parts of its memory."""
    whole = root(array)
    return (whole.ctypes.data, whole.nbytes) if isinstance(whole, np.ndarray) else None


def fingerprint(array: np.ndarray) -> int:
    """A checksum (CRC-32) of all the memory of the root of ``array``. If the memory has changed, it
    is almost certainly another number."""
    return zlib.crc32(np.ascontiguousarray(root(array).ravel(order="K")).data)


def arrays_in(value: Any) -> Iterator[Array]:
    """The arrays in a saved value: the value itself, or those in tuples, in lists and in the
    closures of functions."""
    # Each object is visited once: two functions may refer to each other.
    visited, to_visit = set(), [value]
    while to_visit:
        value = to_visit.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if hasattr(value, "base") and hasattr(value, "strides"):
            yield value
        elif hasattr(value, "_data"):  # a Tensor
            yield value._data
        elif isinstance(value, (tuple, list)):
            to_visit.extend(value)
        elif isinstance(value, FunctionType):
            to_visit.extend(map(contents, value.__closure__ or ()))
        elif isinstance(value, partial):
            to_visit.extend((value.func, *value.args, *value.keywords.values()))


def contents(cell: CellType) -> Any:
    """The value of one variable in a closure; None if the variable has no value (yet)."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
