"""Fast convolution on a CPU: the result, dL/dx and dL/dw as matrix products (im2col).

Convolution needs three linear maps on bare arrays: ``forward`` (y from x), ``to_input`` (dL/dx from
g = dL/dy) and ``to_weight`` (dL/dw from g and x).  The kernels of conv2d and conv_transpose2d in
conv.py are both built from these maps.

im2col: the pixels that the window sees at one step, kH kW C numbers, are copied into one row of a
matrix called ``columns``.  So the sum over taps and channels becomes a single matrix product
(Chellapilla, Puri & Simard 2006, section 2.1).  A tap is one of the kH kW positions in a window.
Two things make the copying fast:

    channels last           in memory, (N, H, W, C): each of the kH rows of a window is then one run
                            of kW C consecutive numbers
    a few images at a time  the columns of the whole batch would be k² times as large as the batch;
                            those of one or two images stay in the cache

Three other methods are faster for some shapes:

    conv_few.py             few channels: the images of the batch lie last in memory
    winograd.py             3 x 3 windows with many channels: fewer multiplications
    ``stamp``               many input channels, few output channels: no columns at all. Every pixel
                            adds its multiple of the window to the result

Results have the axes (N, C, H, W) as everywhere, but lie channels last in memory (layout.py).
NumPy's elementwise ops keep that order, so nothing has to be transposed between convolutions.

``convolve``, ``gather`` and ``stamp`` write into their first array, a few images at a time, and
yield the slice of images that they have just written.  So the caller can add the bias, or check the
values, while these images are still in the cache.

Shapes: x (N, C, H, W), w (O, C / groups, kH, kW), y and g (N, O, H', W').
"""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from tinycv.engine.reduce import BLOCK, as_rows, blocks, slices_of_examples, sum_rows
from tinycv.nn import conv_few, winograd
from tinycv.nn.layout import channels_first, channels_last, images_last
from tinycv.nn.window import output_size, tap_index
from tinycv.nn.window import taps as tap_positions


