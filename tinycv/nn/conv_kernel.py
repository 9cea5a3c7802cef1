"""Convolution's three linear maps on bare arrays; both pairs of conv.py are made of these.

What a window sees is written out as the columns of a matrix, so that the sum over taps and channels
is one product of matrices (Chellapilla, Puri & Simard 2006, section 2.1).  Two things make that
fast on a CPU:

    channels last    (N, H, W, C) in memory: then a window is kH pieces of kW C neighbours, and
                     what is copied is long
    few images       at a time: the columns of all would be k² times the batch; those of one or
                     two stay in the cache

With many channels, winograd.py takes fewer products; with one channel out of many, ``stamp`` makes
no columns at all. Results are (N, C, H, W) as everywhere, but lie channels last in memory
(layout.py); NumPy's elementwise ops keep that order, so from one convolution to the next nothing
has to be turned round.   g is dL/dy. What describes a walk of the window: window.py.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinycv.engine.reduce import BLOCK, as_rows, blocks, few
from tinycv.nn import winograd
from tinycv.nn.layout import channels_first, channels_last
from tinycv.nn.window import seen_by, walked
from tinycv.nn.window import taps as places


def forward(xp, x, w, stride, padding, dilation, groups, bias=None):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C / groups, kH, kW)."""
    (o, c, *window), x = w.shape, channels_last(x)
    size = walked(
        [n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)], window, stride, dilation
    )
    y = xp.empty((len(x), *size, o), x.dtype)
    for ins, outs in parted(c, o // groups, groups):
        for at in see(
            xp, y[..., outs], x[..., ins], w[outs].transpose(2, 3, 1, 0), stride, padding, dilation
        ):
            if bias is not None:
                y[at, ..., outs] += bias[outs]  # now, while it is in the cache
    return channels_first(y)


def to_weight(xp, g, x, w_shape, stride, padding, dilation, groups):
    """dL/dw, of w_shape (O, C / groups, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H,
    W)."""
    (o, c, *window), x, g, gw = (
        w_shape,
        channels_last(x),
        channels_last(g),
        xp.empty(w_shape, g.dtype),
    )
    for ins, outs in parted(c, o // groups, groups):
        gw[outs] = seen(xp, g[..., outs], x[..., ins], window, stride, padding, dilation).transpose(
            3, 2, 0, 1
        )
    return gw


def to_input(xp, g, w, x_shape, stride, padding, dilation, groups, bias=None):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'); the transposed convolution's
    way forward too.

    Two ways.  Every g stamps its window, and overlapping stamps add up; or, read backwards, every
    pixel of x looks at the g whose windows it was in: that is a convolution again, by taps turned
    round, and has nothing to add up.
    """
    x, g = xp.empty((len(g), *x_shape[2:], w.shape[1] * groups), g.dtype), channels_last(g)
    look = (
        looking(w.shape, g.shape[1:3], x.shape[1:3], stride, padding, dilation)
        if xp is np
        else None
    )
    # ``turned`` has taps of 0 then
    filled_up = any(k % s for k, s in zip(w.shape[2:], stride, strict=True))
    for ins, outs in parted(w.shape[1], w.shape[0] // groups, groups):
        walk = (stride, padding, dilation) if look is None else (stride, dilation, *look)
        for at in (stamp if look is None else look_back)(
            xp, x[..., ins], g[..., outs], w[outs], *walk
        ):
            if look is not None and filled_up and not is_finite(xp, x[at, ..., ins]):
                for _ in stamp(
                    xp, x[at, ..., ins], g[at, ..., outs], w[outs], stride, padding, dilation
                ):
                    # where 0 times infinity does not occur
                    pass
            if bias is not None:
                x[at, ..., ins] += bias[ins]
    return channels_first(x)


def looking(w_shape, size, sides, stride, padding, dilation):
    """How ``look_back`` goes about it: reach, cells, cut, around, see there. None where stamping is
    quicker: it takes fewer products, but its sums are slow unless channels are few.

    With stride s, x is taken in cells of s pixels, and ``cut`` rows of the first are padding. Every
    place a in a cell has other taps, a + s t, but all hear from the same ⌈k/s⌉ neighbours:
    ``reach``.
    """
    o, c, *window = w_shape
    reach = [-(-k // s) for k, s in zip(window, stride, strict=True)]
    # cells wholly in the padding
    skip = [p // s for (p, _), s in zip(padding, stride, strict=True)]
    cut = [p % s for (p, _), s in zip(padding, stride, strict=True)]
    cells = [-(-(n + e) // s) for n, e, s in zip(sides, cut, stride, strict=True)]
    around = [
        (d * (r - 1) - k, m + k - n)
        for r, d, k, m, n in zip(reach, dilation, skip, cells, size, strict=True)
    ]
    work = prod(cells) * prod(reach) * prod(stride)
    # neighbours at unequal distances
    uneven = max(stride) > 1 and max(dilation) > 1
    return (
        None
        if uneven or is_thin(o, c) or work > 4 * prod(size) * prod(window)
        else (reach, cells, cut, around)
    )


def look_back(xp, x, g, w, stride, dilation, reach, cells, cut, around):
    """Write x (N, H, W, C) by a convolution of stride 1 that answers with a cell of s x s pixels at
    once."""
    (o, c, *_), sides, taps = w.shape, x.shape[1:3], turned(xp, w, reach, stride)
    g = g[
        (
            slice(None),
            *[
                slice(max(0, -a), n - max(0, -b))
                for (a, b), n in zip(around, g.shape[1:3], strict=True)
            ],
        )
    ]
    around = [(max(0, a), max(0, b)) for a, b in around]
    if max(stride) == 1:
        yield from see(xp, x, g, taps, (1, 1), around, dilation)
        return
    for at in few(xp, len(g), prod(cells) * prod(reach) * o):
        z = xp.empty((len(g[at]), *cells, prod(stride) * c), g.dtype)
        for _ in see(xp, z, g[at], taps, (1, 1), around, dilation):
            pass
        # (n, cell, a, cell, b, C)
        z = z.reshape(len(z), *cells, *stride, c).swapaxes(2, 3)
        z = z.reshape(len(z), cells[0] * stride[0], cells[1] * stride[1], c)
        x[at] = z[:, cut[0] : cut[0] + sides[0], cut[1] : cut[1] + sides[1]]
        yield at


def stamp(xp, x, g, w, stride, padding, dilation):
    """Write x (N, H, W, C), the sum of windows w (O, C, kH, kW), each as strong as its g (N, H',
    W', O)."""
    o, c, *window = w.shape
    size = g.shape[1:3]
    sides = [n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)]
    matrix, (top, left) = w.transpose(0, 2, 3, 1).reshape(o, prod(window) * c), before(padding)
    for at in few(xp, len(g), prod(size) * prod(window) * c):
        rows, n = as_rows(g[at]), len(g[at])
        # whole images are the longer runs in memory
        if is_thin(o, c):
            stamps = (matrix.T @ rows.T).reshape(*window, c, n, *size).transpose(0, 1, 3, 4, 5, 2)
            canvas = xp.zeros((c, n, *sides), g.dtype).transpose(1, 2, 3, 0)
        else:
            stamps = (rows @ matrix).reshape(n, *size, *window, c).transpose(3, 4, 0, 1, 2, 5)
            canvas = xp.zeros((n, *sides, c), g.dtype)
        for tap in places(window):
            canvas[(*seen_by(tap, size, stride, dilation), slice(None))] += stamps[tap]
        x[at] = canvas[:, top : top + x.shape[1], left : left + x.shape[2]]
        yield at


def is_thin(many, few):
    """Are there so few channels beside the others that their columns would be many for what comes
    of them?"""
    return 8 * few <= many


# ── one group's convolution, channels last ───────────────────────────────────────────────────────
# Shapes here: y (N, H', W', O), x (N, H, W, C), taps (kH, kW, C, O).


def see(xp, y, x, taps, stride, padding, dilation):
    """Write the convolution of x into y, the quickest way there is. Yields which images have just
    been written."""
    (*window, c, o), size = taps.shape, y.shape[1:3]
    if winograd.pays(xp, window, stride, dilation, c, o, size):
        for at, part in winograd.convolved(xp, x, taps, before(padding), size):
            y[at] = part
            # one bad pixel would spoil its whole tile
            if not is_finite(xp, part):
                by_columns(xp, y[at], x[at], taps, stride, padding, dilation)
            yield at
        return
    around = [
        (d * (k - 1) - p, d * (k - 1) - q)
        for k, d, (p, q) in zip(window, dilation, padding, strict=True)
    ]
    if (
        is_thin(c, o)
        and max(stride) == 1
        and 2 * prod(size) > prod(x.shape[1:3])
        and min(map(min, around)) >= 0
    ):
        yield from stamp(xp, y, x, taps[::-1, ::-1].transpose(2, 3, 0, 1), stride, around, dilation)
    else:
        yield from columns_times(xp, y, x, taps, stride, padding, dilation)


def columns_times(xp, y, x, taps, stride, padding, dilation):
    """``see``, by a product of what the window sees with the taps."""
    (*window, _, o), size = taps.shape, y.shape[1:3]
    # of no channels -1 could be anything
    matrix = taps.reshape(prod(taps.shape[:3]), o)
    for at, columns in unfolded(xp, x, window, size, stride, padding, dilation, o):
        if y.flags.c_contiguous:
            xp.matmul(columns, matrix, out=as_rows(y[at]))
        else:
            y[at] = (columns @ matrix).reshape(y[at].shape)
        yield at


def by_columns(*arguments):
    """``columns_times`` of all images."""
    for _ in columns_times(*arguments):
        pass


def is_finite(xp, a):
    """Is every number finite? Also no where their sum overflows: who asks takes the slower way,
    which is right for all."""
    return bool(xp.isfinite(a.sum()))


def seen(xp, g, x, window, stride, padding, dilation):
    """dL/dtaps, (kH, kW, C, O), from g = dL/dy."""
    size, c, o = g.shape[1:3], x.shape[-1], g.shape[-1]
    if winograd.pays(xp, window, stride, dilation, c, o, size):
        total = winograd.to_taps(xp, g, x, before(padding))
        if is_finite(xp, total):
            return total
    around = [
        (d * (k - 1) - p, d * (k - 1) - q)
        for k, d, (p, q) in zip(window, dilation, padding, strict=True)
    ]
    # fewer columns: of g
    if xp is np and is_thin(c, o) and max(stride) == 1 and min(map(min, around)) >= 0:
        total = xp.zeros((prod(window) * o, c), g.dtype)
        for at, columns in unfolded(xp, g, window, x.shape[1:3], stride, around, dilation, c):
            total += columns.T @ as_rows(x[at])
        # else 0 beside g has met an infinite pixel of x
        if is_finite(xp, total):
            return total.reshape(*window, o, c)[::-1, ::-1].swapaxes(2, 3)
    total = xp.zeros((prod(window) * c, o), g.dtype)
    for at, columns in unfolded(xp, x, window, size, stride, padding, dilation, o):
        total += columns.T @ as_rows(g[at])
    return total.reshape(*window, c, o)


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def before(padding):
    """What is above and to the left."""
    return [p for p, _ in padding]


def parted(c, o, groups):
    """The channels of each group, in and out, of which it has c and o."""
    return [(slice(i * c, i * c + c), slice(i * o, i * o + o)) for i in range(groups)]


def turned(xp, w, reach, stride):
    """Taps (O, C, kH, kW), turned round and sorted by the place in a cell that they reach: (rH, rW,
    O, sH sW C)."""
    o, c, *window = w.shape
    whole = xp.zeros((o, c, *[r * s for r, s in zip(reach, stride, strict=True)]), w.dtype)
    whole[:, :, : window[0], : window[1]] = w
    whole = whole.reshape(o, c, reach[0], stride[0], reach[1], stride[1])[:, :, ::-1, :, ::-1]
    return whole.transpose(2, 4, 0, 3, 5, 1).reshape(*reach, o, prod(stride) * c)


def unfolded(xp, x, window, size, stride, padding, dilation, answers):
    """Yields (at, columns): what the window sees at each of its steps in x[at], (n H' W', kH kW C),
    a few images at a time. The memory of columns is used again for the next. answers: the channels
    that they are multiplied with: if these are few, the product is no more than reading the
    columns, so fewer are taken at a time, to stay in the cache."""
    (n, h, w, c), (top, left) = x.shape, (padding[0][0], padding[1][0])
    # then a tap's way across the image is the longer run
    upright = window[1] * c < size[1]
    cut = blocks(
        xp, n, prod(size) * prod(window) * c, (4 if upright or answers < 32 else 16) * BLOCK
    )
    most = min(n, cut[0].stop) if cut else 0
    sides = [side + sum(p) for side, p in zip((h, w), padding, strict=True)]
    canvas = xp.zeros((c, most, *sides) if upright else (most, *sides, c), x.dtype)
    pixels = canvas.transpose(1, 2, 3, 0) if upright else canvas  # (n, H, W, C)
    images, down, across, each = pixels.strides
    seen = xp.lib.stride_tricks.as_strided(
        pixels,
        (most, *size, *window, c),
        (
            images,
            down * stride[0],
            across * stride[1],
            down * dilation[0],
            across * dilation[1],
            each,
        ),
    )
    if upright:
        # (kH, kW, C, n, H', W')
        seen = seen.transpose(3, 4, 5, 0, 1, 2)
    columns = xp.empty(seen.shape, x.dtype)
    for at in cut:
        k = len(x[at])
        taken = k * prod(size), prod(window) * c
        pixels[:k, top : top + h, left : left + w] = x[at]
        if not upright:
            columns[:k] = seen[:k]
            yield at, columns[:k].reshape(taken)
            continue
        part = columns if k == most else xp.empty((*columns.shape[:3], k, *size), x.dtype)
        part[...] = seen[..., :k, :, :]
        yield at, part.reshape(taken[::-1]).T
