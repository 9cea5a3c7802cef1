"""Guidance: an image of what was asked for, and more so than chance would have it.

    ε̃(x, c) = (1 + w) ε(x, c) - w ε(x)                               Ho & Salimans 2022, eq. 6

One network learns both: in training, a label is now and then replaced by "nobody said" (algorithm 1), and then it learns
all images together.  The difference of its two answers points to what makes an image look like its label; guidance goes
that way further.  Of p(x | c) it makes roughly p(x | c) p(c | x)^w: surer examples, and fewer kinds of them.

w = 0 is the plain conditional model, as in the paper. (Others write s = 1 + w, where 1 is plain: Imagen, Stable Diffusion.)
ε and x_0 are tied by x_t = a x_0 + s ε with x_t known, so the same weights may mix the images D(x, c) and D(x), as here.

Read before: diffusion.py, samplers.py.   Shapes: x (B, ...), labels (B,).
"""

from __future__ import annotations

from typing import Any

from tinycv.engine import backend
from tinycv.engine.backend import array_module
from tinycv.engine.methods import concatenate, split
from tinycv.engine.tensor import Tensor, bare
from tinycv.generative.diffusion import Denoiser


def without_some(labels: Any, nobody: int, share: float = 0.1) -> Tensor:
    """The labels (B,), of which each is replaced by ``nobody``, the number of "nobody said", with probability ``share``."""
    labels = bare(labels)
    xp = array_module(labels)
    return Tensor(xp.where(backend.uniform(labels.shape, labels) < share, nobody, labels))


def guided(denoise: Denoiser, labels: Any, nobody: int, w: float = 0.0) -> Denoiser:
    """D(x, t), t a number, for images of these labels (B,), with guidance w, by the conditional denoise(x, t, labels)."""
    labels = bare(labels)
    if not w:
        return lambda x, t: denoise(x, t, Tensor(labels))
    xp = array_module(labels)
    both = Tensor(xp.concatenate([labels, xp.full_like(labels, nobody)]))                       # (2 B,)

    def denoise_guided(x: Any, t: Any) -> Any:
        told, untold = split(denoise(concatenate([x, x]), t, both), 2)                          # one pass for both
        return (1 + w) * told - w * untold

    return denoise_guided
