"""VideoDiT: a diffusion Transformer over spacetime patches, the architecture of Sora.

    z = W patches(x) + W_c patches(given, seen) + PE(time, row, column)
    z = DiT blocks (z, e),   e = embedding of the noise level + text
    F = unpatches(head(z))

A video is cut into boxes of a few frames, rows and columns (tubelets; Arnab et al. 2021).  Each box
becomes a token, and a DiT denoises all tokens of the video together, as in Sora (Brooks et al.
2024, "Video generation models as world simulators").  Positions are computed from time, row and
column, not learned, so one network takes videos of any length, height and width.  W and W_c are
linear maps; the other symbols are explained below.

Attention between N tokens costs N².  ``attention`` says which tokens attend to each other:

    "joint"        all tokens of the video
    "factorised"   space, then time: in block 0 the tokens of a frame, in block 1 the tokens at one
                   place in all frames, in block 2 those of a frame again, and so on
    "frames"       only the tokens of a frame: a control, in which no frame can see another one

differs: in the factorised model of Arnab et al. (their model 3) every block has both attentions.
Here blocks alternate (as in Latte, Ma et al. 2024), so all three choices have the same parameters.

Conditions.  Known frames (``given``) are additional channels: the video with zeros in place of
unknown frames, and a mask (``seen``) that is 1 in known frames.  A text adds the mean of its tokens
to e; unlike TextDiT there is no cross-attention.

Read first: dit.py, vision/tubelets.py.   Read next: video.py, which trains it and samples.
Shapes: B videos of T frames (B, T, C, H, W), texts of L words, D width.  A video has F tokens in
time and S in space, N = F S in total.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.data.text import PAD
from tinycv.diffusion.dit import DiTBlock, modulated, zero_linear
from tinycv.diffusion.embedding import TimeAndLabel, check_time_and_label
from tinycv.engine.arguments import choice, flag, number_kind, shown, size, sizes
from tinycv.engine.backend import Array, array_module, constant, from_host
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.activation import gelu, silu
from tinycv.nn.inputs import Examples, batch, depth_of, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.sequence.positions import grid_positions, sinusoids_of
from tinycv.sequence.rotary import RotaryAttention
from tinycv.sequence.text_encoder import TextEncoder
from tinycv.vision.tubelets import patchify_video, tubelet_grid, unpatchify_video

ATTENTIONS = "joint", "factorised", "frames"
POSITIONS = "sinusoidal", "rotary"


class VideoBlock(DiTBlock):
    """A DiT block for the tokens of a video, whose attention may be limited to frames or places.

    rotary: rotary positions, inside the attention.
    """

    def __init__(self, dim: int, heads: int, rotary: bool = False):
        super().__init__(dim, heads)
        if flag(rotary, "VideoBlock: rotary"):
            self.attention = RotaryAttention(dim, heads)

    def forward(  # type: ignore[override]
        self, z: Tensor, e: Tensor, coordinates: np.ndarray, look: str = "joint"
    ) -> Tensor:
        """z (B, N, D), e (B, D) after its SiLU. Returns (B, N, D).

        coordinates (F, S, 3): time, row and column of each token, for rotary positions. look:
        "joint", "space" (among the tokens of a frame) or "time" (among the tokens at one place).
        """
        modulation = self.modulation(e)[:, None]  # (B, 1, 6 D)
        shift1, scale1, gate1, shift2, scale2, gate2 = split(modulation, 6, axis=-1)
        z = z + gate1 * self.attend(modulated(z, shift1, scale1), coordinates, look)
        return z + gate2 * self.linear2(gelu(self.linear1(modulated(z, shift2, scale2)), "tanh"))

    def attend(self, z: Tensor, coordinates: np.ndarray, look: str) -> Tensor:
        """Attention of the tokens z (B, N, D) in groups. Returns (B, N, D)."""
        (b, n, d), (f, s, axes) = z.shape, coordinates.shape
        choice(look, "VideoBlock: look", ("joint", "space", "time"))
        if look == "joint":
            return self.among(z, coordinates.reshape(n, axes))
        if look == "space":
            return self.among(z.reshape((b * f, s, d)), coordinates[0]).reshape((b, n, d))
        rows = z.reshape((b, f, s, d)).swapaxes(1, 2).reshape((b * s, f, d))
        rows = self.among(rows, coordinates[:, 0])
        return rows.reshape((b, s, f, d)).swapaxes(1, 2).reshape((b, n, d))

    def among(self, z: Tensor, coordinates: np.ndarray) -> Tensor:
        """Attention among all tokens of each group: z (groups, M, D), coordinates (M, 3)."""
        if isinstance(self.attention, RotaryAttention):
            return self.attention(z, coordinates)
        return self.attention(z)


class VideoDiT(Module):
    """The network F of edm_denoiser for videos of any length and size.

    patch: frames, rows and columns of a box; T, H and W of a video must be multiples. channels: of
    a frame. dim: the width D. attention: "joint", "factorised" or "frames". positions:
    "sinusoidal", added to the tokens, or "rotary", inside the attention. Rotary positions depend
    only on the offset between two tokens, so they do not say how far a token is from the border of
    its frame, off which a ball bounces. A network that denoises pixels needs sinusoidal ones to
    know that. time_positions: False removes the time from the positions, as a control.
    summary: True adds to e the mean of a learned function of all given boxes, so that every token
    knows the given frames from the first block on.
    words, length: number of words and longest text, for a TextEncoder; 0 for no text.
    """

    def __init__(
        self,
        patch: tuple[int, int, int] = (2, 4, 4),
        channels: int = 1,
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
        attention: str = "joint",
        positions: str = "sinusoidal",
        time_positions: bool = True,
        summary: bool = False,
        words: int = 0,
        length: int = 0,
    ):
        time, rows, columns = sizes(patch, "VideoDiT: patch", 3, 1)
        self.patch = time, rows, columns
        channels, dim, heads = whole("VideoDiT", 1, channels=channels, dim=dim, heads=heads)
        depth, words = depth_of(depth, "VideoDiT", 0), size(words, "VideoDiT: words")
        length = size(length, "VideoDiT: length", 1 if words else 0)
        if dim % (2 * heads) or dim < 6 * heads:
            raise ValueError(
                f"VideoDiT: dim is {dim} and heads {heads}; each head needs an even width of at "
                "least 6, a sine and a cosine for each of time, row and column"
            )
        self.attention = choice(attention, "VideoDiT: attention", ATTENTIONS)
        self.positions = choice(positions, "VideoDiT: positions", POSITIONS)
        self.time_positions = flag(time_positions, "VideoDiT: time_positions")
        if flag(summary, "VideoDiT: summary") and attention == "frames":
            raise ValueError(
                'VideoDiT: summary is True, but with attention="frames" no frame may know another '
                "one; leave the summary out"
            )
        self.channels, self.dim = channels, dim
        box = channels * time * rows * columns
        self.embed = TimeAndLabel(dim)
        self.text = TextEncoder(words, length, dim, heads) if words else None
        self.patch_embed = Linear(box, dim)
        self.given_embed = Linear(box + time, dim)
        self.summary1 = Linear(dim, dim) if summary else None
        self.summary2 = Linear(dim, dim) if summary else None
        self.blocks = [VideoBlock(dim, heads, positions == "rotary") for _ in range(depth)]
        self.modulation = zero_linear(dim, 2 * dim)
        self.head = zero_linear(dim, box)

    def forward(
        self,
        x: Examples,
        t: Examples,
        given: Examples | None = None,
        seen: Any = None,
        ids: Any = None,
    ) -> Tensor:
        """x (B, T, C, H, W), t (B,). Returns (B, T, C, H, W).

        given (B, T, C, H, W), seen (B, T): the known frames, and bools that say which are known.
        Frames of ``given`` that are not seen are never read; they may be NaN. Without both, no
        frame is known. ids (B, L): texts, as the integers that TextEncoder takes; None for no text.
        """
        check_video(self, x, "VideoDiT: x")
        check_time_and_label("VideoDiT", x, t, None, 0)
        coordinates = self.coordinates(x)  # (F, S, 3)
        condition = self.given_embed(self.given_boxes(x, given, seen))  # (B, N, D)
        z = self.patch_embed(patchify_video(x, self.patch)) + condition
        e = self.embed(t)  # (B, D)
        if self.positions == "sinusoidal":
            table = sinusoids_of(coordinates.reshape(-1, 3), self.dim).astype(z.dtype)  # (N, D)
            places = constant(array_module(bare(z)), table)
            z, condition = z + places, condition + places
        if self.summary1 is not None and self.summary2 is not None:
            e = e + self.summary2(silu(self.summary1(condition)).mean(axis=1))
        if self.text is None and ids is not None:
            raise ValueError(
                "VideoDiT: ids were given to a network without words; build it with words"
            )
        if self.text is not None:
            ids = no_text(x) if ids is None else ids
            tokens = self.text(ids)  # (B, L, D)
            if len(tokens) != len(x):
                raise ValueError(
                    f"VideoDiT: ids has {len(tokens)} texts for {len(x)} videos; each needs one"
                )
            e = e + self.text.pooled(tokens, ids)
        e = silu(e)
        for i, block in enumerate(self.blocks):
            look = "joint"
            if self.attention != "joint":
                look = "time" if self.attention == "factorised" and i % 2 else "space"
            z = block(z, e, coordinates, look)
        shift, scale = split(self.modulation(e)[:, None], 2, axis=-1)
        return unpatchify_video(self.head(modulated(z, shift, scale)), self.patch, x.shape)

    def coordinates(self, x: Examples) -> np.ndarray:
        """Time, row and column of each token of the video x, counted in boxes: (F, S, 3)."""
        grid = tubelet_grid(x.shape, self.patch)
        places = grid_positions(grid).reshape(grid[0], grid[1] * grid[2], 3)
        return places if self.time_positions else places * [0.0, 1.0, 1.0]

    def given_boxes(self, x: Examples, given: Examples | None, seen: Any) -> Tensor:
        """The known frames as boxes, each with its mask, one number per frame: (B, N, box + t)."""
        b, frames = x.shape[:2]
        if (given is None) != (seen is None):
            raise ValueError(
                "VideoDiT: given and seen belong together: the frames, and which of them are known"
            )
        if given is None or seen is None:
            known = Tensor(bare(x) * 0.0)
            mask = known[:, :, 0, 0, 0]  # (B, T)
        else:
            if tuple(batch(given, "VideoDiT: given").shape) != tuple(x.shape):
                raise ValueError(
                    f"VideoDiT: given has shape {tuple(given.shape)} and x {tuple(x.shape)}; they "
                    "must be equal"
                )
            seen = frames_seen(seen, x, "VideoDiT: seen")
            # Selected, not multiplied by 0: an unknown frame reaches nothing, even if it is NaN.
            given = given if isinstance(given, Tensor) else Tensor(given)
            known = where(seen[:, :, None, None, None], given, 0.0)
            mask = Tensor(seen.astype(x.dtype))  # (B, T)
        known = patchify_video(known, self.patch)  # (B, N, box)
        t = self.patch[0]
        places = known.shape[1] * t // frames  # S
        marks = mask.reshape((b, frames // t, 1, t)).expand((b, frames // t, places, t))
        return concatenate([known, marks.reshape((b, known.shape[1], t))], axis=-1)


# ── argument checks ───────────────────────────────────────────────────────────────────────────────


def of_network(network: VideoDiT, who: str) -> VideoDiT:
    """network itself; for anything but a VideoDiT a TypeError that names the function ``who``."""
    if not isinstance(network, VideoDiT):
        raise TypeError(f"{who}: network is {shown(network)}; it must be a VideoDiT")
    return network


def check_video(network: VideoDiT, x: Examples, what: str) -> Examples:
    """x itself, if it is a video (B, T, C, H, W) that the patches of the network fill."""
    _, frames, channels, height, width = batch(x, what, 5).shape
    t, p, q = network.patch
    if channels != network.channels:
        raise ValueError(
            f"{what} has shape {tuple(x.shape)}; this network takes frames of "
            f"{network.channels} channels"
        )
    if not frames or frames % t or height % p or width % q:
        raise ValueError(
            f"{what} has {frames} frames of {height} x {width}; the patches of this network need a "
            f"multiple of {t} frames, of {p} rows and of {q} columns"
        )
    return x


def frames_seen(seen: Any, x: Examples, what: str) -> Array:
    """``seen`` as a bare bool array (B, T) on the device of the videos x."""
    if number_kind(seen) != "b" or tuple(bare(seen).shape) != tuple(x.shape[:2]):
        raise TypeError(
            f"{what} is {shown(seen)}; it must be bools of shape {tuple(x.shape[:2])}, True for "
            "each known frame"
        )
    return from_host(array_module(bare(x)), bare(seen))


def no_text(x: Examples) -> Array:
    """A text of PAD alone for each video of x: integers (B, 1)."""
    return array_module(bare(x)).full((len(x), 1), PAD)
