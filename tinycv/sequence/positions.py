"""Positional encodings, sinusoidal and learned: they write into each token where it stands, because
attention treats its tokens as a set.

    PE(pos, 2i)   = sin(pos / 10000^(2i/d))                         Vaswani et al. 2017, section 3.5
    PE(pos, 2i+1) = cos(pos / 10000^(2i/d))

Each pair (sin, cos) is like the hand of a clock.  The first one turns fast and separates
neighbours; the last one has barely moved after thousands of tokens.  A shift by k positions rotates
every pair by a fixed angle, PE(pos + k) = R_k PE(pos).  This is a linear map, which a head can
learn.  PE is defined for every position, but this does not mean that a network works well beyond
the lengths it was trained on.

Learned positions are an ordinary table of vectors.  The paper found that both work about equally
well (ibid., table 3, row E).  ViT has a table too, named as in its paper: vision/vit.py.

Read first: attention.py.   Read next: transformer.py.
Shapes: B batch, T tokens, E width.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.arguments import shown, size
from tinycv.engine.backend import Array, array_module
from tinycv.engine.tensor import Tensor, as_array
from tinycv.nn import init
from tinycv.nn.module import Module
from tinycv.sequence.inputs import is_numeric


def sinusoidal(xp: Any, positions: Array, width: int) -> Array:
    """PE of the positions (T,), floats: an array (T, width). xp: numpy or cupy, as for
    positions."""
    frequencies = 10000.0 ** (-xp.arange(0, width, 2) / max(width, 1))  # (width / 2,)
    angles = positions[:, None] * frequencies  # (T, width / 2), in radians
    pairs = xp.stack([xp.sin(angles), xp.cos(angles)], axis=-1)  # (T, width / 2, 2)
    return pairs.reshape(len(positions), 2 * len(frequencies))[:, :width]  # sin, cos, sin, cos, ...


class SinusoidalPositions(Module):
    """Adds PE to the tokens. It has no parameters and no maximum length."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, E); the position of its first token is ``start``. Returns (B, T, E), as floats
        even if x holds integers."""
        start = checked_start("SinusoidalPositions", x, start)
        array = as_array(x)
        xp = array_module(array)
        table = sinusoidal(xp, xp.arange(start, start + x.shape[1], dtype="float64"), x.shape[2])
        return x + (table.astype(array.dtype) if array.dtype.kind == "f" else table)


class LearnedPositions(Module):
    """Adds a learned vector for each position. weight (max_length, d_model) starts from N(0,
    0.02²), as in GPT and BERT."""

    def __init__(self, max_length: int, d_model: int):
        max_length = size(max_length, "LearnedPositions: max_length", 1)
        self.weight = init.normal(
            (max_length, size(d_model, "LearnedPositions: d_model", 1)), std=0.02
        )

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, E); the position of its first token is ``start``. Returns (B, T, E)."""
        start = checked_start("LearnedPositions", x, start)
        end = start + x.shape[1]
        max_length, width = self.weight.shape
        if x.shape[2] != width:
            raise ValueError(
                f"LearnedPositions: x has shape {x.shape}; it must be (B, T, {width}), as wide as "
                "the positions"
            )
        if end > max_length:
            raise ValueError(
                f"LearnedPositions: there are learned positions for {max_length} tokens, but x "
                f"ends at {end}: pass fewer, or build the model with a larger max_length"
            )
        return x + self.weight[start:end]


def checked_start(owner: str, x: Tensor, start: Any) -> int:
    """The position of the first token as an int. Raises if it is negative, or if x is not (B, T,
    E)."""
    if not is_numeric(x) or len(x.shape) != 3:
        raise (ValueError if is_numeric(x) else TypeError)(
            f"{owner}: x is {shown(x)}; it must be a Tensor (B, T, E)"
        )
    return size(start, f"{owner}: start")
