"""The walk back: from a result, through the Nodes it came from, to the gradients.

Always visit the latest Node next.  An op can only run after its inputs exist, so "latest first" is
a reverse topological order: when a Node's turn comes, everything computed from it has already sent
its share of the gradient. (Without that order a Node would be visited once a path instead of once:
x -> x+x -> ... doubles at every step.) A heap keeps the order, so nothing here is recursive, and a
chain of 100,000 ops is as easy as one of ten.

First order works on bare arrays.  When the backward pass is itself to be differentiated
(``create_graph``), the same pulls run on Tensors and are recorded like anything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from sys import getrefcount
from threading import RLock
from typing import Any

from tinycv.engine import arguments, backend, capturing, debug
from tinycv.engine.operands import FLOAT16, FLOAT32
from tinycv.engine.reduce import sum_over
from tinycv.engine.tensor import (
    DEBUG,
    LEAF,
    OFF,
    RECORD,
    Node,
    Tensor,
    as_array,
    enable_grad,
    mode,
    wrap,
)


def backward(
    self: Tensor, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Add d(self)/d(leaf), weighted by ``gradient``, to ``.grad`` of every leaf that requires it.

    gradient: shape of self; may be left out where self is a single number.
    retain_graph: keep what the graph has saved, for a second call.
    create_graph: record the walk too, so that ``.grad`` can itself be differentiated
    (``tinycv.grad`` is better
    there: a leaf whose ``.grad`` remembers the leaf is a cycle that only the garbage collector can
    free).

    Halves (float16) that meet in one leaf are added in float32, and rounded once. Where several
    calls add to one ``.grad`` of halves, as micro-batches do, it is rounded after each call, as in
    PyTorch: 3,000 calls that send 1 end at 2,048.
    """
    arguments.flag(create_graph, "backward: create_graph")
    keep = (
        create_graph
        if retain_graph is None
        else arguments.flag(retain_graph, "backward: retain_graph") or create_graph
    )
    gradients = sweep([self], [gradient], None, keep, create_graph)
    before = mode.set(mode.get() & ~RECORD | (RECORD if create_graph else OFF))
    try:
        accumulate(gradients)
    finally:
        mode.reset(before)


Tensor.backward = backward


def accumulate(gradients: dict[Tensor, Tensor]) -> None:
    """Add to the ``.grad`` of leaves, one thread at a time: of two that read the same sum and each
    wrote theirs, one would be lost."""
    recording = capturing.current()
    with _accumulating:
        for leaf, g in gradients.items():
            old = leaf.grad
            if old is not None and (
                getattr(old, "shape", None) != g.shape or getattr(old, "dtype", None) != g.dtype
            ):
                raise ValueError(
                    f"backward: the .grad of a leaf of {g.dtype} and shape {g.shape} is "
                    f"{arguments.shown(old)}; it must be None, or a Tensor of that dtype and shape"
                )
        for leaf, g in gradients.items():
            if recording is not None:
                recording.gradient(leaf)
            leaf.grad = g if leaf.grad is None else leaf.grad + g


def _new_lock() -> None:
    """Also in a forked process, where nobody would ever release the one that another thread
    held."""
    global _accumulating
    _accumulating = RLock()


_new_lock()
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_new_lock)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple:
    """d(outputs)/d(inputs) as a tuple of Tensors, one an input; nothing is added to any ``.grad``.

    grad_outputs: the weights of the outputs (the vector of the vector-Jacobian product); 1 for
    single numbers.
    create_graph: the gradients can be differentiated in turn. allow_unused: None where an input
    plays no part.
    """
    return _grad("grad", outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused)


