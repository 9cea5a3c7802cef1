"""Latent diffusion (two stages) and LSGM: a VAE whose prior is a score model in its latent space.

    -log p(x) <= -E_q log p(x|z) - H(q(z|x)) + CE(q(z|x) || p(z))        Vahdat, Kreis & Kautz 2021

Here q(z|x) is the encoder, H its entropy, p(z) the prior, and CE(q || p) = -E_q log p(z).  A VAE
draws new codes z from N(0, I), but its decoder has learned from the codes of images.  These do not
fill N(0, I) evenly: there are holes, and the decoder does not turn a code from a hole into an image
like those of the data.  A diffusion model of the codes learns where the codes are.  There are two
ways to train it.

Two stages (Rombach et al. 2022; ``LatentDiffusion``): train the VAE with a small weight of its KL,
freeze it, give each latent mean 0 and variance 1, and train a diffusion model on these codes as if
they were data.  Here that is EDM (edm.py).

LSGM (``LSGM``): VAE and prior are trained together, by the bound above.  Its last term is the cross
entropy between the encoder and a prior of which only the score is known; cross_entropy.py computes
it from the loss of denoising.  For a learned score this is an upper bound on the cross entropy, so
the whole remains a bound on -log p(x).  The prior is the ``MixedScore`` of mixed_score.py: it
starts as N(0, I), the prior of an ordinary VAE.

At t = 0 the code has noise of a small variance σ_0² > 0.  The latent of the model is the code with
this noise, so q(z|x) = N(μ(x), s(x)² + σ_0²), and the decoder gets the noise too.

Read first: likelihood/vae.py, cross_entropy.py, mixed_score.py, ode.py, edm.py.
See at work: demos/23_latent_score.py.
Shapes: B images x (B, ...), codes z (B, D), times t (B,).  All bounds are in nats.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from math import e, log, nan, pi
from typing import Any

import numpy as np

from tinycv.diffusion.cross_entropy import LatentVP, score_cross_entropy
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss, heun_step
from tinycv.diffusion.mixed_score import MixedScore, VelocityNoise, module_in
from tinycv.diffusion.ode import solve
from tinycv.diffusion.samplers import sample
from tinycv.diffusion.tweedie import Denoiser, score_of
from tinycv.engine import ops
from tinycv.engine.arguments import shown
from tinycv.engine.backend import uniform
from tinycv.engine.create import full, ones_like, randn_like, zeros
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import exp
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.likelihood.vae import VAE, of_vae, parts_of
from tinycv.nn.distributions import normal_sample
from tinycv.nn.inputs import Examples, finite, whole
from tinycv.nn.module import Module

AT_ONCE = 500  # images whose bound is estimated at a time


# ── LSGM: trained end to end ─────────────────────────────────────────────────────────────────────


class LSGM(Module):
    """A VAE with a MixedScore as its prior.

    vae: a VAE without classes, best trained for a while with the prior N(0, I), so that its codes
    are near it. network: ε'(z_t, t), such as ScoreMLP(vae.latent).
    """

    def __init__(
        self,
        vae: VAE,
        network: Module,
        sde: LatentVP | None = None,
        mixing_logit: float | None = -3.0,
    ):
        self.vae = without_classes(vae, "LSGM")
        self.prior = MixedScore(network, vae.latent, sde, mixing_logit)
        if isinstance(network, VelocityNoise) and vars(network.sde) != vars(self.prior.sde):
            raise ValueError(
                "LSGM: sde differs from that of network, a VelocityNoise; give both the same"
            )

    def encode(self, x: Examples) -> tuple[Tensor, Tensor]:
        """A code z_0 ~ N(μ, s²) of each image of x (B, ...), before the noise σ_0 is added, (B, D),
        and the entropy in nats of N(μ, s² + σ_0²), (B,)."""
        mean, log_var = self.vae.encode(x)
        variance = exp(log_var) + self.prior.sde.sigma_0**2
        entropy = 0.5 * (ops.log(variance) + log(2 * pi * e)).sum(axis=-1)
        return normal_sample(mean, log_var), entropy

    def terms(self, x: Examples) -> tuple[Tensor, Tensor, Tensor]:
        """The three terms of the bound for images x (B, ...), each (B,) and in nats: log p(x|z),
        the entropy of q(z|x), and an estimate of CE(q(z|x) || p(z)) from one random time."""
        z, entropy = self.encode(x)
        likelihood = self.vae.log_likelihood(x, z + self.prior.sde.sigma_0 * randn_like(z))
        t, weight = self.prior.sde.weighted_times(z)
        cross_entropy = score_cross_entropy(self.prior, self.prior.sde, z, t, weight)
        return likelihood, entropy, cross_entropy

    def loss(self, x: Examples, beta: float = 1.0) -> Tensor:
        """-log p(x|z) + β (CE - H), a mean over the images. With β = 1 it is the bound on
        -log p(x).

        The prior is trained with the weight w_ll too (algorithm 1 of the paper). To train it with
        another weight, replace its gradient by that of ``prior.loss(z.detach(), "re")``.
        """
        beta = finite(beta, "LSGM.loss: beta", low=0)
        likelihood, entropy, cross_entropy = self.terms(x)
        return (beta * (cross_entropy - entropy) - likelihood).mean()

    def sample_latents(self, n: int, steps: int = 30) -> Tensor:
        """n codes of the prior, (n, D): the probability flow from t = 1 to 0 in ``steps`` steps of
        Heun's method, whose steps become shorter towards 0. If the prior is N(0, I), the flow does
        not move the codes at all."""
        n, steps = whole("LSGM.sample_latents", 1, n=n, steps=steps)
        sde = self.prior.sde
        start = sde.noise(1.0) * noise_for(self.vae, n)
        flow = sde.flow(score_of(self.prior.denoiser(), sde))
        times = [(1 - i / steps) ** 2 for i in range(steps + 1)]
        with no_grad():
            return Tensor(solve(flow, start, times))

    def sample(self, n: int, steps: int = 30) -> Tensor:
        """n new images, (n, D) for D pixels: the decoder's mean image of each sampled code."""
        with no_grad():
            return self.vae.pixels(self.sample_latents(n, steps))


