"""Shapes and words: which scenes there are, that captions can be read back, and what is drawn."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from wrong_calls import riddles

from tinycv.data import shapes_and_words as world
from tinycv.data.shapes_and_words import (
    COLOURS,
    HELD_OUT,
    LANGUAGES,
    PLACES,
    RADIUS,
    RELATIONS,
    RGB,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    all_scenes,
    caption,
    coverage,
    draw_scenes,
    near_misses,
    scene_of,
    words,
)
from tinycv.data.tokenizer import WordTokenizer

GREEN = Scene((Thing("triangle", "green", "small", "top left"),))
BESIDE = Scene((Thing("circle", "red"), Thing("square", "blue")), "left of")
EVERY = [scene for n, held in product((1, 2), (False, True)) for scene in all_scenes(n, held)]


def lightness(rgb):
    """CIE lightness of an sRGB colour, 0 to 100."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


# ── scenes ───────────────────────────────────────────────────────────────────────────────────────


def test_there_are_128_scenes_of_one_thing_and_960_of_two():
    counts = [len(all_scenes(n, held)) for n in (1, 2) for held in (False, True)]
    assert counts == [96, 32, 528, 432]
    assert len(set(EVERY)) == 128 + 960


def test_each_shape_and_each_colour_is_held_out_once():
    assert sorted(shape for shape, _ in HELD_OUT) == sorted(SHAPES)
    assert sorted(colour for _, colour in HELD_OUT) == sorted(COLOURS)


@pytest.mark.parametrize("things", [1, 2])
def test_no_seen_scene_has_a_held_out_pair_and_every_held_out_scene_has_one(things):
    def pairs(scene):
        return {(thing.shape, thing.colour) for thing in scene.things}

    assert not [s for s in all_scenes(things) if pairs(s) & set(HELD_OUT)]
    assert not [s for s in all_scenes(things, True) if not pairs(s) & set(HELD_OUT)]


def test_every_word_of_a_held_out_caption_occurs_in_a_seen_one():
    for things, language in product((1, 2), LANGUAGES):
        tokenizer = WordTokenizer(words([language]))
        seen, held_out = (
            {w for s in all_scenes(things, held) for w in tokenizer.split(caption(s, language))}
            for held in (False, True)
        )
        assert held_out == seen


def test_two_things_are_never_alike():
    assert not [s for s in EVERY if len(s.things) == 2 and s.things[0] == s.things[1]]


# ── captions ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("language", LANGUAGES)
def test_scene_of_inverts_caption(language):
    assert [scene_of(caption(scene, language)) for scene in EVERY] == EVERY


def test_captions_read_as_they_should():
    assert caption(GREEN) == "a small green triangle top left"
    assert caption(GREEN, "zh") == "左上角的绿色小三角形"
    assert caption(BESIDE) == "a red circle left of a blue square"
    assert caption(BESIDE, "zh") == "红色圆形在蓝色方块左边"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_left_open_is_not_mentioned_and_read_back_as_open(language):
    for size, place in product((*SIZES, None), (*PLACES, None)):
        scene = Scene((Thing("cross", "yellow", size, place),))
        assert scene_of(caption(scene, language)) == scene
    assert caption(Scene((Thing("cross", "yellow"),)), language) in ("a yellow cross", "黄色十字")


def test_no_two_scenes_share_a_caption():
    assert len({caption(s, language) for s in EVERY for language in LANGUAGES}) == 2 * len(EVERY)


def test_english_captions_have_at_most_six_words_for_one_thing_and_nine_for_two():
    longest = Counter()
    for scene in EVERY:
        n = len(scene.things)
        longest[n] = max(longest[n], len(caption(scene).split()))
    assert longest[1] == 6 and longest[2] <= 9


def test_the_tokenizer_reads_every_caption_back():
    tokenizer = WordTokenizer(words())
    texts = [caption(scene, language) for scene in EVERY for language in LANGUAGES]
    assert tokenizer.decode(tokenizer.encode(texts, 9)) == texts


def test_spaces_and_capitals_do_not_matter_to_scene_of():
    assert scene_of("  A small GREEN triangle  top left ") == GREEN


def test_a_text_that_is_no_caption_gets_the_nearest_one_as_an_example():
    with pytest.raises(ValueError, match="scene_of: text is 'a red circl'.* such as 'a red circle"):
        scene_of("a red circl")


# ── near misses ──────────────────────────────────────────────────────────────────────────────────


def test_near_misses_of_one_thing_differ_in_the_named_attribute_alone():
    missed = near_misses(GREEN)
    assert {name: len(scenes) for name, scenes in missed.items()} == {
        "shape": 3,
        "colour": 3,
        "size": 1,
        "place": 3,
    }
    for name, scenes in missed.items():
        for scene in scenes:
            changed = [
                a for a in missed if getattr(scene.things[0], a) != getattr(GREEN.things[0], a)
            ]
            assert changed == [name]


def test_swapped_colours_are_a_near_miss_only_where_shapes_and_colours_differ():
    swapped = Scene((Thing("circle", "blue"), Thing("square", "red")), "left of")
    assert near_misses(BESIDE)["swapped colours"] == [swapped]
    alike = Scene((Thing("circle", "red"), Thing("circle", "blue")), "above")
    assert near_misses(alike)["swapped colours"] == []


def test_no_near_miss_is_the_scene_itself_or_has_two_things_alike():
    for scene in EVERY[::7]:
        for scenes in near_misses(scene).values():
            assert scene not in scenes
            assert not [s for s in scenes if len(s.things) == 2 and s.things[0] == s.things[1]]


# ── drawings ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", [16, 32, 24])
def test_drawings_have_the_shape_and_range_that_they_promise(side):
    images = draw_scenes(EVERY[::9], side, seed=1)
    assert images.shape == (len(EVERY[::9]), 3, side, side) and images.dtype == np.float32
    assert images.min() == 0 and images.max() <= 1


