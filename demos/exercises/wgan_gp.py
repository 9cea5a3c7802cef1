"""WGAN-GP: the gradient penalty, a derivative inside a loss

    penalty = lambda E (|grad D(x^)| - 1)^2                 Gulrajani et al. 2017, eq. 3
    x^ = share x + (1 - share) G(z)                         a point between a real and a fake

The critic D of a Wasserstein GAN may have a slope of at most 1. The penalty pulls the length of its
slope at x^ towards 1: grad D(x^) is the derivative of the critic's value by its input, and |.| is
the Euclidean length, one for each example.

The critic is trained on the penalty, so the penalty is differentiated by the weights of the critic.
That is a derivative of a derivative. For this, the first backward pass has to be recorded:

    (slope,) = grad(y, x, create_graph=True)                y: a Tensor of one number

The critic's value of one example depends on this example alone. So the derivative of the sum of all
values holds, row by row, the slope of each example.

Shapes: x and G(z) (B, D), share (B, 1), from 0 to 1; lambda is a number, in the paper 10.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong, drawing
from tinycv import Tensor, grad, tanh
from tinycv.adversarial import gan


def gradient_penalty(critic, w, real, fake, share, penalty_weight):
    """critic(x, w): a function that returns one value (B,) for each row of x (B, D). w: its
    weights. real and fake (B, D). share (B, 1). penalty_weight: lambda. Returns a Tensor of one
    number, which can be differentiated by w."""
    x = Tensor((share * real + (1 - share) * fake).detach(), requires_grad=True)  # (B, D)
    (slope,) = grad(critic(x, w).sum(), x, create_graph=True)  # (B, D)
    length = (slope * slope).sum(axis=-1) ** 0.5  # (B,)
    return penalty_weight * ((length - 1) ** 2).mean()


def penalty_of_package(critic, w, real, fake, share, penalty_weight):
    """The package's penalty, whose random share is the given one."""
    with drawing(gan, "rand_like", share):
        return gan.GradientPenalty(penalty_weight)(critic, real, fake, w)


def small_critic(x, w):
    """A network with one hidden layer: the sum of H units tanh(w_h x), for w (H, D)."""
    return tanh(x @ w.swapaxes(0, 1)).sum(axis=-1)


def quadratic_critic(x, w):
    """The sum of H squares (w_h x)^2, for w (H, D)."""
    return ((x @ w.swapaxes(0, 1)) ** 2).sum(axis=-1)


rng = np.random.default_rng(31)
normal = rng.standard_normal


def case(critic, rows: int, width: int, hidden: int, weight: float) -> tuple:
    """A critic with random weights, real and fake examples, and lambda."""
    w, share = normal((hidden, width)), rng.uniform(0, 1, (rows, 1))
    return critic, w, normal((rows, width)), normal((rows, width)), share, weight


EXERCISE = Exercise(
    parts=[
        Definition(
            gradient_penalty,
            reference=penalty_of_package,
            cases=[
                case(small_critic, 3, 2, 4, 10.0),
                case(quadratic_critic, 2, 3, 3, 1.0),
                case(small_critic, 1, 4, 2, 0.5),
            ],
            constant=("real", "fake", "share"),
            gradient_by="w",
            wrong=[
                Wrong(
                    "a backward pass that is not recorded",
                    ", create_graph=True",
                    "",
                    "The value is right, but its derivative by w is 0: the critic would learn "
                    "nothing from the penalty. Pass create_graph=True to grad, and detach nothing "
                    "after it.",
                ),
                Wrong(
                    "the square of the length",
                    ".sum(axis=-1) ** 0.5",
                    ".sum(axis=-1)",
                    "A square root is missing: you compare the squared length with 1.",
                ),
                Wrong(
                    "one length for the whole batch",
                    "(slope * slope).sum(axis=-1) ** 0.5",
                    "(slope * slope).sum() ** 0.5",
                    "You take the length of all slopes together. Each example has its own: sum "
                    "over the last axis only.",
                ),
                Wrong(
                    "the slope of a mean",
                    "critic(x, w).sum()",
                    "critic(x, w).mean()",
                    "You differentiate the mean over the batch, so each slope is divided by B. "
                    "Differentiate the sum.",
                ),
                Wrong(
                    "the 1 is missing",
                    "(length - 1) ** 2",
                    "length ** 2",
                    "Your penalty pulls the length towards 0. It should pull it towards 1.",
                ),
                Wrong(
                    "a sum in place of a mean",
                    "((length - 1) ** 2).mean()",
                    "((length - 1) ** 2).sum()",
                    "You sum over the batch. E is a mean.",
                ),
                Wrong(
                    "real and fake exchanged",
                    "share * real + (1 - share) * fake",
                    "share * fake + (1 - share) * real",
                    "Your point is share * fake + (1 - share) * real. In training that is as "
                    "good, since share is random. But here share is the part of the real example.",
                ),
                Wrong(
                    "the slope at the real examples",
                    "share * real + (1 - share) * fake",
                    "1 * real",
                    "You take the slope at the real examples. Take it at points between real and "
                    "fake ones.",
                ),
                Wrong(
                    "lambda is missing",
                    "penalty_weight * ((",
                    "1 * ((",
                    "You do not multiply by lambda, the argument penalty_weight.",
                ),
                Wrong(
                    "no square",
                    "((length - 1) ** 2)",
                    "(length - 1)",
                    "You do not square the difference, so a slope below 1 would even be rewarded.",
                ),
            ],
        )
    ],
    names=("Tensor", "grad", "norm"),
    methods=("detach", "requires_grad"),
    hint="x_hat = Tensor(..., requires_grad=True) is a new leaf: grad can differentiate by it.",
    read="tinycv/adversarial/gan.py: GradientPenalty and slopes; tinycv/engine/backward.py: grad.",
)
