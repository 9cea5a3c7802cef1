"""Bouncing balls: an exact simulator of hard balls in a box, drawn as videos with captions.

    free flight      x(t) = x(0) + v t
    a wall           the velocity across the wall changes its sign
    two balls        v_1 + J/m_1 n,  v_2 - J/m_2 n,   J = 2 ⟨v_2 - v_1, n⟩ / (1/m_1 + 1/m_2)
                     n: the unit vector from ball 1 to ball 2, at the moment when they touch

This is a data set for video models in which the laws of motion are known.  So a demo can measure
whether a generated film obeys them.  m_1, m_2 are the masses of two balls and v_1, v_2 their
velocities; J is the impulse that they exchange.  No collision loses energy, and only the walls
change the total momentum.

The simulation is event driven.  Many simulators take small steps and let the balls overlap a little
before they notice a collision.  Here the time of the next collision is the root of a linear
equation (a wall) or of a quadratic one (two balls).  All balls fly to exactly this moment, the
velocities change, and the search for the next collision starts.  Energy is conserved up to
rounding, and a film that runs backwards obeys the same laws.

    start = random_balls(100, np.random.default_rng(0))
    film = simulate(start, frames=8)
    videos = draw_balls(film)                        # (100, 8, 1, 16, 16)

In one dimension a ball moves along the middle row of the frame.  A caption names the speed and the
direction of a single ball at the start, "a fast ball going up" or "一个快球向上运动".

Read next: show/ball_parser.py, which reads centres and radii from the frames again.
Shapes: N films, T frames, K balls, D axes of motion (1 or 2), H x W pixels.
Positions and radii are in pixels, velocities in pixels per frame: x to the right, y downwards, with
(0, 0) at the top left corner of the frame.  The box has the size of the frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import choice, number, shown, sizes

SPEED, RADIUS = (0.4, 1.6), (1.5, 2.5)  # by default: pixels per frame along each axis, and pixels
MOST_BALLS, MOST_SIDE = 16, 1024
MOST_EVENTS = 100_000  # collisions in one film; more are a mistake
TRIES = 1000  # places drawn for balls before the box counts as full
CHUNK = 1024  # images drawn at a time

SPEEDS = ("slow", "fast")
DIRECTIONS = ("right", "down", "left", "up")  # clockwise, by quarters of a turn
RANGE_OF = {"slow": (0.4, 0.8), "fast": (1.2, 1.6)}  # pixels per frame, of captioned balls
SLOWER_THAN = 1.0  # a ball that is slower than this counts as slow
SPREAD = np.pi / 9  # a captioned ball flies within 20 degrees of the direction of its caption
CHINESE = {
    "slow": "慢",
    "fast": "快",
    "right": "向右",
    "down": "向下",
    "left": "向左",
    "up": "向上",
}
LANGUAGES = ("en", "zh")


@dataclass(frozen=True, eq=False)
class Balls:
    """The states of K balls in N boxes at T moments, one frame apart.

    position, velocity: (N, T, K, D) float64. radius, mass: (N, K). box: (height, width).
    bounced (N, T, K): how many collisions a ball had since the moment before.
    """

    position: np.ndarray
    velocity: np.ndarray
    radius: np.ndarray
    mass: np.ndarray
    box: tuple[int, int] = (16, 16)
    bounced: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("position", "velocity", "radius", "mass"):
            values = inputs.real_numbers(getattr(self, name), f"Balls: {name}")
            object.__setattr__(self, name, values)
        shape = self.position.shape
        if (
            len(shape) != 4
            or self.velocity.shape != shape
            or shape[3] not in (1, 2)
            or not shape[1]
        ):
            raise ValueError(
                f"Balls: position has shape {shape} and velocity {self.velocity.shape}; both must "
                "be (N, T, K, D), with T at least 1, and D 1 or 2"
            )
        for name in ("radius", "mass"):
            values = getattr(self, name)
            if values.shape != (shape[0], shape[2]) or not (values > 0).all():
                raise ValueError(
                    f"Balls: {name} has shape {values.shape}; it must be {(shape[0], shape[2])}, "
                    "one number above 0 for each ball"
                )
        object.__setattr__(self, "box", box_of(self.box, "Balls: box"))
        none_yet = np.zeros(shape[:3], np.int64)
        bounced = none_yet if self.bounced is None else self.bounced
        bounced = inputs.array(bounced, "Balls: bounced", "whole numbers (N, T, K)", "iu")
        if bounced.shape != shape[:3]:
            raise ValueError(
                f"Balls: bounced has shape {bounced.shape}; it must be {shape[:3]}, (N, T, K)"
            )
        object.__setattr__(self, "bounced", bounced)

    def __len__(self) -> int:
        """The number of films."""
        return len(self.position)

    @property
    def frames(self) -> int:
        return self.position.shape[1]

    @property
    def axes(self) -> int:
        """1 if the balls move along a line, 2 if they move in the plane."""
        return self.position.shape[3]

    @property
    def energy(self) -> np.ndarray:
        """The kinetic energy of all balls of a box: (N, T)."""
        return 0.5 * (self.mass[:, None, :, None] * self.velocity**2).sum(axis=(2, 3))

    @property
    def momentum(self) -> np.ndarray:
        """The momentum of all balls of a box: (N, T, D)."""
        return (self.mass[:, None, :, None] * self.velocity).sum(axis=2)

    @property
    def centres(self) -> np.ndarray:
        """(x, y) of every ball in the frame: (N, T, K, 2). On a line, y is the middle row."""
        if self.axes == 2:
            return self.position
        middle = np.full(self.position.shape, self.box[0] / 2)
        return np.concatenate([self.position, middle], axis=-1)

    def films(self, which: Any) -> Balls:
        """Some of the films, by a slice, an array of numbers or an array of bools."""
        return self._part((which,))

    def moments(self, which: slice) -> Balls:
        """Some of the moments, by a slice."""
        return self._part((slice(None), which), of_balls=(slice(None),))

    def _part(self, index: tuple, of_balls: tuple | None = None) -> Balls:
        of_balls = index if of_balls is None else of_balls
        assert self.bounced is not None
        return replace(
            self,
            position=self.position[index],
            velocity=self.velocity[index],
            radius=self.radius[of_balls],
            mass=self.mass[of_balls],
            bounced=self.bounced[index],
        )

    def backwards(self) -> Balls:
        """The last moment with all velocities reversed: the start of the film that runs
        backwards."""
        last = self.moments(slice(-1, None))
        return replace(last, velocity=-last.velocity, bounced=None)


# ── the start ────────────────────────────────────────────────────────────────────────────────────


def random_balls(
    n: int,
    rng: np.random.Generator,
    balls: int = 1,
    axes: int = 2,
    box: tuple[int, int] = (16, 16),
    speed: tuple[float, float] = SPEED,
    radius: tuple[float, float] = RADIUS,
    density: float = 1 / np.pi,
) -> Balls:
    """The starts of n films: places, speeds and radii are uniform. Balls do not overlap each other
    or a wall.

    axes: 1, along a line, or 2. speed: the range along each axis, in pixels per frame; both signs
    are equally likely. radius: its range. The mass is density times the area of the disc; by
    default it is the square of the radius.
    """
    n = inputs.drawn("random_balls", n, rng)
    balls = inputs.whole(balls, "random_balls: balls", 1, MOST_BALLS)
    axes = inputs.whole(axes, "random_balls: axes", 1, 2)
    box = box_of(box, "random_balls: box")
    density = number(density, "random_balls: density", above=0, below=1e9)
    least, most = range_of(radius, "random_balls: radius", above=0)
    radii = rng.uniform(least, most, (n, balls))
    low, high = range_of(speed, "random_balls: speed", low=0)
    velocity = rng.uniform(low, high, (n, balls, axes)) * rng.choice([-1.0, 1.0], (n, balls, axes))
    return Balls(
        _places(radii, box, axes, rng)[:, None],
        velocity[:, None],
        radii,
        density * np.pi * radii**2,
        box,
    )


def _places(
    radii: np.ndarray, box: tuple[int, int], axes: int, rng: np.random.Generator
) -> np.ndarray:
    """Random places (N, K, D) of balls with these radii (N, K). Films in which balls overlap are
    drawn again until there are none."""
    size = _size(box, axes)  # (D,)
    if radii.size and 2 * radii.max() >= min(box):
        raise ValueError(
            f"random_balls: radius goes up to {radii.max():.3g}, and the box is {box[0]} x {box[1]}"
            " pixels; a ball must be smaller than the box"
        )
    places = np.empty((*radii.shape, axes))
    again = np.arange(len(radii))
    for _ in range(TRIES):
        r = radii[again, :, None]
        places[again] = r + rng.random((*r.shape[:2], axes)) * (size - 2 * r)
        again = again[_overlap(places[again], radii[again])]
        if not len(again):
            return places
    raise ValueError(
        f"random_balls: {radii.shape[1]} balls of radius up to {radii.max():.3g} find no place in a"
        f" box of {box[0]} x {box[1]} pixels; draw fewer or smaller balls, or enlarge the box"
    )


def _overlap(position: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Do two balls of a film overlap? (N,)"""
    found = np.zeros(len(position), bool)
    for i, j in combinations(range(radius.shape[1]), 2):
        distance = np.linalg.norm(position[:, i] - position[:, j], axis=-1)
        found |= distance < radius[:, i] + radius[:, j]
    return found


