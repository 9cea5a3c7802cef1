"""The pair: a definition to read, a kernel to run, and one rule for which of them runs.

    @fused
    def softmax(x, axis=-1):      # the definition: differentiable ops, numerically stable, no state
        ...

    @softmax.kernel                     # the kernel: arrays in, (y, pull) out
    def _(xp, x, axis=-1):
        ...
        def pull(g): ...                # dL/dy -> (dL/dx, ...), one for each leading array argument
        return y, pull

The kernel runs forward, and its pull backward.  Only when the backward pass is itself being
recorded does the definition run: it is traced again from the saved inputs, and that trace is
differentiated.  So a kernel needs no second derivative, and cannot get one wrong.
tests/engine/test_pairs.py holds kernel, definition and finite differences to each other.

The arrays come to both halves in one float dtype (operands.py): integers and bools as float32,
unless the pair says which arguments are not numbers to calculate with:
``@fused(whole="target mask")``.  An argument with a number, a word or a bool for its default is a
setting, and no input of the graph: a Tensor there is refused.

A pull may return a function in place of an array: it is called only if that gradient is wanted.
A third member, softmax in gpu/softmax.py, is written as the kernel is, and runs in its place on a
GPU: see dispatch.py. It takes float16, and calculates with it in float32.  The kernel and the
definition get float32 copies of what is float16, on a CPU and on a GPU.

A pair may have several results (y, pull with y a tuple); then g is a tuple, with None for a result
nobody used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from inspect import Parameter as Kind
from inspect import signature
from typing import Any

import numpy as np

from tinycv.engine import debug, errors, ops, watch
from tinycv.engine.arguments import is_array
from tinycv.engine.backend import Array
from tinycv.engine.backward import grad
from tinycv.engine.dispatch import member, place, suits
from tinycv.engine.operands import FLOAT16, FLOAT32, common, operand, setting
from tinycv.engine.record import module_of
from tinycv.engine.tensor import DEBUG, LEAF, RECORD, Gradient, Node, Tensor, mode, wrap
from tinycv.engine.walk import Parts

PAIRS: dict[str, Fused] = {}
HALF = FLOAT16
PLAIN = {bool, int, float, str, tuple, list, type(None)}


class Fused:
    """A function with a definition and a kernel. Call it; or call ``.definition`` to run what is
    read."""

    def __init__(self, definition: Callable, whole: str = ""):
        self.read = definition
        # ``kernel`` puts it here: a pair without one is none
        self.run: Any = None
        self.doubt: Callable | None = None
        parameters = signature(definition).parameters
        self.names = tuple(parameters)
        self.defaults = tuple(p.default for p in parameters.values())
        update_wrapper(self, definition)
        self.name, self.place = definition.__name__, place(definition)
        self.settings = [
            i
            for i, p in enumerate(parameters.values())
            if isinstance(p.default, (bool, int, float, str))
        ]
        self.inputs = [i for i in range(len(self.names)) if i not in self.settings]
        self.whole = {self.names.index(name) for name in whole.split()}
        PAIRS[self.name] = self

    def __reduce__(self) -> str:
        """Pickle and copy take a pair as they take a function: by its name."""
        return self.name

    def kernel(self, run: Callable) -> Callable:
        """Decorator: ``run(xp, *arguments) -> (y, pull)``, with the definition's arguments in its
        order."""
        self.run = run
        return run

    def doubtful(self, look: Callable) -> Callable:
        """Decorator: ``look(args, options)`` sees a call that is not as expected, and may refuse it
        in words of its own."""
        self.doubt = look
        return look

    def __call__(self, *args: Any, **options: Any) -> Any:
        args, arrays = self.settled(self.bound(args, options))
        xp = module_of(arrays)
        run = self.run if xp is np or not suits(arrays) else member(self.place) or self.run
        if run is self.run and getattr(arrays[0], "dtype", None) == HALF and suits(arrays):
            run = in_float32(run)
        try:
            y, pull = run(xp, *arrays)
        except Exception as error:
            raise errors.explain(self, args, {}, error) from error
        if not any(isinstance(a, Tensor) for a in args):
            return y
        now = mode.get()
        parents = tuple(
            [None if not isinstance(a, Tensor) else a if a._node is LEAF else a._node for a in args]
        )
        node = (
            None
            if not now & RECORD or not any(p is not None for p in parents)
            else Node(self, parents, ((pull,), args))
        )
        result = several(y, node) if isinstance(y, tuple) else single(y, node)
        if now & DEBUG:
            for part in result if isinstance(result, tuple) else (result,):
                debug.check_forward(self.name, args, part)
            if node is not None:
                node.line = debug.caller_line()
        return result

    def bound(self, args: tuple, options: dict) -> tuple:
        """All arguments by position, with the definition's defaults."""
        rest = range(len(args), len(self.names))
        unknown = set(options) - {self.names[i] for i in rest}
        missing = [
            self.names[i]
            for i in rest
            if self.defaults[i] is Kind.empty and self.names[i] not in options
        ]
        if unknown or missing or len(args) > len(self.names):
            if self.doubt is not None:
                self.doubt(args, options)
            raise TypeError(
                f"{self.name}({', '.join(self.names)}): unexpected {sorted(unknown) or 'none'}, "
                f"missing {missing or 'none'}, {len(args)} given by position"
            )
        return args + tuple([options.get(self.names[i], self.defaults[i]) for i in rest])

    def settled(self, args: tuple) -> tuple[tuple, list]:
        """The arguments with all inputs in one float dtype, and their arrays. TypeError for a
        Tensor as a setting."""
        arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        if not self.uniform(arrays):
            args = self.unified(args)
            arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        return args, arrays

    def uniform(self, arrays: list) -> bool:
        """Have all inputs one float dtype, and all settings a plain value? (A loop, as this runs at
        every call.)"""
        dtype = None
        for i in self.inputs:
            a = arrays[i]
            if a is not None:
                if type(a) is np.ndarray:
                    own = a.dtype
                elif isinstance(a, np.ndarray):  # a matrix, or masked
                    return False
                else:
                    own = getattr(a, "dtype", dtype)
                if own is not dtype and not (i in self.whole and is_whole(own)):
                    if dtype is not None:
                        return False
                    dtype = own
        for i in self.settings:
            if type(arrays[i]) not in PLAIN:
                return False
        if dtype is FLOAT32 or dtype is None:
            return True
        return isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.isnative

    def unified(self, args: tuple) -> tuple:
        """As ``settled``, whatever the arguments are."""
        if self.doubt is not None:
            self.doubt(args, {})
        changed, arrays = list(args), []
        for i, a in enumerate(args):
            if i in self.settings:
                changed[i] = (
                    str(a)
                    if isinstance(a, np.str_)
                    else (setting(a, f"{self.name}: {self.names[i]}") if is_array(a) else a)
                )
            elif is_array(a) and not isinstance(a, np.generic):
                changed[i] = (
                    a if isinstance(a, Tensor) else operand(a, f"{self.name}: {self.names[i]}")
                )
                if a.dtype.kind == "f" or i not in self.whole:
                    arrays.append(i)
        # a mask or a target takes the others' dtype
        deciding = [i for i in arrays if i not in self.whole] or arrays
        dtype = common([changed[i] for i in deciding], real=True)
        for i in arrays:
            if changed[i].dtype != dtype:
                changed[i] = ops.astype(changed[i], dtype=dtype)
        return tuple(changed)

    def definition(self, *args: Any, **options: Any) -> Any:
        """What is read, run on the same arguments as the kernel: halves in float32."""
        args, _ = self.settled(self.bound(args, options))
        halves = [getattr(a, "dtype", None) == HALF for a in args]
        if not any(halves):
            return self.read(*args)
        y = self.read(
            *[
                ops.astype(a, dtype=FLOAT32) if half else a
                for a, half in zip(args, halves, strict=True)
            ]
        )
        return (
            tuple(ops.astype(part, dtype=HALF) for part in y)
            if isinstance(y, tuple)
            else ops.astype(y, dtype=HALF)
        )

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        """As Row.pieces: from the kernel's pull, or, when recorded, from the definition traced
        again."""
        (pull,), args = node.saved
        wanted = [p is not None and (needed is None or p in needed) for p in node.parents]
        if watch.latest > node.seq:
            # also what the pull keeps: its result, perhaps
            errors.refuse_changed((*args, pull), node)
        if record:
            found = self.retraced(args, wanted, g)
        else:
            found = pull(tuple(g) if isinstance(g, Parts) else g)
            found = found if isinstance(found, tuple) else (found,)
        for parent, piece, want in zip(node.parents, found, wanted, strict=False):
            if want:
                piece = piece() if callable(piece) else piece
                if piece is not None:
                    yield parent, piece

    def retraced(self, args: tuple, wanted: list[bool], g: Gradient) -> list:
        """The definition's gradients as Tensors with a history. Aliases stop the inner walk at this
        op's inputs."""
        aliased = [ops.alias(a) if want else a for a, want in zip(args, wanted, strict=True)]
        y = self.definition(*aliased)
        outputs, weights = (
            ([y], [g])
            if isinstance(y, Tensor)
            else zip(
                *[(part, w) for part, w in zip(y, g, strict=True) if w is not None], strict=True
            )
        )
        inputs = [a for a, want in zip(aliased, wanted, strict=True) if want]
        found = iter(
            grad(list(outputs), inputs, list(weights), create_graph=True, allow_unused=True)
        )
        return [next(found) if want else None for want in wanted]


