"""GELU in float32 on a CPU: value and slope from two polynomials, without erf and exp.

Let a = |x|, and Q(a) = 1 - Φ(a) the probability that a standard normal number is above a (the upper
tail).  φ is the normal density.  Then

    GELU(x)  = x Φ(x)                    =  max(x, 0) - a Q(a)
    GELU'(x) = Φ(x) + x φ(x)             =  R(a) where x < 0,  1 - R(a) where x > 0
    with R(a) = Q(a) - a φ(a)            =  Q(a) (1 - a φ(a) / Q(a))

So Q and R are all that is needed.  They are computed from two polynomials, p of degree 8 and m of
degree 6:

    Q(a) = 1 / p(a)⁸        R(a) = Q(a) m(a)

The coefficients were fitted for this file by Lawson's algorithm on 0 <= a <= 6.5, which makes the
largest absolute errors of Q and R as small as possible.  With the coefficients below, which are
rounded to float32, these errors are 4.8e-8 and 6.0e-7 in exact arithmetic.

Why the power 8?  Q falls like exp(-a²/2).  No short polynomial does that, but the eighth root of
1 / Q grows slowly enough for one.  A higher power would multiply the rounding error of p further.
With rounding, the error of GELU is below 5e-7 up to |x| = 8, and that of its slope below 1e-6
(tests/nn/test_gelu.py).

Read first: activation.py.
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.blocks import in_blocks


def constants(*values: float) -> list[np.ndarray]:
    """The numbers as arrays without axes, which NumPy uses as they are. A Python number would be
    converted again at every call."""
    return [np.array(value, np.float32) for value in values]


# Coefficients of p and of -m, the highest power first
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
MINUS_M = constants(
    -1.24853685e-4,
    2.57500358e-3,
    -2.21730244e-2,
    1.10810883e-1,
    6.3610888e-1,
    7.97937568e-1,
    -1.00000086,
)
ONE, HALF = constants(1, 0.5)
SIGN = np.array(-(2**31), np.int32)  # the bit that holds the sign of a float32
# A larger |x| is replaced by this one, at which a Q(a) is 2e-31: p(a)⁸ could overflow.
FAR = 16


def gelu32(x: np.ndarray, y: np.ndarray, slope: np.ndarray | None = None) -> None:
    """y = GELU(x) and slope = GELU'(x), elementwise, for arrays (n,) of float32."""

    def work(at: slice) -> None:
        part, q = x[at], y[at]  # y holds Q(a) until the last line
        a = np.abs(part)
        is_far = not a.max() <= FAR  # True also if a number is NaN
        if is_far:
            np.minimum(a, FAR, out=a)
        upper_tail(a, q)
        if slope is not None:
            slope_of(part, a, q, slope[at])
        q *= a
        # a becomes max(x, 0), computed as (x + |x|) / 2, which is faster than np.maximum.
        if is_far:  # in halves, since x + |x| could overflow
            np.multiply(np.abs(part), HALF, a)
            a += part * HALF
            if slope is not None:
                slope[at] += part * 0  # NaN at infinity, as in the definition
        else:
            a += part
            a *= HALF
        np.subtract(a, q, q)  # max(x, 0) - a Q(a)

    with np.errstate(invalid="ignore", under="ignore"):
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


def slope_of(x: np.ndarray, a: np.ndarray, q: np.ndarray, out: np.ndarray) -> None:
    """out = GELU'(x) = 1/2 ± (1/2 - R(a)), with + where x > 0 and - where x < 0. q: Q(a)."""
    polynomial(MINUS_M, a, out)
    out *= q  # -R
    np.add(out, HALF, out)
    # Changes the sign where x is negative: its sign bit is flipped (xor) if that of x is set.
    bits = out.view(np.int32)
    bits ^= x.view(np.int32) & SIGN
    np.add(out, HALF, out)
