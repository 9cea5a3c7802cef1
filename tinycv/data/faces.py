"""Synthetic faces: 32 x 32 RGB faces drawn by NumPy, with named attributes that are independent.

    images, attributes = faces(4000, seed=0)
    images                   (N, 3, 32, 32) float32 in [0, 1]
    attributes["glasses"]    (N,) 0 or 1, and so on

    0 or 1       glasses, woman, smile, blond, beard, hat         each a fair coin
    continuous   turn, light, skin, dx, dy                        each uniform, see RANGES

Nothing here is a photo of anybody. The faces are a stand-in for CelebA, drawn so that the lecture's
equation "man with glasses - man + woman = woman with glasses" can be tried and its answer checked.
Here "woman" is nothing but long hair and a narrow jaw, and "man" short hair and a square jaw. All
attributes are drawn independently, so one in four faces has both a beard and long hair. If two
attributes always came together in the data, no method could learn to change one and keep the other.

How a face is drawn: as layers from back to front, each with a colour and a signed distance
function, which is negative inside the shape and grows by 1 per pixel. A layer covers the share
clip(1/2 - distance, 0, 1) of a pixel, so that edges are smooth (anti-aliasing) and a face that
moves by a tenth of a pixel changes a little.

See at work: demos/10_face_arithmetic.py.   Shapes: N faces; x, y (N, 32, 32) in pixels from the
middle of the image, y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import shown, whole

SIDE = 32
BINARY = ("glasses", "woman", "smile", "blond", "beard", "hat")
RANGES = {
    "turn": (-1.0, 1.0),  # of the head: -1 looks to the left side of the image, 1 to the right
    "light": (-1.0, 1.0),  # comes from the left (-1) or from the right (1)
    "skin": (0.0, 1.0),  # from dark to pale
    "dx": (-1.0, 1.0),  # pixels by which the head is moved
    "dy": (-1.0, 1.0),
}
CHUNK = 128  # faces drawn at a time: their layers stay in the processor's cache
Parameters = dict[str, np.ndarray]  # each (N, 1, 1), float32

WALL, SHIRT, HAT_COLOUR = (0.60, 0.70, 0.80), (0.25, 0.40, 0.45), (0.75, 0.20, 0.22)
WHITE, BLACK, LIPS, FRAME = (0.96, 0.96, 0.96), (0.05, 0.05, 0.08), (0.70, 0.22, 0.25), (0.1,) * 3
DARK_HAIR, BLOND_HAIR = (0.20, 0.12, 0.08), (0.92, 0.76, 0.38)
DARK_SKIN, PALE_SKIN = (0.68, 0.47, 0.35), (0.98, 0.82, 0.70)


def faces(n: int, seed: int = 0, **chosen: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """n faces (n, 3, 32, 32) float32 in [0, 1] with random attributes, and these attributes by
    name, (n,) each.

    chosen: attributes that are not random, each one value for all faces, or (n,) values. For
    example, ``faces(9, glasses=1, woman=0)`` draws nine men with glasses.
    """
    n, seed = inputs.whole(n, "faces: n", 1), whole(seed, "faces: seed")
    if seed < 0:
        raise ValueError(f"faces: seed is {seed}; it must be a whole number, at least 0")
    rng = np.random.default_rng(seed)
    attributes: dict[str, Any] = {name: rng.integers(0, 2, n) for name in BINARY}
    for name, (low, high) in RANGES.items():
        attributes[name] = rng.uniform(low, high, n).astype(np.float32)
    checked = _checked(attributes | chosen, n, "faces")
    return _drawn(checked), checked


def draw_faces(attributes: Mapping[str, Any]) -> np.ndarray:
    """The faces (N, 3, 32, 32) with these attributes, each a number or (N,) numbers. Attributes
    that are not named are 0 (skin: 0.7)."""
    if not isinstance(attributes, Mapping):
        raise TypeError(
            f"draw_faces: attributes are {shown(attributes)}; they must be numbers by name, such "
            'as {"glasses": 1}'
        )
    n = max([1, *(np.size(value) for value in attributes.values())])
    plain = dict.fromkeys([*BINARY, *RANGES], 0) | {"skin": 0.7}
    return _drawn(_checked(plain | dict(attributes), n, "draw_faces"))


def _checked(attributes: Mapping[str, Any], n: int, who: str) -> dict[str, np.ndarray]:
    """Every attribute as (n,) values of its range: int64 if it is 0 or 1, otherwise float32."""
    unknown = [name for name in attributes if name not in (*BINARY, *RANGES)]
    if unknown:
        raise ValueError(
            f"{who}: there is no attribute {shown(unknown[0])}; a face has "
            f"{', '.join([*BINARY, *RANGES])}"
        )
    checked = {}
    for name, value in attributes.items():
        low, high = RANGES.get(name, (0, 1))
        given = inputs.array(value, f"{who}: {name}", f"one number, or {n} numbers, one per face")
        if given.ndim > 1 or given.size not in (1, n):
            raise ValueError(
                f"{who}: {name} has shape {given.shape}; it must be one number, or {n} numbers, "
                "one per face"
            )
        if not ((given >= low) & (given <= high)).all():  # also refuses NaN
            raise ValueError(f"{who}: {name} is {shown(value)}; it must be from {low} to {high}")
        if name in BINARY and not np.isin(given, (0, 1)).all():
            raise ValueError(f"{who}: {name} is {shown(value)}; it must be 0 or 1")
        dtype = np.int64 if name in BINARY else np.float32
        checked[name] = np.broadcast_to(given.reshape(-1), (n,)).astype(dtype)
    return checked


# ── Drawing: layers from back to front ───────────────────────────────────────────────────────────


def _drawn(attributes: dict[str, np.ndarray]) -> np.ndarray:
    """The faces with these attributes, drawn in chunks."""
    n = len(attributes["turn"])
    images = np.empty((n, 3, SIDE, SIDE), np.float32)
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        values = {
            name: value[part].astype(np.float32)[:, None, None]
            for name, value in attributes.items()
        }
        images[part] = _draw_chunk(values)
    return images


def _draw_chunk(a: Parameters) -> np.ndarray:
    """Faces (N, 3, 32, 32) with the attributes a, (N, 1, 1) each."""
    middle = (SIDE - 1) / 2
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - middle  # (32, 32)
    x, y = x - a["dx"], y - a["dy"]  # (N, 32, 32): from the middle of each head
    image = np.empty((len(x), 3, SIDE, SIDE), np.float32)
    image[:] = _colour(WALL)
    hair = _between(DARK_HAIR, BLOND_HAIR, a["blond"])  # (N, 3, 1, 1)
    skin = _between(DARK_SKIN, PALE_SKIN, a["skin"])
    face = _face_shape(x - 0.5 * a["turn"], y - 1, a["woman"])

    _draw_back_hair(image, x, y, a, hair)
    _paint(image, _box(x, y - 12, 3.5, 5), skin * 0.85)  # neck
    _paint(image, _ellipse(x, y - 17.5, 12.5, 5), _colour(SHIRT))
    _paint(image, face, skin)
    # What is on the front of the head moves further than the head itself when it turns.
    front = x - 1.8 * a["turn"]  # (N, 32, 32)
    _draw_beard(image, front, y, a, face, hair)
    _draw_front_hair(image, x - 0.5 * a["turn"], y, a, face, hair)
    _draw_eyes(image, front, y, hair)
    _paint(image, _box(front - 0.6 * a["turn"], y - 1.5, 0.5, 1.6), skin * 0.72)  # nose
    _draw_mouth(image, front, y, a)
    _draw_glasses(image, front, y, a)
    _draw_hat(image, x - 0.5 * a["turn"], y, a)
    return _lit(image, x, a["light"])


def _draw_back_hair(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, a: Parameters, hair: np.ndarray
) -> None:
    """Long hair that falls behind the face down to the shoulders, or short hair to the ears."""
    shift = x - 0.2 * a["turn"]
    long = np.minimum(_ellipse(shift, y + 2, 10.6, 11), _box(shift, y - 4.5, 10.6, 7.5))
    short = np.maximum(_ellipse(shift, y + 2.5, 9.4, 10.2), y - 0.5)
    _paint(image, long, hair * 0.85, a["woman"])
    _paint(image, short, hair * 0.85, 1 - a["woman"])


def _draw_front_hair(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    a: Parameters,
    face: np.ndarray,
    hair: np.ndarray,
) -> None:
    """Hair on the forehead: a straight edge above short sides, or a parting between long ones."""
    parting = y + 5.6 - 0.07 * x * x  # lower towards the sides
    fringe = np.where(a["woman"] > 0, parting, y + 5.8)
    # a little wider than the face, so that no skin shines through along its edge
    _paint(image, np.maximum(face - 0.8, fringe), hair)


def _draw_beard(
    image: np.ndarray,
    front: np.ndarray,
    y: np.ndarray,
    a: Parameters,
    face: np.ndarray,
    hair: np.ndarray,
) -> None:
    """The lower part of the face in the colour of the hair, a little darker."""
    edge = 3.6 - y + 0.045 * front * front - 0.8 * (np.abs(front) < 3)  # with a moustache
    _paint(image, np.maximum(face, edge), hair * 0.6, a["beard"])


def _draw_eyes(image: np.ndarray, front: np.ndarray, y: np.ndarray, hair: np.ndarray) -> None:
    """Eyes with pupils, and brows."""
    aside = np.abs(front) - 3.7  # both eyes at once: 0 in the middle of either
    _paint(image, _ellipse(aside, y + 1, 1.9, 1.3), _colour(WHITE))
    _paint(image, _ellipse(aside, y + 1, 0.9, 1.2), _colour(BLACK))
    _paint(image, _box(aside, y + 4, 2.0, 0.55), hair * 0.7)


def _draw_mouth(image: np.ndarray, front: np.ndarray, y: np.ndarray, a: Parameters) -> None:
    """A straight mouth; or a smile, which is wide, curved and shows the teeth."""
    straight = _box(front, y - 6.4, 2.6, 0.7)
    _paint(image, straight, _colour(LIPS), 1 - a["smile"])
    bowl = np.maximum(_ellipse(front, y - 4.9, 4.7, 4.2), 4.9 - y)  # the lower half of an ellipse
    _paint(image, bowl, _colour(LIPS), a["smile"])
    teeth = np.maximum(_ellipse(front, y - 4.9, 4.1, 2.9), 4.9 - y)
    _paint(image, teeth, _colour(WHITE), a["smile"])


def _draw_glasses(image: np.ndarray, front: np.ndarray, y: np.ndarray, a: Parameters) -> None:
    """Two dark rings round the eyes, a bridge between them, two arms, and a tint on the lenses."""
    lens = _ellipse(np.abs(front) - 3.7, y + 1, 3.1, 2.9)
    _paint(image, lens, _colour((0.55, 0.75, 0.90)), 0.6 * a["glasses"])
    ring = np.abs(lens) - 0.7
    bridge = _box(front, y + 1.4, 1.0, 0.5)
    arms = np.maximum(_box(front, y + 1.4, 8.5, 0.5), 6.5 - np.abs(front))
    frame = np.minimum(np.minimum(ring, bridge), arms)
    _paint(image, frame, _colour(FRAME), a["glasses"])


def _draw_hat(image: np.ndarray, x: np.ndarray, y: np.ndarray, a: Parameters) -> None:
    """A hat whose brim stays above the brows, so that it hides neither eyes nor glasses."""
    crown = np.maximum(_ellipse(x, y + 7, 8.2, 8.5), y + 7)
    band = _box(x, y + 8.2, 8.0, 1.0)
    brim = _box(x, y + 6.6, 11.5, 0.9)
    _paint(image, crown, _colour(HAT_COLOUR), a["hat"])
    _paint(image, band, _colour(BLACK), a["hat"])
    _paint(image, brim, _colour(HAT_COLOUR) * 0.8, a["hat"])


def _lit(image: np.ndarray, x: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The image with light from one side: the other side is up to an eighth darker."""
    shade = 0.94 + 0.06 * np.clip(x / 10, -1, 1) * light  # (N, 32, 32), 0.88 to 1
    return np.clip(image * shade[:, None], 0, 1)