# ── the laws ─────────────────────────────────────────────────────────────────────────────────────


def simulate(balls: Balls, frames: int) -> Balls:
    """The film of ``frames`` moments that starts with the last moment of ``balls``."""
    if not isinstance(balls, Balls):
        raise TypeError(
            f"simulate: balls is {shown(balls)}; it must be Balls, as random_balls makes"
        )
    frames = inputs.whole(frames, "simulate: frames", 1, 100_000)
    size = _size(balls.box, balls.axes)
    x, v = balls.position[:, -1].copy(), balls.velocity[:, -1].copy()  # (N, K, D)
    r = balls.radius[..., None]
    # 1e-9: rounding may let a ball that touches a wall or another ball overlap it a little.
    if (x < r - 1e-9).any() or (x > size - r + 1e-9).any() or _overlap(x, r[..., 0] - 1e-9).any():
        raise ValueError(
            "simulate: balls overlap each other, or a wall of the box, at the start; they may touch"
        )
    position, velocity, bounced = [x.copy()], [v.copy()], [np.zeros(x.shape[:2], np.int64)]
    for _ in range(frames - 1):
        bounced.append(_fly(x, v, balls.radius, balls.mass, size))
        position.append(x.copy())
        velocity.append(v.copy())
    return replace(
        balls,
        position=np.stack(position, axis=1),
        velocity=np.stack(velocity, axis=1),
        bounced=np.stack(bounced, axis=1),
    )


