"""Helpers that compute the same thing with tinycv and with PyTorch, from the same numbers, and
compare the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tinycv import Tensor

# relative to the largest magnitude in the array
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
DTYPES = list(TOLERANCE)


def equal(ours: Any, theirs: torch.Tensor, what: str = "value") -> None:
    """Assert equal shapes, dtypes, positions of NaN and infinity, and values within TOLERANCE."""
    a, b = ours.numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, f"{what}: shape {a.shape} is not {b.shape}"
    assert a.dtype == b.dtype, f"{what}: dtype {a.dtype} is not {b.dtype}"
    if a.dtype.name not in TOLERANCE:
        assert (a == b).all(), what
        return
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite], err_msg=what)
    largest = np.abs(b[finite]).max(initial=0.0)
    difference = np.abs(a[finite] - b[finite]).max(initial=0.0)
    assert difference <= TOLERANCE[a.dtype.name] * largest, (
        f"{what}: {difference:.3g} apart, the largest is {largest:.3g}"
    )


def twins(array: np.ndarray, dtype: str) -> tuple[Any, Any]:
    """(tinycv's leaf, PyTorch's leaf) with these numbers; integers and booleans stay as they are
    and require no gradient."""
    if array.dtype.kind != "f":
        return Tensor(array), torch.tensor(array)
    array = array.astype(dtype)
    return Tensor(array.copy(), requires_grad=True), torch.tensor(array, requires_grad=True)


def agree(
    ours: Callable, theirs: Callable, inputs: list[np.ndarray], dtype: str, parameters: Any = ()
) -> None:
    """Assert that both functions have the same value, and the same gradient for every float input
    and every pair of parameters."""
    pairs = {f"input {i}": twins(x, dtype) for i, x in enumerate(inputs)}
    y, z = ours(*(a for a, _ in pairs.values())), theirs(*(b for _, b in pairs.values()))
    equal(y, z)
    weight = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    y.backward(weight)
    z.backward(torch.tensor(weight))
    for name, (a, b) in [*pairs.items(), *parameters]:
        assert (a.grad is None) == (b.grad is None), f"gradient of {name}: {a.grad} is not {b.grad}"
        if b.grad is not None:
            equal(a.grad, b.grad, f"gradient of {name}")


def agree_as_layers(
    ours: Any,
    theirs: torch.nn.Module,
    inputs: list[np.ndarray],
    dtype: str,
    run_ours: Callable | None = None,
    run_theirs: Callable | None = None,
) -> None:
    """As ``agree``, also for every parameter, with PyTorch's weights loaded by name."""
    theirs = randomised(theirs.to(getattr(torch, dtype)))
    ours.to(dtype).load_state_dict(theirs.state_dict())
    mine = dict(ours.named_parameters())
    parameters = [(name, (mine[name], p)) for name, p in theirs.named_parameters()]
    agree(run_ours or ours, run_theirs or theirs, inputs, dtype, parameters)


def randomised(theirs: torch.nn.Module) -> torch.nn.Module:
    """Give all parameters random values: with zeros and ones, a mistake may not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return theirs
