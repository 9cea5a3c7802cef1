"""Rule judge: reads a drawing of shapes_and_words.py back to its scene, without a neural network.

    read(image) = argmin over scenes and positions of |image - drawing|²     (least squares)

A judge that is itself a neural network may share the errors of the network that it judges.  This
data set is so small that every drawing can be tried: each shape, size and colour at each place, on
a grid whose step is 1/64 of the side.  With the coverage m of a thing and its colour c,

    |x - c m|² - |x|² = |c|² |m|² - 2 Σ m (c · x)        how one thing changes the squared distance

so one matrix product of images and coverages tries all positions of a thing.  A parabola through
the best position and its neighbours finds the minimum between grid points.  The thing that fits
best wins.

An image counts as empty (None) if a thing explains less than half of its own energy |c m|², or if
the residual has more energy than all things together: a blank picture, noise, or a drawing that
resembles no scene.  It has too many things if one more thing would explain more than half of its
own energy in the residual.

Two things have four relations but two readings: "a left of b" and "b right of a" are one picture.
``read`` answers with "left of" and "above", and ``right`` takes either.

Read first: data/shapes_and_words.py.
Shapes: N images (N, 3, S, S) in [0, 1]; P slots, where a thing can be; K kinds, shape and size.
Positions are in sixteenths of the side, as there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from tinycv.data import inputs
from tinycv.data.shapes_and_words import (
    CENTRE,
    CENTRES_OF_TWO,
    COLOURS,
    RADIUS,
    RGB,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    coverage,
    one_scene,
    scene_list,
)
from tinycv.engine.arguments import choice, shown

# How far a thing may be from its nominal place, and the step of the grid. In the data the offset is
# at most 1; the things that a model draws may be a little farther away.
REACH, STEP = 1.5, 0.25
COARSE = 0.5  # the step of the grid for one more thing
# The share of its energy that a thing must explain to be there.
THERE = 0.5
# A colour counts as one of the four if its distance from it is less than this: half of the smallest
# distance between two of them.
CLEAR = min(np.linalg.norm(a - b) for a, b in combinations(RGB, 2)) / 2  # 0.35
BLOCK = 128  # images compared at once, few enough for the arrays to fit into the cache
OPPOSITE = {"right of": "left of", "below": "above"}


@dataclass(frozen=True)
class Reading:
    """What was read in one image."""

    scene: Scene | None  # None: nothing there
    offsets: np.ndarray  # (things, 2): x and y from the nominal place, in sixteenths
    distance: float  # |image - drawing|²
    count: bool  # are all the things there, and no other thing?
    clear: bool  # is each colour clearly one of the four, not orange or white?


class RuleJudge:
    """Reads drawings of one or two things. side: of the images, in pixels, S. things: 1 or 2.

    All methods take images (N, 3, side, side) in [0, 1]. Models make pixels from -1 to 1, so pass
    images / 2 + 0.5; images far outside [0, 1] are refused. Values a little outside are not
    clipped: clip the images of a model first if you show them clipped. A judge of one thing reads
    one thing, also where a picture shows two.
    """

    def __init__(self, side: int = 16, things: int = 1):
        self.side = inputs.whole(side, "RuleJudge: side", 8, 128)
        self.things = choice(things, "RuleJudge: things", (1, 2))
        if self.things == 1:
            self.kinds = list(product(SHAPES, SIZES))
            self.slots = dict(CENTRE)
        else:
            self.kinds = [(shape, "large") for shape in SHAPES]
            left, right = CENTRES_OF_TWO["left of"]
            top, bottom = CENTRES_OF_TWO["above"]
            self.slots = {"left": left, "right": right, "top": top, "bottom": bottom}
        self.centres = np.array(list(self.slots.values()))  # (P, 2)
        steps = np.arange(-REACH, REACH + STEP / 2, STEP)
        self.grid = np.array(list(product(steps, steps)))  # (G, 2)
        at = (self.centres[:, None] + self.grid).reshape(-1, 2)  # (P G, 2)
        masks = [coverage(shape, RADIUS[size], at, self.side) for shape, size in self.kinds]
        # (K, P, G, S S), and the energy |m|² of each
        self.masks = np.stack(masks).reshape(
            len(self.kinds), len(self.slots), len(self.grid), self.side**2
        )
        self.energies = (self.masks**2).sum(axis=-1)  # (K, P, G)
        # One more thing may lie anywhere. Small things are enough, because a large thing covers the
        # small one of its shape.
        line = np.arange(RADIUS["small"], 16 - RADIUS["small"] + COARSE / 2, COARSE)
        everywhere = np.array(list(product(line, line)))
        small = [coverage(shape, RADIUS["small"], everywhere, self.side) for shape in SHAPES]
        self.small_masks = np.concatenate(small).reshape(-1, self.side**2)  # (M, S S)
        self.small_energies = (self.small_masks**2).sum(axis=-1)  # (M,)

    def read(self, images: np.ndarray) -> list[Scene | None]:
        """The scene of each image. None: nothing there."""
        return [reading.scene for reading in self._readings(images, "read")]

    def right(self, images: np.ndarray, scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
        """Which images show what their scenes say: bool arrays (N,) under "all", "shape", "colour",
        "size", "place" and "count", or for two things "all", "shape", "colour", "relation", "count"
        and "swapped colours".

        An empty image is right in nothing. An attribute that a scene leaves open is always right.
        count: there is no other thing. all: everything is right, including the count.
        colour: orange does not count as red, nor white as yellow.
        shape, colour of two things: both shapes, or both colours, occur, on either thing.
        relation: the things have the relation that was asked for. If one of them is wrong, shape or
        colour must still tell which thing is which.
        swapped colours: both shapes and both colours are there, but each shape has the colour of
        the other. This error of attribute binding is possible only if ``can_swap(scene)``.
        """
        scenes = scene_list(scenes, "right: scenes")
        found = self._readings(images, "right")
        if len(scenes) != len(found):
            raise ValueError(
                f"right: scenes has {len(scenes)} Scenes; it must have {len(found)}, one per image"
            )
        for scene in scenes:
            if len(scene.things) != self.things:
                raise ValueError(
                    f"right: scenes holds {shown(scene)}; this judge takes scenes of {self.things} "
                    f"thing{'s' * (self.things > 1)}"
                )
        compare = _one_right if self.things == 1 else _two_right
        names = ONE_RIGHT if self.things == 1 else TWO_RIGHT
        rows = [
            dict.fromkeys(names, False) if r.scene is None else compare(r, r.scene, scene)
            for r, scene in zip(found, scenes, strict=True)
        ]
        return {name: np.array([row[name] for row in rows], bool) for name in names}

    def residual(self, images: np.ndarray) -> np.ndarray:
        """The distance from the nearest clean drawing, per pixel and channel: (N,) root mean
        squares. 0 for a clean drawing."""
        distances = np.array([reading.distance for reading in self._readings(images, "residual")])
        return np.sqrt(distances / (3 * self.side**2))

    def jitter(self, images: np.ndarray) -> np.ndarray:
        """How far the thing lies from its nominal place, (x, y) in sixteenths of the side: (N, 2),
        or (N, 2, 2) for two things, the left or upper one first. NaN where nothing is there. The
        standard deviation of real drawings is 1 / √3 = 0.58."""
        found = self._readings(images, "jitter")
        offsets = np.array([r.offsets for r in found]).reshape(len(found), self.things, 2)
        offsets[np.array([r.scene is None for r in found], bool)] = np.nan
        return offsets[:, 0] if self.things == 1 else offsets

    def _readings(self, images: np.ndarray, method: str) -> list[Reading]:
        x = inputs.array(
            images, f"{method}: images", f"images (N, 3, {self.side}, {self.side})", ndim=4
        )
        if x.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"{method}: images has shape {x.shape}; this judge takes (N, 3, {self.side}, "
                f"{self.side})"
            )
        if x.dtype.kind != "f":
            raise ValueError(
                f"{method}: images of {x.dtype} must be floats from 0 to 1; if they are bytes, use "
                "images / 255"
            )
        if not np.isfinite(x).all():
            raise ValueError(f"{method}: images holds NaN or infinity, which show nothing")
        inputs.refuse_other_ranges(x, f"{method}: images")
        x = x.reshape(len(x), 3, self.side**2).astype(np.float32)
        found: list[Reading] = []
        for start in range(0, len(x), BLOCK):
            found += self._read_block(x[start : start + BLOCK])
        return found

    def _read_block(self, x: np.ndarray) -> list[Reading]:
        """The readings of images x (N, 3, S S)."""
        change, offset = self._compare(x)
        of_slot = change.min(axis=(1, 3))  # (N, P), the best fit at each slot
        if self.things == 1:
            chosen = of_slot.argmin(axis=1)[:, None]  # (N, 1)
        else:  # the slots are left, right, top, bottom
            across = of_slot[:, 0] + of_slot[:, 1] < of_slot[:, 2] + of_slot[:, 3]
            chosen = np.where(across[:, None], [0, 1], [2, 3])  # (N, 2)
        every = np.arange(len(x))
        drawing, energy = np.zeros_like(x), np.zeros(len(x))
        there, clear = np.ones(len(x), bool), np.ones(len(x), bool)
        kinds, colours, offsets = [], [], []
        for slot in chosen.T:
            best = change[every, :, slot].reshape(len(x), -1).argmin(axis=1)
            kind, colour = np.divmod(best, len(COLOURS))
            moved = offset[every, kind, slot, colour]  # (N, 2)
            cover = self._covers(kind, self.centres[slot] + moved)[:, None]  # (N, 1, S S)
            ink = RGB[colour][:, :, None] * cover
            energy_of_thing = (ink**2).sum(axis=(1, 2))
            explained = 2 * (ink * x).sum(axis=(1, 2)) - energy_of_thing
            there &= explained > THERE * energy_of_thing
            seen = (cover * x).sum(axis=2) / (cover**2).sum(axis=2)  # (N, 3), its colour
            clear &= np.linalg.norm(seen - RGB[colour], axis=1) < CLEAR
            drawing, energy = drawing * (1 - cover) + ink, energy + energy_of_thing
            kinds.append(kind)
            colours.append(colour)
            offsets.append(moved)
        distance = ((x - drawing) ** 2).sum(axis=(1, 2), dtype=np.float64)
        there &= distance < energy
        count = there & ~self._one_more(x - drawing)
        return [
            Reading(
                self._scene(chosen[i], [k[i] for k in kinds], [c[i] for c in colours])
                if there[i]
                else None,
                np.array([o[i] for o in offsets]),
                float(distance[i]),
                bool(count[i]),
                bool(clear[i]),
            )
            for i in every
        ]

    def _compare(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The change of the squared distance from images x (N, 3, S S) by each kind in each slot
        and colour at its best position, (N, K, P, colours), and that position beside the nominal
        one, (N, K, P, colours, 2)."""
        n, steps = len(x), round(len(self.grid) ** 0.5)
        projected = np.einsum("kc,ncp->nkp", RGB, x).reshape(n * len(COLOURS), -1)
        weight = (RGB**2).sum(axis=1)[:, None]  # |c|² of each colour
        change = np.empty((n, len(self.kinds), len(self.slots), len(COLOURS)))
        offset = np.empty((*change.shape, 2))
        for kind, slot in product(range(len(self.kinds)), range(len(self.slots))):
            products = (projected @ self.masks[kind, slot].T).reshape(n, len(COLOURS), -1)
            values = weight * self.energies[kind, slot] - 2 * products  # (N, colours, G)
            lowest, place = lowest_of_grid(values.reshape(-1, steps, steps))
            change[:, kind, slot] = lowest.reshape(n, -1)
            offset[:, kind, slot] = (place * STEP - REACH).reshape(n, -1, 2)
        return change, offset

    def _one_more(self, left_over: np.ndarray) -> np.ndarray:
        """Would one more thing explain more than half of its energy in the residual (N, 3, S S)?
        Returns (N,) bool."""
        projected = np.einsum("kc,ncp->nkp", RGB, left_over)
        products = projected.reshape(-1, self.side**2) @ self.small_masks.T
        weight = (RGB**2).sum(axis=1)[:, None]
        energy = weight * self.small_energies  # (colours, M)
        explained = 2 * products.reshape(len(left_over), *energy.shape) - energy
        return (explained > THERE * energy).any(axis=(1, 2))

    def _covers(self, kinds: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """The coverage (N, S S) of one thing per image."""
        covers = np.empty((len(kinds), self.side, self.side), np.float32)
        for number, (shape, size) in enumerate(self.kinds):
            here = kinds == number
            covers[here] = coverage(shape, RADIUS[size], centres[here], self.side)
        return covers.reshape(len(kinds), -1)

    def _scene(self, slots: np.ndarray, kinds: list[int], colours: list[int]) -> Scene:
        names = [list(self.slots)[slot] for slot in slots]
        things = []
        for name, kind, colour in zip(names, kinds, colours, strict=True):
            shape, size = self.kinds[kind]
            if self.things == 1:
                things.append(Thing(shape, COLOURS[colour], size, name))
            else:
                things.append(Thing(shape, COLOURS[colour]))
        if self.things == 1:
            return Scene((things[0],))
        return Scene((things[0], things[1]), "left of" if names[0] == "left" else "above")


def lowest_of_grid(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The minimum of each of M surfaces (M, G, G) between its grid points: values (M,) and places
    (M, 2), in steps. Along each axis a parabola goes through the lowest point and its neighbours.
    """
    m, g, _ = values.shape
    every = np.arange(m)
    first, second = np.divmod(values.reshape(m, -1).argmin(axis=1), g)
    lowest = values[every, first, second]
    place = np.stack([first, second], axis=1).astype(float)
    drop = np.zeros(m)
    for axis, index in enumerate((first, second)):
        inside = (index > 0) & (index < g - 1)  # at the border there is no parabola
        near = np.clip(index, 1, g - 2)
        if axis == 0:
            before, after = values[every, near - 1, second], values[every, near + 1, second]
        else:
            before, after = values[every, first, near - 1], values[every, first, near + 1]
        bend = before + after - 2 * lowest
        curved = inside & (bend > 0)
        shift = np.where(curved, (before - after) / (2 * np.where(curved, bend, 1)), 0)
        place[:, axis] += shift
        drop += np.where(curved, bend, 0) * shift**2 / 2
    return lowest - drop, place


# ── right or wrong ───────────────────────────────────────────────────────────────────────────────

ONE_RIGHT = ("all", "shape", "colour", "size", "place", "count")
TWO_RIGHT = ("all", "shape", "colour", "relation", "count", "swapped colours")


def can_swap(scene: Scene) -> bool:
    """Can a picture of this scene show swapped colours? Only if the two things differ in both shape
    and colour: with equal shapes, swapped colours and swapped places look the same."""
    if len(one_scene(scene, "can_swap: scene").things) == 1:
        return False
    first, second = scene.things
    return first.shape != second.shape and first.colour != second.colour


def normal(scene: Scene) -> Scene:
    """The scene of the same picture that is described with "left of" or "above"."""
    opposite = OPPOSITE.get(one_scene(scene, "normal: scene").relation or "")
    return Scene(scene.things[::-1], opposite) if opposite else scene


def _one_right(reading: Reading, found: Scene, asked: Scene) -> dict[str, bool]:
    thing, wanted = found.things[0], asked.things[0]
    right = {
        "shape": thing.shape == wanted.shape,
        "colour": reading.clear and thing.colour == wanted.colour,
        "size": wanted.size in (None, thing.size),
        "place": wanted.place in (None, thing.place),
        "count": reading.count,
    }
    return {"all": all(right.values()), **right}


def _two_right(reading: Reading, found: Scene, asked: Scene) -> dict[str, bool]:
    asked = normal(asked)
    shapes, wanted_shapes = ([t.shape for t in s.things] for s in (found, asked))
    colours, wanted_colours = ([t.colour for t in s.things] for s in (found, asked))
    same_shapes = sorted(shapes) == sorted(wanted_shapes)
    same_colours = sorted(colours) == sorted(wanted_colours)
    same_things = Counter(found.things) == Counter(asked.things)
    # Which thing is which? If both are there, the things tell; otherwise shape or colour does.
    in_order = (
        found.things == asked.things
        if same_things
        else shapes == wanted_shapes or colours == wanted_colours
    )
    return {
        "all": found == asked and reading.count and reading.clear,
        "shape": same_shapes,
        "colour": same_colours and reading.clear,
        "relation": found.relation == asked.relation and in_order,
        "count": reading.count,
        "swapped colours": can_swap(asked) and same_shapes and same_colours and not same_things,
    }
