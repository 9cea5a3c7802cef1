"""Operators and methods of Tensor: x + y, x @ y, x.sum(axis), x.reshape(shape), ...

They are rows of ops.py or composed of such rows, so their derivatives follow without further code.
The longer functions are in functions.py, changes in place in in_place.py.

Names, order and meaning of arguments follow NumPy: axis, keepdims, and low, high of clip. differs:
these calls mean something else in PyTorch.

    here                                                 in PyTorch
    x.transpose(0, 1)      all axes, in their new order  exchanges two: here x.swapaxes(0, 1)
    x.split(2)             2 equal sections              sections of size 2
    x.split([1, 5])        cut before 1 and before 5     a section of size 1 and one of size 5
    x.std(), x.var()       divide by n (ddof=0)          divide by n - 1: here ddof=1
    x.norm(1)              the norms along axis 1        the 1-norm of all entries
    x.max(0), x.min(0)     the values                    values and indices: here x.argmax(0)
    x.max(y), x.min(y)     refused                       of each pair: here tinycv.maximum(x, y)
    x.expand(-1, 4)        refused                       -1 keeps the size of an axis
    x.squeeze(0)           refused if its size is not 1  returns x in that case
    x.flip(0, 1)           refused                       flips both: here x.flip((0, 1))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend, ops
from tinycv.engine.arguments import NOT_SIZES, along, is_array, shown, size
from tinycv.engine.backend import Array, Index
from tinycv.engine.door import array_like, device_named, plain_index
from tinycv.engine.functions import std
from tinycv.engine.in_place import set_item, update
from tinycv.engine.operands import FLOAT32, common, operand
from tinycv.engine.tensor import ArrayLike, Tensor, bare, kind_of
from tinycv.engine.torch_names import with_hints
from tinycv.engine.wrong_shapes import unmultipliable


def matmul(a: Tensor | Array, b: Tensor | Array) -> Any:
    """a @ b with the rules of NumPy: a vector on the left is treated as a row, one on the right as
    a column."""
    if isinstance(a, (int, float)) or isinstance(b, (int, float)):
        raise ValueError("matmul: " + unmultipliable(np.shape(a), np.shape(b)))
    for name, x in (("a", a), ("b", b)):
        if not is_array(x):
            operand(x, f"matmul: {name}")  # refuses it
    if a.ndim > 1 and b.ndim > 1 or not (a.ndim and b.ndim):
        return ops.matmul(a, b)
    y = ops.matmul(
        a.reshape((1, -1)) if a.ndim == 1 else a, b.reshape((-1, 1)) if b.ndim == 1 else b
    )
    return y.reshape(
        y.shape[: len(y.shape) - 2]
        + (() if a.ndim == 1 else y.shape[-2:-1])
        + (() if b.ndim == 1 else y.shape[-1:])
    )


def power(a: ArrayLike, b: ArrayLike) -> Any:
    """a ** b. If b is a number, it is not an input of the graph, which makes x ** 2 cheap."""
    if isinstance(b, (int, float, np.number)):
        return ops.pow(a, exponent=b.item() if isinstance(b, np.number) else b)
    return ops.power(a, b)


def _power_operator(self: Tensor, other: Any, modulo: Any = None) -> Any:
    """self ** other, and pow(self, other); pow's third argument is refused."""
    if modulo is not None:
        raise TypeError(
            f"pow: a third argument, {shown(modulo)}, was given, which Tensors do not support; "
            "write x ** y % m instead"
        )
    return _raised(self, other)


def divmod_of(a: ArrayLike, b: ArrayLike) -> tuple:
    """(a // b, a % b)"""
    return ops.floor_divide(a, b), ops.remainder(a, b)


@with_hints
def concatenate(tensors: Sequence[ArrayLike], axis: int = 0) -> Any:
    """Join along an existing axis."""
    return ops.concatenate(*_several("concatenate", tensors), axis=axis)


@with_hints
def stack(tensors: Sequence[ArrayLike], axis: int = 0) -> Any:
    """Join along a new axis."""
    return ops.stack(*_several("stack", tensors), axis=axis)


def _several(name: str, tensors: Any) -> Sequence[Any]:
    """A list of Tensors and arrays to join. Numbers and lists among them become arrays, with the
    common float dtype of the Tensors and arrays."""
    if (
        isinstance(tensors, NOT_SIZES)
        or not isinstance(tensors, Iterable)
        or getattr(tensors, "ndim", 1) == 0
    ):
        raise TypeError(
            f"{name}: tensors is {shown(tensors)}; it must be a list or tuple of Tensors"
        )
    tensors = list(tensors)
    arrays = [
        t
        for t in tensors
        if isinstance(t, (Tensor, np.ndarray)) or backend.array_module(t) is not np
    ]
    # the dtype that floats in lists become
    floats = FLOAT32
    if len(arrays) < len(tensors):
        floats = common(arrays, real=True) or FLOAT32
    members = [array_like(name, t, f"tensors[{i}]", floats) for i, t in enumerate(tensors)]
    if not members:
        raise ValueError(f"{name}: there are no tensors to join")
    return members


