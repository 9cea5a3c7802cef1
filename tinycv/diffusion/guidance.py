"""Classifier-free guidance: an image of what was asked for, and more so than chance would have it.

    ε̃(x, c) = (1 + w) ε(x, c) - w ε(x)                               Ho & Salimans 2022, eq. 6

One network learns both: in training, a label is now and then replaced by "nobody said" (algorithm
1), and then it learns all images together.  The difference of its two answers points to what makes
an image look like its label; guidance goes that way further.  Of p(x | c) it makes roughly p(x | c)
p(c | x)^w: surer examples, and fewer kinds of them.

w = 0 is the plain conditional model, as in the paper.  (Imagen and Stable Diffusion count from 1:
their scale is 1 + w.)  ε and x_0 are tied by x_t = a x_0 + s ε with x_t known, so the same weights
may mix the images D(x, c) and D(x), as here.

Read before: denoising.py, samplers.py.   See at work: demos/17_diffusion_digits.py.
Shapes: x (B, ...), labels and times (B,).
"""

from __future__ import annotations

import numpy as np

from tinycv.diffusion.embedding import Labels
from tinycv.diffusion.schedule import Times, made_for
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import backend
from tinycv.engine.arguments import number, size
from tinycv.engine.backend import Array
from tinycv.engine.create import full_like
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import Examples, answering, batch, finite, integers, is_number


def without_some(labels: Labels, nobody: int, share: float = 0.1) -> Tensor:
    """The labels (B,), of which each is replaced by ``nobody``, the number of "nobody said", with
    probability ``share``."""
    labels, nobody = labels_of(labels, "without_some", nobody)
    share = number(share, "without_some: share", 0, 1)
    # On a GPU nobody has looked for labels below 0: they stay, so that the model makes NaN of each.
    forgotten = (backend.uniform(labels.shape, labels) < share) & (labels >= 0)
    return where(forgotten, nobody, Tensor(labels))


def guided(denoise: Denoiser, labels: Labels, nobody: int, w: float = 0.0) -> Denoiser:
    """D(x, t) for images of these labels (B,), with guidance w, by the conditional denoise(x, t,
    labels). t: a number, or times (B,).

    An answer that has the weight 0 (the one without the label at w = 0, the one with it at w = -1)
    is not asked for.
    """
    labels, nobody = labels_of(labels, "guided", nobody)
    schedule = getattr(denoise, "schedule", None)
    denoise, w = answering(denoise, "guided: denoise"), finite(w, "guided: w")
    with_label = Tensor(labels)
    without = full_like(with_label, nobody)
    both = concatenate([with_label, without])  # (2 B,)

    def denoise_guided(x: Examples, t: Times) -> Examples:
        batch(x, "guided: x")
        if len(x) != len(labels):
            raise ValueError(
                f"guided: x has shape {tuple(x.shape)}, but there are {len(labels)} labels; one "
                "for each of x"
            )
        if w in (0, -1):
            return denoise(x, t, with_label if w == 0 else without)
        # one pass for both
        t = t if is_number(t) or not getattr(t, "shape", ()) else concatenate([t, t])
        told, untold = split(denoise(concatenate([x, x]), t, both), 2)
        return (1 + w) * told - w * untold

    return made_for(denoise_guided, schedule)


def labels_of(labels: Labels, name: str, nobody: int) -> tuple[Array, int]:
    """Labels (B,) as a bare integer array, and the number of "nobody said", which they must be able
    to hold."""
    labels, nobody = integers(labels, f"{name}: labels"), size(nobody, f"{name}: nobody")
    most = np.iinfo(labels.dtype).max
    if nobody > most:
        raise ValueError(
            f"{name}: nobody is {nobody}, and labels of {labels.dtype} hold numbers up to {most}; "
            "give labels of int64"
        )
    if isinstance(labels, np.ndarray) and len(labels) and labels.min() < 0:
        raise IndexError(f"{name}: labels hold {labels.min()}; classes are numbered from 0")
    return labels, nobody
