"""Reductions for kernels, at the speed of a matrix product; and the pieces in which a kernel works
through an array.

NumPy adds along an axis on one core and, where the axis is short, mostly pays for starting over at
each row.  A product with a vector of ones is the same sum by BLAS, several times faster at the
sizes of a Transformer (benchmarks/ops.py).  CuPy's own reductions are good along the last axes in
memory; along the first gpu/reduce.py is.

NumPy adds pairwise along the axis that is fastest in memory, and one term after the other along all
others. There float32 loses a digit with every tenfold of terms, and from 16,777,216 on it stops
counting. So long sums along other axes are added in blocks: the sums within blocks of TERMS rows,
then the sum of these sums, and so on. A sum of a million equal terms is then right to 5e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine.arguments import number
from tinycv.engine.backend import Array
from tinycv.engine.dispatch import on_gpu, suits
from tinycv.engine.signatures import Axes

# values: a block, its result and some scratch stay in a core's own cache
BLOCK = 1 << 15
# so many numbers are added one after the other in a block of a long sum,
TERMS = 256
# and so many by NumPy, outside of the fastest axis, before it is a long sum
LONG = 4 * TERMS
MANY = 1 << 14  # rows: BLAS adds fewer with all digits that matter
# numbers beside each other that a block adds in one pass
WIDE = 1 << 12
# rows whose exp sums to more need no maximum of their own, see exp_rows
NEAR = 1e-5


def blocks(xp: Any, rows: int, width: int = 1, size: int | None = None) -> list[slice]:
    """Slices that cut rows of ``width`` values into blocks, for a kernel that passes over them
    several times. A block has ``size`` values, BLOCK if none is given. One slice of all on CuPy,
    where every call is a launch."""
    step = max(1, (size or BLOCK) // max(1, width) if xp is np else rows)
    return [slice(start, start + step) for start in range(0, rows, step)]


def few(xp: Any, examples: int, each: int) -> list[slice]:
    """Slices of a few examples of ``each`` values, for kernels of a dozen calls: so much that the
    calls pay, in several threads too, which wait for Python's lock between them; so little that
    what one leaves is in a cache for the next."""
    return blocks(xp, examples, each, 16 * BLOCK)


def lie(x: Array) -> tuple[int, ...]:
    """The axes of x from the farthest apart in memory to the nearest: in that order a convolution's
    result, which lies channels last, is flattened without a copy."""
    return tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))


def zeros_beside(xp: Any, x: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros, whose axes lie in memory as x's do where there are as many: so passes over both run
    along both."""
    order = lie(x) if x.ndim == len(shape) else tuple(range(len(shape)))
    return xp.zeros([shape[axis] for axis in order], dtype).transpose(
        [order.index(axis) for axis in range(len(shape))]
    )


@lru_cache(maxsize=64)
def _ones(n: int, char: str) -> np.ndarray:
    """The vector that makes a product a sum; kept, for it is asked for at every step."""
    return np.ones(n, char)


def as_rows(a: Array) -> Array:
    """(..., D) -> (N, D). Not reshape(-1, D), which cannot tell N where D is 0."""
    return a.reshape(prod(a.shape[:-1]), a.shape[-1])


def sum_last(xp: Any, a: Array) -> Array:
    """Sum over the last axis: (..., D) -> (..., 1)."""
    if xp is not np or a.dtype.kind != "f":
        return a.sum(axis=-1, keepdims=True)
    return (as_rows(a) @ _ones(a.shape[-1], a.dtype.char)).reshape(*a.shape[:-1], 1)


def dot_last(xp: Any, a: Array, b: Array) -> Array:
    """Sum of a * b over the last axis, without the product in memory: (..., D), (..., D) -> (...,
    1)."""
    if xp is not np:
        return (a * b).sum(axis=-1, keepdims=True)
    # vecdot starts BLAS anew for each row
    if a.shape[-1] < 64:
        return np.einsum("...i,...i->...", a, b)[..., None]
    return np.vecdot(a, b)[..., None]


def sum_rows(xp: Any, a: Array, wide: bool = False) -> Array:
    """Sum over the first axis: (N, D) -> (D,). wide: on a GPU sums of halves are answered in
    float32."""
    if xp is not np:
        run = on_gpu(sum_rows, [a])
        if run is not None and (wide or a.shape[-1] > 1):
            return run(xp, a, wide=wide)
        return a.sum(axis=0, dtype=xp.promote_types(a.dtype, "float32") if wide else None)
    if a.dtype.kind != "f":
        return a.sum(axis=0)
    return _ones(len(a), a.dtype.char) @ a if len(a) <= MANY else sum_first(a)