def _grad(
    caller: str,
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple:
    """``grad`` for ``caller``, which its errors name."""
    outputs, inputs = tensors(outputs, f"{caller}: outputs"), tensors(inputs, f"{caller}: inputs")
    arguments.flag(create_graph, f"{caller}: create_graph")
    arguments.flag(allow_unused, f"{caller}: allow_unused")
    if grad_outputs is None:
        weights = [None] * len(outputs)
    else:
        weights = list(grad_outputs) if isinstance(grad_outputs, (list, tuple)) else [grad_outputs]
    if len(weights) != len(outputs):
        raise ValueError(f"{caller}: {len(outputs)} outputs but {len(weights)} grad_outputs")
    for i, x in enumerate(inputs):
        if x._node is None:
            raise ValueError(
                f"{caller}: input {i}, of shape {x.shape}, does not require a gradient"
            )
    targets = [spot(x) for x in inputs]
    keep = (
        create_graph
        if retain_graph is None
        else arguments.flag(retain_graph, f"{caller}: retain_graph")
    )
    found = sweep(outputs, weights, targets, keep, create_graph, caller=caller)
    missing = [i for i, t in enumerate(targets) if t not in found]
    if missing and not allow_unused:
        raise ValueError(
            f"{caller}: the outputs do not depend on inputs {arguments.shown(missing)}; pass "
            "allow_unused=True for None there"
        )
    if (recording := capturing.current()) is not None:
        recording.makes(found.values())
    return tuple(found.get(t) for t in targets)


def vjp(function: Callable, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple:
    """(function(*inputs), vᵀ J): the vector-Jacobian product, J = d(function)/d(inputs), without
    building J."""
    inputs, single = fresh(inputs, "vjp")
    with enable_grad():
        y = arguments.function(function, "vjp: function")(*inputs)
    outputs = tensors(y, "vjp: what function returned")
    pulled = _grad("vjp", outputs, inputs, v, create_graph=create_graph, allow_unused=True)
    if not create_graph:
        y = y.detach() if isinstance(y, Tensor) else tuple(part.detach() for part in outputs)
    return y, pulled[0] if single else pulled


def hvp(function: Callable, inputs: Any, v: Any) -> tuple:
    """(function(*inputs), H v) for a function with one number as result; H, its matrix of second
    derivatives, is never built: H v = d/dx (dL/dx · v)  (Pearlmutter 1994). A result linear in its
    inputs has H v = 0."""
    inputs, single = fresh(inputs, "hvp")
    vs = [v] if single else list(v) if isinstance(v, (list, tuple)) else [v]
    if len(vs) != len(inputs):
        raise ValueError(
            f"hvp: {len(inputs)} inputs but {len(vs)} vectors in v; there must be one per input"
        )
    vs = [weight_for(x, w, False, "hvp: v") for x, w in zip(inputs, vs, strict=True)]
    with enable_grad():
        y = arguments.function(function, "hvp: function")(*inputs)
        if not isinstance(y, Tensor):
            raise TypeError(
                f"hvp: function returned {arguments.shown(y)}; it must return a Tensor of one "
                "number"
            )
        slopes = _grad("hvp", y, inputs, create_graph=True, allow_unused=True)
        slopes = [
            (s, w) for s, w in zip(slopes, vs, strict=True) if s is not None and s._node is not None
        ]
        curved = _grad(
            "hvp", [s for s, _ in slopes], inputs, [w for _, w in slopes], allow_unused=True
        )
    product = tuple(
        wrap(0.0 * x._data, None) if h is None else h for x, h in zip(inputs, curved, strict=True)
    )
    return y.detach(), product[0] if single else product


def fresh(inputs: Any, caller: str) -> tuple[list[Tensor], bool]:
    """Leaves with the same values, so that the products above leave the caller's graph alone."""
    leaves = []
    for i, x in enumerate(tensors(inputs, f"{caller}: inputs")):
        if x.dtype.kind != "f":
            raise TypeError(f"{caller}: input {i} is of {x.dtype}; only floats have a derivative")
        leaves.append(Tensor(x.detach(), requires_grad=True))
    if not leaves:
        raise ValueError(f"{caller}: inputs is empty; it must have at least one Tensor")
    return leaves, isinstance(inputs, Tensor)


def tensors(given: Any, what: str) -> list[Tensor]:
    """One Tensor, or several, as a list."""
    found = [given] if isinstance(given, Tensor) else given
    if (
        not isinstance(found, Iterable)
        or isinstance(found, (str, bytes, dict))
        or hasattr(found, "dtype")
    ):
        raise TypeError(
            f"{what} is {arguments.shown(given)}; it must be a Tensor or a list of Tensors"
        )
    found = list(found)
    for i, x in enumerate(found):
        if not isinstance(x, Tensor):
            raise TypeError(f"{what}[{i}] is {arguments.shown(x)}; it must be a Tensor")
    return found


def spot(x: Tensor) -> Any:
    """Where x stands in the graph: its Node, or itself where it is a leaf."""
    return x if x._node is LEAF else x._node


def sweep(
    outputs: list[Tensor],
    weights: list,
    targets: Any,
    keep: bool,
    record: bool,
    floor: int = 0,
    caller: str = "backward",
) -> dict:
    """Carry gradients from outputs down. Returns {target or leaf: gradient Tensor}.

    floor: Nodes made before that tick count as leaves: the walk ends there (recompute.py). caller:
    for the errors.
    """
    # a set asks for identity; a list would ask ==
    targets = None if targets is None else set(targets)
    needed = None if targets is None else on_the_way(outputs, targets, floor)
    found, grads, ours, heap = {}, {}, set(), []
    for y, weight in zip(outputs, weights, strict=True):
        send(seed(y, weight, record, caller), spot(y), grads, ours, heap, record, floor)
    before = mode.get()
    checking = before & DEBUG
    # as no_grad does, without its cost
    mode.set(before & ~RECORD | (RECORD if record else OFF))
    try:
        while heap:
            node = heappop(heap)[1]
            g = grads.pop(node)
            if node in ours:
                ours.discard(node)
                g = narrowed(g, node)
            if targets is not None and node in targets:
                found[node] = g
            if node.saved is None:
                raise released(node)
            for parent, piece, into in node.row.pieces(node, g, needed, record):
                if checking:
                    debug.check_backward(node, g, piece)
                send(piece, parent, grads, ours, heap, record, floor, into)
            # another thread came by in the meantime
            if node.saved is None:
                raise released(node)
            if not keep:
                node.saved, node.parents = None, ()
    finally:
        mode.set(before)
    for leaf in [*grads] if targets is None else [leaf for leaf in grads if leaf in targets]:
        found[leaf] = narrowed(grads.pop(leaf), leaf)
    # or ``finished`` would count them as references
    g = piece = None
    return {spot: finished(found, spot, record) for spot in found}


def released(node: Node) -> RuntimeError:
    """The error for a graph whose saved values an earlier backward has freed."""
    return RuntimeError(
        f"backward through a released graph (at {node.row.name!r}): an earlier backward freed what "
        "it had saved. Pass retain_graph=True there, or compute the result again"
    )


def send(
    piece: Any,
    parent: Any,
    grads: dict,
    ours: set,
    heap: list,
    record: bool,
    floor: int,
    into: Any = None,
) -> None:
    """Add one piece to the parent's gradient; a Node that gets its first piece joins the queue.

    ``ours`` holds parents whose sum was allocated here: only such an array may be added to in
    place, since any other may also be somebody else's gradient (addition hands the same g to both
    its inputs). Of halves the sum is float32, which ``narrowed`` rounds once: in halves, 5,000
    pieces of 1 would add up to 2,048.
    """
    old = grads.get(parent)
    if old is None and parent.seq > floor:
        heappush(heap, (-parent.seq, parent))
    if into is not None:
        old = old if old is None or parent in ours else old + 0
        if old is not None and parent.dtype == FLOAT16:
            old = old.astype(FLOAT32, copy=False)
        grads[parent] = into(old, parent)
        ours.add(parent)
        return
    # asked of a leaf's array, as asking a Tensor is slow
    like = parent if parent.seq else parent._data
    if piece.shape != like.shape:
        piece = unbroadcast(piece, like.shape)
    if (
        piece.dtype is not like.dtype
        and piece.dtype != like.dtype
        and (old is None or like.dtype != FLOAT16)
    ):
        piece = piece.astype(like.dtype)  # promotion widened it
    if old is None:
        grads[parent] = piece
    elif record or parent not in ours or not old.shape or old.dtype == FLOAT16:
        grads[parent] = (old.astype(FLOAT32) if old.dtype == FLOAT16 else old) + piece
        ours.add(parent)
    else:
        old += piece


def narrowed(g: Any, spot: Any) -> Any:
    """The gradient of ``spot`` in its own dtype: a sum of halves, which ``send`` keeps in float32,
    is rounded."""
    return g.astype(FLOAT16) if spot.dtype == FLOAT16 and g.dtype != FLOAT16 else g


def unbroadcast(g: Any, shape: tuple) -> Any:
    """Sum g over the axes that broadcasting added or stretched: the transpose of "copy along this
    axis" is "sum"."""
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1
    )
    total = (
        g.sum(axis=axes, keepdims=True)
        if isinstance(g, Tensor)
        else sum_over(backend.array_module(g), g, axes, True)
    )
    return total.reshape(shape)


def seed(y: Tensor, weight: Any, record: bool, caller: str) -> Any:
    """The gradient that the walk starts with."""
    if y._node is None:
        raise RuntimeError(
            f"{caller}: this tensor was not computed from anything that requires a gradient. Set "
            "requires_grad=True on an input; detach() and no_grad() also cut the graph"
        )
    if weight is not None:
        return weight_for(y, weight, record, f"{caller}: the gradient")
    if y.size != 1:
        raise RuntimeError(
            f"{caller}: the result has shape {y.shape}, not a single number; reduce it first "
            "(.sum(), .mean()), or pass the gradient that weights its entries"
        )
    array = backend.array_module(y._data).ones_like(y._data)
    return wrap(array, None) if record else array


def weight_for(y: Tensor, weight: Any, record: bool, what: str) -> Any:
    """A user's weights of the entries of y: a Tensor if the walk is recorded, or an array."""
    if not isinstance(weight, Tensor):
        # numbers and lists of them, which have no device
        plain = not hasattr(weight, "shape")
        array = as_array(weight, y.dtype if plain else None, what)
        weight = wrap(backend.to_device(array, y.device) if plain else array, None)
    array = weight._data
    if array.shape != y.shape:
        raise ValueError(
            f"{what} has shape {array.shape}, the result {y.shape}; they must be equal"
        )
    if weight.device != y.device:
        raise ValueError(
            f"{what} is on {weight.device}, the result on {y.device}: move it with to({y.device!r})"
        )
    # pulls would round, or refuse to negate a bool
    if array.dtype.kind != "f":
        weight = weight.astype(y.dtype)
    return weight if record else weight._data


def finished(found: dict, spot: Any, record: bool) -> Tensor:
    """A gradient to hand out. Two leaves never share one: it is copied, unless this dict alone
    knows the array (one of two references, the other being getrefcount's own argument) and the
    array is no view of another's memory."""
    if record and isinstance(found[spot], Tensor):
        return found[spot]
    if (
        not isinstance(found[spot], Tensor)
        and getrefcount(found[spot]) == 2
        and found[spot].base is None
    ):
        return wrap(found[spot], None)
    array = found[spot]._data if isinstance(found[spot], Tensor) else found[spot]
    return wrap(array.copy(), None)


def on_the_way(outputs: list[Tensor], targets: set, floor: int) -> set:
    """Nodes and leaves that lie on a path from the outputs down to a target; nothing else is worth
    a visit."""
    oldest = max(floor, min((t.seq for t in targets), default=0))
    seen, stack = set(), [spot(y) for y in outputs if y._node is not None]
    while stack:
        node = stack.pop()
        if node not in seen and node.seq >= oldest:
            seen.add(node)
            stack.extend(p for p in node.parents if p is not None)
    needed = set(targets)
    for node in sorted(seen, key=lambda n: n.seq):
        if any(p in needed for p in node.parents):
            needed.add(node)
    return needed
