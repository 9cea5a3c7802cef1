"""Many small arrays as one large one.

A model has tens of parameters, most of them small, and what an optimiser does to each is the same.
Called once a parameter, NumPy spends its time on being called, and a GPU on being launched; laid
side by side in one flat array they all take one call. The Tensors keep their own memory: values are
copied in before the work, and out after it; where that costs more than the calls, for large
Tensors, optim/optimizer.py leaves them out.

Used by: optim/optimizer.py, optim/averaged.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from numpy.typing import DTypeLike

from tinycv.engine.backend import Array, array_module, device_of
from tinycv.engine.tensor import Tensor


class Flat:
    """The layout of Tensors that share a dtype and a device, side by side in flat arrays of
    ``size`` values.

    wide: the dtype of the flat arrays, where it is not that of the Tensors.
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
        """Have Tensors gone to another device or dtype since?"""
        return any(
            t._data.dtype != self.dtype or device_of(t._data) != self.device for t in self.tensors
        )

    def zeros(self) -> Array:
        return self.xp.zeros(self.size, self.wide)

    def views(self, flat: Array) -> list[Array]:
        """Each Tensor's part of ``flat``, in the Tensor's shape; shares memory with it."""
        ends = zip(self.bounds, self.bounds[1:], self.tensors, strict=False)
        return [flat[start:end].reshape(t.shape) for start, end, t in ends]

    def gather(self, arrays: Sequence[Array], out: Array) -> None:
        """Copy arrays side by side into ``out``, in one call."""
        flat = [a.reshape(-1) for a in arrays]
        if self.wide != self.dtype:
            flat = [a.astype(self.wide) for a in flat]
        self.xp.concatenate(flat, out=out)


def alike(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """The Tensors sorted into lists of one dtype and device each, every list in the order given."""
    lists: dict[tuple, list[Tensor]] = {}
    for t in tensors:
        lists.setdefault((device_of(t._data), t.dtype), []).append(t)
    return list(lists.values())
