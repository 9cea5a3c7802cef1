"""How ops are recorded: ``op`` turns a row of the derivative table (ops.py) into a function.

    mul = op(lambda xp, a, b: a * b,    a=lambda g, b: g * b,    b=lambda g, a: g * a)

The row reads: mul takes the inputs a and b; it computes a * b with the array module xp (NumPy or
CuPy); dL/da is g * b and dL/db is g * a, where g is dL/d(a * b).  The parameter names of a pull say
which values it needs.  Only these values are saved for the backward pass:

    a, b, ...      an input                      y          the op's own result
    x_shape        the shape of input x          axis, ...  an option (a parameter with a default)
    x_device       the device of input x

A pull may return its gradient in the shape of the result, and in a wider dtype: the walk sums it to
the input's shape and converts it.  Inputs without a pull (a mask, indices) get no gradient.  If no
input is a Tensor, an op just runs its forward function.  So a pull can use ops of the table for
both kinds of backward pass: on arrays they compute, on Tensors they compute and record.

Further settings of a row:
    real(...)    in place of op(...): the result is a real number, so integers go in as float32
    wide=True    for float16: the pulls compute in float32, and so does the forward function if an
                 input is a Python number that float16 cannot represent exactly. The result is
                 rounded once, at the end. (operands.py has the rules for dtypes.)
    into={...}   for an input whose gradient is mostly zeros, a second form of its pull, which adds
                 its piece in place: into(buffer, parent, g, ...) -> buffer, with the saved values
                 that the pull takes. walk.py explains when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import Parameter as Kind
from inspect import signature
from itertools import accumulate
from typing import Any

import numpy as np

from tinycv.engine import debug, errors, watch
from tinycv.engine.backend import Array, array_module
from tinycv.engine.operands import (
    FLOAT16,
    FLOAT32,
    NUMBERS,
    in_float,
    operands,
    option,
    real_numbers,
)
from tinycv.engine.tensor import DEBUG, LEAF, RECORD, Gradient, Node, Tensor, mode, wrap

# NumPy scalars that would promote float32 arrays to float64; Python numbers do not
PROMOTING = np.float64, np.integer
# Types of options that need no conversion; ``option`` in operands.py converts or refuses others.
PLAIN = {
    "axis": {int, type(None)},
    "axis1": {int},
    "axis2": {int},
    "keepdims": {bool},
    **dict.fromkeys(NUMBERS, {int, float, type(None)}),
}
REAL = frozenset("fiub")  # kinds of dtype that ops calculate with
NUMBER = frozenset((int, float, bool))
ndarray, new, current_mode = np.ndarray, object.__new__, mode.get
# every op by name: filled by ``name_rows`` at the end of ops.py
OPS: dict[str, Any] = {}


class Row:
    """One row of the derivative table: the forward function of an op, its pulls, and what they
    need."""

    def __init__(
        self,
        forward: Callable,
        pulls: dict[str, Callable],
        into: dict[str, Callable],
        real: bool,
        wide: bool,
    ):
        parameters = list(signature(forward).parameters.values())[1:]  # without xp
        self.name, self.forward = "unnamed", forward
        self.variadic = any(p.kind is Kind.VAR_POSITIONAL for p in parameters)
        self.inputs = [
            p.name
            for p in parameters
            if p.default is Kind.empty and p.kind is not Kind.KEYWORD_ONLY
        ]
        self.options = {p.name: p.default for p in parameters if p.name not in self.inputs}
        self.pulls = tuple(pulls.get(name) for name in self.inputs)
        self.into = tuple(into.get(name) for name in self.inputs)
        self.needs = [
            [] if pull is None else list(signature(pull).parameters)[1:] for pull in self.pulls
        ]
        # where the op's result is among the values that each pull needs
        self.y_at = [names.index("y") if "y" in names else None for names in self.needs]
        self.real, self.wide = real, wide
        self.numbers = tuple(name for name in self.options if name in NUMBERS)
        plain = PLAIN
        if "keepdims" in self.options:  # reductions check a tuple of axes themselves
            plain = {**PLAIN, "axis": PLAIN["axis"] | {tuple}}
        self.checked = tuple((name, plain[name]) for name in self.options if name in plain)
        several = sum(p is not None for p in self.pulls) > 1 or wide and len(self.inputs) > 1
        # Does the op need the dtype rules of operands.py?
        self.mixes = bool(real or self.variadic or self.numbers or several)
        # Does the op have a mask, as ``where`` does: an input without a pull, while other inputs
        # have one? The dtype of a mask does not influence the dtype of the result.
        self.masked = any(self.pulls) and not all(self.pulls)
        # Pulls that need g alone do not calculate with anything, so they can stay in float16.
        self.widens = wide and any(self.needs)
        self.savers: dict[int, Callable] = {}
        unknown = set(pulls) - set(self.inputs)
        if unknown:
            raise TypeError(f"op: pulls for {sorted(unknown)}, but the inputs are {self.inputs}")

    def saver(self, mask: int) -> Callable:
        """The function that picks out what to save: saver(y, inputs, options) -> one entry for each
        input, either the tuple of values that its pull needs, or None.

        mask: the inputs that require a gradient, as bits: bit i for input i. For y = a * b:

            mask 0b01    only a requires a gradient      saver(...) = ((b,), None)
            mask 0b10    only b does                     saver(...) = (None, (a,))
            mask 0b11    both do                         saver(...) = ((b,), (a,))

        It would be slow to look at the parameter names of the pulls each time an op is recorded. So
        each mask gets its own saver, which is put together from small functions (``getter``) once,
        when the mask first occurs, and then kept in ``savers``.
        """
        required = [bool(mask >> i & 1 and pull) for i, pull in enumerate(self.pulls)]
        if any(self.needs):
            savers = [
                tuple_of([self.getter(name) for name in names]) if yes else save_nothing
                for yes, names in zip(required, self.needs, strict=True)
            ]
            saver = tuple_of(savers)
        else:  # as for a + b, whose pulls need g alone: always the same tuple of empty tuples
            saver = constant(tuple([() if yes else None for yes in required]))
        return self.savers.setdefault(mask, saver)

    def getter(self, name: str) -> Callable:
        """A function (y, inputs, options) -> the value that a pull's parameter ``name`` means."""
        if name == "y":
            return lambda y, inputs, options: y
        if name in self.options:
            return lambda y, inputs, options: options[name]
        owner, _, attribute = name.rpartition("_")
        i = self.inputs.index(name if name in self.inputs else owner)
        if name in self.inputs:
            return lambda y, inputs, options: inputs[i]
        if attribute == "shape":
            return lambda y, inputs, options: inputs[i].shape
        return lambda y, inputs, options: inputs[i].device

    def in_one_dtype(
        self, arrays: list, options: dict, any_tensor: bool, check_types: bool
    ) -> tuple:
        """(the arrays in one dtype, the function to run on them), by the rules of operands.py.

        any_tensor: is any input a Tensor?
        check_types: is any input neither a number nor an array of numbers?
        """
        if any_tensor:
            if not self.masked and have_one_float(arrays):
                return arrays, self.forward
            return operands(self, arrays, options)
        if check_types:
            arrays = [real_numbers(a, self.name) for a in arrays]
        return ([in_float(a) for a in arrays] if self.real else arrays), self.forward

    def sorted_arguments(self, args: tuple, options: dict) -> tuple[tuple, dict]:
        """(inputs by position, all options by name), however the caller passed them: an option may
        come by position (x.sum(-1)), an input by name (relu(x=t)), and defaults are filled in."""
        n = len(args) if self.variadic else len(self.inputs)
        if len(args) < n:
            args, options = self.inputs_by_position(args, options)
        by_position = dict(zip(self.options, args[n:], strict=False))
        if not 0 <= len(args) - n <= len(by_position):
            raise TypeError(
                f"{self.signature()}: {len(args)} arguments were given by position; it takes at "
                f"most {n + len(self.options)}"
            )
        if options and not by_position.keys().isdisjoint(options):
            twice = ", ".join(name for name in by_position if name in options)
            raise TypeError(f"{self.signature()}: {twice} was given twice, by position and by name")
        return args[:n], {**self.options, **by_position, **options}

    def signature(self) -> str:
        """The op with the names of its arguments, such as "sum(x, axis, keepdims)"."""
        return f"{self.name}({', '.join([*self.inputs, *self.options])})"

    def inputs_by_position(self, args: tuple, options: dict) -> tuple[tuple, dict]:
        """(all inputs by position, the remaining options). TypeError if an input is missing."""
        by_name = self.inputs[len(args) :]
        missing = [name for name in by_name if name not in options]
        if missing:
            raise TypeError(f"{self.signature()}: missing {', '.join(missing)}")
        inputs = (*args, *[options[name] for name in by_name])
        return inputs, {name: v for name, v in options.items() if name not in by_name}

    def save_all(self, inputs: tuple, options: dict) -> tuple:
        """What to save for an op with any number of inputs, such as concatenate. Such a row has one
        pull for all of them, pull(g, i, options..., *inputs), which returns the gradient of input
        i."""
        values = {**options, f"{self.inputs[0]}_shapes": Shapes(x.shape for x in inputs)}
        common = tuple(values[n] for n in self.needs[0][1:] if n in values)
        xs = inputs if self.inputs[0] in self.needs[0] else ()
        return tuple((i, *common, *xs) for i in range(len(inputs)))

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        """(parent, its piece of the gradient) for each parent that needs one; see walk.py.

        g: dL/d(the op's result). needed: the Nodes and leaves that need a gradient; None for all.
        record: True runs the pulls on Tensors, so that they are recorded.
        """
        in_float32 = self.widens and g.dtype == FLOAT16
        g = g.astype(FLOAT32) if in_float32 else g
        for i, parent in enumerate(node.parents):
            args = node.saved[i]
            if parent is None or args is None or (needed is not None and parent not in needed):
                continue
            # An op with any number of inputs has one pull, for all of them.
            pull_index = 0 if self.variadic else i
            # This also raises an error if a saved input has been changed in place.
            arrays = unwrapped(args, node) if args else args
            if not record:
                args = arrays
            elif (y_at := self.y_at[pull_index]) is not None:
                # The result y was saved as a bare array (see Node). The recorded pull needs the
                # Tensor, so that the gradient of the gradient flows through y too.
                args = (*args[:y_at], wrap(args[y_at], node), *args[y_at + 1 :])
            if in_float32:
                args = [a.astype(FLOAT32) if is_float16(a) else a for a in args]
            pull, into = self.pulls[pull_index], self.into[pull_index]
            if into is not None and not record:
                yield parent, piece_added_by(into, g, args)
            elif pull is not None:  # always true: without a pull nothing would have been saved
                yield parent, pull(g, *args)


