"""One step of an RNN

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)                Elman 1990

The network reads x and updates its hidden state h, which is its only memory. The formula is for one
example, with x and h as columns. Here they are batches with one example per row, so W x becomes
x W^T: a weight is stored as (out, in), as in PyTorch.

Shapes: B examples, I width of x, H width of h.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import tanh
from tinycv.sequence.rnn import rnn_step as package


def rnn_step(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """x (B, I), h (B, H), weight_ih (H, I), weight_hh (H, H), biases (H,). Returns h' (B, H)."""
    return tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)


normal = np.random.default_rng(8).standard_normal


def case(b, i, h, size=1.0):
    """Arguments of these sizes. size: how large x and h are."""
    shapes = (b, i), (b, h), (h, i), (h, h), (h,), (h,)
    x, h, *others = [normal(shape) for shape in shapes]
    return size * x, size * h, *others


EXERCISE = Exercise(
    parts=[
        Definition(
            rnn_step,
            reference=package,
            cases=[case(3, 3, 3), case(2, 4, 3), case(1, 2, 5), case(4, 1, 1)],
            extremes=[case(3, 2, 2, size=1000.0)],
            wrong=[
                Wrong(
                    "a transposed matrix: weight_ih",
                    "x @ weight_ih.T",
                    "x @ weight_ih",
                    "weight_ih is (H, I), so x (B, I) is multiplied by its transpose.",
                ),
                Wrong(
                    "a transposed matrix: weight_hh",
                    "h @ weight_hh.T",
                    "h @ weight_hh",
                    "weight_hh is (H, H), so the wrong product has the right shape. As for x, h is "
                    "multiplied by the transpose.",
                ),
                Wrong(
                    "the order of the products",
                    "x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh",
                    "weight_ih @ x + bias_ih + weight_hh @ h + bias_hh",
                    "W x is for one column x. The rows of a batch are multiplied from the right: "
                    "x W^T.",
                ),
                Wrong(
                    "tanh is missing",
                    "tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)",
                    "x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh",
                    "Without tanh the whole network would be one linear map.",
                ),
                Wrong(
                    "tanh of each part",
                    "tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)",
                    "tanh(x @ weight_ih.T + bias_ih) + tanh(h @ weight_hh.T + bias_hh)",
                    "You add two tanh. Add the two parts first, and take tanh once.",
                ),
                Wrong(
                    "the bias of x",
                    "+ bias_ih",
                    "",
                    "bias_ih is missing.",
                ),
                Wrong(
                    "the bias of h",
                    "+ bias_hh",
                    "",
                    "bias_hh is missing.",
                ),
                Wrong(
                    "the memory",
                    " + h @ weight_hh.T",
                    "",
                    "The old hidden state h is missing, so the network remembers nothing.",
                ),
            ],
        )
    ],
    names=("tanh",),
    hint="x @ weight_ih.T is (B, I) times (I, H).",
    read="tinycv/sequence/rnn.py, rnn_step; tinycv/nn/linear.py, linear.",
)
