"""Inputs of the benchmarks: sizes, random arrays, and the inputs of every pair.

All contenders start from the same numbers, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Size(NamedTuple):
    """The sizes of a Vision Transformer, an LSTM and a convolution, from which the shapes of the
    pairs' inputs follow."""

    batch: int
    tokens: int
    width: int
    heads: int
    mlp: int
    classes: int
    # steps, batch, width of the input, width of the hidden state
    lstm: tuple[int, int, int, int]
    conv: tuple[int, int, int]  # images, channels, side


SIZES = {
    "MNIST ViT": Size(128, 17, 64, 4, 256, 10, (28, 128, 28, 128), (64, 32, 28)),
    "wider ViT": Size(128, 50, 128, 8, 512, 100, (50, 64, 256, 256), (32, 128, 16)),
}
TINY = {"tiny": Size(4, 5, 8, 2, 16, 3, (3, 2, 4, 5), (2, 3, 6))}


def normal(*shapes: tuple) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def pixels(size: Size) -> list[np.ndarray]:
    images, channels, side = size.conv
    return normal((images, channels, side**2))


def all_different(x: np.ndarray) -> np.ndarray:
    """Numbers of this shape, all different. In max pooling, tinycv splits the gradient among equal
    entries, and PyTorch gives all of it to one of them."""
    return (
        (np.random.default_rng(0).permutation(x.size) / np.float32(x.size))
        .astype(np.float32)
        .reshape(x.shape)
    )


def planes(size: Size) -> list[np.ndarray]:
    return normal((size.batch, size.width, 7, 7), (size.width,), (size.width,))


def conv_inputs(images: int, channels: int, side: int) -> list[np.ndarray]:
    return normal((images, channels, side, side), (channels, channels, 3, 3), (channels,))


def conv_transpose_inputs(images: int, channels: int, side: int) -> list[np.ndarray]:
    return normal(
        (images, 2 * channels, side // 2, side // 2), (2 * channels, channels, 4, 4), (channels,)
    )


def lstm_inputs(steps: int, batch: int, width: int, hidden: int) -> list[np.ndarray]:
    """Weights as small as those of a new layer: larger ones make the recurrence chaotic, so that
    rounding would decide its gradient."""
    inputs = normal((steps, batch, width), (batch, hidden), (batch, hidden))
    weights = normal((4 * hidden, width), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
    return [*inputs, *(w / np.float32(hidden**0.5) for w in weights)]


INPUTS: dict[str, Callable[[Size], list[np.ndarray]]] = {
    "softmax": lambda s: normal((s.batch, s.heads, s.tokens, s.tokens)),
    "log_softmax": lambda s: normal((s.batch, s.classes)),
    "cross_entropy": lambda s: [*normal((s.batch, s.classes)), np.arange(s.batch) % s.classes],
    "gelu": lambda s: normal((s.batch, s.tokens, s.mlp)),
    "linear": lambda s: normal((s.batch, s.tokens, s.width), (s.mlp, s.width), (s.mlp,)),
    "layer_norm": lambda s: normal((s.batch, s.tokens, s.width), (s.width,), (s.width,)),
    "scaled_dot_product_attention": lambda s: normal(
        *[(s.batch, s.heads, s.tokens, s.width // s.heads)] * 3
    ),
    "group_norm": lambda s: [*planes(s)[:1], s.heads, *planes(s)[1:]],
    "batch_standard": lambda s: [*planes(s)[:1], s.batch * 49, *planes(s)[1:]],
    "lstm": lambda s: lstm_inputs(*s.lstm),
    "conv2d": lambda s: conv_inputs(*s.conv),
    "conv_transpose2d": lambda s: conv_transpose_inputs(*s.conv),
    "binary_cross_entropy_with_logits": lambda s: [
        *pixels(s),
        np.resize(np.float32([0, 1, 1]), pixels(s)[0].shape),
    ],
    "leaky_relu": pixels,
    "silu": pixels,
    "max_pool2d": lambda s: [all_different(conv_inputs(*s.conv)[0])],
    "avg_pool2d": lambda s: conv_inputs(*s.conv)[:1],
}
OPTIONS: dict[str, dict] = {
    "conv2d": {"padding": 1},
    "conv_transpose2d": {"stride": 2, "padding": 1},
    "max_pool2d": {"kernel_size": 2},
    "avg_pool2d": {"kernel_size": 2},
}


def weights(shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
    """Random weights by name, the same for every library: around 1 for the scales of norms, around
    0 for the others."""
    names = sorted(shapes)
    arrays = normal(*[shapes[name] for name in names])
    means = [np.float32("norm" in name and name.endswith("weight")) for name in names]
    return {name: 0.1 * a + mean for name, a, mean in zip(names, arrays, means, strict=True)}
