"""Flat: many small Tensors side by side in one large array, for optimisers.

A model has tens of parameters, most of them small, and an optimiser does the same to each.  With
one NumPy call (or one kernel launch on a GPU) per parameter, most of the time goes into the calls.
If all parameters lie side by side in one flat array, one call is enough.  The Tensors keep their
own memory: their values are copied into the flat array before the work, and back afterwards.  For
large Tensors copying costs more than the calls, so optim/optimizer.py leaves them out.

Used by: optim/optimizer.py, optim/averaged.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from numpy.typing import DTypeLike

from tinycv.engine.backend import Array, array_module, device_of
from tinycv.engine.tensor import Tensor


class Flat:
    """The layout of Tensors of one dtype and device, side by side in a flat array of ``size``
    values.

    wide: the dtype of the flat arrays, if it is not that of the Tensors.
    """

    def __init__(self, tensors: Sequence[Tensor], wide: DTypeLike | None = None):
        self.tensors = list(tensors)
        first = self.tensors[0]._data
        self.xp, self.dtype, self.device = array_module(first), first.dtype, device_of(first)
        self.wide = self.dtype if wide is None else wide
        # Tensor i lies at bounds[i]:bounds[i + 1]
        self.bounds = [0, *accumulate(t.size for t in self.tensors)]
        self.size = self.bounds[-1]

    def moved(self) -> bool:
        """Has any of the Tensors been moved to another device or dtype since?"""
        return any(
            t._data.dtype != self.dtype or device_of(t._data) != self.device for t in self.tensors
        )

    def zeros(self) -> Array:
        return self.xp.zeros(self.size, self.wide)

    def views(self, flat: Array) -> list[Array]:
        """The part of ``flat`` that belongs to each Tensor, as a view in that Tensor's shape."""
        ends = zip(self.bounds, self.bounds[1:], self.tensors, strict=False)
        return [flat[start:end].reshape(t.shape) for start, end, t in ends]

    def gather(self, arrays: Sequence[Array], out: Array) -> None:
        """Copy arrays side by side into ``out``, in one call."""
        flat = [a.reshape(-1) for a in arrays]
        if self.wide != self.dtype:
            flat = [a.astype(self.wide) for a in flat]
        self.xp.concatenate(flat, out=out)


def alike(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """The Tensors grouped by dtype and device, in their original order within each list."""
    lists: dict[tuple, list[Tensor]] = {}
    for t in tensors:
        lists.setdefault((device_of(t._data), t.dtype), []).append(t)
    return list(lists.values())
