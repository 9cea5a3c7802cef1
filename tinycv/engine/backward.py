"""backward and grad, and the walk that they run: the one of walk.py, with all its savings.

``sweep``, below the ruled line, visits only what lies on the way to what was asked for, adds in
place, and frees what it has passed.  Read before: walk.py, which is its definition.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
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

    gradient: shape of self; may be left out where self is a single number.
    retain_graph: keep what the graph has saved, for a second call.
    create_graph: record the walk too, so that ``.grad`` can itself be differentiated.
    ``tinycv.grad`` is better there: a leaf whose ``.grad`` remembers the leaf is a cycle that only
    the garbage collector can free.

    Halves (float16) that meet in one leaf are added in float32, and rounded once. Where several
    calls add to one ``.grad`` of halves, as micro-batches do, it is rounded after each call, as in
    PyTorch: 3,000 calls that send 1 end at 2,048.
    """
    flag(create_graph, "backward: create_graph")
    keep = kept(retain_graph, create_graph, "backward") or create_graph
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
    """d(outputs)/d(inputs) as a tuple of Tensors, one an input; nothing is added to any ``.grad``.

    grad_outputs: the weights of the outputs (the vector of the vector-Jacobian product); 1 for
    single numbers.
    create_graph: the gradients can be differentiated in turn. allow_unused: None where an input
    plays no part.
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
    """``grad`` for ``caller``, which its errors name."""
    outputs, inputs = tensors(outputs, f"{caller}: outputs"), tensors(inputs, f"{caller}: inputs")
    flag(create_graph, f"{caller}: create_graph")
    flag(allow_unused, f"{caller}: allow_unused")
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
    targets = [graph_key(x) for x in inputs]
    keep = kept(retain_graph, create_graph, caller)
    found = sweep(outputs, weights, targets, keep, create_graph, caller=caller)
    missing = [i for i, t in enumerate(targets) if t not in found]
    if missing and not allow_unused:
        raise ValueError(
            f"{caller}: the outputs do not depend on inputs {shown(missing)}; pass "
            "allow_unused=True for None there"
        )
    if (recording := capturing.current()) is not None:
        recording.makes(found.values())
    return tuple(found.get(t) for t in targets)


def kept(retain_graph: bool | None, create_graph: bool, caller: str) -> bool:
    """Is the graph kept for another walk?  If nothing is said, where the walk is recorded."""
    if retain_graph is None:
        return create_graph
    return flag(retain_graph, f"{caller}: retain_graph")


def tensors(given: object, what: str) -> list[Tensor]:
    """One Tensor, or several, as a list."""
    found = [given] if isinstance(given, Tensor) else given
    if (
        not isinstance(found, Iterable)
        or isinstance(found, (str, bytes, dict))
        or hasattr(found, "dtype")
    ):
        raise TypeError(f"{what} is {shown(given)}; it must be a Tensor or a list of Tensors")
    found = list(found)
    for i, x in enumerate(found):
        if not isinstance(x, Tensor):
            raise TypeError(f"{what}[{i}] is {shown(x)}; it must be a Tensor")
    return found


def seed(y: Tensor, weight: ArrayLike | None, record: bool, caller: str) -> Gradient:
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


def weight_for(y: Tensor, weight: ArrayLike, record: bool, what: str) -> Gradient:
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
                    f"{shown(old)}; it must be None, or a Tensor of that dtype and shape"
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


# ── the kernel: the same walk, with all its savings ──────────────────────────────────────────────


def sweep(
    outputs: list[Tensor],
    weights: list,
    targets: Iterable | None,
    keep: bool,
    record: bool,
    floor: int = 0,
    caller: str = "backward",
) -> dict:
    """Carry gradients from outputs down. Returns {target or leaf: gradient Tensor}.

    keep: what the graph has saved, for another walk. floor: Nodes made before that tick count as
    leaves: the walk ends there (recompute.py). caller: for the errors.
    """
    # a set asks for identity; a list would ask ==
    targets = None if targets is None else set(targets)
    needed = None if targets is None else on_the_way(outputs, targets, floor)
    grads, ours, heap = {}, set(), []
    for y, weight in zip(outputs, weights, strict=True):
        send(seed(y, weight, record, caller), graph_key(y), grads, ours, heap, record, floor)
    before = mode.get()
    # as no_grad does, without its cost
    mode.set(before & ~RECORD | (RECORD if record else OFF))
    try:
        found = visited(grads, ours, heap, targets, needed, keep, record, floor, before & DEBUG)
    finally:
        mode.set(before)
    for leaf in [leaf for leaf in grads if targets is None or leaf in targets]:
        found[leaf] = narrowed(grads.pop(leaf), leaf)
    return {at: own(found, at, record) for at in found}


def visited(
    grads: dict,
    ours: set,
    heap: list,
    targets: set | None,
    needed: set | None,
    keep: bool,
    record: bool,
    floor: int,
    checking: int,
) -> dict:
    """Visit all Nodes; what leaves have got is in ``grads`` then. Returns {target: its gradient}.

    A heap keeps the Nodes in order, so nothing is recursive, and a chain of 100,000 ops is as easy
    as one of ten.
    """
    found = {}
    while heap:
        node = heappop(heap)[1]
        g = grads.pop(node)
        if node in ours:
            ours.discard(node)
            g = narrowed(g, node)
        if targets is not None and node in targets:
            found[node] = g
        if node.saved is None:
            raise errors.released(node)
        for parent, piece in node.row.pieces(node, g, needed, record):
            if checking:
                debug.check_backward(node, g, piece)
            send(piece, parent, grads, ours, heap, record, floor)
        # another thread came by in the meantime
        if node.saved is None:
            raise errors.released(node)
        if not keep:
            node.saved, node.parents = None, ()
    return found


def send(
    piece: Piece, parent: GraphKey, grads: dict, ours: set, heap: list, record: bool, floor: int
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
    if callable(piece):
        buffer = old if old is None or parent in ours else old + 0
        if buffer is not None and parent.dtype == FLOAT16:
            buffer = buffer.astype(FLOAT32, copy=False)
        grads[parent] = piece(buffer, parent)
        ours.add(parent)
        return
    # asked of a leaf's array, as asking a Tensor is slow
    like = parent if isinstance(parent, Node) else parent._data
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


def unbroadcast(g: Gradient, shape: tuple[int, ...]) -> Gradient:
    """As in walk.py; an array is added up by ``sum_over``, which is fast, and exact for long
    sums."""
    axes = stretched(g.shape, shape)
    if isinstance(g, Tensor):
        return g.sum(axis=axes, keepdims=True).reshape(shape)
    return sum_over(backend.array_module(g), g, axes, True).reshape(shape)


def narrowed(g: Gradient, key: GraphKey) -> Gradient:
    """The gradient of ``key`` in its own dtype: a sum of halves, which ``send`` keeps in float32,
    is rounded."""
    return g.astype(FLOAT16) if key.dtype == FLOAT16 and g.dtype != FLOAT16 else g


def own(found: dict, at: GraphKey, record: bool) -> Tensor:
    """A gradient to hand out, in memory that nobody else knows.

    A pull may have handed on the gradient that came to it (add does, to both its inputs), or a view
    of it, or an array that a kernel goes on holding. Only Python knows who else has an array: it is
    copied unless it has two references alone, that of ``found`` and that of getrefcount's argument.
    """
    if isinstance(found[at], Tensor):
        return found[at] if record else wrap(found[at]._data.copy(), None)
    if getrefcount(found[at]) == 2 and found[at].base is None:
        return wrap(found[at], None)
    return wrap(found[at].copy(), None)


def on_the_way(outputs: list[Tensor], targets: set, floor: int) -> set:
    """Nodes and leaves that lie on a path from the outputs down to a target; nothing else is worth
    a visit."""
    oldest = max(floor, min((t.seq for t in targets), default=0))
    seen, stack = set(), [graph_key(y) for y in outputs if y._node is not None]
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
