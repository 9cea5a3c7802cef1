"""Surfaces in space: data that fill no volume, as the manifold hypothesis has it of pictures.

    X(u, v) = c(u) + v d(u),   |d| = 1,   u in [0, turn],   |v| <= half
                                                            a ruled surface: a rod that moves
    dA = |X_u × X_v| du dv                                  its element of area

    moebius      c = (cos u, sin u, 0)              half a turn in each round
                 d = (cos(u/2) cos u, cos(u/2) sin u, sin(u/2))
    swiss_roll   c = (u cos u, 0, u sin u) / 7.07   u from 3π/2 to 9π/2
                 d = (0, 1, 0)

Points are drawn evenly over the area, which uniform u and v would not do.  Because d has length 1,
the nearest place to x on the rod of u is v = (x - c(u)) · d(u), held within the rod: what is left
to find is the u of the nearest rod.
See at work: demos/16_manifold.py.   Shapes: N points.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinycv.data.inputs import MOST, drawn
from tinycv.engine.arguments import number, number_kind, shown, size

GOLDEN = (math.sqrt(5) - 1) / 2


class Surface:
    """A ruled surface in space. ``middle(u)`` and ``rod(u)``, arrays (N,) to (N, 3): c and d;
    area(u, v): dA / (du dv)."""

    def __init__(
        self,
        middle: Callable,
        rod: Callable,
        area: Callable,
        start: float,
        end: float,
        half: float,
        closed: bool,
    ):
        self.middle, self.rod, self.area = middle, rod, area
        self.start, self.end, self.half, self.closed = start, end, half, closed

    def points(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """X(u, v): (N, 3) float64, for u and v (N,)."""
        return self.middle(u) + v[:, None] * self.rod(u)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points, evenly over the area: (n, 3) float32."""
        return self.points(*self.sample_places(n, rng)).astype(np.float32)

    def sample_places(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """u and v of n such points: drawn over the rectangle, and kept in proportion to the area
        there."""
        n = drawn("Surface.sample", n, rng)
        u, v = self._centres(400, 40)
        most, us, vs = 1.05 * self.area(u, v).max(), [u[:0]], [v[:0]]
        while sum(map(len, us)) < n:
            u, v = (
                rng.uniform(self.start, self.end, 2 * n),
                rng.uniform(-self.half, self.half, 2 * n),
            )
            kept = rng.uniform(0, most, 2 * n) < self.area(u, v)
            us.append(u[kept])
            vs.append(v[kept])
        return np.concatenate(us)[:n], np.concatenate(vs)[:n]

    def nearest(self, x: np.ndarray, rods: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """u and v of the point nearest to each of x (N, 3): the best of ``rods``, then golden
        section beside it.

        Right where the distance has one minimum between three rods, which 400 of them see to on
        these surfaces.
        """
        x, rods = points_in_space(x, "Surface.nearest: x"), size(rods, "Surface.nearest: rods", 3)
        ticks = np.linspace(self.start, self.end, rods + 1)
        best = np.stack([self._to_rod(x, np.full(len(x), u))[0] for u in ticks]).argmin(axis=0)
        step = ticks[1] - ticks[0]
        low, high = ticks[best] - step, ticks[best] + step
        if not self.closed:
            low, high = np.maximum(low, self.start), np.minimum(high, self.end)
        for _ in range(50):
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            left = self._to_rod(x, a)[0] < self._to_rod(x, b)[0]
            low, high = np.where(left, low, a), np.where(left, b, high)
        u = (low + high) / 2
        return u, self._to_rod(x, u)[1]

    def distance(self, x: np.ndarray) -> np.ndarray:
        """How far each of x (N, 3) is from the surface: (N,)."""
        x = points_in_space(x, "Surface.distance: x")
        u, _ = self.nearest(x)
        return np.sqrt(self._to_rod(x, u)[0])

    def cell(self, x: np.ndarray, along: int, across: int) -> np.ndarray:
        """In which of along x across cells the nearest point lies: (N,) numbers from 0."""
        along, across = (
            size(along, "Surface.cell: along", 1),
            size(across, "Surface.cell: across", 1),
        )
        u, v = self.nearest(points_in_space(x, "Surface.cell: x"))
        # past the end, a Moebius band goes on upside down
        if self.closed:
            rounds = np.floor((u - self.start) / (self.end - self.start))
            u, v = u - rounds * (self.end - self.start), np.where(rounds % 2, -v, v)
        i = np.clip((u - self.start) / (self.end - self.start) * along, 0, along - 1).astype(int)
        j = np.clip((v / self.half + 1) / 2 * across, 0, across - 1).astype(int)
        return i * across + j

    def cell_shares(self, along: int, across: int, finer: int = 16) -> np.ndarray:
        """Each cell's share of the area: (along * across,), by midpoints."""
        along, across, finer = (
            size(value, f"Surface.cell_shares: {name}", 1)
            for name, value in (("along", along), ("across", across), ("finer", finer))
        )
        area = self.area(*self._centres(along * finer, across * finer)).reshape(
            along, finer, across, finer
        )
        share = area.sum(axis=(1, 3)).ravel()
        return share / share.sum()

    def _to_rod(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The squared distance from x (N, 3) to the rod of u (N,), and where on it the nearest
        point lies."""
        away, rod = x - self.middle(u), self.rod(u)
        v = np.clip((away * rod).sum(axis=-1), -self.half, self.half)
        return ((away - v[:, None] * rod) ** 2).sum(axis=-1), v

    def _centres(self, along: int, across: int) -> tuple[np.ndarray, np.ndarray]:
        u = self.start + (self.end - self.start) * (np.arange(along) + 0.5) / along
        v = self.half * (2 * (np.arange(across) + 0.5) / across - 1)
        return np.repeat(u, across), np.tile(v, along)


def points_in_space(x: np.ndarray, what: str) -> np.ndarray:
    """Points (N, 3) in float64, all finite: the nearest place to NaN would be the first rod."""
    if not isinstance(x, np.ndarray) or number_kind(x) not in ("f", "i", "u"):
        raise TypeError(
            f"{what} is {shown(x)}; it must be a plain NumPy array of real numbers (N, 3)"
        )
    if x.ndim != 2 or x.shape[1] != 3:
        raise ValueError(f"{what} has shape {x.shape}; it must be (N, 3)")
    if not np.isfinite(x).all():
        raise ValueError(f"{what} holds NaN or infinity; all coordinates must be finite")
    return np.asarray(x, np.float64)


def moebius(half: float = 0.4) -> Surface:
    """A strip of width 2 half, bent to a circle of radius 1 and joined after half a turn: it has
    one side and one edge."""
    # at 1 the strip would meet itself in the middle
    half = number(half, "moebius: half", above=0, below=1)

    def rod(u: np.ndarray) -> np.ndarray:
        return np.stack(
            [np.cos(u / 2) * np.cos(u), np.cos(u / 2) * np.sin(u), np.sin(u / 2)], axis=-1
        )

    def area(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.sqrt((1 + v * np.cos(u / 2)) ** 2 + v * v / 4)

    return Surface(
        lambda u: np.stack([np.cos(u), np.sin(u), 0 * u], axis=-1),
        rod,
        area,
        0,
        2 * math.pi,
        half,
        closed=True,
    )


def swiss_roll(half: float = 1.0) -> Surface:
    """A rolled sheet: a spiral of one turn and a half in x and z, 2 half wide in y; the outer
    radius is 2."""
    half, scale = number(half, "swiss_roll: half", above=0, below=MOST), 1 / 7.07
    return Surface(
        lambda u: scale * np.stack([u * np.cos(u), 0 * u, u * np.sin(u)], axis=-1),
        lambda u: np.stack([0 * u, 1 + 0 * u, 0 * u], axis=-1),
        lambda u, v: scale * np.sqrt(1 + u * u),
        1.5 * math.pi,
        4.5 * math.pi,
        half,
        closed=False,
    )
