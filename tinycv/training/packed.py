"""Gradient packing: all gradients of a step, and its loss, in one array per dtype.

A message takes a fixed time, its latency, and then a time for its bytes.  A model has dozens of
small parameters; packed into one array, they cost one latency per step.  All ranks have to pack in
the same order.  So each leaf (a Tensor that collects a gradient) gets a number when it first has a
gradient, and gradients are packed in the order of these numbers.
Used by: mpi.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np

from tinycv.engine import backend
from tinycv.engine.tensor import Tensor, wrap

Gradients = dict[Tensor, Tensor]
PIECE = 1024  # numbers of one weight that the ranks compare at each step


class Packing:
    """The numbers of the leaves, and the packed arrays.

    parts: packed arrays are filled with zeros up to a multiple of this length, so that they can be
    cut into so many equal slices.
    """

    def __init__(self, parts: int):
        self.parts = parts
        # id of a leaf -> its number. A WeakKeyDictionary would compare leaves by ==, and == of two
        # Tensors compares their elements.
        self.numbers: dict[int, int] = {}
        self.alive: dict[int, weakref.ref] = {}
        self.next = 0
        self.steps = 0

    def lasting(self, gradients: Gradients) -> Gradients:
        """The gradients without those of leaves that the function has made itself, such as the
        points of a gradient penalty: nobody else has these, and each rank has other ones. Empties
        ``gradients``."""
        found = {leaf: g for leaf, g in gradients.items() if id(leaf) in self.numbers}
        new = [(weakref.ref(leaf), gradients[leaf]) for leaf in self.unknown(gradients)]
        gradients.clear()  # from here on a leaf that nobody else has is gone
        for reference, g in new:
            leaf = reference()
            if leaf is not None:
                found[leaf] = g
        return found

    def unknown(self, gradients: Gradients) -> list[Tensor]:
        """The leaves that have no number yet, in the order in which the gradients came."""
        return [leaf for leaf in gradients if id(leaf) not in self.numbers]

    def learn(self, leaves: list[Tensor]) -> None:
        """Number the leaves, after a step."""
        self.steps += 1
        for leaf in leaves:
            key = id(leaf)
            self.numbers[key], self.next = self.next, self.next + 1
            # once the leaf is gone, its id may become that of another Tensor
            self.alive[key] = weakref.ref(leaf, lambda _, key=key: self._forget(key))

    def _forget(self, key: int) -> None:
        del self.numbers[key], self.alive[key]

    def ordered(self, gradients: Gradients) -> list[Tensor]:
        """The leaves in the order of their numbers; the unknown ones last."""
        unknown = {id(leaf): self.next + i for i, leaf in enumerate(self.unknown(gradients))}
        return sorted(gradients, key=lambda leaf: (self.numbers | unknown)[id(leaf)])

    def description(self, leaves: list[Tensor], gradients: Gradients) -> tuple:
        """What must be equal in all ranks: number, shape and dtype of each gradient."""
        return tuple(
            (self.numbers.get(id(leaf), -1), gradients[leaf].shape, str(gradients[leaf].dtype))
            for leaf in leaves
        )

    def piece(self, leaves: list[Tensor]) -> int:
        """A checksum of the first numbers of one of the leaves, another leaf at each step. 0 on a
        GPU, which would have to be waited for."""
        known = [leaf for leaf in leaves if id(leaf) in self.numbers]
        if not known:
            return 0
        array = known[self.steps % len(known)]._data
        return crc32(array.flat[:PIECE].data) if isinstance(array, np.ndarray) else 0

    def summed(
        self,
        loss: Any,
        leaves: list[Tensor],
        gradients: Gradients,
        add: Callable[[Any], Any],
    ) -> tuple[Any, Gradients]:
        """The loss and the gradients after ``add`` has replaced each packed array by its sum over
        the shards. loss: an array of one number."""
        xp = backend.array_module(loss)
        total = {}
        by_dtype: dict[Any, list[Tensor]] = {loss.dtype: []}
        for leaf in leaves:
            by_dtype.setdefault(gradients[leaf].dtype, []).append(leaf)
        for dtype, leaves_of_dtype in by_dtype.items():
            arrays = [gradients[leaf]._data.reshape(-1) for leaf in leaves_of_dtype]
            if dtype == loss.dtype:
                arrays.append(loss.reshape(-1))
            size = sum(len(array) for array in arrays)
            arrays.append(xp.zeros(-size % self.parts, dtype))  # up to a multiple of ``parts``
            flat = add(xp.concatenate(arrays))
            start = 0
            for leaf in leaves_of_dtype:
                end = start + gradients[leaf].size
                total[leaf] = wrap(flat[start:end].reshape(gradients[leaf].shape), None)
                start = end
            if dtype == loss.dtype:
                loss = flat[start : start + 1].reshape(())
        return loss, total


def checksum(leaves: list[Tensor]) -> int:
    """A number that differs if one of the values differs. A GPU's values are copied to the host."""
    result = 0
    for leaf in leaves:
        result = crc32(np.ascontiguousarray(backend.to_numpy(leaf._data)).data, result)
    return result
