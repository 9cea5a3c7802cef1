"""How a row of the derivative table becomes a function.

    mul = op(lambda xp, a, b: a * b,    a=lambda g, b: g * b,    b=lambda g, a: g * a)

reads: mul takes arrays a and b; it computes a * b with xp (NumPy or CuPy); dL/da is g * b, and
dL/db is g * a, where g is dL/d(a * b).  A pull's parameter names say what it needs, and that alone
is kept until the walk back:

    a, b, ...      an input                      y          the op's own result
    x_shape        the shape of input x          axis, ...  an option (it has a default)
    x_device       where input x lives

Broadcasting is undone, and dtypes are restored, by the walk: a pull may return g in the shape of
the result. Inputs of different dtypes meet by the rule of operands.py; ``real`` in place of ``op``
says that the result is a real number, whatever goes in. ``wide``: with float16 the pulls calculate
in float32, and so does the op itself where a number beside the halves is none that float16 holds
exactly; the results are rounded once. Inputs without a pull (a mask, indices) get no gradient.  An
op without Tensors among its inputs is just its forward function, which is why a pull may use the
table's own ops: on arrays they compute, on Tensors they record.
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

# NumPy scalars that would make float64 of float32: Python's numbers do not
PROMOTING = np.float64, np.integer
# all other types: ``option``
PLAIN = {
    "axis": {int, type(None)},
    "axis1": {int},
    "axis2": {int},
    "keepdims": {bool},
    **dict.fromkeys(NUMBERS, {int, float, type(None)}),
}
REAL = frozenset("fiub")  # kinds of dtype that ops calculate with
NUMBER = frozenset((int, float, bool))
ndarray = np.ndarray
# every op by name: filled by ``name_rows`` at the end of ops.py
OPS: dict[str, Any] = {}


class Row:
    """What the table says of one op."""

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
        self.wants_result = [names.index("y") if "y" in names else None for names in self.needs]
        self.real, self.wide = real, wide
        self.numbers = tuple(name for name in self.options if name in NUMBERS)
        plain = PLAIN
        if "keepdims" in self.options:  # reductions look into a tuple of axes themselves
            plain = {**PLAIN, "axis": PLAIN["axis"] | {tuple}}
        self.checked = tuple((name, plain[name]) for name in self.options if name in plain)
        several = sum(p is not None for p in self.pulls) > 1 or wide and len(self.inputs) > 1
        self.mixes = bool(real or self.variadic or self.numbers or several)
        # a mask, as of where: an input without a pull beside others, which has no say in the dtype
        self.masked = any(self.pulls) and not all(self.pulls)
        # a pull that takes g alone hands it on as it is
        self.widens = wide and any(self.needs)
        self.savers: dict[int, Callable] = {}
        unknown = set(pulls) - set(self.inputs)
        if unknown:
            raise TypeError(f"op: pulls for {sorted(unknown)}, but the inputs are {self.inputs}")

    def saver(self, mask: int) -> Callable:
        """A function (y, inputs, options) -> for each input in ``mask`` the tuple that its pull
        needs, None for the others. It is kept, for it runs at every recorded op."""
        wanted = [bool(mask >> i & 1 and pull) for i, pull in enumerate(self.pulls)]
        found = together(
            [
                together([self.getter(name) for name in names]) if want else nothing
                for names, want in zip(self.needs, wanted, strict=True)
            ]
        )
        return self.savers.setdefault(mask, found)

    def getter(self, name: str) -> Callable:
        """(y, inputs, options) -> what a pull calls by this name."""
        if name == "y":
            return lambda y, inputs, options: y
        if name in self.options:
            return lambda y, inputs, options: options[name]
        owner, _, what = name.rpartition("_")
        at = self.inputs.index(name if name in self.inputs else owner)
        if name in self.inputs:
            return lambda y, inputs, options: inputs[at]
        if what == "shape":
            return lambda y, inputs, options: inputs[at].shape
        return lambda y, inputs, options: inputs[at].device

    def common(self, arrays: list, options: dict, tensors: bool, strange: bool) -> tuple:
        """(The arrays in one dtype, the function to run on them), by the rule of operands.py."""
        if tensors:
            if not self.masked and have_one_float(arrays):
                return arrays, self.forward
            return operands(self, arrays, options)
        if strange:
            arrays = [real_numbers(a, self.name) for a in arrays]
        return ([in_float(a) for a in arrays] if self.real else arrays), self.forward

    def settled(self, args: tuple, options: dict) -> tuple[tuple, dict]:
        """Options given by position (x.sum(-1)) put under their names, those not given at their
        defaults, and inputs given by name (relu(x=t)) put in their places."""
        n = len(args) if self.variadic else len(self.inputs)
        if len(args) < n:
            args, options = self.placed(args, options)
        by_place = dict(zip(self.options, args[n:], strict=False))
        if (
            not 0 <= len(args) - n <= len(by_place)
            or options
            and not by_place.keys().isdisjoint(options)
        ):
            raise TypeError(
                f"{self.name}({', '.join([*self.inputs, *self.options])}): {len(args)} arguments "
                f"were given by position, and by name {', '.join(options) or 'none'}"
            )
        return args[:n], {**self.options, **by_place, **options}

    def placed(self, args: tuple, options: dict) -> tuple[tuple, dict]:
        """All inputs by position, and the options that are left. TypeError where an input is
        missing."""
        rest = self.inputs[len(args) :]
        missing = [name for name in rest if name not in options]
        if missing:
            raise TypeError(
                f"{self.name}({', '.join([*self.inputs, *self.options])}): missing "
                f"{', '.join(missing)}"
            )
        return (*args, *[options[name] for name in rest]), {
            k: v for k, v in options.items() if k not in rest
        }

    def save_all(self, inputs: tuple, options: dict) -> tuple:
        """For a row of any number of inputs, which has one pull: pull(g, i, options..., *xs)."""
        values = {**options, f"{self.inputs[0]}_shapes": Shapes(x.shape for x in inputs)}
        common = tuple(values[n] for n in self.needs[0][1:] if n in values)
        xs = inputs if self.inputs[0] in self.needs[0] else ()
        return tuple((i, *common, *xs) for i in range(len(inputs)))

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        """(parent, its piece of the gradient) for each parent that wants one: see walk.py.

        Where the row has an ``into``, the piece is a function that adds it into a buffer, which
        saves a whole array of zeros.
        """
        half = self.widens and g.dtype == FLOAT16
        g = g.astype(FLOAT32) if half else g
        for i, parent in enumerate(node.parents):
            args = node.saved[i]
            if parent is None or args is None or (needed is not None and parent not in needed):
                continue
            # a row of any number of inputs has one pull for all
            place = 0 if self.variadic else i
            arrays = unwrapped(args, node) if args else args
            if not record:
                args = arrays
            elif (at := self.wants_result[place]) is not None:
                # y is saved bare: see Node
                args = (*args[:at], wrap(args[at], node), *args[at + 1 :])
            if half:
                args = [a.astype(FLOAT32) if is_half(a) else a for a in args]
            pull, into = self.pulls[place], self.into[place]
            if into is not None and not record:
                yield parent, adding(into, g, args)
            elif pull is not None:  # it is there: without it nothing would have been saved
                yield parent, pull(g, *args)


def have_one_float(arrays: list) -> bool:
    """Are these NumPy arrays of one dtype, float32 or wider, with no more than Python's numbers
    beside them?  Then no rule is needed."""
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


def is_half(a: object) -> bool:
    """Is it an array or a Tensor of float16?"""
    return getattr(a, "dtype", None) == FLOAT16


def adding(into: Callable, g: Array, args: Sequence) -> Callable:
    """A piece that adds itself: (buffer or None, parent) -> buffer."""
    return lambda buffer, parent: into(buffer, parent, g, *args)


class Shapes(tuple):
    """The shapes of the inputs of a row that takes any number of them."""

    def edges(self, axis: int) -> list[int]:
        """Where each input begins along the axis, if they lie one after the other, and where the
        last one ends. It is worked out once, not once per input: of 100,000 inputs each would count
        up all those before it."""
        found = vars(self).setdefault("found", {})
        if axis not in found:
            found[axis] = [0, *accumulate(shape[axis] for shape in self)]
        return found[axis]


def unwrapped(args: tuple, node: Node) -> list:
    """Arrays for the Tensors among what was saved; refused if they have changed since."""
    if watch.latest > node.seq:
        errors.refuse_changed(args, node)
    return [a._data if isinstance(a, Tensor) else a for a in args]


def nothing(y: Array, inputs: tuple, options: dict) -> None:
    """What is saved for an input that gets no gradient."""


def together(getters: list[Callable]) -> Callable:
    """A function (y, inputs, options) -> the tuple of what each getter finds."""
    if not getters:
        return lambda y, inputs, options: ()
    if len(getters) == 1:
        (only,) = getters
        return lambda y, inputs, options: (only(y, inputs, options),)
    if len(getters) == 2:
        first, second = getters
        return lambda y, inputs, options: (first(y, inputs, options), second(y, inputs, options))
    return lambda y, inputs, options: tuple([get(y, inputs, options) for get in getters])


def op(  # noqa: C901  what runs at every op is written in one place: calls would cost 4 %
    forward: Callable,
    into: dict[str, Callable] | None = None,
    real: bool = False,
    wide: bool = False,
    **pulls: Callable,
) -> Callable:
    """Make the function of a row: see the top of this file."""
    row = Row(forward, pulls, into or {}, real, wide)
    n: Any = None if row.variadic else len(row.inputs)
    options_of, checked, learns, masked = row.options, row.checked, any(row.pulls), row.masked

    def call(*args: Any, **options: Any) -> Any:  # noqa: C901
        if options_of:
            if len(options) < len(options_of) or len(args) != n:
                args, options = row.settled(args, options)
        elif len(args) < n:
            args, options = row.placed(args, options)
        # What are they? mask: which require a gradient, as bits. odd: is any neither float32 nor a
        # plain number, or a mask? strange: no array of numbers? (A loop in place: it runs at every
        # op.)
        arrays, parents, mask, bit, tensors, odd, strange = [], [], 0, 1, False, masked, False
        for a in args:
            if isinstance(a, Tensor):
                tensors, node, array = True, a._node, a._data
                arrays.append(array)
                parents.append(a if node is LEAF else node)
                if node is not None:
                    mask |= bit
                if array.dtype is not FLOAT32:
                    odd = True
            else:
                kind = type(a)
                if kind is not float and kind is not int:
                    odd = True
                    if kind is not ndarray or a.dtype is not FLOAT32 and a.dtype.kind not in REAL:
                        strange = True
                        a = a.item() if isinstance(a, PROMOTING) else a
                arrays.append(a)
                parents.append(None)
            bit += bit
        try:
            for name, plain in checked:
                if type(options[name]) not in plain:
                    options = {**options, name: option(options[name], row.name, name)}
            run = forward
            if odd:
                arrays, run = row.common(arrays, options, tensors, strange)
            xp = np if arrays and type(arrays[0]) is ndarray else module_of(arrays)
            y = run(xp, *arrays, **options)
        except Exception as error:
            raise errors.explain(row, args, options, error) from error
        if not tensors:
            return y if type(arrays[0]) is ndarray else number_of(y, args)
        now = mode.get()
        if mask and learns and now & RECORD:
            if isinstance(y, np.generic):
                y = np.asarray(y)
            if n is None:
                saved = row.save_all(args, options)
            else:
                saved = (row.savers.get(mask) or row.saver(mask))(y, args, options)
            result = wrap(y, Node(row, tuple(parents), saved, y.shape, y.dtype))
        else:
            result = wrap(y, None)
        if now & DEBUG:
            debug.check_forward(row.name, args, result)
        return result

    call.row = row
    return call


real = partial(op, real=True)


def module_of(arrays: list) -> Any:
    """NumPy or CuPy: whose arrays are these? Numbers and masks follow the first real array."""
    for a in arrays:
        if hasattr(a, "shape") and not isinstance(a, np.generic):
            return array_module(a)
    return np


def number_of(y: Array, args: tuple) -> Any:
    """Of Python numbers alone an op makes a Python number, not NumPy's, which would promote what it
    is used with."""
    return (
        y.item()
        if getattr(y, "ndim", None) == 0 and not any(hasattr(a, "shape") for a in args)
        else y
    )


def name_rows(namespace: dict) -> None:
    """Give every op of the table the name it is bound to, and the module, by which pickle finds it
    again."""
    for name, value in namespace.items():
        if hasattr(value, "row"):
            value.row.name = value.__name__ = value.__qualname__ = (
                OPS.setdefault(name, value) and name
            )
            value.__module__ = namespace["__name__"]
