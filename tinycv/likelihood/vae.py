"""Variational autoencoder (VAE), beta-VAE, free bits, importance weighted autoencoder (IWAE).

    p(x) = ∫ p(x|z) p(z) dz,   p(z) = N(0, I)                      Kingma & Welling 2014
    log p(x) >= E_q log p(x|z) - KL(q(z|x) || p(z)),  q = q(z|x)   the ELBO, ibid., section 2.2
    z = μ(x) + σ(x) ε,   ε ~ N(0, I)                               reparametrisation, section 2.4
    KL = ½ Σ_j (μ_j² + σ_j² - log σ_j² - 1)                        ibid., appendix B
    log p(x) >= E log (1/k) Σ_i w_i,   z_1 ... z_k ~ q(z|x)        Burda et al. 2016
    w_i = p(x|z_i) p(z_i) / q(z_i|x)

A decoder turns a short code z into an image.  The integral over all codes has no closed form, so an
encoder proposes, for each image, the codes that may have produced it: q(z|x) = N(μ(x), σ(x)²).  The
evidence lower bound (ELBO) is the mean log-likelihood of the image given these codes, minus what
the codes cost: the KL divergence of q(z|x) from the prior, in nats.  The gap between the ELBO and
log p(x) is KL(q(z|x) || p(z|x)).  A sample z written as μ + σ ε is a differentiable function of the
encoder's outputs, so both networks are trained by one gradient.

A weight w_i has the expectation p(x).  So has the mean of k weights, and it varies less.  The
expectation of its logarithm is therefore a lower bound on log p(x) (Jensen's inequality), which
becomes tighter as k grows.  Training on it gives the importance weighted autoencoder (IWAE).

Both terms of the ELBO are *sums*: log p(x|z) over the pixels of an image, the KL over its latents.
Many implementations take the mean over the pixels and the sum over the latents.  With 784 pixels
that weighs the KL 784 times too much, and latents collapse to the prior.  Here ``elbo_terms``
returns both sums, one number per image for each, and no option changes them.

Decoders.  Bernoulli: pixels are 0 or 1, or probabilities.  Gaussian: p(x|z) = N(μ(z), σ²), with one
σ for all pixels, fixed or learned.  A learned σ has a floor.  A σ per pixel would have no optimum:
where a pixel has the same value in all images, as at the border of digits, its log density grows
without limit as its σ goes to 0 (tests/likelihood/test_vae.py shows it).

Posterior collapse.  A latent that helps the decoder by less than its KL is switched off: then
q(z_j|x) = p(z_j) for all x.  ``active_units`` counts the latents that are in use, those with
Var_x(E[z_j|x]) > 0.01 (Burda et al. 2016, section 5.2).  In a linear VAE with a fixed σ the rule is
exact: a latent is active only if the variance of the data along its direction is above σ² (pPCA).
A latent can also be lost early in training, when the decoder cannot use it yet and only its KL
counts.  Cures: a decoder that starts at the mean image; a weight β < 1 of the KL at the start
(warm-up); free bits, an amount of KL per latent that costs nothing; the bound of the IWAE; a
smaller σ.

Read first: nn/distributions.py.   Read next: ais.py, a tighter estimate of log p(x).
See at work: demos/20_vae.py.
Shapes: B images of D pixels, ``latent`` numbers per code, k sampled codes per image.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import log, prod
from typing import Any

import numpy as np

from tinycv.engine import ops
from tinycv.engine.arguments import choice, is_array, shown, sizes
from tinycv.engine.backend import array_module
from tinycv.engine.create import one_hot, randn, randn_like
from tinycv.engine.methods import concatenate, split
from tinycv.engine.ops import all_reduce, clip, exp, logsumexp, maximum, sigmoid
from tinycv.engine.ops import sum as total
from tinycv.engine.tensor import ArrayLike, Parameter, Tensor, bare, no_grad
from tinycv.nn import init
from tinycv.nn.activation import Tanh
from tinycv.nn.distributions import (
    bernoulli_log_prob,
    bernoulli_sample,
    kl_normal,
    normal_log_prob,
    normal_sample,
)
from tinycv.nn.inputs import Examples, batch, finite, whole
from tinycv.nn.inputs import labels as labels_in
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.sequential import Sequential

SIGMA_FLOOR = 0.01  # the smallest standard deviation of a Gaussian decoder that learns it
ACTIVE = 0.01  # a latent is active if the variance of its mean code between images is above this
AT_ONCE = 2000  # rows (samples of codes) that a bound decodes at a time when no gradient is needed


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> Sequential:
    """Linear layers with tanh between them. With hidden = () it is one linear layer."""
    inputs, outputs = whole("mlp", 1, inputs=inputs, outputs=outputs)
    hidden = sizes(hidden, "mlp: hidden", least=1)
    layers: list[Module] = []
    for before, after in pairwise([inputs, *hidden]):
        layers += [Linear(before, after), Tanh()]
    return Sequential(*layers, Linear(hidden[-1] if hidden else inputs, outputs))


class VAE(Module):
    """A VAE of fully connected layers with tanh, as in Burda et al. 2016. It is trained by
    ``vae_loss(vae, x)``, or by minus the mean of ``iwae_bound(vae, x, k)``.

    inputs: D, the number of pixels of an image. latent: the length of a code.
    hidden: the widths of the encoder; the decoder has them in reverse. hidden=() is a linear VAE.
    decoder: "bernoulli" or "gaussian". sigma: the standard deviation of the pixels of a Gaussian
    decoder; None learns one for all pixels, at least SIGMA_FLOOR.
    classes: if it is not 0, the VAE is conditional: p(x|z, y) and q(z|x, y), where the label y is
    one-hot and concatenated to the input of both networks. All calls then take labels (B,).
    """

    def __init__(
        self,
        inputs: int,
        latent: int,
        hidden: tuple[int, ...] = (200, 200),
        decoder: str = "bernoulli",
        classes: int = 0,
        sigma: float | None = None,
    ):
        inputs, latent = whole("VAE", 1, inputs=inputs, latent=latent)
        (classes,) = whole("VAE", 0, classes=classes)
        hidden = sizes(hidden, "VAE: hidden", least=1)
        self.kind = choice(decoder, "VAE: decoder", ("bernoulli", "gaussian"))
        self.inputs, self.latent, self.classes = inputs, latent, classes
        self.sigma = None if sigma is None else finite(sigma, "VAE: sigma", above=0)
        if sigma is not None and self.kind == "bernoulli":
            raise ValueError(
                f"VAE: sigma is {sigma}; it belongs to a gaussian decoder, not this one"
            )
        self.encoder = mlp(inputs + classes, hidden, 2 * latent)
        self.decoder = mlp(latent + classes, hidden[::-1], inputs)
        learned = self.kind == "gaussian" and sigma is None
        self.log_variance: Parameter | None = init.zeros((1,)) if learned else None

    def encode(self, x: Examples, labels: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """q(z|x): images x (B, ...) of D pixels, labels (B,) if the VAE has classes. Returns the
        mean and the log variance of the codes, both (B, latent)."""
        h = self.with_labels(self.pixels_of(x, "VAE.encode"), labels, "VAE.encode")
        mean, log_var = split(self.encoder(h), 2, axis=-1)
        return mean, log_var

    def decode(self, z: Examples, labels: ArrayLike | None = None) -> Tensor:
        """p(x|z): codes z (..., B, latent), labels (B,). Returns the logits of a Bernoulli decoder
        or the means of a Gaussian one, (..., B, D)."""
        z = z if isinstance(z, Tensor) else Tensor(batch(z, "VAE.decode: z"))
        if batch(z, "VAE.decode: z").ndim < 2 or z.shape[-1] != self.latent:
            raise ValueError(
                f"VAE.decode: z has shape {tuple(z.shape)}; it takes codes (..., B, {self.latent})"
            )
        return self.decoder(self.with_labels(z, labels, "VAE.decode"))

    def forward(self, x: Examples, labels: ArrayLike | None = None) -> Tensor:
        """Reconstruction: ``decode`` of one sampled code per image, (B, D). Those of a Bernoulli
        decoder are logits; for pictures take ``pixels``."""
        return self.decode(normal_sample(*self.encode(x, labels)), labels)

    def log_likelihood(self, x: Examples, z: Examples, labels: ArrayLike | None = None) -> Tensor:
        """log p(x|z) in nats, summed over the pixels: images x (B, ...), codes z (..., B, latent).
        Returns (..., B)."""
        x = self.pixels_of(x, "VAE.log_likelihood")
        decoded = self.decode(z, labels)  # (..., B, D)
        if decoded.shape[-2] != len(x):
            raise ValueError(
                f"VAE.log_likelihood: x has {len(x)} images and z codes of {decoded.shape[-2]}"
            )
        if self.kind == "bernoulli":
            return total(bernoulli_log_prob(x, decoded), axis=-1)
        return total(normal_log_prob(x, decoded, self.log_var_of_pixels()), axis=-1)

    def log_var_of_pixels(self) -> Tensor | float:
        """log σ² of a Gaussian decoder: a number, or a Tensor (1,) if it is learned."""
        if self.log_variance is None:
            return 2 * log(self.sigma or 1.0)
        return ops.log(exp(self.log_variance) + SIGMA_FLOOR**2)

    def pixels(self, z: Examples, labels: ArrayLike | None = None) -> Tensor:
        """The mean image of each code, for pictures: probabilities of a Bernoulli decoder, means of
        a Gaussian one. z (..., B, latent). Returns (..., B, D)."""
        decoded = self.decode(z, labels)
        return sigmoid(decoded) if self.kind == "bernoulli" else decoded

    def sample(self, n: int, labels: ArrayLike | None = None) -> Tensor:
        """n images drawn from the model, (n, D): a code from N(0, I), then every pixel by itself.
        For the mean images that papers show, take ``pixels`` of codes from N(0, I)."""
        (n,) = whole("VAE.sample", 1, n=n)
        with no_grad():
            weight = next(iter(self.decoder.parameters()))
            z = randn(n, self.latent, dtype=weight.dtype, device=weight.device)
            decoded = self.decode(z, labels)
            if self.kind == "bernoulli":
                return bernoulli_sample(decoded)
            return normal_sample(decoded, self.log_var_of_pixels(), randn_like(decoded))

    def pixels_of(self, x: Examples, who: str) -> Tensor:
        """Images (B, ...) as a Tensor (B, D) in the dtype of the weights, for the function ``who``.
        A pixel that is not finite, or for a Bernoulli decoder not between 0 and 1, is an error (on
        a GPU it becomes NaN)."""
        x = x if isinstance(x, Tensor) else Tensor(batch(x, f"{who}: x"))
        if batch(x, f"{who}: x").ndim < 2 or prod(x.shape[1:]) != self.inputs:
            raise ValueError(
                f"{who}: x has shape {tuple(x.shape)}; it takes images of {self.inputs} numbers"
            )
        pixels = bare(x)
        xp = array_module(pixels)
        low, high = (0, 1) if self.kind == "bernoulli" else (-np.inf, np.inf)
        valid = xp.isfinite(pixels) & (pixels >= low) & (pixels <= high)
        if xp is not np:
            x = ops.where(valid, x, xp.nan)
        elif not valid.all():
            takes = "from 0 to 1" if self.kind == "bernoulli" else "finite"
            raise ValueError(f"{who}: x holds {pixels[~valid][0]}; every pixel must be {takes}")
        x = x.astype(self.decoder[-1].bias.dtype)  # in float64 all would take twice as long
        return x.reshape((len(x), self.inputs))

    def with_labels(self, h: Tensor, labels: ArrayLike | None, who: str) -> Tensor:
        """h (..., B, n) with the one-hot labels (B,) concatenated: (..., B, n + classes)."""
        if not self.classes and labels is None:
            return h
        if not self.classes or labels is None:
            takes = "labels (B,)" if self.classes else "no labels: it has no classes"
            raise ValueError(f"{who}: labels is {shown(labels)}; this VAE takes {takes}")
        y = labels if is_array(labels) else np.asarray(labels)
        y = labels_in(y, f"{who}: labels", self.classes - 1, h.shape[-2])
        marks = one_hot(Tensor(y, device=h.device), self.classes).astype(h.dtype)  # (B, classes)
        return concatenate([h, marks.expand((*h.shape[:-1], self.classes))], axis=-1)


# ── bounds on log p(x) ───────────────────────────────────────────────────────────────────────────


def elbo_terms(
    vae: VAE, x: Examples, labels: ArrayLike | None = None, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(log p(x|z) for one sampled code per image, KL(q(z|x) || p(z))), both (B,) and in nats.

    noise: ε (B, latent), to repeat a sample.
    """
    mean, log_var = of_vae(vae, "elbo_terms").encode(x, labels)
    if noise is not None and tuple(batch(noise, "elbo_terms: noise").shape) != tuple(mean.shape):
        raise ValueError(
            f"elbo_terms: noise has shape {tuple(noise.shape)}; it must be {tuple(mean.shape)}, "
            "one number per latent"
        )
    z = normal_sample(mean, log_var, noise)  # (B, latent)
    return vae.log_likelihood(x, z, labels), total(kl_normal(mean, log_var), axis=-1)


