"""Checks for the generative chapters (adversarial, diffusion): batches, times, noise levels,
labels, and what the user's own functions return.

checks.py has the checks of layers, which look at shape and dtype alone.  Here values are looked at
too, but on the host only: to look at those on a GPU would be to wait for it.  A value out of range
there becomes NaN, as in cross_entropy, and no later number can hide it.  Each check costs a few
microseconds.

Read before: engine/arguments.py.   Shapes: B examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tinycv.data.inputs import whole as at_most
from tinycv.engine import ops
from tinycv.engine.arguments import function, number, number_kind, shown, size
from tinycv.engine.backend import Array, array_module, from_host
from tinycv.engine.tensor import ArrayLike, Tensor, bare
from tinycv.nn.checks import MOST_LAYERS

# Examples (B, ...), or one number for each of them (B,): a Tensor, or an array of NumPy or CuPy.
# Where some of a function's arguments are Tensors and others arrays, its result is a Tensor.
Examples = Tensor | Array
Checked = TypeVar("Checked")  # a check returns what it was given


def batch(x: Checked, what: str, ndim: int | None = None) -> Checked:
    """x as it is, if it is a Tensor or an array of real floats, with a batch axis, or with ``ndim``
    axes."""
    array: Any = bare(x)
    if number_kind(x) != "f" or not hasattr(array, "reshape"):
        raise TypeError(f"{what} is {shown(x)}; it must be a Tensor or a plain array of floats")
    if array.ndim < 1 or (ndim is not None and array.ndim != ndim):
        axes = "at least one axis, the batch" if ndim is None else f"{ndim} axes"
        raise ValueError(f"{what} has shape {tuple(array.shape)}; it must have {axes}")
    return x


def answer(value: Checked, shape: Sequence[int], what: str) -> Checked:
    """What a function of the user's returned, if it is an array or a Tensor of real numbers in this
    shape."""
    kind = number_kind(value)
    if kind not in ("f", "i", "u") or tuple(bare(value).shape) != tuple(shape):
        error = ValueError if kind in ("f", "i", "u") else TypeError
        raise error(
            f"{what} returned {shown(value)}; it must return real numbers of shape {tuple(shape)}"
        )
    return value


def answering(call: Callable[..., Checked], what: str) -> Callable[..., Checked]:
    """The function, whose answer must have the shape of its first argument."""
    function(call, what)
    return lambda x, *rest: answer(call(x, *rest), x.shape, what)


def in_dtype_of(x: Examples, value: Examples) -> Examples:
    """The array or Tensor in the dtype of x: points keep theirs, whatever a score or a denoiser
    returned."""
    return value if value.dtype == x.dtype else value.astype(x.dtype)


def in_float32(x: Array) -> Array:
    """Halves in float32, where their squares have room; all others as they are."""
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


def finite(value: Any, what: str, **bounds: float) -> float:
    """``arguments.number`` that is not infinite."""
    real = number(value, what, **bounds)
    if math.isinf(real):
        raise ValueError(f"{what} is {real}; it must be finite")
    return real


def reals(name: str, **values: Any) -> None:
    """An error unless these arguments of ``name`` are real numbers, or arrays and Tensors that
    broadcast to each other."""
    shapes = {}
    for argument, value in values.items():
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not plain and number_kind(value) not in ("f", "i", "u"):
            raise TypeError(
                f"{name}: {argument} is {shown(value)}; it must be a real number, or an array or a "
                "Tensor of such"
            )
        shapes[argument] = tuple(getattr(value, "shape", ()))
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        said = ", ".join(f"{argument} {shape}" for argument, shape in shapes.items())
        raise ValueError(f"{name}: the shapes do not fit to each other: {said}") from None


def numbers(values: Any, what: str, least: int = 1, **bounds: float) -> list[float]:
    """A sequence of at least ``least`` finite numbers, as floats."""
    ndim = getattr(values, "ndim", 1)
    if isinstance(values, (str, bytes, dict, set)) or ndim != 1 or not hasattr(values, "__len__"):
        raise TypeError(f"{what} is {shown(values)}; it must be a sequence of numbers")
    if len(values) < least:
        raise ValueError(f"{what} holds {len(values)} numbers; there must be at least {least}")
    return [finite(value, f"{what}[{i}]", **bounds) for i, value in enumerate(values)]


def whole(name: str, least: int, **values: Any) -> list[int]:
    """Whole numbers, each at least ``least``: arguments of a class or function that is called
    ``name``."""
    return [size(value, f"{name}: {argument}", least) for argument, value in values.items()]


def depth_of(value: Any, name: str, least: int = 1) -> int:
    """How many layers or blocks a network has, one behind another."""
    return at_most(value, f"{name}: depth", least, MOST_LAYERS)


def every(value: Any, what: str) -> int:
    """``keep_every``: a whole number of steps; 0 for None, which keeps nothing."""
    return 0 if value is None else size(value, what, 1)


def is_number(value: Any) -> bool:
    """Is it one real number on the host (int, float, NumPy's scalars and 0-d arrays)?"""
    array = bare(value)
    if isinstance(array, (np.ndarray, np.generic)):
        return array.ndim == 0
    return isinstance(array, (int, float))


def per_example(value: ArrayLike, x: Examples, what: str) -> Examples:
    """A number for each of x (B, ...), as a Tensor or an array (B,) on its device, in its dtype.

    value: (B,), (B, 1) or (B, 1, ...), or one of 0 axes for all. A Tensor keeps its history.
    """
    own, array = bare(x), bare(value)
    xp, count = array_module(own), len(own)
    if not hasattr(array, "dtype"):
        array = value = np.asarray(finite(value, what))
    if number_kind(array) not in ("f", "i", "u"):
        raise TypeError(f"{what} is {shown(value)}; it must be a number, or one for each example")
    shape = tuple(array.shape)
    if shape not in ((), (count,)) and (shape[:1] != (count,) or math.prod(shape) != count):
        raise ValueError(
            f"{what} has shape {shape} for {count} examples; it must be one number, or one for "
            "each example"
        )
    if isinstance(value, Tensor) and value.requires_grad:
        value = value.astype(own.dtype) if value.dtype != own.dtype else value
        return ops.expand(value, (count,)) if shape == () else value.reshape((count,))
    if shape == () and array_module(array) is np:
        return xp.full(count, float(array), own.dtype)
    array = from_host(xp, array).astype(own.dtype, copy=False)
    return xp.broadcast_to(array, (count,)) if shape == () else array.reshape((count,))


def within(
    value: Any,
    what: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> Any:
    """An array or Tensor (B,) whose values are in these bounds: ValueError on the host, NaN in
    their place on a GPU."""
    array = bare(value)
    xp = array_module(array)
    # NaN is not right
    right = (array >= low) & (array <= high) & (array > above) & (abs(array) < math.inf)
    if xp is not np:
        return ops.where(right, value, xp.nan)
    if not right.all():
        wrong = array[~right].flat[0]
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (("at least", low), ("more than", above), ("at most", high))
            if math.isfinite(bound)
        ]
        raise ValueError(f"{what} holds {wrong}; each must be finite, {' and '.join(bounds)}")
    return value


def integers(values: Any, what: str, count: int | None = None) -> Array:
    """A bare integer array (B,), of ``count`` if given."""
    array = bare(values)
    if number_kind(array) not in ("i", "u"):
        raise TypeError(
            f"{what} is {shown(values)}; it must be an array or a Tensor of integers (B,)"
        )
    if array.ndim != 1 or (count is not None and len(array) != count):
        wanted = "(B,)" if count is None else f"({count},), one for each example"
        raise ValueError(f"{what} has shape {tuple(array.shape)}; it must be {wanted}")
    return array


def labels(values: Any, what: str, last: int, count: int | None = None) -> Array:
    """A bare integer array (B,) of class numbers 0 ... last. IndexError names one out of range, on
    the host; an integer cannot be NaN, so on a GPU what is made of a wrong one becomes NaN: see
    ``known``."""
    array = integers(values, what, count)
    if isinstance(array, np.ndarray) and len(array) and not 0 <= array.min() <= array.max() <= last:
        wrong = array[(array < 0) | (array > last)][0]
        raise IndexError(f"{what} holds {wrong}; it must hold whole numbers from 0 to {last}")
    return array


def known(labels: Array, last: int, of_them: Tensor) -> Tensor:
    """What was made of labels (B,), (B, ...): NaN on a GPU where a label is not of 0 ... last, in
    place of another class's. On the host ``labels`` has refused it."""
    xp = array_module(bare(of_them))
    if xp is np:
        return of_them
    labels = from_host(xp, labels)
    right = ((labels >= 0) & (labels <= last)).reshape((-1,) + (1,) * (len(of_them.shape) - 1))
    return ops.where(right, of_them, xp.nan)


def whole_time(t: Any, what: str, last: int, first: int = 0) -> int:
    """A time of a schedule that has the times 0 ... last: TypeError for a float, IndexError for one
    out of range."""
    try:
        whole = size(t, what)
    except ValueError:
        whole = -1  # negative: it would count from the end
    if not first <= whole <= last:
        raise IndexError(f"{what} is {shown(t)}; it must be a whole number from {first} to {last}")
    return whole


def times_in(t: Any, what: str, gradient: bool = False) -> Array:
    """A bare array of times (B,). gradient: does one pass to t? If not, t may not ask for one."""
    array = bare(t)
    if number_kind(array) not in ("f", "i", "u"):
        raise TypeError(
            f"{what} is {shown(t)}; it must be an array or a Tensor of real numbers (B,)"
        )
    if array.ndim != 1:
        raise ValueError(
            f"{what} has shape {tuple(array.shape)}; it must be (B,), a time for each example"
        )
    if not gradient and isinstance(t, Tensor) and t.requires_grad:
        raise ValueError(
            f"{what} requires a gradient, and the embedding of a time gives none; pass t.detach()"
        )
    return array
