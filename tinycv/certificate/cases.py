"""The cases of the gradient checks: for every op and every pair, the calls on which its derivative
must be right.

    CASES[name].make(f, rng)        cases for f: the op itself, or either half of a pair

A new op or pair needs one line in ``CASES`` at the end of this file; a test fails if the line is
missing. Float inputs are differentiated, other inputs are passed through. If a function has a
corner, its inputs keep a distance from the corner that finite differences do not cross; the note
says which. The derivative *at* a corner is a convention: see engine/ops.py.
Pairs are referred to by name, not imported, because they are defined in packages that may import
this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from tinycv.certificate import families, families_nn
from tinycv.certificate.families import (
    Case,
    all_of,
    between,
    binary,
    ladder,
    layouts,
    normal,
    positive,
    shaped,
    unary,
)
from tinycv.engine import functions, methods
from tinycv.engine.fused import PAIRS
from tinycv.engine.record import OPS


class Family(NamedTuple):
    """How to make the cases of one op or pair, and a note on what their inputs avoid."""

    make: Callable[[Callable, np.random.Generator], Iterator[Case]]
    note: str = ""


# Functions of engine/methods.py and functions.py that prepare their arguments before they call the
# op of the same name; and below, functions that are composed of several ops.
BY_WAY_OF = {
    **{n: getattr(methods, n) for n in ("matmul", "power", "getitem", "concatenate", "stack")},
    "einsum": functions.einsum,
}
COMPOSED = {
    "split": methods.split,
    "take_along_axis": functions.take_along_axis,
    "std": functions.std,
}


def subject(name: str) -> Callable:
    """The function to check under this name of ``CASES``."""
    return PAIRS.get(name) or BY_WAY_OF.get(name) or COMPOSED.get(name) or OPS[name]


def names() -> list[str]:
    """All names to check. The ops come in the order of engine/ops.py."""
    return [*OPS, *COMPOSED, *PAIRS]


def cases(name: str, function: Callable | None = None, seed: int = 0) -> list[Case]:
    """The cases of one name. function: what is tried in place of the function of that name, such as
    the definition of a pair; it takes the same arguments."""
    return list(CASES[name].make(function or subject(name), np.random.default_rng(seed)))


# ── Pairs ─────────────────────────────────────────────────────────────────────────────────────────


def softmaxes(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Along every axis, over short and long rows."""
    yield from (Case(f, (x,)) for x in layouts(rng, normal) if x.ndim)
    yield from (Case(partial(f, axis=axis), (3 * normal(rng, 2, 3, 4),)) for axis in (0, 1, -1, -2))
    # a row too long for the fast path of engine/reduce.py for short rows
    yield Case(f, (normal(rng, 4, 40),))