def forward(xp, x, w, stride, padding, dilation, groups, bias=None):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C / groups, kH, kW)."""
    if groups == 1 and conv_few.pays(xp, len(x), w.shape[1], len(w)):
        return conv_few.forward(xp, x, w, stride, padding, dilation, bias)
    (o, c, *window), x = w.shape, channels_last(x)
    size = output_size(
        [n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)], window, stride, dilation
    )
    y = xp.empty((len(x), *size, o), x.dtype)
    for ins, outs in group_slices(c, o // groups, groups):
        taps = w[outs].transpose(2, 3, 1, 0)  # (kH, kW, C, O)
        for at in convolve(xp, y[..., outs], x[..., ins], taps, stride, padding, dilation):
            if bias is not None:
                y[at, ..., outs] += bias[outs]
    return channels_first(y)


def to_weight(xp, g, x, w_shape, stride, padding, dilation, groups):
    """dL/dw, of w_shape (O, C / groups, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H,
    W)."""
    if groups == 1 and conv_few.pays(xp, len(x), w_shape[1], w_shape[0]):
        return conv_few.to_weight(xp, g, x, w_shape, stride, padding, dilation)
    o, c, *window = w_shape
    x, g, gw = channels_last(x), channels_last(g), xp.empty(w_shape, g.dtype)
    for ins, outs in group_slices(c, o // groups, groups):
        gtaps = taps_gradient(xp, g[..., outs], x[..., ins], window, stride, padding, dilation)
        gw[outs] = gtaps.transpose(3, 2, 0, 1)
    return gw


def to_input(xp, g, w, x_shape, stride, padding, dilation, groups, bias=None):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'). This is also the forward pass
    of the transposed convolution.

    There are two ways to compute it. ``stamp`` starts from g: every g adds its multiple of the
    window to the pixels that this window saw. ``gather`` starts from x: every pixel collects the g
    of all windows that saw it. That is again a convolution, of g, with the taps in reverse order.
    It needs no additions in memory, and is faster with stride 1, with two exceptions: few channels,
    or so few g that most pixels are seen through a part of the taps only, so that ``gather`` would
    mostly multiply padding. With a larger stride, ``stamp_cells`` is faster.
    """
    if groups == 1 and conv_few.pays(xp, len(g), w.shape[1], len(w)):
        return conv_few.to_input(xp, g, w, x_shape, stride, padding, dilation, bias)
    x, g = xp.empty((len(g), *x_shape[2:], w.shape[1] * groups), g.dtype), channels_last(g)
    for ins, outs in group_slices(w.shape[1], w.shape[0] // groups, groups):
        if xp is not np or is_thin(w.shape[0] // groups, w.shape[1]):
            way = stamp
        elif max(stride) == 1 and prod(x.shape[1:3]) <= 4 * prod(g.shape[1:3]):
            way = gather
        else:
            way = stamp_cells if dilation[1] == 1 < stride[1] else stamp
        for at in way(xp, x[..., ins], g[..., outs], w[outs], stride, padding, dilation):
            if bias is not None:
                x[at, ..., ins] += bias[ins]
    return channels_first(x)


def to_bias(xp, g):
    """dL/dbias (O,) from g = dL/dy (N, O, H', W')."""
    rows = images_last(g)
    if xp is np and rows.flags.c_contiguous:  # from conv_few.py
        return rows.reshape(len(rows), -1).sum(axis=1)
    return sum_rows(xp, as_rows(channels_last(g)))


def gather(xp, x, g, w, stride, padding, dilation):
    """Write dL/dx into x (N, H, W, C) by a convolution of g (N, H', W', O), for stride 1: step q of
    the window sees pixel h through tap t if q + t d = h + p, so pixel h is seen through the taps in
    reverse order."""
    around = [
        (d * (k - 1) - p, m + p - n)
        for k, d, (p, _), m, n in zip(
            w.shape[2:], dilation, padding, x.shape[1:3], g.shape[1:3], strict=True
        )
    ]
    # where the padding is negative, g is cut off
    rows, columns = (
        slice(max(0, -first), n - max(0, -last))
        for (first, last), n in zip(around, g.shape[1:3], strict=True)
    )
    around = [(max(0, first), max(0, last)) for first, last in around]
    taps = w[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)  # (kH, kW, O, C)
    yield from convolve(xp, x, g[:, rows, columns], taps, stride, around, dilation)


def stamp_cells(xp, x, g, w, stride, padding, dilation):
    """``stamp`` for a stride s above 1 across and no dilation across.

    The pixels that one tap sees are s pixels apart, so ``stamp`` adds runs of only C numbers. Here
    each row of the padded image is divided into cells of s pixels. A row of the window covers
    ⌈kW / s⌉ cells; the next window covers as many, one cell further. With kW = 4 and s = 2:

        pixels         0 1 | 2 3 | 4 5 | 6 7
        window 0       a b | c d |
        window 1           | a b | c d |
        window 2                 | a b | c d

    The taps in cell j of a row of the window (j = 0: a b, j = 1: c d) are one matrix (O, s C). Its
    products with a row of g, (W', s C), belong to the cells j, j + 1, ..., j + W' - 1. These lie
    one after the other in memory, so the products are added in a single run.
    """
    o, c, *window = w.shape
    (height, width), (down, across) = g.shape[1:3], stride
    rows, columns = (n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True))
    reach = ceil(window[1] / across)  # how many cells a row of the window covers
    cells = max(width + reach - 1, ceil(columns / across))  # in a row of the image
    taps, (top, left) = xp.ascontiguousarray(w.transpose(0, 2, 3, 1)), top_left(padding)
    for at in slices_of_examples(xp, len(g), height * width * prod(window) * c):
        pixels, n = as_rows(g[at]), len(g[at])
        canvas = xp.zeros((n, rows, cells, across * c), g.dtype)
        for i, j in tap_positions((window[0], reach)):
            in_cell = taps[:, i, j * across : (j + 1) * across]  # the last cell may hold fewer
            b = in_cell.shape[1] * c
            stamps = (pixels @ in_cell.reshape(o, b)).reshape(n, height, width, b)
            first = i * dilation[0]  # the row of the image that row i of the first window sees
            canvas[:, first : first + height * down : down, j : j + width, :b] += stamps
        canvas = canvas.reshape(n, rows, cells * across, c)
        x[at] = canvas[:, top : top + x.shape[1], left : left + x.shape[2]]
        yield at


def stamp(xp, x, g, w, stride, padding, dilation):
    """Write into x (N, H, W, C) the sum of windows w (O, C, kH, kW), each multiplied by its g
    (N, H', W', O)."""
    o, c, *window = w.shape
    size = g.shape[1:3]
    sides = [n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)]
    matrix, (top, left) = w.transpose(0, 2, 3, 1).reshape(o, prod(window) * c), top_left(padding)
    for at in slices_of_examples(xp, len(g), prod(size) * prod(window) * c):
        rows, n = as_rows(g[at]), len(g[at])
        # The order of axes that gives the additions below the longest runs in memory: runs over
        # whole images if there are few channels C, otherwise runs over the channels.
        if is_thin(o, c):
            stamps = (matrix.T @ rows.T).reshape(*window, c, n, *size).transpose(0, 1, 3, 4, 5, 2)
            canvas = xp.zeros((c, n, *sides), g.dtype).transpose(1, 2, 3, 0)
        else:
            stamps = (rows @ matrix).reshape(n, *size, *window, c).transpose(3, 4, 0, 1, 2, 5)
            canvas = xp.zeros((n, *sides, c), g.dtype)
        for tap in tap_positions(window):
            canvas[(*tap_index(tap, size, stride, dilation), slice(None))] += stamps[tap]
        x[at] = canvas[:, top : top + x.shape[1], left : left + x.shape[2]]
        yield at


