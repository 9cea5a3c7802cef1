"""Exchange the parts of a module: its layers, its Tensors, wherever they lie in its attributes.

A Module finds its parts in its attributes, and in lists, tuples and dicts there at any depth (module.py).  Whoever puts
other parts in their place has to look in the same places: spectral_norm.py wraps layers, unrolled.py exchanges weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module


def exchanged(value: Any, new_of: Callable[[Any], Any]) -> Any:
    """``value`` with ``new_of(part)`` in the place of each Module and Tensor in it, in containers of its kind.

    The containers given stay as they are. ``value`` itself where ``new_of`` changes nothing.
    """
    if isinstance(value, (Module, Tensor)):
        return new_of(value)
    if isinstance(value, dict):
        keys, items = list(value), list(value.values())
    elif isinstance(value, (list, tuple)):
        keys, items = range(len(value)), list(value)
    else:
        return value
    new = [exchanged(item, new_of) for item in items]
    if all(a is b for a, b in zip(items, new, strict=True)):
        return value
    if isinstance(value, tuple):
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)
    twin = copy.copy(value)                             # an OrderedDict stays one
    for key, item in zip(keys, new, strict=True):
        twin[key] = item
    return twin
