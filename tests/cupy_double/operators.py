"""The operators of the double's array class, which are added to the class here."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from .array import ndarray, unwrap, wrap
from .world import WORLD


def _defers(other: Any) -> bool:
    """Does CuPy leave the operation to ``other``? It does for classes that ask for it, as
    Tensor."""
    if isinstance(other, ndarray | np.ndarray | np.generic):
        return False
    return (
        getattr(other, "__array_ufunc__", 0) is None
        or getattr(other, "__array_priority__", 0) > 100
    )


def operand(value: Any) -> Any:
    """A ufunc's operand beside an array: another array, or a scalar of NumPy or Python. Else
    TypeError."""
    if isinstance(value, ndarray | np.generic | int | float | complex):
        return unwrap(value)
    raise TypeError(f"Unsupported type {type(value)}")


def _forward(function: Any) -> Any:
    return lambda self, other: (
        NotImplemented if _defers(other) else wrap(function(self._a, operand(other)))
    )


def _elementwise(function: np.ufunc) -> Any:
    forward = _forward(function)

    def operator(self: ndarray, other: Any) -> Any:
        if isinstance(other, ndarray) and self.size * other.size > WORLD.memory // 2:
            _reserve(np.broadcast_shapes(self.shape, other.shape), self.itemsize)
        return forward(self, other)

    return operator


class OutOfMemoryError(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""

    def __init__(self, size: int, total: int):
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes)."
        )


def _reserve(shape: tuple[int, ...], itemsize: int) -> None:
    size = math.prod(shape) * itemsize
    if size > WORLD.memory // 2:
        raise OutOfMemoryError(size, 0)


def _reflected(function: Any) -> Any:
    return lambda self, other: (
        NotImplemented if _defers(other) else wrap(function(operand(other), self._a))
    )


def _in_place(function: np.ufunc) -> Any:
    def update(self: ndarray, other: Any) -> Any:
        if _defers(other):
            return NotImplemented
        function(self._a, operand(other), out=self._a)
        WORLD.launches += 1
        return self

    return update


def _unary(function: Any) -> Any:
    return lambda self: wrap(function(self._a))


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if WORLD.cause == "library":
        raise ImportError(
            "libcublas.so.13: cannot open shared object file: No such file or directory"
        )
    count_copies(a, b)
    return np.matmul(*widened(a, b)).astype(np.result_type(a, b), copy=False)


def widened(*operands: np.ndarray) -> list[np.ndarray]:
    """float16 as float32, in which cuBLAS adds up such products. NumPy's own products of float16
    take 100 times as long."""
    return [x.astype(np.float32) if x.dtype == np.float16 else x for x in operands]


def count_copies(*operands: np.ndarray) -> None:
    """What CuPy 14.2 copies before a product: matrices that are not contiguous, and in stacks also
    those that are transposed."""
    stacked = max(x.ndim for x in operands) > 2
    WORLD.launches += sum(not (x.flags.c_contiguous if stacked else x.flags.forc) for x in operands)


def _refused_in_place(self: ndarray, other: Any) -> Any:
    raise TypeError(
        "CuPy has no in-place @=: Python would rebind the name and leave the array as it was"
    )


_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
for _name, _ufunc in _BINARY.items():
    setattr(ndarray, f"__{_name}__", _elementwise(_ufunc))
    setattr(ndarray, f"__r{_name}__", _reflected(_ufunc))
    setattr(ndarray, f"__i{_name}__", _in_place(_ufunc))
for _name, _function in {"matmul": _matmul, "divmod": np.divmod}.items():
    setattr(ndarray, f"__{_name}__", _forward(_function))
    setattr(ndarray, f"__r{_name}__", _reflected(_function))
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _forward(getattr(operator, _name)))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(getattr(operator, _name)))
ndarray.__imatmul__ = _refused_in_place
