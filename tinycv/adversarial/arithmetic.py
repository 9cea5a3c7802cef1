"""Latent vector arithmetic with a GAN: man with glasses - man + woman = woman with glasses.

    z = z̄_a - z̄_b + z̄_c              z̄: the mean of n noise vectors whose images show one concept
    x = G(z)                          the answer                 Radford et al. 2016, section 6.3.2
    G(z + u), u uniform in ±0.25      its neighbours: is it one lucky image, or a region?

Why a mean?  One z also carries everything else that its image happens to show. In a mean of n these
accidents shrink by a factor of √n, and what the images share stays. The paper found single vectors
unstable and the mean of three stable.

How is an answer checked?  A judge (vision/attributes.py) names the attributes of images. By its
answers, noise vectors are picked whose images show a concept; then it judges the image of the sum.
What that image should show follows from the same arithmetic on the attributes, which are 0 or 1:

                       glasses   woman   all others
    a    man, glasses     1        0         r          r: 0 or 1, drawn at random for each triple
    b    man              0        0         r
    c    woman            0        1         r
    a - b + c             1        1         r          glasses flip, everything else is kept

differs: the paper picked its vectors by eye. Here they are picked by the judge, and all three
concepts agree in every attribute that the equation does not mention.

Directions: one vector per attribute, which is added to any z, instead of an equation. Three ways to
find it are the difference of two means, a linear classifier in z, and the gradient of the judge's
score, back through the generator to z. For an attribute with many values, such as the turn of a
head, there is also the slope of a least-squares fit. The control is a random vector of equal
length.

Read first: networks.py, recipe.py, vision/attributes.py.
See at work: demos/10_face_arithmetic.py.
Shapes: N noise vectors z (N, latent), T triples, A attributes. All functions take and return NumPy
arrays; only judge_gradient computes with Tensors inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinycv.adversarial.recipe import AT_ONCE
from tinycv.data import inputs
from tinycv.engine.arguments import number, shown
from tinycv.engine.backward import grad
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import answer
from tinycv.nn.inputs import function as checked_function
from tinycv.nn.module import Module
from tinycv.nn.slerp import slerp

CONFIDENT = 0.9  # the least probability, by the judge, of each attribute of a picked image
NOISE = 0.25  # of the neighbours


# ── The equation ─────────────────────────────────────────────────────────────────────────────────


def arithmetic(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a - b + c, for noise vectors, attributes or images, all of one shape. The result of whole
    numbers, such as the bytes of a photo, may be negative, and is int64."""
    a, b, c = (
        inputs.array(value, f"arithmetic: {name}", "an array of numbers", "iuf")
        for name, value in (("a", a), ("b", b), ("c", c))
    )
    if not a.shape == b.shape == c.shape:
        raise ValueError(
            f"arithmetic: a, b and c have the shapes {a.shape}, {b.shape} and {c.shape}; they must "
            "have one shape"
        )
    if a.dtype.kind != "f":  # bytes would continue at 0 above 255, and at 255 below 0
        a = a.astype(np.promote_types(a.dtype, np.int64))
    return a - b + c