def have_one_float(arrays: list) -> bool:
    """Are the inputs NumPy arrays of one dtype, float32 or float64, and Python numbers, and nothing
    else? Then the rules of operands.py would change nothing."""
    dtype = None
    for a in arrays:
        if type(a) is ndarray:
            if dtype is None:
                dtype = a.dtype
            elif a.dtype is not dtype:
                return False
        elif type(a) not in NUMBER:
            return False
    return dtype is not None and dtype.kind == "f" and dtype != FLOAT16


def is_float16(a: object) -> bool:
    """Is it an array or a Tensor of float16?"""
    return getattr(a, "dtype", None) == FLOAT16


def piece_added_by(into: Callable, g: Array, args: Sequence) -> Callable:
    """A piece in the form of a function, (buffer or None, parent) -> buffer: see walk.py."""
    return lambda buffer, parent: into(buffer, parent, g, *args)


class Shapes(tuple):
    """The shapes of all inputs of an op that takes any number of them, such as concatenate."""

    def edges(self, axis: int) -> list[int]:
        """Where each input begins in the concatenation along ``axis``, and where the last one ends.

        Kept after the first call: if each of 100,000 inputs added up the sizes of all inputs before
        it, the backward pass of one concatenation would take 5 billion additions.
        """
        edges_of_axis = vars(self).setdefault("edges_of_axis", {})
        if axis not in edges_of_axis:
            edges_of_axis[axis] = [0, *accumulate(shape[axis] for shape in self)]
        return edges_of_axis[axis]


