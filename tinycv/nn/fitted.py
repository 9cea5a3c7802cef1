"""What may go into a Tensor of a Module: arrays that are loaded, and the float types of ``to``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.door import kind_of
from tinycv.engine.tensor import Tensor, as_array


class Misshaped(ValueError):
    """Of another shape than the Tensor that it should be loaded into."""


def fitted(value: Any, target: Tensor) -> np.ndarray:
    """A copy of ``value`` on the host, in the shape and dtype of ``target``. ValueError or
    TypeError if it overflows, or an integer would change; values below the dtype's range become
    0."""
    array = as_array(value, floats=target.dtype)
    if array.shape != target.shape:
        raise Misshaped(f"is {array.shape}, should be {target.shape}")
    array, dtype = np.asarray(backend.to_numpy(array)), target.dtype
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
        dtype = kind_of(target)
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind != "f":
        raise TypeError(
            f"{who}.to: target is {shown(target)}; it must be a device ('cpu', 'gpu') or a float "
            "type ('float32', tinycv.float64)"
        )
    return dtype
