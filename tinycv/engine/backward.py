"""Backpropagation: ``backward`` and ``grad``, and the fast form of the backward pass that they run.

``sweep``, below the ruled line, computes the same gradients as walk.py, but it visits only Nodes on
a path to the requested inputs, adds pieces in place, and frees what each Node has saved as soon as
the Node has been visited.  Read first: walk.py, which is its definition.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from sys import getrefcount
from threading import RLock

from tinycv.engine import backend, capturing, debug, errors
from tinycv.engine.arguments import flag, shown
from tinycv.engine.operands import FLOAT16, FLOAT32
from tinycv.engine.reduce import stretched, sum_over
from tinycv.engine.tensor import (
    DEBUG,
    OFF,
    RECORD,
    ArrayLike,
    Gradient,
    GraphKey,
    Node,
    Piece,
    Tensor,
    as_array,
    graph_key,
    mode,
    wrap,
)


def backward(
    self: Tensor,
    gradient: ArrayLike | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add d(self)/d(leaf), weighted by ``gradient``, to ``.grad`` of every leaf that requires it.

    gradient: the weights of the entries of self, in its shape; not needed if self is one number.
    retain_graph: keep what the graph has saved, so that backward can run through it again.
    create_graph: record the backward pass too, so that ``.grad`` can itself be differentiated.
    ``tinycv.grad`` is the better choice for that: a leaf whose ``.grad`` has a graph that contains
    the leaf is a reference cycle, which only Python's garbage collector can free.

    Within one call, the float16 pieces of a leaf's gradient are added in float32, and the sum is
    rounded once. If several calls add to the same float16 ``.grad``, as micro-batches do, it is
    rounded after each call, as in PyTorch: after 3,000 calls that each add 1 it is 2,048.
    """
    flag(create_graph, "backward: create_graph")
    keep = keeps_graph(retain_graph, create_graph, "backward") or create_graph
    gradients = sweep([self], [gradient], None, keep, create_graph)
    before = mode.set(mode.get() & ~RECORD | (RECORD if create_graph else OFF))
    try:
        accumulate(gradients)
    finally:
        mode.reset(before)


Tensor.backward = backward


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: ArrayLike | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple:
    """d(outputs)/d(inputs) as a tuple of Tensors, one per input; no ``.grad`` is changed.

    grad_outputs: the weights of the outputs (the vector of the vector-Jacobian product). By default
    1, if each output is a single number.
    retain_graph: keep the graph for another call; by default the same as ``create_graph``.
    create_graph: record the backward pass, so that the gradients can be differentiated again.
    allow_unused: return None for an input that the outputs do not depend on, instead of raising.
    """
    return grad_for("grad", outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused)


