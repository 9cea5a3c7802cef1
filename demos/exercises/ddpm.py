"""DDPM: the forward process in one jump, and the posterior of one step back

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)      Ho, Jain & Abbeel 2020, eq. 4
    abar_t = (1 - beta_1) (1 - beta_2) ... (1 - beta_t)

    q(x_{t-1} | x_t, x_0) = N(mean, variance I)             ibid., eq. 6 and 7
    mean     = sqrt(abar_{t-1}) beta_t / (1 - abar_t) x_0
               + sqrt(alpha_t) (1 - abar_{t-1}) / (1 - abar_t) x_t,      alpha_t = 1 - beta_t
    variance = (1 - abar_{t-1}) / (1 - abar_t) beta_t

Diffusion adds a little noise in each of T steps: step t keeps the share 1 - beta_t of the variance
and replaces the rest by noise. All steps up to t together are again one draw of noise, so training
jumps to any t at once. The posterior says where x_{t-1} was if x_0 and x_t are both known. A
sampler uses it with a network's guess in place of x_0.

The steps are numbered from 1 as in the paper, but Python counts from 0: beta_t is betas[t - 1].

Shapes: x_0, x_t and noise (B, ...); betas (T,); t is a whole number from 1 to T.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import Tensor
from tinycv.diffusion.bound import log_variances
from tinycv.diffusion.bound import posterior_mean as mean_of_package
from tinycv.diffusion.schedule import DDPM, alpha_bar_of


def alpha_bar(betas, t):
    """betas (T,). t: a whole number from 1 to T. Returns abar_t, a Tensor of one number."""
    product = 1
    for i in range(t):
        product = product * (1 - betas[i])
    return product


def jump(x0, t, betas, noise):
    """x0 and noise (B, ...), the noise from N(0, I). t: from 1 to T. betas (T,). Returns x_t
    (B, ...). Use alpha_bar."""
    abar = alpha_bar(betas, t)
    return abar**0.5 * x0 + (1 - abar) ** 0.5 * noise


def posterior(x0, x, t, betas):
    """x0 and x = x_t (B, ...). t: from 2 to T. betas (T,). Returns the mean (B, ...) and the
    variance, a Tensor of one number. Use alpha_bar."""
    beta = betas[t - 1]
    now, before = alpha_bar(betas, t), alpha_bar(betas, t - 1)
    of_x0 = before**0.5 * beta / (1 - now)
    of_x = (1 - beta) ** 0.5 * (1 - before) / (1 - now)
    variance = (1 - before) / (1 - now) * beta
    return of_x0 * x0 + of_x * x, variance


def schedule_of(betas):
    """The package's noise schedule with these betas."""
    return DDPM(alpha_bar_of(betas.numpy()))


def alpha_bar_of_package(betas, t):
    """abar_t of the package's schedule."""
    return Tensor(np.asarray(alpha_bar_of(betas.numpy())[t], betas.dtype))


def jump_of_package(x0, t, betas, noise):
    """x_t of the package's schedule."""
    return schedule_of(betas).perturb(x0, t, noise)


def posterior_of_package(x0, x, t, betas):
    """The mean and the variance that the bound of the package uses."""
    schedule = schedule_of(betas)
    _, log_variance = log_variances(schedule, x[:1].numpy(), t)
    variance = np.asarray(np.exp(log_variance.reshape(())))
    return mean_of_package(schedule, x0, x, t), Tensor(variance)


