"""Synthetic landscapes with label maps (semantic segmentation): six classes, four styles.

    label map (H, W)      0 cloud, 1 sky, 2 tree, 3 mountain, 4 sea, 5 grass: the lecture's legend
    image (3, H, W)       colour[style, class] · (1 + strength · texture[class]) · light[style],
                          with random changes of colour and brightness, and a little noise

One label map has many images: the same place by day, at sunset, in winter and at night.  So a
network that turns a map into an image also has to receive the style.

A judge of such images should not recognise a class by its colour alone, or a generator could
satisfy it with six flat colours.  So each class but the sky has a texture, and classes share
colours: in winter grass is as white as a cloud, and at night the sky is as dark as the sea.

    cloud      wisps, which rise to the right     tree    clumps of leaves, 2 x 2 pixels
    sky        smooth                             sea     waves, nearly horizontal
    mountain   ridges, which fall to the right    grass   upright blades, one pixel wide

``render_any_colours`` draws the same textures, but gives the colours of a style to the classes in a
random order.  A segmenter that learns from these images reads texture and shape, because a colour
says nothing about the class.

See at work: demos/11_label_to_image.py.   Shapes: N scenes, H = W = 32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinycv.data import inputs
from tinycv.data.photos import open_photo

CLASSES = ("cloud", "sky", "tree", "mountain", "sea", "grass")
CLOUD, SKY, TREE, MOUNTAIN, SEA, GRASS = range(len(CLASSES))
# One colour per class, in RGB, for label maps that people look at and paint.
LEGEND = np.array(
    [
        (206, 212, 230),  # cloud: pale lilac
        (110, 190, 240),  # sky: light blue
        (20, 100, 50),  # tree: dark green
        (130, 90, 60),  # mountain: brown
        (20, 70, 170),  # sea: dark blue
        (140, 205, 80),  # grass: light green
    ],
    np.uint8,
)
TOLERANCE = 12  # a painted colour may differ from the legend by so much in each of R, G and B
SIDE = 32

STYLES = ("day", "sunset", "winter", "night")
# COLOURS[style, class] in RGB, from 0 to 1. Several classes have nearly the same on purpose.
COLOURS = np.array(
    [
        [  # day
            (0.90, 0.91, 0.94),
            (0.45, 0.68, 0.92),
            (0.14, 0.32, 0.14),
            (0.50, 0.45, 0.42),
            (0.25, 0.45, 0.65),
            (0.42, 0.58, 0.28),
        ],
        [  # sunset
            (0.74, 0.46, 0.45),
            (0.92, 0.60, 0.42),
            (0.22, 0.14, 0.12),
            (0.46, 0.30, 0.32),
            (0.62, 0.40, 0.38),
            (0.50, 0.36, 0.18),
        ],
        [  # winter
            (0.82, 0.84, 0.87),
            (0.68, 0.76, 0.84),
            (0.42, 0.48, 0.48),
            (0.70, 0.73, 0.78),
            (0.52, 0.62, 0.70),
            (0.80, 0.82, 0.86),
        ],
        [  # night
            (0.26, 0.28, 0.38),
            (0.11, 0.13, 0.26),
            (0.06, 0.09, 0.10),
            (0.19, 0.19, 0.28),
            (0.11, 0.15, 0.28),
            (0.14, 0.22, 0.20),
        ],
    ],
    np.float32,
)
# How strongly each texture darkens and brightens its colour. The sky is smooth.
STRENGTH = np.array([0.22, 0.0, 0.45, 0.35, 0.35, 0.26], np.float32)
CONTRAST = np.array([1.0, 1.0, 0.75, 1.3], np.float32)  # of each style
LIGHT = np.array([0.08, 0.25, 0.04, 0.15], np.float32)  # how much brighter the horizon is


def scenes(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n random scenes: label maps (n, 32, 32) uint8, images (n, 3, 32, 32) float32 from 0 to 1, and
    the style of each, (n,) int64."""
    n, seed = inputs.whole(n, "scenes: n"), inputs.size(seed, "scenes: seed")
    rng = np.random.default_rng(seed)
    labels = label_maps(n, rng)
    styles = rng.integers(0, len(STYLES), n)
    return labels, render(labels, styles, rng), styles


