"""What users type: the table's ops as Tensor operators and methods, and the few functions that need more than a row.

Everything here is composed of rows of ops.py, so nothing here has a derivative of its own.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinycv.engine import backend, errors, ops
from tinycv.engine.arguments import number, shown
from tinycv.engine.operands import operand
from tinycv.engine.tensor import Tensor, bare


def matmul(a: Any, b: Any) -> Any:
    """a @ b for every rank NumPy allows: a vector is taken as a row on the left, as a column on the right."""
    if isinstance(a, (int, float)) or isinstance(b, (int, float)):
        raise ValueError("matmul: " + errors.unmultipliable(np.shape(a), np.shape(b)))
    for name, x in (("a", a), ("b", b)):
        if not hasattr(x, "ndim"):
            operand(x, f"matmul: {name}")                           # refuses it
    if a.ndim > 1 and b.ndim > 1 or not (a.ndim and b.ndim):
        return ops.matmul(a, b)
    y = ops.matmul(a.reshape((1, -1)) if a.ndim == 1 else a, b.reshape((-1, 1)) if b.ndim == 1 else b)
    return y.reshape(y.shape[:len(y.shape) - 2] + (() if a.ndim == 1 else y.shape[-2:-1])
                     + (() if b.ndim == 1 else y.shape[-1:]))


def power(a: Any, b: Any) -> Any:
    """a ** b. A Python number for b is no input of the graph, which makes x ** 2 cheap."""
    if isinstance(b, (int, float, np.number)):
        return ops.pow(a, exponent=b.item() if isinstance(b, np.number) else b)
    return ops.power(a, b)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Join along an existing axis."""
    return ops.concatenate(*tensors, axis=axis)


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Join along a new axis."""
    return ops.stack(*tensors, axis=axis)


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list:
    """Cut into equal sections (an int), or at the given places (as NumPy's split)."""
    n = x.shape[axis]
    if isinstance(sections, int):
        if n % sections:
            raise ValueError(f"split: axis {axis} has size {n}, which does not divide into {sections} equal parts")
        sections = range(n // sections, n, n // sections)
    edges = [0, *sections, n]
    return [getitem(x, ops._along(axis, x.ndim, slice(a, b))) for a, b in zip(edges, edges[1:], strict=False)]


def getitem(x: Any, index: Any) -> Any:
    """x[index]: slices, integers, integer arrays (repeats are fine), boolean masks."""
    return ops.getitem(x, index=settled(bare(index), bare(x)))


def settled(index: Any, array: Any) -> Any:
    """The index with lists as arrays on the array's device, and integers checked where CuPy would wrap silently."""
    if isinstance(index, tuple):
        index = index if not any(isinstance(i, (list, np.ndarray)) for i in index) else tuple(
            np.asarray(i) if isinstance(i, list) else i for i in index)
    elif isinstance(index, list):
        index = np.asarray(index, dtype=None if index else np.int64)
    xp = backend.array_module(array)
    if xp is np:
        return index
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size:
        within(index, array.shape[0])
    put = [backend.from_host(xp, i) for i in (index if isinstance(index, tuple) else (index,))]
    return tuple(put) if isinstance(index, tuple) else put[0]


def within(index: np.ndarray, size: int) -> None:
    """IndexError where an index lies outside an axis of this size."""
    low, high = int(index.min()), int(index.max())
    if low < -size or high >= size:
        raise IndexError(f"index {low if low < -size else high} is out of range for an axis of size {size}")


def take_along_axis(x: Any, index: Any, axis: int = -1) -> Any:
    """x's entries at ``index`` along one axis (as from argmax or argsort); index has x's number of axes."""
    index = bare(index)
    xp = backend.array_module(bare(x))
    index = backend.from_host(xp, index)
    grid = [xp.arange(n).reshape([-1 if a == i else 1 for a in range(x.ndim)]) for i, n in enumerate(index.shape)]
    grid[axis] = index
    return ops.getitem(x, index=tuple(grid))


def einsum(subscripts: str, *operands: Any) -> Any:
    """NumPy's einsum, with "..." and repeated letters ("ii->i")."""
    return ops.einsum(*(made := spelled_out(subscripts, list(operands)))[1], subscripts=made[0])


def spelled_out(subscripts: str, xs: list) -> tuple[str, list]:
    """The same sum with an explicit output, letters for "...", and no letter twice in a term.

    A diagonal x_ii is written x_ij I_ij, with the identity I: then the pull of einsum needs no case for it."""
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: subscripts is {shown(subscripts)}; it must be a string such as 'ij,jk->ik'")
    for i, x in enumerate(xs):
        if not hasattr(x, "ndim"):
            raise TypeError(f"einsum: operand {i} is {shown(x)}; it must be a Tensor or an array")
    inputs, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(xs):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, but {len(xs)} were given")
    check_letters(subscripts, terms, out, xs)
    free = [c for c in string.ascii_letters if c not in subscripts]
    ranks = [x.ndim - len(t.replace("...", "")) if "..." in t else 0 for t, x in zip(terms, xs, strict=True)]
    dots = "".join(free[:max(ranks)])
    terms = [t.replace("...", dots[len(dots) - r:]) for t, r in zip(terms, ranks, strict=True)]
    if not arrow:
        letters = "".join(terms)
        out = "..." + "".join(sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1))
    out, free = out.replace("...", dots), free[len(dots):]
    for k, (term, x) in enumerate(zip(list(terms), list(xs), strict=True)):
        for place, letter in enumerate(term):
            if letter in terms[k][:place]:
                new = free.pop(0)
                terms[k] = terms[k][:place] + new + terms[k][place + 1:]
                terms.append(letter + new)
                xs.append(backend.array_module(bare(x)).eye(x.shape[place], dtype=x.dtype))
    return ",".join(terms) + "->" + out, xs


def check_letters(subscripts: str, terms: list, out: str, xs: list) -> None:
    """ValueError where the letters of an einsum do not fit its operands."""
    sizes: dict[str, int] = {}
    for i, (term, x) in enumerate(zip(terms, xs, strict=True)):
        before, dots, after = term.partition("...")
        named = len(before) + len(after)
        if not (before + after).isalpha() and named or (x.ndim < named if dots else x.ndim != named):
            raise ValueError(f"einsum: {subscripts!r} names the axes {term!r} of operand {i}, which has shape {x.shape}")
        letters = [*zip(before, x.shape, strict=False), *zip(after, x.shape[x.ndim - len(after):], strict=False)]
        for letter, n in letters:
            if 1 not in (n, sizes.setdefault(letter, n)) and n != sizes[letter]:
                raise ValueError(f"einsum: {subscripts!r}: axis {letter!r} has size {sizes[letter]}, and {n} in "
                                 f"operand {i}, of shape {x.shape}; they must be equal, or one of them 1")
            sizes[letter] = max(n, sizes[letter])
    stray = sorted(set(out.replace("...", "")) - set(sizes))
    if stray:
        raise ValueError(f"einsum: {subscripts!r}: the result names {', '.join(stray)}, which no operand has")


def std(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Standard deviation. Through ``norm``, whose slope at 0 is 0, and not through the square root of ``var``."""
    ddof = number(ddof, "std: ddof")
    if not isinstance(x, Tensor) and not hasattr(operand(x, "std: x"), "ndim"):
        raise TypeError(f"std: x is {shown(x)}; it must be a Tensor or an array")
    wrong = errors.wrong_axes("axis", axis, x.ndim) if axis is not None else ""
    if wrong:
        raise ValueError(f"std: {wrong} (x has shape {x.shape})")
    centred = x - ops.mean(x, axis, True)
    degrees = ops.count(x.shape, axis) - ddof
    if degrees <= 0:
        return ops.sqrt(ops.var(x, axis, ddof, keepdims))           # NaN or infinity, and a gradient of NaN, as PyTorch
    return ops.norm(centred, axis, keepdims) / degrees ** 0.5


def to(self: Tensor, target: Any) -> Tensor:
    """To a device ("cpu", "gpu") or a dtype (tinycv.float64). Gradients come back to where the input was."""
    if isinstance(target, str) and target.split(":")[0] in ("cpu", "gpu", "cuda", "auto"):
        device = backend.resolve(target)
        return self if self.device == device else ops.to(self, device=device)
    return self if self.dtype == target else ops.astype(self, dtype=np.dtype(target))


def _reversed(function: Callable) -> Callable:
    """other op self, for Python's reflected operators."""
    return lambda self, other: function(other, self)


def _augmented(symbol: str, name: str, function: Callable) -> Callable:
    """x += y: in place where no graph would be falsified, else a new tensor under the old name."""
    def operator(self: Tensor, other: Any) -> Tensor:
        done = self._in_place(symbol, getattr(self._data, name), other)
        return function(self, other) if done is None else done
    return operator


def _shape_args(function: Callable) -> Callable:
    """x.reshape(2, 3) as well as x.reshape((2, 3))."""
    return lambda self, *shape: function(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)


OPERATORS = {
    "__add__": ops.add, "__radd__": ops.add, "__sub__": ops.sub, "__rsub__": _reversed(ops.sub),
    "__mul__": ops.mul, "__rmul__": ops.mul, "__truediv__": ops.div, "__rtruediv__": _reversed(ops.div),
    "__pow__": power, "__rpow__": _reversed(ops.power), "__matmul__": matmul, "__rmatmul__": _reversed(matmul),
    "__iadd__": _augmented("+=", "__iadd__", ops.add), "__isub__": _augmented("-=", "__isub__", ops.sub),
    "__imul__": _augmented("*=", "__imul__", ops.mul), "__itruediv__": _augmented("/=", "__itruediv__", ops.div),
    "__neg__": ops.neg, "__abs__": ops.abs, "__getitem__": getitem,
    "__eq__": ops.equal, "__ne__": ops.not_equal, "__gt__": ops.greater, "__ge__": ops.greater_equal,
    "__lt__": ops.less, "__le__": ops.less_equal,
    "__and__": ops.logical_and, "__or__": ops.logical_or, "__invert__": ops.logical_not,
    "__hash__": object.__hash__,                            # == compares values, so identity must be said again
}
METHODS = {
    **{name: getattr(ops, name) for name in (
        "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "abs", "clip", "sum", "mean", "var", "max", "min", "logsumexp",
        "norm", "cumsum", "swapaxes", "squeeze", "unsqueeze", "flip", "argmax", "argmin", "astype")},
    "reshape": _shape_args(lambda x, shape: ops.reshape(x, shape=shape)),
    "transpose": _shape_args(lambda x, axes: ops.transpose(x, axes=axes or None)),
    "expand": _shape_args(lambda x, shape: ops.expand(x, shape=shape)),
    "std": std, "split": split, "to": to,
    "T": property(lambda self: ops.transpose(self)),
}
for _name, _function in {**OPERATORS, **METHODS}.items():
    setattr(Tensor, _name, _function)

