"""Chapter 5, diffusion: from noise to images, along the score.

schedule.py    how much signal and how much noise there is at a time: DDPM, VP, VE, sub-VP, EDM
tweedie.py     a score makes a denoiser, and a denoiser a score
denoising.py   what a network is asked for (noise, image, v), the loss, the denoiser: DDPM
samplers.py    one loop over times, for every sampler; the steps of DDPM and DDIM
edm.py         one knob, the noise level: preconditioning, Karras' noise levels, Heun's step
guidance.py    classifier-free guidance: an image of what was asked for
inpaint.py     RePaint: what is missing of an image
score.py       score matching: explicit, sliced, denoising
langevin.py    Langevin dynamics up a score: plain, adjusted (MALA), annealed
sde.py         diffusion in continuous time, and its reverse;   ode.py: its flow, and likelihoods
mlp.py, unet.py, dit.py   networks that take the time, and the label;   embedding.py: how

The symbols of the chapter, one meaning each:

    x_t = a x_0 + s ε     the data x_0 with noise ε at a time t; a the signal, s the noise level
    t, then s             the times at both ends of a step (x, t, s) -> x, where s is a time alone
    σ (sigma)             EDM's and NCSN's noise level, which is their time
    ᾱ, β                  DDPM's signal squared, and the share of variance that a step replaces
    α, β of a step        q(x_t | x_s) = N(α x_s, β I)
    D(x, t), ε̂            the denoiser E[x_0 | x_t = x], and the noise that it finds in x
    score(x, t)           ∇ log p_t(x)
"""

from tinycv.diffusion.dit import DiT
from tinycv.diffusion.mlp import ScoreMLP
from tinycv.diffusion.unet import UNet

__all__ = ["DiT", "ScoreMLP", "UNet"]
