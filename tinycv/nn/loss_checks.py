"""Checks for the losses: targets, class weights, reduction, settings of both cross-entropies.

Read before: checks.py.   Used in: losses.py, binary_cross_entropy.py, gpu/losses.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.tensor import Parameter, Tensor, as_array
from tinycv.nn.checks import array, index_of


def check_reduction(reduction: str) -> None:
    """An error for a reduction that there is not."""
    if type(reduction) is not str or reduction not in ("mean", "sum", "none"):
        choice(reduction, "reduction", ("mean", "sum", "none"))


def class_number(value: Any, what: str) -> int:
    """A whole number of either sign."""
    whole = index_of(value)
    if whole is None:
        raise TypeError(f"{what} is {shown(value)}; it must be a whole number")
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{what} is {whole}; it must fit into an integer of 64 bits")
    return whole


def buffer(value: Any, what: str) -> Tensor | None:
    """Weights as a Tensor that does not learn. A Tensor that is none already is taken as it is.
    TypeError for one that requires a gradient: it would get none."""
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
    """TypeError if the class weights require a gradient."""
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
    """An error for arguments of cross_entropy that do not fit. Nothing on a GPU is looked at.
    Returns the two numbers."""
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
    wanted = input.shape if target.dtype.kind == "f" else input.shape[:1]
    if target.shape != wanted:
        raise ValueError(
            f"scores of shape {input.shape} need a target of shape {wanted}; it has "
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
    """An error for arguments of binary_cross_entropy_with_logits that do not fit."""
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
                    f"{input.shape}"
                )
