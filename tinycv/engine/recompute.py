"""checkpoint: keep nothing of a function's inside, and compute it again on the way back.

    y = nn.checkpoint(block)(x)         # block(x) and its gradients; kept until backward: x alone

What a training step keeps is mostly what layers hold for their derivatives.  With every block of n
a checkpoint, the n inputs are kept and one inside at a time: the memory of a block, not of n, for
one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost", section
4.1).

The function runs once, recorded.  Its graph is walked for the Nodes and leaves it reaches outside
(arguments, parameters, whatever a closure holds), and dropped; one Node stands in its place, with
those as parents.  When the walk back comes there, the function runs again with the same noise and
the same state (state.py: running statistics and the like move in the first run only), and the walk
goes on through the new graph as far as that outside.  So derivatives of any order follow: a
differentiated gradient keeps the second graph as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeGuard

from tinycv.engine import arguments, debug, rng, state, watch
from tinycv.engine.backward import sweep
from tinycv.engine.errors import refuse_changed
from tinycv.engine.fused import wrap_one, wrap_several
from tinycv.engine.tensor import DEBUG, Gradient, Node, Tensor, enable_grad, mode, recording
from tinycv.engine.walk import Parts
from tinycv.engine.watch import tick


def checkpoint(function: Callable) -> Callable:
    """A function (or a Module) that computes the same, and keeps its inputs only; see the top of
    this file.

    It may take anything, and return a Tensor or a tuple of Tensors and other things. It runs twice,
    so it must do the same both times: dropout, batch norm and spectral norm are fine, counting its
    calls is not. RuntimeError in backward where the second run is of another function: an argument
    or parameter was changed in place, train() or eval() was called in between, another weight was
    put in the place of one. Other arrays that it reads are not watched.
    """
    arguments.function(function, "checkpoint: function")

    @wraps(function if hasattr(function, "__name__") else type(function), updated=())
    def call(*args: Any, **options: Any) -> Any:
        if not recording():
            return function(*args, **options)
        start = tick()
        with rng.marked() as mark, state.noted() as journal:
            y = function(*args, **options)
        inside = results(y, start)
        if not inside:
            return y
        tensors = tuple(a for a in (*args, *options.values()) if isinstance(a, Tensor))
        again = function, args, options, mark, journal
        node = Node(ROW, reached(inside, start), (tensors, again))
        if mode.get() & DEBUG:
            node.line = debug.caller_line()
        if isinstance(y, Tensor):
            return wrap_one(y._data, node)
        fresh = iter(wrap_several(tuple(part._data for part in inside), node))
        parts = [next(fresh) if is_inside(part, start) else part for part in y]
        return type(y)(*parts) if hasattr(y, "_fields") else type(y)(parts)

    vars(call)["checkpointed"] = function
    return call


def is_inside(y: object, start: int) -> TypeGuard[Tensor]:
    """Did a recorded op make it since ``start``? An input that was handed through needs no other
    Node than its own."""
    return isinstance(y, Tensor) and not y.is_leaf and y._node.seq > start


def results(y: object, start: int) -> list[Tensor]:
    """The Tensors among y that were computed since ``start``."""
    return [part for part in (y if isinstance(y, (tuple, list)) else [y]) if is_inside(part, start)]


def reached(outputs: list[Tensor], start: int) -> tuple:
    """The leaves, and the Nodes older than ``start``, that the outputs were computed from."""
    seen, stack = {}, [y._node for y in outputs]
    while stack:
        spot = stack.pop()
        if spot is not None and spot not in seen:
            seen[spot] = spot.seq <= start
            stack.extend(() if seen[spot] else spot.parents)
    return tuple(spot for spot, outside in seen.items() if outside)


class Recomputed:
    """What the walk asks of a Node's row: here, to run the function again and walk through it."""

    name = "checkpoint"

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        wanted = [p for p in node.parents if needed is None or p in needed]
        for parent, piece in self.again(node, g, wanted, record).items():
            yield parent, piece if record else piece._data

    def again(self, node: Node, g: Gradient, wanted: list, record: bool) -> dict:
        tensors, (function, args, options, mark, journal) = node.saved
        # also what the function's closure holds
        if watch.latest > node.seq:
            refuse_changed(
                (*tensors, *[p for p in node.parents if isinstance(p, Tensor)], function), node
            )
        start = tick()
        with enable_grad(), rng.replayed(mark), state.replayed(journal):
            inside = results(function(*args, **options), start)
        weights = g if isinstance(g, Parts) else [g]
        if len(inside) != len(weights):
            raise RuntimeError(
                f"checkpoint: the function returned {len(weights)} results that need a gradient, "
                f"and {len(inside)} when it ran again; it must do the same both times"
            )
        if set(reached(inside, start)) != set(node.parents):
            raise RuntimeError(
                "checkpoint: when the function ran again for its gradient, it computed with other "
                "weights or inputs that need a gradient than in the first run. Put them back "
                "before backward"
            )
        pairs = [(y, w) for y, w in zip(inside, weights, strict=True) if w is not None]
        return sweep([y for y, _ in pairs], [w for _, w in pairs], wanted, record, record, start)


ROW = Recomputed()
