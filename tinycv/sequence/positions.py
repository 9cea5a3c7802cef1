"""Positions: attention treats tokens as a set, so where each one stands must be written into it.

    PE(pos, 2i)   = sin(pos / 10000^(2i/d))                         Vaswani et al. 2017, section 3.5
    PE(pos, 2i+1) = cos(pos / 10000^(2i/d))

Pairs of clocks: the first turns fast and tells neighbours apart, the last has barely moved after
thousands of tokens.  To move k places on is to turn each pair by a fixed angle, PE(pos + k) = R_k
PE(pos): a linear map, which a head can learn. The table has no end, but what a network does beyond
the lengths that it has seen is another matter.

Learned positions are a table of vectors like any other.  The paper found the two to be alike
(ibid., table 3, row E). ViT has its own table, under its paper's name: vision/vit.py.

Read before: attention.py.   Read next: transformer.py.
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


def sinusoidal(xp: Any, places: Array, width: int) -> Array:
    """PE for places (T,), float: an array (T, width). xp: numpy or cupy, wherever places are."""
    turns = 10000.0 ** (-xp.arange(0, width, 2) / max(width, 1))  # (width / 2,) radians a place
    angle = places[:, None] * turns  # (T, width / 2)
    both = xp.stack([xp.sin(angle), xp.cos(angle)], axis=-1)  # (T, width / 2, 2)
    return both.reshape(len(places), 2 * len(turns))[:, :width]  # sin, cos, sin, cos, ...


class SinusoidalPositions(Module):
    """Adds PE to tokens. Nothing to learn, nothing to save, and no greatest length."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, E), of which the first token stands at place ``start``. Returns (B, T, E), whole
        numbers as floats."""
        start = checked_start("SinusoidalPositions", x, start)
        array = as_array(x)
        xp = array_module(array)
        table = sinusoidal(xp, xp.arange(start, start + x.shape[1], dtype="float64"), x.shape[2])
        return x + (table.astype(array.dtype) if array.dtype.kind == "f" else table)


class LearnedPositions(Module):
    """Adds a learned vector for each place. weight (max_length, d_model), N(0, 0.02²) as GPT's and
    BERT's."""

    def __init__(self, max_length: int, d_model: int):
        max_length = size(max_length, "LearnedPositions: max_length", 1)
        self.weight = init.normal(
            (max_length, size(d_model, "LearnedPositions: d_model", 1)), std=0.02
        )

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, E), of which the first token stands at place ``start``. Returns (B, T, E)."""
        start = checked_start("LearnedPositions", x, start)
        end, (places, width) = start + x.shape[1], self.weight.shape
        if x.shape[2] != width:
            raise ValueError(
                f"LearnedPositions: x has shape {x.shape}; it must be (B, T, {width}), as wide as "
                "the positions"
            )
        if end > places:
            raise ValueError(
                f"LearnedPositions: there are learned positions for {places} tokens, and these end "
                f"at {end}: give fewer, or build the model with a larger max_length"
            )
        return x + self.weight[start:end]


def checked_start(owner: str, x: Tensor, start: Any) -> int:
    """The place of the first token as an int; refuses a negative one, and tokens that are not (B,
    T, E)."""
    if not is_numeric(x) or len(x.shape) != 3:
        raise (ValueError if is_numeric(x) else TypeError)(
            f"{owner}: x is {shown(x)}; it must be a Tensor (B, T, E)"
        )
    return size(start, f"{owner}: start")
