"""RandAugment: some changes out of a list, drawn anew for each image, all of one strength.

Cubuk et al. 2020.  Its point: how strongly is one number to choose, and which changes need not be
learned.  A change is a function of a batch and of one strength an image, from -1 to 1; the sign
turns it round where it has two directions.
differs: no equalize; strengths follow torchvision's RandAugment, with images in [0, 1] in place of
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
    """Apply ``n`` changes, drawn with replacement, to each image. x (B, C, H, W) float in [0, 1];
    so is the result.

    magnitude: 0 (none) to 10, which torchvision calls 30. changes: those to draw from; all of
    CHANGES where left out. ValueError for pixels outside 0 to 1: they would be cut off.
    """
    x, rng = (
        inputs.images(x, "rand_augment: x", floats=True),
        inputs.generator(rng, "rand_augment: rng"),
    )
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
            mine = np.flatnonzero(drawn == i)
            if len(mine):
                x[mine] = np.clip(change(x[mine], strength[mine]), 0, 1)
    return x


def _functions(changes: Any) -> list[Change]:
    """The functions of a dictionary like CHANGES."""
    if not isinstance(changes, dict) or not changes or not all(map(callable, changes.values())):
        raise TypeError(
            f"rand_augment: changes is {shown(changes)}; it must be a dictionary of functions by "
            "their names, at least one"
        )
    return list(changes.values())


# ── where things are: strengths are shares of the most that is done ──────────────────────────────


Each = float | np.ndarray  # one number for all images, or (B,)


def _moved(
    x: np.ndarray, degrees: Each = 0, right: Each = 0, down: Each = 0, shear: Each = 0
) -> np.ndarray:
    """Images turned and slanted by degrees, moved by pixels: numbers for all, or arrays (B,)."""
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


# ── how things look: most are a blend with a poorer image, s below 0, or away from it, s above 0 ─


def _away(x: np.ndarray, poorer: np.ndarray | float, s: np.ndarray) -> np.ndarray:
    """At s = -1 a tenth of the image is left and the poorer one is the rest; at 0 it is itself; at
    1 nearly twice as far."""
    return poorer + (1 + 0.9 * _wide(x, s)) * (x - poorer)


def _wide(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """s (B,) as (B, 1, 1, 1), to stand beside images."""
    return s.astype(x.dtype)[:, None, None, None]


def _bright(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _away(x, 0.0, s)


def _colour(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _away(x, _grey(x), s)


def _contrast(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return _away(x, _grey(x).mean(axis=(1, 2, 3), keepdims=True), s)


def _sharp(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The poorer image is a blurred one: each pixel a mean of 3 x 3, its own weight 5; the border
    stays."""
    blurred, (h, w) = x.copy(), x.shape[2:]
    around = sum(x[..., i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3))
    blurred[..., 1:-1, 1:-1] = (around + 4 * x[..., 1:-1, 1:-1]) / 13
    return _away(x, blurred, s)


def _grey(x: np.ndarray) -> np.ndarray:
    """(B, 1, H, W): how bright, with the eye's weights for red, green and blue (ITU-R BT.601)."""
    if x.shape[1] != 3:
        return x.mean(axis=1, keepdims=True)
    return np.einsum("c,bchw->bhw", np.array([0.299, 0.587, 0.114], x.dtype), x)[:, None]


def _few_levels(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Of the 8 bits of a byte, the last are cleared: 4 of them at full strength."""
    step = 2 ** np.round(4 * np.abs(_wide(x, s)))
    return np.floor(255 * x / step) * step / 255


def _solarise(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The brightest pixels are turned to their negative: all of them at full strength."""
    return np.where(x > 1 - np.abs(_wide(x, s)), 1 - x, x)


def _full_range(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Each channel is stretched until its darkest pixel is 0 and its brightest 1; s does not
    matter."""
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
