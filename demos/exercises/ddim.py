"""DDIM: one step from a noise level to a lower one

    x_s = sqrt(abar_s) x0^  +  sqrt(1 - abar_s - r^2) eps  +  r z
          "predicted x_0"      "direction to x_t"             fresh noise
                                                            Song, Meng & Ermon 2021, eq. 12
    x0^ = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)
    r   = eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s)         ibid., eq. 16

A network sees x_t and predicts its noise eps. This gives a guess x0^ of the image. The step puts
noise back onto the guess, but only as much as belongs to the earlier time s: partly the predicted
noise eps, partly fresh noise z with the standard deviation r. (The paper calls r sigma.)

eta = 0 adds no fresh noise: each initial noise then leads to one image. eta = 1 adds as much as
DDPM does.

Shapes: x, eps and z (B, ...). abar_t, abar_s and eta are numbers, 0 < abar_t < abar_s <= 1.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong, drawing
from tinycv.diffusion import samplers
from tinycv.diffusion.denoising import to_x0
from tinycv.diffusion.schedule import DDPM


def ddim_step(x, eps, abar_t, abar_s, eta, z):
    """x = x_t and eps, its predicted noise, (B, ...). abar_t, abar_s, eta: numbers. z (B, ...):
    fresh noise from N(0, I). Returns x_s (B, ...)."""
    x0 = (x - (1 - abar_t) ** 0.5 * eps) / abar_t**0.5
    r = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
    return abar_s**0.5 * x0 + (1 - abar_s - r * r) ** 0.5 * eps + r * z


def step_of_package(x, eps, abar_t, abar_s, eta, z):
    """The package's step between the times 2 and 1 of a schedule with these two noise levels."""
    schedule = DDPM([1.0, abar_s, abar_t])

    def denoise(x, t):
        return to_x0("eps", eps, x, *schedule.marginal(2))

    with drawing(samplers, "randn_like", z):
        return samplers.ddim_step(denoise, schedule, x, 2, 1, eta)


normal = np.random.default_rng(43).standard_normal


def case(shape: tuple, abar_t: float, abar_s: float, eta: float) -> tuple:
    """x, eps and noise of this shape, and the numbers."""
    return normal(shape), normal(shape), abar_t, abar_s, eta, normal(shape)


EXERCISE = Exercise(
    parts=[
        Definition(
            ddim_step,
            reference=step_of_package,
            cases=[
                case((2, 3), 0.4, 0.7, 0.0),
                case((1, 2, 2), 0.1, 0.9, 1.0),
                case((2, 1), 0.2, 0.5, 0.5),
            ],
            extremes=[case((1, 2), 0.3, 1.0, 1.0)],
            order=1,
            wrong=[
                Wrong(
                    "no room for the fresh noise",
                    "(1 - abar_s - r * r) ** 0.5",
                    "(1 - abar_s) ** 0.5",
                    "With fresh noise your x_s has too much noise. The predicted noise has the "
                    "variance 1 - abar_s - r^2, so that both together have 1 - abar_s.",
                ),
                Wrong(
                    "r in place of its square",
                    "(1 - abar_s - r * r) ** 0.5",
                    "(1 - abar_s - r) ** 0.5",
                    "You subtract r from a variance. Its square is the variance of the fresh "
                    "noise.",
                ),
                Wrong(
                    "a missing division by the signal",
                    " / abar_t**0.5",
                    "",
                    "x_t without its noise is sqrt(abar_t) x_0. Divide by sqrt(abar_t) to get x_0.",
                ),
                Wrong(
                    "a missing square root of the noise in x_t",
                    "(1 - abar_t) ** 0.5 * eps",
                    "(1 - abar_t) * eps",
                    "The noise in x_t has the standard deviation sqrt(1 - abar_t). You subtract "
                    "(1 - abar_t) eps.",
                ),
                Wrong(
                    "the predicted noise is not put back",
                    " + (1 - abar_s - r * r) ** 0.5 * eps",
                    "",
                    'The second term, the "direction to x_t", is missing.',
                ),
                Wrong(
                    "fresh noise in place of the predicted noise",
                    "(1 - abar_s - r * r) ** 0.5 * eps",
                    "(1 - abar_s - r * r) ** 0.5 * z",
                    "The second term has the predicted noise eps, not fresh noise.",
                ),
                Wrong(
                    "the signal of time t",
                    "abar_s**0.5 * x0",
                    "abar_t**0.5 * x0",
                    "The guess x0^ is multiplied by the signal at the new time, sqrt(abar_s). You "
                    "use abar_t.",
                ),
                Wrong(
                    "r without the second factor",
                    " * (1 - abar_t / abar_s)",
                    "",
                    "In r the factor sqrt(1 - abar_t / abar_s) is missing.",
                ),
                Wrong(
                    "the square of r",
                    "+ r * z",
                    "+ r * r * z",
                    "You multiply the fresh noise by its variance r^2. Multiply it by r, its "
                    "standard deviation.",
                ),
                Wrong(
                    "no fresh noise",
                    " + r * z",
                    "",
                    "The fresh noise r z is missing. The result is right only for eta = 0.",
                ),
            ],
        )
    ],
    hint="compute x0^ first, then r, then the sum of three terms.",
    read="tinycv/diffusion/samplers.py: its docstring and the function ddim_step.",
)