normal = np.random.default_rng(42).standard_normal
BETAS = np.array([0.1, 0.25, 0.3, 0.5])
EXERCISE = Exercise(
    parts=[
        Definition(
            alpha_bar,
            reference=alpha_bar_of_package,
            cases=[(BETAS, 1), (BETAS, 3), (BETAS, 4)],
            order=1,
            wrong=[
                Wrong(
                    "a factor too few",
                    "range(t)",
                    "range(1, t)",
                    "You leave out beta_1. It is betas[0].",
                ),
                Wrong(
                    "the last factor is missing",
                    "range(t)",
                    "range(t - 1)",
                    "You stop at beta_{t-1}. The product goes up to beta_t, which is betas[t - 1].",
                ),
                Wrong(
                    "the product of the betas",
                    "(1 - betas[i])",
                    "betas[i]",
                    "You multiply the betas. A step keeps the share 1 - beta, so multiply those.",
                ),
                Wrong(
                    "a sum in place of a product",
                    "product * (1 - betas[i])",
                    "product - betas[i]",
                    "You subtract the betas from 1. The shares 1 - beta are multiplied.",
                ),
                Wrong(
                    "the last factor alone",
                    "product * (1 - betas[i])",
                    "1 - betas[i]",
                    "That is alpha_t = 1 - beta_t. abar_t is the product of all of them up to t.",
                ),
            ],
        ),
        Definition(
            jump,
            reference=jump_of_package,
            cases=[
                (normal((2, 3)), 1, BETAS, normal((2, 3))),
                (normal((1, 2, 2)), 4, BETAS, normal((1, 2, 2))),
                (normal((2, 1)), 2, BETAS, normal((2, 1))),
            ],
            order=1,
            wrong=[
                Wrong(
                    "a missing square root of the signal",
                    "abar**0.5 * x0",
                    "abar * x0",
                    "You multiply x_0 by abar_t. Multiply it by sqrt(abar_t).",
                ),
                Wrong(
                    "a missing square root of the noise",
                    "(1 - abar) ** 0.5",
                    "(1 - abar)",
                    "1 - abar_t is the variance of the noise. Multiply by its root, the standard "
                    "deviation.",
                ),
                Wrong(
                    "1 - sqrt(abar) in place of sqrt(1 - abar)",
                    "(1 - abar) ** 0.5",
                    "(1 - abar**0.5)",
                    "You multiply the noise by 1 - sqrt(abar_t). It is sqrt(1 - abar_t), so that "
                    "the variances add up to 1.",
                ),
                Wrong(
                    "a single step",
                    "abar = alpha_bar(betas, t)",
                    "abar = 1 - betas[t - 1]",
                    "You use alpha_t = 1 - beta_t, as for one step from x_{t-1}. The jump from "
                    "x_0 needs abar_t.",
                ),
                Wrong(
                    "signal and noise exchanged",
                    "abar**0.5 * x0 + (1 - abar) ** 0.5 * noise",
                    "(1 - abar) ** 0.5 * x0 + abar**0.5 * noise",
                    "Signal and noise are exchanged. At small t, where abar_t is close to 1, x_t "
                    "is almost x_0.",
                ),
                Wrong(
                    "one step too few",
                    "alpha_bar(betas, t)",
                    "alpha_bar(betas, t - 1)",
                    "That is x_{t-1}. Use abar_t.",
                ),
            ],
        ),
        Definition(
            posterior,
            reference=posterior_of_package,
            cases=[
                (normal((2, 3)), normal((2, 3)), 2, BETAS),
                (normal((1, 2, 2)), normal((1, 2, 2)), 4, BETAS),
                (normal((2, 1)), normal((2, 1)), 3, BETAS),
            ],
            order=1,
            wrong=[
                Wrong(
                    "beta is off by one step",
                    "beta = betas[t - 1]",
                    "beta = betas[t - 2]",
                    "You use beta_{t-1} for beta_t, which is betas[t - 1].",
                ),
                Wrong(
                    "x_0 and x_t exchanged",
                    "of_x0 * x0 + of_x * x",
                    "of_x0 * x + of_x * x0",
                    "The weights of x_0 and x_t are exchanged.",
                ),
                Wrong(
                    "the larger variance",
                    "variance = (1 - before) / (1 - now) * beta",
                    "variance = beta",
                    "beta_t is the variance of the step forward. Knowing x_0 makes the posterior "
                    "narrower, by the factor (1 - abar_{t-1}) / (1 - abar_t).",
                ),
                Wrong(
                    "the standard deviation in place of the variance",
                    "variance = (1 - before) / (1 - now) * beta",
                    "variance = ((1 - before) / (1 - now) * beta) ** 0.5",
                    "You return the standard deviation. Return the variance, its square.",
                ),
                Wrong(
                    "a missing square root of abar",
                    "before**0.5",
                    "before",
                    "The weight of x_0 has the square root of abar_{t-1}.",
                ),
                Wrong(
                    "a missing square root of alpha",
                    "(1 - beta) ** 0.5",
                    "(1 - beta)",
                    "The weight of x_t has the square root of alpha_t.",
                ),
                Wrong(
                    "abar in place of alpha",
                    "(1 - beta) ** 0.5",
                    "now**0.5",
                    "The weight of x_t has sqrt(alpha_t), alpha_t = 1 - beta_t. You use abar_t.",
                ),
                Wrong(
                    "the inverse ratio",
                    "variance = (1 - before) / (1 - now) * beta",
                    "variance = (1 - now) / (1 - before) * beta",
                    "The ratio is upside down: x_{t-1} has less noise than x_t, and the ratio is "
                    "below 1.",
                ),
            ],
        ),
    ],
    hint="in the posterior, compute abar_t and abar_{t-1} first; then each weight is one line.",
    read="tinycv/diffusion/bound.py: its docstring and _table; diffusion/schedule.py: perturb.",
)
