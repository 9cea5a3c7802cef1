"""GELU in float32 on a CPU: the value from a polynomial, without erf; the slope from the value.

Let a = |x|, and Q(a) = 1 - Φ(a) the probability that a standard normal number is above a (the upper
tail).  φ is the normal density.  Then

    GELU(x)  = x Φ(x)            =  max(x, 0) - a Q(a),         Q(a) = 1 / p(a)⁸
    GELU'(x) = Φ(x) + x φ(x)     =  GELU(x) / x + x φ(x)

p is a polynomial of degree 8.  Its coefficients were fitted for this file by Lawson's algorithm on
0 <= a <= 6.5, which makes the largest absolute error of Q as small as possible.  With the
coefficients below, which are rounded to float32, it is 4.8e-8 in exact arithmetic.

Why the power 8?  Q falls like exp(-a²/2).  No short polynomial does that, but the eighth root of
1 / Q grows slowly enough for one.  A higher power would multiply the rounding error of p further.
With rounding, the error of GELU is below 5e-7 up to |x| = 8, and that of its slope below 1e-6
(tests/nn/test_gelu.py).

The slope is computed in the backward pass.  So between the two passes only x and y are kept, which
the layers before and after mostly keep too, and no third array of this size.

Read first: activation.py.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from tinycv.engine.blocks import in_blocks


def constants(*values: float) -> list[np.ndarray]:
    """The numbers as arrays without axes, which NumPy uses as they are. A Python number would be
    converted again at every call."""
    return [np.array(value, np.float32) for value in values]


# Coefficients of p, the highest power first
P = constants(
    2.63991619e-6,
    -1.17034076e-5,
    7.56650833e-5,
    1.9522463e-4,
    9.72700789e-4,
    9.43732682e-3,
    4.88192556e-2,
    1.08761924e-1,
    1.09050774,
)
ONE, HALF, MINUS_HALF, DENSITY_AT_0 = constants(1, 0.5, -0.5, 1 / sqrt(2 * pi))
# A larger |x| is replaced by this one, at which a Q(a) is 2e-31: p(a)⁸ could overflow.
FAR = 16
# Below this |x|, Φ(x) is 1/2 to the last bit. TINY is its square.
NEAR_0, TINY = 1e-18, 1e-36


def gelu32(x: np.ndarray, y: np.ndarray) -> None:
    """y = GELU(x), elementwise, for arrays (n,) of float32."""

    def work(at: slice) -> None:
        part, q = x[at], y[at]  # y holds Q(a) until the last line
        a = np.abs(part)
        is_far = not a.max() <= FAR  # True also if a number is NaN
        if is_far:
            np.minimum(a, FAR, out=a)
        upper_tail(a, q)
        q *= a
        # a becomes max(x, 0), computed as (x + |x|) / 2, which is faster than np.maximum.
        if is_far:  # in halves, since x + |x| could overflow
            np.multiply(np.abs(part), HALF, a)
            a += part * HALF
        else:
            a += part
            a *= HALF
        np.subtract(a, q, q)  # max(x, 0) - a Q(a)

    with np.errstate(invalid="ignore", under="ignore"):
        in_blocks(np, work, len(x))


def gelu32_pull(x: np.ndarray, y: np.ndarray, g: np.ndarray, gx: np.ndarray) -> None:
    """gx = g GELU'(x), elementwise, from y = GELU(x)."""

    def work(at: slice) -> None:
        part, slope = x[at], gx[at]
        np.square(part, slope)
        has_tiny = not slope.min() > TINY  # True also if a number is NaN
        np.multiply(slope, MINUS_HALF, slope)
        np.exp(slope, slope)
        np.multiply(slope, DENSITY_AT_0, slope)  # φ(x)
        slope *= part
        cdf = y[at] / part  # Φ(x)
        if has_tiny:  # 0 / 0 is NaN, and the y of a tiny x may have lost digits
            cdf[np.abs(part) < NEAR_0] = HALF
        slope += cdf
        slope *= g[at]

    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        in_blocks(np, work, len(x))


def polynomial(coefficients: list[np.ndarray], x: np.ndarray, out: np.ndarray) -> None:
    """out = the polynomial at x, by Horner's rule."""
    np.multiply(x, coefficients[0], out)
    for coefficient in coefficients[1:-1]:
        np.add(out, coefficient, out)
        np.multiply(out, x, out)
    np.add(out, coefficients[-1], out)


def upper_tail(a: np.ndarray, out: np.ndarray) -> None:
    """out = Q(a) = 1 / p(a)⁸."""
    polynomial(P, a, out)
    for _ in range(3):
        np.square(out, out)
    np.divide(ONE, out, out)