def elbo(vae: VAE, x: Examples, labels: ArrayLike | None = None) -> Tensor:
    """The ELBO of each image in nats, (B,), from one sampled code: a lower bound on log p(x) in
    expectation."""
    log_likelihood, kl = elbo_terms(of_vae(vae, "elbo"), x, labels)
    return log_likelihood - kl


def vae_loss(
    vae: VAE,
    x: Examples,
    labels: ArrayLike | None = None,
    beta: float = 1.0,
    free_bits: float = 0.0,
) -> Tensor:
    """The loss of a VAE, a mean over the images: -log p(x|z) + β KL. With β = 1 it is -ELBO.

    beta: the weight of the KL. β > 1 leads to codes that hold less about the image, with more
    independent latents (beta-VAE, Higgins et al. 2017); β < 1 at the start of training is KL
    warm-up.
    free_bits: λ, in nats in spite of its name (Kingma et al. 2016). The KL of each latent, averaged
    over the batch, counts as at least λ, so a KL below λ has no gradient.
    """
    beta = finite(beta, "vae_loss: beta", low=0)
    free_bits = finite(free_bits, "vae_loss: free_bits", low=0)
    mean, log_var = of_vae(vae, "vae_loss").encode(x, labels)
    log_likelihood = vae.log_likelihood(x, normal_sample(mean, log_var), labels)  # (B,)
    kl = ops.mean(kl_normal(mean, log_var), axis=0)  # (latent,): over images, not over latents
    if free_bits:
        # If threads compute shards of the batch, what counts is the mean over all of it.
        share = len(mean) / max(1, all_reduce(len(mean)))
        kl = maximum(all_reduce(share * kl), free_bits)
    return beta * kl.sum() - log_likelihood.mean()


