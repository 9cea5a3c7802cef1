"""Has an array changed since a graph saved it? If so, a derivative would be of other values, and must be refused."""

from __future__ import annotations

import zlib
from itertools import count
from typing import Any

import numpy as np

tick = count(1).__next__                        # one clock for nodes and for changes


class Watch:
    """When a tensor's values last changed: notices x.data = a, x.data += 1 and, on NumPy, x.data[0] = 1.

    Reading ``x.data`` hands out the array itself, so its fingerprint is taken at that moment: if the values are
    other ones later, somebody wrote into it. (A CuPy array is not fingerprinted: that would wait for the GPU.)
    """

    __slots__ = ("changed", "seen", "print")

    def __init__(self, before: Watch | None, array: np.ndarray | None = None):
        if array is None:                                       # told outright that it changed
            self.changed, self.seen, self.print = tick(), 0, None
            return
        self.changed, self.print = before.changed if before else 0, fingerprint(array)
        if before and before.print not in (None, self.print):   # written to, some time after it was last seen
            self.changed = max(before.changed, before.seen)
        self.seen = tick()

    def changed_since(self, seq: int, array: Any) -> bool:
        if self.changed > seq:
            return True
        return self.print is not None and self.seen > seq and fingerprint(array) != self.print


def fingerprint(array: np.ndarray) -> int:
    """A number that almost surely differs where one bit of the array does."""
    return zlib.crc32(np.ascontiguousarray(array))