def is_thin(channels, out_channels):
    """Are there so few output channels that writing and reading the columns would take longer than
    the product with them?"""
    return 8 * out_channels <= channels


# ── the convolution of one group, channels last ──────────────────────────────────────────────────
# Shapes here: y and g (N, H', W', O), x (N, H, W, C), taps (kH, kW, C, O).


def convolve(xp, y, x, taps, stride, padding, dilation):
    """Write the convolution of x into y in the fastest of three ways. Yields slices of images that
    have just been written."""
    (*window, c, o), size = taps.shape, y.shape[1:3]
    if winograd.pays(xp, window, stride, dilation, c, o, size):
        for at, part in winograd.convolved(xp, x, taps, top_left(padding), size):
            y[at] = part
            # Winograd computes tiles of 4 x 4 pixels from sums and differences of inputs, so one
            # NaN or infinity would spread over the whole tile. With columns it reaches only the
            # windows that see it.
            if not is_finite(xp, part):
                for _ in convolve_by_columns(xp, y[at], x[at], taps, stride, padding, dilation):
                    pass
            yield at
        return
    # the padding with which ``stamp``, given the reversed taps, computes this convolution
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
        yield from convolve_by_columns(xp, y, x, taps, stride, padding, dilation)


def convolve_by_columns(xp, y, x, taps, stride, padding, dilation):
    """``convolve`` by im2col: the product of the columns and the taps."""
    (*window, _, o), size = taps.shape, y.shape[1:3]
    # Taps are views of a weight (O, C, kH, kW). To copy them in the order (O, kH, kW, C) is faster
    # than in the order (kH, kW, C, O), because the numbers of each O lie together in both.
    matrix = xp.ascontiguousarray(taps.transpose(3, 0, 1, 2)).reshape(o, prod(taps.shape[:3])).T
    for at, columns in unfolded(xp, x, window, size, stride, padding, dilation, o):
        if y.flags.c_contiguous:
            xp.matmul(columns, matrix, out=as_rows(y[at]))
        else:
            y[at] = (columns @ matrix).reshape(y[at].shape)
        yield at


def is_finite(xp, a):
    """Is every number finite? Finite numbers whose sum overflows give False too. That is safe: the
    callers then take the slower way, which is right for all values."""
    return bool(xp.isfinite(a.sum()))


