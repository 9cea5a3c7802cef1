"""What users type: the table's ops as Tensor operators and methods, and the few functions that need
more than a row.

Everything here is composed of rows of ops.py, so nothing here has a derivative of its own. The
longer functions are in functions.py, changes in place in in_place.py.

Names, order and meaning of arguments are NumPy's: axis, keepdims, and low, high of clip. differs:
these calls mean something else in PyTorch.

    x.transpose(0, 1)      all axes, in their new order  PyTorch exchanges two: x.swapaxes(0, 1)
    x.split(2)             2 equal sections              PyTorch: sections of 2
    x.split([1, 5])        cut before 1 and before 5     PyTorch: a section of 1 and one of 5
    x.std(), x.var()       divide by n (ddof=0)          PyTorch: by n - 1 (correction=1): ddof=1
    x.norm(1)              the lengths along axis 1      PyTorch: the 1-norm of all entries
    x.max(0), x.min(0)     the values                    PyTorch: values and indices: x.argmax(0)
    x.max(y), x.min(y)     refused                       PyTorch: of each pair: tinycv.maximum(x, y)
    x.expand(-1, 4)        refused                       PyTorch keeps the size of an axis at -1
    x.squeeze(0)           refused unless its size is 1  PyTorch then returns x
    x.flip(0, 1)           refused: x.flip((0, 1))       PyTorch takes both
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
from tinycv.engine.wrong_shapes import unmultipliable


def matmul(a: Tensor | Array, b: Tensor | Array) -> Any:
    """a @ b for every rank NumPy allows: a vector is taken as a row on the left, as a column on the
    right."""
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
    """a ** b. A Python number for b is no input of the graph, which makes x ** 2 cheap."""
    if isinstance(b, (int, float, np.number)):
        return ops.pow(a, exponent=b.item() if isinstance(b, np.number) else b)
    return ops.power(a, b)


def _power_operator(self: Tensor, other: Any, modulo: Any = None) -> Any:
    """self ** other, and pow(self, other); pow's third argument is refused."""
    if modulo is not None:
        raise TypeError(
            f"pow: a third argument, {shown(modulo)}, was given; a Tensor has no power modulo a "
            "number, write x ** y % m"
        )
    return _raised(self, other)


def divmod_of(a: ArrayLike, b: ArrayLike) -> tuple:
    """(a // b, a % b)"""
    return ops.floor_divide(a, b), ops.remainder(a, b)


def concatenate(tensors: Sequence[ArrayLike], axis: int = 0) -> Any:
    """Join along an existing axis."""
    return ops.concatenate(*_several("concatenate", tensors), axis=axis)


def stack(tensors: Sequence[ArrayLike], axis: int = 0) -> Any:
    """Join along a new axis."""
    return ops.stack(*_several("stack", tensors), axis=axis)


def _several(name: str, tensors: Any) -> Sequence[Any]:
    """The members of a list of Tensors and arrays. Numbers among them become arrays, lists too, in
    the others' dtype."""
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
    # for the lists beside them
    floats = FLOAT32
    if len(arrays) < len(tensors):
        floats = common(arrays, real=True) or FLOAT32
    members = [array_like(name, t, f"tensors[{i}]", floats) for i, t in enumerate(tensors)]
    if not members:
        raise ValueError(f"{name}: there are no tensors to join")
    return members


