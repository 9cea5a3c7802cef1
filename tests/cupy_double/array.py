"""The array class of the double of CuPy: it holds a NumPy array and refuses what CuPy refuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .indexing import prepared
from .world import NAMES, WORLD, Device


def unwrap(value: Any) -> Any:
    """What NumPy gets for an argument: the contents of a double's array; scalars and strings as
    they are. An array of the host is refused."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, tuple | list):
        return type(value)(unwrap(part) for part in value)
    if isinstance(value, np.generic | type | np.dtype) or not hasattr(value, "__array_ufunc__"):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def wrap(result: Any, *parents: Any) -> Any:
    """NumPy's result as CuPy gives it: arrays, 0-d where NumPy has a scalar; a view knows its base.
    What is no view of a parent was computed, or copied: that counts as one launch, however many
    CuPy needs."""
    if isinstance(result, tuple | list):
        return type(result)(wrap(part, *parents) for part in result)
    if not isinstance(result, np.ndarray | np.generic):
        return result
    array = object.__new__(ndarray)
    array._a, array._base, array._device = np.asarray(result), None, WORLD.device
    for parent in parents:
        if isinstance(parent, ndarray) and np.may_share_memory(array._a, parent._a):
            array._base, array._device = (
                parent if parent._base is None else parent._base,
                parent._device,
            )
    WORLD.launches += array._base is None and array.size > 0
    return array


class Flags:
    """cupy's flags: three facts about the layout, nothing about writing."""

    def __init__(self, array: np.ndarray, owndata: bool):
        self.c_contiguous, self.f_contiguous = array.flags.c_contiguous, array.flags.f_contiguous
        self.owndata, self.forc = owndata, array.flags.forc

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())


class MemoryPointer:
    """The address at which an array's memory starts."""

    def __init__(self, array: ndarray):
        self.ptr, self.device_id, self.device = (
            array._a.ctypes.data,
            array._device,
            Device(array._device),
        )


class ndarray:
    """cupy.ndarray. It wraps a NumPy array and is no subclass, so that it has no methods by
    accident."""

    __slots__ = ("_a", "_base", "_device", "__weakref__")
    __array_priority__ = 100
    __hash__ = None

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the double makes arrays from a shape only")
        self._a, self._base, self._device = np.empty(shape, dtype, order), None, WORLD.device

    def __getattr__(self, name: str) -> Any:
        if name in NAMES["cupy.ndarray"]:
            raise AttributeError(f"cupy.ndarray.{name} exists, but the double does not simulate it")
        raise AttributeError(
            f"'cupy.ndarray' object has no attribute {name!r} in CuPy {NAMES['version']}"
        )

    # ── what NumPy must not do with it ──
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        # np.float32(2) * array arrives here too, and is fine; np.exp(array) works in CuPy, but by
        # mistake.
        if method == "__call__" and not kwargs and isinstance(inputs[0], np.generic):
            return wrap(ufunc(*(unwrap(part) for part in inputs)))
        raise TypeError(
            f"numpy.{ufunc.__name__} was handed a cupy.ndarray: call the array's own module"
        )

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(
            f"numpy.{function.__name__} was handed a cupy.ndarray: call the array's own module"
        )

    # ── facts ──
    shape = property(
        lambda self: self._a.shape, lambda self, shape: setattr(self._a, "shape", shape)
    )
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    strides = property(lambda self: self._a.strides)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    base = property(lambda self: self._base)
    device = property(lambda self: Device(self._device))
    flags = property(lambda self: Flags(self._a, self._base is None))
    data = property(MemoryPointer)
    T = property(lambda self: wrap(self._a.T, self))
    mT = property(lambda self: wrap(self._a.mT, self))
    real = property(lambda self: wrap(self._a.real, self))
    imag = property(lambda self: wrap(self._a.imag, self))

    def __len__(self) -> int:
        return len(self._a)

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # ── what waits ──
    def _host(self) -> np.ndarray:
        WORLD.wait()
        return self._a

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        host = self._host()
        if out is None:
            return host.copy(order)
        out[...] = host
        return out

    def item(self, *index: int) -> Any:
        return self._host().item(*index)

    def tolist(self) -> Any:
        return self._host().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self._host().tobytes(order)

    def __bool__(self) -> bool:
        return bool(self._host())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __repr__(self) -> str:
        return repr(self._host())

    def __str__(self) -> str:
        return str(self._host())

    def __format__(self, spec: str) -> str:
        return format(self._host() if self.ndim else self.item(), spec)

    def __reduce__(self) -> Any:
        return _revived, (self._host(),)

    # ── copies and views ──
    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: str = "unsafe",
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        made = self._a.astype(dtype, order=order, casting=casting, copy=copy)
        return self if made is self._a else wrap(made)

    def copy(self, order: str = "C") -> ndarray:
        return wrap(self._a.copy(order))

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def view(self, dtype: Any = None) -> ndarray:
        return wrap(self._a.view() if dtype is None else self._a.view(dtype), self)

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        return wrap(self._a.reshape(*shape, order=order), self)

    def transpose(self, *axes: Any) -> ndarray:
        return wrap(self._a.transpose(*axes), self)

    def flatten(self, order: str = "C") -> ndarray:
        return wrap(self._a.flatten(order))

    def fill(self, value: Any) -> None:
        WORLD.launches += 1
        self._a.fill(unwrap(value))

    def sort(self, axis: int = -1, *, kind: Any = None) -> None:
        self._a.sort(axis)

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        np.copyto(self._a, arr, casting="no")

    # ── indices ──
    def __getitem__(self, index: Any) -> ndarray:
        index = prepared(index, self.shape)
        if any(isinstance(part, np.ndarray) and part.dtype.kind == "b" for part in index):
            WORLD.wait()  # how many are True?
        return wrap(self._a[index], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, tuple | list):
            raise TypeError(f"Unsupported type {type(value)}")
        WORLD.launches += 1
        self._a[prepared(index, self.shape)] = unwrap(value)


def _revived(host: np.ndarray) -> ndarray:
    return wrap(host.copy())
