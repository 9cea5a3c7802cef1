"""Convolution's three linear maps on bare arrays; both pairs of conv.py are made of these.

What a window sees is written out as columns of a matrix, so that the sum over taps and channels is one product of
matrices (Chellapilla, Puri & Simard 2006, section 2.1).  g is dL/dy; a walk's description is window.py's.
"""

from __future__ import annotations

from math import prod

from tinycv.nn.window import inside, seen_by, taps, walked


def forward(xp, x, w, stride, padding, dilation, groups):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C / groups, kH, kW): one product of matrices a group."""
    n, (o, c, *window) = len(x), w.shape
    sides = [side + sum(p) for side, p in zip(x.shape[2:], padding, strict=True)]
    size = walked(sides, window, stride, dilation)
    columns = unfolded(xp, x, window, size, stride, padding, dilation, groups)
    y = w.reshape(groups, o // groups, c * prod(window)) @ columns              # (G, O/G, N H' W')
    return xp.ascontiguousarray(y.reshape(o, n, *size).swapaxes(0, 1))


def to_input(xp, g, w, x_shape, stride, padding, dilation, groups):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'): every g stamps its window."""
    (n, o, *size), (_, c, *window) = g.shape, w.shape
    matrix = w.reshape(groups, o // groups, c * prod(window)).swapaxes(1, 2)
    columns = (matrix @ by_channel(g, groups)).reshape(groups * c, *window, n, *size)
    sides = [side + sum(p) for side, p in zip(x_shape[2:], padding, strict=True)]
    canvas = xp.zeros((n, groups * c, *sides), columns.dtype)
    for i, j in taps(window):
        canvas[seen_by((i, j), size, stride, dilation)] += columns[:, i, j].swapaxes(0, 1)
    return canvas[inside(x_shape[2:], padding)]


def to_weight(xp, g, x, w_shape, stride, padding, dilation, groups):
    """dL/dw, of w_shape (O, C / groups, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H, W)."""
    columns = unfolded(xp, x, w_shape[2:], g.shape[2:], stride, padding, dilation, groups)
    return (by_channel(g, groups) @ columns.swapaxes(1, 2)).reshape(w_shape)


def unfolded(xp, x, window, size, stride, padding, dilation, groups):
    """What the window sees at each step, as columns: (N, C, H, W) -> (G, C/G kH kW, N H' W')."""
    x = xp.pad(x, ((0, 0), (0, 0), *padding))
    n, c = x.shape[:2]
    columns = xp.empty((c, *window, n, *size), x.dtype)
    for i, j in taps(window):
        columns[:, i, j] = x[seen_by((i, j), size, stride, dilation)].swapaxes(0, 1)
    return columns.reshape(groups, c // groups * prod(window), n * prod(size))


def by_channel(a, groups):
    """(N, C, H, W) -> (G, C/G, N H W)."""
    n, c, *size = a.shape
    return a.swapaxes(0, 1).reshape(groups, c // groups, n * prod(size))
