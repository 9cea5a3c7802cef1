"""Backpropagation: the walk back through a graph

Every result of an op remembers a Node: the op, and the parents, which are the Nodes (or leaves)
that the op's inputs came from. Backpropagation starts at the last Node with g = dL/dy and gives
every Node and leaf its gradient. Where a value was used twice, two paths meet, and their pieces
add up:

    dL/dx = sum over the uses of x of (the piece that comes back through this use)

A Node may pass its gradient on only when the gradient is complete, that is, after all Nodes that
used its result. An op runs after its inputs exist, so "from the newest Node to the oldest" is such
an order (a reverse topological order).

    node.parents          a tuple: a Node, a leaf, or None (a constant, which needs no gradient)
    node.seq              when it was made: a larger number is newer
    pieces(node, g)       a list of (parent, piece): what the node's pulls make of its gradient g.
                          Call it once per Node. For a leaf the list is empty.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong, WrongResult
from tinycv import Tensor, enable_grad, exp, tanh
from tinycv.engine.check import certify
from tinycv.engine.record import op
from tinycv.engine.tensor import Node, graph_key
from tinycv.engine.walk import gradients, unbroadcast


def walk_back(last, g, pieces):
    """last: the Node of the result y. g: dL/dy. pieces: see above. Returns a dict with the gradient
    of every Node and every leaf that y was computed from. Do not use recursion: a graph may be
    deeper than Python's recursion limit."""
    found, to_visit = set(), [last]
    while to_visit:
        node = to_visit.pop()
        if node is not None and node not in found:
            found.add(node)
            to_visit.extend(node.parents)
    grads = {last: g}
    for node in sorted(found, key=lambda node: -node.seq):
        for parent, piece in pieces(node, grads[node]):
            grads[parent] = grads[parent] + piece if parent in grads else piece
    return grads


class Pieces:
    """The function ``pieces`` of the learner. It notices a Node that is visited twice."""

    def __init__(self):
        self.visited = set()

    def __call__(self, node, g):
        if node in self.visited:
            raise RuntimeError("pieces was called twice for one Node")
        self.visited.add(node)
        if not isinstance(node, Node):
            return []
        return [
            (parent, unbroadcast(piece, parent.shape))
            for parent, piece in node.row.pieces(node, g, None, True)
        ]


class Walk(Definition):
    """The learner's walk over the graph of a program. A case is (program, a, b)."""

    def arguments(self, case, dtype):
        program, *arrays = case
        leaves = [Tensor(x.astype(dtype), requires_grad=True) for x in arrays]
        y = program(*leaves)
        g = Tensor(np.random.default_rng(y.size).standard_normal(y.shape).astype(dtype))
        return {"y": y, "g": g, "leaves": leaves}

    def describe(self, case):
        return f"y = {case[0].__doc__}"

    def result_name(self, i, count):
        return f"the gradient of {'ab'[i]}"

    def call(self, function, arguments):
        """The gradients of the leaves, by the learner's walk."""
        grads = function(graph_key(arguments["y"]), arguments["g"], Pieces())
        if not isinstance(grads, dict):
            raise WrongResult(f"it returns a {type(grads).__name__}; return the dict of gradients")
        missing = [leaf for leaf in arguments["leaves"] if leaf not in grads]
        if missing:
            raise WrongResult(
                f"{len(missing)} of {len(arguments['leaves'])} leaves get no gradient"
            )
        return tuple(grads[leaf] for leaf in arguments["leaves"])

    def expected(self, case, dtype):
        """The gradients of the leaves, by the definition of the package's walk."""
        arguments = self.arguments(case, dtype)
        grads = self.reference([arguments["y"]], [arguments["g"]], record=True)
        return tuple(grads[leaf] for leaf in arguments["leaves"])

    def certify(self, function, case):
        """Makes the program an op whose pulls are the learner's walk, and certifies the op."""
        program, *arrays = case

        def pulled(g, *inputs):
            with enable_grad():
                leaves = [
                    x if isinstance(x, Tensor) else Tensor(x, requires_grad=True) for x in inputs
                ]
                arguments = {"y": program(*leaves), "g": as_tensor(g), "leaves": leaves}
                grads = self.call(function, arguments)
            recorded = any(isinstance(x, Tensor) for x in inputs)
            return grads if recorded else [piece.numpy() for piece in grads]

        program_op = op(
            lambda xp, a, b: program(a, b),
            a=lambda g, a, b: pulled(g, a, b)[0],
            b=lambda g, a, b: pulled(g, a, b)[1],
        )
        return certify(program_op, *arrays, name="walk_back")


def as_tensor(x):
    """An array as a Tensor; a Tensor as it is."""
    return x if isinstance(x, Tensor) else Tensor(x)


