"""GAN losses and penalties: generator against discriminator (Goodfellow et al. 2014, WGAN-GP, R1).

    min_G max_D  V = E_x log D(x) + E_z log (1 - D(G(z)))  Goodfellow et al. 2014, eq. 1
    for a fixed G, the best D(x) = p(x) / (p(x) + p_G(x))  ibid., eq. 2: 1/2 everywhere once p_G = p
    and then V = -log 4 + 2 JS(p, p_G)                     ibid., theorem 1

In a generative adversarial network a generator G turns noise z into an image, and a discriminator D
says how real an image looks.  In the lecture's analogy G is a painter, and D has two roles: while D
is trained it is a connoisseur, who learns to tell paintings from the real thing; while G is trained
it is an art teacher, whose criticism shows the painter what to change.  From here on the text says
generator and discriminator.

D gives each image one number, here always the logit d, with D(x) = sigmoid(d).  The two networks
are trained in turns; the loop is in turns.py.
A game is a pair of losses, one for each side.  Both are functions of logits, and both are minimised
(real = d(x), fake = d(G(z))):

                     loss of the discriminator             loss of the generator
    minimax          -log σ(real) - log (1 - σ(fake))      log (1 - σ(fake))  ibid., eq. 1
    non-saturating   the same                              -log σ(fake)       ibid., section 3
    least squares    ½ (real - 1)² + ½ fake²               ½ (fake - 1)²      Mao et al. 2017, eq. 9
    hinge            max(0, 1 - real) + max(0, 1 + fake)   -fake     Miyato et al. 2018, eq. 16, 17
    Wasserstein      fake - real                           -fake     Arjovsky et al. 2017

G learns only through the slope of D.  Where D is too confident, its slope is close to zero or
explodes, and G learns nothing.  Gradient penalties (WGAN-GP and R1, below) and spectral norm
(nn/spectral_norm.py) limit the slope.  A G that always makes the same image can fool a D that sees
one image at a time (mode collapse); packing (PacGAN) shows D several at once.

Read first: nn/losses.py.   Then: turns.py, unrolled.py, networks.py.
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
from tinycv.engine.shards import member
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.inputs import batch, finite, function
from tinycv.nn.inputs import labels as labels_in
from tinycv.nn.module import Module

# ── the losses: functions of logits, (B,) or (B, 1) ──────────────────────────────────────────────


@dataclass(frozen=True)
class Game:
    """The losses of both sides, discriminator(real, fake) and generator(fake): functions of logits,
    each of which returns a Tensor of one number."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        function(self.discriminator, "Game: discriminator")
        function(self.generator, "Game: generator")


def logits(value: Tensor, what: str) -> Tensor:
    """The logits that a discriminator returned, if they are real numbers of shape (B,) or
    (B, ...). ``what`` names them in the error."""
    return batch(value, what)


def tell_apart(real: Tensor, fake: Tensor) -> Tensor:
    """-V, the discriminator's loss of the original GAN: binary cross-entropy, real against fake.

    softplus(-d) is -log σ(d), and softplus(d) is -log (1 - σ(d)). They stay exact where σ itself
    would round to 0 or 1.
    """
    logits(real, "tell_apart: real")
    return softplus(-real).mean() + softplus(logits(fake, "tell_apart: fake")).mean()


def minimax(fake: Tensor) -> Tensor:
    """log (1 - σ(fake)): the generator's part of V."""
    return -softplus(logits(fake, "minimax: fake")).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-log σ(fake): the same optimum as minimax, but with a slope where D is sure of a fake."""
    return softplus(-logits(fake, "non_saturating: fake")).mean()


def least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """½ (real - 1)² + ½ fake²: LSGAN's loss of the discriminator."""
    logits(real, "least_squares: real")
    return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (logits(fake, "least_squares: fake") ** 2).mean()


def near_one(fake: Tensor) -> Tensor:
    """½ (fake - 1)²: LSGAN's loss of the generator."""
    return 0.5 * ((logits(fake, "near_one: fake") - 1) ** 2).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake): no gain from logits beyond 1 and -1."""
    logits(real, "hinge: real")
    return relu(1 - real).mean() + relu(1 + logits(fake, "hinge: fake")).mean()


def difference(real: Tensor, fake: Tensor) -> Tensor:
    """fake - real: WGAN's loss of the critic. For the best D whose slope is at most 1 it is minus
    the Wasserstein distance between data and fakes."""
    logits(real, "difference: real")
    return logits(fake, "difference: fake").mean() - real.mean()


def minus_fake(fake: Tensor) -> Tensor:
    """-fake: the generator's loss in the hinge and the Wasserstein game."""
    return -logits(fake, "minus_fake: fake").mean()


MINIMAX = Game(tell_apart, minimax)
NON_SATURATING = Game(tell_apart, non_saturating)
LEAST_SQUARES = Game(least_squares, near_one)
HINGE = Game(hinge, minus_fake)
WASSERSTEIN = Game(difference, minus_fake)


# (discriminator, real, fake, *conditions) -> a Tensor of one number, added to D's loss
Penalty = Callable[..., Tensor]

