"""Softmax: its derivative

    y_i = exp(x_i) / sum over j of exp(x_j)
    dy_i/dx_j = y_i (1 - y_j)  if i = j,   - y_i y_j  otherwise

Each y depends on every x, because all of them share the denominator. So dL/dx_j is a sum over i:

    dL/dx_j = sum over i of g_i dy_i/dx_j = y_j (g_j - sum over i of g_i y_i)

Softmax is taken over the last axis; the axes in front are independent rows.
"""

import numpy as np

from demos.exercises.exercise import Exercise, Pull, Wrong
from tinycv.nn.softmax import softmax


def softmax_pull(g, y):
    """g: dL/dy (..., n). y: softmax(x) over the last axis (..., n). Returns dL/dx (..., n)."""
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


normal = np.random.default_rng(5).standard_normal
EXERCISE = Exercise(
    parts=[
        Pull(
            softmax_pull,
            reference=softmax,
            cases=[(normal(4),), (normal((3, 5)),), (normal((4, 4)),), (normal((2, 3, 4)),)],
            extremes=[(1000 * normal((3, 4)),)],
            wrong=[
                Wrong(
                    "the other entries",
                    "y * (g - (g * y).sum(axis=-1, keepdims=True))",
                    "g * y * (1 - y)",
                    "That is the case i = j only. Every x also changes all other y, through the "
                    "denominator: these terms, -y_i y_j, are missing.",
                ),
                Wrong(
                    "the sign",
                    "g - (g * y)",
                    "g + (g * y)",
                    "The sum is subtracted: the sign in front of it is wrong.",
                ),
                Wrong(
                    "an axis",
                    "axis=-1",
                    "axis=0",
                    "The sum runs over the entries of one softmax, the last axis. You sum over the "
                    "first axis, which mixes independent rows.",
                ),
                Wrong(
                    "a sum over everything",
                    ".sum(axis=-1, keepdims=True)",
                    ".sum()",
                    "You sum over all axes. Each row is a softmax of its own: sum over the last "
                    "axis, with keepdims=True.",
                ),
                Wrong(
                    "keepdims",
                    "keepdims=True",
                    "keepdims=False",
                    "Without keepdims=True the sum loses its axis, and broadcasting then pairs it "
                    "with the wrong one.",
                ),
                Wrong(
                    "g in the sum",
                    "(g * y).sum",
                    "y.sum",
                    "The sum is one of g_i y_i. You sum y alone, which is 1.",
                ),
                Wrong(
                    "y in the sum",
                    "(g * y).sum",
                    "g.sum",
                    "The sum is one of g_i y_i: weight each g by its probability.",
                ),
                Wrong(
                    "the factor y",
                    "y * (g",
                    "(g",
                    "The factor y_j in front of the bracket is missing.",
                ),
                Wrong(
                    "a mean in place of a sum",
                    ".sum(",
                    ".mean(",
                    "You take the mean of g_i y_i. It is their sum.",
                ),
            ],
        )
    ],
    hint="write the last formula, with the sum over the last axis and keepdims=True.",
    read="tinycv/nn/softmax.py, softmax, and the pull in its kernel.",
)
