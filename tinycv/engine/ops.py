"""The derivative table: what every op computes, and its derivative (VJP); one row per op.

The top of record.py explains how to read a row.  In short: ``g`` is dL/d(result); a pull returns
dL/d(input), in the shape of the result where that is easier (the walk sums over the axes that
broadcasting added).  Pulls are written with operators and with the ops of this table, so they can
themselves be differentiated, to any order.

Where a function has no derivative, a convention picks a value, that of PyTorch if it has one:
    relu at 0: 0      abs at 0: 0      clip at a bound: 1      maximum, minimum of equals: half each
    relu, maximum, minimum at NaN: 0 (differs: PyTorch returns g)
    abs at NaN: NaN (differs: PyTorch returns 0)   max, min over ties: divided equally among them
    norm at 0: 0      sqrt at 0: inf      x**0 at 0: 0      0**b, with respect to b: 0
    var where n - ddof is not positive: NaN at the mean, else infinity (see _pull_var)
    logsumexp of infinity: NaN there, 0 elsewhere

A norm whose squares leave the range of float32 (entries beyond 1e19 or below 1e-19) is infinity or
0, as in PyTorch: use float64 for such numbers.

Names and arguments follow NumPy (axis, keepdims).  As in NumPy, the names sum, max, ... hide
Python's functions of the same names in this file.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.backend import array_module
from tinycv.engine.gemm import matrix_product
from tinycv.engine.operands import FLOAT16
from tinycv.engine.record import name_rows, op, real
from tinycv.engine.reduce import (
    as_rows,
    count,
    halves_wide,
    mean_over,
    sum_over,
    var_over,
    zeros_beside,
)
from tinycv.engine.shards import all_reduce as _all_reduce
from tinycv.engine.signatures import Axes
from tinycv.engine.tensor import Gradient, bare

# fmt: off

# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────

add = op(lambda xp, a, b: a + b, wide=True, a=lambda g: g, b=lambda g: g)
sub = op(lambda xp, a, b: a - b, wide=True, a=lambda g: g, b=lambda g: -g)
mul = op(lambda xp, a, b: a * b, wide=True, a=lambda g, b: g * b, b=lambda g, a: g * a)
div = real(lambda xp, a, b: a / b, wide=True, a=lambda g, b: g / b, b=lambda g, y, b: -g * y / b)
neg = op(lambda xp, x: -x, x=lambda g: -g)
remainder = op(lambda xp, a, b: a % _divisor(xp, a, b, "remainder"), wide=True,
               a=lambda g: g, b=lambda g, a, b: -g * floor_divide(a, b))
power = op(lambda xp, a, b: _power(a, b), wide=True,
           a=lambda g, a, b: where(b == 0, 0.0, g * b * a ** where(b == 0, 1.0, b - 1)),
           b=lambda g, y, a: where(a == 0, 0.0, g * y * log(where(a == 0, 1.0, a))))
pow = op(lambda xp, x, exponent=1.0: _power(x, exponent), wide=True,
         x=lambda g, x, exponent: g * (exponent * x ** (exponent - 1)) if exponent else 0.0 * g)

# ── functions of one number ──────────────────────────────────────────────────────────────────────

exp = real(lambda xp, x: xp.exp(x), x=lambda g, y: g * y)
expm1 = real(lambda xp, x: xp.expm1(x), x=lambda g, y: g * (y + 1))
log = real(lambda xp, x: xp.log(x), x=lambda g, x: g / x)
log1p = real(lambda xp, x: xp.log1p(x), x=lambda g, x: g / (1 + x))
sqrt = real(lambda xp, x: xp.sqrt(x), x=lambda g, y: 0.5 * g / y)
tanh = real(lambda xp, x: xp.tanh(x), wide=True, x=lambda g, y: g * (1 - y * y))
sigmoid = real(lambda xp, x: _sigmoid(xp, x), wide=True, x=lambda g, y: g * (y * (1 - y)))
softplus = real(lambda xp, x: _softplus(xp, x), wide=True, x=lambda g, x: g * sigmoid(x))
erf = real(lambda xp, x: backend.erf(xp, x), wide=True,
           x=lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-x * x)))
sin = real(lambda xp, x: xp.sin(x), x=lambda g, x: g * cos(x))
cos = real(lambda xp, x: xp.cos(x), x=lambda g, x: -g * sin(x))
relu = op(lambda xp, x: _positive(xp, x), x=lambda g, y: g * (y > 0))
abs = op(lambda xp, x: xp.abs(x), x=lambda g, x: g * sign(x))

# ── choices ──────────────────────────────────────────────────────────────────────────────────────

where = op(lambda xp, c, a, b: xp.where(_condition(xp, c), a, b),
           a=lambda g, c: where(c, g, 0.0), b=lambda g, c: where(c, 0.0, g))
maximum = op(lambda xp, a, b: xp.maximum(a, b), a=lambda g, a, b: _share(g, a > b, a == b),
             b=lambda g, a, b: _share(g, b > a, a == b))
minimum = op(lambda xp, a, b: xp.minimum(a, b), a=lambda g, a, b: _share(g, a < b, a == b),
             b=lambda g, a, b: _share(g, b < a, a == b))
clip = op(lambda xp, x, low=None, high=None: xp.clip(x, low, high),
          x=lambda g, x, low, high: where(_between(x, low, high), g, 0.0))

# ── reductions over axes (axis: an int, a tuple, or None for all axes) ───────────────────────────

sum = op(lambda xp, x, axis=None, keepdims=False: sum_over(xp, x, axis, keepdims),
         x=lambda g, x_shape, axis, keepdims: spread(g, x_shape, axis, keepdims))
mean = real(lambda xp, x, axis=None, keepdims=False: mean_over(xp, x, axis, keepdims), wide=True,
            x=lambda g, x_shape, axis, keepdims: spread(
                _over(g, count(x_shape, axis)), x_shape, axis, keepdims))
var = real(lambda xp, x, axis=None, ddof=0, keepdims=False: var_over(xp, x, axis, ddof, keepdims),
           wide=True,
           x=lambda g, x, axis, ddof, keepdims: _pull_var(g, x, axis, ddof, keepdims))
max = op(lambda xp, x, axis=None, keepdims=False: x.max(axis=axis, keepdims=keepdims), wide=True,
         x=lambda g, x, y, axis, keepdims: _to_winners(g, x, y, axis, keepdims))
min = op(lambda xp, x, axis=None, keepdims=False: x.min(axis=axis, keepdims=keepdims), wide=True,
         x=lambda g, x, y, axis, keepdims: _to_winners(g, x, y, axis, keepdims))
logsumexp = real(halves_wide(
                    lambda xp, x, axis=None, keepdims=False: _logsumexp(xp, x, axis, keepdims)),
                 x=lambda g, x, y, axis, keepdims: (
                    spread(g, x.shape, axis, keepdims) * _shares(x, y, axis, keepdims)))
norm = real(halves_wide(
                lambda xp, x, axis=None, keepdims=False: xp.sqrt(
                    sum_over(xp, x * x, axis, keepdims))),
            wide=True,
            x=lambda g, x, y, axis, keepdims: x * spread(
                where(y == 0, 0.0, g / where(y == 0, 1.0, y)), x.shape, axis, keepdims))
cumsum = op(halves_wide(lambda xp, x, axis=-1: _cumsum(xp, x, axis)),
            x=lambda g, axis: flip(cumsum(flip(g, axis), axis), axis))

# ── shapes ───────────────────────────────────────────────────────────────────────────────────────

reshape = op(lambda xp, x, shape=(-1,): x.reshape(shape), x=lambda g, x_shape: g.reshape(x_shape))
transpose = op(lambda xp, x, axes=None: xp.transpose(x, axes),
               x=lambda g, axes: transpose(
                   g, axes and tuple(np.argsort(np.asarray(axes) % len(axes)))))
swapaxes = op(lambda xp, x, axis1=-2, axis2=-1: x.swapaxes(axis1, axis2),
              x=lambda g, axis1, axis2: g.swapaxes(axis1, axis2))
expand = op(lambda xp, x, shape=(): xp.broadcast_to(x, shape), x=lambda g: g)
squeeze = op(lambda xp, x, axis=None: xp.squeeze(x, axis), x=lambda g, x_shape: g.reshape(x_shape))
unsqueeze = op(lambda xp, x, axis=0: xp.expand_dims(x, axis),
               x=lambda g, x_shape: g.reshape(x_shape))
flip = op(lambda xp, x, axis=None: xp.flip(x, axis), x=lambda g, axis: flip(g, axis))
pad = op(lambda xp, x, width=0, value=0: _padded(xp, x, width, value),
         x=lambda g, x_shape, width: g[_inside(width, x_shape)])
getitem = op(lambda xp, x, index=(): x[index],
             x=lambda g, x_shape, index: scatter(g, index, x_shape),
             into={"x": lambda buffer, parent, g, x_shape, index: _add_into(
                 buffer, parent, g, index)})
scatter = op(lambda xp, x, index=(), shape=(): _add_into(xp.zeros(shape, x.dtype), None, x, index),
             x=lambda g, index: getitem(g, index))
concatenate = op(lambda xp, *xs, axis=0: xp.concatenate(xs, axis),
                 xs=lambda g, i, axis, xs_shapes: g[_part(xs_shapes, i, axis)])
stack = op(lambda xp, *xs, axis=0: xp.stack(xs, axis),
           xs=lambda g, i, axis: getitem(g, _along(axis, g.ndim, i)))
alias = op(lambda xp, x: x, x=lambda g: g)
astype = op(lambda xp, x, dtype=np.float32: xp.asarray(x, dtype), x=lambda g: g)
to = op(lambda xp, x, device="cpu": backend.to_device(x, device),
        x=lambda g, x_device: to(g, x_device))
all_reduce = op(lambda xp, x: _all_reduce(x), x=lambda g: all_reduce(g))        # see shards.py

# ── products of matrices ─────────────────────────────────────────────────────────────────────────

matmul = op(lambda xp, a, b: _matmul(a, b),                             # two axes or more each
            a=lambda g, b: matrix_product(g, swapaxes(b)),
            b=lambda g, a, b_shape: _pull_b(g, a, b_shape))
einsum = op(halves_wide(lambda xp, *xs, subscripts="": _einsum(xp, subscripts, xs)),
            xs=lambda g, i, subscripts, *xs: _pull_einsum(g, i, subscripts, xs))

# ── no derivative: comparisons, logic and rounding ───────────────────────────────────────────────

equal = op(lambda xp, a, b: a == b)
not_equal = op(lambda xp, a, b: a != b)
greater = op(lambda xp, a, b: a > b)
greater_equal = op(lambda xp, a, b: a >= b)
less = op(lambda xp, a, b: a < b)
less_equal = op(lambda xp, a, b: a <= b)
logical_and = op(lambda xp, a, b: xp.logical_and(a, b))
logical_or = op(lambda xp, a, b: xp.logical_or(a, b))
logical_not = op(lambda xp, x: xp.logical_not(x))
# The operators & | ^ ~: on bools they are logical, on integers bit by bit; floats are refused.
bitwise_and = op(lambda xp, a, b: a & b)
bitwise_or = op(lambda xp, a, b: a | b)
bitwise_xor = op(lambda xp, a, b: a ^ b)
bitwise_not = op(lambda xp, x: xp.invert(x))
sign = op(lambda xp, x: xp.sign(x))
floor_divide = op(lambda xp, a, b: a // _divisor(xp, a, b, "floor_divide"), wide=True)
truncate = op(lambda xp, x, dtype=np.int64: xp.asarray(x, dtype))       # astype to integers, bools
any = op(lambda xp, x, axis=None, keepdims=False: x.any(axis=axis, keepdims=keepdims))
all = op(lambda xp, x, axis=None, keepdims=False: x.all(axis=axis, keepdims=keepdims))
isfinite = op(lambda xp, x: xp.isfinite(x))
argmax = op(lambda xp, x, axis=None: x.argmax(axis))
argmin = op(lambda xp, x, axis=None: x.argmin(axis))

# fmt: on

# ── helpers of the rows above ────────────────────────────────────────────────────────────────────


def spread(g: Gradient, shape: tuple, axis: Axes, keepdims: bool) -> Gradient:
    """g, the gradient of a reduction, copied along the axes that were reduced: the transpose of
    ``sum``. shape: that of the input."""
    if axis is not None and not keepdims:
        axes = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
        g = g.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))
    return expand(g, shape)


def _over(g: Any, n: int) -> Any:
    """g / n; for n = 0 zeros, because then no entry receives a gradient, and g / 0 would warn."""
    return g / n if n else 0.0 * g


def _pull_var(g: Any, x: Any, axis: Any, ddof: float, keepdims: bool) -> Any:
    """g 2 (x - mean) / (n - ddof). If n - ddof is not positive: NaN at the mean, infinity
    elsewhere.

    PyTorch returns the same for a variance over all axes. differs: for a variance over some of the
    axes PyTorch gives infinity the sign of x - mean, and a finite slope if ddof exceeds n. But a
    variance with no degrees of freedom has no slope, so here one rule holds for all axes, and the
    mistake shows everywhere."""
    degrees = count(x.shape, axis) - ddof
    centred = x - mean(x, axis, True) if x.size else x
    g = spread(g, x.shape, axis, keepdims)
    if degrees > 0:
        return g * centred * (2 / degrees)
    return g * where(centred == 0, math.nan, math.inf)


def _power(a: Any, b: Any) -> Any:
    """a ** b of arrays, or of two Python numbers."""
    return a**b if hasattr(a, "dtype") or hasattr(b, "dtype") else _power_of_numbers(a, b)


def _power_of_numbers(a: Any, b: Any) -> Any:
    """a ** b of Python numbers, with the results that arrays give: NaN where Python would return a
    complex number, and infinity where it would raise an error."""
    whole = isinstance(a, int) and isinstance(b, int) and b >= 0
    if whole or not (isinstance(a, (int, float)) and isinstance(b, (int, float))):
        return a**b
    with np.errstate(all="ignore"):
        return (np.float64(a) ** np.float64(b)).item()


def _positive(xp: Any, x: Any) -> Any:
    """max(x, 0). For floats in NumPy, clip takes a third of the time of maximum."""
    return (
        xp.clip(x, 0, math.inf)
        if xp is np and type(x) is np.ndarray and x.dtype.kind == "f"
        else xp.maximum(x, 0)
    )


def _softplus(xp: Any, x: Any) -> Any:
    """log(1 + exp x) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
    if getattr(x, "dtype", None) == FLOAT16:  # log(1 + exp(-16)) would be 0 in float16
        return _softplus(xp, x.astype(np.float32)).astype(np.float16)
    y = backend.log1p(xp, xp.exp(-xp.abs(x)))
    y += _positive(xp, x)
    return y


