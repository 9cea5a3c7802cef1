"""2-D toy densities by name: eight_gaussians, checkerboard, two_moons, ring, grid and others.

All are exact (densities.py): samples, log p and score.  Papers test their samplers on these.

name              p                                     entropy, nats      source
gaussian          N(mean, covariance)                   ½ log det(2πe C)
two_modes         0.8 N((5, 5), I) + 0.2 N((-5, -5), I)                    Song & Ermon 2019, 3.2.2
ring, grid        8 and 25 small Gaussians                                 Lin et al. 2018 (PacGAN)
eight_gaussians   8 larger ones                         2.832              FFJORD
checkerboard      every other square of a board         log 32             FFJORD
corners           four right angles                     2.947              SurVAE
two_moons         two interlocking half circles, blurred
rings             circles around the origin, blurred
picture           the ink of a picture, a small Gaussian at each pixel

PacGAN: section 4.1. FFJORD: Grathwohl et al. 2019. SurVAE: Nielsen et al. 2020.
"""

from __future__ import annotations

import math

import numpy as np

from tinycv.data.densities import Boxes, Mixture
from tinycv.data.inputs import MOST, real_numbers, whole
from tinycv.engine.arguments import number, size
from tinycv.engine.tensor import ArrayLike

MOST_SQUARES = 1000  # per side of a board: half of a million squares are boxes


def gaussian(mean: ArrayLike, covariance: ArrayLike) -> Mixture:
    """One Gaussian: mean (D,), covariance (D, D)."""
    mean, covariance = (
        real_numbers(mean, "gaussian: mean"),
        real_numbers(covariance, "gaussian: covariance"),
    )
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"gaussian: mean has shape {mean.shape} and covariance {covariance.shape}; they must "
            "be (D,) and (D, D)"
        )
    return Mixture([mean], covariance=covariance)


def two_modes(distance: float = 5.0, weight: float = 0.8) -> Mixture:
    """Two Gaussians of sigma 1: one of the given weight at (distance, distance), and one with the
    rest of the weight at (-distance, -distance). Between them there is almost no density."""
    distance = number(distance, "two_modes: distance", low=0, below=MOST)
    weight = number(weight, "two_modes: weight", 0, 1)
    return Mixture([[distance, distance], [-distance, -distance]], 1.0, [weight, 1 - weight])


def ring(modes: int = 8, radius: float = 1.0, sigma: float = 0.01) -> Mixture:
    """Gaussians around a circle, the first at (radius, 0)."""
    modes, sigma = size(modes, "ring: modes", 1), number(sigma, "ring: sigma", above=0, below=MOST)
    radius = number(radius, "ring: radius", low=0, below=MOST)
    angle = 2 * math.pi * np.arange(modes) / modes
    return Mixture(radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1), sigma)


def grid(side: int = 5, step: float = 2.0, sigma: float = 0.05) -> Mixture:
    """side x side Gaussians in a square grid around the origin, ``step`` apart: by default at -4,
    -2, 0, 2 and 4 in both directions."""
    side, sigma = size(side, "grid: side", 1), number(sigma, "grid: sigma", above=0, below=MOST)
    step = number(step, "grid: step", above=0, below=MOST)
    ticks = step * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), sigma)


def eight_gaussians() -> Mixture:
    """FFJORD's eight Gaussians: a ring of radius 4 and sigma 1/2, everything divided by 1.414."""
    return ring(8, 4 / 1.414, 0.5 / 1.414)


def two_moons(sigma: float = 0.1, points: int = 100) -> Mixture:
    """Half circles around (0, 0) and (1, 1/2), blurred: ``points`` Gaussians along each. By default
    neighbours are closer than a third of sigma, so the Gaussians merge into a line."""
    sigma = number(sigma, "two_moons: sigma", above=0, below=MOST)
    points = size(points, "two_moons: points", 1)
    angle = math.pi * (np.arange(points) + 0.5) / points
    moon = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return Mixture(np.concatenate([moon, [1.0, 0.5] - moon]), sigma)


def rings(radii: ArrayLike = (1.0, 2.0, 3.0), sigma: float = 0.15, points: int = 120) -> Mixture:
    """Circles around the origin, all equally probable, blurred: ``points`` Gaussians on each. By
    default neighbours on the largest circle are as far apart as sigma, so the Gaussians merge into
    a line."""
    radii = real_numbers(radii, "rings: radii")
    if radii.ndim != 1 or not radii.size or not (radii > 0).all():
        raise ValueError(
            f"rings: radii has shape {radii.shape}; it must hold one number above 0 for each circle"
        )
    sigma = number(sigma, "rings: sigma", above=0, below=MOST)
    points = size(points, "rings: points", 1)
    circle = ring(points, 1.0, 1.0).means
    return Mixture(np.concatenate([radius * circle for radius in radii]), sigma)


def checkerboard(squares: int = 4, side: float = 2.0) -> Boxes:
    """Every other square of a board of squares x squares around the origin. The default is FFJORD's
    board, from -4 to 4."""
    squares = whole(squares, "checkerboard: squares", 1, MOST_SQUARES)
    side = number(side, "checkerboard: side", above=0, below=MOST)
    places = np.array([(i, j) for i in range(squares) for j in range(squares) if (i + j) % 2 == 0])
    low = side * (places - squares / 2)
    return Boxes(low, low + side)


def corners() -> Boxes:
    """Four right angles around the origin, from 1 to 4 in both directions: each is a vertical and a
    horizontal bar of 3 x 1 that overlap at the corner."""
    signs = np.array([(i, j) for i in (-1, 1) for j in (-1, 1)], np.float64)
    ends = [(signs * near, signs * far) for near, far in (((1, 1), (4, 2)), ((1, 1), (2, 4)))]
    near, far = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    return Boxes(np.minimum(near, far), np.maximum(near, far))


def picture(ink: np.ndarray, width: float = 6.0, blur: float = 0.5) -> Mixture:
    """A picture as a density: a Gaussian of sigma ``blur`` pixels at each pixel of ``ink`` (H, W)
    that is above 0, weighted by its value.

    The picture is ``width`` wide, upright, and centred at the origin.
    """
    ink = real_numbers(ink, "picture: ink")
    if ink.ndim != 2 or not (ink >= 0).all() or not ink.any():
        raise ValueError(
            f"picture: ink has shape {ink.shape}; it must be (H, W), with values of at least 0 "
            "that are not all 0"
        )
    width = number(width, "picture: width", above=0, below=MOST)
    blur = number(blur, "picture: blur", above=0, below=MOST)
    rows, columns = np.nonzero(ink)
    pixel = width / ink.shape[1]
    centre = (np.array(ink.shape) - 1) / 2
    means = pixel * np.stack([columns - centre[1], centre[0] - rows], axis=-1)
    return Mixture(means, blur * pixel, ink[rows, columns])