def cross_entropies(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Targets that are class indices, class probabilities, or partly ignored, with each reduction
    and with label smoothing."""
    classes = np.array([2, 0, 1, 2, 2])
    probabilities = rng.dirichlet(np.ones(3), size=5)
    for target in (classes, np.array([2, -100, 1, -100, 0]), probabilities):
        for options in (
            {},
            {"label_smoothing": 0.2},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"label_smoothing": 0.1, "reduction": "none"},
        ):
            yield Case(partial(f, **options), (normal(rng, 5, 3), target))
    yield Case(partial(f, ignore_index=2), (normal(rng, 3, 5).T, classes))
    yield Case(f, (normal(rng, 1, 1), np.array([0])))
    yield Case(f, (normal(rng, 4, 40), np.arange(4)))
    yield Case(partial(f, reduction="sum"), (normal(rng, 0, 3), np.array([], np.int64)))


def linears(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """x of one to four axes, with and without a bias, transposed, empty, and as its own weight."""
    for shape in ((3,), (2, 3), (2, 4, 3), (0, 3), (2, 1, 2, 3)):
        yield Case(f, (normal(rng, *shape), normal(rng, 4, 3)))
        yield Case(f, (normal(rng, *shape), normal(rng, 4, 3), normal(rng, 4)))
    yield Case(f, (normal(rng, 3, 4).T, normal(rng, 3, 2).T, normal(rng, 4)[::-2]))
    yield Case(f, (normal(rng, 2, 0), normal(rng, 3, 0), normal(rng, 3)))
    yield Case(lambda x: f(x, x, None), (normal(rng, 3, 3),))


def layer_norms(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """With and without weight and bias, with a large eps, with one feature, and with long rows."""
    for shape in ((4,), (3, 4), (2, 3, 4), (0, 4), (2, 80)):
        x, weight, bias = (partial(normal, rng, *s) for s in (shape, shape[-1:], shape[-1:]))
        yield Case(f, (x(),))
        yield Case(f, (x(), weight(), bias()))
        yield Case(partial(f, eps=0.1), (x(), weight()))
        yield Case(lambda x, b: f(x, None, b), (x(), bias()))
    yield Case(f, (normal(rng, 4, 3).T, normal(rng, 8)[::-2], normal(rng, 4)))
    yield Case(f, (normal(rng, 3, 1), normal(rng, 1), normal(rng, 1)))


def group_norms(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """From one group to one per channel, with no, one and two spatial axes."""
    for groups, shape in (
        (1, (2, 3)),
        (2, (3, 4, 5)),
        (3, (2, 3, 2, 3)),
        (2, (2, 6, 9, 8)),
        (2, (0, 4, 3)),
    ):
        x, weight, bias = (partial(normal, rng, *s) for s in (shape, shape[1:2], shape[1:2]))
        yield Case(lambda x, n=groups: f(x, n), (x(),))
        yield Case(lambda x, w, b, n=groups: f(x, n, w, b), (x(), weight(), bias()))
        yield Case(lambda x, b, n=groups: f(x, n, None, b, 0.1), (x(), bias()))
    yield Case(
        lambda x, w, b: f(x, 2, w, b),
        (normal(rng, 5, 4, 3).T.swapaxes(0, 2), normal(rng, 8)[::-2], normal(rng, 4)),
    )


def batch_norms(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """All three results, for batches with and without spatial axes."""
    for shape in ((4, 3), (3, 2, 4), (2, 3, 2, 3), (3, 2, 9, 8)):
        x, weight, bias = (partial(normal, rng, *s) for s in (shape, shape[1:2], shape[1:2]))
        count = int(np.prod(shape)) // shape[1]
        yield Case(lambda x, n=count: f(x, n), (x(),))
        yield Case(lambda x, w, b, n=count: f(x, n, w, b), (x(), weight(), bias()))
        yield Case(lambda x, b, n=count: f(x, n, None, b, 0.1), (x(), bias()))
        yield Case(lambda x, w, n=count: f(x, n, w)[0], (x(), weight()))
    yield Case(lambda x: f(x, 15)[1:], (normal(rng, 5, 4, 3).T.swapaxes(0, 2),))


def attentions(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """With masks of several shapes that broadcast, causal, and with both; also queries that may
    attend to no key."""

    def qkv(b: int, h: int, t: int, s: int, d: int) -> tuple:
        return normal(rng, b, h, t, d), normal(rng, b, h, s, d), normal(rng, b, h, s, d)

    for sizes in ((2, 2, 3, 4, 5), (1, 1, 1, 1, 1), (1, 2, 40, 36, 2), (0, 1, 2, 2, 3)):
        yield Case(f, qkv(*sizes))
    yield from (
        Case(partial(f, is_causal=True), qkv(*sizes))
        for sizes in ((2, 1, 4, 4, 3), (1, 2, 3, 5, 2))
    )
    for shape in ((3, 4), (2, 1, 3, 4), (2, 2, 3, 4), (2, 1, 1, 4)):
        mask = rng.random(shape) > 0.4
        mask.reshape(-1, 4)[1] = False  # one query may attend to no key
        yield Case(f, (*qkv(2, 2, 3, 4, 2), mask))
        yield Case(partial(f, is_causal=True), (*qkv(2, 2, 3, 4, 2), mask))
    yield Case(f, (*qkv(1, 1, 3, 4, 2), np.zeros((3, 4), bool)))
    yield Case(f, tuple(normal(rng, 2, 5, 3, 4).swapaxes(1, 2)[..., ::2] for _ in range(3)))
    yield Case(lambda x: f(x, x, x), (normal(rng, 1, 2, 3, 4),))


def lstms(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """One step and several, with and without a mask, and with losses that use only one of the two
    results."""

    def arrays(t: int, b: int, i: int, h: int) -> tuple:
        shapes = (t, b, i), (b, h), (b, h), (4 * h, i), (4 * h, h), (4 * h,), (4 * h,)
        return tuple(normal(rng, *shape) for shape in shapes)

    for sizes in (
        (3, 2, 4, 3),
        (1, 2, 3, 2),
        (4, 1, 2, 3),
        (1, 1, 1, 1),
        (2, 0, 3, 2),
        (2, 3, 0, 2),
    ):
        yield Case(f, arrays(*sizes))
    whole = arrays(3, 2, 4, 3)
    yield Case(f, whole[:5])
    yield Case(f, whole[:6])
    yield Case(lambda *xs: f(*xs[:5], None, xs[5]), whole[:6])
    yield Case(lambda *xs: f(*xs)[0], whole)
    yield Case(lambda *xs: f(*xs)[1], whole)
    yield Case(
        f,
        (
            normal(rng, 2, 3, 8).swapaxes(0, 1)[::-1, :, ::2],
            normal(rng, 3, 2).T,
            normal(rng, 2, 6)[:, ::2],
            normal(rng, 4, 12).T,
            normal(rng, 12, 3)[::-1],
            normal(rng, 24)[::2],
            normal(rng, 12)[::-1],
        ),
    )
    yield Case(
        lambda x, h, w: f(x, h, h, w, w),
        (normal(rng, 2, 2, 3), normal(rng, 2, 3), normal(rng, 12, 3)),
    )
    # a mask with padding at the end; reversed, with padding at the start
    for lengths in ([3, 1], [0, 2], [3, 3]):
        mask = np.arange(3)[:, None, None] < np.array(lengths)[:, None]
        yield Case(f, (*whole, mask))
        yield Case(lambda *xs: f(*xs)[0], (*whole, mask[::-1]))
    yield Case(
        lambda *xs: f(*xs[:5], None, None, xs[5])[1],
        (*whole[:5], np.array([[0], [1], [0]], bool)[:, [0, 0], None]),
    )


# ── The table ─────────────────────────────────────────────────────────────────────────────────────

CORNER = "inputs 0.1 or more from 0"
NO_TIES = "no two inputs closer than 0.06"
STEP = "flat between its steps: the derivative is 0"
smooth, arithmetic = Family(unary()), Family(binary())
above_zero, off_corner = Family(unary(positive)), Family(unary(ladder), CORNER)
compared = Family(binary(ladder, between), STEP)
of_two_booleans = Family(families.of_comparisons(ladder, lambda f, a, b: f(a > 0, b > 0)), STEP)
of_one_boolean = Family(families.of_comparisons(ladder, lambda f, a, b: f(a > 0)), STEP)

CASES: dict[str, Family] = {
    "add": arithmetic,
    "sub": arithmetic,
    "mul": arithmetic,
    "neg": smooth,
    "div": Family(binary(normal, positive), "divisor 0.5 or more"),
    "power": Family(binary(positive, positive), "base 0.5 or more"),
    "pow": Family(
        all_of(
            unary(positive, *({"exponent": e} for e in (0, 1, 2, 3, 0.5, -1, -1.5))),
            unary(ladder, {"exponent": 2}, {"exponent": -1}),
        ),
        "base 0.1 or more from 0",
    ),
    "exp": smooth,
    "expm1": smooth,
    "tanh": smooth,
    "sigmoid": smooth,
    "softplus": smooth,
    "erf": smooth,
    "sin": smooth,
    "cos": smooth,
    "log": above_zero,
    "log1p": above_zero,
    "sqrt": above_zero,
    "relu": off_corner,
    "abs": off_corner,
    "where": Family(families.choices),
    "maximum": Family(binary(ladder, between), NO_TIES),
    "minimum": Family(binary(ladder, between), NO_TIES),
    "clip": Family(
        unary(ladder, {"low": -0.4, "high": 0.6}, {"low": 0.0}, {"high": 0.2}, {}),
        "0.1 from the bounds",
    ),
    "sum": Family(families.reduction(empty=True)),
    "mean": Family(families.reduction()),
    "var": Family(all_of(families.reduction(), families.reduction(ddof=1))),
    "std": Family(families.reduction(ddof=1)),
    "max": Family(families.reduction(ladder), NO_TIES),
    "min": Family(families.reduction(ladder), NO_TIES),
    "logsumexp": Family(families.reduction()),
    "norm": Family(families.reduction(positive), "norm 0.5 or more"),
    "cumsum": Family(
        shaped(
            ((3, 4), {"axis": 0}),
            ((3, 4), {}),
            ((2, 3, 2), {"axis": 1}),
            ((4,), {}),
            ((0, 3), {}),
            ((2, 3), {"axis": None}),
        )
    ),
    "reshape": Family(
        shaped(
            ((3, 4), {"shape": (2, 6)}),
            ((3, 4), {}),
            ((2, 3, 2), {"shape": (-1, 2)}),
            ((1,), {"shape": ()}),
            ((), {"shape": (1, 1)}),
            ((0, 3), {"shape": (3, 0)}),
        )
    ),
    "transpose": Family(
        shaped(
            ((2, 3, 4), {}),
            ((2, 3, 4), {"axes": (2, 0, 1)}),
            ((2, 3, 4), {"axes": (-1, 0, -2)}),
            ((3,), {}),
            ((), {}),
            ((0, 3), {}),
        )
    ),
    "swapaxes": Family(
        shaped(
            ((2, 3, 4), {}),
            ((2, 3, 4), {"axis1": 0, "axis2": -1}),
            ((3, 3), {"axis1": 1, "axis2": 1}),
        )
    ),
    "expand": Family(
        shaped(
            ((3, 1), {"shape": (2, 3, 4)}),
            ((), {"shape": (2, 2)}),
            ((3,), {"shape": (3,)}),
            ((1, 1), {"shape": (0, 2)}),
        )
    ),
    "squeeze": Family(
        shaped(
            ((1, 3, 1), {}), ((1, 3, 1), {"axis": -1}), ((1, 3, 1), {"axis": (0, 2)}), ((1,), {})
        )
    ),
    "unsqueeze": Family(
        shaped(((2, 3), {}), ((2, 3), {"axis": -1}), ((2, 3), {"axis": (0, 3)}), ((), {}))
    ),
    "flip": Family(
        shaped(((2, 3), {}), ((2, 3), {"axis": -1}), ((2, 3, 2), {"axis": (0, 2)}), ((0, 3), {}))
    ),
    "pad": Family(
        shaped(
            ((2, 3), {"width": 1}),
            ((2, 3), {"width": (1, 2), "value": 3.0}),
            ((4,), {"width": (0, 2)}),
            ((2, 3), {"width": ((0, 2), (1, 0))}),
            ((0, 2), {"width": 1}),
            ((2, 3), {"width": 0}),
        )
    ),
    "getitem": Family(families.indexings),
    "scatter": Family(families.scatterings),
    "take_along_axis": Family(families.along_axes),
    "concatenate": Family(
        families.joinings(
            (0, (2, 3), (1, 3)), (-1, (2, 3), (2, 1), (2, 0)), (1, (1, 2), (1, 2)), (0, (3,))
        )
    ),
    "stack": Family(
        families.joinings(
            (0, (2, 3), (2, 3)), (-1, (2, 3), (2, 3), (2, 3)), (1, (3,), (3,)), (0, (), ())
        )
    ),
    "split": Family(
        shaped(
            ((4, 3), {"sections": 2}),
            ((3, 4), {"sections": [1, 3], "axis": -1}),
            ((6, 1), {"sections": (2, 2)}),
            ((2, 0), {"sections": 1}),
        )
    ),
    "all_reduce": Family(
        unary(),
        "one shard: the identity; several shards: tests/training/test_parallel.py",
    ),
    "alias": smooth,
    "astype": Family(
        unary(normal, {"dtype": np.float64}), "float64 to itself; other dtypes: tests"
    ),
    "to": Family(unary(normal, {"device": "cpu"}), "from its device to the CPU"),
    "matmul": Family(families.matmuls),
    "einsum": Family(families.einsums),
    **dict.fromkeys(
        ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"), compared
    ),
    **dict.fromkeys(
        ("logical_and", "logical_or", "bitwise_and", "bitwise_or", "bitwise_xor"), of_two_booleans
    ),
    **dict.fromkeys(("logical_not", "bitwise_not"), of_one_boolean),
    "sign": Family(unary(ladder), STEP),
    "isfinite": Family(unary(), STEP),
    "floor_divide": Family(binary(ladder, positive), "quotients that are not whole"),
    "remainder": Family(binary(ladder, positive), "quotients that are not whole"),
    "truncate": Family(unary(normal, {"dtype": np.int64}, {"dtype": bool}), STEP),
    "any": Family(families.reduction(ladder, empty=True), STEP),
    "all": Family(families.reduction(ladder, empty=True), STEP),
    "argmax": Family(
        shaped(((3, 4), {}), ((3, 4), {"axis": -1}), ((3,), {"axis": 0}), draw=ladder), STEP
    ),
    "argmin": Family(
        shaped(((3, 4), {}), ((3, 4), {"axis": -1}), ((3,), {"axis": 0}), draw=ladder), STEP
    ),
    "softmax": Family(softmaxes),
    "log_softmax": Family(softmaxes),
    "cross_entropy": Family(cross_entropies),
    "gelu": Family(unary(normal, {}, {"approximate": "tanh"})),
    "linear": Family(linears),
    "layer_norm": Family(layer_norms),
    "group_norm": Family(group_norms),
    "batch_standard": Family(batch_norms),
    "scaled_dot_product_attention": Family(attentions),
    "lstm": Family(lstms),
    "conv2d": Family(families_nn.convolutions),
    "conv_transpose2d": Family(families_nn.transposed_convolutions),
    "max_pool2d": Family(families_nn.poolings),
    "avg_pool2d": Family(families_nn.poolings),
    "binary_cross_entropy_with_logits": Family(families_nn.binary_cross_entropies),
    "silu": Family(all_of(unary(), unary(families_nn.far))),
    "leaky_relu": Family(unary(ladder, {}, {"negative_slope": 0.2}), CORNER),
}
