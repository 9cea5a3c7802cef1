"""Tensors as Python numbers: item, float, int, bool, round, and f"{loss:.3f}".

Each of these has to wait for a GPU to finish, and raises an error if the tensor has more than one
entry.  ``tolist`` works for any number of entries.
"""

from __future__ import annotations

from math import trunc
from operator import index as whole_number
from typing import Any

import numpy as np

from tinycv.engine import backend, capturing
from tinycv.engine.arguments import shown
from tinycv.engine.signatures import TensorBase


class AsNumber(TensorBase):
    """The methods of Tensor that turn its single entry into a Python number."""

    __slots__ = ()

    def item(self) -> Any:
        """The single value as a Python number (waits for a GPU)."""
        return self._one("item")

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers, or as one number (waits for a GPU)."""
        if capturing.current() is not None:
            self._refuse_to_wait()
        return backend.to_numpy(self._data).tolist()

    def __float__(self) -> float:
        return float(self._one("float"))

    def __int__(self) -> int:
        return self._whole("int", int)

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise TypeError(
                f"a tensor of {self._data.dtype} cannot be an index or a size; only a tensor of "
                "integers can"
            )
        if self._data.size != 1:
            raise TypeError(
                f"a tensor of shape {self._data.shape} is not a single number, so it cannot be an "
                "index or a size"
            )
        return whole_number(self._one("index"))

    def __bool__(self) -> bool:
        return bool(self._one("bool"))

    def __trunc__(self) -> int:
        return self._whole("trunc", trunc)

    def __round__(self, digits: int | None = None) -> Any:
        whole = (
            hasattr(digits, "__index__") and getattr(digits, "dtype", np.dtype(int)).kind in "iu"
        )
        if digits is not None and not whole:
            raise TypeError(f"round: digits is {shown(digits)}; it must be a whole number")
        return self._whole("round", round) if digits is None else round(self._one("round"), digits)

    def __format__(self, spec: str) -> str:
        """f"{loss:.3f}" formats a single number. A tensor with several values takes no format."""
        if self._data.ndim == 0 or (spec and self._data.size == 1):
            try:
                return format(self._one("format"), spec)
            except ValueError:
                raise ValueError(
                    f"format: {spec!r} is not a format for the number {self.item()!r}; use one "
                    "such as '.3f'"
                ) from None
        if spec:
            raise TypeError(
                f"format: {spec!r} is for a single number, and this tensor has shape "
                f"{self._data.shape}; format x.mean(), or the items of x.tolist()"
            )
        return repr(self)

    def _one(self, name: str) -> Any:
        """The single value as a Python number. name: the function that needs it, for errors."""
        if capturing.current() is not None:
            self._refuse_to_wait()
        if self._data.size != 1:
            what = (
                "has no single truth value; use (x > 0).all() or (x > 0).any()"
                if name == "bool"
                else (
                    "is not a single number; reduce it first (.sum(), .mean(), .max()), or use "
                    "x.tolist()"
                )
            )
            raise ValueError(f"{name}: a tensor of shape {self._data.shape} {what}")
        return self._data.item()

    def _whole(self, name: str, function: Any) -> int:
        """The single value as a whole number, by ``function``."""
        value = self._one(name)
        try:
            return function(value)
        except (ValueError, OverflowError):
            raise ValueError(
                f"{name}: the tensor is {value}, which cannot be converted to a whole number"
            ) from None

    def _refuse_to_wait(self) -> None:
        if type(self._data) is not np.ndarray:
            capturing.refuse(
                "a number that is read from the GPU",
                "return the Tensor, and read it after the call",
            )


for _method in list(vars(AsNumber).values()):
    if callable(_method):  # so that Python's errors name Tensor, the class that users know
        _method.__qualname__ = f"Tensor.{_method.__name__}"