# ── two stages: a diffusion model of the codes of a frozen VAE ───────────────────────────────────


class LatentDiffusion(Module):
    """An EDM of the codes of a trained VAE without classes. ``standardise`` has to be called before
    training.

    network: F(c_in y, c_noise), such as ScoreMLP(vae.latent). Only its parameters should be given
    to the optimizer: ``loss`` passes no gradient to the VAE.
    sigma_min, sigma_max: the noise levels of sampling, for codes of variance 1.
    """

    def __init__(self, vae: VAE, network: Module, sigma_min: float = 0.01, sigma_max: float = 20.0):
        self.vae = without_classes(vae, "LatentDiffusion")
        self.network = module_in(network, "LatentDiffusion")
        self.schedule = EDM(sigma_min, sigma_max)
        self.register_buffer("mean", full((vae.latent,), nan))  # until standardise is called
        self.register_buffer("std", full((vae.latent,), nan))

    def standardise(self, images: Examples) -> None:
        """Measure mean and standard deviation of each latent over the codes of images (N, ...).

        Var z = Var μ(x) + E s(x)². Without this step the noise levels of EDM do not fit the codes.
        """
        with no_grad():
            mean, log_var = self.vae.encode(images)
            if len(mean) < 2:
                raise ValueError(
                    f"LatentDiffusion.standardise: images holds {len(mean)}; a standard deviation "
                    "needs at least two"
                )
            centred = mean - mean.mean(axis=0)
            variance = (centred * centred + exp(log_var)).mean(axis=0)
            self.mean, self.std = mean.mean(axis=0), variance**0.5

    def encode(self, x: Examples) -> tuple[Tensor, Tensor]:
        """A code y of each image of x (B, ...) in units of mean 0 and variance 1, (B, D), and the
        entropy in nats of the density of y with noise of level sigma_min, (B,). No gradient."""
        expect_standardised(self, "LatentDiffusion.encode")
        with no_grad():
            mean, log_var = self.vae.encode(x)
            y = (normal_sample(mean, log_var) - self.mean) / self.std
            variance = exp(log_var) / self.std**2 + self.schedule.sigma_min**2
            return y, 0.5 * (ops.log(variance) + log(2 * pi * e)).sum(axis=-1)

    def loss(self, x: Examples, mean: float = -0.6, std: float = 1.2) -> Tensor:
        """EDM's loss on the codes of images x (B, ...), with ln σ ~ N(mean, std²)."""
        y, _ = self.encode(x)
        return edm_loss(self.network, y, sigma_data=1.0, mean=mean, std=std)

    def denoiser(self) -> Denoiser:
        """D(y, σ) for standardised codes y."""
        return edm_denoiser(self.network, 1.0)

    def terms(self, x: Examples) -> tuple[Tensor, Tensor, Tensor]:
        """The three terms of the bound as in ``LSGM.terms``, by theorem 1 with the SDE of EDM.

        There a = 1 and g² dt = dσ², so ½ g² |score error|² dt = |ε - ε̂|² d ln σ: ln σ is drawn
        uniformly, and w_ll / r is 2 ln(σ_max / σ_min). Entropy and cross entropy are those of
        the standardised codes; their difference does not depend on the scale.
        """
        y, entropy = self.encode(x)
        first, last = self.schedule.sigma_min, self.schedule.last
        noised = y + first * randn_like(y)
        likelihood = self.vae.log_likelihood(x, self.mean + self.std * noised)
        span = log(last / first)
        sigma = first * exp(span * Tensor(uniform(len(y), bare(y), y.dtype)))
        denoise = self.denoiser()

        def predict_noise(y: Tensor, sigma: Tensor) -> Tensor:
            return (y - denoise(y, sigma)) / sigma.reshape((len(y), 1))

        cross_entropy = score_cross_entropy(
            predict_noise, self.schedule, y, sigma, 2 * span, first=first
        )
        return likelihood, entropy, cross_entropy

    def sample_latents(self, n: int, steps: int = 30) -> Tensor:
        """n codes of the prior, (n, D), by ``steps`` steps of Heun's method."""
        n, steps = whole("LatentDiffusion.sample_latents", 1, n=n, steps=steps)
        expect_standardised(self, "LatentDiffusion.sample_latents")
        start = self.schedule.last * noise_for(self.vae, n)
        with no_grad():
            y = sample(partial(heun_step, self.denoiser()), start, self.schedule.times(steps))
            return self.mean + self.std * y

    def sample(self, n: int, steps: int = 30) -> Tensor:
        """n new images, (n, D) for D pixels: the decoder's mean image of each sampled code."""
        with no_grad():
            return self.vae.pixels(self.sample_latents(n, steps))


