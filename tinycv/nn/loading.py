"""Loading a state dict: arrays by name into the Tensors of a Module, all of them or none.

What may go into a Tensor: an array of its shape, whose numbers its dtype can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import listed, shown
from tinycv.engine.backend import Array
from tinycv.engine.door import kind_of
from tinycv.engine.tensor import ArrayLike, Tensor, as_array


def load_by_name(
    own: Mapping[str, Tensor], state: Mapping[str, ArrayLike], strict: bool, owner: str
) -> tuple[list[str], list[str]]:
    """Copy the arrays of ``state`` into the Tensors ``own`` of a module of class ``owner``.

    A Tensor may have several names (a tied weight), of which one is enough. Returns (missing,
    unexpected). ValueError lists every problem; nothing is changed then.
    """
    present = {id(t) for name, t in own.items() if name in state}
    missing = sorted(name for name, t in own.items() if id(t) not in present)
    unexpected = sorted(str(name) for name in state if name not in own)
    arrays, misshaped, unfit = fitting(own, state)
    first_names, unequal = untied(own, arrays)
    _raise_problems(
        owner,
        {
            "missing": missing if strict else [],
            "unexpected": unexpected if strict else [],
            "of another shape": misshaped,
            "that do not fit": unfit + unequal,
        },
    )
    # all arrays are moved before the first Tensor changes: a full GPU leaves the module as it was
    loaded = [
        (own[name], backend.to_device(arrays[name], own[name].device)) for name in first_names
    ]
    for target, array in loaded:
        target.data = array
    return missing, unexpected


def fitting(
    own: Mapping[str, Tensor], state: Mapping[str, ArrayLike]
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """The arrays that fit, by name; and in words those of another shape, and those of other numbers
    than the Tensor can hold."""
    arrays: dict[str, np.ndarray] = {}
    misshaped: list[str] = []
    unfit: list[str] = []
    for name in own:
        if name not in state:
            continue
        try:
            arrays[name] = fitted(state[name], own[name])
        except Misshaped as error:
            misshaped.append(f"{name} {error}")
        except (TypeError, ValueError) as error:
            unfit.append(f"{name} {error}")
    return arrays, misshaped, unfit


def untied(
    own: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]
) -> tuple[list[str], list[str]]:
    """The first name of each Tensor that has an array; and in words the tied weights that were
    given two values."""
    first_name: dict[int, str] = {}
    unequal: list[str] = []
    for name in arrays:
        first = first_name.setdefault(id(own[name]), name)
        if not same_values(arrays[first], arrays[name]):
            unequal.append(f"{first} and {name} are one tied weight, but have two values")
    return list(first_name.values()), unequal


def _raise_problems(owner: str, names_of: Mapping[str, list[str]]) -> None:
    """ValueError with every list of names that is not empty."""
    problems = [f"{what}: {listed(names)}" for what, names in names_of.items() if names]
    if problems:
        raise ValueError(f"load_state_dict: {owner} was left unchanged; " + "; ".join(problems))


class Misshaped(ValueError):
    """Of another shape than the Tensor that it should be loaded into."""


def fitted(value: ArrayLike, target: Tensor) -> np.ndarray:
    """A copy of ``value`` on the host, in the shape and dtype of ``target``. ValueError or
    TypeError if it overflows, or an integer would change; values below the dtype's range become
    0."""
    array = as_array(value, floats=target.dtype)
    if array.shape != target.shape:
        raise Misshaped(f"is {array.shape}, should be {target.shape}")
    array, dtype = np.asarray(backend.to_numpy(array)), target.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        copy = np.array(array, dtype=dtype)
    if dtype.kind == "f":
        kept = not np.isinf(copy).any() or np.array_equal(np.isinf(copy), np.isinf(array))
    else:
        kept = np.array_equal(copy, array)
    if not kept:
        raise ValueError(f"has numbers of {array.dtype} that {dtype} cannot hold")
    return copy


def same_values(a: Array, b: Array) -> bool:
    """Whether two arrays of either device are equal, NaN to NaN."""
    a, b = backend.to_device(a, "cpu"), backend.to_device(b, "cpu")
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def float_type(target: Any, who: str) -> np.dtype:
    """The float type that ``to`` is asked for."""
    try:
        dtype = kind_of(target)
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind != "f":
        raise TypeError(
            f"{who}.to: target is {shown(target)}; it must be a device ('cpu', 'gpu') or a float "
            "type ('float32', tinycv.float64)"
        )
    return dtype
