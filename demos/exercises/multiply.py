"""a * b with broadcasting: the derivative

    y = a * b                   dy/da = b,   dy/db = a

If a is (3, 1) and b is (4,), NumPy copies ("broadcasts") both to (3, 4) before it multiplies. Each
number of a then takes part in four products, so its gradient is the sum of four pieces:

    dL/da_i = sum over j of g_ij b_j

So what was copied along an axis in the forward pass is summed along that axis in the backward pass.
Broadcasting puts missing axes in front: (4,) counts as (1, 4). Then it stretches the axes of
length 1.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Pull, Wrong
from tinycv.engine import ops
from tinycv.engine.walk import unbroadcast


def sum_to(g, shape):
    """g: a gradient in the broadcast shape. shape: the shape before broadcasting, a tuple. Returns
    g summed over the axes that were added or stretched, in this shape."""
    added = g.ndim - len(shape)
    if added:
        g = g.sum(axis=tuple(range(added)))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True) if stretched else g


def multiply_pull_a(g, b, a_shape):
    """g: dL/dy, in the broadcast shape. Returns dL/da, in a_shape (a tuple). Use sum_to."""
    return sum_to(g * b, a_shape)


def multiply_pull_b(g, a, b_shape):
    """g: dL/dy, in the broadcast shape. Returns dL/db, in b_shape (a tuple). Use sum_to."""
    return sum_to(g * a, b_shape)


normal = np.random.default_rng(2).standard_normal
PAIRS = [
    (normal((3, 4)), normal((3, 4))),
    (normal((3, 4)), normal(4)),
    (normal((3, 1)), normal(4)),
    (normal(3), normal((2, 3, 3))),
    (normal((2, 1, 3)), normal((5, 1))),
    (normal(()), normal((2, 3))),
]


def mistakes(other: str, mine: str) -> list[Wrong]:
    """The known mistakes of the pull of ``mine``, which needs ``other``."""
    answer = f"sum_to(g * {other}, {mine}_shape)"
    return [
        Wrong(
            "a missing broadcast sum",
            answer,
            f"g * {other}",
            f"The product is right, but it has the broadcast shape. Sum it to {mine}_shape.",
        ),
        Wrong(
            "sum before the product",
            answer,
            f"sum_to(g, {mine}_shape) * {other}",
            f"Each piece of the sum is g times its own number of {other}. Multiply first, then "
            "sum.",
        ),
        Wrong(
            f"{other} is missing",
            f"g * {other}",
            "g",
            f"Your result is the pull of a sum. dy/d{mine} is {other}, so multiply by {other}.",
        ),
        Wrong(
            "the sign", f"g * {other}", f"-g * {other}", "The sign is wrong: no minus occurs here."
        ),
        Wrong(
            "a division",
            f"g * {other}",
            f"g / {other}",
            f"You divide by {other}. dy/d{mine} is {other} itself, so multiply by it.",
        ),
    ]


EXERCISE = Exercise(
    parts=[
        Definition(
            sum_to,
            reference=unbroadcast,
            cases=[
                (normal((3, 4)), (3, 4)),
                (normal((3, 4)), (4,)),
                (normal((3, 3)), (3, 1)),
                (normal((2, 3, 4)), (3, 1)),
                (normal((2, 3, 4)), (2, 1, 4)),
                (normal((2, 3)), ()),
                (normal((3, 1)), (1, 1)),
                (normal((1, 4)), (4,)),
            ],
            wrong=[
                Wrong(
                    "a missing broadcast sum",
                    "return g.sum(axis=stretched, keepdims=True) if stretched else g",
                    "return g",
                    "You sum over the axes that were added in front, but not over those of length "
                    "1 that were stretched.",
                ),
                Wrong(
                    "a missing axis",
                    "g = g.sum(axis=tuple(range(added)))",
                    "g = g[(0,) * added]",
                    "An axis that was added in front has to be summed. You take its first entry.",
                ),
                Wrong(
                    "the added axes",
                    "    if added:\n        g = g.sum(axis=tuple(range(added)))\n",
                    "",
                    "You sum over the stretched axes, but not over those that broadcasting added "
                    "in front.",
                ),
                Wrong(
                    "keepdims",
                    "keepdims=True",
                    "keepdims=False",
                    "A stretched axis keeps its length of 1: sum with keepdims=True.",
                ),
                Wrong(
                    "a mean in place of a sum",
                    "g.sum(axis=stretched",
                    "g.mean(axis=stretched",
                    "Gradients of copies add up. You take their mean.",
                ),
                Wrong(
                    "the side of the added axes",
                    "    if added:\n        g = g.sum(axis=tuple(range(added)))\n",
                    "    if added:\n        g = g.sum(axis=tuple(range(-added, 0)))\n",
                    "Broadcasting adds axes in front. You sum over the last axes.",
                ),
            ],
        ),
        Pull(
            multiply_pull_a,
            reference=ops.mul,
            cases=PAIRS,
            inputs=("a", "b"),
            to="a",
            wrong=mistakes("b", "a"),
        ),
        Pull(
            multiply_pull_b,
            reference=ops.mul,
            cases=[(b, a) for a, b in PAIRS],
            inputs=("a", "b"),
            to="b",
            wrong=mistakes("a", "b"),
        ),
    ],
    hint="in sum_to, first sum over the added axes, then over the stretched ones, with keepdims.",
    read="tinycv/engine/ops.py, the row of mul; tinycv/engine/walk.py, unbroadcast.",
)