def joined(two_stages: LatentDiffusion, mixing_logit: float = 3.0) -> LSGM:
    """An LSGM that starts as a copy of a trained LatentDiffusion, to be trained on end to end.

    The shift and scale of the codes become part of the encoder's last layer and the decoder's
    first: the same images, with codes of mean 0 and variance 1. The network becomes the ε' of the
    prior. α starts near 1, at sigmoid(mixing_logit).
    """
    if not isinstance(two_stages, LatentDiffusion):
        raise TypeError(f"joined: two_stages is {shown(two_stages)}; it must be a LatentDiffusion")
    mixing_logit = finite(mixing_logit, "joined: mixing_logit")
    expect_standardised(two_stages, "joined")
    copy = deepcopy(two_stages)
    last, first = copy.vae.encoder[-1], copy.vae.decoder[0]
    mean, std = copy.mean.detach(), copy.std.detach()
    with no_grad():
        # rows: the means of the codes, then their log variances. First the decoder: W (s y + m) + b
        first.bias.data = (first.bias + first.weight @ mean).data
        first.weight.data = (first.weight * std).data
        scale = concatenate([1 / std, ones_like(std)])
        shift = concatenate([-mean / std, -2 * ops.log(std)])
        last.weight.data = (scale[:, None] * last.weight).data
        last.bias.data = (scale * last.bias + shift).data
    sde = LatentVP(sigma_0=copy.schedule.sigma_min)
    model = LSGM(copy.vae, VelocityNoise(copy.network, sde), sde, mixing_logit)
    model.to(first.weight.device).to(first.weight.dtype)
    return model


# ── the bound, and what both models share ────────────────────────────────────────────────────────


@no_grad()
def bound_of(
    model: LSGM | LatentDiffusion, images: Any, repeats: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``model.terms`` of many images (N, ...) without a gradient, in parts, and averaged over
    ``repeats`` draws of code, time and noise: three NumPy arrays (N,) of float64.

    The bound on -log p(x) is CE - H - log p(x|z).
    """
    if not isinstance(model, (LSGM, LatentDiffusion)):
        raise TypeError(
            f"bound_of: model is {shown(model)}; it must be an LSGM or a LatentDiffusion"
        )
    (repeats,) = whole("bound_of", 1, repeats=repeats)
    terms = []
    for x, _ in parts_of(model.vae, images, None, AT_ONCE, "bound_of"):
        draws = [[term.numpy() for term in model.terms(x)] for _ in range(repeats)]
        terms.append(np.mean(draws, axis=0, dtype=np.float64))  # (3, B)
    likelihood, entropy, cross_entropy = np.concatenate(terms, axis=1)
    return likelihood, entropy, cross_entropy


def without_classes(vae: VAE, who: str) -> VAE:
    """vae itself, for the class ``who``; an error unless it is a VAE without classes."""
    if of_vae(vae, who).classes:
        raise ValueError(
            f"{who}: vae has {vae.classes} classes; it takes a VAE without classes, whose encoder "
            "needs the image alone"
        )
    return vae


def expect_standardised(model: LatentDiffusion, who: str) -> None:
    """ValueError before ``standardise``. On a GPU the results are NaN then, because reading values
    would mean waiting."""
    std = bare(model.std)
    if isinstance(std, np.ndarray) and np.isnan(std).any():
        raise ValueError(
            f"{who}: the codes have no mean and deviation yet; call standardise(images) first, "
            "with the images of training"
        )


def noise_for(vae: VAE, n: int) -> Tensor:
    """Noise (n, latent) from N(0, I), on the device of the VAE and in its dtype."""
    weight = next(iter(vae.decoder.parameters()))
    return randn_like(zeros(n, vae.latent, dtype=weight.dtype, device=weight.device))
