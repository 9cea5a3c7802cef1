"""Memory layouts: views in memory order make no copy and can be turned back."""

import numpy as np
import pytest

from tinycv.engine.backend import array_module, to_device, to_numpy
from tinycv.engine.reduce import axes_by_stride
from tinycv.nn.layout import (
    as_it_lies,
    axes_back,
    channels_first,
    channels_last,
    flattened,
    from_pixel_rows,
    lies_channels_last,
    pixel_rows,
    unflattened,
)


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((), ()),
        ((3,), (0,)),
        ((2, 3, 4, 5), (0, 3, 1, 2)),
        ((2, 0, 3), (2, 0, 1)),
        ((1, 4, 1), (1, 2, 0)),
    ],
)
def test_flattening_in_memory_order_makes_no_copy_and_can_be_undone(shape, axes, device):
    x = to_device(np.arange(float(np.prod(shape))).reshape(shape), device).transpose(axes)
    order = axes_by_stride(x)
    assert (to_numpy(unflattened(flattened(x, order), x, order)) == to_numpy(x)).all()
    assert device != "cpu" or np.shares_memory(flattened(x, order), x) or not x.size


def images(device, last):
    """(2, 3, 4, 5), channels last in memory or first."""
    x = to_device(np.arange(120.0).reshape(2, 3, 4, 5), device)
    xp = array_module(x)
    return channels_first(xp.ascontiguousarray(channels_last(x))) if last else x


@pytest.mark.parametrize("last", [True, False])
def test_channels_last_and_channels_first_are_told_apart(last, device):
    assert lies_channels_last(images(device, last)) == last


@pytest.mark.parametrize("last", [True, False])
def test_pixel_rows_and_as_it_lies_can_be_undone(last, device):
    x = images(device, last)
    xp = array_module(x)
    rows, taken = pixel_rows(xp, x), as_it_lies(xp, x, last)
    assert rows.shape == (2, 20, 3) and taken.flags.c_contiguous
    assert (to_numpy(from_pixel_rows(xp, rows, x.shape)) == to_numpy(x)).all()
    assert (to_numpy(axes_back(xp, taken, last)) == to_numpy(x)).all()
    assert device != "cpu" or np.shares_memory(taken, x)
    assert device != "cpu" or np.shares_memory(rows, x) == last
