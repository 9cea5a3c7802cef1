"""Fast and accurate sums, means, variances and maxima; and cache blocking for kernels.

Speed.  NumPy's sum uses one core and, if the axis is short, spends most of its time on starting
over at each row.  The product with a vector of ones is the same sum, computed by BLAS several times
faster at the sizes of a Transformer (benchmarks/ops.py).  On a GPU, CuPy's reductions are fast
along the last axes in memory, and gpu/reduce.py is fast along the first.

Accuracy.  NumPy adds pairwise along the axis that is contiguous in memory, but one term after the
other along any other axis.  There float32 loses one digit for each tenfold number of terms, and a
count stops at 16,777,216.  So long sums along such axes are computed in blocks: first the sums of
blocks of TERMS rows, then the sum of these sums, and so on.  A sum of a million equal terms then
has a relative error below 5e-6.
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

# The size of a block, in numbers: a block, its result and some scratch memory fit into the cache of
# a core.
BLOCK = 1 << 15
# A long sum is computed in blocks of so many terms.
TERMS = 256
# A sum of more terms than this, along an axis that is not contiguous, is a long sum.
LONG = 4 * TERMS
# Up to so many rows a sum by BLAS is accurate enough.
MANY = 1 << 14
# In a long sum, so many columns are added in one pass.
WIDE = 1 << 12
# A row whose exponentials sum to more than this needs no maximum of its own: see exp_rows.
NEAR = 1e-5


def blocks(xp: Any, rows: int, width: int = 1, size: int | None = None) -> list[slice]:
    """Slices that cut ``rows`` rows of ``width`` numbers into blocks that stay in the cache, for a
    kernel that reads them several times. A block has ``size`` numbers, by default BLOCK. With CuPy
    there is a single slice, because each further call would be another kernel launch."""
    step = max(1, (size or BLOCK) // max(1, width) if xp is np else rows)
    return [slice(start, start + step) for start in range(0, rows, step)]


def slices_of_examples(xp: Any, examples: int, each: int) -> list[slice]:
    """Slices of a few examples, each with ``each`` numbers, for kernels that make about a dozen
    NumPy calls. A slice is large enough that the calls themselves cost little (also with several
    threads, which wait for Python's lock between calls), and small enough that what one call writes
    is still in the cache for the next."""
    return blocks(xp, examples, each, 16 * BLOCK)


def axes_by_stride(x: Array) -> tuple[int, ...]:
    """The axes of x in the order in which they lie in memory, by decreasing stride. In this order a
    convolution's result, which is stored channels last, can be flattened without a copy."""
    return tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))