def fused(definition: Callable | None = None, whole: str = "") -> Any:
    """Make a pair of a definition; see the top of this file. whole: names of arguments that may be
    integers or bools."""
    return partial(Fused, whole=whole) if definition is None else Fused(definition, whole)


def is_whole(dtype: object) -> bool:
    """Is it a dtype of integers or bools, in the machine's byte order?"""
    return isinstance(dtype, np.dtype) and dtype.kind in "iub" and dtype.isnative


def in_float32(run: Callable) -> Callable:
    """A kernel made of array calls, for halves: sums of halves lose what is small, and overflow at
    65,504. (Nor would NumPy multiply matrices of halves in less than 100 times the time.)"""

    def wide(xp: Any, *arrays: Any) -> tuple:
        y, pull = run(xp, *_cast(arrays, "float32"))
        return _cast(y, "float16"), lambda g: _cast(pull(_cast(g, "float32")), "float16")

    return wide


def _cast(value: Any, dtype: str) -> Any:
    """Floats in another type: an array's, also in a tuple, and in what a function will return."""
    if isinstance(value, tuple):
        return tuple([_cast(v, dtype) for v in value])
    if callable(value):
        return lambda: _cast(value(), dtype)
    is_float = getattr(getattr(value, "dtype", None), "kind", None) == "f"
    return value.astype(dtype) if is_float else value


def single(y: Array, node: Node | None) -> Tensor:
    """The Tensor of a pair's one result."""
    if node is not None:
        y = np.asarray(y) if isinstance(y, np.generic) else y
        node.shape, node.dtype = y.shape, y.dtype
    return wrap(y, node)


def several(ys: tuple, node: Node | None) -> tuple:
    """A Tensor for each result. Each has a Node of its own, which comes from the pair's."""
    count = len(ys)
    return tuple(
        wrap(y, None if node is None else Node(ONE_OF, (node,), (place, count), y.shape, y.dtype))
        for place, y in enumerate(ys)
    )


class OneOf:
    """The row of a Node that stands for one of several results: it lays its gradient in the place
    that this result has among them."""

    name = "one of several results"

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        place, count = node.saved
        parts = Parts([None] * count)
        parts[place] = g
        yield node.parents[0], parts


ONE_OF = OneOf()
