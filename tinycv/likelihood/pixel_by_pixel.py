"""The chain rule over pixels: the order of pixels, likelihood as a sum, sampling pixel by pixel,
completion of images, and the receptive field.

    p(x) = Π_i p(x_i | x_1 ... x_(i-1))                            van den Oord et al. 2016, eq. 1
    log p(x) = Σ_i log p(x_i | x_1 ... x_(i-1))

Each factor is a distribution over the few values of one pixel, so it can be normalised exactly.
The product is then normalised as well, so log p is exact, with no bound and no integral.  The first
pixel is predicted from no other pixel.

    training    all pixels are known, so a network with the right masks gives all factors in one
                pass
    sampling    pixel i has to be drawn before pixel i + 1 can be predicted: one pass per pixel

To complete an image, the known pixels are kept and the other pixels are drawn in their order.  This
samples p(unknown | known) exactly if the known pixels come first in the order.  Otherwise a pixel
would be drawn without regard to known pixels that come later, so such a call is refused.

Read first: nn/discretized.py.   Used in: autoregressive.py, pixelcnn.py, image_gpt.py.
Shapes: B images, H x W pixels, D = H W, L levels of a pixel. Images are (B, 1, H, W); their pixels
are whole numbers 0 ... L - 1, as floats. Logits are (B, D) if L = 2, and otherwise (B, D, L), or
(B, D, 3 M) for mixtures of M logistics.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.backend import Array, array_module, from_host
from tinycv.engine.create import zeros
from tinycv.engine.methods import split
from tinycv.engine.ops import where
from tinycv.engine.tensor import ArrayLike, Tensor, bare, no_grad
from tinycv.nn.discretized import logistic_mixture_log_prob, logistic_mixture_sample
from tinycv.nn.distributions import (
    bernoulli_log_prob,
    bernoulli_sample,
    categorical_log_prob,
    categorical_sample,
)
from tinycv.nn.inputs import Examples, whole
from tinycv.nn.module import Module
from tinycv.nn.window import Pair, as_pair

# ── orders ───────────────────────────────────────────────────────────────────────────────────────
# An order is an array (D,): the pixels, numbered row by row, in the order in which they are drawn.


def raster_order(shape: Pair) -> np.ndarray:
    """Row by row, each from left to right. shape: (H, W). Returns (D,)."""
    height, width = as_pair("raster_order: shape", shape, 1)
    return np.arange(height * width)


def spiral_order(shape: Pair) -> np.ndarray:
    """From the centre outwards, round by round. shape: (H, W). Returns (D,)."""
    height, width = as_pair("spiral_order: shape", shape, 1)
    rest = np.arange(height * width).reshape(height, width)
    inwards = []
    while rest.size:
        inwards.append(rest[0])  # the top row, from left to right
        rest = np.rot90(rest[1:])  # the right column becomes the top row
    return np.concatenate(inwards)[::-1].copy()


def order_of(order: ArrayLike | None, shape: tuple[int, int], name: str) -> tuple[int, ...]:
    """The order as a tuple; raster order for None. An error, which names the model ``name``, unless
    it holds each pixel once."""
    if order is None:
        return tuple(raster_order(shape).tolist())
    pixels = np.asarray(order)
    count = shape[0] * shape[1]
    if pixels.dtype.kind not in "iu" or sorted(pixels.ravel().tolist()) != list(range(count)):
        raise ValueError(
            f"{name}: order is {shown(order)}; it must hold each of the {count} numbers 0 ... "
            f"{count - 1} once, such as spiral_order({shape})"
        )
    return tuple(pixels.ravel().tolist())


# ── models ───────────────────────────────────────────────────────────────────────────────────────


class PixelModel(Module):
    """The base class of models that predict an image pixel by pixel. A subclass defines ``logits``.

    shape: (H, W), or the side of a square. levels: L, the number of values of a pixel. order: a
    permutation of the D pixels, None for raster order. mixture: M, to predict a pixel by a mixture
    of M discretised logistics (Salimans et al. 2017); 0 for a softmax over its levels, or for the
    log-odds of a 1 if there are two levels.
    """

    def __init__(
        self, shape: Pair, levels: int = 2, order: ArrayLike | None = None, mixture: int = 0
    ):
        name = type(self).__name__
        self.shape = as_pair(f"{name}: shape", shape, 1)
        self.levels = size(levels, f"{name}: levels", 2)
        self.order = order_of(order, self.shape, name)
        self.mixture = size(mixture, f"{name}: mixture")

    def logits(self, x: Tensor) -> Tensor:
        """The prediction of every pixel from the pixels before it. x (B, 1, H, W). Returns the
        log-odds of a 1, (B, D), if there are two levels, and otherwise (B, D, L) or (B, D, 3 M)."""
        raise TypeError(f"{type(self).__name__} must define logits()")

    def forward(self, x: Examples) -> Tensor:
        """log p(x) in nats, the same as ``log_prob``."""
        return self.log_prob(x)

    def log_prob(self, x: Examples) -> Tensor:
        """log p(x) in nats, exactly. x (B, 1, H, W). Returns (B,)."""
        return self.pixel_log_probs(x).sum(axis=-1)

    def pixel_log_probs(self, x: Examples) -> Tensor:
        """log p(x_i | the pixels before it), for each pixel: (B, D), in raster order."""
        x = levels_in(x, self, f"{type(self).__name__}: x")
        return log_probs_of(x, self.logits(x), self.levels, self.mixture)

    def sample(
        self, n: int, given: Examples | None = None, known: ArrayLike | None = None
    ) -> Tensor:
        """n images drawn from p: (n, 1, H, W). The network runs once for each pixel.

        given (n, 1, H, W) and known (H, W), bools: where ``known`` is True, pixels are those of
        ``given``, and the others, whatever ``given`` holds there, are drawn from p(unknown |
        known). The known pixels must come first in the order of the model.
        """
        images, unknown = start_of(self, n, given, known, self.order)
        return draw_pixels(self.logits, images, unknown, self.levels, self.mixture)


def flat(x: Any) -> Any:
    """Images (B, 1, H, W) as rows of pixels (B, D)."""
    return x.reshape((len(x), prod(x.shape[1:])))


def log_probs_of(x: Tensor, logits: Tensor, levels: int, mixture: int = 0) -> Tensor:
    """log p of each pixel, given its logits: (B, D)."""
    pixels = flat(x)  # (B, D)
    if mixture:
        weights, means, log_scales = split(logits, 3, axis=-1)  # (B, D, M) each
        return logistic_mixture_log_prob(
            centred(pixels, levels), weights, means, log_scales, levels
        )
    if levels == 2:
        return bernoulli_log_prob(pixels, logits)
    return categorical_log_prob(bare(pixels).astype(np.int64), logits)


def draw_level(logits: Tensor, levels: int, mixture: int = 0) -> Array:
    """A level for each row of the logits of one pixel, (n,) or (n, L) or (n, 3 M): (n,)."""
    if mixture:
        weights, means, log_scales = split(logits, 3, axis=-1)
        between = bare(logistic_mixture_sample(weights, means, log_scales, levels))  # -1 to 1
        return ((between + 1) * ((levels - 1) / 2)).round()
    return bare(bernoulli_sample(logits) if levels == 2 else categorical_sample(logits))


def draw_pixels(
    logits: Callable[[Tensor], Tensor],
    images: Array,
    unknown: list[int],
    levels: int,
    mixture: int = 0,
) -> Tensor:
    """Draw the pixels ``unknown`` one after another, each from its logits given the image so far.
    images: a bare array (n, 1, H, W). Returns (n, 1, H, W)."""
    pixels = flat(images)  # (n, D), a view: what is written to it is in images too
    with no_grad():
        for i in unknown:
            pixels[:, i] = draw_level(logits(Tensor(images.copy()))[:, i], levels, mixture)
    return Tensor(images)


def centred(x: Tensor, levels: int) -> Tensor:
    """Levels 0 ... L - 1 as numbers from -1 to 1. In a convolution, no level then looks like the
    zeros that lie around the image."""
    return x * (2 / (levels - 1)) - 1


def receptive_field(
    model: PixelModel, row: int, column: int, images: int = 16, seed: int = 0
) -> np.ndarray:
    """Which pixels does the prediction of one pixel depend on? The mean of |d logit / d pixel| over
    random images, for each pixel: (H, W). Where there is no path, it is exactly 0.

    A path through ReLUs can be closed in one image and open in another, so several images are used.
    """
    if not isinstance(model, PixelModel):
        raise TypeError(f"receptive_field: model is {shown(model)}; it must be a PixelModel")
    row, column, seed = whole("receptive_field", 0, row=row, column=column, seed=seed)
    (images,) = whole("receptive_field", 1, images=images)
    height, width = model.shape
    if row >= height or column >= width:
        raise ValueError(
            f"receptive_field: row is {row} and column {column}; the images of the model have "
            f"{height} x {width} pixels"
        )
    host = np.random.default_rng(seed).integers(0, model.levels, (images, 1, height, width))
    weight = bare(next(model.parameters()))
    x = Tensor(from_host(array_module(weight), host.astype(weight.dtype)), requires_grad=True)
    of_pixel = model.logits(x)[:, row * width + column]  # (B,), or (B, L) or (B, 3 M)
    # One number per image: the logit, or the first of several. Any of them would do.
    (of_pixel if of_pixel.ndim == 1 else of_pixel[:, 0]).sum().backward()
    if x.grad is None:
        raise TypeError(
            f"receptive_field: {type(model).__name__} looks its pixels up in a table, so its "
            "predictions have no gradient by pixels"
        )
    return abs(x.grad.numpy()).mean(axis=(0, 1))


# ── checks ───────────────────────────────────────────────────────────────────────────────────────


def levels_in(x: Any, model: PixelModel, what: str) -> Tensor:
    """x as a Tensor in the dtype of the model's weights, if it is a batch of images with pixels of
    0 ... L - 1. Any other pixel is a ValueError on the host, and becomes NaN on a GPU."""
    array = bare(x)
    if getattr(getattr(array, "dtype", None), "kind", "") not in ("f", "i", "u", "b"):
        raise TypeError(f"{what} is {shown(x)}; it must be an array or a Tensor of numbers")
    if array.ndim != 4 or tuple(array.shape[1:]) != (1, *model.shape):
        raise ValueError(
            f"{what} has shape {tuple(array.shape)}; it must be (B, 1, {model.shape[0]}, "
            f"{model.shape[1]})"
        )
    # Comparisons with NaN are False, so NaN is not a level.
    xp = array_module(array)
    valid = (array >= 0) & (array <= model.levels - 1) & (array == xp.floor(array))
    if xp is np and not valid.all():
        raise ValueError(
            f"{what} holds {array[~valid].flat[0]}; each pixel must be a whole number from 0 to "
            f"{model.levels - 1}"
        )
    x = x if isinstance(x, Tensor) else Tensor(array)
    dtype = weight_of(model).dtype
    x = x if x.dtype == dtype else x.astype(dtype)
    return x if xp is np else where(valid, x, np.nan)


def weight_of(model: PixelModel) -> Tensor:
    """One of the weights, for their dtype and device. TypeError if it is float16 and there are more
    than 256 levels: float16 would round some levels to others."""
    weight = next(model.parameters())
    if weight.dtype == np.float16 and model.levels > 256:
        raise TypeError(
            f"{type(model).__name__}: the weights are float16, which is too coarse for "
            f"{model.levels} levels; they must be float32 or float64"
        )
    return weight


def start_of(
    model: PixelModel, n: int, given: Any, known: Any, order: tuple[int, ...]
) -> tuple[Array, list[int]]:
    """(images, unknown): a bare array (n, 1, H, W) that holds the known pixels, and the pixels to
    be drawn, in their order."""
    name = f"{type(model).__name__}.sample"
    n = size(n, f"{name}: n")
    weight = weight_of(model)
    if (given is None) != (known is None):
        raise ValueError(
            f"{name}: given is {shown(given)} and known {shown(known)}; they come together"
        )
    if given is None:
        return bare(zeros((n, 1, *model.shape), dtype=weight.dtype, device=weight.device)), list(
            order
        )
    mask = known.numpy() if isinstance(known, Tensor) else np.asarray(known)
    if mask.dtype.kind != "b" or mask.shape != model.shape:
        raise ValueError(
            f"{name}: known is {shown(known)}; it must be bools of shape {model.shape}"
        )
    images = bare(given)
    if number_kind(given) == "f" and tuple(images.shape[1:]) == (1, *model.shape):
        # Nothing is demanded of unknown pixels: they may be NaN.
        xp = array_module(images)
        given = Tensor(xp.where(from_host(xp, mask), images, 0).astype(images.dtype))
    given = levels_in(given, model, f"{name}: given")
    if len(given) != n:
        raise ValueError(
            f"{name}: given has shape {tuple(given.shape)} and n is {n}; it must hold n images, "
            "one for each that is drawn"
        )
    known_in_order = mask.ravel()[list(order)]
    first_unknown = int(mask.sum())
    if not known_in_order[:first_unknown].all():
        raise ValueError(
            f"{name}: known holds a pixel that comes after an unknown one in the order of the "
            "model; the known pixels must come first. Train a model with another ``order``"
        )
    keep = from_host(array_module(bare(given)), mask)
    images = bare(where(keep, given, 0.0)).copy()
    return images, list(order[first_unknown:])
