"""A Python function as bytes, with all that it uses: how a loss function reaches another process.

    lambda x, y: F.cross_entropy(model(x), y)

The other process is a fork of this one, so code, classes and modules exist in both, and the bytes
contain only their numbers (``Known``).  What may have changed since the fork is sent by value:
closures, defaults, attributes (model.training), and the global variables that the user's code
names, in this function and in those that it calls.  So a changed value always reaches the other
process.

    Known       the objects that both processes have, by number
    Sender      turns a function into bytes. For a Tensor or a large array they contain only its
                place in shared memory (shared_memory.py)

In the other process, receiving.py makes the function again.  Equal bytes are the same function, so
the other process keeps what it has received.

What cannot be sent (an open file, a lock, a generator) raises a TypeError if the function holds it
in a closure or an attribute. As a global variable, such an object stays what it was at the fork.
Code of installed packages is taken to be constant, its global variables included.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from tinycv.engine.fused import Fused
from tinycv.engine.tensor import LEAF, Parameter, Tensor, recording
from tinycv.training.groups import Alone, Group, on_cpu
from tinycv.training.receiving import (
    array_at,
    empty_cell,
    fill,
    function_of,
    generator_like,
    known_object,
    tensor_at,
)
from tinycv.training.shared_memory import Slots
from tinycv.training.user_code import (
    attributes_in,
    functions_in,
    is_fixed,
    is_global,
    is_installed,
    may_change,
    names_in,
)

LARGE = 1 << 12  # bytes; a smaller array is sent in the bytes of the function


class Known:
    """The objects that exist in both processes, by number. Whatever was added since the fork needs
    another fork before it can be mentioned."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        # {id: how it is sent} of those among them that never change. ``known_object``, which all
        # of them need, is sent by its name.
        self.constants: dict[int, Any] = {id(known_object): NotImplemented}
        # {(number of a namespace, name): its value}, and the bodies of the user's classes
        self.links: dict[tuple[int, str], Any] = {}
        self.bodies: dict[int, Body] = {}
        # variables whose values cannot be sent
        self.unsendable: set[tuple[int, str]] = set()
        self.is_new = True

    def number(self, x: Any) -> int:
        """The number of x, which stays alive from now on."""
        number = self.numbers.get(id(x))
        if number is None:
            number = self.numbers[id(x)] = len(self.objects)
            self.objects.append(x)
            self.is_new = True
        return number

    def link(self, namespace: int, name: str, value: Any) -> None:
        """Note that the variable has this very value, which both processes must have."""
        # ``self`` stands for no value: a variable may be None, but no variable is this object.
        if self.links.get((namespace, name), self) is not value:
            self.links[namespace, name] = value
            self.is_new = True

    def body(self, kind: type, number: int) -> Body:
        """The body of a class of the user's, which must be the same in both processes."""
        found = self.bodies.get(number)
        if found is None or not _same_objects(vars(kind), found.content):
            found = self.bodies[number] = Body(kind)
            self.is_new = True
        return found


class Body:
    """The body of a class: all that is in it, its functions, and the values that may change while
    they stay the same objects. Names that end in _, such as __annotations__, are left out of these
    values."""

    def __init__(self, kind: type):
        self.content = dict(vars(kind))
        self.functions = [f for value in self.content.values() for f in functions_in(value)]
        self.changeable = [
            (name, value)
            for name, value in self.content.items()
            if may_change(value) and not name.endswith("_")
        ]


