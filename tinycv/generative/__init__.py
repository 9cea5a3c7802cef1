"""Chapter 3, machines that make images.

gan.py      the game of two networks: losses, penalties, packing;  turns.py    the loop in which they take turns
unrolled.py    a generator that thinks ahead;  gan_networks.py   generators and discriminators of points and of images
judge.py    a classifier trained on the data, which says what a generated image is, and how far a set of them is from real
networks.py networks that are told the time: a multilayer perceptron for points

diffusion.py   noise poured over an image, what a network is asked for, the loss;  samplers.py: the way back, DDPM and DDIM
guidance.py    an image of what was asked for;  inpaint.py: what is missing of an image;  edm.py: one knob, the noise level
embedding.py, unet.py, dit.py   networks for images that are told the time and the label
score.py    score matching: explicit, sliced, denoising;   langevin.py  sampling up a score, plain, adjusted, annealed
sde.py      diffusion in continuous time, and its reverse;  ode.py       its flow without noise, and likelihoods
inputs.py   what enters all of these: batches, times, noise levels and labels, checked at the door
"""

from tinycv.generative.dit import DiT
from tinycv.generative.gan_networks import DCGANDiscriminator, DCGANGenerator, PointDiscriminator, PointGenerator, PointMLP
from tinycv.generative.judge import Judge, judge_of
from tinycv.generative.networks import ScoreMLP
from tinycv.generative.turns import fit_gan
from tinycv.generative.unet import UNet

__all__ = ["DCGANDiscriminator", "DCGANGenerator", "DiT", "Judge", "PointDiscriminator", "PointGenerator", "PointMLP",
           "ScoreMLP", "UNet", "fit_gan", "judge_of"]
