"""One step of an LSTM

    i, f, g, o = the four quarters of  W_ih x + W_hh h + b          (in this order, as in PyTorch)
    c' = sigmoid(f) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')                         Hochreiter & Schmidhuber 1997; Gers et al. 2000

The cell c is the memory. The forget gate f decides how much of it is kept, the input gate i how
much of the candidate g is written, and the output gate o how much of the cell is shown as h. All
four are computed at once, in an array of width 4H, and then split.

Shapes: B examples, I width of x, H width of h and of c; weights are (out, in).
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import sigmoid, split, tanh
from tinycv.sequence.lstm import lstm_step


def lstm_cell(x, h, c, weight_ih, weight_hh, bias):
    """x (B, I), h and c (B, H), weight_ih (4H, I), weight_hh (4H, H), bias (4H,). Returns h', c',
    (B, H) each, in this order. split(y, 4, axis=-1) gives the quarters of y."""
    i, f, g, o = split(x @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def package(x, h, c, weight_ih, weight_hh, bias):
    """The package's step, which has a second bias, and also returns the gates."""
    *_, c, h = lstm_step(x, h, c, weight_ih, weight_hh, bias)
    return h, c


normal = np.random.default_rng(9).standard_normal


def case(b, i, h, size=1.0):
    """Arguments of these sizes. size: how large x, h and c are."""
    shapes = (b, i), (b, h), (b, h), (4 * h, i), (4 * h, h), (4 * h,)
    x, h, c, *others = [normal(shape) for shape in shapes]
    return size * x, size * h, size * c, *others


EXERCISE = Exercise(
    parts=[
        Definition(
            lstm_cell,
            reference=package,
            cases=[case(2, 3, 4), case(1, 2, 1), case(3, 1, 2)],
            extremes=[case(3, 2, 2, size=1000.0)],
            wrong=[
                Wrong(
                    "the order of the gates",
                    "i, f, g, o = split",
                    "i, f, o, g = split",
                    "The quarters are i, f, g, o. You take g and o the other way round.",
                ),
                Wrong(
                    "the input and the forget gate are exchanged",
                    "sigmoid(f) * c + sigmoid(i) * tanh(g)",
                    "sigmoid(i) * c + sigmoid(f) * tanh(g)",
                    "The forget gate f multiplies the old cell, the input gate i the candidate.",
                ),
                Wrong(
                    "the candidate",
                    "tanh(g)",
                    "sigmoid(g)",
                    "The candidate is no gate: it goes through tanh, so that the cell can also "
                    "decrease.",
                ),
                Wrong(
                    "tanh of the cell",
                    "sigmoid(o) * tanh(c)",
                    "sigmoid(o) * c",
                    "The cell goes through tanh before it is shown: h' = sigmoid(o) tanh(c').",
                ),
                Wrong(
                    "the old cell",
                    "    c = sigmoid(f) * c + sigmoid(i) * tanh(g)\n"
                    "    return sigmoid(o) * tanh(c), c",
                    "    new = sigmoid(f) * c + sigmoid(i) * tanh(g)\n"
                    "    return sigmoid(o) * tanh(c), new",
                    "h' shows the new cell c'. You show the old one.",
                ),
                Wrong(
                    "the order of the results",
                    "return sigmoid(o) * tanh(c), c",
                    "return c, sigmoid(o) * tanh(c)",
                    "You return c', h'. Return h' first.",
                ),
                Wrong(
                    "the output gate",
                    "sigmoid(o) * tanh(c)",
                    "tanh(c)",
                    "The output gate o is missing.",
                ),
                Wrong(
                    "the forget gate",
                    "sigmoid(f) * c + ",
                    "c + ",
                    "The forget gate is missing. (The LSTM of 1997 had none.)",
                ),
                Wrong(
                    "the forget gate is turned round",
                    "sigmoid(f) * c + ",
                    "(1 - sigmoid(f)) * c + ",
                    "The forget gate says how much is kept, not how much is forgotten.",
                ),
                Wrong(
                    "the sigmoid of the forget gate",
                    "sigmoid(f) * c",
                    "f * c",
                    "A gate is between 0 and 1: f has to go through sigmoid.",
                ),
            ],
        )
    ],
    names=("sigmoid", "split", "tanh"),
    hint="one sum of two products and the bias gives (B, 4H); split it, and write the two lines.",
    read="tinycv/sequence/lstm.py, lstm_step.",
)
