"""Forward and backward through one function, written once for tinycv and PyTorch; used by several
suites."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.row import Contender, Work

NO_TORCH = "" if importlib.util.find_spec("torch") else "PyTorch is not installed"
# why a contender that forks processes cannot be measured here
NO_FORK = "" if hasattr(os, "fork") else "this system cannot fork"
# a small learning rate, so that training cannot drift into denormal numbers, which are slow
LR = 1e-5


def threads() -> int:
    """The number of threads that OpenBLAS uses too: OMP_NUM_THREADS if the user has set it, else
    all cores that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdigit() else cores()


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytorch(make: Callable[..., Work], *args: Any) -> Contender:
    return Contender("PyTorch", make, args, missing=NO_TORCH)


def forward_and_backward(function: Callable, leaves: list, weight: Any = None) -> Work:
    """Forward and backward of one result, as in a training step: ``backward`` writes into a
    ``grad`` that is None."""

    def work() -> dict[str, Any]:
        for leaf in leaves:
            leaf.grad = None
        y = function(*leaves)
        y.backward(weight)
        results = {"result 0": y}
        for i, x in enumerate(leaves):
            if x.grad is not None:
                results[f"gradient of input {i}"] = x.grad
        return results

    return work


def pair_by(function: Callable, inputs: list, tensor: Callable) -> Work:
    """Forward and backward through a function of arrays and ints. If it returns several results,
    the backward pass starts at the first."""
    arguments = [
        a if isinstance(a, int) else tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs
    ]

    def first_result(*_: Any) -> Any:
        y = function(*arguments)
        return y[0] if isinstance(y, tuple) else y

    leaves = [a for a in arguments if not isinstance(a, int)]
    return forward_and_backward(first_result, leaves, weight_for(first_result(), tensor))


def weight_for(y: Any, tensor: Callable) -> Any:
    """dL/dy for a result that is not a single number. It is random: with ones, the gradient of
    softmax would be 0, and would hide mistakes."""
    if not y.shape:
        return None
    return tensor(np.random.default_rng(1).standard_normal(tuple(y.shape), np.float32))
