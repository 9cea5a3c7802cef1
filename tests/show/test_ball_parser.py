"""The parser of bouncing balls: its own error on real videos is far below that of any model, it
knows frames without a ball, and the figures that it gives are those of known films."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from wrong_calls import riddles

from tinycv.data.balls import Balls, draw_balls, random_balls, simulate
from tinycv.show import ball_parser
from tinycv.show.ball_parser import (
    BallParser,
    ball_figures,
    in_order_of,
    last_place_errors,
    masses_kept,
    speed_ratios,
    straight_on,
    velocity_errors,
)

FLOOR = 0.01  # pixels: what the parser of PhyWorld errs by is of this size


def film_of(n=40, frames=8, seed=0, **options):
    return simulate(random_balls(n, np.random.default_rng(seed), **options), frames)


FILM = film_of()
VIDEOS = draw_balls(FILM)
TRACKS = BallParser().read(VIDEOS)
PAIRS = film_of(balls=2, seed=1)
PAIR_TRACKS = BallParser(2).read(draw_balls(PAIRS))


# ── the floor ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axes": 1},
        {"balls": 2},
        {"balls": 2, "axes": 1},
        {"box": (12, 20)},
        {"box": (32, 32), "radius": (2.0, 5.0)},
        {"radius": (0.8, 1.2)},
        {"radius": (3.0, 4.0)},
    ],
    ids=["plane", "line", "two", "two on a line", "wide", "32 x 32", "small", "large"],
)
def test_on_real_videos_places_radii_and_velocities_are_read_far_below_a_hundredth_of_a_pixel(
    options,
):
    film = film_of(15, seed=2, **options)
    tracks = in_order_of(BallParser(options.get("balls", 1)).read(draw_balls(film)), film)
    assert tracks.there.all()
    assert np.abs(tracks.centre - film.centres).max() < FLOOR / 10
    assert np.abs(tracks.radius - film.radius[:, None]).max() < FLOOR / 10
    assert velocity_errors(tracks, film, 3).max() < FLOOR / 10
    assert tracks.residual.max() < FLOOR


def test_pixels_of_eight_bits_are_read_within_a_hundredth_of_a_pixel():
    tracks = BallParser().read(np.round(VIDEOS * 255) / 255)
    assert velocity_errors(tracks, FILM, 3).mean() < FLOOR


def test_a_soft_or_dim_ball_is_read_within_a_tenth_of_a_pixel():
    """A generated ball is often both; its centre should not suffer."""
    sideways = 0.5 * VIDEOS + 0.25 * (np.roll(VIDEOS, 1, -1) + np.roll(VIDEOS, -1, -1))
    soft = 0.5 * sideways + 0.25 * (np.roll(sideways, 1, -2) + np.roll(sideways, -1, -2))
    for videos in (soft, 0.7 * VIDEOS):
        tracks = BallParser().read(videos)
        assert tracks.there.mean() > 0.98
        assert np.nanmean(np.abs(tracks.centre - FILM.centres)) < 0.1
        assert tracks.residual.mean() > 0.1  # and the residual tells that it is not real


def test_specks_of_noise_far_from_the_ball_are_ignored():
    speckled = VIDEOS.copy()
    far = np.abs(FILM.centres[:, :, 0] - 0.5).max(axis=-1) > 6  # from the pixel in the corner
    speckled[far, 0, 0, 0] = 1.0
    assert far.mean() > 0.5
    tracks = BallParser().read(speckled)
    assert np.abs(tracks.centre - FILM.centres)[far].max() < 0.1


# ── no ball ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("balls", [1, 2])
def test_black_grey_and_noisy_frames_hold_no_ball(balls):
    rng = np.random.default_rng(0)
    frames = np.zeros((3, 4, 1, 16, 16))
    frames[1] = 0.25
    frames[2] = rng.uniform(0, 0.4, frames[2].shape)
    tracks = BallParser(balls).read(frames)
    assert not tracks.there.any()
    assert np.isnan(tracks.centre).all() and np.isnan(tracks.mass).all()


def test_a_faint_ball_and_a_single_pixel_are_no_balls():
    dot = np.zeros((1, 2, 1, 16, 16))
    dot[..., 5, 5] = 1.0
    assert not BallParser().read(dot).there.any()
    assert not BallParser().read(0.4 * VIDEOS).there.any()


def test_where_two_balls_are_looked_for_a_single_one_is_read_as_one():
    tracks = BallParser(2).read(VIDEOS)
    assert tracks.there[..., 0].all() and not tracks.there[..., 1].any()
    assert np.abs(tracks.centre[:, :, 0] - FILM.centres[:, :, 0]).max() < FLOOR


def test_a_ball_that_disappears_and_comes_back_keeps_its_number():
    """It must keep it although it is the right one at first and the left one later."""
    position = np.zeros((1, 6, 2, 2))
    position[0, :, 0] = np.stack([np.linspace(4, 12, 6), np.full(6, 4.0)], 1)
    position[0, :, 1] = np.stack([np.linspace(12, 4, 6), np.full(6, 12.0)], 1)
    film = Balls(position, 0 * position, np.full((1, 2), 2.0), np.full((1, 2), 4.0))
    videos = draw_balls(film)
    videos[0, 2, 0, 8:] = 0  # the lower ball is not in frame 2
    tracks = BallParser(2).read(videos)
    assert tracks.there[0].tolist() == [[True, True]] * 2 + [[True, False]] + [[True, True]] * 3
    np.testing.assert_allclose(tracks.centre[0, 3:], position[0, 3:], atol=FLOOR)


# ── films ────────────────────────────────────────────────────────────────────────────────────────


def test_two_balls_keep_their_numbers_through_collisions():
    tracks = in_order_of(PAIR_TRACKS, PAIRS)
    assert (PAIRS.bounced.sum(axis=(1, 2)) > 2).sum() > 5
    np.testing.assert_allclose(tracks.centre, PAIRS.centres, atol=FLOOR)


def test_velocities_are_the_ways_from_frame_to_frame():
    np.testing.assert_allclose(TRACKS.velocity, np.diff(FILM.centres, axis=1), atol=FLOOR)


def test_turns_are_where_the_walls_are():
    turned, place = TRACKS.turns()
    sign = np.sign(FILM.velocity)
    real = sign[:, 1:] != sign[:, :-1]  # the ball has turned within this interval
    assert turned.sum() > 20 and (turned & ~real).sum() == 0
    # the first and the last interval have a free one on one side only, so some turns stay hidden
    assert (turned & real)[:, 1:-1].sum() >= 0.95 * real[:, 1:-1].sum()
    r = FILM.radius[:, None, :, None]
    wall = np.where(place < 8, r, 16 - r)
    np.testing.assert_allclose(place[turned], wall[turned], atol=FLOOR)
    assert np.isnan(place[~turned]).all()


def test_the_visible_mass_is_the_area_of_the_disc():
    area = np.pi * FILM.radius[:, None] ** 2
    np.testing.assert_allclose(TRACKS.mass, np.broadcast_to(area, TRACKS.mass.shape), rtol=0.07)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def test_the_figures_of_the_truth_are_those_of_a_perfect_model():
    figures = ball_figures(TRACKS, FILM, 3)
    assert figures["velocity error"] < FLOOR and figures["last place error"] < FLOOR
    assert figures["speed ratio"] == pytest.approx(1, abs=FLOOR)
    assert figures["mass kept"] == pytest.approx(1, abs=0.02)
    assert figures["lost"] == 0


def test_a_ball_that_stays_errs_by_its_speed():
    stays = VIDEOS.copy()
    stays[:, 3:] = VIDEOS[:, 2:3]
    tracks = BallParser().read(stays)
    errors = velocity_errors(tracks, FILM, 3)
    real = np.linalg.norm(np.diff(FILM.centres, axis=1)[:, 2:], axis=-1)
    np.testing.assert_allclose(errors, real, atol=FLOOR)
    assert speed_ratios(tracks, FILM, 3).max() < FLOOR


def test_a_lost_ball_counts_as_one_that_stays_and_has_no_mass():
    black = VIDEOS.copy()
    black[:, 3:] = 0
    tracks = BallParser().read(black)
    real = np.linalg.norm(np.diff(FILM.centres, axis=1)[:, 2:], axis=-1)
    np.testing.assert_allclose(velocity_errors(tracks, FILM, 3), real)
    figures = ball_figures(tracks, FILM, 3)
    assert figures["lost"] == 1 and figures["mass kept"] == 0
    assert np.isnan(figures["speed ratio"]) and np.isnan(figures["last place error"])


def test_a_film_at_half_the_speed_has_half_the_speed_ratio():
    start = FILM.moments(slice(2, 3))
    slow = simulate(replace(start, velocity=start.velocity / 2), 6)
    made = np.concatenate([VIDEOS[:, :3], draw_balls(slow)[:, 1:]], axis=1)
    # bounces shorten some ways, so this is the mean over films
    ratio = speed_ratios(BallParser().read(made), FILM, 3)
    assert np.nanmean(ratio) == pytest.approx(0.5, abs=0.05)


def test_flying_straight_on_is_right_until_the_first_bounce():
    control = straight_on(FILM, 3)
    errors = velocity_errors(BallParser().read(draw_balls(FILM)), control, 3)[..., 0]
    free = FILM.bounced[:, 2:, 0].sum(axis=1) == 0
    assert free.sum() > 5
    assert errors[free].max() < FLOOR
    hit = FILM.bounced[:, 3:, 0].sum(axis=1) > 0
    assert errors[hit].max(axis=1).min() > FLOOR


def test_errors_at_bounces_are_those_where_the_truth_bounces():
    """A model that flies straight on is wrong from the bounce on, so most where balls bounce."""
    control = straight_on(FILM, 3)
    tracks = BallParser().read(draw_balls(control))
    figures = ball_figures(tracks, FILM, 3)
    hits = FILM.bounced[:, 3:] > 0
    errors = velocity_errors(tracks, FILM, 3)
    assert figures["velocity error at bounces"] == pytest.approx(errors[hits].mean())
    assert figures["velocity error elsewhere"] == pytest.approx(errors[~hits].mean())


def test_last_place_errors_are_distances_in_the_last_frame():
    moved = FILM.position.copy()
    moved[:, -1] += [0.3, 0.4]
    truth = Balls(moved, FILM.velocity, FILM.radius, FILM.mass)
    np.testing.assert_allclose(last_place_errors(TRACKS, truth), 0.5, atol=FLOOR)


def test_mass_that_fades_is_measured():
    faded = VIDEOS.copy()
    faded[:, 3:] *= 0.75
    assert masses_kept(BallParser().read(faded), 3).mean() == pytest.approx(0.75, abs=0.02)


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────

GOOD = {
    "BallParser": (BallParser, {"balls": 2}),
    "BallParser.read": (BallParser().read, {"videos": VIDEOS[:2]}),
    "in_order_of": (in_order_of, {"tracks": TRACKS, "truth": FILM}),
    "velocity_errors": (velocity_errors, {"tracks": TRACKS, "truth": FILM, "given": 3}),
    "speed_ratios": (speed_ratios, {"tracks": TRACKS, "truth": FILM, "given": 3}),
    "masses_kept": (masses_kept, {"tracks": TRACKS, "given": 3}),
    "last_place_errors": (last_place_errors, {"tracks": TRACKS, "truth": FILM}),
    "ball_figures": (ball_figures, {"tracks": TRACKS, "truth": FILM, "given": 3}),
    "straight_on": (straight_on, {"truth": FILM, "given": 3}),
    "videos_in": (
        lambda videos: ball_parser.videos_in(videos, "videos_in"),
        {"videos": VIDEOS[:1]},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_wrong_call_gets_a_sentence(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(function, good, name, "velocity_errors")
    assert not found, "\n".join(found)


def test_every_public_function_is_called_wrongly_here():
    public = {
        name
        for name, thing in vars(ball_parser).items()
        if inspect.isfunction(thing) or inspect.isclass(thing)
        if thing.__module__ == ball_parser.__name__ and not name.startswith("_")
    }
    assert public - {"BallTracks"} == {name for name in GOOD if "." not in name}


def test_films_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"tracks are \(40, 8, 1\) and truth is \(39, 8, 1\)"):
        velocity_errors(TRACKS, FILM.films(slice(1, None)), 3)


@pytest.mark.parametrize(
    ("other", "remedy"),
    [(lambda x: 2 * x - 1, r"videos / 2 \+ 0.5$"), (lambda x: 255 * x, "videos / 255$")],
    ids=["-1", "255"],
)
def test_a_video_in_another_range_is_refused_with_the_remedy(other, remedy):
    with pytest.raises(ValueError, match=rf"^BallParser.read: videos has .*use {remedy}"):
        BallParser().read(other(VIDEOS[:1]))


def test_nan_in_a_video_is_refused():
    bad = VIDEOS[:1].copy()
    bad[0, 0, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        BallParser().read(bad)


@pytest.mark.parametrize("balls", [1, 2])
@pytest.mark.parametrize("frame", ["noise", "white", "grey", "a black ball on white"])
def test_a_bright_frame_without_a_ball_has_no_ball(frame, balls):
    shape = 40, 3, 1, 16, 16
    videos = {
        "noise": np.random.default_rng(0).uniform(size=shape),
        "white": np.ones(shape),
        "grey": np.full(shape, 0.55),
        "a black ball on white": 1 - VIDEOS,
    }[frame]
    assert not BallParser(balls).read(videos).there.any()
