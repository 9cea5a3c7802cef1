"""A parser of bouncing balls: it reads centres, radii and velocities from the pixels of a video, so
that a rule can say whether a generated film obeys the laws of motion.

    fitted centres and radii  =  argmin Σ (drawing(centres, radii) - frame)²    for each frame

The frames that a video model generates are all that shows what it has learned about motion.
PhyWorld (Kang et al. 2024, "How far is video generation from world model") also uses a parser: it
compares the velocities in the generated frames with those of the simulator.  Here the parser draws
discs as data/balls.py does, and moves and scales them until they fit the frame (Gauss-Newton with
the derivatives of the drawing).  On real videos its error is less than a hundredth of a pixel.
Errors of a model can only be measured above this floor.

A frame may hold no ball, or a blurred one: a ball is there if its disc is at least half as bright
as a real one, and more than twice as bright as the rest of the frame, so noise is not a ball.
Otherwise its centre and radius are NaN, and it counts as lost.

Two balls keep their numbers from frame to frame: a ball continues as the one that is nearest to the
place that its last position and velocity predict.

Read first: data/balls.py.
Shapes: N films, T frames, K balls (1 or 2), H x W pixels; M = N T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.data.balls import Balls

FAINT = 0.3  # pixels that are darker do not count for the first guess of the centres
THERE = 0.5  # how bright a disc must be on average to count as a ball
LEAST_RADIUS = 0.75
# Two discs that overlap more than this share one ball: distance over the sum of the radii.
NEAREST = 0.75
CLEARLY = 0.1  # how much smaller the residual of two discs must be than that of one
NEW = 8.0  # pixels: the distance between a ball and one that was never seen before
BLUR = 1.0  # pixels
ROUNDS, STEPS = 8, 9  # of weighted means, and of Gauss-Newton
CHUNK = 512  # frames parsed at a time


@dataclass(frozen=True, eq=False)
class BallTracks:
    """What the parser reads from N films.

    centre (N, T, K, 2), (x, y) in pixels; radius (N, T, K); mass (N, T, K): the sum of the pixels
    that belong to the ball. All three are NaN, and ``there`` (N, T, K) is False, where there is no
    ball. residual (N, T): the sum of |frame - drawing|, over that of the drawing: 0 for a sharp
    disc on black.
    """

    centre: np.ndarray
    radius: np.ndarray
    mass: np.ndarray
    there: np.ndarray
    residual: np.ndarray

    @property
    def velocity(self) -> np.ndarray:
        """How far each ball moves from frame to frame: (N, T - 1, K, 2)."""
        return np.diff(self.centre, axis=1)

    def turns(self, least: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
        """Where each ball reversed along an axis, as at a wall: bools (N, T - 1, K, 2), one per
        pair of frames and axis, and the places of the centre at these moments, NaN elsewhere.

        The sign of the velocity changes between two intervals. The turn is in the interval in which
        the ball got less far, because it flew to the turning point and back. least: motion slower
        than this, in pixels per frame, is not counted.
        """
        v = self.velocity
        turned, place = np.zeros(v.shape, bool), np.full(v.shape, np.nan)
        for i in range(1, v.shape[1]):
            before, after = v[:, i - 1], v[:, i]  # (N, K, 2)
            changes = (before * after < 0) & (np.maximum(abs(before), abs(after)) > least)
            first = changes & (abs(before) < abs(after))  # the turn is in the interval before
            turned[:, i - 1] |= first
            turned[:, i] |= changes & ~first
        for i in range(v.shape[1]):
            # To the turning point and back the ball flies as far as in a free interval beside.
            beside = [abs(v[:, j]) for j in (i - 1, i + 1) if 0 <= j < v.shape[1]]
            way = np.max(beside, axis=0) if beside else abs(v[:, i])
            incoming = v[:, i - 1] if i else -v[:, min(i + 1, v.shape[1] - 1)]
            ends = self.centre[:, i] + self.centre[:, i + 1]
            place[:, i] = np.where(turned[:, i], (ends + np.sign(incoming) * way) / 2, np.nan)
        return turned, place


class BallParser:
    """Reads one or two balls per frame. balls: how many to look for."""

    def __init__(self, balls: int = 1):
        self.balls = inputs.whole(balls, "BallParser: balls", 1, 2)

    def read(self, videos: np.ndarray) -> BallTracks:
        """videos (N, T, 1, H, W), floats from 0 to 1. Values a little outside are clipped; videos
        from -1 to 1 are refused, so pass videos / 2 + 0.5. Balls are white on black: in an inverted
        video every ball is lost."""
        videos = videos_in(videos, "BallParser.read: videos")
        inputs.refuse_other_ranges(videos, "BallParser.read: videos", "videos")
        n, frames, _, height, width = videos.shape
        images = videos.reshape(n * frames, height, width).clip(0, 1).astype(np.float64)
        parts = [
            _parse(images[start : start + CHUNK], self.balls)
            for start in range(0, len(images), CHUNK)
        ]
        read = [np.concatenate(values) for values in zip(*parts, strict=True)]
        centre, radius, mass, residual = (x.reshape(n, frames, *x.shape[1:]) for x in read)
        if self.balls == 2:
            centre, radius, mass = _same_balls(centre, radius, mass)
        return BallTracks(centre, radius, mass, np.isfinite(radius), residual)


# ── one frame ────────────────────────────────────────────────────────────────────────────────────


def _parse(images: np.ndarray, balls: int) -> tuple[np.ndarray, ...]:
    """centre (M, K, 2), radius (M, K), mass (M, K) and residual (M,) of images (M, H, W)."""
    centre, radius = _fit(images, *_start(images, balls))
    there = _is_there(images, centre, radius)  # (M, K)
    if balls == 2:
        # Two discs fit even a frame with one ball a little better, because each covers a part of
        # it. So one disc is preferred, unless two are clearly better and are beside each other.
        alone, size = _fit(images, *_start(images, 1))
        better = _residual(images, alone, size) - _residual(images, centre, radius) > CLEARLY
        distance = np.linalg.norm(centre[:, 0] - centre[:, 1], axis=-1)
        one = ~(better & there.all(axis=1) & (distance > NEAREST * radius.sum(axis=1)))
        centre[one, 0], radius[one, 0] = alone[one, 0], size[one, 0]
        there[one, 0] = _is_there(images, alone, size)[one, 0]
        there[one, 1] = False
    residual = _residual(images, centre, np.where(there, radius, -1.0))
    centre = np.where(there[..., None], centre, np.nan)
    radius = np.where(there, radius, np.nan)
    # A pixel belongs to the nearest ball, so that the light around a blurred ball counts too.
    nearest = _distances(images, np.nan_to_num(centre, nan=1e9)).argmin(axis=1)  # (M, H, W)
    mass = [(images * (nearest == ball)).sum(axis=(1, 2)) for ball in range(balls)]
    return centre, radius, np.where(there, np.stack(mass, axis=1), np.nan), residual


def _start(images: np.ndarray, balls: int) -> tuple[np.ndarray, np.ndarray]:
    """Rough centres (M, K, 2) and radii (M, K): weighted means of the bright pixels, each of which
    belongs to the nearest centre (k-means)."""
    light = np.where(images > FAINT, images, 0.0)
    first = _middle(images, light)
    if balls == 1:
        centre = first[:, None]
    else:
        # the pixel that is farthest from the middle, and the one that is farthest from that one
        far = _farthest(images, light, first)
        centre = np.stack([far, _farthest(images, light, far)], axis=1)
    for _ in range(ROUNDS):
        nearest = _distances(images, centre).argmin(axis=1)
        parts = [light * (nearest == ball) for ball in range(balls)]
        centre = np.stack([_middle(images, part) for part in parts], axis=1)
        mass = np.stack([part.sum(axis=(1, 2)) for part in parts], axis=1)  # (M, K)
        if balls == 1:
            # Light far from a single ball is a speck of noise: leave it out of the next mean.
            reach = np.sqrt(mass / np.pi)[:, :, None] + 2.5
            light = np.where(_distances(images, centre)[:, 0] < reach, light, 0.0)
    return centre, np.sqrt(mass / np.pi).clip(LEAST_RADIUS, None)


def _fit(
    images: np.ndarray, centre: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton: centres (M, K, 2) and radii (M, K) whose drawing is closest to the images.

    Drawing and image are compared after a blur. Otherwise only the pixels of the edge would count,
    and a generated ball with soft edges would be read wrongly.
    """
    count, balls, pixels = *radius.shape, images.shape[1] * images.shape[2]
    down, across = _blur(images.shape[1]), _blur(images.shape[2])
    blurred = down @ images @ across
    values = np.concatenate([centre, radius[..., None]], axis=-1).reshape(count, 3 * balls)
    unit = 1e-6 * np.eye(3 * balls)  # keeps the equations solvable where a disc is not visible
    for _ in range(STEPS):
        centre, radius = values.reshape(-1, balls, 3)[..., :2], values.reshape(-1, balls, 3)[..., 2]
        distance = _distances(images, centre)  # (M, K, H, W)
        cover = 0.5 + radius[..., None, None] - distance
        edge = ((cover > 0) & (cover < 1)) / np.maximum(distance, 1e-9)
        dx, dy = _offsets(images, centre)  # (M, K, 1, W) and (M, K, H, 1)
        slopes = down @ np.stack([edge * dx, edge * dy, edge * distance], axis=2) @ across
        slopes = slopes.reshape(count, 3 * balls, pixels)
        error = blurred - down @ cover.clip(0, 1).sum(axis=1) @ across
        left = slopes @ slopes.swapaxes(1, 2) + unit
        step = np.linalg.solve(left, slopes @ error.reshape(count, pixels, 1))[..., 0]
        values = values + step.clip(-0.5, 0.5)
        values[:, 2::3] = values[:, 2::3].clip(0.1, max(images.shape[1:]))
    fitted = values.reshape(-1, balls, 3)
    return fitted[..., :2], fitted[..., 2]


