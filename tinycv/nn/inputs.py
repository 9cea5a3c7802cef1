"""Argument checks for the generative chapters: batches, times, noise levels, labels, callables.

adversarial/ and diffusion/ check their arguments here, so that all their functions treat a batch, a
time or a score function of the user's in the same way.  The file is in nn/ because both chapters
may import from it.  A reader of the models can skip it.

checks.py has the checks of layers, which look only at shape and dtype.  The checks here also look
at values, but on the host only, because reading values on a GPU would mean waiting for the GPU.
There a value out of range becomes NaN, as in cross_entropy, so that the result is NaN and the
mistake cannot go unnoticed.  A check takes a few microseconds.

Read first: engine/arguments.py.   Shapes: B examples.
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

# Examples (B, ...), or one number per example (B,): a Tensor, or an array of NumPy or CuPy. If some
# arguments of a function are Tensors and others arrays, its result is a Tensor.
Examples = Tensor | Array
Checked = TypeVar("Checked")  # most checks return the value that they have checked


def batch(x: Checked, what: str, ndim: int | None = None) -> Checked:
    """x itself, if it is a Tensor or an array of floats with at least one axis, the batch, or with
    exactly ``ndim`` axes."""
    array: Any = bare(x)
    if number_kind(x) != "f" or not hasattr(array, "reshape"):
        raise TypeError(f"{what} is {shown(x)}; it must be a Tensor or a plain array of floats")
    if array.ndim < 1 or (ndim is not None and array.ndim != ndim):
        axes = "at least one axis, the batch" if ndim is None else f"{ndim} axes"
        raise ValueError(f"{what} has shape {tuple(array.shape)}; it must have {axes}")
    return x


def answer(value: Checked, shape: Sequence[int], what: str) -> Checked:
    """The value that a function of the user returned, if it is an array or a Tensor of real numbers
    in this shape."""
    kind = number_kind(value)
    if kind not in ("f", "i", "u") or tuple(bare(value).shape) != tuple(shape):
        error = ValueError if kind in ("f", "i", "u") else TypeError
        raise error(
            f"{what} returned {shown(value)}; it must return real numbers of shape {tuple(shape)}"
        )
    return value


def answering(call: Callable[..., Checked], what: str) -> Callable[..., Checked]:
    """The function ``call``, wrapped so that its result is checked to have the shape of its first
    argument."""
    function(call, what)
    return lambda x, *rest: answer(call(x, *rest), x.shape, what)


def in_dtype_of(x: Examples, value: Examples) -> Examples:
    """The array or Tensor ``value`` in the dtype of x, so that points keep their dtype whatever a
    score function or a denoiser returned."""
    return value if value.dtype == x.dtype else value.astype(x.dtype)


def in_float32(x: Array) -> Array:
    """x, with float16 converted to float32, in which squares are less likely to overflow."""
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


def finite(value: Any, what: str, **bounds: float) -> float:
    """``arguments.number``, and an error if it is infinite."""
    real = number(value, what, **bounds)
    if math.isinf(real):
        raise ValueError(f"{what} is {real}; it must be finite")
    return real


def reals(name: str, **values: Any) -> None:
    """An error unless these arguments of the function ``name`` are real numbers, or arrays and
    Tensors of real numbers, which broadcast to each other."""
    shapes = {}
    for argument, value in values.items():
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not plain and number_kind(value) not in ("f", "i", "u"):
            raise TypeError(
                f"{name}: {argument} is {shown(value)}; it must be a real number, or an array or a "
                "Tensor of real numbers"
            )
        shapes[argument] = tuple(getattr(value, "shape", ()))
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        described = ", ".join(f"{argument} {shape}" for argument, shape in shapes.items())
        raise ValueError(f"{name}: the shapes do not fit each other: {described}") from None


def numbers(values: Any, what: str, least: int = 1, **bounds: float) -> list[float]:
    """A sequence of at least ``least`` finite numbers, as floats."""
    ndim = getattr(values, "ndim", 1)
    if isinstance(values, (str, bytes, dict, set)) or ndim != 1 or not hasattr(values, "__len__"):
        raise TypeError(f"{what} is {shown(values)}; it must be a sequence of numbers")
    if len(values) < least:
        raise ValueError(f"{what} holds {len(values)} numbers; there must be at least {least}")
    return [finite(value, f"{what}[{i}]", **bounds) for i, value in enumerate(values)]


def whole(name: str, least: int, **values: Any) -> list[int]:
    """The values of these arguments of the class or function ``name``, if they are whole numbers
    and at least ``least``."""
    return [size(value, f"{name}: {argument}", least) for argument, value in values.items()]


def depth_of(value: Any, name: str, least: int = 1) -> int:
    """A network's depth, how many layers or blocks follow each other: ``least`` to MOST_LAYERS."""
    return at_most(value, f"{name}: depth", least, MOST_LAYERS)


