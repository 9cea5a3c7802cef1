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
    """Makes functions from bytes. objects: what both processes have, by number (sending.Known).
    rank: the number of the worker. is_alone: is there no other worker that sees the shared
    memory?"""

    def __init__(self, objects: list[Any], arena: Arena, rank: int, is_alone: bool):
        self.objects, self.arena, self.rank, self.is_alone = objects, arena, rank, is_alone
        self.tensors: list[Tensor] = []
        self.copies: list[tuple[np.ndarray, np.ndarray]] = []

    def received(self, data: bytes) -> Received:
        """The function that these bytes describe (Sender.packed)."""
        global _receiver
        _receiver, self.tensors, self.copies = self, [], []
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
        return Received(data, function, variables, self.tensors, self.copies)

    def array(self, place: Place, is_constant: bool) -> np.ndarray:
        """An array for the function. Unless it is constant, the function may change it in place,
        and the other workers must not see the change. So each of several workers has a copy."""
        shared = self.arena.view(place)
        if is_constant or self.is_alone:
            return shared
        self.copies.append((np.empty_like(shared), shared))
        return self.copies[-1][0]


# The Receiver that is reading. Pickle calls the functions below with what is in the bytes alone, so
# they find it here.
_receiver: Any = None


class Received:
    """A function that has come from another process. data: its bytes. tensors: those that it
    mentions, in order. copies: its own arrays, each with the shared one that it is a copy of."""

    def __init__(
        self,
        data: bytes,
        function: Callable,
        variables: list,
        tensors: list[Tensor],
        copies: list[tuple[np.ndarray, np.ndarray]],
    ):
        self.data, self.tensors, self.copies = data, tensors, copies
        self.function, self.variables = function, variables

    def ready(self) -> Callable:
        """The function, after the variables that it names and its arrays have their values."""
        for own, shared in self.copies:
            own[...] = shared
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
    """A Tensor whose numbers lie at this place in shared memory. One that collects a gradient is a
    weight, which is not changed inside a function."""
    tensor = kind.__new__(kind)
    tensor._data = _receiver.array(Place(*place), is_constant=requires_grad)
    tensor._node, tensor._moved, tensor.grad = LEAF if requires_grad else None, 0, None
    if isinstance(tensor, Parameter):
        tensor.master = None
    _receiver.tensors.append(tensor)
    return tensor


def array_at(*place: Any) -> np.ndarray:
    """The array at this place in shared memory."""
    return _receiver.array(Place(*place), is_constant=False)


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
