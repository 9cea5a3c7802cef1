"""Inputs for the gradient checks of ops: one family of calls per form of arguments.

A family is a generator: (function, random generator) -> cases. The cases cover shapes that
broadcast, all ways to name axes, arrays that are empty, of one element, transposed, strided or
reversed in memory, and repeated indices.
Read next: cases.py, which says which op is tried on which family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

# the distance between neighbouring values of a ladder; the distance from 0 is half of it
RUNG = 0.2


class Case(NamedTuple):
    """One call to check: ``call(*inputs)``, with the inputs as Tensors."""

    call: Callable
    inputs: tuple


# ── Random arrays ─────────────────────────────────────────────────────────────────────────────────


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """N(0, 1); an array even if the shape is ()."""
    return np.asarray(rng.normal(size=shape))


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Uniform between 0.5 and 2: for logarithms, roots and divisors."""
    return np.asarray(rng.uniform(0.5, 2.0, size=shape))


def ladder(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Shuffled, evenly spaced numbers around 0: no two are closer than RUNG, and none is closer
    to 0 than RUNG / 2."""
    n = int(np.prod(shape))
    return np.asarray((rng.permutation(n).reshape(shape) - n // 2 + 0.5) * RUNG)


def between(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A second ladder, whose values lie between those of the first."""
    return np.asarray(ladder(rng, *shape) + RUNG / 3)


def layouts(rng: np.random.Generator, draw: Callable) -> list[np.ndarray]:
    """Arrays in C order, transposed, strided, reversed, of shape (), with one element, empty, and
    with three axes."""
    return [
        draw(rng, 3, 4),
        draw(rng, 4, 3).T,
        draw(rng, 3, 8)[:, ::2],
        draw(rng, 3, 4)[::-1, ::-1],
        draw(rng),
        draw(rng, 1),
        draw(rng, 0, 3),
        draw(rng, 2, 3, 2),
    ]


SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((), (2, 3)),
    ((2, 1, 3), (4, 1)),
    ((1,), (1,)),
    ((), ()),
    ((0, 3), (3,)),
    ((1,), (0,)),
]


# ── Families ──────────────────────────────────────────────────────────────────────────────────────


def unary(draw: Callable = normal, *options: dict) -> Callable:
    """One input in every memory layout, for each set of options."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for keywords in options or ({},):
            yield from (Case(partial(f, **keywords), (x,)) for x in layouts(rng, draw))

    return make


def binary(draw_a: Callable = normal, draw_b: Callable = normal) -> Callable:
    """Two inputs that broadcast; a Python number on either side; the same input on both sides."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        yield from (Case(f, (draw_a(rng, *a), draw_b(rng, *b))) for a, b in SHAPES)
        yield Case(f, (draw_a(rng, 4, 3).T, draw_b(rng, 6, 4)[::-2]))
        yield Case(lambda a: f(a, 2.25), (draw_a(rng, 2, 3),))
        yield Case(lambda b: f(2.25, b), (draw_b(rng, 2, 3),))
        # not if the inputs are drawn so that they keep apart: in f(x, x) they would be equal
        if draw_a is not ladder or draw_b is ladder:
            yield Case(lambda x: f(x, x), (draw_b(rng, 3, 2),))

    return make


def reduction(draw: Callable = normal, empty: bool = False, **options: Any) -> Callable:
    """Every way to name axes. empty: also reduce over no numbers, which f must define."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        f = partial(f, **options)
        for axis in (None, 0, -1, (0, 2), (-1, 1), (0, 1, 2)):
            for keepdims in (False, True):
                yield Case(partial(f, axis=axis, keepdims=keepdims), (draw(rng, 2, 3, 4),))
        yield from (
            Case(partial(f, axis=-1), (x,)) for x in layouts(rng, draw) if x.shape[-1:] > (1,)
        )
        # with ddof=1, the variance of one number would divide by 0
        if not options:
            yield from (Case(f, (draw(rng, *shape),)) for shape in ((), (1,), (1, 1)))
        if empty:
            yield from (Case(partial(f, axis=axis), (draw(rng, 2, 0),)) for axis in (None, 1))

    return make


def shaped(*rows: tuple, draw: Callable = normal) -> Callable:
    """One input per row; a row is (its shape, options of the call)."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for shape, options in rows:
            yield Case(partial(f, **options), (draw(rng, *shape),))
            # the same shape, transposed and reversed in memory
            if len(shape) > 1:
                yield Case(partial(f, **options), (draw(rng, *shape[::-1]).T[::-1],))

    return make


