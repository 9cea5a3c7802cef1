"""Convolution on a GPU: the result, dL/dx and dL/dw, by columns (im2col) or tiles (implicit GEMM).

The three linear maps have the same names and results as in nn/conv_kernel.py, but another aim.  On
a CPU the values should stay in a cache; on a GPU the launches should be few, and little should be
written to memory.  There are three ways, and ``way`` chooses one:

    tiles      for many channels: conv_tiles.py, which writes no columns at all
    columns    for few channels, for groups, or if tensor cores may multiply.  ``unfold`` copies
               what the windows see into columns, and one matrix product does the rest.  For dL/dx
               the product comes first, and ``fold`` adds up its columns: every pixel collects from
               the windows that saw it, so no two threads write to the same place, and the sums are
               the same in every run
    turned     from many channels to very few, as at the end of a U-Net: the transposed convolution
               with the window reversed.  Its columns are those of the result, which are smaller

If x holds NaN or infinity, "turned" also gives NaN for dL/dw of taps that do not see these pixels,
because it multiplies the pixels by the zeros of g's padding.  It cannot choose another way for such
values, since looking at values would mean waiting for the GPU.

All functions work channels last; arrays in another layout are read through their strides.
Shapes: x (N, C, H, W), w (O, C / groups, kH, kW), y and g (N, O, H', W').
How kernels are written: cuda.py.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinycv.engine.gemm import matrix_product
from tinycv.engine.reduce import as_rows
from tinycv.gpu import conv_tiles as tiles
from tinycv.gpu.cuda import Kernels, by_value, warps_for
from tinycv.nn.conv_kernel import group_slices
from tinycv.nn.layout import channels_first, channels_last
from tinycv.nn.window import output_size

MOST = 1 << 28  # entries in the columns that are written at a time: 1 GiB in float32
# With no more channels than this, columns are small, and a tile would be mostly empty.
FEW = 8

kernels = Kernels(r"""
struct Walk { int height, width, rows, columns, taps_down, taps_across, channels,
    stride_down, stride_across, top, left, step_down, step_across; };

// A row of columns for each step of the window (image, h', w'): the kH kW C entries of x that it
// sees, 0 outside the image. x may lie in any layout: by_image, ... are its strides.
KERNEL unfold(Int count, const Walk w, const T* x, Int by_image, Int by_row, Int by_column,
        Int by_channel, T* columns) {
    const int channels = w.channels, across = w.taps_across,
        seen = w.taps_down * w.taps_across * w.channels;
    EACH_ROW(row, count) {
        // int, because divisions in 64 bits take several times as long
        const int step = row, image = step / (w.rows * w.columns);
        const int down = step / w.columns % w.rows * w.stride_down - w.top;
        const int right = step % w.columns * w.stride_across - w.left;
        EACH(j, seen) {
            const int c = int(j) % channels, tap = int(j) / channels;
            const int h = down + tap / across * w.step_down,
                v = right + tap % across * w.step_across;
            const bool inside = h >= 0 && h < w.height && v >= 0 && v < w.width;
            columns[row * seen + j] = inside
                ? x[image * by_image + h * by_row + v * by_column + c * by_channel] : T(A(0));
        }
    }
}

