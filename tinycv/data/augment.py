"""Data augmentation: random flips, crops, shifts and affine maps of a batch of images (B, C, H, W).

These changes do not change the label. Each function draws from the generator that it is given, so a
DataLoader can reproduce any batch. To pass arguments:

    DataLoader(x, y, batch_size=128, transform=partial(random_affine, degrees=10))
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinycv.data import inputs
from tinycv.engine.arguments import number, shown, sizes

# in pixels; more would be a mistake, and would fill the memory
MOST_PADDING = 2**14
# in degrees or pixels; beyond it float32 cannot resolve a position
FAR = 1e9


def random_flip(x: np.ndarray, rng: np.random.Generator, chance: float = 0.5) -> np.ndarray:
    """Mirror each image left to right with probability ``chance``. Not suitable for text or digits:
    a mirrored 2 is not a digit.

    x (B, C, H, W) of any type. Returns the same shape and type.
    """
    x, rng = _taken("random_flip", x, rng)
    chance = number(chance, "random_flip: chance", 0, 1)
    mirrored = rng.random(len(x)) < chance
    return np.where(mirrored[:, None, None, None], x[..., ::-1], x)


def random_crop(
    x: np.ndarray, rng: np.random.Generator, size: int | tuple[int, int], padding: int = 0
) -> np.ndarray:
    """Cut a window out of each image at a random position, after padding the image with
    ``padding`` pixels of zeros on every side.

    x (B, C, H, W) of any type; size: height and width of the window, or one number for both.
    Returns (B, C, *size).
    """
    x, rng = _taken("random_crop", x, rng)
    rows, columns = sizes(size, "random_crop: size", 2, 1)
    padding = inputs.whole(padding, "random_crop: padding", 0, MOST_PADDING)
    return _cropped(x, rng, rows, columns, padding)


def _cropped(
    x: np.ndarray, rng: np.random.Generator, rows: int, columns: int, padding: int
) -> np.ndarray:
    """``random_crop`` for checked arguments."""
    spare_rows, spare_columns = x.shape[2] + 2 * padding - rows, x.shape[3] + 2 * padding - columns
    if min(spare_rows, spare_columns) < 0:
        raise ValueError(
            f"random_crop: size: a window of {shown(rows)} x {shown(columns)} does not fit into "
            f"images of {x.shape[2]} x {x.shape[3]} with padding={padding}"
        )
    top, left = rng.integers(0, spare_rows + 1, len(x)), rng.integers(0, spare_columns + 1, len(x))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    # (B, C, spare + 1, spare + 1, rows, columns)
    windows = sliding_window_view(padded, (rows, columns), axis=(2, 3))
    return windows[np.arange(len(x)), :, top, left]  # (B, C, rows, columns)


def random_shift(x: np.ndarray, rng: np.random.Generator, pixels: int = 2) -> np.ndarray:
    """Move each image by a whole number of pixels, at most ``pixels`` in each direction, and fill
    with zeros.

    x (B, C, H, W) of any type. Returns the same shape and type.
    """
    x, rng = _taken("random_shift", x, rng)
    return _cropped(
        x, rng, *x.shape[2:], padding=inputs.whole(pixels, "random_shift: pixels", 0, MOST_PADDING)
    )


def random_affine(
    x: np.ndarray,
    rng: np.random.Generator,
    degrees: float = 15,
    translate: float = 0.1,
    scale: tuple[float, float] = (0.9, 1.1),
    shear: float = 0,
) -> np.ndarray:
    """Rotate, translate, scale and shear each image by uniform random amounts. x (B, C, H, W)
    float; returns the same shape.

    The arguments are those of torchvision's RandomAffine: angles within +-degrees, translations
    within +-translate times the width and height, scales within ``scale``, shears within +-shear
    degrees. differs: sampling is bilinear, not nearest, and translations are not rounded to whole
    pixels.
    """
    x, rng = _taken("random_affine", x, rng, floats=True)
    degrees = number(degrees, "random_affine: degrees", 0, FAR)
    translate = number(translate, "random_affine: translate", 0, FAR)
    shear = number(shear, "random_affine: shear", 0, below=90)
    low, high = _increasing(scale, "random_affine: scale")
    count, (height, width) = len(x), x.shape[2:]
    angle = rng.uniform(-degrees, degrees, count)
    move = rng.uniform(-translate, translate, (count, 2)) * (width, height)
    size, slant = rng.uniform(low, high, count), rng.uniform(-shear, shear, count)
    return affine(x, angle, move, size, slant)


def affine(
    x: np.ndarray,
    degrees: np.ndarray,
    translate: np.ndarray,
    scale: np.ndarray,
    shear: np.ndarray | float = 0,
) -> np.ndarray:
    """Scale each image around its centre, shear it, rotate it clockwise, then translate it, with
    bilinear sampling and zeros outside.

    x (B, C, H, W) float; degrees (B,); translate (B, 2) in pixels, right and down; scale (B,);
    shear (B,) degrees, by which vertical lines lean to the right. Returns (B, C, H, W). Names,
    order and directions are those of torchvision's functional.affine.
    """
    x = inputs.images(x, "affine: x", floats=True)
    degrees = _amounts(degrees, "affine: degrees", (len(x),), FAR)
    translate = _amounts(translate, "affine: translate", (len(x), 2), FAR)
    scale = _amounts(scale, "affine: scale", (len(x),), 1e6)
    one = isinstance(shear, (int, float)) or getattr(shear, "ndim", None) == 0
    shear = _amounts(shear, "affine: shear", () if one else (len(x),), 90)
    if scale.size and scale.min() < 1e-6:
        raise ValueError(f"affine: scale is as small as {scale.min():g}; it must be at least 1e-06")
    height, width = x.shape[2:]
    slant = np.broadcast_to(np.tan(np.deg2rad(shear)), len(x))
    row, column = _sources(height, width, np.deg2rad(degrees), translate, scale, slant)
    # One ring of zeros, and two at the right and lower ends: a source position clipped to the ring
    # reads zeros, so no mask is needed. The second ring is the neighbour that bilinear sampling
    # reads beyond the first.
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2)))
    np.clip(row, 0, height + 1, out=row)
    np.clip(column, 0, width + 1, out=column)
    return _bilinear(padded, row, column)


def _sources(
    height: int,
    width: int,
    angle: np.ndarray,
    translate: np.ndarray,
    scale: np.ndarray,
    slant: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column, (B, H, W) each, of the position in the padded image that each output pixel is
    sampled from.

    source = centre + S^-1 R(angle)^-1 (output - centre - translate) / scale, plus 1 for the ring,
    where S^-1 adds slant times the row to the column. Each is a function of the output row plus a
    function of the output column, so only H + W products are needed per image, not H W.
    """
    cos, sin = (np.cos(angle) / scale)[:, None], (np.sin(angle) / scale)[:, None]
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    down = np.arange(height) - middle_row - translate[:, 1:]  # (B, H)
    right = np.arange(width) - middle_column - translate[:, :1]  # (B, W)
    row = _outer_sum(1 + middle_row + cos * down, -sin * right)
    slant = slant[:, None]
    column = _outer_sum(1 + middle_column + (sin + slant * cos) * down, (cos - slant * sin) * right)
    return row, column


