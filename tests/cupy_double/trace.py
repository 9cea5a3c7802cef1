"""Records the calls that a program makes to the double, so that real CuPy can be given the same.

with traced() as calls:      one call of every kind: name, and types, axes, layouts of arguments
    ...
for call in calls:
    problem = difference(call, cupy)   "" if real CuPy does the same: values, dtypes, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from . import _MODULES
from .array import ndarray
from .functions import ufunc

MODULES = ("cupy", "cupy.linalg", "cupyx.scipy.special")
UFUNC = ("__call__", "reduce", "accumulate", "outer", "at")
LEFT_OUT = {
    "__getattr__",
    "__init__",
    "__new__",
    "__array__",
    "__array_ufunc__",
    "__array_function__",
    "__getattribute__",
    "__setattr__",
    "__delattr__",
    "__dir__",
    "__class__",
    "__repr__",
    "__str__",
    "__format__",
    "__hash__",
    "__sizeof__",
    "__iter__",
    "__subclasshook__",
    "__init_subclass__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "get_default_memory_pool",
    "get_default_pinned_memory_pool",
    "is_available",
    "get_array_module",
}
UNSET = {"empty", "empty_like", "ndarray"}  # whose contents mean nothing
RTOL = {"e": 4e-3, "f": 2e-5, "d": 1e-11, "F": 2e-5, "D": 1e-11}


@dataclass(frozen=True, eq=False)
class Host:
    """An array of the device at one time: its values, and the order of its axes in memory."""

    values: np.ndarray


class Call(NamedTuple):
    """One call: its module ("ndarray" for a method; "ufunc" for a method of the ufunc that is the
    first argument), its arguments and its result."""

    module: str
    name: str
    args: tuple
    words: dict[str, Any]
    result: Any
    after: tuple  # the arguments afterwards: some are written to
    error: type | None

    def __str__(self) -> str:
        words = [shown(a) for a in self.args] + [
            f"{key}={shown(a)}" for key, a in self.words.items()
        ]
        return f"{self.module}.{self.name}({', '.join(words)})"


def shown(value: Any) -> str:
    if isinstance(value, Host):
        turned = "" if value.values.flags.c_contiguous else " turned"
        return f"{value.values.dtype}{list(value.values.shape)}{turned}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(shown, value))})"
    return (
        f"host {value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
    )


def kind(value: Any) -> str:
    """Like ``shown``, but with 0, 1 or n for each length, since CuPy compiles for types, axes and
    layouts, not for sizes."""
    if isinstance(value, Host):
        lengths = "".join("01n"[min(n, 2)] for n in value.values.shape)
        return f"{value.values.dtype}[{lengths}]{value.values.flags.c_contiguous}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(kind, value))})"
    return (
        shown(value)
        if isinstance(value, bool | str | np.ndarray) or value is None
        else type(value).__name__
    )


def held(value: Any, seen: dict[int, Host]) -> Any:
    """The double's arrays as Hosts, also within tuples and lists. They are copied; an array that
    occurs twice is copied once."""
    if isinstance(value, ndarray):
        return seen.setdefault(id(value), Host(np.array(value._a, order="K")))
    if isinstance(value, tuple | list):
        return type(value)(held(part, seen) for part in value)
    return value.copy() if isinstance(value, np.ndarray) else value


@contextmanager
def traced() -> Iterator[list[Call]]:
    """Records the calls of a block of code that runs on the double, one of each kind."""
    found: dict[str, Call] = {}
    busy = [False]

    def watched(module: str, name: str, act: Callable) -> Callable:
        @wraps(act)
        def call(*args: Any, **words: Any) -> Any:
            if busy[0]:
                return act(*args, **words)
            busy[0] = True
            try:
                seen: dict[int, Host] = {}
                given = tuple(a.name if isinstance(a, ufunc) else held(a, seen) for a in args)
                kept = {key: held(a, seen) for key, a in words.items()}
                key, result, error = (
                    f"{module} {name} {kind(given)} {kind(tuple(kept.items()))}",
                    None,
                    None,
                )
                try:
                    result = act(*args, **words)
                    return result
                except Exception as problem:
                    error = type(problem)
                    raise
                finally:
                    if key not in found and result is not NotImplemented:
                        after = tuple(held(a, {}) for a in args if not isinstance(a, ufunc))
                        found[key] = Call(module, name, given, kept, held(result, {}), after, error)
            finally:
                busy[0] = False

        return call

    places = [
        (ndarray, "ndarray", name)
        for name, act in vars(ndarray).items()
        if callable(act) and not isinstance(act, type) and name not in LEFT_OUT
    ]
    places += [(ufunc, "ufunc", name) for name in UFUNC]
    places += [
        (_MODULES[module], module, name)
        for module in MODULES
        for name, act in vars(_MODULES[module]).items()
        if callable(act)
        and not isinstance(act, type | ufunc)
        and name not in LEFT_OUT
        and name[0] != "_"
    ]
    before = [(home, name, vars(home)[name]) for home, _, name in places]
    for (home, module, name), (_, _, act) in zip(places, before, strict=True):
        setattr(home, name, watched(module, name, act))
    try:
        calls: list[Call] = []
        yield calls
    finally:
        for home, name, act in before:
            setattr(home, name, act)
    calls += found.values()


def difference(call: Call, modules: dict[str, Any]) -> str:
    """How the result of the call in these modules (by the names of MODULES) differs from that of
    the double; "" if it does not."""
    cupy = modules["cupy"]
    seen: dict[int, Any] = {}
    args = tuple(alive(cupy, a, seen) for a in call.args)
    words = {key: alive(cupy, a, seen) for key, a in call.words.items()}
    try:
        if call.module == "ndarray":
            act, rest = getattr(args[0], call.name), args[1:]
        elif call.module == "ufunc":
            of = getattr(cupy, args[0])
            act, rest, args = getattr(of, call.name), args[1:], args[1:]
        else:
            act, rest = getattr(modules[call.module], call.name), args
        result = act(*rest, **words)
    except Exception as problem:
        return (
            ""
            if call.error and isinstance(problem, Exception)
            else f"raised {type(problem).__name__}: {problem}"
        )
    if call.error:
        return f"gave {shown(host(cupy, result))}, where the double raised {call.error.__name__}"
    if call.name in UNSET:
        return apart(host(cupy, result), call.result, None)
    scale = max(
        (
            float(np.max(np.abs(a.values), where=np.isfinite(a.values), initial=0))
            for a in seen_in(call.args)
            # of a sum that cancels, the terms are large
            if a.values.dtype.kind in "fc"
        ),
        default=0.0,
    )
    return apart(host(cupy, result), call.result, scale) or next(
        (
            f"left argument {i} otherwise: {problem}"
            for i, (a, b) in enumerate(zip(args, call.after, strict=True))
            if (problem := apart(host(cupy, a), b, scale))
        ),
        "",
    )


def seen_in(value: Any) -> list[Host]:
    """All Hosts in nested tuples and lists."""
    if isinstance(value, tuple | list):
        return [each for part in value for each in seen_in(part)]
    return [value] if isinstance(value, Host) else []


def alive(cupy: Any, value: Any, seen: dict[int, Any]) -> Any:
    """Hosts as arrays of the device, with the same order of axes in memory. One array per Host."""
    if isinstance(value, Host) and id(value) not in seen:
        a = value.values
        order = sorted(range(a.ndim), key=lambda axis: -a.strides[axis])
        there = cupy.array(np.array(a.transpose(order), order="C"))
        seen[id(value)] = (
            there.transpose(sorted(range(a.ndim), key=order.__getitem__)) if order else there
        )
    if isinstance(value, Host):
        return seen[id(value)]
    if isinstance(value, tuple | list):
        return type(value)(alive(cupy, part, seen) for part in value)
    return value


def host(cupy: Any, value: Any) -> Any:
    """Arrays of the device as Hosts."""
    if isinstance(value, cupy.ndarray):
        return Host(cupy.asnumpy(value))
    return (
        type(value)(host(cupy, part) for part in value)
        if isinstance(value, tuple | list)
        else value
    )


def apart(found: Any, expected: Any, scale: float | None) -> str:
    """How two results differ; "" if they do not. scale: rounding errors are in proportion to it;
    None if the values mean nothing."""
    if isinstance(expected, tuple | list):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"gave {shown(found)}, the double {shown(expected)}"
        return next(
            (p for a, b in zip(found, expected, strict=True) if (p := apart(a, b, scale))), ""
        )
    if not (isinstance(found, Host) and isinstance(expected, Host)):
        same = type(found) is type(expected) and (
            not isinstance(found, int | float | np.ndarray)
            or np.allclose(found, expected, rtol=1e-5, equal_nan=True)
        )
        return "" if same else f"gave {shown(found)}, the double {shown(expected)}"
    a, b = found.values, expected.values
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"gave {shown(found)}, the double {shown(expected)}"
    if scale is None:
        return ""
    if b.dtype.kind in "fc":
        scale = max(scale, float(np.max(np.abs(b), where=np.isfinite(b), initial=0)))
    rtol = RTOL.get(b.dtype.char, 0.0)
    if not np.allclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=b.dtype.kind in "fc"):
        wrong = np.flatnonzero(
            ~np.isclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=b.dtype.kind in "fc")
        )[:4]
        ours, theirs = (x.reshape(-1)[wrong].tolist() for x in (b, a))
        return f"gave {theirs} at {wrong.tolist()}, the double {ours}"
    return ""
