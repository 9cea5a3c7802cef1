"""Cross entropy with a score model: theorem 1 of LSGM, its weights, and how its times are drawn.

    CE(q || p) = E_t[½ g(t)² E |∇ log q(z_t|z_0) - ∇ log p(z_t)|²] + ½ D ln(2πe σ_0²)
               = E_t[½ w(t) E |ε - ε̂(z_t, t)|²] + ½ D ln(2πe σ_0²),   w_ll(t) = g(t)² / σ(t)²
                                                      Vahdat, Kreis & Kautz 2021, theorem 1
    dσ²/dt = β(t) (1 - σ²),    σ² = σ_0² at t = 0                                      LatentVP

A VAE needs the cross entropy CE(q || p) = -E_q log p(z) between its encoder q(z|x) and its prior
p(z).  If the prior is a diffusion model, only its score is known, not log p.  Theorem 1 computes
the cross entropy from the loss of denoising: z_0 is a code, z_t is the code with the noise of time
t, and E_t is the mean over times.  Why: diffuse q and p by the same SDE.  Their KL divergence then
falls,

    d/dt KL(q_t || p_t) = -½ g(t)² E_q |∇ log q_t - ∇ log p_t|²

Take for q_t the Gaussian q(z_t|z_0) of one code z_0, integrate from t = 0 to 1, and add the entropy
of q(z_t|z_0) at t = 0, which is the constant of the theorem: this gives the cross entropy between
q(z_t|z_0) at t = 0 and the prior.  A cross entropy is linear in its first argument, so the mean
over z_0 is CE(q || p).  What is left over is KL(q(z_1|z_0) || p(z_1)), which the paper drops
because it is nearly 0.  (differs: it is added here, so that the equation is exact.)  If the score
is learned, the result is an upper bound on the cross entropy with the density that the reverse SDE
generates (Song et al. 2021b, theorem 1).

At t = 0 the code has noise of a small variance σ_0² > 0; without it the constant would be infinite.

Weights.  w_ll (likelihood weighting) belongs to the bound: with any other weight, the sum would not
be a bound on -log p(x), so only w_ll may train the encoder.  The score network may be trained with
another weight.  Whatever score it learns, the bound holds for it, and w_un = 1 (unweighted, DDPM's
loss) or w_re = g² (reweighted) count large noise more, which gives better samples.

Times.  w_ll is very large at small t, so a uniform t would give a noisy estimate.  Importance
sampling draws t from a density r(t) and weighs the error by w(t) / r(t).  For w_ll, r makes ln σ²
uniform; for w_re, it makes σ² uniform.  Then w / r grows as 1 / (1 - σ²) = 1 / a² towards t = 1,
where nearly nothing is left of the code.  The error of the score -z falls as a² there, so their
product stays bounded.  The error of a network does not fall by itself.  ``VelocityNoise`` in
mixed_score.py multiplies the network by a, so that the error falls as a² too.

Read first: sde.py, denoising.py.   Used in: mixed_score.py, latent.py.
Shapes: B codes z (B, D), times t (B,), one number (B,) per code in nats.
"""

from __future__ import annotations

from math import e, log, pi
from typing import Any

from tinycv.diffusion.denoising import Network
from tinycv.diffusion.schedule import Schedule, Times, schedule_in
from tinycv.diffusion.sde import VP
from tinycv.engine import ops
from tinycv.engine.arguments import choice
from tinycv.engine.backend import Array, uniform
from tinycv.engine.create import randn_like
from tinycv.engine.ops import exp
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import Examples, answering, batch, finite, in_dtype_of, per_example

WEIGHTINGS = "ll", "un", "re"


# ── the process, and random times ─────────────────────────────────────────────────────────────────


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


# ── theorem 1 ─────────────────────────────────────────────────────────────────────────────────────


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
    """|ε - ε̂(z_t, t)|² for codes z (B, D), (B,): the error to which a weight is applied."""
    t = schedule.times_for(z, t)
    noise = randn_like(z) if noise is None else noise
    found = predict_noise(schedule.perturb(z, t, noise), t)
    difference = noise - found
    return (difference * difference).sum(axis=-1)
