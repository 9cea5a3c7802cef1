"""Langevin dynamics: one step up the density, and noise

    x <- x + delta grad log p(x) + sqrt(2 delta) z          Roberts & Tweedie 1996 (ULA)
    z ~ N(0, I)

Repeated many times with a small delta, this step turns points from anywhere into samples of p, up
to a small error. It needs only the score, grad log p(x). Without the noise the points would climb
to the maxima of p and stay there.

Why the square root: random steps add their variances. In a time T there are T / delta steps, and
the noise of all of them should have the variance 2 T, whatever delta is. So each step has the
variance 2 delta.

Some papers write alpha = 2 delta for the step size. Here it is delta.

Shapes: x and z (N, D): N points with D axes; delta is a number.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong, drawing
from tinycv import Tensor
from tinycv.diffusion import langevin


def langevin_step(score, x, delta, z):
    """score(x): a function that returns grad log p, (N, D), at points x (N, D). delta: the step
    size, a number. z (N, D): the noise. Returns the points after one step, (N, D)."""
    return x + delta * score(x) + (2 * delta) ** 0.5 * z


def step_of_package(score, x, delta, z):
    """The package's step on plain arrays, whose random noise is the given one."""
    with drawing(langevin, "_normal", z.numpy()):
        return Tensor(langevin.langevin_step(score, x.numpy(), delta, []))


def score_of_normal(x):
    """The score of N(0, I)."""
    return -x


def score_of_ring(x):
    """The score of a density that is highest on a circle."""
    return x * (1 - (x * x).sum(axis=-1, keepdims=True))


normal = np.random.default_rng(41).standard_normal
EXERCISE = Exercise(
    parts=[
        Definition(
            langevin_step,
            reference=step_of_package,
            cases=[
                (score_of_normal, normal((3, 2)), 0.1, normal((3, 2))),
                (score_of_ring, normal((2, 2)), 0.02, normal((2, 2))),
                (score_of_normal, normal((1, 3)), 0.7, normal((1, 3))),
            ],
            order=1,
            wrong=[
                Wrong(
                    "the noise without the 2",
                    "(2 * delta) ** 0.5",
                    "delta**0.5",
                    "Your noise has the variance delta. It should be 2 delta; with half of it the "
                    "points gather too closely around the maxima.",
                ),
                Wrong(
                    "a missing square root",
                    "(2 * delta) ** 0.5",
                    "(2 * delta)",
                    "The square root is missing: 2 delta is the variance of the noise, and its "
                    "standard deviation is sqrt(2 delta).",
                ),
                Wrong(
                    "the 2 outside the root",
                    "(2 * delta) ** 0.5",
                    "2 * delta**0.5",
                    "You add 2 sqrt(delta) z. The 2 belongs under the root: sqrt(2 delta) z.",
                ),
                Wrong(
                    "the sign of the score",
                    "x + delta * score(x)",
                    "x - delta * score(x)",
                    "You go downhill. The score points to where the density is higher, so add it.",
                ),
                Wrong(
                    "half a step of the score",
                    "x + delta * score(x)",
                    "x + delta / 2 * score(x)",
                    "You take alpha / 2 for the step, as papers do that write alpha = 2 delta. "
                    "Here the step of the score is delta.",
                ),
                Wrong(
                    "another size of the step",
                    "delta * score(x) + (2 * delta) ** 0.5",
                    "delta / 2 * score(x) + delta**0.5",
                    "Your step would be right if delta were alpha. Here alpha = 2 delta: multiply "
                    "the score by delta, and the noise by sqrt(2 delta).",
                ),
                Wrong(
                    "no noise",
                    " + (2 * delta) ** 0.5 * z",
                    "",
                    "The noise is missing: your points climb to the nearest maximum and stay "
                    "there.",
                ),
                Wrong(
                    "x is missing",
                    "x + delta",
                    "delta",
                    "You return the move alone. Add it to x.",
                ),
                Wrong(
                    "the score without the step size",
                    "x + delta * score(x)",
                    "x + score(x)",
                    "You do not multiply the score by delta.",
                ),
            ],
        )
    ],
    hint="the answer is one line; a ** 0.5 is the square root of a.",
    read="tinycv/diffusion/langevin.py: its docstring and the function langevin_step.",
)
