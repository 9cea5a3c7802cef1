"""Two tests of memory: what must be known at the end was said long before.

    adding     0.31 0.82 0.47 ... 0.65 0.12      which two of these numbers are marked,
                 0    1    0  ...   1    0       and what is their sum?
    copying    3 7 1 5 ... 0 0 0 ... 9 9 9       say the first ten symbols again when the 9 comes

The first is experiment 4 of Hochreiter & Schmidhuber 1997, who draw from U[-1, 1], mark otherwise,
and ask for another target; both are drawn here as in Bai, Kolter & Koltun 2018 and their code.
Each has a score that needs no memory at all, the line that a network must get below: 1/6 for adding
(say 1 always), 10 ln 8 / (T + 20) nats for copying (say 0 until the 9, then guess).
"""

import math

import numpy as np

from tinycv.data import inputs

ADDING_WITHOUT_MEMORY = 1 / 6  # the variance of a sum of two numbers from U[0, 1]
SYMBOLS, RECALLED, GO = 8, 10, 9


def adding(n: int, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x (n, steps, 2) float32, a number from U[0, 1] and a mark, 0 or 1, at each step; y (n,), the
    sum of the two marked.

    The two marks fall on any two steps.
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
    """x and y (n, wait + 20) int64: ten symbols from 1 to 8, ``wait`` - 1 zeros, and eleven times
    9; y is 0 but for its last ten, which are the symbols again. ``wait`` is the papers' T; the
    first 9 stands at place T + 9, counted from 0."""
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
    """The cross-entropy, in nats a step, of knowing when to speak but not what to say."""
    wait = inputs.whole(wait, "copying_without_memory: wait", 1)
    return RECALLED * math.log(SYMBOLS) / (wait + 2 * RECALLED)