def product(a, b):
    """a b"""
    return a * b


def twice(a, b):
    """a a + b: a is used twice"""
    return a * a + b


def diamond(a, b):
    """c d + c with c = exp(a), d = tanh(c) + b: two paths of different length from c"""
    c = exp(a)
    return c * (tanh(c) + b) + c


def ladder(a, b):
    """x -> x x + x b, five times, from a"""
    x = a
    for _ in range(5):
        x = 0.3 * (x * x) + x * b
    return x


def doublings(a, b):
    """x -> x / 2 + x / 2, forty times, from a b: 2^40 paths"""
    x = a * b
    for _ in range(40):
        x = 0.5 * x + 0.5 * x
    return x


def chain(a, b):
    """a b, and then 1100 additions of b"""
    x = a * b
    for _ in range(1100):
        x = x + b
    return x


normal = np.random.default_rng(4).standard_normal
CASES = [
    (product, normal(3), normal(3)),
    (twice, normal((2, 3)), normal(3)),
    (diamond, normal(4), normal(4)),
    (ladder, normal(2), normal(2)),
]
LOOP = """    for node in sorted(found, key=lambda node: -node.seq):
        for parent, piece in pieces(node, grads[node]):
            grads[parent] = grads[parent] + piece if parent in grads else piece
"""

EXERCISE = Exercise(
    parts=[
        Walk(
            walk_back,
            reference=gradients,
            cases=CASES,
            extremes=[(doublings, normal(2), normal(2)), (chain, normal(2), normal(2))],
            wrong=[
                Wrong(
                    "a forgotten path",
                    "grads[parent] + piece if parent in grads else piece",
                    "piece",
                    "A value that was used twice gets a piece from each use. You keep only the "
                    "last piece; add them up.",
                ),
                Wrong(
                    "a path that comes too late",
                    "grads[parent] = grads[parent] + piece if parent in grads else piece",
                    "grads[parent] = grads[parent] if parent in grads else piece",
                    "A value that was used twice gets a piece from each use. You keep only the "
                    "first piece; add them up.",
                ),
                Wrong(
                    "the order",
                    LOOP,
                    """    order, waiting, reached = [], [last], {None}
    while waiting:
        node = waiting.pop(0)
        if node not in reached:
            reached.add(node)
            order.append(node)
            waiting.extend(node.parents)
"""
                    + LOOP.replace("sorted(found, key=lambda node: -node.seq)", "order"),
                    "You visit Nodes by their distance from the result. With paths of different "
                    "lengths a Node then passes its gradient on before the last piece has come. "
                    "Visit the newest Node first.",
                ),
                Wrong(
                    "the order, last come first",
                    LOOP,
                    """    waiting = [last]
    while waiting:
        node = waiting.pop()
        for parent, piece in pieces(node, grads[node]):
            if parent not in grads:
                waiting.append(parent)
            grads[parent] = grads[parent] + piece if parent in grads else piece
""",
                    "You visit a Node as soon as its first piece has come. Then it passes on a "
                    "gradient that is not complete. Visit the newest Node first.",
                ),
                Wrong(
                    "the order, oldest first",
                    "-node.seq",
                    "node.seq",
                    "You visit the oldest Node first. Start at the result: the newest Node first.",
                ),
                Wrong(
                    "one visit per path",
                    LOOP,
                    """    waiting = [(last, g)]
    while waiting:
        node, g = waiting.pop()
        for parent, piece in pieces(node, g):
            waiting.append((parent, piece))
            grads[parent] = grads[parent] + piece if parent in grads else piece
""",
                    "You follow every path on its own, so a Node is visited once per path, of "
                    "which there may be 2^n. Add up the pieces first, and visit each Node once.",
                ),
                Wrong(
                    "recursion",
                    """    while to_visit:
        node = to_visit.pop()
        if node is not None and node not in found:
            found.add(node)
            to_visit.extend(node.parents)
""",
                    """    def visit(node):
        if node is not None and node not in found:
            found.add(node)
            for parent in node.parents:
                visit(parent)

    visit(last)
""",
                    "Your function calls itself, and Python allows that about 1000 times. Keep a "
                    "list of Nodes to visit, and take from it until it is empty.",
                ),
                Wrong(
                    "the start",
                    "grads = {last: g}",
                    "grads = {last: 0 * g + 1}",
                    "The walk starts with dL/dy, which is g. You start with 1.",
                ),
            ],
        )
    ],
    methods=("parents", "seq"),
    hint="first collect all Nodes, with a set and a list of Nodes to visit; then sort them by seq.",
    read="tinycv/engine/walk.py: the function gradients.",
)
