"""Instance norm and adaptive instance norm (AdaIN): normalise each channel of each image by itself.

    IN(x) = γ (x - μ(x)) / σ(x) + β                    Ulyanov, Vedaldi & Lempitsky 2016
    AdaIN(x, y) = σ(y) (x - μ(x)) / σ(x) + μ(y)        Huang & Belongie 2017, eq. 8
    μ(x) = mean of x over the pixels,  σ(x) = √(variance of x over the pixels + ε)       eq. 5 and 6

The mean and the standard deviation of a channel describe brightness, colour and contrast, which are
a large part of an image's style. Instance norm removes them. AdaIN replaces them by those of
another image, so that one network can paint in any style.

A channel that is constant over the image becomes exactly β, whatever the constant was. So instance
norm wipes out what a uniform label map says. Park et al. 2019 therefore apply the labels after the
norm (SPADE, adversarial/spade.py).

Read first: group_norm.py; instance norm is group norm with one channel per group.
Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tinycv.engine.arguments import flag, number, shown
from tinycv.engine.ops import sqrt
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.checks import array, count, epsilon, fits
from tinycv.nn.group_norm import group_norm
from tinycv.nn.module import Module


def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (N, C, *spatial) with two pixels or more, weight γ (C,) or None, bias β (C,) or None.
    Returns the shape of x. The variance divides by the number of pixels, not by one less.

    differs: there are no running statistics, so weight is the second argument. PyTorch has
    running_mean there, and running_var, use_input_stats and momentum in other places.
    """
    check_instance_norm(x, weight, bias, eps)
    if x.dtype == "float16":  # its differences would be rounded, and could overflow
        return instance_norm(x.astype("float32"), weight, bias, eps).astype("float16")
    # Subtracting a constant from a channel changes nothing but the rounding: the first pixel, once
    # it is subtracted, leaves exact zeros of a constant channel. Without this step the channel's
    # mean would be off by its rounding error, which the division by √ε then makes visible.
    first_pixel = bare(x)[(..., *[slice(0, 1)] * (x.ndim - 2))]  # (N, C, 1, 1)
    return group_norm(x - first_pixel, x.shape[1], weight, bias, eps)


def adaptive_instance_norm(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    """AdaIN: content (N, C, H, W) with the mean and the standard deviation that each channel of
    style (N, C, H', W') has. Returns (N, C, H, W).

    Both variances divide by the number of pixels, and σ² = variance + ε in both. So the result has
    the mean of style. If a channel has variance v in content and v_style in style, it has variance
    (v_style + ε) v / (v + ε) in the result, which is v_style if ε = 0 or v = v_style. A constant
    channel of content becomes constant at the mean of style.
    """
    check_adaptive(content, style, eps)
    if style.dtype == "float16":  # its variance could overflow
        return adaptive_instance_norm(content, style.astype("float32"), eps).astype(content.dtype)
    pixels = tuple(range(2, style.ndim))
    mean = style.mean(axis=pixels, keepdims=True)  # (N, C, 1, 1)
    deviation = sqrt(style.var(axis=pixels, keepdims=True) + eps)
    return instance_norm(content, eps=eps) * deviation + mean


class InstanceNorm2d(Module):
    """``instance_norm`` of (N, num_features, H, W) as a layer. With affine=True it has weight γ,
    which starts at 1, and bias β, which starts at 0.

    Every image is normalised by its own statistics, in training and in evaluation.
    differs: track_running_stats must be False, so momentum has no effect; both are there for the
    order of the arguments. An image without the axis N is refused.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        self.num_features = channels = count(num_features, "InstanceNorm2d: num_features")
        self.eps = epsilon(eps, "InstanceNorm2d: eps")
        number(momentum, "InstanceNorm2d: momentum", 0, 1)
        if flag(track_running_stats, "InstanceNorm2d: track_running_stats"):
            raise ValueError(
                "InstanceNorm2d: track_running_stats is True; it must be False, because every "
                "image is normalised by its own statistics, in training and in evaluation"
            )
        affine = flag(affine, "InstanceNorm2d: affine")
        self.weight = init.ones((channels,)) if affine else None
        self.bias = init.zeros((channels,)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """x (N, num_features, H, W). Returns the same shape."""
        shape = getattr(x, "shape", ())
        if len(shape) != 4 or shape[1] != self.num_features:
            raise ValueError(
                f"InstanceNorm2d: x is {shown(x)}; it must have shape (N, C, H, W), with "
                f"C = num_features = {self.num_features}"
            )
        return instance_norm(x, self.weight, self.bias, self.eps)


# ── checks ────────────────────────────────────────────────────────────────────────────────────────


def check_instance_norm(x: Any, weight: Any, bias: Any, eps: Any) -> None:
    """TypeError or ValueError for arguments of instance_norm that do not fit each other."""
    check_pixels(x, "instance_norm: x", least=2)
    for name, values in (("weight", weight), ("bias", bias)):
        fits(values, f"instance_norm: {name}", x.shape[1:2], "one number for each channel of x")
    epsilon(eps, "instance_norm: eps")


def check_adaptive(content: Any, style: Any, eps: Any) -> None:
    """TypeError or ValueError for arguments of adaptive_instance_norm that do not fit each other.
    A style of one pixel has a mean, and the variance 0."""
    check_pixels(content, "adaptive_instance_norm: content", least=2)
    check_pixels(style, "adaptive_instance_norm: style", least=1)
    if content.shape[:2] != style.shape[:2] or content.ndim != style.ndim:
        raise ValueError(
            f"adaptive_instance_norm: content has shape {tuple(content.shape)} and style "
            f"{tuple(style.shape)}; they must have as many axes, and the same images and channels"
        )
    epsilon(eps, "adaptive_instance_norm: eps")


def check_pixels(x: Any, what: str, least: int) -> None:
    """An error unless x holds floats, (N, C, *spatial), with at least ``least`` pixels.

    A single pixel has no variance: its instance norm would be β for every x. PyTorch refuses it
    too. An x without pixels is accepted, and its result is empty.
    """
    if array(x, what, "f", "a Tensor or an array of floats").ndim < 3:
        raise ValueError(f"{what} has shape {tuple(x.shape)}; it must be (N, C, *spatial)")
    if 0 < prod(x.shape[2:]) < least:
        raise ValueError(
            f"{what} has shape {tuple(x.shape)}, one pixel per channel; its instance norm would be "
            f"the same for every x, so it must have at least {least}"
        )
