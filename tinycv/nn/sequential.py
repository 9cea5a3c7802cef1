"""Sequential, Flatten and Identity: layers without parameters that connect other layers."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from tinycv.engine.arguments import shown, size
from tinycv.engine.tensor import Tensor, as_array
from tinycv.engine.torch_names import of_object
from tinycv.nn.checks import index_of
from tinycv.nn.module import PLAIN, Module, parts_in


class Sequential(Module):
    """Layers that run one after another. As in PyTorch, a layer's name is its position:
    ``0.weight``, ``2.bias``.

    ``model[:-1]`` is a Sequential of the same layers, which share their parameters with this one.
    differs: a subclass may set further layers as attributes (``self.head``). They are found as in
    any Module, but forward does not run them; PyTorch would run them after the others.
    """

    def __init__(self, *layers: Module):
        self._steps: list[Module] = []
        for layer in layers:
            self.append(layer)

    def named_parts(self) -> Iterator[tuple[str, Module | Tensor]]:
        for name, value in vars(self).items():
            if type(value) not in PLAIN:
                yield from parts_in("" if name == "_steps" else name, value)

    def __getattr__(self, name: str) -> Any:
        """``layers`` is the list of the steps, unless a subclass has an attribute of that name:
        Python calls this method only after it has found no such attribute."""
        if name == "layers" and "_steps" in vars(self):
            return self._steps
        if name == "_steps":
            raise AttributeError(
                f"{type(self).__name__}: a subclass of Sequential calls "
                "super().__init__() before its layers are used"
            )
        return of_object(self, "Module", name)

    def forward(self, x: Tensor) -> Tensor:
        """Passes x through all layers in order. Returns the result of the last."""
        for layer in self._steps:
            x = layer(x)
        return x

    def append(self, layer: Module) -> Sequential:
        """Add a layer at the end. Returns this Sequential."""
        self._steps.append(_layer(layer, len(self._steps)))
        return self

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._steps)

    def __getitem__(self, i: Any) -> Any:
        if not isinstance(i, slice):
            return self._steps[self._position(i)]
        part = Sequential(*self._steps[_slice(i)])
        part.training = self.training
        return part

    def __setitem__(self, i: int, layer: Module) -> None:
        if isinstance(i, slice):
            raise TypeError(
                f"Sequential: index is {i}; a layer takes one place, so it must be a whole number"
            )
        self._steps[self._position(i)] = _layer(layer, i)

    def __delitem__(self, i: Any) -> None:
        del self._steps[_slice(i) if isinstance(i, slice) else self._position(i)]

    def _position(self, i: Any) -> int:
        """The index i, counted from 0. A negative one counts from the end."""
        position = index_of(i)
        if position is None:
            raise TypeError(
                f"Sequential: index is {shown(i)}; it must be a whole number or a slice"
            )
        if not -len(self._steps) <= position < len(self._steps):
            raise IndexError(
                f"Sequential: index {position} is out of range: there are {len(self._steps)} layers"
            )
        return position % len(self._steps)


def _slice(indices: slice) -> slice:
    """The slice, if its ends are whole numbers and its step is not 0."""
    ends = {"start": indices.start, "stop": indices.stop, "step": indices.step}
    for name, end in ends.items():
        if (
            end is not None
            and size(end, f"Sequential: {name} of the slice", -(2**62)) == 0
            and name == "step"
        ):
            raise ValueError("Sequential: step of the slice is 0; it must lead from start to stop")
    return indices


def _layer(layer: Any, position: Any) -> Module:
    """The layer; TypeError if it is not a Module."""
    if not isinstance(layer, Module):
        raise TypeError(
            f"Sequential: layer {position} is {shown(layer)}; it must be a Module (a list of "
            "layers is given with a star: Sequential(*layers))"
        )
    return layer


class Flatten(Module):
    """Joins all axes after the first: (B, ...) to (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...). Returns (B, D), with the D entries of each example in one row."""
        if not getattr(x, "ndim", 0):
            raise TypeError(f"Flatten: x is {shown(x)}; it must be an array or a Tensor (B, ...)")
        x = x if isinstance(x, Tensor) else as_array(x, what="Flatten: x")
        # reshape((B, -1)) would fail for an empty batch: with B = 0, any D fits
        return x.reshape((x.shape[0], prod(x.shape[1:])))


class Identity(Module):
    """Returns its input unchanged: a placeholder where a network has an optional layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns x itself."""
        return x