def _outer_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, H) and (B, W) to (B, H, W), in float32."""
    return a.astype(np.float32)[:, :, None] + b.astype(np.float32)[:, None, :]


def _bilinear(image: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Bilinear sampling of image (B, C, P, Q) at row and column (B, H, W), which must be at least 1
    away from the right and lower ends. Returns (B, C, H, W).

    A neighbour with the weight 0 does not affect the result, even if it is NaN.
    """
    batch, channels, rows, columns = image.shape
    top, left = np.floor(row), np.floor(column)
    # (B, 1, H, W), in [0, 1)
    down, right = (row - top)[:, None], (column - left)[:, None]
    corner = top.astype(np.intp) * columns + left.astype(np.intp)  # index within one channel
    plane = np.arange(batch * channels).reshape(batch, channels, 1, 1) * (rows * columns)
    # (B, C, H, W), index of the upper left neighbour within the batch
    corner = corner[:, None] + plane
    flat = image.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        # if all are finite, 0 times a neighbour is 0, and the two copies below are not needed
        all_finite = np.isfinite(flat.sum())

    def along_row(offset: int) -> np.ndarray:
        # flat[offset:].take(corner) is flat.take(corner + offset), without a second index array
        near, far = flat[offset:].take(corner), flat[offset + 1 :].take(corner)
        far -= near
        far *= right
        far += near
        if not all_finite:
            np.copyto(far, near, where=right == 0)
        return far

    # "invalid": inf - inf, if neighbours are infinite
    with np.errstate(invalid="ignore"):
        upper, lower = along_row(0), along_row(columns)
        lower -= upper
        lower *= down
        lower += upper
    if not all_finite:
        np.copyto(lower, upper, where=down == 0)
    return lower


def _taken(
    name: str, x: Any, rng: Any, floats: bool = False
) -> tuple[np.ndarray, np.random.Generator]:
    """Images (B, C, H, W) and a generator, checked; errors name the function ``name``."""
    return inputs.images(x, f"{name}: x", floats), inputs.generator(rng, f"{name}: rng")


def _increasing(pair: Any, what: str) -> tuple[float, float]:
    """A pair of scales, the smaller one first."""
    scales = inputs.array(pair, what, "a pair of numbers, the smaller one first", "iuf")
    if scales.shape != (2,) or not 1e-6 <= scales[0] <= scales[1] <= 1e6:
        raise ValueError(
            f"{what} is {shown(pair)}; it must be a pair of numbers from 1e-06 to 1e+06, the "
            "smaller one first"
        )
    return float(scales[0]), float(scales[1])


def _amounts(values: Any, what: str, shape: tuple[int, ...], most: float) -> np.ndarray:
    """Finite numbers of the given shape, (B,) or (B, 2), with absolute values of at most
    ``most``."""
    amounts = inputs.array(values, what, f"numbers of shape {shape}", "iuf")
    if amounts.shape != shape:
        raise ValueError(
            f"{what} has shape {amounts.shape}; it must have shape {shape}, one for each image"
        )
    if amounts.size and not (abs(amounts) <= most).all():  # NaN is refused too
        raise ValueError(f"{what}: all numbers must lie between {-most:g} and {most:g}")
    return amounts
