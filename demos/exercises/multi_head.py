"""Multi-head attention: split the heads, and merge them

    MultiHead(Q, K, V) = Concat(head_1 ... head_H) W^O      Vaswani et al. 2017, section 3.2.2

H heads attend in parallel, each with its own D = E / H numbers of every token. Head h gets the
numbers h D ... (h + 1) D - 1 of the E numbers of a token:

    split[b, h, t, d] = x[b, t, h D + d]                    merge is the inverse of split

The heads become an axis in front of the tokens, because a matrix product works on the last two
axes: it then computes all heads of all examples at once.

Shapes: B batch, T tokens, E width of the model, H heads, D = E / H width of one head.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv.sequence.attention import MultiheadAttention


def split_heads(x, heads):
    """x (B, T, E). heads: H, which divides E. Returns (B, H, T, D)."""
    b, t, e = x.shape
    return x.reshape((b, t, heads, e // heads)).swapaxes(1, 2)


def merge_heads(x):
    """x (B, H, T, D). Returns (B, T, E) with E = H D."""
    b, h, t, d = x.shape
    return x.swapaxes(1, 2).reshape((b, t, h * d))


def split_of_layer(x, heads):
    """The split of the package's layer."""
    return MultiheadAttention(x.shape[-1], heads).split_heads(x)


def merge_of_layer(x):
    """The merge of the package's layer."""
    return MultiheadAttention(x.shape[1] * x.shape[3], x.shape[1]).merge_heads(x)


normal = np.random.default_rng(21).standard_normal
EXERCISE = Exercise(
    parts=[
        Definition(
            split_heads,
            reference=split_of_layer,
            cases=[
                (normal((1, 2, 4)), 2),
                (normal((2, 3, 6)), 3),
                (normal((2, 4, 4)), 4),
                (normal((2, 3, 4)), 1),
            ],
            order=1,
            wrong=[
                Wrong(
                    "a missing swap of axes",
                    "x.reshape((b, t, heads, e // heads)).swapaxes(1, 2)",
                    "x.reshape((b, t, heads, e // heads))",
                    "Your result is (B, T, H, D). The heads have to come before the tokens: swap "
                    "axes 1 and 2.",
                ),
                Wrong(
                    "a reshape in place of a swap",
                    "x.reshape((b, t, heads, e // heads)).swapaxes(1, 2)",
                    "x.reshape((b, heads, t, e // heads))",
                    "The shape is right, but the numbers of different tokens are mixed. reshape "
                    "never moves a number: first reshape to (B, T, H, D), then swap two axes.",
                ),
                Wrong(
                    "heads and width exchanged",
                    "x.reshape((b, t, heads, e // heads)).swapaxes(1, 2)",
                    "x.reshape((b, t, e // heads, heads)).transpose((0, 3, 1, 2))",
                    "A head takes every H-th number of a token. It has to take D neighbours: "
                    "reshape to (B, T, H, D), not to (B, T, D, H).",
                ),
                Wrong(
                    "the last two axes",
                    "swapaxes(1, 2)",
                    "transpose((0, 2, 3, 1))",
                    "Your result is (B, H, D, T). The last two axes should be T and D.",
                ),
            ],
        ),
        Definition(
            merge_heads,
            reference=merge_of_layer,
            cases=[
                (normal((1, 2, 3, 2)),),
                (normal((2, 3, 2, 2)),),
                (normal((2, 2, 2, 2)),),
                (normal((2, 1, 3, 4)),),
            ],
            order=1,
            wrong=[
                Wrong(
                    "a missing swap of axes",
                    "x.swapaxes(1, 2).reshape((b, t, h * d))",
                    "x.reshape((b, t, h * d))",
                    "The shape is right, but the numbers of different tokens are mixed. Swap "
                    "heads and tokens first, so that the heads of one token are neighbours.",
                ),
                Wrong(
                    "the wrong axes",
                    "x.swapaxes(1, 2)",
                    "x.transpose((0, 2, 3, 1))",
                    "You merge (B, T, D, H). All D numbers of a head come before those of the next "
                    "head, so merge (B, T, H, D).",
                ),
                Wrong(
                    "the order of the heads",
                    "x.swapaxes(1, 2)",
                    "x.flip(1).swapaxes(1, 2)",
                    "The heads are in reverse order.",
                ),
                Wrong(
                    "a sum over the heads",
                    "x.swapaxes(1, 2).reshape((b, t, h * d))",
                    "x.sum(axis=1)",
                    "You add the heads up. They are concatenated: E = H D.",
                ),
            ],
        ),
    ],
    names=("concatenate", "split", "stack", "einsum"),
    hint="reshape cuts one axis into two, or joins two neighbours; swapaxes moves an axis.",
    read="tinycv/sequence/attention.py: split_heads and merge_heads, at the end of the class.",
)
