"""Memory layouts (channels last and others): views of arrays in the order in which they lie.

The axes of images are (N, C, H, W) everywhere.  In memory, though, a convolution leaves its result
channels last, (N, H, W, C): the C channels of a pixel lie next to each other.  NumPy's elementwise
ops keep that order.  A kernel that works in the memory's order needs no copy and reads one number
after the other:

    channels_last, channels_first    views with the axes the other way round     conv_kernel.py
    images_last, images_first        the same for (C, H, W, N)                   conv_few.py
    pixel_rows, from_pixel_rows      (N, C, *spatial) as (N, S, C), and back      image_rows.py
    as_it_lies, axes_back            the same without joining the pixels          gpu/group_norm.py
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


def images_last(x: Array) -> Array:
    """(N, C, H, W) -> (C, H, W, N), without a copy."""
    return x.transpose(1, 2, 3, 0)


def images_first(x: Array) -> Array:
    """(C, H, W, N) -> (N, C, H, W), without a copy. The inverse of ``images_last``."""
    return x.transpose(3, 0, 1, 2)


def pixel_rows(xp: Any, x: Array) -> Array:
    """(N, C, *spatial) -> (N, S, C), contiguous. Makes no copy if x lies channels last."""
    rows = xp.ascontiguousarray(xp.moveaxis(x, 1, -1))
    return rows.reshape(len(x), prod(x.shape[2:]), x.shape[1])


def from_pixel_rows(xp: Any, rows: Array, shape: tuple[int, ...]) -> Array:
    """(N, S, C) -> ``shape``, which is (N, C, *spatial), without a copy. The inverse of
    ``pixel_rows``."""
    return xp.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def lies_channels_last(x: Array) -> bool:
    """Does x (N, C, *spatial) lie channels last in memory?

    An x with a single channel lies in both orders at once. The answer is then False.
    """
    last = x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous
    return last and (not x.flags.c_contiguous or prod(x.shape[2:]) == 1)


def as_it_lies(xp: Any, x: Array, last: bool) -> Array:
    """x (N, C, *spatial) as a contiguous array, with the axes (N, *spatial, C) if ``last``. Makes
    no copy if x already lies in that order."""
    return xp.ascontiguousarray(xp.moveaxis(x, 1, -1) if last else x)


def axes_back(xp: Any, x: Array, last: bool) -> Array:
    """The inverse of ``as_it_lies``: (N, C, *spatial), without a copy."""
    return xp.moveaxis(x, -1, 1) if last else x


def flattened(x: Array, order: tuple[int, ...]) -> Array:
    """All values of x in one row, with its axes taken in this order. A view, without a copy, if
    ``order`` is the order in memory (``axes_by_stride`` in engine/reduce.py) and x has no gaps."""
    return x.transpose(order).reshape(-1)


def unflattened(values: Array, like: Array, order: tuple[int, ...]) -> Array:
    """The inverse of ``flattened``: the values in the shape of ``like``."""
    back = sorted(range(like.ndim), key=order.__getitem__)
    return values.reshape([like.shape[axis] for axis in order]).transpose(back)
