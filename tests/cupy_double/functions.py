"""CuPy's functions and ufuncs for the double: the names of CuPy 14.2, computed by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import ndarray, unwrap, wrap
from .indexing import prepared
from .operators import operand, widened
from .world import NAMES, WORLD

# Names of arguments that must be host integers: a 0-d array there would need CuPy's missing
# __index__.
HOST = {
    "shape",
    "newshape",
    "axis",
    "axes",
    "reps",
    "N",
    "M",
    "n",
    "k",
    "start",
    "stop",
    "step",
    "num",
    "dims",
    "decimals",
    "repeats",
    "ndmin",
    "shift",
    "minlength",
    "indices_or_sections",
    "window_shape",
    "strides",
}
OPEN_ENDED = {
    "args",
    "kwargs",
    "kwds",
    "operands",
    "xi",
    "arys",
    "arrays",
    "arrays_and_dtypes",
    "varargs",
}
WAITS = {
    "nonzero",
    "flatnonzero",
    "argwhere",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "extract",
    "compress",
    "bincount",
    "trim_zeros",
    "array_str",
    "array_repr",
    "array2string",
}
NO_WORK = {"empty", "empty_like"}  # memory is reserved, and nothing is done to it
RENAMED = {"newshape": "shape"}  # NumPy's name for the same argument
ARRAY_FIRST = {"a", "x", "ar", "arr", "a1", "m", "ary"}
TAKE_SEQUENCES = {"ndim", "shape", "size", "copy", "asfortranarray", "ascontiguousarray"}
PYTHON_BOOL = {"allclose", "array_equal", "array_equiv"}  # 0-d arrays in CuPy


def function(name: str, act: Callable[..., Any], params: list[str] | None) -> Callable[..., Any]:
    """``act`` with CuPy's signature: refuses arguments that ``params`` does not list. None:
    unknown."""
    act = _matmul if name == "matmul" else act

    def call(*args: Any, **kwargs: Any) -> Any:
        _check_call(name, params, args, kwargs)
        if name in WAITS or name == "where" and len(args) == 1:
            WORLD.wait()
        if name == "where" and len(args) == 3 and isinstance(args[0], bool | int | float):
            raise AttributeError(f"{type(args[0]).__name__!r} object has no attribute 'astype'")
        named = params if params and not OPEN_ENDED & set(params) else [None] * len(args)
        plain = [
            part if label in HOST else unwrap(part)
            for label, part in zip(named, args, strict=False)
        ]
        words = {
            RENAMED.get(key, key): part if key in HOST else unwrap(part)
            for key, part in kwargs.items()
        }
        result = act(*plain, **words)
        if kwargs.get("out") is not None:
            WORLD.launches += 1
            return kwargs["out"]
        if name in PYTHON_BOOL:
            result = np.bool(result)
        made = wrap(result, *args, *(args[0] if args and isinstance(args[0], tuple | list) else ()))
        WORLD.launches -= name in NO_WORK and made.size > 0
        return made

    call.__name__ = call.__qualname__ = name
    return call


def _matmul(*operands: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    made = np.matmul(*widened(*operands), out=out, casting="same_kind")
    return made if out is not None else made.astype(np.result_type(*operands), copy=False)


def _check_call(
    name: str, params: list[str] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if params is None:
        return
    if not OPEN_ENDED & set(params):
        if len(args) > len(params):
            raise TypeError(f"cupy.{name} takes {len(params)} arguments, not {len(args)}")
        if (
            args
            and params
            and params[0] in ARRAY_FIRST
            and isinstance(args[0], tuple | list)
            and (name not in TAKE_SEQUENCES)
        ):
            raise TypeError(f"cupy.{name}: unsupported type {type(args[0])}")
    if not {"kwargs", "kwds"} & set(params) and (strange := set(kwargs) - set(params)):
        raise TypeError(f"cupy.{name} has no argument {sorted(strange)} in CuPy {NAMES['version']}")


class ufunc:
    """cupy.ufunc: no where=; reduce and accumulate for add and multiply only; at where atomics
    exist."""

    def __init__(self, name: str, nin: int, nout: int):
        self.name = self.__name__ = name
        self.nin, self.nout, self.nargs = nin, nout, nin + nout
        self._act = getattr(np, name)

    def __call__(
        self,
        *args: Any,
        out: Any = None,
        dtype: Any = None,
        casting: str = "same_kind",
        **strange: Any,
    ) -> Any:
        if strange:
            raise TypeError(
                f"Wrong arguments {strange}: cupy.{self.name} takes out, dtype and casting"
            )
        if len(args) not in (self.nin, self.nargs):
            raise TypeError(f"cupy.{self.name} takes {self.nin} arguments, not {len(args)}")
        out = args[self.nin :] or (out if isinstance(out, tuple) or out is None else (out,))
        inputs = [operand(part) for part in args[: self.nin]]
        if not isinstance(self._act, np.ufunc):
            return self._without_out(inputs, out, dtype)
        if out and not all(isinstance(part, ndarray) for part in out):
            raise TypeError("return arrays must be of cupy.ndarray")
        result = self._act(*inputs, out=unwrap(out) if out else None, dtype=dtype, casting=casting)
        if not out:
            return wrap(result)
        WORLD.launches += 1
        return out[0] if self.nout == 1 else out

    def _without_out(self, inputs: list[Any], out: Any, dtype: Any) -> Any:
        """sinc, i0 and fix are ufuncs in CuPy and functions in NumPy."""
        result = wrap(self._act(*inputs).astype(dtype) if dtype else self._act(*inputs))
        if not out:
            return result
        out[0]._a[...] = result._a
        return out[0]

    def _only(self, method: str, names: tuple[str, ...]) -> None:
        if self.name not in names:
            raise NotImplementedError(f"`cupy.{self.name}.{method}` is not supported yet")

    def reduce(
        self,
        array: ndarray,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
    ) -> ndarray:
        self._only("reduce", ("add", "multiply"))
        result = self._act.reduce(
            operand(array), axis=axis, dtype=dtype, out=unwrap(out), keepdims=keepdims
        )
        return wrap(result) if out is None else out

    def accumulate(
        self, array: ndarray, axis: int = 0, dtype: Any = None, out: Any = None
    ) -> ndarray:
        self._only("accumulate", ("add", "multiply"))
        result = self._act.accumulate(operand(array), axis=axis, dtype=dtype, out=unwrap(out))
        return wrap(result) if out is None else out

    def outer(self, a: Any, b: Any) -> ndarray:
        return wrap(self._act.outer(operand(a), operand(b)))

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        self._only("at", ("add", "subtract", "maximum", "minimum"))
        if a.dtype.char not in "ilILqQefd":
            raise TypeError(f"cupy.{self.name}.at is not supported for {a.dtype}")
        WORLD.launches += 1
        self._act.at(a._a, prepared(indices, a.shape), operand(b))


def take(a: ndarray, indices: Any, axis: int | None = None, out: ndarray | None = None) -> ndarray:
    """cupy.take: an index out of range wraps around."""
    # the host's are copied over
    indices = indices if isinstance(indices, np.ndarray) else unwrap(indices)
    result = np.take(unwrap(a), indices, axis, out=unwrap(out), mode="wrap")
    return wrap(result) if out is None else out


def take_along_axis(a: ndarray, indices: ndarray, axis: int | None) -> ndarray:
    """cupy.take_along_axis: an index out of range wraps around."""
    length = a.size if axis is None else a.shape[axis]
    return wrap(np.take_along_axis(unwrap(a), unwrap(indices) % length, axis))


def argmax_like(name: str) -> Callable[..., ndarray]:
    """argmax and argmin have an argument dtype in CuPy, which NumPy lacks."""

    def call(
        a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> ndarray:
        result = wrap(getattr(np, name)(_array(a), axis=axis, out=unwrap(out), keepdims=keepdims))
        return (result if dtype is None else result.astype(dtype)) if out is None else out

    return call


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    blocking: bool = False,
) -> ndarray:
    """cupy.array: from the host, from arrays, from nested lists of both."""
    if isinstance(obj, ndarray) and not copy:
        made = np.array(obj._a, dtype, copy=None, order=order, ndmin=ndmin)
        return obj if made is obj._a else wrap(made, obj)
    host = obj if isinstance(obj, np.ndarray) else unwrap(obj)
    return wrap(np.array(host, dtype, order=order, ndmin=ndmin))


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    """cupy.asarray: returns the same object if nothing has to change."""
    return array(a, dtype, copy=bool(copy), order=order or "K")


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    """cupy.asnumpy: waits for an array of the device; returns host data as it is."""
    return (
        a.get(stream, order, out, blocking)
        if isinstance(a, ndarray)
        else np.asarray(a, order=order)
    )


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """cupy.ascontiguousarray: takes arrays of the host too."""
    return array(a, dtype, copy=False, order="C", ndmin=1)


SPECIAL = {
    "take": take,
    "take_along_axis": take_along_axis,
    "argmax": argmax_like("argmax"),
    "argmin": argmax_like("argmin"),
    "array": array,
    "asarray": asarray,
    "asanyarray": asarray,
    "asnumpy": asnumpy,
    "ascontiguousarray": ascontiguousarray,
}


def _array(a: Any) -> np.ndarray:
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    return a._a


def method(name: str) -> Callable[..., Any]:
    """The array method of the same name as a function: same arguments after the array."""
    act = SPECIAL.get(name) or function(name, getattr(np, name), NAMES["cupy"][name])
    return lambda self, *args, **kwargs: act(self, *args, **kwargs)


# in place as a method
for _name in set(NAMES["cupy.ndarray"]) & set(NAMES["cupy"]) - {"partition"}:
    if not hasattr(ndarray, _name) and hasattr(np, _name) and not _name.startswith("_"):
        setattr(ndarray, _name, method(_name))
