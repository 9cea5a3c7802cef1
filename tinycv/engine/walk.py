"""The walk back, to read: from a result, through the Nodes it came from, to the gradients.

``gradients`` visits the Nodes, the latest first, and lets each send its gradient to its parents.
An op can only run after its inputs exist, so "latest first" is a reverse topological order: when a
Node's turn comes, everything computed from it has sent its share.  (Without that order a Node would
be visited once per path instead of once: x -> x+x -> ... doubles at every step.)

What runs is ``sweep`` in backward.py: the same walk, which visits only what is on the way to what
was asked for, adds in place, and frees what it has passed.  tests/engine/test_walk.py compares the
two on random graphs.

A Node's row gives the pieces: ``row.pieces(node, g, needed, record)`` yields (parent, piece) for
each parent that needs one.  A piece is

    an array             dL/d(parent), or a part of it; it may have a shape that broadcast
    a Tensor             the same, where the walk is recorded (``create_graph``), to be walked again
    Parts                of a function with several results: the gradient of one of them
    a function           add(buffer or None, parent) -> buffer, which adds the piece in place: for
                         an index, whose gradient is zeros but for a few entries (never recorded)

First order works on bare arrays.  When the backward pass is itself to be differentiated, the same
pulls run on Tensors and are recorded like anything else.
Read before: tensor.py.   Read next: backward.py, ops.py, record.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinycv.engine import errors
from tinycv.engine.reduce import stretched
from tinycv.engine.tensor import Gradient, GraphKey, Node, Piece, Tensor, graph_key


def gradients(outputs: Sequence[Tensor], weights: Sequence[Gradient], record: bool = False) -> dict:
    """The definition: dL/d(key) for every Node and leaf that the outputs came from, where
    L = sum of weight * output.

    weights: arrays of the outputs' shapes; Tensors where the walk is to be recorded, which it is
    in a mode that records. Halves are added in halves here, in float32 by what runs (backward.py).
    """
    found: dict[GraphKey, Gradient] = {}
    for y, weight in zip(outputs, weights, strict=True):
        add(found, graph_key(y), weight)
    for node in latest_first(outputs):
        if node in found:  # else no gradient came this far: a pull above gave it none
            if node.saved is None:
                raise errors.released(node)
            for parent, piece in node.row.pieces(node, found[node], None, record):
                add(found, parent, piece)
    return found


def add(found: dict, parent: GraphKey, piece: Piece) -> None:
    """found[parent] += piece, in the parent's shape and dtype."""
    if callable(piece):
        piece = piece(None, parent)
    if piece.shape != parent.shape:
        piece = unbroadcast(piece, parent.shape)
    if piece.dtype != parent.dtype:
        piece = piece.astype(parent.dtype)
    found[parent] = found[parent] + piece if parent in found else piece


def latest_first(outputs: Sequence[Tensor]) -> list[Node]:
    """Every Node that the outputs came from; one that was made later stands before one that was
    made earlier."""
    seen, ahead = set(), [graph_key(y) for y in outputs]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead.extend(node.parents)
    return sorted((s for s in seen if isinstance(s, Node)), key=lambda node: -node.seq)


def unbroadcast(g: Gradient, shape: tuple[int, ...]) -> Gradient:
    """Sum g over the axes that broadcasting added or stretched: the transpose of "copy along this
    axis" is "sum"."""
    return g.sum(axis=stretched(g.shape, shape), keepdims=True).reshape(shape)


class Parts(list):
    """The gradient of a function with several results: one place for each, None where nobody used
    that result. It is added as an array is."""

    shape = dtype = None

    def __add__(self, other: list) -> Parts:
        pairs = zip(self, other, strict=True)
        return Parts(a if b is None else b if a is None else a + b for a, b in pairs)
