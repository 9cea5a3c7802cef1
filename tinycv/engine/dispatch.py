"""Kernel dispatch: find the CUDA kernel of a function, if it has one in tinycv/gpu/.

Without a CUDA kernel the same code runs on a GPU as on a CPU: CuPy's array functions in place of
NumPy's.  One rule finds the kernel: that of ``layer_norm`` in nn/norm.py is ``layer_norm`` in
gpu/norm.py, with the same file name and the same function name.  It is looked up when the function
first receives CuPy arrays, so a process that uses only the CPU never loads those files.

    run = on_gpu(layer_norm, arrays) or kernel

Tests and benchmarks can choose another kernel: ``OVERRIDES["norm.layer_norm"] = function``, or None
to use array functions instead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from tinycv.engine.backend import Array

# NumPy's letters for float16, float32 and float64, the dtypes that CUDA kernels are written for
KINDS = frozenset("efd")
# kernels to use instead, by their place, such as "norm.layer_norm"; None for no kernel
OVERRIDES: dict[str, Callable | None] = {}


def on_gpu(function: Callable, arrays: Iterable[Array]) -> Callable | None:
    """The CUDA kernel of ``function`` for these CuPy arrays; None if there is none for them."""
    return member(place(function)) if suits(arrays) else None


def suits(arrays: Iterable[Array]) -> bool:
    """Do CUDA kernels take these arrays? All float arrays among them must have one dtype, which is
    float16, float32 or float64, and there must be at least one. Arrays of integers and bools, and
    numbers, do not count."""
    kinds = {
        a.dtype.char
        for a in arrays
        if hasattr(a, "dtype") and a.dtype.kind == "f" and not isinstance(a, np.generic)
    }
    return len(kinds) == 1 and kinds <= KINDS


def place(function: Callable) -> str | None:
    """The place of a function: "norm.layer_norm" for layer_norm in nn/norm.py, whichever the
    folder. None for a function that is not part of tinycv."""
    folder, _, file = function.__module__.rpartition(".")
    return f"{file}.{function.__name__}" if folder.partition(".")[0] == "tinycv" else None


def member(at: str | None) -> Callable | None:
    """The CUDA kernel at a place (see ``place``); None if there is none."""
    if at is None:
        return None
    return OVERRIDES[at] if at in OVERRIDES else _kernel_in(*at.split("."))


@cache
def _kernel_in(file: str, name: str) -> Callable | None:
    """The function ``name`` that is defined in tinycv/gpu/``file``.py; None if there is none."""
    path = f"tinycv.gpu.{file}"
    try:
        function = getattr(importlib.import_module(path), name, None)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        return None
    # A function that the file merely imports is not a kernel.
    return function if getattr(function, "__module__", None) == path else None