# ── label maps ───────────────────────────────────────────────────────────────────────────────────


def label_maps(n: int, rng: np.random.Generator) -> np.ndarray:
    """n random landscapes as label maps (n, 32, 32) uint8: a horizon with the sky above it, then
    mountains, clouds, sea or grass or a shore between them, and trees."""
    n = inputs.drawn("label_maps", n, rng)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) + 0.5  # the centres of the pixels

    def uniform(low: float, high: float, things: int = 1) -> np.ndarray:
        return rng.uniform(low, high, (n, things, 1, 1)).astype(np.float32)

    def some(share: float, things: int) -> np.ndarray:
        return rng.random((n, things, 1, 1)) < share

    horizon = uniform(13, 20)
    sky = y < horizon  # (n, 1, 32, 32)

    # Clouds: up to two, of three ellipses each.
    middle_x = uniform(0, SIDE, 2).repeat(3, axis=1) + uniform(-5, 5, 6)
    middle_y = uniform(2, 7, 2).repeat(3, axis=1) + uniform(-1, 1, 6)
    across = (x - middle_x) / uniform(4, 8, 6)
    down = (y - middle_y) / uniform(2.5, 4, 6)
    cloud = (across**2 + down**2 < 1) & some(0.8, 2).repeat(3, axis=1)  # (n, 6, 32, 32)

    # Mountains: up to three peaks behind the horizon.
    ridge = uniform(5, 13, 3) - uniform(0.5, 1.1, 3) * np.abs(x - uniform(0, SIDE, 3))
    mountain = (y > horizon - ridge) & some(0.65, 3)

    # Ground: sea, grass, or both with a slanting shore between them.
    kind = uniform(0, 1)
    slope = uniform(-0.3, 0.3)
    shore = horizon + uniform(3, 9) + slope * (x - SIDE / 2)  # (n, 1, 1, 32)
    shore = np.where(kind < 0.15, SIDE, np.where(kind < 0.45, 0, shore))
    sea = y < shore

    # Trees: up to three that stand on grass, with round crowns or as cones.
    foot_x, foot_y = uniform(2, SIDE - 2, 3), horizon + uniform(1, 11, 3)
    height, half = uniform(10, 17, 3), uniform(3.5, 6, 3)
    up, aside = (foot_y - y) / height, (x - foot_x) / half  # up: 0 at the foot, 1 at the top
    cone = np.abs(aside) < 1 - up
    crown = (2 * up - 1) ** 2 + aside**2 < 1
    tree = (up > 0) & np.where(some(0.5, 3), cone, crown)
    tree &= some(0.8, 3) & (foot_y > shore.max(axis=-1, keepdims=True))  # (n, 3, 32, 32)

    labels = np.where(sky, SKY, np.where(sea, SEA, GRASS))[:, 0]
    labels[sky[:, 0] & cloud.any(axis=1)] = CLOUD
    labels[sky[:, 0] & mountain.any(axis=1)] = MOUNTAIN
    labels[tree.any(axis=1)] = TREE
    return labels.astype(np.uint8)


def patchworks(n: int, rng: np.random.Generator, seeds: int = 6) -> np.ndarray:
    """n label maps (n, 32, 32) uint8 that resemble no landscape: each pixel has the class of the
    nearest of up to ``seeds`` random points (Voronoi cells). Some maps have one class only.

    A segmenter that also learns from these does not rely on places, such as the sky at the top.
    """
    n, seeds = inputs.drawn("patchworks", n, rng), inputs.whole(seeds, "patchworks: seeds", 1, 1000)
    y, x = np.mgrid[:SIDE, :SIDE]
    points = rng.uniform(0, SIDE, (n, seeds, 2, 1, 1))
    count = rng.integers(1, seeds + 1, (n, 1, 1, 1))  # the points that this map uses
    distance = (points[:, :, 0] - y) ** 2 + (points[:, :, 1] - x) ** 2  # (n, seeds, 32, 32)
    distance = np.where(np.arange(seeds)[:, None, None] < count, distance, np.inf)
    classes = rng.integers(0, len(CLASSES), (n, seeds)).astype(np.uint8)
    return classes[np.arange(n)[:, None, None], distance.argmin(axis=1)]


