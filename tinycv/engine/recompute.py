"""Gradient checkpointing: save memory by computing a function again in the backward pass.

    y = nn.checkpoint(block)(x)         # block(x) and its gradients; only x is kept until backward

Most of the memory of a training step holds what layers save for their derivatives.  If each of n
blocks is a checkpoint, then only the inputs of the n blocks are kept, and in the backward pass the
saved values of one block at a time.  The price is one more forward pass (Chen et al. 2016,
"Training deep nets with sublinear memory cost", section 4.1).

First run: the function runs, recorded.  Its graph is searched for the Nodes and leaves outside the
function that it depends on (arguments, parameters, variables of a closure).  Then the graph is
dropped, and replaced by one Node whose parents are these Nodes and leaves.

Second run: when the backward pass reaches that Node, the function runs again, with the same random
numbers and the same state (state.py: running statistics, for instance, change in the first run
only).  The walk goes through this new graph until it reaches the parents.  Derivatives of any order
work too: a recorded gradient keeps the graph of the second run.
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
    """A function that computes the same as ``function`` (which may be a Module), but keeps only its
    inputs for the backward pass; see the top of this file.

    The function may take any arguments, and return a Tensor or a tuple of Tensors and other values.
    It runs twice, so it has to do the same both times: dropout, batch norm and spectral norm work;
    a function that counts its calls does not. ``backward`` raises RuntimeError if the second run
    would differ because an argument or a parameter was changed in place, train() or eval() was
    called in between, or a parameter was replaced. Other arrays that the function reads are not
    checked.
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
        second_run = function, args, options, mark, journal
        node = Node(ROW, parents_outside(inside, start), (tensors, second_run))
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
    """Was y computed by a recorded op after ``start``, the tick at which the function began? (If
    the function merely returns one of its inputs, that keeps the Node it has.)"""
    return isinstance(y, Tensor) and not y.is_leaf and y._node.seq > start


def results(y: object, start: int) -> list[Tensor]:
    """The Tensors in y, one or a tuple, that were computed after ``start``."""
    return [part for part in (y if isinstance(y, (tuple, list)) else [y]) if is_inside(part, start)]


def parents_outside(outputs: list[Tensor], start: int) -> tuple:
    """The leaves, and the Nodes from before ``start``, that the outputs were computed from."""
    is_outside: dict = {}
    to_visit = [y._node for y in outputs]
    while to_visit:
        key = to_visit.pop()
        if key is not None and key not in is_outside:
            is_outside[key] = key.seq <= start
            if not is_outside[key]:
                to_visit.extend(key.parents)
    return tuple(key for key, outside in is_outside.items() if outside)


class Recomputed:
    """The row of a checkpoint's Node: it runs the function again, and walks through its graph."""

    name = "checkpoint"

    def pieces(self, node: Node, g: Gradient, needed: set | None, record: bool) -> Iterator[tuple]:
        targets = [p for p in node.parents if needed is None or p in needed]
        for parent, piece in self.gradients(node, g, targets, record).items():
            yield parent, piece if record else piece._data

    def gradients(self, node: Node, g: Gradient, targets: list, record: bool) -> dict:
        """{target: gradient Tensor}, from a second run of the function."""
        tensors, (function, args, options, mark, journal) = node.saved
        # ``function`` is checked too: its closure may hold arrays.
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
        if set(parents_outside(inside, start)) != set(node.parents):
            raise RuntimeError(
                "checkpoint: when the function ran again for its gradient, it used other weights "
                "or inputs than in the first run. Put the original ones back before you call "
                "backward"
            )
        pairs = [(y, w) for y, w in zip(inside, weights, strict=True) if w is not None]
        return sweep([y for y, _ in pairs], [w for _, w in pairs], targets, record, record, start)


ROW = Recomputed()
