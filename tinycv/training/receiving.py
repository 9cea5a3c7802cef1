"""Receiving a function that another process has sent as bytes: they become a function again, with
its arrays in shared memory.

Read first: sending.py, which makes the bytes.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable
from io import BytesIO
from typing import Any
from zlib import crc32

import numpy as np

from tinycv.engine.tensor import LEAF, Parameter, Tensor
from tinycv.training.shared_memory import Arena, Place


class Receiver:
    """Makes functions of bytes. objects: what both processes have, by number (sending.Known). rank:
    the number of the worker."""

    def __init__(self, objects: list[Any], arena: Arena, rank: int):
        self.objects, self.arena, self.rank = objects, arena, rank
        self.tensors: list[Tensor] = []

    def received(self, data: bytes) -> Received:
        global _receiver
        _receiver, self.tensors = self, []
        unpickler = pickle.Unpickler(BytesIO(data))
        function, variables = unpickler.load(), []
        variable = unpickler.load()
        while variable is not None:  # None is the last object
            owner, name, value = variable
            if isinstance(owner, types.CellType):
                owner.cell_contents = value
            else:
                variables.append((self.objects[owner], name, value))
            variable = unpickler.load()
        return Received(data, function, variables, self.tensors)


# The Receiver that is reading. Pickle calls the functions below with what is in the bytes alone, so
# they find it here.
_receiver: Any = None


class Received:
    """A function that has come from another process. data: its bytes. tensors: those that it
    mentions, in order."""

    def __init__(self, data: bytes, function: Callable, variables: list, tensors: list[Tensor]):
        self.data, self.tensors = data, tensors
        self.function, self.variables = function, variables

    def ready(self) -> Callable:
        """The function, after the variables that it names have their values."""
        for owner, name, value in self.variables:
            if isinstance(owner, types.CellType):
                owner.cell_contents = value
            elif isinstance(owner, dict):
                owner[name] = value
            else:
                setattr(owner, name, value)
        return self.function


def known_object(number: int) -> Any:
    """The object that both processes have under this number."""
    return _receiver.objects[number]


def tensor_at(kind: type[Tensor], place: tuple, requires_grad: bool) -> Tensor:
    """A Tensor whose numbers lie at this place in shared memory."""
    tensor = kind.__new__(kind)
    tensor._data = _receiver.arena.view(Place(*place))
    tensor._node, tensor._moved, tensor.grad = LEAF if requires_grad else None, 0, None
    if isinstance(tensor, Parameter):
        tensor.master = None
    _receiver.tensors.append(tensor)
    return tensor


def array_at(*place: Any) -> np.ndarray:
    """The array at this place in shared memory."""
    return _receiver.arena.view(Place(*place))


def generator_like(kind: type, state: dict) -> np.random.Generator:
    """A generator whose numbers depend on the state of the other one and on the worker."""
    seed = np.random.SeedSequence([crc32(repr(state).encode()), _receiver.rank])
    return np.random.Generator(kind(seed))


def empty_cell() -> types.CellType:
    """A variable of a closure, whose value comes later."""
    return types.CellType()


def function_of(code: int, variables: int, name: str, closure: tuple | None) -> types.FunctionType:
    """The function with this code and these global variables, both given by their numbers."""
    objects = _receiver.objects
    return types.FunctionType(objects[code], objects[variables], name, None, closure)


def fill(function: types.FunctionType, rest: tuple) -> None:
    """Give the function its defaults and attributes, which may refer to the function itself."""
    function.__defaults__, function.__kwdefaults__, attributes = rest
    function.__dict__.update(attributes or {})
