"""Fused ops: pairs of a definition, which you read, and a fused kernel, which runs.

    @fused
    def softmax(x, axis=-1):      # the definition: differentiable ops, numerically stable, no state
        ...

    @softmax.kernel                     # the kernel: takes arrays, returns (y, pull)
    def _(xp, x, axis=-1):
        ...
        def pull(g): ...                # dL/dy -> (dL/dx, ...), one for each leading array argument
        return y, pull

The kernel computes the forward pass, and its pull the backward pass.  The definition runs only if
the backward pass is itself recorded (create_graph).  It then runs again on the saved inputs, with
recording, and the gradient is taken through the graph of this run.  So a kernel needs no second
derivative, and cannot get one wrong.  tests/engine/test_pairs.py checks kernel, definition and
finite differences against each other.

Arguments.  Kernel and definition receive all inputs in one float dtype (operands.py); integers and
bools are converted to float32.  Exceptions are class numbers and masks, which stay integers or
bools; a pair names these arguments: ``@fused(whole="target mask")``.  An argument whose default is
a number, a string or a bool is a setting and not an input of the graph, so a Tensor is refused
there.

float16.  Kernel and definition are given float32 copies of float16 inputs, and their results are
rounded to float16.

On a GPU.  A pair may have a third member, a CUDA kernel: ``softmax`` in gpu/softmax.py. It has the
same interface as the kernel and runs in place of it (dispatch.py).  It receives float16 inputs as
they are, and computes in float32 inside.

A pull may return a function in place of an array.  The function is called only if that gradient is
needed.

Inference.  Under ``no_grad``, or if no input requires a gradient, no pull is needed.  If the kernel
computes or keeps much for its pull alone, the pair may have a member that does without it:

    @silu.inference                     # takes what the kernel takes, and returns y alone
    def _(xp, x): ...

test_pairs.py checks that its y is that of the kernel, and that it leaves its inputs unchanged.

Second derivatives.  To run the definition again costs a second forward pass.  If the gradient of a
pair is a simple formula, as for a matrix product, the pair may have a pull in differentiable ops,
which runs in place of the definition if the backward pass is recorded:

    @linear.derivative                  # takes g and the arguments as Tensors
    def _(g, x, weight, bias=None): ...

test_pairs.py compares it with the derivative of the definition.

Several results.  If the kernel returns a tuple as y, the pair has several results, as the LSTM has.
Its pull then receives a tuple of gradients, with None for each result that the loss does not depend
on (``OneOf`` below; ``Parts`` in walk.py).
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
from tinycv.engine.record import is_float16, module_of
from tinycv.engine.tensor import DEBUG, LEAF, RECORD, Gradient, Node, Tensor, mode, wrap
from tinycv.engine.torch_names import renamed
from tinycv.engine.walk import Parts

PAIRS: dict[str, Fused] = {}  # every pair by its name
# Types of settings that need no conversion
PLAIN = {bool, int, float, str, tuple, list, type(None)}


class Fused:
    """A function with a definition and a kernel. Calling it runs the kernel; ``.definition`` runs
    the definition on the same arguments."""

    def __init__(self, definition: Callable, whole: str = ""):
        self.function = definition
        self.run: Any = None  # the kernel, which the decorator ``kernel`` puts here
        self.infer: Callable | None = None  # see ``inference``
        self.recorded_pull: Callable | None = None  # see ``derivative``
        self.doubt: Callable | None = None  # see ``doubtful``
        parameters = signature(definition).parameters
        self.names = tuple(parameters)
        self.defaults = tuple(p.default for p in parameters.values())
        update_wrapper(self, definition)
        self.name = definition.__name__
        self.place = place(definition)  # where its CUDA kernel would be: see dispatch.py
        self.settings = [
            i
            for i, p in enumerate(parameters.values())
            if isinstance(p.default, (bool, int, float, str))
        ]
        self.inputs = [i for i in range(len(self.names)) if i not in self.settings]
        self.whole = {self.names.index(name) for name in whole.split()}
        PAIRS[self.name] = self

    def __reduce__(self) -> str:
        """Pickle and copy refer to a pair by its name, as they do to a function."""
        return self.name

    def kernel(self, run: Callable) -> Callable:
        """Decorator for the kernel: ``run(xp, *arguments) -> (y, pull)``, with the same arguments
        in the same order as the definition."""
        self.run = run
        return run

    def inference(self, infer: Callable) -> Callable:
        """Decorator for ``infer(xp, *arguments) -> y``: the kernel without what only its pull
        needs. It runs in place of the kernel if nothing is recorded."""
        self.infer = infer
        return infer

    def derivative(self, pull: Callable) -> Callable:
        """Decorator for ``pull(g, *arguments) -> (dL/dx, ...)`` in differentiable ops. It runs in
        place of the definition if the backward pass is recorded."""
        self.recorded_pull = pull
        return pull

    def doubtful(self, check: Callable) -> Callable:
        """Decorator for a check of unusual calls: ``check(args, options)`` runs when arguments are
        missing, unknown or of mixed types, and may raise an error that explains the mistake better
        than the general one."""
        self.doubt = check
        return check

    def __call__(self, *args: Any, **options: Any) -> Any:
        if options or len(args) != len(self.names):
            args = self.all_by_position(args, options)
        args, arrays = self.in_one_dtype(args)
        now = mode.get()
        parents = parents_of(args) if now & RECORD else None
        try:
            y, pull = self.computed(arrays, parents is not None)
        except Exception as error:
            raise errors.explain(self, args, {}, error) from error
        if parents is None and not any([isinstance(a, Tensor) for a in args]):
            return y
        node = None if parents is None else Node(self, parents, ((pull,), args))
        result = wrap_several(y, node) if isinstance(y, tuple) else wrap_one(y, node)
        if now & DEBUG:
            debug.after_op(self, args, {}, result)
            if node is not None:
                node.line = debug.caller_line()
        return result

    def computed(self, arrays: list, recorded: bool) -> tuple:
        """(y, pull) from the member of the pair that suits these arrays. pull is None if nothing is
        recorded and that member makes none."""
        infer = None if recorded else self.infer
        first = arrays[0]
        if type(first) is np.ndarray and first.dtype is FLOAT32:  # the usual case, decided quickly
            return self.run(np, *arrays) if infer is None else (infer(np, *arrays), None)
        xp = module_of(arrays)
        if suits(arrays):
            on_gpu = None if xp is np else member(self.place)
            if on_gpu is not None:
                return on_gpu(xp, *arrays)
            if getattr(first, "dtype", None) == FLOAT16:
                return in_float32(self.run)(xp, *arrays)
        return self.run(xp, *arrays) if infer is None else (infer(xp, *arrays), None)

    def all_by_position(self, args: tuple, options: dict) -> tuple:
        """All arguments by position, with defaults filled in from the definition."""
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
            problems = []
            if len(args) > len(self.names):
                problems.append(f"{len(args)} arguments were given by position")
            if missing:
                problems.append(f"missing {', '.join(missing)}")
            for name in sorted(unknown):
                twice = name in self.names
                problems.append(f"{name} was given twice" if twice else f"unexpected {name}")
            raise TypeError(
                f"{self.name}({', '.join(self.names)}): {'; '.join(problems)}{renamed(unknown)}"
            )
        return args + tuple([options.get(self.names[i], self.defaults[i]) for i in rest])

    def in_one_dtype(self, args: tuple) -> tuple[tuple, list]:
        """(the arguments with all inputs in one float dtype, the same with arrays for Tensors).
        TypeError for a Tensor as a setting."""
        arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        if not self.are_in_one_dtype(arrays):
            args = self.converted(args)
            arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        return args, arrays

    def are_in_one_dtype(self, arrays: list) -> bool:
        """Are all inputs in one float dtype, and all settings plain values? (This runs at every
        call, so it is a simple loop that stops early.)"""
        dtype = None
        for i in self.inputs:
            a = arrays[i]
            if a is not None:
                if type(a) is np.ndarray:
                    input_dtype = a.dtype
                elif isinstance(a, np.ndarray):  # np.matrix or a masked array
                    return False
                else:
                    input_dtype = getattr(a, "dtype", dtype)
                if input_dtype is not dtype and not (i in self.whole and is_whole(input_dtype)):
                    if dtype is not None:
                        return False
                    dtype = input_dtype
        for i in self.settings:
            if type(arrays[i]) not in PLAIN:
                return False
        if dtype is FLOAT32 or dtype is None:
            return True
        return isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.isnative

    def converted(self, args: tuple) -> tuple:
        """The arguments with all inputs converted to one float dtype, and the settings checked."""
        if self.doubt is not None:
            self.doubt(args, {})
        changed, arrays = list(args), []
        for i, a in enumerate(args):
            what = f"{self.name}: {self.names[i]}"
            if i in self.settings:
                if isinstance(a, np.str_):
                    changed[i] = str(a)
                elif is_array(a):
                    changed[i] = setting(a, what)
            elif is_array(a) and not isinstance(a, np.generic):
                changed[i] = a if isinstance(a, Tensor) else operand(a, what)
                if a.dtype.kind == "f" or i not in self.whole:
                    arrays.append(i)
        # The dtype of a mask or a target does not count, if there are other inputs.
        deciding = [i for i in arrays if i not in self.whole] or arrays
        dtype = common([changed[i] for i in deciding], real=True)
        for i in arrays:
            if changed[i].dtype != dtype:
                changed[i] = ops.astype(changed[i], dtype=dtype)
        return tuple(changed)

    def definition(self, *args: Any, **options: Any) -> Any:
        """Run the definition on the same arguments as the kernel: float16 goes in as float32, and
        the results are rounded to float16."""
        args, _ = self.in_one_dtype(self.all_by_position(args, options))
        if not any(is_float16(a) for a in args):
            return self.function(*args)
        y = self.function(*[ops.astype(a, dtype=FLOAT32) if is_float16(a) else a for a in args])
        if isinstance(y, tuple):
            return tuple(ops.astype(part, dtype=FLOAT16) for part in y)
        return ops.astype(y, dtype=FLOAT16)

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        """(parent, its piece of the gradient) for each parent that needs one, as in Row.pieces:
        from the kernel's pull, or in differentiable ops if the walk is recorded."""
        (pull,), args = node.saved
        is_needed = [p is not None and (needed is None or p in needed) for p in node.parents]
        if watch.latest > node.seq:
            # The pull is checked too: its closure may hold arrays, such as the result.
            errors.refuse_changed((*args, pull), node)
        if record and self.recorded_pull is not None and not any(map(is_float16, args)):
            pieces = self.recorded_pull(g, *args)
        elif record:
            pieces = self.retraced(args, is_needed, g)
        else:
            pieces = pull(tuple(g) if isinstance(g, Parts) else g)
            pieces = pieces if isinstance(pieces, tuple) else (pieces,)
        for parent, piece, used in zip(node.parents, pieces, is_needed, strict=False):
            if used:
                piece = piece() if callable(piece) else piece
                if piece is not None:
                    yield parent, piece

    def retraced(self, args: tuple, is_needed: list[bool], g: Gradient) -> list:
        """The gradients of the definition, as Tensors that can be differentiated again: run the
        definition on the saved inputs, recorded, and take the gradient through its graph.

        ``grad`` has to stop at the inputs of this op: the outer walk carries the gradient on from
        there. But an input is usually the result of earlier ops, and may itself depend on another
        input (as in f(x, exp(x))). The gradient with respect to x would then follow that path as
        well, and the outer walk would count it a second time. So each input is replaced by an
        alias: a Tensor with the same array and a new Node, ``ops.alias``, which no other input
        depends on. The gradient with respect to the alias takes only the path through the
        definition.
        """
        aliases = [ops.alias(a) if used else a for a, used in zip(args, is_needed, strict=True)]
        y = self.definition(*aliases)
        if isinstance(y, Tensor):
            outputs, weights = [y], [g]
        else:
            # None is the gradient of a result that the loss does not depend on.
            outputs = [part for part, weight in zip(y, g, strict=True) if weight is not None]
            weights = [weight for weight in g if weight is not None]
        inputs = [a for a, used in zip(aliases, is_needed, strict=True) if used]
        grads = iter(grad(outputs, inputs, weights, create_graph=True, allow_unused=True))
        return [next(grads) if used else None for used in is_needed]