def zeros_beside(xp: Any, x: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros whose axes lie in memory in the same order as those of x, if there are equally many: a
    loop over both then reads both contiguously."""
    order = axes_by_stride(x) if x.ndim == len(shape) else tuple(range(len(shape)))
    return xp.zeros([shape[axis] for axis in order], dtype).transpose(
        [order.index(axis) for axis in range(len(shape))]
    )


@lru_cache(maxsize=64)
def _ones(n: int, char: str) -> np.ndarray:
    """A vector of ones, which turns a matrix product into a sum; cached, as every step uses it."""
    return np.ones(n, char)


def as_rows(a: Array) -> Array:
    """(..., D) -> (N, D). reshape(-1, D) would fail for D = 0, where N cannot be computed."""
    return a if a.ndim == 2 else a.reshape(prod(a.shape[:-1]), a.shape[-1])


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
    # vecdot calls BLAS once per row, which is slow for short rows.
    if a.shape[-1] < 64:
        return np.einsum("...i,...i->...", a, b)[..., None]
    return np.vecdot(a, b)[..., None]


def sum_rows(xp: Any, a: Array, wide: bool = False) -> Array:
    """Sum over the first axis: (N, D) -> (D,). wide: on a GPU, sums of float16 are returned in
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
    """a.sum(axis=0, dtype=dtype) for any number of floats: the sums of blocks of TERMS rows, and
    then the sum of these sums."""
    n, width = len(a), prod(a.shape[1:])
    if n <= TERMS:
        return a.sum(axis=0, dtype=dtype)
    # If rows are short, several of them are treated as one longer row.
    step = max(1, min(WIDE // max(1, width), n // TERMS))
    blocks = n // (TERMS * step)
    whole = blocks * TERMS * step
    parts = a[:whole].reshape(blocks, TERMS, step, *a.shape[1:]).sum(axis=1, dtype=dtype)
    total = sum_first(parts.reshape(blocks * step, *a.shape[1:]))
    return total if whole == n else total + sum_first(a[whole:], dtype)


def is_long(a: np.ndarray, axis: Axes) -> bool:
    """Could NumPy's a.sum(axis) add more than LONG floats one after the other? This is a quick
    test; ``_long_sum`` looks at the strides."""
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
    """a.sum(axis, dtype, keepdims) if ``is_long``: first along the contiguous axes, where NumPy
    adds pairwise, then along the other axes in blocks, from the smallest stride to the largest."""
    summed = (
        set(range(a.ndim))
        if axis is None
        else {i % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,))}
    )
    order = sorted(
        (i for i in range(a.ndim) if a.shape[i] > 1), key=lambda i: -abs(a.strides[i]) or -np.inf
    )
    runs: list[list[int]] = []  # groups of neighbouring axes that together form one longer axis
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
    """a.sum(axis, keepdims), with int64 for integers and bools.

    On a GPU it uses ``sum_rows`` if the summed axes come first in memory. wide: dtype="float32"
    returns sums of float16 in float32; otherwise they are rounded to float16.
    """
    # For unsigned integers NumPy would return uint64, where 0 - 1 is a huge number.
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
        return a.sum(axis=axis, keepdims=keepdims)  # raises CuPy's error
    # Axes of length 1 are left out: their strides mean nothing.
    order = [i for i in axes_by_stride(a) if a.shape[i] > 1]
    first = {i for i in summed if a.shape[i] > 1}
    kept = [i for i in range(a.ndim) if i not in summed]
    after = order[len(first) :]
    if (
        not first
        or not after
        or set(order[: len(first)]) != first
        or not a.size
        or not (a.transpose(axes_by_stride(a)).flags.c_contiguous)
    ):
        return a.sum(axis=axis, keepdims=keepdims, **wide)
    rows = a.transpose(axes_by_stride(a)).reshape(prod(a.shape[i] for i in first), -1)
    total = sum_rows(xp, rows, bool(wide)).reshape([a.shape[i] for i in after])
    # back into the order of the axes of ``a``
    total = total.transpose([after.index(i) for i in kept if i in after])
    return total.reshape(
        [1 if i in summed else n for i, n in enumerate(a.shape) if keepdims or i not in summed]
    )


def stretched(shape: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that broadcasting added or repeated, when it turned an array of shape ``before``
    into one of shape ``shape``."""
    added = len(shape) - len(before)
    repeated = [added + i for i, n in enumerate(before) if n == 1 and shape[added + i] != 1]
    return (*range(added), *repeated)


def mean_over(xp: Any, a: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """a.mean(axis, keepdims). Long sums, and sums on a GPU, are computed by ``sum_over``; those of
    float16 in float32, because they may be too large for float16."""
    if not a.size:
        with np.errstate(invalid="ignore"):  # 0 / 0: the mean of no numbers is NaN
            return sum_over(xp, a, axis, keepdims) / count(a.shape, axis)
    if not is_long(a, axis) if xp is np else axis is None or not suits([a]):
        return a.mean(axis=axis, keepdims=keepdims)
    total = sum_over(xp, a, axis, keepdims, **({"dtype": "float32"} if a.dtype.char == "e" else {}))
    return (total * (total.size / a.size)).astype(a.dtype, copy=False)


def var_over(
    xp: Any, a: Array, axis: Axes = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    """a.var(axis, ddof, keepdims), computed in float32 for float16. NaN or infinity if n - ddof is
    not positive."""
    if type(ddof) is not int:
        ddof = number(ddof, "var: ddof")
    if count(a.shape, axis) > ddof:
        wide = a.astype("float32") if a.dtype.char == "e" else a
        if xp is np and is_long(a, axis):
            squares = wide - mean_over(xp, wide, axis, True)
            squares *= squares
            return (sum_over(xp, squares, axis, keepdims) / (count(a.shape, axis) - ddof)).astype(
                a.dtype, copy=False
            )
        return wide.var(axis=axis, ddof=ddof, keepdims=keepdims).astype(a.dtype, copy=False)
    deviations = a - mean_over(xp, a, axis, True) if a.size else a
    with np.errstate(invalid="ignore", divide="ignore"):
        return sum_over(xp, deviations * deviations, axis, keepdims) / xp.zeros((), a.dtype)


def count(shape: tuple[int, ...], axis: Axes) -> int:
    """How many entries a reduction over these axes combines into one."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return prod(shape[a] for a in axes)


def halves_wide(function: Callable) -> Callable:
    """Decorator for a function (xp, arrays..., options): float16 arrays go in as float32, and the
    result is rounded to float16 once."""

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
    """Maximum over the last axis: (..., D) -> (..., 1). Short rows are first transposed into
    columns: then one instruction compares many rows, while along a short row NumPy would start over
    at each row."""
    if not a.shape[-1]:
        return xp.full((*a.shape[:-1], 1), -np.inf, a.dtype)  # the maximum of no numbers
    if xp is not np or a.shape[-1] > 32:
        return a.max(axis=-1, keepdims=True)
    return np.ascontiguousarray(as_rows(a).T).max(axis=0).reshape(*a.shape[:-1], 1)


def exp_rows(xp: Any, x: Array, out: Array) -> tuple[Array, Array]:
    """out = exp(x - top) for rows x (N, D), where subtracting ``top`` prevents overflow. Returns
    (the sum of each row of ``out`` (N, 1), top). out must not be x.

    The maximum of all rows is much faster to find than one maximum per row, so it is tried as
    ``top`` first. If a row lies so far below it that its sum is tiny (or NaN), then each row gets
    its own maximum, and ``top`` is (N, 1).
    """
    if xp is np and x.size:
        top = x.max()
        total = sum_last(xp, np.exp(np.subtract(x, top, out=out), out=out))
        if total.min() > NEAR:
            return total, top
    top = max_last(xp, x)
    return sum_last(xp, xp.exp(xp.subtract(x, top, out=out), out=out)), top
