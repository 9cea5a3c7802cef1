"""Convolution's three linear maps on bare arrays; both pairs of conv.py are made of these.

What a window sees is written out as the columns of a matrix, so that the sum over taps and channels is one product of
matrices (Chellapilla, Puri & Simard 2006, section 2.1).  Two things make that fast on a CPU:

    channels last    (N, H, W, C) in memory: then a window is kH pieces of kW C neighbours, and what is copied is long
    few images       at a time: the columns of all would be k² times the batch; those of one or two stay in the cache

Results are (N, C, H, W) as everywhere, but lie channels last in memory; NumPy's elementwise ops keep that order, so from
one convolution to the next nothing has to be turned round.   g is dL/dy; a walk's description is window.py's.
"""

from __future__ import annotations

from math import prod

from tinycv.engine.reduce import as_rows, few
from tinycv.nn.window import seen_by, taps, walked


def forward(xp, x, w, stride, padding, dilation, groups, bias=None):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C / groups, kH, kW)."""
    (o, c, *window), x = w.shape, last(x)
    size = walked([n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)], window, stride, dilation)
    y = xp.empty((len(x), *size, o), x.dtype)
    rows = as_rows(y)
    for ins, outs in parted(c, o // groups, groups):
        matrix = w[outs].transpose(2, 3, 1, 0).reshape(prod(window) * c, o // groups)
        for at, columns in unfolded(xp, x[..., ins], window, size, stride, padding, dilation):
            part = xp.matmul(columns, matrix, out=rows[at, outs])
            if bias is not None:
                part += bias[outs]
    return first(y)


def to_weight(xp, g, x, w_shape, stride, padding, dilation, groups):
    """dL/dw, of w_shape (O, C / groups, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H, W)."""
    (o, c, *window), x = w_shape, last(x)
    size, rows, gw = g.shape[2:], as_rows(last(g)), xp.empty(w_shape, g.dtype)
    for ins, outs in parted(c, o // groups, groups):
        total = xp.zeros((prod(window) * c, o // groups), g.dtype)
        for at, columns in unfolded(xp, x[..., ins], window, size, stride, padding, dilation):
            total += columns.T @ rows[at, outs]
        gw[outs] = total.reshape(*window, c, o // groups).transpose(3, 2, 0, 1)
    return gw


def to_input(xp, g, w, x_shape, stride, padding, dilation, groups, bias=None):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'); the transposed convolution's way forward too.

    Two ways.  Every g stamps its window, and overlapping stamps add up; or, read backwards, every pixel of x looks at
    the g whose windows it was in: that is a convolution again, by taps turned round, and has nothing to add up.
    """
    x, g = xp.empty((len(g), *x_shape[2:], w.shape[1] * groups), g.dtype), last(g)
    look = looking(w.shape[2:], g.shape[1:3], x.shape[1:3], stride, padding, dilation)
    for ins, outs in parted(w.shape[1], w.shape[0] // groups, groups):
        if look is None:
            stamp(xp, x[..., ins], g[..., outs], w[outs], stride, padding, dilation)
        else:
            look_back(xp, x[..., ins], g[..., outs], w[outs], stride, dilation, *look)
    if bias is not None:
        x += bias
    return first(x)


def stamp(xp, x, g, w, stride, padding, dilation):
    """x (N, H, W, C) = the sum of windows w (O, C, kH, kW), each as strong as its g (N, H', W', O)."""
    (o, c, *window), size, sides = w.shape, g.shape[1:3], [n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)]
    matrix = w.transpose(0, 2, 3, 1).reshape(o, prod(window) * c)
    (top, _), (left, _) = padding
    for at in few(xp, len(g), prod(size) * prod(window) * c):
        stamps = (as_rows(g[at]) @ matrix).reshape(-1, *size, *window, c)
        canvas = xp.zeros((len(stamps), *sides, c), g.dtype)
        for tap in taps(window):
            canvas[(*seen_by(tap, size, stride, dilation), slice(None))] += stamps[:, :, :, *tap]
        x[at] = canvas[:, top:top + x.shape[1], left:left + x.shape[2]]