# ── gradient penalties: added to D's loss, as penalty(D, real, fake, *conditions) ────────────────


class GradientPenalty:
    """WGAN-GP's penalty: weight E (|dd/dx| - 1)², at random points between real and fake examples.

    The critic that measures the Wasserstein distance has a slope of length 1 along the lines on
    which fakes would have to move to become real (Gulrajani et al. 2017, eq. 3 and proposition 1);
    the penalty takes lines between random pairs. The paper's weight is 10, and its code has 0.1
    for toy data. To train D, the slope is differentiated once more.
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
            return no_penalty(real)
        one_per_example = (slice(None), *[slice(1)] * (real.ndim - 1))  # (B, 1, ...)
        share = rand_like(Tensor(real)[one_per_example])
        between = share * real + (1 - share) * fake
        slope = slopes(discriminator, between, *conditions)  # (B, size of x)
        return self.weight * ((norm(slope, axis=-1) - 1) ** 2).mean()


class R1:
    """R1: ½ weight E |dd/dx|², at the real examples (Mescheder et al. 2018, eq. 9). At the optimum
    of the game D is flat where the data are, so there the penalty is 0."""

    def __init__(self, weight: float = 10.0):
        self.weight = finite(weight, "R1: weight", low=0)

    def __call__(
        self, discriminator: Callable[..., Tensor], real: Tensor, fake: Tensor, *conditions: Tensor
    ) -> Tensor:
        if not self.weight:
            return no_penalty(real)
        slope = slopes(discriminator, real, *conditions)
        return 0.5 * self.weight * (slope * slope).sum(axis=-1).mean()


def no_penalty(x: Tensor) -> Tensor:
    """The penalty of weight 0, a 0 in the dtype and on the device of x. The slope is not computed:
    it may be NaN, and 0 times NaN would be NaN."""
    example = Tensor(batch(x, "no_penalty: x"))
    return zeros((), dtype=example.dtype, device=example.device)


def slopes(discriminator: Callable[..., Tensor], x: Tensor, *conditions: Tensor) -> Tensor:
    """dd/dx for each example, (B, size of x), as a Tensor with a history: it can be differentiated
    by D's weights."""
    if not len(batch(x, "slopes: x")):
        raise ValueError(
            f"slopes: x has shape {tuple(x.shape)}; there must be at least one example"
        )
    x = Tensor(x.detach() if isinstance(x, Tensor) else x, requires_grad=True)
    logit = function(discriminator, "slopes: discriminator")(x, *conditions)
    if not isinstance(logit, Tensor) or logit.ndim < 1 or not len(logit) or len(x) % len(logit):
        raise ValueError(
            f"slopes: discriminator returned {shown(logit)} for x of shape {x.shape}; it must "
            "return a Tensor with a logit for each example, or for each pack of examples"
        )
    # Without batch norm a logit depends on its own example (or pack) alone, so the gradient of the
    # sum holds, row by row, the slope of each.
    (slope,) = grad(logit.sum(), x, create_graph=True)
    return slope.reshape((len(x), -1))


# ── packing: the discriminator sees several examples at once ─────────────────────────────────────


class Packed(Module):
    """PacGAN: a discriminator that judges ``size`` examples together, all real or all fake (Lin et
    al. 2018).

    One image does not show that the generator always makes the same one; several side by side do.
    The network takes the features (or channels) of ``size`` examples, concatenated: size times as
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
            part = "a batch" if member.get() is None else "a shard"
            raise ValueError(
                f"Packed: {part} of {len(x)} does not divide into packs of {self.size}"
            )
        return self.network(x.reshape((len(x) // self.size, self.size * x.shape[1], *x.shape[2:])))


# ── conditional: both sides receive the class ────────────────────────────────────────────────────


class Conditional(Module):
    """Conditional GAN: a generator or a discriminator that also takes the class (Mirza & Osindero
    2014).

    The class is one-hot, as ``classes`` more features; for images, as ``classes`` more channels,
    each of which has one value for all pixels. The network takes them after the features (or
    channels) of its input.
    """

    def __init__(self, network: Module, classes: int):
        self.network = function(network, "Conditional: network")
        self.classes = whole(classes, "Conditional: classes", 1)

    def forward(self, x: Tensor, labels: ArrayLike) -> Tensor:
        """x (B, C, ...) and labels (B,), integers from 0 to classes - 1.

        A label out of range raises an IndexError that names it. On a GPU its features are NaN
        instead, because a check would have to wait for the device.
        """
        if batch(x, "Conditional: x").ndim < 2:
            raise ValueError(f"Conditional: x has shape {tuple(x.shape)}; it must be (B, C, ...)")
        labels = labels_in(labels, "Conditional: labels", self.classes - 1, len(x))
        labels = Tensor(labels, device=Tensor(x).device)
        features = one_hot(labels, self.classes).astype(x.dtype)  # (B, classes)
        features = features.reshape((*features.shape, *[1] * (x.ndim - 2)))
        features = features.expand((len(x), self.classes, *x.shape[2:]))
        return self.network(concatenate([x, features], axis=1))
