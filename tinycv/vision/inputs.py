"""Argument checks of the vision chapter: images, attention maps and models.

Images may be Tensors, or arrays on either device; only their shape and dtype are checked.
NumPy images and labels, as data loaders return them, are checked in data/inputs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import is_array, listed, shown, sizes
from tinycv.engine.backend import array_module
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.module import Module


def array_like(value: Any, what: str, takes: str, ndim: int) -> Any:
    """value, if it is a Tensor or an array (on either device) with ``ndim`` axes. Lists become
    NumPy arrays; anything else raises."""
    if not isinstance(value, Tensor) and array_module(value) is np:
        value = inputs.array(value, what, takes, ndim=ndim)
    if len(value.shape) != ndim:
        raise ValueError(f"{what} of shape {tuple(value.shape)}; it must be {takes}")
    return value


def images(value: Any, what: str, expected: tuple[int, int, int]) -> Any:
    """value, if it is float images (B, C, H, W) with the expected (C, H, W). what: the name of the
    caller, for errors, such as "ViT"."""
    takes = f"({', '.join(map(str, ('B', *expected)))})"
    value = array_like(value, f"{what}: images", takes, 4)
    if tuple(value.shape[1:]) != expected:
        raise ValueError(f"{what}: images of shape {tuple(value.shape)}; it takes {takes}")
    if value.dtype.kind != "f":
        raise TypeError(
            f"{what}: images are {value.dtype}; they must be floats: divide bytes by 255"
        )
    return value


def photo(value: Any, what: str, least: int = 2) -> Tensor:
    """value as a Tensor, if it is an RGB image (N, 3, H, W), floats from 0 to 1, with sides of at
    least ``least`` pixels. Values are looked at on the host only."""
    takes = "an RGB image, floats (N, 3, H, W) from 0 to 1"
    value = array_like(value, what, takes, 4)
    shape = tuple(value.shape)
    if value.dtype.kind != "f":
        raise TypeError(f"{what} is {value.dtype} of shape {shape}; it must be {takes}")
    if shape[1] != 3 or not shape[0]:
        raise ValueError(f"{what} has shape {shape}; it must be {takes}")
    if min(shape[2:]) < least:
        raise ValueError(
            f"{what} is {shape[2]} x {shape[3]} pixels; both sides must be at least {least}"
        )
    pixels = bare(value)
    if isinstance(pixels, np.ndarray) and not ((pixels >= 0) & (pixels <= 1)).all():
        problem = "NaN" if np.isnan(pixels).any() else f"{pixels.min():g} to {pixels.max():g}"
        raise ValueError(f"{what} holds {problem}; its values must be from 0 to 1")
    return value if isinstance(value, Tensor) else Tensor(value)


def one_photo(value: Any, what: str) -> Tensor:
    """``photo``, if it is a single one."""
    image = photo(value, what)
    if len(image) != 1:
        raise ValueError(
            f"{what} has shape {tuple(image.shape)}; it must be one RGB image, (1, 3, H, W)"
        )
    return image


def features_of(value: Any, what: str, least: int = 1) -> Tensor:
    """value as a Tensor, if it is feature maps, floats (N, C, H, W), with at least one channel and
    sides of at least ``least``."""
    takes = "feature maps, floats (N, C, H, W)"
    value = array_like(value, what, takes, 4)
    shape = tuple(value.shape)
    if value.dtype.kind != "f":
        raise TypeError(f"{what} is {value.dtype} of shape {shape}; it must be {takes}")
    if not shape[1] or min(shape[2:]) < least:
        raise ValueError(
            f"{what} has shape {shape}; it must be {takes}, with a channel and sides of at least "
            f"{least}"
        )
    return value if isinstance(value, Tensor) else Tensor(value)


def layers_of(value: Any, what: str, each: str) -> list[Any]:
    """value as a list of arrays or Tensors, one per layer, at least one. each: what they are."""
    if not isinstance(value, (list, tuple)) or not value or not all(map(is_array, value)):
        raise TypeError(f"{what} is {shown(value)}; it must be a list of {each}, one per layer")
    return list(value)


def odd_sizes(value: Any, what: str) -> tuple[int, ...]:
    """At least one odd number: the sides of filters, each with a middle."""
    sides = sizes(value, what, least=1)
    if not sides or any(side % 2 == 0 or side > 99 for side in sides):
        raise ValueError(f"{what} is {shown(value)}; it must be odd numbers, at most 99")
    return sides


def maps(value: Any, who: str) -> list[Tensor]:
    """value as a list of attention maps, one Tensor (B, H, T, T) per block, all of the same shape
    and at least one. who: the name of the caller, for errors."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(
            f"{who}: maps is {shown(value)}; it must be a list with one map (B, H, T, T) per block"
        )
    if not len(value):
        raise ValueError(f"{who}: maps is empty; it must have the map of at least one block")
    checked = []
    for i, attention in enumerate(value):
        attention = array_like(attention, f"{who}: maps[{i}]", "attention (B, H, T, T)", 4)
        shape = tuple(attention.shape)
        if attention.dtype.kind != "f" or shape[2] != shape[3] or 0 in shape[1:]:
            raise ValueError(
                f"{who}: maps[{i}] is {attention.dtype} of shape {shape}; it must be floats (B, H, "
                "T, T), H and T at least 1"
            )
        checked.append(attention if isinstance(attention, Tensor) else Tensor(attention))
    shapes = {tuple(attention.shape) for attention in checked}
    if len(shapes) > 1:
        raise ValueError(
            f"{who}: maps have the shapes {listed(sorted(shapes))}; all must have the same shape"
        )
    return checked


def side_of(count: int, what: str) -> int:
    """The number of patches along one side of a square of ``count`` patches."""
    side = isqrt(count)
    if side < 1 or side * side != count:
        raise ValueError(
            f"{what}: {count} patches do not form a square; the number must be a square, such as "
            "16 or 49"
        )
    return side


def model(value: Any, what: str, kind: type = Module) -> Any:
    """value, if it is a Module, or a Module of the given kind."""
    if not isinstance(value, kind):
        article = "a Module" if kind is Module else f"a {kind.__name__}"
        raise TypeError(f"{what} is {shown(value)}; it must be {article}")
    return value
