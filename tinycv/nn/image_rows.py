"""Images as rows, for group norm and batch norm: sums over pixels, and one number per channel.

    images = ImageRows(xp, x)
    a = images.rows(x)                                  # no copy, if x has no gaps
    images.in_blocks(work)                              # work(at) for a few images at a time
    images.apply(xp.subtract, a, mean, out=y)           # y = a - mean, one mean for each channel

These kernels work on images as they lie in memory: channels last, (N, S, C) with S = H W pixels, as
convolutions leave them (conv_kernel.py), or channels first, (N, C, S).  They take a few images at a
time, so that these stay in the cache from one pass to the next.

Used in: group_norm.py, batch_norm.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.backend import Array
from tinycv.engine.blocks import LARGE, in_blocks
from tinycv.engine.reduce import MANY, dot_last, sum_first, sum_last
from tinycv.nn.layout import from_pixel_rows, pixel_rows

# How images are cut into blocks. The size is fixed, so that results do not depend on the number of
# cores: the last digit of a sum may depend on the images beside it. Blocks are large, because each
# takes about 20 calls.
IMAGES: dict[str, Any] = {"size": LARGE, "least": LARGE, "products": True}
# Numbers in a row. NumPy has a cost per row, which is noticeable for rows shorter than this.
WIDE = 1024


class ImageRows:
    """How the images of one batch, (N, C, *spatial), are read as rows.

    last: are they read channels last? Yes, unless they lie channels first on a CPU. On a GPU,
    gradients that lie channels last would have to be copied, by further launches.
    """

    def __init__(self, xp: Any, x: Array):
        self.xp, self.shape = xp, x.shape
        self.last = xp is not np or not x.flags.c_contiguous or prod(x.shape[2:]) == 1

    def rows(self, x: Array) -> Array:
        """(N, C, *spatial) -> (N, S, C) if last, else (N, C, S); contiguous."""
        if self.last:
            return pixel_rows(self.xp, x)
        return self.xp.ascontiguousarray(x).reshape(*x.shape[:2], prod(x.shape[2:]))

    def images(self, rows: Array) -> Array:
        """The inverse of ``rows``, without a copy."""
        if self.last:
            return from_pixel_rows(self.xp, rows, self.shape)
        return rows.reshape(self.shape)

    def in_blocks(self, work: Callable[[slice], Any]) -> None:
        """Call ``work(at)`` for slices of a few images."""
        in_blocks(self.xp, work, self.shape[0], prod(self.shape[1:]), **IMAGES)

    def sums(self, a: Array) -> Array:
        """Sums over the pixels: rows -> (N, C); rows that ``joined`` has joined -> (N, G). On a CPU
        it is a product with ones, unless that would be inaccurate (reduce.MANY)."""
        if not self.last:
            return sum_last(self.xp, a)[..., 0] if a.shape[-1] <= MANY else a.sum(axis=-1)
        if self.xp is not np:
            return a.sum(axis=1)
        if a.shape[1] <= MANY:
            return (np.ones((1, a.shape[1]), a.dtype) @ a)[:, 0]
        return sum_first(a.transpose(1, 0, 2))

    def joined(self, a: Array, groups: int) -> Array:
        """Channels first: (N, C, S) -> (N, G, C/G * S), so that the rows to be summed are long.
        Channels last, or if BLAS would add up the rounding errors of such a row: a as it is."""
        width = a.shape[1] // groups * a.shape[2]
        if self.last or width > MANY:
            return a
        return a.reshape(len(a), groups, width)

    def dots(self, a: Array, b: Array) -> Array:
        """Sums of a * b over the pixels, in the shape of ``sums``."""
        return self.sums(a * b) if self.last else dot_last(self.xp, a, b)[..., 0]

    def apply(self, ufunc: Callable, a: Array, values: Array, out: Array) -> Array:
        """out = ufunc(a, values), with values (N, K) or (1, K): one for each channel; or, channels
        first, for each of K groups of channels.

        NumPy has a cost per row, so rows are made long. Channels first, a row is a group; or a
        whole image, if the values are the same for all images, and are repeated for each pixel.
        Channels last, k pixels are joined to one row of k C numbers, and the values are repeated
        k times.
        """
        n, groups = len(a), max(1, values.shape[1])
        if self.last:
            k = joinable(*a.shape[1:]) if self.xp is np else 1
            shape = n, a.shape[1] // k, k * a.shape[2]
            if k > 1:  # on a GPU this copy would be a launch
                values = self.xp.tile(values, (1, k))
            values = values[:, None]
        elif len(values) == 1 and self.xp is np:
            shape = n, prod(a.shape[1:])
            values = values.repeat(shape[1] // groups, axis=1)
        else:
            shape = n, values.shape[1], prod(a.shape[1:]) // groups
            values = values[..., None]
        ufunc(a.reshape(shape), values, out=out.reshape(shape))
        return out


@lru_cache(maxsize=64)
def joinable(pixels: int, channels: int) -> int:
    """How many pixels to join to one row of about WIDE numbers: the largest such divisor of the
    number of pixels."""
    return next(k for k in range(max(1, WIDE // max(1, channels)), 0, -1) if pixels % k == 0)