def _sigmoid(xp: Any, x: Any) -> Any:
    # in float16, exp(12) would be infinity
    if getattr(x, "dtype", None) == FLOAT16:
        return _sigmoid(xp, x.astype(np.float32)).astype(np.float16)
    # Far below 0, exp(-x) overflows to infinity, and 1 / infinity = 0 is right.
    with np.errstate(over="ignore"):
        e = xp.exp(-x)
    e += 1
    return 1 / e


def _share(g: Any, won: Any, tied: Any) -> Any:
    return where(tied, 0.5 * g, where(won, g, 0.0))


def _to_winners(g: Any, x: Any, y: Any, axis: Any, keepdims: bool) -> Any:
    # The maximum of entries with a NaN is NaN. x != x finds the NaNs, as NaN == NaN is false.
    won = astype((x == spread(y, x.shape, axis, keepdims)) | (x != x), g.dtype)
    return won * spread(g, x.shape, axis, keepdims) / sum(won, axis, True)


def _between(x: Any, low: Any, high: Any) -> Any:
    """low <= x <= high, where None means no bound. False for NaN, and everywhere if low > high."""
    above = x == x if low is None else x >= low
    return above if high is None else above & (x <= high)


def _shares(x: Any, y: Any, axis: Any, keepdims: bool) -> Any:
    """softmax(x) = exp(x - logsumexp(x)). A float16 logsumexp near 300 has a rounding error of 0.1,
    so it is computed again in float32."""
    if x.dtype == np.float16:
        wide = astype(x, np.float32)
        return _shares(wide, logsumexp(wide, axis, True), axis, True)
    return exp(x - _subtrahend(spread(y, x.shape, axis, keepdims)))


