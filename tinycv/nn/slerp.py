"""Slerp: spherical linear interpolation between two vectors, along an arc (Shoemake 1985).

    slerp(a, b; t) = (sin((1 - t) Ω) a + sin(t Ω) b) / sin Ω        Ω: the angle between a and b

The share t goes from 0, at a, to 1, at b.  Why not a straight line?  The length of Gaussian noise
is nearly constant, about √D for D numbers.  The middle of a line is shorter, and a generator or a
denoiser saw little noise of that length in training.  An arc between vectors of equal length keeps
the length.

Used in: adversarial/arithmetic.py.   See at work: demos/full/24_text_to_image.py.
Shapes: a and b have one shape, and each is read as one vector; S shares t.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinycv.engine.arguments import shown
from tinycv.engine.backend import array_module, to_numpy
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.inputs import Examples, batch, numbers

SMALLEST_ANGLE = 1e-4  # below it an arc is as good as a line


def slerp(
    a: Examples, b: Examples, shares: Sequence[float] | np.ndarray, name: str = "slerp"
) -> Examples:
    """The points of the arc from a to b at these shares t (S,) of its angle: (S, *shape), in the
    dtype of a; a Tensor, without a gradient, if a is one.

    a, b: floats of one shape, such as the noise (C, H, W) of two images. ValueError if one of them
    is zero, or if they point in opposite directions, because then no arc is the shortest.
    """
    first, second = bare(batch(a, f"{name}: a")), bare(batch(b, f"{name}: b"))
    if first.shape != second.shape:
        raise ValueError(
            f"{name}: a has shape {tuple(first.shape)} and b {tuple(second.shape)}; they must have "
            "one shape"
        )
    xp = array_module(first)
    if array_module(second) is not xp:
        raise TypeError(f"{name}: b is {shown(b)}; it must be on the device of a")
    t = np.array(numbers(shares, f"{name}: shares", low=0, high=1))
    angle = _angle(to_numpy(first).ravel(), to_numpy(second).ravel(), name)
    if angle < SMALLEST_ANGLE:
        of_a, of_b, divisor = 1 - t, t, 1.0  # a line
    else:
        of_a, of_b, divisor = np.sin((1 - t) * angle), np.sin(t * angle), np.sin(angle)
    column = (len(t),) + (1,) * first.ndim
    of_a, of_b = xp.asarray(of_a).reshape(column), xp.asarray(of_b).reshape(column)
    points = ((of_a * first + of_b * second) / float(divisor)).astype(first.dtype)  # (S, *shape)
    return Tensor(points) if isinstance(a, Tensor) else points


def _angle(a: np.ndarray, b: np.ndarray, name: str) -> float:
    """The angle between two vectors (D,), from 0 to π."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    if not np.isfinite(lengths):
        raise ValueError(f"{name}: a or b is not finite; both must hold finite numbers")
    if lengths == 0:
        raise ValueError(f"{name}: a or b is the zero vector, which has no direction")
    angle = np.arccos(np.clip(a @ b / lengths, -1, 1))
    if np.pi - angle < SMALLEST_ANGLE:
        raise ValueError(f"{name}: a and b point in opposite directions; there is no shortest arc")
    return float(angle)