def grad_for(
    caller: str,
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: ArrayLike | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple:
    """``grad`` for another public function, ``caller``, whose name the error messages give."""
    outputs = list_of_tensors(outputs, f"{caller}: outputs")
    inputs = list_of_tensors(inputs, f"{caller}: inputs")
    flag(create_graph, f"{caller}: create_graph")
    flag(allow_unused, f"{caller}: allow_unused")
    if grad_outputs is None:
        weights = [None] * len(outputs)
    else:
        weights = list(grad_outputs) if isinstance(grad_outputs, (list, tuple)) else [grad_outputs]
    if len(weights) != len(outputs):
        raise ValueError(
            f"{caller}: {len(outputs)} outputs but {len(weights)} grad_outputs; there must be one "
            "for each output"
        )
    for i, x in enumerate(inputs):
        if x._node is None:
            cure = (
                "set its requires_grad = True before you compute the outputs"
                if x.dtype.kind == "f"
                else f"only floats can, and it is {x.dtype}"
            )
            raise ValueError(
                f"{caller}: input {i}, of shape {x.shape}, does not require a gradient; {cure}"
            )
    targets = [graph_key(x) for x in inputs]
    keep = keeps_graph(retain_graph, create_graph, caller)
    grads = sweep(outputs, weights, targets, keep, create_graph, caller=caller)
    missing = [i for i, target in enumerate(targets) if target not in grads]
    if missing and not allow_unused:
        raise ValueError(
            f"{caller}: the outputs do not depend on inputs {shown(missing)}; pass "
            "allow_unused=True to get None for them"
        )
    capture = capturing.current()
    if capture is not None:
        capture.makes(grads.values())
    return tuple(grads.get(target) for target in targets)


def keeps_graph(retain_graph: bool | None, create_graph: bool, caller: str) -> bool:
    """Is the graph kept for another backward pass? By default, if this pass is recorded."""
    if retain_graph is None:
        return create_graph
    return flag(retain_graph, f"{caller}: retain_graph")


def list_of_tensors(value: object, what: str) -> list[Tensor]:
    """A Tensor, or several, as a list. Anything else is a TypeError, in which the value is called
    ``what``."""
    values = [value] if isinstance(value, Tensor) else value
    if (
        not isinstance(values, Iterable)
        or isinstance(values, (str, bytes, dict))
        or hasattr(values, "dtype")
    ):
        raise TypeError(f"{what} is {shown(value)}; it must be a Tensor or a list of Tensors")
    values = list(values)
    for i, x in enumerate(values):
        if not isinstance(x, Tensor):
            raise TypeError(f"{what}[{i}] is {shown(x)}; it must be a Tensor")
    return values


def initial_gradient(y: Tensor, weight: ArrayLike | None, record: bool, caller: str) -> Gradient:
    """dL/dy, where the walk starts: the user's weights of y's entries, or 1 for a single number."""
    if y._node is None:
        raise RuntimeError(
            f"{caller}: this tensor was not computed from anything that requires a gradient. Set "
            "requires_grad=True on an input before you compute the result; detach() and no_grad() "
            "also cut the graph"
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


def weight_for(y: Tensor, weight: ArrayLike, record: bool, what: str) -> Gradient:
    """The weights that a user gave for y's entries: a Tensor if the walk is recorded, otherwise an
    array. Errors call them ``what``."""
    if not isinstance(weight, Tensor):
        # Numbers and lists have neither dtype nor device; they take those of y.
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
    # With integers a pull would round its result, and with bools it could not negate.
    if array.dtype.kind != "f":
        weight = weight.astype(y.dtype)
    return weight if record else weight._data


def accumulate(gradients: dict[Tensor, Tensor]) -> None:
    """Add gradients to the ``.grad`` of their leaves, one thread at a time: if two threads read the
    same old value, the second write would overwrite the first."""
    capture = capturing.current()
    with _accumulating:
        for leaf, g in gradients.items():
            old = leaf.grad
            if old is not None and (
                getattr(old, "shape", None) != g.shape or getattr(old, "dtype", None) != g.dtype
            ):
                raise ValueError(
                    f"backward: the .grad of a leaf of {g.dtype} and shape {g.shape} is "
                    f"{shown(old)}; it must be None, or a Tensor of that dtype and shape"
                )
        for leaf, g in gradients.items():
            if capture is not None:
                capture.gradient(leaf)
            leaf.grad = g if leaf.grad is None else leaf.grad + g


def _new_lock() -> None:
    """Make the lock of ``accumulate``. A forked process makes its own: if another thread held the
    lock at the fork, that thread does not exist in the child, and could never release it."""
    global _accumulating
    _accumulating = RLock()


_new_lock()
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_new_lock)


# ── What runs: the walk of walk.py, made fast ────────────────────────────────────────────────────


def sweep(
    outputs: list[Tensor],
    weights: list,
    targets: Iterable | None,
    keep: bool,
    record: bool,
    floor: int = 0,
    caller: str = "backward",
) -> dict:
    """Carry gradients from the outputs to the targets. Returns {target or leaf: gradient Tensor}.

    targets: Nodes and leaves whose gradients are returned; None for all leaves.
    keep: do not free what the graph has saved, so that it can be walked again.
    record: record the walk, so that the gradients can be differentiated.
    floor: the walk ends at Nodes whose ``seq`` is at most this number, and treats them as leaves
        (recompute.py).
    caller: the public function that error messages name.
    """
    # In a set, keys are compared by identity. In a list, ``in`` would call Tensor.__eq__, which
    # compares entry by entry.
    targets = None if targets is None else set(targets)
    needed = None if targets is None else keys_on_a_path(outputs, targets, floor)
    grads, owned, heap = {}, set(), []
    for y, weight in zip(outputs, weights, strict=True):
        g = initial_gradient(y, weight, record, caller)
        add_piece(g, graph_key(y), grads, owned, heap, record, floor)
    before = mode.get()
    # The same as a ``with no_grad()`` (or enable_grad) block, without its cost.
    mode.set(before & ~RECORD | (RECORD if record else OFF))
    try:
        results = visit_nodes(
            grads, owned, heap, targets, needed, keep, record, floor, before & DEBUG
        )
    finally:
        mode.set(before)
    for leaf in [leaf for leaf in grads if targets is None or leaf in targets]:
        results[leaf] = in_its_dtype(grads.pop(leaf), leaf)
    return {key: as_unshared_tensor(results, key, record) for key in results}


def visit_nodes(
    grads: dict,
    owned: set,
    heap: list,
    targets: set | None,
    needed: set | None,
    keep: bool,
    record: bool,
    floor: int,
    debugging: int,
) -> dict:
    """Visit all Nodes, the newest first. Returns {target: its gradient} for targets that are Nodes;
    the gradients of the leaves are left in ``grads``.

    A heap keeps the Nodes in order, so nothing is recursive: a chain of 100,000 ops works like a
    chain of ten.
    grads: {Node or leaf: the sum of its pieces so far}. owned: see add_piece. needed: the Nodes and
    leaves on a path to a target, None for all. debugging: is tinycv.debug() on? The others: see
    sweep.
    """
    results = {}
    while heap:
        node = heappop(heap)[1]
        g = grads.pop(node)
        if node in owned:
            owned.discard(node)
            g = in_its_dtype(g, node)
        if targets is not None and node in targets:
            results[node] = g
        if node.saved is None:
            raise errors.released(node)
        for parent, piece in node.row.pieces(node, g, needed, record):
            if debugging:
                debug.check_backward(node, g, piece)
            add_piece(piece, parent, grads, owned, heap, record, floor)
        # Checked again: another thread may have walked through this Node in the meantime.
        if node.saved is None:
            raise errors.released(node)
        if not keep:
            node.saved, node.parents = None, ()
    return results


def add_piece(
    piece: Piece, parent: GraphKey, grads: dict, owned: set, heap: list, record: bool, floor: int
) -> None:
    """grads[parent] += piece; a Node joins the heap with its first piece (a leaf never does: its
    seq is 0).

    ``owned`` holds the parents whose sum is an array that was allocated here, in this function.
    Only such an array may be changed in place. A first piece is stored as it came, and may be the
    same array as another gradient: the pulls of a + b return g itself, once for a and once for b.

    A sum of float16 pieces is kept in float32, and ``in_its_dtype`` rounds it once at the end:
    added in float16, 5,000 pieces of 1 would give 2,048, because 2,049 is not a float16 number.
    """
    old = grads.get(parent)
    if old is None and parent.seq > floor:
        heappush(heap, (-parent.seq, parent))
    if callable(piece):  # a function that adds itself to an array: see walk.py
        # ``old + 0`` is a copy, for an array that is not owned.
        buffer = old if old is None or parent in owned else old + 0
        if buffer is not None and parent.dtype == FLOAT16:
            buffer = buffer.astype(FLOAT32, copy=False)
        grads[parent] = piece(buffer, parent)
        owned.add(parent)
        return
    # Of a leaf, look at the array: attributes of a Tensor are properties, which are slower.
    like = parent if isinstance(parent, Node) else parent._data
    if piece.shape != like.shape:
        piece = unbroadcast(piece, like.shape)
    if (
        piece.dtype is not like.dtype
        and piece.dtype != like.dtype
        and (old is None or like.dtype != FLOAT16)
    ):
        piece = piece.astype(like.dtype)  # e.g. g is float64, as the op's other input is
    if old is None:
        grads[parent] = piece
    elif record or parent not in owned or not old.shape or old.dtype == FLOAT16:
        grads[parent] = (old.astype(FLOAT32) if old.dtype == FLOAT16 else old) + piece
        owned.add(parent)
    else:
        old += piece


def unbroadcast(g: Gradient, shape: tuple[int, ...]) -> Gradient:
    """As in walk.py, but arrays are summed by ``sum_over``, which is fast and stays accurate for
    long sums."""
    axes = stretched(g.shape, shape)
    if isinstance(g, Tensor):
        return g.sum(axis=axes, keepdims=True).reshape(shape)
    return sum_over(backend.array_module(g), g, axes, True).reshape(shape)


def in_its_dtype(g: Gradient, key: GraphKey) -> Gradient:
    """g in the dtype of ``key``, whose gradient it is: rounds a sum of float16 pieces, which
    ``add_piece`` keeps in float32."""
    return g.astype(FLOAT16) if key.dtype == FLOAT16 and g.dtype != FLOAT16 else g


def as_unshared_tensor(results: dict, key: GraphKey, record: bool) -> Tensor:
    """The gradient results[key] as a Tensor that shares memory with nothing else, so that the user
    may change it in place. It is copied only if something else may hold the same memory.

    What else might? A pull may return the array that it received (those of a + b do, for both
    inputs) or a view of it, or an array that a kernel keeps. Two tests find this out:
        getrefcount(array) == 2    CPython counts the references to every object. Here there are
                                   always two: the dict ``results``, and the argument of getrefcount
                                   itself. A third means that something else holds the array. (So
                                   the array must not be put into a local variable first.)
        array.base is None         NumPy and CuPy set ``base`` if an array is a view into the memory
                                   of another array. ``is_only_view`` finds the harmless views, such
                                   as a result that was reshaped once it was computed.
    If a harmless extra reference is counted, the array is copied without need, which is slower but
    never wrong.
    """
    if isinstance(results[key], Tensor):
        return results[key] if record else wrap(results[key]._data.copy(), None)
    if getrefcount(results[key]) == 2 and (results[key].base is None or is_only_view(results[key])):
        return wrap(results[key], None)
    return wrap(results[key].copy(), None)


def is_only_view(view: backend.Array) -> bool:
    """Is ``view`` all of the memory of an array that nothing else refers to? Of that array's two
    references one is ``view.base``, and the other the argument of getrefcount. Any other view of
    it would be a third. A broadcast view may be as large as the array, but its entries share
    memory: it has a stride of 0, and is read-only in NumPy."""
    return (
        getrefcount(view.base) == 2
        and type(view.base) is type(view)
        and view.base.base is None
        and view.base.nbytes == view.nbytes
        and 0 not in view.strides
        and getattr(view.flags, "writeable", True)  # CuPy does not have this flag
    )


def keys_on_a_path(outputs: list[Tensor], targets: set, floor: int) -> set:
    """The Nodes and leaves on a path from an output to a target. The walk visits only these."""
    oldest = max(floor, min((target.seq for target in targets), default=0))
    reached, to_visit = set(), [graph_key(y) for y in outputs if y._node is not None]
    while to_visit:
        key = to_visit.pop()
        if key is not None and key not in reached and key.seq >= oldest:
            reached.add(key)
            to_visit.extend(key.parents)
    needed = set(targets)
    # From the oldest to the newest, so that the parents of a Node are decided before the Node.
    for node in sorted(reached, key=attrgetter("seq")):
        if not needed.isdisjoint(node.parents):
            needed.add(node)
    return needed
