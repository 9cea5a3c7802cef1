"""Bouncing balls: the simulator keeps energy and momentum, finds every collision exactly and agrees
with closed forms; drawings and captions say what the states are."""

from __future__ import annotations

import inspect
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_calls import riddles

from tinycv.data import balls as balls_file
from tinycv.data.balls import (
    ALL_MOTIONS,
    DIRECTIONS,
    LANGUAGES,
    Balls,
    Motion,
    captioned_balls,
    draw_balls,
    draw_discs,
    motion_caption,
    motion_of,
    motion_words,
    motions_of,
    random_balls,
    simulate,
)
from tinycv.data.tokenizer import WordTokenizer

seeds = st.integers(0, 10_000)


def made(seed, n=20, **options):
    return random_balls(n, np.random.default_rng(seed), **options)


def two(position, velocity, radius=(1.0, 1.0), mass=(1.0, 1.0), box=(16, 16)):
    """One film of two balls; position and velocity (2, D)."""
    return Balls(
        np.array([[position]], float),
        np.array([[velocity]], float),
        np.array([radius]),
        np.array([mass]),
        box,
    )


def far_from_walls(seed, n, axes=2):
    """Two balls near each other in the middle of a box that is too large to cross in a film."""
    near = made(seed, n, balls=2, axes=axes)
    return replace(near, position=near.position + 192, box=(400, 400))


def folded(x, low, high):
    """Where a point is that flies freely to x, if walls at low and high reflect it."""
    width = high - low
    back = (x - low) % (2 * width)
    return low + np.where(back > width, 2 * width - back, back)


# ── the laws ─────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(1, 3), st.integers(1, 2))
def test_energy_is_conserved_to_twelve_digits(seed, count, axes):
    film = simulate(made(seed, balls=count, axes=axes, radius=(0.8, 1.6)), 16)
    np.testing.assert_allclose(film.energy, film.energy[:, :1].repeat(16, 1), rtol=1e-12)


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(1, 2))
def test_collisions_of_balls_conserve_momentum_to_twelve_digits(seed, axes):
    """In a box that no ball crosses within the film, there are no walls to change it."""
    film = simulate(far_from_walls(seed, 20, axes), 16)
    largest = np.abs(film.mass[:, None, :, None] * film.velocity).max()
    np.testing.assert_allclose(
        film.momentum, film.momentum[:, :1].repeat(16, 1), rtol=0, atol=1e-12 * largest
    )


def test_that_film_has_collisions():
    film = simulate(far_from_walls(0, 100), 16)
    assert (film.bounced.sum(axis=(1, 2)) > 0).sum() > 10


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(1, 2))
def test_one_ball_between_walls_is_a_folded_straight_line(seed, axes):
    start = made(seed, axes=axes, box=(12, 20))
    film, time = simulate(start, 40), np.arange(40)[:, None]
    for axis in range(axes):
        x, v = start.position[:, 0, 0, axis], start.velocity[:, 0, 0, axis]
        r, size = start.radius[:, 0], (20, 12)[axis]
        expected = folded(x + v * time, r, size - r)  # (T, N)
        np.testing.assert_allclose(film.position[:, :, 0, axis], expected.T, atol=1e-11)


