"""Latent diffusion (two stages) and LSGM: a VAE whose prior is a score model in its latent space.

    -log p(x) <= -E_q log p(x|z) - H(q(z|x)) + CE(q(z|x) || p(z))        Vahdat, Kreis & Kautz 2021
    CE(q || p) = E_t[½ g(t)² E |∇ log q(z_t|z_0) - ∇ log p(z_t)|²] + ½ D ln(2πe σ_0²)    theorem 1
               = E_t[½ w(t) E |ε - ε̂(z_t, t)|²] + ½ D ln(2πe σ_0²),   w_ll(t) = g(t)² / σ(t)²
    ε̂(z_t, t) = σ(t) (1 - α) z_t + α ε'(z_t, t)                                the mixed score

A VAE draws new codes z from N(0, I), but its decoder has learned from the codes of images, and
these do not fill N(0, I) evenly: there are holes, from which the decoder makes images of no kind.
A diffusion model of the codes knows where they are.  There are two ways to train it.

Two stages (Rombach et al. 2022; ``LatentDiffusion``): train the VAE with a small weight of its KL,
freeze it, give each latent mean 0 and variance 1, and train a diffusion model on these codes as if
they were data.  Here that is EDM (edm.py).

LSGM (``LSGM``): VAE and prior are trained together, by the bound above.  Its last term is the cross
entropy between the encoder and a prior of which only the score is known.  Theorem 1 computes it
from the loss of denoising.  Why: diffuse q and p by the same SDE.  Their KL divergence then falls,

    d/dt KL(q_t || p_t) = -½ g(t)² E_q |∇ log q_t - ∇ log p_t|²

Take for q_t the Gaussian q(z_t|z_0) of one code z_0, integrate from t = 0 to 1, and add the entropy
of q(z_t|z_0) at t = 0, which is the constant of the theorem: this gives the cross entropy between
q(z_t|z_0) at t = 0 and the prior.  A cross entropy is linear in its first argument, so the mean
over z_0 is CE(q || p).  What is left over is KL(q(z_1|z_0) || p(z_1)), which the paper drops
because it is nearly 0.  (differs: it is added here, so that the equation is exact.)  If the score
is learned, the result is an upper bound on the cross entropy with the density that the reverse SDE
generates (Song et al. 2021b, theorem 1), so the whole remains a bound on -log p(x).

At t = 0 the code has noise of a small variance σ_0² > 0; without it the constant would be infinite.
The latent of the model is the code with this noise, so q(z|x) = N(μ(x), s(x)² + σ_0²), and the
decoder gets the noise too.

The mixed score.  With α = 0 the prior is N(0, I), exactly, for then ∇ log p_t(z) = -z at all t.
Training starts with a small α, so the network adds to a good guess instead of learning it.

Weights and times.  w_ll belongs to the bound, and only w_ll may train the encoder.  The network's
own loss may use w_un = 1 (DDPM's loss) or w_re = g², which count large noise more, so that the
samples are better.  w_ll is very large at small t, so that a uniform t would give a noisy estimate.
Importance sampling draws t from a density r(t) and weighs the error by w(t) / r(t): for w_ll, r is
such that ln σ² is uniform; for w_re, σ² is.  Then w / r grows as 1 / (1 - σ²) towards t = 1.  That
does no harm if the error falls as a² = 1 - σ² there, as that of the score -z does.  The error of a
network does not, unless its answer has a as a factor: that is why ``VelocityNoise`` exists.

Read first: likelihood/vae.py, sde.py, ode.py, edm.py, mlp.py.
See at work: demos/23_latent_score.py.
Shapes: B images x (B, ...), codes z (B, D), times t (B,).  All bounds are in nats.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from math import e, log, nan, pi
from typing import Any

import numpy as np

from tinycv.diffusion.denoising import Network, denoiser
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss, heun_step
from tinycv.diffusion.ode import solve
from tinycv.diffusion.samplers import sample
from tinycv.diffusion.schedule import Schedule, Times, schedule_in
from tinycv.diffusion.sde import VP
from tinycv.diffusion.tweedie import Denoiser, score_of
from tinycv.engine import ops
from tinycv.engine.arguments import choice, shown
from tinycv.engine.backend import Array, uniform
from tinycv.engine.create import full, ones_like, randn_like, zeros
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import exp, sigmoid
from tinycv.engine.tensor import Parameter, Tensor, bare, no_grad
from tinycv.likelihood.vae import VAE, of_vae, parts_of
from tinycv.nn.distributions import normal_sample
from tinycv.nn.inputs import (
    Examples,
    answering,
    batch,
    finite,
    in_dtype_of,
    per_example,
    whole,
)
from tinycv.nn.module import Module

WEIGHTINGS = "ll", "un", "re"
AT_ONCE = 500  # images whose bound is estimated at a time


# ── theorem 1 ────────────────────────────────────────────────────────────────────────────────────


class LatentVP(VP):
    """VP (sde.py) that starts from noise of standard deviation sigma_0 instead of 0.

        a(t) = e^{-B(t)/2},   σ(t)² = 1 - (1 - σ_0²) e^{-B(t)}

    It is the same SDE, so N(0, I) stays N(0, I) at all times.
    """

    keeps_variance = False

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, sigma_0: float = 0.01):
        super().__init__(beta_min, beta_max)
        self.sigma_0 = finite(sigma_0, "LatentVP: sigma_0", above=0, below=1)

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a and σ, for a number t or times (B,)."""
        a, sigma = super().marginal(t)
        return a, (sigma * sigma + (self.sigma_0 * a) ** 2) ** 0.5

    def time_of(self, variance: Array) -> Array:
        """The times (B,) at which σ² is ``variance`` (B,)."""
        # B(t) = β_min t + ½ (β_max - β_min) t², whose root is written without a difference of
        # nearly equal numbers. The maxima are for the rounding of t = 0, where β_min may be 0.
        integral = ops.maximum(ops.log((1 - self.sigma_0**2) / (1 - variance)), 0.0)
        rise = self.beta_max - self.beta_min
        root = (self.beta_min**2 + 2 * rise * integral) ** 0.5
        return ops.minimum(2 * integral / ops.maximum(self.beta_min + root, 1e-30), 1.0)

    def weighted_times(self, z: Examples, weighting: str = "ll") -> tuple[Array, Array]:
        """One random time per code of z (B, D), drawn from r(t), and w(t) / r(t): two arrays (B,).

        weighting: "ll", "un" or "re", the w of the loss. The mean of w(t) / r(t) times a function
        of t is the integral of w times this function.
        """
        choice(weighting, "LatentVP.weighted_times: weighting", WEIGHTINGS)
        batch(z, "LatentVP.weighted_times: z")
        # float64, because 1 - σ² is as small as 4e-5
        u = uniform(len(z), z, "float64")
        first, last = self.noise(0.0) ** 2, self.noise(1.0) ** 2
        # (σ²)' = β (1 - σ²) = g² (1 - σ²) is the density r, up to a factor, of a uniform σ²
        if weighting == "ll":
            variance = first * exp(log(last / first) * u)
            t, weight = self.time_of(variance), log(last / first) / (1 - variance)
        elif weighting == "re":
            variance = first + (last - first) * u
            t, weight = self.time_of(variance), (last - first) / (1 - variance)
        else:
            t, weight = u, 0 * u + 1
        return in_dtype_of(z, t), in_dtype_of(z, weight)


