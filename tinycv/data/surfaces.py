"""Moebius band and Swiss roll: data on a 2-D manifold in 3-D space, with exact distances to it.

    X(u, v) = c(u) + v d(u),   |d| = 1,   u in [0, turn],   |v| <= half
                                                            a ruled surface: a rod that moves
    dA = |X_u × X_v| du dv                                  its element of area

    moebius      c = (cos u, sin u, 0)              half a turn per round
                 d = (cos(u/2) cos u, cos(u/2) sin u, sin(u/2))
    swiss_roll   c = (u cos u, 0, u sin u) / 7.07   u from 3π/2 to 9π/2
                 d = (0, 1, 0)

The manifold hypothesis says that pictures fill only a thin sheet in the space of all pixel values.
The lecture's manifold is that sheet of images, in a space with one axis per pixel, which nobody can
draw.  Here the sheet is a surface in three dimensions, so that it can be drawn, and so that the
distance of a sample from it is known.

Points are drawn uniformly over the area; uniform u and v would not do that.  Because d has length
1, the point nearest to x on the rod at u is v = (x - c(u)) · d(u), clipped to the rod.  Only the u
of the nearest rod has to be searched for.
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
    """A ruled surface in space. ``middle(u)`` and ``rod(u)`` are c and d, functions of u (N,) that
    return (N, 3). ``area(u, v)`` is dA / (du dv)."""

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
        """n random points, uniform over the area: (n, 3) float32."""
        return self.points(*self.sample_places(n, rng)).astype(np.float32)

    def sample_places(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """u and v of n such points, by rejection sampling: (u, v) is uniform in its rectangle and
        is accepted with a probability proportional to the area element there."""
        n = drawn("Surface.sample", n, rng)
        u, v = self._centres(400, 40)
        most = 1.05 * self.area(u, v).max()  # 5 % above the largest on a grid
        us, vs = [u[:0]], [v[:0]]
        while sum(map(len, us)) < n:
            u = rng.uniform(self.start, self.end, 2 * n)
            v = rng.uniform(-self.half, self.half, 2 * n)
            accepted = rng.uniform(0, most, 2 * n) < self.area(u, v)
            us.append(u[accepted])
            vs.append(v[accepted])
        return np.concatenate(us)[:n], np.concatenate(vs)[:n]

    def nearest(self, x: np.ndarray, rods: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """u and v of the surface point nearest to each point of x (N, 3): the best of ``rods``
        rods, then a golden-section search between its neighbours.

        It is right if the distance has only one minimum between those neighbours; on the two
        surfaces here 400 rods are enough for that.
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
            a_is_nearer = self._to_rod(x, a)[0] < self._to_rod(x, b)[0]
            low, high = np.where(a_is_nearer, low, a), np.where(a_is_nearer, b, high)
        u = (low + high) / 2
        return u, self._to_rod(x, u)[1]

    def distance(self, x: np.ndarray) -> np.ndarray:
        """The distance of each point of x (N, 3) from the surface: (N,)."""
        x = points_in_space(x, "Surface.distance: x")
        u, _ = self.nearest(x)
        return np.sqrt(self._to_rod(x, u)[0])

    def cell(self, x: np.ndarray, along: int, across: int) -> np.ndarray:
        """The cell of each point of x (N, 3), by the nearest surface point: (N,) numbers from 0, in
        a grid of ``along`` cells in u times ``across`` cells in v."""
        along = size(along, "Surface.cell: along", 1)
        across = size(across, "Surface.cell: across", 1)
        u, v = self.nearest(points_in_space(x, "Surface.cell: x"))
        # after each full round a Moebius band continues with its two edges exchanged, so v changes
        # its sign
        if self.closed:
            rounds = np.floor((u - self.start) / (self.end - self.start))
            u, v = u - rounds * (self.end - self.start), np.where(rounds % 2, -v, v)
        i = np.clip((u - self.start) / (self.end - self.start) * along, 0, along - 1).astype(int)
        j = np.clip((v / self.half + 1) / 2 * across, 0, across - 1).astype(int)
        return i * across + j

    def cell_shares(self, along: int, across: int, finer: int = 16) -> np.ndarray:
        """The share of the area that each cell has: (along * across,), by the midpoint rule with
        finer x finer points per cell."""
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
        """The squared distance of x (N, 3) from the rod at u (N,), and v of the nearest point on
        that rod."""
        away, rod = x - self.middle(u), self.rod(u)
        v = np.clip((away * rod).sum(axis=-1), -self.half, self.half)
        return ((away - v[:, None] * rod) ** 2).sum(axis=-1), v

    def _centres(self, along: int, across: int) -> tuple[np.ndarray, np.ndarray]:
        """u and v of the centres of along x across cells, (along * across,) each."""
        u = self.start + (self.end - self.start) * (np.arange(along) + 0.5) / along
        v = self.half * (2 * (np.arange(across) + 0.5) / across - 1)
        return np.repeat(u, across), np.tile(v, along)


def points_in_space(x: np.ndarray, what: str) -> np.ndarray:
    """Points (N, 3) as float64; ValueError for NaN or infinity, for which ``nearest`` would return
    the first rod."""
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
    """A Moebius band: a strip of width 2 half, bent to a circle of radius 1 and joined after half a
    turn, so that it has one side and one edge."""
    # with half = 1 the strip would touch itself at the centre of the circle
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
    """A Swiss roll: a rolled sheet, which is a spiral of one and a half turns in x and z, and 2
    half wide in y. Its outer radius is 2."""
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
