"""The rule judge: its own error on real drawings, what it says about pictures that are no drawings,
and how it counts errors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from wrong_calls import riddles

from tinycv.data.shapes_and_words import (
    RGB,
    Scene,
    Thing,
    all_scenes,
    coverage,
    draw_scenes,
    near_misses,
)
from tinycv.show.rule_judge import RuleJudge, can_swap, lowest_of_grid, normal

JUDGES = {(side, things): RuleJudge(side, things) for side, things in product((16, 32), (1, 2))}
SCENES = {n: all_scenes(n) + all_scenes(n, True) for n in (1, 2)}
JUDGE = JUDGES[16, 1]
RNG = np.random.default_rng(0)
BOTH_SIDES = pytest.mark.parametrize("side", [16, 32])
ONE_OR_TWO = pytest.mark.parametrize("things", [1, 2])


def scene(first, second, relation="left of"):
    """("red circle", "blue square") -> the scene"""
    return Scene(
        tuple(Thing(*reversed(words.split())) for words in (first, second)),
        relation,
    )


ASKED = scene("red circle", "blue square")


def shown(found, asked=ASKED, side=16):
    """What the judge says of a drawing of ``found`` that was asked to be ``asked``."""
    right = JUDGES[side, len(asked.things)].right(draw_scenes([found], side), [asked])
    return {name: bool(values[0]) for name, values in right.items()}


# ── its own error ────────────────────────────────────────────────────────────────────────────────


@BOTH_SIDES
@ONE_OR_TWO
@pytest.mark.parametrize("held_out", [False, True])
def test_it_reads_at_least_995_of_1000_real_drawings(side, things, held_out):
    scenes = all_scenes(things, held_out)
    scenes = [scenes[i] for i in RNG.integers(0, len(scenes), 400)]
    right = JUDGES[side, things].right(draw_scenes(scenes, side, seed=1), scenes)
    assert right["all"].mean() >= 0.995


@BOTH_SIDES
def test_it_reads_drawings_through_noise(side):
    scenes = SCENES[1]
    images = draw_scenes(scenes, side, seed=2)
    noisy = (images + RNG.normal(0, 0.1, images.shape)).clip(0, 1)
    assert JUDGES[side, 1].right(noisy, scenes)["all"].mean() > 0.97


def test_shapes_and_sizes_are_told_apart_wherever_a_drawing_lies():
    scenes = [s for s in SCENES[1] if s.things[0].colour == "blue"] * 8
    read = JUDGES[16, 1].read(draw_scenes(scenes, seed=3))
    assert read == scenes


@BOTH_SIDES
def test_residuals_of_real_drawings_are_near_zero(side):
    residuals = JUDGES[side, 1].residual(draw_scenes(SCENES[1], side, seed=4))
    assert residuals.shape == (128,) and residuals.max() < 0.03 and residuals.mean() < 0.005


def test_the_residual_of_a_noisy_drawing_is_the_noise():
    images = draw_scenes(SCENES[1], seed=5)
    noise = RNG.normal(0, 0.05, images.shape)
    residuals = JUDGES[16, 1].residual(images + noise)
    np.testing.assert_allclose(residuals, np.sqrt((noise**2).mean(axis=(1, 2, 3))), rtol=0.1)


def test_the_jitter_of_real_drawings_has_the_deviation_of_a_uniform_number():
    scenes = SCENES[1] * 4
    found = JUDGES[16, 1].jitter(draw_scenes(scenes, seed=6))
    assert found.shape == (len(scenes), 2)
    np.testing.assert_allclose(found.std(axis=0), 1 / np.sqrt(3), atol=0.05)
    assert np.abs(found).max() < 1.1


def test_without_jitter_it_finds_every_thing_in_its_nominal_place():
    found = JUDGES[16, 2].jitter(draw_scenes(SCENES[2][:40], jitter=0))
    assert found.shape == (40, 2, 2)
    np.testing.assert_allclose(found, 0, atol=0.05)


def test_the_block_in_which_an_image_is_read_does_not_matter():
    scenes = (SCENES[1] * 3)[:300]
    images = draw_scenes(scenes, seed=7)
    np.testing.assert_allclose(
        JUDGES[16, 1].residual(images)[250:260], JUDGES[16, 1].residual(images[250:260]), atol=1e-5
    )


def test_no_images_are_read_as_no_scenes():
    none = np.zeros((0, 3, 16, 16), np.float32)
    judge = JUDGES[16, 1]
    assert judge.read(none) == [] and judge.residual(none).shape == (0,)
    assert judge.jitter(none).shape == (0, 2) and judge.right(none, [])["all"].shape == (0,)


# ── nothing there, too much there ────────────────────────────────────────────────────────────────


@BOTH_SIDES
@ONE_OR_TWO
@pytest.mark.parametrize("what", ["black", "white", "grey", "uniform", "normal", "faint"])
def test_blank_pictures_and_noise_show_nothing(side, things, what):
    shape = (20, 3, side, side)
    images = {
        "black": np.zeros(shape),
        "white": np.ones(shape),
        "grey": np.full(shape, 0.5),
        "uniform": RNG.random(shape),
        "normal": RNG.normal(0.5, 1, shape).clip(-0.5, 1.5),
        "faint": RNG.normal(0, 0.1, shape).clip(0, 1),
    }[what]
    judge = JUDGES[side, things]
    assert judge.read(images) == [None] * 20
    assert np.isnan(judge.jitter(images)).all()
    assert not judge.right(images, SCENES[things][:20])["all"].any()


def test_a_half_faded_drawing_is_there_and_a_quarter_is_not():
    images = draw_scenes(SCENES[1], seed=8)
    faint, clear = JUDGES[16, 1].read(images * 0.25), JUDGES[16, 1].read(images * 0.8)
    assert clear == SCENES[1] and all(found != s for found, s in zip(faint, SCENES[1], strict=True))


@BOTH_SIDES
def test_one_thing_is_not_two(side):
    assert JUDGES[side, 2].read(draw_scenes(SCENES[1], side)) == [None] * 128


@BOTH_SIDES
def test_a_second_thing_is_counted(side):
    # scenes that lie next to each other differ in place
    other = SCENES[1][1:] + SCENES[1][:1]
    both = np.maximum(draw_scenes(SCENES[1], side, seed=1), draw_scenes(other, side, seed=2))
    right = JUDGES[side, 1].right(both, SCENES[1])
    assert not right["count"].any() and not right["all"].any()


def test_a_third_thing_is_counted():
    scenes = [s for s in SCENES[2] if s.relation == "right of"]
    cover = coverage("square", 2.0, np.full((1, 2), 2.2), 16)
    images = np.maximum(draw_scenes(scenes, jitter=0.2), cover[:, None] * RGB[:1, :, None, None])
    right = JUDGES[16, 2].right(images, scenes)
    assert not right["count"].any() and not right["all"].any() and right["shape"].all()


# ── what it counts ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["shape", "colour", "size", "place"])
def test_a_thing_with_one_wrong_attribute_is_wrong_in_this_attribute_alone(name):
    pairs = [(asked, drawn) for asked in SCENES[1] for drawn in near_misses(asked)[name]]
    right = JUDGE.right(draw_scenes([drawn for _, drawn in pairs]), [asked for asked, _ in pairs])
    for key, values in right.items():
        assert not values.any() if key in (name, "all") else values.all()


def test_what_a_scene_leaves_open_is_always_right():
    asked = Scene((Thing("cross", "yellow"),))
    for drawn in (s for s in SCENES[1] if s.things[0].colour == "yellow"):
        wrong = {key for key, value in shown(drawn, asked).items() if not value}
        assert wrong == (set() if drawn.things[0].shape == "cross" else {"shape", "all"})


def test_a_relation_told_from_the_other_side_is_right():
    assert shown(scene("blue square", "red circle", "right of"))["all"]
    assert shown(ASKED, scene("blue square", "red circle", "right of"))["all"]


def test_swapped_colours_are_counted_and_the_relation_is_right_then():
    assert shown(scene("blue circle", "red square")) == {
        "all": False,
        "shape": True,
        "colour": True,
        "relation": True,
        "count": True,
        "swapped colours": True,
    }


def test_things_that_changed_places_have_a_wrong_relation_and_no_swapped_colours():
    found = shown(scene("blue square", "red circle"))
    assert not found["relation"] and not found["swapped colours"] and found["colour"]


def test_the_wrong_direction_is_a_wrong_relation():
    found = shown(scene("red circle", "blue square", "above"))
    assert not found["relation"] and found["shape"] and found["colour"]


def test_a_wrong_colour_of_one_thing_is_no_swap():
    found = shown(scene("red circle", "green square"))
    assert not found["colour"] and not found["swapped colours"] and found["relation"]


def test_two_things_of_one_shape_or_colour_cannot_swap_colours():
    assert can_swap(ASKED) and not can_swap(SCENES[1][0])
    assert not can_swap(scene("red circle", "blue circle"))
    assert not can_swap(scene("red circle", "red square"))
    found = shown(scene("blue circle", "red circle"), scene("red circle", "blue circle"))
    assert not found["swapped colours"] and not found["relation"]


def test_the_normal_form_tells_the_same_picture():
    for asked in SCENES[2][::40]:
        np.testing.assert_array_equal(
            draw_scenes([asked], jitter=0), draw_scenes([normal(asked)], jitter=0)
        )
        assert normal(asked).relation in ("left of", "above")


def test_shuffled_captions_are_right_by_chance():
    scenes = SCENES[1] * 3
    other = [scenes[i] for i in np.random.default_rng(1).permutation(len(scenes))]
    right = JUDGES[16, 1].right(draw_scenes(scenes, seed=9), other)
    assert right["all"].mean() < 0.03
    for name, share in (("shape", 0.25), ("colour", 0.25), ("size", 0.5), ("place", 0.25)):
        assert abs(right[name].mean() - share) < 0.08


def test_a_parabola_finds_the_minimum_between_grid_points():
    at = np.arange(5.0)
    truth = np.array([[1.3, 2.8], [3.1, 1.6]])
    surfaces = (at[:, None] - truth[:, :1, None]) ** 2 + 2 * (at - truth[:, 1:, None]) ** 2 - 7
    lowest, place = lowest_of_grid(surfaces)
    np.testing.assert_allclose(place, truth, atol=1e-12)
    np.testing.assert_allclose(lowest, -7, atol=1e-12)


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────

IMAGES = draw_scenes(SCENES[1][:3])
GOOD = {
    "RuleJudge": (RuleJudge, {"side": 16, "things": 1}),
    "read": (JUDGE.read, {"images": IMAGES}),
    "residual": (JUDGE.residual, {"images": IMAGES}),
    "jitter": (JUDGE.jitter, {"images": IMAGES}),
    "right": (JUDGE.right, {"images": IMAGES, "scenes": SCENES[1][:3]}),
    "can_swap": (can_swap, {"scene": ASKED}),
    "normal": (normal, {"scene": ASKED}),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_error_of_a_wrong_call_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(function, good, name)
    assert not found, "\n".join(found)


def test_pictures_with_nan_are_refused():
    bad = IMAGES.copy()
    bad[1, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="read: images holds NaN or infinity"):
        JUDGE.read(bad)


@pytest.mark.parametrize("method", ["read", "right", "residual", "jitter"])
@pytest.mark.parametrize(
    ("other", "remedy"),
    [(lambda x: 2 * x - 1, r"images / 2 \+ 0.5$"), (lambda x: 255 * x, "images / 255$")],
    ids=["-1", "255"],
)
def test_pictures_in_another_range_are_refused_with_the_remedy(method, other, remedy):
    scenes = (SCENES[1][:3],) if method == "right" else ()
    getattr(JUDGE, method)(IMAGES, *scenes)
    with pytest.raises(ValueError, match=rf"^{method}: images has .*use {remedy}"):
        getattr(JUDGE, method)(other(IMAGES), *scenes)


def test_bytes_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="images of uint8 must be floats .* images / 255"):
        JUDGE.read((255 * IMAGES).astype(np.uint8))


def test_pictures_a_little_outside_of_0_to_1_are_read():
    assert JUDGE.read(1.4 * IMAGES - 0.05) == JUDGE.read(IMAGES)


def test_a_scene_of_two_things_is_refused_by_the_judge_of_one():
    with pytest.raises(ValueError, match="right: scenes holds .* takes scenes of 1 thing"):
        JUDGE.right(IMAGES, [ASKED] * 3)


@pytest.mark.parametrize(
    ("colour", "read"),
    [
        ((1.0, 0.55, 0.1), "red"),  # orange
        ((1.0, 1.0, 1.0), "yellow"),  # white
        ((1.0, 0.0, 1.0), "red"),  # magenta
        ((0.0, 1.0, 1.0), "blue"),  # cyan
        ((1.0, 0.6, 0.7), "yellow"),  # pink
    ],
)
def test_a_colour_between_the_four_is_not_right_for_the_nearest_of_them(colour, read):
    cover = coverage("circle", 3.2, np.array([[4.0, 4.0]]), 16)
    images = (np.array(colour)[:, None, None] * cover).astype(np.float32)[None]
    asked = Scene((Thing("circle", read, "large", "top left"),))
    right = JUDGE.right(images, [asked])
    assert JUDGE.read(images) == [asked]
    assert right["shape"] and not right["colour"] and not right["all"]
    two = scene(f"{read} circle", f"{read} square")
    images = draw_scenes([two], jitter=0.0)
    cover = coverage("circle", 3.2, np.array([[4.0, 8.0]]), 16)
    images = images * (1 - cover) + np.array(colour)[:, None, None] * cover
    right = JUDGES[16, 2].right(images.astype(np.float32), [two])
    assert right["shape"] and not right["colour"] and not right["all"]
