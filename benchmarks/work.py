"""Works that several suites share: forward and backward through a function, in tinycv or PyTorch
alike."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.row import Contender, Work

NO_TORCH = "" if importlib.util.find_spec("torch") else "PyTorch is not installed"
# so small that training cannot drift into slow, denormal numbers
LR = 1e-5


def threads() -> int:
    """The threads that OpenBLAS takes too: OMP_NUM_THREADS where the user set it, or all the cores
    that we may use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() else cores()


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytorch(make: Callable[..., Work], *args: Any) -> Contender:
    return Contender("PyTorch", make, args, missing=NO_TORCH)


def there_and_back(function: Callable, leaves: list, weight: Any = None) -> Work:
    """Forward and backward of one result, as a training step does it: by ``backward``, into a
    ``grad`` that is empty."""

    def work() -> dict[str, Any]:
        for leaf in leaves:
            leaf.grad = None
        y = function(*leaves)
        y.backward(weight)
        given = [(i, x.grad) for i, x in enumerate(leaves) if x.grad is not None]
        return {"result 0": y, **{f"gradient of input {i}": grad for i, grad in given}}

    return work


def pair_by(function: Callable, inputs: list, tensor: Callable) -> Work:
    """There and back through a function of arrays and whole numbers; of several results through the
    first."""
    given = [
        a if isinstance(a, int) else tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs
    ]

    def first(*_: Any) -> Any:
        y = function(*given)
        return y[0] if isinstance(y, tuple) else y

    leaves = [a for a in given if not isinstance(a, int)]
    return there_and_back(first, leaves, weight_for(first(), tensor))


def weight_for(y: Any, tensor: Callable) -> Any:
    """dL/dy for a result that is no single number: not ones, for then softmax's gradient is 0 and
    hides mistakes."""
    if not y.shape:
        return None
    return tensor(np.random.default_rng(1).standard_normal(tuple(y.shape), np.float32))
