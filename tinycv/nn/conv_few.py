"""Fast convolution of few channels on a CPU: with the images last in memory, im2col copies long
runs.

With the channels last in memory (conv_kernel.py), a row of a window is a run of kW C consecutive
numbers.  With 1 to 8 channels such runs are so short that copying them takes longer than the matrix
products.  In the order (C, H, W, N) the same pixel of all N images lies side by side.  What one tap
sees is then made of runs of at least N numbers, whatever the number of channels is: with stride 1,
a whole row of the result is one run of W' N numbers.

    columns    (C kH kW, H' W' N)   the pixels that each tap of each channel sees, in a row
    y          (O, H' W' N)         w as a matrix (O, C kH kW) times the columns
    dL/dw      (O, C kH kW)         g = dL/dy times the transposed columns
    dL/dx      (C, H, W, N)         the transposed matrix times g is dL/dcolumns. Each row of it is
                                    added to the pixels that its tap saw (col2im).

Only a few rows of every image are unfolded at a time, so that their columns stay in the cache.

Results have the axes (N, C, H, W) as everywhere.  NumPy's elementwise ops keep their order in
memory, and so does pooling, so the next convolution finds its images in this order too.

Shapes: x (N, C, H, W), w (O, C, kH, kW), y and g (N, O, H', W').
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinycv.engine.reduce import BLOCK, blocks
from tinycv.nn.layout import images_first, images_last
from tinycv.nn.window import output_size, taps


def pays(xp, images, channels, out):
    """Are there so few channels, and so many images, that this file is the fastest? The bounds were
    measured on a CPU (Zen 4). On a GPU it never is, because it would take many kernel launches."""
    return xp is np and images >= 16 and 0 < channels <= 8 and 0 < out <= 16


def forward(xp, x, w, stride, padding, dilation, bias=None):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C, kH, kW)."""
    canvas, (o, c, *window) = padded(xp, x, padding), w.shape
    size = output_size(canvas.shape[1:3], window, stride, dilation)
    y = xp.empty((o, *size, len(x)), x.dtype)
    matrix = w.reshape(o, c * prod(window))
    seen = windows(xp, canvas, window, size, stride, dilation)
    for at in rows_at_a_time(xp, seen.shape):  # at: some of the H' rows of every image
        part = of_channels(y[:, at])
        xp.matmul(matrix, columns(xp, seen[:, :, :, at]), out=part)
        if bias is not None:
            part += bias[:, None]
    return images_first(y)


def to_weight(xp, g, x, w_shape, stride, padding, dilation):
    """dL/dw, of w_shape (O, C, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H, W)."""
    o, c, *window = w_shape
    canvas, g = padded(xp, x, padding), xp.ascontiguousarray(images_last(g))
    seen = windows(xp, canvas, window, g.shape[1:3], stride, dilation)
    total = xp.zeros((o, c * prod(window)), g.dtype)
    for at in rows_at_a_time(xp, seen.shape):
        total += of_channels(g[:, at]) @ columns(xp, seen[:, :, :, at]).T
    return total.reshape(w_shape)


def to_input(xp, g, w, x_shape, stride, padding, dilation, bias=None):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'). This is also the forward pass
    of the transposed convolution."""
    (o, c, *window), g = w.shape, xp.ascontiguousarray(images_last(g))
    (top, bottom), (left, right) = padding
    *_, height, width = x_shape
    canvas = xp.zeros((c, top + height + bottom, left + width + right, g.shape[-1]), g.dtype)
    matrix = w.reshape(o, c * prod(window)).T
    seen = windows(xp, canvas, window, g.shape[1:3], stride, dilation)
    for at in rows_at_a_time(xp, seen.shape, times=16):
        pixels = seen[:, :, :, at]  # a view: what is added to it is added to the canvas
        stamps = (matrix @ of_channels(g[:, at])).reshape(pixels.shape)
        # one tap after the other, because two taps of a window may see the same pixel
        for i, j in taps(window):
            pixels[:, i, j] += stamps[:, i, j]
    x = canvas[:, top : top + height, left : left + width]
    if bias is not None:
        x += bias[:, None, None, None]
    return images_first(x)


def padded(xp, x, padding):
    """x (N, C, H, W) with its padding, as a contiguous array (C, H, W, N)."""
    x = images_last(x)
    if not any(map(any, padding)):
        return xp.ascontiguousarray(x)
    (c, height, width, n), ((top, bottom), (left, right)) = x.shape, padding
    canvas = xp.zeros((c, top + height + bottom, left + width + right, n), x.dtype)
    canvas[:, top : top + height, left : left + width] = x
    return canvas


def windows(xp, canvas, window, size, stride, dilation):
    """A view of the padded images (C, H, W, N): what every tap sees at every step of the window,
    (C, kH, kW, H', W', N). A pixel appears once for each window that sees it, without a copy.

    as_strided checks no bounds. The last step ends within the padded image, because ``size`` is
    computed from it: see ``output_size``.
    """
    of_channel, of_row, of_pixel, of_image = canvas.strides
    return xp.lib.stride_tricks.as_strided(
        canvas,
        (len(canvas), *window, *size, canvas.shape[-1]),
        (
            of_channel,
            of_row * dilation[0],
            of_pixel * dilation[1],
            of_row * stride[0],
            of_pixel * stride[1],
            of_image,
        ),
    )


def columns(xp, seen):
    """The columns (C kH kW, rows W' N) of a part of ``windows``, copied."""
    c, *window, rows, width, n = seen.shape
    return xp.ascontiguousarray(seen).reshape(c * prod(window), rows * width * n)


def of_channels(a):
    """(O, rows, W', N) -> (O, rows W' N). A view, because whole rows follow each other."""
    return a.reshape(len(a), prod(a.shape[1:]))


def rows_at_a_time(xp, shape, times=8):
    """Slices of the H' rows of the result. The columns of one slice have about ``times`` BLOCK
    numbers, which stay in the cache. shape: (C, kH, kW, H', W', N)."""
    *taps_shape, rows, width, n = shape
    return blocks(xp, rows, prod(taps_shape) * width * n, times * BLOCK)