@with_hints
def split(x: ArrayLike, sections: int | Sequence[int], axis: int = 0) -> list:
    """Cut x along an axis: into equal sections if ``sections`` is a number, or before the given
    positions if it is a list, as NumPy's split.

    differs: in PyTorch the number is the size of each section, and the list has all sizes.
    """
    tensor = array_like("split", x)
    axis = along(axis, tensor.ndim, "split")
    n = tensor.shape[axis]
    if (
        isinstance(sections, Iterable)
        and getattr(sections, "ndim", 1)
        and not isinstance(sections, NOT_SIZES)
    ):
        cuts = [size(cut, f"split: sections[{i}]", -n) for i, cut in enumerate(sections)]
    else:
        parts = size(sections, "split: sections", 1)
        if n % parts:
            raise ValueError(
                f"split: axis {axis} has size {n}, which does not divide into {parts} equal parts"
            )
        cuts = list(range(n // parts, n, n // parts)) if n else [0] * (parts - 1)
    edges = [0, *cuts, n]
    return [
        getitem(tensor, ops._along(axis, tensor.ndim, slice(start, end)))
        for start, end in zip(edges, edges[1:], strict=False)
    ]


def getitem(x: ArrayLike, index: Index) -> Any:
    """x[index], for slices, integers, arrays and lists of integers (which may repeat), and boolean
    masks."""
    return ops.getitem(x, index=plain_index(index, bare(x)))


def to(self: Tensor, target: DTypeLike) -> Tensor:
    """Move to a device ("cpu", "gpu") or convert to a dtype (tinycv.float64). The gradient is moved
    or converted back.

    differs: a call takes either a device or a dtype, by position.
    """
    if (device := device_named(target, "to")) is not None:
        return self if self.device == device else ops.to(self, device=device)
    return astype(self, kind_of(target, "to"))


def astype(x: Array | Tensor, dtype: DTypeLike = np.float32) -> Any:
    """x in another dtype. Integers and bools are step functions of x, so they get no gradient."""
    dtype = kind_of(dtype, "astype")
    if dtype == x.dtype:
        return x
    return ops.astype(x, dtype=dtype) if dtype.kind == "f" else ops.truncate(x, dtype=dtype)


def _operator(function: Callable, mirrored: str, reflected: bool = False) -> Callable:
    """The method for ``self op other``; if ``reflected``, for ``other op self``.

    If the function refuses ``other``, the class of ``other`` may implement the operator instead, in
    its method ``mirrored``: for x + other that is other.__radd__(x).
    """

    def operator(self: Tensor, other: Any) -> Any:
        try:
            return function(other, self) if reflected else function(self, other)
        except TypeError:
            if not _implements(other, mirrored, self):
                raise
            if isinstance(other, (list, tuple, str, bytes)):
                return NotImplemented
            # Called here, although Python would do so after NotImplemented: if this fails too, the
            # error of ``function`` explains more than that of Python.
            result = getattr(type(other), mirrored)(other, self)
            if result is NotImplemented:
                raise
            return result

    return operator


def _equality(function: Callable) -> Callable:
    """The methods for == and !=. A value that is neither a number nor an array nor a list, such as
    None or "a", is unequal to every tensor."""

    def operator(self: Tensor, other: Any) -> Any:
        try:
            return function(self, other)
        except TypeError:
            if _is_array(other) or isinstance(other, (list, tuple)):
                raise
            return NotImplemented

    return operator


def _implements(other: Any, mirrored: str, x: Tensor) -> bool:
    """May ``other``, which no op takes, implement the operator itself? A user's class may, and a
    list or a string can be repeated: [0] * x for a single integer x. Other types of Python and
    NumPy do not count, because the error of the op is clearer than theirs."""
    if isinstance(other, (list, tuple, str, bytes)):
        return mirrored in ("__mul__", "__rmul__") and not x.ndim and x.dtype.kind in "iu"
    method = getattr(type(other), mirrored, None)
    foreign = not _is_array(other) and type(other).__module__.partition(".")[0] not in (
        "builtins",
        "numpy",
    )
    return foreign and method is not None and method is not getattr(object, mirrored, None)


def _is_array(value: Any) -> bool:
    """Is it a NumPy array, a CuPy array or a Tensor?"""
    return (
        isinstance(value, (Tensor, np.ndarray, np.generic)) or backend.array_module(value) is not np
    )


def _contains(self: Tensor, value: Any) -> bool:
    """``value in x``: is any entry equal to it?"""
    equal = self == value
    return equal if isinstance(equal, bool) else bool(equal.any())


def _augmented(symbol: str, name: str, function: Callable) -> Callable:
    """The method for x += y: in place if no gradient can become wrong, otherwise x becomes a new
    tensor (see in_place.py)."""
    mirrored = name.replace("__i", "__r")

    def operator(self: Tensor, other: Any) -> Tensor:
        try:
            done = update(self, symbol, name, function, other)
        except TypeError:
            if _implements(other, mirrored, self):
                return NotImplemented
            raise
        return self if done else function(self, other)

    return operator


def _shape_args(method: str, name: str, function: Callable) -> Callable:
    """A method that takes a shape in three ways: x.reshape(2, 3), x.reshape((2, 3)) and
    x.reshape(shape=(2, 3))."""

    def call(self: Tensor, *numbers: Any, **named: Any) -> Tensor:
        if named:
            if numbers or named.keys() != {name}:
                raise TypeError(
                    f"{method}: it takes only {name}, by position or by name, but got {numbers} by "
                    f"position and {', '.join(named)} by name"
                )
            numbers = (named[name],)
        return function(
            self, numbers[0] if len(numbers) == 1 and not isinstance(numbers[0], int) else numbers
        )

    return call


def _axes(axes: Any) -> Any:
    """The axes of a transpose: a tuple of whole numbers, or None to reverse all axes."""
    if isinstance(axes, list) or getattr(axes, "ndim", 0) == 1:
        axes = tuple(bare(axes))
    return None if isinstance(axes, tuple) and not axes else axes


BINARY = {  # each becomes three methods, such as __add__, __radd__ and __iadd__
    "add": ("+", ops.add),
    "sub": ("-", ops.sub),
    "mul": ("*", ops.mul),
    "truediv": ("/", ops.div),
    "floordiv": ("//", ops.floor_divide),
    "mod": ("%", ops.remainder),
    "pow": ("**", power),
    "and": ("&", ops.bitwise_and),
    "or": ("|", ops.bitwise_or),
    "xor": ("^", ops.bitwise_xor),
}
_raised = _operator(power, "__rpow__")
ORDERS = {
    "gt": ("lt", ops.greater),
    "ge": ("le", ops.greater_equal),
    "lt": ("gt", ops.less),
    "le": ("ge", ops.less_equal),
}
OPERATORS = {
    **{
        f"__{name}__": _operator(function, f"__r{name}__") for name, (_, function) in BINARY.items()
    },
    **{
        f"__r{name}__": _operator(function, f"__{name}__", reflected=True)
        for name, (_, function) in BINARY.items()
    },
    **{
        f"__i{name}__": _augmented(f"{symbol}=", f"__i{name}__", function)
        for name, (symbol, function) in BINARY.items()
    },
    **{
        f"__{name}__": _operator(function, f"__{mirrored}__")
        for name, (mirrored, function) in ORDERS.items()
    },
    "__pow__": _power_operator,
    "__divmod__": _operator(divmod_of, "__rdivmod__"),
    "__rdivmod__": _operator(divmod_of, "__divmod__", reflected=True),
    "__matmul__": _operator(matmul, "__rmatmul__"),
    "__rmatmul__": _operator(matmul, "__matmul__", reflected=True),
    "__eq__": _equality(ops.equal),
    "__ne__": _equality(ops.not_equal),
    "__contains__": _contains,
    "__neg__": ops.neg,
    "__pos__": lambda self: self,
    "__abs__": ops.abs,
    "__invert__": ops.bitwise_not,
    "__getitem__": getitem,
    "__setitem__": set_item,
    # Python removes __hash__ from a class with its own __eq__; Tensors are hashed by identity.
    "__hash__": object.__hash__,
}
# methods that are simply ops of the table
ROWS = (
    "exp log sqrt tanh sigmoid relu abs clip sum mean var max min logsumexp norm cumsum "
    "swapaxes squeeze unsqueeze flip argmax argmin any all"
)
METHODS = {
    **{name: getattr(ops, name) for name in ROWS.split()},
    "astype": astype,
    "reshape": _shape_args("reshape", "shape", lambda x, shape: ops.reshape(x, shape=shape)),
    "transpose": _shape_args(
        "transpose", "axes", lambda x, axes: ops.transpose(x, axes=_axes(axes))
    ),
    "expand": _shape_args("expand", "shape", lambda x, shape: ops.expand(x, shape=shape)),
    "std": std,
    "split": split,
    "to": to,
    "T": property(lambda self: ops.transpose(self)),
}
for _name, _function in {**OPERATORS, **METHODS}.items():
    setattr(Tensor, _name, _function)
