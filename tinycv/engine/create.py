"""Tensors from nothing: names as PyTorch's and NumPy's. Random ones are drawn on the host, so that every backend starts
from the same numbers (``manual_seed`` sets them)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.tensor import Tensor, as_array


def tensor(data: Any, dtype: Any = None, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of data (``Tensor(data)`` shares memory with an array)."""
    return Tensor(backend.to_device(as_array(data).copy(), backend.resolve(device)), dtype, None, requires_grad)


def zeros(*shape: Any, dtype: Any = "float32", device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """A Tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    return full(_shape(shape), 0, dtype, device, requires_grad)


def ones(*shape: Any, dtype: Any = "float32", device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """A Tensor of ones."""
    return full(_shape(shape), 1, dtype, device, requires_grad)


def full(shape: tuple, value: float, dtype: Any = "float32", device: str = "cpu",
         requires_grad: bool = False) -> Tensor:
    """A Tensor of one value everywhere."""
    return Tensor(backend.module_for(backend.resolve(device)).full(shape, value, dtype), None, device, requires_grad)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape, dtype and device of x."""
    return full(x.shape, 0, x.dtype, x.device)


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape, dtype and device of x."""
    return full(x.shape, 1, x.dtype, x.device)


def eye(n: int, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """The identity matrix (n, n)."""
    return Tensor(np.eye(n, dtype=dtype), None, device)


def arange(*limits: float, dtype: Any = None, device: str = "cpu") -> Tensor:
    """0, 1, ... below a limit; NumPy's arguments (start, stop, step). Integers unless dtype says otherwise."""
    return Tensor(np.arange(*limits), dtype, device)


def randn(*shape: Any, dtype: Any = "float32", device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """Standard normal numbers."""
    draw = backend.host_generator().standard_normal(_shape(shape))
    return Tensor(draw.astype(dtype), None, device, requires_grad)


def rand(*shape: Any, dtype: Any = "float32", device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """Uniform on [0, 1)."""
    return Tensor(backend.host_generator().random(_shape(shape)).astype(dtype), None, device, requires_grad)


def _shape(shape: tuple) -> tuple:
    """randn(2, 3) and randn((2, 3)) mean the same."""
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