def _subtrahend(y: Any) -> Any:
    """y, but 0 in place of -inf. In a row where all x are -inf, so is y, and x - y = -inf - -inf
    would be NaN; with 0 the row's softmax is 0."""
    return where(y == -math.inf, 0.0, y)


def _cumsum(xp: Any, x: Any, axis: Any) -> Any:
    """Sums of integers are int64, as in ``sum``. NumPy adds one term after the other, so a float32
    sum would lose digits; it is computed in float64, as in PyTorch. CuPy adds pairwise."""
    if x.dtype.kind in "biu":
        return xp.cumsum(x, axis=axis, dtype="int64")
    if xp is np and x.dtype == np.float32:
        return np.cumsum(x, axis=axis, dtype="float64").astype(np.float32)
    return xp.cumsum(x, axis=axis)


def _divisor(xp: Any, a: Any, b: Any, name: str) -> Any:
    """b. ZeroDivisionError if integers are divided by 0, where NumPy would return 0. On a GPU the
    result is 0, because a check would have to wait for the GPU."""
    if (
        xp is np
        and np.asarray(b).dtype.kind != "f"
        and np.asarray(a).dtype.kind != "f"
        and not np.all(b)
    ):
        raise ZeroDivisionError(
            f"{name}: b is 0 somewhere, and integers cannot be divided by 0; divide floats, which "
            "gives infinity or NaN there, or replace the zeros with tinycv.where"
        )
    return b