def score_cross_entropy(
    predict_noise: Network,
    schedule: Schedule,
    z: Examples,
    t: Times,
    weight: Times,
    noise: Examples | None = None,
    first: float = 0.0,
) -> Tensor:
    """Theorem 1 for codes z (B, D) at one time t (B,) each: an estimate, in nats, of the cross
    entropy between q(z_t|z_0) at the time ``first`` and the prior whose score is -ε̂ / σ. (B,)

    predict_noise(z_t, t) returns ε̂ (B, D). weight: w_ll(t) / r(t) for t drawn from r, a number or
    (B,). The mean of the estimates over t is the value. noise: ε (B, D), to repeat an estimate. At
    the last time of the schedule the prior is N(0, σ² I).
    """
    predict_noise = answering(predict_noise, "score_cross_entropy: predict_noise")
    schedule = schedule_in(schedule, "score_cross_entropy")
    first = schedule.time(first, "score_cross_entropy: first")
    sigma_0, (a_1, sigma_1) = schedule.noise(first), schedule.marginal(schedule.last)
    if not sigma_0 > 0:
        raise ValueError(
            f"score_cross_entropy: first is {first}, where the schedule has no noise, so the cross "
            "entropy is infinite; give a later time, or LatentVP as the schedule"
        )
    batch(z, "score_cross_entropy: z", 2)
    t = per_example(t, z, "score_cross_entropy: t")
    weight = per_example(weight, z, "score_cross_entropy: weight")
    if noise is not None and batch(noise, "score_cross_entropy: noise").shape != z.shape:
        raise ValueError(
            f"score_cross_entropy: noise has shape {tuple(noise.shape)} and z {tuple(z.shape)}; "
            "they must be equal"
        )
    z = z if isinstance(z, Tensor) else Tensor(z)
    error = noise_error(predict_noise, schedule, z, t, noise)  # (B,)
    entropy = z.shape[1] * log(2 * pi * e * sigma_0**2) / 2  # of q(z_t|z_0) at the first time
    last_kl = 0.5 * (a_1 / sigma_1) ** 2 * (z * z).sum(axis=-1)  # KL(q(z_1|z_0) || p(z_1))
    return 0.5 * weight * error + (entropy + last_kl)


def noise_error(
    predict_noise: Network,
    schedule: Schedule,
    z: Tensor,
    t: Examples,
    noise: Examples | None = None,
) -> Tensor:
    """|ε - ε̂(z_t, t)|² for codes z (B, D), (B,): the error that every weighting weighs."""
    t = schedule.times_for(z, t)
    noise = randn_like(z) if noise is None else noise
    found = predict_noise(schedule.perturb(z, t, noise), t)
    difference = noise - found
    return (difference * difference).sum(axis=-1)


