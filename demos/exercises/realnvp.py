"""RealNVP: affine coupling, its log-determinant and its inverse

    y = b x + (1 - b) (x exp(s) + t)                        Dinh et al. 2017, sections 3.2, 3.4
    log |det dy/dx| = sum of (1 - b) s
    x = b y + (1 - b) (y - t) exp(-s)

The mask b keeps some numbers of x as they are. Only these, b x, are given to a network, which
returns the log-scale s and the shift t of the others. Since b y = b x, the same s and t can be
computed from y, and with them the layer is undone. The network itself is never inverted.

If the kept numbers come first, the Jacobian dy/dx is a triangular matrix with 1 and exp(s) on its
diagonal. Its determinant is the product of the diagonal, so the logarithm is a sum.

As in tinycv, the network returns (B, 2 D): s is the tanh of its first D columns, so that exp(s)
cannot overflow, and t is its last D columns.

Shapes: x and y (B, D): B examples of D numbers; b (D,); the log-determinant is (B,).
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import concatenate, exp, sin, tanh, where
from tinycv.likelihood.flow import AffineCoupling


def coupling(network, b, x):
    """network: a function from (B, D) to (B, 2 D). b (D,): bools, True where x is kept. x (B, D).
    Returns y (B, D) and log |det dy/dx| (B,)."""
    d = x.shape[1]
    both = network(where(b, x, 0.0))  # (B, 2 D)
    s, t = tanh(both[:, :d]), both[:, d:]  # (B, D) each
    y = where(b, x, x * exp(s) + t)
    return y, where(b, 0.0, s).sum(axis=1)


def inverse(network, b, y):
    """network, b: as above. y (B, D). Returns the x (B, D) for which coupling returns y."""
    d = y.shape[1]
    both = network(where(b, y, 0.0))
    s, t = tanh(both[:, :d]), both[:, d:]
    return where(b, y, (y - t) * exp(-s))


def coupling_of_package(network, b, x):
    """The package's layer."""
    return AffineCoupling(network, b)(x)


def inverse_of_package(network, b, y):
    """The package's inverse."""
    return AffineCoupling(network, b).inverse(y)


def network(x):
    """(B, D) to (B, 2 D): a function in which every number depends on the sum of all of x."""
    whole = x.sum(axis=1, keepdims=True)
    return concatenate([sin(x + 0.7 * whole + 0.2), 0.5 * x - whole * whole + 0.4], axis=1)


normal = np.random.default_rng(51).standard_normal
CASES = [
    (network, np.array([True, False]), normal((3, 2))),
    (network, np.array([False, True, False]), normal((2, 3))),
    (network, np.array([True, True, False, False]), normal((1, 4))),
]
EXERCISE = Exercise(
    parts=[
        Definition(
            coupling,
            reference=coupling_of_package,
            cases=CASES,
            order=1,
            wrong=[
                Wrong(
                    "the network sees all of x",
                    "network(where(b, x, 0.0))",
                    "network(x)",
                    "You give all of x to the network. Then s and t depend on numbers that "
                    "change, and the layer cannot be undone. Give it b x.",
                ),
                Wrong(
                    "the mask, the wrong way round",
                    "y = where(b, x, x * exp(s) + t)",
                    "y = where(b, x * exp(s) + t, x)",
                    "You change the numbers that should be kept. They are kept where b is True.",
                ),
                Wrong(
                    "the log-determinant of all numbers",
                    "where(b, 0.0, s)",
                    "s",
                    "You sum s over all numbers. Where b is True, y = x, and the logarithm of its "
                    "slope is 0.",
                ),
                Wrong(
                    "the sign of the log-determinant",
                    "return y, where(b, 0.0, s)",
                    "return y, -where(b, 0.0, s)",
                    "That is the log-determinant of the inverse. The slope of y is exp(s), so its "
                    "logarithm is +s.",
                ),
                Wrong(
                    "the determinant in place of its logarithm",
                    "where(b, 0.0, s).sum(axis=1)",
                    "exp(where(b, 0.0, s).sum(axis=1))",
                    "You return the determinant. Return its logarithm.",
                ),
                Wrong(
                    "the sum of the scales",
                    "where(b, 0.0, s).sum(axis=1)",
                    "where(b, 0.0, exp(s)).sum(axis=1)",
                    "You add up the scales exp(s). The logarithm of their product is the sum of s.",
                ),
                Wrong(
                    "a scale without exp",
                    "x * exp(s) + t",
                    "x * s + t",
                    "You multiply by s, which can be 0 or negative. Multiply by exp(s).",
                ),
                Wrong(
                    "shift before scale",
                    "x * exp(s) + t",
                    "(x + t) * exp(s)",
                    "You shift first, then scale. The formula scales x, then adds t.",
                ),
                Wrong(
                    "no tanh",
                    "tanh(both[:, :d])",
                    "both[:, :d]",
                    "s is the tanh of the network's first D columns; the tanh is missing.",
                ),
                Wrong(
                    "s and t exchanged",
                    "tanh(both[:, :d]), both[:, d:]",
                    "tanh(both[:, d:]), both[:, :d]",
                    "s comes from the first D columns of the network's result, t is the last D.",
                ),
            ],
        ),
        Definition(
            inverse,
            reference=inverse_of_package,
            cases=CASES,
            order=1,
            wrong=[
                Wrong(
                    "the order of the inverse",
                    "(y - t) * exp(-s)",
                    "y * exp(-s) - t",
                    "You undo the scale first. The forward pass scaled and then shifted, so first "
                    "subtract t, then divide by the scale.",
                ),
                Wrong(
                    "the sign of s",
                    "exp(-s)",
                    "exp(s)",
                    "You multiply by the scale again. The inverse divides by it: exp(-s).",
                ),
                Wrong(
                    "nothing is undone",
                    "where(b, y, (y - t) * exp(-s))",
                    "y + 0 * s",
                    "You return y itself. Where b is False, subtract t and divide by exp(s).",
                ),
                Wrong(
                    "the sign of t",
                    "(y - t)",
                    "(y + t)",
                    "You add t again. The inverse subtracts it.",
                ),
                Wrong(
                    "the network sees all of y",
                    "network(where(b, y, 0.0))",
                    "network(y)",
                    "You give all of y to the network. Only b y = b x is known from before the "
                    "layer, and gives the same s and t.",
                ),
                Wrong(
                    "the mask, the wrong way round",
                    "where(b, y, (y - t) * exp(-s))",
                    "where(b, (y - t) * exp(-s), y)",
                    "You change the numbers that were kept. They are kept where b is True.",
                ),
            ],
        ),
    ],
    names=("exp", "tanh", "where", "split"),
    hint="where(b, x, 0.0) is b x, and where(b, x, a) is b x + (1 - b) a.",
    read="tinycv/likelihood/flow.py: its docstring and AffineCoupling.",
)
