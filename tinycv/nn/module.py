"""Module: an object that holds parameters and knows how to run forward.

A Module finds its parameters by looking at its own attributes, so there is nothing to register: a Parameter is
learned, any other Tensor is a buffer (saved, moved, not learned), a Module, or a list or dict of Modules, is a part.
Names are the paths to them, joined by dots, as PyTorch's: ``blocks.0.norm1.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from tinycv.engine import backend, capturing, state
from tinycv.engine.tensor import Parameter, Tensor, as_array


class Module:
    """Base of every layer and model. Set attributes in ``__init__``, compute in ``forward``."""

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (recording := capturing.current()) is not None:
            recording.reads(t for _, t in self.named_tensors())
            recording.depends(lambda: self.training)
        state.same(self.training, "a layer's mode (training)")
        return self.forward(*args, **kwargs)

    # -- parts, by name -----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for name, value in vars(self).items():
            yield from _modules_in(name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all within it, outermost first; a shared one once."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module
                stack.extend(reversed([(f"{path}.{name}" if path else name, m) for name, m in module.named_children()]))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers by name; a shared one under the first of its names."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, t) for name, t in self.named_tensors() if isinstance(t, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def num_parameters(self) -> int:
        return sum(p.size for p in self.parameters())

    # -- modes, moves -------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training behaviour (dropout drops) or, with False, evaluation."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        return self.train(False)

    def zero_grad(self) -> None:
        capturing.forget_gradients(self.parameters())

    def requires_grad_(self, wanted: bool = True) -> Module:
        """Freeze (False) or thaw every parameter."""
        for p in self.parameters():
            p.requires_grad = wanted
        return self

    def to(self, target: Any) -> Module:
        """Move to a device ("cpu", "gpu") or cast floats to a dtype, in place. Gradients are dropped."""
        device = backend.resolve(target) if isinstance(target, str) and not _is_dtype(target) else None
        for _, t in self.named_tensors():
            if device is not None:
                t.data = backend.to_device(t._data, device)
            elif t.dtype.kind == "f":
                t.data = t._data.astype(target, copy=False)
            t.grad = None
        return self

    # -- saved state --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and buffer by name, sharing memory with the module."""
        return {name: t.detach() for name, t in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy arrays or Tensors in by name. Returns (missing, unexpected), which must be empty if ``strict``.

        ValueError lists every missing, unexpected and misshaped name; the module is then left as it was.
        """
        own = dict(self.named_tensors())
        missing, unexpected = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        given = {name: as_array(state[name]) for name in own if name in state}
        misshaped = [f"{name} is {given[name].shape}, should be {own[name].shape}" for name in given
                     if given[name].shape != own[name].shape]
        problems = [f"{what}: {', '.join(names)}" for what, names in (
            ("missing", missing if strict else []), ("unexpected", unexpected if strict else []),
            ("of another shape", misshaped)) if names]
        if problems:
            raise ValueError(f"load_state_dict: {type(self).__name__} was left unchanged; " + "; ".join(problems))
        for name, array in given.items():
            target = own[name]
            target.data = backend.to_device(np.array(backend.to_numpy(array), dtype=target.dtype), target.device)
        return missing, unexpected

    def __repr__(self) -> str:
        parts = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self.named_children()]
        own = ", ".join(f"{n}{tuple(v.shape)}" for n, v in vars(self).items() if isinstance(v, Tensor))
        inner = "".join(f"\n  {line}" for line in parts) + ("\n" if parts else "")
        return f"{type(self).__name__}({own}{inner})"


def _modules_in(name: str, value: Any) -> Iterator[tuple[str, Module]]:
    """Modules in an attribute by name: itself, or what lists, tuples and dicts hold at any depth."""
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _modules_in(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _modules_in(f"{name}.{key}", item)


def _is_dtype(target: str) -> bool:
    """Is it the name of a dtype, and not of a device?"""
    return target.startswith(("float", "int", "uint"))


class Sequential(Module):
    """Layers one after another. Names are their places: ``0.weight``, ``2.bias``, as PyTorch's."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Module:
        return self.layers[i]


class Flatten(Module):
    """(B, ...) to (B, all the rest)."""

    def forward(self, x: Any) -> Any:
        return x.reshape((x.shape[0], prod(x.shape[1:])))        # -1 could not be told for a batch of none


class Identity(Module):
    """The layer that changes nothing: a place to put another."""

    def forward(self, x: Any) -> Any:
        return x
