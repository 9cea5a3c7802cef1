"""The backward pass (backpropagation) in its simplest form: through the graph, from result to leaf.

``gradients`` visits the Nodes from the newest to the oldest.  At each Node, the op's pulls turn the
gradient of the result into one piece for each input, and each piece is added to that input's
gradient.  An op can only run after its inputs exist, so "newest first" is a reverse topological
order: when a Node's turn comes, everything computed from it has already contributed.  (Without this
order a Node would be visited once per path, and n doublings, x -> x + x -> ..., have 2^n paths.)
Nothing here is recursive, because Python's recursion limit would end a chain of about 1,000 ops.

``gradients`` is the definition, for reading.  What runs is ``sweep`` in backward.py: the same walk,
but it visits only Nodes on a path to the requested inputs, adds in place, and frees memory as it
goes.  tests/engine/test_walk.py compares the two on random graphs.

A Node's row supplies the pieces: ``row.pieces(node, g, needed, record)`` yields (parent, piece) for
each parent that needs one.  A piece is one of these:

    an array     dL/d(parent), or one term of that sum. Its shape may be the broadcast shape of the
                 result; ``add`` then sums it to the parent's shape.
    a Tensor     the same, when the walk is itself recorded (``create_graph``) so that the gradient
                 can be differentiated again
    a function   add(buffer, parent) -> buffer. It adds the piece into ``buffer``, or into new zeros
                 if that is None. For indexing, y = x[i]: the piece is zero except at i, so the walk
                 adds g into ``buffer[i]`` instead of building and adding a whole array of zeros.
                 Never used when the walk is recorded.
    Parts        only where a function has several results, as the LSTM does: a list with the
                 gradient of one result, and None for the other results

First derivatives are computed on bare arrays.  If the backward pass is itself to be differentiated,
the same pulls run on Tensors, and are recorded like any other op.
Read first: tensor.py.   Read next: backward.py, ops.py, record.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinycv.engine import errors
from tinycv.engine.reduce import stretched
from tinycv.engine.tensor import Gradient, GraphKey, Node, Piece, Tensor, graph_key


def gradients(outputs: Sequence[Tensor], weights: Sequence[Gradient], record: bool = False) -> dict:
    """dL/d(key) for every Node and leaf that the outputs were computed from, where
    L = sum of weight * output.

    weights: one for each output, of its shape: arrays, or Tensors if ``record``.
    record: True records the walk, so that the gradients can be differentiated; the caller sets the
    mode accordingly. float16 gradients are added in float16 here; backward.py adds them in float32.
    """
    grads: dict[GraphKey, Gradient] = {}
    for y, weight in zip(outputs, weights, strict=True):
        add(grads, graph_key(y), weight)
    for node in latest_first(outputs):
        if node in grads:  # otherwise the pulls of all newer Nodes gave it no gradient
            if node.saved is None:
                raise errors.released(node)
            for parent, piece in node.row.pieces(node, grads[node], None, record):
                add(grads, parent, piece)
    return grads


def add(grads: dict, parent: GraphKey, piece: Piece) -> None:
    """grads[parent] += piece, in the shape and dtype of the parent."""
    if callable(piece):
        piece = piece(None, parent)
    if piece.shape != parent.shape:
        piece = unbroadcast(piece, parent.shape)
    if piece.dtype != parent.dtype:
        piece = piece.astype(parent.dtype)
    grads[parent] = grads[parent] + piece if parent in grads else piece


def latest_first(outputs: Sequence[Tensor]) -> list[Node]:
    """Every Node that the outputs were computed from, sorted from the newest to the oldest."""
    reached, to_visit = set(), [graph_key(y) for y in outputs]
    while to_visit:
        key = to_visit.pop()
        if key is not None and key not in reached:
            reached.add(key)
            to_visit.extend(key.parents)
    return sorted((key for key in reached if isinstance(key, Node)), key=lambda node: -node.seq)


def unbroadcast(g: Gradient, shape: tuple[int, ...]) -> Gradient:
    """Sum g over the axes that broadcasting added or stretched: the transpose of "copy along this
    axis" is "sum along this axis"."""
    return g.sum(axis=stretched(g.shape, shape), keepdims=True).reshape(shape)


class Parts(list):
    """The gradients of all results of a function with several results, in one list; None for a
    result that contributed nothing (yet).

    Say (y, h) = f(x), as for an LSTM. The Node of f has no single gradient, but dL/dy and dL/dh.
    y and h each have a small Node of their own (OneOf in fused.py) whose only parent is the Node of
    f; the Node of y sends it Parts([dL/dy, None]), that of h sends Parts([None, dL/dh]). The walk
    adds the two like arrays, which gives Parts([dL/dy, dL/dh]).
    """

    # The Node of the function has None here too, so ``add`` finds both equal and converts neither.
    shape = dtype = None

    def __add__(self, other: list) -> Parts:
        total = Parts()
        for mine, part in zip(self, other, strict=True):
            total.append(part if mine is None else mine if part is None else mine + part)
        return total
