"""Convolution with fewer products, after Winograd: a few additions, which are cheap, replace multiplications.

Three taps w walk two steps over four pixels d. That is six products; four do (Lavin & Gray 2016, section 4.1):

    y_0 = d_0 w_0 + d_1 w_1 + d_2 w_2  =  m_0 + m_1 + m_2           m_0 = (d_0 - d_2) w_0
    y_1 = d_1 w_0 + d_2 w_1 + d_3 w_2  =  m_1 - m_2 - m_3           m_1 = (d_1 + d_2) (w_0 + w_1 + w_2) / 2
                                                                    m_2 = (d_2 - d_1) (w_0 - w_1 + w_2) / 2
                                                                    m_3 = (d_1 - d_3) w_2
Two taps need three in place of four:

    y_0 = d_0 w_0 + d_1 w_1  =  m_0 + m_1                           m_0 = (d_0 - d_1) w_0
    y_1 = d_1 w_0 + d_2 w_1  =  m_1 + m_2                           m_1 = d_1 (w_0 + w_1)
                                                                    m_2 = (d_2 - d_1) w_1
As matrices, y = Aᵀ ((G w) ⊙ (Bᵀ d)).  Down and across at once, 2 x 2 pixels of y take 16 products in place of 36, or 9
in place of 16. Each is a sum over channels: a product of matrices, one for each of the 16 or 9.

A window of r s taps with stride s is one of r taps with stride 1, if each cell of s x s pixels counts as one pixel of
s² C channels.   r taps, p = r + 1 products, th x tw tiles of 2 x 2 pixels of y. Channels last, as in conv_kernel.py.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinycv.engine.reduce import BLOCK, blocks

G = {2: ((1, 0), (1, 1), (0, 1)), 3: ((1, 0, 0), (.5, .5, .5), (.5, -.5, .5), (0, 0, 1))}
LEAST = {2: 64, 3: 24}                          # channels: with fewer, additions cost more than they save


def pays(xp, window, stride, dilation, channels, out, size):
    """r, where this is quicker than columns; 0 where it is not. channels: of a pixel that comes in; out: of one of the
    ``size`` pixels that go out."""
    r = window[0] // stride[0]
    if xp is not np or r not in G or tuple(window) != (r * stride[0], r * stride[1]) or max(dilation) > 1:
        return 0
    products, channels = (r + 1) ** 2 * prod(tiled(size)), prod(stride) * channels
    return r * (10 * products <= 7 * r * r * prod(size) and channels * out >= LEAST[r] * (channels + out))


def convolved(xp, x, taps, stride, before, size):
    """Yields (at, y): what x[at], a few images (k, H, W, C), give with taps (r, r, C', O), y (k, *size, O).

    C' = prod(stride) C: see ``cells``. before: rows and columns of padding above and to the left; there is as much
    below and to the right as ``size`` asks for. The memory of y is used again for the next.
    """
    r, o, (down, across) = len(taps), taps.shape[-1], tiled(size)
    products, u = (r + 1) ** 2, enlarged(xp, taps)
    for at, v in windows(xp, x, r, stride, before, size):
        k = v.shape[2]
        m = xp.matmul(v.reshape(products, -1, v.shape[-1]), u).reshape(r + 1, r + 1, k, down, across, o)
        half, y = xp.empty((2, *m.shape[1:]), m.dtype), xp.empty((k, down, 2, across, 2, o), m.dtype)
        answers(xp, m, half[0], half[1])
        for row in (0, 1):
            answers(xp, half[row], y[:, :, row, :, 0], y[:, :, row, :, 1])
        yield at, y.reshape(k, 2 * down, 2 * across, o)[:, :size[0], :size[1]]


def to_taps(xp, g, x, r, stride, before):
    """dL/dtaps, (r, r, C', O), from g = dL/dy (N, *size, O)."""
    size, total = g.shape[1:3], 0.0
    for at, v in windows(xp, x, r, stride, before, size):
        parts = next(cells(xp, g[at], 2 * v.shape[3], v.shape[4], (1, 1), (0, 0), [slice(None)]))
        once = xp.empty((r + 1, *parts.shape[1:]), g.dtype)                     # (p, k, 2 th, tw, O)
        asked(xp, r, parts[0], parts[1], once)
        both = xp.empty((r + 1, r + 1, *v.shape[2:5], g.shape[-1]), g.dtype)
        asked(xp, r, once[:, :, 0::2], once[:, :, 1::2], both)
        products = v.reshape((r + 1) ** 2, -1, v.shape[-1]).swapaxes(1, 2) @ both.reshape((r + 1) ** 2, -1, g.shape[-1])
        total = total + products
    return reduced(xp, total, r)


def tiled(size):
    return [-(-n // 2) for n in size]


# ── the three matrices: G on taps, Bᵀ on pixels, Aᵀ on products; and what each sends back ────────


def enlarged(xp, taps):
    """G w Gᵀ: (r, r, C, O) -> (p p, C, O)."""
    (r, _, c, o), g = taps.shape, xp.asarray(G[len(taps)], taps.dtype)
    once = (g @ taps.reshape(r, r * c * o)).reshape(r + 1, r, c * o)
    return (g @ once).reshape(-1, c, o)


def reduced(xp, u, r):
    """The transpose of ``enlarged``: (p p, C, O) -> (r, r, C, O)."""
    (_, c, o), g = u.shape, xp.asarray(G[r], u.dtype).T
    once = (g @ u.reshape(r + 1, -1)).reshape(r, r + 1, c * o)
    return (g @ once).reshape(r, r, c, o)


def differences(xp, d, out):
    """Bᵀ d, for pixels d_0 ... d_r."""
    if len(d) == 4:
        xp.subtract(d[0], d[2], out=out[0])
        xp.add(d[1], d[2], out=out[1])
        xp.subtract(d[2], d[1], out=out[2])
        xp.subtract(d[1], d[3], out=out[3])
    else:
        xp.subtract(d[0], d[1], out=out[0])
        out[1] = d[1]
        xp.subtract(d[2], d[1], out=out[2])


def answers(xp, m, y0, y1):
    """Aᵀ m, from products m_0 ... m_r."""
    if len(m) == 4:
        xp.add(m[1], m[2], out=y0)
        y0 += m[0]
        xp.subtract(m[1], m[2], out=y1)
        y1 -= m[3]
    else:
        xp.add(m[0], m[1], out=y0)
        xp.add(m[1], m[2], out=y1)


def asked(xp, r, g0, g1, out):
    """A g: what the products are asked for by dL/dy_0 and dL/dy_1."""
    out[0] = g0
    xp.add(g0, g1, out=out[1])
    if r == 3:
        xp.subtract(g0, g1, out=out[2])
        xp.negative(g1, out=out[3])
    else:
        out[2] = g1


# ── layout ───────────────────────────────────────────────────────────────────────────────────────


def windows(xp, x, r, stride, before, size):
    """Yields (at, Bᵀ d B), (p, p, k, th, tw, C'), of a few images at a time: so few that it stays in a cache."""
    (down, across), c = tiled(size), x.shape[-1] * prod(stride)
    cut = blocks(xp, len(x), (r + 1) ** 2 * down * across * c, 6 * BLOCK)
    for at, (even, odd) in zip(cut, cells(xp, x, 2 * down + r - 1, across + 1, stride, before, cut), strict=True):
        columns = [part[:, :, late:across + late] for late in (0, 1) for part in (even, odd)][:r + 1]
        once = xp.empty((r + 1, len(even), 2 * down + r - 1, across, c), x.dtype)
        differences(xp, columns, once)
        both = xp.empty((r + 1, r + 1, len(even), down, across, c), x.dtype)
        differences(xp, [once[:, :, i:i + 2 * down - 1:2] for i in range(r + 1)], both)
        yield at, both


def cells(xp, x, rows, pairs, stride, before, cut):
    """Yields (2, k, rows, pairs, sH sW C) of x[at], at in cut: an image of cells, of sH x sW pixels each, its columns of
    even number first and then the odd: so a tile's neighbours lie in long runs."""
    (_, h, w, c), (down, across), (top, left), frame = x.shape, stride, before, None
    for at in cut:
        part = x[at]
        if frame is None or len(part) != len(frame):
            frame = xp.zeros((len(part), rows * down, 2 * pairs * across, c), x.dtype)
            sorted_ = xp.empty((2, len(part), rows, pairs, down, across, c), x.dtype)
        inside = frame[:, top:top + h, left:left + w]
        inside[...] = part[:, :inside.shape[1], :inside.shape[2]]
        sorted_[...] = frame.reshape(len(part), rows, down, pairs, 2, across, c).transpose(4, 0, 1, 3, 2, 5, 6)
        yield sorted_.reshape(2, len(part), rows, pairs, down * across * c)
