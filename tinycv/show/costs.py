"""FLOPs of an op: how many multiply-adds its matrix products take, and how many other operations.

    linear        x (..., I) and weight (O, I):             ... O I multiply-adds
    conv2d        result (N, O, H', W'), window kH x kW:    N O H' W' (C / groups) kH kW
    attention     q (..., T, D), k (..., S, D), v (..., S, Dv):     ... T S (D + Dv)
    LSTM          T steps of B examples, I to H features:   T B 4H (I + H)

A multiplication and the addition that follows it are one multiply-add, which counts as two FLOPs.
All other ops are counted per element: one operation for each element of the result, or of the
largest input if that has more, as in a sum. Ops that only move numbers (reshape, indexing) cost
nothing. A fused pair without a rule of its own, such as layer norm, is counted by running its
definition, op by op. Backward passes are not counted; they take about twice as many.

Used by: summary.py. The engine calls ``Counter.count`` after every op (engine/debug.py).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from tinycv.engine import debug
from tinycv.engine.arguments import is_array
from tinycv.engine.fused import PAIRS
from tinycv.engine.mode import DEBUG, mode
from tinycv.engine.record import OPS

# Ops that only move, copy or convert numbers
MOVES = {
    *("reshape", "transpose", "swapaxes", "expand", "squeeze", "unsqueeze", "flip", "pad"),
    *("getitem", "scatter", "concatenate", "stack", "alias", "astype", "to", "all_reduce"),
}


class Cost(NamedTuple):
    """The forward pass of one op or of several: its multiply-adds, and its other operations."""

    multiply_adds: int = 0
    other: int = 0

    def plus(self, cost: Cost) -> Cost:
        return Cost(self.multiply_adds + cost.multiply_adds, self.other + cost.other)


def cost(row: Any, args: tuple, options: dict, result: Any) -> tuple[Cost, str | None]:
    """(the cost of one op, its name if it is not of the package).

    row: the row of the derivative table, or the pair. args, options: its arguments. result: a
    Tensor, or a tuple of them.
    """
    name = row.name
    if name in RULES and row in (PAIRS.get(name), getattr(OPS.get(name), "row", None)):
        return RULES[name](result, *args, **options), None
    if isinstance(row, type(PAIRS["linear"])):
        return cost_of_definition(row, args), None
    if getattr(OPS.get(name), "row", None) is not row:
        return per_element(result, args), name
    return (Cost() if name in MOVES else per_element(result, args)), None


def cost_of_definition(pair: Any, args: tuple) -> Cost:
    """The sum of the ops in the definition of a fused pair, which runs once more for this."""
    counter = Counter()
    tokens = debug.observer.set(counter.count), mode.set(DEBUG)  # observed and not recorded
    try:
        pair.definition(*args)
    finally:
        debug.observer.reset(tokens[0])
        mode.reset(tokens[1])
    return counter.cost


class Counter:
    """Adds up the costs of ops. unknown: the names of those that are counted per element because
    they are not of the package."""

    def __init__(self) -> None:
        self.cost, self.unknown = Cost(), set[str]()

    def count(self, row: Any, args: tuple, options: dict, result: Any) -> None:
        added, unknown = cost(row, args, options, result)
        self.cost = self.cost.plus(added)
        if unknown is not None:
            self.unknown.add(unknown)


def per_element(result: Any, args: tuple) -> Cost:
    """One operation per element of the result, or of the largest input if it has more."""
    parts = result if isinstance(result, tuple) else (result,)
    return Cost(other=max(x.size for x in (*parts, *args) if is_array(x)))


# ── rules: (result, *arguments of the op) -> Cost ────────────────────────────────────────────────


def matmul(y: Any, a: Any, b: Any) -> Cost:
    """y = a @ b, with a (..., n, k): k multiply-adds for each number of y."""
    return Cost(y.size * a.shape[-1])


def einsum(y: Any, *xs: Any, subscripts: str) -> Cost:
    """All combinations of the letters, once for each operand after the first."""
    terms = subscripts.partition("->")[0].split(",")
    if len(xs) == 1:
        return per_element(y, xs)
    lengths: dict[str, int] = {}
    for term, x in zip(terms, xs, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            lengths[letter] = max(n, lengths.get(letter, 1))
    return Cost(prod(lengths.values()) * (len(xs) - 1))


def linear(y: Any, x: Any, weight: Any, bias: Any) -> Cost:
    """weight (out, in): ``in`` multiply-adds for each number of y, and one addition of the bias."""
    return Cost(y.size * weight.shape[1], 0 if bias is None else y.size)


def conv2d(y: Any, x: Any, weight: Any, bias: Any, *settings: Any) -> Cost:
    """weight (O, C / groups, kH, kW)"""
    return Cost(y.size * prod(weight.shape[1:]), 0 if bias is None else y.size)


def conv_transpose2d(y: Any, x: Any, weight: Any, bias: Any, *settings: Any) -> Cost:
    """weight (C, O / groups, kH, kW): every pixel of x stamps a window."""
    return Cost(x.size * prod(weight.shape[1:]), 0 if bias is None else y.size)


def attention(y: Any, q: Any, k: Any, v: Any, mask: Any, is_causal: bool) -> Cost:
    """Scores that a mask hides are counted too. Of each score: its division by sqrt(D), and the
    softmax (a maximum, a difference, an exponential, a sum, a division)."""
    scores = prod(y.shape[:-1]) * k.shape[-2]
    masks = int(mask is not None) + int(bool(is_causal))
    return Cost(scores * (k.shape[-1] + v.shape[-1]), scores * (6 + masks))


def lstm(y: Any, x: Any, h0: Any, c0: Any, w_ih: Any, w_hh: Any, *biases_and_mask: Any) -> Cost:
    """Of each step and hidden feature, besides the two products: the sum of both and of the biases
    for each of 4 gates, their 4 activations, and f c + i g, tanh and o tanh(c)."""
    steps, batch, inputs = x.shape
    hidden = h0.shape[-1]
    biases = sum(b is not None for b in biases_and_mask[:2])
    cells = steps * batch * hidden
    return Cost(4 * cells * (inputs + hidden), cells * (4 * (1 + biases) + 4 + 3 + 2))


RULES: dict[str, Callable[..., Cost]] = {
    "matmul": matmul,
    "einsum": einsum,
    "linear": linear,
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "scaled_dot_product_attention": attention,
    "lstm": lstm,
}