class VelocityNoise(Module):
    """The network of an EDM as the ε' of a MixedScore: ε'(z_t, t) = σ z_t - a F(z_t, ¼ ln(σ / a)).

    VP and EDM (edm.py) are the same process in other units: z_t / a is the code with noise of level
    σ / a, F gets it divided by √(1 + σ²/a²) = 1 / a, and -F predicts v = a ε - σ z_0. Then σ z_t +
    a v = ε. With F = 0 this is the score of N(0, I) again; the factor a keeps its error small where
    nearly nothing is left of the code.
    """

    def __init__(self, network: Module, sde: LatentVP | None = None):
        self.network, self.sde = (
            module_in(network, "VelocityNoise"),
            latent_vp(sde, "VelocityNoise"),
        )

    def forward(self, z: Examples, t: Examples) -> Tensor:
        """z_t (B, D), t (B,). Returns (B, D)."""
        a, sigma = self.sde.marginal_for(z, t)  # (B, 1)
        c_noise = (ops.log(sigma / a) / 4).reshape((len(z),))
        return sigma * z - a * self.network(z, c_noise)


class MixedScore(Module):
    """The noise in z_t that the prior predicts, ε̂ = σ (1 - α) z_t + α ε'(z_t, t), with one learned
    α = sigmoid(mixing_logit) per latent.

    network: a module, ε'(z_t (B, D), t (B,)) -> (B, D), such as ScoreMLP(D).
    mixing_logit: where the logit of α starts; None fixes α = 1, the network alone.
    """

    def __init__(
        self,
        network: Module,
        latent: int,
        sde: LatentVP | None = None,
        mixing_logit: float | None = -3.0,
    ):
        (latent,) = whole("MixedScore", 1, latent=latent)
        self.network, self.latent = module_in(network, "MixedScore"), latent
        self.sde = latent_vp(sde, "MixedScore")
        self.mixing_logit: Parameter | None = None
        if mixing_logit is not None:
            logit = finite(mixing_logit, "MixedScore: mixing_logit")
            self.mixing_logit = Parameter(full((latent,), logit))

    def forward(self, z: Examples, t: Examples) -> Tensor:
        """z_t (B, D), t (B,). Returns ε̂ (B, D)."""
        if batch(z, "MixedScore: z", 2).shape[1] != self.latent:
            raise ValueError(
                f"MixedScore: z has shape {tuple(z.shape)}; this prior takes codes "
                f"(B, {self.latent})"
            )
        learned = self.network(z, t)
        if self.mixing_logit is None:
            return learned
        _, sigma = self.sde.marginal_for(z, t)  # (B, 1)
        alpha = sigmoid(self.mixing_logit)  # (D,)
        return sigma * (1 - alpha) * z + alpha * learned

    def loss(self, z: Examples, weighting: str = "ll") -> Tensor:
        """½ w(t) |ε - ε̂|² for codes z (B, D) and random times, a mean over the codes. With "ll"
        it is the cross entropy without its constants."""
        t, weight = self.sde.weighted_times(z, weighting)
        z = z if isinstance(z, Tensor) else Tensor(z)
        return (0.5 * weight * noise_error(self, self.sde, z, t)).mean()

    def denoiser(self) -> Denoiser:
        """D(z, t), for the samplers, and for the score with tweedie.score_of."""
        return denoiser(self, self.sde)


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

        Its gradient is that of w_ll for the prior too (algorithm 1 of the paper). To train the
        prior with another weight, replace its gradient by that of ``prior.loss(z.detach(), "re")``.
        """
        beta = finite(beta, "LSGM.loss: beta", low=0)
        likelihood, entropy, cross_entropy = self.terms(x)
        return (beta * (cross_entropy - entropy) - likelihood).mean()

    def sample_latents(self, n: int, steps: int = 30) -> Tensor:
        """n codes of the prior, (n, D): the probability flow from t = 1 to 0 in ``steps`` steps of
        Heun's method, shorter and shorter towards 0. If the prior is N(0, I), the flow does not
        move the codes at all."""
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


def module_in(network: Module, who: str) -> Module:
    """The argument ``network`` of the class ``who``; TypeError unless it is a Module."""
    if not isinstance(network, Module):
        raise TypeError(
            f"{who}: network is {shown(network)}; it must be a Module, such as ScoreMLP(8)"
        )
    return network


def latent_vp(sde: LatentVP | None, who: str) -> LatentVP:
    """The argument ``sde`` of the class ``who``; None: LatentVP()."""
    if sde is not None and not isinstance(sde, LatentVP):
        raise TypeError(f"{who}: sde is {shown(sde)}; it must be a LatentVP, or None")
    return LatentVP() if sde is None else sde


def noise_for(vae: VAE, n: int) -> Tensor:
    """Noise (n, latent) from N(0, I), on the device of the VAE and in its dtype."""
    weight = next(iter(vae.decoder.parameters()))
    return randn_like(zeros(n, vae.latent, dtype=weight.dtype, device=weight.device))
