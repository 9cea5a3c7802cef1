"""Upsampling and resizing of images: nearest neighbour and bilinear interpolation.

    nearest     y[i] = x[⌊i s⌋],  s = H / H'        the old pixel in which a new one begins
    bilinear    y[i] = Σ_j max(0, 1 - |p_i - j|) x[j]             two neighbours, along each axis;
                                                                  p_i is clipped to 0 ... H - 1
                p_i = (i + 1/2) s - 1/2                           align_corners=False: pixels are
                                                                  squares, whose outer edges meet
                p_i = i (H - 1) / (H' - 1)                        align_corners=True: pixels are
                                                                  points, and the corners meet

Both are linear in x, and treat rows and columns one after the other: Y = A X Bᵀ with one matrix for
each axis.  If G is dL/dY, then dL/dX is Aᵀ G B.  For nearest and a whole factor k this sums each
square of k x k gradients: nearest upsampling is the transpose of average pooling, times k².

Many generators upsample and then convolve, because a transposed convolution tends to leave a
checkerboard pattern (Odena, Dumoulin & Olah 2016).

Read first: pool.py.   Shapes: N images, C channels, H x W pixels that become H' x W'.
"""

from __future__ import annotations

from math import floor
from typing import Any, NamedTuple

from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.backend import Array, array_module
from tinycv.engine.methods import stack
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.checks import array
from tinycv.nn.module import Module
from tinycv.nn.window import Pair, as_pair

Factor = float | tuple[float, float]  # down and across, or one number for both
MODES = "nearest", "bilinear"
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
    If scale_factor is given, s is 1 / scale_factor, as in PyTorch. The exception is a side that
    keeps its length, or that nearest doubles: there s is H / H'.
    differs: there is no antialias, so an image that becomes much smaller loses the pixels between
    those that are taken; avg_pool2d uses all. There is no recompute_scale_factor. In bilinear mode
    a NaN or an infinite pixel spreads along its row and its column. Nearest by a whole factor is
    exact; PyTorch takes a neighbouring pixel for some factors of 41 and more, by rounding.
    """
    choice(mode, "interpolate: mode", MODES)
    check_align_corners(align_corners, mode, "interpolate")
    if array(x, "interpolate: x").ndim != 4:
        raise ValueError(f"interpolate: x has shape {tuple(x.shape)}; it must be (N, C, H, W)")
    rows, columns = resized_axes(x.shape[2:], *check_size(size, scale_factor, "interpolate"))
    values = bare(x)
    if mode == "bilinear":
        down = bilinear_weights(values, rows, align_corners or False)  # (H', H)
        across = bilinear_weights(values, columns, align_corners or False)  # (W', W)
        return down @ (x @ across.T)
    if whole_factor(rows) and whole_factor(columns):
        return repeated(x, whole_factor(rows), whole_factor(columns))
    return x[:, :, nearest_index(values, rows)][:, :, :, nearest_index(values, columns)]


class Axis(NamedTuple):
    """How the rows or the columns of an image are resized."""

    old: int  # pixels before
    new: int  # pixels after
    step: float  # s, how many old pixels a new one covers


def resized_axes(
    sides: tuple[int, ...], size: tuple[int, int] | None, factors: tuple[float, float] | None
) -> list[Axis]:
    """The two axes of an image (H, W) for a size (H', W') or for two factors."""
    if size is not None:
        axes = [Axis(n, m, n / m) for n, m in zip(sides, size, strict=True)]
    else:
        axes = [Axis(n, floor(n * f), 1 / f) for n, f in zip(sides, factors or (), strict=True)]
        axes = [axis._replace(step=1.0) if axis.new == axis.old else axis for axis in axes]
    if any(axis.old < 1 or axis.new < 1 for axis in axes):
        raise ValueError(
            f"interpolate: an image of {tuple(sides)} cannot become one of "
            f"{tuple(axis.new for axis in axes)}; all sides must be at least 1"
        )
    return axes


def bilinear_weights(values: Array, axis: Axis, align_corners: bool) -> Tensor:
    """The matrix (new, old) of bilinear interpolation along one axis, beside the array ``values``
    and in its dtype. Each row has sum 1."""
    xp = array_module(values)
    i = xp.arange(axis.new, dtype="float64")
    if align_corners:
        place = i * ((axis.old - 1) / max(axis.new - 1, 1))
    else:
        place = (i + 0.5) * axis.step - 0.5
    place = xp.clip(place, 0, axis.old - 1)  # beyond the outer pixels, these are repeated
    distance = xp.abs(place[:, None] - xp.arange(axis.old))
    weights = xp.maximum(1 - distance, 0)
    return Tensor(weights.astype(values.dtype if values.dtype.kind == "f" else "float32"))


def nearest_index(values: Array, axis: Axis) -> Array:
    """Which old pixel each new pixel copies, along one axis: (new,), beside the array ``values``.
    As in PyTorch the product i s is rounded to float32, so that both take the same pixels."""
    xp = array_module(values)
    k = whole_factor(axis)
    if k:
        return xp.arange(axis.new) // k
    begin = xp.arange(axis.new, dtype="float32") * axis.step
    return xp.minimum(begin.astype("int64"), axis.old - 1)


def whole_factor(axis: Axis) -> int:
    """k if nearest copies each old pixel k times, else 0. PyTorch ignores s where k is 1 or 2."""
    k = axis.new // axis.old
    return k if axis.new == k * axis.old and (k <= 2 or axis.step == 1 / k) else 0


def repeated(x: Tensor, down: int, across: int) -> Tensor:
    """Each pixel of x (N, C, H, W) as a block of down x across equal pixels.

    Works channels last, as convolutions leave images in memory (layout.py): copying whole pixels
    of C numbers takes half the time.
    """
    n, c, h, w = x.shape
    x = x.transpose((0, 2, 3, 1))  # (N, H, W, C)
    x = stack([x] * down, axis=2).reshape((n, h * down, w, c))
    x = stack([x] * across, axis=3).reshape((n, h * down, w * across, c))
    return x.transpose((0, 3, 1, 2))


class Upsample(Module):
    """``interpolate`` as a layer that keeps the settings."""

    def __init__(
        self,
        size: Pair | None = None,
        scale_factor: Factor | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        choice(mode, "Upsample: mode", MODES)
        check_align_corners(align_corners, mode, "Upsample")
        self.size, self.scale_factor = check_size(size, scale_factor, "Upsample")
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, C, H', W')."""
        return interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)


# ── checks ────────────────────────────────────────────────────────────────────────────────────────


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