def sum_first(a: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """NumPy's a.sum(axis=0, dtype=dtype) for floats in any number: in blocks of TERMS, then the sum
    of the blocks' sums."""
    n, beside = len(a), prod(a.shape[1:])
    if n <= TERMS:
        return a.sum(axis=0, dtype=dtype)
    # short rows: so many are beside each other in a pass
    step = max(1, min(WIDE // max(1, beside), n // TERMS))
    blocks = n // (TERMS * step)
    whole = blocks * TERMS * step
    parts = a[:whole].reshape(blocks, TERMS, step, *a.shape[1:]).sum(axis=1, dtype=dtype)
    total = sum_first(parts.reshape(blocks * step, *a.shape[1:]))
    return total if whole == n else total + sum_first(a[whole:], dtype)


def is_long(a: np.ndarray, axis: Axes) -> bool:
    """Could NumPy's a.sum(axis) add more than LONG floats one after the other?  ``_long_sum`` looks
    closer."""
    if a.size <= LONG or a.dtype.kind != "f":
        return False
    if axis is None:
        return not a.flags.c_contiguous
    if type(axis) is int:
        return (
            -a.ndim <= axis < a.ndim
            and a.shape[axis] > LONG
            and not (a.flags.c_contiguous and axis in (-1, a.ndim - 1))
        )
    if type(axis) is not tuple or not all(type(i) is int and -a.ndim <= i < a.ndim for i in axis):
        return False
    return count(a.shape, axis) > LONG and len({i % a.ndim for i in axis}) == len(axis)


def _long_sum(
    a: np.ndarray, axis: Axes, keepdims: bool, dtype: DTypeLike | None = None
) -> np.ndarray:
    """a.sum(axis, dtype, keepdims) where ``is_long``: first along the axes that are fastest in
    memory, in which NumPy adds pairwise, then along the others in blocks, from the nearest to the
    farthest."""
    summed = (
        set(range(a.ndim))
        if axis is None
        else {i % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,))}
    )
    order = sorted(
        (i for i in range(a.ndim) if a.shape[i] > 1), key=lambda i: -abs(a.strides[i]) or -np.inf
    )
    runs: list[list[int]] = []  # axes that lie as one
    for i in order:
        if (
            runs
            and (runs[-1][0] in summed) == (i in summed)
            and a.strides[runs[-1][-1]] == a.strides[i] * a.shape[i]
        ):
            runs[-1].append(i)
        else:
            runs.append([i])
    fast = runs.pop() if runs and runs[-1][0] in summed else []
    slow = [run for run in runs if run[0] in summed]
    if prod(a.shape[i] for run in slow for i in run) <= LONG:
        return a.sum(axis=axis, dtype=dtype, keepdims=keepdims)
    total = a.sum(axis=tuple(fast), dtype=dtype, keepdims=True) if fast else a
    for run in reversed(slow):
        others = [i for i in range(a.ndim) if i not in run]
        rows = total.transpose(*run, *others).reshape(-1, *[total.shape[i] for i in others])
        total = sum_first(rows, dtype).reshape(
            [1 if i in run else n for i, n in enumerate(total.shape)]
        )
    return (
        total if keepdims else total.reshape([n for i, n in enumerate(a.shape) if i not in summed])
    )


def sum_over(xp: Any, a: Array, axis: Axes = None, keepdims: bool = False, **wide: Any) -> Array:
    """a.sum(axis, keepdims), which for integers and bools is int64. On a GPU, where the axes come
    first in memory and others after them, by ``sum_rows``. Halves are answered in float32 where
    dtype="float32" asks for it."""
    # NumPy's would be uint64, of which - 1 wraps
    if a.dtype.kind in "biu":
        return a.sum(axis=axis, keepdims=keepdims, dtype="int64")
    if xp is np and is_long(a, axis):
        half = a.dtype.char == "e"
        total = _long_sum(a, axis, keepdims, **({"dtype": "float32"} if half else {}))
        return total if wide else total.astype(a.dtype, copy=False)
    if a.itemsize == 2 and a.dtype.char == "e" and not wide and (xp is np or axis is None):
        return a.sum(axis=axis, keepdims=keepdims, dtype="float32").astype(a.dtype)
    if xp is np or axis is None or not a.ndim or not suits([a]):
        return a.sum(axis=axis, keepdims=keepdims)
    axes = axis if isinstance(axis, tuple) else (axis,)
    summed = {i % a.ndim for i in axes}
    if len(summed) < len(axes) or not all(-a.ndim <= i < a.ndim for i in axes):
        return a.sum(axis=axis, keepdims=keepdims)  # CuPy says what is wrong
    # an axis of length 1 lies anywhere
    order = [i for i in lie(a) if a.shape[i] > 1]
    first = {i for i in summed if a.shape[i] > 1}
    kept = [i for i in range(a.ndim) if i not in summed]
    after = order[len(first) :]
    if (
        not first
        or not after
        or set(order[: len(first)]) != first
        or not a.size
        or not (a.transpose(lie(a)).flags.c_contiguous)
    ):
        return a.sum(axis=axis, keepdims=keepdims, **wide)
    rows = a.transpose(lie(a)).reshape(prod(a.shape[i] for i in first), -1)
    total = sum_rows(xp, rows, bool(wide)).reshape([a.shape[i] for i in after])
    # as the array's own axes are ordered
    total = total.transpose([after.index(i) for i in kept if i in after])
    return total.reshape(
        [1 if i in summed else n for i, n in enumerate(a.shape) if keepdims or i not in summed]
    )


def stretched(shape: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of ``shape`` that broadcasting added to an array of shape ``before``, or along which
    it repeated that array."""
    added = len(shape) - len(before)
    repeated = [added + i for i, n in enumerate(before) if n == 1 and shape[added + i] != 1]
    return (*range(added), *repeated)


def mean_over(xp: Any, a: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """a.mean(axis, keepdims), where it is long and on a GPU by ``sum_over``; of halves in float32,
    as their sum may be too large for a half."""
    if not a.size:
        with np.errstate(invalid="ignore"):  # 0 / 0: the mean of none is NaN
            return sum_over(xp, a, axis, keepdims) / count(a.shape, axis)
    if not is_long(a, axis) if xp is np else axis is None or not suits([a]):
        return a.mean(axis=axis, keepdims=keepdims)
    total = sum_over(xp, a, axis, keepdims, **({"dtype": "float32"} if a.dtype.char == "e" else {}))
    return (total * (total.size / a.size)).astype(a.dtype, copy=False)


def var_over(
    xp: Any, a: Array, axis: Axes = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    """a.var(axis, ddof, keepdims); halves are calculated in float32. NaN or infinity where n - ddof
    is not positive."""
    if type(ddof) is not int:
        ddof = number(ddof, "var: ddof")
    if count(a.shape, axis) > ddof:
        wide = a.astype("float32") if a.dtype.char == "e" else a
        if xp is np and is_long(a, axis):
            away = wide - mean_over(xp, wide, axis, True)
            away *= away
            return (sum_over(xp, away, axis, keepdims) / (count(a.shape, axis) - ddof)).astype(
                a.dtype, copy=False
            )
        return wide.var(axis=axis, ddof=ddof, keepdims=keepdims).astype(a.dtype, copy=False)
    away = a - mean_over(xp, a, axis, True) if a.size else a
    with np.errstate(invalid="ignore", divide="ignore"):
        return sum_over(xp, away * away, axis, keepdims) / xp.zeros((), a.dtype)


def count(shape: tuple[int, ...], axis: Axes) -> int:
    """How many entries a reduction takes together."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return prod(shape[a] for a in axes)


def halves_wide(function: Callable) -> Callable:
    """A function (xp, arrays..., options) which calculates with halves in float32, and rounds its
    result once."""

    @wraps(function)
    def call(xp: Any, *arrays: Any, **options: Any) -> Any:
        if not any(a.dtype.char == "e" for a in arrays):
            return function(xp, *arrays, **options)
        dtype = np.result_type(*[a.dtype for a in arrays])
        return function(
            xp, *[a.astype("float32") if a.dtype.char == "e" else a for a in arrays], **options
        ).astype(dtype)

    return call


def max_last(xp: Any, a: Array) -> Array:
    """Maximum over the last axis: (..., D) -> (..., 1). Short rows are laid out as columns first:
    then one instruction compares many rows, where NumPy would otherwise start over at each."""
    if not a.shape[-1]:
        return xp.full((*a.shape[:-1], 1), -np.inf, a.dtype)  # of none
    if xp is not np or a.shape[-1] > 32:
        return a.max(axis=-1, keepdims=True)
    return np.ascontiguousarray(as_rows(a).T).max(axis=0).reshape(*a.shape[:-1], 1)


def exp_rows(xp: Any, x: Array, out: Array) -> tuple[Array, Array]:
    """out = exp(x - top), of rows x (N, D); out must not be x. Returns its sums (N, 1), and top,
    against overflow.

    One top for all rows is much the quicker to find. It does, unless some row lies so far below it
    that its sum grows tiny (or is NaN): then each row gets its own, (N, 1).
    """
    if xp is np and x.size:
        top = x.max()
        total = sum_last(xp, np.exp(np.subtract(x, top, out=out), out=out))
        if total.min() > NEAR:
            return total, top
    top = max_last(xp, x)
    return sum_last(xp, xp.exp(xp.subtract(x, top, out=out), out=out)), top