class Sender(pickle.Pickler):
    """Pickles one function. After ``packed``, ``tensors`` and ``copies`` say what it mentions."""

    def __init__(self, known: Known, slots: Slots):
        self.file = BytesIO()
        super().__init__(self.file, 5)
        self.known, self.slots = known, slots
        # the Tensors, in the order in which the other process makes them
        self.tensors: list[Tensor] = []
        # what has to be copied into shared memory before each call
        self.copies: list[tuple[np.ndarray, np.ndarray]] = []
        # variables whose values are still to be sent; variables, and classes, that were visited
        self.to_send: list[tuple[Any, str, Any]] = []
        self.noted: set[Any] = set()

    def packed(self, function: Callable) -> bytes:
        """The function and the variables that it names, as bytes."""
        self.dump(function)
        while self.to_send:
            owner, name, value = self.to_send.pop()
            try:
                self.dump((owner, name, value))
            except Exception as error:
                if not isinstance(owner, int):
                    raise
                raise Unsendable((owner, name), value) from error
        self.dump(None)
        return self.file.getvalue()

    # -- by type ----------------------------------------------------------------------------------

    def reducer_override(self, x: Any) -> Any:  # pickle calls it for all but the simplest objects
        constant = self.known.constants.get(id(x))
        if constant is not None:
            return constant
        reduce = REDUCE.get(type(x))
        if reduce is not None:
            return reduce(self, x)
        if isinstance(x, Tensor):
            return self.tensor(x)
        if isinstance(x, type):
            return self.a_class(x)
        if isinstance(x, Group):
            return Alone, ()  # inside a shard no group can split a batch
        return NotImplemented

    def tensor(self, t: Tensor) -> tuple:
        if t._node is not None and t._node is not LEAF and recording():
            raise ValueError(
                f"the function uses a tensor of shape {t.shape} that was computed by a recorded "
                "op: several workers cannot run backward through one graph. Compute it inside the "
                "function, or detach() it"
            )
        array = t._data
        if type(array) is not np.ndarray:
            on_cpu(array, f"a tensor of shape {t.shape} that the function uses")
        slot = self.slots.of(t, array)
        self.copies.append((slot.view, array))
        self.tensors.append(t)
        return tensor_at, (type(t), slot.plain_place, t._node is LEAF), self.more_of(t)

    def more_of(self, t: Tensor) -> Any:
        """The other attributes of a Tensor; ``.grad`` is not sent."""
        if type(t) is Tensor or (type(t) is Parameter and t.master is None):
            return None
        attributes, slots = t.__reduce__()[2]
        slots = {name: value for name, value in slots.items() if name != "grad"}
        return attributes, slots

    def array(self, x: np.ndarray) -> Any:
        if x.nbytes < LARGE or x.dtype.hasobject or x.dtype.names:
            return NotImplemented
        slot = self.slots.of(x, x)
        self.copies.append((slot.view, x))
        return array_at, slot.plain_place

    def random_numbers(self, generator: np.random.Generator) -> tuple:
        # Each shard must draw other numbers than shard 0, which draws from the generator itself.
        return generator_like, (type(generator.bit_generator), generator.bit_generator.state)

    def function(self, f: types.FunctionType) -> Any:
        if is_installed(f.__module__):
            if is_global(f):
                return self.constant(f)
        else:
            self.note_variables(f)
        known = self.known
        arguments = (
            known.number(f.__code__),
            known.number(f.__globals__),
            f.__name__,
            f.__closure__,
        )
        rest = f.__defaults__, f.__kwdefaults__, f.__dict__ or None
        attributes = None if rest == (None, None, None) else rest
        return function_of, arguments, attributes, None, None, fill

    def cell(self, cell: types.CellType) -> tuple:
        # An empty cell: its value comes later, because it may refer to the function that has it.
        # Pickle calls this once per cell, and remembers it.
        if not _is_empty(cell):
            self.to_send.append((cell, "", cell.cell_contents))
        return empty_cell, ()

    def pair(self, x: Fused) -> tuple:
        # Its members may be replaced, and those of the user's pairs may name the user's variables.
        number = self.known.number(x)
        for name in ("function", "run", "infer", "recorded_pull"):
            member = getattr(x, name)
            self.known.link(number, name, member)
            if isinstance(member, types.FunctionType) and not is_installed(member.__module__):
                self.note_variables(member)
        return known_object, (number,)

    def by_number(self, x: Any) -> tuple:
        return known_object, (self.known.number(x),)

    def constant(self, x: Any) -> tuple:
        """x by its number. x never changes, so this is noted, and x is not looked at again."""
        self.known.constants[id(x)] = reduced = self.by_number(x)
        return reduced

    def a_class(self, x: type) -> Any:
        if is_installed(x.__module__) and is_global(x):
            return self.constant(x)
        self.note_class(x)
        return self.by_number(x)

    # -- the variables that the user's code names --------------------------------------------------

    def note_variables(self, f: types.FunctionType) -> None:
        """Send the values of the global variables that the code of f names."""
        self.note_names(f.__globals__, names_in(f.__code__), attributes_in(f.__code__))

    def note_names(self, variables: dict, names: Iterable[str], attributes: frozenset) -> None:
        """Send the variables with these names; of a module of the user's among them (settings.RATE)
        also the variables whose names are among the attributes."""
        namespace = self.known.number(variables)
        for name in names:
            if name not in variables:
                continue
            value = variables[name]
            self.note(namespace, name, value)
            if type(value) is types.ModuleType and not is_installed(value.__name__):
                key = id(value), attributes
                if key not in self.noted:
                    self.noted.add(key)
                    self.note_names(vars(value), attributes, attributes)

    def note(self, namespace: int, name: str, value: Any) -> None:
        """Send the value of a variable, unless both processes have it."""
        key = namespace, name
        if key in self.noted or self.known.links.get(key, self) is value:
            return
        self.noted.add(key)
        if key in self.known.unsendable or is_fixed(value):
            self.known.link(namespace, name, value)
        else:
            # From now on the variable may have other values in the other process.
            self.known.links.pop(key, None)
            self.to_send.append((namespace, name, value))

    def note_class(self, c: type) -> None:
        """Send what may have changed in a class of the user's."""
        for kind in c.__mro__:
            if kind in self.noted:
                continue
            self.noted.add(kind)
            if is_installed(kind.__module__) and is_global(kind):
                continue
            number = self.known.number(kind)
            body = self.known.body(kind, number)
            for method in body.functions:
                self.note_variables(method)
                for cell in method.__closure__ or ():
                    if not _is_empty(cell) and cell.cell_contents is not kind:
                        self.note(self.known.number(cell), "", cell.cell_contents)
            for name, value in body.changeable:
                self.note(number, name, value)


