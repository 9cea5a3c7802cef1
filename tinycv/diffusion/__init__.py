"""Chapter 5, diffusion: from noise to images, along the score.

score.py       score matching: explicit, sliced, denoising;   langevin.py: sampling up a score, plain, adjusted, annealed
sde.py         diffusion in continuous time, and its reverse;   ode.py: its flow without noise, and likelihoods
denoising.py   noise poured over an image, what a network is asked for, the loss
samplers.py    the way back, DDPM and DDIM;   edm.py: one knob, the noise level
guidance.py    an image of what was asked for;   inpaint.py: what is missing of an image
mlp.py, unet.py, dit.py   networks that are told the time, and the label: of points, of images;   embedding.py: how
"""

from tinycv.diffusion.dit import DiT
from tinycv.diffusion.mlp import ScoreMLP
from tinycv.diffusion.unet import UNet

__all__ = ["DiT", "ScoreMLP", "UNet"]