def fused(definition: Callable | None = None, whole: str = "") -> Any:
    """Decorator: make a pair of a definition; see the top of this file.

    whole: the names of arguments that may stay integers or bools, such as targets and masks.
    """
    return partial(Fused, whole=whole) if definition is None else Fused(definition, whole)


def parents_of(args: tuple) -> tuple | None:
    """The parent of each argument (see Node); None if no argument requires a gradient."""
    parents = []
    requires_grad = False
    for a in args:
        node = a._node if isinstance(a, Tensor) else None
        if node is not None:
            requires_grad = True
        parents.append(a if node is LEAF else node)
    return tuple(parents) if requires_grad else None


def is_whole(dtype: object) -> bool:
    """Is it a dtype of integers or bools, in the machine's byte order?"""
    return isinstance(dtype, np.dtype) and dtype.kind in "iub" and dtype.isnative


def in_float32(run: Callable) -> Callable:
    """The same kernel for float16 arrays, computed in float32. In float16 a sum would lose its
    small terms and overflow at 65,504; and NumPy takes more than 100 times as long for a float16
    matrix product."""

    def run_in_float32(xp: Any, *arrays: Any) -> tuple:
        y, pull = run(xp, *_cast(arrays, "float32"))
        return _cast(y, "float16"), lambda g: _cast(pull(_cast(g, "float32")), "float16")

    return run_in_float32


