"""Finite differences for whole layers: is the gradient of every parameter and input right, and the gradient's gradient?

engine/check.py asks this of functions, all of whose inputs are arguments; a layer keeps most of its inputs inside.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinycv
from tinycv import Tensor

STEP = 1e-3                                     # on directions of length 1, in float64: see ``difference``


def certify_layer(layer: Any, *inputs: Any, seed: int = 0) -> None:
    """Orders 1 and 2 of sum(c · layer(inputs)²), c random, along one direction for each parameter and float input.

    The layer is cast to float64. The square makes even a linear layer curved.
    """
    layer.to("float64")
    rng = np.random.default_rng(seed)
    inputs = [Tensor(x.astype(float), requires_grad=True) if x.dtype.kind == "f" else x for x in inputs]
    leaves = {f"input {i}": x for i, x in enumerate(inputs) if isinstance(x, Tensor)} | dict(layer.named_parameters())
    c = rng.normal(size=layer(*inputs).shape)
    certify_loss(lambda: (layer(*inputs) ** 2 * c).sum(), leaves, rng)


def certify_loss(loss: Callable[[], Tensor], leaves: dict[str, Tensor], rng: np.random.Generator) -> None:
    """d loss along a direction in each leaf, and the change of that slope along a second: exact against differences."""
    v, w = ([unit(rng.normal(size=t.shape)) for t in leaves.values()] for _ in range(2))
    tensors = list(leaves.values())

    def slope() -> Tensor:                      # by kernels
        return inner(tinycv.grad(loss(), tensors), v)

    slopes = [inner([g], [d]) for g, d in zip(tinycv.grad(loss(), tensors), v, strict=True)]
    traced = inner(tinycv.grad(loss(), tensors, create_graph=True), v)              # by definitions
    bends = tinycv.grad(traced, tensors, allow_unused=True)
    for i, (name, tensor) in enumerate(leaves.items()):
        first, second = difference(loss, tensor, v[i]), difference(slope, tensor, w[i])
        bend = 0.0 if bends[i] is None else inner([bends[i]], [w[i]]).item()
        assert np.isclose(slopes[i].item(), first, rtol=1e-6, atol=1e-11), f"{name}: {slopes[i].item()} is not {first}"
        assert np.isclose(bend, second, rtol=1e-5, atol=1e-10), f"{name}, order 2: {bend} is not {second}"
    assert np.isclose(traced.item(), slope().item(), rtol=1e-9), "definition and kernel have other gradients"


def difference(function: Callable[[], Tensor], tensor: Tensor, direction: np.ndarray) -> float:
    """d function / d tensor along the direction, by four points: the error is of order STEP to the fourth."""
    start = tensor.data

    def at(steps: int) -> float:
        tensor.data = start + steps * STEP * direction
        return function().item()

    slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP)
    tensor.data = start
    return slope


def inner(gradients: Any, directions: list[np.ndarray]) -> Tensor:
    return sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))


def unit(direction: np.ndarray) -> np.ndarray:
    return direction / np.linalg.norm(direction)