def _condition(xp: Any, c: Any) -> Any:
    """c, as an array if it is a Python bool on a GPU: CuPy's ``where`` does not take one."""
    return xp.full((), c) if xp is not np and isinstance(c, (bool, np.bool)) else c


def _logsumexp(xp: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    # An empty array has no maximum; its sum has the right shape.
    top = x.max(axis=axis, keepdims=True) if x.size else x.sum(axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    total = sum_over(xp, xp.exp(x - top), axis, True)
    # If all x are -inf, log 0 = -inf is the right answer.
    with np.errstate(divide="ignore"):
        y = xp.log(total) + top
    return y if keepdims else xp.squeeze(y, axis)


def _padded(xp: Any, x: Any, width: Any, value: Any) -> Any:
    if getattr(value, "ndim", 0):
        raise TypeError(f"pad: value is {shown(value)}; it must be a number")
    if isinstance(width, dict):
        raise TypeError(
            f"pad: width is {shown(width)}; it must be a whole number, or a pair (before, after) "
            "for each axis"
        )
    return xp.pad(x, width, constant_values=0 if value is None else value)


def _inside(width: Any, shape: tuple) -> tuple:
    """The slices that cut the padding off again. shape: that before padding."""
    pairs = np.broadcast_to(np.asarray(width), (len(shape), 2))
    return tuple(
        slice(int(before), int(before) + n) for (before, _), n in zip(pairs, shape, strict=True)
    )


def _along(axis: int, ndim: int, i: Any) -> tuple:
    """The index that takes i along one axis, and everything along the axes before it."""
    return (slice(None),) * (axis % ndim) + (i,)


def _part(shapes: Any, i: int, axis: int) -> tuple:
    """The slices where input i lies in a concatenation. shapes: of all inputs (record.Shapes)."""
    edges = shapes.edges(axis)
    return _along(axis, len(shapes[i]), slice(edges[i], edges[i + 1]))


def _add_into(buffer: Any, parent: Any, g: Any, index: Any) -> Any:
    """buffer[index] += g, where an index that occurs twice is added twice. If ``buffer`` is None,
    it is new zeros in the shape of ``parent``."""
    xp = array_module(g)
    if buffer is None:
        buffer = zeros_beside(xp, g, parent.shape, parent.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if builtins.any(
        getattr(p, "dtype", None) is not None and p.dtype.kind in "iu" and p.ndim for p in parts
    ):
        backend.add_at(xp, buffer, index, g)
    else:
        buffer[index] += g
    return buffer


def _matmul(a: Any, b: Any) -> Any:
    # (..., M, K) @ (K, N) as one large product (..., K) @ (K, N), instead of a loop of small ones
    if b.ndim == 2 and a.ndim > 2:
        return matrix_product(as_rows(a), b).reshape(*a.shape[:-1], b.shape[-1])
    return matrix_product(a, b)


def _pull_b(g: Any, a: Any, b_shape: tuple) -> Any:
    """dL/db of a @ b: aᵀ g. If b is one matrix for a whole batch, the product also sums over the
    batch."""
    if len(b_shape) == 2 and a.ndim > 2:
        a, g = as_rows(a), as_rows(g)
    return matrix_product(swapaxes(a), g)


def _einsum(xp: Any, subscripts: str, xs: tuple[Any, ...]) -> Any:
    """xp.einsum. On a CPU, an einsum that only sums one array uses ``sum_over``, which stays
    accurate for long sums."""
    (term, _, out), first = subscripts.partition("->"), xs[0]
    if xp is not np or len(xs) > 1 or first.dtype.kind != "f" or len(out) == len(term):
        return xp.einsum(subscripts, *xs)
    total = sum_over(xp, first, tuple([i for i, letter in enumerate(term) if letter not in out]))
    kept = [letter for letter in term if letter in out]
    return total.transpose([kept.index(letter) for letter in out]) if out else total


def _pull_einsum(g: Any, i: int, subscripts: str, xs: tuple) -> Any:
    """dL/dx_i is an einsum too: of the other inputs and g, with the letters of x_i as its output.

    A letter that was summed over may occur in x_i only (or have length 1 in all other inputs). Then
    nothing else says how long that axis is; a vector of ones does."""
    inputs, out = subscripts.split("->")
    terms = inputs.split(",")
    others = [(t, x) for j, (t, x) in enumerate(zip(terms, xs, strict=True)) if j != i] + [(out, g)]
    known: dict[str, int] = {}
    for term, x in others:
        known.update(
            (c, builtins.max(n, known.get(c, 0))) for c, n in zip(term, x.shape, strict=True)
        )
    xp = array_module(bare(g))
    ones = [
        (c, xp.ones(n, g.dtype))
        for c, n in zip(terms[i], xs[i].shape, strict=True)
        if known.get(c, -1) < n
    ]
    letters, arrays = zip(*others, *ones, strict=True)
    return einsum(*arrays, subscripts=",".join(letters) + "->" + terms[i])


name_rows(globals())
