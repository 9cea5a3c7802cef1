"""Sequential, Flatten and Identity: layers that only connect other layers."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from tinycv.engine.arguments import shown, size
from tinycv.engine.tensor import Tensor, as_array
from tinycv.nn.checks import index_of
from tinycv.nn.module import PLAIN, Module, parts_in


class Sequential(Module):
    """Layers one after another. Names are their places, as in PyTorch: ``0.weight``, ``2.bias``.

    ``model[:-1]`` is a Sequential of the same layers, which share their parameters with this one.
    differs: a subclass may have layers of its own (``self.head``). They are found like those of any
    Module, but they are no steps: PyTorch would run them after the others.
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
        """``layers``, the list of the steps, unless a subclass has an attribute of that name:
        Python asks here last."""
        if name == "layers" and "_steps" in vars(self):
            return self._steps
        if name == "_steps":
            raise AttributeError(
                f"{type(self).__name__}: a subclass of Sequential calls "
                "super().__init__() before its layers are used"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def forward(self, x: Tensor) -> Tensor:
        """x through every step. Returns what the last one makes of it."""
        for layer in self._steps:
            x = layer(x)
        return x

    def append(self, layer: Module) -> Sequential:
        """Add a layer behind the last one. Returns the Sequential."""
        self._steps.append(_layer(layer, len(self._steps)))
        return self

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._steps)

    def __getitem__(self, i: Any) -> Any:
        if not isinstance(i, slice):
            return self._steps[self._place(i)]
        part = Sequential(*self._steps[_slice(i)])
        part.training = self.training
        return part

    def __setitem__(self, i: int, layer: Module) -> None:
        if isinstance(i, slice):
            raise TypeError(
                f"Sequential: index is {i}; a layer takes one place, so it must be a whole number"
            )
        self._steps[self._place(i)] = _layer(layer, i)

    def __delitem__(self, i: Any) -> None:
        del self._steps[_slice(i) if isinstance(i, slice) else self._place(i)]

    def _place(self, i: Any) -> int:
        """An index of a layer, from 0 on."""
        place = index_of(i)
        if place is None:
            raise TypeError(
                f"Sequential: index is {shown(i)}; it must be a whole number or a slice"
            )
        if not -len(self._steps) <= place < len(self._steps):
            raise IndexError(
                f"Sequential: index {place} is out of range: there are {len(self._steps)} layers"
            )
        return place % len(self._steps)


def _slice(wanted: slice) -> slice:
    """A slice of whole numbers that leads somewhere."""
    ends = {"start": wanted.start, "stop": wanted.stop, "step": wanted.step}
    for name, end in ends.items():
        if (
            end is not None
            and size(end, f"Sequential: {name} of the slice", -(2**62)) == 0
            and name == "step"
        ):
            raise ValueError("Sequential: step of the slice is 0; it must lead from start to stop")
    return wanted


def _layer(layer: Any, place: Any) -> Module:
    """TypeError for what is no layer."""
    if not isinstance(layer, Module):
        raise TypeError(
            f"Sequential: layer {place} is {shown(layer)}; it must be a Module (a list of layers "
            "is given with a star: Sequential(*layers))"
        )
    return layer


class Flatten(Module):
    """(B, ...) to (B, all the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...). Returns (B, D), D entries for each example."""
        if not getattr(x, "ndim", 0):
            raise TypeError(f"Flatten: x is {shown(x)}; it must be an array or a Tensor (B, ...)")
        x = x if isinstance(x, Tensor) else as_array(x, what="Flatten: x")
        # -1 could not be told for a batch of none
        return x.reshape((x.shape[0], prod(x.shape[1:])))


class Identity(Module):
    """The layer that changes nothing: a place to put another."""

    def forward(self, x: Tensor) -> Tensor:
        """x as it is."""
        return x
