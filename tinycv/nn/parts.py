"""Exchange the parts of a module: its layers, its Tensors, wherever they lie in its attributes.

A Module finds its parts in its attributes, and in the containers there at any depth (contents, in
module.py).  Whoever puts other parts in their place has to look in the same places:
spectral_norm.py wraps layers, adversarial/unrolled.py exchanges weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module, contents


def exchanged(value: Any, new_of: Callable[[Module | Tensor], Module | Tensor]) -> Any:
    """``value`` with ``new_of(part)`` in the place of each Module and Tensor in it, in containers
    of its kind.

    The containers given stay as they are. ``value`` itself where ``new_of`` changes nothing.
    """
    if isinstance(value, (Module, Tensor)):
        return new_of(value)
    found = list(contents(value))
    new = [exchanged(item, new_of) for _, item in found]
    if all(old is item for (_, old), item in zip(found, new, strict=True)):
        return value
    if isinstance(value, tuple):
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)
    twin = copy.copy(value)  # an OrderedDict stays one
    for (key, _), item in zip(found, new, strict=True):
        twin[key] = item
    return twin
