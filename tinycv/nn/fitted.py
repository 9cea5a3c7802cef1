"""What may go into a Tensor of a Module: arrays that are loaded, and the float types of ``to``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.tensor import Tensor, as_array


class Misshaped(ValueError):
    """Of another shape than the Tensor that it should be loaded into."""


def fitted(value: Any, target: Tensor) -> np.ndarray:
    """A copy of ``value`` on the host, in the shape and dtype of ``target``; ValueError or TypeError if it would lose
    more than digits."""
    array = as_array(value, floats=target.dtype)
    if array.shape != target.shape:
        raise Misshaped(f"is {array.shape}, should be {target.shape}")
    array, dtype = np.asarray(backend.to_numpy(array)), target.dtype
    if array.dtype.kind not in "fiub":
        raise TypeError(f"is an array of {array.dtype}, should be of {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        copy = np.array(array, dtype=dtype)
    if dtype.kind == "f":
        kept = not np.isinf(copy).any() or np.array_equal(np.isinf(copy), np.isinf(array))
    else:
        kept = np.array_equal(copy, array)
    if not kept:
        raise ValueError(f"has numbers of {array.dtype} that {dtype} cannot hold")
    return copy


def same_values(a: Any, b: Any) -> bool:
    """Whether two arrays of either device are equal, NaN to NaN."""
    a, b = backend.to_device(a, "cpu"), backend.to_device(b, "cpu")
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def float_type(target: Any, who: str) -> np.dtype:
    """The float type that ``to`` is asked for."""
    try:
        dtype = np.dtype(target)
    except (TypeError, ValueError):
        dtype = None
    if target is None or dtype is None or dtype.kind != "f":
        raise TypeError(f"{who}.to: target is {shown(target)}; it must be a device ('cpu', 'gpu') or a float type "
                        "('float32', tinycv.float64)")
    return dtype


def is_dtype(target: str) -> bool:
    """Is it the name of a dtype, and not of a device?"""
    return target.startswith(("float", "int", "uint"))
