"""What belongs to the user's program, and what to installed packages; which global variables a
function names.

The code of installed packages does not change while a program runs. The global variables of the
user's program may change, so sending.py sends their values to another process.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.engine.tensor import Tensor

PACKAGES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    str(Path(__file__).parent.parent),
)


def is_installed(module: str | None) -> bool:
    """Does the module belong to Python, to tinycv or to an installed package, and not to the user's
    program?"""
    if module not in _installed:
        found = sys.modules.get(module or "")
        path = getattr(found, "__file__", None)
        _installed[module] = (
            module != "__main__"
            and found is not None
            and (path is None or path.startswith(PACKAGES))
        )
    return _installed[module]


_installed: dict[str | None, bool] = {}


def is_global(x: Any) -> bool:
    """Is x what its module has under its name?"""
    found: Any = sys.modules.get(x.__module__)
    for name in x.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is x


def is_fixed(value: Any) -> bool:
    """Is the value a module, or a class or function of an installed package?"""
    kind = type(value)
    if kind is types.ModuleType or kind is types.BuiltinFunctionType or kind is np.ufunc:
        return True
    if kind is types.FunctionType or isinstance(value, type):
        return is_installed(value.__module__) and is_global(value)
    return False


def names_in(code: types.CodeType) -> tuple[str, ...]:
    """The names of the global variables in a piece of code and in the functions it defines."""
    found = _names.get(id(code))
    if found is None:
        names = {
            step.argval for step in dis.get_instructions(code) if step.opname in GLOBAL_VARIABLE
        }
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        found = _names[id(code)] = code, tuple(sorted(names.union(*map(names_in, inner))))
    return found[1]


GLOBAL_VARIABLE = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
# {id of a piece of code: (the code, its names)}. To find the code itself in a dict, Python would
# have to hash all of its instructions. The value holds the code, so that no other object gets its
# id.
_names: dict[int, tuple[types.CodeType, tuple[str, ...]]] = {}


def functions_in(value: Any) -> Iterator[types.FunctionType]:
    """The functions of a method, a property, a static or a class method."""
    inner = [getattr(value, name, None) for name in ("__func__", "fget", "fset", "func")]
    return (f for f in (value, *inner) if isinstance(f, types.FunctionType))


def attributes_in(code: types.CodeType) -> frozenset[str]:
    """The names of all attributes (and variables) in a piece of code and in the functions it
    defines."""
    found = _attributes.get(id(code))
    if found is None:
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        names = frozenset(code.co_names).union(*map(attributes_in, inner))
        found = _attributes[id(code)] = code, names
    return found[1]


_attributes: dict[int, tuple[types.CodeType, frozenset[str]]] = {}


def may_change(value: Any) -> bool:
    """May this value in the body of a class change while it stays the same object? Functions,
    properties and other descriptors, classes and modules do not count."""
    if isinstance(value, (list, dict, set, np.ndarray, Tensor)):
        return True
    kind = type(value)
    is_plain = kind.__module__ != "builtins" and not isinstance(value, (type, Enum))
    return is_plain and hasattr(value, "__dict__") and not hasattr(kind, "__get__")
