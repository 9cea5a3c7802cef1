"""RandAugment: a few random changes to each image, from a list, all with the same strength.

Cubuk et al. 2020 find that one number, the strength, is enough, and that the choice of changes need
not be learned.  A change is a function of a batch and of one strength per image, from -1 to 1; the
sign chooses the direction of a change that has two.
differs: no equalize; strengths follow torchvision's RandAugment, with images in [0, 1] instead of
bytes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.data import inputs
from tinycv.data.augment import affine
from tinycv.engine.arguments import number, shown

MOST_CHANGES, ROUNDING = 1000, 1e-3

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def rand_augment(
    x: np.ndarray,
    rng: np.random.Generator,
    n: int = 2,
    magnitude: float = 3,
    changes: dict[str, Change] | None = None,
) -> np.ndarray:
    """Apply ``n`` random changes, drawn with replacement, to each image. x (B, C, H, W) float in
    [0, 1]; so is the result.

    magnitude: 0 (no change) to 10, which torchvision calls 30. changes: the changes to draw from,
    by default CHANGES. ValueError for pixels outside 0 to 1, which would be clipped.
    """
    x = inputs.images(x, "rand_augment: x", floats=True)
    rng = inputs.generator(rng, "rand_augment: rng")
    if x.size and not -ROUNDING <= x.min() <= x.max() <= 1 + ROUNDING:
        raise ValueError(
            f"rand_augment: x runs from {x.min():g} to {x.max():g}; it takes float images in "
            "[0, 1]: divide bytes by 255, and subtract means afterwards"
        )
    n = inputs.whole(n, "rand_augment: n", 0, MOST_CHANGES)
    magnitude = number(magnitude, "rand_augment: magnitude", 0, 10)
    x, every = x.copy(), _functions(CHANGES if changes is None else changes)
    for _ in range(n):
        drawn = rng.integers(len(every), size=len(x))
        strength = rng.choice([-1, 1], len(x)) * (magnitude / 10)
        for i, change in enumerate(every):
            images = np.flatnonzero(drawn == i)  # those for which this change was drawn
            if len(images):
                x[images] = np.clip(change(x[images], strength[images]), 0, 1)
    return x


def _functions(changes: Any) -> list[Change]:
    """The functions of a dictionary like CHANGES."""
    if not isinstance(changes, dict) or not changes or not all(map(callable, changes.values())):
        raise TypeError(
            f"rand_augment: changes is {shown(changes)}; it must be a dictionary of functions by "
            "their names, at least one"
        )
    return list(changes.values())


# ── geometry: the strength s (B,) is a share of the largest change ───────────────────────────────


PerImage = float | np.ndarray  # one number for all images, or (B,)


def _moved(
    x: np.ndarray,
    degrees: PerImage = 0,
    right: PerImage = 0,
    down: PerImage = 0,
    shear: PerImage = 0,
) -> np.ndarray:
    """Images rotated and sheared by degrees and moved by pixels."""
    zero = np.zeros(len(x))
    return affine(
        x, zero + degrees, np.stack([zero + right, zero + down], axis=1), zero + 1, zero + shear
    )


def _turn(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _moved(x, degrees=30 * s)


def _slant_x(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _moved(x, shear=np.rad2deg(np.arctan(0.3 * s)))


def _slant_y(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _slant_x(x.swapaxes(2, 3), s).swapaxes(2, 3)


def _move_x(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _moved(x, right=150 / 331 * x.shape[3] * s)


def _move_y(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _moved(x, down=150 / 331 * x.shape[2] * s)


# ── appearance: most changes move towards a poorer image (s < 0) or away from it (s > 0) ─────────


def _away(x: np.ndarray, poorer: np.ndarray | float, s: np.ndarray) -> np.ndarray:
    """The image moved along the line from the poorer image to it: at s = -1 a tenth of the way is
    left, at 0 it is unchanged, at 1 it is 1.9 times as far from the poorer image."""
    return poorer + (1 + 0.9 * _wide(x, s)) * (x - poorer)


def _wide(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """s (B,) as (B, 1, 1, 1), which multiplies images, in the dtype of x."""
    return s.astype(x.dtype)[:, None, None, None]


def _bright(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _away(x, 0.0, s)


def _colour(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _away(x, _grey(x), s)


def _contrast(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _away(x, _grey(x).mean(axis=(1, 2, 3), keepdims=True), s)


def _sharp(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The poorer image is a blurred one: each pixel is the mean of 3 x 3 pixels, with the weight 5
    for the middle one and 1 for the others. The border is not blurred."""
    blurred, (h, w) = x.copy(), x.shape[2:]
    around = sum(x[..., i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3))
    blurred[..., 1:-1, 1:-1] = (around + 4 * x[..., 1:-1, 1:-1]) / 13
    return _away(x, blurred, s)


def _grey(x: np.ndarray) -> np.ndarray:
    """Brightness (B, 1, H, W), with the weights of ITU-R BT.601 for red, green and blue."""
    if x.shape[1] != 3:
        return x.mean(axis=1, keepdims=True)
    return np.einsum("c,bchw->bhw", np.array([0.299, 0.587, 0.114], x.dtype), x)[:, None]


def _few_levels(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Posterise: the lowest of the 8 bits of a byte are cleared, 4 of them at full strength."""
    step = 2 ** np.round(4 * np.abs(_wide(x, s)))
    return np.floor(255 * x / step) * step / 255


def _solarise(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Solarise: the brightest pixels are inverted, all pixels at full strength."""
    return np.where(x > 1 - np.abs(_wide(x, s)), 1 - x, x)


def _full_range(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Autocontrast: each channel is stretched so that its darkest pixel is 0 and its brightest 1.
    The strength s does not matter."""
    low, high = x.min(axis=(2, 3), keepdims=True), x.max(axis=(2, 3), keepdims=True)
    return np.where(high > low, (x - low) / np.where(high > low, high - low, 1), x)


CHANGES: dict[str, Change] = {
    "identity": lambda x, s: x,
    "rotate": _turn,
    "shear x": _slant_x,
    "shear y": _slant_y,
    "translate x": _move_x,
    "translate y": _move_y,
    "brightness": _bright,
    "color": _colour,
    "contrast": _contrast,
    "sharpness": _sharp,
    "posterize": _few_levels,
    "solarize": _solarise,
    "autocontrast": _full_range,
}
