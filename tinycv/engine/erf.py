"""erf, the error function, and the normal distribution function, neither of which NumPy has.

    erf(x) = 2/sqrt(pi) ∫ exp(-t^2) dt from 0 to x          normal_cdf(x) = (1 + erf(x/sqrt(2))) / 2

float64: the rational minimax approximations of W. J. Cody, "Rational Chebyshev approximations for
the error function", Math. Comp. 23 (1969), with the coefficients of his SPECFUN routine CALERF.
Only his first two regions are used.  The third, x > 4, is for erfc: there 1 - erf is below 2e-8,
and the formula of the second region has a relative error of 1e-12 of that, up to x = 6, where erf
is 1.  The relative error of erf is below 1e-15.

float32: erf(x) = tanh(x P(x^2)).  The polynomial P of degree 6 was fitted for this file by Lawson's
algorithm on |x| <= 4, with weights that make the relative error of erf minimax (9.5e-8).  A short
polynomial is enough because atanh(erf(x)) is odd, smooth and close to 1.13 x + 0.10 x^3, and tanh
is fast because NumPy's float32 tanh is vectorised.  With rounding, the error is below 2e-7 absolute
and 3e-7 relative.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Coefficients, the highest power first. For |x| <= 0.46875: erf = x A(x^2) / B(x^2).
# For larger |x|: 1 - erf = exp(-x^2) C(x) / D(x).
_A = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_B = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_C = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_D = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_P = (
    1.418522723689683e-07,
    -5.668476449452544e-06,
    8.763733252414747e-05,
    -6.197846729234105e-04,
    -1.9183078548891202e-04,
    1.0276905578488951e-01,
    1.1283792743070953e0,
)

# The size of a block, in numbers: a block and its scratch memory fit into the cache of a core.
_BLOCK = 32768


def erf(x: np.ndarray) -> np.ndarray:
    """erf(x), elementwise. Floats keep their dtype; other numbers become float64."""
    return _in_blocks(x, _erf32, _erf64)


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """The probability that a number from N(0, 1) is below x, elementwise. Floats keep their dtype;
    other numbers become float64."""
    return _in_blocks(x, _cdf32, _cdf64)


def _in_blocks(x: np.ndarray, rule32: Callable, rule64: Callable) -> np.ndarray:
    """Apply one of the two rules to x, block by block, in float32 or float64. The result has the
    shape and dtype of x."""
    x = np.asarray(x)
    if x.dtype.kind == "c":
        raise TypeError(f"erf: x is of {x.dtype}; it must hold real numbers")
    single = x.dtype in (np.float16, np.float32)
    flat = np.ascontiguousarray(x, np.float32 if single else np.float64).reshape(-1)
    out = np.empty_like(flat)
    rule = rule32 if single else rule64
    scratch = np.empty((3, min(_BLOCK, flat.size)), flat.dtype)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        rule(part, out[start : start + _BLOCK], *scratch[:, : part.size])
    return out.reshape(x.shape).astype(x.dtype if x.dtype.kind == "f" else np.float64, copy=False)


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The polynomial at x, by Horner's rule, written into ``out``."""
    np.multiply(x, coefficients[0], out=out)
    for coefficient in coefficients[1:-1]:
        out += coefficient
        out *= x
    out += coefficients[-1]
    return out


def _erf32(
    x: np.ndarray, out: np.ndarray, square: np.ndarray, p: np.ndarray, _: np.ndarray
) -> None:
    """erf(x) = tanh(x P(x^2)); see the top of this file."""
    # Clipping keeps x^2 from overflowing. At 4.5 the result is already exactly 1.
    np.clip(x, -4.5, 4.5, out=out)
    np.square(out, out=square)
    out *= _polynomial(_P, square, p)
    np.tanh(out, out=out)


def _erf64(x: np.ndarray, out: np.ndarray, y: np.ndarray, p: np.ndarray, q: np.ndarray) -> None:
    """Cody's two fractions of polynomials. The first is for |x| <= 0.46875, where the second, which
    computes 1 - erf, would lose digits."""
    np.clip(np.abs(x, out=y), 0, 6, out=y)  # 1 - erf(6) is 2e-17
    np.divide(_polynomial(_C, y, p), _polynomial(_D, y, q), out=out)
    np.square(y, out=p)
    out *= np.exp(np.negative(p, out=q), out=q)
    np.subtract(1, out, out=out)
    small = y <= 0.46875
    if small.any():
        np.square(y, out=p)
        y *= _polynomial(_A, p, q)
        np.divide(y, _polynomial(_B, p, q), out=out, where=small)
    np.copysign(out, x, out=out)


def _cdf32(x: np.ndarray, out: np.ndarray, *scratch: np.ndarray) -> None:
    """(1 + erf(x / √2)) / 2."""
    _erf32(x * np.float32(0.5**0.5), out, *scratch)
    out += 1
    out *= 0.5


def _cdf64(x: np.ndarray, out: np.ndarray, *scratch: np.ndarray) -> None:
    """(1 + erf(x / √2)) / 2."""
    _erf64(x * 0.5**0.5, out, *scratch)
    out += 1
    out *= 0.5
