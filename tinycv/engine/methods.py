"""What users type: the table's ops as Tensor operators and methods, and the few functions that need
more than a row.

Everything here is composed of rows of ops.py, so nothing here has a derivative of its own.

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

import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tinycv.engine import backend, errors, ops
from tinycv.engine.arguments import NOT_SIZES, flag, is_array, listed, number, shown, size
from tinycv.engine.door import device_named
from tinycv.engine.index import plain_index, within
from tinycv.engine.operands import FLOAT16, FLOAT32, common, operand, option
from tinycv.engine.tensor import Tensor, as_array, bare, kind_of, wrap


def matmul(a: Any, b: Any) -> Any:
    """a @ b for every rank NumPy allows: a vector is taken as a row on the left, as a column on the
    right."""
    if isinstance(a, (int, float)) or isinstance(b, (int, float)):
        raise ValueError("matmul: " + errors.unmultipliable(np.shape(a), np.shape(b)))
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


def power(a: Any, b: Any) -> Any:
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


def divmod_of(a: Any, b: Any) -> tuple:
    """(a // b, a % b)"""
    return ops.floor_divide(a, b), ops.remainder(a, b)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Join along an existing axis."""
    return ops.concatenate(*_several("concatenate", tensors), axis=axis)


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
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
    members = [_array_like(name, t, f"tensors[{i}]", floats) for i, t in enumerate(tensors)]
    if not members:
        raise ValueError(f"{name}: there are no tensors to join")
    return members


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list:
    """Cut into equal sections (a number), or at the given places (as NumPy's split).

    differs: PyTorch's number is the size of each section, and its list has the sizes of all.
    """
    x = _array_like("split", x)
    axis = along(axis, x.ndim, "split")
    n = x.shape[axis]
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
        getitem(x, ops._along(axis, x.ndim, slice(a, b)))
        for a, b in zip(edges, edges[1:], strict=False)
    ]


def getitem(x: Any, index: Any) -> Any:
    """x[index]: slices, integers, arrays and lists of integers (repeats are fine), boolean
    masks."""
    return ops.getitem(x, index=plain_index(index, bare(x)))


def take_along_axis(x: Any, index: Any, axis: int = -1) -> Any:
    """x's entries at ``index`` along one axis (as from argmax or argsort); index has x's number of
    axes, and broadcasts along the others."""
    x = _array_like("take_along_axis", x)
    array, axis = bare(x), along(axis, x.ndim, "take_along_axis")
    index = bare(_array_like("take_along_axis", index, "index"))
    if index.dtype.kind not in "iu" or index.ndim != array.ndim:
        raise IndexError(
            f"take_along_axis: index is {shown(index)}; it must be of whole numbers, with "
            f"{array.ndim} axes as x"
        )
    xp = backend.array_module(array)
    index = backend.from_host(xp, index)
    if any(
        1 not in (n, m) and n != m
        for i, (n, m) in enumerate(zip(index.shape, array.shape, strict=True))
        if i != axis
    ):
        raise ValueError(
            f"take_along_axis: index of shape {index.shape} does not fit x of shape {array.shape}: "
            f"only along axis {axis} may they differ"
        )
    if xp is np and index.size:
        within(index, array.shape[axis])
    grid = [
        xp.arange(n).reshape([-1 if a == i else 1 for a in range(array.ndim)])
        for i, n in enumerate(array.shape)
    ]
    grid[axis] = index
    return ops.getitem(x, index=tuple(grid))


def _array_like(function: str, x: Any, what: str = "x", floats: np.dtype = FLOAT32) -> Any:
    """x itself if it is a Tensor, an array of an array, a list or a number. TypeError in the
    function's name.

    floats: what Python's floats become."""
    return x if isinstance(x, Tensor) else as_array(x, what=f"{function}: {what}", floats=floats)


def along(axis: Any, ndim: int, name: str) -> int:
    """One axis, counted from 0. ValueError where the array has no such axis."""
    axis = size(axis, f"{name}: axis", -ndim)
    if axis >= ndim:
        raise ValueError(f"{name}: axis is {axis}; x has {ndim} axes, {-ndim} to {ndim - 1}")
    return axis % ndim


def einsum(subscripts: str, *operands: Any) -> Any:
    """NumPy's einsum, with "..." and repeated letters ("ii->i")."""
    return ops.einsum(*(made := spelled_out(subscripts, list(operands)))[1], subscripts=made[0])


def spelled_out(subscripts: str, xs: list) -> tuple[str, list]:
    """The same sum with an explicit output, letters for "...", and no letter twice in a term.

    A diagonal x_ii is written x_ij I_ij, with the identity I: then the pull of einsum needs no case
    for it."""
    if not isinstance(subscripts, str):
        raise TypeError(
            f"einsum: subscripts is {shown(subscripts)}; it must be a string such as 'ij,jk->ik'"
        )
    for i, x in enumerate(xs):
        if not is_array(x):
            raise TypeError(f"einsum: operand {i} is {shown(x)}; it must be a Tensor or an array")
    inputs, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(xs):
        raise ValueError(
            f"einsum: {shown(subscripts)} names {len(terms)} operands, but {len(xs)} were given"
        )
    check_letters(subscripts, terms, out, xs)
    free = [c for c in string.ascii_letters if c not in subscripts]
    ranks = [
        x.ndim - len(t.replace("...", "")) if "..." in t else 0
        for t, x in zip(terms, xs, strict=True)
    ]
    dots = "".join(free[: max(ranks)])
    terms = [t.replace("...", dots[len(dots) - r :]) for t, r in zip(terms, ranks, strict=True)]
    if not arrow:
        letters = "".join(terms)
        out = "..." + "".join(sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1))
    out, free = out.replace("...", dots), free[len(dots) :]
    for k, (term, x) in enumerate(zip(list(terms), list(xs), strict=True)):
        for place, letter in enumerate(term):
            if letter in terms[k][:place]:
                new = free.pop(0)
                terms[k] = terms[k][:place] + new + terms[k][place + 1 :]
                terms.append(letter + new)
                xs.append(backend.array_module(bare(x)).eye(x.shape[place], dtype=x.dtype))
    return ",".join(terms) + "->" + out, xs


def check_letters(subscripts: str, terms: list, out: str, xs: list) -> None:
    """ValueError where the letters of an einsum do not fit its operands."""
    sizes: dict[str, int] = {}
    for i, (term, x) in enumerate(zip(terms, xs, strict=True)):
        before, dots, after = term.partition("...")
        named = len(before) + len(after)
        if (
            not (before + after).isalpha()
            and named
            or (x.ndim < named if dots else x.ndim != named)
        ):
            raise ValueError(
                f"einsum: {shown(subscripts)} names the axes {shown(term)} of operand {i}, which "
                f"has shape {x.shape}"
            )
        letters = [
            *zip(before, x.shape, strict=False),
            *zip(after, x.shape[x.ndim - len(after) :], strict=False),
        ]
        for letter, n in letters:
            if 1 not in (n, sizes.setdefault(letter, n)) and n != sizes[letter]:
                raise ValueError(
                    f"einsum: {shown(subscripts)}: axis {letter!r} has size {sizes[letter]}, and "
                    f"{n} in operand {i}, of shape {x.shape}; they must be equal, or one of them 1"
                )
            sizes[letter] = max(n, sizes[letter])
    stray = sorted(set(out.replace("...", "")) - set(sizes))
    if stray:
        raise ValueError(
            f"einsum: {shown(subscripts)}: the result names {listed(stray)}, which no operand has"
        )


def std(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False, **unknown: Any) -> Any:
    """Standard deviation. Through ``norm``, whose slope at 0 is 0, and not through the square root
    of ``var``.

    The largest deviation is the unit, so that no square leaves the dtype's range; it is a constant
    of the graph.
    differs: the squares are divided by n - ddof, and ddof is 0, where PyTorch's correction is 1.
    That of halves is calculated in float32 and rounded once.
    """
    if unknown:
        raise TypeError(
            f"std: {errors.unknown_arguments(unknown, 'std', ['x', 'axis', 'ddof', 'keepdims'])}"
        )
    ddof, keepdims = number(ddof, "std: ddof"), flag(keepdims, "std: keepdims")
    x = x if isinstance(x, Tensor) else operand(x, "std: x")
    if not is_array(x):
        raise TypeError(f"std: x is {shown(x)}; it must be a Tensor or an array")
    axis = None if axis is None else option(axis, "std", "axis")
    if wrong := errors.wrong_axes("axis", axis, x.ndim) if axis is not None else "":
        raise ValueError(f"std: {wrong} (x has shape {x.shape})")
    # x - mean may leave float16's range
    if x.dtype == FLOAT16:
        return astype(std(astype(x, np.float32), axis, ddof, keepdims), FLOAT16)
    centred = x - ops.mean(x, axis, True)
    degrees = ops.count(x.shape, axis) - ddof
    if degrees <= 0:
        # NaN or infinity, and a gradient of NaN, as PyTorch
        return ops.sqrt(ops.var(x, axis, ddof, keepdims))
    away = bare(centred)
    xp = backend.array_module(away)
    unit = xp.abs(away).max(axis=axis, keepdims=True)
    unit = xp.where(unit > 0, unit, 1.0)
    size_of_unit = (unit if keepdims else xp.squeeze(unit, axis)) / degrees**0.5
    return ops.norm(centred / unit, axis, keepdims) * size_of_unit


def to(self: Tensor, target: Any) -> Tensor:
    """To a device ("cpu", "gpu") or a dtype (tinycv.float64). Gradients come back to where the
    input was.

    differs: one of them at a call, by position.
    """
    if (device := device_named(target, "to")) is not None:
        return self if self.device == device else ops.to(self, device=device)
    return astype(self, kind_of(target, "to"))


def astype(x: Any, dtype: Any = np.float32) -> Any:
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
            done = self._in_place(symbol, _change(self._data, name, function), other)
        except TypeError:
            if _answers(other, mirrored, self):
                return NotImplemented
            raise
        return function(self, other) if done is None else done

    return operator


def _change(data: Any, name: str, function: Callable) -> Callable:
    """A function of the other operand that changes the array in place: the array's own, where that
    is exact. With halves and for quotients of integers it is the op, which knows what NumPy does
    not, and its result is written."""
    own = getattr(data, name)
    if data.dtype != FLOAT16 and name not in ("__ifloordiv__", "__imod__"):
        return own

    def change(other: Any) -> None:
        y = bare(function(wrap(data, None), other))
        if y.dtype == data.dtype:
            data[...] = y
        else:
            # it widens, or says that the result does not fit
            own(other)

    return change


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
    # == compares values, so identity must be said again
    "__hash__": object.__hash__,
}
METHODS = {
    **{
        name: getattr(ops, name)
        for name in (
            "exp",
            "log",
            "sqrt",
            "tanh",
            "sigmoid",
            "relu",
            "abs",
            "clip",
            "sum",
            "mean",
            "var",
            "max",
            "min",
            "logsumexp",
            "norm",
            "cumsum",
            "swapaxes",
            "squeeze",
            "unsqueeze",
            "flip",
            "argmax",
            "argmin",
            "any",
            "all",
        )
    },
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
