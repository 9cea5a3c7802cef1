"""Gradient checks for layers: engine/check.py checks functions of their arguments, and a layer
keeps its parameters inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv import Parameter
from tinycv.engine.check import certify
from tinycv.nn import Module


def certify_layer(layer: Module, *inputs: np.ndarray) -> None:
    """Compare the derivatives with finite differences, at orders 1 and 2, for every float input and
    every parameter. Casts the layer to float64."""
    attributes = [
        (module, name, p)
        for module in layer.to("float64").modules()
        for name, p in vars(module).items()
        if isinstance(p, Parameter)
    ]

    def run(*tensors: Any) -> Any:
        set_parameters(t for t in tensors[len(inputs) :])
        return layer(*tensors[: len(inputs)])

    def set_parameters(tensors: Any) -> None:
        for (module, name, _), tensor in zip(attributes, tensors, strict=True):
            setattr(module, name, tensor)

    try:
        certify(run, *inputs, *(p.numpy() for _, _, p in attributes), name=type(layer).__name__)
    finally:
        set_parameters(p for _, _, p in attributes)