def test_no_scenes_give_no_images():
    assert draw_scenes([]).shape == (0, 3, 16, 16)


def test_a_seed_always_gives_the_same_drawings_and_another_seed_others():
    first, again, other = (draw_scenes(EVERY[:9], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_without_jitter_every_drawing_of_a_scene_is_the_same():
    first, second = draw_scenes([GREEN, GREEN], jitter=0)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [16, 32])
def test_the_ink_of_a_drawing_does_not_depend_on_where_it_lies(shape, side):
    """Anti-aliased: a shift by a part of a pixel changes the covered area little."""
    centres = np.random.default_rng(0).uniform(6, 10, (200, 2))
    areas = coverage(shape, RADIUS["large"], centres, side).sum(axis=(1, 2))
    assert areas.std() / areas.mean() < 0.06


@pytest.mark.parametrize("shape", SHAPES)
def test_a_drawing_at_twice_the_side_has_four_times_the_ink(shape):
    small, large = (
        coverage(shape, RADIUS["large"], np.array([[8.0, 8.0]]), side).sum() for side in (64, 128)
    )
    assert large / small == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(
    "shape, area", [("circle", np.pi * 9), ("square", 36), ("triangle", 18), ("cross", 20)]
)
def test_the_ink_of_a_large_drawing_is_the_area_of_its_shape(shape, area):
    ink = coverage(shape, 3.0, np.array([[8.0, 8.0]]), 128).sum() / 64
    assert ink == pytest.approx(area, rel=0.02)


def test_the_middle_of_a_square_lies_where_it_was_asked_for():
    centres = np.random.default_rng(0).uniform(6, 10, (50, 2))
    ink = coverage("square", 3.0, centres, 16)
    at = np.arange(16) + 0.5
    found = np.stack(
        [(ink.sum(axis=1) * at).sum(axis=1), (ink.sum(axis=2) * at).sum(axis=1)], axis=1
    )
    np.testing.assert_allclose(found / ink.sum(axis=(1, 2))[:, None], centres, atol=0.02)


def test_things_of_a_relation_stand_as_it_says():
    first, second = Thing("square", "red"), Thing("square", "blue")
    images = draw_scenes([Scene((first, second), r) for r in RELATIONS], jitter=0)
    red, blue = (images @ np.ones(16) for images in (images[:, 0] > 0.5, images[:, 2] > 0.5))
    across_red, across_blue = (
        (images[:, channel] > 0.5).sum(axis=1) @ np.arange(16.0) for channel in (0, 2)
    )
    down_red, down_blue = (rows @ np.arange(16.0) for rows in (red, blue))
    assert across_red[0] < across_blue[0] and across_red[1] > across_blue[1]
    assert down_red[2] < down_blue[2] and down_red[3] > down_blue[3]


def test_what_a_scene_leaves_open_is_drawn_at_random():
    images = draw_scenes([Scene((Thing("square", "red"),))] * 60, jitter=0)
    assert len({image.tobytes() for image in images}) == len(SIZES) * len(PLACES)


def test_drawings_of_one_seed_do_not_change_if_a_later_scene_leaves_something_open():
    partial = Scene((Thing("square", "red"),))
    full = draw_scenes([GREEN, BESIDE], seed=5)
    assert draw_scenes([GREEN, BESIDE], seed=5).tobytes() == full.tobytes()
    assert draw_scenes([GREEN, partial], seed=5)[0].tobytes() == full[0].tobytes()


def test_colours_differ_in_lightness_for_eyes_that_do_not_see_red_or_green():
    found = np.sort([lightness(rgb) for rgb in RGB.astype(float)])
    assert np.diff(found).min() > 10


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────

GOOD = {
    "Thing": (Thing, {"shape": "cross", "colour": "red", "size": "small", "place": "top left"}),
    "Scene": (Scene, {"things": BESIDE.things, "relation": "above"}),
    "all_scenes": (all_scenes, {"things": 2, "held_out": True}),
    "caption": (caption, {"scene": GREEN, "language": "zh"}),
    "scene_of": (scene_of, {"text": "a red circle"}),
    "words": (words, {"languages": ["en", "zh"]}),
    "near_misses": (near_misses, {"scene": BESIDE}),
    "coverage": (
        coverage,
        {"shape": "cross", "radius": 2.0, "centres": np.array([[4.0, 5.0]]), "side": 16},
    ),
    "centres_of": (world.centres_of, {"scene": GREEN}),
    "draw_scenes": (draw_scenes, {"scenes": [GREEN], "side": 16, "jitter": 1.0, "seed": 0}),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_error_of_a_wrong_call_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(function, good, name)
    assert not found, "\n".join(found)


def test_a_thing_of_an_unknown_colour_is_refused():
    with pytest.raises(ValueError, match="Thing: colour is 'pink'"):
        Thing("circle", "pink")


def test_three_things_are_refused():
    with pytest.raises(ValueError, match="Scene: things has 3 Things; it must have 1 or 2"):
        Scene((*BESIDE.things, Thing("cross", "red")), "above")


def test_two_things_with_places_are_refused():
    with pytest.raises(ValueError, match="the size and the place must be None"):
        Scene((GREEN.things[0], Thing("cross", "red")), "above")


def test_one_thing_with_a_relation_is_refused():
    with pytest.raises(TypeError, match="Scene: relation of one thing is .above."):
        Scene((Thing("cross", "red"),), "above")


def test_a_scene_without_a_place_has_no_centre():
    with pytest.raises(ValueError, match="centres_of: scene .* place must be given"):
        world.centres_of(Scene((Thing("cross", "red"),)))
