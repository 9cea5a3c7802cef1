"""Sinusoidal positions: a pattern of sines and cosines for each position

    PE(pos, 2i)     = sin(pos / 10000^(2i/d))               Vaswani et al. 2017, section 3.5
    PE(pos, 2i + 1) = cos(pos / 10000^(2i/d))               i = 0 ... d/2 - 1

Attention alone treats its tokens as a set, so a vector is added to each token that depends on its
position. Each pair (sin, cos) is like the hand of a clock: the first pair turns fast and separates
neighbours, the last one has barely moved after thousands of tokens.

Sines and cosines alternate: column 0 is a sine, column 1 a cosine, column 2 a sine.

Shapes: positions (T,), for example 0, 1, 2, ...; d is the width, an even number.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import Tensor, cos, sin, stack
from tinycv.sequence.positions import sinusoidal


def sinusoidal_positions(positions, width):
    """positions (T,): floats. width: d, a whole number. Returns (T, width) in the dtype of
    positions."""
    columns = []
    for i in range(width // 2):
        angle = positions / 10000 ** (2 * i / width)  # (T,)
        columns += [sin(angle), cos(angle)]
    return stack(columns, axis=1)  # (T, width)


def table_of_package(positions, width):
    """The package's table, in the dtype of the positions."""
    table = sinusoidal(np, positions.numpy(), width)
    return Tensor(table.astype(positions.dtype))


EXERCISE = Exercise(
    parts=[
        Definition(
            sinusoidal_positions,
            reference=table_of_package,
            cases=[
                (np.array([0.0, 1.0, 2.0]), 2),
                (np.arange(5.0), 6),
                (np.array([3.0, 100.0, 4000.0]), 8),
            ],
            order=1,
            wrong=[
                Wrong(
                    "sines and cosines in two halves",
                    "    return stack(columns, axis=1)",
                    "    return stack(columns[0::2] + columns[1::2], axis=1)",
                    "The numbers are right, but all sines come first, then all cosines. They "
                    "should alternate: sin, cos, sin, cos. (Some programs do use halves; the paper "
                    "does not.)",
                ),
                Wrong(
                    "sine and cosine exchanged",
                    "[sin(angle), cos(angle)]",
                    "[cos(angle), sin(angle)]",
                    "Column 0 is a cosine. The even columns are sines, the odd ones cosines.",
                ),
                Wrong(
                    "half the exponent",
                    "(2 * i / width)",
                    "(i / width)",
                    "Your exponent is i/d, half of what it should be. The exponent is 2i/d, where "
                    "i counts the pairs.",
                ),
                Wrong(
                    "the sign of the exponent",
                    "positions / 10000",
                    "positions * 10000",
                    "The angle is pos divided by 10000^(2i/d). You multiply, so the hands turn "
                    "ever faster.",
                ),
                Wrong(
                    "the base",
                    "10000 ** (2 * i / width)",
                    "(10000 * 2 * i / width + 1)",
                    "The frequencies fall along a line. 10000 is raised to the power 2i/d, so "
                    "that they fall by a constant factor.",
                ),
                Wrong(
                    "an angle for each column",
                    "cos(angle)",
                    "cos(positions / 10000 ** ((2 * i + 1) / width))",
                    "Column 2i + 1 has the angle of column 2i: the sine and the cosine of a pair "
                    "share one angle. You divide by 10000^((2i + 1)/d) there.",
                ),
                Wrong(
                    "a transposed table",
                    "axis=1",
                    "axis=0",
                    "Your table is (width, T). One row per position: (T, width).",
                ),
                Wrong(
                    "only sines",
                    "cos(angle)",
                    "sin(angle)",
                    "Both numbers of a pair are sines. The odd columns are cosines.",
                ),
            ],
        )
    ],
    names=("sin", "cos", "stack", "concatenate", "arange"),
    hint="the angles of pair i are one division; stack(columns, axis=1) puts columns side by side.",
    read="tinycv/sequence/positions.py: its docstring and the function sinusoidal.",
)