def every(value: Any, what: str) -> int:
    """An argument such as ``keep_every``: a whole number of steps, or 0 for None, which keeps
    nothing."""
    return 0 if value is None else size(value, what, 1)


def is_number(value: Any) -> bool:
    """Is it a single real number on the host: an int, a float, a NumPy scalar or a 0-d array?"""
    array = bare(value)
    if isinstance(array, (np.ndarray, np.generic)):
        return array.ndim == 0
    return isinstance(array, (int, float))


def per_example(value: ArrayLike, x: Examples, what: str) -> Examples:
    """One number per example of x (B, ...): a Tensor or an array (B,), on the device of x and in
    its dtype.

    value: a single number for all examples, or shape (B,), (B, 1) or (B, 1, ...). A Tensor that
    requires a gradient stays connected to its graph.
    """
    points, array = bare(x), bare(value)
    xp, count = array_module(points), len(points)
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
        value = value.astype(points.dtype) if value.dtype != points.dtype else value
        return ops.expand(value, (count,)) if shape == () else value.reshape((count,))
    if shape == () and array_module(array) is np:
        return xp.full(count, float(array), points.dtype)
    array = from_host(xp, array).astype(points.dtype, copy=False)
    return xp.broadcast_to(array, (count,)) if shape == () else array.reshape((count,))


def within(
    value: Any,
    what: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> Any:
    """The array or Tensor (B,), if its values are finite and within these bounds. A value outside
    is a ValueError on the host, and becomes NaN on a GPU."""
    array = bare(value)
    xp = array_module(array)
    # comparisons with NaN are False, so NaN counts as out of bounds
    valid = (array >= low) & (array <= high) & (array > above) & (abs(array) < math.inf)
    if xp is not np:
        return ops.where(valid, value, xp.nan)
    if not valid.all():
        wrong = array[~valid].flat[0]
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (("at least", low), ("more than", above), ("at most", high))
            if math.isfinite(bound)
        ]
        raise ValueError(f"{what} holds {wrong}; each must be finite, {' and '.join(bounds)}")
    return value


def integers(values: Any, what: str, count: int | None = None) -> Array:
    """The values as a bare integer array (B,), with B = ``count`` if count is given."""
    array = bare(values)
    if number_kind(array) not in ("i", "u"):
        raise TypeError(
            f"{what} is {shown(values)}; it must be an array or a Tensor of integers (B,)"
        )
    if array.ndim != 1 or (count is not None and len(array) != count):
        expected = "(B,)" if count is None else f"({count},), one for each example"
        raise ValueError(f"{what} has shape {tuple(array.shape)}; it must be {expected}")
    return array


def labels(values: Any, what: str, last: int, count: int | None = None) -> Array:
    """The values as a bare integer array (B,) of class numbers 0 ... last. On the host, a number
    out of range is an IndexError. On a GPU it stays, since an integer cannot be NaN; ``known`` then
    turns what was computed from it into NaN."""
    array = integers(values, what, count)
    if isinstance(array, np.ndarray) and len(array) and not 0 <= array.min() <= array.max() <= last:
        wrong = array[(array < 0) | (array > last)][0]
        raise IndexError(f"{what} holds {wrong}; it must hold whole numbers from 0 to {last}")
    return array


def known(labels: Array, last: int, computed: Tensor) -> Tensor:
    """``computed`` (B, ...), the result for labels (B,), with NaN for examples whose label is not
    in 0 ... last. Only on a GPU: on the host ``labels`` has already refused such labels."""
    xp = array_module(bare(computed))
    if xp is np:
        return computed
    labels = from_host(xp, labels)
    valid = ((labels >= 0) & (labels <= last)).reshape((-1,) + (1,) * (len(computed.shape) - 1))
    return ops.where(valid, computed, xp.nan)


def whole_time(t: Any, what: str, last: int, first: int = 0) -> int:
    """A time step of a schedule: a whole number from ``first`` to ``last``. TypeError for a float,
    IndexError for a number out of range."""
    try:
        whole = size(t, what)
    except ValueError:
        whole = -1  # refused below: as an index, a negative time would count from the end
    if not first <= whole <= last:
        raise IndexError(f"{what} is {shown(t)}; it must be a whole number from {first} to {last}")
    return whole


def times_in(t: Any, what: str, gradient: bool = False) -> Array:
    """Times t as a bare array (B,). gradient: can the caller pass a gradient back to t? If not, a t
    that requires one is refused."""
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
            f"{what} requires a gradient, but the embedding of a time gives none; pass t.detach()"
        )
    return array
