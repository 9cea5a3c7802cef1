"""tanh: its derivative

    y = tanh(x)                 dy/dx = 1 - tanh(x)^2

Backpropagation reaches y with g = dL/dy and needs dL/dx, which the chain rule gives. A function
that turns g into dL/dx is called a pull (a vector-Jacobian product). It receives what was saved in
the forward pass: here y, so that tanh need not be computed a second time.
"""

import numpy as np

from demos.exercises.exercise import Exercise, Pull, Wrong
from tinycv import tanh


def tanh_pull(g, y):
    """g: dL/dy. y: tanh(x). Returns dL/dx. All three have the same shape."""
    return g * (1 - y * y)


normal = np.random.default_rng(1).standard_normal
EXERCISE = Exercise(
    parts=[
        Pull(
            tanh_pull,
            reference=tanh,
            cases=[(normal(5),), (normal((3, 4)),), (normal((2, 1, 3)),), (np.array(0.3),)],
            wrong=[
                Wrong(
                    "the sign",
                    "1 - y * y",
                    "1 + y * y",
                    "You add y^2. The slope of tanh is 1 - y^2: it is 1 at 0, and 0 far away.",
                ),
                Wrong(
                    "the chain rule",
                    "g * (1 - y * y)",
                    "1 - y * y + 0 * g",
                    "That is dy/dx. The pull returns dL/dx = dL/dy * dy/dx, so multiply by g.",
                ),
                Wrong(
                    "the square",
                    "1 - y * y",
                    "1 - y",
                    "You subtract y, not its square.",
                ),
                Wrong(
                    "tanh twice",
                    "1 - y * y",
                    "1 - (2 / (1 + (-2 * y).exp()) - 1) ** 2",
                    "You take tanh of y. y is tanh(x) already, so the slope is 1 - y^2.",
                ),
                Wrong(
                    "half a factor",
                    "g * (1 - y * y)",
                    "g * (1 - y * y) / 2",
                    "Your result is half of what it should be. No 1/2 occurs in the derivative.",
                ),
                Wrong(
                    "the slope of the sigmoid",
                    "1 - y * y",
                    "y * (1 - y)",
                    "y (1 - y) is the slope of the sigmoid. That of tanh is 1 - y^2.",
                ),
            ],
        )
    ],
    names=(),
    hint="the answer is one line that needs g and y only.",
    read="tinycv/engine/ops.py, the row of tanh; pulls: the top of tinycv/engine/record.py.",
)
