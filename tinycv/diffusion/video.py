"""Video diffusion by a Transformer over spacetime patches (VideoDiT), the architecture of Sora.

    z = W patches(x) + W_c patches(given, seen) + PE(time, row, column)
    z = DiT blocks (z, e),   e = embedding of the noise level + text
    D(x; σ) = c_skip x + c_out unpatches(head(z))                              EDM (edm.py)

A video is cut into boxes of a few frames, rows and columns (tubelets; Arnab et al. 2021).  Each box
becomes a token, and a DiT denoises all tokens of the video together, as in Sora (Brooks et al.
2024, "Video generation models as world simulators").  Positions are computed from time, row and
column, not learned, so one network takes videos of any length, height and width.  It denoises
pixels, or the codes of a VAE that encodes each frame by itself; a code is a frame of 1 x 1 pixels
with many channels.  W and W_c are linear maps; the other symbols are explained below.

Attention between N tokens costs N².  ``attention`` says which tokens attend to each other:

    "joint"        all tokens of the video
    "factorised"   space, then time: in block 0 the tokens of a frame, in block 1 the tokens at one
                   place in all frames, in block 2 those of a frame again, and so on
    "frames"       only the tokens of a frame: a control, in which no frame can see another one

differs: in the factorised model of Arnab et al. (their model 3) every block has both attentions.
Here blocks alternate (as in Latte, Ma et al. 2024), so all three choices have the same parameters.

Conditions.  Known frames (``given``) are additional channels: the video with zeros in place of
unknown frames, and a mask (``seen``) that is 1 in known frames.  A text adds the mean of its tokens
to e; unlike TextDiT there is no cross-attention.  If training drops a condition in some examples,
the same network also works without it (guidance.py).  To make a video longer than those of
training, the last frames are given, the network predicts what follows, and the window slides on
(``VideoDiffusion.extend``).

Read first: dit.py, edm.py, latent.py, vision/tubelets.py.
See at work: demos/25_video.py.
Shapes: B videos of T frames (B, T, C, H, W), texts of L words, D width.  A video has F tokens in
time and S in space, N = F S in total.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import Any

import numpy as np

from tinycv.data.text import PAD
from tinycv.diffusion.dit import DiTBlock, modulated, zero_linear
from tinycv.diffusion.edm import EDM, edm_denoiser, heun_step, noise_levels, preconditioning
from tinycv.diffusion.embedding import TimeAndLabel, check_time_and_label
from tinycv.diffusion.guidance import guided
from tinycv.diffusion.samplers import sample
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import choice, flag, number_kind, shown, size, sizes
from tinycv.engine.backend import Array, array_module, constant, from_host
from tinycv.engine.create import full, randn_like, zeros
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.likelihood.vae import VAE, of_vae
from tinycv.nn.activation import gelu, silu
from tinycv.nn.inputs import Examples, batch, depth_of, finite, integers, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.sequence.inputs import check_ids
from tinycv.sequence.positions import grid_positions, sinusoids_of
from tinycv.sequence.rotary import RotaryAttention
from tinycv.sequence.text_encoder import TextEncoder
from tinycv.vision.tubelets import patchify_video, tubelet_grid, unpatchify_video

ATTENTIONS = "joint", "factorised", "frames"
POSITIONS = "sinusoidal", "rotary"
AT_ONCE = 500  # videos whose frames a VAE encodes or decodes at a time


# ── the network ──────────────────────────────────────────────────────────────────────────────────


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
    only on the offset between two tokens, so they do not show where a wall is; a network of pixels
    needs sinusoidal ones. time_positions: False removes the time from the positions, as a control.
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
        frame is known. ids (B, L): texts; without them, no text.
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


# ── training and sampling ────────────────────────────────────────────────────────────────────────


def first_frames(counts: Any, frames: int) -> Array:
    """bool (B, T): True for the first counts[i] of the frames of video i. counts (B,) integers."""
    counts = integers(counts, "first_frames: counts")
    (frames,) = whole("first_frames", 1, frames=frames)
    if (
        array_module(counts) is np
        and len(counts)
        and not 0 <= counts.min() <= counts.max() <= frames
    ):
        raise ValueError(
            f"first_frames: counts holds numbers from {counts.min()} to {counts.max()}; each must "
            f"be from 0 to {frames}, the number of frames"
        )
    return array_module(counts).arange(frames) < counts[:, None]


def video_loss(
    network: VideoDiT,
    y: Examples,
    seen: Any = None,
    ids: Any = None,
    mean: float = 1.0,
    std: float = 1.2,
) -> Tensor:
    """EDM's loss (edm_loss) on the frames that are not given, for videos y (B, T, C, H, W) of
    variance 1.

    seen: bool (B, T), True for the given frames, which do not count; None if no frame is given.
    ln σ ~ N(mean, std²). The motion of a video is decided at strong noise, so the mean is far above
    EDM's value for images, -1.2.
    """
    check_video(of_network(network, "video_loss"), y, "video_loss: y")
    mean, std = finite(mean, "video_loss: mean"), finite(std, "video_loss: std", low=0)
    sigma = EDM().random_times(y, mean, std)
    level, column = noise_levels(sigma, y, "video_loss")
    c_skip, c_out, c_in = preconditioning(column, 1.0)
    x = y + column * randn_like(Tensor(y))
    given = None if seen is None else y
    answer = network(c_in * x, Tensor(ops.log(level) / 4), given, seen, ids)
    errors = ((answer - (y - c_skip * x) / c_out) ** 2).mean(axis=(2, 3, 4))  # (B, T)
    if seen is None:
        return errors.mean()
    xp = array_module(bare(y))
    unseen = 1.0 - frames_seen(seen, y, "video_loss: seen").astype(y.dtype)
    share = unseen / xp.maximum(unseen.sum(axis=1, keepdims=True), 1.0)
    return (errors * Tensor(share)).sum(axis=1).mean()


class VideoDiffusion(Module):
    """An EDM of videos: of their pixels, or of the codes of a trained VAE without classes that
    encodes each frame by itself. ``standardise`` has to be called before training.

    network: a VideoDiT; for codes, one with channels = vae.latent and a patch of (frames, 1, 1).
    Only its parameters should be given to the optimizer: ``loss`` passes no gradient to the VAE.
    sigma_min, sigma_max: the noise levels of sampling, for videos of variance 1.
    differs from LatentDiffusion: the code of a frame is its mean, not a sample, because the noise
    of two samples would be taken for motion.

        model = VideoDiffusion(VideoDiT((2, 4, 4), channels=1))
        videos = tinycv.rand(3, 8, 1, 16, 16)  # your videos, (B, T, C, H, W)
        model.standardise(videos)  # once, with all videos of training
        loss = model.loss(videos, first_frames(np.array([3, 3, 3]), 8))  # three frames are given
        loss.backward()
        longer = model.predict(videos[:, :3], frames=8)  # (3, 8, 1, 16, 16)
    """

    def __init__(
        self,
        network: VideoDiT,
        vae: VAE | None = None,
        sigma_min: float = 0.01,
        sigma_max: float = 20.0,
    ):
        of_network(network, "VideoDiffusion")
        if vae is not None and of_vae(vae, "VideoDiffusion").classes:
            raise ValueError("VideoDiffusion: vae has classes; it must be a VAE without classes")
        if vae is not None and (network.channels, *network.patch[1:]) != (vae.latent, 1, 1):
            raise ValueError(
                f"VideoDiffusion: the codes of vae are frames of {vae.latent} channels and 1 x 1 "
                f"pixels, but network has {network.channels} channels and the patch {network.patch}"
            )
        self.network, self.vae = network, vae
        self.schedule = EDM(sigma_min, sigma_max)
        # for each channel; NaN until standardise is called
        self.register_buffer("mean", full((network.channels, 1, 1), nan))
        self.register_buffer("std", full((network.channels, 1, 1), nan))

    def standardise(self, videos: Examples) -> None:
        """Measure mean and standard deviation of each channel over videos (N, T, C, H, W)."""
        with no_grad():
            y = self.plain_codes(videos, "VideoDiffusion.standardise")
            axes = (0, 1, 3, 4)
            if y.shape[0] * y.shape[1] < 2:
                raise ValueError(
                    "VideoDiffusion.standardise: videos holds one frame; a standard deviation "
                    "needs at least two"
                )
            mean = y.mean(axis=axes, keepdims=True)
            std = ((y - mean) ** 2).mean(axis=axes, keepdims=True) ** 0.5
            if isinstance(bare(std), np.ndarray) and not (std.numpy() > 0).all():
                raise ValueError(
                    "VideoDiffusion.standardise: a channel of videos is constant or holds NaN; it "
                    "must vary, because it is divided by its deviation"
                )
            self.mean, self.std = mean[0, 0], std[0, 0]

    def encode(self, videos: Examples) -> Tensor:
        """What the network works on, with mean 0 and variance 1: pixels (B, T, C, H, W), or codes
        (B, T, latent, 1, 1). No gradient."""
        expect_standardised(self, "VideoDiffusion.encode")
        with no_grad():
            return (self.plain_codes(videos, "VideoDiffusion.encode") - self.mean) / self.std

    def plain_codes(self, videos: Examples, who: str) -> Tensor:
        """Pixels or codes before they are standardised."""
        videos = Tensor(batch(videos, f"{who}: videos", 5))
        if self.vae is None:
            return videos
        parts = []
        for i in range(0, max(1, len(videos)), AT_ONCE):
            some = videos[i : i + AT_ONCE]
            b, frames = some.shape[:2]
            codes, _ = self.vae.encode(some.reshape((b * frames, *some.shape[2:])))
            parts.append(codes.reshape((b, frames, self.vae.latent, 1, 1)))
        return concatenate(parts)

    def decode(self, y: Examples, frame: tuple[int, int, int]) -> Tensor:
        """The inverse of ``encode``: videos (B, T, C, H, W) whose frames have the shape ``frame``,
        (C, H, W)."""
        expect_standardised(self, "VideoDiffusion.decode")
        sides = sizes(frame, "VideoDiffusion.decode: frame", 3, 1)
        with no_grad():
            plain = self.mean + self.std * Tensor(
                check_video(self.network, y, "VideoDiffusion.decode: y")
            )
            if self.vae is None:
                return plain
            b, frames = plain.shape[:2]
            rows = plain.reshape((b * frames, self.vae.latent))
            return self.vae.pixels(rows).reshape((b, frames, *sides))

    def loss(
        self,
        videos: Examples,
        seen: Any = None,
        ids: Any = None,
        mean: float = 1.0,
        std: float = 1.2,
    ) -> Tensor:
        """``video_loss`` of videos (B, T, C, H, W). If the codes are needed in many steps, encode
        them once and call video_loss."""
        return video_loss(self.network, self.encode(videos), seen, ids, mean, std)

    def denoiser(self, given: Tensor, seen: Array, ids: Any = None, w: float = 0.0) -> Denoiser:
        """D(y, σ) of encoded videos, for these known frames (video_loss) and texts; w: the strength
        of guidance by the text."""

        def denoise(y: Examples, sigma: Any, texts: Any = None) -> Examples:
            # guidance denoises each video twice, with its text and without
            times = len(y) // max(1, len(given))
            known = concatenate([given] * times) if times > 1 else given
            which = array_module(seen).concatenate([seen] * times) if times > 1 else seen

            def network(y: Examples, t: Examples) -> Tensor:
                return self.network(y, t, known, which, texts)

            denoised = edm_denoiser(network, 1.0)(y, sigma)
            # The loss leaves the given frames out, so the network's output there is arbitrary. As
            # in training, they are the given frames plus σ ε at every σ of the sampler.
            return where(which[:, :, None, None, None], known, denoised)

        if ids is None and finite(w, "VideoDiffusion.denoiser: w"):
            raise ValueError(
                f"VideoDiffusion.denoiser: w is {w}, but there are no ids; guidance needs texts"
            )
        return denoise if ids is None else guided(denoise, ids, PAD, w)

    def predict(
        self, given: Examples, frames: int, ids: Any = None, steps: int = 10, w: float = 0.0
    ) -> Tensor:
        """Videos of ``frames`` frames in all that begin with the frames given (B, K, C, H, W), in
        ``steps`` steps of Heun's method: (B, frames, C, H, W).

        With K = 0 nothing is known, and the videos are new ones. ids (B, L), w: texts, and the
        strength of their guidance. The given frames are returned as they are.
        """
        given = Tensor(batch(given, "VideoDiffusion.predict: given", 5))
        steps = size(steps, "VideoDiffusion.predict: steps", 2)
        frames = size(frames, "VideoDiffusion.predict: frames", 1)
        known, frame = given.shape[1], given.shape[2:]
        if known > frames:
            raise ValueError(
                f"VideoDiffusion.predict: given has {known} frames, more than frames={frames}"
            )
        self.check_prediction(given, frames, ids, "VideoDiffusion.predict")
        w = finite(w, "VideoDiffusion.predict: w")
        b = len(given)
        shape = self.network.channels, *(frame[1:] if self.vae is None else (1, 1))
        rest = zeros(b, frames - known, *shape, dtype=given.dtype, device=given.device)
        y = concatenate([self.encode(given), rest], axis=1) if known else rest
        seen = array_module(bare(y)).arange(frames) < known
        seen = array_module(bare(y)).broadcast_to(seen, (b, frames))
        with no_grad():
            step = partial(heun_step, self.denoiser(y, seen, ids, w))
            start = self.schedule.last * randn_like(y)
            made = sample(step, start, self.schedule.times(steps))
            return concatenate([given, self.decode(made, frame)[:, known:]], axis=1)

    def check_prediction(self, given: Tensor, frames: int, ids: Any, who: str) -> None:
        """ValueError or TypeError, which names ``who``, unless the network can predict ``frames``
        frames from given (B, K, C, H, W) and the texts ids (B, L)."""
        channels, height, width = given.shape[2:]
        t, p, q = self.network.patch
        if self.vae is None and (
            channels != self.network.channels or height % p or width % q or not height * width
        ):
            raise ValueError(
                f"{who}: given has shape {tuple(given.shape)}; this network takes frames of "
                f"{self.network.channels} channels, (B, K, C, H, W), whose H is a multiple of {p} "
                f"and W of {q}"
            )
        if self.vae is not None and channels * height * width != self.vae.inputs:
            raise ValueError(
                f"{who}: given has shape {tuple(given.shape)}; the VAE takes frames of "
                f"{self.vae.inputs} numbers"
            )
        if frames % t:
            raise ValueError(
                f"{who}: frames is {frames}, which counts the given ones; this network needs a "
                f"multiple of {t}"
            )
        if ids is None:
            return
        if self.network.text is None:
            raise ValueError(
                f"{who}: ids were given to a network without words; build the VideoDiT with words"
            )
        check_ids(ids, f"{who}: ids")
        if len(ids) != len(given):
            raise ValueError(
                f"{who}: ids has {len(ids)} texts for {len(given)} videos; each needs one"
            )

    def extend(
        self, video: Examples, frames: int, window: int = 8, keep: int = 3, **options: Any
    ) -> Tensor:
        """``video`` (B, K, C, H, W) continued to ``frames`` frames by a sliding window: the last
        ``keep`` frames are given, the network predicts a window of ``window`` frames that begins
        with them, and so on. options: ids, steps and w of ``predict``."""
        window, keep = whole("VideoDiffusion.extend", 1, window=window, keep=keep)
        video = Tensor(batch(video, "VideoDiffusion.extend: video", 5))
        frames = size(frames, "VideoDiffusion.extend: frames", 1)
        if not keep < window or video.shape[1] < keep:
            raise ValueError(
                f"VideoDiffusion.extend: video has {video.shape[1]} frames, window={window} and "
                f"keep={keep}; keep must be less than window and at most the frames of video"
            )
        while video.shape[1] < frames:
            longer = self.predict(video[:, -keep:], window, **options)
            video = concatenate([video, longer[:, keep:]], axis=1)
        return video[:, :frames]


# ── argument checks ──────────────────────────────────────────────────────────────────────────────


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


def expect_standardised(model: VideoDiffusion, who: str) -> None:
    """ValueError before ``standardise``. On a GPU the results are NaN then, because reading values
    would mean waiting."""
    std = bare(model.std)
    if isinstance(std, np.ndarray) and np.isnan(std).any():
        raise ValueError(
            f"{who}: the videos have no mean and deviation yet; call standardise(videos) first, "
            "with the videos of training"
        )
