"""Layer norm

    y = gamma (x - E[x]) / sqrt(Var[x] + eps) + beta        Ba, Kiros & Hinton 2016, eq. 4

Mean and variance are those of the D features of one token, the last axis. The variance divides by D
(it is "biased"), not by D - 1. eps is a small number that keeps the division finite where all
features are equal. gamma (the weight) and beta (the bias) have one number for each feature.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import sqrt
from tinycv.nn import functional


def layer_norm(x, weight, bias, eps):
    """x (..., D), weight and bias (D,), eps a number. Returns (..., D)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return weight * centred / sqrt(variance + eps) + bias


normal = np.random.default_rng(7).standard_normal
EXERCISE = Exercise(
    parts=[
        Definition(
            layer_norm,
            reference=functional.layer_norm,
            cases=[
                (normal(4), normal(4), normal(4), 1e-5),
                (normal((3, 3)), normal(3), normal(3), 0.1),
                (normal((5, 2)), normal(2), normal(2), 0.01),
                (normal((2, 3, 4)), normal(4), normal(4), 0.5),
            ],
            extremes=[
                (np.ones((2, 3)), normal(3), normal(3), 1e-5),
                # features that differ little, far from 0
                (normal((2, 3)) + 1e5, normal(3), normal(3), 1e-5),
            ],
            wrong=[
                Wrong(
                    "eps outside the root",
                    "sqrt(variance + eps)",
                    "(sqrt(variance) + eps)",
                    "eps is added to the variance, inside the root.",
                ),
                Wrong(
                    "eps is missing",
                    "variance + eps",
                    "variance",
                    "Add eps to the variance. Where all features are equal you divide 0 by 0.",
                ),
                Wrong(
                    "the unbiased variance",
                    "(centred * centred).mean(axis=-1, keepdims=True)",
                    "(centred * centred).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)",
                    "You divide the variance by D - 1. Layer norm divides by D.",
                ),
                Wrong(
                    "an axis",
                    "x.mean(axis=-1, keepdims=True)\n"
                    "    variance = (centred * centred).mean(axis=-1, keepdims=True)",
                    "x.mean(axis=0, keepdims=True)\n"
                    "    variance = (centred * centred).mean(axis=0, keepdims=True)",
                    "You normalise over the first axis, as batch norm does. Layer norm takes mean "
                    "and variance over the last axis, the features of one token.",
                ),
                Wrong(
                    "a mean over everything",
                    "x.mean(axis=-1, keepdims=True)\n"
                    "    variance = (centred * centred).mean(axis=-1, keepdims=True)",
                    "x.mean()\n    variance = (centred * centred).mean()",
                    "You take mean and variance over all numbers. Each token has its own: take "
                    "them over the last axis.",
                ),
                Wrong(
                    "keepdims",
                    "x.mean(axis=-1, keepdims=True)\n"
                    "    variance = (centred * centred).mean(axis=-1, keepdims=True)",
                    "x.mean(axis=-1)\n    variance = x.var(axis=-1)",
                    "Without keepdims=True the mean loses its axis, and broadcasting then pairs it "
                    "with the wrong one.",
                ),
                Wrong(
                    "the root",
                    "sqrt(variance + eps)",
                    "(variance + eps)",
                    "You divide by the variance. Divide by its square root.",
                ),
                Wrong(
                    "the mean is not subtracted",
                    "weight * centred",
                    "weight * x",
                    "The mean is not subtracted from x.",
                ),
                Wrong(
                    "the mean of the squares in place of the variance",
                    "(centred * centred)",
                    "(x * x)",
                    "The variance is the mean of (x - E[x])^2. You take the mean of x^2.",
                ),
                Wrong(
                    "the difference of two large numbers",
                    "(centred * centred).mean(axis=-1, keepdims=True)",
                    "(x * x).mean(axis=-1, keepdims=True) - (x - centred) ** 2",
                    "E[x^2] - E[x]^2 is the variance on paper. But if x is large, both numbers are "
                    "large and almost equal, and their difference is rounding. Subtract E[x] "
                    "before you square.",
                ),
                Wrong("the weight", "weight * centred", "centred", "The weight is missing."),
                Wrong("the bias", " + bias", " + 0 * bias", "The bias is missing."),
                Wrong(
                    "the bias inside the product",
                    "weight * centred / sqrt(variance + eps) + bias",
                    "weight * (centred / sqrt(variance + eps) + bias)",
                    "The bias is added at the end. You multiply it by the weight as well.",
                ),
            ],
        )
    ],
    names=("sqrt",),
    forbidden=("std",),
    hint="compute x - E[x] once; the variance is the mean of its square.",
    read="tinycv/nn/norm.py, layer_norm.",
)
