"""Checks for the vision chapter: images, attention maps and models.

Images may be Tensors, or arrays on either device; only their shape and dtype are looked at.
Checks of NumPy images and labels, as data loaders make them: data/inputs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import listed, shown
from tinycv.engine.backend import array_module
from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module


def array_like(value: Any, what: str, takes: str, ndim: int) -> Any:
    """A Tensor or an array of either device, with ``ndim`` axes, as it was given; lists become
    NumPy arrays."""
    if not isinstance(value, Tensor) and array_module(value) is np:
        value = inputs.array(value, what, takes, ndim=ndim)
    if len(value.shape) != ndim:
        raise ValueError(f"{what} of shape {tuple(value.shape)}; it must be {takes}")
    return value


def images(value: Any, what: str, expected: tuple[int, int, int]) -> Any:
    """Images (B, C, H, W) of floats with these C, H, W. what: who takes them, "ViT"."""
    takes = f"({', '.join(map(str, ('B', *expected)))})"
    value = array_like(value, f"{what}: images", takes, 4)
    if tuple(value.shape[1:]) != expected:
        raise ValueError(f"{what}: images of shape {tuple(value.shape)}; it takes {takes}")
    if value.dtype.kind != "f":
        raise TypeError(f"{what}: images are {value.dtype}; it takes floats: divide bytes by 255")
    return value


def maps(value: Any, who: str) -> list[Tensor]:
    """Attention maps, block by block: Tensors (B, H, T, T) of one shape, at least one."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(
            f"{who}: maps is {shown(value)}; it must be a list, the map (B, H, T, T) of each block"
        )
    if not len(value):
        raise ValueError(f"{who} needs the map of one block at least")
    found = []
    for i, each in enumerate(value):
        each = array_like(each, f"{who}: maps[{i}]", "attention (B, H, T, T)", 4)
        if each.dtype.kind != "f" or each.shape[2] != each.shape[3] or 0 in each.shape[1:]:
            raise ValueError(
                f"{who}: maps[{i}] is {each.dtype} of shape {tuple(each.shape)}; it must be floats "
                "(B, H, T, T), H and T at least 1"
            )
        found.append(each if isinstance(each, Tensor) else Tensor(each))
    shapes = {tuple(each.shape) for each in found}
    if len(shapes) > 1:
        raise ValueError(
            f"{who}: maps have the shapes {listed(sorted(shapes))}; all blocks must have one"
        )
    return found


def side_of(count: int, what: str) -> int:
    """How many patches lie on a side, where ``count`` lie in a square."""
    side = isqrt(count)
    if side < 1 or side * side != count:
        raise ValueError(f"{what}: {count} patches are no square of them, such as 16 or 49")
    return side


def model(value: Any, what: str, kind: type = Module) -> Any:
    """A Module, or one of a given kind."""
    if not isinstance(value, kind):
        article = "a Module" if kind is Module else f"a {kind.__name__}"
        raise TypeError(f"{what} is {shown(value)}; it must be {article}")
    return value
