"""einsum, take_along_axis and std: longer functions that are composed of several ops.

They are composed of rows of ops.py, so their derivatives follow without further code.  The shorter
functions are in methods.py.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from tinycv.engine import errors, ops
from tinycv.engine.arguments import along, flag, is_array, listed, number, shown
from tinycv.engine.backend import array_module, from_host
from tinycv.engine.door import array_like, within
from tinycv.engine.operands import FLOAT16, operand, option
from tinycv.engine.signatures import Axes
from tinycv.engine.tensor import ArrayLike, Tensor, bare
from tinycv.engine.wrong_shapes import wrong_axes


def einsum(subscripts: str, *operands: Any) -> Any:
    """NumPy's einsum, with "..." and repeated letters ("ii->i")."""
    spelled, arrays = spelled_out(subscripts, list(operands))
    return ops.einsum(*arrays, subscripts=spelled)


def spelled_out(subscripts: str, xs: list) -> tuple[str, list]:
    """(subscripts, operands) of the same einsum, with an explicit output, letters in place of
    "...", and no letter twice in a term.

    A diagonal x_ii is written as x_ij I_ij, with the identity matrix I, so that the pull of einsum
    needs no special case for it."""
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
    if not arrow:  # the output is every letter that occurs once, in alphabetical order
        letters = "".join(terms)
        out = "..." + "".join(sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1))
    out, free = out.replace("...", dots), free[len(dots) :]
    for k, (term, x) in enumerate(zip(list(terms), list(xs), strict=True)):
        for axis, letter in enumerate(term):
            if letter in terms[k][:axis]:
                new = free.pop(0)
                terms[k] = terms[k][:axis] + new + terms[k][axis + 1 :]
                terms.append(letter + new)
                xs.append(array_module(bare(x)).eye(x.shape[axis], dtype=x.dtype))
    return ",".join(terms) + "->" + out, xs


def check_letters(subscripts: str, terms: list, out: str, xs: list) -> None:
    """ValueError if the letters of an einsum do not fit the shapes of its operands."""
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
    unknown = sorted(set(out.replace("...", "")) - set(sizes))
    if unknown:
        raise ValueError(
            f"einsum: {shown(subscripts)}: the result names {listed(unknown)}, which no operand has"
        )


def take_along_axis(x: ArrayLike, index: ArrayLike, axis: int = -1) -> Any:
    """The entries of x at ``index`` along one axis, as index comes from argmax or argsort. The
    index has as many axes as x, and broadcasts along all axes but this one."""
    tensor = array_like("take_along_axis", x)
    array, axis = bare(tensor), along(axis, tensor.ndim, "take_along_axis")
    positions = bare(array_like("take_along_axis", index, "index"))
    if positions.dtype.kind not in "iu" or positions.ndim != array.ndim:
        raise IndexError(
            f"take_along_axis: index is {shown(positions)}; it must hold whole numbers and have "
            f"{array.ndim} axes, as x has"
        )
    xp = array_module(array)
    positions = from_host(xp, positions)
    if any(
        1 not in (n, m) and n != m
        for i, (n, m) in enumerate(zip(positions.shape, array.shape, strict=True))
        if i != axis
    ):
        raise ValueError(
            f"take_along_axis: index of shape {positions.shape} does not fit x of shape "
            f"{array.shape}: the shapes may differ only along axis {axis}"
        )
    if xp is np and positions.size:
        within(positions, array.shape[axis])
    grid = [
        xp.arange(n).reshape([-1 if a == i else 1 for a in range(array.ndim)])
        for i, n in enumerate(array.shape)
    ]
    grid[axis] = positions
    return ops.getitem(tensor, index=tuple(grid))


def std(
    x: ArrayLike, axis: Axes = None, ddof: float = 0, keepdims: bool = False, **unknown: Any
) -> Any:
    """Standard deviation: sqrt(Σ (x - mean)² / (n - ddof)).

    It is computed with ``norm`` rather than as sqrt(var), because the gradient of norm at 0 is 0,
    where that of sqrt is infinite. The deviations are first divided by the largest of them, so that
    no square leaves the range of the dtype; this factor is a constant of the graph.
    differs: ddof is 0 by default, where PyTorch's correction is 1. float16 is computed in float32
    and rounded once.
    """
    if unknown:
        raise TypeError(
            f"std: {errors.unknown_arguments(unknown, 'std', ['x', 'axis', 'ddof', 'keepdims'])}"
        )
    ddof, keepdims = number(ddof, "std: ddof"), flag(keepdims, "std: keepdims")
    tensor = x if isinstance(x, Tensor) else operand(x, "std: x")
    if not is_array(tensor):
        raise TypeError(f"std: x is {shown(x)}; it must be a Tensor or an array")
    if axis is not None:
        axis = option(axis, "std", "axis")
        problem = wrong_axes("axis", axis, tensor.ndim)
        if problem:
            raise ValueError(f"std: {problem} (x has shape {tensor.shape})")
    if tensor.dtype == FLOAT16:  # x - mean may overflow in float16
        wide = std(ops.astype(tensor, dtype=np.float32), axis, ddof, keepdims)
        return ops.astype(wide, dtype=FLOAT16)
    centred = tensor - ops.mean(tensor, axis, True)
    degrees = ops.count(tensor.shape, axis) - ddof
    if degrees <= 0:
        # NaN or infinity, with a gradient of NaN, as in PyTorch
        return ops.sqrt(ops.var(tensor, axis, ddof, keepdims))
    deviations = bare(centred)
    xp = array_module(deviations)
    largest = xp.abs(deviations).max(axis=axis, keepdims=True)
    largest = xp.where(largest > 0, largest, 1.0)
    scale = (largest if keepdims else xp.squeeze(largest, axis)) / degrees**0.5
    return ops.norm(centred / largest, axis, keepdims) * scale
