"""Convolution's three linear maps on a GPU: one launch writes out what the windows see, and one product does the rest.

As conv_kernel.py, which these must equal, with another aim: not few values in a cache, but few launches. ``unfold`` writes
the columns of all images at once; ``fold`` adds overlapping stamps up by letting every pixel ask who stamped it, so that
nothing is written twice and sums come out the same in every run.  Both read and write channels last, wherever the array's
own axes lie.  How they are written: engine/cuda.py.  Not yet timed on a GPU.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinycv.engine.cuda import Kernels
from tinycv.engine.reduce import as_rows
from tinycv.nn.conv_kernel import first, last, parted
from tinycv.nn.window import walked

MOST = 1 << 28                                  # entries of the columns at a time: 1 GiB of float32

kernels = Kernels(r"""
struct Walk { Int height, width, rows, columns, taps_down, taps_across, channels, stride_down, stride_across, top, left,
              step_down, step_across; };

// A row for each step of the window (image, h', w'): the kH kW C entries of x that it sees, 0 outside. x lies anyhow.
KERNEL unfold(Int count, const Walk w, const T* x, Int by_image, Int by_row, Int by_column, Int by_channel, T* columns) {
    const int channels = w.channels, across = w.taps_across, seen = w.taps_down * w.taps_across * w.channels;
    EACH_ROW(row, count) {
        const Int image = row / (w.rows * w.columns);
        const Int down = row / w.columns % w.rows * w.stride_down - w.top;
        const Int right = row % w.columns * w.stride_across - w.left;
        EACH(j, seen) {
            const int c = int(j) % channels, tap = int(j) / channels;
            const Int h = down + tap / across * w.step_down, v = right + tap % across * w.step_across;
            const bool inside = h >= 0 && h < w.height && v >= 0 && v < w.width;
            columns[row * seen + j] = inside ? x[image * by_image + h * by_row + v * by_column + c * by_channel] : T(A(0));
        }
    }
}

// A row for each pixel (image, h, w) of x, channels last: the sum of what the windows that saw it say of it.
KERNEL fold(Int count, const Walk w, const T* columns, const T* bias, T* x, Int by_pixel) {
    const Int seen = w.taps_down * w.taps_across * w.channels;
    EACH_ROW(row, count) {
        const Int image = row / (w.height * w.width), h = row / w.width % w.height + w.top, v = row % w.width + w.left;
        EACH(c, w.channels) {
            A total = bias ? A(bias[c]) : A(0);
            for (Int i = 0; i < w.taps_down; i++) {
                const Int up = h - i * w.step_down;
                if (up < 0 || up % w.stride_down || up / w.stride_down >= w.rows) continue;
                for (Int k = 0; k < w.taps_across; k++) {
                    const Int back = v - k * w.step_across;
                    if (back < 0 || back % w.stride_across || back / w.stride_across >= w.columns) continue;
                    const Int step = (image * w.rows + up / w.stride_down) * w.columns + back / w.stride_across;
                    total += A(columns[step * seen + (i * w.taps_across + k) * w.channels + c]);
                }
            }
            x[row * by_pixel + c] = T(total);
        }
    }
}
""")


WALK = np.dtype([(name, "i8") for name in (
    "height", "width", "rows", "columns", "taps_down", "taps_across", "channels", "stride_down", "stride_across", "top",
    "left", "step_down", "step_across")])


def walk_of(sides, size, window, channels, stride, padding, dilation):
    """The kernels' struct Walk, by value."""
    return np.array([(*sides, *size, *window, channels, *stride, padding[0][0], padding[1][0], *dilation)], WALK)


def unfolded(xp, x, size, window, *walk):
    """Yields (at, columns): what the window sees at each of its steps in x[at], (n H' W', kH kW C). x (N, H, W, C)."""
    (n, h, w, c), seen = x.shape, prod(window) * x.shape[3]
    for at in some(n, prod(size) * seen):
        part = x[at]
        count, steps = len(part) * prod(size), [s // x.itemsize for s in x.strides]
        columns = xp.empty((count, seen), x.dtype)
        if columns.size:
            kernels.unfold(x, count, count, walk_of((h, w), size, window, c, *walk), part.data, *steps, columns)
        yield at, columns


def some(images, each):
    """Slices of as many images as may be written out at a time."""
    step = max(1, MOST // max(1, each))
    return [slice(start, start + step) for start in range(0, images, step)]


def matrix_of(w):
    """(O, C, kH, kW) -> (O, kH kW C), in the columns' order."""
    return w.transpose(0, 2, 3, 1).reshape(len(w), prod(w.shape[1:]))


def forward(xp, x, w, stride, padding, dilation, groups, bias=None):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C / groups, kH, kW)."""
    (o, c, *window), x = w.shape, last(x)
    size = walked([n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)], window, stride, dilation)
    y = xp.empty((len(x), *size, o), x.dtype)
    for ins, outs in parted(c, o // groups, groups):
        matrix = matrix_of(w[outs])
        for at, columns in unfolded(xp, x[..., ins], size, window, stride, padding, dilation):
            if groups == 1:
                xp.matmul(columns, matrix.T, out=as_rows(y[at]))
            else:
                y[at, ..., outs] = (columns @ matrix.T).reshape(-1, *size, len(matrix))
    if bias is not None:
        y += bias
    return first(y)


def to_weight(xp, g, x, w_shape, stride, padding, dilation, groups):
    """dL/dw, of w_shape (O, C / groups, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H, W)."""
    (o, c, *window), x, g = w_shape, last(x), last(g)
    made = []
    for ins, outs in parted(c, o // groups, groups):
        total = None
        for at, columns in unfolded(xp, x[..., ins], g.shape[1:3], window, stride, padding, dilation):
            part = g[at, ..., outs].reshape(len(columns), o // groups).T @ columns
            total = part if total is None else total + part
        made.append(xp.zeros((o // groups, prod(window) * c), g.dtype) if total is None else total)
    gw = made[0] if groups == 1 else xp.concatenate(made)
    return gw.reshape(o, *window, c).transpose(0, 3, 1, 2)


def to_input(xp, g, w, x_shape, stride, padding, dilation, groups, bias=None):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'); the transposed convolution's way forward too."""
    (o, c, *window), g, sides = w.shape, last(g), x_shape[2:]
    size, x = g.shape[1:3], xp.empty((len(g), *sides, c * groups), g.dtype)
    for ins, outs in parted(c, o // groups, groups):
        matrix, own = matrix_of(w[outs]), None if bias is None else bias[ins]
        for at in some(len(g), prod(size) * matrix.shape[1]):
            columns = g[at, ..., outs].reshape(-1, len(matrix)) @ matrix
            target, count = x[at, ..., ins], len(x[at]) * prod(sides)
            if target.size:
                kernels.fold(x, count, count, walk_of(sides, size, window, c, stride, padding, dilation), columns, own,
                             target.data, c * groups)
    return first(x)
