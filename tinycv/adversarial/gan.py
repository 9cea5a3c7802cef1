"""Generative adversarial networks: a painter learns from an art teacher, who learns to tell
paintings from real things.

    min_G max_D  V = E_x log D(x) + E_z log (1 - D(G(z)))  Goodfellow et al. 2014, eq. 1
    for a fixed G, the best D(x) = p(x) / (p(x) + p_G(x))  ibid., eq. 2: 1/2 everywhere once p_G = p
    and then V = -log 4 + 2 JS(p, p_G)                     ibid., theorem 1

The generator G makes an image of a noise z.  The discriminator D answers with a number for an
image, here always the logit d: D(x) = sigmoid(d).  Both take turns; turns.py holds the loop.  What
they play for is a pair of functions of logits, one for each side, both to be minimised (real =
d(x), fake = d(G(z))):

                     the discriminator's                   the generator's
    minimax          -log σ(real) - log (1 - σ(fake))      log (1 - σ(fake))  ibid., eq. 1
    non-saturating   the same                              -log σ(fake)       ibid., section 3
    least squares    ½ (real - 1)² + ½ fake²               ½ (fake - 1)²      Mao et al. 2017, eq. 9
    hinge            max(0, 1 - real) + max(0, 1 + fake)   -fake     Miyato et al. 2018, eq. 16, 17
    Wasserstein      fake - real                           -fake     Arjovsky et al. 2017

A D that is too sure has a slope of zero, or one that explodes, and G learns nothing from it;
penalties on its slope and spectral norm (nn/spectral_norm.py) keep it soft.  A G that paints one
picture for ever can fool a D that sees one at a time; packing shows D several.

Read before: nn/losses.py.   Then: turns.py, unrolled.py, networks.py.
See at work: demos/08_gan_2d.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinycv.engine.arguments import shown
from tinycv.engine.arguments import size as whole
from tinycv.engine.backward import grad
from tinycv.engine.create import one_hot, rand_like, zeros
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import norm, relu, softplus
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.inputs import batch, finite, function
from tinycv.nn.inputs import labels as labels_in
from tinycv.nn.module import Module

# ── what they play for: functions of logits, (B,) or (B, 1) ──────────────────────────────────────


@dataclass(frozen=True)
class Game:
    """discriminator(real, fake) and generator(fake): the losses of both sides, each a Tensor of one
    number."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        function(self.discriminator, "Game: discriminator")
        function(self.generator, "Game: generator")


def logits(value: Tensor, what: str) -> Tensor:
    """What a discriminator answered, if it is one real number per example, (B,) or (B, ...)."""
    return batch(value, what)


def tell_apart(real: Tensor, fake: Tensor) -> Tensor:
    """-V. softplus(-d) is -log σ(d), and softplus(d) is -log (1 - σ(d)), where σ itself would round
    to 0 or 1."""
    logits(real, "tell_apart: real")
    return softplus(-real).mean() + softplus(logits(fake, "tell_apart: fake")).mean()


def minimax(fake: Tensor) -> Tensor:
    """log (1 - σ(fake)): the generator's side of V."""
    return -softplus(logits(fake, "minimax: fake")).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-log σ(fake): the same end, and a slope where the discriminator is sure."""
    return softplus(-logits(fake, "non_saturating: fake")).mean()


def least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """½ (real - 1)² + ½ fake²."""
    logits(real, "least_squares: real")
    return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (logits(fake, "least_squares: fake") ** 2).mean()


def near_one(fake: Tensor) -> Tensor:
    """½ (fake - 1)²."""
    return 0.5 * ((logits(fake, "near_one: fake") - 1) ** 2).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake)."""
    logits(real, "hinge: real")
    return relu(1 - real).mean() + relu(1 + logits(fake, "hinge: fake")).mean()


def difference(real: Tensor, fake: Tensor) -> Tensor:
    """fake - real: minus the Wasserstein distance, for the best D of slope 1."""
    logits(real, "difference: real")
    return logits(fake, "difference: fake").mean() - real.mean()


def minus_fake(fake: Tensor) -> Tensor:
    """-fake."""
    return -logits(fake, "minus_fake: fake").mean()


MINIMAX = Game(tell_apart, minimax)
NON_SATURATING = Game(tell_apart, non_saturating)
LEAST_SQUARES = Game(least_squares, near_one)
HINGE = Game(hinge, minus_fake)
WASSERSTEIN = Game(difference, minus_fake)


# (discriminator, real, fake, *conditions) -> a Tensor of one number, added to D's loss
Penalty = Callable[..., Tensor]

# ── what keeps the discriminator soft: added to its loss, as penalty(D, real, fake, *conditions) ─