// Each entry of x (image, h, w, c), channels last: the sum of the entries of columns at which
// windows saw it, plus bias.
KERNEL fold(Int count, const Walk w, const T* columns, const T* bias, T* x, Int by_pixel) {
    const Int seen = w.taps_down * w.taps_across * w.channels;
    EACH_ENTRY(entry, count * w.channels) {
        const int pixel = entry / w.channels, c = entry % w.channels,
            image = pixel / (w.height * w.width);
        const int h = pixel / w.width % w.height + w.top, v = pixel % w.width + w.left;
        A total = bias ? A(bias[c]) : A(0);
        for (int i = 0; i < w.taps_down; i++) {
            const int up = h - i * w.step_down;
            if (up < 0 || up % w.stride_down || up / w.stride_down >= w.rows) continue;
            for (int k = 0; k < w.taps_across; k++) {
                const int back = v - k * w.step_across;
                if (back < 0 || back % w.stride_across || back / w.stride_across >= w.columns)
                    continue;
                const Int step = (Int(image) * w.rows + up / w.stride_down) * w.columns
                    + back / w.stride_across;
                total += A(columns[step * seen + (i * w.taps_across + k) * w.channels + c]);
            }
        }
        x[pixel * by_pixel + c] = T(total);
    }
}
""")


WALK = np.dtype(
    [
        (name, "i4")
        for name in (
            "height",
            "width",
            "rows",
            "columns",
            "taps_down",
            "taps_across",
            "channels",
            "stride_down",
            "stride_across",
            "top",
            "left",
            "step_down",
            "step_across",
        )
    ]
)


# ── the choice of the way ────────────────────────────────────────────────────────────────────────


def way(like, w_shape, sides, size, outputs, stride, padding, dilation, groups):
    """ "tiles", "columns" or "turned": see the top of this file.

    like: an array of the float type. sides: (N, H, W). size: (H', W'). outputs: how many numbers
    the result has, or for dL/dw, how many g has.
    """
    (o, c, *window), images = w_shape, sides[0]
    if (
        groups == 1
        and o <= FEW
        and 8 * o <= c
        and can_turn(window, sides[1:], size, stride, padding, dilation)
    ):
        return "turned"
    most = max(prod(sides) * c, images * prod(size) * o, prod(w_shape))
    return (
        "tiles"
        if min(o, c) > FEW and tiles.suits(like.dtype, c, o, window, stride, groups, outputs, most)
        else "columns"
    )


def can_turn(window, sides, size, stride, padding, dilation):
    """Can this convolution be computed as the transpose of another one, with the window reversed?

    In that one every pixel sees the windows that saw it: through the last tap the window that saw
    it through the first tap, and so on. It has stride 1. Its padding must not be negative, and
    there must be no pixels that no window reaches, as output_padding makes them. For a window of
    one pixel, both are the same and nothing is gained.
    """
    return (
        prod(window) > 1
        and max(stride) == 1
        and all(
            min(before) >= 0 and side == n + sum(before) - d * (k - 1)
            for side, n, before, d, k in zip(
                sides,
                size,
                turned_padding(window, padding, dilation),
                dilation,
                window,
                strict=True,
            )
        )
    )


def turned_padding(window, padding, dilation):
    """The padding of the convolution with the window reversed, ((top, bottom), (left, right))."""
    return tuple(
        (d * (k - 1) - p, d * (k - 1) - q)
        for k, d, (p, q) in zip(window, dilation, padding, strict=True)
    )


def turned(w):
    """w with the taps in reverse order and the channels swapped: (O, C, kH, kW) -> (C, O, kH,
    kW)."""
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)


def is_plain(window, stride, padding):
    """Does each step see exactly one pixel, and each pixel one step? Then the columns are the image
    itself, and need not be written."""
    return prod(window) == 1 and max(stride) == 1 and max(map(max, padding)) == 0


# ── columns ──────────────────────────────────────────────────────────────────────────────────────


def walk_of(sides, size, window, channels, stride, padding, dilation):
    """The struct Walk that the kernels take."""
    return by_value(
        np.array(
            [(*sides, *size, *window, channels, *stride, padding[0][0], padding[1][0], *dilation)],
            WALK,
        )
    )


def unfolded(xp, x, size, window, *walk):
    """Yields (at, columns): what the window sees at each of its steps in the images x[at], (n H'
    W', kH kW C). x (N, H, W, C)."""
    (n, h, w, c), row = x.shape, prod(window) * x.shape[3]
    for at in image_slices(n, prod(size) * row):
        part = x[at]
        if is_plain(window, *walk[:2]) and part.flags.c_contiguous:
            yield at, as_rows(part)
            continue
        count, steps = len(part) * prod(size), [s // x.itemsize for s in x.strides]
        columns = xp.empty((count, row), x.dtype)
        if columns.size:
            kernels.unfold(
                x, count, count, walk_of((h, w), size, window, c, *walk), part.data, *steps, columns
            )
        yield at, columns


def image_slices(images, size):
    """Slices of as many images as may have their columns written at a time. size: entries in the
    columns of one image."""
    step = max(1, MOST // max(1, size))
    return [slice(start, start + step) for start in range(0, images, step)]


def matrix_of(w):
    """The weight as a matrix, (O, C, kH, kW) -> (O, kH kW C), in the order of the columns."""
    return w.transpose(0, 2, 3, 1).reshape(len(w), prod(w.shape[1:]))


# ── the three maps ───────────────────────────────────────────────────────────────────────────────


def forward(xp, x, w, stride, padding, dilation, groups, bias=None):
    """y (N, O, H', W') of x (N, C, H, W) and w (O, C / groups, kH, kW)."""
    (o, c, *window), x = w.shape, channels_last(x)
    size = output_size(
        [n + sum(p) for n, p in zip(x.shape[1:3], padding, strict=True)], window, stride, dilation
    )
    how = way(
        x, w.shape, x.shape[:3], size, len(x) * prod(size) * o, stride, padding, dilation, groups
    )
    if how == "tiles":
        return channels_first(tiles.forward(xp, x, w, size, stride, padding, dilation, bias))
    if how == "turned":
        around = turned_padding(window, padding, dilation)
        return to_input(
            xp, channels_first(x), turned(w), (len(x), o, *size), stride, around, dilation, 1, bias
        )
    y = xp.empty((len(x), *size, o), x.dtype)
    for ins, outs in group_slices(c, o // groups, groups):
        matrix = matrix_of(w[outs])
        for at, columns in unfolded(xp, x[..., ins], size, window, stride, padding, dilation):
            if groups == 1:
                matrix_product(columns, matrix.T, out=as_rows(y[at]))
            else:
                y[at, ..., outs] = matrix_product(columns, matrix.T).reshape(
                    len(y[at]), *size, len(matrix)
                )
    if bias is not None:
        y += bias
    return channels_first(y)


def to_weight(xp, g, x, w_shape, stride, padding, dilation, groups):
    """dL/dw, of w_shape (O, C / groups, kH, kW), from g = dL/dy (N, O, H', W') and x (N, C, H,
    W)."""
    (o, c, *window), x, g = w_shape, channels_last(x), channels_last(g)
    how = way(g, w_shape, x.shape[:3], g.shape[1:3], g.size, stride, padding, dilation, groups)
    if how == "tiles":
        return tiles.to_weight(xp, g, x, w_shape, stride, padding, dilation)
    if how == "turned":
        around = turned_padding(window, padding, dilation)
        return turned(
            to_weight(
                xp,
                channels_first(x),
                channels_first(g),
                (c, o, *window),
                stride,
                around,
                dilation,
                1,
            )
        )
    parts = []
    for ins, outs in group_slices(c, o // groups, groups):
        total = None
        for at, columns in unfolded(
            xp, x[..., ins], g.shape[1:3], window, stride, padding, dilation
        ):
            part = matrix_product(g[at, ..., outs].reshape(len(columns), o // groups).T, columns)
            total = part if total is None else total + part
        parts.append(xp.zeros((o // groups, prod(window) * c), g.dtype) if total is None else total)
    gw = parts[0] if groups == 1 else xp.concatenate(parts)
    return gw.reshape(o, *window, c).transpose(0, 3, 1, 2)


def to_input(xp, g, w, x_shape, stride, padding, dilation, groups, bias=None):
    """dL/dx, of x_shape (N, C, H, W), from g = dL/dy (N, O, H', W'). This is also the forward pass
    of the transposed convolution."""
    (o, c, *window), g, sides = w.shape, channels_last(g), x_shape[2:]
    size = g.shape[1:3]
    how = way(g, w.shape, (len(g), *sides), size, prod(x_shape), stride, padding, dilation, groups)
    if how == "tiles":
        return channels_first(tiles.to_input(xp, g, w, sides, stride, padding, dilation, bias))
    if (
        how == "turned"
        or is_plain(window, stride, padding)
        and groups == 1
        and tuple(sides) == size
    ):
        return forward(
            xp,
            channels_first(g),
            turned(w),
            stride,
            turned_padding(window, padding, dilation),
            dilation,
            1,
            bias,
        )
    x = xp.empty((len(g), *sides, c * groups), g.dtype)
    for ins, outs in group_slices(c, o // groups, groups):
        matrix, group_bias = matrix_of(w[outs]), None if bias is None else bias[ins]
        for at in image_slices(len(g), prod(size) * matrix.shape[1]):
            columns = matrix_product(as_rows(g[at, ..., outs]), matrix)
            target, count = x[at, ..., ins], len(x[at]) * prod(sides)
            if target.size:
                walk = walk_of(sides, size, window, c, stride, padding, dilation)
                kernels.fold(
                    x,
                    warps_for(count * c),
                    count,
                    walk,
                    columns,
                    group_bias,
                    target.data,
                    c * groups,
                )
    return channels_first(x)