def _fly(
    x: np.ndarray, v: np.ndarray, radius: np.ndarray, mass: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Moves all balls by one frame, in place, from collision to collision. Returns the number of
    collisions of each ball, (N, K)."""
    bounced = np.zeros(radius.shape, np.int64)
    left = np.ones(len(x))  # the part of the frame that is left, per film
    films = np.arange(len(x))  # the films in which a part of the frame is still left
    for _ in range(MOST_EVENTS):
        if not len(films):
            return bounced
        walls = _times_to_walls(x[films], v[films], radius[films], size)  # (n, K D)
        pairs = _times_to_pairs(x[films], v[films], radius[films])  # (n, pairs)
        times = np.concatenate([walls, pairs], axis=1)
        event = times.argmin(axis=1)
        time = times[np.arange(len(films)), event]
        happens = time <= left[films]
        step = np.where(happens, time, left[films])
        x[films] += v[films] * step[:, None, None]
        left[films] -= step
        films, event = films[happens], event[happens]
        hits_wall = event < walls.shape[1]
        _reflect(x, v, radius, size, films[hits_wall], event[hits_wall], bounced)
        _collide(x, v, mass, films[~hits_wall], event[~hits_wall] - walls.shape[1], bounced)
    raise ValueError(f"simulate: more than {MOST_EVENTS} collisions in one frame; is a ball stuck?")


def _times_to_walls(
    x: np.ndarray, v: np.ndarray, radius: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """When each ball reaches a wall along each axis: (N, K D), infinity for a ball at rest."""
    r = radius[..., None]
    gap = np.where(v > 0, size - r - x, x - r)  # to the wall ahead
    time = np.divide(gap.clip(0), np.abs(v), out=np.full(v.shape, np.inf), where=v != 0)
    return time.reshape(len(x), -1)


def _times_to_pairs(x: np.ndarray, v: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """When the balls of each pair touch: (N, pairs), infinity if they never do.

    |d + u t|² = R² for the distance d, its velocity u and the sum R of the radii is a quadratic
    equation, a t² + 2 b t + c = 0. Balls approach each other if b < 0, and its first root is
    c / (√(b² - a c) - b), which stays exact for balls that nearly touch.
    """
    pairs = list(combinations(range(radius.shape[1]), 2))
    times = np.full((len(x), len(pairs)), np.inf)
    for column, (i, j) in enumerate(pairs):
        d, u = x[:, j] - x[:, i], v[:, j] - v[:, i]
        a, b = (u * u).sum(axis=-1), (d * u).sum(axis=-1)
        c = (d * d).sum(axis=-1) - (radius[:, i] + radius[:, j]) ** 2
        square = b * b - a * c
        meets = (b < 0) & (square >= 0)
        root = np.sqrt(square, out=np.zeros(len(x)), where=meets)
        times[:, column] = np.divide(c.clip(0), root - b, out=times[:, column], where=meets)
    return times


def _reflect(
    x: np.ndarray,
    v: np.ndarray,
    radius: np.ndarray,
    size: np.ndarray,
    films: np.ndarray,
    event: np.ndarray,
    bounced: np.ndarray,
) -> None:
    """Balls that have reached a wall fly back, in place. event: ball * D + axis."""
    ball, axis = np.divmod(event, len(size))
    forwards, r = v[films, ball, axis] > 0, radius[films, ball]
    x[films, ball, axis] = np.where(forwards, size[axis] - r, r)  # exactly at the wall
    v[films, ball, axis] *= -1
    bounced[films, ball] += 1


def _collide(
    x: np.ndarray,
    v: np.ndarray,
    mass: np.ndarray,
    films: np.ndarray,
    event: np.ndarray,
    bounced: np.ndarray,
) -> None:
    """Two balls that touch exchange the impulse J n of the formula at the top of this file. event:
    the number of the pair."""
    for number_of_pair, (i, j) in enumerate(combinations(range(mass.shape[1]), 2)):
        here = films[event == number_of_pair]
        d = x[here, j] - x[here, i]
        n = d / np.linalg.norm(d, axis=-1, keepdims=True)
        approach = ((v[here, j] - v[here, i]) * n).sum(axis=-1, keepdims=True)
        m1, m2 = mass[here, i, None], mass[here, j, None]
        impulse = 2 * m1 * m2 / (m1 + m2) * approach * n
        v[here, i] += impulse / m1
        v[here, j] -= impulse / m2
        bounced[here, i] += 1
        bounced[here, j] += 1


def _size(box: tuple[int, int], axes: int) -> np.ndarray:
    """The lengths of the box along x, or along x and y."""
    return np.array([box[1], box[0]][:axes], np.float64)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


def draw_balls(balls: Balls) -> np.ndarray:
    """Videos (N, T, 1, H, W) float32: white discs on black, with anti-aliased edges."""
    if not isinstance(balls, Balls):
        raise TypeError(f"draw_balls: balls is {shown(balls)}; it must be Balls")
    n, frames, count = balls.position.shape[:3]
    radius = np.broadcast_to(balls.radius[:, None], (n, frames, count))
    centres = balls.centres.reshape(n * frames, count, 2)
    discs = draw_discs(centres, radius.reshape(n * frames, count), balls.box)
    return discs.reshape(n, frames, 1, *balls.box)


def draw_discs(centres: np.ndarray, radius: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """Images (N, H, W) float32 of discs with centres (N, K, 2), (x, y), and radius (N, K).

    A disc covers the share clip(1/2 + radius - distance, 0, 1) of a pixel, with the distance from
    its centre to the middle of the pixel. So a ball that moves by a hundredth of a pixel changes
    the image a little.
    """
    height, width = box_of(box, "draw_discs: box")
    centres = inputs.array(centres, "draw_discs: centres", "numbers (N, K, 2)", "iuf", ndim=3)
    radius = inputs.array(radius, "draw_discs: radius", "numbers (N, K)", "iuf", ndim=2)
    if centres.shape != (*radius.shape, 2):
        raise ValueError(
            f"draw_discs: centres has shape {centres.shape} and radius {radius.shape}; they must "
            "be (N, K, 2) and (N, K)"
        )
    images = np.zeros((len(centres), height, width), np.float32)
    for start in range(0, len(centres), CHUNK):
        part = slice(start, start + CHUNK)
        for ball in range(radius.shape[1]):
            dx = np.arange(width) + 0.5 - centres[part, ball, 0, None]  # (N, W)
            dy = np.arange(height) + 0.5 - centres[part, ball, 1, None]  # (N, H)
            distance = np.sqrt(dx[:, None] ** 2 + dy[:, :, None] ** 2)  # (N, H, W)
            cover = (0.5 + radius[part, ball, None, None] - distance).clip(0, 1)
            images[part] += cover.astype(np.float32)
    return images.clip(0, 1)


# ── captions ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Motion:
    """How a ball starts: its speed, "slow" or "fast", and its direction."""

    speed: str
    direction: str

    def __post_init__(self) -> None:
        choice(self.speed, "Motion: speed", SPEEDS)
        choice(self.direction, "Motion: direction", DIRECTIONS)


ALL_MOTIONS = tuple(Motion(*pair) for pair in product(SPEEDS, DIRECTIONS))


def motion_caption(motion: Motion, language: str = "en") -> str:
    """The caption of a motion: "a fast ball going up", or "一个快球向上运动" with language="zh"."""
    if not isinstance(motion, Motion):
        raise TypeError(f"motion_caption: motion is {shown(motion)}; it must be a Motion")
    if choice(language, "motion_caption: language", LANGUAGES) == "zh":
        return f"一个{CHINESE[motion.speed]}球{CHINESE[motion.direction]}运动"
    return f"a {motion.speed} ball going {motion.direction}"


def motion_of(caption: str) -> Motion:
    """The motion that a caption names, in either language: the inverse of ``motion_caption``."""
    wanted = "".join(inputs.text(caption, "motion_of: caption").lower().split())
    for motion, language in product(ALL_MOTIONS, LANGUAGES):
        if "".join(motion_caption(motion, language).split()) == wanted:
            return motion
    raise ValueError(
        f"motion_of: caption is {shown(caption)}; it must be like "
        f"{motion_caption(ALL_MOTIONS[0])!r}, with {' or '.join(SPEEDS)} and "
        f"{', '.join(DIRECTIONS)}, or like {motion_caption(ALL_MOTIONS[0], 'zh')!r}"
    )


def motion_words(languages: Iterable[str] = LANGUAGES) -> list[str]:
    """All words of the captions in these languages, for a WordTokenizer."""
    if not isinstance(languages, (list, tuple)):
        raise TypeError(
            f"motion_words: languages is {shown(languages)}; it must be a list, such as ['en']"
        )
    words = []
    for language in languages:
        if choice(language, "motion_words: languages", LANGUAGES) == "en":
            words += ["a", "ball", "going", *SPEEDS, *DIRECTIONS]
        else:
            words += ["一个", "球", "运动", *CHINESE.values()]
    return words


def motions_of(velocity: np.ndarray) -> list[Motion]:
    """The motions of velocities (N, 2): the nearest direction, and slow below 1 pixel per frame."""
    velocity = inputs.real_numbers(velocity, "motions_of: velocity")
    if velocity.ndim != 2 or velocity.shape[1] != 2:
        raise ValueError(f"motions_of: velocity has shape {velocity.shape}; it must be (N, 2)")
    quarter = np.round(np.arctan2(velocity[:, 1], velocity[:, 0]) / (np.pi / 2)).astype(int) % 4
    fast = np.linalg.norm(velocity, axis=1) >= SLOWER_THAN
    return [Motion(SPEEDS[int(f)], DIRECTIONS[q]) for f, q in zip(fast, quarter, strict=True)]


def captioned_balls(
    motions: Iterable[Motion],
    rng: np.random.Generator,
    box: tuple[int, int] = (16, 16),
    radius: tuple[float, float] = RADIUS,
) -> Balls:
    """One ball for each motion, in the plane, whose start fits the caption: slow balls move 0.4 to
    0.8 pixels per frame, fast ones 1.2 to 1.6, within 20 degrees of the direction."""
    motions = list(motions) if isinstance(motions, (list, tuple)) else motions
    if not isinstance(motions, list) or not all(isinstance(m, Motion) for m in motions):
        raise TypeError(
            f"captioned_balls: motions is {shown(motions)}; it must be a list of Motions"
        )
    rng = inputs.generator(rng, "captioned_balls: rng")
    box = box_of(box, "captioned_balls: box")
    radius = range_of(radius, "captioned_balls: radius", above=0)
    balls = random_balls(len(motions), rng, box=box, radius=radius)
    ranges = np.array([RANGE_OF[motion.speed] for motion in motions]).reshape(-1, 2)
    speed = rng.uniform(ranges[:, 0], ranges[:, 1])
    quarter = np.array([DIRECTIONS.index(motion.direction) for motion in motions])
    angle = np.pi / 2 * quarter + rng.uniform(-SPREAD, SPREAD, len(motions))
    velocity = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return replace(balls, velocity=velocity[:, None, None])


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


def box_of(value: Any, what: str) -> tuple[int, int]:
    """A box (height, width), in whole pixels."""
    height, width = sizes(value, what, 2, least=4)
    if max(height, width) > MOST_SIDE:
        raise ValueError(f"{what} is {shown(value)}; its sides must be at most {MOST_SIDE} pixels")
    return height, width


def range_of(
    value: Any, what: str, low: float = -np.inf, above: float = -np.inf
) -> tuple[float, float]:
    """A pair of numbers, the first at most the second."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{what} is {shown(value)}; it must be a pair of numbers, (least, most)")
    least = number(value[0], f"{what}[0]", low=low, above=above, below=1e6)
    most = number(value[1], f"{what}[1]", low=least, below=1e6)
    return least, most
