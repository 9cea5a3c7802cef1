"""Rotary position embedding (RoPE): queries and keys are rotated by their positions, so that
attention depends on relative positions only.

    (x_2i + j x_2i+1) e^(j p θ_i),   θ_i = 10000^(-2i/D)     Su et al. 2021 (RoFormer), section 3.2
    ⟨rotary(q, m), rotary(k, n)⟩ depends on q, k and m - n only

j is the imaginary unit.  Each pair of numbers of a query or key is a point in the plane, written as
a complex number.  At position p this point is rotated by the angle p θ_i.  The product of a query
at m and a key at n depends only on the difference of the two angles, (m - n) θ_i.  So a head learns
"two tokens to the left" once, for all places, and the lengths of q and k do not change.  Nothing is
added to the tokens, and the values are not rotated.

Axial rotary is for images and videos, whose tokens have a position on each of several axes, such as
time, row and column.  The pairs are divided among the axes, and the pairs of an axis rotate with
its coordinate.  The products then depend on the offset along each axis.

The frequencies θ_i are those of the sinusoidal encoding.  ``base`` is the 10000 of the formula.  On
a small grid most pairs hardly rotate with 10000, and a smaller base makes them rotate more.

Read first: positions.py, attention.py.
Shapes: B batch, H heads, T tokens, D width of a head, an even number; E = H D.
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.arguments import number, number_kind, shown
from tinycv.engine.backend import Array, array_module, constant
from tinycv.engine.methods import stack
from tinycv.engine.tensor import ArrayLike, Tensor, bare
from tinycv.sequence.attention import MultiheadAttention
from tinycv.sequence.inputs import check_tokens, is_numeric
from tinycv.sequence.masks import zero_hidden_tokens
from tinycv.sequence.positions import angles_of, coordinates_of


def rotary(x: Tensor, positions: ArrayLike, base: float = 10000.0) -> Tensor:
    """Rotate x, queries or keys (B, H, T, D), by the positions of their tokens.

    positions: (T,) numbers, or (T, axes) for tokens on a grid (``grid_positions``). The D / 2 pairs
    are divided evenly among the axes; any pairs left over go to the first axes, one each.
    Returns (B, H, T, D). Any number of axes may come before T.
    A pair is two neighbouring numbers, as in the paper; some libraries pair i with i + D / 2.
    """
    cosine, sine = rotary_table(x, positions, base)  # (T, D / 2)
    first, second = x[..., 0::2], x[..., 1::2]  # (B, H, T, D / 2)
    turned = stack([first * cosine - second * sine, first * sine + second * cosine], axis=-1)
    return turned.reshape(x.shape)  # (B, H, T, D / 2, 2) -> (B, H, T, D)


def rotary_table(x: Tensor, positions: ArrayLike, base: float = 10000.0) -> tuple[Array, Array]:
    """The cosines and sines (T, D / 2) of the angles by which x (..., T, D) is turned, in its dtype
    and on its device. The angles are computed in float64, so that distant positions stay exact."""
    if not is_numeric(x) or len(x.shape) < 2:
        raise (ValueError if is_numeric(x) else TypeError)(
            f"rotary: x is {shown(x)}; it must be queries or keys, floats (B, H, T, D)"
        )
    if number_kind(x) != "f":
        raise TypeError(f"rotary: x is {shown(x)}; it must be floats (B, H, T, D)")
    tokens, width = x.shape[-2:]
    base = number(base, "rotary: base", above=1, below=1e300)
    places = coordinates_of(positions, "rotary: positions", tokens)  # (T, axes), on the host
    if width % 2 or width < 2 * places.shape[1]:
        raise ValueError(
            f"rotary: x has shape {tuple(x.shape)}; its last axis, the width of a head, must be "
            f"even, with at least one pair for each of {places.shape[1]} axes"
        )
    angles = angles_of(places, width, base)  # (T, D / 2)
    xp, dtype = array_module(bare(x)), x.dtype
    cosine, sine = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    return constant(xp, cosine), constant(xp, sine)


class RotaryAttention(MultiheadAttention):
    """Multi-head self-attention whose queries and keys are rotated by their positions. The
    parameters are those of MultiheadAttention."""

    def __init__(self, embed_dim: int, num_heads: int, base: float = 10000.0):
        super().__init__(embed_dim, num_heads)
        self.base = number(base, "RotaryAttention: base", above=1, below=1e300)

    def forward(  # type: ignore[override]
        self, x: Tensor, positions: ArrayLike, attn_mask: ArrayLike | None = None
    ) -> Tensor:
        """x (B, T, E); positions (T,) or (T, axes), as for ``rotary``. attn_mask: as in
        scaled_dot_product_attention. Returns (B, T, E)."""
        check_tokens("RotaryAttention", (), x=x)
        x = zero_hidden_tokens(x, attn_mask)
        q, k, v = (self.split_heads(part) for part in self.project(x, None, None))  # (B, H, T, D)
        q, k = rotary(q, positions, self.base), rotary(k, positions, self.base)
        return self.attend_and_merge(q, k, v, attn_mask)
