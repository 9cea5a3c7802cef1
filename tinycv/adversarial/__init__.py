"""Chapter 3, generative adversarial networks (GANs): losses, the training loop, and networks.

In reading order:

gan.py         the game of two networks: its losses, gradient penalties (WGAN-GP, R1), packing
               (PacGAN) and conditioning on a class
turns.py       fit_gan, the training loop in which both networks take turns
inputs.py      input checks of fit_gan
unrolled.py    unrolled GAN: the generator takes its loss against a future discriminator
networks.py    generators and discriminators: of points (as in PacGAN) and of images (DCGAN)
plane.py       GANs on points in the plane, compared by PacGAN's protocol
recipe.py      how the small DCGAN of demo 09 is trained, and how its images are made
arithmetic.py  vector arithmetic with the noise of a GAN: means, directions, interpolation
spade.py       label map to image: SPADE, and a generator with concatenated labels beside it

The symbols of the chapter:

    x             a real example                                              (B, ...)
    z             the noise that the generator takes, from N(0, I)            (B, latent)
    G(z), fake    the generator, and the examples it makes                    (B, ...)
    D(x)          the probability, by the discriminator, that x is real       (B, 1)
    d, a logit    what the discriminator network returns: D = sigmoid(d)      (B, 1)
    p, p_G        the densities of the data and of what G makes
    θ_D, θ_G      the weights of D and of G
    σ(d)          the sigmoid; sigma, in code, is the width of a mode of the data (plane.py)
    slope         dd/dx: how fast the logit changes with an example;          (B, size of x)
                  as an argument of PointMLP, the slope of its leaky ReLUs below 0
    betas         Adam's two decay rates; diffusion's β is another thing (diffusion/__init__.py)
"""

from tinycv.adversarial.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    PointDiscriminator,
    PointGenerator,
    PointMLP,
)
from tinycv.adversarial.recipe import images_of, train_dcgan
from tinycv.adversarial.spade import SPADE, LabelToImage
from tinycv.adversarial.turns import fit_gan

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "LabelToImage",
    "PointDiscriminator",
    "PointGenerator",
    "PointMLP",
    "SPADE",
    "fit_gan",
    "images_of",
    "train_dcgan",
]