def log_weights(vae: VAE, x: Examples, k: int, labels: ArrayLike | None = None) -> Tensor:
    """log w_i = log p(x|z_i) + log p(z_i) - log q(z_i|x) of k sampled codes per image: (k, B)."""
    (k,) = whole("log_weights", 1, k=k)
    mean, log_var = of_vae(vae, "log_weights").encode(x, labels)
    shape = (k, *mean.shape)
    z = normal_sample(mean.expand(shape), log_var.expand(shape))  # (k, B, latent)
    log_prior = total(normal_log_prob(z, 0.0, 0.0), axis=-1)  # (k, B)
    log_q = total(normal_log_prob(z, mean, log_var), axis=-1)  # (k, B)
    return vae.log_likelihood(x, z, labels) + log_prior - log_q


def iwae_bound(vae: VAE, x: Examples, k: int, labels: ArrayLike | None = None) -> Tensor:
    """The importance weighted bound L_k of each image in nats, (B,): log (1/k) Σ w_i.

    In expectation it is the ELBO for k = 1, grows with k, and converges to log p(x). Minus its mean
    over a batch is the loss of the IWAE.
    """
    (k,) = whole("iwae_bound", 1, k=k)
    return logsumexp(log_weights(of_vae(vae, "iwae_bound"), x, k, labels), axis=0) - log(k)


