"""Convolution arithmetic: which pixels a sliding window covers, and how large the result is.

    convolution               ⌊(side + 2p - d (k - 1) - 1) / s⌋ + 1      ``output_size``
    transposed convolution    s (side - 1) + d (k - 1) + 1 - 2p + extra  ``transposed_output_size``

is the side of the result, for a window of k taps, stride s, dilation d, padding p, and
output_padding extra.
Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", relationships 15 and
14 (here with dilation too).

Used by conv.py and pool.py. A walk of the window over an image is described by stride and dilation,
pairs (down, across), and padding, ((top, bottom), (left, right)).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

from tinycv.engine.arguments import shown, sizes

Pair = int | tuple[int, int]  # (down, across), or one number for both
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


class Walk(NamedTuple):
    """How a window moves over an image."""

    stride: tuple[int, int]  # (down, across)
    padding: Pads
    dilation: tuple[int, int]


def taps(window: Iterable[int]) -> Iterable[tuple]:
    """(0, 0), (0, 1), ...: the positions in a window of kH x kW."""
    return product(*map(range, window))


def tap_index(tap: tuple, size: Sequence[int], stride: tuple, dilation: tuple) -> tuple:
    """The pixels that one tap sees while the window takes its H' x W' steps (``size``): an index
    (..., rows, columns) into the padded image, every stride-th pixel from tap * dilation on."""
    return (
        ...,
        *[
            slice(t * d, t * d + n * s, s)
            for t, n, s, d in zip(tap, size, stride, dilation, strict=True)
        ],
    )


def inside(sides: Sequence[int], padding: tuple) -> tuple:
    """The image inside its padding: an index (..., rows, columns) into the padded image."""
    return (
        ...,
        *[slice(before, before + n) for n, (before, _) in zip(sides, padding, strict=True)],
    )


def output_size(
    sides: Sequence[int], window: Sequence[int], stride: tuple, dilation: tuple
) -> tuple[int, ...]:
    """(H', W'): how many steps a window takes over a padded image of these sides."""
    size = tuple(
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(sides, window, stride, dilation, strict=True)
    )
    if min(size) < 1:
        reach = tuple(d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True))
        raise ValueError(
            f"a window of {tuple(window)} taps, dilation {dilation}, reaches over {reach} pixels, "
            f"which do not fit in an image of {tuple(sides)}, its padding included; pad more, or "
            "take a smaller window"
        )
    return size


def transposed_output_size(
    size: Sequence[int],
    window: Sequence[int],
    stride: tuple,
    padding: tuple,
    extra: tuple,
    dilation: tuple,
) -> tuple[int, ...]:
    """(H', W') of a transposed convolution: the sides that ``size`` stamps cover, plus ``extra``
    (output_padding), minus the padding."""
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding is {extra}; it must be smaller than the stride {stride} or dilation "
            f"{dilation}"
        )
    sides = tuple(
        (n - 1) * s + d * (k - 1) + 1 + e - sum(p)
        for n, k, s, p, e, d in zip(size, window, stride, padding, extra, dilation, strict=True)
    )
    if min(sides) < 1:
        raise ValueError(
            f"padding {padding} cuts an image of {tuple(size)} stamps of {tuple(window)} taps down "
            f"to {sides}"
        )
    return sides


def as_walk(stride: Pair, padding: Pair | str, dilation: Pair, window: Sequence[int]) -> Walk:
    """The Walk of a user's stride, padding and dilation: ints become pairs, and the words "valid"
    and "same" become numbers. ValueError for values that make no sense."""
    stride = as_pair("stride", stride, 1)
    dilation = as_pair("dilation", dilation, 1)
    if not isinstance(padding, str):
        down, across = as_pair("padding", padding)
        return Walk(stride, ((down, down), (across, across)), dilation)
    if padding == "valid":
        return Walk(stride, ((0, 0), (0, 0)), dilation)
    if padding != "same":
        raise ValueError(
            f"padding is {padding!r}; it must be 'same', 'valid', an int or a pair of ints"
        )
    if stride != (1, 1):
        raise ValueError(
            f"padding 'same' keeps an image's size, which stride {stride} does not: it must be 1"
        )
    down, across = (d * (k - 1) for k, d in zip(window, dilation, strict=True))
    around = (down // 2, down - down // 2), (across // 2, across - across // 2)
    return Walk(stride, around, dilation)


def as_pair(name: str, value: Any, least: int = 0) -> tuple[int, int]:
    """An int or a pair of ints as a pair: 3 becomes (3, 3). ValueError below ``least``."""
    if type(value) is int and least <= value < 2**63:
        return value, value
    try:
        if isinstance(value, (tuple, list, int)) or getattr(value, "ndim", 2) < 2:
            down, across = sizes(value, name, 2, least)
            return down, across
        reason = None
    except (TypeError, ValueError) as error:
        reason = error
    raise ValueError(
        f"{name} is {shown(value)}; it must be an int or a pair of ints, {least} or more"
    ) from reason