def all_of(*families: Callable) -> Callable:
    """The cases of several families, one family after another."""
    return lambda f, rng: chain.from_iterable(make(f, rng) for make in families)


def of_comparisons(draw: Callable, call: Callable) -> Callable:
    """Ops on booleans. call(f, a, b) compares the floats a and b, and applies f to the result."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for shape_a, shape_b in SHAPES:
            yield Case(lambda a, b: call(f, a, b), (draw(rng, *shape_a), draw(rng, *shape_b)))

    return make


def normals(rng: np.random.Generator, shapes: str) -> tuple:
    """Normal arrays with these shapes: "2,3 4" is one of shape (2, 3) and one of shape (4,)."""
    return tuple(normal(rng, *map(int, shape.split(","))) for shape in shapes.split())


def matmuls(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Products of vectors, matrices and stacks of matrices in every combination, also empty and
    transposed ones."""
    for shapes in (
        "3 3",
        "3 3,4",
        "2,3 3",
        "2,3 3,4",
        "5,2,3 3,4",
        "2,3 5,3,4",
        "5,2,3 5,3,4",
        "5,1,2,3 4,3,2",
        "3 5,3,4",
        "5,2,3 3",
        "1,2,3 4,3,2",
        "1,1 1,1",
        "0,3 3,4",
        "2,0 0,3",
        "2,3 3,0",
        "4,2,0 0,3",
        "4,2,3 3,0",
        "0,2,3 3,4",
    ):
        yield Case(f, normals(rng, shapes))
    yield Case(f, (normal(rng, 3, 2).T, normal(rng, 8, 3)[::-2].T))
    yield Case(f, (normal(rng, 3, 2, 5).swapaxes(0, 2), normal(rng, 4, 3).T))
    yield Case(lambda x: f(x, x.swapaxes(-1, -2)), (normal(rng, 3, 4),))