def taps_gradient(xp, g, x, window, stride, padding, dilation):
    """dL/dtaps (kH, kW, C, O) from g = dL/dy and x, in the fastest of three ways."""
    size, c, o = g.shape[1:3], x.shape[-1], g.shape[-1]
    if winograd.pays(xp, window, stride, dilation, c, o, size):
        total = winograd.to_taps(xp, g, x, top_left(padding))
        if is_finite(xp, total):
            return total
    # as in ``gather``: x may have a row that no window sees (output_padding of conv_transpose2d)
    around = [
        (d * (k - 1) - p, m + p - n)
        for k, d, (p, _), m, n in zip(window, dilation, padding, x.shape[1:3], size, strict=True)
    ]
    # With few output channels, the columns of g are smaller than those of x. The sums over all
    # pixels are the same, with the taps in reverse order.
    if xp is np and is_thin(c, o) and max(stride) == 1 and min(map(min, around)) >= 0:
        total = xp.zeros((prod(window) * o, c), g.dtype)
        for at, columns in unfolded(xp, g, window, x.shape[1:3], stride, around, dilation, c):
            total += columns.T @ as_rows(x[at])
        # If it is not finite, an infinite pixel of x may have met a 0 of g's padding, which makes
        # NaN at taps that never see this pixel. In that case the columns of x are used, below.
        if is_finite(xp, total):
            return total.reshape(*window, o, c)[::-1, ::-1].swapaxes(2, 3)
    total = xp.zeros((o, prod(window) * c), g.dtype)
    for at, columns in unfolded(xp, x, window, size, stride, padding, dilation, o):
        total += as_rows(g[at]).T @ columns
    return total.reshape(o, *window, c).transpose(1, 2, 3, 0)


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────


def top_left(padding):
    """The padding above and to the left."""
    return [p for p, _ in padding]


def group_slices(c, o, groups):
    """(input channels, output channels) of each group, as slices. Each group has c input channels
    and o output channels."""
    return [(slice(i * c, i * c + c), slice(i * o, i * o + o)) for i in range(groups)]


def unfolded(xp, x, window, size, stride, padding, dilation, out_channels):
    """Yields (at, columns) for a few images x[at] at a time: what the window sees at each of its
    steps, (n H' W', kH kW C).

    columns is the same memory each time, so use it before the next step of the loop. out_channels:
    the number of output channels, for which the columns will be multiplied. If there are few,
    reading the columns takes as long as the product, so fewer images are taken at a time, to keep
    the columns in the cache.
    """
    (n, h, w, c), (top, left) = x.shape, (padding[0][0], padding[1][0])
    # The columns lie in one of two orders, whichever has the longer runs to copy. By rows: for each
    # step, the pixels of its window. Transposed: for each tap and channel, its pixels at all steps.
    transposed = window[1] * c < size[1]
    slices = blocks(
        xp, n, prod(size) * prod(window) * c, (4 if transposed or out_channels < 32 else 16) * BLOCK
    )
    most = min(n, slices[0].stop) if slices else 0  # images in the largest slice
    sides = [side + sum(p) for side, p in zip((h, w), padding, strict=True)]
    canvas = xp.zeros((c, most, *sides) if transposed else (most, *sides, c), x.dtype)
    pixels = canvas.transpose(1, 2, 3, 0) if transposed else canvas  # (n, H, W, C)
    windows = all_windows(xp, pixels, window, size, stride, dilation)  # (n, H', W', kH, kW, C)
    if transposed:
        windows = windows.transpose(3, 4, 5, 0, 1, 2)  # (kH, kW, C, n, H', W')
    columns = xp.empty(windows.shape, x.dtype)
    for at in slices:
        k = len(x[at])
        matrix_shape = k * prod(size), prod(window) * c
        pixels[:k, top : top + h, left : left + w] = x[at]
        if not transposed:
            columns[:k] = windows[:k]
            yield at, columns[:k].reshape(matrix_shape)
            continue
        part = columns if k == most else xp.empty((*columns.shape[:3], k, *size), x.dtype)
        part[...] = windows[..., :k, :, :]
        yield at, part.reshape(matrix_shape[::-1]).T


def all_windows(xp, pixels, window, size, stride, dilation):
    """A view of padded images (n, H, W, C): what the window sees at each of its steps,
    (n, H', W', kH, kW, C). A pixel appears once for each window that sees it, without a copy.

    as_strided checks no bounds, so the last step must end within the padded image: the callers pass
    a ``size`` and a padding that fit each other (``output_size``).
    """
    of_image, of_row, of_pixel, of_channel = pixels.strides
    return xp.lib.stride_tricks.as_strided(
        pixels,
        (len(pixels), *size, *window, pixels.shape[-1]),
        (
            of_image,
            of_row * stride[0],
            of_pixel * stride[1],
            of_row * dilation[0],
            of_pixel * dilation[1],
            of_channel,
        ),
    )
