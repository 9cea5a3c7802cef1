"""Handwritten digits: a picture of a digit that somebody drew becomes an image like those of MNIST.

A model that learned from MNIST expects light ink on black, 28 x 28 pixels, with

    the longer side of the digit scaled to 20 pixels, its proportions kept,
    its centre of mass in the middle of the image

(Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").  A picture that
somebody drew or photographed has none of these properties.  ``drawn_digit`` gives it them in five
steps:

    1  the paper     a surface of degree 2 is fitted to the colours near the border, then to
                     everything that lies close to it: the light on a photographed sheet is uneven
    2  the ink       how far each pixel is from the paper, in the direction of colours in which the
                     ink lies: so ink may be darker or lighter than the paper, or of another colour
    3  the digit     ink above Otsu's threshold (Otsu 1979), without specks and without what reaches
                     in from the border.  Several shapes beside each other are refused
    4  the stroke    thickened or thinned to a width that occurs in MNIST
    5  size, place   20 pixels, centre of mass in the middle

Needs Pillow.   Read next: vision/classify.py, the command that uses it.
Shapes: a picture (H, W, 3), its ink (H, W), both from 0 to 1.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinycv.data import atomic, inputs
from tinycv.data.extra import import_extra
from tinycv.data.photos import open_photo

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 512  # a larger picture is first scaled down, to this many pixels
COARSE = 128  # the most pixels of a side of the mask in which shapes are found
CANVAS, BOX, MIDDLE = 28, 20, 14  # MNIST: the image, the digit, and the pixel of its centre of mass
ENLARGED = 4  # strokes are measured and changed at this multiple of the final size
STROKE = (1.9, 4.1)  # pixels of the final image: nine tenths of MNIST's digits lie between
FAINTEST = 0.06  # the least contrast of ink, if 1 is that of black on white
CLEAR = 5.0  # ink must be this many times as strong as the unevenness of the paper
FAINT = 0.25  # ink at least this strong connects the parts of a digit
SPECK = 0.05  # a shape with less ink than this share of the largest is dropped
BESIDE = 0.5  # a shape beside the largest, and at least this share of its height, is another digit
WIDEST = 2.2  # width / height; 2.0 is the widest digit of MNIST


class NoDigit(ValueError):
    """A picture in which there is not exactly one digit, as far as this file can tell."""


def drawn_digit(path: str | Path) -> np.ndarray:
    """The digit in an image file as MNIST would show it: (1, 28, 28) float32, ink 1 and paper 0.

    ValueError, with the path, for a file that is no image, is broken or huge, and for a picture
    that is blank or shows several digits.
    """
    file = inputs.path(path, "drawn_digit: path")
    photo = open_photo(file, 3, alpha=True)
    try:
        return like_mnist(only_digit(ink(_pixels(photo))))[None]
    except NoDigit as problem:
        raise NoDigit(f"drawn_digit: {file}: {problem}") from None


def save_enlarged(path: str | Path, digit: np.ndarray) -> None:
    """Write a PNG of a digit (1, 28, 28) in which each pixel is a square that one can see."""
    file = atomic.file_path(path, "save_enlarged: path")
    digit = inputs.array(digit, "save_enlarged: digit", "an image (1, H, W) of floats", "f", ndim=3)
    if len(digit) != 1 or not digit.size:
        raise ValueError(f"save_enlarged: digit has shape {digit.shape}; it must be (1, H, W)")
    inputs.refuse_other_ranges(digit, "save_enlarged: digit", "digit")
    image = import_extra("PIL.Image", "Pillow")
    grey = np.rint(255 * np.clip(digit[0], 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    image.fromarray(np.kron(grey, np.ones((10, 10), np.uint8))).save(buffer, "PNG")
    atomic.write(file, buffer.getvalue())


# ── 1 and 2: the paper and the ink ────────────────────────────────────────────────────────────────


def ink(pixels: np.ndarray) -> np.ndarray:
    """How strong the ink is at each pixel of a picture (H, W, 3): (H, W), 0 on paper, about 1 in
    the middle of a stroke."""
    difference = pixels - paper(pixels)  # (H, W, 3)
    away = difference.reshape(-1, 3)
    distance = np.sqrt((away**2).sum(axis=1))
    # The colours of strong ink point in one direction from the paper. Weak differences are noise.
    strong = away[distance >= 0.5 * distance.max()]
    direction = strong.mean(axis=0)
    length = np.sqrt((direction**2).sum())
    if length < FAINTEST:
        raise NoDigit("it is blank: nothing on it stands out from its background")
    strength = np.maximum(difference @ (direction / length), 0)  # (H, W)
    threshold = otsu(strength)
    drawn = strength > threshold
    full = np.median(strength[drawn])
    noise = 1.4826 * np.median(distance[~drawn.ravel()])  # of the paper, as a standard deviation
    if full < FAINTEST or full < CLEAR * noise:
        raise NoDigit("it is blank: nothing on it stands out from its background")
    if drawn.mean() > 0.5:
        raise NoDigit(
            f"what stands out from its background covers {100 * drawn.mean():.0f} % of it: draw "
            "one digit on plain paper, with some room around it"
        )
    return np.clip((strength - 0.5 * threshold) / (full - 0.5 * threshold), 0, 1)


def paper(pixels: np.ndarray) -> np.ndarray:
    """The colours of the paper under a picture (H, W, 3): for each channel a polynomial of degree 2
    in the position, fitted by least squares to the pixels that are taken for paper.

    At first these are the pixels along the border, then those that are close to the last fit.
    """
    height, width = pixels.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    colours = pixels.reshape(-1, 3)
    # about 4000 pixels, evenly spaced, are enough to fit 18 coefficients
    sample = slice(None, None, max(1, len(colours) // 4000))
    sampled_terms, sampled_colours = terms[sample], colours[sample]
    edge = np.maximum(abs(x), abs(y)).ravel()[sample]
    chosen = edge > 0.9
    fitted = np.zeros((6, 3))
    for _ in range(6):
        fitted = np.linalg.lstsq(sampled_terms[chosen], sampled_colours[chosen], rcond=None)[0]
        residual = np.sqrt(((sampled_colours - sampled_terms @ fitted) ** 2).sum(axis=1))
        chosen = residual <= max(3 * np.median(residual[chosen]), 0.02)
    return (terms @ fitted).reshape(pixels.shape)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that maximises the variance between both classes, w_0 w_1 (μ_0 - μ_1)². If many
    do, because no value lies between the classes, it is the mean of these thresholds."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]  # w_0 for a threshold after each bin
    sum_below = np.cumsum(counts * centres)[:-1]
    above, sum_above = counts.sum() - below, (counts * centres).sum() - sum_below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sum_below / below - sum_above / above) ** 2
    between = np.nan_to_num(between)  # a class without values
    return float(edges[1:-1][between >= between.max() * (1 - 1e-9)].mean())


# ── 3: which of the shapes is the digit ───────────────────────────────────────────────────────────


def only_digit(strength: np.ndarray) -> np.ndarray:
    """The ink (H, W) of the one digit, cut to the rectangle that encloses it."""
    step = -(-max(strength.shape) // COARSE)
    coarse = _largest_of_blocks(strength, step)
    labels = shapes(coarse > FAINT)
    strong = np.unique(labels[coarse > 0.5])  # of each shape a part must be no faint ink
    found = [_Shape(labels == number, coarse) for number in strong]
    inner = [shape for shape in found if not shape.touches_border]
    longest = max(shape.side for shape in found)
    if any(shape.side >= longest / 4 for shape in inner):
        found = inner  # what reaches in from the border is the edge of the sheet, or the table
    largest = max(found, key=lambda shape: shape.amount)
    found = [shape for shape in found if shape.amount >= SPECK * largest.amount]
    others = [shape for shape in found if shape is not largest]
    beside = [shape for shape in others if shape.is_beside(largest)]
    if beside:
        raise NoDigit(
            f"there are {len(beside) + 1} shapes beside each other: cut out one digit at a time"
        )
    digit = np.logical_or.reduce([shape.mask for shape in found])
    digit = np.kron(digit, np.ones((step, step), bool))[: strength.shape[0], : strength.shape[1]]
    cut = _cut(np.where(digit, strength, 0), 0.5)
    height, width = cut.shape
    if width > WIDEST * height:
        raise NoDigit(
            f"its ink is {width / height:.1f} times as wide as it is high, wider than any digit: "
            "cut out one digit at a time"
        )
    return cut


class _Shape:
    """Connected ink: where it is (H, W), how much, and the rectangle around it."""

    def __init__(self, mask: np.ndarray, strength: np.ndarray):
        self.mask, self.amount = mask, float(strength[mask].sum())
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        self.top, self.bottom = int(rows[0]), int(rows[-1]) + 1
        self.left, self.right = int(columns[0]), int(columns[-1]) + 1
        self.height, self.width = self.bottom - self.top, self.right - self.left
        self.side = max(self.height, self.width)
        height, width = mask.shape
        self.touches_border = (
            self.top == 0 or self.left == 0 or self.bottom == height or self.right == width
        )

    def is_beside(self, other: _Shape) -> bool:
        """Is this another digit, to the left or right of the other one, or well above or below it?
        A part of the same digit, such as the bar of a 5, overlaps with it, is much smaller, or
        lies close above the rest."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        apart_across = across < 0.2 * min(self.width, other.width)
        apart_down = down < -0.15 * min(self.height, other.height)
        return (apart_across or apart_down) and self.height >= BESIDE * other.height


