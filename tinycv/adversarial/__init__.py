"""Chapter 3, adversarial: a painter and an art teacher, and what is done with what they learned.

gan.py         the game of two networks: losses, penalties, packing
turns.py       the training loop, in which they take turns
unrolled.py    a generator that thinks ahead
networks.py    generators and discriminators, of points and of images
plane.py       games in the plane, by PacGAN's protocol
recipe.py      how a small DCGAN is trained, and asked for images
"""

from tinycv.adversarial.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    PointDiscriminator,
    PointGenerator,
    PointMLP,
)
from tinycv.adversarial.recipe import images_of, train_dcgan
from tinycv.adversarial.turns import fit_gan

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "PointDiscriminator",
    "PointGenerator",
    "PointMLP",
    "fit_gan",
    "images_of",
    "train_dcgan",
]
