"""Padding of images: zero (constant) padding, reflection padding, and replication of the edge.

    constant    0 0 | a b c d | 0 0      a convolution sees a border that is in no image
    reflect     c b | a b c d | c b      mirrors the image at its edge pixel
    replicate   a a | a b c d | d d      repeats the edge pixel

Networks that paint images often pad by reflection: with zeros, every edge looks the same to a
convolution, and the result shows a frame. After ``reflect`` or ``replicate`` a convolution of a
constant image is constant; after zeros it is not.

Reflect and replicate concatenate slices of x, so the gradient of a padding pixel is added to the
pixel that it copies. The pixels of a constant border copy nothing, and their gradient is dropped.

Read next: conv.py.   Shapes: H x W pixels, after any other axes.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine import ops
from tinycv.engine.arguments import choice, number, shown, sizes
from tinycv.engine.methods import concatenate
from tinycv.engine.tensor import Tensor
from tinycv.nn.checks import array
from tinycv.nn.module import Module

Sides = int | tuple[int, int, int, int]  # left, right, top, bottom, or one number for all four
MODES = "constant", "reflect", "replicate"


def pad(x: Tensor, pad: Sides, mode: str = "constant", value: float = 0.0) -> Tensor:
    """x (..., H, W) with pad = (left, right, top, bottom) more pixels at its sides, or with one
    number for all four. Returns (..., top + H + bottom, left + W + right).

    mode: "constant" (pads with ``value``), "reflect" or "replicate".
    differs: PyTorch takes two numbers for each axis to pad, crops where one is negative, has the
    value None in place of 0.0, and a mode "circular".
    """
    left, right, top, bottom = sides_of(pad, "pad: pad")
    check_padding(x, (left, right, top, bottom), mode, value)
    if mode == "constant":
        width = ((0, 0),) * (x.ndim - 2) + ((top, bottom), (left, right))
        # an int keeps an image of ints an image of ints
        return ops.pad(x, width=width, value=value if x.dtype.kind == "f" else int(value))
    extended = reflected if mode == "reflect" else replicated
    return extended(extended(x, -1, left, right), -2, top, bottom)


def reflected(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """x mirrored at its first and last entry along an axis. These two are not repeated."""
    n = x.shape[axis]
    return concatenate(
        [
            ops.flip(part(x, axis, 1, 1 + before), axis=axis),
            x,
            ops.flip(part(x, axis, n - 1 - after, n - 1), axis=axis),
        ],
        axis,
    )


def replicated(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """x with its first and last entry along an axis repeated."""
    n = x.shape[axis]
    first, last = part(x, axis, 0, 1), part(x, axis, n - 1, n)
    return concatenate([first] * before + [x] + [last] * after, axis)


def part(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """The entries from start to stop along axis -1 or -2."""
    return x[(..., slice(start, stop)) if axis == -1 else (..., slice(start, stop), slice(None))]


class ZeroPad2d(Module):
    """``pad`` with zeros, as a layer. padding: (left, right, top, bottom), or one number for all
    four."""

    def __init__(self, padding: Sides):
        self.padding = sides_of(padding, "ZeroPad2d: padding")

    def forward(self, x: Tensor) -> Tensor:
        """x (..., H, W). Returns (..., top + H + bottom, left + W + right)."""
        return pad(x, self.padding)


class ReflectionPad2d(Module):
    """``pad`` by reflection, as a layer. padding: (left, right, top, bottom), or one number for all
    four."""

    def __init__(self, padding: Sides):
        self.padding = sides_of(padding, "ReflectionPad2d: padding")

    def forward(self, x: Tensor) -> Tensor:
        """x (..., H, W). Returns (..., top + H + bottom, left + W + right)."""
        return pad(x, self.padding, "reflect")


class ReplicationPad2d(Module):
    """``pad`` by repeating the edge, as a layer. padding: (left, right, top, bottom), or one number
    for all four."""

    def __init__(self, padding: Sides):
        self.padding = sides_of(padding, "ReplicationPad2d: padding")

    def forward(self, x: Tensor) -> Tensor:
        """x (..., H, W). Returns (..., top + H + bottom, left + W + right)."""
        return pad(x, self.padding, "replicate")


# ── checks ────────────────────────────────────────────────────────────────────────────────────────


def sides_of(pad: Any, what: str) -> tuple[int, int, int, int]:
    """(left, right, top, bottom). An int means the same on all four sides."""
    left, right, top, bottom = sizes(pad, what, 4)
    return left, right, top, bottom


def check_padding(x: Any, pad: tuple[int, ...], mode: str, value: float) -> None:
    """An error for arguments of ``pad`` that do not fit."""
    choice(mode, "pad: mode", MODES)
    number(value, "pad: value")
    if array(x, "pad: x").ndim < 2:
        raise ValueError(f"pad: x has shape {tuple(x.shape)}; it must be (..., H, W)")
    if mode != "constant" and value != 0:
        raise ValueError(f"pad: value is {value}; mode {mode!r} copies pixels, so it must be 0")
    if mode == "constant" and x.dtype.kind != "f" and value != value // 1:
        raise ValueError(f"pad: value is {value}; x is {shown(x)}, so it must be a whole number")
    height, width = x.shape[-2:]
    if mode == "reflect" and (max(pad[:2]) >= width or max(pad[2:]) >= height):
        raise ValueError(
            f"pad: pad is {pad} (left, right, top, bottom); reflection needs sides longer than "
            f"that, and x has shape {tuple(x.shape)}"
        )
    if mode == "replicate" and any(pad) and not height * width:
        raise ValueError(f"pad: x has shape {tuple(x.shape)}; it has no pixel to replicate")
