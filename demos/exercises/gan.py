"""GAN losses: the discriminator's, and the non-saturating one of the generator

    V = E log D(x) + E log (1 - D(G(z)))                    Goodfellow et al. 2014, eq. 1
    loss of D = -V
    loss of G = -E log D(G(z))                              ibid., section 3

The discriminator D says how real an image looks; the generator G turns noise z into an image. D
maximises V, so its loss is -V. If G minimised log (1 - D(G(z))), it would learn almost nothing
while D recognises its images easily, because the slope is then close to 0 (the loss saturates). So
G minimises -log D(G(z)) instead.

A network returns a logit d, and D(x) = sigmoid(d) = 1 / (1 + exp(-d)). Logits can be large:
sigmoid(-800) rounds to 0, and log 0 is -infinity. softplus(d) = log(1 + exp(d)) never overflows.

Shapes: real = d(x) and fake = d(G(z)), logits (B,) of the real and of the generated images. The two
batches may differ in size. Each E is the mean over a batch, and each loss is one number, ().
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import softplus
from tinycv.adversarial.gan import non_saturating, tell_apart


def discriminator_loss(real, fake):
    """real (B,), fake (B2,): logits. Returns -V, a Tensor of one number."""
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(fake):
    """fake (B,): logits. Returns the non-saturating loss, a Tensor of one number."""
    return softplus(-fake).mean()


normal = np.random.default_rng(30).standard_normal
SURE = np.array([-800.0, 3.0, 800.0])
EXERCISE = Exercise(
    parts=[
        Definition(
            discriminator_loss,
            reference=tell_apart,
            cases=[(normal(3), normal(3)), (2 * normal(4), normal(2)), (normal(1), normal(1))],
            extremes=[(SURE, SURE)],
            order=1,
            wrong=[
                Wrong(
                    "real and fake exchanged",
                    "softplus(-real).mean() + softplus(fake).mean()",
                    "softplus(real).mean() + softplus(-fake).mean()",
                    "Your loss is small if D takes real images for fakes. D should give real "
                    "images large logits and fakes small ones.",
                ),
                Wrong(
                    "the fakes count as real",
                    "softplus(fake)",
                    "softplus(-fake)",
                    "You use -log D for the fakes too. For them it is -log (1 - D), which is "
                    "softplus(fake).",
                ),
                Wrong(
                    "the sign",
                    "softplus(-real).mean() + softplus(fake).mean()",
                    "-softplus(-real).mean() - softplus(fake).mean()",
                    "That is V, which D maximises. A loss is minimised, so it is -V.",
                ),
                Wrong(
                    "half a factor",
                    "softplus(-real).mean() + softplus(fake).mean()",
                    "(softplus(-real).mean() + softplus(fake).mean()) / 2",
                    "Your loss is half of -V. V is the sum of two means, without a 1/2.",
                ),
                Wrong(
                    "a sum in place of a mean",
                    "softplus(-real).mean() + softplus(fake).mean()",
                    "softplus(-real).sum() + softplus(fake).sum()",
                    "You sum over the batch. E is a mean, so that the loss does not depend on the "
                    "size of the batch.",
                ),
                Wrong(
                    "the logarithm of a sigmoid",
                    "softplus(-real).mean() + softplus(fake).mean()",
                    "(1 + (-real).exp()).log().mean() + (1 + fake.exp()).log().mean()",
                    "The formula is right, but it overflows for large logits. Write it with "
                    "softplus: -log sigmoid(d) = softplus(-d).",
                ),
                Wrong(
                    "a probability in place of a logit",
                    "softplus(-real).mean() + softplus(fake).mean()",
                    "softplus(-1 / (1 + (-real).exp())).mean()"
                    " + softplus(1 / (1 + (-fake).exp())).mean()",
                    "You apply the sigmoid twice: softplus takes the logit itself.",
                ),
            ],
        ),
        Definition(
            generator_loss,
            reference=non_saturating,
            cases=[(normal(3),), (2 * normal(4),), (normal(1),)],
            extremes=[(SURE,)],
            order=1,
            wrong=[
                Wrong(
                    "the saturating loss",
                    "softplus(-fake).mean()",
                    "-softplus(fake).mean()",
                    "That is log (1 - D), the minimax loss. Its slope is close to 0 where D is "
                    "sure of a fake. The non-saturating loss is -log D.",
                ),
                Wrong(
                    "the loss of the discriminator",
                    "softplus(-fake)",
                    "softplus(fake)",
                    "That is -log (1 - D), what D minimises for fakes. G would learn to make "
                    "images that look fake.",
                ),
                Wrong(
                    "the sign",
                    "softplus(-fake).mean()",
                    "-softplus(-fake).mean()",
                    "That is log D, which G maximises. A loss is minimised, so it is -log D.",
                ),
                Wrong(
                    "the loss of a Wasserstein GAN",
                    "softplus(-fake).mean()",
                    "-fake.mean()",
                    "You use the logit itself, as a Wasserstein GAN does. Here it is -log D, with "
                    "D = sigmoid(logit).",
                ),
                Wrong(
                    "a sum in place of a mean",
                    "softplus(-fake).mean()",
                    "softplus(-fake).sum()",
                    "You sum over the batch. E is a mean.",
                ),
            ],
        ),
    ],
    names=("softplus", "sigmoid", "exp", "log"),
    hint="-log sigmoid(d) = softplus(-d), and 1 - sigmoid(d) = sigmoid(-d).",
    read="tinycv/adversarial/gan.py: its docstring, tell_apart and non_saturating.",
)