class Unsendable(Exception):
    """A global variable whose value cannot be sent: ``key`` is that of ``Known.links``."""

    def __init__(self, key: tuple[int, str], value: Any):
        super().__init__(key)
        self.key, self.value = key, value


def packed(function: Callable, known: Known, slots: Slots) -> tuple[bytes, Sender]:
    """The function as bytes, and the Sender, which knows what they mention. TypeError or ValueError
    if it holds something that cannot be sent."""
    while True:
        sender = Sender(known, slots)
        try:
            return sender.packed(function), sender
        except Unsendable as found:
            if isinstance(found.__cause__, ValueError):
                raise found.__cause__ from None
            known.unsendable.add(found.key)
            known.link(*found.key, found.value)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise TypeError(
                f"the function uses something that cannot be sent to another process ({error}): "
                "create it inside the function, or use parallel.threads()"
            ) from error


def _same_objects(a: Mapping, b: dict) -> bool:
    """Do both have the same names, each with the very same object?"""
    return a.keys() == b.keys() and all(b[name] is value for name, value in a.items())


def _is_empty(cell: types.CellType) -> bool:
    """Has this variable of a closure no value yet?"""
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


# How an object of each of these types is sent
REDUCE: dict[type, Callable] = {
    Tensor: Sender.tensor,
    Parameter: Sender.tensor,
    np.ndarray: Sender.array,
    np.random.Generator: Sender.random_numbers,
    types.FunctionType: Sender.function,
    types.CellType: Sender.cell,
    types.CodeType: Sender.constant,
    types.ModuleType: Sender.constant,
    Fused: Sender.pair,
    type: Sender.a_class,
}
