"""Argument checks for layers and losses: dtype, shape, axis, size, targets, class weights.

Each check raises an error that names the argument, what it is and what it may be. Single numbers
and words are checked in engine/arguments.py; batches, times and labels of the generative chapters
in inputs.py.

No check reads values on a GPU, because that would mean waiting for the GPU.

In all files of checks, an argument of type Any is what the user passed, still unchecked. After the
checks the declared types hold.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from tinycv.engine.arguments import (  # noqa: F401  flag: for the layers
    choice,
    flag,
    number,
    shown,
    size,
)
from tinycv.engine.tensor import Parameter, Tensor, as_array

NUMBERS = "fiub"  # NumPy's codes for kinds of dtype: floats, signed and unsigned integers, bools
MOST_FLOAT = float(np.finfo(np.float32).max)  # larger numbers would be infinite in float32
MOST = 2**40  # features or channels; no memory holds the weights of more
MOST_LAYERS = 10_000  # layers one after another; more are a mistake


def count(value: Any, what: str, least: int = 0) -> int:
    """A number of features, channels or rows: a whole number from ``least`` to MOST."""
    total = size(value, what, least)
    if total > MOST:
        raise ValueError(f"{what} is {total}; no memory holds the weights of so many")
    return total


def array(
    value: Any, what: str, kinds: str = NUMBERS, takes: str = "an array or a Tensor of numbers"
) -> Any:
    """The value, if it is an array or Tensor whose dtype is one of these kinds; else TypeError."""
    kind = getattr(getattr(value, "dtype", None), "kind", "none")
    if not isinstance(getattr(value, "ndim", None), int) or kind not in kinds:
        described = shown(value)
        if hasattr(value, "dtype") and not getattr(value, "ndim", 0):
            described = f"{described} of {value.dtype}"
        raise TypeError(f"{what} is {described}; it must be {takes}")
    return value


def fits(value: Any, what: str, shape: tuple, meaning: str) -> None:
    """ValueError or TypeError unless the value is None or an array of numbers in this shape.
    meaning: what the numbers are for, for the message."""
    if value is not None and (
        getattr(value, "shape", None) != shape or value.dtype.kind not in NUMBERS
    ):
        array(value, what)
        raise ValueError(f"{what} has shape {tuple(value.shape)}; it must be {shape}, {meaning}")


def index_of(value: Any) -> int | None:
    """A whole number of either sign as a Python int. None for everything else: a bool, a float, an
    array with axes, a class."""
    if (
        isinstance(value, (bool, np.bool))
        or getattr(value, "ndim", 0)
        or (getattr(getattr(value, "dtype", None), "kind", "i") not in "iu")
    ):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def axis_of(axis: Any, ndim: int, what: str = "axis", owner: str = "x") -> int:
    """An axis of an array with ``ndim`` axes, counted from 0. A negative one counts from the end.
    owner: the name of the array, for errors."""
    position = axis if type(axis) is int else index_of(axis)
    if position is None:
        raise TypeError(f"{what} is {shown(axis)}; it must be a whole number")
    if not -ndim <= position < ndim:
        raise ValueError(
            f"{what} is {position}, but {owner} is a single number, which has no axes"
            if not ndim
            else f"{what} is {position}; {owner} has {ndim} axes, so it must be at least {-ndim} "
            f"and at most {ndim - 1}"
        )
    return position % ndim


def epsilon(eps: Any, what: str = "eps") -> float:
    """eps, the small number that keeps a divisor from being 0: finite in float32, not negative."""
    return (
        eps if type(eps) is float and 0 <= eps <= MOST_FLOAT else number(eps, what, 0, MOST_FLOAT)
    )


# ── losses ────────────────────────────────────────────────────────────────────────────────────────


def check_reduction(reduction: str) -> None:
    """An error unless reduction is "mean", "sum" or "none"."""
    if type(reduction) is not str or reduction not in ("mean", "sum", "none"):
        choice(reduction, "reduction", ("mean", "sum", "none"))


def class_number(value: Any, what: str) -> int:
    """A class number: a whole number of either sign that fits into 64 bits."""
    class_index = index_of(value)
    if class_index is None:
        raise TypeError(f"{what} is {shown(value)}; it must be a whole number")
    if not -(2**63) <= class_index < 2**63:
        raise ValueError(f"{what} is {class_index}; it must fit into an integer of 64 bits")
    return class_index


def buffer(value: Any, what: str) -> Tensor | None:
    """Class weights as a buffer: a Tensor that is not learned. A Tensor that is not a Parameter is
    returned as it is. TypeError for one that requires a gradient, since it would get none."""
    if value is None:
        return None
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"{what} requires a gradient, but it is data and gets none; give weight.detach()"
        )
    if not isinstance(value, (list, tuple)):
        array(value, what)
    return (
        value
        if isinstance(value, Tensor) and not isinstance(value, Parameter)
        else Tensor(as_array(value, what=what))
    )


def no_gradient() -> None:
    """Raises the TypeError for class weights that require a gradient."""
    raise TypeError(
        "cross_entropy: weight requires a gradient, but it is data and gets none; give "
        "weight.detach()"
    )


def check_cross_entropy(
    xp: Any,
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[int, float]:
    """(ignore_index, label_smoothing) as numbers; an error for arguments of cross_entropy that do
    not fit. Values on a GPU are not read."""
    check_reduction(reduction)
    if type(ignore_index) is not int or abs(ignore_index) > 2**62:
        ignore_index = class_number(ignore_index, "ignore_index")
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = number(label_smoothing, "label_smoothing", 0, 1)
    if array(input, "input").ndim != 2:
        raise ValueError(
            f"scores of shape {input.shape}: they must be (N, C); reshape others to (-1, C)"
        )
    array(target, "target", "iuf", "an array of class numbers, or one of probabilities")
    target_shape = input.shape if target.dtype.kind == "f" else input.shape[:1]
    if target.shape != target_shape:
        raise ValueError(
            f"scores of shape {input.shape} need a target of shape {target_shape}; it has "
            f"{target.shape}, {target.dtype}"
        )
    if weight is not None and array(weight, "weight").shape != input.shape[1:]:
        raise ValueError(
            f"scores of shape {input.shape} need a weight of shape {input.shape[1:]}, one for each "
            f"class; it has {weight.shape}"
        )
    if xp is np and target.dtype.kind in "iu":
        bad = ((target < 0) | (target >= input.shape[1])) & (target != ignore_index)
        if bad.any():
            row = int(bad.argmax())
            raise IndexError(
                f"class {target[row]} in row {row} is out of range: there are {input.shape[1]} "
                f"classes, 0 to {input.shape[1] - 1}"
            )
    return ignore_index, label_smoothing


def check_binary(input: Any, target: Any, weight: Any, pos_weight: Any, reduction: str) -> None:
    """An error for arguments of binary_cross_entropy_with_logits that do not fit each other."""
    check_reduction(reduction)
    if array(input, "input").shape != array(target, "target").shape:
        raise ValueError(
            f"scores of shape {input.shape} and target of shape {target.shape}: they must be equal"
        )
    for name, w in (("weight", weight), ("pos_weight", pos_weight)):
        if w is not None and array(w, name).shape not in ((), input.shape):
            try:
                broadcasts = np.broadcast_shapes(w.shape, input.shape) == input.shape
            except ValueError:
                broadcasts = False
            if not broadcasts:
                raise ValueError(
                    f"{name} has shape {w.shape}, which does not broadcast to the scores' "
                    f"shape {input.shape}"
                )
