"""Inputs for the certificate: families of functions that are tried in the same ways.

A family is a generator: (function, random numbers) -> cases. Shapes that broadcast, axes in every
spelling, arrays that are empty, single, transposed, strided or backwards in memory, indices that
repeat. Read next: cases.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

# ladder values lie this far apart, and half of it from 0
RUNG = 0.2


class Case(NamedTuple):
    """``call(*inputs)``, with inputs as Tensors."""

    call: Callable
    inputs: tuple


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """N(0, 1), an array even where the shape is ()."""
    return np.asarray(rng.normal(size=shape))


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Uniform between 0.5 and 2: for logarithms, roots and divisors."""
    return np.asarray(rng.uniform(0.5, 2.0, size=shape))


def ladder(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Shuffled numbers, all different, about 0: no two closer than RUNG, none closer to 0 than half
    of it."""
    n = int(np.prod(shape))
    return np.asarray((rng.permutation(n).reshape(shape) - n // 2 + 0.5) * RUNG)


def between(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A second ladder, whose rungs lie between those of the first."""
    return np.asarray(ladder(rng, *shape) + RUNG / 3)


def layouts(rng: np.random.Generator, draw: Callable) -> list[np.ndarray]:
    """In order, transposed, with gaps, backwards; a bare number, one element, none, and three
    axes."""
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


# ── families ─────────────────────────────────────────────────────────────────────────────────────


def unary(draw: Callable = normal, *options: dict) -> Callable:
    """One input in every layout, for each set of options."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for chosen in options or ({},):
            yield from (Case(partial(f, **chosen), (x,)) for x in layouts(rng, draw))

    return make


def binary(draw_a: Callable = normal, draw_b: Callable = normal) -> Callable:
    """Two inputs that broadcast; a Python number on either side; the same input twice."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        yield from (Case(f, (draw_a(rng, *a), draw_b(rng, *b))) for a, b in SHAPES)
        yield Case(f, (draw_a(rng, 4, 3).T, draw_b(rng, 6, 4)[::-2]))
        yield Case(lambda a: f(a, 2.25), (draw_a(rng, 2, 3),))
        yield Case(lambda b: f(2.25, b), (draw_b(rng, 2, 3),))
        if draw_a is not ladder or draw_b is ladder:
            yield Case(lambda x: f(x, x), (draw_b(rng, 3, 2),))

    return make


def reduction(draw: Callable = normal, empty: bool = False, **options: Any) -> Callable:
    """Every way to name axes. ``empty``: a reduction over no numbers is defined."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        f = partial(f, **options)
        for axis in (None, 0, -1, (0, 2), (-1, 1), (0, 1, 2)):
            for keepdims in (False, True):
                yield Case(partial(f, axis=axis, keepdims=keepdims), (draw(rng, 2, 3, 4),))
        yield from (
            Case(partial(f, axis=-1), (x,)) for x in layouts(rng, draw) if x.shape[-1:] > (1,)
        )
        # with ddof these would divide by 0
        if not options:
            yield from (Case(f, (draw(rng, *shape),)) for shape in ((), (1,), (1, 1)))
        if empty:
            yield from (Case(partial(f, axis=axis), (draw(rng, 2, 0),)) for axis in (None, 1))

    return make


def shaped(*rows: tuple, draw: Callable = normal) -> Callable:
    """Rows of (shape, options): one input of that shape."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for shape, options in rows:
            yield Case(partial(f, **options), (draw(rng, *shape),))
            # the same numbers, backwards in memory
            if len(shape) > 1:
                yield Case(partial(f, **options), (draw(rng, *shape[::-1]).T[::-1],))

    return make


def both_of(*makes: Callable) -> Callable:
    """The cases of several makers, one after the other."""
    return lambda f, rng: chain.from_iterable(make(f, rng) for make in makes)


def tested(draw: Callable, call: Callable) -> Callable:
    """Ops on truth values, reached by a comparison of floats."""
    return lambda f, rng: iter(
        [Case(lambda a, b: call(f, a, b), (draw(rng, *s), draw(rng, *t))) for s, t in SHAPES]
    )


def drawn(rng: np.random.Generator, shapes: str) -> tuple:
    """ "2,3 4" is an array of shape (2, 3) and one of shape (4,)."""
    return tuple(normal(rng, *map(int, shape.split(","))) for shape in shapes.split())


def matmuls(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Vectors, matrices and stacks of every pairing that multiplies, empty ones and turned ones
    too."""
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
        yield Case(f, drawn(rng, shapes))
    yield Case(f, (normal(rng, 3, 2).T, normal(rng, 8, 3)[::-2].T))
    yield Case(f, (normal(rng, 3, 2, 5).swapaxes(0, 2), normal(rng, 4, 3).T))
    yield Case(lambda x: f(x, x.swapaxes(-1, -2)), (normal(rng, 3, 4),))


def einsums(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Explicit and implicit outputs, letters repeated, letters of one operand only, dots and ones
    that broadcast."""
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
        yield Case(partial(f, subscripts), drawn(rng, shapes))
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
    """Every kind of index, repeats among them, on arrays in order and not."""
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
    """Indices into which values are put; where one repeats, they add up."""
    rows = [
        (np.array([0, 2, 2]), (4,), (3,)),
        (np.array([1, 1]), (3, 2), (2, 2)),
        (slice(1, 3), (4, 2), (2, 2)),
        ((slice(None), 1), (3, 2), (3,)),
        (np.array([True, False, True]), (3,), (2,)),
        (slice(0, 0), (3,), (0,)),
    ]
    for index, shape, given in rows:
        yield Case(lambda x, i=index, s=shape: f(x, i, s), (normal(rng, *given),))


def joinings(*rows: tuple) -> Callable:
    """Rows of (axis, shape, shape, ...)."""

    def make(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
        for axis, *parts in rows:
            yield Case(
                lambda *xs, axis=axis: f(xs, axis=axis), tuple(normal(rng, *p) for p in parts)
            )
        yield Case(lambda x, y: f([x, y, x], axis=1), (normal(rng, 3, 2).T, normal(rng, 4, 3)[::2]))

    return make


def choices(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Conditions and both branches of shapes that broadcast against each other."""
    for c, a, b in (
        ((3, 4), (3, 4), (3, 4)),
        ((3, 1), (4,), ()),
        ((4,), (3, 1), (3, 4)),
        ((0,), (1,), ()),
        ((), (2,), (2,)),
    ):
        yield Case(f, (normal(rng, *c) > 0, normal(rng, *a), normal(rng, *b)))
    yield Case(lambda x: f(x > 0, x, 0.5 * x), (ladder(rng, 3, 4),))
    yield Case(lambda x: f(x > 0, x, 1.5), (ladder(rng, 3, 4),))


def along_axes(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """An index for each row along every axis, with repeats, longer and shorter than the axis."""
    for axis, shape in ((-1, (3, 2)), (0, (2, 4)), (1, (3, 6)), (1, (3, 0))):
        index = rng.integers(0, (3, 4)[axis], size=shape)
        yield Case(lambda x, i=index, axis=axis: f(x, i, axis), (normal(rng, 3, 4),))
    yield Case(lambda x: f(x, np.array([[0, 0, 1]])), (normal(rng, 3, 1).T,))
