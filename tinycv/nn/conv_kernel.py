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

from tinycv.engine.reduce import as_rows, blocks
from tinycv.nn.window import walked

CACHE = 4                                       # blocks of reduce.py that the columns at one time may take


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

    Read backwards, a pixel of x hears from every g whose window it was in.  With stride s these differ by the pixel's
    place a = 0 ... s-1 in a cell of s pixels: from place to place other taps, a + s t, but the same ⌈k/s⌉ neighbours.
    So it is a convolution of g by stride 1 and taps turned round, that answers with a cell of s x s pixels at once.
    """
    if max(stride) > 1 and max(dilation) > 1:                       # neighbours would lie at unequal distances
        g, stride = stuffed(xp, g, stride), (1, 1)
    (o, c, *window), g = w.shape, last(g)
    reach = [-(-k // s) for k, s in zip(window, stride, strict=True)]                       # neighbours that count
    skip = [p // s for (p, _), s in zip(padding, stride, strict=True)]                      # cells wholly in the padding
    cut = [p % s for (p, _), s in zip(padding, stride, strict=True)]                        # rows of the first cell that are
    cells = [-(-(n + e) // s) for n, e, s in zip(x_shape[2:], cut, stride, strict=True)]
    around = [(d * (r - 1) - k, m + k - n) for r, d, k, m, n in zip(reach, dilation, skip, cells, g.shape[1:3], strict=True)]
    g = g[(slice(None), *[slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(around, g.shape[1:3], strict=True)])]
    around = [(max(0, a), max(0, b)) for a, b in around]
    x = xp.empty((len(g), *x_shape[2:], groups * c), g.dtype)
    whole = not any(cut) and [n * s for n, s in zip(cells, stride, strict=True)] == list(x_shape[2:])
    for ins, outs in parted(c, o // groups, groups):
        matrix = turned(xp, w[outs], reach, stride)
        for at, columns in unfolded(xp, g[..., outs], reach, cells, (1, 1), around, dilation):
            if whole and stride == (1, 1):
                xp.matmul(columns, matrix, out=as_rows(x)[at, ins])
                continue
            images = slice(at.start // prod(cells), at.stop // prod(cells))
            z = (columns @ matrix).reshape(-1, *cells, *stride, c).swapaxes(2, 3)           # (n, cell, a, cell, b, C)
            z = z.reshape(len(z), cells[0] * stride[0], cells[1] * stride[1], c)
            x[images, ..., ins] = z[:, cut[0]:cut[0] + x.shape[1], cut[1]:cut[1] + x.shape[2]]
    if bias is not None:
        x += bias
    return first(x)


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
    taps = xp.zeros((o, c, *[r * s for r, s in zip(reach, stride, strict=True)]), w.dtype)
    taps[:, :, :window[0], :window[1]] = w
    taps = taps.reshape(o, c, reach[0], stride[0], reach[1], stride[1])[:, :, ::-1, :, ::-1]
    return taps.transpose(2, 4, 0, 3, 5, 1).reshape(prod(reach) * o, prod(stride) * c)


def stuffed(xp, g, stride):
    """g (N, O, H, W) with stride - 1 zeros between neighbours."""
    n, o, *size = g.shape
    wide = xp.zeros((n, o, *[(k - 1) * s + 1 for k, s in zip(size, stride, strict=True)]), g.dtype)
    wide[:, :, ::stride[0], ::stride[1]] = g
    return wide


def unfolded(xp, x, window, size, stride, padding, dilation):
    """Yields (rows, columns): what the window sees at each of its steps, (n H' W', kH kW C), a few images at a time.

    rows says which of all N H' W' steps these are. The memory of columns is used again for the next.
    """
    (n, h, w, c), (top, left) = x.shape, (padding[0][0], padding[1][0])
    cut = blocks(xp, n, -(-prod(size) * prod(window) * c // CACHE))
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
