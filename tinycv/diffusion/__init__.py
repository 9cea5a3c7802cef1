"""Chapter 5, diffusion models (DDPM, DDIM, score SDE, EDM): from noise to images, along the score.

In reading order:

schedule.py    noise schedules: how much signal and noise there is at each time (DDPM, VP, VE,
               sub-VP; EDM's is in edm.py)
tweedie.py     Tweedie's formula: a denoiser from a score, and a score from a denoiser
denoising.py   DDPM's training loss, what the network predicts (noise, image or v), the denoiser
samplers.py    the loop over times that every sampler uses; the steps of DDPM and DDIM
bound.py       the variational bound of DDPM in nats (bits per dimension), and learned variances
embedding.py   how a network takes the time and the label
mlp.py         ScoreMLP, a small network for points
unet.py        U-Net, the network of DDPM for images
dit.py         DiT, a Transformer for images
guidance.py    classifier-free guidance: images that show their label more clearly
sample.py      a command: python -m tinycv.diffusion.sample --label 7 --n 16 --out seven.png
inpaint.py     RePaint: fills in the missing part of an image
cross_attention.py  TextDiT and TextUNet: networks that read a prompt
text_to_image.py  text to image: sampling, inpainting and editing by a prompt
score.py       score matching: explicit, sliced, denoising
langevin.py    Langevin dynamics with a score: ULA, MALA, annealed
sde.py         score SDE: diffusion in continuous time and its reverse
ode.py         the probability flow ODE, and likelihoods along it
flow_matching.py  flow matching, rectified flow: learn the velocity of a flow by regression
edm.py         EDM: the noise level as the time, preconditioning, Heun's sampler
cross_entropy.py  theorem 1 of LSGM: the cross entropy with a model of which only the score is known
mixed_score.py the prior of LSGM: N(0, I) and a network, mixed by a learned α
latent.py      latent diffusion and LSGM: a score model of the codes of a VAE
distillation.py consistency distillation: a student that samples in 1 to 4 steps, guidance built in
video_dit.py   VideoDiT: a Transformer over spacetime patches
video.py       video diffusion: training, prediction of what follows, longer videos

The symbols of the chapter, with their shapes for a batch of B examples:

    x_0, x_t        the data, and the data with noise at time t: x_t = a x_0 + σ ε     (B, ...)
    a, σ            the signal level and the noise level at a time (sigma in code)     (B,)
    ε, z            noise from N(0, I) (noise or z in code; "eps" where it is predicted)   (B, ...)
    t, s            the time of x, and the earlier time to which a sampler's step goes   numbers
    D(x, t), ε̂      the denoiser E[x_0 | x_t = x], and the noise that it finds in x    (B, ...)
    p_t, score      the density of x_t, and ∇ log p_t(x); ψ is a model of it           (B, ...)
    α, β            of a step from s to t: q(x_t | x_s) = N(α x_s, β I)                numbers
    ᾱ_t             DDPM's a², the product of 1 - β_i for i <= t                       (T + 1,)
    δ               the step size of Langevin dynamics (step in code)                  a number
    w               the strength of guidance                                           a number

Three different things are called beta.  β_t of DDPM is the share of the variance that step t
replaces by noise; it is the β above for s = t - 1.  β(t) of VP (sde.py) is the same as a rate, per
unit of time.  ``betas`` of Adam (optim/adam.py) are decay rates and have nothing to do with noise.

A noise schedule is a(t) and σ(t).  A schedule of learning rates is in optim/schedules.py.
"""

from tinycv.diffusion.cross_attention import TextDiT, TextUNet
from tinycv.diffusion.distillation import ConsistencyModel
from tinycv.diffusion.dit import DiT
from tinycv.diffusion.latent import LSGM, LatentDiffusion
from tinycv.diffusion.mlp import ScoreMLP
from tinycv.diffusion.text_to_image import TextToImage
from tinycv.diffusion.unet import UNet
from tinycv.diffusion.video import VideoDiffusion
from tinycv.diffusion.video_dit import VideoDiT

__all__ = [
    "ConsistencyModel",
    "DiT",
    "LSGM",
    "LatentDiffusion",
    "ScoreMLP",
    "TextDiT",
    "TextToImage",
    "TextUNet",
    "UNet",
    "VideoDiT",
    "VideoDiffusion",
]
