"""Cross-entropy: log-softmax, and the derivative

    log p_c = x_c - log(sum over j of exp(x_j))
    L = - (1 / N) sum over rows n and classes c of q_nc log p_nc

x are scores (logits): N rows, C classes. q is 1 at the right class of a row and 0 elsewhere. The
logarithm of softmax must not be taken in two steps: exp(1000) is infinite, and the probability of
an unlikely class is rounded to 0, whose logarithm is infinite. Subtract the largest score of a row
from all its scores first; log p stays the same. The derivative is very short:

    dL/dx_nc = (p_nc - q_nc) / N
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Pull, Wrong
from tinycv import exp, log
from tinycv.nn import functional


def cross_entropy(x, q):
    """x: scores (N, C). q (N, C): 1 at the right class, else 0. Returns the mean over the rows, one
    number."""
    shifted = x - x.max(axis=-1, keepdims=True)
    log_p = shifted - log(exp(shifted).sum(axis=-1, keepdims=True))
    return -(q * log_p).sum(axis=-1).mean()


def cross_entropy_pull(g, x, q):
    """g: dL/d(the mean), one number. x, q (N, C): as above. Returns the gradient of x (N, C)."""
    e = exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return g * (p - q) / x.shape[0]


def package(x, q):
    """The package's cross-entropy, which takes class numbers."""
    return functional.cross_entropy(x, q.argmax(axis=-1))


rng = np.random.default_rng(6)


def scores_and_classes(rows, classes):
    """Scores, and one right class for each row."""
    x = rng.standard_normal((rows, classes))
    return x, np.eye(classes, dtype=np.int64)[rng.integers(0, classes, rows)]


CASES = [scores_and_classes(*shape) for shape in ((1, 4), (3, 5), (4, 4), (6, 2))]
large, right = scores_and_classes(5, 3)
EXTREMES = [
    # exp(1000) is infinite; exp(-780), the probability of the right class in row 0, is rounded to 0
    (large + 1000, right),
    (np.array([[-390.0, 390.0, 0.0], [390.0, 0.0, -390.0]]), np.eye(3, dtype=np.int64)[:2]),
    # the scores of row 0 are far below those of row 1
    (np.array([[0.0, 1.0, 2.0], [1001.0, 1002.0, 1000.0]]), np.eye(3, dtype=np.int64)[:2]),
]

EXERCISE = Exercise(
    parts=[
        Definition(
            cross_entropy,
            reference=package,
            cases=CASES,
            extremes=EXTREMES,
            wrong=[
                Wrong(
                    "the sign",
                    "return -(q",
                    "return (q",
                    "A logarithm of a probability is negative; the minus makes the loss positive.",
                ),
                Wrong(
                    "the largest score",
                    "shifted = x - x.max(axis=-1, keepdims=True)",
                    "shifted = x",
                    "It is right for small scores, but exp of large scores is infinite. Subtract "
                    "the largest score of each row first.",
                ),
                Wrong(
                    "one largest score for all rows",
                    "x.max(axis=-1, keepdims=True)",
                    "x.max()",
                    "You subtract the largest score of all rows. A row whose scores are far below "
                    "it gets exp(-large) = 0 for every class. Each row needs its own: axis=-1, "
                    "keepdims=True.",
                ),
                Wrong(
                    "the logarithm of a probability that was rounded to 0",
                    "log_p = shifted - log(exp(shifted).sum(axis=-1, keepdims=True))",
                    "log_p = log(exp(shifted) / exp(shifted).sum(axis=-1, keepdims=True))",
                    "It is right for small scores, but log(softmax) is infinite where softmax is "
                    "rounded to 0. Write log p = x - log(sum(exp(x))), with shifted scores.",
                ),
                Wrong(
                    "a mean over classes",
                    ".sum(axis=-1).mean()",
                    ".mean()",
                    "You also divide by the number of classes. Sum over the classes, and take the "
                    "mean over the rows.",
                ),
                Wrong(
                    "a sum in place of a mean",
                    ".sum(axis=-1).mean()",
                    ".sum()",
                    "You add up the losses of the rows. Take their mean: divide by N.",
                ),
                Wrong(
                    "an axis",
                    "(exp(shifted).sum(axis=-1,",
                    "(exp(shifted).sum(axis=0,",
                    "The probabilities of one row sum to 1: sum over the classes, the last axis.",
                ),
                Wrong(
                    "the logarithm",
                    "log_p = shifted - log(exp(shifted).sum(axis=-1, keepdims=True))",
                    "log_p = exp(shifted) / exp(shifted).sum(axis=-1, keepdims=True)",
                    "You average the probabilities. The loss averages their logarithms.",
                ),
            ],
        ),
        Pull(
            cross_entropy_pull,
            reference=package,
            cases=CASES,
            extremes=EXTREMES,
            inputs=("x", "q"),
            wrong=[
                Wrong(
                    "one largest score for all rows",
                    "x.max(axis=-1, keepdims=True)",
                    "x.max()",
                    "You subtract the largest score of all rows. A row whose scores are far below "
                    "it gets exp(-large) = 0 for every class. Each row needs its own: axis=-1, "
                    "keepdims=True.",
                ),
                Wrong(
                    "the sign",
                    "p - q",
                    "q - p",
                    "The gradient is p - q: a step against it raises the score of the right class.",
                ),
                Wrong(
                    "the mean",
                    " / x.shape[0]",
                    "",
                    "The loss is a mean over N rows, so its gradient is divided by N.",
                ),
                Wrong(
                    "one N too many",
                    "/ x.shape[0]",
                    "/ x.size",
                    "You divide by N C. The mean is over the N rows only.",
                ),
                Wrong(
                    "the target",
                    "p - q",
                    "p",
                    "That is the gradient of log(sum(exp(x))) alone; the target q is missing.",
                ),
                Wrong(
                    "the chain rule",
                    "g * (p - q)",
                    "0 * g + (p - q)",
                    "Multiply by g: the loss may be a part of a larger one.",
                ),
                Wrong(
                    "probabilities that do not sum to 1",
                    "e / e.sum(axis=-1, keepdims=True)",
                    "e",
                    "p is softmax(x), so exp has to be divided by its sum over the classes.",
                ),
                Wrong(
                    "the largest score",
                    "exp(x - x.max(axis=-1, keepdims=True))",
                    "exp(x)",
                    "It is right for small scores, but exp of large scores is infinite. Subtract "
                    "the largest score of each row first.",
                ),
            ],
        ),
    ],
    names=("exp", "log"),
    forbidden=("logsumexp",),
    hint="x.max(axis=-1, keepdims=True) is the largest score of each row.",
    read="tinycv/nn/softmax.py, log_softmax; tinycv/nn/losses.py, cross_entropy.",
)
