"""Model summary: layers in the order in which they run, their output shapes, parameters, FLOPs and
activation memory, as a table.

    print(tinycv.summary(model, x))             # an array or a Tensor,
    print(tinycv.summary(model, (32, 1, 28, 28)))       # or its shape: random numbers are drawn

The model runs forward once, in the mode in which it is, with every op observed (costs.py counts its
multiply-adds).  The graph that this run recorded then says which arrays are kept for the backward
pass: the activation memory of a training step.  Afterwards the model is as before: running
statistics and other attributes are put back, nothing has a gradient, and the random numbers that
follow are those that would have followed anyway.

The numbers of a row exclude those of the layers below it, so each column adds up to its total. What
a model computes on bare arrays, outside the ops, is not seen.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from tinycv.engine import capturing, debug, rng, watch
from tinycv.engine.arguments import is_array, listed, shown, size
from tinycv.engine.create import randn
from tinycv.engine.tensor import DEBUG, RECORD, Node, Parameter, Tensor, mode
from tinycv.engine.walk import latest_first
from tinycv.nn.module import Module
from tinycv.show.costs import Cost, cost


@dataclass
class Row:
    """One layer: all its calls from the same place of the model. Its numbers exclude those of the
    layers that it calls, which have rows of their own.

    name: the path from the model, such as "encoder.0.linear1"; the model itself has "". depth: how
    many rows are above it in the tree. shapes: the different shapes of its result, as text; empty
    if it did not run. parameters, trainable: numbers in its own Parameters. shared: its Parameters
    that an earlier row has counted. multiply_adds, other: of all calls. saved: bytes that the graph
    keeps for the backward pass.
    """

    name: str
    label: str
    kind: str
    depth: int
    shapes: list[str] = field(default_factory=list)
    calls: int = 0
    parameters: int = 0
    trainable: int = 0
    shared: list[str] = field(default_factory=list)
    multiply_adds: int = 0
    other: int = 0
    saved: int = 0


@dataclass
class Summary:
    """What ``summary`` found. ``str()`` is the table, and a notebook shows it too.

    rows: a list of Row. parameters, trainable, multiply_adds, other, saved: the sums of the rows.
    flops: 2 multiply_adds + other, of one forward pass. parameter_bytes and input_bytes: the memory
    of the Parameters and of the inputs, which ``saved`` excludes. uncounted: ops that are not of
    the package, and are counted per element.
    """

    rows: list[Row]
    parameter_bytes: int
    input_bytes: int
    uncounted: list[str]

    parameters = property(lambda self: sum(row.parameters for row in self.rows))
    trainable = property(lambda self: sum(row.trainable for row in self.rows))
    multiply_adds = property(lambda self: sum(row.multiply_adds for row in self.rows))
    other = property(lambda self: sum(row.other for row in self.rows))
    saved = property(lambda self: sum(row.saved for row in self.rows))
    flops = property(lambda self: 2 * self.multiply_adds + self.other)

    def __str__(self) -> str:
        from tinycv.show.summary_table import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from tinycv.show.summary_table import as_html

        return as_html(self)


def summary(model: Module | Callable, *inputs: Any, **options: Any) -> Summary:
    """Run the model once and count: see the top of this file.

    model: a Module, or a method of one, such as vae.decode. inputs, options: what the model takes.
    An array becomes a Tensor. A tuple of whole numbers, such as (32, 1, 28, 28), is a shape, and
    stands for random numbers of N(0, 1); other values, such as token ids, need an array.
    """
    owner = getattr(model, "__self__", model)
    if not isinstance(owner, Module) or isinstance(model, type):
        raise TypeError(
            f"summary: model is {shown(model)}; it must be a Module, or a method of one"
        )
    capturing.refuse("tinycv.summary", "call it outside")
    return copy_context().run(_observed, model, owner, inputs, options)


def _observed(model: Any, owner: Module, inputs: tuple, options: dict) -> Summary:
    """The summary. It runs in a context of its own, so that what is set here ends with it."""
    rng.use(rng.discarded())
    args = [as_input(value, owner, f"input {i}") for i, value in enumerate(inputs)]
    named = {name: as_input(value, owner, name) for name, value in options.items()}
    run = Run(owner)
    debug.observer.set(run.count)
    mode.set(RECORD | DEBUG)
    with restored(owner):
        run.attach()
        try:
            result = model(*args, **named) if model is owner else run.method(model, args, named)
        except (TypeError, ValueError, IndexError) as error:
            shapes = [v for v in (*inputs, *options.values()) if is_shape(v)]
            if not shapes:
                raise
            raise type(error)(
                f"summary: {type(owner).__name__} failed on random numbers of shape "
                f"{listed(shapes)}; give it arrays if it needs other values, such as token ids: "
                f"{error}"
            ) from error
    run.measure_saved(result, [*args, *named.values()])
    run.count_parameters()
    return Summary(
        list(run.in_order()),
        sum(p._data.nbytes for p in owner.parameters()),
        sum(t._data.nbytes for t in tensors_in([args, named])),
        sorted(run.unknown),
    )


def is_shape(value: Any) -> bool:
    """Is it a tuple of whole numbers, at least one?"""
    return (
        isinstance(value, tuple)
        and len(value) > 0
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value)
    )


def as_input(value: Any, owner: Module, what: str) -> Any:
    """An input of the model: a shape becomes random numbers, an array a Tensor."""
    if is_shape(value):
        shape = tuple(size(n, f"summary: {what}[{i}]") for i, n in enumerate(value))
        like = next((p for p in owner.parameters() if p.dtype.kind == "f"), None)
        if like is None:
            return randn(shape)
        return randn(shape, dtype=like.dtype, device=like.device)
    return Tensor(value) if is_array(value) and not isinstance(value, Tensor) else value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The Tensors in a result or an argument: in tuples, lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, f.name) for f in fields(value)])


def shape_text(value: Any) -> str:
    """The shape of a result: that of a Tensor, or those of all its Tensors."""
    if isinstance(value, Tensor):
        return str(value.shape)
    return ", ".join(str(t.shape) for t in tensors_in(value)) or type(value).__name__


class restored:
    """``with restored(model):`` puts back what a run may change: the attributes of all modules, the
    values of all buffers, and the gradients."""

    def __init__(self, model: Module):
        self.attributes = [(m, dict(vars(m))) for m in model.modules()]
        self.buffers = [(t, t._data, t._data.copy()) for t in model.buffers()]
        self.gradients = [(p, p.grad) for p in model.parameters()]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for module, attributes in self.attributes:
            vars(module).clear()
            vars(module).update(attributes)
        for t, array, values in self.buffers:
            if t._data is not array or not same_bits(array, values):
                t._data = array
                array[...] = values
                t.mark_changed()
        for p, gradient in self.gradients:
            p.grad = gradient


def same_bits(a: Any, b: Any) -> bool:
    """Are two arrays equal? NaN equals NaN."""
    return bool(((a == b) | (a != a) & (b != b)).all())


class Place:
    """A Row, and those of the layers that it calls, by the id of their module."""

    def __init__(self, module: Module, row: Row):
        self.module, self.row = module, row
        self.inside: dict[int, Place] = {}


class Run:
    """One observed run of a model: the rows so far, and which of them is running."""

    def __init__(self, model: Module):
        self.model = model
        self.paths: dict[int, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self.paths.setdefault(id(module), []).append(path)
        self.root = Place(model, Row("", type(model).__name__, type(model).__name__, 0))
        self.stack: list[Place] = []
        # From tick times[i] on, the layer places[i] was running: this finds the layer of a Node.
        self.times: list[int] = []
        self.places: list[Place] = []
        self.unknown: set[str] = set()

    def attach(self) -> None:
        """Let every module report its calls. ``restored`` undoes this."""
        for module in list(self.model.modules()):
            # an attribute of the object comes before the method of its class
            vars(module)["forward"] = partial(self.call, module, module.forward)

    def call(self, module: Module, forward: Callable, *args: Any, **options: Any) -> Any:
        """Run the forward function of a layer, as the current row."""
        self.enter(self.place_of(module))
        try:
            result = forward(*args, **options)
        finally:
            place = self.leave()
        place.row.calls += 1
        text = shape_text(result)
        if text not in place.row.shapes:
            place.row.shapes.append(text)
        return result

    def method(self, method: Callable, args: list, options: dict) -> Any:
        """Run a method of the model, as its row."""
        return self.call(self.model, method, *args, **options)

    def place_of(self, module: Module) -> Place:
        """The place of a module that the current row calls; a new one at its first call."""
        if not self.stack:
            return self.root
        parent = self.stack[-1]
        if id(module) not in parent.inside:
            parent.inside[id(module)] = Place(module, self.new_row(module, parent.row))
        return parent.inside[id(module)]

    def new_row(self, module: Module, parent: Row) -> Row:
        """A module that has several names is called by the one that lies inside its caller."""
        names = self.paths[id(module)]
        prefix = f"{parent.name}." if parent.name else ""
        path = next((name for name in names if name.startswith(prefix)), names[0])
        label = path.removeprefix(prefix) or "(itself)"
        return Row(path, label, type(module).__name__, parent.depth + 1)

    def enter(self, place: Place) -> None:
        self.stack.append(place)
        self.times.append(watch.tick())
        self.places.append(place)

    def leave(self) -> Place:
        place = self.stack.pop()
        self.times.append(watch.tick())
        self.places.append(self.stack[-1] if self.stack else self.root)
        return place

    def count(self, row: Any, args: tuple, options: dict, result: Any) -> None:
        """The engine calls this after every op."""
        added, unknown = cost(row, args, options, result)
        current = (self.stack[-1] if self.stack else self.root).row
        total = Cost(current.multiply_adds, current.other).plus(added)
        current.multiply_adds, current.other = total
        if unknown is not None:
            self.unknown.add(unknown)

    def measure_saved(self, result: Any, inputs: list) -> None:
        """Add the memory that the recorded graph keeps to the rows whose ops saved it first.
        Parameters, buffers and inputs exist anyway, so they do not count."""
        known = [t._data for _, t in self.model.named_tensors()]
        known += [t._data for t in tensors_in(inputs)]
        counted = {id(watch.root(array)) for array in known}
        outputs = [t for t in tensors_in(result) if isinstance(t._node, Node)]
        for node in reversed(latest_first(outputs)):
            for array in watch.arrays_in(node.saved):
                memory = watch.root(array)
                if id(memory) not in counted:
                    counted.add(id(memory))
                    place = self.places[bisect(self.times, node.seq) - 1] if self.times else None
                    (place or self.root).row.saved += memory.nbytes

    def in_order(self) -> Iterator[Row]:
        """All rows: each before those of the layers that it calls, and those in the order of their
        first calls."""
        to_visit = [self.root]
        while to_visit:
            place = to_visit.pop()
            yield place.row
            to_visit.extend(reversed(place.inside.values()))

    def count_parameters(self) -> None:
        """Give each Parameter to the first row that has it, and a row to each module that did not
        run although it has Parameters."""
        counted: dict[int, str] = {}
        ran: set[int] = set()
        to_visit = [self.root]
        while to_visit:
            place = to_visit.pop()
            self.count_own(place, counted, is_first=id(place.module) not in ran)
            ran.add(id(place.module))
            to_visit.extend(reversed(place.inside.values()))
        for path, module in self.model.named_modules():
            own = [t for _, t in module.named_parts() if isinstance(t, Parameter)]
            if id(module) not in ran and own:
                row = Row(path, path, type(module).__name__, 1)
                place = self.root.inside[id(module)] = Place(module, row)
                self.count_own(place, counted, is_first=True)

    @staticmethod
    def count_own(place: Place, counted: dict[int, str], is_first: bool) -> None:
        """counted: the names of the Parameters that have been counted, by their ids."""
        row = place.row
        for name, t in place.module.named_parts():
            if not isinstance(t, Parameter):
                continue
            if id(t) in counted:
                if counted[id(t)] != f"{row.name}.{name}" or not is_first:
                    row.shared.append(name)
                continue
            counted[id(t)] = f"{row.name}.{name}"
            row.parameters += t.size
            row.trainable += t.size if t.requires_grad else 0
