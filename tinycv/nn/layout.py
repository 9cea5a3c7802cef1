"""Memory layouts for kernels: channels last, images as rows of pixels, and all values as one row.

Tensors are (N, C, H, W) everywhere.  In memory, though, a convolution leaves its result channels
last, (N, H, W, C): the C channels of a pixel are neighbours.  NumPy's elementwise ops keep that
order.  So a kernel that takes an array as it lies runs along the memory, and copies nothing:

    channels_last, channels_first    views with the axes the other way round     conv_kernel.py
    pixel_rows, from_pixel_rows      (N, C, *spatial) as (N, S, C), and back      norm.py
    as_it_lies, axes_back            the same without joining the pixels          gpu/norm.py
    flattened, unflattened           all values in memory order, and back         activation.py

Shapes: N images, C channels, H x W pixels or any other spatial axes, S = H W.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tinycv.engine.backend import Array


def channels_last(x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C), without a copy."""
    return x.transpose(0, 2, 3, 1)


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W), without a copy. The inverse of ``channels_last``."""
    return x.transpose(0, 3, 1, 2)


def pixel_rows(xp: Any, x: Array) -> Array:
    """(N, C, *spatial) -> (N, S, C), in one piece of memory. No copy if x lies channels last."""
    rows = xp.ascontiguousarray(xp.moveaxis(x, 1, -1))
    return rows.reshape(len(x), prod(x.shape[2:]), x.shape[1])


def from_pixel_rows(xp: Any, rows: Array, shape: tuple[int, ...]) -> Array:
    """(N, S, C) -> (N, C, *spatial), which is ``shape``, without a copy."""
    return xp.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def lies_channels_last(x: Array) -> bool:
    """Are the channels of a pixel of x (N, C, *spatial) neighbours in memory?

    No for a single channel, where it could be said of both layouts: its pixels are neighbours.
    """
    last = x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous
    return last and (not x.flags.c_contiguous or prod(x.shape[2:]) == 1)


def as_it_lies(xp: Any, x: Array, last: bool) -> Array:
    """x (N, C, *spatial) in one piece of memory, with the axes (N, *spatial, C) if ``last``. No
    copy where x is laid out so already."""
    return xp.ascontiguousarray(xp.moveaxis(x, 1, -1) if last else x)


def axes_back(xp: Any, x: Array, last: bool) -> Array:
    """The inverse of ``as_it_lies``: (N, C, *spatial), without a copy."""
    return xp.moveaxis(x, -1, 1) if last else x


def flattened(x: Array, order: tuple[int, ...]) -> Array:
    """All values of x, with its axes in that order: a view where ``order`` is the order in memory
    (``lie`` in engine/reduce.py) and x has no gaps."""
    return x.transpose(order).reshape(-1)


def unflattened(values: Array, like: Array, order: tuple[int, ...]) -> Array:
    """The inverse of ``flattened``: in the shape of ``like``."""
    back = sorted(range(like.ndim), key=order.__getitem__)
    return values.reshape([like.shape[axis] for axis in order]).transpose(back)
