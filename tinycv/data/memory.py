"""Adding and copying problems: can an RNN use what it read many steps before?

    adding     0.31 0.82 0.47 ... 0.65 0.12      two of the numbers are marked with 1:
                 0    1    0  ...   1    0       what is their sum?
    copying    3 7 1 5 ... 0 0 0 ... 9 9 9       repeat the first ten symbols once the 9 comes

The adding problem is experiment 4 of Hochreiter & Schmidhuber 1997, who draw from U[-1, 1], mark
the numbers differently and have another target. Both problems follow Bai, Kolter & Koltun 2018 and
their code. Each has a loss that is reached without any memory, and that a network has to beat: 1/6
for adding (always answer 1) and 10 ln 8 / (T + 20) nats for copying (answer 0 until the 9, then
guess).
"""

import math

import numpy as np

from tinycv.data import inputs

ADDING_WITHOUT_MEMORY = 1 / 6  # the variance of a sum of two numbers from U[0, 1]
SYMBOLS, RECALLED, GO = 8, 10, 9


def adding(n: int, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The adding problem. Returns x (n, steps, 2) float32, with a number from U[0, 1] and a mark, 0
    or 1, at each step; and y (n,), the sum of the two marked numbers.

    The two marks are at any two different steps.
    """
    n, rng = inputs.whole(n, "adding: n"), inputs.generator(rng, "adding: rng")
    steps = inputs.whole(steps, "adding: steps")
    if steps < 2:
        raise ValueError(f"adding: steps={steps}: there must be at least 2, for two marked numbers")
    values = rng.uniform(size=(n, steps)).astype(np.float32)
    first = rng.integers(steps, size=n)
    second = (first + rng.integers(1, steps, size=n)) % steps  # any step but the first one
    marks = np.zeros((n, steps), np.float32)
    rows = np.arange(n)
    marks[rows, first] = marks[rows, second] = 1
    return np.stack([values, marks], axis=-1), values[rows, first] + values[rows, second]


def copying(n: int, wait: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The copying problem. Returns x and y (n, wait + 20) int64.

    x is ten symbols from 1 to 8, ``wait`` - 1 zeros, and eleven times 9. y is 0, except for its
    last ten numbers, which repeat the symbols. ``wait`` is T in the papers; the first 9 is at
    position T + 9, counted from 0.
    """
    n, rng = inputs.whole(n, "copying: n"), inputs.generator(rng, "copying: rng")
    wait = inputs.whole(wait, "copying: wait")
    if wait < 1:
        raise ValueError(
            f"copying: wait={wait}: there must be at least 1 step between the symbols and their "
            "recall"
        )
    symbols = rng.integers(1, SYMBOLS + 1, size=(n, RECALLED))
    x, y = np.zeros((2, n, wait + 2 * RECALLED), np.int64)
    x[:, :RECALLED] = y[:, -RECALLED:] = symbols
    x[:, -RECALLED - 1 :] = GO
    return x, y


def copying_without_memory(wait: int) -> float:
    """The cross-entropy, in nats per step, of a model that knows when the symbols are due but can
    only guess them."""
    wait = inputs.whole(wait, "copying_without_memory: wait", 1)
    return RECALLED * math.log(SYMBOLS) / (wait + 2 * RECALLED)