def einsums(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Explicit and implicit outputs, repeated letters, letters that only one operand has, ellipses,
    and axes of length 1 that broadcast."""
    for row in (
        "ij,jk->ik: 2,3 3,4",
        "ij,jk: 2,3 3,4",
        "ba: 2,3",
        "i,i->: 3 3",
        " i , i -> : 3 3",
        "i,j->ij: 2 3",
        "ij->: 2,3",
        "ij->j: 2,3",
        "ij,k->i: 2,3 4",
        "ii->i: 3,3",
        "ii: 3,3",
        "iij,j->i: 2,2,3 3",
        "iii->i: 2,2,2",
        "ij,ij->ij: 2,3 2,3",
        "ijk,kl,jm->ilm: 2,3,2 2,3 3,2",
        "...ij,...jk->...ik: 5,2,3 3,4",
        "...i,...i->...: 2,1,3 4,3",
        "...ii: 2,3,3",
        "b...,b...->...: 2,3 2,3",
        "...i->i: 2,4,3",
        "i...,...: 2,3 3",
        "ij,ij->i: 2,3 2,1",
        "ij,jk->ik: 0,3 3,2",
        "ij,jk->ik: 2,0 0,3",
    ):
        subscripts, shapes = row.split(":")
        yield Case(partial(f, subscripts), normals(rng, shapes))
    yield Case(lambda x: f("ij,kj->ik", x, x), (normal(rng, 4, 3).T,))


INDICES = [
    1,
    -1,
    slice(None),
    slice(None, None, -1),
    slice(3, 0, -2),
    (slice(1, 3), 2),
    (Ellipsis, 1),
    (None, 0),
    (slice(None), None, slice(1)),
    (0, Ellipsis, None),
    (Ellipsis,),
    (),
    slice(0, 0),
    [1, 1],
    (np.array([0, 0]), 1),
    np.array([0, 2, 2, 0]),
    np.array([[0, 1], [1, -1]]),
    (np.array([0, 1, 1]), np.array([2, 0, 0])),
    (slice(None), np.array([1, 1, 0])),
    (np.array([1, 1]), slice(0, 2)),
    np.array([], np.int64),
    np.array([True, False, True]),
    (slice(None), np.array([True, False, True, True])),
    np.zeros(3, bool),
]


def indexings(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Every kind of index, also with repeats, on arrays that are contiguous and that are not."""
    for index in INDICES:
        yield Case(partial(f, index=index), (normal(rng, 3, 4),))
    yield Case(partial(f, index=np.arange(12).reshape(3, 4) % 5 == 0), (normal(rng, 4, 3).T,))
    yield Case(
        partial(f, index=(np.array([0, 1]), slice(None), np.array([1, 1]))), (normal(rng, 2, 3, 2),)
    )
    yield from (
        Case(partial(f, index=np.array([2, 2, 5])), (x,))
        for x in (normal(rng, 12)[::-2], normal(rng, 6))
    )


def scatterings(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Values are written to these indices; where an index repeats, the values add up."""
    rows = [
        (np.array([0, 2, 2]), (4,), (3,)),
        (np.array([1, 1]), (3, 2), (2, 2)),
        (slice(1, 3), (4, 2), (2, 2)),
        ((slice(None), 1), (3, 2), (3,)),
        (np.array([True, False, True]), (3,), (2,)),
        (slice(0, 0), (3,), (0,)),
    ]
    for index, shape, values_shape in rows:
        yield Case(partial(_scatter, f, index, shape), (normal(rng, *values_shape),))


def _scatter(f: Callable, index: Any, shape: tuple, x: Any) -> Any:
    return f(x, index, shape)


def joinings(*rows: tuple) -> Callable:
    """Several inputs are joined along an axis; a row is (axis, shape, shape, ...)."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for axis, *shapes in rows:
            inputs = tuple(normal(rng, *shape) for shape in shapes)
            yield Case(lambda *xs, axis=axis: f(xs, axis=axis), inputs)
        yield Case(lambda x, y: f([x, y, x], axis=1), (normal(rng, 3, 2).T, normal(rng, 4, 3)[::2]))

    return make


def choices(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """where(condition, a, b), with shapes that broadcast against each other."""
    for condition, a, b in (
        ((3, 4), (3, 4), (3, 4)),
        ((3, 1), (4,), ()),
        ((4,), (3, 1), (3, 4)),
        ((0,), (1,), ()),
        ((), (2,), (2,)),
    ):
        yield Case(f, (normal(rng, *condition) > 0, normal(rng, *a), normal(rng, *b)))
    yield Case(lambda x: f(x > 0, x, 0.5 * x), (ladder(rng, 3, 4),))
    yield Case(lambda x: f(x > 0, x, 1.5), (ladder(rng, 3, 4),))


def along_axes(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """take_along_axis along every axis, with repeated indices, and with more or fewer indices than
    the axis has entries."""
    for axis, shape in ((-1, (3, 2)), (0, (2, 4)), (1, (3, 6)), (1, (3, 0))):
        index = rng.integers(0, (3, 4)[axis], size=shape)
        yield Case(lambda x, i=index, axis=axis: f(x, i, axis), (normal(rng, 3, 4),))
    yield Case(lambda x: f(x, np.array([[0, 0, 1]])), (normal(rng, 3, 1).T,))
