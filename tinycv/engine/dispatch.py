"""Which member of a function runs on a GPU: the CUDA kernel in tinycv/gpu/ where there is one, else
the calls of arrays.

One rule finds it.  The CUDA member of ``layer_norm`` in nn/norm.py is ``layer_norm`` in
gpu/norm.py: the same file name, the same function name.  It is looked for when CuPy's arrays first
come by, so a CPU never loads those files.

    run = on_gpu(layer_norm, arrays) or kernel

A test or a benchmark puts another member in its place: ``OVERRIDES["norm.layer_norm"] = None``
takes it away.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from tinycv.engine.backend import Array

# float16, float32, float64: what CUDA members are written for
KINDS = frozenset("efd")
OVERRIDES: dict[str, Callable | None] = {}  # by place, "norm.layer_norm"; None: there is none


def on_gpu(function: Callable, arrays: Iterable[Array]) -> Callable | None:
    """The CUDA member of ``function`` for these arrays of CuPy's; None where array calls must
    do."""
    return member(place(function)) if suits(arrays) else None


def suits(arrays: Iterable[Array]) -> bool:
    """Have all arrays one float type (or none), and one that kernels are written for?"""
    kinds = {
        a.dtype.char
        for a in arrays
        if hasattr(a, "dtype") and a.dtype.kind == "f" and not isinstance(a, np.generic)
    }
    return len(kinds) == 1 and kinds <= KINDS


def place(function: Callable) -> str | None:
    """ "norm.layer_norm" for a function of tinycv; None for a function of somebody else's."""
    folder, _, file = function.__module__.rpartition(".")
    return f"{file}.{function.__name__}" if folder.partition(".")[0] == "tinycv" else None


def member(at: str | None) -> Callable | None:
    """The CUDA member at a place; None if there is none."""
    if at is None:
        return None
    return OVERRIDES[at] if at in OVERRIDES else _written(*at.split("."))


@cache
def _written(file: str, name: str) -> Callable | None:
    """tinycv/gpu/FILE.py's own function NAME."""
    path = f"tinycv.gpu.{file}"
    try:
        found = getattr(importlib.import_module(path), name, None)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        return None
    # not one that the file has imported
    return found if getattr(found, "__module__", None) == path else None