def split(x: ArrayLike, sections: int | Sequence[int], axis: int = 0) -> list:
    """Cut into equal sections (a number), or at the given places (as NumPy's split).

    differs: PyTorch's number is the size of each section, and its list has the sizes of all.
    """
    own = array_like("split", x)
    axis = along(axis, own.ndim, "split")
    n = own.shape[axis]
    if (
        isinstance(sections, Iterable)
        and getattr(sections, "ndim", 1)
        and not isinstance(sections, NOT_SIZES)
    ):
        places = [size(place, f"split: sections[{i}]", -n) for i, place in enumerate(sections)]
    else:
        parts = size(sections, "split: sections", 1)
        if n % parts:
            raise ValueError(
                f"split: axis {axis} has size {n}, which does not divide into {parts} equal parts"
            )
        places = list(range(n // parts, n, n // parts)) if n else [0] * (parts - 1)
    edges = [0, *places, n]
    return [
        getitem(own, ops._along(axis, own.ndim, slice(a, b)))
        for a, b in zip(edges, edges[1:], strict=False)
    ]


def getitem(x: ArrayLike, index: Index) -> Any:
    """x[index]: slices, integers, arrays and lists of integers (repeats are fine), boolean
    masks."""
    return ops.getitem(x, index=plain_index(index, bare(x)))


def to(self: Tensor, target: DTypeLike) -> Tensor:
    """To a device ("cpu", "gpu") or a dtype (tinycv.float64). Gradients come back to where the
    input was.

    differs: one of them at a call, by position.
    """
    if (device := device_named(target, "to")) is not None:
        return self if self.device == device else ops.to(self, device=device)
    return astype(self, kind_of(target, "to"))


def astype(x: Array | Tensor, dtype: DTypeLike = np.float32) -> Any:
    """In another dtype. Where that is of integers or bools the result is a step function of x: no
    gradient passes."""
    dtype = kind_of(dtype, "astype")
    if dtype == x.dtype:
        return x
    return ops.astype(x, dtype=dtype) if dtype.kind == "f" else ops.truncate(x, dtype=dtype)


def _operator(function: Callable, mirrored: str, turned: bool = False) -> Callable:
    """self op other; turned, other op self, for Python's reflected operators.

    Where the function refuses ``other``, Python may ask other's ``mirrored`` method instead.
    """

    def operator(self: Tensor, other: Any) -> Any:
        try:
            return function(other, self) if turned else function(self, other)
        except TypeError:
            if not _answers(other, mirrored, self):
                raise
            if isinstance(other, (list, tuple, str, bytes)):
                return NotImplemented
            # as Python would ask; but ours is the better sentence
            answer = getattr(type(other), mirrored)(other, self)
            if answer is NotImplemented:
                raise
            return answer

    return operator


def _same(function: Callable) -> Callable:
    """== and !=: what is no number, array or list is unequal to every tensor, as None is and
    "a"."""

    def operator(self: Tensor, other: Any) -> Any:
        try:
            return function(self, other)
        except TypeError:
            if _is_array(other) or isinstance(other, (list, tuple)):
                raise
            return NotImplemented

    return operator


def _answers(other: Any, mirrored: str, x: Tensor) -> bool:
    """Has ``other``, which no op takes, a say of its own?  A class written elsewhere may define the
    operator; and a list or a word can be repeated a whole number of times. What Python and NumPy
    bring has none: our sentence is clearer."""
    if isinstance(other, (list, tuple, str, bytes)):
        return mirrored in ("__mul__", "__rmul__") and not x.ndim and x.dtype.kind in "iu"
    own = getattr(type(other), mirrored, None)
    foreign = not _is_array(other) and type(other).__module__.partition(".")[0] not in (
        "builtins",
        "numpy",
    )
    return foreign and own is not None and own is not getattr(object, mirrored, None)


def _is_array(value: Any) -> bool:
    """Is it an array of NumPy's or CuPy's, or a Tensor?"""
    return (
        isinstance(value, (Tensor, np.ndarray, np.generic)) or backend.array_module(value) is not np
    )


def _contains(self: Tensor, value: Any) -> bool:
    """value in x: does any entry equal it?"""
    found = self == value
    return found if isinstance(found, bool) else bool(found.any())


def _augmented(symbol: str, name: str, function: Callable) -> Callable:
    """x += y: in place where no graph would be falsified, else a new tensor under the old name."""
    mirrored = name.replace("__i", "__r")

    def operator(self: Tensor, other: Any) -> Tensor:
        try:
            done = update(self, symbol, name, function, other)
        except TypeError:
            if _answers(other, mirrored, self):
                return NotImplemented
            raise
        return self if done else function(self, other)

    return operator


def _shape_args(method: str, name: str, function: Callable) -> Callable:
    """x.reshape(2, 3) as well as x.reshape((2, 3)) and x.reshape(shape=(2, 3))."""

    def call(self: Tensor, *numbers: Any, **named: Any) -> Tensor:
        if named:
            if numbers or named.keys() != {name}:
                raise TypeError(
                    f"{method}: it takes {name} alone, by position or by name; by position it got "
                    f"{numbers}, and by name {', '.join(named)}"
                )
            numbers = (named[name],)
        return function(
            self, numbers[0] if len(numbers) == 1 and not isinstance(numbers[0], int) else numbers
        )

    return call


def _axes(axes: Any) -> Any:
    """The axes of a transpose: a tuple of whole numbers, or None for all of them turned around."""
    if isinstance(axes, list) or getattr(axes, "ndim", 0) == 1:
        axes = tuple(bare(axes))
    return None if isinstance(axes, tuple) and not axes else axes


BINARY = {  # __add__, __radd__ and __iadd__ of each
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
        f"__r{name}__": _operator(function, f"__{name}__", turned=True)
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
    "__rdivmod__": _operator(divmod_of, "__divmod__", turned=True),
    "__matmul__": _operator(matmul, "__rmatmul__"),
    "__rmatmul__": _operator(matmul, "__matmul__", turned=True),
    "__eq__": _same(ops.equal),
    "__ne__": _same(ops.not_equal),
    "__contains__": _contains,
    "__neg__": ops.neg,
    "__pos__": lambda self: self,
    "__abs__": ops.abs,
    "__invert__": ops.bitwise_not,
    "__getitem__": getitem,
    "__setitem__": set_item,
    # == compares values, so identity must be said again
    "__hash__": object.__hash__,
}
# methods that are rows of the table
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
