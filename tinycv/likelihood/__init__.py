"""Chapter 4, likelihood: models that say how probable an image is (VAE, flow, autoregressive).

In reading order:

units.py            nats and bits per dimension, levels of pixels, dequantisation, binarisation
baselines.py        exact models that a network should beat: independent pixels, a Chow-Liu tree, a
                    Gaussian, probabilistic PCA
vae.py              variational autoencoder (VAE) and its bounds: ELBO, beta-VAE, free bits, IWAE
ais.py              annealed importance sampling (AIS): a tighter estimate of log p(x)
flow.py             RealNVP: normalizing flows of affine coupling layers, for points and images
glow.py             Glow: actnorm and invertible 1 x 1 convolutions
pixel_by_pixel.py   what the next three files share: orders of pixels, likelihood as a sum over
                    pixels, sampling one by one, completion of images, the receptive field
autoregressive.py   MADE: an MLP with masks, for one order of the pixels or for many
pixelcnn.py         PixelCNN with its blind spot, and the gated PixelCNN with two stacks
image_gpt.py        image GPT: a causal Transformer draws an image patch by patch, as words
vq_vae.py           discrete VAE (dVAE) of DALL-E and VQ-VAE: an image becomes a grid of codes
dalle.py            DALL-E: one GPT over the words of a caption and the codes of its image

The distributions of single numbers (normal, Bernoulli, categorical, logistic) are in
nn/distributions.py, those of pixels of a few levels in nn/discretized.py.  A flow and an
autoregressive model have ``log_prob(x)``, which returns one number per image (B,) in nats, the sum
over its pixels; a VAE has lower bounds on it, ``elbo`` and ``iwae_bound``.  Every model has
``sample(n)``, which draws n images in the shape that the model takes; those of a VAE are (n, D).

The symbols of the chapter, with their shapes for a batch of B examples:

    x              images: binary, levels, or levels with noise         (B, C, H, W) or (B, D)
    D              the number of dimensions of an image, pixels times channels         a number
    L              the number of levels (gray values) that a pixel can have            a number
    z              latent variables, or the point to which a flow maps x     (B, latent), (B, D)
    p(x), log p    the model's density, or its probability if x is discrete                 (B,)
    P(x), log P    the probability of an image of levels, where p is a density              (B,)
    p(z)           the prior of the latents, N(0, I) unless it is learned                   (B,)
    q(z|x)         the encoder's approximation of p(z|x), N(μ, σ²)         μ, σ² (B, latent)
    p(x|z)         the decoder                                             logits or mean (B, D)
    KL             KL(q || p) = E_q[log q - log p], in nats                                 (B,)
    ELBO           E_q[log p(x|z)] - KL(q(z|x) || p(z)), at most log p(x)                   (B,)
    log |det|      of the Jacobian ∂z/∂x of a flow; each layer adds its own (log_det)       (B,)
    k              the number of samples of z in the IWAE bound                         a number
    π, μ, s        weight, mean and scale of a logistic in a mixture           (..., components)
    u              uniform noise in units.py; the standardised code in ais.py         as x, or z

The papers use two letters for several things.  β is the weight of the KL in vae.py, the power of f
in ais.py, and the shift of actnorm in glow.py.  s is the log scale of a coupling in flow.py, the
diagonal of W in glow.py, and the encoder's standard deviation in ais.py.

A likelihood is a product of many small factors, so its logarithm is computed throughout.  Nats of
binary images, nats of densities and bits per dimension of levels cannot be compared with each
other, so they never share a column of a table.
"""

from tinycv.likelihood.ais import ais_log_prob
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.baselines import (
    ChowLiuTree,
    GaussianDensity,
    IndependentPixels,
    ProbabilisticPCA,
)
from tinycv.likelihood.dalle import DALLE
from tinycv.likelihood.flow import Flow, ImageRealNVP, RealNVP
from tinycv.likelihood.glow import Glow
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixel_by_pixel import raster_order, spiral_order
from tinycv.likelihood.pixelcnn import GatedPixelCNN, PixelCNN
from tinycv.likelihood.units import (
    binarize,
    bits_per_dim,
    dequantize,
    log_prob_of_levels,
    quantize,
)
from tinycv.likelihood.vae import (
    VAE,
    active_units,
    bounds_of,
    elbo,
    iwae_bound,
    start_at_mean,
    vae_loss,
)
from tinycv.likelihood.vq_vae import VQVAE, DiscreteVAE, codes_in_use, falling_tau

__all__ = [
    "ChowLiuTree",
    "DALLE",
    "DiscreteVAE",
    "Flow",
    "GatedPixelCNN",
    "GaussianDensity",
    "Glow",
    "ImageGPT",
    "ImageRealNVP",
    "IndependentPixels",
    "MADE",
    "PixelCNN",
    "ProbabilisticPCA",
    "RealNVP",
    "VAE",
    "VQVAE",
    "active_units",
    "ais_log_prob",
    "binarize",
    "bits_per_dim",
    "bounds_of",
    "codes_in_use",
    "dequantize",
    "elbo",
    "falling_tau",
    "iwae_bound",
    "log_prob_of_levels",
    "quantize",
    "raster_order",
    "spiral_order",
    "start_at_mean",
    "vae_loss",
]
