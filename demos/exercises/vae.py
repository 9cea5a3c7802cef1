"""VAE: the reparametrisation trick and the KL divergence

    z  = mu + sigma eps,   eps ~ N(0, I)                    Kingma & Welling 2014, section 2.4
    KL = 1/2 sum over j of (mu_j^2 + sigma_j^2 - log sigma_j^2 - 1)         ibid., appendix B

The encoder of a variational autoencoder returns, for each image, a normal distribution of codes,
N(mu, sigma^2). A code z is drawn from it. Written as above, z is a differentiable function of mu
and sigma, so the gradient of the decoder reaches the encoder although z is random.

The KL divergence of this distribution from N(0, I), in nats, is what the code costs. It is 0 if
mu = 0 and sigma = 1, and above 0 otherwise.

A variance has to be positive, so the encoder returns its logarithm, log_var = log sigma^2, which
may be any number. sigma is exp(log_var / 2).

Shapes: mu, log_var, eps and z (B, L): B images, codes of L numbers. The KL is (B,).
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import exp
from tinycv.nn.distributions import kl_normal, normal_sample


def reparametrise(mu, log_var, eps):
    """mu, log_var and eps (B, L). Returns the code z (B, L)."""
    return mu + exp(log_var / 2) * eps


def kl(mu, log_var):
    """mu and log_var (B, L). Returns the KL divergence of each image in nats, (B,)."""
    return 0.5 * (mu * mu + exp(log_var) - log_var - 1).sum(axis=-1)


def kl_of_package(mu, log_var):
    """The package's KL, number by number, summed over the code as in elbo_terms of vae.py."""
    return kl_normal(mu, log_var).sum(axis=-1)


normal = np.random.default_rng(50).standard_normal
PAIRS = [
    (normal((3, 2)), normal((3, 2))),
    (normal((2, 2)), normal((2, 2))),
    (normal((1, 4)), normal((1, 4))),
]
# exp(-800) is rounded to 0; exp(800) would be infinite, exp(600) is not
EXTREME = normal((2, 2)), np.array([[-800.0, 1.0], [0.0, 600.0]])
EXERCISE = Exercise(
    parts=[
        Definition(
            reparametrise,
            reference=normal_sample,
            cases=[(*pair, normal(pair[0].shape)) for pair in PAIRS],
            extremes=[(*EXTREME, normal((2, 2)))],
            order=1,
            wrong=[
                Wrong(
                    "the variance in place of the standard deviation",
                    "exp(log_var / 2)",
                    "exp(log_var)",
                    "You multiply the noise by the variance, exp(log_var). The standard deviation "
                    "is its square root, exp(log_var / 2).",
                ),
                Wrong(
                    "the logarithm of the variance as it is",
                    "exp(log_var / 2)",
                    "log_var",
                    "log_var is a logarithm, and can be negative. sigma = exp(log_var / 2).",
                ),
                Wrong(
                    "the square root of the logarithm",
                    "exp(log_var / 2)",
                    "log_var**0.5",
                    "sigma is the square root of the variance, not of its logarithm, which can be "
                    "negative. sigma = exp(log_var / 2).",
                ),
                Wrong(
                    "log sigma in place of sigma",
                    "exp(log_var / 2)",
                    "log_var / 2",
                    "log_var / 2 is log sigma. Take exp of it.",
                ),
                Wrong(
                    "the sign of the logarithm",
                    "exp(log_var / 2)",
                    "exp(-log_var / 2)",
                    "You divide the noise by sigma. Multiply it.",
                ),
                Wrong(
                    "no noise",
                    " + exp(log_var / 2) * eps",
                    "",
                    "You return the mean. A code is drawn from the distribution: add sigma eps.",
                ),
            ],
        ),
        Definition(
            kl,
            reference=kl_of_package,
            cases=PAIRS,
            extremes=[EXTREME],
            order=1,
            wrong=[
                Wrong(
                    "the logarithm of a variance that was rounded to 0",
                    "exp(log_var) - log_var",
                    "exp(log_var) - exp(log_var).log()",
                    "It is right for ordinary variances. But exp(-800) is rounded to 0, whose "
                    "logarithm is infinite. log sigma^2 is given: it is log_var.",
                ),
                Wrong(
                    "a missing half",
                    "0.5 * ",
                    "",
                    "The factor 1/2 is missing.",
                ),
                Wrong(
                    "the sign",
                    "0.5 * ",
                    "-0.5 * ",
                    "Your result is minus the KL. A KL divergence is never below 0. (In the ELBO "
                    "it is subtracted.)",
                ),
                Wrong(
                    "the sign of the logarithm",
                    "- log_var - 1",
                    "+ log_var - 1",
                    "log sigma^2 is subtracted: a narrow distribution costs more, not less.",
                ),
                Wrong(
                    "sigma in place of its square",
                    "exp(log_var) -",
                    "exp(log_var / 2) -",
                    "You use sigma for sigma^2. sigma^2 is exp(log_var).",
                ),
                Wrong(
                    "log sigma in place of log sigma^2",
                    "- log_var - 1",
                    "- log_var / 2 - 1",
                    "You use log sigma for log sigma^2, which is log_var itself.",
                ),
                Wrong(
                    "the 1 is missing",
                    "- log_var - 1",
                    "- log_var",
                    "The -1 is missing. The KL must be 0 if mu is 0 and log_var is 0.",
                ),
                Wrong(
                    "mu is not squared",
                    "mu * mu",
                    "mu",
                    "mu has to be squared.",
                ),
                Wrong(
                    "a mean over the code",
                    ".sum(axis=-1)",
                    ".mean(axis=-1)",
                    "You take the mean over the code. The KL of independent numbers is the sum of "
                    "theirs.",
                ),
                Wrong(
                    "the sum over the images",
                    ".sum(axis=-1)",
                    ".sum(axis=0)",
                    "You sum over the images. Sum over the numbers of each code, the last axis.",
                ),
            ],
        ),
    ],
    names=("exp",),
    hint="everything is in log_var: sigma^2 = exp(log_var), and log sigma^2 = log_var.",
    read="tinycv/nn/distributions.py: normal_sample and kl_normal; tinycv/likelihood/vae.py.",
)
