"""Video diffusion: training, prediction of what follows, and videos longer than those of training.

    D(x; σ) = c_skip x + c_out F(c_in x; ln(σ) / 4, known frames, text)       F: a VideoDiT
    loss    = mean of (F - target)² over the frames that are not known       D, target: edm.py

The network sees the frames that are known, and denoises the others.  With no known frame it makes
new videos; with a few it predicts what follows.  To make a video longer than those of training, the
last frames are given, the network predicts what follows, and the window slides on
(``VideoDiffusion.extend``).  It denoises pixels, or the codes of a VAE that encodes each frame by
itself; a code is a frame of 1 x 1 pixels with many channels.  If training drops a condition (text,
known frames) in some examples, the same network also works without it (guidance.py).

Read first: video_dit.py, edm.py, latent.py.
See at work: demos/25_video.py.
Shapes: B videos of T frames (B, T, C, H, W), texts of L words.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import Any

import numpy as np

from tinycv.data.text import PAD
from tinycv.diffusion.edm import EDM, edm_denoiser, heun_step, noise_levels, preconditioning
from tinycv.diffusion.guidance import guided
from tinycv.diffusion.samplers import sample
from tinycv.diffusion.tweedie import Denoiser
from tinycv.diffusion.video_dit import VideoDiT, check_video, frames_seen, of_network
from tinycv.engine import ops
from tinycv.engine.arguments import size, sizes
from tinycv.engine.backend import Array, array_module
from tinycv.engine.create import full, randn_like, zeros
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.likelihood.vae import VAE, of_vae
from tinycv.nn.inputs import Examples, batch, finite, integers, whole
from tinycv.nn.module import Module
from tinycv.sequence.inputs import check_ids

AT_ONCE = 500  # videos whose frames a VAE encodes or decodes at a time


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
    ids (B, L): the texts; None for no text. ln σ ~ N(mean, std²). The motion of a video is decided
    at strong noise, so the mean is far above EDM's value for images, -1.2.
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
            chunk = videos[i : i + AT_ONCE]
            b, frames = chunk.shape[:2]
            codes, _ = self.vae.encode(chunk.reshape((b * frames, *chunk.shape[2:])))
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
            is_known = array_module(seen).concatenate([seen] * times) if times > 1 else seen

            def network(y: Examples, t: Examples) -> Tensor:
                return self.network(y, t, known, is_known, texts)

            denoised = edm_denoiser(network, 1.0)(y, sigma)
            # The loss leaves the given frames out, so the network's output there is arbitrary. The
            # given frames themselves replace it. Then the sampler moves them to the given frames
            # plus σ ε at every σ, which is what the network sees in training.
            return where(is_known[:, :, None, None, None], known, denoised)

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


def expect_standardised(model: VideoDiffusion, who: str) -> None:
    """ValueError before ``standardise``. On a GPU the results are NaN then, because reading values
    would mean waiting."""
    std = bare(model.std)
    if isinstance(std, np.ndarray) and np.isnan(std).any():
        raise ValueError(
            f"{who}: the videos have no mean and deviation yet; call standardise(videos) first, "
            "with the videos of training"
        )