def _cast(value: Any, dtype: str) -> Any:
    """The value with all float arrays in another dtype: an array, a tuple that holds arrays, or a
    function that will return them."""
    if isinstance(value, tuple):
        return tuple([_cast(v, dtype) for v in value])
    if callable(value):
        return lambda: _cast(value(), dtype)
    is_float = getattr(getattr(value, "dtype", None), "kind", None) == "f"
    return value.astype(dtype) if is_float else value


def wrap_one(y: Array, node: Node | None) -> Tensor:
    """The Tensor of a function with one result. ``node`` is the Node of the function."""
    if node is not None:
        y = np.asarray(y) if isinstance(y, np.generic) else y
        node.shape, node.dtype = y.shape, y.dtype
    return wrap(y, node)


def wrap_several(ys: tuple, node: Node | None) -> tuple:
    """The Tensors of a function with several results. Each gets a Node of its own, whose only
    parent is ``node``, the Node of the function."""
    if node is None:
        return tuple(wrap(y, None) for y in ys)
    count = len(ys)
    return tuple(
        wrap(y, Node(ONE_OF, (node,), (index, count), y.shape, y.dtype))
        for index, y in enumerate(ys)
    )


class OneOf:
    """The row of a Node for one result of a function with several results. It sends the function's
    Node a list with the gradient of this result at ``index``, and None for the other results; see
    ``Parts``."""

    name = "one of several results"

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        index, count = node.saved
        parts = Parts([None] * count)
        parts[index] = g
        yield node.parents[0], parts


ONE_OF = OneOf()