def bounds_of(vae: VAE, images: Any, k: int = 1, labels: Any = None) -> np.ndarray:
    """L_k of many images (N, ...), without a gradient and in parts, so that k can be large: a NumPy
    array (N,) of float64. k = 1 gives the ELBO, with a sampled KL."""
    (k,) = whole("bounds_of", 1, k=k)
    parts = parts_of(vae, images, labels, max(1, AT_ONCE // k), "bounds_of")
    with no_grad():
        found = [iwae_bound(vae, x, k, y).numpy() for x, y in parts]
    return np.concatenate(found).astype(np.float64)


def linear_elbo(vae: VAE, x: Examples) -> Tensor:
    """The exact ELBO of a linear Gaussian VAE (hidden=(), no classes) in nats, (B,).

    With x̂ = W z + b the expectation of |x - x̂|² over z ~ N(μ, s²) is |x - W μ - b|² plus
    Σ_j s_j² |w_j|², where w_j are the columns of W. The largest mean of the ELBO, over all weights
    and σ, is the mean log-likelihood of probabilistic PCA (Lucas et al. 2019). It is reached when
    the w_j are orthogonal.
    """
    if of_vae(vae, "linear_elbo").kind != "gaussian" or len(vae.decoder) != 1 or vae.classes:
        raise ValueError(
            "linear_elbo: vae must be linear and Gaussian, without classes: "
            'VAE(inputs, latent, hidden=(), decoder="gaussian")'
        )
    x = vae.pixels_of(x, "linear_elbo")
    mean, log_var = vae.encode(x)
    squares = (vae.decoder[0].weight ** 2).sum(axis=0)  # (latent,): |w_j|²
    log_var_x = vae.log_var_of_pixels()
    at_mean = total(normal_log_prob(x, vae.decode(mean), log_var_x), axis=-1)  # (B,)
    spread = 0.5 * (exp(log_var) * squares).sum(axis=-1) / ops.exp(log_var_x)
    return at_mean - spread - total(kl_normal(mean, log_var), axis=-1)


def start_at_mean(vae: VAE, images: Any) -> None:
    """Set the last bias of the decoder from the mean of the images (N, ...): it becomes the mean of
    a Gaussian decoder, or the probability of a Bernoulli decoder, limited to [0.01, 0.99]. Training
    then begins with the differences between images."""
    bias = of_vae(vae, "start_at_mean").decoder[-1].bias
    images = bare(batch(images, "start_at_mean: images"))
    x = vae.pixels_of(Tensor(images, dtype=bias.dtype, device=bias.device), "start_at_mean")
    if not len(x):
        raise ValueError("start_at_mean: images is empty; there must be at least one")
    mean = x.mean(axis=0)  # (D,)
    if vae.kind == "bernoulli":
        mean = clip(mean, 0.01, 0.99)
        mean = ops.log(mean) - ops.log(1 - mean)
    bias.data = mean.data


# ── what the codes hold ──────────────────────────────────────────────────────────────────────────


def codes_of(vae: VAE, images: Any, labels: Any = None) -> np.ndarray:
    """The mean of each image's code, (N, latent), of many images (N, ...), as a NumPy array."""
    parts = parts_of(vae, images, labels, AT_ONCE, "codes_of")
    with no_grad():
        return np.concatenate([vae.encode(x, y)[0].numpy() for x, y in parts])


def active_units(vae: VAE, images: Any, labels: Any = None, threshold: float = ACTIVE) -> int:
    """The number of latents j whose mean E[z_j|x] varies between the images (N, ...), with a
    variance above the threshold (Burda et al. 2016, section 5.2)."""
    threshold = finite(threshold, "active_units: threshold", low=0)
    codes = codes_of(of_vae(vae, "active_units"), images, labels).astype(np.float64)
    if len(codes) < 2:
        raise ValueError("active_units: images holds one image; a variance needs at least two")
    return int((codes.var(axis=0) > threshold).sum())


# ── argument checks ──────────────────────────────────────────────────────────────────────────────


def of_vae(vae: VAE, who: str) -> VAE:
    """vae itself; for anything but a VAE a TypeError that names the function ``who``."""
    if not isinstance(vae, VAE):
        raise TypeError(f"{who}: vae is {shown(vae)}; it must be a VAE")
    return vae


def parts_of(
    vae: VAE, images: Any, labels: Any, at_once: int, who: str
) -> Iterator[tuple[Tensor, Any]]:
    """Yields images (N, ...) and labels (N,) or None in parts of ``at_once``, the images on the
    device of the VAE and in its dtype."""
    weight = next(iter(of_vae(vae, who).decoder.parameters()))
    images = bare(batch(images, f"{who}: images"))
    if not len(images):
        raise ValueError(f"{who}: images has shape {images.shape}; there must be at least one")
    if labels is not None:
        labels = labels_in(labels, f"{who}: labels", max(vae.classes - 1, 0), len(images))
    for i in range(0, len(images), at_once):
        x = Tensor(images[i : i + at_once], dtype=weight.dtype, device=weight.device)
        yield x, None if labels is None else labels[i : i + at_once]