def looking(window, size, sides, stride, padding, dilation):
    """How ``look_back`` goes about it: reach, cells, cut, around, see there. None where stamping is quicker: it takes
    fewer products, but its sums are slow.

    With stride s, x is taken in cells of s pixels, and ``cut`` rows of the first are padding. Every place a in a cell
    has other taps, a + s t, but all hear from the same ⌈k/s⌉ neighbours: ``reach``.
    """
    reach = [-(-k // s) for k, s in zip(window, stride, strict=True)]
    skip = [p // s for (p, _), s in zip(padding, stride, strict=True)]                      # cells wholly in the padding
    cut = [p % s for (p, _), s in zip(padding, stride, strict=True)]
    cells = [-(-(n + e) // s) for n, e, s in zip(sides, cut, stride, strict=True)]
    around = [(d * (r - 1) - k, m + k - n) for r, d, k, m, n in zip(reach, dilation, skip, cells, size, strict=True)]
    work = prod(cells) * prod(reach) * prod(stride)
    uneven = max(stride) > 1 and max(dilation) > 1                  # neighbours at unequal distances
    return None if uneven or work > 4 * prod(size) * prod(window) else (reach, cells, cut, around)


def look_back(xp, x, g, w, stride, dilation, reach, cells, cut, around):
    """The same by a convolution of stride 1 that answers with a cell of s x s pixels at once."""
    c, sides = w.shape[1], x.shape[1:3]
    g = g[(slice(None), *[slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(around, g.shape[1:3], strict=True)])]
    around = [(max(0, a), max(0, b)) for a, b in around]
    matrix, direct = turned(xp, w, reach, stride), max(stride) == 1 and x.flags.c_contiguous
    for at, columns in unfolded(xp, g, reach, cells, (1, 1), around, dilation):
        if direct:
            xp.matmul(columns, matrix, out=as_rows(x)[at])
            continue
        z = (columns @ matrix).reshape(-1, *cells, *stride, c).swapaxes(2, 3)               # (n, cell, a, cell, b, C)
        z = z.reshape(len(z), cells[0] * stride[0], cells[1] * stride[1], c)
        x[at.start // prod(cells):at.stop // prod(cells)] = z[:, cut[0]:cut[0] + sides[0], cut[1]:cut[1] + sides[1]]


# ── layout ───────────────────────────────────────────────────────────────────────────────────────


def last(x):
    """(N, C, H, W) -> (N, H, W, C), without a copy."""
    return x.transpose(0, 2, 3, 1)


def first(x):
    """(N, H, W, C) -> (N, C, H, W), without a copy."""
    return x.transpose(0, 3, 1, 2)


def parted(c, o, groups):
    """The channels of each group, in and out, of which it has c and o."""
    return [(slice(i * c, i * c + c), slice(i * o, i * o + o)) for i in range(groups)]


def turned(xp, w, reach, stride):
    """Taps (O, C, kH, kW), turned round and sorted by the place in a cell that they reach: (rH rW O, sH sW C)."""
    o, c, *window = w.shape
    whole = xp.zeros((o, c, *[r * s for r, s in zip(reach, stride, strict=True)]), w.dtype)
    whole[:, :, :window[0], :window[1]] = w
    whole = whole.reshape(o, c, reach[0], stride[0], reach[1], stride[1])[:, :, ::-1, :, ::-1]
    return whole.transpose(2, 4, 0, 3, 5, 1).reshape(prod(reach) * o, prod(stride) * c)


def unfolded(xp, x, window, size, stride, padding, dilation):
    """Yields (rows, columns): what the window sees at each of its steps, (n H' W', kH kW C), a few images at a time.

    rows says which of all N H' W' steps these are. The memory of columns is used again for the next.
    """
    (n, h, w, c), (top, left) = x.shape, (padding[0][0], padding[1][0])
    cut = few(xp, n, prod(size) * prod(window) * c)
    most = min(n, cut[0].stop) if cut else 0
    sides = [side + sum(p) for side, p in zip((h, w), padding, strict=True)]
    upright = window[1] * c < size[1]                               # then a tap's way across the image is the longer run
    canvas = xp.zeros((c, most, *sides) if upright else (most, *sides, c), x.dtype)
    pixels = canvas.transpose(1, 2, 3, 0) if upright else canvas                # (n, H, W, C)
    images, down, across, each = pixels.strides
    seen = xp.lib.stride_tricks.as_strided(
        pixels, (most, *size, *window, c),
        (images, down * stride[0], across * stride[1], down * dilation[0], across * dilation[1], each))
    if upright:
        seen = seen.transpose(3, 4, 5, 0, 1, 2)                                 # (kH, kW, C, n, H', W')
    columns = xp.empty(seen.shape, x.dtype)
    for at in cut:
        k = len(x[at])
        rows, taken = slice(at.start * prod(size), (at.start + k) * prod(size)), (k * prod(size), prod(window) * c)
        pixels[:k, top:top + h, left:left + w] = x[at]
        if not upright:
            columns[:k] = seen[:k]
            yield rows, columns[:k].reshape(taken)
            continue
        part = columns if k == most else xp.empty((*columns.shape[:3], k, *size), x.dtype)
        part[...] = seen[..., :k, :, :]
        yield rows, part.reshape(taken[::-1]).T
