"""Gaussian mass of an interval, log [Φ(z + b) - Φ(z - b)], and its slope, without cancellation.

A uniform density with Gaussian noise added is such a difference (``Boxes`` in densities.py). Where
the interval is narrow, or far from 0, the two values of Φ are nearly equal, and their difference
would lose all digits. So there are two formulas, one for narrow and one for wide intervals, and
both keep full precision.

Runs on NumPy and CuPy arrays and on Tensors. Φ and φ are the distribution function and the density
of the standard Gaussian.
"""

from __future__ import annotations

import math

import numpy as np

from tinycv.data.components import Values
from tinycv.engine import ops
from tinycv.engine.backend import array_module
from tinycv.engine.ops import exp, log, where
from tinycv.engine.tensor import bare

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# Gauss-Legendre quadrature, whose nodes lie in [-1, 1], mapped to a mean over [0, 1]
NODES, SHARES = np.polynomial.legendre.leggauss(8)
NODES, SHARES = ((NODES + 1) / 2).tolist(), (SHARES / 2).tolist()


def noised_box(z: Values, b: Values, log_width: Values) -> tuple[Values, ...]:
    """log f + max(0, z - b)² / 2 and the slope of log f, for f(z) = Φ(z + b) - Φ(z - b), z >= 0,
    b > 0.

    f / 2b is the density of a box of half width b after noise of standard deviation 1 was added.
    "Narrow" means that the box is narrow compared with the noise, and that φ changes little over
    its width.
    log_width: log 2b, passed in because b may be too small or too large for a float.
    """
    narrow = (bare(b) < 1) & (bare(z) * bare(b) < 1)
    # on a GPU this check would have to wait for the device, so both formulas are computed
    if array_module(narrow) is np:
        if narrow.all():
            return narrow_box(z, b, log_width)
        if not narrow.any():
            return wide_box(z, b)
    thin = narrow_box(where(narrow, z, 0.0), where(narrow, b, 0.5), log_width)
    thick = wide_box(where(narrow, 2.0, z), where(narrow, 1.0, b))
    return tuple(where(narrow, n, w) for n, w in zip(thin, thick, strict=True))


def narrow_box(z: Values, b: Values, log_width: Values) -> tuple[Values, Values]:
    """``noised_box`` for narrow boxes: a mean over the width, u in [0, 1], by Gauss-Legendre
    quadrature.

    f = 2b φ(z - b) mean_u exp(-2 u z b + 2 u (1 - u) b²)
    slope of f: -2b z φ(z - b) mean_u exp(-2 u z b)
    """
    near, fall, square = z - b, -2 * z * b, 2 * b * b
    flat = curved = 0.0
    for u, share in zip(NODES, SHARES, strict=True):
        part = share * exp(u * fall)
        flat, curved = flat + part, curved + part * exp(u * (1 - u) * square)
    # not a minimum, whose second derivative is not that of near² where near is 0
    inner = where(bare(near) > 0, 0.0, near)
    return log_width + log(curved) - 0.5 * inner * inner - HALF_LOG_2PI, -z * flat / curved


def wide_box(z: Values, b: Values) -> tuple[Values, Values]:
    """``noised_box`` where b >= 1 or z b >= 1.

    Inside the box f is a sum of two terms of the same sign. Outside, with z + b >= 2,
    f = φ(z - b) [m(z - b) - m(z + b) exp(-2 z b)],   m(z) = Φ(-z) / φ(z), Mills' ratio
    """
    near, far, fall = z - b, z + b, -2 * z * b  # fall: log φ(far) / φ(near)
    outside, inner = bare(near) > 0, ops.clip(near, -50.0, 0.0)  # below -50, φ is 0 in float64
    mass = 0.5 * (ops.erf(far * 0.5**0.5) - ops.erf(inner * 0.5**0.5))
    ratio = where(
        outside, mills(ops.maximum(near, 0.0)) - exp(fall) * far_mills(ops.maximum(far, 2.0)), 1.0
    )
    rest = where(outside, log(ratio) - HALF_LOG_2PI, log(mass))
    # φ(near) / f
    edge = where(outside, 1 / ratio, exp(-0.5 * inner * inner - HALF_LOG_2PI) / mass)
    return rest, ops.expm1(fall) * edge


def mills(z: Values) -> Values:
    """Mills' ratio Φ(-z) / φ(z) for z >= 0; for large z, where 1 - erf would cancel to 0, by
    ``far_mills``."""
    near = ops.minimum(z, 2.5)
    tail = 0.5 - 0.5 * ops.erf(near * 0.5**0.5)
    return where(
        z > 2.5, far_mills(ops.maximum(z, 2.5)), exp(0.5 * near * near + HALF_LOG_2PI) * tail
    )


def far_mills(z: Values) -> Values:
    """Mills' ratio Φ(-z) / φ(z) for z >= 2, by Laplace's continued fraction
    1/(z + 1/(z + 2/(z + 3/(z + ...)))).

    Its error in float64 is 3e-10 at z = 2 and 2e-12 from z = 2.5 on; in float32 it is 3e-7 and
    1e-8, plus rounding.
    """
    fraction = z
    for k in range(20 if z.dtype == np.float32 else 40, 0, -1):
        fraction = z + k / fraction
    return 1 / fraction
