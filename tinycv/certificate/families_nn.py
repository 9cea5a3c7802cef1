"""Inputs for the gradient checks of convolution, pooling and binary cross-entropy.

What a family is: families.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from tinycv.certificate.families import Case, ladder, normal


def far(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers with a deviation of 20, where a sigmoid is mostly flat."""
    return np.asarray(20 * normal(rng, *shape))


def convolutions(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Among others: strides that skip rows, padding wider than the window, and windows as large as
    the image or as small as one pixel."""
    for image, weight, options in (
        ((2, 3, 4, 5), (2, 3, 3, 3), {}),
        ((2, 2, 5, 6), (3, 2, 3, 2), {"stride": 2, "padding": 1}),
        ((1, 2, 6, 5), (2, 2, 2, 2), {"stride": (3, 2), "padding": (2, 1), "dilation": (1, 2)}),
        ((2, 4, 4, 4), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
        ((2, 3, 3, 4), (6, 1, 2, 2), {"groups": 3}),
        ((1, 2, 4, 3), (2, 2, 2, 3), {"padding": "same", "dilation": (2, 1)}),
        ((1, 1, 3, 3), (1, 1, 1, 1), {"stride": 2}),
        ((2, 2, 3, 4), (3, 2, 3, 4), {"padding": "valid"}),
        ((0, 2, 3, 3), (2, 2, 2, 2), {}),
        ((1, 1, 1, 1), (1, 1, 1, 1), {"padding": 2}),
    ):
        yield Case(partial(f, **options), (normal(rng, *image), normal(rng, *weight)))
        yield Case(
            partial(f, **options),
            (normal(rng, *image), normal(rng, *weight), normal(rng, weight[0])),
        )
    x = normal(rng, 5, 4, 2, 3).transpose(3, 2, 1, 0)[..., ::-1]
    yield Case(
        partial(f, padding=1),
        (x, normal(rng, 3, 3, 2, 4).transpose(3, 2, 0, 1)[..., ::-1], normal(rng, 8)[::-2]),
    )
    yield Case(
        partial(f, padding=1), (normal(rng, 3, 4, 2, 2).swapaxes(0, 1), normal(rng, 2, 3, 2, 2))
    )
    yield Case(lambda x: f(x, x), (normal(rng, 2, 2, 3, 3),))


def poolings(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Windows that touch, overlap, leave gaps or miss the last rows; images in several layouts."""
    for shape, options in (
        ((2, 3, 4, 6), {"kernel_size": 2}),
        ((1, 2, 5, 4), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ((2, 1, 5, 6), {"kernel_size": (1, 2), "stride": (2, 1), "padding": (0, 1)}),
        ((1, 2, 5, 5), {"kernel_size": 2, "stride": 3}),
        ((0, 2, 3, 3), {"kernel_size": 2}),
        ((2, 2, 3, 3), {"kernel_size": 1}),
    ):
        yield Case(partial(f, **options), (ladder(rng, *shape),))
        yield Case(
            partial(f, **options), (ladder(rng, *shape[::-1]).transpose(3, 2, 1, 0)[..., ::-1],)
        )


def transposed_convolutions(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Each input pixel adds its copy of the kernel to the output; these copies overlap, touch or
    leave gaps, and some output rows get none."""
    for image, weight, options in (
        ((2, 3, 3, 2), (3, 2, 3, 3), {}),
        ((2, 2, 3, 3), (2, 3, 4, 4), {"stride": 2, "padding": 1}),
        ((1, 2, 2, 3), (2, 2, 2, 1), {"stride": (3, 2), "output_padding": (2, 1)}),
        ((1, 2, 3, 3), (2, 1, 2, 3), {"dilation": (3, 2), "output_padding": (2, 1), "padding": 1}),
        ((2, 4, 2, 3), (4, 3, 3, 2), {"groups": 2, "stride": 2}),
        ((1, 3, 2, 2), (3, 1, 2, 2), {"groups": 3}),
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        ((0, 2, 2, 2), (2, 1, 2, 2), {"stride": 2}),
    ):
        groups = options.get("groups", 1)
        assert isinstance(groups, int)
        outputs = weight[1] * groups
        yield Case(partial(f, **options), (normal(rng, *image), normal(rng, *weight)))
        yield Case(
            partial(f, **options), (normal(rng, *image), normal(rng, *weight), normal(rng, outputs))
        )
    x = normal(rng, 3, 4, 2, 3).transpose(3, 2, 1, 0)[..., ::-1]
    yield Case(
        partial(f, stride=2),
        (x, normal(rng, 3, 3, 4, 2).transpose(3, 2, 0, 1)[..., ::-1], normal(rng, 8)[::-2]),
    )
    yield Case(lambda x: f(x, x), (normal(rng, 2, 2, 2, 2),))


def binary_cross_entropies(f: Callable, rng: np.random.Generator) -> Iterator[Case]:
    """Targets between 0 and 1; weights of every shape that broadcasts to the scores. pos: the shape
    of pos_weight."""

    def case(
        *shape: int, weight: tuple | None = None, pos: tuple | None = None, **options: str
    ) -> Case:
        scores, target = 3 * normal(rng, *shape), rng.uniform(size=shape)
        weights = [rng.uniform(0.5, 2, s) for s in (weight, pos) if s is not None]
        if weight is None and pos is not None:
            return Case(lambda x, t, p: f(x, t, None, p, **options), (scores, target, *weights))
        return Case(partial(f, **options), (scores, target, *weights))

    for reduction in ("mean", "sum", "none"):
        yield case(3, 4, reduction=reduction)
        yield case(3, 4, reduction=reduction, weight=(3, 1))
        yield case(3, 4, reduction=reduction, pos=(4,))
        yield case(2, 3, 4, reduction=reduction, weight=(2, 3, 4), pos=(3, 1))
    yield from (case(1), case(5), case(0, 3, reduction="sum"), case(0, reduction="none"))
    yield Case(f, (normal(rng, 4, 3).T, rng.uniform(size=(6, 4))[::-2]))
