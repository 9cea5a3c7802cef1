"""Φ(z + b) - Φ(z - b), the mass of a standard Gaussian on an interval, and the slope of its log.

A uniform density with Gaussian noise added is such a difference (``Boxes`` in densities.py). Where
the interval is narrow, or far out, the two Φs are nearly equal and subtracting them would cancel.
So there are two formulas, for narrow and wide intervals, and both keep their digits.

Runs on NumPy and CuPy arrays and on Tensors. Φ and φ are the standard Gaussian's distribution
function and density.
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
# Gauss and Legendre's rule is for a mean over [-1, 1]; here its nodes are places in [0, 1]
NODES, SHARES = np.polynomial.legendre.leggauss(8)
NODES, SHARES = ((NODES + 1) / 2).tolist(), (SHARES / 2).tolist()


def noised_box(z: Values, b: Values, log_width: Values) -> tuple[Values, ...]:
    """Of f(z) = Φ(z + b) - Φ(z - b), z >= 0, b > 0: log f + max(0, z - b)² / 2, and the slope of
    log f.

    So f / 2b is a box of half width b after noise of standard deviation 1. Where it is narrow
    beside the noise, or the noise changes little over its width, a difference of Φs would cancel.
    log_width: log 2b, for a b that is beyond the floats.
    """
    narrow = (bare(b) < 1) & (bare(z) * bare(b) < 1)
    # on a GPU to look would be to wait
    if array_module(narrow) is np:
        if narrow.all():
            return narrow_box(z, b, log_width)
        if not narrow.any():
            return wide_box(z, b)
    thin = narrow_box(where(narrow, z, 0.0), where(narrow, b, 0.5), log_width)
    thick = wide_box(where(narrow, 2.0, z), where(narrow, 1.0, b))
    return tuple(where(narrow, n, w) for n, w in zip(thin, thick, strict=True))


def narrow_box(z: Values, b: Values, log_width: Values) -> tuple[Values, Values]:
    """``noised_box`` as a mean over its width, for u in [0, 1], by Gauss and Legendre's rule:

    f = 2b φ(z - b) mean_u exp(-2 u z b + 2 u (1 - u) b²)
    its slope: -2b z φ(z - b) mean_u exp(-2 u z b)
    """
    near, fall, square = z - b, -2 * z * b, 2 * b * b
    flat = curved = 0.0
    for u, share in zip(NODES, SHARES, strict=True):
        part = share * exp(u * fall)
        flat, curved = flat + part, curved + part * exp(u * (1 - u) * square)
    inner = ops.minimum(near, 0.0)
    return log_width + log(curved) - 0.5 * inner * inner - HALF_LOG_2PI, -z * flat / curved


def wide_box(z: Values, b: Values) -> tuple[Values, Values]:
    """``noised_box`` where b >= 1 or z b >= 1. Inside, f is a sum of two shares of one sign;
    outside,

    f = φ(z - b) [m(z - b) - m(z + b) exp(-2 z b)],   m(z) = Φ(-z) / φ(z), Mills' ratio,  z + b >= 2
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
    """Φ(-z) / φ(z) for z >= 0; far out 1 - erf would cancel to 0."""
    near = ops.minimum(z, 2.5)
    tail = 0.5 - 0.5 * ops.erf(near * 0.5**0.5)
    return where(
        z > 2.5, far_mills(ops.maximum(z, 2.5)), exp(0.5 * near * near + HALF_LOG_2PI) * tail
    )


def far_mills(z: Values) -> Values:
    """Φ(-z) / φ(z) for z >= 2 by Laplace's continued fraction, 1/(z + 1/(z + 2/(z + 3/(z + ...)))):
    in float64 right to 3e-10 at 2 and 2e-12 from 2.5 on, in float32 to 3e-7 and 1e-8 and what
    rounding adds."""
    fraction = z
    for k in range(20 if z.dtype == np.float32 else 40, 0, -1):
        fraction = z + k / fraction
    return 1 / fraction