# ── Signed distances and colours ─────────────────────────────────────────────────────────────────


def _face_shape(x: np.ndarray, y: np.ndarray, woman: np.ndarray) -> np.ndarray:
    """The outline of the face: an ellipse, whose lower half is narrow or square by the jaw."""
    jaw = np.clip(y / 9.5, 0, 1)  # 0 above the middle, 1 at the chin
    narrow = 8.0 - 2.2 * jaw  # half the width at each height
    square = 8.0 + 1.4 * jaw
    width = np.where(woman > 0, narrow, square)
    return _ellipse(x, y, width, 9.5)


def _ellipse(x: np.ndarray, y: np.ndarray, half_width: Any, half_height: float) -> np.ndarray:
    """Signed distance from an ellipse, exact for a circle and close enough near the edge of others:
    the value of the equation, divided by the length of its gradient."""
    across, down = x / half_width, y / half_height
    radius = np.sqrt(across * across + down * down) + 1e-6
    slope = np.sqrt((across / half_width) ** 2 + (down / half_height) ** 2) / radius + 1e-6
    return (radius - 1) / slope


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Signed distance from an upright rectangle, measured along the axes."""
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _paint(image: np.ndarray, distance: np.ndarray, colour: np.ndarray, share: Any = 1.0) -> None:
    """Cover the image (N, 3, 32, 32), in place, with a shape. share: how opaque it is; 0 for the
    faces that do not have it."""
    cover = (np.clip(0.5 - distance, 0, 1) * share)[:, None]  # (N, 1, 32, 32)
    image += cover * (colour - image)


def _colour(rgb: tuple[float, ...]) -> np.ndarray:
    """A colour that broadcasts over images: (3, 1, 1)."""
    return np.array(rgb, np.float32)[:, None, None]


def _between(first: tuple[float, ...], second: tuple[float, ...], share: np.ndarray) -> np.ndarray:
    """A colour between two, by the share (N, 1, 1) of the second: (N, 3, 1, 1)."""
    return _colour(first) + share[:, None] * (_colour(second) - _colour(first))
