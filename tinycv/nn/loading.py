"""load_state_dict: copies arrays into the Tensors of a Module by name, all of them or none.

An array fits a Tensor if it has the same shape and the Tensor's dtype can hold its numbers.
``Module.load_state_dict`` in module.py is the method that users call.
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
    tensors: Mapping[str, Tensor], state: Mapping[str, ArrayLike], strict: bool, owner: str
) -> tuple[list[str], list[str]]:
    """Copy the arrays of ``state`` into ``tensors``, those of a module of the class ``owner``.

    A tied weight has several names, of which one is enough. Returns the names (missing,
    unexpected). If there is any problem, nothing is changed and a ValueError lists all problems.
    """
    present = {id(t) for name, t in tensors.items() if name in state}
    missing = sorted(name for name, t in tensors.items() if id(t) not in present)
    unexpected = sorted(str(name) for name in state if name not in tensors)
    arrays, misshaped, unfit = fitting(tensors, state)
    first_names, unequal = untied(tensors, arrays)
    _raise_problems(
        owner,
        {
            "missing": missing if strict else [],
            "unexpected": unexpected if strict else [],
            "of another shape": misshaped,
            "that do not fit": unfit + unequal,
        },
    )
    # All arrays are moved to their device before the first Tensor changes. So if a GPU runs out of
    # memory, the module is left as it was.
    loaded = [
        (tensors[name], backend.to_device(arrays[name], tensors[name].device))
        for name in first_names
    ]
    for target, array in loaded:
        target.data = array
    return missing, unexpected


def fitting(
    tensors: Mapping[str, Tensor], state: Mapping[str, ArrayLike]
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """(arrays, misshaped, unfit): the arrays that fit, by name; messages about arrays of another
    shape; messages about arrays whose numbers the Tensor cannot hold."""
    arrays: dict[str, np.ndarray] = {}
    misshaped: list[str] = []
    unfit: list[str] = []
    for name in tensors:
        if name not in state:
            continue
        try:
            arrays[name] = fitted(state[name], tensors[name])
        except Misshaped as error:
            misshaped.append(f"{name} {error}")
        except (TypeError, ValueError) as error:
            unfit.append(f"{name} {error}")
    return arrays, misshaped, unfit


def untied(
    tensors: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]
) -> tuple[list[str], list[str]]:
    """(names, unequal): the first name of each Tensor that has an array; messages about tied
    weights that were given two different values."""
    first_name: dict[int, str] = {}
    unequal: list[str] = []
    for name in arrays:
        first = first_name.setdefault(id(tensors[name]), name)
        if not same_values(arrays[first], arrays[name]):
            unequal.append(f"{first} and {name} are one tied weight, but have two values")
    return list(first_name.values()), unequal


def _raise_problems(owner: str, names_of: Mapping[str, list[str]]) -> None:
    """ValueError that shows every list of names that is not empty; nothing if all are empty."""
    problems = [f"{what}: {listed(names)}" for what, names in names_of.items() if names]
    if problems:
        raise ValueError(f"load_state_dict: {owner} was left unchanged; " + "; ".join(problems))


class Misshaped(ValueError):
    """The array has another shape than the Tensor that it should be loaded into."""


def fitted(value: ArrayLike, target: Tensor) -> np.ndarray:
    """A copy of ``value`` on the host, in the shape and dtype of ``target``. ValueError or
    TypeError if a number would overflow or an integer would change. Numbers too small for the dtype
    become 0."""
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
    """Are two arrays, on any devices, equal? NaN counts as equal to NaN."""
    a, b = backend.to_device(a, "cpu"), backend.to_device(b, "cpu")
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def float_type(target: Any, who: str) -> np.dtype:
    """The float dtype that was passed to ``to``. TypeError if it is none."""
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