# ── images ───────────────────────────────────────────────────────────────────────────────────────


def render(labels: np.ndarray, styles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (N, 3, 32, 32) float32 of label maps (N, 32, 32), each in its style (N,)."""
    labels = _label_maps(labels, "render: labels")
    styles = inputs.class_numbers(styles, "render: styles", len(STYLES), len(labels))
    rng = inputs.generator(rng, "render: rng")
    # No two days are equal: the brightness and the colour of the light vary, and those of a class.
    exposure = 1 + rng.normal(0, 0.12, (len(labels), 1, 1)).clip(-0.25, 0.25)
    tint = 1 + rng.normal(0, 0.05, (len(labels), 1, 3))
    variety = 1 + rng.normal(0, 0.05, (len(labels), len(CLASSES), 3))
    colours = COLOURS[styles] * exposure * tint * variety  # (N, 6, 3)
    strength = STRENGTH * CONTRAST[styles, None]
    # Towards the horizon, in the middle of the image, the sky is brighter, and so is its mirror
    # image in the ground.
    distance = np.abs(np.linspace(-1, 1, SIDE))[:, None]  # from the middle row: (32, 1)
    light = 1 + LIGHT[styles, None, None] * (1 - 2 * distance)  # (N, 32, 1)
    return _drawn(labels, colours, strength, light, rng)


def render_any_colours(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (N, 3, 32, 32) float32 of label maps (N, 32, 32), whose classes have random colours:
    only texture and shape tell them apart. Strength of the textures and light are random too."""
    labels, rng = (
        _label_maps(labels, "render_any_colours: labels"),
        inputs.generator(rng, "render_any_colours: rng"),
    )
    n = len(labels)
    # The colours of a random style, but dealt out to the classes at random, as are R, G and B.
    deal = rng.permuted(np.broadcast_to(np.arange(len(CLASSES)), (n, len(CLASSES))), axis=1)
    channels = rng.permuted(np.broadcast_to(np.arange(3), (n, 3)), axis=1)
    style = rng.integers(0, len(STYLES), n)
    colours = COLOURS[style[:, None, None], deal[:, :, None], channels[:, None]]  # (n, 6, 3)
    colours = colours * rng.uniform(0.75, 1.25, colours.shape)
    strength = STRENGTH * rng.uniform(0.7, 1.4, (n, len(CLASSES)))
    slope = np.linspace(-1, 1, SIDE)[:, None] * rng.uniform(-0.25, 0.25, (n, 1, 1))
    return _drawn(labels, colours, strength, 1 + slope, rng)


def _drawn(
    labels: np.ndarray,
    colours: np.ndarray,
    strength: np.ndarray,
    light: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The images. colours (N, 6, 3), strength (N, 6), light (N, 32, 1)."""
    images = np.empty((len(labels), 3, SIDE, SIDE), np.float32)
    every = np.arange(len(labels))[:, None, None]
    brightness = np.ones(labels.shape)
    for number in range(len(CLASSES)):
        texture = _texture(number, len(labels), rng)
        here = labels == number
        amount = strength[:, number, None, None] * texture
        brightness[here] += np.broadcast_to(amount, labels.shape)[here]
    colour = colours[every, labels].transpose(0, 3, 1, 2)  # (N, 3, 32, 32)
    grain = rng.normal(0, 0.008, images.shape)
    np.clip(colour * (brightness * light)[:, None] + grain, 0, 1, out=images, casting="unsafe")
    return images


def _texture(number: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """The texture of a class, about -1 to 1, for n images: (n, 32, 32)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    moved = rng.normal(0, 0.3, (n, 1, 1))  # in radians
    bent = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    if number == CLOUD:
        return np.sin(np.pi / 2 * (x + y) + moved)
    if number == TREE:
        return np.where((x // 2 + y // 2) % 2, 1, -1) * _cells(n, 2, 2, 0.3, rng)
    if number == MOUNTAIN:
        return np.sin(np.pi / 2 * (x - y) + moved)
    if number == SEA:
        return np.sin(np.pi / 2 * y + moved + 0.5 * np.sin(x / 4 + bent))
    if number == GRASS:
        return np.where(x % 2, 1, -1) * _cells(n, 8, 1, 0.2, rng)
    return np.zeros((n, SIDE, SIDE))  # the sky


def _cells(n: int, height: int, width: int, low: float, rng: np.random.Generator) -> np.ndarray:
    """Noise from ``low`` to 1, with one value per cell of height x width pixels: (n, 32, 32)."""
    noise = rng.uniform(low, 1, (n, SIDE // height, SIDE // width))
    return noise.repeat(height, axis=1).repeat(width, axis=2)


# ── label maps as pictures ───────────────────────────────────────────────────────────────────────


def paint(labels: np.ndarray) -> np.ndarray:
    """Label maps (..., H, W) as pictures in the colours of the legend: (..., 3, H, W) float32."""
    labels = inputs.array(labels, "paint: labels", "label maps (..., H, W) of integers", "iu")
    if labels.ndim < 2:
        raise ValueError(f"paint: labels has shape {labels.shape}; it must be (..., H, W)")
    _expect_classes(labels, "paint: labels")
    return np.moveaxis(LEGEND[labels], -1, -3).astype(np.float32) / 255


def label_map_from_png(path: str | Path, side: int = SIDE) -> np.ndarray:
    """The label map (side, side) uint8 of a picture that is painted in the colours of the legend.

    The picture is a square of ``side`` pixels, or of a multiple: each pixel of the map then takes
    the pixel in the middle of its square. A colour may differ from the legend by TOLERANCE.
    Transparency is ignored: a pixel that is transparent has the colour that the file holds for it.
    """
    side = inputs.whole(side, "label_map_from_png: side", 1, 4096)
    path = inputs.file(path, "label_map_from_png: path")
    picture = np.asarray(open_photo(path, channels=3)).astype(np.int16)  # (H, W, 3)
    height, width = picture.shape[:2]
    if height != width or height % side:
        raise ValueError(
            f"label_map_from_png: {path} is {width} x {height} pixels; it must be {side} x {side}, "
            f"or a square of a multiple, such as {8 * side} x {8 * side}"
        )
    step = height // side
    pixels = picture[step // 2 :: step, step // 2 :: step, None]  # (side, side, 1, 3)
    difference = np.abs(pixels - LEGEND.astype(np.int16)).max(axis=-1)  # (side, side, 6)
    labels = difference.argmin(axis=-1)
    unknown = difference.min(axis=-1) > TOLERANCE
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        colour = tuple(map(int, pixels[row, column, 0]))
        raise ValueError(
            f"label_map_from_png: {path}: {unknown.sum()} of {unknown.size} pixels have a colour "
            f"that is not in the legend, the first RGB {colour} at row {row * step + step // 2}, "
            f"column {column * step + step // 2}; the legend is {legend()}"
        )
    return labels.astype(np.uint8)


def legend() -> str:
    """The classes and their colours in words: "cloud (206, 212, 230), sky ..."."""
    colours = (tuple(map(int, colour)) for colour in LEGEND)
    return ", ".join(f"{name} {colour}" for name, colour in zip(CLASSES, colours, strict=True))


def _label_maps(labels: np.ndarray, what: str) -> np.ndarray:
    """Label maps (N, 32, 32) with the six classes."""
    labels = inputs.array(labels, what, f"label maps (N, {SIDE}, {SIDE}) of integers", "iu")
    if labels.ndim != 3 or labels.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{what} has shape {labels.shape}; it must be (N, {SIDE}, {SIDE})")
    _expect_classes(labels, what)
    return labels


def _expect_classes(labels: np.ndarray, what: str) -> None:
    """IndexError for numbers that are no class, as in maps whose classes are counted from 1."""
    if labels.size and not 0 <= labels.min() <= labels.max() < len(CLASSES):
        raise IndexError(
            f"{what} holds numbers from {labels.min()} to {labels.max()}; the {len(CLASSES)} "
            f"classes are numbered from 0 to {len(CLASSES) - 1}"
        )