@settings(deadline=None, max_examples=15)
@given(seeds)
def test_equal_balls_on_a_line_are_points_that_pass_through_each_other(seed):
    """Balls of equal mass exchange their velocities. Without their widths they are points in a
    shorter box, which seem to pass through each other; the order of the balls stays."""
    start = made(seed, balls=2, axes=1, radius=(1.5, 1.5), box=(8, 20))
    film, time = simulate(start, 60), np.arange(60)
    order = start.position[:, 0, :, 0].argsort(axis=1)
    widths = np.array([1.5, 4.5])  # from the wall to the middle of the first and second ball
    x = np.take_along_axis(start.position[:, 0, :, 0], order, 1) - widths
    v = np.take_along_axis(start.velocity[:, 0, :, 0], order, 1)
    points = folded(x[:, None] + v[:, None] * time[:, None], 0, 20 - 6)  # (N, T, 2)
    expected = np.sort(points, axis=-1) + widths
    found = np.sort(film.position[..., 0], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_unequal_balls_on_a_line_leave_with_the_velocities_of_the_textbook():
    """v_1' = ((m_1 - m_2) v_1 + 2 m_2 v_2) / (m_1 + m_2), and the mirror image of it."""
    film = simulate(two([[4], [8]], [[1], [-0.5]], mass=(3.0, 1.0)), 3)
    np.testing.assert_allclose(film.velocity[0, -1, :, 0], [(2 - 1) / 4, (6 + 1) / 4], rtol=1e-14)
    # they touch after (8 - 4 - 2) / 1.5 = 4/3 frames
    moved = np.array([4 + 4 / 3 + 2 / 3 * 0.25, 8 - 2 / 3 + 2 / 3 * 1.75])
    np.testing.assert_allclose(film.position[0, 2, :, 0], moved, rtol=1e-14)


def test_a_collision_beside_the_middle_turns_the_velocities_about_the_normal():
    """A ball at rest, hit at an offset of 1 with R = 2: n makes 30 degrees with the flight."""
    film = simulate(two([[4, 8], [10, 9]], [[1, 0], [0, 0]], box=(20, 20)), 10)
    n = np.array([np.sqrt(3) / 2, 0.5])
    along = np.sqrt(3) / 2
    np.testing.assert_allclose(film.velocity[0, -1, 1], along * n, atol=1e-14)
    np.testing.assert_allclose(film.velocity[0, -1, 0], [1, 0] - along * n, atol=1e-14)


@settings(deadline=None, max_examples=15)
@given(seeds)
def test_balls_meet_when_their_distance_is_the_sum_of_their_radii(seed):
    """The moment of contact lies between two frames; the states on both sides determine it,
    because each ball flies straight up to it and straight on from it."""
    film = simulate(far_from_walls(seed, 50), 12)
    hits = np.argwhere((film.bounced > 0).all(axis=2))
    for n, t in hits:
        x0, v0 = film.position[n, t - 1, 0], film.velocity[n, t - 1, 0]
        x1, v1 = film.position[n, t, 0], film.velocity[n, t, 0]
        axis = np.abs(v0 - v1).argmax()
        # x0 + v0 s = x1 - v1 (1 - s)
        s = (x1 - v1 - x0)[axis] / (v0 - v1)[axis]
        contact = film.position[n, t - 1] + s * film.velocity[n, t - 1]  # (2, D)
        if np.abs(v0 - v1)[axis] > 1e-3:
            distance = np.linalg.norm(contact[0] - contact[1])
            assert distance == pytest.approx(film.radius[n].sum(), abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(1, 3), st.integers(1, 2))
def test_a_film_that_runs_backwards_returns_to_its_start(seed, count, axes):
    film = simulate(made(seed, balls=count, axes=axes, radius=(0.8, 1.6)), 9)
    back = simulate(film.backwards(), 9)
    np.testing.assert_allclose(back.position[:, ::-1], film.position, atol=1e-7)
    np.testing.assert_allclose(back.velocity[:, -1], -film.velocity[:, 0], atol=1e-7)


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_a_film_in_two_parts_is_the_whole_film(seed):
    start = made(seed, balls=2)
    first = simulate(start, 6)
    second = simulate(first, 6)
    whole = simulate(start, 11)
    np.testing.assert_array_equal(second.position[:, 0], first.position[:, -1])
    np.testing.assert_allclose(second.position[:, 1:], whole.position[:, 6:], atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(seeds, st.integers(1, 3))
def test_balls_never_overlap_and_never_leave_the_box(seed, count):
    film = simulate(made(seed, balls=count, radius=(0.8, 1.6)), 30)
    r = film.radius[:, None, :, None]
    assert (film.position >= r - 1e-9).all() and (film.position <= 16 - r + 1e-9).all()
    for i, j in combinations(range(count), 2):
        distance = np.linalg.norm(film.position[:, :, i] - film.position[:, :, j], axis=-1)
        assert (distance >= (film.radius[:, i] + film.radius[:, j])[:, None] - 1e-9).all()


def test_two_walls_in_the_same_moment_turn_the_ball_round():
    start = Balls([[[[13.0, 13.0]]]], [[[[1.0, 1.0]]]], [[2.0]], [[1.0]])
    film = simulate(start, 3)
    np.testing.assert_array_equal(film.velocity[0, -1, 0], [-1, -1])
    np.testing.assert_allclose(film.position[0, -1, 0], [13, 13], atol=1e-14)
    assert film.bounced.sum() == 2


def test_a_ball_between_a_wall_and_another_ball_is_hit_by_both_in_turn():
    film = simulate(two([[2], [7]], [[0], [-1]], mass=(1.0, 9.0)), 8)
    assert film.bounced[0, :, 0].sum() >= 3
    np.testing.assert_allclose(film.energy, 4.5, rtol=1e-13)


def test_a_ball_at_rest_stays():
    film = simulate(made(3, speed=(0, 0)), 5)
    np.testing.assert_array_equal(film.position, film.position[:, :1].repeat(5, 1))


def test_the_collisions_of_each_frame_are_counted():
    start = Balls([[[[8.0]]]], [[[[1.5]]]], [[2.0]], [[1.0]])
    film = simulate(start, 20)  # walls at 2 and 14: hits at t = 4, 12 and 20
    assert np.flatnonzero(film.bounced[0, :, 0]).tolist() == [4, 12]


# ── the start ────────────────────────────────────────────────────────────────────────────────────


def test_starts_have_the_speeds_radii_and_masses_that_they_promise():
    start = made(0, 2000, balls=2, speed=(0.5, 1.5), radius=(1.0, 2.0))
    speed = np.abs(start.velocity)
    assert speed.min() >= 0.5 and speed.max() <= 1.5 and speed.mean() == pytest.approx(1, abs=0.02)
    assert (start.velocity > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert start.radius.min() >= 1 and start.radius.max() <= 2
    np.testing.assert_allclose(start.mass, start.radius**2)


def test_mass_is_density_times_area():
    start = made(0, 5, density=2.0)
    np.testing.assert_allclose(start.mass, 2 * np.pi * start.radius**2)


def test_a_seed_always_gives_the_same_balls():
    np.testing.assert_array_equal(made(4).position, made(4).position)
    assert (made(4).position != made(5).position).any()


def test_balls_that_find_no_place_are_refused():
    with pytest.raises(ValueError, match="9 balls of radius up to .* find no place in a box of 16"):
        made(0, balls=9, radius=(2.9, 3.0))
    with pytest.raises(ValueError, match="a ball must be smaller than the box"):
        made(0, radius=(8.0, 8.0))


def test_balls_that_overlap_at_the_start_are_refused():
    with pytest.raises(ValueError, match="simulate: balls overlap"):
        simulate(two([[4], [5]], [[1], [-1]]), 3)
    with pytest.raises(ValueError, match="simulate: balls overlap"):
        simulate(two([[0.5], [5]], [[1], [-1]]), 3)


def test_films_and_moments_are_parts():
    film = simulate(made(0, 6, balls=2), 8)
    part = film.films(slice(1, 3)).moments(slice(2, 5))
    assert (len(part), part.frames, part.axes) == (2, 3, 2)
    np.testing.assert_array_equal(part.position, film.position[1:3, 2:5])
    np.testing.assert_array_equal(part.bounced, film.bounced[1:3, 2:5])
    np.testing.assert_array_equal(part.radius, film.radius[1:3])


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("box", [(16, 16), (32, 32), (12, 20)])
@pytest.mark.parametrize("axes", [1, 2])
def test_videos_have_the_shape_of_the_box(box, axes):
    videos = draw_balls(simulate(made(0, 3, axes=axes, box=box), 5))
    assert videos.shape == (3, 5, 1, *box) and videos.dtype == np.float32
    assert videos.min() == 0 and videos.max() == 1


def test_a_disc_covers_its_area_with_its_middle_at_its_centre():
    film = simulate(made(0, 300), 2)
    image = draw_balls(film)[:, 0, 0].astype(float)
    area = image.sum(axis=(1, 2))
    np.testing.assert_allclose(area, np.pi * film.radius[:, 0] ** 2, rtol=0.06)
    middle = np.arange(16) + 0.5
    x = (image.sum(axis=1) * middle).sum(axis=1) / area
    y = (image.sum(axis=2) * middle).sum(axis=1) / area
    np.testing.assert_allclose(np.stack([x, y], 1), film.position[:, 0, 0], atol=0.05)


def test_y_counts_downwards_and_x_to_the_right():
    image = draw_discs(np.array([[[3.5, 10.5]]]), np.array([[1.5]]), (16, 16))[0]
    assert image[10, 3] == 1 and image[3, 10] == 0


def test_in_one_dimension_the_ball_is_in_the_middle_row():
    image = draw_balls(made(0, 1, axes=1))[0, 0, 0]
    np.testing.assert_array_equal(image, image[::-1])
    assert image.sum() > 3


# ── captions ─────────────────────────────────────────────────────────────────────────────────────


def test_captions_in_both_languages_read_as_in_the_docstring():
    motion = Motion("fast", "up")
    assert motion_caption(motion) == "a fast ball going up"
    assert motion_caption(motion, "zh") == "一个快球向上运动"


@pytest.mark.parametrize("language", LANGUAGES)
def test_motion_of_is_the_inverse_of_motion_caption(language):
    captions = [motion_caption(motion, language) for motion in ALL_MOTIONS]
    assert len(set(captions)) == len(ALL_MOTIONS) == 8
    assert [motion_of(caption) for caption in captions] == list(ALL_MOTIONS)


def test_capitals_and_spaces_do_not_matter():
    assert motion_of("  A Fast  ball going UP ") == Motion("fast", "up")
    assert motion_of("一个 快 球 向上 运动") == Motion("fast", "up")


@pytest.mark.parametrize("caption", ["", "a fast ball", "a quick ball going up", "快"])
def test_another_text_is_refused_with_an_example(caption):
    with pytest.raises(ValueError, match="motion_of: caption is .*'a slow ball going right'"):
        motion_of(caption)


def test_a_tokenizer_of_the_words_reads_every_caption():
    tokenizer = WordTokenizer(motion_words())
    for motion in ALL_MOTIONS:
        for language in LANGUAGES:
            text = motion_caption(motion, language)
            (back,) = tokenizer.decode(tokenizer.encode(text, 8))
            assert motion_of(back) == motion


def test_captioned_balls_start_as_their_captions_say():
    motions = list(ALL_MOTIONS) * 50
    start = captioned_balls(motions, np.random.default_rng(0))
    assert motions_of(start.velocity[:, 0, 0]) == motions
    speed = np.linalg.norm(start.velocity[:, 0, 0], axis=1)
    slow = np.array([motion.speed == "slow" for motion in motions])
    assert speed[slow].max() <= 0.8 and speed[~slow].min() >= 1.2


def test_up_is_towards_the_first_row():
    start = captioned_balls([Motion("fast", direction) for direction in DIRECTIONS], RNG)
    assert start.velocity[DIRECTIONS.index("up"), 0, 0, 1] < -1
    assert start.velocity[DIRECTIONS.index("right"), 0, 0, 0] > 1


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
STATES = {
    "position": np.full((1, 1, 2, 1), [[[[4.0], [9.0]]]]),
    "velocity": np.ones((1, 1, 2, 1)),
    "radius": np.ones((1, 2)),
    "mass": np.ones((1, 2)),
    "box": (16, 16),
    "bounced": np.zeros((1, 1, 2), int),
}
GOOD = {
    "Balls": (Balls, STATES),
    "random_balls": (
        random_balls,
        {
            "n": 2,
            "rng": RNG,
            "balls": 1,
            "axes": 2,
            "box": (16, 16),
            "speed": (0.4, 1.6),
            "radius": (1.5, 2.0),
            "density": 1.0,
        },
    ),
    "simulate": (simulate, {"balls": Balls(**STATES), "frames": 3}),
    "draw_balls": (draw_balls, {"balls": Balls(**STATES)}),
    "draw_discs": (
        draw_discs,
        {"centres": np.ones((2, 1, 2)), "radius": np.ones((2, 1)), "box": (8, 8)},
    ),
    "Motion": (Motion, {"speed": "fast", "direction": "up"}),
    "motion_caption": (motion_caption, {"motion": ALL_MOTIONS[0], "language": "zh"}),
    "motion_of": (motion_of, {"caption": "a fast ball going up"}),
    "motion_words": (motion_words, {"languages": ["en"]}),
    "motions_of": (motions_of, {"velocity": np.ones((3, 2))}),
    "captioned_balls": (
        captioned_balls,
        {"motions": [ALL_MOTIONS[0]], "rng": RNG, "box": (16, 16), "radius": (1.5, 2.0)},
    ),
    "box_of": (lambda value: balls_file.box_of(value, "box_of"), {"value": (4, 5)}),
    "range_of": (lambda value: balls_file.range_of(value, "range_of", 0), {"value": (4, 5)}),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_wrong_call_gets_a_sentence(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(function, good, name)
    assert not found, "\n".join(found)


def test_every_public_function_is_called_wrongly_here():
    public = {
        name
        for name, thing in vars(balls_file).items()
        if inspect.isfunction(thing) or inspect.isclass(thing)
        if thing.__module__ == balls_file.__name__ and not name.startswith("_")
    }
    assert public == set(GOOD)


@pytest.mark.parametrize("name", ["position", "velocity", "radius", "mass"])
def test_nan_in_a_state_is_refused(name):
    bad = STATES[name].copy()
    bad.flat[0] = np.nan
    with pytest.raises(ValueError, match=f"Balls: {name} holds NaN"):
        Balls(**{**STATES, name: bad})
