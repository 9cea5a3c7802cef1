"""Upsampling and resizing of images: nearest neighbour and bilinear interpolation.

    nearest     y[i] = x[⌊i s⌋],  s = H / H'        the old pixel in which a new one begins
    bilinear    y[i] = Σ_j max(0, 1 - |p_i - j|) x[j]             two neighbours, along each axis
                p_i = (i + 1/2) s - 1/2                           align_corners=False: pixels are
                                                                  squares, whose outer edges meet
                p_i = i (H - 1) / (H' - 1)                        align_corners=True: pixels are
                                                                  points, and the corners meet

Both are linear in x, and treat rows and columns one after the other: Y = A X Bᵀ with one matrix for
each axis.  The gradient is Aᵀ G B.  For nearest and a whole factor k this sums each square of k x k
gradients: nearest upsampling is the transpose of average pooling, times k².

Generators upsample and then convolve, where a transposed convolution tends to leave a checkerboard
(Odena, Dumoulin & Olah 2016).

Read first: pool.py.   Shapes: N images, C channels, H x W pixels that become H' x W'.
"""

from __future__ import annotations

from math import floor
from typing import Any

from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.backend import Array, array_module
from tinycv.engine.methods import stack
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.checks import array
from tinycv.nn.module import Module
from tinycv.nn.window import Pair, as_pair

Factor = float | tuple[float, float]  # down and across, or one number for both
MOST_FACTOR = 2**20  # larger ones are a mistake


def interpolate(
    x: Tensor,
    size: Pair | None = None,
    scale_factor: Factor | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """x (N, C, H, W), resized to size = (H', W'), or to (⌊H scale_factor⌋, ⌊W scale_factor⌋).
    Returns (N, C, H', W').

    mode: "nearest" or "bilinear". align_corners is for bilinear; None means False.
    With scale_factor, s is 1 / scale_factor, as in PyTorch, and H / H' only where nearest keeps a
    side or doubles it.
    differs: there is no antialias and no recompute_scale_factor. So making an image smaller skips
    pixels; avg_pool2d takes all of them. In bilinear mode a NaN or an infinite pixel spreads along
    its row and column. Nearest by a factor of 41 or more is exact where PyTorch rounds.
    """
    choice(mode, "interpolate: mode", ("nearest", "bilinear"))
    check_align_corners(align_corners, mode, "interpolate")
    if array(x, "interpolate: x").ndim != 4:
        raise ValueError(f"interpolate: x has shape {tuple(x.shape)}; it must be (N, C, H, W)")
    old = x.shape[2:]
    new, steps = new_size(old, *check_size(size, scale_factor, "interpolate"))
    if mode == "bilinear":
        down, across = (
            bilinear_weights(bare(x), *axis, bool(align_corners))
            for axis in zip(old, new, steps, strict=True)
        )
        return down @ (x @ across.T)  # (H', H) @ ((N, C, H, W) @ (W, W'))
    steps = [o / n if n in (o, 2 * o) else s for o, n, s in zip(old, new, steps, strict=True)]
    factors = [n // o for o, n in zip(old, new, strict=True)]
    if steps == [1 / k if k else None for k in factors]:
        return repeated(x, *factors)
    rows, columns = (nearest_index(bare(x), *axis) for axis in zip(old, new, steps, strict=True))
    return x[:, :, rows][:, :, :, columns]


def repeated(x: Tensor, down: int, across: int) -> Tensor:
    """Each pixel of x (N, C, H, W) as a block of down x across equal pixels."""
    n, c, h, w = x.shape
    x = stack([x] * down, axis=3).reshape((n, c, h * down, w))
    return stack([x] * across, axis=4).reshape((n, c, h * down, w * across))


def nearest_index(values: Array, old: int, new: int, step: float) -> Array:
    """For each new pixel along an axis, the number of the old pixel to copy: (new,). Products are
    rounded to float32, as in PyTorch, so that models of PyTorch give the same pixels."""
    xp = array_module(values)
    begin = xp.arange(new, dtype="float32") * step
    return xp.minimum(begin.astype("int64"), old - 1)


def bilinear_weights(values: Array, old: int, new: int, step: float, align_corners: bool) -> Tensor:
    """The matrix (new, old) of bilinear interpolation along one axis. Its rows have sum 1."""
    xp = array_module(values)
    place = xp.arange(new, dtype="float64")
    if align_corners:
        place = place * ((old - 1) / max(new - 1, 1))
    else:
        place = (place + 0.5) * step - 0.5
    place = xp.clip(place, 0, old - 1)  # beyond the outer pixels, these are repeated
    distance = xp.abs(place[:, None] - xp.arange(old))
    weights = xp.maximum(1 - distance, 0)
    return Tensor(weights.astype(values.dtype if values.dtype.kind == "f" else "float32"))


def new_size(
    old: tuple[int, ...], size: tuple[int, int] | None, factors: tuple[float, float] | None
) -> tuple[list[int], list[float]]:
    """([H', W'], how many old pixels one new pixel covers along each axis)."""
    if factors is None:
        new = list(size or ())
        steps = [o / n for o, n in zip(old, new, strict=True)]
    else:
        new = [floor(o * f) for o, f in zip(old, factors, strict=True)]
        steps = [1 / f for f in factors]
    if min(*old, *new) < 1:
        raise ValueError(
            f"interpolate: an image of {tuple(old)} cannot become one of {tuple(new)}; all sides "
            "must be at least 1"
        )
    return new, steps


def check_size(
    size: Any, scale_factor: Any, name: str
) -> tuple[tuple[int, int] | None, tuple[float, float] | None]:
    """size and scale_factor as pairs (down, across), one of them None."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"{name}: size is {shown(size)} and scale_factor is {shown(scale_factor)}; exactly one "
            "of them must be given"
        )
    if scale_factor is None:
        return as_pair(f"{name}: size", size, 1), None
    if not isinstance(scale_factor, (tuple, list)):
        scale_factor = (scale_factor, scale_factor)
    if len(scale_factor) != 2:
        raise ValueError(
            f"{name}: scale_factor has {len(scale_factor)} numbers; it must have 2, or be one for "
            "both axes"
        )
    what = f"{name}: scale_factor"
    down, across = (number(f, what, above=0, high=MOST_FACTOR) for f in scale_factor)
    return None, (down, across)


def check_align_corners(align_corners: Any, mode: str, name: str) -> None:
    """An error unless align_corners is True, False or None; in mode "nearest" it must be None."""
    choice(align_corners, f"{name}: align_corners", (True, False, None))
    if mode == "nearest" and align_corners is not None:
        raise ValueError(
            f"{name}: align_corners is {align_corners}; it must be None in mode 'nearest', which "
            "has no corners to align"
        )


class Upsample(Module):
    """``interpolate`` as a layer that keeps the settings."""

    def __init__(
        self,
        size: Pair | None = None,
        scale_factor: Factor | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        choice(mode, "Upsample: mode", ("nearest", "bilinear"))
        check_align_corners(align_corners, mode, "Upsample")
        self.size, self.scale_factor = check_size(size, scale_factor, "Upsample")
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)
