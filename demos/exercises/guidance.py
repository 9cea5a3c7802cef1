"""Classifier-free guidance: images that show their label more clearly

    eps~(x, c) = (1 + w) eps(x, c) - w eps(x)               Ho & Salimans 2022, eq. 6

One network predicts the noise both with a label, eps(x, c), and without one, eps(x). The difference
eps(x, c) - eps(x) points towards what makes an image look like its label, and guidance goes w times
further in this direction. w = 0 is the plain prediction with a label.

The network learns both because in training some labels are replaced by a number that means "no
label" (ibid., algorithm 1). Here it is called nobody; with classes 0 ... 9 it is 10.

(In Imagen and Stable Diffusion the guidance scale is 1 + w.)

Shapes: x (B, ...), t a number, labels (B,) whole numbers, u (B,) numbers from 0 to 1.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong, drawing
from tinycv import full_like, where
from tinycv.diffusion import guidance


def drop_labels(labels, nobody, share, u):
    """labels (B,): whole numbers. u (B,): a random number for each, uniform in [0, 1). Returns the
    labels (B,), with ``nobody`` where u is below ``share``, so that this share of them is lost.
    where(condition, a, b) takes a where the condition is true, and b elsewhere."""
    return where(u < share, nobody, labels)


def guided(eps, x, t, labels, nobody, w):
    """eps(x, t, labels): the network, a function that returns (B, ...) for x (B, ...) and labels
    (B,). w: the strength of guidance. Returns eps~ (B, ...)."""
    with_label = eps(x, t, labels)
    without = eps(x, t, full_like(labels, nobody))
    return (1 + w) * with_label - w * without


def labels_of_package(labels, nobody, share, u):
    """The package's labels, whose random numbers are the given ones."""
    with drawing(guidance.backend, "uniform", u.numpy()):
        return guidance.without_some(labels, nobody, share)


def guided_of_package(eps, x, t, labels, nobody, w):
    """The package's guided network."""
    return guidance.guided(eps, labels, nobody, w)(x, t)


def network(x, t, labels):
    """Some function of all three arguments that is not linear in x."""
    column = labels.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
    return x * x + t * x - 0.3 * column * x + 0.1 * column * column


rng = np.random.default_rng(44)
normal = rng.standard_normal
EXERCISE = Exercise(
    parts=[
        Definition(
            drop_labels,
            reference=labels_of_package,
            cases=[
                (np.array([3, 1, 4, 1, 5]), 10, 0.4, np.array([0.9, 0.2, 0.5, 0.39, 0.41])),
                (np.array([2, 0]), 3, 0.1, np.array([0.05, 0.95])),
                (np.array([1, 1, 2]), 4, 0.0, np.array([0.0, 0.5, 0.9])),
            ],
            order=0,
            wrong=[
                Wrong(
                    "the share that is kept",
                    "u < share",
                    "u >= share",
                    "You replace the labels that should be kept. Replace those where u < share; "
                    "where(condition, a, b) is a where the condition is true.",
                ),
                Wrong(
                    "one decision for the whole batch",
                    "u < share",
                    "u[0] < share",
                    "You decide once for the whole batch. Each label has its own u.",
                ),
                Wrong(
                    "label 0 in place of no label",
                    "nobody, labels",
                    "0, labels",
                    'You use 0 for "no label", but 0 is a class. Use nobody.',
                ),
                Wrong(
                    "u = share",
                    "u < share",
                    "u <= share",
                    "You also replace a label where u equals share. u can be 0, and with a share "
                    "of 0 no label may be lost.",
                ),
            ],
        ),
        Definition(
            guided,
            reference=guided_of_package,
            cases=[
                (network, normal((3, 2)), 0.5, np.array([0, 2, 1]), 3, 2.0),
                (network, normal((1, 2, 2)), 0.1, np.array([1]), 2, 0.5),
                (network, normal((2, 1)), 0.9, np.array([0, 1]), 2, 1.0),
                (network, normal((2, 2)), 0.9, np.array([1, 4]), 5, 0.0),
            ],
            order=1,
            wrong=[
                Wrong(
                    "the guidance scale of other papers",
                    "(1 + w) * with_label - w * without",
                    "w * with_label + (1 - w) * without",
                    "Your result is right for a guidance scale of w, as in Stable Diffusion. Here "
                    "the scale is 1 + w, and w = 0 is the plain prediction with a label.",
                ),
                Wrong(
                    "with and without exchanged",
                    "(1 + w) * with_label - w * without",
                    "(1 + w) * without - w * with_label",
                    "You go away from the label. Start with the label and subtract w times the "
                    "prediction without it.",
                ),
                Wrong(
                    "a mixture",
                    "(1 + w) * with_label - w * without",
                    "(1 - w) * with_label + w * without",
                    "You go from the prediction with a label towards the one without. Go the "
                    "other way, further from it: + w (with - without).",
                ),
                Wrong(
                    "the sign",
                    "- w * without",
                    "+ w * without",
                    "You add the prediction without a label. Subtract it, so that the weights 1 + "
                    "w and -w sum to 1.",
                ),
                Wrong(
                    "weights that do not sum to 1",
                    "(1 + w) * with_label",
                    "w * with_label",
                    "Your weights w and -w sum to 0, so the prediction itself is lost and only "
                    "the difference is left.",
                ),
                Wrong(
                    "label 0 in place of no label",
                    "full_like(labels, nobody)",
                    "full_like(labels, 0)",
                    'For the prediction without a label you use class 0. "No label" is the number '
                    "nobody.",
                ),
                Wrong(
                    "no guidance",
                    "(1 + w) * with_label - w * without",
                    "with_label",
                    "That is the plain prediction with a label. It is right only for w = 0.",
                ),
            ],
        ),
    ],
    names=("where", "full_like", "concatenate", "split"),
    hint="full_like(labels, n) has the shape of labels, and n everywhere.",
    read="tinycv/diffusion/guidance.py: its docstring, without_some and guided.",
)