def _blur(side: int) -> np.ndarray:
    """A matrix (side, side) that blurs a column of pixels by a Gaussian of BLUR pixels."""
    steps = np.arange(side)[:, None] - np.arange(side)
    return np.exp(-0.5 * (steps / BLUR) ** 2) / (BLUR * np.sqrt(2 * np.pi))


def _residual(images: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The sum of |image - drawing|, over that of the drawing: (M,). A disc of negative radius is
    not drawn."""
    drawn = _discs(images, centre, radius).sum(axis=1)  # (M, H, W)
    off = np.abs(images - drawn).sum(axis=(1, 2))
    return off / np.maximum(drawn.sum(axis=(1, 2)), 1.0)


def _is_there(images: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Is each disc bright enough to be a ball, brighter than the rest, and smaller than the frame?
    (M, K)"""
    discs = _discs(images, centre, radius)
    area = np.maximum(discs.sum(axis=(2, 3)), 1e-9)
    brightness = (discs * images[:, None]).sum(axis=(2, 3)) / area
    # Noise or a bright frame is not a ball: the rest of the frame must be less than half as bright.
    rest = (_distances(images, centre) > radius[..., None, None] + 1).all(axis=1)  # (M, H, W)
    pixels = rest.sum(axis=(1, 2))  # (M,): how many pixels are beside the discs
    beside = (images * rest).sum(axis=(1, 2)) / np.maximum(pixels, 1)
    stands_out = (pixels > 0)[:, None] & (beside[:, None] < brightness / 2)
    fits = (radius >= LEAST_RADIUS) & (2 * radius < min(images.shape[1:]))
    return (brightness >= THERE) & fits & stands_out


def _offsets(images: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the middle of each pixel is from the centres (M, K, 2), along x and along y."""
    height, width = images.shape[1:]
    dx = np.arange(width) + 0.5 - centre[..., 0, None]
    dy = np.arange(height) + 0.5 - centre[..., 1, None]
    return dx[:, :, None, :], dy[:, :, :, None]


def _distances(images: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The distance of every pixel from every centre: (M, K, H, W)."""
    dx, dy = _offsets(images, centre)
    return np.sqrt(dx * dx + dy * dy)


def _discs(images: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The discs, as data/balls.py draws them, one by one: (M, K, H, W)."""
    return (0.5 + radius[..., None, None] - _distances(images, centre)).clip(0, 1)


def _middle(images: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The weighted mean of the pixels: (M, 2). The middle of the frame if there is no light."""
    height, width = images.shape[1:]
    whole = light.sum(axis=(1, 2))
    x = (light.sum(axis=1) * (np.arange(width) + 0.5)).sum(axis=1)
    y = (light.sum(axis=2) * (np.arange(height) + 0.5)).sum(axis=1)
    middle = np.stack([x, y], axis=1) / np.maximum(whole, 1e-9)[:, None]
    return np.where(whole[:, None] > 0, middle, [width / 2, height / 2])


def _farthest(images: np.ndarray, light: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The bright pixel that is farthest from a point (M, 2)."""
    far = (_distances(images, point[:, None])[:, 0] * (light > 0.5)).reshape(len(images), -1)
    row, column = np.divmod(far.argmax(axis=1), images.shape[2])
    return np.stack([column + 0.5, row + 0.5], axis=1)


# ── a film ───────────────────────────────────────────────────────────────────────────────────────


def _same_balls(
    centre: np.ndarray, radius: np.ndarray, mass: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two balls of each frame in the order of the frame before. In the first frame the left one
    is first."""
    centre, radius, mass = centre.copy(), radius.copy(), mass.copy()
    last = centre[:, 0].copy()  # (N, 2, 2): where each ball was last seen
    speed, size = np.zeros_like(last), radius[:, 0].copy()
    for t in range(centre.shape[1]):
        if t == 0:
            swap = ~(centre[:, 0, 0, 0] <= centre[:, 0, 1, 0]) & np.isfinite(centre[:, 0, 1, 0])
        else:
            expected = last + speed
            straight = _change(centre[:, t], expected, radius[:, t], size)
            crossed = _change(centre[:, t, ::-1], expected, radius[:, t, ::-1], size)
            swap = crossed < straight
        for values in (centre, radius, mass):
            values[swap, t] = values[swap, t, ::-1]
        seen = np.isfinite(radius[:, t])
        moved = np.where(seen[..., None] & (t > 0), centre[:, t] - last, speed)
        speed = np.where(np.isfinite(moved), moved, 0.0)
        last = np.where(seen[..., None], centre[:, t], last)
        size = np.where(seen, radius[:, t], size)
    return centre, radius, mass


def _change(
    centre: np.ndarray, expected: np.ndarray, radius: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """How much the places and radii differ from those expected: (N,). A lost ball does not count,
    and a ball that has never been seen before is NEW pixels away."""
    away = np.linalg.norm(centre - expected, axis=-1)  # (N, 2)
    away = np.where(np.isnan(expected[..., 0]), NEW, away)
    away = np.where(np.isnan(radius), 0.0, away)
    return (away + np.abs(np.nan_to_num(radius - size))).sum(axis=1)


# ── what is measured ─────────────────────────────────────────────────────────────────────────────


def in_order_of(tracks: BallTracks, truth: Balls) -> BallTracks:
    """The tracks with their balls in the order of the truth, by the places in the first frame."""
    _check(tracks, truth, 1, "in_order_of")
    if tracks.radius.shape[2] == 1:
        return tracks
    first, real = tracks.centre[:, 0], truth.centres[:, 0]
    straight = np.linalg.norm(np.nan_to_num(first - real), axis=-1).sum(axis=1)
    crossed = np.linalg.norm(np.nan_to_num(first[:, ::-1] - real), axis=-1).sum(axis=1)
    order = np.where((crossed < straight)[:, None], [1, 0], [0, 1])  # (N, 2)
    return BallTracks(
        np.take_along_axis(tracks.centre, order[:, None, :, None], axis=2),
        np.take_along_axis(tracks.radius, order[:, None], axis=2),
        np.take_along_axis(tracks.mass, order[:, None], axis=2),
        np.take_along_axis(tracks.there, order[:, None], axis=2),
        tracks.residual,
    )


def velocity_errors(tracks: BallTracks, truth: Balls, given: int) -> np.ndarray:
    """|velocity read - true velocity| in pixels per frame, for every frame after the ``given``
    ones: (N, T - given, K). A lost ball counts as a ball at rest.

    Velocities are differences of successive frames, for the truth as well: in the interval of a
    bounce both are the displacement from frame to frame.
    """
    given = _check(tracks, truth, given, "velocity_errors")
    made = in_order_of(tracks, truth).velocity[:, given - 1 :]
    real = np.diff(truth.centres, axis=1)[:, given - 1 :]
    return np.linalg.norm(np.nan_to_num(made) - real, axis=-1)


def speed_ratios(tracks: BallTracks, truth: Balls, given: int) -> np.ndarray:
    """The generated speed over the true speed of each ball: the length of its path after the given
    frames, over that of the truth, (N, K). NaN where a ball is lost, or should be at rest."""
    given = _check(tracks, truth, given, "speed_ratios")
    made = np.linalg.norm(in_order_of(tracks, truth).velocity[:, given - 1 :], axis=-1).sum(axis=1)
    real = np.linalg.norm(np.diff(truth.centres, axis=1)[:, given - 1 :], axis=-1).sum(axis=1)
    return np.divide(made, real, out=np.full(made.shape, np.nan), where=real > 1e-6)


def masses_kept(tracks: BallTracks, given: int) -> np.ndarray:
    """The mass that is visible after the given frames, as a share of that in the given ones: (N,),
    the mean over the frames. A ball that is lost has no mass."""
    if not isinstance(tracks, BallTracks):
        raise TypeError("masses_kept: tracks must be BallTracks, as BallParser.read returns")
    given = inputs.whole(given, "masses_kept: given", 1, tracks.mass.shape[1] - 1)
    mass = np.nan_to_num(tracks.mass).sum(axis=2)  # (N, T)
    before, after = mass[:, :given].mean(axis=1), mass[:, given:].mean(axis=1)
    return np.divide(after, before, out=np.full(len(mass), np.nan), where=before > 0)


def last_place_errors(tracks: BallTracks, truth: Balls) -> np.ndarray:
    """How far each ball is from its true place in the last frame: (N, K), in pixels. NaN where it
    is lost."""
    _check(tracks, truth, 1, "last_place_errors")
    away = in_order_of(tracks, truth).centre[:, -1] - truth.centres[:, -1]
    return np.linalg.norm(away, axis=-1)


def ball_figures(tracks: BallTracks, truth: Balls, given: int) -> dict[str, float]:
    """The figures that a demo prints, each a mean over films, frames and balls.

    velocity error      in pixels per frame; also for frames with a bounce, and for the others
    speed ratio         generated speed over true speed
    mass kept           visible mass, as a share of that in the given frames
    last place error    in pixels
    lost                share of balls that are not there, in the frames that were not given
    """
    errors = velocity_errors(tracks, truth, given)  # (N, T - given, K)
    hits = np.asarray(truth.bounced)[:, given:] > 0
    return {
        "velocity error": float(errors.mean()),
        "velocity error at bounces": _mean(errors[hits]),
        "velocity error elsewhere": _mean(errors[~hits]),
        "speed ratio": _mean(speed_ratios(tracks, truth, given)),
        "mass kept": _mean(masses_kept(tracks, given)),
        "last place error": _mean(last_place_errors(tracks, truth)),
        "lost": float(1 - tracks.there[:, given:].mean()),
    }


def _mean(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if there is nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def straight_on(truth: Balls, given: int) -> Balls:
    """A control that ignores walls: every ball flies on with the velocity of the last two given
    frames, through walls and other balls."""
    if not isinstance(truth, Balls):
        raise TypeError("straight_on: truth must be Balls, as simulate returns")
    given = inputs.whole(given, "straight_on: given", 2, truth.frames - 1)
    position = truth.position.copy()
    step = position[:, given - 1] - position[:, given - 2]
    for t in range(given, truth.frames):
        position[:, t] = position[:, t - 1] + step
    return Balls(position, truth.velocity, truth.radius, truth.mass, truth.box)


def videos_in(videos: Any, what: str) -> np.ndarray:
    """Videos (N, T, 1, H, W), finite floats with at least one frame."""
    videos = inputs.array(videos, what, "videos (N, T, 1, H, W), floats from 0 to 1", "f", ndim=5)
    if videos.shape[2] != 1 or 0 in videos.shape:
        raise ValueError(
            f"{what} has shape {videos.shape}; it must be (N, T, 1, H, W), with at least one frame"
        )
    if not np.isfinite(videos).all():
        raise ValueError(f"{what} of shape {videos.shape} holds NaN or infinity")
    return videos


def _check(tracks: Any, truth: Any, given: Any, who: str) -> int:
    """``given`` as a number of frames. Raises unless tracks and truth are of the same films."""
    if not isinstance(tracks, BallTracks) or not isinstance(truth, Balls):
        raise TypeError(
            f"{who}: it takes tracks, BallTracks as BallParser.read returns, and truth, Balls as "
            "simulate returns"
        )
    if tracks.radius.shape != truth.position.shape[:3]:
        raise ValueError(
            f"{who}: tracks are {tracks.radius.shape} and truth is {truth.position.shape[:3]}, (N, "
            "T, K); they must be of the same films"
        )
    return inputs.whole(given, f"{who}: given", 1, max(1, truth.frames - 1))
