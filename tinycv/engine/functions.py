"""The longer functions that are composed of several rows of ops.py: einsum, take_along_axis, std.

The shorter ones are in methods.py. Nothing here has a derivative of its own.
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
                xs.append(array_module(bare(x)).eye(x.shape[place], dtype=x.dtype))
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


def take_along_axis(x: ArrayLike, index: ArrayLike, axis: int = -1) -> Any:
    """x's entries at ``index`` along one axis (as from argmax or argsort); index has x's number of
    axes, and broadcasts along the others."""
    own = array_like("take_along_axis", x)
    array, axis = bare(own), along(axis, own.ndim, "take_along_axis")
    places = bare(array_like("take_along_axis", index, "index"))
    if places.dtype.kind not in "iu" or places.ndim != array.ndim:
        raise IndexError(
            f"take_along_axis: index is {shown(places)}; it must be of whole numbers, with "
            f"{array.ndim} axes as x"
        )
    xp = array_module(array)
    places = from_host(xp, places)
    if any(
        1 not in (n, m) and n != m
        for i, (n, m) in enumerate(zip(places.shape, array.shape, strict=True))
        if i != axis
    ):
        raise ValueError(
            f"take_along_axis: index of shape {places.shape} does not fit x of shape "
            f"{array.shape}: only along axis {axis} may they differ"
        )
    if xp is np and places.size:
        within(places, array.shape[axis])
    grid = [
        xp.arange(n).reshape([-1 if a == i else 1 for a in range(array.ndim)])
        for i, n in enumerate(array.shape)
    ]
    grid[axis] = places
    return ops.getitem(own, index=tuple(grid))


def std(
    x: ArrayLike, axis: Axes = None, ddof: float = 0, keepdims: bool = False, **unknown: Any
) -> Any:
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
    own = x if isinstance(x, Tensor) else operand(x, "std: x")
    if not is_array(own):
        raise TypeError(f"std: x is {shown(own)}; it must be a Tensor or an array")
    axis = None if axis is None else option(axis, "std", "axis")
    if wrong := wrong_axes("axis", axis, own.ndim) if axis is not None else "":
        raise ValueError(f"std: {wrong} (x has shape {own.shape})")
    # x - mean may leave float16's range
    if own.dtype == FLOAT16:
        wide = std(ops.astype(own, dtype=np.float32), axis, ddof, keepdims)
        return ops.astype(wide, dtype=FLOAT16)
    centred = own - ops.mean(own, axis, True)
    degrees = ops.count(own.shape, axis) - ddof
    if degrees <= 0:
        # NaN or infinity, and a gradient of NaN, as PyTorch
        return ops.sqrt(ops.var(own, axis, ddof, keepdims))
    away = bare(centred)
    xp = array_module(away)
    unit = xp.abs(away).max(axis=axis, keepdims=True)
    unit = xp.where(unit > 0, unit, 1.0)
    size_of_unit = (unit if keepdims else xp.squeeze(unit, axis)) / degrees**0.5
    return ops.norm(centred / unit, axis, keepdims) * size_of_unit