def concepts_of_triples(
    count: int, attributes: int, asked: int, context: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The attributes of a, b and c, (count, attributes) each. Only a has the attribute ``asked``,
    and only c has the attribute ``context``; all others are random, and equal in a, b and c.

    asked, context: numbers of two attributes, such as those of glasses and woman.
    """
    count = inputs.whole(count, "concepts_of_triples: count", 1)
    attributes = inputs.whole(attributes, "concepts_of_triples: attributes", 2)
    asked = inputs.whole(asked, "concepts_of_triples: asked", 0, attributes - 1)
    context = inputs.whole(context, "concepts_of_triples: context", 0, attributes - 1)
    rng = inputs.generator(rng, "concepts_of_triples: rng")
    if asked == context:
        raise ValueError(
            f"concepts_of_triples: asked and context are both {asked}; they must be two attributes"
        )
    a = rng.integers(0, 2, (count, attributes))
    a[:, asked], a[:, context] = 1, 0
    b = a.copy()
    b[:, asked] = 0
    c = b.copy()
    c[:, context] = 1
    return a, b, c


def pick(
    probabilities: np.ndarray,
    concepts: np.ndarray,
    n: int,
    rng: np.random.Generator,
    threshold: float = CONFIDENT,
) -> np.ndarray:
    """For each concept, n different rows of ``probabilities`` that show it: row numbers (T, n).

    probabilities (N, A): by the judge, of each attribute of each image. concepts (T, A): 0 or 1.
    An image shows a concept if the judge gives each of its A attributes the wanted value with a
    probability of at least ``threshold``. ValueError if fewer than n images show a concept.
    """
    probabilities = _probabilities(probabilities, "pick")
    concepts = _attributes(concepts, "pick: concepts", probabilities.shape[1])
    n = inputs.whole(n, "pick: n", 1)
    rng = inputs.generator(rng, "pick: rng")
    threshold = number(threshold, "pick: threshold", 0, 1)
    picked = np.empty((len(concepts), n), np.int64)
    for row, concept in zip(picked, concepts, strict=True):
        shows = np.flatnonzero(_shows(probabilities, concept, threshold))
        if len(shows) < n:
            raise ValueError(
                f"pick: {len(shows)} of {len(probabilities)} images show the concept "
                f"{concept.tolist()} with a probability of {threshold:g} or more, and n is {n}; "
                "draw more noise, or train longer"
            )
        row[:] = rng.choice(shows, n, replace=False)
    return picked


def count_shown(
    probabilities: np.ndarray, concepts: np.ndarray, threshold: float = CONFIDENT
) -> np.ndarray:
    """For each concept (T, A), how many of the images show it, as ``pick`` counts them: (T,)."""
    probabilities = _probabilities(probabilities, "count_shown")
    concepts = _attributes(concepts, "count_shown: concepts", probabilities.shape[1])
    threshold = number(threshold, "count_shown: threshold", 0, 1)
    counts = []
    for concept in concepts:
        counts.append(_shows(probabilities, concept, threshold).sum())
    return np.array(counts)


def _shows(probabilities: np.ndarray, concept: np.ndarray, threshold: float) -> np.ndarray:
    """Which images show the concept (A,): (N,) bools."""
    of_wanted = np.where(concept == 1, probabilities, 1 - probabilities)  # (N, A)
    return np.all(of_wanted >= threshold, axis=1)


def neighbours(
    z: np.ndarray, count: int, rng: np.random.Generator, noise: float = NOISE
) -> np.ndarray:
    """``count`` noise vectors (count, latent) around z (latent,): uniform noise of ±noise is
    added to each of its numbers."""
    z = _vector(z, "neighbours: z")
    count = inputs.whole(count, "neighbours: count", 1)
    rng = inputs.generator(rng, "neighbours: rng")
    noise = number(noise, "neighbours: noise", 0, inputs.MOST)
    return (z + rng.uniform(-noise, noise, (count, len(z)))).astype(np.float32)


@dataclass(frozen=True)
class Score:
    """What the judge says about answers. flips: the share that has the expected value of the asked
    attribute. kept: the share of all other attributes, over all answers, that have their expected
    values. all_kept: the share of answers in which every other attribute has."""

    flips: float
    kept: float
    all_kept: float


def score(probabilities: np.ndarray, expected: np.ndarray, asked: int) -> Score:
    """Compare answers, by the probabilities (T, A) of their attributes, with the expected ones
    (T, A), 0 or 1. asked: the number of the attribute that the equation is about."""
    probabilities = _probabilities(probabilities, "score")
    expected = _attributes(expected, "score: expected", probabilities.shape[1])
    asked = inputs.whole(asked, "score: asked", 0, probabilities.shape[1] - 1)
    if expected.shape != probabilities.shape:
        raise ValueError(
            f"score: probabilities have shape {probabilities.shape} and expected "
            f"{expected.shape}; they must have one shape"
        )
    right = (probabilities > 0.5) == (expected == 1)  # (T, A)
    others = np.delete(right, asked, axis=1)
    return Score(
        float(right[:, asked].mean()), float(others.mean()), float(others.all(axis=1).mean())
    )


# ── Directions: one vector for an attribute ──────────────────────────────────────────────────────


def difference_of_means(z: np.ndarray, has: np.ndarray) -> np.ndarray:
    """The mean of the z (N, latent) whose images have an attribute, minus the mean of the others:
    (latent,). has: (N,) bools, some of each.

    For heads that look right (has) or left this is the turn vector of the paper.
    """
    z, has = _labelled(z, has, "difference_of_means")
    return (z[has].mean(axis=0) - z[~has].mean(axis=0)).astype(np.float32)


def linear_classifier(z: np.ndarray, has: np.ndarray, decay: float = 1e-3) -> np.ndarray:
    """The normal (latent,) of the plane that separates the z (N, latent) that have an attribute:
    the weights of a logistic regression, by Newton's method.

        L(w, b) = mean of softplus(-s_i (w·z_i + b)) + decay |w|² / 2,      s_i = 1 if has, else -1

    The decay keeps w finite if a plane separates the z without error.
    """
    z, has = _labelled(z, has, "linear_classifier")
    decay = number(decay, "linear_classifier: decay", above=0, below=inputs.MOST)
    x = np.column_stack([z, np.ones(len(z))])  # (N, latent + 1): the last weight is b
    pull = np.full(x.shape[1], decay)
    pull[-1] = 0.0
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -50, 50)))  # (N,)
        slope = x.T @ (p - has) / len(x) + pull * w
        curvature = (x.T * (p * (1 - p))) @ x / len(x) + np.diag(pull + 1e-9)
        step = np.linalg.solve(curvature, slope)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w[:-1].astype(np.float32)


def regression_direction(z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The slope (latent,) of the least-squares fit of values (N,), such as the turn of the head, to
    z (N, latent): the direction along which they grow."""
    z = _vectors(z, "regression_direction: z")
    values = inputs.real_numbers(values, "regression_direction: values")
    if values.shape != (len(z),):
        raise ValueError(
            f"regression_direction: values have shape {values.shape}; there must be one for each "
            f"of {len(z)} z"
        )
    x = np.column_stack([z, np.ones(len(z))])
    slope, *_ = np.linalg.lstsq(x, values, rcond=None)
    return slope[:-1].astype(np.float32)


def judge_gradient(
    generator: Module, judge: Callable[[Tensor], Tensor], z: np.ndarray, attribute: int
) -> np.ndarray:
    """d score_k(G(z)) / dz for each z (N, latent): the direction in which the judge's score of
    attribute k rises fastest, (N, latent). Its mean is one direction for all z.

    judge: images (B, C, H, W) to scores (B, A). The generator should be in eval mode, so that an
    image depends on its own z alone.
    """
    if not isinstance(generator, Module):
        raise TypeError(f"judge_gradient: generator is {shown(generator)}; it must be a Module")
    checked_function(judge, "judge_gradient: judge")
    z = _vectors(z, "judge_gradient: z").astype(np.float32)
    attribute = inputs.whole(attribute, "judge_gradient: attribute")
    devices = [p.device for p in generator.parameters()]
    device = devices[0] if devices else "cpu"
    slopes = []
    for part in np.array_split(z, -(-len(z) // AT_ONCE)):
        noise = Tensor(part, device=device, requires_grad=True)
        scores = judge(generator(noise))  # (B, A)
        if getattr(scores, "ndim", 0) != 2 or scores.shape[1] <= attribute:
            raise ValueError(
                f"judge_gradient: judge returned {shown(scores)}; attribute {attribute} needs "
                f"scores (B, A) with A above {attribute}"
            )
        scores = answer(scores, (len(part), scores.shape[1]), "judge_gradient: judge")
        (slope,) = grad(scores[:, attribute].sum(), [noise])
        slopes.append(slope.numpy())
    return np.concatenate(slopes)


def random_direction(direction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random vectors of the same shape (..., latent) and, along the last axis, the same lengths:
    the control for every direction."""
    direction = inputs.real_numbers(direction, "random_direction: direction")
    rng = inputs.generator(rng, "random_direction: rng")
    if not direction.ndim or not direction.size:
        raise ValueError(
            f"random_direction: direction has shape {direction.shape}; it must be vectors "
            "(..., latent)"
        )
    other = rng.normal(size=direction.shape)
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    return (other / np.linalg.norm(other, axis=-1, keepdims=True) * length).astype(np.float32)


# ── Interpolation ────────────────────────────────────────────────────────────────────────────────


def linear_path(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """(steps, latent): from a to b (latent,) along a straight line, in equal steps."""
    a, b, share = _ends(a, b, steps, "linear_path")
    return ((1 - share) * a + share * b).astype(np.float32)


def spherical_path(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """(steps, latent): from a to b (latent,) along an arc, in equal angles (nn/slerp.py). An arc
    between vectors of equal length keeps the length; the middle of a line is shorter.

    ValueError if a and b point in opposite directions, because then no arc is the shortest.
    """
    a, b, share = _ends(a, b, steps, "spherical_path")
    return np.asarray(slerp(a, b, share[:, 0], "spherical_path"), np.float32)


# ── Checks of arguments ──────────────────────────────────────────────────────────────────────────


def _vector(value: Any, what: str) -> np.ndarray:
    """A vector (latent,) of finite numbers, at least one."""
    vector = inputs.real_numbers(value, what)
    if vector.ndim != 1 or not len(vector):
        raise ValueError(f"{what} has shape {vector.shape}; it must be one noise vector (latent,)")
    return vector


def _vectors(value: Any, what: str) -> np.ndarray:
    """Noise vectors (N, latent) of finite numbers, at least one."""
    vectors = inputs.real_numbers(value, what)
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"{what} has shape {vectors.shape}; it must be noise vectors (N, latent)")
    return vectors


def _labelled(z: Any, has: Any, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Noise vectors (N, latent), and (N,) bools of which some are True and some False."""
    z = _vectors(z, f"{who}: z")
    has = inputs.array(has, f"{who}: has", f"{len(z)} bools, one for each z", "b", ndim=1)
    if len(has) != len(z) or has.all() or not has.any():
        raise ValueError(
            f"{who}: has holds {has.sum()} True among {len(has)}; it must be one bool for each of "
            f"{len(z)} z, some True and some False"
        )
    return z, has


def _probabilities(value: Any, who: str) -> np.ndarray:
    """Probabilities (N, A) of at least one image and one attribute."""
    what, takes = f"{who}: probabilities", "probabilities (N, A), by the judge"
    found = inputs.array(value, what, takes, "f", ndim=2)
    if not found.size or not ((found >= 0) & (found <= 1)).all():  # also refuses NaN
        raise ValueError(
            f"{what} has shape {found.shape} and {'is empty' if not found.size else 'leaves 0..1'};"
            f" it must be {takes}"
        )
    return found


def _attributes(value: Any, what: str, count: int) -> np.ndarray:
    """Attributes (T, count), each 0 or 1."""
    takes = f"attributes (T, {count}), each 0 or 1"
    found = inputs.array(value, what, takes, "biu", ndim=2)
    if found.shape[1] != count or not len(found) or not np.isin(found, (0, 1)).all():
        raise ValueError(f"{what} is {shown(value)}; it must be {takes}")
    return found.astype(np.int64)


def _ends(a: Any, b: Any, steps: Any, who: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ends (latent,) of a path, and the share (steps, 1) of the second at each step."""
    a, b = _vector(a, f"{who}: a"), _vector(b, f"{who}: b")
    steps = inputs.whole(steps, f"{who}: steps", 2)
    if a.shape != b.shape:
        raise ValueError(
            f"{who}: a has shape {a.shape} and b {b.shape}; they must have one shape (latent,)"
        )
    return a, b, np.linspace(0, 1, steps)[:, None]
