"""Shapes and words: a synthetic text-to-image data set, drawings with English and Chinese captions.

    a small green triangle top left       左上角的绿色小三角形          one thing
    a red circle left of a blue square    红色圆形在蓝色方块左边        two things and a relation

A text-to-image model should draw what the text says.  For photographs only people can judge this;
for these drawings a simple rule can (show/rule_judge.py), so a demo can count how many captions a
model follows.  One thing has a shape, a colour, a size and a place: 4 x 4 x 2 x 4 = 128 captions.
Two things have a shape and a colour each and one of four relations: 16 x 15 x 4 = 960 captions.

Four of the 16 pairs of shape and colour are held out, and each shape and each colour is in exactly
one of them.  A model that is trained on the other twelve has seen red things and squares, but never
a red square.  If it draws one, it has combined the words and not just remembered pictures.

Each thing is drawn up to one pixel (of 16) away from its nominal place, by a random real number.
Its edge is anti-aliased: brightness falls over one pixel across the edge.  So one caption has
infinitely many pictures.  The colours also differ in lightness, so that people who cannot tell red
from green can still tell them apart.

Read next: tokenizer.py.
Shapes: N scenes, S side in pixels; images (N, 3, S, S) float32 in [0, 1].
Positions are (x, y) in sixteenths of the side, from the top left, so they hold for every side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import product

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import choice, flag, number, shown, size

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow")
SIZES = ("small", "large")
PLACES = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left of", "right of", "above", "below")
ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES}
# Each shape and each colour occurs once.
HELD_OUT = (("circle", "yellow"), ("square", "red"), ("triangle", "blue"), ("cross", "green"))

# RGB of each colour, on a black ground. CIE lightness: blue 40, red 51, green 69, yellow 91.
RGB = np.array(
    [(0.90, 0.20, 0.20), (0.30, 0.75, 0.35), (0.15, 0.30, 0.90), (1.00, 0.90, 0.30)], np.float32
)
# Half the width of a thing, and the centre of each place, in sixteenths of the side.
RADIUS = {"small": 2.4, "large": 3.2}
CENTRE = {
    "top left": (4.0, 4.0),
    "top right": (12.0, 4.0),
    "bottom left": (4.0, 12.0),
    "bottom right": (12.0, 12.0),
}
# The centres of the first and the second thing. In scenes of two, both things are large, and at
# their closest they only touch.
CENTRES_OF_TWO = {
    "left of": ((3.8, 8.0), (12.2, 8.0)),
    "right of": ((12.2, 8.0), (3.8, 8.0)),
    "above": ((8.0, 3.8), (8.0, 12.2)),
    "below": ((8.0, 12.2), (8.0, 3.8)),
}

CHINESE = {
    "circle": "圆形",
    "square": "方块",
    "triangle": "三角形",
    "cross": "十字",
    "red": "红色",
    "green": "绿色",
    "blue": "蓝色",
    "yellow": "黄色",
    "small": "小",
    "large": "大",
    "top left": "左上角",
    "top right": "右上角",
    "bottom left": "左下角",
    "bottom right": "右下角",
    "left of": "左边",
    "right of": "右边",
    "above": "上面",
    "below": "下面",
}
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Thing:
    """A thing: its shape and colour, and its size and place if the text names them."""

    shape: str
    colour: str
    size: str | None = None
    place: str | None = None

    def __post_init__(self) -> None:
        choice(self.shape, "Thing: shape", SHAPES)
        choice(self.colour, "Thing: colour", COLOURS)
        choice(self.size, "Thing: size", (*SIZES, None))
        choice(self.place, "Thing: place", (*PLACES, None))

    @property
    def held_out(self) -> bool:
        """Is this pair of shape and colour held out from training?"""
        return (self.shape, self.colour) in HELD_OUT


@dataclass(frozen=True)
class Scene:
    """One thing, or two with a relation: things[0] is ``relation`` things[1]."""

    things: tuple[Thing, ...]
    relation: str | None = None

    def __post_init__(self) -> None:
        things = self.things
        if not isinstance(things, tuple) or not all(isinstance(t, Thing) for t in things):
            raise TypeError(f"Scene: things is {shown(things)}; it must be a tuple of Things")
        if len(things) not in (1, 2):
            raise ValueError(f"Scene: things has {len(things)} Things; it must have 1 or 2")
        if len(things) == 1:
            choice(self.relation, "Scene: relation of one thing", (None,))
            return
        choice(self.relation, "Scene: relation of two things", RELATIONS)
        if any(thing.size or thing.place for thing in things):
            raise ValueError(
                f"Scene: things is {shown(things)}; of two things the size and the place must be "
                "None, because captions of two things do not name them"
            )

    @property
    def held_out(self) -> bool:
        """Does the scene contain a held-out pair of shape and colour?"""
        return any(thing.held_out for thing in self.things)


def all_scenes(things: int = 1, held_out: bool = False) -> list[Scene]:
    """All scenes of one thing (96 seen, 32 held out) or of two (528 seen, 432 held out), always in
    the same order. The size and the place of one thing are given. Two things always differ in shape
    or colour.

    held_out: False for the scenes to train on, True for those with a held-out pair.
    """
    things = choice(things, "all_scenes: things", (1, 2))
    held_out = flag(held_out, "all_scenes: held_out")
    kinds = [Thing(shape, colour) for shape, colour in product(SHAPES, COLOURS)]
    if things == 1:
        scenes = [
            Scene((replace(kind, size=size, place=place),))
            for kind, size, place in product(kinds, SIZES, PLACES)
        ]
    else:
        scenes = [
            Scene((first, second), relation)
            for first, second, relation in product(kinds, kinds, RELATIONS)
            if first != second
        ]
    return [scene for scene in scenes if scene.held_out == held_out]


def near_misses(scene: Scene) -> dict[str, list[Scene]]:
    """The scenes that differ from this one in exactly one attribute, by the name of the attribute.

    One thing: "shape", "colour", "size", "place". Two things: "shape" and "colour" of one of them,
    "relation", and "swapped colours" if both shapes and colours differ. An attribute that the scene
    leaves open is not changed.
    """
    one_scene(scene, "near_misses: scene")
    if len(scene.things) == 1:
        thing = scene.things[0]
        return {
            name: [
                Scene((replace(thing, **{name: other}),))
                for other in options
                if getattr(thing, name) not in (None, other)
            ]
            for name, options in ATTRIBUTES.items()
        }
    first, second = scene.things
    missed: dict[str, list[Scene]] = {}
    for name in ("shape", "colour"):
        changed = [
            (replace(first, **{name: other}), second)
            for other in ATTRIBUTES[name]
            if other != getattr(first, name)
        ] + [
            (first, replace(second, **{name: other}))
            for other in ATTRIBUTES[name]
            if other != getattr(second, name)
        ]
        missed[name] = [Scene(pair, scene.relation) for pair in changed if pair[0] != pair[1]]
    missed["relation"] = [
        Scene(scene.things, other) for other in RELATIONS if other != scene.relation
    ]
    missed["swapped colours"] = []
    if first.shape != second.shape and first.colour != second.colour:
        swapped = (replace(first, colour=second.colour), replace(second, colour=first.colour))
        missed["swapped colours"] = [Scene(swapped, scene.relation)]
    return missed


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def caption(scene: Scene, language: str = "en") -> str:
    """The scene in words, English ("en") or Chinese ("zh"). An attribute that is None is left
    out."""
    one_scene(scene, "caption: scene")
    choice(language, "caption: language", LANGUAGES)
    spoken = _english if language == "en" else _chinese
    if scene.relation is None:
        return spoken(scene.things[0])
    first, second = map(spoken, scene.things)
    if language == "en":
        return f"{first} {scene.relation} {second}"
    return f"{first}在{second}{CHINESE[scene.relation]}"


def _english(thing: Thing) -> str:
    words = ["a", thing.size, thing.colour, thing.shape, thing.place]
    return " ".join(word for word in words if word)


def _chinese(thing: Thing) -> str:
    place = f"{CHINESE[thing.place]}的" if thing.place else ""
    size = CHINESE[thing.size] if thing.size else ""
    return f"{place}{CHINESE[thing.colour]}{size}{CHINESE[thing.shape]}"


def scene_of(text: str) -> Scene:
    """The scene of a caption in either language: the inverse of ``caption``. ValueError for a text
    that is not a caption of this data set."""
    text = inputs.text(text, "scene_of: text")
    scenes = _scenes_by_caption()
    found = scenes.get(" ".join(text.lower().split()))
    if found is None:
        nearest = get_close_matches(text[:100].lower(), scenes, 1, 0.3)
        raise ValueError(
            f"scene_of: text is {shown(text)}; it must be a caption such as "
            f"{nearest[0] if nearest else 'a small green triangle top left'!r}"
        )
    return found


@cache
def _scenes_by_caption() -> dict[str, Scene]:
    """Every caption of both languages, including those that leave out size or place."""
    kinds = [Thing(shape, colour) for shape, colour in product(SHAPES, COLOURS)]
    scenes = [
        Scene((replace(kind, size=size, place=place),))
        for kind, size, place in product(kinds, (*SIZES, None), (*PLACES, None))
    ]
    scenes += [Scene(pair, relation) for pair in product(kinds, kinds) for relation in RELATIONS]
    return {caption(scene, language): scene for scene in scenes for language in LANGUAGES}


def words(languages: Sequence[str] = LANGUAGES) -> list[str]:
    """Every word of the captions, each once and always in the same order, for a WordTokenizer."""
    if not isinstance(languages, (list, tuple)) or not languages:
        raise TypeError(f"words: languages is {shown(languages)}; it must be a list of languages")
    found: list[str] = []
    for language in languages:
        choice(language, "words: languages", LANGUAGES)
        if language == "en":
            texts = ("a", *SIZES, *COLOURS, *SHAPES, *PLACES, *RELATIONS)
            found += [word for text in texts for word in text.split()]
        else:
            found += ["的", "在", *CHINESE.values()]
    return list(dict.fromkeys(found))


# ── drawings ─────────────────────────────────────────────────────────────────────────────────────


def draw_scenes(
    scenes: Sequence[Scene], side: int = 16, jitter: float = 1.0, seed: int = 0
) -> np.ndarray:
    """A drawing of each scene: images (N, 3, side, side) float32 in [0, 1], on black.

    jitter: the largest offset of a thing from its nominal place along each axis, in sixteenths of
    the side; offsets are uniform. A size or a place that a scene of one thing leaves open is chosen
    at random.
    """
    scenes = scene_list(scenes, "draw_scenes: scenes")
    side = inputs.whole(side, "draw_scenes: side", 8, 1024)
    jitter = number(jitter, "draw_scenes: jitter", 0, 8)
    rng = np.random.default_rng(size(seed, "draw_scenes: seed"))
    images = np.zeros((len(scenes), 3, side, side), np.float32)
    # Every scene uses the same number of random numbers, whatever it leaves open, so its drawing
    # does not depend on what the other scenes leave open.
    sizes = rng.integers(0, len(SIZES), len(scenes))
    places = rng.integers(0, len(PLACES), len(scenes))
    offsets = rng.uniform(-jitter, jitter, (len(scenes), 2, 2))
    filled = [
        _filled(scene, SIZES[i], PLACES[j])
        for scene, i, j in zip(scenes, sizes, places, strict=True)
    ]
    for layer in range(2):  # the first thing, then the second, which covers it if they touch
        here = np.array([i for i, s in enumerate(filled) if layer < len(s.things)], np.int64)
        if not here.size:
            continue
        things = [filled[i].things[layer] for i in here]
        centres = np.array([centres_of(filled[i])[layer] for i in here]) + offsets[here, layer]
        cover = np.empty((len(here), 1, side, side), np.float32)
        for shape, size_ in product(SHAPES, SIZES):
            alike = [t.shape == shape and (t.size or "large") == size_ for t in things]
            cover[alike, 0] = coverage(shape, RADIUS[size_], centres[alike], side)
        colours = RGB[[COLOURS.index(t.colour) for t in things]][:, :, None, None]
        images[here] = images[here] * (1 - cover) + colours * cover
    return images


def coverage(shape: str, radius: float, centres: np.ndarray, side: int) -> np.ndarray:
    """How much of each pixel a thing covers, 0 to 1: (N, side, side) float32 for centres (N, 2).

    The coverage is clip(1/2 - d, 0, 1), where d is the distance from the centre of the pixel to the
    edge of the thing, in pixels, negative inside. radius and centres are in sixteenths of the side.
    """
    choice(shape, "coverage: shape", SHAPES)
    radius, side = (
        number(radius, "coverage: radius", 0),
        inputs.whole(side, "coverage: side", 1, 1024),
    )
    centres = inputs.array(centres, "coverage: centres", "points (N, 2)", ndim=2)
    if centres.shape[1] != 2 or not np.isfinite(centres).all():
        raise ValueError(
            f"coverage: centres has shape {centres.shape}; it must be finite points (N, 2)"
        )
    middles = (np.arange(side) + 0.5) * (16 / side)
    x = (middles - centres[:, :1])[:, None, :]  # (N, 1, S), to the right of the centre
    y = (middles - centres[:, 1:])[:, :, None]  # (N, S, 1), below it
    distance = _distance(shape, x, y, radius) * (side / 16)
    return np.clip(0.5 - distance, 0, 1).astype(np.float32)


def _distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """The distance to the edge of the shape, in the unit of radius, negative inside. Near a corner
    it is the distance to the extended side, not to the corner itself."""
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - radius
    if shape == "triangle":
        # The tip is at (0, -radius), the base at y = radius. The sides have the slope 2.
        sides = (2 * np.abs(x) - y - radius) / np.sqrt(5)
        return np.maximum(sides, y - radius)
    arm = radius / 3  # cross: two bars, three times as long as wide
    across = np.maximum(np.abs(x) - radius, np.abs(y) - arm)
    down = np.maximum(np.abs(x) - arm, np.abs(y) - radius)
    return np.minimum(across, down)


def centres_of(scene: Scene) -> tuple[tuple[float, float], ...]:
    """The nominal centre (x, y) of each thing. A scene of one thing must name its place."""
    one_scene(scene, "centres_of: scene")
    if scene.relation is not None:
        return CENTRES_OF_TWO[scene.relation]
    place = scene.things[0].place
    if place is None:
        raise ValueError(f"centres_of: scene is {shown(scene)}; its place must be given")
    return (CENTRE[place],)


def one_scene(scene: Scene, what: str) -> Scene:
    """The scene; TypeError for anything else."""
    if not isinstance(scene, Scene):
        raise TypeError(f"{what} is {shown(scene)}; it must be a Scene")
    return scene


def scene_list(scenes: Sequence[Scene], what: str) -> list[Scene]:
    """The scenes as a list; TypeError for anything that is not a Scene."""
    if not isinstance(scenes, (list, tuple)) or not all(isinstance(s, Scene) for s in scenes):
        raise TypeError(f"{what} is {shown(scenes)}; it must be a list of Scenes")
    return list(scenes)


def _filled(scene: Scene, size: str, place: str) -> Scene:
    """The scene with this size and place where it leaves them open."""
    if len(scene.things) == 2:
        return scene
    thing = scene.things[0]
    return Scene((replace(thing, size=thing.size or size, place=thing.place or place),))
