"""Classifier-free guidance (CFG): images that show their label more clearly, but vary less.

    ε̃(x, c) = (1 + w) ε(x, c) - w ε(x)                               Ho & Salimans 2022, eq. 6

One network learns both terms.  In training, a share of the labels is replaced by "no label"
(algorithm 1), and from these examples the network learns images of all classes together.  The
difference between its predictions with and without the label points towards what makes an image
look like its label; guidance goes further in that direction.  It samples roughly from
p(x | c) p(c | x)^w instead of p(x | c): clearer examples, but less varied ones.

The condition c may also be a text, a row of word numbers.  "No text" is then a row of PAD alone,
which the text encoder knows (sequence/text_encoder.py).

w = 0 is the plain conditional model, as in the paper.  (In Imagen and Stable Diffusion the guidance
scale is 1 + w.)  Because x_t = a x_0 + σ ε is known, the same formula holds for the images D(x, c)
and D(x), and the code here mixes those.

Read first: denoising.py, samplers.py.   Read next: cross_attention.py, text_to_image.py.
See at work: demos/17_diffusion_digits.py.
Shapes: x (B, ...), times (B,), labels (B,) or texts (B, T).
"""

from __future__ import annotations

import numpy as np

from tinycv.diffusion.embedding import Labels
from tinycv.diffusion.schedule import Times, made_for
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import backend
from tinycv.engine.arguments import number, number_kind, size
from tinycv.engine.backend import Array
from tinycv.engine.create import full_like
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.inputs import Examples, answering, batch, finite, integers, is_number


def without_some(labels: Labels, nobody: int, share: float = 0.1) -> Tensor:
    """The labels (B,), each replaced with probability ``share`` by ``nobody``, the number that
    means "no label" (num_classes of the network).

    Of texts (B, T), whole rows are replaced, and ``nobody`` is PAD.
    """
    labels, nobody = labels_of(labels, "without_some", nobody)
    share = number(share, "without_some: share", 0, 1)
    # On a GPU labels below 0 have not been checked for. They are never replaced, so that the
    # network returns NaN for them.
    one_per_example = (len(labels),) + (1,) * (labels.ndim - 1)  # (B,) or (B, 1)
    dropped = (backend.uniform(one_per_example, labels) < share) & (labels >= 0)
    return where(dropped, nobody, Tensor(labels))


def guided(denoise: Denoiser, labels: Labels, nobody: int, w: float = 0.0) -> Denoiser:
    """The guided denoiser D(x, t) for images with these labels (B,) or texts (B, T), from a
    conditional denoise(x, t, labels). w: the strength of guidance. t: a number, or times (B,).

    A term with the weight 0 is not computed: the one without the label for w = 0, the one with it
    for w = -1.
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
                f"guided: x has shape {tuple(x.shape)}, but there are {len(labels)} labels; there "
                "must be one label per example of x"
            )
        if w in (0, -1):
            return denoise(x, t, with_label if w == 0 else without)
        # one pass of the network over a batch of 2 B: every x with its label and without
        t = t if is_number(t) or not getattr(t, "shape", ()) else concatenate([t, t])
        conditional, unconditional = split(denoise(concatenate([x, x]), t, both), 2)
        return (1 + w) * conditional - w * unconditional

    return made_for(denoise_guided, schedule)


def labels_of(labels: Labels, name: str, nobody: int) -> tuple[Array, int]:
    """Labels (B,) or texts (B, T) as an integer array, and the number that means "no label", which
    must fit their dtype."""
    if getattr(labels, "ndim", 1) == 2 and number_kind(labels) in ("i", "u"):
        labels = bare(labels)
    else:
        labels = integers(labels, f"{name}: labels")
    nobody = size(nobody, f"{name}: nobody")
    most = np.iinfo(labels.dtype).max
    if nobody > most:
        raise ValueError(
            f"{name}: nobody is {nobody}, but labels has dtype {labels.dtype}, which holds numbers "
            f"up to {most}; pass labels of int64"
        )
    if isinstance(labels, np.ndarray) and labels.size and labels.min() < 0:
        raise IndexError(f"{name}: labels hold {labels.min()}; classes are numbered from 0")
    return labels, nobody