class GradientPenalty:
    """weight E (|dD/dx| - 1)², at points on straight lines between real and fake examples.

    A function whose slope is 1 there is what the Wasserstein distance asks for: Gulrajani et al.
    2017, eq. 3 (weight 10 there; 0.1 for the toy data of its code). It has to be differentiated
    once more to train D.
    """

    def __init__(self, weight: float = 10.0):
        self.weight = finite(weight, "GradientPenalty: weight", low=0)

    def __call__(
        self, discriminator: Callable[..., Tensor], real: Tensor, fake: Tensor, *conditions: Tensor
    ) -> Tensor:
        if batch(real, "GradientPenalty: real").shape != batch(fake, "GradientPenalty: fake").shape:
            raise ValueError(
                f"GradientPenalty: real has shape {tuple(real.shape)} and fake "
                f"{tuple(fake.shape)}; points on lines between them need equal shapes"
            )
        if not self.weight:
            return nothing(real)
        one_each = (slice(None), *[slice(1)] * (real.ndim - 1))  # (B, 1, ...)
        share = rand_like(Tensor(real)[one_each])
        between = share * real + (1 - share) * fake
        slope = slopes(discriminator, between, *conditions)  # (B, all of x)
        return self.weight * ((norm(slope, axis=-1) - 1) ** 2).mean()


class R1:
    """½ weight E |dD/dx|², at the real examples: Mescheder et al. 2018, eq. 9. At the optimum D is
    flat where the data are."""

    def __init__(self, weight: float = 10.0):
        self.weight = finite(weight, "R1: weight", low=0)

    def __call__(
        self, discriminator: Callable[..., Tensor], real: Tensor, fake: Tensor, *conditions: Tensor
    ) -> Tensor:
        if not self.weight:
            return nothing(real)
        slope = slopes(discriminator, real, *conditions)
        return 0.5 * self.weight * (slope * slope).sum(axis=-1).mean()


def nothing(x: Tensor) -> Tensor:
    """The penalty of weight 0: a slope that does not count, NaN perhaps, is not looked at rather
    than multiplied by 0."""
    own = Tensor(batch(x, "nothing: x"))
    return zeros((), dtype=own.dtype, device=own.device)


def slopes(discriminator: Callable[..., Tensor], x: Tensor, *conditions: Tensor) -> Tensor:
    """dD/dx for each example, (B, all of x), as a Tensor that remembers how it depends on D's
    weights."""
    if not len(batch(x, "slopes: x")):
        raise ValueError(
            f"slopes: x has shape {tuple(x.shape)}; there must be at least one example"
        )
    x = Tensor(x.detach() if isinstance(x, Tensor) else x, requires_grad=True)
    judged = function(discriminator, "slopes: discriminator")(x, *conditions)
    if not isinstance(judged, Tensor) or judged.ndim < 1 or not len(judged) or len(x) % len(judged):
        raise ValueError(
            f"slopes: discriminator returned {shown(judged)} for x of shape {x.shape}; it must "
            "return a Tensor with a logit for each example, or for each pack of examples"
        )
    (slope,) = grad(judged.sum(), x, create_graph=True)
    return slope.reshape((len(x), -1))


# ── packing: the teacher sees several at once ────────────────────────────────────────────────────


class Packed(Module):
    """A discriminator that judges ``size`` examples together, all real or all fake: PacGAN (Lin et
    al. 2018).

    Of one painting nobody can tell that the painter always paints the same; of several on one table
    anybody can. The network takes the examples' features, or channels, side by side: size times as
    many as one example has.
    """

    def __init__(self, network: Module, size: int):
        self.network = function(network, "Packed: network")
        self.size = whole(size, "Packed: size", 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...). Returns the logits of B / size packs."""
        if batch(x, "Packed: x").ndim < 2:
            raise ValueError(f"Packed: x has shape {tuple(x.shape)}; it must be (B, C, ...)")
        if len(x) % self.size:
            raise ValueError(
                f"Packed: a batch of {len(x)} does not divide into packs of {self.size}"
            )
        return self.network(x.reshape((len(x) // self.size, self.size * x.shape[1], *x.shape[2:])))


# ── conditional: both are told what it is to be ──────────────────────────────────────────────────


class Conditional(Module):
    """A generator or a discriminator that is told the class: Mirza & Osindero 2014.

    The class comes as ``classes`` more features, or channels that are the same everywhere: one of
    them 1, all others 0. The network takes them after those of its input.
    """

    def __init__(self, network: Module, classes: int):
        self.network = function(network, "Conditional: network")
        self.classes = whole(classes, "Conditional: classes", 1)

    def forward(self, x: Tensor, labels: ArrayLike) -> Tensor:
        """x (B, C, ...) and labels (B,), integers from 0 to classes - 1.

        IndexError names a label out of range (on a GPU its features are NaN instead: to look would
        be to wait).
        """
        if batch(x, "Conditional: x").ndim < 2:
            raise ValueError(f"Conditional: x has shape {tuple(x.shape)}; it must be (B, C, ...)")
        labels = labels_in(labels, "Conditional: labels", self.classes - 1, len(x))
        labels = Tensor(labels, device=Tensor(x).device)
        told = one_hot(labels, self.classes).astype(x.dtype)  # (B, classes)
        told = told.reshape((*told.shape, *[1] * (x.ndim - 2)))
        told = told.expand((len(x), self.classes, *x.shape[2:]))
        return self.network(concatenate([x, told], axis=1))