def shapes(drawn: np.ndarray) -> np.ndarray:
    """A number above 0 for each connected shape of a mask (H, W), diagonals included; 0 elsewhere.

    Each pixel starts with a number of its own, and takes the largest of its neighbourhood until
    nothing changes.
    """
    labels = np.where(drawn, np.arange(1, drawn.size + 1).reshape(drawn.shape), 0)
    while True:
        wide = np.pad(labels, 1)
        rows = np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:])
        grown = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
        grown = np.where(drawn, grown, 0)
        if (grown == labels).all():
            return labels
        labels = grown


def _largest_of_blocks(strength: np.ndarray, step: int) -> np.ndarray:
    """The largest value of each block of step x step pixels."""
    height, width = strength.shape
    padded = np.pad(strength, ((0, -height % step), (0, -width % step)))
    return padded.reshape(len(padded) // step, step, -1, step).max(axis=(1, 3))


# ── 4 and 5: as MNIST draws it ────────────────────────────────────────────────────────────────────


def like_mnist(digit: np.ndarray) -> np.ndarray:
    """The ink of a digit (H, W), cut to its edges, in the proportions of MNIST: (28, 28)."""
    image, filters = import_extra("PIL.Image", "Pillow"), import_extra("PIL.ImageFilter", "Pillow")
    height, width = digit.shape
    scale = ENLARGED * BOX / max(height, width)
    sides = max(ENLARGED, round(width * scale)), max(ENLARGED, round(height * scale))
    large = image.fromarray((255 * digit).round().astype(np.uint8))
    large = large.resize(sides, image.Resampling.BILINEAR)
    room = image.new("L", (sides[0] + 2 * ENLARGED, sides[1] + 2 * ENLARGED))
    room.paste(large, (ENLARGED, ENLARGED))
    stroke = stroke_width(np.asarray(room) / 255) / ENLARGED
    # never thinner than half: a square filter would remove a diagonal stroke whole
    wanted = max(min(max(stroke, STROKE[0]), STROKE[1]), stroke / 2)
    size = 2 * round(ENLARGED * abs(wanted - stroke) / 2) + 1  # pixels, an odd number
    if size > 1:
        room = room.filter(filters.MaxFilter(size) if wanted > stroke else filters.MinFilter(size))
    return _centred(_cut(np.asarray(room) / 255, 0.25))


def stroke_width(strength: np.ndarray) -> float:
    """The mean width of strokes in pixels: 2 area / perimeter, where the perimeter is the total
    variation Σ |∇ strength|. A long bar of width w has an area of w and a perimeter of 2 per
    pixel."""
    wide = np.pad(strength, 1)
    across = (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2
    down = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2
    return float(2 * strength.sum() / np.sqrt(across**2 + down**2).sum())


def _cut(strength: np.ndarray, least: float) -> np.ndarray:
    """Without the rows and columns at its edges in which no ink is stronger than ``least``."""
    rows = np.flatnonzero((strength > least).any(axis=1))
    columns = np.flatnonzero((strength > least).any(axis=0))
    return strength[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centred(digit: np.ndarray) -> np.ndarray:
    """The digit (H, W) scaled to BOX pixels on a black canvas, its centre of mass in the middle."""
    image = import_extra("PIL.Image", "Pillow")
    height, width = digit.shape
    scale = BOX / max(height, width)
    sides = max(1, round(width * scale)), max(1, round(height * scale))
    small = image.fromarray((255 * digit).round().astype(np.uint8))
    small = np.asarray(small.resize(sides, image.Resampling.BOX), np.float32) / 255
    height, width = small.shape
    mass = small.sum()
    down = float((small.sum(axis=1) * np.arange(height)).sum() / mass)
    across = float((small.sum(axis=0) * np.arange(width)).sum() / mass)
    # the digit stays whole, even if its centre of mass lies near one of its ends
    top = min(max(round(MIDDLE - down), 0), CANVAS - height)
    left = min(max(round(MIDDLE - across), 0), CANVAS - width)
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    canvas[top : top + height, left : left + width] = small
    return canvas


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


def _pixels(photo: Image) -> np.ndarray:
    """A Pillow image as (H, W, 3) float32 from 0 to 1, its longer side at most SIDE."""
    image = import_extra("PIL.Image", "Pillow")
    if photo.mode == "RGBA":
        photo = _on_paper(photo)
    shrink = SIDE / max(photo.size)
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in photo.size)
        photo = photo.resize((width, height), image.Resampling.BOX)
    return np.asarray(photo, np.float32) / 255


def _on_paper(photo: Image) -> Image:
    """A picture with transparent parts, laid on white if what is opaque is dark, on black if it is
    light."""
    image = import_extra("PIL.Image", "Pillow")
    grey, alpha = np.asarray(photo.convert("L")), np.asarray(photo.getchannel("A"))
    if not alpha.any():
        raise NoDigit("all of it is transparent")
    opaque = (
        alpha > int(alpha.max()) // 2
    )  # in comparison, since a marker's ink is half transparent
    is_light = np.median(grey[opaque]) > 127
    # If most of it is opaque, that is the paper, not the ink.
    if opaque.mean() > 0.5:
        is_light = not is_light
    backdrop = image.new("RGBA", photo.size, "black" if is_light else "white")
    backdrop.alpha_composite(photo)
    return backdrop.convert("RGB")
