"""Replacing the parts of a Module: its layers and Tensors, also those in lists and dicts.

A Module finds its parts in its attributes and, at any depth, in the containers there (``contents``
in module.py).  Code that replaces parts has to look in the same places: spectral_norm.py wraps
layers, and adversarial/unrolled.py swaps weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module, contents


def exchanged(value: Any, new_of: Callable[[Module | Tensor], Module | Tensor]) -> Any:
    """A copy of ``value`` in which ``new_of(part)`` replaces each Module and Tensor.

    Containers are copied, not changed, and keep their type. If ``new_of`` returns every part as it
    was, the result is ``value`` itself.
    """
    if isinstance(value, (Module, Tensor)):
        return new_of(value)
    items = list(contents(value))
    new = [exchanged(item, new_of) for _, item in items]
    if all(old is item for (_, old), item in zip(items, new, strict=True)):
        return value
    if isinstance(value, tuple):
        # a named tuple has _fields, and takes its values one by one
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)
    twin = copy.copy(value)  # so that an OrderedDict stays an OrderedDict
    for (key, _), item in zip(items, new, strict=True):
        twin[key] = item
    return twin