def unwrapped(args: tuple, node: Node) -> list:
    """The saved values, with arrays for Tensors. RuntimeError if one was changed since the op
    ran."""
    # watch.latest is the time of the last change of any saved memory. If this Node is newer, there
    # is nothing to check.
    if watch.latest > node.seq:
        errors.refuse_changed(args, node)
    return [a._data if isinstance(a, Tensor) else a for a in args]


def save_nothing(y: Array, inputs: tuple, options: dict) -> None:
    """The saver of an input that needs no gradient."""


def constant(value: Any) -> Callable:
    """The function (y, inputs, options) -> value."""
    return lambda y, inputs, options: value


def tuple_of(getters: list[Callable]) -> Callable:
    """The function (y, inputs, options) -> the tuple of what the getters return.

    The last line alone would do; the lines for no, one and two getters are faster.
    """
    if not getters:
        return lambda y, inputs, options: ()
    if len(getters) == 1:
        (only,) = getters
        return lambda y, inputs, options: (only(y, inputs, options),)
    if len(getters) == 2:
        first, second = getters
        return lambda y, inputs, options: (first(y, inputs, options), second(y, inputs, options))
    return lambda y, inputs, options: tuple([get(y, inputs, options) for get in getters])


def op(  # noqa: C901  one long function, because each further call would slow down every op
    forward: Callable,
    into: dict[str, Callable] | None = None,
    real: bool = False,
    wide: bool = False,
    **pulls: Callable,
) -> Callable:
    """Turn a row of the table into the function that users call; see the top of this file."""
    row = Row(forward, pulls, into or {}, real, wide)
    n: Any = None if row.variadic else len(row.inputs)
    all_options, checked, savers = row.options, row.checked, row.savers
    differentiable, masked = any(row.pulls), row.masked

    def call(*args: Any, **options: Any) -> Any:  # noqa: C901
        if all_options:
            if not options and len(args) == n:  # as in x.sum(): every option has its default
                options = all_options
            elif len(options) < len(all_options) or len(args) != n:
                args, options = row.sorted_arguments(args, options)
        elif len(args) < n:
            args, options = row.inputs_by_position(args, options)
        # One loop over the inputs collects (in one pass, because this runs for every op):
        #     arrays, parents    the array and the parent of each input (see Node)
        #     mask               which inputs require a gradient, as bits (see Row.saver); ``bit``
        #                        is that of the current input: 1, 2, 4, ...
        #     any_tensor         is any of them a Tensor?
        #     check_dtypes       may the dtypes need conversion: is an input neither a Tensor of
        #                        float32 nor a Python int or float, or does the op have a mask?
        #     check_types        is any of them neither a number nor an array of numbers?
        arrays, parents = [], []
        mask, bit = 0, 1
        any_tensor, check_dtypes, check_types = False, masked, False
        for a in args:
            if isinstance(a, Tensor):
                any_tensor, node, array = True, a._node, a._data
                arrays.append(array)
                parents.append(a if node is LEAF else node)
                if node is not None:
                    mask |= bit
                if array.dtype is not FLOAT32:
                    check_dtypes = True
            else:
                kind = type(a)
                if kind is not float and kind is not int:
                    check_dtypes = True
                    if kind is not ndarray or a.dtype is not FLOAT32 and a.dtype.kind not in REAL:
                        check_types = True
                        a = a.item() if isinstance(a, PROMOTING) else a
                arrays.append(a)
                parents.append(None)
            bit *= 2
        try:
            for name, plain in checked:
                if type(options[name]) not in plain:
                    options = {**options, name: option(options[name], row.name, name)}
            run = forward
            if check_dtypes:
                arrays, run = row.in_one_dtype(arrays, options, any_tensor, check_types)
            xp = np if arrays and type(arrays[0]) is ndarray else module_of(arrays)
            y = run(xp, *arrays, **options)
        except Exception as error:
            raise errors.explain(row, args, options, error) from error
        if not any_tensor:
            return y if type(arrays[0]) is ndarray else number_of(y, args)
        now = current_mode()
        if type(y) is not ndarray and isinstance(y, np.generic):
            y = np.asarray(y)
        # ``wrap`` in place, without its calls
        result = new(Tensor)
        result._data, result._node, result._moved, result.grad = y, None, 0, None
        if mask and differentiable and now & RECORD:
            if n is None:
                saved = row.save_all(args, options)
            else:
                saved = (savers.get(mask) or row.saver(mask))(y, args, options)
            result._node = Node(row, tuple(parents), saved, y.shape, y.dtype)
        if now & DEBUG:  # under debug()
            debug.after_op(row, args, options, result)
        return result

    call.row = row
    return call


real = partial(op, real=True)


def module_of(arrays: list) -> Any:
    """NumPy or CuPy, by the first array among the inputs. NumPy if all inputs are numbers."""
    for a in arrays:
        if hasattr(a, "shape") and not isinstance(a, np.generic):
            return array_module(a)
    return np


def number_of(y: Array, args: tuple) -> Any:
    """The result of an op as a Python number if all its inputs were numbers. A NumPy number would
    later promote float32 arrays to float64."""
    return (
        y.item()
        if getattr(y, "ndim", None) == 0 and not any(hasattr(a, "shape") for a in args)
        else y
    )


def name_rows(namespace: dict) -> None:
    """Give every op in the module ``namespace`` the name of its variable, and list it in OPS. The
    name and the module are what pickle finds an op by."""
    for name, value in namespace.items():
        if hasattr(value, "row"):
            OPS.setdefault(name, value)
            value.row.name = value.__name__ = value.__qualname__ = name
            value.__module__ = namespace["__name__"]
