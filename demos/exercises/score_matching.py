"""Denoising score matching: learn the score of noised data

    loss = 1/2 E |psi(x + sigma z, sigma) + z / sigma|^2    Vincent 2011, eq. 9 to 11
    z ~ N(0, I)

The score of a density p is the gradient of log p at a point: it points to where data are more
likely. For images it is unknown. But we add the noise ourselves: given x, the noised point
y = x + sigma z has the density N(y; x, sigma^2 I), and the score of this density is known:

    grad log N(y; x, sigma^2 I) = -(y - x) / sigma^2 = -z / sigma

The same y can come from many pairs of x and z, so no model can predict z without error. The model
with the smallest loss returns the mean of -z / sigma over all x that y may have come from, and this
mean is the score of the noised data.

Return one number for each point; the mean E is taken later. |.|^2 is the sum of squares over the
axes.

Shapes: x and z (B, D): B points with D axes. sigma (B,): one noise level for each point.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv.diffusion.score import denoising


def denoising_loss(score, x, sigma, z):
    """score(x, sigma): the model psi, a function that takes points (B, D) and noise levels (B,) and
    returns (B, D). z (B, D): the noise. Returns the loss of each point, (B,)."""
    column = sigma.unsqueeze(1)  # (B, 1)
    error = score(x + column * z, sigma) + z / column  # (B, D)
    return 0.5 * (error * error).sum(axis=1)


def score_of_gaussian(x, sigma):
    """The score of data from N(0, I) with noise added."""
    return -x / (1 + sigma * sigma).reshape((-1, 1))


def some_score(x, sigma):
    """A function that is no score of anything, but depends on both arguments."""
    return x * x - sigma.reshape((-1, 1))


rng = np.random.default_rng(40)
normal = rng.standard_normal


def case(score, rows: int, width: int) -> tuple:
    """A score, points, noise levels between 0.5 and 2, and noise."""
    return score, normal((rows, width)), rng.uniform(0.5, 2, rows), normal((rows, width))


EXERCISE = Exercise(
    parts=[
        Definition(
            denoising_loss,
            reference=denoising,
            cases=[
                case(score_of_gaussian, 3, 2),
                case(some_score, 2, 2),
                case(score_of_gaussian, 1, 3),
            ],
            order=1,
            wrong=[
                Wrong(
                    "the sign",
                    ") + z / column",
                    ") - z / column",
                    "The score points from the noised point back to the data, so the target is -z "
                    "/ sigma. You use +z / sigma.",
                ),
                Wrong(
                    "a missing half",
                    "0.5 * ",
                    "",
                    "The factor 1/2 is missing.",
                ),
                Wrong(
                    "sigma squared",
                    "z / column",
                    "z / column**2",
                    "You divide the noise z by sigma^2. (y - x) / sigma^2 is z / sigma, because y "
                    "- x is sigma z.",
                ),
                Wrong(
                    "sigma is missing in the target",
                    "+ z / column",
                    "+ z",
                    "The target is -z / sigma. With -z the model learns the noise, which is sigma "
                    "times the score.",
                ),
                Wrong(
                    "the score at the clean point",
                    "x + column * z",
                    "x",
                    "You evaluate the model at x. It has to be evaluated at the noised point, x + "
                    "sigma z.",
                ),
                Wrong(
                    "noise of the wrong size",
                    "x + column * z",
                    "x + column**2 * z",
                    "You add noise with standard deviation sigma^2. sigma is the standard "
                    "deviation, so add sigma z.",
                ),
                Wrong(
                    "noise of level 1",
                    "x + column * z",
                    "x + z",
                    "You add noise with standard deviation 1. Add sigma z.",
                ),
                Wrong(
                    "a mean over the axes",
                    ".sum(axis=1)",
                    ".mean(axis=1)",
                    "You take the mean over the axes of a point. |.|^2 is the sum of squares.",
                ),
                Wrong(
                    "the mean over the points",
                    ".sum(axis=1)",
                    ".sum(axis=1).mean()",
                    "You take the mean over the points. Return one number for each, (B,).",
                ),
                Wrong(
                    "the sum over the points",
                    ".sum(axis=1)",
                    ".sum(axis=0)",
                    "You sum over the points. Sum over the axes of each point, which are axis 1.",
                ),
            ],
        )
    ],
    hint="sigma is (B,) and z is (B, D): give sigma a second axis before you multiply.",
    read="tinycv/diffusion/score.py: its docstring and the function denoising.",
)
