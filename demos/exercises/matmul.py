"""Matrix product: its two derivatives

    y = a b                     y_ik = sum over j of a_ij b_jk
    dL/da_ij = sum over k of g_ik b_jk
    dL/db_jk = sum over i of a_ij g_ik

Both are matrix products again. Write each sum as a product of two matrices, one of which has to be
transposed. a and b may also be stacks of matrices: the last two axes are those of a matrix, and
the axes in front, which are the same for a and b, number the matrices.

Shapes: a (..., M, K), b (..., K, N), y and g (..., M, N).
"""

import numpy as np

from demos.exercises.exercise import Exercise, Pull, Wrong
from tinycv.engine import ops


def matmul_pull_a(g, b):
    """g: dL/dy (..., M, N). b (..., K, N). Returns dL/da (..., M, K)."""
    return g @ b.swapaxes(-1, -2)


def matmul_pull_b(g, a):
    """g: dL/dy (..., M, N). a (..., M, K). Returns dL/db (..., K, N)."""
    return a.swapaxes(-1, -2) @ g


normal = np.random.default_rng(3).standard_normal
CASES = [
    (normal((3, 3)), normal((3, 3))),
    (normal((2, 3)), normal((3, 4))),
    (normal((1, 3)), normal((3, 1))),
    (normal((5, 2, 3)), normal((5, 3, 4))),
    (normal((2, 3, 3, 3)), normal((2, 3, 3, 3))),
]

EXERCISE = Exercise(
    parts=[
        Pull(
            matmul_pull_a,
            reference=ops.matmul,
            cases=CASES,
            inputs=("a", "b"),
            to="a",
            wrong=[
                Wrong(
                    "a transposed matrix",
                    "b.swapaxes(-1, -2)",
                    "b",
                    "b has to be transposed: dL/da sums over the columns k of b.",
                ),
                Wrong(
                    "the order of the product",
                    "g @ b.swapaxes(-1, -2)",
                    "b.swapaxes(-1, -2) @ g",
                    "The factors are the wrong way round. dL/da has the rows of g, so g is first.",
                ),
                Wrong(
                    "a transposed result",
                    "g @ b.swapaxes(-1, -2)",
                    "(g @ b.swapaxes(-1, -2)).swapaxes(-1, -2)",
                    "Your result is the right one, transposed.",
                ),
                Wrong(
                    "g transposed in place of b",
                    "g @ b.swapaxes(-1, -2)",
                    "g.swapaxes(-1, -2) @ b",
                    "You transpose g. It is b that has to be transposed.",
                ),
                Wrong(
                    "the transpose of a stack",
                    "b.swapaxes(-1, -2)",
                    "b.T",
                    "b.T reverses all axes. In a stack only the last two are those of a matrix: "
                    "b.swapaxes(-1, -2).",
                ),
                Wrong("the sign", "g @", "-g @", "The sign is wrong: no minus occurs here."),
            ],
        ),
        Pull(
            matmul_pull_b,
            reference=ops.matmul,
            cases=CASES,
            inputs=("a", "b"),
            to="b",
            wrong=[
                Wrong(
                    "a transposed matrix",
                    "a.swapaxes(-1, -2) @ g",
                    "a @ g",
                    "a has to be transposed: dL/db sums over the rows i of a.",
                ),
                Wrong(
                    "the order of the product",
                    "a.swapaxes(-1, -2) @ g",
                    "g @ a.swapaxes(-1, -2)",
                    "The factors are the wrong way round. dL/db has the columns of g, so g comes "
                    "last.",
                ),
                Wrong(
                    "a transposed result",
                    "a.swapaxes(-1, -2) @ g",
                    "g.swapaxes(-1, -2) @ a",
                    "Your result is the right one, transposed.",
                ),
                Wrong(
                    "the transpose of a stack",
                    "a.swapaxes(-1, -2)",
                    "a.T",
                    "a.T reverses all axes. In a stack only the last two are those of a matrix: "
                    "a.swapaxes(-1, -2).",
                ),
                Wrong("the sign", "@ g", "@ -g", "The sign is wrong: no minus occurs here."),
            ],
        ),
    ],
    hint="the shapes (M, N), (K, N) and (M, K) tell which product gives dL/da; then do dL/db.",
    read="tinycv/engine/ops.py, the row of matmul.",
)
