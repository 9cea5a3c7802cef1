"""engine/check.py certifies functions of their arguments; a layer keeps most of its arguments
inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv import Parameter
from tinycv.engine.check import certify
from tinycv.nn import Module


def certify_layer(layer: Module, *inputs: np.ndarray) -> None:
    """Finite differences, orders 1 and 2, in every float input and in every parameter. Casts the
    layer to float64."""
    places = [
        (module, name, p)
        for module in layer.to("float64").modules()
        for name, p in vars(module).items()
        if isinstance(p, Parameter)
    ]

    def run(*tensors: Any) -> Any:
        put(t for t in tensors[len(inputs) :])
        return layer(*tensors[: len(inputs)])

    def put(tensors: Any) -> None:
        for (module, name, _), tensor in zip(places, tensors, strict=True):
            setattr(module, name, tensor)

    try:
        certify(run, *inputs, *(p.numpy() for _, _, p in places), name=type(layer).__name__)
    finally:
        put(p for _, _, p in places)
